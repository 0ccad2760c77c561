//! How a goroutine is ended from inside by unwinding (`goexit`, abort), and the guard that keeps any unwind
//! from leaving the runtime's own code.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Payload of `goexit`.
pub(crate) struct Goexit;
/// Payload of an abort.
struct Aborted;

/// What a caught payload means.
#[derive(Debug)]
pub enum Unwound {
    /// A panic of the user's.
    Panic(Box<dyn Any + Send>),
    /// `goexit` was called.
    Goexit,
    /// The goroutine was aborted.
    Aborted,
}

/// Sorts what `catch_unwind` caught at the foot of a goroutine.
///
/// ```
/// use gorun_scheduler::{Unwound, classify, unwind_aborted};
/// let panicked = std::panic::catch_unwind(|| panic!("no")).unwrap_err();
/// assert!(matches!(classify(panicked), Unwound::Panic(_)));
/// let aborted = std::panic::catch_unwind(|| -> () { unwind_aborted() }).unwrap_err();
/// assert!(matches!(classify(aborted), Unwound::Aborted));
/// ```
#[must_use]
pub fn classify(payload: Box<dyn Any + Send>) -> Unwound {
    if payload.is::<Goexit>() {
        Unwound::Goexit
    } else if payload.is::<Aborted>() {
        Unwound::Aborted
    } else {
        Unwound::Panic(payload)
    }
}

/// What was caught, if somebody has handed over a reference to the box in place of one to what is in it: that coerces, too.
fn unboxed(mut payload: &(dyn Any + Send)) -> &(dyn Any + Send) {
    while let Some(inner) = payload.downcast_ref::<Box<dyn Any + Send>>() {
        payload = &**inner;
    }
    payload
}

/// Returns true if a caught payload is that of an abort on its way.
///
/// ```
/// use gorun_scheduler::{is_abort, is_goexit, is_panic, unwind_aborted};
/// let payload = std::panic::catch_unwind(|| -> () { unwind_aborted() }).unwrap_err();
/// assert!(is_abort(&*payload) && !is_goexit(&*payload) && !is_panic(&*payload));
/// assert!(is_abort(&payload), "the box will do");
/// ```
#[must_use]
pub fn is_abort(payload: &(dyn Any + Send)) -> bool {
    unboxed(payload).is::<Aborted>()
}

/// Returns true if a caught payload is that of [`goexit`](crate::goexit) on its way.
///
/// ```
/// let payload = std::panic::catch_unwind(|| panic!("no")).unwrap_err();
/// assert!(!gorun_scheduler::is_goexit(&*payload));
/// ```
#[must_use]
pub fn is_goexit(payload: &(dyn Any + Send)) -> bool {
    unboxed(payload).is::<Goexit>()
}

/// Returns true if a caught payload is a panic of the user's, and neither `goexit` nor an abort on its way.
///
/// ```
/// use gorun_scheduler::{is_panic, unwind_aborted};
/// let panicked = std::panic::catch_unwind(|| panic!("no")).unwrap_err();
/// assert!(is_panic(&*panicked));
/// let aborted = std::panic::catch_unwind(|| -> () { unwind_aborted() }).unwrap_err();
/// assert!(!is_panic(&*aborted), "to be passed on with resume_unwind");
/// ```
#[must_use]
pub fn is_panic(payload: &(dyn Any + Send)) -> bool {
    !is_goexit(payload) && !is_abort(payload)
}

/// Goes on with an abort after the operation that was interrupted has cleaned up after itself: unwinds, without the
/// panic hook's being called.
///
/// ```
#[doc = include_str!("../examples.txt")]
/// let goroutine = go(|| {
///     let blocker = Blocker::current();
///     blocker.arm();
///     current_goroutine().unwrap().abort();
///     if blocker.park(WaitReason::Other, None) == Token::ABORT {
///         // Here the waiter is taken out of its queues.
///         unwind_aborted();
///     }
///     unreachable!("nobody else claims it");
/// });
/// join(&goroutine);
/// ```
pub fn unwind_aborted() -> ! {
    resume_unwind(Box::new(Aborted))
}

/// Runs somebody else's code in the middle of something that has to go on whatever that code does: a waker that is woken or
/// let go. A panic in it ends here; the panic hook has told of it. So does an abort or a [`goexit`](crate::goexit) that reaches the goroutine
/// there; the abort takes effect at the goroutine's next cancellation point.
///
/// ```
/// gorun_scheduler::contained(|| panic!("told by the hook"));
/// ```
pub fn contained(f: impl FnOnce()) {
    // A model's own panics are not to be hidden from it.
    if cfg!(any(loom, shuttle)) {
        return f();
    }
    if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
        // Its drop is somebody else's code once more. The payload of a panic in there is let go undropped: there is always a
        // next one.
        if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(second);
        }
    }
}

/// Drops `value`, which is somebody else's, as [`contained`] does.
///
/// ```
/// struct Panics;
/// impl Drop for Panics {
///     fn drop(&mut self) { panic!("told by the hook") }
/// }
/// gorun_scheduler::drop_contained(Panics);
/// ```
pub fn drop_contained<T>(value: T) {
    if std::mem::needs_drop::<T>() {
        contained(|| drop(value));
    }
}

/// Aborts the process when dropped in an unwind: around code in which one would leave a goroutine with two
/// owners or none. Disarm it with [`AbortOnUnwind::pass`].
#[derive(Debug)]
pub(crate) struct AbortOnUnwind(pub(crate) &'static str);

impl AbortOnUnwind {
    pub(crate) fn pass(self) {
        std::mem::forget(self);
    }
}

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        fatal(self.0);
    }
}

/// One report, one abort.
pub(crate) fn fatal(what: &str) -> ! {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "gorun: fatal: {what}");
    std::process::abort()
}
