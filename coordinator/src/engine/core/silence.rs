//! What time alone does to hosts: silence is noticed, holds end, and ephemeral hosts are forgotten.

use houston_common::clock::{FleetTime, WallTime};
use houston_common::id::{EnvironmentName, HostId};

use super::{Core, Note};
use crate::fleet::{Entry, FORGET_AFTER, Host};
use crate::state::Edit;

impl Core {
    /// What time alone does: silence is noticed, holds end, forgotten hosts go, waits end.
    pub fn tick(&mut self, now: FleetTime, wall: WallTime) {
        self.state.noted = (now, wall);
        for host in self.state.fleet.newly_lost(now) {
            self.state.recount_host(&host);
            self.touch_host(&host);
            let ephemeral = self.state.fleet.get(&host).is_some_and(|entry| entry.host.ephemeral);
            if ephemeral {
                self.forget.push_back((now.plus(FORGET_AFTER), host));
            }
        }
        while !self.is_full()
            && let Some(host) = self.state.fleet.hold_over(now).cloned()
        {
            self.end_hold(&host, now, wall);
        }
        // No more than a commit holds; the rest is due at once again.
        while !self.is_full()
            && let Some((at, host)) = self.forget.front().cloned()
            && at <= now
        {
            self.forget.pop_front();
            let silent_since = now.0.saturating_sub(FORGET_AFTER.as_millis() as u64);
            let still_silent = |entry: &Entry| {
                entry.contact.lost && entry.contact.last_seen.is_none_or(|seen| seen.0 <= silent_since)
            };
            if self.state.fleet.get(&host).is_some_and(still_silent) {
                self.forget_host(&host, now, wall);
            }
        }
        let due: Vec<EnvironmentName> =
            self.wakes.iter().filter(|(_, at)| **at <= now).map(|(name, _)| name.clone()).collect();
        self.touched.extend(due);
    }

    fn end_hold(&mut self, host: &HostId, now: FleetTime, wall: WallTime) {
        let Some(entry) = self.state.fleet.get(host) else { return };
        self.edit(Edit::Host(Host { held: None, ..entry.host.clone() }), now);
        self.audit(Note::own(&format!("host.release {host}"), "the time of its hold is over"), now, wall);
    }

    fn forget_host(&mut self, host: &HostId, now: FleetTime, wall: WallTime) {
        let Some(entry) = self.state.fleet.get(host) else { return };
        for edit in self.state.forgetting(entry) {
            self.edit(edit, now);
        }
        self.audit(Note::own(&format!("host.forget {host}"), "ephemeral and silent"), now, wall);
    }
}
