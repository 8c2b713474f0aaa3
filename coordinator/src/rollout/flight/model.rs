//! **Decision.** The hosts of a flight: how long they take, and what they say.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use std::time::Duration;

use houston_common::assignment::Stamp;
use houston_common::digest::Digest;
use houston_common::error::Code;
use houston_common::id::{Epoch, HostId, RolloutId, StoreId, Zone};
use houston_common::plan::{Fault, ModelTime};
use houston_common::release::Release;
use houston_common::report::{EnvironmentReport, Failure, HealthReport, Phase};

use crate::environment::Live;
use crate::environment::member::{Lane, Member, Step, Told};
use crate::rollout::times::Times;

/// How long a step takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// As it did in earlier rollouts, never longer than `at_most`: all of these did end well.
    Known {
        times: Times,
        at_most: Duration,
    },
    Assumed(Duration),
}

impl Expected {
    pub fn new(times: Times, at_most: Duration, assumed: Duration) -> Self {
        if times.count() == 0 { Self::Assumed(assumed) } else { Self::Known { times, at_most } }
    }

    /// Each host has its own place among the times, the same in every flight: a batch is as slow as its
    /// slowest host.
    pub(super) fn on(&self, host: &HostId) -> Duration {
        let digest = Digest::of(host.as_str().as_bytes());
        let [high, low, ..] = *digest.as_bytes();
        self.quantile(u32::from(u16::from_be_bytes([high, low])) * 1000 / u32::from(u16::MAX))
    }

    fn quantile(&self, per_mille: u32) -> Duration {
        match self {
            Self::Known { times, at_most } => times.quantile(per_mille).unwrap_or_default().min(*at_most),
            Self::Assumed(time) => *time,
        }
    }

    pub fn view(&self) -> ModelTime {
        let taken_from = match self {
            Self::Known { times, .. } => times.count(),
            Self::Assumed(_) => 0,
        };
        ModelTime { half: self.quantile(500), nine_in_ten: self.quantile(900), taken_from }
    }
}

/// What a host of the flight says next of what it was told last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    Ready,
    Settled,
    Reverting,
    Reverted,
    /// It had settled, and is well no more.
    Unhealthy,
}

/// The hosts that answer, all alike but for their times. Who is silent stays silent.
#[derive(Debug, Clone)]
pub struct Model<'a> {
    /// The rollout that is flown: faults are its release's alone.
    pub rollout: RolloutId,
    pub prepare: Expected,
    pub activation: Expected,
    pub fault: Option<&'a Fault>,
}

impl Model<'_> {
    /// Whether the release is bad on a host of the zone that it was granted to in this lane.
    pub(super) fn is_bad_on(&self, lane: Lane, zone: &Zone) -> bool {
        lane == Lane::Rollout(self.rollout)
            && match self.fault {
                None => false,
                Some(Fault::AtOnce | Fault::Late { .. }) => true,
                Some(Fault::InZone(bad)) => bad == zone,
            }
    }

    /// Whether the host has been granted the release, not what it came from, and it is bad there.
    fn meets(&self, member: &Member) -> bool {
        member.step == Step::Granted && self.is_bad_on(member.lane, &member.zone)
    }

    /// What a host says first of what it has been told, and how long after.
    pub(super) fn answer(&self, member: &Member) -> Option<(Word, Duration)> {
        let late = matches!(self.fault, Some(Fault::Late { .. }));
        match (member.grant, member.step) {
            (Some(grant), _) if grant.reverting => Some((Word::Reverted, self.activation.on(&member.host))),
            (Some(_), _) if self.meets(member) && !late => {
                Some((Word::Reverting, self.activation.on(&member.host)))
            }
            (Some(_), _) => Some((Word::Settled, self.activation.on(&member.host))),
            (None, Step::Preparing) => Some((Word::Ready, self.prepare.on(&member.host))),
            (None, _) => None,
        }
    }

    /// What comes after a word without anybody's doing.
    pub(super) fn next(&self, member: &Member, word: Word) -> Option<(Word, Duration)> {
        match (word, self.fault) {
            (Word::Reverting, _) => Some((Word::Reverted, self.activation.on(&member.host))),
            (Word::Settled, Some(Fault::Late { after })) if self.meets(member) => {
                Some((Word::Unhealthy, *after))
            }
            (Word::Ready | Word::Settled | Word::Reverted | Word::Unhealthy, _) => None,
        }
    }
}

/// The word as a report. Nobody checks its MAC: the copy of the fleet is told by us alone.
pub(super) fn report(
    live: &Live,
    told: &Told,
    word: Word,
    store: StoreId,
    epoch: Epoch,
) -> EnvironmentReport {
    let running = |release: Release| Some(release.digest()).filter(|_| !release.is_empty());
    let well = |release: Release| match release.is_empty() {
        true => HealthReport::Unknown,
        false => HealthReport::Healthy { for_at_least: Duration::ZERO, passes: 0 },
    };
    let before = live.report.as_ref();
    let (phase, running, health) = match word {
        Word::Ready => (
            Phase::Ready,
            before.and_then(|report| report.running),
            before.map_or(HealthReport::Unknown, |report| report.health.clone()),
        ),
        Word::Settled => (Phase::Settled, running(told.release), well(told.release)),
        Word::Reverting => (Phase::Reverting, running(told.release), HealthReport::Unknown),
        Word::Reverted => (Phase::Reverted, running(told.way_back), well(told.way_back)),
        Word::Unhealthy => {
            let reason = "so it was assumed".to_owned();
            (Phase::Settled, running(told.release), HealthReport::Unhealthy { reason })
        }
    };
    let failure = (word == Word::Reverting).then(|| Failure {
        code: Code::Unhealthy,
        phase: Phase::Proving,
        package: None,
        message: "so it was assumed".to_owned(),
        log_tail: String::new(),
    });
    let stamp = Stamp { store, epoch, generation: told.generation, mac: [0; 32] };
    EnvironmentReport {
        environment: live.member.environment.clone(),
        stamp: Some(stamp),
        phase,
        running,
        health,
        failure,
    }
}
