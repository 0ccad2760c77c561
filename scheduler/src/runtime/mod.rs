//! The whole: start, monitor, end.

#[allow(unsafe_code, reason = "the running goroutine of each worker, by pointer")]
pub(crate) mod monitor;
#[allow(unsafe_code, reason = "passes the erased closure on")]
pub(crate) mod scheduler;
