//! Hosts that are cut off: counted, named, and brought up to date when they are back.

use houston_tests::fleet::{Fleet, NO_BAKES, POLICY, Package, QUICK, until};
use nix::sys::signal::Signal;

#[test]
fn a_host_that_is_cut_off_becomes_an_exception_and_catches_up() {
    let fleet = Fleet::start(&[("a", 2), ("b", 2)], QUICK);
    fleet.environment("prod", "Hello", &format!("{POLICY}{NO_BAKES}"));
    let sets = [Package::web("1"), Package::web("2")].map(|web| fleet.push(&web));
    fleet.roll("prod", &sets[0], 0);

    fleet.agent_ref("b2").signal(Signal::SIGSTOP);
    until("it is lost", || (fleet.presence("b2") == "lost").then_some(()));
    assert_eq!(fleet.reasons("prod", Some("b2")), ["silent"]);
    fleet.begin_rollout("prod", &sets[1]);
    assert_eq!(fleet.reasons("prod", Some("b2")), ["silent"]);
    let ended = fleet.end_of_rollout("prod");
    assert_eq!(ended.code, 6, "{ended:?}");
    let status = fleet.status("prod");
    assert_eq!(status["state"], "succeeded");
    let exceptions = status["exceptions"].as_array().expect("a list");
    assert_eq!(exceptions.len(), 1, "{status}");
    assert!(exceptions[0]["host"].as_str().is_some_and(|host| host.starts_with("b2-")), "{status}");
    assert_eq!((exceptions[0]["exception"].as_str(), status["updated"].as_u64()), (Some("silent"), Some(3)));
    assert_eq!(fleet.agent_ref("b2").traced("serve 2"), 0);

    // Back, it is brought up to date without anybody's doing.
    fleet.agent_ref("b2").signal(Signal::SIGCONT);
    until("it has caught up", || (fleet.reasons("prod", Some("b2")) == ["up_to_date"]).then_some(()));
    assert_eq!(fleet.agent_ref("b2").traced("serve 2"), 1);
    assert_eq!(fleet.agent_ref("b2").traced("resume 2 end"), 1);
}

#[test]
fn a_host_that_falls_silent_in_its_turn_fails_at_its_deadline_and_comes_back() {
    let fleet = Fleet::start(&[("a", 2)], QUICK);
    let policy = POLICY.replace("60s", "10s").replace("20s", "5s").replace("25%", "0%");
    fleet.environment("prod", "Hello", &format!("{policy}{NO_BAKES}"));
    let quick = |web: Package| {
        let hooks = web.hooks.iter().cloned();
        let hooks = hooks.map(|hook| houston_tests::fleet::Hook { timeout: "1500ms", ..hook }).collect();
        Package { hooks, ..web }
    };
    let sets = [Package::web("1"), Package::web("2")].map(|web| fleet.push(&quick(web)));
    fleet.roll("prod", &sets[0], 0);

    fleet.agents().for_each(|agent| agent.hold("drain"));
    fleet.begin_rollout("prod", &sets[1]);
    let granted = until("one is granted", || fleet.agents().find(|agent| agent.traced("drain 1 begin") > 0));
    granted.signal(Signal::SIGSTOP);
    fleet.agents().for_each(|agent| agent.let_go("drain"));
    // Silent, it stays counted: nobody else is granted before its deadline, and then it has failed.
    let failed = until("its deadline", || {
        let status = fleet.status("prod");
        (status["failures"] == 1).then_some(status)
    });
    let other = fleet.agents().find(|agent| agent.name() != granted.name()).expect("another");
    assert_eq!(other.traced("drain 1 begin"), 0, "{failed}");
    let failure = &failed["notable"][0]["failure"];
    assert!(
        matches!(failure["code"].as_str(), Some("E-DEADLINE" | "E-LOST")),
        "a failure of silence: {failed}"
    );
    granted.signal(Signal::SIGCONT);
    let ended = fleet.end_of_rollout("prod");
    assert_eq!(ended.code, 1, "{ended:?}");
    until("both serve the old version", || {
        let host = |name: &str| fleet.host(name)["environments"][0]["running"]["version_set"] == "web-1";
        (host("a1") && host("a2")).then_some(())
    });
    until("both run", || fleet.agents().all(|agent| agent.service_pid().is_some()).then_some(()));
    assert_eq!(fleet.reasons("prod", Some(other.name())), ["up_to_date"]);
}
