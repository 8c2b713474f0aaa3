//! Hosts that take no change for a time: held, or left out by name.

use houston_tests::fleet::{Fleet, NO_BAKES, POLICY, Package, QUICK, until};
use serde_json::Value;

fn exceptions(status: &Value) -> Vec<(String, String)> {
    let all = status["exceptions"].as_array().expect("a list").iter();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    // Of a host's id, what comes before its random end.
    let name = |value: &Value| text(value).split('-').next().expect("a name").to_owned();
    let mut named: Vec<_> = all.map(|one| (name(&one["host"]), text(&one["exception"]))).collect();
    named.sort();
    named
}

#[test]
fn who_is_held_or_left_out_takes_no_change_until_it_is_released() {
    let fleet = Fleet::start(&[("a", 2), ("b", 2)], QUICK);
    fleet.environment("prod", "Hello", &format!("{POLICY}{NO_BAKES}"));
    let sets = ["1", "2"].map(|version| fleet.push(&Package::web(version)));
    fleet.roll("prod", &sets[0], 0);
    let why = "we look at its disk";
    fleet.ok(&["host", "hold", "a1", "--reason", why, "--for", "1h"]);
    let held = fleet.host("a1")["held"].clone();
    assert_eq!(
        (&held["kind"], &held["by"], &held["reason"]),
        (&"operator".into(), &"ada".into(), &why.into())
    );
    assert!(held["left_ms"].as_u64().is_some_and(|left| left > 3_000_000 && left <= 3_600_000), "{held}");
    let listed = fleet.json(&["host", "list", "--held"]);
    assert_eq!(listed["hosts"].as_array().map(Vec::len), Some(1), "{listed}");
    let text = fleet.ok(&["host", "list", "--held"]).stdout;
    assert!(text.contains("a1") && text.contains("ada") && text.contains(why), "{text}");

    let plan = fleet.json(&["rollout", "plan", "prod", &sets[1], "--exclude", "b1"]);
    assert_eq!(plan["excluded"].as_array().map(Vec::len), Some(1), "{plan}");
    let hash = plan["plan_hash"].as_str().expect("a hash");
    fleet.houston(&["rollout", "start", "prod", &sets[1], "--plan", hash]).refused(4, "E-PLAN-CHANGED");
    fleet.ok(&["rollout", "start", "prod", &sets[1], "--exclude", "b1", "--plan", hash]);
    let ended = fleet.end_of_rollout("prod");
    assert_eq!(ended.code, 6, "{ended:?}\n{}", fleet.status("prod"));
    let named = [("a1", "held"), ("b1", "excluded")].map(|(host, why)| (host.to_owned(), why.to_owned()));
    assert_eq!(exceptions(&fleet.status("prod")), named);
    assert_eq!(fleet.reasons("prod", Some("a1")), ["held"]);
    assert_eq!(fleet.reasons("prod", Some("b1")), ["excepted"]);
    let mut all = fleet.reasons("prod", None);
    all.sort();
    assert_eq!(all, ["held_hosts", "off_baked"]);
    assert!(["a1", "b1"].iter().all(|name| fleet.agent_ref(name).traced("serve 2") == 0));
    for name in ["a1", "b1"] {
        fleet.ok(&["host", "release", name]);
        until(&format!("{name} has caught up"), || {
            (fleet.reasons("prod", Some(name)) == ["up_to_date"]).then_some(())
        });
        assert_eq!(fleet.agent_ref(name).traced("serve 2"), 1, "{name}");
    }
}

#[test]
fn a_hold_ends_by_itself_over_a_restart_too() {
    let mut fleet = Fleet::start(&[("a", 1)], QUICK);
    fleet.environment("prod", "Hello", &format!("{POLICY}{NO_BAKES}"));
    let set = fleet.push(&Package::web("1"));
    fleet.ok(&["host", "hold", "a1", "--reason", "a moment", "--for", "5s"]);
    fleet.kill_coordinator();
    fleet.start_coordinator();
    until("the hold is over", || fleet.host("a1")["held"].is_null().then_some(()));
    fleet.roll("prod", &set, 0);
    assert_eq!(fleet.agent_ref("a1").traced("serve 1"), 1);
}
