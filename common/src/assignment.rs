//! What the coordinator tells one host about one environment.

use std::time::Duration;

use crate::id::{EnvironmentName, Epoch, Generation, StoreId};
use crate::release::ReleaseContent;

/// Where an assignment comes from and how new it is. The host echoes it, and the MAC (HMAC-SHA-256
/// under a key of the store, over store, epoch, generation, host and environment) lets the store
/// recognise its own stamps after it has gone back in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    pub store: StoreId,
    pub epoch: Epoch,
    pub generation: Generation,
    pub mac: [u8; 32],
}

impl Stamp {
    /// Stamps of one store are ordered by this.
    pub fn order(&self) -> (Epoch, Generation) {
        (self.epoch, self.generation)
    }
}

/// What one host is told for one environment. Every change of it has a new generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    pub environment: EnvironmentName,
    pub stamp: Stamp,
    pub order: Order,
    pub release: ReleaseContent,
    /// Where the host goes by itself if `release` fails before it settles.
    pub way_back: ReleaseContent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Fetch, verify, lay out, check. Disturbs nothing.
    Prepare,
    /// The grant: the host may disrupt itself once.
    Activate(Terms),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// The grant is void unless `Stopping` is journaled this soon after the check-in that brought
    /// it was sent, on the host's boot clock.
    pub start_within: Duration,
    /// From `Stopping` to `Settled`; then the host reverts, which may take as long again.
    pub apply_deadline: Duration,
    /// How long every check must hold without a break before the release is settled.
    pub health_window: Duration,
}
