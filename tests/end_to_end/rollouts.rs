//! What a fleet is for: a good release everywhere, a bad one taken back, settings, two environments on
//! the same hosts, and an end.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use houston_tests::fleet::{Fleet, NO_BAKES, POLICY, Package, QUICK, signal, until};
use nix::sys::signal::Signal;

fn page(fleet: &Fleet, host: &str, port: u16) -> Option<String> {
    let mut stream = TcpStream::connect((fleet.agent_ref(host).address(), port)).ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.lines().last().map(str::to_owned)
}

fn serves(fleet: &Fleet, port: u16, wanted: &str) {
    for host in fleet.names() {
        until(&format!("{host} serves \"{wanted}\""), || {
            page(fleet, &host, port).filter(|page| page == wanted)
        });
    }
}

/// How often each line is in the traces of the fleet.
fn traced(fleet: &Fleet, line: &str) -> usize {
    fleet.agents().map(|agent| agent.traced(line)).sum()
}

#[test]
fn a_fleet_from_its_first_release_to_its_end() {
    let fleet = Fleet::start(&[("a", 2), ("b", 2)], QUICK);
    let sets = [Package::web("1"), Package::web("2"), Package::broken("3")].map(|web| fleet.push(&web));
    let [first, second, bad] = &sets;
    let policy = format!("{POLICY}{NO_BAKES}");
    fleet.environment("prod", "Hello", &policy);

    fleet.roll("prod", first, 0);
    serves(&fleet, fleet.port, "Hello from version 1");
    fleet.roll("prod", second, 0);
    serves(&fleet, fleet.port, "Hello from version 2");
    for line in ["serve 1", "serve 2", "drain 1 end", "stop 1 end", "start 2 end", "resume 2 end"] {
        assert_eq!(traced(&fleet, line), 4, "{line}");
    }
    for agent in fleet.agents() {
        assert_eq!(agent.switches(), 2, "{} was granted once for each release", agent.name());
    }

    // The bad one meets the one box alone, and goes back from it alone.
    fleet.wait_until_cleaned("2");
    let before: Vec<_> = fleet.agents().map(|agent| (agent.trace(), agent.service_pid())).collect();
    fleet.roll("prod", bad, 1);
    assert_eq!(traced(&fleet, "serve 3"), 1);
    let status = fleet.status("prod");
    assert_eq!((status["state"].as_str(), status["failures"].as_u64()), (Some("rolled_back"), Some(1)));
    assert_eq!(status["cause"]["kind"], "failure_budget");
    let failure = &status["notable"][0]["failure"];
    assert_eq!(failure["code"], "E-UNHEALTHY", "{status}");
    assert!(failure["log_tail"].as_str().is_some_and(|log| log.contains("price_v3")), "{status}");
    let untouched = fleet.agents().zip(&before);
    let untouched =
        untouched.filter(|(agent, (trace, pid))| agent.trace() == *trace && agent.service_pid() == *pid);
    assert_eq!(untouched.count(), 3, "who never started it has nothing to go back from");
    serves(&fleet, fleet.port, "Hello from version 2");
    fleet.houston(&["rollout", "start", "prod", bad]).refused(3, "E-BAD-VERSION");

    // Settings are rolled out like anything else.
    fleet.environment("prod", "Good day", &policy);
    serves(&fleet, fleet.port, "Hello from version 2");
    fleet.roll("prod", second, 0);
    serves(&fleet, fleet.port, "Good day from version 2");

    // A second environment on the same hosts has its own version, port and data.
    let mail = fleet.push(&Package { name: "mail", port_offset: 1, ..Package::web("7") });
    fleet.environment("post", "Hello", &policy);
    fleet.roll("post", &mail, 0);
    serves(&fleet, fleet.port + 1, "Hello from version 7");
    serves(&fleet, fleet.port, "Good day from version 2");

    // The empty version set uninstalls: when it is meant.
    fleet.houston(&["rollout", "start", "prod", "empty"]).refused(3, "E-UNINSTALL");
    let plan = fleet.json(&["rollout", "plan", "prod", "empty"]);
    let hash = plan["plan_hash"].as_str().expect("a hash");
    fleet
        .houston(&["rollout", "start", "prod", "empty", "--plan", &"0".repeat(64)])
        .refused(4, "E-PLAN-CHANGED");
    fleet.ok(&["rollout", "start", "prod", "empty", "--plan", hash]);
    assert_eq!(fleet.end_of_rollout("prod").code, 0);
    for agent in fleet.agents() {
        until("nothing of prod runs", || agent.service_pid().is_none().then_some(()));
        assert!(!agent.environment_dir("prod").join("current").exists(), "{}", agent.name());
    }
    serves(&fleet, fleet.port + 1, "Hello from version 7");
}

#[test]
fn what_was_flown_is_what_happens() {
    let fleet = Fleet::start(&[("a", 2), ("b", 2)], QUICK);
    let [first, second] = ["1", "2"].map(|version| fleet.push(&Package::web(version)));
    let policy = POLICY.replace("batch = \"2\"", "batch = \"1\"");
    fleet.environment("prod", "Hello", &format!("{policy}{NO_BAKES}"));
    fleet.roll("prod", &first, 0);
    let ran = fleet.houston(&["rollout", "plan", "prod", &first, "--output", "json"]);
    assert_eq!((ran.code, ran.json()["plan_hash"].is_null()), (7, true), "nothing to do: {ran:?}");

    let plan = fleet.json(&["rollout", "plan", "prod", &second]);
    assert_eq!((plan["hosts"].as_u64(), plan["state"].as_str()), (Some(4), Some("succeeded")), "{plan}");
    assert_eq!(plan["activation"]["taken_from"], 4, "as the first release took: {plan}");
    // Within a wave without a bake before it, hosts go as they get ready: who that is, no flight can know.
    let names = |wave: &serde_json::Value| -> BTreeSet<String> {
        let batches = wave["first"].as_array().into_iter().flatten();
        let hosts = batches.flat_map(|batch| batch["first"].as_array().into_iter().flatten());
        hosts.map(|host| host.as_str().expect("a host").to_owned()).collect()
    };
    let flown: Vec<BTreeSet<String>> = plan["waves"].as_array().expect("waves").iter().map(names).collect();
    assert_eq!(flown.iter().map(BTreeSet::len).collect::<Vec<_>>(), [1, 1, 2], "{plan}");
    let first_fault = &plan["what_ifs"][0];
    assert_eq!(
        (first_fault["fault"]["kind"].as_str(), &first_fault["hosts_met"]),
        (Some("at_once"), &1.into())
    );

    // One at a time, so that the order of the switches is the order of the grants.
    fleet.ok(&["rollout", "start", "prod", &second, "--plan", plan["plan_hash"].as_str().expect("a hash")]);
    assert_eq!(fleet.end_of_rollout("prod").code, 0);
    let switched = |agent: &houston_tests::fleet::Agent| {
        let current = agent.environment_dir("prod").join("current");
        current.symlink_metadata().and_then(|link| link.modified()).expect("it runs something")
    };
    let mut happened: Vec<_> = fleet.agents().map(|agent| (switched(agent), agent.name())).collect();
    happened.sort();
    let mut ids = happened.iter().map(|(_, name)| fleet.host(name)["id"].as_str().expect("an id").to_owned());
    for wave in flown {
        assert_eq!(ids.by_ref().take(wave.len()).collect::<BTreeSet<_>>(), wave);
    }

    // A promise is kept to what it rested on, and what is another way is said.
    let third = fleet.push(&Package::web("3"));
    let plan = fleet.json(&["rollout", "plan", "prod", &third]);
    fleet.environment("prod", "Hello", &format!("{POLICY}{NO_BAKES}"));
    let ran = fleet.houston(&[
        "rollout",
        "start",
        "prod",
        &third,
        "--plan",
        plan["plan_hash"].as_str().expect("a hash"),
    ]);
    let told = ran.refused(4, "E-PLAN-CHANGED");
    assert!(told.contains("policy.batch is 2, was 1"), "{told}");
}

#[test]
fn a_release_that_turns_bad_while_it_bakes_is_taken_back() {
    let fleet = Fleet::start(&[("a", 2)], QUICK);
    let first = fleet.push(&Package::web("1"));
    // Once there is a certain file it does not start again, as a service that has lost its database.
    let lost = "test ! -e \"$HOUSTON_DATA/lost\" || { echo no database >&2; exit 1; }";
    let second = fleet.push(&Package { before_serving: lost, ..Package::web("2") });
    fleet.environment("prod", "Hello", &format!("{POLICY}{NO_BAKES}"));
    fleet.roll("prod", &first, 0);
    fleet.environment("prod", "Hello", &format!("{POLICY}[policy.bake]\none_box = \"1h\"\n"));
    fleet.begin_rollout("prod", &second);
    until("it bakes", || (fleet.status("prod")["state"] == "baking").then_some(()));
    let one_box = fleet.agents().find(|agent| agent.traced("serve 2") == 1).expect("the one box");
    std::fs::write(one_box.data("prod", "web").join("lost"), "").expect("written");
    signal(one_box.service_pid().expect("it runs"), Signal::SIGKILL);
    let ended = fleet.end_of_rollout("prod");
    assert_eq!(ended.code, 1, "{ended:?}");
    let status = fleet.status("prod");
    assert_eq!((status["state"].as_str(), status["failures"].as_u64()), (Some("rolled_back"), Some(1)));
    serves(&fleet, fleet.port, "Hello from version 1");
    let other = fleet.agents().find(|agent| agent.name() != one_box.name()).expect("another");
    assert_eq!((other.traced("serve 1"), other.traced("serve 2")), (1, 0), "it was never touched");
}
