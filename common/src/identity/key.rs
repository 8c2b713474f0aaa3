//! Keys: private ones stay in one file that only their owner can read, public ones are kept as DER.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use serde::{Deserialize, Serialize};
use x509_parser::asn1_rs::{BitString, Oid};
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_SIG_ECDSA_WITH_SHA256,
    OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ED25519,
};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};
use zeroize::Zeroizing;

use crate::digest::Digest;
use crate::error::{Code, Refusal};
use crate::id::quoted;

/// SHA-256 of a public key's SubjectPublicKeyInfo: names the key across renewed certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyFingerprint(pub Digest);

impl fmt::Display for KeyFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the public key is not ECDSA P-256, ECDSA P-384 or Ed25519")]
pub struct InvalidKey;

/// A public key of a kind that is accepted here: ECDSA P-256 or P-384, or Ed25519.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(Box<[u8]>);

impl PublicKey {
    /// Reads a DER SubjectPublicKeyInfo, as [`PublicKey::as_der`] gives it.
    pub fn from_der(der: &[u8]) -> Result<Self, InvalidKey> {
        let (rest, info) = SubjectPublicKeyInfo::from_der(der).map_err(|_| InvalidKey)?;
        if !rest.is_empty() {
            return Err(InvalidKey);
        }
        signature_algorithm(&info)?;
        Ok(Self(der.into()))
    }

    pub fn as_der(&self) -> &[u8] {
        &self.0
    }

    pub fn fingerprint(&self) -> KeyFingerprint {
        KeyFingerprint(Digest::of(&self.0))
    }

    /// Whether `signature` was made over `bytes` with this key's private half, by [`super::request::sign`].
    pub fn verifies(&self, bytes: &[u8], signature: &[u8]) -> bool {
        let Ok((_, info)) = SubjectPublicKeyInfo::from_der(&self.0) else { return false };
        let Ok(algorithm) = signature_algorithm(&info) else { return false };
        let algorithm = AlgorithmIdentifier::new(algorithm, None);
        x509_parser::verify::verify_signature(&info, &algorithm, &BitString::new(0, signature), bytes).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.fingerprint().0.short())
    }
}

impl Serialize for PublicKey {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&data_encoding::BASE64.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let der = data_encoding::BASE64.decode(text.as_bytes()).map_err(serde::de::Error::custom)?;
        Self::from_der(&der).map_err(serde::de::Error::custom)
    }
}

/// The one signature algorithm that goes with a key: the curve decides the hash.
fn signature_algorithm(info: &SubjectPublicKeyInfo<'_>) -> Result<Oid<'static>, InvalidKey> {
    let kind = &info.algorithm.algorithm;
    let curve = info.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    match curve {
        Some(curve) if *kind == OID_KEY_TYPE_EC_PUBLIC_KEY && curve == OID_EC_P256 => {
            Ok(OID_SIG_ECDSA_WITH_SHA256)
        }
        Some(curve) if *kind == OID_KEY_TYPE_EC_PUBLIC_KEY && curve == OID_NIST_EC_P384 => {
            Ok(OID_SIG_ECDSA_WITH_SHA384)
        }
        None if *kind == OID_SIG_ED25519 && info.algorithm.parameters.is_none() => Ok(OID_SIG_ED25519),
        _ => Err(InvalidKey),
    }
}

/// A private key as PEM, wiped from memory when dropped and never shown.
pub struct PrivateKey(Zeroizing<String>);

/// Largest file taken for a private key, in bytes. RSA keys of 8192 bits, in an authority that was
/// given to us, take 6.5 KB.
const KEY_FILE_BYTES_MAX: u64 = 64 * 1024;

/// Group and others: nobody but the owner may read or write a private key.
const MODE_OTHERS: u32 = 0o077;

impl PrivateKey {
    /// Takes a PEM text that holds an unencrypted private key. E-CREDENTIAL if it holds none.
    pub fn from_pem(pem: impl Into<Zeroizing<String>>) -> Result<Self, Refusal> {
        let pem = pem.into();
        if pem.contains("BEGIN ENCRYPTED PRIVATE KEY") || pem.contains("Proc-Type: 4,ENCRYPTED") {
            return Err(Refusal::new(
                Code::Credential,
                "the private key is protected by a passphrase",
                "store it without one, readable by its owner only (openssl pkey -in KEY -out NEW)",
            ));
        }
        if !pem.contains("PRIVATE KEY-----") {
            return Err(Refusal::new(Code::Credential, "there is no private key in PEM form", ""));
        }
        Ok(Self(pem))
    }

    /// Reads a key file. E-KEY-PERM if group or others may read or write it, else E-CREDENTIAL.
    pub fn read(path: &Path) -> Result<Self, Refusal> {
        let unreadable = |reason: &dyn fmt::Display| {
            let what = format!("cannot read the private key {}: {reason}", shown(path));
            Refusal::new(Code::Credential, what, "")
        };
        let file = File::open(path).map_err(|error| unreadable(&error))?;
        let metadata = file.metadata().map_err(|error| unreadable(&error))?;
        if !metadata.is_file() {
            return Err(unreadable(&"not a plain file"));
        }
        if metadata.mode() & MODE_OTHERS != 0 {
            let mode = metadata.mode() & 0o777;
            return Err(Refusal::new(
                Code::KeyPermission,
                format!("the private key {} has mode {mode:04o}: others can use it", shown(path)),
                format!("chmod 600 {}, and replace the key if others may have read it", shown(path)),
            ));
        }
        if metadata.len() > KEY_FILE_BYTES_MAX {
            return Err(unreadable(&format_args!("longer than {KEY_FILE_BYTES_MAX} bytes")));
        }
        let mut pem = Zeroizing::new(String::new());
        file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut pem).map_err(|error| unreadable(&error))?;
        Self::from_pem(pem)
            .map_err(|refusal| Refusal { what: format!("{}: {}", shown(path), refusal.what), ..refusal })
    }

    /// Writes the key file, mode 0600, durably: after a crash there is the old file or the new one, whole.
    /// One writer per directory.
    pub fn write(&self, path: &Path) -> Result<(), Refusal> {
        self.replace(path).map_err(|error| {
            Refusal::new(Code::Io, format!("cannot write the private key {}: {error}", shown(path)), "")
        })
    }

    fn replace(&self, path: &Path) -> std::io::Result<()> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let beside = Path::new(&beside);
        // A crash may have left one; its mode is not to be trusted.
        match std::fs::remove_file(beside) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside)?;
        file.write_all(self.0.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(beside, path)?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or_else(|| Path::new(".")))?.sync_all()
    }

    /// The key itself. For signing, TLS and the key file, nothing else.
    pub fn expose_pem(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

fn shown(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}
