//! Views to render in tests.

use std::collections::BTreeMap;
use std::time::Duration;

use houston_common::clock::WallTime;
use houston_common::digest::{Digest, SettingsDigest, VersionSetDigest};
use houston_common::error::Code;
use houston_common::id::RolloutId;
use houston_common::report::{Facts, Failure, HealthReport, Phase};
use houston_common::rollout::{HostState, RolloutState, WaitingOn, Wave};
use houston_common::view::{
    HostEnvironmentView, HostInRollout, HostView, Presence, ReleaseView, RolloutView, WaveStatus, WaveView,
    ZoneView,
};

/// 2026-11-23 10:00:00 UTC.
pub const STARTED: WallTime = WallTime(1_795_428_000_000);
pub const HOUR: Duration = Duration::from_secs(3600);

pub fn release(name: &str) -> ReleaseView {
    ReleaseView {
        version_set: VersionSetDigest(Digest::of(name.as_bytes())),
        name: name.parse().expect("name"),
        settings: SettingsDigest(Digest::of(b"")),
    }
}

pub fn zone(name: &str, hosts: u32, updated: u32, moving: u32) -> ZoneView {
    ZoneView {
        zone: name.parse().expect("zone"),
        hosts,
        in_service: hosts,
        available: hosts - moving,
        floor: None,
        updated,
        moving,
        off_baked: 0,
    }
}

pub fn wave(wave: Wave, status: WaveStatus, hosts: u32, bake: Duration) -> WaveView {
    WaveView { wave, status, hosts, settled: if status == WaveStatus::Done { hosts } else { 0 }, bake }
}

/// The one box has baked, zone a is on with one host in the middle of its change.
pub fn rolling() -> RolloutView {
    let zone_wave = |name: &str| Wave::Zones(vec![name.parse().expect("zone")]);
    RolloutView {
        id: RolloutId(17),
        environment: "prod".parse().expect("name"),
        state: RolloutState::Rolling,
        cause: None,
        first_cause: None,
        from: release("web-41"),
        to: release("web-42"),
        started_by: "alice".parse().expect("name"),
        reason: "release 42".into(),
        started_at: STARTED,
        ended_at: None,
        revision: 5,
        waves: vec![
            wave(Wave::OneBox, WaveStatus::Done, 1, HOUR),
            wave(zone_wave("a"), WaveStatus::Current, 2, 12 * HOUR),
            wave(zone_wave("b"), WaveStatus::ToCome, 3, 2 * HOUR),
        ],
        zones: vec![zone("a", 3, 1, 1), zone("b", 3, 0, 0)],
        waiting: vec![WaitingOn::Batch {
            open: vec!["web-2-aaaaa".parse().expect("id")],
            more: 0,
            quiet: Vec::new(),
            deadline_in: Duration::from_secs(540),
        }],
        hosts: 6,
        updated: 1,
        failures: 0,
        floor: 4,
        available: 5,
        notable: vec![host("web-2-aaaaa", "a", HostState::Activating(Phase::Starting))],
        exceptions: Vec::new(),
        untouched_unwell: Vec::new(),
        decisions: Vec::new(),
    }
}

pub fn host(id: &str, zone: &str, state: HostState) -> HostInRollout {
    HostInRollout {
        host: id.parse().expect("id"),
        zone: zone.parse().expect("zone"),
        state,
        lost: false,
        held: false,
        failure: None,
    }
}

pub fn failure() -> Failure {
    Failure {
        code: Code::HookExit,
        phase: Phase::Starting,
        package: Some("web".parse().expect("name")),
        message: "start ended with status 1".into(),
        log_tail: "loading\n\u{1b}[31mcannot bind\u{1b}[0m\n".into(),
    }
}

/// The rollout above, after the host has failed and gone back.
pub fn failed() -> RolloutView {
    let mut view = rolling();
    view.revision = 6;
    view.state = RolloutState::RollingBack;
    view.failures = 1;
    view.cause = Some(houston_common::rollout::Cause::FailureBudget {
        host: "web-2-aaaaa".parse().expect("id"),
        failures: 1,
        allowed: 0,
        zone: None,
    });
    view.notable =
        vec![HostInRollout { failure: Some(failure()), ..host("web-2-aaaaa", "a", HostState::Reverted) }];
    view.waves[1].status = WaveStatus::Failed;
    view.zones[0].moving = 0;
    view.zones[0].available = 3;
    view.waiting.clear();
    view
}

pub fn host_view() -> HostView {
    HostView {
        id: "web-2-aaaaa".parse().expect("id"),
        zone: "a".parse().expect("zone"),
        labels: BTreeMap::from([("role".parse().expect("key"), "web".parse().expect("value"))]),
        presence: Presence::Seen,
        last_seen_ago: Some(Duration::from_secs(4)),
        drained: false,
        held: None,
        revoked: false,
        agent_version: "0.1.0".into(),
        platforms: vec!["linux-amd64".parse().expect("name"), "any".parse().expect("name")],
        facts: Facts {
            hostname: "web-2".into(),
            os: "Debian 13".into(),
            kernel: "6.12".into(),
            cpus: 4,
            memory_bytes: 8 << 30,
            disk_bytes: 100 << 30,
            disk_free_bytes: 55 << 30,
        },
        environments: vec![HostEnvironmentView {
            environment: "prod".parse().expect("name"),
            phase: Phase::Settled,
            running: Some(release("web-41")),
            health: HealthReport::Healthy { for_at_least: HOUR, passes: 1200 },
            in_service: true,
            detached: false,
            failure: None,
            waiting: WaitingOn::UpToDate,
        }],
        certificate_expires: WallTime(STARTED.0 + 86_400_000),
    }
}
