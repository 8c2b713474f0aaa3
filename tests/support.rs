//! Support for the tests.

#[path = "support/coordinator.rs"]
pub mod coordinator;
#[path = "support/fleet.rs"]
pub mod fleet;
#[path = "support/store.rs"]
pub mod store;
