use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use super::super::cgroup::Cgroups;
use super::super::exec::tests::{program, shell, variables};
use super::*;

fn context() -> ProbeContext {
    ProbeContext {
        runner: Runner { exec: program(), cgroups: Cgroups::none() },
        user: None,
        tree: "/".into(),
        variables: variables(&[]),
        address: std::net::Ipv4Addr::LOCALHOST.into(),
    }
}

async fn check(checked: Probe) -> Probed {
    probe(&checked, Duration::from_secs(10), &context()).await
}

/// A server that answers one connection by this function.
fn serve(answer: impl FnOnce(&mut std::net::TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        let _ = stream.read(&mut request);
        answer(&mut stream);
    });
    port
}

fn says(text: &'static str) -> u16 {
    serve(move |stream| drop(stream.write_all(text.as_bytes())))
}

fn http(port: u16, expect_body: Option<&str>) -> Probe {
    Probe::Http { port, path: "/healthz".to_owned(), expect_body: expect_body.map(str::to_owned) }
}

fn why(probed: Probed) -> String {
    match probed {
        Probed::Pass => panic!("it passed"),
        Probed::Fail(why) => why,
    }
}

#[tokio::test]
async fn only_2xx_passes_and_redirects_do_not() {
    assert_eq!(check(http(says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), None)).await, Probed::Pass);
    assert_eq!(check(http(says("HTTP/1.1 204 No Content\r\n\r\n"), None)).await, Probed::Pass);
    let moved = says("HTTP/1.1 302 Found\r\nLocation: /healthz\r\nContent-Length: 0\r\n\r\n");
    assert!(why(check(http(moved, None)).await).ends_with("answered 302"));
    let broken = says("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    assert!(why(check(http(broken, None)).await).ends_with("answered 503"));
    assert!(why(check(http(says("SSH-2.0-x\r\n"), None)).await).contains("does not speak HTTP"));
}

#[tokio::test]
async fn the_body_must_hold_what_is_expected() {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nstatus: up\n";
    assert_eq!(check(http(says(ok), Some("status: up"))).await, Probed::Pass);
    let error = "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nstatus:\u{1b}down\n";
    let seen = why(check(http(says(error), Some("status: up"))).await);
    assert!(seen.contains("status:\\u{1b}down"), "{seen}");
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort";
    assert!(why(check(http(says(cut), Some("up"))).await).contains("broke off"));
}

#[tokio::test]
async fn a_huge_body_is_read_no_further_than_its_beginning() {
    let port = serve(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        let piece = [b'x'; 65536];
        // Until the prober hangs up.
        while stream.write_all(&piece).is_ok() {}
    });
    assert!(why(check(http(port, Some("never"))).await).contains("does not hold"));
}

#[tokio::test]
async fn silence_ends_at_the_deadline() {
    let port = serve(|stream| {
        // Until the prober hangs up.
        let _ = stream.read(&mut [0; 1]);
    });
    // The server is silent for as long as this waits: nothing but the deadline ends it.
    let probed = probe(&http(port, None), Duration::from_millis(200), &context()).await;
    assert_eq!(why(probed), "no answer within 200ms");
}

#[tokio::test]
async fn tcp_connects_or_says_why_not() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    assert_eq!(check(Probe::Tcp { port }).await, Probed::Pass);
    drop(listener);
    assert!(why(check(Probe::Tcp { port }).await).contains("cannot be connected to"));
}

#[tokio::test]
async fn a_command_passes_with_0_alone() {
    assert_eq!(check(Probe::Command(shell("exit 0"))).await, Probed::Pass);
    assert_eq!(
        why(check(Probe::Command(shell("echo one; echo two; exit 2"))).await),
        "the command exited with 2: two"
    );
    let hanging = Probe::Command(shell("sleep 60"));
    let probed = probe(&hanging, Duration::from_millis(300), &context()).await;
    assert!(why(probed).contains("did not end within 300ms"));
}
