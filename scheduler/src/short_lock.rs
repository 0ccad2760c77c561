//! A lock for the few dozen instructions in which a primitive changes its state: one locked exchange takes it, a plain
//! store releases it, and the same store leaves a note behind that can be read without the lock.
//!
//! Used by channels and wait groups. No user code runs under it, and nothing is suspended.
//!
//! * **L1.** Who has set LOCKED alone touches the value and the rest of the word, until it stores the word without LOCKED.
//! * **L2.** Who sleeps has counted itself in `sleepers` first, has passed the heavy fence, and looks at the word under
//!   its bed's mutex before each sleep. Who releases stores the word, passes the light fence and reads `sleepers`; if there
//!   is one it takes the bed's mutex, and wakes whoever sleeps there.
//!
//! An unlock by an exchange (std's, parking_lot's) is told by the old word that somebody sleeps, and costs as much as the
//! lock. Here the one who goes to sleep pays, which has waited for microseconds already, with a system call: see
//! `asymmetric`.
//!
//! The bad interleaving without the fences: the store of the release is still in its processor's store buffer when that
//! reads `sleepers` and finds nobody; the sleeper counts itself, looks at the word, finds it locked, and sleeps. Nobody
//! wakes it. With them, a release that reads 0 was before the heavy fence, and its store is seen after it.
//!
//! What it does not do: hand the lock over. Who comes first after a release has it; the sections are short.

use crate::asymmetric;
use crate::shim::{AtomicU32, Condvar, Mutex, Ordering};
use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::PoisonError;

const LOCKED: u32 = 1 << 31;

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
    /// LOCKED, and the note.
    word: AtomicU32,
    sleepers: AtomicU32,
    #[cfg(any(loom, shuttle))]
    bed: Bed,
    value: UnsafeCell<T>,
}

// SAFETY: L1: one at a time gets at the value.
unsafe impl<T: Send> Sync for ShortLock<T> {}

// As std's: what a panic leaves behind is what the sections leave behind, which run no user code.
impl<T> UnwindSafe for ShortLock<T> {}
impl<T> RefUnwindSafe for ShortLock<T> {}

/// The lock, held. Released when dropped, with the note as it was.
pub struct ShortGuard<'a, T> {
    lock: &'a ShortLock<T>,
    /// What the word held, which nobody else changes now (L1).
    note: u32,
    /// What it gives access to.
    _value: PhantomData<&'a mut T>,
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

impl<T> ShortLock<T> {
    /// With a note of at most 31 bits.
    ///
    /// ```
    /// assert_eq!(gorun_scheduler::ShortLock::new('a', 7).note(), 7);
    /// ```
    pub fn new(value: T, note: u32) -> ShortLock<T> {
        debug_assert!(note & LOCKED == 0);
        ShortLock {
            word: AtomicU32::new(note),
            sleepers: AtomicU32::new(0),
            #[cfg(any(loom, shuttle))]
            bed: Bed::default(),
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
        // Relaxed: its reader relies on nothing behind it.
        self.word.load(Ordering::Relaxed) & !LOCKED
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
        let note = match self.try_lock() {
            Some(note) => note,
            None => self.wait(),
        };
        ShortGuard { lock: self, note, _value: PhantomData }
    }

    /// The note, if the lock was to be had.
    #[inline]
    fn try_lock(&self) -> Option<u32> {
        // Relaxed: only a guess for the exchange.
        let word = self.word.load(Ordering::Relaxed);
        // Acquire: pairs with the Release of the unlock.
        let free = word & LOCKED == 0
            && self.word.compare_exchange(word, word | LOCKED, Ordering::Acquire, Ordering::Relaxed).is_ok();
        free.then_some(word)
    }

    #[cold]
    #[cfg_attr(
        not(any(loom, shuttle)),
        expect(clippy::disallowed_methods, reason = "the holder is at work in a section of a few dozen instructions")
    )]
    fn wait(&self) -> u32 {
        // Longer than any section takes: after that its holder has lost its processor.
        const ROUNDS: u32 = 8;
        // A model has no time to wait for: it explores the sleep.
        for round in (0..ROUNDS).take_while(|_| !cfg!(any(loom, shuttle))) {
            for _ in 0..1 << round {
                std::hint::spin_loop();
            }
            if let Some(note) = self.try_lock() {
                return note;
            }
        }
        // L2. Relaxed: the fence orders it.
        self.sleepers.fetch_add(1, Ordering::Relaxed);
        asymmetric::heavy_registered();
        let bed = self.bed();
        let mut asleep = bed.mutex.lock().unwrap_or_else(PoisonError::into_inner);
        let note = loop {
            match self.try_lock() {
                Some(note) => break note,
                None => asleep = bed.left.wait(asleep).unwrap_or_else(PoisonError::into_inner),
            }
        };
        // Relaxed: one too many wakes nobody.
        self.sleepers.fetch_sub(1, Ordering::Relaxed);
        note
    }

    #[inline(always)]
    fn unlock(&self, note: u32) {
        debug_assert!(note & LOCKED == 0);
        // Release: pairs with the Acquire of the next lock.
        self.word.store(note, Ordering::Release);
        asymmetric::light();
        // Relaxed: L2: the fence orders it.
        if self.sleepers.load(Ordering::Relaxed) != 0 {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        let bed = self.bed();
        // L2: nobody is between its look and its sleep then. All are woken: several locks share a bed.
        drop(bed.mutex.lock().unwrap_or_else(PoisonError::into_inner));
        bed.left.notify_all();
    }

    #[cfg(not(any(loom, shuttle)))]
    fn bed(&self) -> &'static Bed {
        let at = std::ptr::from_ref(self).addr();
        &BEDS[((at >> 6) ^ (at >> 12)) % BEDS.len()]
    }

    #[cfg(any(loom, shuttle))]
    fn bed(&self) -> &Bed {
        &self.bed
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
        self.note
    }

    /// Releases the lock, with another note, of at most 31 bits.
    ///
    /// ```
    /// let lock = gorun_scheduler::ShortLock::new((), 3);
    /// lock.lock().release(4);
    /// drop(lock.lock());
    /// assert_eq!(lock.note(), 4, "a drop leaves it as it is");
    /// ```
    #[inline]
    pub fn release(self, note: u32) {
        std::mem::ManuallyDrop::new(self).lock.unlock(note);
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
        self.lock.unlock(self.note);
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
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_nobody_sleeps_for_ever() {
        let lock = ShortLock::new(0u64, 0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..20_000u64 {
                        let mut value = lock.lock();
                        let before = *value;
                        if n % 1000 == 0 {
                            // Long enough for the others to sleep.
                            std::thread::yield_now();
                        }
                        *value = before + 1;
                        value.release((before as u32 + 1) & 0xff);
                    }
                });
            }
        });
        assert_eq!(*lock.lock(), 80_000);
        assert_eq!(lock.note(), 80_000 & 0xff);
    }

    #[test]
    fn a_note_stays_until_the_next() {
        let lock = ShortLock::new((), 5);
        let held = lock.lock();
        assert_eq!((held.note(), lock.note()), (5, 5));
        held.release(6);
        drop(lock.lock());
        assert_eq!(lock.note(), 6);
    }
}

#[cfg(all(test, loom))]
mod models;
