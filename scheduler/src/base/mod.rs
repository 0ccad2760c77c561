//! Atomics, barriers, the process and its forks, unwinding: what every other folder may use and none of gorun's own ideas.

pub(crate) mod atomics;
pub(crate) mod bias;
#[cfg(test)]
#[allow(unsafe_code, reason = "a system call")]
pub(crate) mod child;
#[allow(unsafe_code, reason = "a thread's errno, by address")]
pub(crate) mod errno;
#[allow(unsafe_code, reason = "instructions that store and load two registers")]
pub(crate) mod float_control;
#[allow(unsafe_code, reason = "a system call")]
pub(crate) mod membarrier;
pub(crate) mod poll_interval;
#[allow(unsafe_code, reason = "an instruction")]
pub(crate) mod prefetch;
#[allow(unsafe_code, reason = "has libc call us around forks; values that are never freed")]
pub(crate) mod process;
#[allow(unsafe_code, reason = "a system call")]
pub(crate) mod report;
#[allow(unsafe_code, reason = "system calls")]
pub(crate) mod thread_clock;
pub(crate) mod unwind;
