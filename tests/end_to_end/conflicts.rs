//! Operators who get in each other's way, and the exit codes that say so.

use std::io::{BufRead as _, BufReader, Read as _};

use houston_tests::fleet::{Fleet, NO_BAKES, POLICY, Package, QUICK, until};

const LONG_BAKES: &str = "[policy.bake]\none_box = \"1h\"\nfirst_zone = \"1h\"\nlater_zones = \"1h\"\n";

#[test]
fn a_second_rollout_is_a_conflict_unless_it_supersedes_and_of_racers_one_wins() {
    const RACERS: usize = 8;
    let fleet = Fleet::start(&[("a", 2)], QUICK);
    fleet.environment("prod", "Hello", &format!("{POLICY}{NO_BAKES}"));
    let sets = ["1", "2", "3"].map(|version| fleet.push(&Package::web(version)));
    fleet.roll("prod", &sets[0], 0);
    fleet.environment("prod", "Hello", &format!("{POLICY}{LONG_BAKES}"));
    let racers: Vec<_> = (0..RACERS)
        .map(|number| fleet.begin(&["rollout", "start", "prod", &sets[1 + number % 2], "--output", "json"]))
        .collect();
    let ran: Vec<_> = racers.into_iter().map(Fleet::wait).collect();
    let (winners, losers): (Vec<_>, Vec<_>) = ran.iter().partition(|ran| ran.code == 0);
    assert_eq!((winners.len(), losers.len()), (1, RACERS - 1), "{ran:?}");
    let winner = winners[0].json()["id"].as_u64().expect("a number");
    for loser in losers {
        let said = loser.refused(4, "E-CONFLICT");
        assert!(said.contains(&winner.to_string()) && said.contains("ada"), "{said}");
    }
    assert_eq!(fleet.status("prod")["id"].as_u64(), Some(winner));

    let said = fleet.houston(&["rollout", "start", "prod", &sets[0]]);
    said.refused(4, "E-CONFLICT");
    fleet.environment("prod", "Hello", &format!("{POLICY}{NO_BAKES}"));
    until("the first one is under way", || (fleet.status("prod")["state"] == "baking").then_some(()));
    let other = if fleet.status("prod")["to"]["version_set"] == sets[1] { &sets[2] } else { &sets[1] };
    let next = fleet.json(&["rollout", "start", "prod", other, "--supersede"])["id"].as_u64();
    let first = fleet.json(&["rollout", "status", &winner.to_string()]);
    assert_eq!(first["state"], "superseded");
    assert!(next > Some(winner));
    let ended = fleet.end_of_rollout("prod");
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(fleet.agents().all(|agent| agent.traced(&format!("serve {}", &other[4..])) == 1));
    // Who waited for the superseded one is told.
    assert_eq!(fleet.houston(&["rollout", "wait", &winner.to_string()]).code, 1);
}

#[test]
fn an_exit_code_says_what_kind_of_no_it_was() {
    let mut fleet = Fleet::start(&[("a", 2)], QUICK);
    fleet.environment("prod", "Hello", &format!("{POLICY}{NO_BAKES}"));
    let set = fleet.push(&Package::web("1"));
    // 3: by role, by policy.
    let viewer = fleet.place().join("vera");
    fleet.ok(&["operator", "add", "vera", "--role", "viewer", "--directory", &viewer.display().to_string()]);
    fleet.add_context("vera", &viewer);
    let as_vera = |arguments: &[&str]| fleet.houston(&[arguments, &["--context", "vera"]].concat());
    assert_eq!(as_vera(&["host", "list"]).code, 0);
    as_vera(&["rollout", "start", "prod", &set]).refused(3, "E-ROLE");
    as_vera(&["host", "drain", "a1"]).refused(3, "E-ROLE");
    let nobody = fleet.houston(&["rollout", "list", "prod"]);
    assert_eq!(nobody.code, 0, "nothing was started: {nobody:?}");
    fleet.roll("prod", &set, 0);
    fleet.environment("prod", "Hello", &format!("{}{NO_BAKES}", POLICY.replace("25%", "100%")));
    let next = fleet.push(&Package::web("2"));
    let said = fleet.houston(&["rollout", "start", "prod", &next]);
    assert!(said.refused(3, "E-BUDGET-ALL").contains("--allow-outage"), "{said:?}");
    // 0: there was nothing to do.
    let said = fleet.houston(&["rollout", "start", "prod", &set]);
    assert_eq!(said.code, 0, "{said:?}");
    // 2: what a person wrote is wrong.
    let said = fleet.houston(&["rollout", "start", "prdo", &set]);
    assert!(said.refused(2, "E-ENV-UNKNOWN").contains("prod"), "{said:?}");
    fleet.houston(&["rollout", "start", "prod", "web-9"]).refused(2, "E-VER-UNKNOWN");
    fleet.houston(&["rollout", "delpoy", "prod"]).refused(2, "E-CLI-VERB");
    fleet.houston(&["host", "show", "zz"]).refused(2, "E-HOST-UNKNOWN");
    fleet.houston(&["environment", "show", "../etc"]).refused(2, "E-NAME");
    // 4: the rollout is over.
    fleet.houston(&["rollout", "pause", "prod"]).refused(4, "E-ROLLOUT-STATE");
    fleet.houston(&["package", "remove", "web@1"]).refused(4, "E-PACKAGE-IN-USE");
    // 5: nobody is there.
    fleet.kill_coordinator();
    fleet.houston(&["host", "list"]).refused(5, "E-UNREACHABLE");
    fleet.houston(&["rollout", "start", "prod", &next]).refused(5, "E-UNREACHABLE");
}

#[test]
fn who_waits_for_a_rollout_goes_on_waiting_without_a_coordinator() {
    let mut fleet = Fleet::start(&[("a", 1)], QUICK);
    fleet.environment("prod", "Hello", &format!("{}{LONG_BAKES}", POLICY.replace("25%", "0%")));
    let set = fleet.push(&Package::web("1"));
    fleet.begin_rollout("prod", &set);
    let mut waiting = fleet.begin(&["rollout", "wait", "prod"]);
    let mut told = BufReader::new(waiting.stdout.take().expect("its output"));
    let mut lines = String::new();
    told.read_line(&mut lines).expect("the state that it finds");
    fleet.kill_coordinator();
    fleet.start_coordinator();
    until("the same rollout goes on", || (fleet.status("prod")["state"] == "baking").then_some(()));
    fleet.ok(&["rollout", "abort", "prod", "--reason", "enough"]);
    let ended = Fleet::wait(waiting);
    told.read_to_string(&mut lines).expect("UTF-8");
    assert_eq!(ended.code, 1, "{ended:?} {lines}");
    // The kill may have fallen into a handshake.
    let unreachable = ["E-UNREACHABLE: ", "E-TLS: "].iter().any(|code| ended.stderr.contains(code));
    assert!(ended.stderr.starts_with("trying again, ") && unreachable, "{ended:?}");
    assert!(lines.contains("aborted"), "{lines}");
}
