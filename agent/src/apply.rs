//! How a host comes to run what it was assigned: one machine for each environment.
//!
//! ```text
//!              assigned            fetched             laid out, checked
//!    Idle ───────────────▶ Fetching ─────▶ LayingOut ─────────────────────▶ Ready
//!     ▲ ▲                      │ ▲  failed  │ │                               │ granted in time:
//!     │ └──── refused ─────────┘ └──────────┘ │                               │ the point of no return
//!     └────── refused ────────────────────────┘                               ▼
//!                Settled ◀──── Proving ◀──── Starting ◀──── Switching ◀──── Stopping
//!                                 │             │               │              │
//!                                 └─────────────┴───── failed ──┴──────────────┘
//!                                                        ▼
//!                          Reverted ◀───────────── Reverting ─────────────▶ Failed
//! ```
//!
//! A newer assignment replaces what goes on in `Idle` to `Ready`, where nothing is disturbed yet, and in
//! the three ends. From `Stopping` on the host finishes alone; a newer assignment waits.
//!
//! [`machine`] decides and does nothing; [`driver`] does what it is told and decides nothing. The state
//! is in the journal before its action is begun, and the state alone says what the action is: after a
//! crash there is nothing to recover, only a state to load and an action to do again.

pub mod boot_time;
pub mod deployment;
pub mod steps;

pub mod machine;

pub mod failure;
pub mod health;
pub mod watching;

pub mod driver;
pub mod journal;
