//! Laws of how a rollout goes on.

use houston_common::policy::gate::{Condition, Gate};
use houston_common::rollout::Cause;
use houston_coordinator::environment::member::{Lane, Member, Step};
use houston_coordinator::rollout::{Rolling, Rollout, Stage};

use super::{Checker, Commit, is_rolling};

impl Checker {
    pub(super) fn rollout_changed(
        &mut self,
        before: Option<&Rollout>,
        after: &Rollout,
        commit: &Commit,
        now: u64,
    ) {
        if let Stage::Baking { .. } = after.stage {
            self.histories.entry(after.id).or_default().baking_since.get_or_insert(now);
        }
        // A turn whose changes fill one commit halts in the next: what is known there must have halted it.
        let known = before.is_some_and(|before| before.first_failure.is_some());
        if known && after.first_failure.is_some() && is_rolling(after) {
            self.broken("L6 halt latency", format!("{} goes on after {:?}", after.id, after.first_failure));
        }
        if after.first_failure.is_some() && after.stage == Stage::RollingBack {
            self.broken(
                "E17 no rollback of a rollback",
                format!("{} goes on after {:?}", after.id, after.first_failure),
            );
        }
        let Some(before) = before else {
            let members = self.members_of(&after.environment).filter(|member| member.in_scope(after.id));
            let scope = members.map(|member| member.host.clone()).collect();
            self.histories.entry(after.id).or_default().scope = scope;
            return;
        };
        self.stays_as_created(before, after);
        if let (Stage::Halted, Stage::RollingBack, Some(Cause::RollbackFailed { host }), cause) =
            (&before.stage, &after.stage, &before.cause, &after.cause)
            && !matches!(cause, Some(Cause::Operator { .. }))
        {
            let detail = format!("{} rolls back again by itself after {host} failed to go back", after.id);
            self.broken("E17 no rollback of a rollback", detail);
        }
        let goes_on = match (&before.stage, &after.stage) {
            (Stage::Baking { wave, .. }, Stage::Gated { .. } | Stage::Rolling(_) | Stage::Succeeded) => {
                let since = self.histories.entry(after.id).or_default().baking_since.take();
                let baked = since.map_or(0, |since| now - since);
                let due = before.bake_of(*wave).as_millis() as u64;
                // A process reckons from the last millisecond that it has seen.
                if baked + 1 < due {
                    self.broken("E5 bake", format!("wave {wave} of {} baked {baked} of {due} ms", after.id));
                }
                true
            }
            (Stage::Rolling(before), Stage::Rolling(after)) => {
                let granted = |rolling: &Rolling| rolling.granted.values().sum::<u32>();
                after.batch > before.batch || granted(after) < granted(before)
            }
            (Stage::Gated { before: wave, .. }, Stage::Rolling(_) | Stage::Succeeded) => {
                let asks = |gate: &&Gate| matches!(gate.condition, Condition::Approval { .. });
                // What was decided may be in this very commit.
                if let Some(gate) = after.undecided(*wave).find(asks) {
                    let detail = format!("{} passed {}, which nobody had approved", after.id, gate.name);
                    self.broken("gates are closed", detail);
                }
                true
            }
            (Stage::Rolling(_), Stage::Succeeded) => {
                self.broken("E5 bake", format!("{} succeeded without a bake", after.id));
                true
            }
            _ => false,
        };
        if goes_on {
            self.updated_are_well(after);
        }
        if before.stage != Stage::Succeeded && after.stage == Stage::Succeeded {
            self.is_complete(after, commit);
        }
    }

    fn stays_as_created(&mut self, before: &Rollout, after: &Rollout) {
        let fixed = |rollout: &Rollout| {
            let Rollout {
                environment, target, way_back, policy, direction, zones, members, started_by, ..
            } = rollout;
            (
                environment.clone(),
                (*target, *way_back),
                policy.clone(),
                *direction,
                zones.clone(),
                members.clone(),
                started_by.clone(),
            )
        };
        if fixed(before) != fixed(after) {
            self.broken("E10 immutable decisions", format!("{before:?} became {after:?}"));
        }
    }

    fn own(&self, rollout: &Rollout) -> Vec<Member> {
        let own = |member: &&Member| member.lane == Lane::Rollout(rollout.id);
        self.members_of(&rollout.environment).filter(own).cloned().collect()
    }

    /// Before more hosts are changed, every changed one is known to be well.
    fn updated_are_well(&mut self, rollout: &Rollout) {
        for member in self.own(rollout) {
            let is_updated = member.step == Step::Settled && !member.detached && !rollout.target.is_empty();
            if is_updated && !self.is_known_well(&member.environment, &member.host) {
                let detail = format!("{} goes on, and {} is not known to be well", rollout.id, member.host);
                self.broken("E19 fresh health", detail);
            }
            // Those of this very commit are not among the grants yet.
            if member.grant.is_some_and(|grant| self.grants.contains_key(&grant.generation)) {
                self.broken(
                    "E7 all reported",
                    format!("{} goes on, and {} has not ended", rollout.id, member.host),
                );
            }
        }
    }

    /// Every host in scope runs the target, or is named.
    fn is_complete(&mut self, rollout: &Rollout, commit: &Commit) {
        let scope: Vec<Member> = self
            .members_of(&rollout.environment)
            .filter(|member| member.in_scope(rollout.id))
            .cloned()
            .collect();
        for member in scope {
            let is_named = |member: &Member| {
                let ended = matches!(member.step, Step::Excepted(_) | Step::Reverted | Step::Failed);
                member.lane == Lane::Rollout(rollout.id) && ended
            };
            // The standing lane may have taken it over in the same commit.
            let changes = commit.members.iter().filter(|(_, after)| after.host == member.host);
            let named = is_named(&member) || changes.filter_map(|(before, _)| before.as_ref()).any(is_named);
            let goes_forward = rollout.direction == houston_coordinator::rollout::Direction::Forward;
            if !named && goes_forward && member.settled != Some(rollout.target) {
                let detail = format!(
                    "{} succeeded, {} runs {:?}: {:?}",
                    rollout.id, member.host, member.settled, member.step
                );
                self.broken("E20 complete means all", detail);
            }
        }
    }
}
