//! What a rollout would do, found out beforehand by flying it: the planner over a copy of the fleet, with
//! model hosts and a clock that jumps from event to event. Times are offsets from the start.

use std::time::Duration;

use crate::digest::Digest;
use crate::id::{GateName, HostId, RolloutId, Zone};
use crate::rollout::{Cause, Exception, RolloutState, WaitingOn, Wave};
use crate::view::ReleaseView;

/// What a rollout would do now, and what a failure of it would cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutPlan {
    /// Of the fleet, the policy and the change: what `start` can be held to.
    pub plan_hash: Digest,
    pub from: ReleaseView,
    pub to: ReleaseView,
    /// Hosts that do not run the target.
    pub hosts: u32,
    pub supersedes: Option<RolloutId>,
    /// Left out by name.
    pub excluded: Vec<HostId>,
    /// If every host that answers takes the release well.
    pub flown: Flown,
    pub prepare: ModelTime,
    pub activation: ModelTime,
    /// At most [`WHAT_IFS_MAX`], each fault once. Without what no host would meet.
    pub what_ifs: Vec<WhatIf>,
}

/// One flight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flown {
    /// Those that were begun, in their order.
    pub waves: Vec<PlannedWave>,
    pub lasts: Duration,
    /// In which state it ends.
    pub state: RolloutState,
    /// Why it was halted or taken back.
    pub cause: Option<Cause>,
    /// What it waits for at its end, if nothing but a person could end that.
    pub waiting: Vec<WaitingOn>,
    /// It took too many steps or too much time: what comes after `lasts` is not known.
    pub cut_short: bool,
    /// The fleet's, then each zone's.
    pub capacity: Vec<PlannedCapacity>,
    /// Some of the hosts that the rollout leaves out, at most 200, without those that it leaves out by name.
    pub left_out: Vec<(HostId, Exception)>,
    pub left_out_more: u32,
    /// Gates that were assumed to open at once: all but windows and freezes, since nobody knows when a person,
    /// a query or the hosts will open one.
    pub assumed_open: Vec<GateName>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedWave {
    pub wave: Wave,
    pub begins: Duration,
    /// When the next one begins.
    pub ends: Duration,
    pub hosts: u32,
    pub batches: u32,
    /// The first ones, at most [`BATCHES_SHOWN_MAX`].
    pub first: Vec<PlannedBatch>,
    /// What it waits for, each reason once.
    pub waits: Vec<PlannedWait>,
}

/// Hosts that are granted together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedBatch {
    /// From 1 within the wave.
    pub number: u32,
    pub begins: Duration,
    pub hosts: u32,
    /// Some of them, at most 200, those that go first.
    pub first: Vec<HostId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedWait {
    /// As it was when the wave began to wait for it.
    pub waiting: WaitingOn,
    /// All such waits of the wave together.
    pub lasts: Duration,
}

/// Hosts available on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedCapacity {
    /// Absent: the fleet.
    pub zone: Option<Zone>,
    /// Before the start.
    pub available: u32,
    /// At the worst moment.
    pub lowest: u32,
    /// Of the fleet, and of a zone where the policy sets one.
    pub floor: Option<u32>,
}

/// How long a step of a model host takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelTime {
    /// Of half of the hosts at most.
    pub half: Duration,
    /// Of nine hosts in ten at most.
    pub nine_in_ten: Duration,
    /// Of how many hosts it was taken, in this environment's latest rollouts. 0: it is assumed.
    pub taken_from: u32,
}

/// How a release is bad.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// On every host, while it is activated.
    AtOnce,
    /// On the hosts of this zone alone, while it is activated.
    InZone(Zone),
    /// On every host, this long after it has settled.
    Late { after: Duration },
}

/// What a failure costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WhatIf {
    pub fault: Fault,
    /// Hosts that were given the release and on which it is bad.
    pub hosts_met: u32,
    /// When the first of them was.
    pub met: Duration,
    /// How long after that the rollout goes no further. Absent: it never stops.
    pub stops_after: Option<Duration>,
    /// How long after that everything is taken back. Absent: it never is.
    pub back_after: Option<Duration>,
    pub state: RolloutState,
    pub cut_short: bool,
    /// The fleet's, then each zone's.
    pub capacity: Vec<PlannedCapacity>,
}

/// Batches of a wave that a plan shows. A tenth of a zone at a time makes ten.
pub const BATCHES_SHOWN_MAX: usize = 100;
/// One for each kind of [`Fault`].
pub const WHAT_IFS_MAX: usize = 3;
