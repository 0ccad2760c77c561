//! A lock for the few dozen instructions in which a primitive changes its state: one locked exchange takes it, or none, a
//! plain store releases it, and a note is left behind that can be read without the lock.
//!
//! Used by channels. No user code runs under it, and nothing is suspended.
//!
//! * **L1.** The *holder* alone touches the value and the note. It is who has made `taken` true and has seen that the lock is
//!   not biased, or has revoked the title that it was biased to and seen that `held` is false; or the worker to whose
//!   current title it is biased, while it has `held` true.
//! * **L2.** Who sleeps has made `asleep` true first, has passed the heavy fence, and has looked at what it waits for then,
//!   all under its bed's mutex and before each sleep. Who releases stores its word, passes the light fence and reads
//!   `asleep`; if it is true it makes it false under the bed's mutex, and wakes all who sleep there.
//! * **L4.** A lock is biased to one owner, by its number, as long as it lives: so `held` is written by that one's worker
//!   only. (Two workers of the same number live one after the other.)
//! * **L3.** `bias` becomes a title by the worker that has it, while it holds the lock by `taken`; and nobody's by who
//!   holds it so, once that title is revoked. So whoever makes `taken` true sees whom the lock is biased to.
//!
//! An unlock by an exchange (std's, parking_lot's) is told by the old word that somebody sleeps, and costs as much as the
//! lock. Here the one who goes to sleep pays, which has waited for microseconds already, with a system call: see
//! `membarrier`. And a lock that one worker takes again and again is biased to it, and is taken by two stores: whoever else
//! wants it takes the title from that worker, with a system call: see `bias`.
//!
//! The bad interleaving without the fences of L2: the store of the release is still in its processor's store buffer when
//! that reads `asleep` and finds nobody; the sleeper says that it sleeps, looks, finds the lock taken, and sleeps. Nobody
//! wakes it. With them, a release that reads "nobody" was before the heavy fence, and its store is seen after it. (That of
//! a biased lock: in `bias`.)
//!
//! The bad interleaving without L4: a worker has read that it has the title, and loses its processor. The title is revoked, and
//! the lock becomes another worker's, which is inside. The first one goes on, announces itself, sees that it has lost the
//! title, and takes back an announcement that is the other one's by now.
//!
//! What it does not do: hand the lock over. Who comes first after a release has it; the sections are short.

use crate::base::atomics::{AtomicBool, AtomicU32, AtomicU64, Condvar, Mutex, Ordering};
use crate::base::bias::{Owner, Title};
use crate::base::errno::keeping_errno;
use crate::base::membarrier;
use crate::goroutine::current;
use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::PoisonError;

/// In a guard: the lock was taken under a title.
const BIASED: u32 = 1 << 31;
/// So often in a row one worker takes a lock before it is biased to it; eight times as often after each title that was
/// revoked, and after [`STRIKES`] never.
const FIRST_RUN: u16 = if cfg!(loom) { 2 } else { 64 };
const STRIKES: u8 = 3;
/// The acquirer is sampled every `SAMPLE` acquisitions.
const SAMPLE: u16 = if cfg!(loom) { 2 } else { 16 };

/// A lock around a `T`, with a note: a small number that can be read without the lock.
///
/// For a few dozen instructions: who finds it locked spins for a moment, and then puts its whole thread to sleep.
///
/// ```
/// use gorun_scheduler::ShortLock;
/// // The note is the length.
/// let queue = ShortLock::new(vec!["a"], 1);
/// let mut items = queue.lock();
/// items.push("b");
/// let len = items.len() as u32;
/// items.release(len);
/// assert_eq!(queue.note(), 2);
/// ```
pub struct ShortLock<T> {
    /// The title of the worker that need not take it; 0: there is none (L3).
    bias: AtomicU64,
    note: AtomicU32,
    taken: AtomicBool,
    /// Written under a title.
    held: AtomicBool,
    /// Somebody sleeps (L2).
    asleep: AtomicBool,
    history: History,
    #[cfg(any(loom, shuttle))]
    model: Model,
    value: UnsafeCell<T>,
}

// SAFETY: L1: one at a time gets at the value; the history is the holder's as well.
unsafe impl<T: Send> Sync for ShortLock<T> {}

// As std's: what a panic leaves behind is what the sections leave behind, which run no user code.
impl<T> UnwindSafe for ShortLock<T> {}
impl<T> RefUnwindSafe for ShortLock<T> {}

/// The last acquirers by `taken`. Accessed by the holder only.
#[derive(Default)]
struct History {
    /// How many titles were revoked for it.
    strikes: Cell<u8>,
    /// L4: it has been biased, to the owner of number `last`.
    settled: Cell<bool>,
    /// How often the owner of number `last` may have taken it in a row, as far as samples tell.
    run: Cell<u16>,
    last: Cell<u16>,
}

/// The lock, held. Released when dropped, with the note as it was.
pub struct ShortGuard<'a, T> {
    lock: &'a ShortLock<T>,
    /// The note, which nobody else changes now (L1), and BIASED.
    note: u32,
    /// What it gives access to.
    _value: PhantomData<&'a mut T>,
}

/// A lock's note, by [`ShortLock::as_note`].
#[derive(Clone, Copy, Debug)]
pub struct Note<'a>(&'a AtomicU32);

impl Note<'_> {
    /// As [`ShortLock::note`].
    ///
    /// ```
    /// assert_eq!(gorun_scheduler::ShortLock::new((), 3).as_note().get(), 3);
    /// ```
    #[inline]
    #[must_use]
    pub fn get(self) -> u32 {
        // Relaxed: see `ShortLock::note`.
        self.0.load(Ordering::Relaxed)
    }
}

/// Where those sleep who have waited for too long.
#[derive(Default)]
struct Bed {
    mutex: Mutex<()>,
    left: Condvar,
}

/// Shared by all locks.
#[cfg(not(any(loom, shuttle)))]
static BEDS: [Bed; 64] = [const { Bed { mutex: Mutex::new(()), left: Condvar::new() } }; 64];

/// All of them, locked over a fork.
#[cfg(not(any(loom, shuttle)))]
pub(crate) struct BedLocks {
    _beds: Vec<std::sync::MutexGuard<'static, ()>>,
}

#[cfg(not(any(loom, shuttle)))]
pub(crate) fn lock_beds() -> BedLocks {
    BedLocks { _beds: BEDS.iter().map(|bed| bed.mutex.lock().unwrap_or_else(PoisonError::into_inner)).collect() }
}

/// No scheduler runs in the models.
#[cfg(any(loom, shuttle))]
pub(crate) struct BedLocks;

#[cfg(any(loom, shuttle))]
pub(crate) fn lock_beds() -> BedLocks {
    BedLocks
}

/// A model has no statics.
#[cfg(any(loom, shuttle))]
#[derive(Default)]
struct Model {
    bed: Bed,
    owners: std::sync::Arc<Vec<Owner>>,
}

impl<T> ShortLock<T> {
    /// With a note of at most 31 bits.
    ///
    /// # Panics
    /// When it has more.
    ///
    /// ```
    /// assert_eq!(gorun_scheduler::ShortLock::new('a', 7).note(), 7);
    /// ```
    pub fn new(value: T, note: u32) -> ShortLock<T> {
        assert!(note & BIASED == 0, "a note has 31 bits");
        ShortLock {
            bias: AtomicU64::new(0),
            note: AtomicU32::new(note),
            taken: AtomicBool::new(false),
            held: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            history: History::default(),
            #[cfg(any(loom, shuttle))]
            model: Model::default(),
            value: UnsafeCell::new(value),
        }
    }

    /// The note that the last holder left; while there is one, what its predecessor left. No more can be relied on than
    /// that it was so at one time: nothing that the holder did happens before what is done with it.
    ///
    /// ```
    /// let lock = gorun_scheduler::ShortLock::new((), 0);
    /// let held = lock.lock();
    /// assert_eq!(lock.note(), 0);
    /// held.release(1);
    /// assert_eq!(lock.note(), 1);
    /// ```
    #[inline]
    pub fn note(&self) -> u32 {
        // Relaxed: its reader relies on nothing behind it; or it is the holder, which alone writes it.
        self.note.load(Ordering::Relaxed)
    }

    /// The same, for who does not know what is behind the lock.
    ///
    /// ```
    /// let lock = gorun_scheduler::ShortLock::new("text", 1);
    /// let note = lock.as_note();
    /// lock.lock().release(2);
    /// assert_eq!(note.get(), 2);
    /// ```
    #[inline]
    pub fn as_note(&self) -> Note<'_> {
        Note(&self.note)
    }

    /// Takes the lock. What its last holder did under it happens before.
    ///
    /// ```
    /// let lock = gorun_scheduler::ShortLock::new(1, 0);
    /// *lock.lock() += 1;
    /// assert_eq!(*lock.lock(), 2);
    /// ```
    #[inline]
    pub fn lock(&self) -> ShortGuard<'_, T> {
        self.lock_by(current::owner)
    }

    #[inline(always)]
    fn lock_by<'o>(&self, owner: impl Fn() -> Option<&'o Owner>) -> ShortGuard<'_, T> {
        // Relaxed: a guess; who has the title has written it (L3).
        let bias = Title::from_bits(self.bias.load(Ordering::Relaxed));
        let owner = owner();
        if let Some(owner) = owner
            && let title = owner.title()
            && bias == Some(title)
            && self.hold(owner, title)
        {
            return self.guard(BIASED);
        }
        if bias.is_some() || !self.try_take() {
            self.take();
        }
        // Relaxed: L3: that we have taken it makes it visible.
        let unbiased = self.bias.load(Ordering::Relaxed) == 0;
        let run = self.history.run.get() + 1;
        self.history.run.set(run);
        if !unbiased || run.is_multiple_of(SAMPLE) {
            self.taken_by(owner);
        }
        self.guard(0)
    }

    #[inline]
    fn guard(&self, biased: u32) -> ShortGuard<'_, T> {
        ShortGuard { lock: self, note: self.note() | biased, _value: PhantomData }
    }

    /// Under a title: B2 in `bias`.
    #[inline]
    fn hold(&self, owner: &Owner, title: Title) -> bool {
        // L1: a guard of this very worker's is alive. Acquire: it may have been dropped on another thread.
        if self.held.load(Ordering::Acquire) {
            return false;
        }
        // Relaxed: the fence orders it.
        self.held.store(true, Ordering::Relaxed);
        membarrier::light_registered();
        if owner.title() == title {
            return true;
        }
        self.let_go();
        false
    }

    /// The title was revoked meanwhile.
    #[cold]
    fn let_go(&self) {
        // Release: as in `unlock`.
        self.held.store(false, Ordering::Release);
        self.tell_sleepers();
    }

    #[inline]
    fn try_take(&self) -> bool {
        // Relaxed: only a guess for the exchange. Acquire: pairs with the Release of the unlock.
        !self.taken.load(Ordering::Relaxed)
            && self.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[cold]
    fn take(&self) {
        if !self.try_take() {
            self.wait_for(|| self.try_take());
        }
    }

    /// `taken` is true: now it becomes ours (L1), and perhaps the worker's (L3).
    #[cold]
    #[inline(never)]
    fn taken_by(&self, owner: Option<&Owner>) {
        let History { strikes, settled, run, last } = &self.history;
        let mine = owner.map(Owner::title);
        // Relaxed, here and below: L3: taking it has made it visible, and our unlock will.
        if let Some(title) = Title::from_bits(self.bias.load(Ordering::Relaxed)) {
            keeping_errno(|| title.revoke(self.owners()));
            // Acquire: pairs with the Release of the last unlock under that title. B3: it is seen, or `held` is true still.
            let is_free = || !self.held.load(Ordering::Acquire);
            if !is_free() {
                self.wait_for(is_free);
            }
            self.bias.store(0, Ordering::Relaxed);
            // A worker that lost its title for another lock's sake has not been disturbed here.
            if mine.is_none_or(|mine| mine.number() != title.number()) {
                strikes.set(strikes.get().saturating_add(1));
            }
            run.set(0);
        }
        let Some((owner, title)) = owner.zip(mine).filter(|_| strikes.get() < STRIKES) else { return run.set(0) };
        if last.get() != title.number() {
            run.set(0);
            if !settled.get() {
                last.set(title.number());
            }
        } else if run.get() >= FIRST_RUN << (3 * strikes.get()) {
            run.set(0);
            if owner.accepts() {
                settled.set(true);
                self.bias.store(title.to_bits(), Ordering::Relaxed); // as above
            }
        }
    }

    /// Until `done`: for a few dozen instructions, mostly.
    #[cold]
    fn wait_for(&self, done: impl Fn() -> bool) {
        // Longer than any section takes: after that its holder has lost its processor.
        const ROUNDS: u32 = 8;
        // A model has no time to wait for: it explores the sleep.
        for round in (0..ROUNDS).take_while(|_| !cfg!(any(loom, shuttle))) {
            for _ in 0..1 << round {
                std::hint::spin_loop();
            }
            if done() {
                return;
            }
        }
        // Its caller's goroutine called nothing that sets `errno`.
        keeping_errno(|| self.sleep_until(done));
    }

    #[cfg_attr(
        not(any(loom, shuttle)),
        expect(clippy::disallowed_methods, reason = "the holder is at work in a section of a few dozen instructions")
    )]
    fn sleep_until(&self, done: impl Fn() -> bool) {
        let bed = self.bed();
        let mut guard = bed.mutex.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            // L2. Relaxed: the fence orders it.
            self.asleep.store(true, Ordering::Relaxed);
            membarrier::heavy_registered();
            if done() {
                return;
            }
            guard = bed.left.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// With a new note, and BIASED as the guard has it.
    #[inline(always)]
    fn unlock(&self, note: u32, biased: u32) {
        // Relaxed: see `note`; published with the next store.
        self.note.store(note & !BIASED, Ordering::Relaxed);
        let word = if biased & BIASED == 0 { &self.taken } else { &self.held };
        // Release: pairs with the Acquire of the next lock, and of `taken_by`.
        word.store(false, Ordering::Release);
        self.tell_sleepers();
    }

    /// L2: something was released.
    #[inline(always)]
    fn tell_sleepers(&self) {
        membarrier::light();
        // Relaxed: L2: the fence orders it.
        if self.asleep.load(Ordering::Relaxed) {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        keeping_errno(|| self.wake_bed());
    }

    fn wake_bed(&self) {
        let bed = self.bed();
        // L2: nobody is between its look and its sleep then.
        let guard = bed.mutex.lock().unwrap_or_else(PoisonError::into_inner);
        // Relaxed: under the bed's mutex. Who goes on sleeping says so again.
        self.asleep.store(false, Ordering::Relaxed);
        drop(guard);
        // All: several locks share a bed.
        bed.left.notify_all();
    }

    #[cfg(not(any(loom, shuttle)))]
    fn bed(&self) -> &'static Bed {
        let at = std::ptr::from_ref(self).addr();
        &BEDS[((at >> 6) ^ (at >> 12)) % BEDS.len()]
    }

    #[cfg(any(loom, shuttle))]
    fn bed(&self) -> &Bed {
        &self.model.bed
    }

    #[cfg(not(any(loom, shuttle)))]
    fn owners(&self) -> &'static [Owner] {
        Owner::all()
    }

    #[cfg(any(loom, shuttle))]
    fn owners(&self) -> &[Owner] {
        &self.model.owners
    }
}

impl<T> ShortGuard<'_, T> {
    /// The note that is there.
    ///
    /// ```
    /// assert_eq!(gorun_scheduler::ShortLock::new((), 3).lock().note(), 3);
    /// ```
    #[inline]
    pub fn note(&self) -> u32 {
        self.note & !BIASED
    }

    /// Releases the lock, with another note, of which 31 bits are kept.
    ///
    /// ```
    /// let lock = gorun_scheduler::ShortLock::new((), 3);
    /// lock.lock().release(4);
    /// drop(lock.lock());
    /// assert_eq!(lock.note(), 4, "a drop leaves it as it is");
    /// ```
    #[inline]
    pub fn release(self, note: u32) {
        let this = std::mem::ManuallyDrop::new(self);
        this.lock.unlock(note, this.note);
    }
}

impl<T> Deref for ShortGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: L1.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for ShortGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: L1.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for ShortGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.unlock(self.note(), self.note);
    }
}

impl<T> fmt::Debug for ShortLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShortLock").field("note", &self.note()).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for ShortGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShortGuard").field("note", &self.note()).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;

#[cfg(all(test, loom))]
mod models;
