//! Ends the calling goroutine from inside.
//!
//! Called by users only.

use crate::base::unwind::{Goexit, fatal};
use crate::config::ThreadLocals;
use crate::goroutine::current;
use crate::goroutine::handle::Handle;
use std::panic::resume_unwind;

/// Ends the current goroutine: unwinds its stack, then takes the exit path, as Go's
/// [`runtime.Goexit`](https://pkg.go.dev/runtime#Goexit). `catch_unwind` sees it pass, and must hand it on.
///
/// # Panics
/// When the caller is no goroutine: a plain thread, main outside `run`, or a job of `blocking`.
///
/// # In a destructor
/// A destructor that runs because its goroutine unwinds, from a panic or otherwise, must not be left by another unwinding:
/// Rust ends the process. Nor can the call return, or wait for the first unwinding to end, as that waits for the destructor.
/// So it says on standard error which goroutine it was, and unwinds: to a `catch_unwind` in the destructor, if there is one,
/// and else to the end of the process.
///
/// # Aborts
/// In a program built with `panic = "abort"`, where nothing can unwind: with a message, and the process.
///
/// ```
#[doc = include_str!("../examples.txt")]
/// let (tx, rx) = std::sync::mpsc::channel();
/// join(&go(move || {
///     struct Tell(std::sync::mpsc::Sender<&'static str>);
///     impl Drop for Tell {
///         fn drop(&mut self) { self.0.send("dropped").unwrap() }
///     }
///     let _tell = Tell(tx);
///     goexit();
/// }));
/// assert_eq!(rx.recv(), Ok("dropped"));
/// ```
#[track_caller]
pub fn goexit() -> ! {
    assert!(
        current::goroutine().is_some(),
        "gorun: goexit called outside a goroutine; only what `go` or `run` started can be ended by it: return instead"
    );
    if !cfg!(panic = "unwind") {
        fatal("goexit unwinds, and this program is built with panic = \"abort\": return instead");
    }
    if std::thread::panicking() {
        report_exit_in_unwinding(std::panic::Location::caller());
    }
    resume_unwind(Box::new(Goexit))
}

#[cold]
fn report_exit_in_unwinding(at: &std::panic::Location<'_>) {
    use std::io::Write;
    let who = current::goroutine().map(Handle::of);
    let id = who.as_ref().map(|g| format!(" {}", g.id())).unwrap_or_default();
    let name = who.as_ref().and_then(|g| g.name()).map(|name| format!(" {name:?}")).unwrap_or_default();
    // std can't tell which pinned goroutine of a thread panics (`abort_shields`).
    let what = match who.map(|g| g.thread_locals()) {
        Some(ThreadLocals::Pinned) => {
            "while a pinned goroutine on its thread unwinds: if that is itself, and no destructor catches this"
        }
        _ => "in a destructor while it unwinds already: unless that destructor catches it",
    };
    let _ = writeln!(std::io::stderr(), "gorun: goroutine{id}{name} called goexit at {at} {what}, the process aborts");
}
