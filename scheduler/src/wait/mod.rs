//! How goroutines, threads and futures wait, and are aborted.

mod abort;
#[allow(unsafe_code, reason = "timers on waiters' stacks")]
mod deadline;
#[allow(unsafe_code, reason = "a goroutine's runtime, by pointer")]
pub(crate) mod ending;
#[allow(unsafe_code, reason = "a waiter on the joiner's stack")]
pub(crate) mod join;
#[allow(unsafe_code, reason = "a goroutine's claim word, by pointer")]
pub(crate) mod park;
pub(crate) mod polls;
#[allow(unsafe_code, reason = "a value behind a lock of its own")]
pub(crate) mod short_lock;
#[allow(unsafe_code, reason = "a list through the waiters' stacks")]
pub(crate) mod wait_queue;
