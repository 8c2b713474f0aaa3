use super::*;

fn token(text: &str) -> Result<JoinToken, Refusal> {
    text.parse()
}

#[test]
fn a_token_names_its_authority_and_is_never_shown() {
    let authority = Digest::of(b"authority");
    let text = format!("houston-join-1.{authority}.id7.s3cret");
    let read = token(&format!(" {text}\n")).expect("token");
    assert_eq!(read.authority, authority);
    assert_eq!(read.text, text);
    assert!(!format!("{read:?}").contains("s3cret"));
}

#[test]
fn tokens_that_are_not_whole_are_refused_without_being_quoted() {
    let authority = Digest::of(b"authority").to_string();
    for bad in [
        String::new(),
        "s3cret".to_owned(),
        format!("houston-join-2.{authority}.id.s3cret"),
        format!("houston-join-1.{authority}.s3cret"),
        format!("houston-join-1.{}.id.s3cret", &authority[1..]),
        format!("houston-join-1.{authority}.id."),
        format!("houston-join-1.{authority}..s3cret"),
        format!("houston-join-1.{authority}.id.s3 cret"),
        format!("houston-join-1.{authority}.id.s3cret.x"),
    ] {
        let refusal = token(&bad).expect_err(&bad);
        assert_eq!(refusal.code, Code::Token, "{bad}");
        assert!(!refusal.to_string().contains("cret"), "{refusal}");
    }
}

#[tokio::test]
async fn nobody_to_ask_leaves_no_identity() {
    let temp = tempfile::tempdir().expect("directory");
    let directory = temp.path().join("made/by-enroll");
    // A port that was free a moment ago.
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").expect("port").local_addr().expect("address").port();
    let request = Request {
        coordinator: format!("127.0.0.1:{port}").parse().expect("address"),
        token: token(&format!("houston-join-1.{}.id.secret", Digest::of(b"authority"))).expect("token"),
        suggested_host: None,
        force: false,
    };
    assert_eq!(enroll(&directory, request).await.expect_err("nobody").code, Code::Unreachable);
    let identity = IdentityDir::open(&directory).expect("directory");
    assert_eq!(identity.record(), Ok(None));
    assert_eq!(identity.load().expect_err("not enrolled").code, Code::State);
}

#[test]
fn a_busy_coordinator_is_asked_again_when_it_says_and_for_a_minute() {
    let said = Duration::from_secs(2);
    let error = |code, retry_after| {
        let refusal = Refusal::new(code, "later", "");
        CallError { refusal, retry_after, answered: true }
    };
    let busy = error(Code::Busy, Some(said));
    for random in [0, 1, 1999, 2000, u64::MAX] {
        let pause = pause(&busy, Duration::ZERO, random).expect("it comes back");
        assert!(said <= pause && pause <= 2 * said, "{pause:?}");
    }
    assert_eq!(pause(&busy, BUSY_TIME_MAX - said, 0), Some(said));
    assert_eq!(pause(&busy, BUSY_TIME_MAX, 0), None, "whoever waits for it is told");
    assert_eq!(pause(&error(Code::Busy, None), Duration::ZERO, 0), None);
    assert_eq!(pause(&error(Code::Token, Some(said)), Duration::ZERO, 0), None, "it is an answer");
}
