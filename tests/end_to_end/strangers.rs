//! Who may not come in, and who may not speak for whom, by the programs that run.

use std::path::Path;
use std::time::Duration;

use houston_common::api::client::{AgentClient, OperatorClient};
use houston_common::error::Code;
use houston_common::exchange::CheckIn;
use houston_common::id::Platform;
use houston_common::report::{Facts, PROTOCOL, Position, Report};
use houston_common::tls::{ClientSettings, ClockFloor, Credential, Trust};
use houston_tests::coordinator::read_credential;
use houston_tests::fleet::{Fleet, NO_BAKES, POLICY, Package, QUICK};
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

fn copy_tree(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp");
    assert!(status.success());
}

#[test]
fn a_host_that_shows_another_hosts_assignment_is_held() {
    let mut fleet = Fleet::start(&[("a", 2)], QUICK);
    fleet.environment("prod", "Hello", &format!("{POLICY}{NO_BAKES}"));
    let set = fleet.push(&Package::web("1"));
    fleet.roll("prod", &set, 0);
    fleet.agent("a1").kill();
    fleet.agent("a2").kill();
    // The records of a2 with the identity of a1: what it says of itself is a2's.
    let (a1, a2) = (fleet.agent_ref("a1").directory().to_owned(), fleet.agent_ref("a2").directory().to_owned());
    std::fs::remove_dir_all(a1.join("environments/prod")).expect("removed");
    copy_tree(&a2.join("environments/prod"), &a1.join("environments/prod"));
    fleet.agent("a1").start();
    fleet.wait_until_seen(&["a1".to_owned()]);
    // A stamp of another host, not above what the store has given out, is simply not its own.
    let set = fleet.push(&Package::web("2"));
    fleet.begin_rollout("prod", &set);
    let running = || fleet.agent_ref("a1").traced("serve 2");
    houston_tests::fleet::until("the coordinator brings it where it should be", || {
        let status = fleet.status("prod");
        (running() == 1 || status["state"] == "succeeded" || status["state"] == "halted").then_some(())
    });
}
