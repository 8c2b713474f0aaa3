//! Values of every domain type, grown from a seed: what round trips are tried on.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::assignment::{Assignment, Order, Stamp, Terms};
use crate::clock::WallTime;
use crate::command::*;
use crate::digest::{Digest, FileDigest, ReleaseDigest, SettingsDigest, TreeDigest, VersionSetDigest};
use crate::error::Code;
use crate::exchange::*;
use crate::id::*;
use crate::policy::gate::{Before, Comparison, Condition, Days, Gate, Metric, Number, PASSES_MAX, Window};
use crate::policy::{Bakes, Growth, OnFailure, Pacing, Policy, Share};
use crate::release::{PackageVersion, ReleaseContent, Settings, VersionSet};
use crate::report::{EnvironmentReport, Facts, Failure, HealthReport, Phase, Position, Report};
use crate::rollout::{Away, Cause, Closed, Exception, Held, HostState, Quiet, RolloutState, WaitingOn, Wave};
use crate::view::*;

/// A generator of its own, so that a failing seed means the same for ever (xorshift64*).
pub(super) struct Seed(u64);

impl Seed {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 33) % n
    }

    fn up_to(&mut self, max: u64) -> u64 {
        match self.below(3) {
            0 => max,
            1 => self.next() % (max.min(1000) + 1),
            _ => self.next() % max,
        }
    }

    fn number(&mut self) -> u32 {
        self.up_to(u32::MAX.into()) as u32
    }

    fn flag(&mut self) -> bool {
        self.below(2) == 0
    }

    fn bytes(&mut self, max: u64) -> Vec<u8> {
        (0..=self.below(max)).map(|_| self.next() as u8).collect()
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.flag() { Some(make(self)) } else { None }
    }

    fn some<T>(&mut self, max: u64, make: impl Fn(&mut Self) -> T) -> Vec<T> {
        (0..self.below(max + 1)).map(|_| make(self)).collect()
    }

    /// Distinct keys, in their order.
    fn map<K: Ord, V>(
        &mut self,
        max: u64,
        key: impl Fn(&mut Self) -> K,
        value: impl Fn(&mut Self) -> V,
    ) -> BTreeMap<K, V> {
        (0..self.below(max + 1)).map(|_| (key(self), value(self))).collect()
    }

    fn name<T: FromStr<Err: Debug>>(&mut self) -> T {
        let length = 1 + self.below(20);
        let mut text = String::from("n");
        text.extend((0..length).map(|_| char::from(self.pick(b"abz019-"))));
        text.parse().expect("a name")
    }

    fn line(&mut self) -> String {
        let length = self.below(40);
        (0..length).map(|_| self.pick(&['a', ' ', 'ä', '€', '😀', '"', '%', '\\'])).collect()
    }

    fn words(&mut self) -> String {
        format!("x{}", self.line())
    }

    /// Whole milliseconds: finer ones do not travel.
    fn ms(&mut self, max_ms: u64) -> Duration {
        Duration::from_millis(self.up_to(max_ms))
    }

    fn year(&mut self) -> Duration {
        self.ms(366 * 24 * 3_600_000)
    }

    fn some_year(&mut self) -> Duration {
        self.year().max(Duration::from_millis(1))
    }

    fn wall(&mut self) -> WallTime {
        WallTime(self.up_to(super::WALL_TIME_MAX.0).max(1))
    }

    fn digest(&mut self) -> Digest {
        Digest::of(&self.next().to_le_bytes())
    }

    fn id(&mut self) -> RolloutId {
        RolloutId(self.up_to(u64::MAX - 1) + 1)
    }
}

pub(super) trait Sample {
    fn sample(s: &mut Seed) -> Self;
}

fn sample<T: Sample>(s: &mut Seed) -> T {
    T::sample(s)
}

/// A struct, its fields in order.
macro_rules! samples {
    ($($name:ident { $($field:ident: $make:expr),* $(,)? })*) => {$(
        impl Sample for $name {
            fn sample(s: &mut Seed) -> Self {
                $(let $field = s.make($make);)*
                Self { $($field),* }
            }
        }
    )*};
}

impl Seed {
    fn make<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> T {
        make(self)
    }
}

/// An enum, each of its variants.
macro_rules! one_of {
    ($s:ident, $($value:expr),* $(,)?) => {{
        let makers: &[&dyn Fn(&mut Seed) -> Self] = &[$(&|$s: &mut Seed| { let _ = &$s; $value }),*];
        let make = makers[$s.below(makers.len() as u64) as usize];
        make($s)
    }};
}

samples! {
    PackageVersion { name: Seed::name, version: Seed::name, trees: |s| {
        let mut trees = s.map(7, Seed::name, |s| TreeDigest(s.digest()));
        trees.insert(Platform::any(), TreeDigest(s.digest()));
        trees
    } }
    VersionSet { packages: |s| {
        let names: BTreeMap<PackageName, PackageVersion> = s.map(4, Seed::name, sample);
        names.into_iter().map(|(name, package)| PackageVersion { name, ..package }).collect()
    } }
    ReleaseContent { version_set: |s| Arc::new(sample(s)), settings: |s| Arc::new(sample(s)) }
    ReleaseView { version_set: |s| VersionSetDigest(s.digest()), name: Seed::name, settings: |s| SettingsDigest(s.digest()) }
    Position { start: counter, nonce: Seed::next, sequence: counter }
    Stamp {
        store: |s| StoreId(s.digest().as_bytes()[..16].try_into().expect("16 bytes")),
        epoch: |s| Epoch(s.up_to(super::COUNTER_MAX)),
        generation: |s| Generation(counter(s)),
        mac: |s| *s.digest().as_bytes(),
    }
    Facts {
        hostname: Seed::line, os: Seed::line, kernel: Seed::line, cpus: Seed::number,
        memory_bytes: Seed::next, disk_bytes: Seed::next, disk_free_bytes: Seed::next,
    }
    Failure {
        code: |s| s.pick(Code::ALL), phase: |s| s.pick(&Phase::ALL), package: |s| s.maybe(Seed::name),
        message: Seed::words, log_tail: |s| format!("{}\n\t{}", s.line(), s.line()),
    }
    EnvironmentReport {
        environment: Seed::name, stamp: |s| s.maybe(sample), phase: |s| s.pick(&Phase::ALL),
        running: |s| s.maybe(|s| ReleaseDigest(s.digest())), health: sample, failure: |s| s.maybe(sample),
    }
    Report {
        protocol: |s| s.number().max(1), features: |s| s.map(3, Seed::name::<Zone>, |_| ()).into_keys().map(|f| f.to_string()).collect(),
        position: sample, agent_version: |s| s.name::<Version>().to_string(),
        platforms: |s| s.map(3, Seed::name, |_| ()).into_keys().chain([Platform::any()]).collect(),
        facts: sample, environments: |s| by_name(s.some(4, sample), |r: &EnvironmentReport| r.environment.clone()),
        certificate_expires_ms: |s| s.wall().0,
    }
    CheckIn { report: sample, may_hold: Seed::flag }
    Terms { start_within: Seed::some_year, apply_deadline: Seed::some_year, health_window: Seed::year }
    Assignment { environment: Seed::name, stamp: sample, order: sample, release: sample, way_back: sample }
    CheckInAnswer {
        protocol: |s| s.number().max(1), features: |_| vec!["delta".to_owned()], hold: |s| s.ms(600_000),
        retry_after: |s| s.ms(3_600_000), server_time: Seed::wall,
        assignments: |s| by_name(s.some(4, sample), |a: &Assignment| a.environment.clone()),
        forget: |s| s.map(3, |s| format!("gone-{}", s.name::<Zone>()).parse().expect("name"), |_| ()).into_keys().collect(),
        renew_now: Seed::flag,
    }
    EnrollmentRequest { csr: |s| s.bytes(400), proof: sample }
    IssuedCertificate { certificate_pem: |s| format!("{}\n", s.words()), authority_pem: Seed::words }
    Enrolled {
        host: Seed::name, certificate: sample, zone: Seed::name,
        agent_address: |_| "coordinator.example:7443".parse().expect("address"),
    }
    FileNeed { digest: |s| FileDigest(s.digest()), length: file_length, stored_offset: file_length }
    FileUpload {
        digest: |s| FileDigest(s.digest()), length: file_length, encoding: sample,
        data: |s| s.bytes(2000).into(), last: Seed::flag,
    }
    FileWanted { digest: |s| FileDigest(s.digest()), length: file_length }
    Uploaded { files: Seed::number, bytes: Seed::next }
    PackageFinish { package: sample, reason: Seed::line }
    PackageId { name: Seed::name, version: Seed::name }
    RemovePackage { package: sample, reason: Seed::line }
    PackageView {
        package: sample, bytes: Seed::next, pushed_by: Seed::name, pushed_at: Seed::wall,
        used_by: |s| s.some(3, Seed::name),
    }
    CreateVersionSet {
        name: Seed::name, packages: |s| {
            let mut packages = s.map(3, Seed::name, Seed::name);
            packages.insert("always".parse().expect("name"), s.name());
            packages.into_iter().map(|(name, version)| PackageId { name, version }).collect()
        },
        reason: Seed::line,
    }
    VersionSetView {
        name: Seed::name, digest: |s| VersionSetDigest(s.digest()), packages: |s| sample::<VersionSet>(s).packages,
        created_by: Seed::name, created_at: Seed::wall, baked_in: |s| s.some(3, Seed::name),
    }
    Bakes { one_box: Seed::year, first_zone: Seed::year, later_zones: Seed::year }
    Gate {
        name: Seed::name, before: |s| s.pick(&Before::ALL), condition: sample, within: |s| s.maybe(Seed::some_year),
    }
    GateDecision {
        gate: Seed::name, before: |s| s.maybe(sample), by: Seed::name, at: Seed::wall, remark: Seed::line,
        skipped: Seed::flag,
    }
    DecideGate { rollout: sample, gate: |s| s.maybe(Seed::name), skip: Seed::flag, reason: Seed::line }
    Growth { percent: |s| s.up_to(899) as u16 + 101, most: sample, carries: Seed::flag }
    Policy {
        pacing: |s| s.pick(&[Pacing::Zonal, Pacing::Striped]),
        zone_order: |s| s.map(4, Seed::name, |_| ()).into_keys().rev().collect(),
        zones_at_once: |s| s.up_to(63) as u32 + 1, growth: |s| s.maybe(sample),
        batch: sample, fleet_floor: sample, zone_floor: |s| s.maybe(sample), bake: sample,
        health_window: Seed::year, apply_deadline: Seed::some_year, start_within: Seed::some_year,
        failure_budget: sample, zone_failure_budget: |s| s.maybe(sample), lost_budget: sample,
        on_failure: |s| s.pick(&[OnFailure::Rollback, OnFailure::Halt]), rollback_batch: sample,
        gates: |s| {
            let names = s.map(3, Seed::name, |_| ()).into_keys();
            names.map(|name| Gate { name, ..sample(s) }).collect()
        },
        retries: |s| s.up_to(5) as u32,
    }
    ZoneView {
        zone: Seed::name, hosts: Seed::number, in_service: Seed::number, available: Seed::number,
        floor: |s| s.maybe(Seed::number), updated: Seed::number, moving: Seed::number,
        off_baked: Seed::number,
    }
    WaveView {
        wave: sample, status: |s| s.pick(&[WaveStatus::Done, WaveStatus::Current, WaveStatus::ToCome, WaveStatus::Failed, WaveStatus::Stopped]),
        hosts: Seed::number, settled: Seed::number, bake: Seed::year,
    }
    Quiet { host: Seed::name, last_heard: |s| s.maybe(Seed::year), phase: |s| s.maybe(|s| s.pick(&Phase::ALL)) }
    HostInRollout {
        host: Seed::name, zone: Seed::name, state: sample, lost: Seed::flag, held: Seed::flag,
        failure: |s| s.maybe(sample),
    }
    RolloutView {
        id: Seed::id, environment: Seed::name, state: |s| s.pick(&RolloutState::ALL), cause: |s| s.maybe(sample),
        from: sample, to: sample, started_by: Seed::name, reason: Seed::line, started_at: Seed::wall,
        first_cause: |s| s.maybe(sample), ended_at: |s| s.maybe(Seed::wall), revision: Seed::next, waves: |s| s.some(3, sample),
        zones: |s| s.some(3, sample), waiting: |s| s.some(3, sample), hosts: Seed::number, updated: Seed::number,
        failures: Seed::number, floor: Seed::number, available: Seed::number, notable: |s| s.some(3, sample),
        exceptions: |s| s.some(3, |s| (s.name(), s.pick(&Exception::ALL))), decisions: |s| s.some(3, sample),
        untouched_unwell: |s| s.some(3, Seed::name),
    }
    RolloutSummary {
        id: Seed::id, environment: Seed::name, state: |s| s.pick(&RolloutState::ALL), cause: |s| s.maybe(sample),
        from: sample, to: sample, started_by: Seed::name, reason: Seed::line, started_at: Seed::wall,
        ended_at: |s| s.maybe(Seed::wall), hosts: Seed::number, updated: Seed::number, failures: Seed::number,
        exceptions: Seed::number,
    }
    HostView {
        id: Seed::name, zone: Seed::name, labels: labels,
        presence: |s| s.pick(&[Presence::Unknown, Presence::Seen, Presence::Lost]),
        last_seen_ago: |s| s.maybe(Seed::year), drained: Seed::flag, held: |s| s.maybe(sample),
        revoked: Seed::flag, agent_version: |s| s.maybe(|s| s.name::<Version>().to_string()).unwrap_or_default(),
        platforms: |s| s.some(3, Seed::name), facts: sample, environments: |s| s.some(3, sample),
        certificate_expires: Seed::wall,
    }
    HostEnvironmentView {
        environment: Seed::name, phase: |s| s.pick(&Phase::ALL), running: |s| s.maybe(sample), health: sample,
        in_service: Seed::flag, detached: Seed::flag, failure: |s| s.maybe(sample), waiting: sample,
    }
    EnvironmentView {
        name: Seed::name, selector: labels, policy: sample, settings: sample, baked: sample,
        active: |s| s.maybe(Seed::id), zones: |s| s.some(3, sample), bad: |s| s.some(3, sample),
    }
    RoleBinding { role: |s| s.pick(&Role::ALL), environment: |s| s.maybe(Seed::name) }
    OperatorView { name: Seed::name, roles: roles, revoked: Seed::flag, certificate_expires: Seed::wall }
    TokenView {
        id: Seed::name::<Zone>.then_text(), zone: Seed::name, labels: labels, uses_left: Seed::number,
        expires_in: |s| s.ms(30 * 24 * 3_600_000), ephemeral: Seed::flag, created_by: Seed::name,
    }
    WhoAmI {
        operator: Seed::name, roles: roles, coordinator_version: |s| s.name::<Version>().to_string(),
        store: |s| sample::<Stamp>(s).store, regressed: Seed::flag, server_time: Seed::wall,
    }
    CreateToken {
        zone: Seed::name, labels: labels, uses: |s| 1 + s.up_to(9_999) as u32,
        valid_for: |s| s.ms(30 * 24 * 3_600_000).max(Duration::from_millis(1)), ephemeral: Seed::flag,
        reason: Seed::line,
    }
    CreatedToken { secret: Seed::name::<Zone>.then_text(), token: sample }
    RevokeToken { id: Seed::name::<Zone>.then_text(), reason: Seed::line }
    AddOperator {
        name: Seed::name, roles: |s| vec![sample(s)], csr: |s| s.bytes(400), reason: Seed::line,
    }
    RevokeOperator { name: Seed::name, reason: Seed::line }
    HostFilter { environment: |s| s.maybe(Seed::name), zone: |s| s.maybe(Seed::name), labels: labels, held: Seed::flag }
    Page { size: |s| 1 + s.up_to(999) as u32, token: |s| s.maybe(Seed::words) }
    ListHosts { filter: sample, page: sample }
    EditHost {
        host: Seed::name, zone: |s| s.maybe(Seed::name), set_labels: labels,
        remove_labels: |s| s.map(3, |s| format!("gone-{}", s.name::<Zone>()).parse().expect("key"), |_| ()).into_keys().collect(),
        reason: Seed::line,
    }
    DrainHost { host: Seed::name, drained: Seed::flag, reason: Seed::line }
    HoldHost { host: Seed::name, reason: Seed::words, duration: |s| s.maybe(Seed::some_year) }
    HostChange { host: Seed::name, reason: Seed::line }
    ApplyEnvironment {
        name: Seed::name, selector: labels, policy: sample, settings: sample, dry_run: Seed::flag,
        reason: Seed::line,
    }
    Difference { field: Seed::words, before: |s| s.maybe(Seed::line), after: |s| s.maybe(Seed::line) }
    AppliedEnvironment {
        created: Seed::flag, differences: |s| s.some(3, sample), hosts: Seed::number, joining: Seed::number,
        leaving: Seed::number,
    }
    StartRollout {
        environment: Seed::name, version_set: Seed::name, reason: Seed::line, supersede: Seed::flag,
        force: Seed::flag, allow_outage: Seed::flag,
        idempotency_key: |s| s.maybe(Seed::name::<Zone>.then_text()), plan_hash: |s| s.maybe(Seed::digest),
        policy: |s| s.maybe(sample),
        exclude: |s| s.map(3, Seed::name, |_| ()).into_keys().collect(),
    }
    PlannedWave {
        wave: sample, hosts: Seed::number, batch: Seed::number, bake: Seed::year, first: |s| s.some(3, Seed::name),
    }
    RolloutPlan {
        plan_hash: Seed::digest, from: sample, to: sample, waves: |s| s.some(3, sample), hosts: Seed::number,
        floor: Seed::number, supersedes: |s| s.maybe(Seed::id),
        excluded: |s| s.some(3, Seed::name),
    }
    GetRollout { rollout: sample, after_revision: |s| s.maybe(Seed::next), wait: |s| s.ms(30_000) }
    ListRollouts { environment: |s| s.maybe(Seed::name), limit: |s| 1 + s.up_to(999) as u32 }
    ControlRollout {
        rollout: sample, reason: Seed::line,
        action: |s| s.pick(&[RolloutAction::Pause, RolloutAction::Resume, RolloutAction::Abort, RolloutAction::Rollback]),
    }
    Explain { environment: Seed::name, host: |s| s.maybe(Seed::name) }
}

trait ThenText {
    fn then_text(self) -> impl FnOnce(&mut Seed) -> String;
}

impl<T: ToString, F: FnOnce(&mut Seed) -> T> ThenText for F {
    fn then_text(self) -> impl FnOnce(&mut Seed) -> String {
        |s| self(s).to_string()
    }
}

fn counter(s: &mut Seed) -> u64 {
    s.up_to(super::COUNTER_MAX - 1) + 1
}

fn file_length(s: &mut Seed) -> u64 {
    s.up_to(2 * crate::manifest::TREE_BYTES_MAX)
}

fn labels(s: &mut Seed) -> BTreeMap<LabelKey, LabelValue> {
    s.map(4, Seed::name, Seed::name)
}

fn roles(s: &mut Seed) -> Vec<RoleBinding> {
    let mut roles: Vec<RoleBinding> = s.some(4, sample);
    roles.sort();
    roles.dedup();
    roles
}

fn by_name<T>(values: Vec<T>, name: impl Fn(&T) -> EnvironmentName) -> Vec<T> {
    values.into_iter().map(|value| (name(&value), value)).collect::<BTreeMap<_, _>>().into_values().collect()
}

impl Sample for Settings {
    fn sample(s: &mut Seed) -> Self {
        let key = |s: &mut Seed| format!("K_{}", s.below(1000)).parse().expect("key");
        Self(s.map(4, key, |s| format!("{}\n{}", s.line(), s.line())))
    }
}

impl Sample for HealthReport {
    fn sample(s: &mut Seed) -> Self {
        one_of!(
            s,
            Self::Unknown,
            Self::Healthy { for_at_least: s.year(), passes: s.next() },
            Self::Unhealthy { reason: s.words() },
        )
    }
}

impl Sample for Order {
    fn sample(s: &mut Seed) -> Self {
        one_of!(s, Self::Prepare, Self::Activate(sample(s)))
    }
}

impl Sample for Encoding {
    fn sample(s: &mut Seed) -> Self {
        one_of!(s, Self::Identity, Self::Zstd)
    }
}

impl Sample for EnrollmentProof {
    fn sample(s: &mut Seed) -> Self {
        one_of!(
            s,
            Self::JoinToken { secret: s.name::<Zone>().to_string(), suggested_host: s.maybe(Seed::name) },
            Self::ExpiredCertificate {
                certificate: s.bytes(900),
                signature: s.bytes(70),
                signed_at: s.wall()
            },
        )
    }
}

impl Sample for FileChunk {
    fn sample(s: &mut Seed) -> Self {
        let data = s.bytes(2000);
        let (stored_offset, last) = (s.up_to(1 << 36), s.flag());
        let end = stored_offset + data.len() as u64;
        Self {
            index: s.number(),
            stored_offset,
            encoding: sample(s),
            stored_length: if last { end } else { end + 1 + s.up_to(1 << 35) },
            data: data.into(),
            last,
        }
    }
}

impl Sample for PackageStart {
    fn sample(s: &mut Seed) -> Self {
        one_of!(
            s,
            Self::Header(sample(s)),
            Self::Manifest { tree: TreeDigest(s.digest()), data: s.bytes(2000).into(), last: s.flag() },
        )
    }
}

impl Sample for Share {
    fn sample(s: &mut Seed) -> Self {
        one_of!(s, Self::Hosts(s.up_to(1_000_000) as u32), Self::Percent(s.up_to(100) as u8))
    }
}

impl Sample for Wave {
    fn sample(s: &mut Seed) -> Self {
        one_of!(
            s,
            Self::OneBox,
            Self::Zones(s.some(3, Seed::name)),
            Self::Stripe { number: s.up_to(6) as u32 + 1, of: s.up_to(3) as u32 + 7 }
        )
    }
}

impl Sample for Cause {
    fn sample(s: &mut Seed) -> Self {
        one_of!(
            s,
            Self::FailureBudget {
                host: s.name(),
                failures: s.number(),
                allowed: s.number(),
                zone: s.maybe(Seed::name)
            },
            Self::LostBudget { exceptions: s.number(), allowed: s.number() },
            Self::NobodyUpdated { exceptions: s.number() },
            Self::Operator { name: s.words(), reason: s.line() },
            Self::RollbackFailed { host: s.name() },
            Self::Law { law: s.words() },
            Self::GateClosed { gate: s.name() },
        )
    }
}

fn limit(s: &mut Seed) -> Number {
    Number::new(f64::from(s.number()) / 16.0).expect("finite")
}

impl Sample for Condition {
    fn sample(s: &mut Seed) -> Self {
        let from = s.wall();
        one_of!(
            s,
            Self::Approval { by_another: s.flag() },
            Self::Window(Window {
                time_zone: "Europe/Berlin".to_owned(),
                days: Days::from_bits(s.up_to(126) as u8 + 1).expect("days"),
                from: s.up_to(1439) as u16,
                until: s.up_to(1439) as u16 + 1,
            }),
            Self::Freeze { from, until: from.plus(s.some_year()) },
            Self::Metric(Metric {
                query: s.words(),
                is: s.pick(&Comparison::ALL),
                value: limit(s),
                fresh: s.some_year(),
            }),
            Self::EveryHost { package: s.name(), at_least: s.name() },
            Self::Evidence { passes: s.up_to(PASSES_MAX - 1) + 1 },
        )
    }
}

impl Sample for Closed {
    fn sample(s: &mut Seed) -> Self {
        one_of!(
            s,
            Self::Approval { not_by: s.maybe(Seed::name) },
            Self::Window { opens_in: s.year() },
            Self::Frozen { ends_in: s.year() },
            Self::Metric { value: limit(s), is: s.pick(&Comparison::ALL), wanted: limit(s) },
            Self::MetricUnknown { problem: s.words() },
            Self::Hosts {
                package: s.name(),
                at_least: s.name(),
                hosts: s.some(3, Seed::name),
                more: s.number()
            },
            Self::Evidence { passes: s.next(), of: s.next() },
            Self::NotKnown,
        )
    }
}

impl Sample for HostState {
    fn sample(s: &mut Seed) -> Self {
        one_of!(
            s,
            Self::Waiting,
            Self::Preparing,
            Self::Ready,
            Self::Activating(s.pick(&Phase::ALL)),
            Self::Proving,
            Self::Settled,
            Self::Reverting,
            Self::Reverted,
            Self::Failed(s.pick(&Phase::ALL)),
            Self::TakenBack,
            Self::Excepted,
            Self::Outside,
        )
    }
}

impl Sample for Held {
    fn sample(s: &mut Seed) -> Self {
        one_of!(
            s,
            Self::Operator { name: s.name(), reason: s.line(), left: s.maybe(Seed::year) },
            Self::Clone,
            Self::ForeignAssignment,
            Self::Revoked,
            Self::PenaltyBox { environment: s.name(), failures: s.number(), left: s.year() },
        )
    }
}

impl Sample for WaitingOn {
    fn sample(s: &mut Seed) -> Self {
        one_of!(
            s,
            Self::Prepare { ready: s.number(), of: s.number() },
            Self::Batch {
                open: s.some(3, Seed::name),
                more: s.number(),
                quiet: s.some(3, sample),
                deadline_in: s.year()
            },
            Self::Floor {
                zone: s.maybe(Seed::name),
                available: s.number(),
                floor: s.number(),
                unavailable: s.some(3, |s| (s.name(), s.pick(&Away::ALL)))
            },
            Self::Bake { wave: sample(s), remaining: s.year() },
            Self::Gate {
                gate: s.name(),
                before: s.maybe(sample),
                closed: sample(s),
                halts_in: s.maybe(Seed::year)
            },
            Self::Health { hosts: s.some(3, Seed::name), more: s.number() },
            Self::OtherEnvironment { host: s.name(), environment: s.name() },
            Self::Paused { by: s.words() },
            Self::Halted { cause: sample(s) },
            Self::Regressed,
            Self::UpToDate,
            Self::NothingToRun,
            Self::Turn { wave: sample(s), current: sample(s) },
            Self::Queue { position: s.number(), batch: s.number() },
            Self::Granted { quiet: s.maybe(sample), deadline_in: s.year() },
            Self::Silent { for_about: s.ms(u64::MAX), since_start: s.flag() },
            Self::NotHeardYet,
            Self::Held(sample(s)),
            Self::HeldHosts { hosts: s.some(3, Seed::name), more: s.number() },
            Self::Detached,
            Self::Excepted {
                exception: s.pick(&Exception::ALL),
                rollout: s.id(),
                code: s.maybe(|s| s.pick(Code::ALL)),
            },
            Self::Failed { rollout: s.id(), code: s.maybe(|s| s.pick(Code::ALL)) },
            Self::Drained,
            Self::CatchUp { hosts: s.some(3, Seed::name), more: s.number(), away: s.number() },
            Self::OffBaked { hosts: s.some(3, Seed::name), more: s.number() },
            Self::JoinedLater { rollout: s.id() },
            Self::WentBack { rollout: s.id() },
            Self::Retry { wave: sample(s), left: s.number() },
        )
    }
}

impl Sample for RolloutRef {
    fn sample(s: &mut Seed) -> Self {
        one_of!(s, Self::Id(s.id()), Self::NewestOf(s.name()))
    }
}

impl<T: Sample> Sample for Paged<T> {
    fn sample(s: &mut Seed) -> Self {
        Self { items: s.some(3, sample), next: s.maybe(Seed::words) }
    }
}

/// A list that its message allows to be empty or not alike.
impl<T: Sample> Sample for Vec<T> {
    fn sample(s: &mut Seed) -> Self {
        (0..=s.below(3)).map(|_| sample(s)).collect()
    }
}
