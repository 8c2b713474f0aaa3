//! **Decision.** What a rollout came to, taken down in the commit that ends it: later its hosts go on to
//! other rollouts, change zones and are removed.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use std::collections::BTreeMap;

use houston_common::id::{HostId, Zone};
use houston_common::report::Failure;

use super::{Direction, Rollout};
use crate::environment::index::{Class, Reach, Wellness};
use crate::environment::member::{Lane, Member, Step};
use crate::environment::{Environment, Live};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ending {
    pub zones: BTreeMap<Zone, Reached>,
    /// Hosts that were not simply waiting or well, what is worst first, at most `NAMED_MAX`.
    pub named: Vec<Named>,
}

/// Hosts of a zone in the rollout's scope, and those of them that counted as updated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reached {
    pub hosts: u32,
    pub updated: u32,
}

/// A host that is remembered by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub host: HostId,
    pub zone: Zone,
    pub step: Step,
    /// Without the log's tail.
    pub failure: Option<Failure>,
}

/// With a message of [`MESSAGE_CHARS_MAX`] each they take about 6 KiB of the record.
const NAMED_MAX: usize = 16;
const MESSAGE_CHARS_MAX: usize = 200;

impl Ending {
    pub fn of(rollout: &Rollout, environment: &Environment) -> Self {
        let mut zones: BTreeMap<Zone, Reached> = BTreeMap::new();
        let mut concerned: Vec<&Live> = Vec::new();
        for live in environment.members().filter(|live| live.member.in_scope(rollout.id)) {
            zones.entry(live.member.zone.clone()).or_default().hosts += 1;
            if live.member.lane == Lane::Rollout(rollout.id) && is_notable(&live.member) {
                concerned.push(live);
            }
        }
        for (zone, reached) in &mut zones {
            reached.updated = updated_in(environment, rollout, zone);
        }
        concerned.sort_by_key(|live| (rank(live.member.step), live.member.host.clone()));
        concerned.truncate(NAMED_MAX);
        Self { zones, named: concerned.into_iter().map(|live| named(&live.member)).collect() }
    }

    pub fn hosts(&self) -> u32 {
        self.zones.values().map(|reached| reached.hosts).sum()
    }

    pub fn updated(&self) -> u32 {
        self.zones.values().map(|reached| reached.updated).sum()
    }
}

/// Hosts of a zone that the active rollout counts as updated. While they are taken back those count that
/// are still to go; of a rollout that takes back an earlier one, those that are back.
pub fn updated_in(environment: &Environment, rollout: &Rollout, zone: &Zone) -> u32 {
    let index = environment.index();
    match rollout.direction {
        Direction::Forward if rollout.goes_back() => {
            Reach::ALL.into_iter().map(|reach| index.count(zone, Class::ToTakeBack(reach))).sum()
        }
        Direction::Forward => [Wellness::Well, Wellness::Unknown, Wellness::Lost]
            .into_iter()
            .map(|wellness| index.count(zone, Class::Updated(wellness)))
            .sum(),
        Direction::Back { .. } => index.count(zone, Class::Ended),
    }
}

/// Whether something about its turn went wrong, or is not over.
pub fn is_notable(member: &Member) -> bool {
    match member.step {
        Step::Reverted | Step::Failed | Step::Excepted(_) | Step::Granted | Step::TakingBack => true,
        Step::TakenBack => member.failure.is_some(),
        Step::Waiting | Step::Preparing | Step::Ready | Step::Settled => false,
    }
}

fn rank(step: Step) -> u32 {
    match step {
        Step::Failed => 0,
        Step::Reverted => 1,
        Step::Excepted(_) => 2,
        Step::Granted | Step::TakingBack => 3,
        Step::Waiting | Step::Preparing | Step::Ready | Step::Settled | Step::TakenBack => 4,
    }
}

fn named(member: &Member) -> Named {
    let failure = member.failure.as_ref().map(|failure| Failure {
        message: failure.message.chars().take(MESSAGE_CHARS_MAX).collect(),
        log_tail: String::new(),
        ..failure.clone()
    });
    Named { host: member.host.clone(), zone: member.zone.clone(), step: member.step, failure }
}
