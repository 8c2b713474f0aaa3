//! The agent: runs on every host, pulls what the host should run, applies it, proves it healthy.
//!
//! In reading order: what the host decides and does ([`apply`], [`host`]), who it is, and the shell that
//! keeps it running: [`sync`] talks with the coordinator, [`supervisor`] has a worker for each environment.

pub mod apply;
pub mod host;
pub mod inventory;

pub mod boot_clock;
pub mod identity_dir;
pub mod link;
pub mod lock;
pub mod random;
pub mod start;

pub mod supervisor;
pub mod sync;

pub mod config;
pub mod enroll;
pub mod run;
pub mod status;
