//! placeholder

pub mod build;
