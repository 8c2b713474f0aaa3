use houston_agent::enroll::{self, JoinToken};
use houston_common::error::Code;
use houston_common::identity::request::new_key;
use houston_common::tls::Address;
use houston_coordinator::grpc::HOST_CONNECTIONS_MAX;
use houston_tests::coordinator::{PATIENCE, Running, join, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;
use tonic::Code as Grpc;

use super::connections::{as_ada, ends, plain, tls};
use super::{prefixed, send, serves};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frames of HTTP/2, by their number.
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const ACKNOWLEDGED: u8 = 1;

fn h2_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a length").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The headers of a call, each literally.
fn headers() -> Vec<u8> {
    let fields: [(&str, &str); 6] = [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", "/houston.v1.Operator/WhoAmI"),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let text = |text: &str| [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

/// A connection of ada's that has said hello.
async fn greeted(coordinator: &Running) -> TlsStream<TcpStream> {
    let mut stream = as_ada(coordinator, b"h2").await.expect("ada is known");
    let hello = [PREFACE, &h2_frame(SETTINGS, 0, 0, &[])].concat();
    stream.write_all(&hello).await.expect("it listens");
    stream
}

/// B51
#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_made_to_be_reset_end_the_connection() {
    const ENDS_STREAM_NOT: u8 = 4;
    let coordinator = Running::start(|_| {}).await;
    let mut stream = greeted(&coordinator).await;
    for call in 0..1000 {
        let id = 2 * call + 1;
        let opened = h2_frame(HEADERS, ENDS_STREAM_NOT, id, &headers());
        let reset = h2_frame(RESET, 0, id, &8u32.to_be_bytes());
        if stream.write_all(&[opened, reset].concat()).await.is_err() {
            break;
        }
    }
    ends("a flood of resets", &mut stream).await;
    serves(&coordinator, "a flood of resets").await;
    coordinator.stop().await;
}

/// B51: each is answered, and nobody else waits for it; where nobody reads the answers, no more is read.
#[tokio::test(flavor = "multi_thread")]
async fn pings_and_settings_are_answered_and_harm_nobody() {
    const FLOOD: usize = 5000;
    let coordinator = Running::start(|_| {}).await;
    for (what, kind, frame) in [
        ("pings", PING, h2_frame(PING, 0, 0, b"12345678")),
        ("settings", SETTINGS, h2_frame(SETTINGS, 0, 0, &[])),
    ] {
        let flood = frame.repeat(FLOOD);
        let mut unread = greeted(&coordinator).await;
        let unread = tokio::spawn(async move { while unread.write_all(&frame.repeat(100)).await.is_ok() {} });
        let (mut reads, mut writes) = tokio::io::split(greeted(&coordinator).await);
        let written = tokio::spawn(async move {
            writes.write_all(&flood).await.expect("it is read");
            writes
        });
        serves(&coordinator, what).await;
        let mut answers = 0;
        let all = async {
            while answers < FLOOD {
                let mut head = [0; 9];
                reads.read_exact(&mut head).await.expect("the connection stays");
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                reads.read_exact(&mut vec![0; length as usize]).await.expect("a frame");
                answers += usize::from(head[3] == kind && head[4] & ACKNOWLEDGED != 0);
            }
        };
        tokio::time::timeout(PATIENCE, all).await.unwrap_or_else(|_| panic!("{what}: not answered"));
        serves(&coordinator, what).await;
        unread.abort();
        drop(written.await.expect("written"));
    }
    coordinator.stop().await;
}

/// Both ends of each connection are this process's, and the usual limit is 1024.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("raised");
}

/// Keeps this many connections open without a byte, until it is dropped.
fn silent_flood(to: &Address, sockets: usize) -> JoinSet<()> {
    let mut flood = JoinSet::new();
    for _ in 0..sockets {
        let to = to.clone();
        flood.spawn(async move {
            loop {
                let mut silent = plain(&to).await;
                let _ = silent.read(&mut [0; 1]).await;
            }
        });
    }
    flood
}

/// B52: connections from which nothing comes are as many as they like; who calls gets through.
#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_lock_nobody_out() {
    raise_descriptor_limit();
    let coordinator = Running::start(|_| {}).await;
    for listener in [coordinator.agents(), coordinator.enrollment()] {
        let flood = silent_flood(&listener, 400);
        // Its oldest are thrown out as others come.
        for _ in 0..5 {
            serves(&coordinator, "a flood of silence").await;
            coordinator.stranger().await;
        }
        drop(flood);
    }
    coordinator.stop().await;
}

/// B52: TLS without a word of HTTP/2 takes no place for long.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_connections_never_speak_gets_its_places_back() {
    let coordinator = Running::start(|_| {}).await;
    let web = coordinator.host("web").await;
    let credential = (web.enrolled.certificate.certificate_pem.as_str(), web.key.expose_pem());
    let mut silent = Vec::new();
    for _ in 0..HOST_CONNECTIONS_MAX {
        let stream = tls(&coordinator, &coordinator.agents(), Some(credential), b"h2").await;
        silent.push(stream.expect("there is room"));
    }
    let client = until("the host is let in", async || coordinator.connect(Some(&web.credential)).await.ok());
    let client = client.await;
    for stream in &mut silent {
        ends("silence", stream).await;
    }
    drop(client);
    coordinator.stop().await;
}

/// B52: as many strangers as there are places for, and one that is there in earnest.
#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_gets_in_past_a_thousand_that_say_nothing() {
    raise_descriptor_limit();
    let coordinator = Running::start(|_| {}).await;
    let mut silent = Vec::new();
    for _ in 0..1010 {
        let stream = tls(&coordinator, &coordinator.enrollment(), None, b"h2").await;
        silent.push(stream.expect("nobody is turned away"));
    }
    ends("the oldest", &mut silent[0]).await;
    coordinator.host("web").await;
    coordinator.stop().await;
}

/// B56: who guesses or says nothing uses up what is there for who guesses; who has a token is told when
/// to come back, and does.
#[tokio::test(flavor = "multi_thread")]
async fn floods_of_enrollments_keep_no_machine_out() {
    const ENROLL: &str = "/houston.v1.Enrollment/Enroll";
    let coordinator = Running::start(|_| {}).await;
    let token = coordinator.token(1).await;
    let guess = token.rsplit_once('.').map(|(known, _)| format!("{known}.{}", "0".repeat(64)));
    let guess = join(&new_key().expect("a key"), &guess.expect("a secret"), None);
    let empty = coordinator.stranger_channel().await;
    let guesses = coordinator.stranger().await;
    let mut codes = Vec::new();
    for _ in 0..100 {
        let status = send(&empty, ENROLL, &[], prefixed(0, &[])).await;
        assert_eq!(status.code(), Grpc::InvalidArgument, "it costs nobody anything: {status:?}");
        codes.push(guesses.enroll(&guess).await.expect_err("a guess").refusal.code);
    }
    assert!(codes[0] == Code::Token && codes.contains(&Code::Busy), "{codes:?}");

    // The token's own holders come all at once.
    let mut crowd = JoinSet::new();
    for _ in 0..4 {
        let (stranger, mut request) =
            (coordinator.stranger().await, join(&new_key().expect("a key"), &token, None));
        // No use of the token is lost by what is no request.
        request.csr = vec![1];
        crowd.spawn(async move {
            while stranger.enroll(&request).await.expect_err("no request").refusal.code != Code::Busy {}
        });
    }
    tokio::time::timeout(PATIENCE, crowd.join_all()).await.expect("the coordinator is busy");
    let directory = tempfile::tempdir().expect("a directory");
    let request = enroll::Request {
        coordinator: coordinator.enrollment(),
        token: token.parse::<JoinToken>().expect("a token"),
        suggested_host: None,
        force: false,
    };
    let enrolled = enroll::enroll(directory.path(), request).await.expect("it comes back");
    assert_eq!(enrolled.enrollment, coordinator.enrollment());
    coordinator.stop().await;
}
