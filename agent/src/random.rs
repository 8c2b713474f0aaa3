//! Randomness for nonces and jitter.

/// Any number. Where the kernel has none to give, which Linux rules out once it has booted, the address
/// of a variable and the clock: enough for jitter, and a nonce only has to differ between two machines.
pub fn number() -> u64 {
    getrandom::u64().unwrap_or_else(|_| {
        use std::hash::{BuildHasher as _, RandomState};
        RandomState::new().hash_one(std::time::Instant::now())
    })
}
