//! Certificates that expire while nobody can renew them.

use std::time::SystemTime;

use houston_common::clock::WallTime;
use houston_tests::fleet::{Fleet, NO_BAKES, POLICY, Package, QUICK, until};

fn expires(fleet: &Fleet, host: &str) -> u64 {
    fleet.host(host)["certificate_expires_ms"].as_u64().expect("a time")
}

#[test]
fn a_fleet_that_was_off_too_long_comes_back_by_itself_and_a_revoked_host_does_not() {
    let config = format!("{QUICK}host_certificate_lifetime = \"8s\"\n");
    let mut fleet = Fleet::start(&[("a", 3), ("b", 2)], &config);
    fleet.environment("prod", "Hello", &format!("{POLICY}{NO_BAKES}"));
    let set = fleet.push(&Package::web("1"));
    fleet.roll("prod", &set, 0);
    // Connected, they renew in time.
    let first = expires(&fleet, "a1");
    until("a renewal", || (expires(&fleet, "a1") > first).then_some(()));

    let names = fleet.names();
    names.iter().for_each(|name| fleet.agent(name).kill());
    let services: Vec<_> = fleet.agents().map(|agent| agent.service_pid().expect("it runs on")).collect();
    fleet.ok(&["host", "revoke", "b2", "--yes"]);
    until("every certificate has expired", || {
        let now = WallTime::from_system(SystemTime::now()).0;
        names.iter().all(|name| expires(&fleet, name) < now).then_some(())
    });
    until("they are lost", || names.iter().all(|name| fleet.presence(name) == "lost").then_some(()));

    names.iter().for_each(|name| fleet.agent(name).start());
    let good: Vec<String> = names.iter().filter(|name| *name != "b2").cloned().collect();
    fleet.wait_until_seen(&good);
    let refused = until("the revoked one is refused", || {
        let log = fleet.agent_ref("b2").log();
        log.lines().find(|line| line.contains("E-TOKEN") || line.contains("E-AUTH")).map(str::to_owned)
    });
    assert_eq!(fleet.presence("b2"), "lost", "{refused}");
    // Nobody's service has noticed any of this, the revoked host's included.
    let now: Vec<_> = fleet.agents().map(|agent| agent.service_pid().expect("it runs")).collect();
    assert_eq!(now, services);
    let set = fleet.push(&Package::web("2"));
    fleet.begin_rollout("prod", &set);
    let ended = fleet.end_of_rollout("prod");
    assert!(matches!(ended.code, 0 | 6), "{ended:?}\n{}", fleet.status("prod"));
    for name in good {
        assert_eq!(fleet.agent_ref(&name).traced("serve 2"), 1, "{name}");
    }
    assert_eq!(fleet.agent_ref("b2").traced("serve 2"), 0);
}
