//! A stack with a coroutine in it, and the caches of free ones.

#[allow(unsafe_code, reason = "owns free carriers by pointer")]
pub(crate) mod cache;
#[allow(unsafe_code, reason = "the switch itself")]
pub(crate) mod coroutine;
