//! kill -9 of the coordinator in the middle of a rollout: the same rollout goes on, and no host moves
//! twice.

use std::time::Instant;

use houston_tests::fleet::{Fleet, NO_BAKES, POLICY, Package, QUICK, QUICK_LOST_AFTER, until};
use nix::sys::signal::Signal;

/// Short, but there: a kill may fall into one.
const BAKES: &str = "[policy.bake]\none_box = \"1s\"\nfirst_zone = \"500ms\"\nlater_zones = \"500ms\"\n";

const HOSTS: usize = 4;

/// How many hosts have come to this line.
fn at(fleet: &Fleet, line: &str) -> usize {
    fleet.agents().filter(|agent| agent.traced(line) > 0).count()
}

fn kill_and_start(fleet: &mut Fleet) {
    fleet.kill_coordinator();
    fleet.start_coordinator();
}

#[test]
fn a_killed_coordinator_goes_on_where_it_was_and_activates_nobody_twice() {
    let mut fleet = Fleet::start(&[("a", 2), ("b", 2)], QUICK);
    fleet.environment("prod", "Hello", &format!("{POLICY}{BAKES}"));
    let mut old = "v0".to_owned();
    let set = fleet.push(&Package::web(&old));
    fleet.roll("prod", &set, 0);

    // Each time at other moments: so many hosts have come so far.
    let moments: [&[(usize, &str)]; 5] = [
        &[(0, "")],
        &[(1, "drain OLD begin"), (2, "drain OLD begin")],
        &[(1, "serve NEW"), (2, "serve NEW"), (3, "serve NEW"), (4, "serve NEW")],
        &[(1, "resume NEW end"), (3, "resume NEW end")],
        &[(1, "cleanup NEW end"), (4, "cleanup NEW end")],
    ];
    for (number, kills) in moments.iter().enumerate() {
        let new = format!("v{}", number + 1);
        let set = fleet.push(&Package::web(&new));
        let rollout = fleet.begin_rollout("prod", &set);
        for (hosts, line) in *kills {
            let line = line.replace("OLD", &old).replace("NEW", &new);
            until(&format!("{hosts} hosts at \"{line}\""), || (at(&fleet, &line) >= *hosts).then_some(()));
            kill_and_start(&mut fleet);
        }
        let ended = fleet.end_of_rollout("prod");
        assert_eq!(ended.code, 0, "{new}: {ended:?}");
        let status = fleet.status("prod");
        assert_eq!(status["id"].as_u64(), Some(rollout), "the same rollout");
        assert_eq!((status["updated"].as_u64(), status["failures"].as_u64()), (Some(4), Some(0)));
        fleet.wait_until_cleaned(&new);
        for agent in fleet.agents() {
            let once = [
                format!("drain {old} begin"),
                format!("stop {old} begin"),
                format!("start {new} begin"),
                format!("serve {new}"),
                format!("resume {new} begin"),
                format!("cleanup {new} begin"),
            ];
            assert_eq!(agent.switches(), number + 2, "{} was granted once for each release", agent.name());
            for line in &once {
                assert_eq!(agent.traced(line), 1, "{} has \"{line}\": {:#?}", agent.name(), agent.trace());
            }
        }
        old = new;
    }
    // Nothing that was acknowledged is lost.
    let rollouts = fleet.json(&["rollout", "list", "prod"]);
    let rollouts = rollouts["rollouts"].as_array().expect("rollouts");
    assert_eq!(rollouts.len(), moments.len() + 1);
    assert!(rollouts.iter().all(|rollout| rollout["state"] == "succeeded"), "{rollouts:#?}");
    assert_eq!(at(&fleet, "serve v5"), HOSTS);
}

#[test]
fn hosts_run_on_without_a_coordinator_and_over_their_agents_end() {
    let mut fleet = Fleet::start(&[("a", 1)], QUICK);
    fleet.environment("prod", "Hello", &format!("{}{NO_BAKES}", POLICY.replace("25%", "0%")));
    let set = fleet.push(&Package::web("1"));
    fleet.roll("prod", &set, 0);
    let pid = fleet.agent_ref("a1").service_pid();
    fleet.kill_coordinator();
    fleet.agent("a1").kill();
    // The service is gone too, as after a reboot; nobody is there to ask.
    houston_tests::fleet::signal(pid.expect("it runs"), Signal::SIGKILL);
    until("it has ended", || fleet.agent_ref("a1").service_pid().is_none().then_some(()));
    fleet.agent("a1").start();
    let agent = fleet.agent_ref("a1");
    until("the agent starts it again", || (agent.traced("serve 1") == 2).then_some(()));
    assert_eq!(agent.traced("start 1 begin"), 1, "no hook runs again");
}

#[test]
fn a_coordinator_that_stood_still_takes_nobody_for_lost() {
    let fleet = Fleet::start(&[("a", 2), ("b", 1)], QUICK);
    fleet.environment("prod", "Hello", &format!("{POLICY}{BAKES}"));
    let sets = ["1", "2"].map(|version| fleet.push(&Package::web(version)));
    fleet.roll("prod", &sets[0], 0);
    fleet.begin_rollout("prod", &sets[1]);
    until("the one box has it", || (at(&fleet, "serve 2") > 0).then_some(()));
    fleet.signal_coordinator(Signal::SIGSTOP);
    let stopped = Instant::now();
    until("all would be lost", || (stopped.elapsed() > 2 * QUICK_LOST_AFTER).then_some(()));
    fleet.signal_coordinator(Signal::SIGCONT);
    let ended = fleet.end_of_rollout("prod");
    let status = fleet.status("prod");
    assert_eq!((ended.code, status["failures"].as_u64()), (0, Some(0)), "{ended:?}\n{status}");
    assert_eq!(status["updated"].as_u64(), Some(3), "{status}");
}
