//! Support for the tests.

#[path = "support/store.rs"]
pub mod store;
#[path = "support/coordinator.rs"]
pub mod coordinator;
#[path = "support/fleet.rs"]
pub mod fleet;
