//! The agent: runs on every host, pulls what the host should run, applies it, proves it healthy.

pub mod apply;
pub mod host;
pub mod inventory;
