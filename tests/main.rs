//! One binary, a module for each kind of test.
#![expect(
    clippy::type_complexity,
    clippy::too_many_lines,
    reason = "scripts of a test read best in one piece"
)]
#![expect(clippy::print_stdout, reason = "a run prints its seeds, faults and rounds")]

/// What is refused, and how: docs/bad-input.md.
mod bad_input;
/// The coordinator's edge over real TLS: who gets in, what they get, and for how long.
mod coordinator;
/// The programs as processes on one machine, and what goes wrong there.
mod end_to_end;
/// Every error code has its line in docs/errors.md.
mod errors_page;
/// What can change a host: every field that it hears, every call that may lead to an order.
mod one_path;
/// Who may call what: every call of the protocol, by every kind of caller.
mod rpc_table;
/// Coordinator and agents under one seeded scheduler, with faults and planted bugs.
mod simulation;
/// Every store behaves as every other; the one on disk survives kills and damage.
mod store_conformance;
/// The rules that a compiler does not hold.
mod tidy;
