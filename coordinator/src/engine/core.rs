//! The writer without its thread: applies inputs one at a time by plain code, plans, checks, and
//! commits what came of them in groups. Handed its time; the simulator drives it as the engine does.

mod check_in;
mod silence;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use houston_common::clock::{FleetTime, WallTime};
use houston_common::error::{Code, Refusal};
use houston_common::id::{EnvironmentName, GateName, HostId};
use houston_common::report::EnvironmentReport;
use houston_common::rollout::Cause;

use crate::audit::Audit;
use crate::environment::Environment;
use crate::records;
use crate::rollout::Stage;
use crate::rollout::check::{self, Violation};
use crate::rollout::fold::{self, Folded};
use crate::rollout::gates::Measured;
use crate::rollout::perform::{self, Performed};
use crate::rollout::planner::{self, Change, GateValues, Plan, Turn};
use crate::state::{Edit, Meta, State};
use crate::store::{self, COMMIT_CHANGES_MAX, CommitError, Key, Store};

pub use check_in::{revoked, unknown_host};

/// The planner and the checker, as values, so that tests can put a broken one in their place.
#[derive(Debug, Clone, Copy)]
pub struct Minds {
    pub plan: fn(&Environment, &crate::fleet::Fleet, &GateValues, FleetTime) -> Plan,
    pub check: fn(&Environment, &crate::fleet::Fleet, &GateValues, &Plan, FleetTime) -> Result<(), Violation>,
    pub fold: fn(
        &crate::environment::member::Member,
        Option<&crate::rollout::Rollout>,
        &EnvironmentReport,
        FleetTime,
    ) -> Folded,
}

impl Default for Minds {
    fn default() -> Self {
        Self { plan: planner::plan, check: check::check, fold: fold::fold }
    }
}

/// Most records that one performed plan touches: its hosts, the rollout, the environment, the audit
/// entry. What is pending before a plan is committed first if both do not fit one commit.
const PLAN_EDITS_MAX: usize = 85;
/// Rounds of planning per environment and commit. A fixpoint takes a handful; this many is a bug.
const ROUNDS_MAX: usize = 10_000;

#[derive(Debug)]
pub struct Core {
    state: State,
    store: Arc<dyn Store>,
    minds: Minds,
    /// Records changed since the last commit, each once, the newest.
    pending: BTreeMap<Key, store::Change>,
    touched: BTreeSet<EnvironmentName>,
    /// Hosts that are told something new, or whose standing with us has changed.
    news: BTreeSet<HostId>,
    wakes: BTreeMap<EnvironmentName, FleetTime>,
    /// Ephemeral hosts that are lost, in the order of their loss.
    forget: VecDeque<(FleetTime, HostId)>,
    /// Rises with every commit: watchers ask for what comes after it.
    revision: u64,
}

impl std::fmt::Debug for dyn Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

impl Core {
    /// Takes the store over and loads everything in it.
    pub fn open(store: Arc<dyn Store>, lost_after: Duration) -> Result<Self, Refusal> {
        let epoch = store.take_over(houston_common::id::Epoch(0)).map_err(Refusal::from)?;
        let snapshot = store.load().map_err(Refusal::from)?;
        let mut edits = Vec::with_capacity(snapshot.records.len());
        for (key, value) in &snapshot.records {
            edits.push(records::decode(key, value).map_err(|error| {
                Refusal::new(
                    Code::Store,
                    houston_common::error::chain(&error),
                    "bring back the newest copy of the coordinator's directory",
                )
            })?);
        }
        let meta = edits.iter().find_map(|edit| match edit {
            Edit::Meta(meta) => Some(meta.clone()),
            _ => None,
        });
        let meta = meta.ok_or_else(|| {
            Refusal::new(
                Code::Store,
                "the store has no record of itself",
                "make one with `houston-coordinator init`",
            )
        })?;
        let mut state = State::new(epoch, meta, lost_after);
        state.load(edits);
        let touched = state.environments.keys().cloned().collect();
        Ok(Self {
            state,
            store,
            minds: Minds::default(),
            pending: BTreeMap::new(),
            touched,
            news: BTreeSet::new(),
            wakes: BTreeMap::new(),
            forget: VecDeque::new(),
            revision: snapshot.revision.0,
        })
    }

    /// Writes the first record of a new store.
    pub fn create(store: &dyn Store, meta: Meta, edits: &[Edit]) -> Result<(), Refusal> {
        let epoch = store.take_over(houston_common::id::Epoch(0)).map_err(Refusal::from)?;
        let first = Edit::Meta(meta);
        let changes: Vec<store::Change> = std::iter::once(&first).chain(edits).map(records::encode).collect();
        store.commit(epoch, &changes).map(drop).map_err(|error| {
            Refusal::new(Code::Store, houston_common::error::chain(&error), "look at the disk")
        })
    }

    pub fn with_minds(mut self, minds: Minds) -> Self {
        self.minds = minds;
        self
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether the group has grown so far that it should be committed before more inputs.
    pub fn is_full(&self) -> bool {
        self.pending.len() >= COMMIT_CHANGES_MAX / 4
    }

    /// One durable change, in memory at once and in the next commit.
    fn edit(&mut self, edit: Edit, now: FleetTime) {
        let change = records::encode(&edit);
        self.pending.insert(change.key().clone(), change);
        match &edit {
            Edit::Member(member) => {
                self.touched.insert(member.environment.clone());
                self.news.insert(member.host.clone());
                // A grant that opens or closes here makes the host busy or free everywhere else.
                if self.is_granted(&member.environment, &member.host) != member.grant.is_some() {
                    self.touch_host(&member.host.clone());
                }
            }
            Edit::ForgetMember(environment, host) => {
                self.touched.insert(environment.clone());
                self.touch_host(&host.clone());
            }
            Edit::Host(host) => self.touch_host(&host.id.clone()),
            Edit::ForgetHost(host) => self.touch_host(&host.clone()),
            Edit::Environment(definition) => {
                self.touched.insert(definition.name.clone());
            }
            Edit::Rollout(rollout) => {
                self.touched.insert(rollout.environment.clone());
            }
            Edit::Meta(_)
            | Edit::Package(_)
            | Edit::ForgetPackage(..)
            | Edit::VersionSet(_)
            | Edit::Settings(_)
            | Edit::Token(_)
            | Edit::ForgetToken(_)
            | Edit::Operator(_)
            | Edit::Audit(_) => {}
        }
        let host = match &edit {
            Edit::Host(host) => Some(host.id.clone()),
            _ => None,
        };
        self.state.apply(edit, now);
        // A new host may have joined environments just now.
        if let Some(host) = host {
            self.touch_host(&host);
        }
    }

    fn is_granted(&self, environment: &EnvironmentName, host: &HostId) -> bool {
        let environment = self.state.environments.get(environment);
        environment
            .and_then(|environment| environment.member(host))
            .is_some_and(|live| live.member.grant.is_some())
    }

    fn touch_host(&mut self, host: &HostId) {
        self.news.insert(host.clone());
        if let Some(entry) = self.state.fleet.get(host) {
            self.touched.extend(entry.environments.iter().cloned());
        }
    }

    fn audit(&mut self, entry: Note, now: FleetTime, wall: WallTime) {
        self.state.meta.audit += 1;
        let Note { who, what, why, before, after } = entry;
        let audit = Audit { sequence: self.state.meta.audit, at: wall, who, what, why, before, after };
        self.edit(Edit::Audit(audit), now);
    }

    /// An operator's or host's change: decided against the state as it is, all of it or nothing.
    pub fn command<T>(
        &mut self,
        now: FleetTime,
        wall: WallTime,
        decide: impl FnOnce(&State, FleetTime) -> Result<Decided<T>, Refusal>,
    ) -> Result<T, Refusal> {
        let decided = decide(&self.state, now)?;
        if decided.edits.len() + 2 > COMMIT_CHANGES_MAX - self.pending.len().min(COMMIT_CHANGES_MAX / 4) {
            return Err(Refusal::new(Code::Limit, "the change has too many parts", "split it"));
        }
        for edit in decided.edits {
            if let Edit::Meta(meta) = edit {
                self.state.meta = meta;
            } else {
                self.edit(edit, now);
            }
        }
        if let Some(note) = decided.note {
            self.audit(note, now, wall);
        }
        Ok(decided.reply)
    }

    /// What a gate's query was answered. Not durable: after a start it is asked again.
    pub fn measured(&mut self, environment: EnvironmentName, gate: GateName, measured: Measured) {
        self.touched.insert(environment.clone());
        self.state.measured.insert((environment, gate), measured);
    }

    /// When time alone changes something next.
    pub fn wake_at(&self) -> Option<FleetTime> {
        let forget = self.forget.front().map(|(at, _)| *at);
        let fleet = &self.state.fleet;
        let wakes = self.wakes.values().min().copied();
        [wakes, fleet.next_loss(), fleet.next_hold_end(), forget].into_iter().flatten().min()
    }

    /// Whether a wait is under way whose elapsed time should be kept over a restart.
    pub fn is_waiting(&self) -> bool {
        !self.wakes.is_empty() || self.state.fleet.next_hold_end().is_some()
    }

    /// Plans every environment touched, to the end, and commits all of it. Returns the hosts that
    /// must be told. After an error nothing in memory may be believed any more.
    pub fn commit(&mut self, now: FleetTime, wall: WallTime) -> Result<BTreeSet<HostId>, CommitError> {
        while let Some(name) = self.touched.pop_first() {
            self.plan(&name, now, wall)?;
        }
        self.flush(now)?;
        Ok(std::mem::take(&mut self.news))
    }

    /// Writes the fleet clock's checkpoint alone.
    pub fn checkpoint(&mut self, now: FleetTime) -> Result<(), CommitError> {
        self.state.meta.checkpoint = now;
        let change = records::encode(&Edit::Meta(self.state.meta.clone()));
        self.revision = self.store.commit(self.state.epoch, &[change])?.0;
        Ok(())
    }

    fn plan(&mut self, name: &EnvironmentName, now: FleetTime, wall: WallTime) -> Result<(), CommitError> {
        self.state.noted = (now, wall);
        for _ in 0..ROUNDS_MAX {
            let Some(environment) = self.state.environments.get(name) else { return Ok(()) };
            let gates = GateValues::of(&self.state, environment, now);
            let mut plan = (self.minds.plan)(environment, &self.state.fleet, &gates, now);
            if plan.does_nothing() {
                match plan.wake_at {
                    Some(at) => self.wakes.insert(name.clone(), at),
                    None => self.wakes.remove(name),
                };
                return Ok(());
            }
            if let Err(violation) = (self.minds.check)(environment, &self.state.fleet, &gates, &plan, now) {
                tracing::error!(environment = %name, %violation, "a plan broke a law; it is not committed");
                // Without a rollout to halt, or if that is done already, the next change tries again.
                if environment.rollout.as_ref().is_none_or(|rollout| rollout.stage == Stage::Halted) {
                    self.wakes.remove(name);
                    return Ok(());
                }
                let cause = Cause::Law { law: violation.to_string() };
                plan = Plan { changes: vec![Change::Turn(Turn::Halt(cause))], ..Plan::default() };
            }
            if self.pending.len() + PLAN_EDITS_MAX > COMMIT_CHANGES_MAX - 1 {
                self.flush(now)?;
            }
            self.perform(name, &plan, now, wall);
            self.touched.remove(name);
        }
        tracing::error!(environment = %name, "planning does not come to an end");
        Ok(())
    }

    fn perform(&mut self, name: &EnvironmentName, plan: &Plan, now: FleetTime, wall: WallTime) {
        let Some(environment) = self.state.environments.get(name) else { return };
        let mut generation = self.state.meta.generation;
        let Performed { members, rollout, definition, turns } =
            perform::perform(environment, &self.state.fleet, plan, &mut generation, now, wall);
        self.state.meta.generation = generation;
        let id = environment.rollout.as_ref().map(|rollout| rollout.id);
        for member in members {
            self.edit(Edit::Member(member), now);
        }
        // The definition first: members are sorted by it when the rollout ends.
        if let Some(definition) = definition {
            self.edit(Edit::Environment(definition), now);
        }
        if let Some(rollout) = rollout {
            self.edit(Edit::Rollout(rollout), now);
        }
        for turn in turns {
            let what = match &turn {
                Turn::Halt(_) => "rollout.halt",
                Turn::RollBack(_) => "rollout.roll_back",
                Turn::Succeed => "rollout.succeed",
                Turn::EndRollback => "rollout.end_rollback",
                Turn::OneBox(_) | Turn::NextBatch | Turn::Bake | Turn::Gate(_) | Turn::NextWave => continue,
            };
            let id = id.map_or_else(String::new, |id| id.to_string());
            let after = match &turn {
                Turn::Halt(cause) | Turn::RollBack(cause) => format!("{cause:?}"),
                _ => String::new(),
            };
            self.audit(Note::own(&format!("{what} {name} {id}"), &after), now, wall);
        }
    }

    /// Writes what is pending, the store's own facts first: a generation is never given twice, also
    /// when more than one commit is needed and the process dies between two.
    fn flush(&mut self, now: FleetTime) -> Result<(), CommitError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.state.meta.checkpoint = now;
        let meta = records::encode(&Edit::Meta(self.state.meta.clone()));
        let changes = std::mem::take(&mut self.pending).into_values();
        let changes = changes.filter(|change| change.key() != meta.key());
        let mut part = vec![meta.clone()];
        let mut bytes = meta.bytes();
        for change in changes {
            let more = bytes + change.bytes();
            if part.len() == COMMIT_CHANGES_MAX || more > store::COMMIT_BYTES_MAX {
                self.revision = self.store.commit(self.state.epoch, &part)?.0;
                part.clear();
                bytes = 0;
            }
            bytes += change.bytes();
            part.push(change);
        }
        self.revision = self.store.commit(self.state.epoch, &part)?.0;
        Ok(())
    }
}

/// What a command comes to.
#[derive(Debug)]
pub struct Decided<T> {
    /// A [`Edit::Meta`] among them replaces the numbers given out.
    pub edits: Vec<Edit>,
    /// The audit entry. Absent only where nothing changes.
    pub note: Option<Note>,
    pub reply: T,
}

impl<T> Decided<T> {
    /// There was nothing to change.
    pub fn nothing(reply: T) -> Self {
        Self { edits: Vec::new(), note: None, reply }
    }
}

/// An audit entry without its number and time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    pub who: String,
    pub what: String,
    pub why: String,
    pub before: String,
    pub after: String,
}

impl Note {
    /// Of something that Houston does by itself.
    fn own(what: &str, after: &str) -> Self {
        Self {
            who: "houston".to_owned(),
            what: what.trim_end().to_owned(),
            why: String::new(),
            before: String::new(),
            after: after.to_owned(),
        }
    }
}
