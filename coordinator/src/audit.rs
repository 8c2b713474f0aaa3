//! The audit log's entries: one for every change, written in the commit of the change.

use houston_common::clock::WallTime;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// From 1, without gaps.
    pub sequence: u64,
    pub at: WallTime,
    /// `operator/<name>`, `host/<id>`, or `houston` for what it does by itself.
    pub who: String,
    /// What was done, as a verb with its object: `rollout.start prod`.
    pub what: String,
    /// Why, in the words of whoever did it.
    pub why: String,
    pub before: String,
    pub after: String,
}
