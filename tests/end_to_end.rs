//! The programs as they are: a coordinator, agents and services as processes, over real mutual TLS and
//! a real store, with what goes wrong on real machines.

mod agent_kills;
mod certificates;
mod clones;
mod conflicts;
mod coordinator_kills;
mod damage;
mod demo;
mod holds;
mod hooks;
mod hostile;
mod rollouts;
mod silence;
mod strangers;
mod waiting;
