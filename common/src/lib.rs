//! What two Houston programs must agree on, and nothing else: if only one program uses a thing, it
//! belongs to that program.
//!
//! In reading order: the vocabulary, what travels between coordinator and host, what operators ask
//! and see, identity and TLS, the wire.

pub mod error;
pub mod id;

pub mod digest;
pub mod manifest;
pub mod package;
pub mod release;

pub mod clock;
pub mod disk;
pub mod policy;

pub mod assignment;
pub mod command;
pub mod exchange;
pub mod plan;
pub mod report;
pub mod rollout;
pub mod view;

pub mod identity;
pub mod log_limit;
pub mod tls;

pub mod api;
