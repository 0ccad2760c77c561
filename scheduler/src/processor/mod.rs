//! What a worker owns, what workers share, and how a goroutine becomes runnable.

pub(crate) mod abort_shields;
#[allow(unsafe_code, reason = "carriers and seats by pointer")]
pub(crate) mod core;
pub(crate) mod idle;
#[allow(unsafe_code, reason = "the runtime of a goroutine, by pointer")]
pub(crate) mod ready;
pub(crate) mod shared;
pub(crate) mod spares;
pub(crate) mod wake_backoff;
pub(crate) mod worker_counts;
