//! Who may not come in, and who may not speak for whom, by the programs that run.

use std::time::Duration;

use houston_common::api::client::{AgentClient, OperatorClient};
use houston_common::assignment::Stamp;
use houston_common::error::Code;
use houston_common::exchange::CheckIn;
use houston_common::id::{Epoch, Generation, Platform};
use houston_common::report::{EnvironmentReport, Facts, HealthReport, PROTOCOL, Phase, Position, Report};
use houston_common::tls::{ClientSettings, ClockFloor, Credential, Trust};
use houston_tests::coordinator::read_credential;
use houston_tests::fleet::{Fleet, NO_BAKES, POLICY, Package, QUICK, until};
use tonic::transport::Channel;

async fn connect(fleet: &Fleet, credential: Option<&Credential>) -> Channel {
    let ca = std::fs::read_to_string(fleet.coordinator_dir().join("ca.pem")).expect("the authority");
    let settings = ClientSettings::new(Trust::Authorities(&ca), credential, &ClockFloor::new());
    let address = fleet.agents_address().parse().expect("an address");
    settings.expect("settings").connect(&address).await.expect("it connects")
}

fn operator(fleet: &Fleet) -> Credential {
    read_credential(&fleet.coordinator_dir().join("operators/ada"))
}

fn report(start: u64) -> Report {
    Report {
        protocol: PROTOCOL,
        features: Vec::new(),
        position: Position { start, nonce: 1, sequence: 1 },
        agent_version: "0.1.0".to_owned(),
        platforms: vec![Platform::any()],
        facts: Facts::default(),
        environments: Vec::new(),
        certificate_expires_ms: 1,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_opens_only_its_own_door() {
    let mut fleet = Fleet::start(&[("a", 1)], QUICK);
    fleet.agent("a1").kill();
    let host = read_credential(&fleet.agent_ref("a1").directory().join("identity"));
    let as_operator = OperatorClient::new(connect(&fleet, Some(&host)).await);
    assert_eq!(as_operator.who_am_i().await.expect_err("a host").code, Code::Role);
    let as_host = AgentClient::new(connect(&fleet, Some(&operator(&fleet))).await);
    let check_in = CheckIn { report: report(9), may_hold: false };
    let error = as_host.check_in(&check_in, Duration::ZERO).await.expect_err("an operator");
    assert_eq!(error.refusal.code, Code::Role);
    assert_eq!(fleet.json(&["host", "list"])["hosts"].as_array().map(Vec::len), Some(1));
}

#[test]
fn another_coordinators_credentials_are_worth_nothing_here() {
    let (here, there) = (Fleet::with_coordinator(QUICK), Fleet::with_coordinator(QUICK));
    let theirs = there.coordinator_dir().join("operators/ada");
    here.add_context("stranger", &theirs);
    // Both sides see another authority; whoever says so first names it.
    let ran = here.houston(&["whoami", "--context", "stranger"]);
    assert!(ran.stderr.starts_with("E-CERT-CA: ") && ran.code == 3, "{ran:?}");
    assert!(!ran.stderr.contains("transport error"), "{ran:?}");
    // With the right authority it is the coordinator that refuses the certificate.
    let mixed = here.place().join("mixed");
    std::fs::create_dir(&mixed).expect("a directory");
    for (from, file) in [(&theirs, "key.pem"), (&theirs, "certificate.pem")] {
        std::fs::copy(from.join(file), mixed.join(file)).expect("copied");
    }
    std::fs::copy(here.coordinator_dir().join("ca.pem"), mixed.join("ca.pem")).expect("copied");
    here.add_context("mixed", &mixed);
    let ran = here.houston(&["whoami", "--context", "mixed"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.stderr.starts_with("E-CERT-CA: ") || ran.stderr.starts_with("E-AUTH: "), "{ran:?}");
    assert_eq!(here.json(&["whoami"])["operator"], "ada");
}

#[test]
fn a_host_with_another_hosts_records_is_brought_where_it_should_be() {
    let mut fleet = Fleet::start(&[("a", 2)], QUICK);
    fleet.environment("prod", "Hello", &format!("{POLICY}{NO_BAKES}"));
    let sets = ["1", "2"].map(|version| fleet.push(&Package::web(version)));
    fleet.roll("prod", &sets[0], 0);
    fleet.agent("a1").kill();
    // The records of a2 under the identity of a1: whatever a1 says of itself is a2's.
    let [own, others] = ["a1", "a2"].map(|name| fleet.agent_ref(name).environment_dir("prod"));
    for record in ["journal", "floor"] {
        std::fs::copy(others.join(record), own.join(record)).expect("copied");
    }
    fleet.agent("a1").start();
    fleet.wait_until_seen(&fleet.names());
    fleet.roll("prod", &sets[1], 0);
    assert!(fleet.agents().all(|agent| agent.traced("serve 2") == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stamp_that_the_store_never_gave_holds_the_host_that_shows_it() {
    let mut fleet = Fleet::start(&[("a", 1)], QUICK);
    fleet.environment("prod", "Hello", NO_BAKES);
    fleet.agent("a1").kill();
    let directory = fleet.agent_ref("a1").directory().join("identity");
    let client = AgentClient::new(connect(&fleet, Some(&read_credential(&directory))).await);
    let operator = OperatorClient::new(connect(&fleet, Some(&operator(&fleet))).await);
    let store = operator.who_am_i().await.expect("answered").store;
    let stamp = Stamp { store, epoch: Epoch(1000), generation: Generation(1_000_000), mac: [7; 32] };
    let environment = EnvironmentReport {
        environment: "prod".parse().expect("a name"),
        stamp: Some(stamp),
        phase: Phase::Idle,
        running: None,
        health: HealthReport::Unknown,
        failure: None,
    };
    let report = Report { environments: vec![environment], ..report(9) };
    // It may be answered: what is known of it is what an operator sees.
    let _ = client.check_in(&CheckIn { report, may_hold: false }, Duration::ZERO).await;
    let held = until("it is held", || fleet.host("a1")["held"]["kind"].as_str().map(str::to_owned));
    assert_eq!(held, "foreign_assignment");
    assert_eq!(fleet.json(&["whoami"])["regressed"], false, "nobody else suffers for it");
}
