//! What must hold of a plan, by the state before it.

use houston_common::policy::Pacing;

use super::*;

impl Laws {
    pub(in super::super) fn planned(&mut self, environment: &Environment, fleet: &Fleet, plan: &Plan) {
        let rollout = environment.rollout.as_ref();
        self.generation = self.given.last().copied().unwrap_or_default();
        self.floors(environment, fleet, plan);
        for grant in &plan.grants {
            self.one_grant(environment, fleet, grant);
        }
        let turns = plan.changes.iter().filter_map(|change| match change {
            Change::Turn(turn) => Some(turn),
            _ => None,
        });
        if let Some(rollout) = rollout {
            turns.for_each(|turn| self.turn(environment, rollout, turn));
            let grants: Vec<&Grant> =
                plan.grants.iter().filter(|grant| matches!(grant.lane, Lane::Rollout(_))).collect();
            if !grants.is_empty() {
                self.rollout_grants(environment, rollout, &grants);
            }
        }
    }

    /// Whether a host serves, by what it said last.
    fn serves(&self, environment: &Environment, fleet: &Fleet, member: &Member) -> bool {
        let healthy =
            self.report(member).is_some_and(|report| matches!(report.health, HealthReport::Healthy { .. }));
        let Some(entry) = fleet.get(&member.host) else { return false };
        let elsewhere = entry.granted_in.as_ref().is_some_and(|name| name != environment.name());
        let lost = entry.contact.lost || entry.contact.last_seen.is_none();
        member.in_service() && healthy && member.grant.is_none() && !entry.host.drained && !elsewhere && !lost
    }

    fn report(&self, member: &Member) -> Option<&EnvironmentReport> {
        self.reports.get(&(member.environment.clone(), member.host.clone()))
    }

    fn floors(&mut self, environment: &Environment, fleet: &Fleet, plan: &Plan) {
        let mut taken: BTreeMap<Zone, u32> = BTreeMap::new();
        for grant in &plan.grants {
            let Some(live) = environment.member(&grant.host) else { continue };
            if grant.release.is_empty() || !self.serves(environment, fleet, &live.member) {
                continue;
            }
            let zone = live.member.zone.clone();
            *taken.entry(zone.clone()).or_default() += 1;
            let rollout = environment.rollout.as_ref().filter(|_| grant.lane != Lane::Standing);
            let policy = rollout.map_or(&environment.definition.policy, |rollout| &rollout.policy);
            let fleet_taken = taken.values().sum();
            self.floor(environment, fleet, rollout, policy.fleet_floor, None, fleet_taken);
            if let Some(share) = policy.zone_floor {
                let zone_taken = taken[&zone];
                self.floor(environment, fleet, rollout, share, Some(&zone), zone_taken);
            }
        }
    }

    fn floor(
        &mut self,
        environment: &Environment,
        fleet: &Fleet,
        rollout: Option<&Rollout>,
        share: Share,
        zone: Option<&Zone>,
        taken: u32,
    ) {
        let (mut in_service, mut serving) = (0, 0);
        for live in environment.members() {
            if zone.is_none_or(|zone| live.member.zone == *zone) && live.member.in_service() {
                in_service += 1;
                serving += u32::from(self.serves(environment, fleet, &live.member));
            }
        }
        let began = rollout.and_then(|rollout| self.planned.get(&rollout.id)).map(|planned| match zone {
            Some(zone) => planned.get(zone).copied().unwrap_or(0),
            None => planned.values().sum(),
        });
        let away = in_service - serving;
        let allowed = |base: u32| base.saturating_sub(share.at_least_of(base));
        let base = if began.unwrap_or(0) == 0 { in_service } else { began.unwrap_or(0).min(in_service) };
        let budget = allowed(base);
        if away + taken <= budget {
            return;
        }
        let detail = format!("{away} away and {taken} more, {budget} allowed, zone {zone:?}");
        self.broke("E1", detail.clone());
        if away >= budget {
            self.broke("E3", detail.clone());
        }
        if rollout.is_some_and(Rollout::goes_back) {
            self.broke("E16", detail.clone());
        }
        if away + taken <= allowed(in_service) {
            self.broke("E21", detail);
        }
    }

    fn one_grant(&mut self, environment: &Environment, fleet: &Fleet, grant: &Grant) {
        let host = &grant.host;
        let (Some(live), Some(entry)) = (environment.member(host), fleet.get(host)) else {
            return self.broke("scope", format!("{host} is no member"));
        };
        if live.member.grant.is_some() || entry.granted_in.is_some() {
            self.broke("one-grant", format!("{host} has an open grant"));
        }
        if live.member.detached || entry.host.held.is_some() || entry.host.revoked {
            self.broke("scope", format!("{host} is detached, held or revoked"));
        }
        let excluded = environment.rollout.as_ref().is_some_and(|rollout| rollout.excluded.contains(host));
        if live.member.boxed_until.is_some() && !grant.taking_back || excluded && grant.lane != Lane::Standing
        {
            self.broke("scope", format!("{host} is in the penalty box, or left out"));
        }
        let key = (environment.name().clone(), host.clone());
        let Some((before, ground)) = self.explained.get(&key) else { return };
        let now = Ground::of(environment);
        // Another change, other reasons.
        if ground.rollout != now.rollout {
            return;
        }
        let surprise = *before == WaitingOn::NothingToRun
            || matches!(before, WaitingOn::UpToDate | WaitingOn::WentBack { .. })
                && !grant.taking_back
                && self.serves(environment, fleet, &live.member)
            || matches!(before, WaitingOn::Floor { .. }) && *ground == now && !grant.taking_back;
        if surprise {
            let detail = format!("{host} was granted, and before: {before:?}");
            self.broke("explain", detail);
        }
    }

    fn rollout_grants(&mut self, environment: &Environment, rollout: &Rollout, grants: &[&Grant]) {
        match &rollout.stage {
            Stage::Rolling(rolling) if rollout.paused.is_none() => {
                let begins = !rolling.has_granted();
                if begins {
                    self.updated_are_well(environment, rollout);
                }
                if self.begun.insert((rollout.id, rolling.wave)) && rolling.wave > 0 {
                    self.baked(rollout, rolling.wave - 1);
                }
                if grants.iter().any(|grant| grant.taking_back || grant.release != rollout.target) {
                    self.broke("E13", "a forward grant of something else");
                }
                *self.batches.entry((rollout.id, rolling.wave, rolling.batch)).or_default() +=
                    grants.len() as u32;
                self.earlier_zones_are_done(environment, rollout, rolling.wave);
            }
            Stage::RollingBack if rollout.paused.is_none() => {
                for grant in grants {
                    let touched = |id: &RolloutId| {
                        self.touched.get(id).is_some_and(|hosts| hosts.contains_key(&grant.host))
                    };
                    let settled = environment.member(&grant.host).and_then(|live| live.member.settled);
                    let started = match rollout.direction {
                        Direction::Forward => touched(&rollout.id) || rollout.inherits.iter().any(touched),
                        Direction::Back { .. } => settled == Some(rollout.way_back),
                    };
                    if !started || !grant.taking_back {
                        self.broke("E14", format!("{} never started the change", grant.host));
                    }
                }
            }
            _ => self.broke("E8", format!("a grant in {:?}", rollout.state())),
        }
        self.one_zone(environment, rollout, grants);
        let wave = rollout.current_wave();
        for grant in grants {
            if grant.way_back != rollout.way_back && !grant.taking_back {
                self.broke("E15", format!("{} would go back to something else", grant.host));
            }
            let touched = self.touched.entry(rollout.id).or_default();
            if !grant.taking_back {
                touched.insert(grant.host.clone(), (wave, Generation(0)));
            }
        }
    }

    fn one_zone(&mut self, environment: &Environment, rollout: &Rollout, grants: &[&Grant]) {
        let open = environment
            .members()
            .filter(|live| live.member.grant.is_some() && live.member.lane == Lane::Rollout(rollout.id));
        let new = grants.iter().filter_map(|grant| environment.member(&grant.host));
        let zones: BTreeSet<&Zone> = open.chain(new).map(|live| &live.member.zone).collect();
        let Policy { pacing, zones_at_once, .. } = &rollout.policy;
        if *pacing == Pacing::Zonal && zones.len() > *zones_at_once as usize {
            self.broke("E4", format!("hosts move in {zones:?}"));
        }
    }

    fn earlier_zones_are_done(&mut self, environment: &Environment, rollout: &Rollout, wave: u32) {
        let Policy { pacing: Pacing::Zonal, zones_at_once, .. } = &rollout.policy else { return };
        let left = (wave as usize).saturating_sub(1) * *zones_at_once as usize;
        for live in environment.members() {
            let member = &live.member;
            let earlier = rollout.zones.iter().take(left).any(|zone| *zone == member.zone);
            if earlier && member.in_scope(rollout.id) && !is_done(member, rollout) {
                let detail = format!("{} was left behind: {:?}", member.host, member.step);
                self.broke("E4", detail);
            }
        }
    }

    fn baked(&mut self, rollout: &Rollout, wave: u32) {
        let stood = self.stood[&rollout.id];
        if stood < rollout.bake_of(wave) {
            let detail = format!("wave {wave} stood {stood:?} of {:?}", rollout.bake_of(wave));
            self.broke("E5", detail);
        }
    }

    /// Every host that was moved is known to be well, by its own word about this very grant.
    fn updated_are_well(&mut self, environment: &Environment, rollout: &Rollout) {
        let touched = self.touched.get(&rollout.id).cloned().unwrap_or_default();
        for (host, (wave, _)) in touched {
            let Some(live) = environment.member(&host) else { continue };
            let member = &live.member;
            let ended = matches!(member.step, Step::Reverted | Step::Failed | Step::Excepted(_));
            if !member.in_scope(rollout.id) || ended {
                continue;
            }
            let granted = self.granted.iter().rev().find(|(generation, id)| {
                **id == rollout.id && member.told.is_some_and(|told| told.generation == **generation)
            });
            let report = self.report(member);
            let about = report.and_then(|report| report.stamp).map(|stamp| stamp.generation);
            let fresh = about.is_some() && about == granted.map(|(generation, _)| *generation);
            let settled = report.is_some_and(|report| report.phase == Phase::Settled);
            let health = report.map(|report| report.health.clone());
            let well = matches!(health, Some(HealthReport::Healthy { .. })) && fresh && settled;
            // A grant that was void moved nobody; nor is anything left of one whose host lost its disk.
            let began = self.activations.contains_key(&(rollout.id, host.clone()));
            let waits = report.is_some_and(|report| {
                matches!(report.phase, Phase::Idle | Phase::Fetching | Phase::LayingOut | Phase::Ready)
                    && report.running != Some(rollout.target.digest())
            });
            if well || member.grant.is_none() && (!began || waits) {
                continue;
            }
            let detail = format!("{host} is {health:?}, and the rollout goes on");
            match health {
                Some(HealthReport::Unhealthy { .. }) => self.broke("E19", detail.clone()),
                _ => self.broke("E7", detail.clone()),
            }
            if wave == 0 {
                self.broke("E6", detail);
            }
        }
    }

    fn turn(&mut self, environment: &Environment, rollout: &Rollout, turn: &Turn) {
        match turn {
            // A batch that has proved nothing goes by the same number again.
            Turn::NextBatch => self.batches.retain(|(id, ..), _| *id != rollout.id),
            Turn::RollBack(_) => {
                let back = rollout.goes_back() || matches!(rollout.direction, Direction::Back { .. });
                if back || rollout.stage == Stage::Halted {
                    self.broke("E17", "a rollback is rolled back");
                }
            }
            Turn::Succeed => {
                self.baked(rollout, rollout.waves() - 1);
                self.updated_are_well(environment, rollout);
                for live in environment.members() {
                    let member = &live.member;
                    let own = member.lane == Lane::Rollout(rollout.id);
                    let named =
                        own && matches!(member.step, Step::Excepted(_) | Step::Reverted | Step::Failed);
                    let measured = self.report(member).and_then(|report| report.running);
                    let runs = match measured {
                        Some(running) => running == rollout.target.digest(),
                        None => rollout.target.is_empty(),
                    };
                    if member.in_scope(rollout.id) && !runs && !named {
                        let detail = format!("{} neither runs the target nor is named", member.host);
                        self.broke("E20", detail);
                    }
                }
            }
            _ => {}
        }
    }
}
