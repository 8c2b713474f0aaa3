//! Who a certificate says that its holder is. The only reader of names in certificates: everything
//! else is handed a [`Peer`], never PEM, DER or a common name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::time::ASN1Time;

use crate::clock::WallTime;
use crate::digest::Digest;
use crate::id::{HostId, OperatorName, quoted};

mod key;
pub mod request;

pub use key::{InvalidKey, KeyFingerprint, PrivateKey, PublicKey};

#[cfg(test)]
mod tests;

/// Who holds a certificate. Text form: the URI that the certificate carries as a subject alternative name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Peer {
    Host(HostId),
    Operator(OperatorName),
    Coordinator,
}

/// A certificate that cannot be read, or that does not name exactly one peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidCertificate(String);

const SCHEME: &str = "houston:";
const HOST: &str = "houston://host/";
const OPERATOR: &str = "houston://operator/";
const COORDINATOR: &str = "houston://coordinator";

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(id) => write!(f, "{HOST}{id}"),
            Self::Operator(name) => write!(f, "{OPERATOR}{name}"),
            Self::Coordinator => f.write_str(COORDINATOR),
        }
    }
}

impl FromStr for Peer {
    type Err = InvalidCertificate;

    fn from_str(uri: &str) -> Result<Self, InvalidCertificate> {
        let invalid = |reason: &dyn fmt::Display| {
            InvalidCertificate(format!("\"{}\" names no peer: {reason}", quoted(uri)))
        };
        if let Some(id) = uri.strip_prefix(HOST) {
            id.parse().map(Self::Host).map_err(|error| invalid(&error))
        } else if let Some(name) = uri.strip_prefix(OPERATOR) {
            name.parse().map(Self::Operator).map_err(|error| invalid(&error))
        } else if uri == COORDINATOR {
            Ok(Self::Coordinator)
        } else {
            Err(invalid(&"expected a host, an operator or the coordinator"))
        }
    }
}

/// A certificate's serial number. Text form: lower-case hexadecimal digits without leading zeros.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Serial(Box<str>);

/// RFC 5280: a serial number has at most 20 octets.
const SERIAL_DIGITS_MAX: usize = 40;

impl Serial {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Serial {
    type Err = InvalidCertificate;

    fn from_str(text: &str) -> Result<Self, InvalidCertificate> {
        let digits = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if digits && !text.starts_with('0') && (1..=SERIAL_DIGITS_MAX).contains(&text.len()) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidCertificate(format!("\"{}\" is no serial number of a certificate", quoted(text))))
        }
    }
}

impl TryFrom<String> for Serial {
    type Error = InvalidCertificate;

    fn try_from(text: String) -> Result<Self, InvalidCertificate> {
        text.parse()
    }
}

impl From<Serial> for String {
    fn from(serial: Serial) -> Self {
        serial.0.into()
    }
}

/// What a peer's certificate says. Reading it proves nothing: the TLS handshake, or the authority
/// that has just issued it, vouches for its chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    pub peer: Peer,
    pub serial: Serial,
    pub public_key: PublicKey,
    pub not_before: WallTime,
    pub not_after: WallTime,
}

impl PeerCertificate {
    /// Reads a DER certificate. Fails unless it names exactly one peer and has a key of a kind that
    /// we issue certificates for.
    pub fn from_der(der: &[u8]) -> Result<Self, InvalidCertificate> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|error| {
            InvalidCertificate(format!("not a certificate: {}", quoted(&error.to_string())))
        })?;
        if !rest.is_empty() {
            return Err(InvalidCertificate("bytes follow the certificate".into()));
        }
        let serial = data_encoding::HEXLOWER.encode(certificate.raw_serial());
        Ok(Self {
            peer: only_peer(&certificate)?,
            serial: serial.trim_start_matches('0').parse()?,
            public_key: PublicKey::from_der(certificate.public_key().raw)
                .map_err(|error| InvalidCertificate(error.to_string()))?,
            not_before: wall_time(certificate.validity().not_before),
            not_after: wall_time(certificate.validity().not_after),
        })
    }

    /// Reads the first certificate of a PEM text.
    pub fn from_pem(pem: &str) -> Result<Self, InvalidCertificate> {
        Self::from_der(&first_certificate(pem)?)
    }

    /// Whether the certificate is valid at `now`, both ends included.
    pub fn covers(&self, now: WallTime) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }

    /// Half of the certificate's life: from here on it is to be renewed.
    pub fn half_life(&self) -> WallTime {
        WallTime(self.not_before.0 + self.not_after.0.saturating_sub(self.not_before.0) / 2)
    }
}

/// SHA-256 of the first certificate in a PEM text: how a join token names its authority.
pub fn certificate_fingerprint(pem: &str) -> Result<Digest, InvalidCertificate> {
    first_certificate(pem).map(|der| Digest::of(&der))
}

fn first_certificate(pem: &str) -> Result<Vec<u8>, InvalidCertificate> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes())
        .map_err(|_| InvalidCertificate("there is no PEM block".into()))?;
    if block.label == "CERTIFICATE" {
        Ok(block.contents)
    } else {
        Err(InvalidCertificate(format!("expected a certificate, found a \"{}\"", quoted(&block.label))))
    }
}

fn only_peer(certificate: &X509Certificate<'_>) -> Result<Peer, InvalidCertificate> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| InvalidCertificate("the certificate's names cannot be read".into()))?
        .map_or(&[][..], |extension| &extension.value.general_names);
    let mut peers = names.iter().filter_map(|name| match name {
        // Any spelling of the scheme counts, so that no odd one slips past "exactly one".
        GeneralName::URI(uri) if is_ours(uri) => Some(*uri),
        _ => None,
    });
    match (peers.next(), peers.next()) {
        (Some(uri), None) => uri.parse(),
        (None, _) => Err(InvalidCertificate("the certificate names no Houston peer".into())),
        (Some(_), Some(_)) => {
            Err(InvalidCertificate("the certificate names more than one Houston peer".into()))
        }
    }
}

fn is_ours(uri: &str) -> bool {
    uri.get(..SCHEME.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME))
}

fn wall_time(time: ASN1Time) -> WallTime {
    WallTime(u64::try_from(time.timestamp()).unwrap_or(0).saturating_mul(1_000))
}

/// A certificate's instant for people, to the second: `2026-11-01 00:00:00 UTC`.
#[derive(Debug, Clone, Copy)]
pub struct Utc(pub WallTime);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = i64::try_from(self.0.0 / 1_000).unwrap_or(i64::MAX);
        match ASN1Time::from_timestamp(seconds) {
            Ok(time) => {
                let t = time.to_datetime();
                let (year, month, day) = (t.year(), u8::from(t.month()), t.day());
                write!(
                    f,
                    "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
                    t.hour(),
                    t.minute(),
                    t.second()
                )
            }
            Err(_) => f.write_str("a time beyond all calendars"),
        }
    }
}
