//! What went wrong between two programs, in words that say what to do.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError};

use super::Address;
use crate::clock::WallTime;
use crate::error::{Code, Refusal};
use crate::id::quoted;
use crate::identity::{PeerCertificate, Utc};

/// The refusal that an error of tonic's, be it a transport error or a status, has for its cause.
pub fn refusal_within<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Refusal> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(refusal) = error.downcast_ref() {
            return Some(refusal);
        }
        cause = error.source();
    }
    None
}

pub(super) fn unreachable(address: &Address, reason: &str) -> Refusal {
    let what = format!("cannot reach the coordinator at {address}: {}", quoted(reason));
    Refusal::new(Code::Unreachable, what, "check the address, the network and that the coordinator runs")
}

/// Names the cause of a failed handshake with the server at `address`; `own` is the client's certificate.
pub(super) fn explain(error: &io::Error, address: &Address, own: Option<&PeerCertificate>) -> Refusal {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        let what = format!(
            "{address} ended the connection during the TLS handshake: {}",
            quoted(&error.to_string())
        );
        return Refusal::new(Code::Tls, what, CHECK_PORT);
    };
    match tls {
        rustls::Error::InvalidCertificate(reason) => server_certificate(reason, address),
        rustls::Error::AlertReceived(alert) => alerted(*alert, address, own),
        rustls::Error::InvalidMessage(_) => {
            Refusal::new(Code::Tls, format!("{address} does not speak TLS"), CHECK_PORT)
        }
        rustls::Error::PeerIncompatible(reason) => {
            let what = format!("{address} does not speak TLS 1.3 as Houston does: {reason:?}");
            Refusal::new(Code::Tls, what, CHECK_PORT)
        }
        other => {
            let what = format!("the TLS handshake with {address} failed: {}", quoted(&other.to_string()));
            Refusal::new(Code::Tls, what, "")
        }
    }
}

const CHECK_PORT: &str = "check the port, and that nothing between ends TLS";

fn server_certificate(reason: &CertificateError, address: &Address) -> Refusal {
    use CertificateError as Reason;
    match reason {
        Reason::ExpiredContext { time, not_after } => {
            let (then, now) = (utc(not_after.as_secs()), utc(time.as_secs()));
            let what = format!("the certificate of {address} expired at {then}; here it is {now}");
            Refusal::new(
                Code::CertificateExpired,
                what,
                "restart the coordinator to renew it, or set this clock",
            )
        }
        Reason::NotValidYetContext { time, not_before } => {
            let (then, now) = (utc(not_before.as_secs()), utc(time.as_secs()));
            let what = format!("the certificate of {address} is valid from {then} on; here it is {now}");
            Refusal::new(
                Code::CertificateExpired,
                what,
                "set the clock of this machine or of the coordinator",
            )
        }
        Reason::Expired | Reason::NotValidYet => {
            let what = format!("the certificate of {address} has expired or is not yet valid");
            Refusal::new(Code::CertificateExpired, what, "")
        }
        // A foreign authority that bears the same name shows as a bad signature.
        Reason::UnknownIssuer | Reason::BadSignature => {
            let what = format!(
                "the certificate of {address} was issued by another authority than the one trusted here"
            );
            let next = "check the address; if the coordinator has a new authority, enroll again or fetch the new one";
            Refusal::new(Code::CertificateAuthority, what, next)
        }
        Reason::NotValidForNameContext { presented, .. } => {
            let what = format!("the certificate of {address} is for {}", quoted(&presented.join(", ")));
            Refusal::new(
                Code::Tls,
                what,
                "use one of these names, or have the coordinator's certificate made for this one",
            )
        }
        other => {
            let what =
                format!("the certificate of {address} is not acceptable: {}", quoted(&other.to_string()));
            Refusal::new(Code::Tls, what, "")
        }
    }
}

/// The server's last word about the client's certificate.
fn alerted(alert: AlertDescription, address: &Address, own: Option<&PeerCertificate>) -> Refusal {
    let who = own.map_or_else(|| "this program".to_owned(), |own| own.peer.to_string());
    let when = own.map_or_else(String::new, |own| {
        format!(", valid from {} to {}", Utc(own.not_before), Utc(own.not_after))
    });
    match alert {
        AlertDescription::CertificateRequired => {
            let what = format!("{address} demands a client certificate, and none was given");
            Refusal::new(
                Code::Unauthenticated,
                what,
                "name a certificate and key in the context or configuration",
            )
        }
        AlertDescription::CertificateExpired => {
            let what = format!("{address} finds the certificate of {who} expired or not yet valid{when}");
            Refusal::new(Code::CertificateExpired, what, "renew the certificate, or set this clock")
        }
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            let what = format!("{address} does not know the authority that issued the certificate of {who}");
            Refusal::new(
                Code::CertificateAuthority,
                what,
                "check that the credential belongs to this coordinator",
            )
        }
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => {
            let what = format!("{address} refuses the certificate of {who}: {alert:?}");
            Refusal::new(Code::Unauthenticated, what, "check that the credential is this program's own")
        }
        other => {
            let what = format!("{address} refused the TLS handshake: {other:?}");
            Refusal::new(Code::Tls, what, CHECK_PORT)
        }
    }
}

fn utc(seconds: u64) -> Utc {
    Utc(WallTime(seconds.saturating_mul(1_000)))
}
