use std::time::Duration;

use houston_common::error::Code;
use houston_common::id::{HostId, RolloutId};
use houston_common::report::Phase;
use houston_common::rollout::{Away, Held, Quiet, WaitingOn};

use super::*;

fn said(waiting: &WaitingOn) -> String {
    waiting_on(waiting, &"prod".parse().expect("name"))
}

fn named(ids: &[&str]) -> Vec<HostId> {
    ids.iter().map(|id| id.parse().expect("id")).collect()
}

fn quiet(last_heard: Option<Duration>) -> Quiet {
    let phase = last_heard.map(|_| Phase::Stopping);
    Quiet { host: named(&["web-1"])[0].clone(), last_heard, phase }
}

fn held_by_ann(left: Option<Duration>) -> Held {
    Held::Operator { name: "ann".parse().expect("name"), reason: "a new disk".into(), left }
}

/// One of each kind.
fn every_kind() -> Vec<WaitingOn> {
    let (minute, rollout) = (Duration::from_secs(60), RolloutId(7));
    let (host, environment) = (named(&["web-1"])[0].clone(), "prod".parse().expect("name"));
    let cause = Cause::RollbackFailed { host: host.clone() };
    vec![
        WaitingOn::Prepare { ready: 1, of: 2 },
        WaitingOn::Batch { open: named(&["web-1"]), more: 0, quiet: Vec::new(), deadline_in: minute },
        WaitingOn::Batch {
            open: named(&["web-1"]),
            more: 0,
            quiet: vec![quiet(Some(minute))],
            deadline_in: minute,
        },
        WaitingOn::Floor { zone: None, available: 6, floor: 6, unavailable: Vec::new() },
        WaitingOn::Bake { wave: Wave::OneBox, remaining: minute },
        WaitingOn::Health { hosts: named(&["web-1"]), more: 0 },
        WaitingOn::OtherEnvironment { host, environment },
        WaitingOn::Paused { by: "alice".into() },
        WaitingOn::Halted { cause },
        WaitingOn::Regressed,
        WaitingOn::UpToDate,
        WaitingOn::NothingToRun,
        WaitingOn::Turn { wave: Wave::Zones(vec!["b".parse().expect("zone")]), current: Wave::OneBox },
        WaitingOn::Queue { position: 1, batch: 2 },
        WaitingOn::Queue { position: 4, batch: 2 },
        WaitingOn::Granted { quiet: None, deadline_in: minute },
        WaitingOn::Granted { quiet: Some(quiet(None)), deadline_in: minute },
        WaitingOn::Silent { for_about: minute, since_start: false },
        WaitingOn::Silent { for_about: minute, since_start: true },
        WaitingOn::CatchUp { hosts: named(&["web-1"]), more: 2, away: 1 },
        WaitingOn::OffBaked { hosts: named(&["web-1"]), more: 0 },
        WaitingOn::Failed { rollout, code: Some(Code::HookExit) },
        WaitingOn::Drained,
        WaitingOn::NotHeardYet,
        WaitingOn::Held(Held::Clone),
        WaitingOn::Held(Held::ForeignAssignment),
        WaitingOn::Held(Held::Revoked),
        WaitingOn::Held(held_by_ann(Some(minute))),
        WaitingOn::Held(held_by_ann(None)),
        WaitingOn::Held(Held::PenaltyBox {
            environment: "prod".parse().expect("name"),
            failures: 3,
            left: minute,
        }),
        WaitingOn::HeldHosts { hosts: named(&["web-1"]), more: 0 },
        WaitingOn::Excepted { exception: Exception::Excluded, rollout, code: None },
        WaitingOn::Detached,
        WaitingOn::Excepted { exception: Exception::PrepareFailed, rollout, code: Some(Code::HookExit) },
        WaitingOn::JoinedLater { rollout },
        WaitingOn::WentBack { rollout },
        WaitingOn::Retry { wave: Wave::Zones(vec!["b".parse().expect("zone")]), left: 2 },
    ]
}

#[test]
fn every_reason_is_at_most_two_whole_sentences() {
    for waiting in every_kind() {
        let text = said(&waiting);
        assert!(text.ends_with('.'), "{text}");
        assert!(
            text.chars().next().is_some_and(|c| c.is_uppercase() || c.is_ascii_digit() || c.is_lowercase())
        );
        assert!(text.matches(". ").count() <= 1, "{text}");
        assert!(!text.contains("  "), "{text}");
    }
}

#[test]
fn numbers_and_names_are_told() {
    let floor = WaitingOn::Floor {
        zone: Some("a".parse().expect("zone")),
        available: 3,
        floor: 3,
        unavailable: vec![(named(&["web-2"])[0].clone(), Away::Unhealthy)],
    };
    assert_eq!(
        said(&floor),
        "3 hosts in zone a are available and the floor is 3: one more in change would break it. \
         It goes on when web-2 is well again."
    );
    let batch = WaitingOn::Batch {
        open: named(&["a", "b", "c", "d"]),
        more: 2,
        quiet: Vec::new(),
        deadline_in: Duration::from_secs(65),
    };
    assert_eq!(
        said(&batch),
        "a, b, c and 3 others may change now and have not settled yet. \
         The last deadline is in 1m 5s; who misses it has failed."
    );
    assert_eq!(
        said(&WaitingOn::Paused { by: "alice".into() }),
        "alice has paused it. `houston rollout resume prod` lets it go on."
    );
    let cause =
        Cause::FailureBudget { host: named(&["web-3"])[0].clone(), failures: 2, allowed: 1, zone: None };
    assert!(said(&WaitingOn::Halted { cause }).starts_with(
        "It is halted, because web-3 failed: 2 failures where 1 is allowed; `houston rollout status prod` shows"
    ));
}

#[test]
fn a_hold_says_whose_it_is_and_for_how_long_still() {
    assert_eq!(
        said(&WaitingOn::Held(held_by_ann(Some(Duration::from_secs(7200))))),
        "It takes no change: ann holds it for another 2h (a new disk). \
         `houston host release` ends that once the reason is gone."
    );
    let boxed = Held::PenaltyBox {
        environment: "prod".parse().expect("name"),
        failures: 4,
        left: Duration::from_secs(3600),
    };
    assert!(
        said(&WaitingOn::Held(boxed))
            .starts_with("It takes no change: it failed 4 times in a row in prod and is tried again in 1h. ")
    );
}

#[test]
fn what_was_said_ages() {
    let minute = Duration::from_secs(60);
    let bake = WaitingOn::Bake { wave: Wave::OneBox, remaining: minute };
    assert_eq!(aged(&bake, minute / 2), WaitingOn::Bake { wave: Wave::OneBox, remaining: minute / 2 });
    assert_eq!(aged(&bake, minute * 2), WaitingOn::Bake { wave: Wave::OneBox, remaining: Duration::ZERO });
    assert_eq!(
        aged(&WaitingOn::Silent { for_about: minute, since_start: true }, minute),
        WaitingOn::Silent { for_about: minute * 2, since_start: true }
    );
    let granted = |ago| WaitingOn::Granted { quiet: Some(quiet(Some(ago))), deadline_in: minute };
    let WaitingOn::Granted { quiet, .. } = aged(&granted(minute), minute) else { panic!("another reason") };
    assert_eq!(quiet.and_then(|quiet| quiet.last_heard), Some(minute * 2));
    let held = |left| WaitingOn::Held(held_by_ann(left));
    assert_eq!(aged(&held(Some(minute)), minute / 2), held(Some(minute / 2)));
    assert_eq!(aged(&held(None), minute), held(None));
    assert_eq!(aged(&WaitingOn::UpToDate, minute), WaitingOn::UpToDate);
}

#[test]
fn a_granted_host_that_is_not_heard_of_is_said_to_be_quiet() {
    let left = Duration::from_secs(38);
    let quiet = quiet(Some(Duration::from_secs(54)));
    let granted = WaitingOn::Granted { quiet: Some(quiet.clone()), deadline_in: left };
    assert_eq!(
        said(&granted),
        "It may change now, but was last heard of 54s ago, while stopping: see whether houston-agent runs there. \
         If it has not settled in 38s, it has failed."
    );
    let batch = WaitingOn::Batch { open: named(&["web-1"]), more: 0, quiet: vec![quiet], deadline_in: left };
    assert_eq!(
        said(&batch),
        "web-1 may change now and has not settled yet. web-1 was last heard of 54s ago, while stopping: \
         see whether houston-agent runs there; the last deadline is in 38s."
    );
}

#[test]
fn a_floor_says_of_each_host_what_would_bring_it_back() {
    let unavailable = named(&["b1", "b2", "c1", "c2"]).into_iter().zip([
        Away::NotHeardYet,
        Away::NotHeardYet,
        Away::Drained,
        Away::Lost,
    ]);
    let floor = WaitingOn::Floor { zone: None, available: 5, floor: 6, unavailable: unavailable.collect() };
    assert!(
        said(&floor).ends_with(
            "It goes on when b1, b2 are heard of, as not yet since the coordinator started, \
             or c1 is drained no more, or c2 is heard of again or removed."
        ),
        "{}",
        said(&floor)
    );
}

#[test]
fn whoever_is_behind_is_counted() {
    let catch_up = |more, away| WaitingOn::CatchUp { hosts: named(&["b3"]), more, away };
    assert!(
        said(&catch_up(0, 1)).starts_with("b3 has still to get the baked release, and is not heard of. ")
    );
    assert!(said(&catch_up(2, 1)).contains("release, and 1 of them is not heard of. "));
    let lost = WaitingOn::Silent { for_about: Duration::from_secs(240), since_start: true };
    assert!(said(&lost).starts_with("It has not been heard of since the coordinator started 4m ago. "));
}
