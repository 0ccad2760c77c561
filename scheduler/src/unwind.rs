//! How a goroutine is ended from inside by unwinding (`goexit`, abort), and the guard that keeps any unwind
//! from leaving the runtime's own code.

use std::any::Any;
use std::panic::resume_unwind;

/// Payload of [`goexit`].
struct Goexit;
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

/// Whether a caught payload is a panic of the user's, and neither `goexit` nor an abort on its way.
#[must_use]
pub fn is_panic(payload: &(dyn Any + Send)) -> bool {
    !payload.is::<Goexit>() && !payload.is::<Aborted>()
}

/// Ends the current goroutine: unwinds its stack, then takes the exit path, as Go's `runtime.Goexit`.
///
/// # Panics
/// When the caller is no goroutine: a plain thread, main outside `run`, or a job of `blocking`.
#[track_caller]
pub fn goexit() -> ! {
    assert!(
        crate::current::goroutine().is_some(),
        "gorun: goexit called outside a goroutine; only what `go` or `run` started can be ended by it: return instead"
    );
    resume_unwind(Box::new(Goexit))
}

/// Goes on with an abort after the operation that was interrupted has cleaned up after itself.
pub fn unwind_aborted() -> ! {
    resume_unwind(Box::new(Aborted))
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
