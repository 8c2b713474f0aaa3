//! A state for tests: changed only by the edits of decisions, and by hosts that report.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::str::FromStr;
use std::time::Duration;

use houston_common::clock::{FleetTime, WallTime};
use houston_common::command::{
    ApplyEnvironment, ControlRollout, CreateToken, CreateVersionSet, PackageFinish, RolloutAction,
    RolloutRef, StartRollout,
};
use houston_common::digest::{Digest, TreeDigest};
use houston_common::error::{Code, Refusal};
use houston_common::id::{Epoch, Generation, HostId, Platform, RolloutId, StoreId};
use houston_common::policy::Policy;
use houston_common::release::{PackageVersion, Release, Settings};
use houston_common::report::{EnvironmentReport, HealthReport, Phase};
use houston_common::view::PackageId;

use super::access::TokenParts;
use super::hosts::enrollment::{Enrollment, enroll};
use super::{Caller, access, catalog, environments, rollouts};
use crate::audit::Audit;
use crate::engine::core::Decided;
use crate::environment::member::Member;
use crate::fleet::Contact;
use crate::rollout::{Rollout, Stage};
use crate::state::{Edit, Meta, State};

pub(super) const WALL: WallTime = WallTime(1_800_000_000_000);

pub(super) fn name<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().expect("a name")
}

pub(super) fn alice() -> Caller {
    Caller::new(name("alice"))
}

pub(super) struct World {
    pub(super) state: State,
    pub(super) now: FleetTime,
}

impl World {
    pub(super) fn empty() -> Self {
        let meta = Meta {
            store: StoreId([7; 16]),
            mac_key: [1; 32],
            generation: Generation(0),
            rollout: RolloutId(0),
            audit: 0,
            checkpoint: FleetTime(0),
            regressed: false,
        };
        Self { state: State::new(Epoch(1), meta, Duration::from_secs(90)), now: FleetTime(1_000_000) }
    }

    /// Two hosts in each of the zones a, b and c, labelled `env=prod`; the environment prod over them,
    /// version sets v1 and v2, and v1 baked and settled on every host.
    pub(super) fn prod() -> Self {
        let mut world = Self::empty();
        world.token("join", "a", 100);
        world.environment("prod", &[("env", "prod")]);
        for (host, zone) in [("a1", "a"), ("a2", "a"), ("b1", "b"), ("b2", "b"), ("c1", "c"), ("c2", "c")] {
            world.host(host, zone, &[("env", "prod")]);
        }
        world.version_set("v1");
        world.version_set("v2");
        world.settle_all("v1");
        world
    }

    /// Carries a decision out as the engine does.
    pub(super) fn commit<T>(&mut self, decided: Decided<T>) -> T {
        let Decided { edits, note, reply } = decided;
        assert!(edits.is_empty() || note.is_some(), "a change without an audit entry");
        for edit in edits {
            self.state.apply(edit, self.now);
        }
        if let Some(note) = note {
            self.state.meta.audit += 1;
            let (who, what, why) = (note.who, note.what, note.why);
            let (before, after) = (note.before, note.after);
            let sequence = self.state.meta.audit;
            let audit = Audit { sequence, at: WALL, who, what, why, before, after };
            self.state.apply(Edit::Audit(audit), self.now);
        }
        reply
    }

    pub(super) fn last_audit(&self) -> &Audit {
        self.state.audit.back().expect("an audit entry")
    }

    pub(super) fn token(&mut self, id: &str, zone: &str, uses: u32) {
        let request = CreateToken {
            zone: name(zone),
            labels: BTreeMap::from([(name("env"), name("prod"))]),
            uses,
            valid_for: Duration::from_secs(3600),
            ephemeral: false,
            reason: String::new(),
        };
        let parts = TokenParts { id: id.to_owned(), secret: Digest::of(id.as_bytes()) };
        let decided = access::create_token(&self.state, &alice(), &request, parts, self.now, WALL);
        self.commit(decided.expect("a token"));
    }

    pub(super) fn environment(&mut self, environment: &str, selector: &[(&str, &str)]) {
        let request = applied(environment, selector);
        let decided = environments::apply(&self.state, &alice(), &request).expect("applied");
        self.commit(decided);
    }

    /// A host of this very id, which has checked in.
    pub(super) fn host(&mut self, id: &str, zone: &str, labels: &[(&str, &str)]) {
        let mut token = self.state.access.tokens["join"].clone();
        token.zone = name(zone);
        token.labels = labels.iter().map(|(key, value)| (name(key), name(value))).collect();
        self.state.apply(Edit::Token(token), self.now);
        let request = enrollment("join", None, &format!("{id}-x"));
        let decided = enroll(&self.state, &request, self.now, WALL).expect("decided");
        let joined = self.commit(Decided {
            edits: decided.edits.into_iter().map(|edit| renamed(edit, id)).collect(),
            ..decided
        });
        joined.expect("accepted");
        let contact = Contact { sequence: 1, agent_version: "1.0".to_owned(), ..Contact::default() };
        self.state.fleet.heard_of(&name(id), self.now, contact);
        self.state.recount_host(&name(id));
    }

    pub(super) fn version_set(&mut self, version: &str) {
        let package = package(version, &format!("tree of {version}"));
        let finish = PackageFinish { package, reason: String::new() };
        let decided = catalog::commit_package(&self.state, &alice(), &finish, 10, WALL).expect("entered");
        let id = self.commit(decided);
        let request = set(version, &[id]);
        let wall = WallTime(WALL.0 + self.state.catalog.sets().count() as u64);
        let decided = catalog::create_set(&self.state, &alice(), &request, wall).expect("created");
        self.commit(decided);
    }

    pub(super) fn release(&self, version: &str) -> Release {
        let environment = self.prod_environment();
        let set = self.state.catalog.set_named(&name(version)).expect("a version set");
        Release { version_set: set.set.digest(), settings: environment.definition.settings }
    }

    pub(super) fn prod_environment(&self) -> &crate::environment::Environment {
        &self.state.environments["prod"]
    }

    /// Every host of prod runs the version, is healthy, and the version is baked.
    pub(super) fn settle_all(&mut self, version: &str) {
        let release = self.release(version);
        let mut definition = self.prod_environment().definition.clone();
        definition.baked = release;
        self.state.apply(Edit::Environment(definition), self.now);
        let hosts: Vec<HostId> =
            self.prod_environment().members().map(|live| live.member.host.clone()).collect();
        for host in hosts {
            self.edit_member(host.as_str(), |member| {
                member.settled = Some(release);
                member.owes = false;
            });
            self.report(host.as_str(), Phase::Settled, Some(release));
        }
    }

    pub(super) fn member(&self, host: &str) -> &Member {
        &self.prod_environment().member(&name(host)).expect("a member").member
    }

    pub(super) fn edit_member(&mut self, host: &str, edit: impl FnOnce(&mut Member)) {
        let mut member = self.member(host).clone();
        edit(&mut member);
        self.state.apply(Edit::Member(member), self.now);
    }

    pub(super) fn report(&mut self, host: &str, phase: Phase, running: Option<Release>) {
        let report = EnvironmentReport {
            environment: name("prod"),
            stamp: None,
            phase,
            running: running.map(|release| release.digest()),
            health: HealthReport::Healthy { for_at_least: Duration::from_secs(60), passes: 10 },
            failure: None,
        };
        let World { state, .. } = self;
        let environment = state.environments.get_mut("prod").expect("prod");
        environment.set_report(&name(host), report, &state.fleet);
    }

    pub(super) fn start(&mut self, request: &StartRollout) -> Result<RolloutId, Refusal> {
        let decided = rollouts::start(&self.state, &alice(), request, self.now, WALL)?;
        Ok(self.commit(decided))
    }

    pub(super) fn control(
        &mut self,
        rollout: RolloutRef,
        action: RolloutAction,
    ) -> Result<RolloutId, Refusal> {
        let request = ControlRollout { rollout, action, reason: "because".to_owned() };
        let decided = rollouts::control(&self.state, &alice(), &request, self.now, WALL)?;
        Ok(self.commit(decided))
    }

    pub(super) fn active(&self) -> &Rollout {
        self.prod_environment().rollout.as_ref().expect("an active rollout")
    }

    /// Puts the active rollout where the test needs it.
    pub(super) fn edit_active(&mut self, edit: impl FnOnce(&mut Rollout)) {
        let mut rollout = self.active().clone();
        edit(&mut rollout);
        self.state.apply(Edit::Rollout(rollout), self.now);
    }

    /// The active rollout ends well, on every host.
    pub(super) fn succeed(&mut self, version: &str) {
        let id = self.active().id;
        self.settle_all(version);
        let hosts: Vec<HostId> =
            self.prod_environment().members().map(|live| live.member.host.clone()).collect();
        for host in hosts {
            self.edit_member(host.as_str(), |member| {
                member.lane = crate::environment::member::Lane::Rollout(id);
                member.step = crate::environment::member::Step::Settled;
            });
        }
        let mut over = self.active().clone();
        over.end(Stage::Succeeded, WALL, self.prod_environment());
        self.state.apply(Edit::Rollout(over), self.now);
        let mut definition = self.prod_environment().definition.clone();
        definition.unresolved.clear();
        self.state.apply(Edit::Environment(definition), self.now);
    }

    pub(super) fn later(&mut self, wait: Duration) {
        self.now = self.now.plus(wait);
    }
}

fn renamed(edit: Edit, id: &str) -> Edit {
    if let Edit::Host(host) = edit {
        Edit::Host(crate::fleet::Host { id: name(id), ..host })
    } else if let Edit::Member(member) = edit {
        Edit::Member(Member { host: name(id), ..member })
    } else {
        edit
    }
}

pub(super) fn applied(environment: &str, selector: &[(&str, &str)]) -> ApplyEnvironment {
    ApplyEnvironment {
        name: name(environment),
        selector: selector.iter().map(|(key, value)| (name(key), name(value))).collect(),
        policy: Policy::default(),
        settings: Settings::default(),
        dry_run: false,
        reason: "because".to_owned(),
    }
}

pub(super) fn enrollment(token: &str, suggested: Option<&str>, suffix: &str) -> Enrollment {
    Enrollment {
        token: token.to_owned(),
        secret: Digest::of(token.as_bytes()),
        suggested: suggested.map(name),
        suffix: suffix.to_owned(),
        key: Digest::of(suffix.as_bytes()),
        key_der: suffix.as_bytes().to_vec(),
        certificate_expires: WallTime(WALL.0 + 1),
    }
}

pub(super) fn package(version: &str, tree: &str) -> PackageVersion {
    PackageVersion {
        name: name("web"),
        version: name(version),
        trees: BTreeMap::from([(Platform::any(), TreeDigest(Digest::of(tree.as_bytes())))]),
    }
}

pub(super) fn set(version_set: &str, packages: &[PackageId]) -> CreateVersionSet {
    CreateVersionSet { name: name(version_set), packages: packages.to_vec(), reason: String::new() }
}

pub(super) fn to(version_set: &str) -> StartRollout {
    StartRollout {
        environment: name("prod"),
        version_set: name(version_set),
        reason: "because".to_owned(),
        supersede: false,
        force: false,
        allow_outage: false,
        idempotency_key: None,
        plan_hash: None,
        policy: None,
        exclude: Vec::new(),
    }
}

pub(super) fn newest() -> RolloutRef {
    RolloutRef::NewestOf(name("prod"))
}

/// The refusal, its code checked, as a person reads it.
pub(super) fn refused<T: Debug>(result: Result<T, Refusal>, code: Code) -> String {
    let refusal = result.expect_err(code.as_str());
    assert_eq!(refusal.code, code, "{refusal}");
    refusal.to_string()
}
