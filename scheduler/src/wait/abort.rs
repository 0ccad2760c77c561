//! Aborts a goroutine: marks it, and ends its wait.
//!
//! Called by handles, by scopes, and by the end of a runtime.

use crate::goroutine::handle::Handle;
use crate::processor::abort_shields::Doubts;

impl Handle {
    /// Asks the goroutine to end: it unwinds at its next cancellation point, at once if it waits at one, and takes
    /// its exit path. A goroutine that has not begun never will. Too late for one that is in its exit path.
    ///
    /// Without unwinding (`panic = "abort"`) only goroutines that have not begun can be aborted.
    ///
    /// ```
    #[doc = include_str!("../examples.txt")]
    /// let goroutine = go(|| loop { yield_now() });
    /// goroutine.abort();
    /// join(&goroutine);
    /// ```
    pub fn abort(&self) {
        if self.is_parents() {
            return;
        }
        if let Some(wake) = self.block().ask_to_end() {
            wake.wake();
        }
    }
}

/// Lifts the shields of those waits that were shielded on suspicion (`abort_shields`), and makes up for the aborts that they
/// have refused. Called by a pinned goroutine that is not panicking, of its processor's list.
#[cold]
pub(super) fn lift_shields(doubts: &Doubts) {
    for (handle, wait) in doubts.take() {
        if handle.block().lift(wait) {
            handle.abort();
        }
    }
}
