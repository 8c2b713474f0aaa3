//! kill -9 of an agent in the middle of an activation: what has begun is finished alone.

use houston_tests::fleet::{Agent, Fleet, Hook, NO_BAKES, POLICY, Package, QUICK, until};

/// One host, which is everything that its environment has.
fn one_host(policy: &str) -> Fleet {
    let fleet = Fleet::start(&[("a", 1)], QUICK);
    fleet.environment("prod", "Hello", &format!("{}{policy}{NO_BAKES}", POLICY.replace("25%", "0%")));
    let set = fleet.push(&Package::web("1"));
    fleet.roll("prod", &set, 0);
    fleet.wait_until_cleaned("1");
    fleet
}

fn reaches(agent: &Agent, line: &str) {
    until(line, || (agent.traced(line) > 0).then_some(()));
}

/// What was started once is written once, whatever happened between.
fn only_once(agent: &Agent, lines: &[&str]) {
    for line in lines {
        assert_eq!(agent.traced(line), 1, "\"{line}\": {:#?}", agent.trace());
    }
}

#[test]
fn a_kill_in_the_drain_hook() {
    let mut fleet = one_host("");
    let set = fleet.push(&Package::web("2"));
    fleet.agent_ref("a1").hold("drain");
    fleet.begin_rollout("prod", &set);
    reaches(fleet.agent_ref("a1"), "drain 1 begin");
    let pid = fleet.agent_ref("a1").service_pid().expect("still there");
    fleet.agent("a1").kill();
    // Nothing of the hook outlives the agent; the service does.
    let agent = fleet.agent_ref("a1");
    until("the hook has ended with its agent", || (agent.processes() == [pid]).then_some(()));
    agent.let_go("drain");
    fleet.agent("a1").start();
    assert_eq!(fleet.end_of_rollout("prod").code, 0, "{}", fleet.status("prod"));
    let agent = fleet.agent_ref("a1");
    assert_eq!(agent.traced("drain 1 begin"), 2, "it may run again, and did: {:#?}", agent.trace());
    only_once(agent, &["drain 1 end", "stop 1 begin", "start 2 begin", "serve 2", "resume 2 begin"]);
}

#[test]
fn kills_between_stop_and_start_and_while_it_is_proved() {
    let mut fleet = one_host("");
    let set = fleet.push(&Package::web("2"));
    // The new version's start hook: the old one is stopped, the new one is not started.
    fleet.agent_ref("a1").hold("start");
    fleet.begin_rollout("prod", &set);
    reaches(fleet.agent_ref("a1"), "start 2 begin");
    assert_eq!(fleet.agent_ref("a1").service_pid(), None);
    fleet.agent("a1").kill();
    fleet.agent_ref("a1").let_go("start");
    fleet.agent("a1").start();
    assert_eq!(fleet.end_of_rollout("prod").code, 0, "{}", fleet.status("prod"));
    only_once(fleet.agent_ref("a1"), &["drain 1 begin", "stop 1 begin", "start 2 end", "serve 2"]);

    // The service has just been started: it is proved, or about to be.
    let set = fleet.push(&Package::web("3"));
    fleet.begin_rollout("prod", &set);
    reaches(fleet.agent_ref("a1"), "serve 3");
    let pid = until("the service is recorded", || fleet.agent_ref("a1").service_pid());
    fleet.agent("a1").kill();
    assert_eq!(fleet.agent_ref("a1").service_pid(), Some(pid), "it outlives the agent");
    fleet.agent("a1").start();
    assert_eq!(fleet.end_of_rollout("prod").code, 0, "{}", fleet.status("prod"));
    assert_eq!(fleet.agent_ref("a1").service_pid(), Some(pid), "it is found again, not started again");
    only_once(fleet.agent_ref("a1"), &["serve 3", "start 3 begin", "resume 3 end"]);
}

#[test]
fn a_restart_of_an_agent_at_rest_touches_nothing() {
    let mut fleet = one_host("");
    let (trace, pid) = (fleet.agent_ref("a1").trace(), fleet.agent_ref("a1").service_pid().expect("it runs"));
    fleet.agent("a1").kill();
    assert_eq!(fleet.agent_ref("a1").service_pid(), Some(pid), "it outlives the agent");
    fleet.agent("a1").start();
    fleet.wait_until_heard("a1");
    until("it is well", || {
        let host = fleet.host("a1");
        (host["environments"][0]["health"]["state"] == "healthy" && host["presence"] == "seen").then_some(())
    });
    assert_eq!((fleet.agent_ref("a1").trace(), fleet.agent_ref("a1").service_pid()), (trace, Some(pid)));
}

#[test]
fn a_hook_that_must_not_run_twice_reverts_instead() {
    let mut fleet = one_host("");
    let start = Hook { rerun: false, ..Hook::new("start", "") };
    let set = fleet.push(&Package::web("2").with(start));
    fleet.agent_ref("a1").hold("start");
    fleet.begin_rollout("prod", &set);
    reaches(fleet.agent_ref("a1"), "start 2 begin");
    fleet.agent("a1").kill();
    fleet.agent_ref("a1").let_go("start");
    fleet.agent("a1").start();
    assert_eq!(fleet.end_of_rollout("prod").code, 1, "{}", fleet.status("prod"));
    let status = fleet.status("prod");
    assert_eq!(status["state"], "rolled_back");
    assert_eq!(status["notable"][0]["failure"]["code"], "E-HOOK-INTERRUPTED", "{status}");
    let agent = fleet.agent_ref("a1");
    assert_eq!(
        (agent.traced("start 2 begin"), agent.traced("start 2 end"), agent.traced("serve 2")),
        (1, 0, 0)
    );
    assert_eq!(agent.traced("serve 1"), 2, "the old one runs again: {:#?}", agent.trace());
    assert!(agent.service_pid().is_some());
}

#[test]
fn kills_at_any_moment_end_in_one_release_or_the_other() {
    let mut fleet = one_host("");
    // The moments are those of the trace: after so many lines of each activation.
    for (number, lines) in [1, 3, 4, 6, 7, 8, 10].into_iter().enumerate() {
        let version = (number + 2).to_string();
        let set = fleet.push(&Package::web(&version));
        let before = fleet.agent_ref("a1").trace().len();
        fleet.begin_rollout("prod", &set);
        until("so many lines", || (fleet.agent_ref("a1").trace().len() >= before + lines).then_some(()));
        fleet.agent("a1").kill();
        fleet.agent("a1").start();
        let ended = fleet.end_of_rollout("prod");
        assert_eq!(ended.code, 0, "after {lines} lines: {ended:?}\n{}", fleet.status("prod"));
        fleet.wait_until_cleaned(&version);
        let agent = fleet.agent_ref("a1");
        assert_eq!(agent.traced(&format!("serve {version}")), 1, "after {lines} lines: {:#?}", agent.trace());
    }
}
