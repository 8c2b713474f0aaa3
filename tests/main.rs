//! One binary, a module for each kind of test.

/// Every store behaves as every other; the one on disk survives kills and damage.
mod store_conformance;
