//! A host's report comes in: where it stands among the host's others, whether it is the host's at all,
//! and what it says of each environment.

use houston_common::assignment::Stamp;
use houston_common::clock::{FleetTime, WallTime};
use houston_common::digest::Digest;
use houston_common::error::{Code, Refusal};
use houston_common::id::HostId;
use houston_common::report::{EnvironmentReport, Report};

use super::{Core, Note};
use crate::fleet::{Contact, Hold, Host, Order};
use crate::state::Edit;

impl Core {
    /// Takes a host's report in. `key` is the fingerprint of the key that it spoke with.
    pub fn check_in(
        &mut self,
        host: &HostId,
        key: &Digest,
        report: &Report,
        now: FleetTime,
        wall: WallTime,
    ) -> Result<(), Refusal> {
        let Some(entry) = self.state.fleet.get(host) else { return Err(unknown_host(host)) };
        if entry.host.revoked || entry.host.key != *key {
            return Err(revoked(host));
        }
        let mut record = entry.host.clone();
        let sequence = entry.contact.sequence;
        match self.state.fleet.order_of(host, report.position) {
            Order::Clone => return Err(self.hold_clone(host, now, wall)),
            Order::Old => return Ok(()),
            Order::NewStart => {
                record.start = Some((report.position.start, report.position.nonce));
                self.edit(Edit::Host(record), now);
            }
            Order::Next => debug_assert!(report.position.sequence > sequence),
        }
        let contact = Contact {
            sequence: report.position.sequence,
            agent_version: report.agent_version.clone(),
            platforms: report.platforms.clone(),
            facts: report.facts.clone(),
            ..Contact::default()
        };
        if self.state.fleet.heard_of(host, now, contact) {
            self.state.recount_host(host);
            self.touch_host(host);
        }
        self.unreported(host, report);
        let folded = report.environments.iter().map(|environment| self.fold(host, environment, now, wall));
        folded.fold(Ok(()), Result::and)
    }

    /// What a report leaves out is not known any more: no news is bad news.
    fn unreported(&mut self, host: &HostId, report: &Report) {
        let Some(entry) = self.state.fleet.get(host) else { return };
        for name in entry.environments.clone() {
            let named = report.environments.iter().any(|environment| environment.environment == name);
            if let Some(environment) = self.state.environments.get_mut(&name)
                && !named
                && environment.clear_report(host, &self.state.fleet)
            {
                self.touched.insert(name);
            }
        }
    }

    fn fold(
        &mut self,
        host: &HostId,
        report: &EnvironmentReport,
        now: FleetTime,
        wall: WallTime,
    ) -> Result<(), Refusal> {
        if let Some(stamp) = report.stamp
            && stamp.store == self.state.meta.store
            // Either alone proves it: a restored store has taken itself over under a higher epoch.
            && (stamp.generation > self.state.meta.generation || stamp.epoch > self.state.epoch)
        {
            return self.proves_a_future(host, report, &stamp, now, wall);
        }
        let name = &report.environment;
        let Some(environment) = self.state.environments.get_mut(name) else { return Ok(()) };
        let Some(before) = environment.member(host) else { return Ok(()) };
        let place = (before.class(), before.counts_available(), before.report.is_none());
        environment.set_report(host, report.clone(), &self.state.fleet);
        let Some(live) = environment.member(host) else { return Ok(()) };
        if place != (live.class(), live.counts_available(), false) {
            self.touched.insert(name.clone());
        }
        let folded = (self.minds.fold)(&live.member, environment.rollout.as_ref(), report, now);
        if let Some(rollout) = folded.rollout {
            self.edit(Edit::Rollout(rollout), now);
        }
        if let Some(member) = folded.member {
            self.edit(Edit::Member(member), now);
        }
        Ok(())
    }

    /// A host shows an assignment above everything that this store has given out.
    fn proves_a_future(
        &mut self,
        host: &HostId,
        report: &EnvironmentReport,
        stamp: &Stamp,
        now: FleetTime,
        wall: WallTime,
    ) -> Result<(), Refusal> {
        if !self.state.made(host, &report.environment, stamp) {
            let what = format!("{host} shows an assignment that this store never gave");
            self.hold(host, Hold::ForeignAssignment, &what, now, wall);
            let next = "find out who wrote its state directory, enroll it anew, then `houston host release`";
            return Err(Refusal::new(Code::GenerationFuture, what, next));
        }
        if !self.state.meta.regressed {
            self.state.meta.regressed = true;
            self.touched.extend(self.state.environments.keys().cloned());
            let after = format!("{host} holds generation {}", stamp.generation);
            self.audit(Note::own("store.regressed", &after), now, wall);
        }
        Ok(())
    }

    fn hold_clone(&mut self, host: &HostId, now: FleetTime, wall: WallTime) -> Refusal {
        self.hold(host, Hold::Clone, "two machines speak with its identity", now, wall);
        Refusal::new(
            Code::Clone,
            format!("two machines speak as {host}"),
            "enroll one of them anew, then `houston host release`",
        )
    }

    fn hold(&mut self, host: &HostId, hold: Hold, reason: &str, now: FleetTime, wall: WallTime) {
        let Some(entry) = self.state.fleet.get(host) else { return };
        // An operator's gives way: it may end by itself, and this must not.
        if matches!(entry.host.held, Some(Hold::Clone | Hold::ForeignAssignment)) {
            return;
        }
        let record = Host { held: Some(hold), ..entry.host.clone() };
        self.edit(Edit::Host(record), now);
        self.audit(Note::own(&format!("host.hold {host}"), reason), now, wall);
    }
}

pub fn revoked(host: &HostId) -> Refusal {
    let what = format!("the certificate of {host} is revoked");
    Refusal::new(Code::Unauthenticated, what, "enroll the host again")
}

pub fn unknown_host(host: &HostId) -> Refusal {
    Refusal::new(Code::HostUnknown, format!("no host \"{host}\""), "list them with `houston host list`")
}
