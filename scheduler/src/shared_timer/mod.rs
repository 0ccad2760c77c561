//! Timers that are nobody's wait.

#[allow(unsafe_code, reason = "timers by pointer: on waiters' stacks, and shared ones without their type")]
pub(crate) mod spawner;
pub(crate) mod stopper;
#[allow(unsafe_code, reason = "timers by pointer: on waiters' stacks, and shared ones without their type")]
pub(crate) mod timer;
