//! The loop of a worker: find, resume, settle; spawn and exit.

#[allow(unsafe_code, reason = "runs and drops the payload")]
pub(crate) mod exit;
#[allow(unsafe_code, reason = "guards kept from one call of libc's to the next")]
pub(crate) mod fork;
pub(crate) mod linger;
pub(crate) mod lock_thread;
#[allow(unsafe_code, reason = "the running goroutine of each worker, by pointer")]
pub(crate) mod metrics;
pub(crate) mod replacement;
#[allow(unsafe_code, reason = "resumes what it owns")]
pub(crate) mod run_loop;
#[allow(unsafe_code, reason = "resumes what it owns")]
pub(crate) mod search;
#[allow(unsafe_code, reason = "passes the erased closure on")]
pub(crate) mod spawn;
pub(crate) mod state;
pub(crate) mod thread_start;
