//! What happened, for the trace's number and for whoever looks.

use houston_coordinator::records;
use houston_coordinator::state::Edit;
use houston_coordinator::store::Change;

use super::{Telling, World};

impl World {
    /// Notes what happened, for whoever asked to be told.
    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        if self.setting.telling == Telling::Nothing {
            return;
        }
        let line = format!("{:>9} {}", self.now, what());
        match self.setting.telling {
            Telling::Nothing => {}
            Telling::Trace => {
                for byte in line.bytes() {
                    self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
                }
            }
            Telling::Print => println!("{line}"),
            Telling::Keep => self.lines.push(line),
        }
    }

    /// Whether there were any.
    pub(super) fn note_commits(&mut self) -> bool {
        let commits = self.store.take_log();
        for (epoch, changes) in &commits {
            if self.setting.telling != Telling::Nothing {
                changes.iter().for_each(|change| self.note_change(change));
            }
            self.checker.committed(*epoch, changes, self.now);
        }
        !commits.is_empty()
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
