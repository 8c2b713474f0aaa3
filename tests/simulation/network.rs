//! What lies between hosts and coordinator: it delays, drops, doubles and reorders, and can be cut for a
//! host, a zone, or one way. Messages of one process never outlive it: a connection ends with its process.

use std::collections::BTreeMap;

use houston_common::id::HostId;

use super::random::Random;

/// What may become of a message.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weather {
    pub(super) drop_percent: u64,
    pub(super) double_percent: u64,
    /// Every fifth message may take this much longer, so that later ones overtake it.
    pub(super) delay_ms_max: u64,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cut {
    /// From the host to the coordinator.
    pub(super) up_until: u64,
    pub(super) down_until: u64,
}

#[derive(Debug)]
pub(super) struct Network {
    pub(super) weather: Weather,
    pub(super) cuts: BTreeMap<HostId, Cut>,
    random: Random,
    pub(super) dropped: u64,
    pub(super) doubled: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Up,
    Down,
}

impl Network {
    pub(super) fn new(random: Random) -> Self {
        Self { weather: Weather::default(), cuts: BTreeMap::new(), random, dropped: 0, doubled: 0 }
    }

    /// When a message arrives: never, once or twice.
    pub(super) fn deliveries(&mut self, host: &HostId, way: Way, now: u64) -> Vec<u64> {
        let cut = self.cuts.get(host).copied().unwrap_or_default();
        let until = if way == Way::Up { cut.up_until } else { cut.down_until };
        let mut deliveries = Vec::new();
        if now < until || self.random.chance(self.weather.drop_percent) {
            self.dropped += 1;
            return deliveries;
        }
        deliveries.push(now + self.delay());
        if self.random.chance(self.weather.double_percent) {
            self.doubled += 1;
            deliveries.push(now + self.delay());
        }
        deliveries
    }

    fn delay(&mut self) -> u64 {
        let slow = self.weather.delay_ms_max > 0 && self.random.chance(20);
        self.random.between(1, 80) + if slow { self.random.below(self.weather.delay_ms_max) } else { 0 }
    }

    pub(super) fn cut(&mut self, host: &HostId, up_until: u64, down_until: u64) {
        let cut = self.cuts.entry(host.clone()).or_default();
        cut.up_until = cut.up_until.max(up_until);
        cut.down_until = cut.down_until.max(down_until);
    }

    pub(super) fn heal(&mut self) {
        self.cuts.clear();
        self.weather = Weather::default();
    }
}
