//! Answers come from a list, with failures in between; time is real.

use std::cell::RefCell;

use houston_common::rollout::{Exception, RolloutState};

use super::*;
use crate::args::Color;
use crate::console::Surroundings;
use crate::render::sample::{failed, rolling};

type Answers = Vec<Result<RolloutView, Refusal>>;

struct Seen {
    ended: Result<u8, Refusal>,
    out: String,
    err: String,
}

fn unreachable() -> Refusal {
    Refusal::new(Code::Unreachable, "nobody listens", "")
}

/// Follows from `rolling` through these answers; after the last there is never news again.
fn followed(
    answers: Answers,
    output: Output,
    manner: Manner,
    timeout: Option<Duration>,
    terminal: fn() -> Option<(usize, usize)>,
) -> Seen {
    let never = std::future::pending();
    followed_until(answers, output, manner, timeout, terminal, never)
}

fn followed_until(
    answers: Answers,
    output: Output,
    manner: Manner,
    timeout: Option<Duration>,
    terminal: fn() -> Option<(usize, usize)>,
    interrupt: impl Future<Output = ()>,
) -> Seen {
    let surroundings = Surroundings { home: None, config_home: None, plain_terminal: true, terminal };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let answers = RefCell::new(answers.into_iter());
    let revision = RefCell::new(rolling().revision);
    let ask = async |question: GetRollout| {
        assert_eq!(question.rollout, RolloutRef::Id(rolling().id));
        assert_eq!(question.after_revision, Some(*revision.borrow()));
        let next = answers.borrow_mut().next();
        match next {
            Some(Ok(view)) => {
                *revision.borrow_mut() = view.revision;
                Ok(view)
            }
            Some(Err(refusal)) => Err(refusal),
            None => std::future::pending().await,
        }
    };
    let mut console = Console::new(&mut out, &mut err, output, Color::Auto, &surroundings);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    let ended = runtime.block_on(async {
        let limit = Duration::from_secs(30);
        let following = follow(ask, &mut console, rolling(), manner, timeout, interrupt);
        tokio::time::timeout(limit, following).await.expect("ends by itself")
    });
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Seen { ended, out: text(out), err: text(err) }
}

const fn pipe() -> Option<(usize, usize)> {
    None
}

fn ended_in(state: RolloutState, revision: u64) -> RolloutView {
    RolloutView { state, revision, updated: 6, notable: Vec::new(), waiting: Vec::new(), ..rolling() }
}

/// Lines without what says when, before each.
fn lines(text: &str) -> Vec<&str> {
    let untimed = |line| str::split_once(line, "UTC  ").map_or(line, |(_, rest)| rest);
    text.lines().map(|line| untimed(line).trim_start_matches("so far: ")).collect()
}

#[test]
fn a_pipe_gets_a_line_per_change_through_an_outage() {
    let answers = vec![Ok(rolling()), Err(unreachable()), Ok(ended_in(RolloutState::Succeeded, 9))];
    let seen = followed(answers, Output::Text, Manner::Everything, None, pipe);
    assert_eq!(seen.ended, Ok(0));
    assert_eq!(
        lines(&seen.out),
        [
            "one box is done",
            "zone a begins: 2 hosts",
            "rollout 17 of prod (web-41 → web-42) is rolling out",
            "web-2-aaaaa may change now and has not settled yet. The last deadline is in 9m; who misses it has failed.",
            "6 of 6 updated",
            "rollout 17 of prod (web-41 → web-42) has succeeded",
            "rollout 17 of prod succeeded: 6 hosts on web-42",
        ]
    );
    assert_eq!(
        seen.err,
        "trying again, the rollout goes on; E-UNREACHABLE: nobody listens\nthe coordinator is reached again\n"
    );
    // What was there before the watching has no time of its own, and what comes later has.
    let (found, come) = seen.out.split_at(seen.out.find("6 of 6").expect("the news"));
    assert_eq!(found.matches("so far: ").count(), 4, "{found}");
    assert!(!come.contains("so far: "), "{come}");
}

#[test]
fn a_terminal_without_the_coordinator_says_first_that_it_tries_and_how_old_the_picture_is() {
    let refusal = Refusal::new(Code::Unreachable, "nobody listens at ".to_owned() + &"far ".repeat(20), "");
    let answers = vec![Err(refusal), Ok(ended_in(RolloutState::Succeeded, 9))];
    let seen = followed(answers, Output::Text, Manner::Everything, None, || Some((100, 30)));
    let lost = seen.out.split("\u{1b}[J").find(|picture| picture.contains("Trying")).expect("a picture");
    let words = lost[lost.find("Trying").expect("there")..].replace('\n', " ");
    assert!(words.starts_with("Trying again; this is how it was "), "{words}");
    assert!(words.contains("s ago, the rollout goes on. E-UNREACHABLE: nobody listens at far"), "{words}");
    assert_eq!(words.matches("far ").count(), 20, "nothing of it is cut off: {words}");
    assert!(lost.lines().all(|line| line.chars().count() < 100), "{lost}");
}

#[test]
fn waiting_tells_states_only_and_ends_with_the_rollouts_code() {
    let rolled_back = RolloutView { state: RolloutState::RolledBack, revision: 8, ..failed() };
    let seen = followed(vec![Ok(failed()), Ok(rolled_back)], Output::Text, Manner::States, None, pipe);
    assert_eq!(seen.ended.expect_err("taken back").code, Code::RolledBack);
    assert_eq!(lines(&seen.out).len(), 3, "{}", seen.out);

    let mut partial = ended_in(RolloutState::Succeeded, 9);
    partial.exceptions = vec![("web-8-bbbbb".parse().expect("id"), Exception::Silent)];
    let seen = followed(vec![Ok(partial)], Output::Text, Manner::States, None, pipe);
    assert_eq!(seen.ended, Ok(6));
    assert!(seen.out.contains("web-8-bbbbb: it was silent"), "{}", seen.out);

    let seen =
        followed(vec![Ok(ended_in(RolloutState::Aborted, 9))], Output::Text, Manner::States, None, pipe);
    assert_eq!(seen.ended, Ok(1));
}

#[test]
fn waiting_ends_in_time() {
    let timeout = Some(Duration::from_millis(50));
    let seen = followed(Vec::new(), Output::Text, Manner::States, timeout, pipe);
    assert_eq!(
        seen.ended.expect_err("too late").to_string(),
        "E-TIMEOUT: rollout 17 of prod is not at its end after 50ms; it goes on; wait again, or see houston rollout status"
    );
}

#[test]
fn a_refusal_that_no_retry_mends_ends_the_watch() {
    let refusal = Refusal::new(Code::Role, "not yours to see", "");
    let seen = followed(vec![Err(refusal.clone())], Output::Text, Manner::Everything, None, pipe);
    assert_eq!(seen.ended, Err(refusal));
}

#[test]
fn programs_get_a_rollout_per_line() {
    let answers =
        vec![Ok(failed()), Ok(RolloutView { state: RolloutState::RolledBack, revision: 8, ..failed() })];
    let seen = followed(answers, Output::Json, Manner::Everything, None, || Some((80, 24)));
    let states: Vec<_> = seen
        .out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["state"].clone())
        .collect();
    assert_eq!(states, ["rolling", "rolling_back", "rolled_back"]);
}

#[test]
fn a_terminal_gets_pictures_in_place_and_logs_above_them() {
    let answers = vec![Ok(failed()), Ok(ended_in(RolloutState::Succeeded, 9))];
    let seen = followed(answers, Output::Text, Manner::Everything, None, || Some((80, 30)));
    assert_eq!(seen.ended, Ok(0));
    assert!(seen.out.matches("\u{1b}[J").count() >= 2, "{:?}", seen.out);
    let log = "✗ web-2-aaaaa in zone a: E-HOOK-EXIT while starting of web: start ended with status 1\n    │ loading\n";
    assert_eq!(seen.out.matches(log).count(), 1, "{}", seen.out);
    let last = seen.out.rsplit("\u{1b}[J").next().expect("a picture");
    assert!(last.contains("✓ succeeded") && last.ends_with("succeeded: 6 hosts on web-42\n"), "{last}");
    assert_eq!(seen.err, "");
}

#[test]
fn an_interruption_ends_the_watching_and_says_that_the_rollout_goes_on() {
    let seen =
        followed_until(Vec::new(), Output::Text, Manner::Everything, None, pipe, std::future::ready(()));
    assert_eq!(seen.ended, Ok(130));
    assert_eq!(
        seen.err,
        "rollout 17 of prod goes on without you; houston rollout watch 17 comes back to it\n"
    );
}
