use std::sync::Arc;
use std::time::{Duration, SystemTime};

use houston_common::error::Code;
use houston_common::identity::PrivateKey;
use houston_common::identity::request::new_key_and_csr;
use houston_common::tls::{Address, Credential};
use houston_coordinator::ca::Ca;
use houston_coordinator::grpc::HOST_CONNECTIONS_MAX;
use houston_tests::coordinator::{PATIENCE, Running, until};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::serves;

/// Reads to the end of the connection, which comes in time or the test fails.
pub(super) async fn ends(what: &str, stream: &mut (impl AsyncRead + Unpin)) {
    let mut ignored = Vec::new();
    // A reset is an end too.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut ignored))
        .await
        .unwrap_or_else(|_| panic!("{what}: the connection stays open"));
}

/// TLS to a listener, with this certificate and its key as PEM, saying that one speaks `alpn`.
pub(super) async fn tls(
    coordinator: &Running,
    to: &Address,
    credential: Option<(&str, &str)>,
    alpn: &[u8],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(coordinator.ca.as_bytes()).expect("the authority");
    roots.add(authority).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots);
    let mut config = match credential {
        Some((chain, key)) => {
            let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>();
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
            config.with_client_auth_cert(chain.expect("a certificate"), key).expect("a credential")
        }
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, plain(to).await).await
}

pub(super) async fn as_ada(coordinator: &Running, alpn: &[u8]) -> std::io::Result<TlsStream<TcpStream>> {
    let ada = coordinator.directory.path().join("operators/ada");
    let read = |file: &str| std::fs::read_to_string(ada.join(file)).expect("what init left");
    let (chain, key) = (read("certificate.pem"), read("key.pem"));
    tls(coordinator, &coordinator.agents(), Some((&chain, &key)), alpn).await
}

pub(super) async fn plain(to: &Address) -> TcpStream {
    TcpStream::connect(("127.0.0.1", to.port())).await.expect("it listens")
}

/// B50: whatever does not speak as we do is let go, and the others are served.
#[tokio::test(flavor = "multi_thread")]
async fn noise_ends_its_own_connection_only() {
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let coordinator = Running::start(|_| {}).await;
    let noise: [(&str, Vec<u8>); 4] = [
        ("HTTP/1.1 without TLS", REQUEST.to_vec()),
        ("HTTP/2 without TLS", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("zeros", vec![0; 10_000]),
        ("a TLS record that is too long", [&[0x16, 3, 1, 0xff, 0xff][..], &[0; 70_000]].concat()),
    ];
    for (what, bytes) in noise {
        let mut stream = plain(&coordinator.agents()).await;
        // The other end may hang up before it has heard all of it.
        let _ = stream.write_all(&bytes).await;
        ends(what, &mut stream).await;
        serves(&coordinator, what).await;
    }
    assert!(as_ada(&coordinator, b"http/1.1").await.is_err(), "nothing but HTTP/2 is spoken");
    for (what, bytes) in [
        ("HTTP/1.1 in TLS", REQUEST.to_vec()),
        ("zeros in TLS", vec![0; 10_000]),
        (
            "a preface and a frame that is too long",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x00\x00\x00\x00\x00\x00".to_vec(),
        ),
    ] {
        let mut stream = as_ada(&coordinator, b"h2").await.expect("ada is known");
        let _ = stream.write_all(&bytes).await;
        ends(what, &mut stream).await;
        serves(&coordinator, what).await;
    }
    coordinator.stop().await;
}

/// B52: a host has a few connections, and gets another when one has ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_has_so_many_connections_and_no_more() {
    let coordinator = Running::start(|_| {}).await;
    let (web, other) = (coordinator.host("web").await, coordinator.host("other").await);
    let mut open = Vec::new();
    for _ in 0..HOST_CONNECTIONS_MAX {
        open.push(coordinator.connect(Some(&web.credential)).await.expect("there is room"));
    }
    let refusal = coordinator.connect(Some(&web.credential)).await.expect_err("one too many");
    assert_eq!(refusal.code.exit() as u8, 5, "it comes back by itself: {refusal}");
    coordinator.connect(Some(&other.credential)).await.expect("that is the one host's limit");
    open.pop();
    until("a place is free again", async || coordinator.connect(Some(&web.credential)).await.ok()).await;
    coordinator.stop().await;
}

fn authority(coordinator: &Running) -> Ca {
    let key =
        PrivateKey::read(&coordinator.directory.path().join("ca-key.pem")).expect("the authority's key");
    Ca::load(&coordinator.ca, &key, SystemTime::now()).expect("the authority")
}

/// B39: a certificate of our own authority, but not for now, or not for a client.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_for_another_time_or_purpose_open_nothing() {
    const HOUR: Duration = Duration::from_secs(3600);
    let coordinator = Running::start(|_| {}).await;
    let web = coordinator.host("web").await;
    let ca = authority(&coordinator);
    let now = SystemTime::now();
    let (key, csr) = new_key_and_csr().expect("a key");
    let host = |at| {
        let issued = ca.issue_host(&csr, &web.id, HOUR, at).expect("issued");
        Credential::from_pem(&issued.chain_pem, &key).expect("a credential")
    };
    let (server, server_key) =
        ca.issue_coordinator(&["localhost".parse().expect("a name")], HOUR, now).expect("issued");
    let server = Credential::from_pem(&server.chain_pem, &server_key).expect("a credential");
    for (what, credential, code) in [
        ("ended an hour ago", host(now - 2 * HOUR), Code::CertificateExpired),
        ("begins in an hour", host(now + HOUR), Code::CertificateExpired),
        ("a server's", server, Code::Unauthenticated),
    ] {
        let refusal = coordinator.connect(Some(&credential)).await.expect_err(what);
        assert_eq!(refusal.code, code, "{what}: {refusal}");
    }
    // One for now, and for a key that was never enrolled: its holder is not the host.
    let client = houston_common::api::client::AgentClient::new(
        coordinator.connect(Some(&host(now))).await.expect("the authority is ours"),
    );
    let error = client.renew(csr.clone()).await.expect_err("not enrolled");
    assert_eq!(error.refusal.code, Code::Unauthenticated, "{}", error.refusal);
    coordinator.stop().await;
}
