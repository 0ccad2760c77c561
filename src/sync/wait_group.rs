//! `WaitGroup`: waits until a counter is back at zero, as Go's `sync.WaitGroup`.
//!
//! ```text
//!  word: the counter, above WAITING
//!  add, done: one exchange of the word, while it is not ONE | WAITING that goes down
//!  the done that would leave zero with WAITING: under the queue's lock, with the claims
//! ```
//!
//! * **G1.** WAITING says that somebody may be in the queue. It is set under the queue's lock, by one exchange of a word
//!   whose counter is not zero, and nobody goes into the queue without having seen it set there.
//! * **G2.** A counter with WAITING gets to zero under the queue's lock only, and whoever is in the queue then is claimed
//!   under the same lock.
//!
//! The bad interleaving with G1 alone: a `done` leaves zero and WAITING, and goes for the lock; somebody adds one for the
//! next round and waits for it, in the same queue; the `done` has the lock and wakes all, also the one whose round has
//! just begun. And with the claims in rounds, one lock each, it would be the same.

use super::shim::{AtomicCount, Lock, Ordering};
use super::wait::claim_all;
use crate::join::AtEnd;
use gorun_scheduler::{
    Blocker, Token, WaitQueue, WaitReason, Waiter, Wake, checkpoint, unwind_aborted, unwind_if_ending,
};
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
    group: Arc<Group>,
}

#[derive(Debug)]
struct Group {
    word: AtomicCount,
    queue: Lock<WaitQueue<()>>,
}

const WAITING: usize = 1;
const ONE: usize = 2;

impl Default for Group {
    fn default() -> Group {
        Group { word: AtomicCount::new(0), queue: Lock::new(WaitQueue::new()) }
    }
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
    /// When the counter gets above `usize::MAX / 2`.
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
        let word = &self.group.word;
        // Relaxed, here and in the exchange: it publishes nothing, and the counts down go on through it, as it is an
        // exchange.
        let mut now = word.load(Ordering::Relaxed);
        loop {
            let more = n.checked_mul(ONE).and_then(|n| now.checked_add(n));
            let more = more.expect("gorun: WaitGroup counter overflow");
            match word.compare_exchange_weak(now, more, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(other) => now = other,
            }
        }
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
        // Relaxed: only a guess for the exchange.
        let mut now = self.group.word.load(Ordering::Relaxed);
        while now != ONE | WAITING {
            match self.group.count_down(now) {
                Ok(()) => return,
                Err(other) => now = other,
            }
        }
        self.group.last_done();
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
    /// Each [`done`](WaitGroup::done) that counted happens before `wait` returns. This is a cancellation point, also as it
    /// returns.
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
        self.wait_begun();
    }

    /// Past the first cancellation point.
    #[inline]
    pub(super) fn wait_begun(&self) {
        if self.wait_for(WaitReason::WaitGroup, false) == Token::ABORT {
            unwind_aborted();
        }
        unwind_if_ending();
    }

    /// As `wait`, but an abort does not end it.
    pub(crate) fn wait_shielded(&self) {
        let _done = self.wait_for(WaitReason::Scope, true);
    }

    #[cfg(test)]
    pub(super) fn is_at_zero(&self) -> bool {
        // Acquire: as in `wait_for`.
        self.group.word.load(Ordering::Acquire) < ONE
    }

    #[cfg(all(test, loom))]
    pub(super) fn touch(&self) {
        self.group.touch();
    }

    fn wait_for(&self, reason: WaitReason, shielded: bool) -> Token {
        // Acquire: pairs with the Release of all the counts down.
        if self.group.word.load(Ordering::Acquire) < ONE {
            return Token::DONE;
        }
        let blocker = Blocker::current();
        let waiter = Waiter::new(&blocker, Token::DONE, ());
        {
            let mut queue = self.group.queue.lock();
            if !self.group.announce() {
                return Token::DONE;
            }
            if shielded {
                blocker.arm_shielded()
            } else {
                blocker.arm()
            }
            // SAFETY: W2: the waiter stays in this frame until it is claimed or removed below.
            unsafe { queue.push_back(&waiter) };
        }
        let token = blocker.park(reason, None);
        if token != Token::DONE {
            // WAITING may stay: it costs the last `done` a look.
            // SAFETY: it is in this queue, or was taken out of it.
            let _was_in = unsafe { self.group.queue.lock().remove(&waiter) };
        }
        token
    }
}

impl Group {
    /// One less than `now`, if it is still that.
    #[inline]
    fn count_down(&self, now: usize) -> Result<(), usize> {
        assert!(now >= ONE, "gorun: negative WaitGroup counter: more done() than add()");
        // Release: pairs with the Acquire of a wait that finds zero, and of the last `done`.
        self.word.compare_exchange_weak(now, now - ONE, Ordering::Release, Ordering::Relaxed).map(|_| ())
    }

    /// G2.
    #[cold]
    fn last_done(&self) {
        let mut queue = self.queue.lock();
        // Relaxed: only a guess for the exchange.
        let mut now = self.word.load(Ordering::Relaxed);
        loop {
            let counted = if now == ONE | WAITING {
                // AcqRel: Acquire: pairs with the Release of the other counts down, which the claims pass on. Release: as
                // theirs.
                self.word.compare_exchange_weak(now, 0, Ordering::AcqRel, Ordering::Relaxed).map(|_| ())
            } else {
                // Somebody has added some, or was the last one in the meantime.
                self.count_down(now)
            };
            match counted {
                Ok(()) if now == ONE | WAITING => break,
                Ok(()) => return,
                Err(other) => now = other,
            }
        }
        let first = queue.claim_next(|()| (), |(), ()| ()).map(|((), wake)| wake);
        // Allocates nothing if there was only one.
        let others = claim_all(&mut queue);
        drop(queue);
        Wake::wake_all(first.into_iter().chain(others));
    }

    /// Makes what loom has to know.
    #[cfg(all(test, loom))]
    fn touch(&self) {
        let _made = (self.word.load(Ordering::SeqCst), self.queue.lock());
    }

    /// G1, under the queue's lock. `false`: the counter is zero.
    fn announce(&self) -> bool {
        // Acquire, here and in the exchange's failure: as in `wait_for`.
        let mut now = self.word.load(Ordering::Acquire);
        while now >= ONE {
            // Relaxed: the queue is the lock's.
            match self.word.compare_exchange_weak(now, now | WAITING, Ordering::Relaxed, Ordering::Acquire) {
                Ok(_) => return true,
                Err(other) => now = other,
            }
        }
        false
    }
}

/// Counts down when dropped.
struct Done(WaitGroup);

impl AtEnd for Done {
    const FOREIGN: bool = false;
}

impl Drop for Done {
    fn drop(&mut self) {
        self.0.done();
    }
}
