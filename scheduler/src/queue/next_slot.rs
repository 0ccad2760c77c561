//! The next slot: the goroutine that was readied last on a processor, which runs there first, while its data is hot.
//!
//! Put in and taken out by the owner at every hand-over, by `processor`; taken by other workers when the owner is stuck
//! in a goroutine. Go's `runnext`.
//!
//! * **N1.** Whoever takes a goroutine out of the word owns it (G1).
//! * **N2.** A pinned goroutine that has begun is marked in the word itself, so that a thief, who owns nothing yet, need
//!   not look into the goroutine to leave it alone.
//! * **N3.** The owner changes the word by a load and a store, no exchange, between a store of `busy` and another one, and
//!   only if it has seen, after the first, that the slot is not `open`. A thief opens the slot, passes the heavy fence, and
//!   leaves the word alone if the owner is busy. While the slot is open both change the word by exchanges.
//!
//! A locked exchange costs the owner as much as twenty other instructions, twice for each hand-over; a thief comes once in
//! milliseconds, and so pays for both with a system call (`membarrier`).
//!
//! The bad interleaving without the fences: the owner's store of `busy` is still in its processor's store buffer when it
//! reads that the slot is closed and loads the word; the thief opens, sees nobody busy and takes the same goroutine; the
//! owner stores null. Both run it. With them one of the two sees the other: the thief goes without, or the owner takes the
//! word by an exchange. An owner that has lost its processor between the two stores is left alone; it is not stuck in a
//! goroutine.

use crate::base::atomics::{AtomicBool, AtomicPtr, Ordering};
use crate::base::membarrier;
use crate::goroutine::block::{Goroutine, Ref};
use std::ptr::{self, NonNull};

/// N2: blocks are aligned to 64 bytes.
const PINNED: usize = 1;

/// A goroutine, perhaps with a mark; or null.
type Word = *mut Goroutine;

#[derive(Debug)]
pub(crate) struct NextSlot {
    word: AtomicPtr<Goroutine>,
    busy: AtomicBool,
    open: AtomicBool,
}

impl NextSlot {
    pub(crate) fn new() -> NextSlot {
        NextSlot { word: AtomicPtr::new(ptr::null_mut()), busy: AtomicBool::new(false), open: AtomicBool::new(false) }
    }

    /// Puts `g` in; what was there comes back. Called by the owner.
    #[inline]
    pub(crate) fn put(&self, g: Ref) -> Option<Ref> {
        let mark = if g.home.get().is_null() { 0 } else { PINNED };
        NextSlot::unmark(self.replace(g.as_ptr().cast_mut().map_addr(|addr| addr | mark)))
    }

    /// Takes out what is there. Called by the owner.
    #[inline]
    pub(crate) fn take(&self) -> Option<Ref> {
        // Relaxed: the owner wrote it, or a thief made it null.
        if self.word.load(Ordering::Relaxed).is_null() {
            return None;
        }
        NextSlot::unmark(self.replace(ptr::null_mut()))
    }

    /// N3.
    #[inline]
    fn replace(&self, new: Word) -> Word {
        // Relaxed: the fence orders it.
        self.busy.store(true, Ordering::Relaxed);
        membarrier::light();
        // Acquire: pairs with the Release of the thief that closes, so that what it has taken is not seen any more.
        let before = if self.open.load(Ordering::Acquire) {
            // Release: publishes the goroutine to a thief (Acquire). What comes back was put in by this same thread.
            self.word.swap(new, Ordering::Release)
        } else {
            // Relaxed: written by this thread, or made null by a thief that has closed since.
            let before = self.word.load(Ordering::Relaxed);
            // Release: as above.
            self.word.store(new, Ordering::Release);
            before
        };
        // Release: pairs with the Acquire of a thief that finds nobody busy: it sees what we have left.
        self.busy.store(false, Ordering::Release);
        before
    }

    /// Returns true if nobody is there. Called by the owner.
    pub(crate) fn is_empty(&self) -> bool {
        // Relaxed: as in `take`.
        self.word.load(Ordering::Relaxed).is_null()
    }

    /// Returns true if something is there that [`NextSlot::steal`] could get. A snapshot.
    pub(crate) fn has_stealable(&self) -> bool {
        // Relaxed: a hint.
        NextSlot::is_stealable(self.word.load(Ordering::Relaxed))
    }

    fn is_stealable(word: Word) -> bool {
        !word.is_null() && word.addr() & PINNED == 0
    }

    /// Takes out what is there, unless it has to stay. By anybody, when the owner is stuck: it may get nothing if the
    /// owner is not, or another thief is there.
    pub(crate) fn steal(&self) -> Option<Ref> {
        NextSlot::unmark(self.steal_word())
    }

    fn steal_word(&self) -> Word {
        // Acquire: pairs with the Release of the last thief. One at a time.
        if !self.has_stealable() || self.open.swap(true, Ordering::Acquire) {
            return ptr::null_mut();
        }
        membarrier::heavy_registered();
        let mut taken = ptr::null_mut();
        // Acquire: see `replace`.
        if !self.busy.load(Ordering::Acquire) {
            // Relaxed: only a guess for the exchange.
            let word = self.word.load(Ordering::Relaxed);
            // Acquire: pairs with the Release in `replace`. That another goroutine may have come and gone and this one
            // come back meanwhile does no harm: what is there is what we get.
            if NextSlot::is_stealable(word)
                && self.word.compare_exchange(word, taken, Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                taken = word;
            }
        }
        // Release: pairs with the Acquire in `replace`, and of the next thief.
        self.open.store(false, Ordering::Release);
        taken
    }

    fn unmark(word: Word) -> Option<Ref> {
        let g = NonNull::new(word.map_addr(|addr| addr & !PINNED))?;
        // SAFETY: N1: it was in the slot, and is ours since we have taken it out.
        Some(unsafe { Ref::from_ptr(g) })
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::goroutine::handle::give_back_unused;
    use crate::goroutine::slab::take_block;

    #[test]
    fn a_thief_gets_what_may_move_and_only_once() {
        let (slot, g) = (NextSlot::new(), take_block(None).unwrap());
        assert!(slot.take().is_none() && slot.steal().is_none() && !slot.has_stealable());
        assert_eq!(slot.put(g), None);
        assert!(slot.has_stealable());
        assert_eq!(slot.steal(), Some(g));
        assert!(slot.take().is_none());
        let seat: *const crate::goroutine::block::Above = ptr::dangling();
        g.home.set(seat);
        assert_eq!(slot.put(g), None);
        assert!(slot.steal().is_none() && !slot.has_stealable());
        assert_eq!(slot.put(g), Some(g));
        assert_eq!(slot.take(), Some(g));
        g.home.set(ptr::null());
        give_back_unused(g);
    }
}

#[cfg(all(test, loom))]
mod models;
