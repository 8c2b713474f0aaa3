//! Seals records, so that one that is not exactly what was written is noticed and named.
//!
//! ```text
//! kind 1 | version 1 | length of the value 4 | checksum 16 | value
//! ```
//! The checksum is the first half of SHA-256 over kind, version, key and value. It stays where it is in
//! every version to come: so a newer record is told from a damaged one.

use houston_common::digest::Hasher;
use houston_common::id::Epoch;

use super::{Key, Revision, StoreError};

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 1 + 1 + 4 + CHECKSUM_BYTES;
/// 128 bits: against accidents, of which there are far fewer than 2^64.
const CHECKSUM_BYTES: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Record = b'r',
    Head = b'h',
}

type Checksum = [u8; CHECKSUM_BYTES];

/// Over all records of a store: how many, and the exclusive or of their checksums. It is written with every
/// commit, so a record that vanished, came back or stayed behind is noticed, not only one that changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Total {
    count: u64,
    sum: Checksum,
}

impl Total {
    pub(super) fn add(&mut self, sealed: &Sealed) {
        self.count += 1;
        self.fold(sealed);
    }

    pub(super) fn remove(&mut self, sealed: &Sealed) {
        self.count = self.count.saturating_sub(1);
        self.fold(sealed);
    }

    fn fold(&mut self, sealed: &Sealed) {
        for (sum, byte) in self.sum.iter_mut().zip(sealed.checksum) {
            *sum ^= byte;
        }
    }
}

/// The proof that a record was sealed here just now, or was found intact.
#[derive(Debug)]
pub(super) struct Sealed {
    checksum: Checksum,
}

/// The state of a whole store, beside its records. Written with every commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Head {
    pub(super) epoch: Epoch,
    pub(super) revision: Revision,
    pub(super) total: Total,
}

pub(super) fn seal(key: &Key, value: &[u8]) -> (Vec<u8>, Sealed) {
    let (bytes, checksum) = write(Kind::Record, VERSION, key.as_bytes(), value);
    (bytes, Sealed { checksum })
}

/// The value, or which record is damaged.
pub(super) fn unseal<'a>(key: &Key, bytes: &'a [u8]) -> Result<(&'a [u8], Sealed), StoreError> {
    let (value, checksum) = read(Kind::Record, key.as_bytes(), bytes, || format!("the record {key}"))?;
    Ok((value, Sealed { checksum }))
}

impl Head {
    pub(super) fn seal(&self) -> Vec<u8> {
        let mut value = Vec::with_capacity(24 + CHECKSUM_BYTES);
        for number in [self.epoch.0, self.revision.0, self.total.count] {
            value.extend_from_slice(&number.to_be_bytes());
        }
        value.extend_from_slice(&self.total.sum);
        write(Kind::Head, VERSION, &[], &value).0
    }

    pub(super) fn unseal(bytes: &[u8]) -> Result<Self, StoreError> {
        let what = || "the head record".to_owned();
        let (value, _) = read(Kind::Head, &[], bytes, what)?;
        let parts = value.split_first_chunk::<8>().and_then(|(epoch, rest)| {
            let (revision, rest) = rest.split_first_chunk::<8>()?;
            let (count, rest) = rest.split_first_chunk::<8>()?;
            Some((epoch, revision, count, rest.try_into().ok()?))
        });
        let (epoch, revision, count, sum) = parts.ok_or_else(|| StoreError::Damaged { what: what() })?;
        Ok(Self {
            epoch: Epoch(u64::from_be_bytes(*epoch)),
            revision: Revision(u64::from_be_bytes(*revision)),
            total: Total { count: u64::from_be_bytes(*count), sum },
        })
    }
}

fn write(kind: Kind, version: u8, key: &[u8], value: &[u8]) -> (Vec<u8>, Checksum) {
    let length = u32::try_from(value.len()).expect("values are far below 4 GiB");
    let checksum = checksum(kind, version, key, value);
    let mut bytes = Vec::with_capacity(HEADER_BYTES + value.len());
    bytes.extend_from_slice(&[kind as u8, version]);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&checksum);
    bytes.extend_from_slice(value);
    (bytes, checksum)
}

fn read<'a>(
    kind: Kind,
    key: &[u8],
    bytes: &'a [u8],
    what: impl Fn() -> String,
) -> Result<(&'a [u8], Checksum), StoreError> {
    let damaged = || StoreError::Damaged { what: what() };
    let (header, value) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or_else(damaged)?;
    let version = header[1];
    let length = u32::from_be_bytes([header[2], header[3], header[4], header[5]]);
    let checksum = checksum(kind, version, key, value);
    if header[0] != kind as u8 || u32::try_from(value.len()) != Ok(length) || header[6..] != checksum {
        return Err(damaged());
    }
    if version != VERSION {
        return Err(StoreError::Newer { what: what(), found: version, known: VERSION });
    }
    Ok((value, checksum))
}

fn checksum(kind: Kind, version: u8, key: &[u8], value: &[u8]) -> Checksum {
    let mut hasher = Hasher::default();
    hasher.update(&[kind as u8, version]);
    // The key's length keeps a byte from moving between key and value unnoticed.
    hasher.update(&(key.len() as u64).to_be_bytes());
    hasher.update(key);
    hasher.update(value);
    let digest = hasher.finish();
    let mut checksum = [0; CHECKSUM_BYTES];
    checksum.copy_from_slice(&digest.as_bytes()[..CHECKSUM_BYTES]);
    checksum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed_and_the_record_named() {
        let key = Key::new(*b"host/a");
        let (sealed, _) = seal(&key, b"value");
        assert_eq!(unseal(&key, &sealed).expect("intact").0, b"value");
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let error = unseal(&key, &flipped).expect_err("flipped");
            assert!(
                matches!(&error, StoreError::Damaged { what } if what.contains("host/a")),
                "bit {bit}: {error}"
            );
        }
        for cut in 0..sealed.len() {
            unseal(&key, &sealed[..cut]).expect_err("cut");
        }
        unseal(&key, &[&sealed[..], &[0]].concat()).expect_err("longer");
    }

    #[test]
    fn a_record_under_another_key_is_noticed() {
        let (sealed, _) = seal(&Key::new(*b"ab"), b"c");
        unseal(&Key::new(*b"a"), &sealed).expect_err("another key");
        unseal(&Key::new(*b""), &Head::default().seal()).expect_err("a head is no record");
        Head::unseal(&seal(&Key::new(*b""), &[0; 40]).0).expect_err("a record is no head");
    }

    #[test]
    fn a_newer_record_is_told_from_a_damaged_one() {
        let (newer, _) = write(Kind::Record, VERSION + 1, b"k", b"v");
        let error = unseal(&Key::new(*b"k"), &newer).expect_err("newer");
        assert!(matches!(error, StoreError::Newer { found: 2, known: 1, .. }), "{error}");
    }

    #[test]
    fn a_total_forgets_what_is_removed_and_notices_what_is_replaced() {
        let (key, mut total) = (Key::new(*b"k"), Total::default());
        let (_, one) = seal(&key, b"1");
        let (_, two) = seal(&key, b"2");
        total.add(&one);
        let with_one = total;
        total.remove(&one);
        assert_eq!(total, Total::default());
        total.add(&two);
        assert_ne!(total, with_one);
    }

    #[test]
    fn heads_read_back() {
        let (_, sealed) = seal(&Key::new(*b"k"), b"v");
        let mut head = Head { epoch: Epoch(3), revision: Revision(u64::MAX), total: Total::default() };
        head.total.add(&sealed);
        assert_eq!(Head::unseal(&head.seal()).expect("head"), head);
    }
}
