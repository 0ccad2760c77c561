//! `Semaphore`: a number of permits, of which one may take several at once: Go's `golang.org/x/sync/semaphore`.
//!
//! * **H1.** The permits that are free, and the queue, are under one lock.
//! * **H2.** Whenever the lock is free the first in the queue wants more than there are. So who comes while there is a
//!   queue goes into it: large requests are not starved by small ones.
//! * **H3.** Permits are given to a waiter together with its claim, under the lock. One whose wait ends otherwise has none.

use super::raw_mutex::Abort;
use super::shim::Lock;
use super::wait::{Waited, wait_by};
use crate::context::{Context, ContextError};
use gorun_scheduler::{Blocker, Token, WaitQueue, WaitReason, Wake, checkpoint, polled_in_vain, unwind_aborted};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A limit on something that is counted: Go's `semaphore.Weighted`.
///
/// First come, first served: who wants many is not overtaken by those who want few. (To let them pass "could cause
/// starvation for large requests", says Go's `semaphore.go`.) A goroutine that waits is parked, a plain thread blocks. A
/// release happens before the return of the acquisition that it makes possible.
///
/// ```
/// use gorun::sync::Semaphore;
/// use std::sync::Arc;
/// let at_once = Arc::new(Semaphore::new(2));
/// let jobs: Vec<_> = (0..10)
///     .map(|n| {
///         let permit = Semaphore::acquire_owned(&at_once, 1);
///         gorun::go(move || { let _permit = permit; n * n })
///     })
///     .collect();
/// assert_eq!(jobs.into_iter().map(|job| job.join().unwrap()).sum::<u32>(), 285);
/// assert_eq!(at_once.available_permits(), 2);
/// ```
pub struct Semaphore {
    size: usize,
    state: Lock<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    /// Each with how many it wants.
    queue: WaitQueue<usize>,
}

impl State {
    /// H2.
    fn serve(&mut self) -> Vec<Wake> {
        let mut woken = Vec::new();
        while let Some(&wanted) = self.queue.front() {
            if wanted > self.free {
                break;
            }
            // H3: one that was claimed by an abort or its time gets nothing.
            if let Some((_, Some(wake))) = self.queue.take_first(|_| ()) {
                self.free -= wanted;
                woken.push(wake);
            }
        }
        woken
    }

    fn try_take(&mut self, n: usize) -> bool {
        let has = n <= self.free && self.queue.is_empty();
        self.free -= if has { n } else { 0 };
        has
    }
}

impl Semaphore {
    /// One with `permits` permits, all of them free.
    ///
    /// ```
    /// static CONNECTIONS: gorun::sync::Semaphore = gorun::sync::Semaphore::new(100);
    /// let permit = CONNECTIONS.acquire(1);
    /// # drop(permit);
    /// ```
    #[must_use]
    pub const fn new(permits: usize) -> Semaphore {
        Semaphore { size: permits, state: Lock::new(State { free: permits, queue: WaitQueue::new() }) }
    }

    /// Waits for `n` permits. They go back when the [`Permit`] is dropped. A cancellation point.
    ///
    /// # Panics
    /// If the semaphore never had so many. (Go waits until its context ends.)
    ///
    /// ```
    /// let semaphore = gorun::sync::Semaphore::new(3);
    /// let two = semaphore.acquire(2);
    /// assert_eq!(semaphore.available_permits(), 1);
    /// drop(two);
    /// assert_eq!(semaphore.available_permits(), 3);
    /// ```
    #[track_caller]
    pub fn acquire(&self, n: usize) -> Permit<&Semaphore> {
        self.take(n);
        Permit { semaphore: self, n }
    }

    /// As [`acquire`](Semaphore::acquire), with a permit that keeps the semaphore, and so can go along with a goroutine.
    ///
    /// # Panics
    /// As `acquire`.
    ///
    /// ```
    /// use gorun::sync::Semaphore;
    /// let semaphore = std::sync::Arc::new(Semaphore::new(1));
    /// let permit = Semaphore::acquire_owned(&semaphore, 1);
    /// gorun::go(move || drop(permit)).join().unwrap();
    /// assert_eq!(semaphore.available_permits(), 1);
    /// ```
    #[track_caller]
    pub fn acquire_owned(this: &Arc<Semaphore>, n: usize) -> Permit<Arc<Semaphore>> {
        this.take(n);
        Permit { semaphore: this.clone(), n }
    }

    #[track_caller]
    fn take(&self, n: usize) {
        assert!(n <= self.size, "gorun: {n} permits of a Semaphore that has {}", self.size);
        self.take_until(n, None);
    }

    /// Takes `n` permits if they are free and nobody waits, or none. Never waits. Go's `TryAcquire`.
    ///
    /// ```
    /// let semaphore = gorun::sync::Semaphore::new(1);
    /// let permit = semaphore.try_acquire(1).unwrap();
    /// assert!(semaphore.try_acquire(1).is_none());
    /// # drop(permit);
    /// ```
    pub fn try_acquire(&self, n: usize) -> Option<Permit<&Semaphore>> {
        self.try_take(n).then(|| Permit { semaphore: self, n })
    }

    /// As [`try_acquire`](Semaphore::try_acquire), with a permit that keeps the semaphore.
    ///
    /// ```
    /// use gorun::sync::Semaphore;
    /// assert!(Semaphore::try_acquire_owned(&Semaphore::new(1).into(), 2).is_none());
    /// ```
    pub fn try_acquire_owned(this: &Arc<Semaphore>, n: usize) -> Option<Permit<Arc<Semaphore>>> {
        this.try_take(n).then(|| Permit { semaphore: this.clone(), n })
    }

    fn try_take(&self, n: usize) -> bool {
        let taken = self.state.lock().try_take(n);
        if !taken {
            polled_in_vain();
        }
        taken
    }

    /// As [`acquire`](Semaphore::acquire), for `timeout` at most; `None` if there were not as many, and if there never
    /// are. Those who waited behind are served then, if there is enough for them.
    ///
    /// ```
    /// use std::time::Duration;
    /// let semaphore = gorun::sync::Semaphore::new(1);
    /// assert!(semaphore.acquire_timeout(2, Duration::from_millis(1)).is_none());
    /// assert!(semaphore.acquire_timeout(1, Duration::ZERO).is_some());
    /// ```
    pub fn acquire_timeout(&self, n: usize, timeout: Duration) -> Option<Permit<&Semaphore>> {
        match Instant::now().checked_add(timeout) {
            Some(deadline) => self.acquire_until(n, deadline),
            None => Some(self.acquire(n)),
        }
    }

    /// As [`acquire_timeout`](Semaphore::acquire_timeout), with a point in time.
    ///
    /// ```
    /// let semaphore = gorun::sync::Semaphore::new(1);
    /// assert!(semaphore.acquire_until(1, std::time::Instant::now()).is_some());
    /// ```
    pub fn acquire_until(&self, n: usize, deadline: Instant) -> Option<Permit<&Semaphore>> {
        if n > self.size {
            // As Go: it fails at its time, and keeps nobody else waiting.
            checkpoint();
            let blocker = Blocker::current();
            blocker.arm();
            if blocker.park(WaitReason::Semaphore, Some(deadline)) == Token::ABORT {
                unwind_aborted();
            }
            return None;
        }
        self.take_until(n, Some(deadline)).then(|| Permit { semaphore: self, n })
    }

    /// As [`acquire`](Semaphore::acquire), until `context` ends at the latest: Go's `Weighted.Acquire`. A context that has
    /// ended before has precedence over permits that are free. More permits than there are are waited for until the
    /// context ends, and nobody waits behind that.
    ///
    /// # Errors
    /// Why the context has ended; no permits were taken then, and those who waited behind are served, if there is enough
    /// for them.
    ///
    /// ```
    /// use gorun::context::{ContextError, background};
    /// let semaphore = gorun::sync::Semaphore::new(1);
    /// let (ctx, cancel) = background().with_cancel();
    /// let permit = semaphore.acquire_with(&ctx, 1).unwrap();
    /// cancel.cancel();
    /// assert_eq!(semaphore.acquire_with(&ctx, 1).unwrap_err(), ContextError::Canceled);
    /// # drop(permit);
    /// ```
    pub fn acquire_with(&self, context: &Context, n: usize) -> Result<Permit<&Semaphore>, ContextError> {
        self.take_with(context, n)?;
        Ok(Permit { semaphore: self, n })
    }

    /// As [`acquire_with`](Semaphore::acquire_with), with a permit that keeps the semaphore.
    ///
    /// # Errors
    /// As `acquire_with`.
    ///
    /// ```
    /// use gorun::sync::Semaphore;
    /// let semaphore = std::sync::Arc::new(Semaphore::new(1));
    /// let permit = Semaphore::acquire_owned_with(&semaphore, &gorun::context::background(), 1).unwrap();
    /// gorun::go(move || drop(permit)).join().unwrap();
    /// ```
    pub fn acquire_owned_with(
        this: &Arc<Semaphore>,
        context: &Context,
        n: usize,
    ) -> Result<Permit<Arc<Semaphore>>, ContextError> {
        this.take_with(context, n)?;
        Ok(Permit { semaphore: this.clone(), n })
    }

    /// Gives `n` permits back: those of permits that were [forgotten](Permit::forget). Never waits.
    ///
    /// # Panics
    /// If more are free than there are, then. (Go: "semaphore: released more than held".)
    ///
    /// ```
    /// let semaphore = gorun::sync::Semaphore::new(1);
    /// semaphore.acquire(1).forget();
    /// assert_eq!(semaphore.available_permits(), 0);
    /// semaphore.release(1);
    /// assert_eq!(semaphore.available_permits(), 1);
    /// ```
    pub fn release(&self, n: usize) {
        let woken = {
            let mut state = self.state.lock();
            let free = state.free.checked_add(n).filter(|free| *free <= self.size);
            free.map(|free| {
                state.free = free;
                state.serve()
            })
        };
        Wake::wake_all(woken.expect("gorun: more permits of a Semaphore released than taken"));
    }

    /// How many permits are free now. With a queue they may be free and still not to be had.
    ///
    /// ```
    /// assert_eq!(gorun::sync::Semaphore::new(3).available_permits(), 3);
    /// ```
    pub fn available_permits(&self) -> usize {
        self.state.lock().free
    }

    fn take_until(&self, n: usize, deadline: Option<Instant>) -> bool {
        self.take_by(n, |blocker| blocker.park(WaitReason::Semaphore, deadline))
    }

    fn take_with(&self, context: &Context, n: usize) -> Result<(), ContextError> {
        context.check()?;
        if n > self.size {
            // Only the context's end closes it.
            let _ended = context.done().recv();
        } else {
            let taken = self.take_by(n, |blocker| context.park(blocker, WaitReason::Semaphore));
            match context.err() {
                None if taken => return Ok(()),
                None => unreachable!("a wait without permits is ended by the context's end, whose error is there then"),
                // Go: "Acquired the semaphore. Check that ctx isn't already done."
                Some(_) if taken => self.release(n),
                Some(_) => {}
            }
        }
        context.check()
    }

    fn take_by(&self, n: usize, park: impl FnOnce(&Blocker) -> Token) -> bool {
        checkpoint();
        if self.state.lock().try_take(n) {
            return true;
        }
        let waited = wait_by(
            &self.state,
            Abort::Unwinds,
            park,
            n,
            |state| &mut state.queue,
            |state| state.try_take(n).then_some(()),
            // H2: it may have been the first.
            |state, _| state.serve(),
        );
        match waited {
            Waited::Not(()) | Waited::Woken => true,
            Waited::TimedOut => false,
            Waited::Aborted => unwind_aborted(),
        }
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let free = self.available_permits();
        f.debug_struct("Semaphore").field("size", &self.size).field("free", &free).finish()
    }
}

/// Permits of a [`Semaphore`], which go back when this is dropped. Of an `&Semaphore`, or of an `Arc<Semaphore>`.
#[must_use = "dropping it gives the permits back"]
pub struct Permit<S: Deref<Target = Semaphore>> {
    semaphore: S,
    n: usize,
}

impl<S: Deref<Target = Semaphore>> Permit<S> {
    /// How many these are.
    ///
    /// ```
    /// assert_eq!(gorun::sync::Semaphore::new(3).acquire(2).count(), 2);
    /// ```
    pub fn count(&self) -> usize {
        self.n
    }

    /// Keeps the permits taken. [`Semaphore::release`] gives them back.
    ///
    /// ```
    /// let semaphore = gorun::sync::Semaphore::new(1);
    /// semaphore.acquire(1).forget();
    /// assert!(semaphore.try_acquire(1).is_none());
    /// ```
    pub fn forget(mut self) {
        self.n = 0;
    }
}

impl<S: Deref<Target = Semaphore>> Drop for Permit<S> {
    fn drop(&mut self) {
        if self.n > 0 {
            self.semaphore.release(self.n);
        }
    }
}

impl<S: Deref<Target = Semaphore>> fmt::Debug for Permit<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Permit").field(&self.n).finish()
    }
}
