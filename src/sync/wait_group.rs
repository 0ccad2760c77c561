//! `WaitGroup`: waits until a counter is back at zero, as Go's `sync.WaitGroup`.
//!
//! The counter and the queue of waiters are under one lock; a waiter is woken by its claim, outside the lock.

use super::shim::{Mutex, lock};
use gorun_scheduler::{Blocker, Token, WaitQueue, WaitReason, Waiter, Wake, checkpoint, unwind_aborted};
use std::sync::Arc;

/// Waits for a number of goroutines to finish. A clone is the same group.
///
/// Each [`done`](WaitGroup::done) happens before the return of the [`wait`](WaitGroup::wait) that it ends (Go's
/// `sync` documentation).
///
/// ```
/// let group = gorun::sync::WaitGroup::new();
/// for _ in 0..3 {
///     group.go(|| gorun::yield_now());
/// }
/// group.wait();
/// ```
#[derive(Clone, Debug, Default)]
pub struct WaitGroup {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    count: usize,
    waiters: WaitQueue<()>,
}

impl WaitGroup {
    /// A group with the counter at zero; [`wait`](WaitGroup::wait) does not wait for it.
    ///
    /// ```
    /// gorun::sync::WaitGroup::new().wait();
    /// ```
    #[must_use]
    pub fn new() -> WaitGroup {
        WaitGroup::default()
    }

    /// Adds `n` to the counter. To be called before the goroutines that it counts are spawned, and before the
    /// [`wait`](WaitGroup::wait) that is to wait for them. Never waits.
    ///
    /// # Panics
    /// When the counter overflows.
    ///
    /// ```
    /// let group = gorun::sync::WaitGroup::new();
    /// group.add(2);
    /// for _ in 0..2 {
    ///     let group = group.clone();
    ///     gorun::go(move || group.done());
    /// }
    /// group.wait();
    /// ```
    pub fn add(&self, n: usize) {
        let mut state = lock(&self.state);
        state.count = state.count.checked_add(n).expect("gorun: WaitGroup counter overflow");
    }

    /// Takes one off the counter, and wakes the waiters when it is at zero. Never waits.
    ///
    /// Happens before the return of the [`wait`](WaitGroup::wait) that it ends.
    ///
    /// # Panics
    /// When the counter is zero already: more `done` than `add`.
    ///
    /// ```
    /// let group = gorun::sync::WaitGroup::new();
    /// group.add(1);
    /// group.done();
    /// group.wait();
    /// ```
    pub fn done(&self) {
        let mut woken: Vec<Wake> = Vec::new();
        {
            let mut state = lock(&self.state);
            assert!(state.count > 0, "gorun: negative WaitGroup counter: more done() than add()");
            state.count -= 1;
            if state.count == 0 {
                while let Some(((), wake)) = state.waiters.claim_next(|()| (), |(), ()| ()) {
                    woken.push(wake);
                }
            }
        }
        Wake::wake_all(woken);
    }

    /// Spawns `f` as a goroutine of this group: counted before it begins, done when it has ended, however it does:
    /// a return, a panic, `goexit`, an abort, even one before it began. By then what `f` owned has been dropped, its
    /// at-exit handlers have run, and its goroutine-locals are gone. (Its value or panic is the handle's.)
    ///
    /// # Panics
    /// As [`gorun::go`](crate::go); it counts as ended then.
    ///
    /// ```
    /// let group = gorun::sync::WaitGroup::new();
    /// let failed = group.go(|| -> u32 { gorun::goexit() });
    /// group.wait();
    /// assert!(failed.join().unwrap_err().is_goexit());
    /// ```
    #[track_caller]
    pub fn go<F, T>(&self, f: F) -> crate::JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.add(1);
        // SAFETY: F and T are Send and 'static, and so is `Done`, whose drop does not unwind: the count is ours.
        match unsafe { crate::Builder::new().spawn_until(None, f, Done(self.clone())) } {
            Ok(handle) => handle,
            Err(error) => panic!("gorun::sync::WaitGroup::go: {error}"),
        }
    }

    /// Waits until the counter is zero; does not if it is. A goroutine waits parked, a plain thread blocks. Any number
    /// may wait, and the group may be used again afterwards.
    ///
    /// Each [`done`](WaitGroup::done) that counted happens before `wait` returns. A cancellation point.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU32, Ordering};
    /// use std::sync::Arc;
    /// let (group, sum) = (gorun::sync::WaitGroup::new(), Arc::new(AtomicU32::new(0)));
    /// for n in 1..=4 {
    ///     let sum = sum.clone();
    ///     group.go(move || sum.fetch_add(n, Ordering::Relaxed));
    /// }
    /// group.wait();
    /// assert_eq!(sum.load(Ordering::Relaxed), 10); // even Relaxed: `wait` is the edge
    /// ```
    pub fn wait(&self) {
        checkpoint();
        if self.wait_for(WaitReason::WaitGroup, false) == Token::ABORT {
            unwind_aborted();
        }
    }

    /// As `wait`, but an abort does not end it.
    pub(crate) fn wait_shielded(&self) {
        let _done = self.wait_for(WaitReason::Scope, true);
    }

    fn wait_for(&self, reason: WaitReason, shielded: bool) -> Token {
        let blocker = Blocker::current();
        let waiter = Waiter::new(&blocker, Token::DONE, ());
        {
            let mut state = lock(&self.state);
            if state.count == 0 {
                return Token::DONE;
            }
            if shielded {
                blocker.arm_shielded()
            } else {
                blocker.arm()
            }
            // SAFETY: W2: the waiter stays in this frame until it is claimed or removed below.
            unsafe { state.waiters.push_back(&waiter) };
        }
        let token = blocker.park(reason, None);
        if token != Token::DONE {
            // SAFETY: it is in this queue, or was taken out of it.
            let _was_in = unsafe { lock(&self.state).waiters.remove(&waiter) };
        }
        token
    }
}

/// Counts down when dropped.
struct Done(WaitGroup);

impl Drop for Done {
    fn drop(&mut self) {
        self.0.done();
    }
}
