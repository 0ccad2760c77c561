//! A FIFO of waiters, kept under its primitive's own lock.
//!
//! Called by channels, mutexes, wait groups and everything else that blocks. The nodes live on the waiters'
//! own stacks; the queue never allocates.
//!
//! # Invariants
//! * **W1.** Every operation on the queue happens under the one lock that guards it.
//! * **W2.** A node is in at most one queue and does not move or die while it is in it: the waiter removes it
//!   ([`WaitQueue::remove`]) before it leaves its operation, however that ends.
//! * **W3.** [`WaitQueue::claim_next`] takes out a node only together with winning its claim, so a waiter that
//!   has been claimed by this queue is no longer in it.
//! * **W4.** A node that goes into a queue has a parker and a token, and gets links; they are read of such as are in one, or
//!   have just been taken out.

use crate::claim::claim_word::{Parker, Token, Wake};
use std::cell::Cell;
use std::marker::PhantomPinned;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

/// One waiter's place in a queue: on its stack, with a slot for what is handed over.
#[derive(Debug)]
pub struct Waiter<S> {
    /// W4, all four: a select has many, and writes them only when it has to wait.
    parker: Cell<MaybeUninit<NonNull<Parker>>>,
    token: Cell<MaybeUninit<Token>>,
    prev: Cell<MaybeUninit<*const Waiter<S>>>,
    next: Cell<MaybeUninit<*const Waiter<S>>>,
    queued: Cell<bool>,
    /// What the two sides exchange: touched by claimers under the lock, by the waiter after its wait has ended
    /// (claimed by this queue, or removed from it under the lock).
    pub slot: S,
    _pinned: PhantomPinned,
}

impl<S> Waiter<S> {
    /// A waiter for the current goroutine or thread, in no queue yet: `token` is what its wait ends with, `slot` what is
    /// exchanged.
    ///
    /// ```
    /// use gorun_scheduler::{Blocker, Token, Waiter};
    /// let waiter = Waiter::new(&Blocker::current(), Token::DONE, "slot");
    /// assert!(!waiter.is_queued());
    /// ```
    pub fn new(blocker: &crate::wait::park::Blocker, token: Token, slot: S) -> Waiter<S> {
        let waiter = Waiter::idle(slot);
        waiter.assign(blocker.parker(), token);
        waiter
    }

    /// A waiter for nobody yet: [`Waiter::assign`] comes before any queue. For one that lies in a structure of its own.
    ///
    /// ```
    /// let waiter = gorun_scheduler::Waiter::idle(7);
    /// assert_eq!(waiter.slot, 7);
    /// ```
    pub const fn idle(slot: S) -> Waiter<S> {
        Waiter {
            parker: Cell::new(MaybeUninit::uninit()),
            token: Cell::new(MaybeUninit::uninit()),
            prev: Cell::new(MaybeUninit::uninit()),
            next: Cell::new(MaybeUninit::uninit()),
            queued: Cell::new(false),
            slot,
            _pinned: PhantomPinned,
        }
    }

    /// Says whose wait it is and which token ends it. Only while it is in no queue.
    ///
    /// ```
    /// use gorun_scheduler::{Blocker, Token, Waiter};
    /// let (blocker, cases) = (Blocker::current(), [Waiter::idle(()), Waiter::idle(())]);
    /// for (index, waiter) in cases.iter().enumerate() {
    ///     waiter.assign(blocker.parker(), Token::case(index));
    /// }
    /// ```
    pub fn assign(&self, parker: NonNull<Parker>, token: Token) {
        debug_assert!(!self.queued.get());
        self.parker.set(MaybeUninit::new(parker));
        self.token.set(MaybeUninit::new(token));
    }

    /// # Safety
    /// W4: it is in a queue, or has been. So in the next three.
    unsafe fn parker(&self) -> NonNull<Parker> {
        // SAFETY: by the caller.
        unsafe { self.parker.get().assume_init() }
    }

    unsafe fn token(&self) -> Token {
        // SAFETY: by the caller.
        unsafe { self.token.get().assume_init() }
    }

    unsafe fn prev(&self) -> *const Waiter<S> {
        // SAFETY: by the caller.
        unsafe { self.prev.get().assume_init() }
    }

    unsafe fn next(&self) -> *const Waiter<S> {
        // SAFETY: by the caller.
        unsafe { self.next.get().assume_init() }
    }

    /// Returns true if it is in a queue. Only under the queue's lock.
    ///
    /// ```
    #[doc = include_str!("wait_queue.txt")]
    /// assert!(waiter.is_queued());
    /// // SAFETY: it is in no other queue.
    /// unsafe { queue.remove(&waiter) };
    /// assert!(!waiter.is_queued());
    /// ```
    pub fn is_queued(&self) -> bool {
        self.queued.get()
    }
}

/// First in, first out.
#[derive(Debug)]
pub struct WaitQueue<S> {
    head: *const Waiter<S>,
    tail: *const Waiter<S>,
}

// SAFETY: W1: the pointers are followed only under the lock around the queue. What is exchanged through the
// slots crosses threads, hence the bound.
unsafe impl<S: Send> Send for WaitQueue<S> {}

impl<S> Default for WaitQueue<S> {
    fn default() -> Self {
        WaitQueue::new()
    }
}

impl<S> WaitQueue<S> {
    /// An empty queue. To be put under the lock of what it belongs to.
    ///
    /// ```
    /// use gorun_scheduler::WaitQueue;
    /// static WAITING: std::sync::Mutex<WaitQueue<()>> = std::sync::Mutex::new(WaitQueue::new());
    /// assert!(WAITING.lock().unwrap().is_empty());
    /// ```
    #[must_use]
    pub const fn new() -> WaitQueue<S> {
        WaitQueue { head: ptr::null(), tail: ptr::null() }
    }

    /// Returns true if the queue is empty; queued waiters may already be claimed.
    ///
    /// ```
    #[doc = include_str!("wait_queue.txt")]
    /// assert!(!queue.is_empty());
    /// // SAFETY: it is in no other queue.
    /// unsafe { queue.remove(&waiter) };
    /// assert!(queue.is_empty());
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.head.is_null()
    }

    /// Puts `waiter` at the end.
    ///
    /// # Safety
    /// W2: the waiter stays where it is, and alive, until it was removed or claimed by this queue; and it was assigned
    /// a parker, for which P3 holds, and is assigned no other while it is in the queue.
    ///
    /// ```
    /// use gorun_scheduler::{Blocker, Token, WaitQueue, WaitReason, Waiter};
    /// let (mut queue, blocker) = (WaitQueue::new(), Blocker::current());
    /// let waiter = Waiter::new(&blocker, Token::DONE, ());
    /// blocker.arm();
    /// // SAFETY: the waiter stays in this frame until it has been removed.
    /// unsafe { queue.push_back(&waiter) };
    /// let soon = std::time::Instant::now() + std::time::Duration::from_millis(1);
    /// if blocker.park(WaitReason::Other, Some(soon)) == Token::TIMEOUT {
    ///     // SAFETY: it is in no other queue.
    ///     assert!(unsafe { queue.remove(&waiter) }, "nobody has claimed it");
    /// }
    /// ```
    pub unsafe fn push_back(&mut self, waiter: &Waiter<S>) {
        debug_assert!(!waiter.queued.get());
        waiter.prev.set(MaybeUninit::new(self.tail));
        waiter.next.set(MaybeUninit::new(ptr::null()));
        waiter.queued.set(true);
        // SAFETY: W2 for the tail, which is queued.
        match unsafe { self.tail.as_ref() } {
            Some(tail) => tail.next.set(MaybeUninit::new(waiter)),
            None => self.head = waiter,
        }
        self.tail = waiter;
    }

    /// Puts `waiter` before all others: one that was woken, and came too late.
    ///
    /// # Safety
    /// As [`WaitQueue::push_back`].
    ///
    /// ```
    #[doc = include_str!("wait_queue.txt")]
    /// let late = Waiter::new(&blocker, Token::DONE, Cell::new(2));
    /// // SAFETY: it stays in this frame until it has been removed.
    /// unsafe { queue.push_front(&late) };
    /// assert_eq!(queue.front().unwrap().get(), 2);
    /// // SAFETY: it is in no other queue.
    /// unsafe { assert!(queue.remove(&late) && queue.remove(&waiter)) };
    /// ```
    pub unsafe fn push_front(&mut self, waiter: &Waiter<S>) {
        debug_assert!(!waiter.queued.get());
        waiter.prev.set(MaybeUninit::new(ptr::null()));
        waiter.next.set(MaybeUninit::new(self.head));
        waiter.queued.set(true);
        // SAFETY: W2 for the head, which is queued.
        match unsafe { self.head.as_ref() } {
            Some(head) => head.prev.set(MaybeUninit::new(waiter)),
            None => self.tail = waiter,
        }
        self.head = waiter;
    }

    /// The slot of the first, whether or not its wait has ended meanwhile.
    ///
    /// ```
    #[doc = include_str!("wait_queue.txt")]
    /// assert_eq!(queue.front().unwrap().get(), 0);
    /// // SAFETY: it is in no other queue.
    /// unsafe { queue.remove(&waiter) };
    /// assert!(queue.front().is_none());
    /// ```
    pub fn front(&self) -> Option<&S> {
        // SAFETY: W2.
        unsafe { self.head.as_ref() }.map(|waiter| &waiter.slot)
    }

    /// Takes `waiter` out, if it is in. Says whether it was.
    ///
    /// # Safety
    /// `waiter` is in this queue or in none.
    ///
    /// ```
    #[doc = include_str!("wait_queue.txt")]
    /// // SAFETY: it is in no other queue.
    /// unsafe {
    ///     assert!(queue.remove(&waiter));
    ///     assert!(!queue.remove(&waiter), "it was in none");
    /// }
    /// ```
    pub unsafe fn remove(&mut self, waiter: &Waiter<S>) -> bool {
        if !waiter.queued.replace(false) {
            return false;
        }
        // SAFETY: W4.
        let (prev, next) = unsafe { (waiter.prev(), waiter.next()) };
        // SAFETY: W2: neighbours of a queued node are queued.
        match unsafe { prev.as_ref() } {
            Some(prev) => prev.next.set(MaybeUninit::new(next)),
            None => self.head = next,
        }
        // SAFETY: as above.
        match unsafe { next.as_ref() } {
            Some(next) => next.prev.set(MaybeUninit::new(prev)),
            None => self.tail = prev,
        }
        true
    }

    /// Takes out the first waiter whose claim is won, after an exchange through its slot.
    ///
    /// `exchange` runs before the claim and `undo` puts things back when the claim is lost: once a claim is won
    /// the waiter may be running and its slot gone, so nothing may touch the slot afterwards.
    ///
    /// Waiters that were claimed by somebody else (a timeout, another case of their select) are taken out on
    /// the way; they find themselves no longer queued.
    ///
    /// What `exchange` does happens before the waiter's return from [`park`](crate::Blocker::park).
    ///
    /// ```
    #[doc = include_str!("wait_queue.txt")]
    /// // Here the lock is taken,
    /// let ((), wake) = queue.claim_next(|slot| slot.set(7), |slot, ()| slot.set(0)).expect("one waits");
    /// // and here released.
    /// wake.wake();
    /// assert_eq!(blocker.park(WaitReason::Other, None), Token::DONE);
    /// assert_eq!(waiter.slot.get(), 7);
    /// ```
    pub fn claim_next<R>(&mut self, mut exchange: impl FnMut(&S) -> R, undo: impl FnMut(&S, R)) -> Option<(R, Wake)> {
        self.claim_next_as(|slot, token| (exchange(slot), token), undo)
    }

    /// As [`WaitQueue::claim_next`], where `exchange` also says with which token the wait ends: it is given the
    /// waiter's own.
    ///
    /// ```
    #[doc = include_str!("wait_queue.txt")]
    /// let ((), wake) = queue.claim_next_as(|_, _own| ((), Token::case(4)), |_, ()| ()).expect("one waits");
    /// wake.wake();
    /// assert_eq!(blocker.park(WaitReason::Other, None).index(), Some(4));
    /// ```
    pub fn claim_next_as<R>(
        &mut self,
        mut exchange: impl FnMut(&S, Token) -> (R, Token),
        mut undo: impl FnMut(&S, R),
    ) -> Option<(R, Wake)> {
        loop {
            // SAFETY: W2.
            let waiter = unsafe { self.head.as_ref() }?;
            // SAFETY: it is the head, hence in this queue.
            unsafe { self.remove(waiter) };
            // SAFETY: W4.
            let (parker, token) = unsafe { (waiter.parker(), waiter.token()) };
            let (exchanged, token) = exchange(&waiter.slot, token);
            // SAFETY: P3: we hold the lock that the waiter has to take before it leaves its operation unclaimed.
            match unsafe { Parker::claim(parker, token) } {
                Some(wake) => return Some((exchanged, wake)),
                // Claimed by another, so it still has to take our lock: the slot is there.
                None => undo(&waiter.slot, exchanged),
            }
        }
    }

    /// As [`WaitQueue::claim_next`] for what is most often there: the first is a goroutine that waits, off its stack. `None`
    /// also when it is anything else, or `exchange` says no; then nothing has happened.
    ///
    /// ```
    #[doc = include_str!("wait_queue.txt")]
    /// // A thread is something else.
    /// assert!(queue.claim_parked(|slot| Some(slot.set(7)), |slot, ()| slot.set(0)).is_none());
    /// assert_eq!(queue.front().unwrap().get(), 0);
    /// // SAFETY: it is in no other queue.
    /// unsafe { queue.remove(&waiter) };
    /// ```
    #[inline(always)]
    pub fn claim_parked<R>(
        &mut self,
        exchange: impl FnOnce(&S) -> Option<R>,
        undo: impl FnOnce(&S, R),
    ) -> Option<(R, Wake)> {
        // SAFETY: W2.
        let waiter = unsafe { self.head.as_ref() }?;
        // SAFETY: W4.
        let (parker, token, next) = unsafe { (waiter.parker(), waiter.token(), waiter.next()) };
        // SAFETY: P3, as above.
        if !unsafe { parker.as_ref() }.is_parked() {
            return None;
        }
        let exchanged = exchange(&waiter.slot)?;
        waiter.queued.set(false);
        // SAFETY: P3, as above.
        let Some(wake) = (unsafe { Parker::claim_parked(parker, token) }) else {
            // Claimed by another, so it still has to take our lock: it is there.
            waiter.queued.set(true);
            undo(&waiter.slot, exchanged);
            return None;
        };
        self.head = next;
        // SAFETY: W2.
        match unsafe { next.as_ref() } {
            Some(next) => next.prev.set(MaybeUninit::new(ptr::null())),
            None => self.tail = ptr::null(),
        }
        Some((exchanged, wake))
    }

    /// Moves the first waiter whose claim is won to the end of `other`, which the same lock guards. `keep` is given the
    /// wake-up: it can go with the waiter, who is still there.
    ///
    /// # Safety
    /// A waiter whose wait ends with the token that `token` makes of its own takes the lock before it leaves, and takes
    /// itself out of `other` unless it was taken out of that: W2 goes on there.
    ///
    /// ```
    #[doc = include_str!("wait_queue.txt")]
    /// // A condition variable's waiter goes on as one of its mutex's.
    /// let mut lockers = WaitQueue::new();
    /// // SAFETY: the waiter looks whether it is in `lockers` before it leaves, below.
    /// let moved = unsafe { queue.claim_next_into(&mut lockers, |own| own, |_, wake| wake.wake()) };
    /// assert!(moved && queue.is_empty());
    /// assert_eq!(blocker.park(WaitReason::Condvar, None), Token::DONE);
    /// assert!(unsafe { lockers.remove(&waiter) });
    /// ```
    pub unsafe fn claim_next_into(
        &mut self,
        other: &mut WaitQueue<S>,
        token: impl Fn(Token) -> Token,
        keep: impl Fn(&S, Wake),
    ) -> bool {
        // SAFETY: W2.
        while let Some(waiter) = unsafe { self.head.as_ref() } {
            // SAFETY: it is the head, hence in this queue.
            unsafe { self.remove(waiter) };
            // SAFETY: W4.
            let (parker, own) = unsafe { (waiter.parker(), waiter.token()) };
            // SAFETY: P3, as above.
            if let Some(wake) = unsafe { Parker::claim(parker, token(own)) } {
                keep(&waiter.slot, wake);
                // SAFETY: by the caller.
                unsafe { other.push_back(waiter) };
                return true;
            }
        }
        false
    }

    /// Takes out the first waiter of a queue in which nobody but this queue's owner may end a wait: `exchange`, then a
    /// claim, which finds nothing to do when the waiter does not wait yet (or any more): it will take the lock then,
    /// and see.
    ///
    /// ```
    #[doc = include_str!("wait_queue.txt")]
    /// let ((), wake) = queue.take_first(|slot| slot.set(7)).expect("one is in it");
    /// wake.expect("it waits").wake();
    /// assert_eq!(blocker.park(WaitReason::Other, None), Token::DONE);
    /// assert_eq!((waiter.slot.get(), queue.take_first(|_| ()).is_none()), (7, true));
    /// ```
    pub fn take_first<R>(&mut self, exchange: impl FnOnce(&S) -> R) -> Option<(R, Option<Wake>)> {
        // SAFETY: W2.
        let waiter = unsafe { self.head.as_ref() }?;
        // SAFETY: it is the head, hence in this queue.
        unsafe { self.remove(waiter) };
        // SAFETY: W4.
        let (parker, token) = unsafe { (waiter.parker(), waiter.token()) };
        let exchanged = exchange(&waiter.slot);
        // SAFETY: P3, as above.
        Some((exchanged, unsafe { Parker::claim(parker, token) }))
    }
}

#[cfg(all(test, loom))]
mod models;
