//! The coordinator: keeps the status of every host, and paces each change over the fleet.
//!
//! Decisions first: they are handed everything, time included, and do no I/O.

pub mod access;
pub mod audit;
pub mod catalog;
pub mod engine;
pub mod environment;
pub mod fleet;
pub mod rollout;
pub mod service;
pub mod state;

pub mod ca;
pub mod files;
pub mod join_token;
pub mod records;
pub mod store;

pub mod config;
pub mod grpc;
pub mod init;
pub mod prometheus;
pub mod run;
