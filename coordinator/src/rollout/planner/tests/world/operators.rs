//! What operators do, as the services have the engine carry it out.

use houston_common::command::HostChange;

use super::*;
use crate::service::{self, Caller};

impl World {
    /// Returns the new rollout, or the one in its way.
    pub(in super::super) fn start(
        &mut self,
        target: Release,
        supersede: bool,
    ) -> Result<RolloutId, RolloutId> {
        let mut inherits = self.environment(PROD).definition.unresolved.clone();
        let id = self.state.meta.rollout.next();
        if let Some(active) = self.active().cloned() {
            if !supersede && self.planted != Some(Planted::CheckThenInsert) {
                return Err(active.id);
            }
            inherits.extend(active.inherits.iter().copied().chain([active.id]));
            let mut definition = self.environment(PROD).definition.clone();
            definition.unresolved.push(active.id);
            self.edit(Edit::Environment(definition));
            if self.planted != Some(Planted::CheckThenInsert) {
                let mut over = active;
                over.end(Stage::Superseded { by: id }, WallTime(0), self.environment(PROD));
                self.edit(Edit::Rollout(over));
            }
        }
        let way_back = self.environment(PROD).definition.baked;
        let stage = Stage::Rolling(Rolling::begin(0));
        self.begin(target, way_back, Direction::Forward, stage, inherits);
        Ok(id)
    }

    /// Takes back a rollout that has succeeded.
    pub(in super::super) fn take_back(&mut self, of: RolloutId) -> RolloutId {
        let done = self.state.rollout(of).expect("a rollout").clone();
        self.begin(done.way_back, done.target, Direction::Back { of }, Stage::RollingBack, Vec::new());
        self.state.meta.rollout
    }

    fn begin(
        &mut self,
        target: Release,
        way_back: Release,
        direction: Direction,
        stage: Stage,
        inherits: Vec<RolloutId>,
    ) {
        let meta = Meta { rollout: self.state.meta.rollout.next(), ..self.state.meta.clone() };
        let environment = self.environment(PROD);
        let policy = environment.definition.policy.clone();
        let mut zones: Vec<Zone> = environment.index().zones().map(|(zone, _)| zone.clone()).collect();
        zones.sort_by_key(|zone| policy.zone_order.iter().position(|z| z == zone).unwrap_or(usize::MAX));
        let planned = environment.index().zones().map(|(zone, counts)| (zone.clone(), counts.in_service));
        // Refused, as operators are, if nobody is left; the way back of a success leaves nobody out.
        let is_all = environment.members().all(|live| self.exclude.contains(&live.member.host));
        let excluded =
            if is_all || direction != Direction::Forward { BTreeSet::new() } else { self.exclude.clone() };
        let members = environment.index().zones().map(|(zone, n)| (zone.clone(), n.hosts)).collect();
        let rollout = Rollout::new(meta.rollout, name(PROD), way_back, target, policy, name("ann"));
        let unwell = environment.members().filter(|live| live.member.in_service() && live.is_unhealthy());
        let unwell_before = unwell.map(|live| live.member.host.clone()).collect();
        let rollout = Rollout { direction, stage, inherits, excluded, unwell_before, ..rollout };
        let rollout = rollout.over(zones, planned.collect(), members);
        self.edit(Edit::Meta(meta));
        self.edit(Edit::Rollout(rollout));
        self.settle();
    }

    fn change_active(&mut self, change: impl FnOnce(&mut Rollout, &Self)) {
        let Some(mut rollout) = self.active().cloned() else { return };
        change(&mut rollout, self);
        self.edit(Edit::Rollout(rollout));
        self.settle();
    }

    /// A pause stops a bake: what is left is kept.
    pub(in super::super) fn pause(&mut self) {
        self.change_active(|rollout, world| {
            if rollout.paused.is_some() {
                return;
            }
            rollout.paused = Some(Pause { by: name("ann"), reason: String::new() });
            if let Stage::Baking { left, since, .. } = &mut rollout.stage {
                *left = left.saturating_sub(world.now.since(*since));
                *since = world.now;
            }
        });
    }

    pub(in super::super) fn resume(&mut self) {
        self.change_active(|rollout, world| {
            if rollout.paused.take().is_some()
                && let Stage::Baking { since, .. } = &mut rollout.stage
            {
                *since = world.now;
            }
        });
    }

    pub(in super::super) fn roll_back(&mut self) {
        let Some(rollout) = self.active().filter(|rollout| !rollout.goes_back()).cloned() else { return };
        let mut definition = self.environment(PROD).definition.clone();
        mark_bad(&mut definition, &rollout);
        self.edit(Edit::Environment(definition));
        self.change_active(|rollout, world| {
            begin_rollback(rollout, world.environment(PROD));
            rollout.paused = None;
            rollout.because(Cause::Operator { name: "ann".to_owned(), reason: String::new() });
        });
    }

    pub(in super::super) fn abort(&mut self) {
        let Some(rollout) = self.active().cloned() else { return };
        let mut definition = self.environment(PROD).definition.clone();
        definition.unresolved.extend(rollout.inherits.iter().copied().chain([rollout.id]));
        self.edit(Edit::Environment(definition));
        self.change_active(|rollout, world| {
            rollout.end(Stage::Aborted, WallTime(0), world.environment(PROD))
        });
    }

    pub(in super::super) fn edit_host(&mut self, host: &str, change: impl FnOnce(&mut fleet::Host)) {
        let before = self.host_record(host);
        let mut after = before.clone();
        change(&mut after);
        let entry = self.state.fleet.get(&after.id).expect("a host");
        let moves = after.zone != before.zone;
        let environments: Vec<&Environment> =
            entry.environments.iter().map(|name| &self.state.environments[name]).collect();
        // Refused, as operators are: an active rollout has pinned the zone.
        if moves && environments.iter().any(|environment| environment.rollout.is_some()) {
            return;
        }
        let mut edits = Vec::new();
        for mut member in self.state.memberships(&after) {
            let had = self.state.environments[&member.environment].member(&after.id);
            if moves || had.is_some_and(|live| live.member.detached) {
                member.zone = after.zone.clone();
            }
            edits.push(Edit::Member(member));
        }
        for environment in environments {
            let leaves =
                environment.member(&after.id).filter(|_| !environment.definition.selects(&after.labels));
            let Some(Live { member, .. }) = leaves else { continue };
            if member.grant.is_some() {
                return;
            }
            edits.push(if member.told.is_none() && member.settled.is_none() {
                Edit::ForgetMember(environment.name().clone(), after.id.clone())
            } else {
                Edit::Member(Member { detached: true, ..member.clone() })
            });
        }
        self.edit(Edit::Host(after));
        for edit in edits {
            self.edit(edit);
        }
        self.settle();
    }

    /// Whatever keeps the host from changes ends.
    pub(in super::super) fn release(&mut self, host: &str) {
        let (caller, request) =
            (Caller::new(name("ann")), HostChange { host: name(host), reason: String::new() });
        let decided = service::hosts::release(&self.state, &caller, &request).expect("a host");
        for edit in decided.edits {
            self.edit(edit);
        }
        self.settle();
    }

    pub(in super::super) fn edit_policy(&mut self, change: impl FnOnce(&mut Policy)) {
        let mut definition = self.environment(PROD).definition.clone();
        change(&mut definition.policy);
        self.edit(Edit::Environment(definition));
        self.settle();
    }

    /// Only hosts with a label belong to `prod` from now on.
    pub(in super::super) fn select(&mut self, key: &str, value: &str) {
        let mut definition = self.environment(PROD).definition.clone();
        definition.selector.insert(name(key), name(value));
        self.edit(Edit::Environment(definition));
        self.settle();
    }

    pub(in super::super) fn join(&mut self, host: &str, zone: &str) {
        let record = new_host(host, zone);
        let members = self.state.memberships(&record);
        self.hosts.insert(record.id.clone(), Host::default());
        self.edit(Edit::Host(record));
        for member in members {
            self.edit(Edit::Member(member));
        }
        self.settle();
    }

    pub(in super::super) fn remove(&mut self, host: &str) {
        let id: HostId = name(host);
        let Some(entry) = self.state.fleet.get(&id) else { return };
        let was_granted = entry.granted_in.is_some();
        for edit in self.state.forgetting(entry) {
            self.edit(edit);
        }
        self.hosts.remove(&id);
        if was_granted && self.planted == Some(Planted::ReleaseTwice) {
            self.change_active(|rollout, _| {
                if let Stage::Rolling(rolling) = &mut rollout.stage {
                    for granted in rolling.granted.values_mut() {
                        *granted = granted.saturating_sub(2);
                    }
                }
            });
        }
        self.settle();
    }

    /// The coordinator starts anew from its records.
    pub(in super::super) fn restart(&mut self) {
        let edits: Vec<Edit> = self
            .records
            .iter()
            .map(|(key, value)| records::decode(key, value).expect("a record of ours"))
            .collect();
        let meta = edits.iter().find_map(|edit| match edit {
            Edit::Meta(meta) => Some(Meta { checkpoint: self.now, ..meta.clone() }),
            _ => None,
        });
        let epoch = Epoch(self.state.epoch.0 + 1);
        self.state = State::new(epoch, meta.clone().expect("a record of the store"), LOST_AFTER);
        let edits = edits.into_iter().filter(|edit| !matches!(edit, Edit::Meta(_)));
        self.state.load(edits.collect());
        self.laws.restarted();
        // Calls under way end with the process.
        self.said.clear();
        self.settle();
    }
}
