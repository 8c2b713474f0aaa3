//! Which start of the agent this is. Reports order by it, so two machines that speak with one identity
//! are told apart: both count on from the same number, with different nonces.

use std::io;

use houston_common::clock::WallTime;
use houston_common::error::Refusal;
use serde::{Deserialize, Serialize};

use crate::host::dir::{Dir, refused};

const FILE: &str = "start";
const FILE_BYTES_MAX: u64 = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// From 1.
    pub counter: u64,
    pub nonce: u64,
}

impl Start {
    /// Takes the next counter, durable on return.
    ///
    /// A damaged file must not keep services down for ever, and a lower counter would look like a clone:
    /// then the counter goes on from the seconds since 1970, which no agent has started as often as.
    pub fn next(state: &Dir, nonce: u64, now: WallTime) -> Result<Self, Refusal> {
        let starting = |e: io::Error| refused("counting the agent's starts", &e);
        let bytes = state.read(FILE, FILE_BYTES_MAX).map_err(starting)?;
        let last = match bytes.as_deref().map(serde_json::from_slice::<Self>) {
            None => 0,
            Some(Ok(start)) => start.counter,
            Some(Err(error)) => {
                tracing::error!("the count of starts is damaged and set by the clock: {error}");
                now.0 / 1000
            }
        };
        let start = Self { counter: last.saturating_add(1), nonce };
        let bytes = serde_json::to_vec(&start).map_err(|e| starting(e.into()))?;
        state.replace(FILE, &bytes).map_err(starting)?;
        Ok(start)
    }

    /// A host that has enrolled anew counts from the beginning.
    pub fn forget(state: &Dir) -> Result<(), Refusal> {
        state
            .remove(FILE)
            .and_then(|()| state.sync())
            .map_err(|e| refused("forgetting the count of starts", &e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_start_counts_on_and_damage_never_goes_back() {
        let temp = tempfile::tempdir().expect("directory");
        let dir = Dir::open(temp.path()).expect("open");
        let next = |nonce| Start::next(&dir, nonce, WallTime(1_800_000_000_000)).expect("start");
        assert_eq!(next(7), Start { counter: 1, nonce: 7 });
        assert_eq!(next(8), Start { counter: 2, nonce: 8 });
        std::fs::write(temp.path().join(FILE), "{").expect("damage");
        assert_eq!(next(9).counter, 1_800_000_001);
        assert_eq!(next(9).counter, 1_800_000_002);
        Start::forget(&dir).expect("forget");
        assert_eq!(next(1).counter, 1);
    }
}
