//! Support for the tests.

#[path = "support/store.rs"]
pub mod store;
