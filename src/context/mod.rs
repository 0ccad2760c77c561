//! Contexts: cancellation, deadlines and values that travel with a request, as Go's package `context`.
//!
//! | Go | gorun |
//! |---|---|
//! | `context.Background()`, `context.TODO()` | [`background()`](fn@background), [`todo()`](fn@todo) |
//! | `context.WithCancel(ctx)`, `WithCancelCause` | [`ctx.with_cancel()`](Context::with_cancel), [`with_cancel_cause`](Context::with_cancel_cause) |
//! | `WithDeadline`, `WithTimeout`, `...Cause` | [`with_deadline`](Context::with_deadline), [`with_timeout`](Context::with_timeout), `..._cause` |
//! | `defer cancel()` | nothing: a [`CancelFunc`] that is dropped cancels |
//! | `WithValue(ctx, key, v)`, `ctx.Value(key)` | [`ctx.with_value(v)`](Context::with_value), [`ctx.value::<T>()`](Context::value): by type |
//! | `<-ctx.Done()` | [`ctx.done()`](Context::done)`.recv()`, or as an arm of a select |
//! | `ctx.Err()`, `context.Cause(ctx)`, `ctx.Deadline()` | [`err`](Context::err), [`cause`](Context::cause), [`deadline`](Context::deadline) |
//! | `context.AfterFunc(ctx, f)` | [`ctx.after_func(f)`](Context::after_func) |
//! | `context.WithoutCancel(ctx)` | [`without_cancel`](Context::without_cancel) |
//! | a parameter `ctx` in every function | that, or [`current()`](current) and [`ctx.scope(f)`](Context::scope) |
//!
//! Contexts may be used and canceled from goroutines and plain threads alike.
//!
//! # Ordering
//! A cancel happens before each return of [`err`](Context::err) that is not `None`, and before each receive from
//! [`done`](Context::done) that fails because of it, on the context and on all that are derived from it.
//!
//! Inside: `tree` is the tree of what can be canceled, `children` what hangs below one, `values` the list of values;
//! a [`Context`] is a place in the tree and one in the list.

mod cancel;
mod children;
mod error;
#[allow(unsafe_code, reason = "waiters on the stack")]
mod park;
mod tree;
mod values;

pub use cancel::{AfterFunc, CancelCauseFunc, CancelFunc};
pub use error::{Cause, ContextError};

use self::tree::{Done, Node};
use self::values::Value;
use crate::chan::{Receiver, never};
use std::error::Error;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// A request's cancellation, deadline and values. Clones are the same context.
///
/// ```
/// use gorun::context::{ContextError, background};
/// let (ctx, cancel) = background().with_cancel();
/// let worker = gorun::go(move || ctx.done().recv().map_err(|_| ctx.err()));
/// cancel.cancel();
/// assert_eq!(worker.join().unwrap(), Err(Some(ContextError::Canceled)));
/// ```
#[derive(Clone, Default)]
pub struct Context {
    node: Option<Arc<Node>>,
    values: Option<Arc<Value>>,
}

// No code of a user's runs while a context is being changed.
impl UnwindSafe for Context {}
impl RefUnwindSafe for Context {}

/// The empty context: never canceled, without values and without a deadline. What `main`, initialisation and tests
/// begin with. Go's [`context.Background`](https://pkg.go.dev/context#Background).
///
/// ```
/// let ctx = gorun::context::background();
/// assert!(ctx.err().is_none() && ctx.deadline().is_none());
/// ```
#[must_use]
pub const fn background() -> Context {
    Context { node: None, values: None }
}

/// As [`background`], where it is not clear yet which context to use, or there is none to be had yet. Go's
/// [`context.TODO`](https://pkg.go.dev/context#TODO): a word to look for.
///
/// ```
/// fn fetch(ctx: &gorun::context::Context) -> bool { ctx.err().is_none() }
/// assert!(fetch(&gorun::context::todo())); // until our caller has one for us
/// ```
#[must_use]
pub const fn todo() -> Context {
    background()
}

crate::goroutine_local! {
    #[allow(unsafe_code, reason = "the macro's own, which is for other crates")]
    #[inherit]
    static CURRENT: Context = background();
}

/// The context that [`Context::scope`] has put in force here, in this goroutine or in the one that spawned it; else
/// [`background`].
///
/// ```
/// use gorun::context::{background, current};
/// #[derive(PartialEq, Debug)]
/// struct User(&'static str);
/// background().with_value(User("ann")).scope(|| {
///     let spawned = gorun::go(|| current().value::<User>().is_some());
///     assert!(spawned.join().unwrap());
/// });
/// assert_eq!(current().value::<User>(), None);
/// ```
#[must_use]
pub fn current() -> Context {
    // In the last moments of a goroutine there is none any more.
    CURRENT.try_with(Context::clone).unwrap_or_default()
}

impl Context {
    /// A derived context, canceled by [`CancelFunc::cancel`], by the drop of the [`CancelFunc`], or with this one,
    /// whichever comes first.
    ///
    /// ```
    /// let (ctx, cancel) = gorun::context::background().with_cancel();
    /// let (derived, _cancel) = ctx.with_cancel();
    /// assert!(derived.err().is_none());
    /// cancel.cancel();
    /// assert!(derived.err().is_some());
    /// ```
    pub fn with_cancel(&self) -> (Context, CancelFunc) {
        let node = Node::child(self.node.as_ref(), None);
        (self.at(&node), CancelFunc::new(node))
    }

    /// As [`with_cancel`](Context::with_cancel), with a function that says why. Dropping it cancels without saying.
    ///
    /// ```
    /// let (ctx, cancel) = gorun::context::background().with_cancel_cause();
    /// cancel.cancel("out of paper");
    /// assert_eq!(ctx.err().unwrap().to_string(), "context canceled");
    /// assert_eq!(ctx.cause().unwrap().to_string(), "out of paper");
    /// ```
    pub fn with_cancel_cause(&self) -> (Context, CancelCauseFunc) {
        let (context, cancel) = self.with_cancel();
        (context, CancelCauseFunc::new(cancel))
    }

    /// A derived context that is also canceled when `deadline` has passed. If this one has an earlier deadline, that
    /// holds.
    ///
    /// The deadline belongs to the runtime of the goroutine that calls, or to the default one, as timers do. If that
    /// runtime ends first, the deadline can no longer pass: the context is canceled, and its [cause](Context::cause) says
    /// that its runtime has ended. It needs no stack: if there is none for another goroutine, a thread
    /// cancels the context.
    ///
    /// # Panics
    /// When a plain thread calls and the default runtime has to start and can't: the text says why.
    ///
    /// ```
    /// use gorun::context::{ContextError, background};
    /// let (ctx, _cancel) = background().with_deadline(std::time::Instant::now());
    /// assert_eq!(ctx.err(), Some(ContextError::DeadlineExceeded));
    /// ```
    #[track_caller]
    pub fn with_deadline(&self, deadline: Instant) -> (Context, CancelFunc) {
        self.until(Some(deadline), None)
    }

    /// As [`with_deadline`](Context::with_deadline); `cause` is the cause if it is the deadline that cancels, and not
    /// the [`CancelFunc`].
    ///
    /// # Panics
    /// As [`with_deadline`](Context::with_deadline).
    ///
    /// ```
    /// let past = std::time::Instant::now();
    /// let (ctx, _cancel) = gorun::context::background().with_deadline_cause(past, "the shop is closed");
    /// assert_eq!(ctx.err().unwrap().to_string(), "context deadline exceeded");
    /// assert_eq!(ctx.cause().unwrap().to_string(), "the shop is closed");
    /// ```
    #[track_caller]
    pub fn with_deadline_cause(
        &self,
        deadline: Instant,
        cause: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> (Context, CancelFunc) {
        self.until(Some(deadline), Some(Arc::from(cause.into())))
    }

    /// [`with_deadline`](Context::with_deadline) in `timeout` from now.
    ///
    /// # Panics
    /// As [`with_deadline`](Context::with_deadline).
    ///
    /// ```
    /// use gorun::context::{ContextError, background};
    /// let (ctx, _cancel) = background().with_timeout(std::time::Duration::from_millis(2));
    /// assert!(ctx.done().recv().is_err());
    /// assert_eq!(ctx.err(), Some(ContextError::DeadlineExceeded));
    /// ```
    #[track_caller]
    pub fn with_timeout(&self, timeout: Duration) -> (Context, CancelFunc) {
        // A deadline that the clock can't say is none.
        self.until(Instant::now().checked_add(timeout), None)
    }

    /// As [`with_timeout`](Context::with_timeout); `cause` is the cause if it is the deadline that cancels.
    ///
    /// # Panics
    /// As [`with_deadline`](Context::with_deadline).
    ///
    /// ```
    /// let (ctx, _cancel) = gorun::context::background().with_timeout_cause(std::time::Duration::ZERO, "too slow");
    /// assert_eq!(ctx.cause().unwrap().to_string(), "too slow");
    /// ```
    #[track_caller]
    pub fn with_timeout_cause(
        &self,
        timeout: Duration,
        cause: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> (Context, CancelFunc) {
        self.until(Instant::now().checked_add(timeout), Some(Arc::from(cause.into())))
    }

    #[track_caller]
    fn until(&self, deadline: Option<Instant>, cause: Option<Cause>) -> (Context, CancelFunc) {
        let ours = deadline.filter(|ours| self.deadline().is_none_or(|parents| *ours < parents));
        let node = Node::child(self.node.as_ref(), ours);
        if let Some(deadline) = ours {
            node.end_at(deadline, cause);
        }
        (self.at(&node), CancelFunc::new(node))
    }

    /// A derived context with one value more. Values are found by their type: give yours a type of its own, so that
    /// nobody else's hides it. For what travels with a request through program boundaries, not for optional
    /// parameters.
    ///
    /// ```
    /// struct RequestId(u64);
    /// let ctx = gorun::context::background().with_value(RequestId(17));
    /// assert_eq!(ctx.value::<RequestId>().unwrap().0, 17);
    /// ```
    #[must_use]
    pub fn with_value<T: Send + Sync + 'static>(&self, value: T) -> Context {
        Context { node: self.node.clone(), values: Some(Value::new(self.values.clone(), value)) }
    }

    /// The value of type `T` that was added last, on the way to this context; `None` if there is none. Takes as long as
    /// there are values. Go's [`Context.Value`](https://pkg.go.dev/context#Context).
    ///
    /// ```
    /// #[derive(Debug, PartialEq)]
    /// struct User(&'static str);
    /// let ctx = gorun::context::background().with_value(User("ann"));
    /// let inner = ctx.with_value(User("bob"));
    /// assert_eq!((ctx.value::<User>(), inner.value::<User>()), (Some(&User("ann")), Some(&User("bob"))));
    /// assert_eq!(ctx.value::<String>(), None);
    /// ```
    #[must_use]
    pub fn value<T: Send + Sync + 'static>(&self) -> Option<&T> {
        Value::find(self.values.as_deref())
    }

    /// A context with the values of this one that is not canceled with it, and has no deadline.
    ///
    /// ```
    /// let (ctx, cancel) = gorun::context::background().with_value("value").with_cancel();
    /// let log = ctx.without_cancel();
    /// cancel.cancel();
    /// assert_eq!((log.err(), log.value::<&str>()), (None, Some(&"value")));
    /// ```
    #[must_use]
    pub fn without_cancel(&self) -> Context {
        Context { node: None, values: self.values.clone() }
    }

    /// A channel that is closed when the context is canceled, and never carries anything: Go's `Done`. Always the same one.
    /// The channel of a context that can't be canceled is never closed. Receivers can't close it.
    ///
    /// It is closed if and only if [`err`](Context::err) is not `None`.
    ///
    /// ```
    /// use gorun::chan::RecvTimeoutError;
    /// let (ctx, _cancel) = gorun::context::background().with_cancel();
    /// let soon = std::time::Duration::from_millis(1);
    /// assert_eq!(ctx.done().recv_timeout(soon), Err(RecvTimeoutError::Timeout));
    /// ```
    #[must_use]
    pub fn done(&self) -> &Receiver<Done> {
        // Closed by nobody: `Receiver::close` leaves it alone.
        static NEVER: LazyLock<Receiver<Done>> = LazyLock::new(never);
        match self.node() {
            None => &NEVER,
            Some(node) => node.done(),
        }
    }

    /// Why the context was canceled; `None` if it has not been. Once set, it never changes. It is set if and only if
    /// [`done`](Context::done) is closed. Go's `Err`; for the reason that was given, see [`cause`](Context::cause).
    ///
    /// ```
    /// use gorun::context::{ContextError, background};
    /// let (ctx, cancel) = background().with_cancel();
    /// let mut steps = 0;
    /// while ctx.err().is_none() {
    ///     steps += 1;
    ///     if steps == 3 { cancel.cancel() }
    /// }
    /// assert_eq!((steps, ctx.err()), (3, Some(ContextError::Canceled)));
    /// ```
    #[must_use]
    pub fn err(&self) -> Option<ContextError> {
        self.node().and_then(|node| node.error())
    }

    /// [`err`](Context::err) for use with `?`.
    ///
    /// # Errors
    /// Why the context was canceled.
    ///
    /// ```
    /// use gorun::context::{Context, ContextError};
    /// fn step(ctx: &Context) -> Result<u32, ContextError> {
    ///     ctx.check()?;
    ///     Ok(1)
    /// }
    /// assert_eq!(step(&gorun::context::background()), Ok(1));
    /// ```
    pub fn check(&self) -> Result<(), ContextError> {
        self.err().map_or(Ok(()), Err)
    }

    /// What canceled the context, or one that it is derived from, first: what was given to
    /// [`CancelCauseFunc::cancel`] or for the deadline, else the same as [`err`](Context::err). `None` if it has not been
    /// canceled.
    ///
    /// Go's [`context.Cause`](https://pkg.go.dev/context#Cause).
    ///
    /// ```
    /// let (ctx, cancel) = gorun::context::background().with_cancel_cause();
    /// let (derived, _cancel) = ctx.with_cancel();
    /// assert!(derived.cause().is_none());
    /// cancel.cancel("out of paper");
    /// assert_eq!(derived.cause().unwrap().to_string(), "out of paper");
    /// ```
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        self.node().and_then(|node| node.cause())
    }

    /// When it will be canceled at the latest: the earliest deadline of those on the way to this context. `None` if there
    /// is none. For those who would rather not begin what can't be done in time.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// let (ctx, _cancel) = gorun::context::background().with_timeout(Duration::from_secs(60));
    /// let left = ctx.deadline().unwrap() - Instant::now();
    /// assert!(left <= Duration::from_secs(60));
    /// let (longer, _cancel) = ctx.with_timeout(Duration::from_secs(3600));
    /// assert_eq!(longer.deadline(), ctx.deadline());
    /// ```
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.node.as_ref().and_then(|node| node.deadline())
    }

    /// Has `f` called, in a goroutine of its own, once the context has been canceled; at once if it has been. Each call of
    /// `after_func` stands for itself. [`AfterFunc::stop`] takes it back, dropping what is returned does not.
    ///
    /// The goroutine belongs to the runtime of the goroutine that calls `after_func`, or to the default one, and inherits
    /// no goroutine-locals. A context that can't be canceled drops `f` at once.
    ///
    /// # Panics
    /// As [`with_deadline`](Context::with_deadline).
    ///
    /// ```
    /// let (tx, rx) = gorun::channel(1);
    /// let (ctx, cancel) = gorun::context::background().with_cancel();
    /// ctx.after_func(move || tx.send("cleaned up").unwrap());
    /// cancel.cancel();
    /// assert_eq!(rx.recv(), Ok("cleaned up"));
    /// ```
    #[track_caller]
    pub fn after_func<F>(&self, f: F) -> AfterFunc
    where
        F: FnOnce() + Send + 'static,
    {
        match &self.node {
            Some(node) => AfterFunc::new(Some((node.clone(), node.call_after(f)))),
            None => AfterFunc::new(None),
        }
    }

    /// Runs `f` with this context as the [`current`] one, in this goroutine and in those it spawns meanwhile.
    ///
    /// ```
    /// let (ctx, cancel) = gorun::context::background().with_cancel();
    /// ctx.scope(|| {
    ///     let worker = gorun::go(|| gorun::context::current().done().recv().is_err());
    ///     cancel.cancel();
    ///     assert!(worker.join().unwrap());
    /// });
    /// ```
    pub fn scope<R>(&self, f: impl FnOnce() -> R) -> R {
        CURRENT.scope(self.clone(), f)
    }

    /// The node, for one who asks whether it has ended: in the child of a fork with deadlines that hold there.
    #[inline]
    fn node(&self) -> Option<&Arc<Node>> {
        let node = self.node.as_ref()?;
        if gorun_scheduler::process() != 0 {
            node.renew_deadlines();
        }
        Some(node)
    }

    fn at(&self, node: &Arc<Node>) -> Context {
        Context { node: Some(node.clone()), values: self.values.clone() }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("can_be_canceled", &self.node.is_some())
            .field("err", &self.err())
            .field("deadline", &self.deadline())
            .field("values", &Value::count(self.values.as_deref()))
            .finish()
    }
}
