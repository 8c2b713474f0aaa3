use houston_common::error::{Code, Refusal};
use houston_common::id::quoted;
use houston_common::identity::PublicKey;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer as _;

/// Largest request that is read, in bytes. Ours take 250; a key of a kind that is accepted, with a
/// long subject and many extensions, stays below 4 KiB.
pub(super) const CSR_BYTES_MAX: usize = 16 * 1024;

/// The public key of a request, DER or PEM, whose sender has proved to hold the private one. All that
/// the request asks for besides is ignored.
pub(super) fn public_key(request: &[u8]) -> Result<PublicKey, Refusal> {
    let refuse = |what: &str, next: &str| Err(Refusal::new(Code::Csr, what, next));
    if request.len() > CSR_BYTES_MAX {
        let what =
            format!("the certificate request has {} bytes, the limit is {CSR_BYTES_MAX}", request.len());
        return refuse(&what, "");
    }
    let block;
    let der = if request.trim_ascii_start().starts_with(b"-----BEGIN") {
        block = match parse_x509_pem(request) {
            Ok((_, block)) if block.label.ends_with("CERTIFICATE REQUEST") => block,
            _ => return refuse("the PEM text holds no certificate request", ""),
        };
        &block.contents[..]
    } else {
        request
    };
    let csr = match X509CertificationRequest::from_der(der) {
        Ok(([], csr)) => csr,
        Ok(_) => return refuse("bytes follow the certificate request", ""),
        Err(error) => {
            return refuse(&format!("not a certificate request: {}", quoted(&error.to_string())), "");
        }
    };
    // The kind of key first: a signature by a kind that is not accepted need not be checked.
    let key = match PublicKey::from_der(csr.certification_request_info.subject_pki.raw) {
        Ok(key) => key,
        Err(error) => return refuse(&format!("the certificate request: {error}"), "make an ECDSA P-256 key"),
    };
    if csr.verify_signature().is_err() {
        return refuse(
            "the certificate request is not signed by its own key",
            "make it with the key that it names",
        );
    }
    Ok(key)
}
