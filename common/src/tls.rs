//! TLS between Houston's programs: 1.3 only, one provider, our own authority only, no resumption.
//! This file and those below it are the only ones that know rustls.
//!
//! No session is ever resumed: a resumed one would skip the check of the client's certificate.

use std::fmt;
use std::sync::{Arc, LazyLock};

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::digest::Digest;
use crate::error::{Code, Refusal};
use crate::id::quoted;
use crate::identity::{PeerCertificate, PrivateKey};

mod accept;
mod address;
mod clock_floor;
mod connect;
mod crowd;
mod failure;
mod pinned;

pub use accept::{ConnectInfo, Connection, HANDSHAKES_MAX, Incoming};
pub use address::{Address, ServerName};
pub use clock_floor::{BUILD_TIME, ClockFloor};
pub use crowd::{Crowd, Place, Source};
pub use failure::refusal_within;

#[cfg(test)]
mod tests;

/// The one provider of this program, never installed globally, so that nothing else can bring its own.
static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));

const VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// HTTP/2, by its ALPN name: all that is ever spoken over our connections.
const ALPN: &[u8] = b"h2";

/// A certificate chain with its private key, checked to belong together.
#[derive(Clone)]
pub struct Credential {
    key: Arc<CertifiedKey>,
    certificate: PeerCertificate,
}

impl Credential {
    /// Takes a PEM chain, the holder's certificate first. E-CREDENTIAL if it cannot be read, names no
    /// Houston peer, or is for another key.
    pub fn from_pem(chain: &str, key: &PrivateKey) -> Result<Self, Refusal> {
        let unusable = |reason: &dyn fmt::Display| {
            Refusal::new(
                Code::Credential,
                format!("the certificate is not usable: {}", quoted(&reason.to_string())),
                "",
            )
        };
        let chain = certificates(chain)?;
        let certificate = PeerCertificate::from_der(&chain[0]).map_err(|error| unusable(&error))?;
        let der = PrivateKeyDer::from_pem_slice(key.expose_pem().as_bytes())
            .map_err(|_| Refusal::new(Code::Credential, "the private key is not usable", ""))?;
        let key = CertifiedKey::from_der(chain, der, &PROVIDER).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => Refusal::new(
                Code::Credential,
                format!("the certificate of {} is for another key than the one given", certificate.peer),
                "use the key that was made with the certificate's request",
            ),
            error => unusable(&error),
        })?;
        Ok(Self { key: Arc::new(key), certificate })
    }

    pub fn certificate(&self) -> &PeerCertificate {
        &self.certificate
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({}, serial {})", self.certificate.peer, self.certificate.serial)
    }
}

/// Whose word a client takes for who the coordinator is. The system's roots never count.
#[derive(Debug, Clone, Copy)]
pub enum Trust<'a> {
    /// The authorities in a PEM text.
    Authorities(&'a str),
    /// The authority whose certificate has this SHA-256 and comes with the coordinator's own: for a
    /// host that has nothing yet but a join token.
    Fingerprint(Digest),
}

/// What a listener proves, and what it demands. A value: to change it, publish another one, and it
/// holds for the connections that are accepted from then on.
#[derive(Clone)]
pub struct ServerSettings(Arc<ServerConfig>);

impl ServerSettings {
    /// Every client must hold a valid certificate from one of the authorities in the PEM text `clients`.
    pub fn mutual(credential: &Credential, clients: &str, clock: &ClockFloor) -> Result<Self, Refusal> {
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots(clients)?), Arc::clone(&PROVIDER))
                .build()
                .map_err(|error| {
                    Refusal::new(Code::Credential, format!("the client authorities: {error}"), "")
                })?;
        let config = server_builder(clock)?.with_client_cert_verifier(verifier);
        Ok(Self::finish(config.with_cert_resolver(single(credential))))
    }

    /// For the enrollment listener alone: the clients that call it have no certificate, or one that
    /// has expired, so none is asked for.
    pub fn enrollment(credential: &Credential, clock: &ClockFloor) -> Result<Self, Refusal> {
        let config = server_builder(clock)?.with_no_client_auth();
        Ok(Self::finish(config.with_cert_resolver(single(credential))))
    }

    fn finish(mut config: ServerConfig) -> Self {
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Self(Arc::new(config))
    }
}

impl fmt::Debug for ServerSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerSettings")
    }
}

/// Whom a client believes and what it proves. Cheap to clone.
#[derive(Clone)]
pub struct ClientSettings {
    config: Arc<ClientConfig>,
    /// The client's own certificate, to say which one was refused.
    own: Option<Arc<PeerCertificate>>,
    server_name: Option<ServerName>,
}

impl ClientSettings {
    /// Without a credential only the enrollment listener lets the client in.
    pub fn new(
        trust: Trust<'_>,
        credential: Option<&Credential>,
        clock: &ClockFloor,
    ) -> Result<Self, Refusal> {
        let builder = ClientConfig::builder_with_details(Arc::clone(&PROVIDER), Arc::new(clock.clone()))
            .with_protocol_versions(VERSIONS)
            .map_err(unsupported)?;
        let builder = match trust {
            Trust::Authorities(pem) => builder.with_root_certificates(roots(pem)?),
            Trust::Fingerprint(pin) => {
                let verifier = pinned::PinnedAuthority::new(pin, Arc::clone(&PROVIDER));
                builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
            }
        };
        let mut config = match credential {
            Some(credential) => builder.with_client_cert_resolver(single(credential)),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        let own = credential.map(|credential| Arc::new(credential.certificate.clone()));
        Ok(Self { config: Arc::new(config), own, server_name: None })
    }

    /// Expects the coordinator's certificate to be for `name` instead of the name in its address.
    #[must_use]
    pub fn expecting(self, name: ServerName) -> Self {
        Self { server_name: Some(name), ..self }
    }
}

impl fmt::Debug for ClientSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSettings").field("own", &self.own).finish_non_exhaustive()
    }
}

fn server_builder(
    clock: &ClockFloor,
) -> Result<rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>, Refusal> {
    ServerConfig::builder_with_details(Arc::clone(&PROVIDER), Arc::new(clock.clone()))
        .with_protocol_versions(VERSIONS)
        .map_err(unsupported)
}

fn unsupported(error: rustls::Error) -> Refusal {
    Refusal::internal(format!("the TLS provider lacks TLS 1.3: {error}"))
}

fn single(credential: &Credential) -> Arc<SingleCertAndKey> {
    Arc::new(SingleCertAndKey::from(Arc::clone(&credential.key)))
}

fn roots(pem: &str) -> Result<RootCertStore, Refusal> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|error| {
            Refusal::new(Code::Credential, format!("an authority's certificate is not usable: {error}"), "")
        })?;
    }
    Ok(roots)
}

/// The certificates in a PEM text, at least one.
fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, Refusal> {
    let unreadable =
        |reason: &str| Refusal::new(Code::Credential, format!("no certificate in PEM form: {reason}"), "");
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match found {
        Ok(found) if found.is_empty() => Err(unreadable("the text holds none")),
        Ok(found) => Ok(found),
        Err(error) => Err(unreadable(&quoted(&error.to_string()))),
    }
}
