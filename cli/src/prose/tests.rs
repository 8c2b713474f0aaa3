use houston_common::id::RolloutId;

use super::*;

fn said(waiting: &WaitingOn) -> String {
    waiting_on(waiting, &"prod".parse().expect("name"))
}

fn named(ids: &[&str]) -> Vec<HostId> {
    ids.iter().map(|id| id.parse().expect("id")).collect()
}

/// One of each kind.
fn every_kind() -> Vec<WaitingOn> {
    let (minute, rollout) = (Duration::from_secs(60), RolloutId(7));
    let (host, environment) = (named(&["web-1"])[0].clone(), "prod".parse().expect("name"));
    let cause = Cause::RollbackFailed { host: host.clone() };
    vec![
        WaitingOn::Prepare { ready: 1, of: 2 },
        WaitingOn::Batch { open: named(&["web-1"]), more: 0, deadline_in: minute },
        WaitingOn::Floor { zone: None, available: 6, floor: 6, unavailable: Vec::new() },
        WaitingOn::Bake { wave: Wave::OneBox, remaining: minute },
        WaitingOn::Health { hosts: named(&["web-1"]), more: 0 },
        WaitingOn::OtherEnvironment { host, environment },
        WaitingOn::Paused { by: "alice".into() },
        WaitingOn::Halted { cause },
        WaitingOn::Regressed,
        WaitingOn::UpToDate,
        WaitingOn::NothingToRun,
        WaitingOn::Turn { wave: Wave::Zone("b".parse().expect("zone")), current: Wave::OneBox },
        WaitingOn::Queue { position: 1, batch: 2 },
        WaitingOn::Queue { position: 4, batch: 2 },
        WaitingOn::Granted { deadline_in: minute },
        WaitingOn::Silent { for_about: minute },
        WaitingOn::NotHeardYet,
        WaitingOn::Held { reason: "a clone".into() },
        WaitingOn::Detached,
        WaitingOn::Excepted { exception: Exception::Held, rollout },
        WaitingOn::JoinedLater { rollout },
        WaitingOn::WentBack { rollout },
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
        unavailable: named(&["web-2"]),
    };
    assert_eq!(
        said(&floor),
        "3 hosts in zone a are available and the floor is 3: one more in change would break it. \
         It goes on when web-2 is well again, drained no more or removed."
    );
    let batch = WaitingOn::Batch {
        open: named(&["a", "b", "c", "d"]),
        more: 2,
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
    let cause = Cause::FailureBudget { host: named(&["web-3"])[0].clone(), failures: 2, allowed: 1 };
    assert!(said(&WaitingOn::Halted { cause }).starts_with(
        "It is halted, because web-3 failed: 2 failures where 1 is allowed. `houston rollout rollback prod`"
    ));
}

#[test]
fn what_was_said_ages() {
    let minute = Duration::from_secs(60);
    let bake = WaitingOn::Bake { wave: Wave::OneBox, remaining: minute };
    assert_eq!(aged(&bake, minute / 2), WaitingOn::Bake { wave: Wave::OneBox, remaining: minute / 2 });
    assert_eq!(aged(&bake, minute * 2), WaitingOn::Bake { wave: Wave::OneBox, remaining: Duration::ZERO });
    assert_eq!(
        aged(&WaitingOn::Silent { for_about: minute }, minute),
        WaitingOn::Silent { for_about: minute * 2 }
    );
    assert_eq!(aged(&WaitingOn::UpToDate, minute), WaitingOn::UpToDate);
}
