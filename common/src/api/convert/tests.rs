use std::fmt::Debug;

use proptest::prelude::*;
use prost::Message;

use super::sample::{Sample, Seed};
use super::*;
use crate::api::{AGENT_REQUEST_BYTES_MAX, MESSAGE_BYTES_MAX, OPERATOR_REQUEST_BYTES_MAX, wire};
use crate::assignment::{Assignment, Order};
use crate::command::*;
use crate::digest::{ReleaseDigest, TreeDigest};
use crate::exchange::*;
use crate::policy::Policy;
use crate::release::{
    PACKAGES_MAX, PackageVersion, ReleaseContent, SETTINGS_BYTES_MAX, SETTINGS_MAX, Settings, VersionSet,
};
use crate::report::{EnvironmentReport, Failure, HealthReport, LOG_TAIL_BYTES_MAX, Report};
use crate::rollout::WaitingOn;
use crate::view::*;

fn grown<T: Sample>(seed: u64) -> T {
    T::sample(&mut Seed::new(seed))
}

/// Through bytes and back.
fn round_trips<T>(seed: u64)
where
    T: Wire<Message: Message + Default> + Sample + PartialEq + Debug,
{
    let value: T = grown(seed);
    let bytes = value.to_wire().encode_to_vec();
    let message = T::Message::decode(bytes.as_slice()).expect("decodes");
    assert_eq!(T::from_wire(message).as_ref(), Ok(&value), "seed {seed}");
}

macro_rules! round_trip_tests {
    ($($test:ident: $($value:ty),* ;)*) => {
        proptest! {$(
            #[test]
            fn $test(seed: u64) {
                $(round_trips::<$value>(seed);)*
            }
        )*}
    };
}

round_trip_tests! {
    check_ins_round_trip: CheckIn, CheckInAnswer, EnrollmentRequest, Enrolled, IssuedCertificate;
    files_round_trip: Vec<FileNeed>, FileChunk, FileUpload, Vec<FileWanted>, Uploaded, PackageStart;
    packages_round_trip: PackageFinish, RemovePackage, Paged<PackageView>, CreateVersionSet, Paged<VersionSetView>;
    hosts_round_trip: ListHosts, Paged<HostView>, EditHost, DrainHost, HoldHost, HostChange;
    people_round_trip: WhoAmI, CreateToken, CreatedToken, RevokeToken, Vec<TokenView>, AddOperator, RevokeOperator, Vec<OperatorView>;
    environments_round_trip: ApplyEnvironment, AppliedEnvironment, Paged<EnvironmentView>;
    rollouts_round_trip: StartRollout, RolloutPlan, GetRollout, RolloutView, ListRollouts, Vec<RolloutSummary>, ControlRollout, DecideGate, DecideGate;
    explanations_round_trip: Explain, Vec<WaitingOn>;
}

proptest! {
    /// Bytes from anybody end in a value or in a refusal, never in a panic.
    #[test]
    fn noise_never_panics(seed: u64, at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        let mut bytes = grown::<CheckInAnswer>(seed).to_wire().encode_to_vec();
        let position = at.index(bytes.len());
        bytes[position] = byte;
        if let Ok(message) = wire::CheckInResponse::decode(&bytes[..]) {
            let _ = CheckInAnswer::from_wire(message);
        }
        if let Ok(message) = wire::CheckInResponse::decode(&bytes[..cut.index(bytes.len())]) {
            let _ = CheckInAnswer::from_wire(message);
        }
    }

    /// A field of a later version is ignored.
    #[test]
    fn unknown_fields_are_ignored(seed: u64) {
        let check_in: CheckIn = grown(seed);
        let mut bytes = check_in.to_wire().encode_to_vec();
        // Field 1000, a varint.
        bytes.extend([0xc0, 0x3e, 0x01]);
        let message = wire::CheckInRequest::decode(&bytes[..]).expect("decodes");
        prop_assert_eq!(CheckIn::from_wire(message), Ok(check_in));
    }
}

/// A message that is accepted, changed by `spoil`, is refused with this path.
fn refuses<T>(path: &str, spoil: impl Fn(&mut T::Message))
where
    T: Wire<Message: Clone> + Sample + Debug,
{
    refuses_with::<T>(Code::Field, path, spoil);
}

fn refuses_with<T>(code: Code, path: &str, spoil: impl Fn(&mut T::Message))
where
    T: Wire<Message: Clone> + Sample + Debug,
{
    let mut message = grown::<T>(7).to_wire();
    T::from_wire(message.clone()).unwrap_or_else(|error| panic!("{path}: {error} before it was spoilt"));
    spoil(&mut message);
    let invalid = T::from_wire(message).expect_err(path);
    assert_eq!((invalid.code, invalid.path.as_str()), (code, path), "{invalid}");
    let refusal = Refusal::from(invalid);
    assert!(refusal.what.chars().all(is_plain) && refusal.what.len() < 1000, "{refusal}");
}

/// A report of one environment that has everything.
fn full_report(message: &mut wire::Report) {
    let seeds = 1..;
    let report = seeds
        .map(grown::<EnvironmentReport>)
        .find(|report| report.failure.is_some() && report.stamp.is_some() && report.running.is_some());
    message.environments = report.iter().map(Wire::to_wire).collect();
}

#[test]
fn reports_are_refused_by_field() {
    refuses::<Report>("protocol", |m| m.protocol = 0);
    refuses::<Report>("features", |m| m.features = vec!["a".into(), "a".into()]);
    refuses::<Report>("features", |m| m.features = vec!["A b".into()]);
    refuses::<Report>("features", |m| m.features = vec!["a".into(); FEATURES_MAX + 1]);
    refuses::<Report>("position", |m| m.position = None);
    refuses::<Report>("agent_version", |m| m.agent_version.clear());
    refuses::<Report>("agent_version", |m| m.agent_version = "\u{1b}[2J".into());
    refuses::<Report>("platforms", |m| m.platforms.clear());
    refuses::<Report>("platforms", |m| m.platforms = vec!["any".into(), "linux-amd64".into()]);
    refuses::<Report>("platforms", |m| m.platforms = vec!["any".into(), "any".into()]);
    refuses::<Report>("platforms", |m| m.platforms = vec!["any".into(); PLATFORMS_MAX + 1]);
    refuses::<Report>("platforms[0]", |m| m.platforms[0] = "../etc".into());
    refuses::<Report>("facts", |m| m.facts = None);
    refuses::<Report>("facts.os", |m| m.facts.as_mut().expect("facts").os = "a\u{202e}b".into());
    refuses::<Report>("facts.kernel", |m| m.facts.as_mut().expect("facts").kernel = "x".repeat(257));
    refuses::<Report>("certificate_expires_at_ms", |m| m.certificate_expires_at_ms = 0);
    refuses::<Report>("certificate_expires_at_ms", |m| m.certificate_expires_at_ms = u64::MAX);
}

#[test]
fn impossible_positions_are_named_as_such() {
    for bad in [0, COUNTER_MAX + 1, u64::MAX] {
        refuses_with::<CheckIn>(Code::Sequence, "report.position.start", |m| {
            m.report.as_mut().expect("report").position.as_mut().expect("position").start = bad;
        });
        refuses_with::<CheckIn>(Code::Sequence, "report.position.sequence", |m| {
            m.report.as_mut().expect("report").position.as_mut().expect("position").sequence = bad;
        });
    }
}

/// The environments of a report, spoilt one field at a time.
fn refuses_environment(path: &str, spoil: impl Fn(&mut wire::EnvironmentReport)) {
    refuses::<Report>(path, |m| {
        full_report(m);
        spoil(&mut m.environments[0]);
    });
}

#[test]
fn reports_of_environments_are_refused_by_field() {
    refuses_environment("environments[0].environment", |m| m.environment = "PROD".into());
    refuses_environment("environments[0].phase", |m| m.phase = 0);
    refuses_environment("environments[0].phase", |m| m.phase = 99);
    refuses_environment("environments[0].phase", |m| m.phase = -1);
    refuses_environment("environments[0].running", |m| m.running = Some(vec![0; 31].into()));
    refuses_environment("environments[0].running", |m| m.running = Some(Bytes::new()));
    refuses_environment("environments[0].health", |m| m.health = None);
    refuses_environment("environments[0].health.health", |m| {
        m.health = Some(wire::HealthReport { health: None })
    });
    let stamp = |m: &mut wire::EnvironmentReport| m.stamp.clone().expect("stamp");
    refuses_environment("environments[0].stamp.store", |m| {
        m.stamp = Some(wire::Stamp { store: Bytes::new(), ..stamp(m) })
    });
    refuses_environment("environments[0].stamp.epoch", |m| {
        m.stamp = Some(wire::Stamp { epoch: u64::MAX, ..stamp(m) })
    });
    refuses_environment("environments[0].stamp.generation", |m| {
        m.stamp = Some(wire::Stamp { generation: 0, ..stamp(m) });
    });
    refuses_environment("environments[0].stamp.generation", |m| {
        m.stamp = Some(wire::Stamp { generation: u64::MAX, ..stamp(m) });
    });
    refuses_environment("environments[0].stamp.mac", |m| {
        m.stamp = Some(wire::Stamp { mac: vec![0; 33].into(), ..stamp(m) });
    });
    let failure = |m: &mut wire::EnvironmentReport| m.failure.clone().expect("failure");
    refuses_environment("environments[0].failure.code", |m| {
        m.failure = Some(wire::Failure { code: "E-NONE".into(), ..failure(m) });
    });
    refuses_environment("environments[0].failure.message", |m| {
        m.failure = Some(wire::Failure { message: String::new(), ..failure(m) });
    });
    refuses_environment("environments[0].failure.message", |m| {
        m.failure = Some(wire::Failure { message: "x".repeat(501), ..failure(m) });
    });
    refuses_environment("environments[0].failure.log_tail", |m| {
        m.failure = Some(wire::Failure { log_tail: "x".repeat(LOG_TAIL_BYTES_MAX + 1), ..failure(m) });
    });
    refuses_environment("environments[0].failure.log_tail", |m| {
        m.failure = Some(wire::Failure { log_tail: "\u{7}".into(), ..failure(m) });
    });
    refuses_environment("environments[0].failure.package", |m| {
        m.failure = Some(wire::Failure { package: Some(String::new()), ..failure(m) });
    });
}

#[test]
fn a_report_names_each_environment_once_and_not_too_many() {
    refuses::<Report>("environments", |m| {
        full_report(m);
        m.environments.push(m.environments[0].clone());
    });
    refuses::<Report>("environments", |m| {
        full_report(m);
        m.environments = vec![m.environments[0].clone(); HOST_ENVIRONMENTS_MAX + 1];
    });
}

#[test]
fn answers_to_check_ins_are_refused_by_field() {
    refuses::<CheckInAnswer>("protocol", |m| m.protocol = 0);
    refuses::<CheckInAnswer>("hold_ms", |m| m.hold_ms = u64::MAX);
    refuses::<CheckInAnswer>("retry_after_ms", |m| m.retry_after_ms = 3_600_001);
    refuses::<CheckInAnswer>("server_time_ms", |m| m.server_time_ms = 0);
    refuses::<CheckInAnswer>("forget", |m| m.forget = vec!["a".into(), "a".into()]);
    refuses::<CheckInAnswer>("forget[1]", |m| m.forget = vec!["a".into(), String::new()]);
    refuses::<Assignment>("order", |m| m.order = None);
    refuses::<Assignment>("release", |m| m.release = None);
    refuses::<Assignment>("way_back.settings", |m| m.way_back.as_mut().expect("way back").settings = None);
    for zero in [|t: &mut wire::Terms| t.start_within_ms = 0, |t: &mut wire::Terms| t.apply_deadline_ms = 0] {
        let mut terms = wire::Terms { start_within_ms: 1, apply_deadline_ms: 1, health_window_ms: 0 };
        assert!(crate::assignment::Terms::from_wire(terms).is_ok());
        zero(&mut terms);
        assert!(crate::assignment::Terms::from_wire(terms).is_err());
    }
}

#[test]
fn an_environment_is_not_both_assigned_and_forgotten() {
    let mut answer: CheckInAnswer = grown(7);
    answer.assignments = vec![grown(7)];
    answer.forget = vec![answer.assignments[0].environment.clone()];
    let invalid = CheckInAnswer::from_wire(answer.to_wire()).expect_err("both");
    assert_eq!(invalid.path, "forget");
}

#[test]
fn version_sets_and_settings_are_refused_by_field() {
    refuses::<PackageVersion>("trees", |m| m.trees.clear());
    refuses::<PackageVersion>("trees", |m| m.trees.push(m.trees[0].clone()));
    refuses::<PackageVersion>("trees[0].tree", |m| m.trees[0].tree = Bytes::from_static(b"short"));
    refuses::<VersionSet>("packages", |m| m.packages = vec![grown::<PackageVersion>(1).to_wire(); 2]);
    let setting = |key: &str, value: &str| wire::Setting { key: key.into(), value: value.into() };
    refuses::<Settings>("settings", |m| m.settings = vec![setting("A", "1"), setting("A", "2")]);
    refuses::<Settings>("settings.key", |m| m.settings = vec![setting("", "1")]);
    refuses::<Settings>("settings.value", |m| m.settings = vec![setting("A", "\0")]);
    refuses::<Settings>("settings.value", |m| m.settings = vec![setting("A", &"x".repeat(4097))]);
    refuses::<Settings>("settings", |m| {
        m.settings = (0..9).map(|i| setting(&format!("K{i}"), &"x".repeat(4000))).collect();
    });
    refuses::<Settings>("settings", |m| m.settings = vec![setting("A", ""); SETTINGS_MAX + 1]);
}

#[test]
fn pieces_of_files_are_refused_by_field() {
    refuses::<FileChunk>("encoding", |m| m.encoding = 0);
    refuses::<FileChunk>("stored_offset", |m| m.stored_offset = u64::MAX);
    refuses::<FileChunk>("data", |m| m.last = !m.last);
    refuses::<FileChunk>("data", |m| m.data = vec![0; CHUNK_BYTES_MAX + 1].into());
    refuses::<FileUpload>("data", |m| (m.data, m.last) = (Bytes::new(), false));
    refuses::<FileUpload>("length", |m| m.length = u64::MAX);
    refuses::<Vec<FileNeed>>("files", |m| m.files.clear());
    refuses::<Vec<FileNeed>>("files", |m| m.files = vec![m.files[0].clone(); FETCH_FILES_MAX + 1]);
    refuses::<Vec<FileNeed>>("files", |m| m.files.push(m.files[0].clone()));
    refuses::<Vec<FileNeed>>("files[0].digest", |m| m.files[0].digest = Bytes::new());
    refuses::<PackageStart>("part", |m| m.part = None);
}

#[test]
fn enrollment_is_refused_by_field_without_telling_the_secret() {
    refuses::<EnrollmentRequest>("csr", |m| m.csr = Bytes::new());
    refuses::<EnrollmentRequest>("csr", |m| m.csr = vec![0; CSR_BYTES_MAX + 1].into());
    refuses::<EnrollmentRequest>("proof", |m| m.proof = None);
    let proof = wire::JoinToken { secret: "two words".into(), suggested_host: None };
    assert!(!format!("{proof:?}").contains("two words"));
    let message = wire::EnrollRequest {
        csr: Bytes::from_static(b"csr"),
        proof: Some(wire::enroll_request::Proof::JoinToken(proof)),
    };
    let invalid = EnrollmentRequest::from_wire(message).expect_err("no token");
    assert_eq!(invalid.path, "join_token.secret");
    assert!(!invalid.to_string().contains("two words"));
}

#[test]
fn commands_are_refused_by_field() {
    refuses::<Page>("size", |m| m.size = 0);
    refuses::<Page>("size", |m| m.size = PAGE_MAX + 1);
    refuses::<Page>("token", |m| m.token = Some(String::new()));
    refuses::<CreateToken>("uses", |m| m.uses = 0);
    refuses::<CreateToken>("uses", |m| m.uses = 10_001);
    refuses::<CreateToken>("valid_for_ms", |m| m.valid_for_ms = 31 * 24 * 3_600_000);
    refuses::<CreateToken>("labels", |m| {
        let label = wire::Label { key: "a".into(), value: "b".into() };
        m.labels = vec![label.clone(), label];
    });
    refuses::<AddOperator>("roles", |m| m.roles.clear());
    refuses::<AddOperator>("roles", |m| m.roles = vec![m.roles[0].clone(); 2]);
    refuses::<AddOperator>("roles[0].role", |m| m.roles[0].role = 0);
    refuses::<EditHost>("remove_labels", |m| {
        m.set_labels = vec![wire::Label { key: "a".into(), value: "b".into() }];
        m.remove_labels = vec!["a".into()];
    });
    refuses::<HoldHost>("reason", |m| m.reason = String::new());
    refuses::<HoldHost>("for_ms", |m| m.for_ms = Some(0));
    refuses::<HostChange>("reason", |m| m.reason = "two\nlines".into());
    refuses::<CreateVersionSet>("name", |m| m.name = EMPTY_VERSION_SET.into());
    refuses::<CreateVersionSet>("packages", |m| m.packages = vec![m.packages[0].clone(); 2]);
    refuses::<CreateVersionSet>("packages", |m| m.packages.clear());
    refuses::<StartRollout>("idempotency_key", |m| m.idempotency_key = Some(String::new()));
    refuses::<StartRollout>("plan_hash", |m| m.plan_hash = Some(Bytes::from_static(b"x")));
    refuses::<StartRollout>("exclude", |m| m.exclude = vec!["a1".into(); 2]);
    refuses::<StartRollout>("exclude", |m| m.exclude = (0..65).map(|i| format!("a{i}")).collect());
    refuses::<GetRollout>("rollout", |m| m.rollout = None);
    refuses::<GetRollout>("rollout.id", |m| {
        m.rollout = Some(wire::RolloutRef { rollout: Some(wire::rollout_ref::Rollout::Id(0)) });
    });
    refuses::<GetRollout>("wait_ms", |m| m.wait_ms = 30_001);
    refuses::<ListRollouts>("limit", |m| m.limit = 0);
    refuses::<ControlRollout>("action", |m| m.action = 0);
}

#[test]
fn policies_are_refused_by_field() {
    let share = |share| Some(wire::Share { share: Some(share) });
    refuses::<Policy>("pacing", |m| m.pacing = 0);
    refuses::<Policy>("pacing", |m| m.pacing = 3);
    refuses::<Policy>("zones_at_once", |m| m.zones_at_once = 0);
    refuses::<Policy>("zones_at_once", |m| m.zones_at_once = 65);
    let growth = |percent, most| Some(wire::Growth { percent, most, carries: false });
    refuses::<Policy>("growth.percent", |m| m.growth = growth(100, share(wire::share::Share::Hosts(2))));
    refuses::<Policy>("growth.percent", |m| m.growth = growth(1001, share(wire::share::Share::Hosts(2))));
    refuses::<Policy>("growth.most", |m| m.growth = growth(200, None));
    let gate = |name: &str, condition| wire::Gate {
        name: name.into(),
        before: 1,
        within_ms: None,
        condition: Some(condition),
    };
    let passes = wire::gate::Condition::EvidencePasses;
    refuses::<Policy>("gates", |m| m.gates = vec![gate("bake", passes(1))]);
    refuses::<Policy>("gates", |m| m.gates = vec![gate("a", passes(1)), gate("a", passes(2))]);
    refuses::<Policy>("gates[0].evidence_passes", |m| m.gates = vec![gate("a", passes(0))]);
    refuses::<Policy>("gates[0].condition", |m| {
        m.gates = vec![wire::Gate { condition: None, ..gate("a", passes(1)) }]
    });
    refuses::<Policy>("gates[0].before", |m| {
        m.gates = vec![wire::Gate { before: 0, ..gate("a", passes(1)) }]
    });
    let metric = |value| {
        wire::gate::Condition::Metric(wire::MetricGate { query: "up".into(), is: 1, value, fresh_ms: 1 })
    };
    refuses::<Policy>("gates[0].metric.value", |m| m.gates = vec![gate("a", metric(f64::NAN))]);
    let freeze = wire::gate::Condition::Freeze(wire::FreezeGate { from_ms: 5, until_ms: 5 });
    refuses::<Policy>("gates[0].freeze.until_ms", |m| m.gates = vec![gate("a", freeze.clone())]);
    let window = |days, until| {
        let time_zone = "UTC".into();
        wire::gate::Condition::Window(wire::WindowGate { time_zone, days, from: 0, until })
    };
    refuses::<Policy>("gates[0].window.days", |m| m.gates = vec![gate("a", window(128, 60))]);
    refuses::<Policy>("gates[0].window.until", |m| m.gates = vec![gate("a", window(1, 0))]);
    refuses::<Policy>("batch", |m| m.batch = None);
    refuses::<Policy>("batch.share", |m| m.batch = Some(wire::Share { share: None }));
    refuses::<Policy>("batch.percent", |m| m.batch = share(wire::share::Share::Percent(101)));
    refuses::<Policy>("fleet_floor.percent", |m| {
        m.fleet_floor = share(wire::share::Share::Percent(u32::MAX))
    });
    refuses::<Policy>("lost_budget.hosts", |m| m.lost_budget = share(wire::share::Share::Hosts(1_000_001)));
    refuses::<Policy>("zone_order", |m| m.zone_order = vec!["a".into(), "a".into()]);
    refuses::<Policy>("bake_one_box_ms", |m| m.bake_one_box_ms = u64::MAX);
    refuses::<Policy>("apply_deadline_ms", |m| m.apply_deadline_ms = 0);
    refuses::<Policy>("on_failure", |m| m.on_failure = 0);
    refuses::<Policy>("retries", |m| m.retries = 6);
}

#[test]
fn views_are_refused_by_field() {
    refuses::<RolloutView>("id", |m| m.id = 0);
    refuses::<RolloutView>("state", |m| m.state = 0);
    refuses::<RolloutView>("ended_at_ms", |m| m.ended_at_ms = Some(0));
    refuses::<RolloutView>("to", |m| m.to = None);
    refuses::<RolloutView>("waiting", |m| m.waiting = vec![wire::WaitingOn { waiting_on: None }; 65]);
    refuses::<RolloutView>("waiting[0].waiting_on", |m| {
        m.waiting = vec![wire::WaitingOn { waiting_on: None }]
    });
    refuses::<HostInRollout>("state", |m| (m.state, m.phase) = (0, None));
    refuses::<HostInRollout>("phase", |m| (m.state, m.phase) = (9, None));
    refuses::<HostInRollout>("phase", |m| (m.state, m.phase) = (1, Some(1)));
    refuses::<HostView>("presence", |m| m.presence = 0);
    refuses::<HostView>("held.held", |m| m.held = Some(wire::Held { held: None }));
}

fn longest<T: FromStr<Err: Debug>>(i: usize) -> T {
    format!("{i:0>63}").parse().expect("a name")
}

/// The largest release that is allowed.
fn largest_release() -> ReleaseContent {
    let package = |i| PackageVersion {
        name: longest(i),
        version: longest(i),
        trees: (0..PLATFORMS_MAX).map(|p| (longest(p), TreeDigest(Digest::of(b"")))).collect(),
    };
    let value = "x".repeat(SETTINGS_BYTES_MAX / SETTINGS_MAX - 4);
    let key = |i| format!("K{i:0>3}").parse().expect("key");
    ReleaseContent {
        version_set: VersionSet { packages: (0..PACKAGES_MAX).map(package).collect() }.into(),
        settings: Settings((0..SETTINGS_MAX).map(|i| (key(i), value.clone())).collect()).into(),
    }
}

#[test]
fn the_largest_answer_to_a_check_in_fits_into_a_message() {
    let release = largest_release();
    let answer = CheckInAnswer {
        assignments: (0..HOST_ENVIRONMENTS_MAX)
            .map(|i| Assignment {
                environment: longest(i),
                order: Order::Prepare,
                release: release.clone(),
                way_back: release.clone(),
                ..grown(1)
            })
            .collect(),
        ..grown(1)
    };
    let message = answer.to_wire();
    assert!(message.encoded_len() < MESSAGE_BYTES_MAX, "{}", message.encoded_len());
    assert_eq!(CheckInAnswer::from_wire(message), Ok(answer));
}

#[test]
fn the_largest_report_fits_into_a_request() {
    let environment = |i| EnvironmentReport {
        environment: longest(i),
        running: Some(ReleaseDigest(Digest::of(b""))),
        health: HealthReport::Unhealthy { reason: "😀".repeat(LINE_CHARS_MAX) },
        failure: Some(Failure {
            message: "😀".repeat(LINE_CHARS_MAX),
            log_tail: "x".repeat(LOG_TAIL_BYTES_MAX),
            package: Some(longest(1)),
            ..grown(1)
        }),
        ..grown(1)
    };
    let report = Report {
        features: (0..FEATURES_MAX).map(|i| longest::<crate::id::Zone>(i).to_string()).collect(),
        environments: (0..HOST_ENVIRONMENTS_MAX).map(environment).collect(),
        ..grown(1)
    };
    let message = CheckIn { report, may_hold: true }.to_wire();
    assert!(message.encoded_len() < AGENT_REQUEST_BYTES_MAX, "{}", message.encoded_len());
    assert!(CheckIn::from_wire(message).is_ok());
}

#[test]
fn the_largest_environment_fits_into_a_request() {
    let settings = largest_release().settings.as_ref().clone();
    let selector = (0..LABELS_MAX).map(|i| (longest(i), longest(i))).collect();
    let message = ApplyEnvironment { settings, selector, ..grown(1) }.to_wire();
    assert!(message.encoded_len() < OPERATOR_REQUEST_BYTES_MAX / 4, "{}", message.encoded_len());
    assert!(ApplyEnvironment::from_wire(message).is_ok());
}
