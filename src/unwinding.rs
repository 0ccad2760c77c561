//! What `catch_unwind` has caught: a panic, or a goroutine's end on its way.
//!
//! An abort and `goexit` unwind as panics do. Whoever catches one of them has to pass it on with `resume_unwind`, and these
//! functions tell them apart; the payloads themselves are the scheduler's.

use std::any::Any;

/// Returns true if a payload that [`catch_unwind`](std::panic::catch_unwind) gave is a panic's, and neither that of an
/// [abort](crate::JoinHandle::abort) nor that of [`goexit`](crate::goexit): whether it is the catcher's to handle.
///
/// `&*payload` and `&payload` are both right, here and in [`is_abort`] and [`is_goexit`].
///
/// ```
/// use std::panic::{catch_unwind, resume_unwind};
///
/// fn careful(f: impl FnOnce() + std::panic::UnwindSafe) -> bool {
///     match catch_unwind(f) {
///         Ok(()) => true,
///         Err(payload) if gorun::is_panic(&*payload) => false,
///         Err(payload) => resume_unwind(payload), // the goroutine is being ended
///     }
/// }
///
/// assert!(!careful(|| panic!("no")));
/// let ended = gorun::go(|| careful(|| gorun::goexit()));
/// assert!(ended.join().unwrap_err().is_goexit());
/// ```
#[must_use]
pub fn is_panic(payload: &(dyn Any + Send)) -> bool {
    gorun_scheduler::is_panic(payload)
}

/// Returns true if a caught payload is that of an [abort](crate::JoinHandle::abort): by a handle, by a
/// [`timeout`](crate::time::timeout), or by the end of the runtime. Pass it on with
/// [`resume_unwind`](std::panic::resume_unwind); otherwise the goroutine goes on until its next cancellation point, where the
/// abort comes again.
///
/// ```
/// use std::panic::{catch_unwind, resume_unwind};
///
/// let stuck = gorun::go(|| {
///     let payload = catch_unwind(|| gorun::time::sleep(std::time::Duration::from_secs(3600))).unwrap_err();
///     assert!(gorun::is_abort(&*payload));
///     resume_unwind(payload)
/// });
/// stuck.abort();
/// let ended: Result<(), _> = stuck.join();
/// assert!(ended.is_err());
/// ```
#[must_use]
pub fn is_abort(payload: &(dyn Any + Send)) -> bool {
    gorun_scheduler::is_abort(payload)
}

/// Returns true if a caught payload is that of [`goexit`](crate::goexit). Pass it on with
/// [`resume_unwind`](std::panic::resume_unwind); otherwise the goroutine goes on.
///
/// ```
/// use std::panic::{catch_unwind, resume_unwind};
///
/// let ended = gorun::go(|| {
///     let payload = catch_unwind(|| gorun::goexit()).unwrap_err();
///     assert!(gorun::is_goexit(&*payload));
///     resume_unwind(payload)
/// });
/// let ended: Result<(), _> = ended.join();
/// assert!(ended.unwrap_err().is_goexit());
/// ```
#[must_use]
pub fn is_goexit(payload: &(dyn Any + Send)) -> bool {
    gorun_scheduler::is_goexit(payload)
}
