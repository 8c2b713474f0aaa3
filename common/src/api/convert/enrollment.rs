//! Enrollment, and certificates that were issued.

use super::{InvalidField, Wire, blob, name, optional_name, required, text, wall_time};
use crate::api::wire;
use crate::exchange::{Enrolled, EnrollmentProof, EnrollmentRequest, IssuedCertificate};

/// A request for an ECDSA key takes 300 bytes; this leaves room for what other tools put into theirs.
pub const CSR_BYTES_MAX: usize = 16 * 1024;
/// Longest text of a join token.
pub const SECRET_BYTES_MAX: usize = 256;
const CERTIFICATE_BYTES_MAX: usize = 16 * 1024;
const SIGNATURE_BYTES_MAX: usize = 512;
/// A chain of certificates as PEM.
const PEM_BYTES_MAX: usize = 64 * 1024;

impl Wire for EnrollmentRequest {
    type Message = wire::EnrollRequest;

    fn to_wire(&self) -> wire::EnrollRequest {
        use wire::enroll_request::Proof;
        let Self { csr, proof } = self;
        let proof = match proof {
            EnrollmentProof::JoinToken { secret, suggested_host } => Proof::JoinToken(wire::JoinToken {
                secret: secret.clone(),
                suggested_host: suggested_host.as_ref().map(ToString::to_string),
            }),
            EnrollmentProof::ExpiredCertificate { certificate, signature, signed_at } => {
                Proof::ExpiredCertificate(wire::ExpiredCertificate {
                    certificate: certificate.clone().into(),
                    signature: signature.clone().into(),
                    signed_at_ms: signed_at.0,
                })
            }
        };
        wire::EnrollRequest { csr: csr.clone().into(), proof: Some(proof) }
    }

    fn from_wire(message: wire::EnrollRequest) -> Result<Self, InvalidField> {
        use wire::enroll_request::Proof;
        let wire::EnrollRequest { csr, proof } = message;
        let proof = match required("proof", proof)? {
            Proof::JoinToken(wire::JoinToken { secret, suggested_host }) => EnrollmentProof::JoinToken {
                secret: secret_text("join_token.secret", secret)?,
                suggested_host: optional_name("join_token.suggested_host", suggested_host)?,
            },
            Proof::ExpiredCertificate(wire::ExpiredCertificate { certificate, signature, signed_at_ms }) => {
                EnrollmentProof::ExpiredCertificate {
                    certificate: blob(
                        "expired_certificate.certificate",
                        &certificate,
                        CERTIFICATE_BYTES_MAX,
                    )?,
                    signature: blob("expired_certificate.signature", &signature, SIGNATURE_BYTES_MAX)?,
                    signed_at: wall_time("expired_certificate.signed_at_ms", signed_at_ms)?,
                }
            }
        };
        Ok(Self { csr: blob("csr", &csr, CSR_BYTES_MAX)?, proof })
    }
}

/// A join token's text. What is refused is not quoted.
pub(super) fn secret_text(field: &str, secret: String) -> Result<String, InvalidField> {
    if (1..=SECRET_BYTES_MAX).contains(&secret.len()) && secret.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(secret)
    } else {
        Err(InvalidField::new(field, "is no join token"))
    }
}

impl Wire for Enrolled {
    type Message = wire::EnrollResponse;

    fn to_wire(&self) -> wire::EnrollResponse {
        let Self {
            host,
            certificate: IssuedCertificate { certificate_pem, authority_pem },
            zone,
            agent_address,
        } = self;
        wire::EnrollResponse {
            host: host.to_string(),
            certificate_pem: certificate_pem.clone(),
            authority_pem: authority_pem.clone(),
            zone: zone.to_string(),
            agent_address: agent_address.to_string(),
        }
    }

    fn from_wire(message: wire::EnrollResponse) -> Result<Self, InvalidField> {
        let wire::EnrollResponse { host, certificate_pem, authority_pem, zone, agent_address } = message;
        Ok(Self {
            host: name("host", &host)?,
            certificate: issued(certificate_pem, authority_pem)?,
            zone: name("zone", &zone)?,
            agent_address: name("agent_address", &agent_address)?,
        })
    }
}

/// The two texts of which every answer with a certificate consists.
pub(super) fn issued(certificate: String, authority: String) -> Result<IssuedCertificate, InvalidField> {
    Ok(IssuedCertificate {
        certificate_pem: pem("certificate_pem", certificate)?,
        authority_pem: pem("authority_pem", authority)?,
    })
}

fn pem(field: &str, pem: String) -> Result<String, InvalidField> {
    if pem.is_empty() { Err(InvalidField::new(field, "is missing")) } else { text(field, pem, PEM_BYTES_MAX) }
}

/// As `Renew` answers.
impl Wire for IssuedCertificate {
    type Message = wire::RenewResponse;

    fn to_wire(&self) -> wire::RenewResponse {
        let Self { certificate_pem, authority_pem } = self;
        wire::RenewResponse { certificate_pem: certificate_pem.clone(), authority_pem: authority_pem.clone() }
    }

    fn from_wire(message: wire::RenewResponse) -> Result<Self, InvalidField> {
        let wire::RenewResponse { certificate_pem, authority_pem } = message;
        issued(certificate_pem, authority_pem)
    }
}

impl From<IssuedCertificate> for wire::AddOperatorResponse {
    fn from(issued: IssuedCertificate) -> Self {
        let IssuedCertificate { certificate_pem, authority_pem } = issued;
        Self { certificate_pem, authority_pem }
    }
}

impl TryFrom<wire::AddOperatorResponse> for IssuedCertificate {
    type Error = InvalidField;

    fn try_from(message: wire::AddOperatorResponse) -> Result<Self, InvalidField> {
        let wire::AddOperatorResponse { certificate_pem, authority_pem } = message;
        issued(certificate_pem, authority_pem)
    }
}
