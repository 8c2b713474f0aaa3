//! What happened, for the trace's number and for whoever looks.

use houston_coordinator::records;
use houston_coordinator::state::Edit;
use houston_coordinator::store::Change;

use super::World;

impl World {
    /// Notes what happened: into the trace's number, and for whoever looks.
    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        let line = format!("{:>9} {}", self.now, what());
        for byte in line.bytes() {
            self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.setting.is_shown {
            println!("{line}");
        }
    }

    pub(super) fn note_commits(&mut self) {
        for (epoch, changes) in self.store.take_log() {
            for change in &changes {
                self.note_change(change);
            }
            self.checker.committed(epoch, &changes, self.now);
        }
    }

    pub(super) fn note_change(&mut self, change: &Change) {
        let Some(value) = change.value() else { return self.note(|| format!("deleted {}", change.key())) };
        match records::decode(change.key(), value) {
            Ok(Edit::Member(member)) => self.note(|| {
                let told = member.told.map(|told| (told.generation.0, told.is_activate()));
                let grant = member.grant.map(|grant| grant.generation.0);
                format!(
                    "= {} {}: {:?} {:?} told {told:?} grant {grant:?}",
                    member.host, member.environment, member.lane, member.step
                )
            }),
            Ok(Edit::Rollout(rollout)) => self.note(|| {
                let paused = if rollout.paused.is_some() { " paused" } else { "" };
                let (failures, exceptions) = (rollout.failures, rollout.exceptions);
                let cause = rollout.cause.as_ref().map(|cause| format!(" {cause:?}")).unwrap_or_default();
                format!(
                    "= rollout {} {}: {:?}{paused} failures {failures} exceptions {exceptions}{cause}",
                    rollout.id, rollout.environment, rollout.stage
                )
            }),
            _ => {}
        }
    }
}
