//! Why nothing happens: of a rollout, and of one host.

use std::time::Duration;

use super::{Away, Cause, Closed, Exception, Held, Quiet, Wave};
use crate::error::Code;
use crate::id::{EnvironmentName, GateName, HostId, RolloutId, Zone};

/// The typed answer to "why is nothing happening?".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitingOn {
    // Of a rollout and its wave.
    /// Hosts of the wave fetch and check; nothing is disturbed yet.
    Prepare {
        ready: u32,
        of: u32,
    },
    /// Granted hosts have not settled yet.
    Batch {
        open: Vec<HostId>,
        more: u32,
        /// Those of them that are not heard of, as far as they are named.
        quiet: Vec<Quiet>,
        deadline_in: Duration,
    },
    /// One more host would break a floor. `zone` absent: the fleet's floor.
    Floor {
        zone: Option<Zone>,
        available: u32,
        floor: u32,
        unavailable: Vec<(HostId, Away)>,
    },
    /// The wave must stand for some time more.
    Bake {
        wave: Wave,
        remaining: Duration,
    },
    /// A gate before a wave is closed.
    Gate {
        gate: GateName,
        /// Absent: before the end.
        before: Option<Wave>,
        closed: Closed,
        /// Until the rollout halts for it, if it does.
        halts_in: Option<Duration>,
    },
    /// Updated hosts must be healthy, and these are not known to be.
    Health {
        hosts: Vec<HostId>,
        more: u32,
    },
    /// Every host that could move is in the middle of another environment's change.
    OtherEnvironment {
        host: HostId,
        environment: EnvironmentName,
    },
    Paused {
        by: String,
    },
    Halted {
        cause: Cause,
    },
    /// The store has gone back in time; nothing is granted until `adopt`.
    Regressed,
    /// These hosts have still to get the baked release, by themselves.
    CatchUp {
        hosts: Vec<HostId>,
        more: u32,
        /// How many of all of them are not heard of.
        away: u32,
    },
    /// These hosts are in service on another release than the baked one, and nothing will change that.
    OffBaked {
        hosts: Vec<HostId>,
        more: u32,
    },
    /// These hosts have something to get, and take no change because they are held.
    HeldHosts {
        hosts: Vec<HostId>,
        more: u32,
    },

    // Of one host.
    /// It runs what it should.
    UpToDate,
    /// Nothing is baked in the environment and no rollout is active.
    NothingToRun,
    /// Its wave has not begun.
    Turn {
        wave: Wave,
        current: Wave,
    },
    /// Its wave is on, hosts before it have not settled. 1 is next.
    Queue {
        position: u32,
        batch: u32,
    },
    /// It was granted; silence until then counts as failure.
    Granted {
        quiet: Option<Quiet>,
        deadline_in: Duration,
    },
    /// It is lost: it has not been heard of for this long.
    Silent {
        for_about: Duration,
        /// Not once since the coordinator started, which is as long ago.
        since_start: bool,
    },
    /// Nothing has been heard of it since the coordinator started.
    NotHeardYet,
    Held(Held),
    /// The environment's selector no longer fits it: it keeps running what it runs.
    Detached,
    /// Left out of the active rollout; it catches up when that ends.
    Excepted {
        exception: Exception,
        rollout: RolloutId,
        /// What it failed with, if that is why.
        code: Option<Code>,
    },
    /// It joined while a rollout was on, and gets the baked release first.
    JoinedLater {
        rollout: RolloutId,
    },
    /// It failed in the rollout and went back by itself.
    WentBack {
        rollout: RolloutId,
    },
    /// It failed in the rollout, went back by itself, and is tried again at the end of its wave.
    Retry {
        wave: Wave,
        /// Retries that are left, this one included.
        left: u32,
    },
    /// It failed in the rollout and did not come back: it may run either release, or nothing.
    Failed {
        rollout: RolloutId,
        code: Option<Code>,
    },
    /// It is out of service for as long as an operator says so. It changes in its turn all the same.
    Drained,
}

impl WaitingOn {
    /// The stable name of the reason in JSON.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Prepare { .. } => "prepare",
            Self::Batch { .. } => "batch",
            Self::Floor { .. } => "floor",
            Self::Bake { .. } => "bake",
            Self::Gate { .. } => "gate",
            Self::Health { .. } => "health",
            Self::OtherEnvironment { .. } => "other_environment",
            Self::Paused { .. } => "paused",
            Self::Halted { .. } => "halted",
            Self::Regressed => "regressed",
            Self::CatchUp { .. } => "catch_up",
            Self::OffBaked { .. } => "off_baked",
            Self::HeldHosts { .. } => "held_hosts",
            Self::UpToDate => "up_to_date",
            Self::NothingToRun => "nothing_to_run",
            Self::Turn { .. } => "turn",
            Self::Queue { .. } => "queue",
            Self::Granted { .. } => "granted",
            Self::Silent { .. } => "silent",
            Self::NotHeardYet => "not_heard_yet",
            Self::Held(_) => "held",
            Self::Detached => "detached",
            Self::Excepted { .. } => "excepted",
            Self::JoinedLater { .. } => "joined_later",
            Self::WentBack { .. } => "went_back",
            Self::Retry { .. } => "retry",
            Self::Failed { .. } => "failed",
            Self::Drained => "drained",
        }
    }
}
