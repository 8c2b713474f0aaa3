//! What goes wrong, by a seeded plan: one fault after another, most of them short.

use houston_tests::store::Fault as StoreFault;

use super::random::Random;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Between two of the coordinator's turns.
    KillCoordinator {
        down_ms: u64,
    },
    /// In the middle of the writes to come.
    StoreFails {
        after: usize,
        fault: StoreFault,
    },
    /// At once, or in one of the effects to come, which happens or not.
    KillAgent {
        fuse: Option<u32>,
        fuse_after: bool,
    },
    CutPower {
        fuse: Option<u32>,
        fuse_after: bool,
    },
    CutHost {
        up_ms: u64,
        down_ms: u64,
    },
    CutZone {
        up_ms: u64,
        down_ms: u64,
    },
    Weather {
        drop_percent: u64,
        double_percent: u64,
        delay_ms_max: u64,
    },
    /// A host's services fail for a while, whatever they are.
    Sick {
        ms: u64,
    },
    /// Somebody's wall clock is set.
    WallJump {
        ms: i64,
    },
}

impl Fault {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::KillCoordinator { .. } => "coordinator killed",
            Self::StoreFails { .. } => "store failed",
            Self::KillAgent { fuse: None, .. } => "agent killed",
            Self::KillAgent { .. } => "agent killed in an effect",
            Self::CutPower { fuse: None, .. } => "power cut",
            Self::CutPower { .. } => "power cut in an effect",
            Self::CutHost { .. } => "host cut off",
            Self::CutZone { .. } => "zone cut off",
            Self::Weather { .. } => "bad network",
            Self::Sick { .. } => "services sick",
            Self::WallJump { .. } => "wall clock set",
        }
    }

    /// Of one host, and not of the coordinator, its store, a zone or the network.
    pub(super) const fn is_of_a_host(self) -> bool {
        matches!(
            self,
            Self::KillAgent { .. } | Self::CutPower { .. } | Self::CutHost { .. } | Self::Sick { .. }
        )
    }

    pub(super) fn next(random: &mut Random) -> Self {
        let fuse = |random: &mut Random| random.chance(70).then(|| random.below(25) as u32);
        match random.below(20) {
            0 => Self::KillCoordinator { down_ms: random.between(500, 90_000) },
            1..=4 => {
                let faults = [StoreFault::Refused, StoreFault::UnknownApplied, StoreFault::UnknownLost];
                let fault = *random.pick(&faults).expect("three");
                Self::StoreFails { after: random.below(4) as usize, fault }
            }
            5..=7 => Self::KillAgent { fuse: fuse(random), fuse_after: random.chance(50) },
            8..=10 => Self::CutPower { fuse: fuse(random), fuse_after: random.chance(50) },
            11..=13 => {
                let (up_ms, down_ms) = cut(random);
                Self::CutHost { up_ms, down_ms }
            }
            14 => {
                let (up_ms, down_ms) = cut(random);
                Self::CutZone { up_ms, down_ms }
            }
            15 | 16 => Self::Weather {
                drop_percent: random.below(30),
                double_percent: random.below(30),
                delay_ms_max: random.below(15_000),
            },
            17 | 18 => Self::Sick { ms: random.between(5_000, 180_000) },
            _ => Self::WallJump { ms: random.below(20 * YEAR_MS) as i64 - 10 * YEAR_MS as i64 },
        }
    }
}

const YEAR_MS: u64 = 365 * 24 * 3_600_000;

/// Both ways, or one.
fn cut(random: &mut Random) -> (u64, u64) {
    let ms = random.between(5_000, 300_000);
    match random.below(4) {
        0 => (ms, 0),
        1 => (0, ms),
        _ => (ms, ms),
    }
}
