//! Real handshakes over loopback; the HTTP/2 and gRPC layers above are tonic's, as in production.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tonic::transport::Channel;
use tower::Service as _;

use super::*;
use crate::clock::WallTime;
use crate::identity::{Peer, request::new_key};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Long enough for anything that should happen, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn fingerprint(&self) -> Digest {
        crate::identity::certificate_fingerprint(&self.pem).expect("a certificate")
    }

    /// A credential whose life started and ends these spans away from now; negative ones lie behind.
    fn issue(
        &self,
        names: &[&str],
        usage: ExtendedKeyUsagePurpose,
        from_days: i64,
        to_days: i64,
    ) -> Credential {
        let days_from_now = |days: i64| {
            let span = DAY * u32::try_from(days.abs()).expect("a few days");
            if days < 0 { SystemTime::now() - span } else { SystemTime::now() + span }
        };
        let key = new_key().expect("a key");
        let mut params = CertificateParams::default();
        for name in names {
            params.subject_alt_names.push(match name.parse() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) if name.contains("://") => SanType::URI((*name).try_into().expect("ASCII")),
                Err(_) => SanType::DnsName((*name).try_into().expect("ASCII")),
            });
        }
        params.extended_key_usages = vec![usage];
        params.not_before = days_from_now(from_days).into();
        params.not_after = days_from_now(to_days).into();
        let pair = KeyPair::from_pem(key.expose_pem()).expect("a key");
        let pem = params.signed_by(&pair, &self.issuer).expect("a certificate").pem();
        Credential::from_pem(&format!("{pem}{}", self.pem), &key).expect("a credential")
    }

    fn coordinator(&self) -> Credential {
        self.issue(&["houston://coordinator", "127.0.0.1"], ExtendedKeyUsagePurpose::ServerAuth, -1, 30)
    }

    fn host(&self, id: &str) -> Credential {
        self.issue(&[&format!("houston://host/{id}")], ExtendedKeyUsagePurpose::ClientAuth, -1, 30)
    }

    fn client(&self, credential: Option<&Credential>) -> ClientSettings {
        ClientSettings::new(Trust::Authorities(&self.pem), credential, &ClockFloor::new()).expect("settings")
    }

    fn mutual(&self) -> ServerSettings {
        ServerSettings::mutual(&self.coordinator(), &self.pem, &ClockFloor::new()).expect("settings")
    }
}

/// A tonic server that answers every call with who called.
struct Server {
    address: SocketAddr,
    settings: watch::Sender<ServerSettings>,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Server {
    async fn start(settings: ServerSettings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (settings, receiver) = watch::channel(settings);
        let (stop, stopped) = oneshot::channel::<()>();
        let service = tower::service_fn(|request: http::Request<tonic::body::Body>| async move {
            let info = request.extensions().get::<ConnectInfo>().expect("connect info");
            let peer = info.peer.as_ref().map_or("nobody".to_owned(), |peer| peer.peer.to_string());
            let response = http::Response::builder()
                .header("peer", peer)
                .header("remote", info.remote.to_string())
                .body(tonic::body::Body::empty())
                .expect("a response");
            Ok::<_, Infallible>(response)
        });
        let incoming = Incoming::new(listener, receiver);
        let ended = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            tonic::transport::Server::builder().serve_with_incoming_shutdown(service, incoming, stopped).await
        });
        Self { address, settings, stop, ended }
    }

    fn address(&self) -> Address {
        self.address.into()
    }

    async fn stop(self) {
        let _ = self.stop.send(());
        within(self.ended).await.expect("no panic").expect("served to the end");
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("in time")
}

/// Who the server says that we are.
async fn who(channel: &mut Channel) -> Result<String, tonic::transport::Error> {
    std::future::poll_fn(|cx| channel.poll_ready(cx)).await?;
    let request = http::Request::post("/test").body(tonic::body::Body::empty()).expect("a request");
    let response = channel.call(request).await?;
    Ok(response.headers()["peer"].to_str().expect("text").to_owned())
}

async fn connect(client: &ClientSettings, server: &Server) -> Result<String, Refusal> {
    let mut channel = within(client.connect(&server.address())).await?;
    Ok(within(who(&mut channel)).await.expect("an answer"))
}

async fn refused(client: &ClientSettings, address: &Address) -> Refusal {
    within(client.connect(address)).await.expect_err("refused")
}

#[tokio::test]
async fn a_peer_arrives_as_its_certificate_says() {
    let authority = Authority::new();
    let server = Server::start(authority.mutual()).await;
    let host = authority.client(Some(&authority.host("web-1")));
    assert_eq!(connect(&host, &server).await.as_deref(), Ok("houston://host/web-1"));
    let ann = authority.issue(&["houston://operator/ann"], ExtendedKeyUsagePurpose::ClientAuth, -1, 1);
    assert_eq!(
        connect(&authority.client(Some(&ann)), &server).await.as_deref(),
        Ok("houston://operator/ann")
    );
    server.stop().await;
}

#[tokio::test]
async fn who_is_refused_learns_why_at_once() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    let server = Server::start(authority.mutual()).await;
    let address = server.address();
    let client_usage = || ExtendedKeyUsagePurpose::ClientAuth;
    let host = |usage, from, to| authority.issue(&["houston://host/a"], usage, from, to);

    let cases = [
        (None, Code::Unauthenticated, "none was given"),
        (Some(foreign.host("a")), Code::CertificateAuthority, "houston://host/a"),
        (Some(host(client_usage(), -2, -1)), Code::CertificateExpired, "houston://host/a"),
        (Some(host(client_usage(), 1, 2)), Code::CertificateExpired, "not yet valid"),
        (Some(host(ExtendedKeyUsagePurpose::ServerAuth, -1, 1)), Code::Unauthenticated, "houston://host/a"),
    ];
    for (credential, code, hint) in cases {
        let refusal = refused(&authority.client(credential.as_ref()), &address).await;
        assert_eq!(refusal.code, code, "{refusal}");
        assert!(refusal.what.contains(hint), "{refusal}");
    }
    // None of them kept it from serving the next one.
    let host = authority.client(Some(&authority.host("b")));
    assert_eq!(connect(&host, &server).await.as_deref(), Ok("houston://host/b"));
    server.stop().await;
}

#[tokio::test]
async fn a_server_is_believed_only_with_the_right_authority_name_life_and_role() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    let usage = || ExtendedKeyUsagePurpose::ServerAuth;
    let coordinator = |names: &[&str], from, to| authority.issue(names, usage(), from, to);
    let ours = ["houston://coordinator", "127.0.0.1"];
    let cases = [
        (foreign.coordinator(), Code::CertificateAuthority, "another authority"),
        (coordinator(&ours, -2, -1), Code::CertificateExpired, "expired at 20"),
        (coordinator(&ours, 1, 2), Code::CertificateExpired, "valid from 20"),
        (coordinator(&["houston://coordinator", "elsewhere.example"], -1, 1), Code::Tls, "elsewhere.example"),
        (
            coordinator(&["houston://host/a", "127.0.0.1"], -1, 1),
            Code::CertificateAuthority,
            "houston://host/a",
        ),
        (authority.issue(&ours, ExtendedKeyUsagePurpose::ClientAuth, -1, 1), Code::Tls, "not acceptable"),
    ];
    let host = authority.client(Some(&authority.host("a")));
    for (credential, code, hint) in cases {
        let settings =
            ServerSettings::mutual(&credential, &authority.pem, &ClockFloor::new()).expect("settings");
        let server = Server::start(settings).await;
        let refusal = refused(&host, &server.address()).await;
        assert_eq!(refusal.code, code, "{refusal}");
        assert!(refusal.what.contains(hint), "{refusal}");
        server.stop().await;
    }
}

#[tokio::test]
async fn another_name_can_be_expected() {
    let authority = Authority::new();
    let names = ["houston://coordinator", "coordinator.example"];
    let credential = authority.issue(&names, ExtendedKeyUsagePurpose::ServerAuth, -1, 1);
    let settings = ServerSettings::mutual(&credential, &authority.pem, &ClockFloor::new()).expect("settings");
    let server = Server::start(settings).await;
    let client = authority.client(Some(&authority.host("a")));
    assert_eq!(refused(&client, &server.address()).await.code, Code::Tls);
    let client = client.expecting("coordinator.example".parse().expect("a name"));
    assert_eq!(connect(&client, &server).await.as_deref(), Ok("houston://host/a"));
    server.stop().await;
}

#[tokio::test]
async fn a_fingerprint_is_enough_to_enroll_and_only_the_right_one() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    let clock = ClockFloor::new();
    let settings = ServerSettings::enrollment(&authority.coordinator(), &clock).expect("settings");
    let server = Server::start(settings).await;
    let pinned = |pin| ClientSettings::new(Trust::Fingerprint(pin), None, &clock).expect("settings");
    assert_eq!(connect(&pinned(authority.fingerprint()), &server).await.as_deref(), Ok("nobody"));
    let refusal = refused(&pinned(foreign.fingerprint()), &server.address()).await;
    assert_eq!(refusal.code, Code::CertificateAuthority, "{refusal}");

    // Sending the right authority along does not help a server that it has not signed for.
    let stranger = foreign.coordinator();
    let chain = vec![stranger.key.cert[0].clone(), certificates(&authority.pem).expect("PEM")[0].clone()];
    let key = Arc::new(CertifiedKey::new(chain, Arc::clone(&stranger.key.key)));
    let stranger = Credential { key, ..stranger };
    server.settings.send(ServerSettings::enrollment(&stranger, &clock).expect("settings")).expect("heard");
    let refusal = refused(&pinned(authority.fingerprint()), &server.address()).await;
    assert_eq!(refusal.code, Code::CertificateAuthority, "{refusal}");
    server.stop().await;
}

#[tokio::test]
async fn new_settings_hold_from_the_next_connection_on() {
    let (before, after) = (Authority::new(), Authority::new());
    let server = Server::start(before.mutual()).await;
    let client = before.client(Some(&before.host("a")));
    let mut open = within(client.connect(&server.address())).await.expect("connected");
    server.settings.send(after.mutual()).expect("heard");
    assert_eq!(within(who(&mut open)).await.expect("still open"), "houston://host/a");
    assert_eq!(refused(&client, &server.address()).await.code, Code::CertificateAuthority);
    let client = after.client(Some(&after.host("b")));
    assert_eq!(connect(&client, &server).await.as_deref(), Ok("houston://host/b"));
    drop(open);
    server.stop().await;
}

#[tokio::test]
async fn silent_clients_stall_nobody() {
    let authority = Authority::new();
    let server = Server::start(authority.mutual()).await;
    let client = authority.client(Some(&authority.host("a")));
    let mut silent = Vec::new();
    for _ in 0..HANDSHAKES_MAX {
        silent.push(TcpStream::connect(server.address).await.expect("connected"));
    }
    let mut first = silent.swap_remove(0);
    // Every place is taken: the newcomer gets that of the oldest.
    assert_eq!(connect(&client, &server).await.as_deref(), Ok("houston://host/a"));
    assert_eq!(within(first.read(&mut [0; 1])).await.unwrap_or(0), 0, "was not thrown out");
    // Who says half a word is thrown out in the end.
    let mut half = TcpStream::connect(server.address).await.expect("connected");
    half.write_all(&[0x16, 3, 1]).await.expect("written");
    assert_eq!(within(half.read(&mut [0; 1])).await.unwrap_or(0), 0, "was not thrown out");
    assert_eq!(connect(&client, &server).await.as_deref(), Ok("houston://host/a"));
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_coordinator_is_named() {
    let authority = Authority::new();
    let client = authority.client(Some(&authority.host("a")));

    let http = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address: Address = http.local_addr().expect("an address").into();
    let answer = tokio::spawn(async move {
        let (mut tcp, _) = http.accept().await.expect("a client");
        let _ = tcp.read(&mut [0; 1024]).await;
        let _ = tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        tcp
    });
    let refusal = refused(&client, &address).await;
    assert_eq!(refusal.code, Code::Tls, "{refusal}");
    assert!(refusal.what.contains("does not speak TLS"), "{refusal}");
    drop(answer.await.expect("no panic"));

    let closing = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address: Address = closing.local_addr().expect("an address").into();
    let close = tokio::spawn(async move { drop(closing.accept().await.expect("a client")) });
    let refusal = refused(&client, &address).await;
    assert!(refusal.code == Code::Tls && refusal.what.contains("ended the connection"), "{refusal}");
    close.await.expect("no panic");

    // Nobody listens there any more.
    let refusal = refused(&client, &address).await;
    assert!(refusal.code == Code::Unreachable && refusal.what.contains("refused"), "{refusal}");
}

#[tokio::test]
async fn a_channel_says_why_it_cannot_connect_again() {
    let (before, after) = (Authority::new(), Authority::new());
    let server = Server::start(before.mutual()).await;
    let client = before.client(Some(&before.host("a")));
    let mut lazy = client.connect_lazily(&server.address()).expect("a channel");
    server.settings.send(after.mutual()).expect("heard");
    let error = within(who(&mut lazy)).await.expect_err("refused");
    assert_eq!(refusal_within(&error).expect("a refusal").code, Code::CertificateAuthority);
    let status = tonic::Status::from_error(Box::new(error));
    assert_eq!(refusal_within(&status).expect("a refusal").code, Code::CertificateAuthority);
    server.settings.send(before.mutual()).expect("heard");
    assert_eq!(within(who(&mut lazy)).await.expect("connects by itself"), "houston://host/a");
    drop(lazy);
    server.stop().await;
}

#[tokio::test]
async fn a_raised_clock_floor_outlives_a_clock_that_was_set_back() {
    let authority = Authority::new();
    let clock = ClockFloor::new();
    let settings =
        ServerSettings::mutual(&authority.coordinator(), &authority.pem, &clock).expect("settings");
    let server = Server::start(settings).await;
    let client = authority.client(Some(&authority.host("a")));
    assert!(connect(&client, &server).await.is_ok());
    clock.raise(WallTime(clock.now().0 + crate::clock::millis(DAY * 31)));
    assert_eq!(refused(&client, &server.address()).await.code, Code::CertificateExpired);
    clock.raise(WallTime(0));
    assert_eq!(
        refused(&client, &server.address()).await.code,
        Code::CertificateExpired,
        "a floor was lowered"
    );
    server.stop().await;
}

#[tokio::test]
async fn no_session_is_resumed_by_a_client_that_would_like_to() {
    let authority = Authority::new();
    let server = Server::start(authority.mutual()).await;
    let mut config = ClientConfig::clone(&authority.client(Some(&authority.host("a"))).config);
    config.resumption = Resumption::in_memory_sessions(8);
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    for _ in 0..3 {
        let tcp = TcpStream::connect(server.address).await.expect("connected");
        let name = server.address().name().as_tls().clone();
        let mut tls = within(connector.connect(name, tcp)).await.expect("a handshake");
        // A ticket would come with the server's first bytes.
        assert_ne!(within(tls.read(&mut [0; 64])).await.expect("the server's first frame"), 0);
        assert_eq!(tls.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
        assert_eq!(tls.get_ref().1.tls13_tickets_received(), 0);
    }
    server.stop().await;
}

#[test]
fn the_clock_floor_is_never_before_this_program() {
    assert!(ClockFloor::new().now() >= BUILD_TIME);
}

#[test]
fn a_credential_is_whole_or_refused() {
    let authority = Authority::new();
    let refusal = |chain: &str, key: &PrivateKey| Credential::from_pem(chain, key).expect_err("refused");
    let other = new_key().expect("a key");
    let pair = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI("houston://host/a".try_into().expect("ASCII"))];
    let pem = params.signed_by(&pair, &authority.issuer).expect("a certificate").pem();
    let mismatched = refusal(&pem, &other);
    assert!(mismatched.code == Code::Credential && mismatched.what.contains("another key"), "{mismatched}");
    assert_eq!(refusal("", &other).code, Code::Credential);
    assert_eq!(
        refusal("-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n", &other).code,
        Code::Credential
    );
    assert_eq!(refusal(&authority.pem, &other).code, Code::Credential, "names no peer");
    let key = PrivateKey::from_pem(pair.serialize_pem()).expect("a key");
    let credential = Credential::from_pem(&pem, &key).expect("whole");
    assert_eq!(credential.certificate().peer, Peer::Host("a".parse().expect("id")));
    assert!(!format!("{credential:?}").contains("PRIVATE"), "{credential:?}");
}

#[test]
fn addresses_are_host_and_port() {
    for good in ["coordinator.example:7400", "127.0.0.1:1", "[::1]:65535", "localhost:7400", "a_b:7400"] {
        let address: Address = good.parse().expect(good);
        assert_eq!(address.to_string(), good);
    }
    for (bad, hint) in [
        ("http://a:80", "without http://"),
        ("https://a.example/", "without https://"),
        ("a.example", "port is missing"),
        ("a.example:", "not a number"),
        ("a.example:0", "not a number"),
        ("a.example:65536", "not a number"),
        ("a.example:+80", "not a number"),
        ("a.example:80/x", "not a number"),
        ("::1:7400", "brackets"),
        ("[::1]", "port is missing"),
        ("[::1:7400", "not closed"),
        ("[a.example]:7400", "no IPv6 address"),
        (":7400", "neither"),
        ("a b:7400", "neither"),
        ("a@b:7400", "neither"),
        ("*.example:7400", "neither"),
        ("a\u{202e}:7400", "neither"),
        ("", "port is missing"),
    ] {
        let refusal = bad.parse::<Address>().expect_err(bad);
        assert_eq!(refusal.code, Code::Address);
        let text = refusal.to_string();
        assert!(text.contains(hint) && text.chars().all(crate::id::is_plain), "{text}");
    }
}
