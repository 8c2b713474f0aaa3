//! The coordinator's process: the production core over a store in memory, driven as its writer drives it.
//! Whatever the store takes is noted, also what the process never hears of.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use houston_common::assignment::Assignment;
use houston_common::clock::{FleetTime, WallTime};
use houston_common::digest::Digest;
use houston_common::error::Code;
use houston_common::id::{Epoch, HostId, StoreId};
use houston_common::report::{EnvironmentReport, Report};
use houston_coordinator::engine::core::{Core, Minds};
use houston_coordinator::records;
use houston_coordinator::state::{Edit, Meta};
use houston_coordinator::store::{Change, CommitError, Revision, Snapshot, Store, StoreError};
use houston_tests::store::{Fault, MemoryStore};

use super::operator::Order;
use super::planted::Planted;

/// Short, so that losses happen often in a few simulated hours.
pub(super) const LOST_AFTER: Duration = Duration::from_secs(60);
pub(super) const HOLD_MS: u64 = 20_000;
const CHECKPOINT_EVERY_MS: u64 = 10_000;

/// A store that notes every commit that took effect, in order.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    inner: MemoryStore,
    /// With the epoch of the process that wrote.
    log: Arc<Mutex<Vec<(Epoch, Vec<Change>)>>>,
    planted: Option<Planted>,
    /// Told as committed, and not written yet, where that bug is planted.
    unwritten: Arc<Mutex<Option<(Epoch, Vec<Change>)>>>,
}

impl Watched {
    pub(super) fn new(planted: Option<Planted>) -> Self {
        Self { inner: MemoryStore::new(), log: Arc::default(), planted, unwritten: Arc::default() }
    }

    pub(super) fn reopen(&self) -> Self {
        Self { inner: self.inner.reopen(), unwritten: Arc::default(), ..self.clone() }
    }

    pub(super) fn kill(&self) {
        self.inner.kill();
    }

    pub(super) fn fail_after(&self, writes: usize, fault: Fault) {
        self.inner.fail_after(writes, fault);
    }

    pub(super) fn take_log(&self) -> Vec<(Epoch, Vec<Change>)> {
        std::mem::take(&mut *self.log.lock().expect("one thread"))
    }

    /// The store brought back from a copy.
    pub(super) fn restored(&self, snapshot: Snapshot) -> Self {
        Self { inner: MemoryStore::restored(snapshot), unwritten: Arc::default(), ..self.clone() }
    }

    fn write(&self, epoch: Epoch, changes: &[Change]) -> Result<Revision, CommitError> {
        let before = self.inner.revision();
        let mut result = self.inner.commit(epoch, changes);
        // Its own was the newest when it looked, before it was paused.
        if let (Some(Planted::EpochCheckedBefore), Err(CommitError::Fenced { stored })) =
            (self.planted, &result)
        {
            result = self.inner.commit(*stored, changes);
        }
        if self.inner.revision() != before {
            self.log.lock().expect("one thread").push((epoch, changes.to_vec()));
        }
        result
    }
}

impl Store for Watched {
    fn load(&self) -> Result<Snapshot, StoreError> {
        let mut snapshot = self.inner.load()?;
        if self.planted == Some(Planted::LocalGenerations) {
            for (key, value) in &mut snapshot.records {
                if let Ok(Edit::Meta(meta)) = records::decode(key, value) {
                    let meta =
                        Meta { generation: houston_common::id::Generation(meta.generation.0 / 2), ..meta };
                    *value = records::encode(&Edit::Meta(meta)).value().expect("a record").to_vec();
                }
            }
        }
        Ok(snapshot)
    }

    fn commit(&self, epoch: Epoch, changes: &[Change]) -> Result<Revision, CommitError> {
        if self.planted != Some(Planted::AcknowledgeEarly) || changes.len() < 2 {
            return self.write(epoch, changes);
        }
        let earlier = self.unwritten.lock().expect("one thread").replace((epoch, changes.to_vec()));
        let Some((epoch, earlier)) = earlier else { return Ok(self.inner.revision()) };
        self.write(epoch, &earlier)
    }

    fn take_over(&self, above: Epoch) -> Result<Epoch, StoreError> {
        self.inner.take_over(above)
    }
}

/// What came in since the last turn.
#[derive(Debug)]
pub(super) enum Input {
    CheckIn { host: HostId, incarnation: u64, call: u64, report: Box<Report> },
    Order(Order),
}

/// An answer to a host's call.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) host: HostId,
    pub(super) incarnation: u64,
    pub(super) call: u64,
    pub(super) result: Result<Vec<Assignment>, Code>,
}

/// What one turn of the writer came to.
#[derive(Debug, Default)]
pub(super) struct Turn {
    pub(super) answers: Vec<Answer>,
    /// Reports as they were taken in.
    pub(super) heard: Vec<(HostId, Report, Result<(), Code>)>,
    pub(super) orders: Vec<(Order, Result<String, String>)>,
    /// Calls that are held from now on.
    pub(super) held: Vec<(HostId, u64)>,
    pub(super) has_died: bool,
}

#[derive(Debug)]
struct Held {
    incarnation: u64,
    call: u64,
    has: Vec<EnvironmentReport>,
}

/// A coordinator that is up.
#[derive(Debug)]
pub(super) struct Coordinator {
    pub(super) core: Core,
    base: FleetTime,
    started: u64,
    checkpointed: u64,
    pub(super) inputs: VecDeque<Input>,
    held: BTreeMap<HostId, Held>,
    arrivals: u64,
    planted: Option<Planted>,
}

pub(super) fn meta() -> Meta {
    Meta {
        store: StoreId([7; 16]),
        mac_key: [9; 32],
        generation: houston_common::id::Generation(0),
        rollout: houston_common::id::RolloutId(0),
        audit: 0,
        checkpoint: FleetTime(0),
        regressed: false,
    }
}

/// Of the host's key; every host has its own.
pub(super) fn key(host: &str) -> Digest {
    Digest::of(host.as_bytes())
}

impl Coordinator {
    /// A process over what is stored. Absent if the store fails it at once.
    pub(super) fn start(store: Watched, minds: Minds, planted: Option<Planted>, now: u64) -> Option<Self> {
        let core = Core::open(Arc::new(store), LOST_AFTER).ok()?.with_minds(minds);
        let base = core.state().meta.checkpoint;
        Some(Self {
            core,
            base,
            started: now,
            checkpointed: now,
            inputs: VecDeque::new(),
            held: BTreeMap::new(),
            arrivals: 0,
            planted,
        })
    }

    pub(super) fn fleet_time(&self, now: u64) -> FleetTime {
        self.base.plus(Duration::from_millis(now - self.started))
    }

    /// How long to wait for an input before time itself is one.
    pub(super) fn wake_at(&self, now: u64) -> u64 {
        let wake = self.core.wake_at().map(|at| at.since(self.fleet_time(now)).as_millis() as u64);
        now + wake.unwrap_or(CHECKPOINT_EVERY_MS).clamp(1, CHECKPOINT_EVERY_MS)
    }

    /// Applies what has come in, plans, commits, answers.
    pub(super) fn turn(&mut self, now: u64, wall: WallTime) -> Turn {
        let fleet = self.fleet_time(now);
        let mut turn = Turn::default();
        let mut accepted = Vec::new();
        self.core.tick(fleet, wall);
        while !self.core.is_full()
            && let Some(input) = self.inputs.pop_front()
        {
            match input {
                Input::Order(order) => {
                    let result = order.give(&mut self.core, fleet, wall, self.planted);
                    turn.orders.push((order, result));
                }
                Input::CheckIn { host, incarnation, call, report } => {
                    let (said, mut report) = (report.clone(), *report);
                    self.arrivals += 1;
                    if self.planted == Some(Planted::LastWriterWins) {
                        report.position.sequence = self.arrivals;
                    }
                    if self.planted == Some(Planted::TrustTheStore) {
                        super::planted::as_the_store_has_it(self.core.state(), &host, &mut report);
                    }
                    let result = self.core.check_in(&host, &key(host.as_str()), &report, fleet, wall);
                    let result = result.map_err(|refusal| refusal.code);
                    turn.heard.push((host.clone(), *said, result));
                    match result {
                        Ok(()) => accepted.push((host, Held { incarnation, call, has: report.environments })),
                        Err(code) => turn.answers.push(Answer { host, incarnation, call, result: Err(code) }),
                    }
                }
            }
        }
        match self.commit(now, fleet, wall) {
            Ok(news) => self.answer(accepted, news, &mut turn),
            Err(_) => {
                turn.answers.clear();
                turn.has_died = true;
            }
        }
        turn
    }

    fn commit(
        &mut self,
        now: u64,
        fleet: FleetTime,
        wall: WallTime,
    ) -> Result<BTreeSet<HostId>, CommitError> {
        let before = self.core.revision();
        let news = self.core.commit(fleet, wall)?;
        if self.core.revision() != before {
            self.checkpointed = now;
        } else if self.core.is_waiting() && now >= self.checkpointed + CHECKPOINT_EVERY_MS {
            self.core.checkpoint(fleet)?;
            self.checkpointed = now;
        }
        Ok(news)
    }

    fn answer(&mut self, accepted: Vec<(HostId, Held)>, news: BTreeSet<HostId>, turn: &mut Turn) {
        for (host, held) in accepted {
            if self.core.state().has_news(&host, &held.has) {
                self.tell(host, held, turn);
            } else {
                turn.held.push((host.clone(), held.call));
                if let Some(earlier) = self.held.insert(host.clone(), held) {
                    let Held { incarnation, call, .. } = earlier;
                    turn.answers.push(Answer { host, incarnation, call, result: Ok(Vec::new()) });
                }
            }
        }
        for host in news {
            if let Some(held) = self.held.remove(&host) {
                self.tell(host, held, turn);
            }
        }
    }

    fn tell(&mut self, host: HostId, held: Held, turn: &mut Turn) {
        let state = self.core.state();
        let Held { incarnation, call, .. } = held;
        if state.fleet.get(&host).is_none_or(|entry| entry.host.revoked) {
            turn.answers.push(Answer { host, incarnation, call, result: Err(Code::HostUnknown) });
        } else if state.has_news(&host, &held.has) {
            let result = Ok(state.assignments(&host));
            turn.answers.push(Answer { host, incarnation, call, result });
        } else {
            self.held.insert(host, held);
        }
    }

    /// The hold of a call has ended without news.
    pub(super) fn hold_ends(&mut self, host: &HostId, call: u64) -> Option<Answer> {
        if self.held.get(host)?.call != call {
            return None;
        }
        let Held { incarnation, call, .. } = self.held.remove(host)?;
        Some(Answer { host: host.clone(), incarnation, call, result: Ok(Vec::new()) })
    }
}
