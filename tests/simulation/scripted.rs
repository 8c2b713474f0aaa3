//! What operators ask for besides the everyday: to start what they have looked at, to uninstall, and to
//! remove what nobody needs.

use houston_common::clock::{FleetTime, WallTime};
use houston_common::command::{EMPTY_VERSION_SET, RemovePackage, StartRollout};
use houston_common::digest::{Digest, SettingsDigest};
use houston_common::error::{Code, Refusal};
use houston_common::id::{EnvironmentName, HostId, RolloutId, Zone};
use houston_common::policy::{Policy, Share};
use houston_common::release::{PackageVersion, Release};
use houston_common::view::PackageId;
use houston_coordinator::engine::core::{Core, Decided};
use houston_coordinator::environment::member::Told;
use houston_coordinator::service::{Caller, catalog, rollouts};
use houston_coordinator::state::{Edit, Meta, State};

use super::checker::notice;
use super::name;
use super::operator::done;
use super::planted::Planted;

#[derive(Debug, Clone)]
pub(super) enum Scripted {
    /// To start by the plan that was looked at.
    StartPlanned {
        environment: EnvironmentName,
        set: String,
        looked: Box<Looked>,
    },
    /// Without a plan, and so refused.
    Uninstall {
        environment: EnvironmentName,
    },
    RemovePackage(PackageVersion),
}

/// A plan as it was looked at, and all that decides what it would do.
#[derive(Debug, Clone)]
pub(super) struct Looked {
    hash: Digest,
    ground: Ground,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Ground {
    baked: Release,
    settings: SettingsDigest,
    policy: Policy,
    active: Option<RolloutId>,
    hosts: Vec<(HostId, Zone, Zone, Option<Release>)>,
}

fn ground(state: &State, name: &EnvironmentName) -> Option<Ground> {
    let environment = state.environments.get(name)?;
    let members = environment.members().filter(|live| !live.member.detached);
    let hosts = members.filter_map(|live| {
        let member = &live.member;
        let zone = state.fleet.get(&member.host)?.host.zone.clone();
        Some((member.host.clone(), member.zone.clone(), zone, member.settled))
    });
    let definition = &environment.definition;
    Some(Ground {
        baked: definition.baked,
        settings: definition.settings,
        policy: definition.policy.clone(),
        active: environment.rollout.as_ref().map(|rollout| rollout.id),
        hosts: hosts.collect(),
    })
}

fn request(environment: &EnvironmentName, set: &str, plan_hash: Option<Digest>) -> StartRollout {
    StartRollout {
        environment: environment.clone(),
        version_set: name(set),
        reason: String::new(),
        supersede: plan_hash.is_some(),
        // What was looked at is wanted, also if it was taken back before.
        force: plan_hash.is_some(),
        allow_outage: false,
        idempotency_key: None,
        plan_hash,
        policy: None,
        exclude: Vec::new(),
    }
}

/// Looks at what a start would do now. Absent if it would be refused.
pub(super) fn look(
    state: &State,
    environment: &EnvironmentName,
    set: &str,
    now: FleetTime,
    wall: WallTime,
) -> Option<Scripted> {
    let request = StartRollout { supersede: true, force: true, ..request(environment, set, None) };
    let hash = rollouts::plan(state, &Caller::new(name("alice")), &request, now, wall).ok()?.plan_hash();
    let looked = Box::new(Looked { hash, ground: ground(state, environment)? });
    Some(Scripted::StartPlanned { environment: environment.clone(), set: set.to_owned(), looked })
}

impl Scripted {
    pub(super) fn give(
        &self,
        core: &mut Core,
        now: FleetTime,
        wall: WallTime,
        planted: Option<Planted>,
    ) -> Result<String, Refusal> {
        let before = match self {
            Self::StartPlanned { environment, .. } => ground(core.state(), environment),
            _ => None,
        };
        if let (Self::Uninstall { environment }, Some(Planted::SetAgentConfig)) = (self, planted) {
            return core.command(now, wall, |state, _| Ok(broadcast(state, environment)));
        }
        let result = core.command(now, wall, |state, now| match (self, planted) {
            (Self::StartPlanned { environment, set, .. }, Some(Planted::CheckOnlyInCli)) => {
                let request =
                    StartRollout { supersede: true, force: true, ..request(environment, set, None) };
                rollouts::start(state, &Caller::new(name("alice")), &request, None, now, wall).map(done)
            }
            (Self::RemovePackage(package), Some(Planted::DeleteByAge)) => Ok(Decided {
                edits: vec![Edit::ForgetPackage(package.name.clone(), package.version.clone())],
                note: None,
                reply: String::new(),
            }),
            _ => self.decide(state, now, wall),
        });
        self.judge(before, &result);
        result
    }

    pub(super) fn decide(
        &self,
        state: &State,
        now: FleetTime,
        wall: WallTime,
    ) -> Result<Decided<String>, Refusal> {
        let caller = Caller::new(name("alice"));
        match self {
            Self::StartPlanned { environment, set, looked } => rollouts::start(
                state,
                &caller,
                &request(environment, set, Some(looked.hash)),
                None,
                now,
                wall,
            )
            .map(done),
            Self::Uninstall { environment } => {
                let request =
                    StartRollout { supersede: true, ..request(environment, EMPTY_VERSION_SET, None) };
                rollouts::start(state, &caller, &request, None, now, wall).map(done)
            }
            Self::RemovePackage(package) => {
                let package = PackageId { name: package.name.clone(), version: package.version.clone() };
                let request = RemovePackage { package, reason: String::new() };
                catalog::remove_package(state, &caller, &request).map(done)
            }
        }
    }

    /// A plan that was looked at is started as long as it is what would happen, and not a moment longer.
    fn judge(&self, before: Option<Ground>, result: &Result<String, Refusal>) {
        const LAW: &str = "E23 guard rails in the commit";
        match (self, result) {
            (Self::StartPlanned { looked, .. }, Ok(_)) if before.as_ref() != Some(&looked.ground) => {
                notice(LAW, format!("started by a stale plan: {:?}, now {before:?}", looked.ground));
            }
            (Self::StartPlanned { looked, .. }, Err(refusal))
                if refusal.code == Code::PlanChanged && before.as_ref() == Some(&looked.ground) =>
            {
                notice(LAW, format!("nothing has changed, and {refusal}"));
            }
            (Self::Uninstall { environment }, Ok(_)) => {
                notice(LAW, format!("{environment} is uninstalled, and nobody looked at the plan"));
            }
            _ => {}
        }
    }
}

/// All hosts are told new settings at once, beside every rollout: where that bug is planted.
fn broadcast(state: &State, environment: &EnvironmentName) -> Decided<String> {
    let settings = Digest::of(b"LOG_LEVEL = debug");
    let mut generation = state.meta.generation;
    let members = state.environments.get(environment).into_iter().flat_map(|of| of.members());
    let mut edits: Vec<Edit> = Vec::new();
    for live in members {
        let (Some(settled), None) = (live.member.settled, live.member.grant) else { continue };
        generation = generation.next();
        let release = Release { settings: SettingsDigest(settings), ..settled };
        let told = Told { generation, terms: None, release, way_back: settled };
        let mut member = live.member.clone();
        member.told = Some(told);
        edits.push(Edit::Member(member));
    }
    edits.push(Edit::Meta(Meta { generation, ..state.meta.clone() }));
    Decided { edits, note: None, reply: String::new() }
}

/// The active rollout by another policy than it has pinned: where that bug is planted.
pub(super) fn edited_in_place(state: &State, environment: &EnvironmentName) -> Option<Edit> {
    let mut rollout = state.environments.get(environment)?.rollout.clone()?;
    rollout.policy.batch = Share::Percent(100);
    Some(Edit::Rollout(rollout))
}
