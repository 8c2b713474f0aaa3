//! What the records and the disk say when the agent starts.

use std::sync::Arc;

use houston_common::error::{Code, Refusal};
use houston_common::id::EnvironmentName;
use houston_common::report::Phase;

use super::Driver;
use crate::apply::deployment::Deployment;
use crate::apply::failure::failure;
use crate::apply::journal::{self, Unreadable};
use crate::apply::machine::{Event, Floor, State};
use crate::apply::watching::Watching;
use crate::host::{Host, Record};

impl<H: Host> Driver<H> {
    /// Reads the state, or rebuilds it from the disk if its record is damaged. Refused if the disk
    /// cannot be read or a newer agent has written it; then nothing has been changed.
    pub fn load(environment: EnvironmentName, mut host: H) -> Result<Self, Refusal> {
        let floor = load_floor(&mut host)?;
        let (state, is_damaged) = match host.read_record(Record::Journal)? {
            Some(bytes) => match journal::read_state(&bytes) {
                Ok(state) => (Some(state), false),
                Err(Unreadable::Newer(version)) => return Err(newer(Record::Journal, version)),
                Err(Unreadable::Damaged(reason)) => {
                    tracing::error!(%environment, "the journal is damaged and set aside: {reason}");
                    host.set_record_aside(Record::Journal)?;
                    (None, true)
                }
            },
            None => (None, floor.is_some()),
        };
        // Last: it reads every byte of what is current.
        let measured = host.measure();
        let is_recorded = state.is_some();
        let current = measured.as_ref().map_or_else(|_| Deployment::nothing(), Clone::clone);
        let link = current.link();
        let state = match state {
            Some(state) => state.with_recorded(floor),
            None if is_damaged => {
                let what = "the host's journal was lost; what runs was measured from disk";
                State::rebuilt(Arc::new(current), floor, failure(Code::JournalDamaged, Phase::Idle, what))
            }
            None => State::new(Arc::new(current)),
        };
        Ok(Self {
            environment,
            host,
            is_new: true,
            state,
            is_recorded,
            pending: Some(Event::Loaded),
            watching: Watching::default(),
            measured: link,
            blocked: None,
        })
    }
}

/// A damaged floor is set aside: the journal has the same.
fn load_floor(host: &mut impl Host) -> Result<Option<Floor>, Refusal> {
    let Some(bytes) = host.read_record(Record::Floor)? else { return Ok(None) };
    match journal::read_floor(&bytes) {
        Ok(floor) => Ok(Some(floor)),
        Err(Unreadable::Newer(version)) => Err(newer(Record::Floor, version)),
        Err(Unreadable::Damaged(reason)) => {
            tracing::error!("the floor is damaged and set aside: {reason}");
            host.set_record_aside(Record::Floor).map(|()| None)
        }
    }
}

fn newer(record: Record, version: u32) -> Refusal {
    let what = format!("the {} has format {version}, which a newer agent has written", record.name());
    Refusal::new(Code::StateNewer, what, "install the newer agent again")
}
