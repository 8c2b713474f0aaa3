//! Whatever waits says why, and what would change it.

use std::collections::BTreeMap;
use std::time::Instant;

use houston_tests::fleet::{Agent, Fleet, Hook, NO_BAKES, PATIENCE, POLICY, Package, QUICK, until};
use nix::sys::signal::Signal;

const LONG_BAKE: &str = "[policy.bake]\none_box = \"1h\"\nfirst_zone = \"0s\"\nlater_zones = \"0s\"\n";

/// Until a host, or the environment as a whole, is given this reason.
#[track_caller]
fn until_reason(fleet: &Fleet, host: Option<&str>, reason: &str) {
    let mut given = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        given = fleet.reasons("prod", host);
        if given.iter().any(|given| given == reason) {
            return;
        }
    }
    panic!("{host:?} waits for {reason}, it is told: {given:?}; {}", fleet.status("prod"));
}

#[test]
fn every_host_that_waits_has_a_reason() {
    let fleet = Fleet::start(&[("a", 3), ("b", 1)], QUICK);
    let policy = POLICY.replace("batch = \"2\"", "batch = \"1\"").replace("60s", "120s");
    fleet.environment("prod", "Hello", &format!("{policy}{NO_BAKES}"));
    assert_eq!(fleet.reasons("prod", Some("a1")), ["nothing_to_run"]);
    // Long enough to be looked at while it lasts.
    let drain = Hook { timeout: "60s", ..Hook::new("drain", "") };
    let sets = ["1", "2", "3"].map(|version| fleet.push(&Package::web(version).with(drain.clone())));
    fleet.roll("prod", &sets[0], 0);
    assert_eq!(fleet.reasons("prod", Some("b1")), ["up_to_date"]);

    // A bake: the others' turn has not come.
    fleet.environment("prod", "Hello", &format!("{policy}{LONG_BAKE}"));
    fleet.begin_rollout("prod", &sets[1]);
    until_reason(&fleet, None, "bake");
    let updated = fleet.agents().find(|agent| agent.traced("serve 2") > 0).expect("the one box").name();
    for name in fleet.names() {
        let reason = if name == updated { "up_to_date" } else { "turn" };
        assert_eq!(fleet.reasons("prod", Some(&name)), [reason], "{name}");
    }
    // A pause.
    fleet.ok(&["rollout", "pause", "prod", "--reason", "lunch"]);
    assert!(fleet.reasons("prod", None).contains(&"paused".to_owned()));
    assert_eq!(fleet.reasons("prod", Some("b1")), ["paused"]);
    assert_eq!(fleet.status("prod")["state"], "paused");
    fleet.ok(&["rollout", "resume", "prod"]);
    until_reason(&fleet, None, "bake");
    fleet.ok(&["rollout", "abort", "prod"]);
    assert_eq!(fleet.end_of_rollout("prod").code, 1);

    // A batch: one has its turn, the other is next. The one box comes before both.
    fleet.environment("prod", "Hello", &format!("{policy}{NO_BAKES}"));
    let mut held: Vec<_> = fleet.agents().filter(|agent| agent.name() != "b1").collect();
    held.iter().for_each(|agent| agent.hold("drain"));
    let drained: BTreeMap<&str, usize> =
        held.iter().map(|agent| (agent.name(), agent.traced("drain"))).collect();
    let begins = |agent: &&Agent| agent.traced("drain") > drained[agent.name()];
    fleet.begin_rollout("prod", &sets[2]);
    let one_box = until("the one box is in its turn", || held.iter().position(begins));
    held.remove(one_box).let_go("drain");
    let granted = until("one of the batch is in its turn", || held.iter().find(|agent| begins(agent)));
    until_reason(&fleet, Some(granted.name()), "granted");
    let next = held.iter().find(|agent| agent.name() != granted.name()).expect("the other");
    until_reason(&fleet, Some(next.name()), "queue");
    assert_eq!(fleet.reasons("prod", Some("b1")), ["turn"]);
    until_reason(&fleet, None, "batch");
    // Silence explains itself whatever else the host would wait for.
    fleet.agent_ref("b1").signal(Signal::SIGSTOP);
    until_reason(&fleet, Some("b1"), "silent");
    fleet.agent_ref("b1").signal(Signal::SIGCONT);
    until_reason(&fleet, Some("b1"), "turn");
    held.iter().for_each(|agent| agent.let_go("drain"));
    let ended = fleet.end_of_rollout("prod");
    assert_eq!(ended.code, 0, "{ended:?}\n{}", fleet.status("prod"));
    // Prose for people comes from the same reasons.
    let said = fleet.ok(&["explain", "prod", "b1"]).stdout;
    assert!(!said.trim().is_empty());
}
