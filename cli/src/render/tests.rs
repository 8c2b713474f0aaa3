use std::time::Duration;

use houston_common::clock::WallTime;
use houston_common::command::{AppliedEnvironment, Difference, RolloutSummary};
use houston_common::error::Exit;
use houston_common::id::is_plain;
use houston_common::report::Phase;
use houston_common::rollout::{Cause, Exception, HostState, RolloutState, WaitingOn, Wave};
use houston_common::view::{HostEnvironmentView, WaveStatus};

use super::rollout::{Frame, changes, controlled, ending, picture};
use super::sample::{HOUR, STARTED, failed, failure, host, host_view, rolling, zone};
use super::*;

const PLAIN: Paint = Paint(false);

fn frame(size: Option<(usize, usize)>) -> Frame {
    Frame { size, age: Duration::ZERO, now: WallTime(STARTED.0 + 723_000), paint: PLAIN }
}

#[test]
fn a_rollout_as_a_picture() {
    let expected = "\
prod  ● rolling out  web-41 → web-42  rollout 17  12m 3s
  started by alice: release 42

  ✓ one box ─ ✓ bake 1h ─ ● zone a ─ ○ bake 12h ─ ○ zone b ─ ○ bake 2h

  1 of 6 updated   5 available, floor 4
  a  ████░░░░░░░░  1 of 3 updated, 1 changing, 2 of 3 available
    └ web-2-aaaaa  activating (starting)
  b  ░░░░░░░░░░░░  0 of 3 updated

  web-2-aaaaa may change now and has not settled yet. The last deadline is in 9m; who misses it has
  failed.";
    assert_eq!(picture(&rolling(), frame(None)).join("\n"), expected);
}

#[test]
fn what_is_not_well_is_named() {
    let expected = "\
prod  ↺ rolling back  web-41 → web-42  rollout 17  12m 3s
  started by alice: release 42
  because web-2-aaaaa failed: 1 failure where 0 are allowed

  ✓ one box ─ ✓ bake 1h ─ ✗ zone a ─ ○ bake 12h ─ ○ zone b ─ ○ bake 2h

  1 of 6 updated   5 available, floor 4   1 failure
  a  ████░░░░░░░░  1 of 3 updated
    └ web-2-aaaaa  reverted  E-HOOK-EXIT web: start ended with status 1
  b  ░░░░░░░░░░░░  0 of 3 updated";
    assert_eq!(picture(&failed(), frame(None)).join("\n"), expected);
}

#[test]
fn a_bake_is_the_current_step() {
    let mut view = rolling();
    view.state = RolloutState::Baking;
    view.waiting =
        vec![WaitingOn::Bake { wave: Wave::Zones(vec!["a".parse().expect("zone")]), remaining: HOUR }];
    let text = picture(&view, Frame { age: HOUR / 2, ..frame(None) }).join("\n");
    assert!(text.contains("✓ zone a ─ ● bake 12h ─ ○ zone b"), "{text}");
    assert!(text.contains("Zone a must stand for another 30m"), "{text}");
}

#[test]
fn a_picture_fits_its_frame_and_keeps_what_is_not_well() {
    let mut view = failed();
    view.zones = (0..40).map(|i| zone(&format!("z{i:02}"), 3, 3, 0)).collect();
    view.notable[0].zone = "z39".parse().expect("zone");
    for rows in [14, 20, 30] {
        let lines = picture(&view, frame(Some((60, rows))));
        assert!(lines.len() < rows, "{} lines in {rows} rows", lines.len());
        assert!(lines.iter().all(|line| width(line) <= 60));
        let text = lines.join("\n");
        assert!(text.contains("web-2-aaaaa  reverted"), "{text}");
        assert!(text.contains("more lines, all of them well"), "{text}");
    }
    view.notable = (0..50).map(|i| host(&format!("h-{i}-aaaaa"), "z00", HostState::Reverted)).collect();
    let text = picture(&view, frame(Some((60, 20)))).join("\n");
    assert!(text.contains("more not well: houston rollout status 17"), "{text}");
}

#[test]
fn nothing_from_a_host_reaches_the_terminal_raw() {
    let mut view = failed();
    if let Some(failure) = &mut view.notable[0].failure {
        failure.message = "\u{1b}[2J\u{202e}gone\nnext".into();
    }
    view.reason = "\u{7}bell".into();
    let mut texts = picture(&view, frame(None));
    texts.extend(changes(None, &view).into_iter().map(|change| change.text));
    for text in texts {
        assert!(text.chars().all(|c| c == '\n' || is_plain(c)), "{text:?}");
    }
}

/// The texts of what changed; the rollout's own states are marked.
fn told(
    before: Option<&houston_common::view::RolloutView>,
    now: &houston_common::view::RolloutView,
) -> Vec<String> {
    changes(before, now)
        .into_iter()
        .map(|change| if change.of_state { format!("! {}", change.text) } else { change.text })
        .collect()
}

#[test]
fn what_is_the_case_is_told_first_and_then_what_changed() {
    assert_eq!(
        told(None, &rolling()),
        [
            "one box is done",
            "zone a begins: 2 hosts",
            "! rollout 17 of prod (web-41 → web-42) is rolling out",
            "web-2-aaaaa may change now and has not settled yet. The last deadline is in 9m; who misses it has failed.",
        ]
    );
    assert_eq!(told(Some(&rolling()), &rolling()), [""; 0]);
    assert_eq!(
        told(Some(&rolling()), &failed()),
        [
            "web-2-aaaaa in zone a failed: E-HOOK-EXIT while starting of web: start ended with status 1\n    │ loading\n    │ \\u{1b}[31mcannot bind\\u{1b}[0m",
            "zone a went wrong",
            "! rollout 17 of prod (web-41 → web-42) is rolling back, because web-2-aaaaa failed: 1 failure where 0 are allowed",
        ]
    );
}

#[test]
fn progress_is_a_line_each() {
    let before = rolling();
    let mut now = rolling();
    now.waves[1].status = WaveStatus::Done;
    now.waves[2].status = WaveStatus::Current;
    now.updated = 3;
    now.notable = vec![houston_common::view::HostInRollout {
        lost: true,
        ..host("web-9-ccccc", "b", HostState::Settled)
    }];
    now.exceptions = vec![("web-8-bbbbb".parse().expect("id"), Exception::Silent)];
    // The numbers of a wait that was told already are not told again.
    now.waiting = vec![WaitingOn::Batch { open: Vec::new(), more: 9, quiet: Vec::new(), deadline_in: HOUR }];
    assert_eq!(
        told(Some(&before), &now),
        [
            "web-9-ccccc in zone b is settled, lost",
            "web-8-bbbbb is left out: it was silent until its wave had ended",
            "zone a is done",
            "zone b begins: 3 hosts",
            "3 of 6 updated",
        ]
    );
}

#[test]
fn the_end_has_an_exit_code() {
    let mut view = rolling();
    view.updated = 6;
    view.state = RolloutState::Succeeded;
    assert_eq!(ending(&view), Ok(("rollout 17 of prod succeeded: 6 hosts on web-42\n".into(), Exit::Done)));
    view.exceptions = vec![("web-8-bbbbb".parse().expect("id"), Exception::DownBefore)];
    let (text, exit) = ending(&view).expect("partial");
    assert_eq!(exit, Exit::Partial);
    assert_eq!(
        text,
        "rollout 17 of prod succeeded on web-42, but not everywhere: 1 host left out\n  web-8-bbbbb: it was down before the change and still is\n"
    );
    // Not everybody needs to be named.
    let caught_up = houston_common::view::RolloutView { exceptions: Vec::new(), updated: 5, ..view.clone() };
    let (text, exit) = ending(&caught_up).expect("partial");
    assert_eq!(exit, Exit::Partial);
    assert_eq!(text, "rollout 17 of prod succeeded on web-42, but not everywhere: 1 host left out\n");
    for state in [RolloutState::Aborted, RolloutState::Superseded] {
        view.state = state;
        assert_eq!(ending(&view).expect("an end").1, Exit::Failed);
    }
    let mut view = failed();
    view.state = RolloutState::RolledBack;
    assert_eq!(
        ending(&view).expect_err("taken back").to_string(),
        "E-ROLLED-BACK: rollout 17 of prod was taken back to web-41: web-2-aaaaa failed: 1 failure where 0 are allowed; see houston rollout status 17"
    );
    view.state = RolloutState::Halted;
    let refusal = ending(&view).expect_err("halted");
    assert_eq!((refusal.code.as_str(), refusal.code.exit()), ("E-HALTED", Exit::Failed));
}

#[test]
fn hosts_as_a_table_and_one_in_full() {
    assert_eq!(
        fleet::hosts(&[host_view()], None, PLAIN),
        "HOST         ZONE  STATE  SEEN    RUNS         LABELS\n\
         web-2-aaaaa  a     seen   4s ago  prod:web-41  role=web\n"
    );
    let runs = |phase, detached| {
        let mut host = host_view();
        host.environments[0] =
            HostEnvironmentView { phase, detached, failure: Some(failure()), ..host.environments[0].clone() };
        let table = fleet::hosts(&[host], None, PLAIN);
        table.split("ago").last().and_then(|row| row.split_whitespace().next()).map(str::to_owned)
    };
    for (phase, detached, expected) in [
        (Phase::Starting, false, "prod:web-41(starting)"),
        (Phase::Reverting, true, "prod:web-41(reverting)"),
        (Phase::Failed, false, "prod:web-41(failed)"),
        // What it came back to is well.
        (Phase::Reverted, false, "prod:web-41"),
        (Phase::Idle, false, "prod:web-41"),
        (Phase::Settled, true, "prod:web-41(detached)"),
    ] {
        assert_eq!(runs(phase, detached).as_deref(), Some(expected), "{phase:?}");
    }
    let text = fleet::host(&host_view(), PLAIN);
    assert!(
        text.contains("machine      4 CPUs, 8.0 GiB memory, 55.0 GiB of 100.0 GiB disk free\n"),
        "{text}"
    );
    assert!(text.contains("prod  settled, in service\n"), "{text}");
    assert!(text.contains("waiting  It runs what it should in prod.\n"), "{text}");
}

#[test]
fn what_apply_changes_is_shown() {
    let mut applied = AppliedEnvironment {
        created: false,
        differences: vec![Difference {
            field: "policy.batch".into(),
            before: Some("33%".into()),
            after: Some("2".into()),
        }],
        hosts: 6,
        joining: 1,
        leaving: 0,
    };
    let difference = |before: Option<&str>, after: Option<&str>| Difference {
        field: "settings.A".into(),
        before: before.map(str::to_owned),
        after: after.map(str::to_owned),
    };
    applied.differences.push(difference(None, Some("a\nb")));
    applied.differences.push(difference(Some("\u{1b}"), None));
    assert_eq!(
        release::applied("prod", &applied, true, PLAIN),
        "prod would change\n  policy.batch  33% → 2\n  settings.A  + a\\nb\n  settings.A  - \\u{1b}\n  6 hosts selected, 1 of them new\n"
    );
    let json = json::applied("prod", &applied, true);
    assert_eq!(json["differences"][0]["after"], "2");
    assert_eq!(json["dry_run"], true);
}

#[test]
fn json_keys_are_stable() {
    let value = json::rollout(&rolling());
    let keys: Vec<_> = value.as_object().expect("object").keys().cloned().collect();
    let expected = [
        "available",
        "cause",
        "ended_at_ms",
        "environment",
        "exceptions",
        "failures",
        "first_cause",
        "floor",
        "from",
        "hosts",
        "id",
        "notable",
        "reason",
        "revision",
        "started_at_ms",
        "started_by",
        "state",
        "to",
        "updated",
        "waiting_on",
        "waves",
        "zones",
    ];
    assert_eq!(keys, expected);
    assert_eq!(
        value["waiting_on"][0].to_string(),
        r#"{"deadline_in_ms":540000,"more":0,"open":["web-2-aaaaa"],"quiet":[],"reason":"batch"}"#
    );
    assert_eq!(value["notable"][0]["state"], "activating");
    assert_eq!(value["notable"][0]["phase"], "starting");
    assert_eq!(value["waves"][1]["wave"].to_string(), r#"{"kind":"zones","zones":["a"]}"#);
    assert_eq!(json::rollout(&failed())["cause"]["kind"], "failure_budget");
    assert_eq!(json::rollout(&failed())["notable"][0]["failure"]["code"], "E-HOOK-EXIT");
}

#[test]
fn sizes_for_people() {
    let cases = [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (3_565_159, "3.4 MiB"),
        (u64::MAX, "16777215.9 TiB"),
    ];
    for (count, text) in cases {
        assert_eq!(bytes(count), text);
    }
    assert_eq!(
        release::progress((1, 3), (512, 1024), Duration::from_secs(2)),
        " 50 %  512 B of 1.0 KiB, 1 of 3 files, 2s"
    );
}

#[test]
fn a_rollout_that_is_over_shows_what_it_came_to_and_not_today() {
    let mut view = failed();
    view.state = RolloutState::Aborted;
    view.ended_at = Some(WallTime(STARTED.0 + 60_000));
    view.waves[1].status = WaveStatus::Stopped;
    view.zones[1].available = 1;
    view.first_cause = view.cause.clone();
    view.cause = Some(Cause::Operator { name: "alice".into(), reason: "enough".into() });
    let text = picture(&view, frame(None)).join("\n");
    assert!(
        text.contains(
            "because web-2-aaaaa failed: 1 failure where 0 are allowed; then alice said so (enough)"
        )
    );
    assert!(text.contains("✓ one box ─ ✓ bake 1h ─ ■ zone a ─ ○ bake 12h ─ ○ zone b"), "{text}");
    assert!(text.contains("1 of 6 updated   5 available now"), "{text}");
    assert!(text.ends_with("b  ░░░░░░░░░░░░  0 of 3 updated"), "{text}");
}

#[test]
fn steering_names_who_is_left_out_and_what_stays() {
    let mut view = failed();
    view.state = RolloutState::RolledBack;
    view.exceptions = vec![("web-1".parse().expect("id"), Exception::LostAfterSettling)];
    let (text, exit) = controlled(&view);
    assert_eq!(exit, Exit::Partial);
    assert_eq!(
        text,
        "rollout 17 of prod (web-41 → web-42) has been taken back, but not everywhere: 1 host left out\n  web-1: it was lost after it had settled\n"
    );
    view.exceptions.clear();
    assert_eq!(controlled(&view).1, Exit::Done);
    view.state = RolloutState::Aborted;
    assert_eq!(
        controlled(&view).0,
        "rollout 17 of prod (web-41 → web-42) was aborted\n1 host stays on web-42; `houston rollout start prod web-41 --force` brings it back\n"
    );
    // What was taking an earlier one back has brought one of six home.
    view.waves.clear();
    assert!(
        controlled(&view).0.contains("5 hosts stay on web-41; `houston rollout start prod web-42 --force`")
    );
}

#[test]
fn a_state_is_not_said_twice() {
    let mut failed = failure();
    failed.phase = Phase::Failed;
    assert_eq!(super::failure(&failed), "E-HOOK-EXIT of web: start ended with status 1");
    for (state, said) in [
        (HostState::Failed(Phase::Failed), "└ h-1  failed\n"),
        (HostState::Failed(Phase::Stopping), "└ h-1  failed (stopping)\n"),
        (HostState::Activating(Phase::Ready), "└ h-1  activating\n"),
    ] {
        let mut view = rolling();
        view.notable = vec![host("h-1", "a", state)];
        let text = picture(&view, frame(None)).join("\n");
        assert!(text.contains(said), "{text}");
    }
}

#[test]
fn equal_lines_of_a_log_are_one() {
    let mut failed = failure();
    failed.log_tail = format!("start\n{}end\n", "cannot bind\n".repeat(12));
    assert_eq!(
        log_tail(&failed, 2, PLAIN),
        "    (1 lines before)\n    │ cannot bind (12 times)\n    │ end\n"
    );
}

#[test]
fn a_list_counts_who_a_success_has_left_out() {
    let summary = |state, exceptions| RolloutSummary {
        id: rolling().id,
        environment: rolling().environment,
        state,
        cause: None,
        from: rolling().from,
        to: rolling().to,
        started_by: rolling().started_by,
        reason: String::new(),
        started_at: STARTED,
        ended_at: None,
        hosts: 6,
        updated: 5,
        failures: 0,
        exceptions,
    };
    let list = |summary| rollout::list(&[summary], STARTED, PLAIN);
    assert!(list(summary(RolloutState::Succeeded, 1)).contains("✓ succeeded (1 left out)"));
    assert!(!list(summary(RolloutState::Succeeded, 0)).contains("left out"));
}
