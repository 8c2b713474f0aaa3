//! Laws after the store has gone back in time. What is stored is no more what was, so that the other laws
//! of the store and of the hosts are silent.

use houston_common::id::{Epoch, Generation};
use houston_common::report::Report;
use houston_coordinator::state::State;
use houston_coordinator::store::{Change, Snapshot};

use super::{Checker, Heard, Place, Stored};

#[derive(Debug)]
pub(super) struct Restored {
    generation: Generation,
    /// Under which the process over the restored store writes.
    epoch: Epoch,
    /// A host has shown something above all that the store has given out.
    is_proven: bool,
}

const LAW: &str = "E26 restored from backup";

impl Checker {
    /// The store now holds this.
    pub(in crate::simulation) fn restored(&mut self, snapshot: &Snapshot) {
        self.stored = Stored::default();
        self.heard = Heard::default();
        let changes = snapshot
            .records
            .iter()
            .map(|(key, value)| Change::Put { key: key.clone(), value: value.clone() })
            .collect::<Vec<_>>();
        self.epoch = Epoch(0);
        self.restored = Some(Restored { generation: Generation(0), epoch: snapshot.epoch, is_proven: false });
        self.apply(&changes);
        let generation = self.stored.meta.as_ref().map_or(Generation(0), |meta| meta.generation);
        if let Some(restored) = &mut self.restored {
            restored.generation = generation;
        }
    }

    pub(super) fn heard_after_restore(&mut self, report: &Report) {
        let Some(restored) = &mut self.restored else { return };
        let stamps = report.environments.iter().filter_map(|of| of.stamp);
        for stamp in stamps {
            restored.is_proven |= stamp.generation > restored.generation || stamp.epoch > restored.epoch;
        }
    }

    /// A turn over the restored store.
    pub(super) fn turned_after_restore(&mut self, state: &State) {
        let Some(restored) = &mut self.restored else { return };
        restored.epoch = state.epoch;
        restored.generation = restored.generation.max(state.meta.generation);
        if restored.is_proven && !state.meta.regressed {
            self.broken(LAW, "a host has shown a newer stamp, and the store is trusted");
        }
    }

    pub(super) fn committed_after_restore(&mut self, changes: &[Change]) {
        let before: Vec<(Place, Option<Generation>)> = self
            .stored
            .members
            .iter()
            .map(|(place, member)| (place.clone(), member.told.map(|told| told.generation)))
            .collect();
        self.apply(changes);
        if !self.restored.as_ref().is_some_and(|restored| restored.is_proven) {
            return;
        }
        let newer = before.into_iter().find(|(place, told)| {
            let now = self.stored.members.get(place).and_then(|member| member.told);
            now.map(|told| told.generation) > *told
        });
        if let Some((place, _)) = newer {
            self.broken(LAW, format!("{place:?} is told something new by a store that has gone back"));
        }
    }

    pub(in crate::simulation) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(in crate::simulation) fn is_restored(&self) -> bool {
        self.restored.is_some()
    }
}
