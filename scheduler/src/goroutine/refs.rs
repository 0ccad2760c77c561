//! How many references a control block has, and who gives up the last.
//!
//! The scheduler's, until the worker is through with the goroutine's end; the handle's, which a handle that is let go leaves
//! to the goroutine (`completion`); and those of clones. Used by [`Handle`](super::Handle), and by `slab` and `metrics` to
//! get at goroutines that they have no reference to ([`Walk`]).
//!
//! * **B1.** Who has a reference may make more. Who has none makes one within a walk only.
//! * **B2.** Who finds the references counted to be just those it *holds* (its own, and a joiner's that does not run before
//!   it says so) is alone but for walks, and says so: it sets `leaving`, passes the light fence and looks for walks. If there
//!   are none it looks at the count again, and if that is still so, gives up with a plain store; else with an exchange.
//! * **B3.** A walk is counted, passes the heavy fence, and is counted off after its last exchange. It leaves alone who is
//!   leaving.
//!
//! So no exchange of a walk's comes between that second look and that store: who leaves has not seen the walk, so either
//! the walk sees `leaving`, or it was over, and its reference is in the count. (`membarrier`.) `leaving` stays set for the
//! rest of the block's life: nobody but a walk could still have a reference, and the goroutine has ended. A walk that reads
//! "not leaving" of one life of the block and counts itself in the next one is seen by whoever leaves that.
//!
//! The bad interleaving without the fences: `leaving` is still in its processor's store buffer when that finds no walk; the
//! walk begins, finds nobody leaving and counts itself, from 1 to 2; the plain store overwrites that with 0, and the block is
//! used again while the walk has a handle to it. Without the second look: who leaves counts 1; a walk begins, goes from 1 to
//! 2, and is over; who leaves finds no walk, and overwrites the 2.

use crate::base::atomics::{AtomicBool, AtomicU32, Ordering, fence};
use crate::base::membarrier;

/// Of one block.
pub(super) struct Refs {
    count: AtomicU32,
    /// B2.
    leaving: AtomicBool,
}

/// How many walks are going on. On cache lines of its own: it is read at every end.
#[repr(align(128))]
pub(crate) struct Walks(AtomicU32);

#[cfg(not(any(loom, shuttle)))]
static WALKS: Walks = Walks::new();

#[cfg(any(loom, shuttle))]
static WALKS: std::sync::LazyLock<Walks> = std::sync::LazyLock::new(Walks::new);

/// The right to make references to goroutines that one has none to (B1).
pub(crate) struct Walk<'a>(&'a Walks);

impl Walks {
    #[cfg(not(any(loom, shuttle)))]
    pub(crate) const fn new() -> Walks {
        Walks(AtomicU32::new(0))
    }

    #[cfg(any(loom, shuttle))]
    pub(crate) fn new() -> Walks {
        Walks(AtomicU32::new(0))
    }

    /// The process's.
    #[inline]
    pub(crate) fn all() -> &'static Walks {
        &WALKS
    }

    pub(crate) fn begin(&self) -> Walk<'_> {
        // Relaxed: the fence orders it (B3).
        self.0.fetch_add(1, Ordering::Relaxed);
        membarrier::heavy();
        Walk(self)
    }
}

impl Walk<'_> {
    /// By who has a runtime, so that the heavy fence is one.
    pub(crate) fn begin() -> Walk<'static> {
        Walks::all().begin()
    }
}

impl Drop for Walk<'_> {
    fn drop(&mut self) {
        // Release: pairs with the Acquire in `give_up`: the references made are in the count.
        self.0.0.fetch_sub(1, Ordering::Release);
    }
}

impl Refs {
    pub(crate) fn new() -> Refs {
        Refs { count: AtomicU32::new(0), leaving: AtomicBool::new(false) }
    }

    /// The first ones of a block that nobody has a reference to.
    #[inline]
    pub(crate) fn publish(&self, count: u32) {
        // Release: pairs with the Acquire in `try_add`: who sees a block's next life sees that the last one's count is 0.
        self.leaving.store(false, Ordering::Release);
        // Release: pairs with the Acquires in `try_add`: what the block has been filled with.
        self.count.store(count, Ordering::Release);
    }

    /// One more, by who has one or keeps it from being given up.
    pub(crate) fn add(&self) {
        // Relaxed: whoever has a reference may make another, as in Arc.
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        debug_assert!(count > 0);
        assert!(count < u32::MAX / 2, "more than 2^31 references to one goroutine");
    }

    /// One more, if there are any, and nobody is about to give up the last.
    pub(crate) fn try_add(&self, _walk: &Walk<'_>) -> bool {
        // Acquire: pairs with the Release in `publish`, also for `leaving`, so that a new life is not missed.
        let mut count = self.count.load(Ordering::Acquire);
        // Acquire: B3, the heavy fence orders it against a last reference's; pairs with `publish`, which makes it false again.
        while count != 0 && !self.leaving.load(Ordering::Acquire) {
            // Acquire: as above.
            match self.count.compare_exchange_weak(count, count + 1, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return true,
                Err(now) => count = now,
            }
        }
        false
    }

    /// Gives up `mine` of the `held`, by a goroutine that has ended or a handle to it; whether they were the last ones. If so,
    /// all that was done by who had one happens before.
    #[inline]
    pub(crate) fn give_up(&self, mine: u32, held: u32, walks: &Walks) -> bool {
        // Relaxed: looked at again.
        if self.count.load(Ordering::Relaxed) == held {
            // Relaxed: the light fence orders it (B2).
            self.leaving.store(true, Ordering::Relaxed);
            membarrier::light();
            // Acquire, both: pairs with the Release at the end of a walk, and with that of the others who gave up.
            if walks.0.load(Ordering::Acquire) == 0 && self.count.load(Ordering::Acquire) == held {
                // Release: as below, for the rest of what is held.
                self.count.store(held - mine, Ordering::Release);
                return held == mine;
            }
        }
        self.give_up_shared(mine)
    }

    fn give_up_shared(&self, mine: u32) -> bool {
        // Release: our last uses come before the block's next life; pairs with the Acquires here and in `give_up`.
        if self.count.fetch_sub(mine, Ordering::Release) != mine {
            return false;
        }
        // Acquire: all other references' last uses are over.
        fence(Ordering::Acquire);
        true
    }
}

#[cfg(all(test, loom))]
#[expect(unsafe_code, reason = "loom's cells")]
mod models;
