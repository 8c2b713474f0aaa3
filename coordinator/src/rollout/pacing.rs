//! **Decision.** How a rollout is cut into waves and batches: which zones a wave has, and how many hosts of
//! each are granted together. Nothing here depends on the hosts of the day, but for their number.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use houston_common::id::Zone;
use houston_common::policy::Pacing;
use houston_common::rollout::Wave;

use super::{Direction, Rolling, Rollout, Stage};

/// Which of a zone's hosts a wave is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// One batch, and then the bake.
    OneBatch,
    /// Batch after batch, until nobody is left.
    Everybody,
}

/// Batches of a stripe's size that a zone of so many hosts needs. A limit, so that no policy makes more waves
/// than a person could watch: the last one is for everybody who is left.
const STRIPES_MAX: u32 = 999;

impl Rollout {
    /// Number of waves: the one box, and each group of zones or each stripe.
    pub fn waves(&self) -> u32 {
        1 + match self.policy.pacing {
            Pacing::Zonal => self.zones.chunks(self.zones_in_a_wave()).len() as u32,
            Pacing::Striped => self.stripes,
        }
    }

    pub fn wave(&self, index: u32) -> Wave {
        match (index, self.policy.pacing) {
            (0, _) => Wave::OneBox,
            (_, Pacing::Zonal) => Wave::Zones(self.zones_of(index).to_vec()),
            (number, Pacing::Striped) => Wave::Stripe { number: number.min(self.stripes), of: self.stripes },
        }
    }

    /// The zones whose hosts a wave after the one box moves; none beyond the last wave.
    pub fn zones_of(&self, wave: u32) -> &[Zone] {
        match (wave.checked_sub(1), self.policy.pacing) {
            (Some(group), Pacing::Zonal) => {
                self.zones.chunks(self.zones_in_a_wave()).nth(group as usize).unwrap_or_default()
            }
            (Some(stripe), Pacing::Striped) if stripe < self.stripes => &self.zones,
            (Some(_), Pacing::Striped) | (None, _) => &[],
        }
    }

    pub fn extent(&self, wave: u32) -> Extent {
        match self.policy.pacing {
            Pacing::Striped if wave < self.stripes => Extent::OneBatch,
            Pacing::Striped | Pacing::Zonal => Extent::Everybody,
        }
    }

    /// Zones that change at a time, forward and back.
    pub fn zones_at_once(&self) -> usize {
        match self.policy.pacing {
            Pacing::Zonal => self.zones_in_a_wave(),
            Pacing::Striped => self.zones.len(),
        }
    }

    fn zones_in_a_wave(&self) -> usize {
        self.policy.zones_at_once.max(1) as usize
    }

    /// Hosts of a zone in a batch of this wave, the `batch`th from 1. A zone has `today` hosts: those that
    /// have joined since the rollout began make no batch larger.
    pub fn batch_of(&self, zone: &Zone, wave: u32, batch: u32, today: u32) -> u32 {
        if wave == 0 {
            return 1;
        }
        let began_with = self.members.get(zone).copied().unwrap_or_default();
        let stripes_before = match self.policy.pacing {
            Pacing::Striped => wave - 1,
            Pacing::Zonal => 0,
        };
        let earned = self.earned.saturating_add(stripes_before).saturating_add(batch.saturating_sub(1));
        self.policy.batch_of(began_with.min(today), earned)
    }

    /// Stripes that its zones need, at least one. For a rollout that begins.
    pub fn stripes_needed(&self) -> u32 {
        let needed = |hosts: u32| {
            let (mut covered, mut stripes) = (0_u32, 0);
            while covered < hosts && stripes < STRIPES_MAX {
                covered = covered.saturating_add(self.policy.batch_of(hosts, stripes));
                stripes += 1;
            }
            stripes
        };
        match self.policy.pacing {
            Pacing::Zonal => 0,
            Pacing::Striped => self.members.values().map(|hosts| needed(*hosts)).max().unwrap_or(1).max(1),
        }
    }

    /// How often the batches of the next wave have grown before it begins, once the batches of this one have
    /// ended well.
    pub fn earned_after(&self, rolling: &Rolling) -> u32 {
        let carries = self.policy.growth.is_some_and(|growth| growth.carries);
        match self.policy.pacing {
            Pacing::Zonal if carries && rolling.wave > 0 => self.earned.saturating_add(rolling.batch),
            Pacing::Zonal | Pacing::Striped => self.earned,
        }
    }

    /// The wave in which a zone's hosts are, at the soonest; under striped pacing that of the host that has so
    /// many hosts of its zone before it.
    pub fn wave_of(&self, zone: &Zone, before: u32) -> u32 {
        match self.policy.pacing {
            Pacing::Zonal => {
                let position = self.zones.iter().position(|other| other == zone);
                position.map_or(0, |position| (position / self.zones_in_a_wave()) as u32 + 1)
            }
            Pacing::Striped => {
                let (current, granted) = if let Stage::Rolling(rolling) = &self.stage {
                    (rolling.wave.max(1), rolling.granted_in(zone))
                } else {
                    (self.current_wave().saturating_add(1).max(1), 0)
                };
                let mut room = self.batch_of(zone, current, 1, u32::MAX).saturating_sub(granted);
                let mut wave = current;
                while room <= before && wave < self.stripes {
                    wave += 1;
                    room = room.saturating_add(self.batch_of(zone, wave, 1, u32::MAX));
                }
                wave.min(self.stripes)
            }
        }
    }

    /// Whether a failure in this zone is one of a first batch: the newest thing is the one box, its bake
    /// included, or the first batch of a zone; or the release has not been proved in this zone yet. Until it
    /// is, no failure is allowed.
    pub fn is_first_batch(&self, zone: &Zone) -> bool {
        match &self.stage {
            Stage::Rolling(rolling) => {
                let opens_zones = match self.policy.pacing {
                    Pacing::Zonal => true,
                    Pacing::Striped => rolling.wave == 1,
                };
                rolling.wave == 0 || (opens_zones && rolling.batch == 1) || !self.proven.contains(zone)
            }
            Stage::Baking { wave, .. } => *wave == 0,
            Stage::Gated { before, .. } => *before <= 1,
            Stage::RollingBack
            | Stage::Halted
            | Stage::Succeeded
            | Stage::RolledBack
            | Stage::Superseded { .. }
            | Stage::Aborted => false,
        }
    }

    /// Taking back a success has neither waves nor bakes.
    pub fn has_waves(&self) -> bool {
        self.direction == Direction::Forward
    }
}
