//! Keys made where they are used, the request for a certificate, and signatures with enrolled keys.
//! Beside the coordinator's authority the only file that knows rcgen.

use rcgen::{CertificateParams, DistinguishedName, KeyPair, SigningKey as _};

use super::PrivateKey;
use crate::clock::WallTime;
use crate::digest::Digest;
use crate::error::{Code, Refusal};
use crate::id::HostId;

/// A new ECDSA P-256 key.
pub fn new_key() -> Result<PrivateKey, Refusal> {
    let pair =
        KeyPair::generate().map_err(|error| Refusal::internal(format!("cannot make a key: {error}")))?;
    PrivateKey::from_pem(pair.serialize_pem())
}

/// A new key, and a DER request for a certificate for it. The request names nobody: names are the
/// coordinator's to give.
pub fn new_key_and_csr() -> Result<(PrivateKey, Vec<u8>), Refusal> {
    let key = new_key()?;
    let csr = csr(&key)?;
    Ok((key, csr))
}

/// A DER request for a certificate for a key that exists.
pub fn csr(key: &PrivateKey) -> Result<Vec<u8>, Refusal> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let request = params
        .serialize_request(&pair(key)?)
        .map_err(|error| Refusal::internal(format!("cannot make a certificate request: {error}")))?;
    Ok(request.der().to_vec())
}

/// Signs with the key's own algorithm; [`super::PublicKey::verifies`] checks it.
pub fn sign(key: &PrivateKey, bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
    pair(key)?.sign(bytes).map_err(|error| Refusal::internal(format!("cannot sign: {error}")))
}

/// What a host signs with its enrolled key to renew a certificate that has expired. Binds the host,
/// the new request and the time, under a label of its own, so that the signature fits nothing else.
pub fn renewal_challenge(host: &HostId, csr_der: &[u8], time: WallTime) -> Vec<u8> {
    format!("houston renewal 1\nhost {host}\nrequest {}\ntime {}\n", Digest::of(csr_der), time.0).into_bytes()
}

fn pair(key: &PrivateKey) -> Result<KeyPair, Refusal> {
    KeyPair::from_pem(key.expose_pem()).map_err(|error| {
        Refusal::new(Code::Credential, format!("the private key is not usable: {error}"), "")
    })
}
