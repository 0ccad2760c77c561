//! The next slot: the goroutine that was readied last on a processor, which runs there first, while its data is hot.
//!
//! Put in and taken out by the owner at every hand-over, by `processor`; taken by other workers when the owner is stuck
//! in a goroutine. Go's `runnext`.
//!
//! * **N1.** Whoever takes a goroutine out by its exchange owns it (G1).
//! * **N2.** A pinned goroutine that has begun is marked in the word itself, so that a thief, who owns nothing yet, need
//!   not look into the goroutine to leave it alone.

use crate::goroutine::{Goroutine, Ref};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, Ordering};

/// N2: blocks are aligned to 64 bytes.
const PINNED: usize = 1;

#[derive(Debug)]
pub(crate) struct NextSlot(AtomicPtr<Goroutine>);

impl NextSlot {
    pub(crate) const fn new() -> NextSlot {
        NextSlot(AtomicPtr::new(ptr::null_mut()))
    }

    /// Puts `g` in; what was there comes back.
    #[inline]
    pub(crate) fn put(&self, g: Ref) -> Option<Ref> {
        let mark = if g.home.get().is_null() { 0 } else { PINNED };
        let word = g.as_ptr().cast_mut().map_addr(|addr| addr | mark);
        // Release: publishes the goroutine to a thief (Acquire). What comes back was put in by this same thread.
        NextSlot::unmark(self.0.swap(word, Ordering::Release))
    }

    /// Takes out what is there. By the owner.
    #[inline]
    pub(crate) fn take(&self) -> Option<Ref> {
        // Relaxed: the owner wrote it, or a thief made it null.
        if self.0.load(Ordering::Relaxed).is_null() {
            return None;
        }
        // Relaxed is enough: what is taken was put in by this same thread.
        NextSlot::unmark(self.0.swap(ptr::null_mut(), Ordering::Relaxed))
    }

    /// Whether something is there that [`NextSlot::steal`] could get. A snapshot.
    pub(crate) fn has_stealable(&self) -> bool {
        // Relaxed: a hint.
        let word = self.0.load(Ordering::Relaxed);
        !word.is_null() && word.addr() & PINNED == 0
    }

    /// Takes out what is there, unless it has to stay. By anybody.
    pub(crate) fn steal(&self) -> Option<Ref> {
        // Relaxed: only a guess for the exchange.
        let word = self.0.load(Ordering::Relaxed);
        if word.is_null() || word.addr() & PINNED != 0 {
            return None;
        }
        // Acquire: pairs with the Release in `put`. That another goroutine may have come and gone and this one come
        // back meanwhile does no harm: what is there is what we get.
        let taken = self.0.compare_exchange(word, ptr::null_mut(), Ordering::Acquire, Ordering::Relaxed);
        taken.ok().and_then(NextSlot::unmark)
    }

    fn unmark(word: *mut Goroutine) -> Option<Ref> {
        let g = NonNull::new(word.map_addr(|addr| addr & !PINNED))?;
        // SAFETY: N1: it was in the slot, and is ours since the exchange.
        Some(unsafe { Ref::from_ptr(g) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goroutine::take_block;

    #[test]
    fn a_thief_gets_what_may_move_and_only_once() {
        let (slot, g) = (NextSlot::new(), take_block(None).unwrap());
        assert!(slot.take().is_none() && slot.steal().is_none() && !slot.has_stealable());
        assert_eq!(slot.put(g), None);
        assert!(slot.has_stealable());
        assert_eq!(slot.steal(), Some(g));
        assert!(slot.take().is_none());
        let seat: *const crate::seats::Seat = ptr::dangling();
        g.home.set(seat);
        assert_eq!(slot.put(g), None);
        assert!(slot.steal().is_none() && !slot.has_stealable());
        assert_eq!(slot.put(g), Some(g));
        assert_eq!(slot.take(), Some(g));
        g.home.set(ptr::null());
        crate::goroutine::give_back_unused(g);
    }
}
