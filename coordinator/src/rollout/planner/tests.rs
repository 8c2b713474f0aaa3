//! The planner, its checker and what carries plans out, over a small world in memory: hosts that act
//! on what they are told, and laws that watch every plan and every record.
#![expect(clippy::wildcard_enum_match_arm, reason = "a test names the cases that it is about")]

mod gates;
mod holds;
mod host;
mod laws;
mod planted;
mod properties;
mod regressions;
mod scenarios;
mod told;
mod world;
