//! What cancels a context, and what calls off a call after it.
//!
//! In Go a cancel function that is never called keeps its context in the parent's table for as long as the parent
//! lives, and `go vet` looks for such. Here it is a guard: dropping it cancels. Who wants Go's behaviour says so by
//! [`CancelFunc::detach`].

use super::children::Place;
use super::error::ContextError;
use super::tree::Node;
use std::error::Error;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Cancels a context: when it is called, or dropped.
///
/// So `let (ctx, _cancel) = ...` stands for Go's `defer cancel()`; mind that `let (ctx, _) = ...` cancels on the spot.
///
/// ```
/// let ctx = {
///     let (ctx, _cancel) = gorun::context::background().with_cancel();
///     assert!(ctx.err().is_none());
///     ctx
/// };
/// assert!(ctx.err().is_some());
/// ```
#[must_use = "a CancelFunc cancels when it is dropped"]
pub struct CancelFunc {
    node: Option<Arc<Node>>,
}

// As a context's.
impl UnwindSafe for CancelFunc {}
impl RefUnwindSafe for CancelFunc {}

impl CancelFunc {
    pub(super) fn new(node: Arc<Node>) -> CancelFunc {
        CancelFunc { node: Some(node) }
    }

    /// Cancels the context and all contexts derived from it. When the call returns, all of them are canceled, even if other
    /// calls cancel some of them at the same time. It does not wait for anyone to notice. Any number of goroutines and
    /// threads may call it, also concurrently; calls after the first change nothing. Go's
    /// [`CancelFunc`](https://pkg.go.dev/context#CancelFunc).
    ///
    /// Wakers of futures that wait for the end run inside this call, after all contexts have been canceled, and may cancel
    /// further contexts. Their panics are caught.
    ///
    /// What was done before the first call happens before what is done after the context was seen to be canceled.
    ///
    /// ```
    /// let (ctx, cancel) = gorun::context::background().with_cancel();
    /// let worker = gorun::go({
    ///     let ctx = ctx.clone();
    ///     move || ctx.done().recv().is_err()
    /// });
    /// cancel.cancel();
    /// cancel.cancel(); // does nothing
    /// assert!(ctx.err().is_some() && worker.join().unwrap());
    /// ```
    pub fn cancel(&self) {
        self.cancel_because(None);
    }

    pub(crate) fn cancel_because(&self, cause: Option<Box<dyn Error + Send + Sync>>) {
        if let Some(node) = &self.node {
            node.cancel(ContextError::Canceled, cause.map(Arc::from));
        }
    }

    /// Gives up the right to cancel: the context ends with the one that it is derived from, or by its deadline. Until
    /// then it stays in its parent's table, as in Go when the function is never called.
    ///
    /// ```
    /// let (parent, cancel) = gorun::context::background().with_cancel();
    /// let (ctx, own) = parent.with_cancel();
    /// own.detach();
    /// assert!(ctx.err().is_none());
    /// cancel.cancel();
    /// assert!(ctx.err().is_some());
    /// ```
    pub fn detach(mut self) {
        if let Some(node) = self.node.take() {
            node.hold();
        }
    }
}

impl Drop for CancelFunc {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl fmt::Debug for CancelFunc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelFunc").finish_non_exhaustive()
    }
}

/// Cancels a context and says why. Dropping it cancels without a reason.
///
/// ```
/// let (ctx, cancel) = gorun::context::background().with_cancel_cause();
/// drop(cancel);
/// assert_eq!(ctx.cause().unwrap().to_string(), "context canceled");
/// ```
#[derive(Debug)]
#[must_use = "a CancelCauseFunc cancels when it is dropped"]
pub struct CancelCauseFunc(CancelFunc);

impl CancelCauseFunc {
    pub(super) fn new(cancel: CancelFunc) -> CancelCauseFunc {
        CancelCauseFunc(cancel)
    }

    /// As [`CancelFunc::cancel`], with `cause` as the cause, if the context has not been canceled yet: the first cause
    /// stays. Go's [`CancelCauseFunc`](https://pkg.go.dev/context#CancelCauseFunc).
    ///
    /// ```
    /// let (ctx, cancel) = gorun::context::background().with_cancel_cause();
    /// cancel.cancel("disk full");
    /// cancel.cancel("too late to say so");
    /// assert_eq!(ctx.cause().unwrap().to_string(), "disk full");
    /// ```
    pub fn cancel(&self, cause: impl Into<Box<dyn Error + Send + Sync>>) {
        self.0.cancel_because(Some(cause.into()));
    }

    /// As [`CancelFunc::detach`]: the context ends with the one that it is derived from, and has that one's cause.
    ///
    /// ```
    /// let (parent, stop) = gorun::context::background().with_cancel_cause();
    /// let (ctx, own) = parent.with_cancel_cause();
    /// own.detach();
    /// stop.cancel("closing time");
    /// assert_eq!(ctx.cause().unwrap().to_string(), "closing time");
    /// ```
    pub fn detach(self) {
        self.0.detach();
    }
}

/// A function that is to be called after a context's cancel: what [`Context::after_func`](super::Context::after_func)
/// gives. Dropping it changes nothing.
pub struct AfterFunc {
    /// Where it hangs, if it does.
    at: Option<(Arc<Node>, Option<Place>)>,
    stopped: AtomicBool,
}

// As a context's.
impl UnwindSafe for AfterFunc {}
impl RefUnwindSafe for AfterFunc {}

impl AfterFunc {
    pub(super) fn new(at: Option<(Arc<Node>, Option<Place>)>) -> AfterFunc {
        AfterFunc { at, stopped: AtomicBool::new(false) }
    }

    /// Keeps the function from being called, and drops it. `true` if it does; `false` if it has been started in its
    /// goroutine, or was stopped before. Does not wait for the function.
    ///
    /// ```
    /// let (ctx, cancel) = gorun::context::background().with_cancel();
    /// let call = ctx.after_func(|| unreachable!());
    /// assert!(call.stop());
    /// assert!(!call.stop());
    /// cancel.cancel();
    /// ```
    pub fn stop(&self) -> bool {
        match &self.at {
            Some((_, None)) => false,
            Some((node, Some(place))) => node.take_back(*place),
            // It would never have been called. Relaxed: nothing is published with it.
            None => !self.stopped.swap(true, Ordering::Relaxed),
        }
    }
}

impl fmt::Debug for AfterFunc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AfterFunc").finish_non_exhaustive()
    }
}
