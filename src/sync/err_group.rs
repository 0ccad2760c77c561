//! `ErrGroup`: goroutines that work on one task, the first error among them, a limit: Go's `errgroup.Group`.
//!
//! Counter, limit and first failure are under one lock with two queues: of those who wait for room, and of those who
//! wait for the end. A goroutine that ends hands its room to the first of the former, under the lock.
//!
//! * **E1.** `active` counts the goroutines that have room: running, or about to be started by a caller that was given
//!   room; and those that are started without room because the context has ended.
//! * **E2.** Nobody waits for room while there is some.
//! * **E3.** The first failure is kept, error or panic; it is there, and the context canceled, before its goroutine gives
//!   back its room. An aborted goroutine counts as a failure: no handle of a member exists, so only the end of its runtime
//!   aborts it.

use super::poison::lock;
use crate::Builder;
use crate::context::{CancelFunc, Context};
use crate::join::{AtEnd, JoinHandle};
use gorun_scheduler::{
    Blocker, GoroutineId, Token, Unwound, WaitQueue, WaitReason, Waiter, Wake, checkpoint, classify, contained,
    unwind_aborted, unwind_if_ending,
};
use std::any::Any;
use std::error::Error;
use std::fmt;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex};

/// Goroutines that work on parts of one task. A clone is the same group. Not to be used again for another task: once an
/// error has been told, later ones are dropped, and the group's context stays canceled.
///
/// ```
/// use gorun::sync::ErrGroup;
/// let group = ErrGroup::new();
/// for part in ["1", "2", "three"] {
///     group.go(move || part.parse::<u32>().map(drop));
/// }
/// assert_eq!(group.wait().unwrap_err().to_string(), "invalid digit found in string");
/// ```
pub struct ErrGroup<E> {
    inner: Arc<Inner<E>>,
}

// No user code runs while it is being changed.
impl<E> UnwindSafe for ErrGroup<E> {}
impl<E> RefUnwindSafe for ErrGroup<E> {}

struct Inner<E> {
    state: Mutex<State<E>>,
    cancel: Option<Cancel<E>>,
}

/// How to cancel the group's context, and what to say then.
struct Cancel<E> {
    context: Context,
    func: CancelFunc,
    cause: MakeCause<E>,
}

type MakeCause<E> = Box<dyn Fn(&E) -> Box<dyn Error + Send + Sync> + Send + Sync>;

struct State<E> {
    active: usize,
    limit: Option<usize>,
    failure: Option<Failure<E>>,
    room: WaitQueue<()>,
    end: WaitQueue<()>,
}

enum Failure<E> {
    Error(E),
    Panic(Box<dyn Any + Send>),
    /// Aborted by the end of its runtime.
    Aborted,
    /// It has been reported.
    Told,
}

impl<E: Send + 'static> ErrGroup<E> {
    /// A group without a limit that cancels nothing: Go's zero `errgroup.Group`.
    ///
    /// ```
    /// let group = gorun::sync::ErrGroup::new();
    /// group.go(|| Ok(()));
    /// group.go(|| Err("no such file"));
    /// assert_eq!(group.wait(), Err("no such file"));
    /// ```
    #[must_use]
    pub fn new() -> ErrGroup<E> {
        ErrGroup::with(None)
    }

    /// A group, and a context derived from `context` that is canceled when the first of its goroutines fails, or when
    /// [`wait`](ErrGroup::wait) returns, whichever comes first. The cause is the error's text; where it is to be the error
    /// itself, see [`with_context_cause`](ErrGroup::with_context_cause).
    ///
    /// ```
    /// use gorun::{context::background, sync::ErrGroup};
    /// let (group, ctx) = ErrGroup::<String>::with_context(&background());
    /// let waiting = ctx.clone();
    /// group.go(move || {
    ///     let _closed = waiting.done().recv();
    ///     Ok(())
    /// });
    /// group.go(|| Err("no such host".to_owned()));
    /// assert_eq!(group.wait(), Err("no such host".to_owned()));
    /// assert_eq!(ctx.cause().unwrap().to_string(), "no such host");
    /// ```
    #[must_use]
    pub fn with_context(context: &Context) -> (ErrGroup<E>, Context)
    where
        E: fmt::Display,
    {
        ErrGroup::with_context_cause(context, E::to_string)
    }

    /// As [`with_context`](ErrGroup::with_context); `cause` makes the context's cause of the first error, which itself goes
    /// to [`wait`](ErrGroup::wait). For an error that is `Clone`, `Clone::clone` will do. If `cause` panics, the context is
    /// canceled with a text that says so.
    ///
    /// ```
    /// use gorun::{context::background, sync::ErrGroup};
    /// use std::num::ParseIntError;
    ///
    /// let (group, ctx) = ErrGroup::<ParseIntError>::with_context_cause(&background(), Clone::clone);
    /// group.go(|| "two".parse::<u8>().map(drop));
    /// let error = group.wait().unwrap_err();
    /// // errors.As(context.Cause(ctx), &target)
    /// assert_eq!(ctx.cause().unwrap().downcast_ref::<ParseIntError>(), Some(&error));
    /// ```
    #[must_use]
    pub fn with_context_cause<C>(
        context: &Context,
        cause: impl Fn(&E) -> C + Send + Sync + 'static,
    ) -> (ErrGroup<E>, Context)
    where
        C: Into<Box<dyn Error + Send + Sync>>,
    {
        let (context, func) = context.with_cancel();
        let cause: MakeCause<E> = Box::new(move |error| cause(error).into());
        (ErrGroup::with(Some(Cancel { context: context.clone(), func, cause })), context)
    }

    fn with(cancel: Option<Cancel<E>>) -> ErrGroup<E> {
        let (room, end) = (WaitQueue::new(), WaitQueue::new());
        let state = Mutex::new(State { active: 0, limit: None, failure: None, room, end });
        ErrGroup { inner: Arc::new(Inner { state, cancel }) }
    }

    /// Lets at most `limit` goroutines of the group be active at a time; `None` as many as like. With 0 none can be
    /// started.
    ///
    /// # Panics
    /// While goroutines of the group are active.
    ///
    /// ```
    /// let group = gorun::sync::ErrGroup::<()>::new();
    /// group.set_limit(2);
    /// group.set_limit(None);
    /// ```
    pub fn set_limit(&self, limit: impl Into<Option<usize>>) {
        let limit = limit.into();
        let active = {
            let mut state = lock(&self.inner.state);
            if state.active == 0 {
                state.limit = limit;
            }
            state.active
        };
        assert!(active == 0, "gorun: ErrGroup::set_limit while {active} goroutines of the group are active");
    }

    /// Calls `f` in a goroutine of the group, when there is room: waits while as many as the limit allows are active,
    /// first come, first served.
    ///
    /// The first error is what [`wait`](ErrGroup::wait) returns, and cancels the group's context. So does the first panic,
    /// with which `wait` goes on. (Go's errgroup lets a panic end the process.) A goroutine that ends by
    /// [`goexit`](crate::goexit) has not failed; one that the end of its runtime aborts has.
    ///
    /// A goroutine of the group that calls `go` while the limit is reached may wait for room that only its own end can
    /// give: as in Go, it then waits for ever; use [`try_go`](ErrGroup::try_go) there. If the group has a context
    /// ([`with_context`](ErrGroup::with_context)) and that has ended, `go` does not wait for room: it starts `f`, which
    /// should check the context, in a goroutine beyond the limit, and waits for its end. So each caller adds at most one
    /// goroutine beyond the limit.
    ///
    /// This is a cancellation point: if the caller is aborted while it waits for room, `f` is dropped.
    ///
    /// # Panics
    /// As [`gorun::go`](crate::go); `f` counts as ended then.
    ///
    /// ```
    /// let group = gorun::sync::ErrGroup::<()>::new();
    /// group.set_limit(1);
    /// let (tx, rx) = gorun::unbounded();
    /// for n in 0..3 {
    ///     let tx = tx.clone();
    ///     group.go(move || tx.send(n).map_err(drop)); // each after the end of the one before
    /// }
    /// group.wait().unwrap();
    /// assert_eq!(rx.try_iter().collect::<Vec<_>>(), [0, 1, 2]);
    /// ```
    #[track_caller]
    pub fn go<F>(&self, f: F)
    where
        F: FnOnce() -> Result<(), E> + Send + 'static,
    {
        checkpoint();
        let has_room = self.take_room();
        let started = self.start(f);
        if !has_room {
            // Its outcome is the group's.
            let _ended = started.join();
        }
    }

    /// As [`go`](ErrGroup::go), if there is room now.
    ///
    /// # Errors
    /// `f`, if as many goroutines as the limit allows are active.
    ///
    /// # Panics
    /// As [`gorun::go`](crate::go).
    ///
    /// ```
    /// let group = gorun::sync::ErrGroup::<()>::new();
    /// group.set_limit(0);
    /// assert!(group.try_go(|| Ok(())).is_err());
    /// ```
    #[track_caller]
    pub fn try_go<F>(&self, f: F) -> Result<(), F>
    where
        F: FnOnce() -> Result<(), E> + Send + 'static,
    {
        if !lock(&self.inner.state).try_take_room() {
            return Err(f);
        }
        drop(self.start(f));
        Ok(())
    }

    /// Waits until all goroutines of the group have ended, exit paths included, then cancels the group's context and gives
    /// the first error, once: to the first who waits for it. Later waits are `Ok`, whatever failed since. Go's
    /// [`Group.Wait`](https://pkg.go.dev/golang.org/x/sync/errgroup#Group.Wait).
    ///
    /// Everything that the goroutines did happens before `wait` returns. This is a cancellation point, also as it returns:
    /// if the group ended because the caller's runtime ends, the caller is unwound.
    ///
    /// # Errors
    /// The first that a goroutine of the group returned.
    ///
    /// # Panics
    /// If the first failure was a panic, with its payload; or if it was an abort by the end of a runtime that the caller
    /// outlives. (In a destructor during a panic, the latter returns `Ok`: a second panic there would end the process.)
    ///
    /// ```
    /// let group = gorun::sync::ErrGroup::new();
    /// for name in ["1", "two", "3"] {
    ///     group.go(move || name.parse::<u8>().map(drop));
    /// }
    /// assert!(group.wait().is_err());
    /// assert_eq!(group.wait(), Ok(())); // it has been told
    /// ```
    pub fn wait(&self) -> Result<(), E> {
        checkpoint();
        self.wait_begun()
    }

    /// Past the first cancellation point.
    #[inline]
    pub(super) fn wait_begun(&self) -> Result<(), E> {
        self.wait_for_end();
        unwind_if_ending();
        self.inner.cancel(None);
        let told = lock(&self.inner.state).failure.as_mut().map(|failure| std::mem::replace(failure, Failure::Told));
        match told {
            Some(Failure::Error(error)) => Err(error),
            Some(Failure::Panic(payload)) => resume_unwind(payload),
            Some(Failure::Aborted) if !std::thread::panicking() => panic!("gorun::sync::ErrGroup::wait: {ABORTED}"),
            Some(Failure::Aborted | Failure::Told) | None => Ok(()),
        }
    }

    /// Waits for room. Returns false if the context has ended; then the goroutine is counted without room (E1).
    fn take_room(&self) -> bool {
        let blocker = Blocker::current();
        let waiter = Waiter::new(&blocker, Token::DONE, ());
        {
            let mut state = lock(&self.inner.state);
            if state.try_take_room() {
                return true;
            }
            blocker.arm();
            // SAFETY: W2: the waiter stays in this frame until it is claimed or removed below.
            unsafe { state.room.push_back(&waiter) };
        }
        let token = match &self.inner.cancel {
            Some(cancel) => cancel.context.park(&blocker, WaitReason::Semaphore),
            None => blocker.park(WaitReason::Semaphore, None),
        };
        if token == Token::DONE {
            return true;
        }
        {
            let mut state = lock(&self.inner.state);
            // SAFETY: it is in this queue, or was taken out of it.
            let _was_in = unsafe { state.room.remove(&waiter) };
            state.active += usize::from(token != Token::ABORT);
        }
        if token == Token::ABORT {
            unwind_aborted();
        }
        false
    }

    fn wait_for_end(&self) {
        let blocker = Blocker::current();
        let waiter = Waiter::new(&blocker, Token::DONE, ());
        {
            let mut state = lock(&self.inner.state);
            if state.active == 0 {
                return;
            }
            blocker.arm();
            // SAFETY: W2: the waiter stays in this frame until it is claimed or removed below.
            unsafe { state.end.push_back(&waiter) };
        }
        if blocker.park(WaitReason::WaitGroup, None) != Token::DONE {
            // SAFETY: it is in this queue, or was taken out of it.
            let _was_in = unsafe { lock(&self.inner.state).end.remove(&waiter) };
            unwind_aborted();
        }
    }

    /// Starts `f`, for which there is room (E1).
    #[track_caller]
    fn start<F>(&self, f: F) -> JoinHandle<()>
    where
        F: FnOnce() -> Result<(), E> + Send + 'static,
    {
        let unbegun = Unbegun { group: self.inner.clone(), spawner: here() };
        let task = move || {
            let group = unbegun.begin();
            match catch_unwind(AssertUnwindSafe(f)) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => group.fail(Failure::Error(error)),
                Err(payload) => match classify(payload) {
                    Unwound::Panic(payload) => group.fail(Failure::Panic(payload)),
                    Unwound::Goexit => gorun_scheduler::goexit(),
                    Unwound::Aborted => {
                        group.fail(Failure::Aborted);
                        unwind_aborted();
                    }
                },
            }
        };
        // SAFETY: F is Send and 'static, and so is E; the drop of `Room` does not unwind.
        let spawned = unsafe { Builder::new().spawn_until(None, task, Room(ManuallyDrop::new(self.inner.clone()))) };
        match spawned {
            Ok(handle) => handle,
            Err(error) => panic!("gorun::sync::ErrGroup::go: {error}"),
        }
    }
}

impl<E> State<E> {
    fn try_take_room(&mut self) -> bool {
        let room = self.limit.is_none_or(|limit| self.active < limit);
        self.active += usize::from(room);
        room
    }
}

impl<E> Inner<E> {
    /// E3.
    fn fail(&self, failure: Failure<E>) {
        // User code formats the error, so the lock is not held; most groups have one error or none. The hook has reported a
        // panic in it, which must not hide the failure.
        let cause = match (&failure, &self.cancel) {
            (Failure::Error(error), Some(cancel)) => {
                let mut text = None;
                contained(|| text = Some((cancel.cause)(error)));
                text.or_else(|| {
                    Some("a goroutine of the group failed, with an error whose text could not be made".into())
                })
            }
            (Failure::Aborted, Some(_)) => Some(ABORTED.into()),
            (_, Some(_)) => Some("a goroutine of the group panicked".into()),
            (_, None) => None,
        };
        // Let go before a later failure is dropped, which is user code.
        let mut state = lock(&self.state);
        if state.failure.is_none() {
            state.failure = Some(failure);
            drop(state);
            self.cancel(cause);
        }
    }

    fn cancel(&self, cause: Option<Box<dyn Error + Send + Sync>>) {
        if let Some(cancel) = &self.cancel {
            cancel.func.cancel_because(cause);
        }
    }
}

const ABORTED: &str = "a goroutine of the group was aborted by the end of its runtime";

/// The caller: a goroutine, by its number, or a plain thread.
fn here() -> Option<GoroutineId> {
    gorun_scheduler::current_goroutine().map(|g| g.id())
}

/// A member that has not begun. If it never begins, its goroutine was aborted before, which is a failure, or could not be
/// spawned, which a panic reports to the spawner.
struct Unbegun<E> {
    group: Arc<Inner<E>>,
    spawner: Option<GoroutineId>,
}

impl<E> Unbegun<E> {
    fn begin(self) -> Arc<Inner<E>> {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is not dropped, and the other field needs no drop.
        unsafe { std::ptr::read(&raw mut this.group) }
    }
}

impl<E> Drop for Unbegun<E> {
    fn drop(&mut self) {
        // An abort drops it on the goroutine itself, a spawn that fails on the spawner.
        if here() != self.spawner {
            self.group.fail(Failure::Aborted);
        }
    }
}

/// A goroutine's room in the group, which goes to the next when it is dropped, after the goroutine's exit path.
struct Room<E>(ManuallyDrop<Arc<Inner<E>>>);

impl<E> Room<E> {
    /// E2: who waits for room gets ours, and is counted instead of us.
    fn give(&self) {
        let mut woken: Vec<Wake> = Vec::new();
        {
            let mut state = lock(&self.0.state);
            match state.room.claim_next(|()| (), |(), ()| ()) {
                Some(((), wake)) => woken.push(wake),
                None => {
                    state.active -= 1;
                    if state.active == 0 {
                        while let Some(((), wake)) = state.end.claim_next(|()| (), |(), ()| ()) {
                            woken.push(wake);
                        }
                    }
                }
            }
        }
        Wake::wake_all(woken);
    }
}

impl<E> AtEnd for Room<E> {
    /// The last one drops the group's error.
    const FOREIGN: bool = true;
}

impl<E> Drop for Room<E> {
    fn drop(&mut self) {
        self.give();
        // SAFETY: the end.
        let group = unsafe { ManuallyDrop::take(&mut self.0) };
        // If nobody waits for the group any more its error goes here, which is a user's drop.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(group))) {
            // The hook has told of the panic. This would be a user's drop once more.
            std::mem::forget(payload);
        }
    }
}

impl<E> Clone for ErrGroup<E> {
    fn clone(&self) -> Self {
        ErrGroup { inner: self.inner.clone() }
    }
}

impl<E: Send + 'static> Default for ErrGroup<E> {
    fn default() -> Self {
        ErrGroup::new()
    }
}

impl<E> fmt::Debug for ErrGroup<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (active, limit) = {
            let state = lock(&self.inner.state);
            (state.active, state.limit)
        };
        f.debug_struct("ErrGroup").field("active", &active).field("limit", &limit).finish_non_exhaustive()
    }
}
