//! Owners of biased locks: the workers of the process, each with a title that can be revoked.
//!
//! A lock that one worker takes again and again (`short_lock`) is left to it: from then on that worker takes it without a
//! locked exchange. Whoever else wants it takes the worker's *title* away, with a system call that pays for all the
//! exchanges that were not made, and for all locks that are biased to that worker at once. Each processor has an
//! [`Owner`] for its lifetime.
//!
//! * **B1.** A title is an owner's number, and which of its titles it is: no two are equal, ever.
//! * **B2.** Only the owner's worker acts under a title: it announces what it is about to do (a store), passes the light
//!   fence, and goes on only if the title is still its current one.
//! * **B3.** When [`Title::revoke`] has returned, no worker goes on under the title any more, and whatever was announced
//!   under it before is seen: the owner's current title is another one, and after that the heavy fence was passed.
//!
//! The bad interleaving without the fences: the announcement is still in a store buffer when the worker reads that its
//! title is current; the other one takes the title away, sees no announcement, and both are in.
//!
//! A revocation costs some ten microseconds, and a few of each thread that runs. So an owner that has lost a title refuses
//! locks for a while ([`Owner::accepts`]): there are a few in a millisecond at most.

use crate::base::atomics::{AtomicU32, AtomicU64, Mutex, Ordering};
use crate::base::membarrier;
#[cfg(not(any(loom, shuttle)))]
use std::sync::MutexGuard;
use std::sync::PoisonError;

/// How many workers of a process may have titles; those that come when all are given out have none, and share all locks.
#[cfg(not(any(loom, shuttle)))]
const OWNERS: u16 = 1024;
/// How many locks are refused after a title was lost. Each has been taken dozens of times by then.
const PAUSE: u32 = 1000;

#[cfg(not(any(loom, shuttle)))]
static TABLE: [Owner; OWNERS as usize] = [const { Owner::new() }; OWNERS as usize];
/// The numbers that were given back, and how many were ever given out.
#[cfg(not(any(loom, shuttle)))]
static NUMBERS: Mutex<(Vec<u16>, u16)> = Mutex::new((Vec::new(), 0));

/// A right to locks. Not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Title(u64);

impl Title {
    /// B1: the first is 1; there are 2^48 of each owner.
    #[cfg(any(test, not(any(loom, shuttle))))]
    fn nth(number: u16, n: u64) -> Title {
        Title(n << 16 | u64::from(number))
    }

    fn next(self) -> Title {
        Title(self.0 + (1 << 16))
    }

    pub(crate) fn to_bits(self) -> u64 {
        self.0
    }

    /// Of [`Title::to_bits`]; `None` is 0.
    pub(crate) fn from_bits(bits: u64) -> Option<Title> {
        (bits != 0).then_some(Title(bits))
    }

    /// Its owner's.
    pub(crate) fn number(self) -> u16 {
        self.0 as u16
    }

    /// Takes it from its owner (B3), one of `table`.
    #[cold]
    pub(crate) fn revoke(self, table: &[Owner]) {
        let owner = &table[usize::from(self.number())];
        // Acquire: pairs with the Release below: what the fence has made visible to others is so to us.
        if owner.revoked.load(Ordering::Acquire) >= self.0 {
            return;
        }
        let _one = owner.revoking.lock().unwrap_or_else(PoisonError::into_inner);
        // Relaxed, all four: written under this lock only, or a hint; the fence orders the title (B3).
        if owner.revoked.load(Ordering::Relaxed) < self.0 {
            owner.pause.store(PAUSE, Ordering::Relaxed);
            owner.title.store(self.next().0, Ordering::Relaxed);
            membarrier::heavy_registered();
            // Release: see above.
            owner.revoked.store(self.0, Ordering::Release);
        }
    }
}

/// A worker, as one that locks may be biased to.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Owner {
    /// Its current one; 0: nobody has had this number yet.
    title: AtomicU64,
    /// The last of its titles that was revoked.
    revoked: AtomicU64,
    /// How many locks it still refuses.
    pause: AtomicU32,
    revoking: Mutex<()>,
}

impl Owner {
    #[cfg(not(any(loom, shuttle)))]
    const fn new() -> Owner {
        Owner {
            title: AtomicU64::new(0),
            revoked: AtomicU64::new(0),
            pause: AtomicU32::new(0),
            revoking: Mutex::new(()),
        }
    }

    /// All there are.
    #[cfg(not(any(loom, shuttle)))]
    pub(crate) fn all() -> &'static [Owner] {
        &TABLE
    }

    /// For a worker, as long as it lives. `None` where an announcement would cost as much as an exchange, or there are too
    /// many workers.
    #[cfg(not(any(loom, shuttle)))]
    pub(crate) fn enrol() -> Option<&'static Owner> {
        if !membarrier::is_cheap() {
            return None;
        }
        let mut numbers = NUMBERS.lock().unwrap_or_else(PoisonError::into_inner);
        let number = match numbers.0.pop() {
            Some(number) => number,
            None if numbers.1 < OWNERS => {
                numbers.1 += 1;
                numbers.1 - 1
            }
            None => return None,
        };
        let owner = &TABLE[usize::from(number)];
        // Relaxed, both: the lock orders them after the last one who had the number.
        if owner.title.load(Ordering::Relaxed) == 0 {
            owner.title.store(Title::nth(number, 1).0, Ordering::Relaxed);
        }
        Some(owner)
    }

    /// No scheduler runs in the models of whole primitives.
    #[cfg(any(loom, shuttle))]
    pub(crate) fn enrol() -> Option<&'static Owner> {
        None
    }

    /// The worker ends: what was biased to it is nobody's. On its own thread, or when that has ended.
    pub(crate) fn leave(&self) {
        let _title = self.give_up_title();
        #[cfg(not(any(loom, shuttle)))]
        NUMBERS.lock().unwrap_or_else(PoisonError::into_inner).0.push(_title.number());
    }

    /// B3 without a fence: the one who would act under the title is here, or is gone.
    fn give_up_title(&self) -> Title {
        let _one = self.revoking.lock().unwrap_or_else(PoisonError::into_inner);
        // Relaxed: written under the lock.
        let title = Title(self.title.load(Ordering::Relaxed));
        self.title.store(title.next().0, Ordering::Relaxed); // as above
        // Release: as in `revoke`; what its worker did was before.
        self.revoked.store(title.0, Ordering::Release);
        title
    }

    /// Its current title. Called by its worker.
    #[inline]
    pub(crate) fn title(&self) -> Title {
        // Relaxed: B2: the light fence orders it.
        Title(self.title.load(Ordering::Relaxed))
    }

    /// Returns true if it is well advised to have another lock biased to it. Called by its worker.
    pub(crate) fn accepts(&self) -> bool {
        // Relaxed: a hint.
        let pause = self.pause.load(Ordering::Relaxed);
        if pause > 0 {
            self.pause.store(pause - 1, Ordering::Relaxed); // as above
        }
        pause == 0
    }
}

/// The locks of the table, held over a fork: in the child no title is half taken.
#[cfg(not(any(loom, shuttle)))]
pub(crate) struct TableLock {
    _revoking: Vec<MutexGuard<'static, ()>>,
    _numbers: MutexGuard<'static, (Vec<u16>, u16)>,
}

#[cfg(not(any(loom, shuttle)))]
pub(crate) fn lock_table() -> TableLock {
    // Nobody has two of them. Numbers that were never given out have no titles to be taken.
    let numbers = NUMBERS.lock().unwrap_or_else(PoisonError::into_inner);
    let used = &TABLE[..usize::from(numbers.1)];
    let revoking = used.iter().map(|owner| owner.revoking.lock().unwrap_or_else(PoisonError::into_inner)).collect();
    TableLock { _revoking: revoking, _numbers: numbers }
}

/// No scheduler runs in the models.
#[cfg(any(loom, shuttle))]
pub(crate) struct TableLock;

#[cfg(any(loom, shuttle))]
pub(crate) fn lock_table() -> TableLock {
    TableLock
}

#[cfg(all(test, loom))]
impl Owner {
    /// A table for a model.
    pub(crate) fn table(owners: u16) -> Vec<Owner> {
        let owner = |number| Owner {
            title: AtomicU64::new(Title::nth(number, 1).0),
            revoked: AtomicU64::new(0),
            pause: AtomicU32::new(0),
            revoking: Mutex::new(()),
        };
        (0..owners).map(owner).collect()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn who_loses_a_title_has_another_one_and_refuses_locks_for_a_while() {
        membarrier::register();
        let Some(owner) = Owner::enrol() else { return };
        let first = owner.title();
        assert!(owner.accepts());
        first.revoke(&TABLE);
        assert_ne!(owner.title(), first);
        let second = owner.title();
        first.revoke(&TABLE);
        assert_eq!(owner.title(), second, "a title is taken once");
        assert_eq!((0..PAUSE).filter(|_| owner.accepts()).count(), 0);
        assert!(owner.accepts());
        owner.leave();
        assert_ne!(owner.title(), second);
        second.revoke(&TABLE);
    }

    #[test]
    fn two_workers_never_have_the_same_title() {
        membarrier::register();
        let (Some(a), Some(b)) = (Owner::enrol(), Owner::enrol()) else { return };
        let (of_a, of_b) = (a.title(), b.title());
        assert_ne!(of_a, of_b);
        a.leave();
        let Some(c) = Owner::enrol() else { unreachable!("there is one again") };
        assert!(c.title() != of_a && c.title() != of_b);
        b.leave();
        c.leave();
    }
}
