//! How a goroutine's end reaches the one who waits for it.
//!
//! Written by `exit` (publish), read and waited on by the join handle (`gorun::JoinHandle`).
//!
//! ```text
//!  EMPTY ──register──▶ waiter ──publish──▶ CLOSING ──▶ DONE
//!    │ ▲────unregister──┘ │
//!    └─────detach─────────┴──▶ DETACHED ──finish──▶ LEFT
//! ```
//!
//! * **C1.** The result is written before the exchange that makes the word `CLOSING` (Release), and read only by
//!   one who saw `CLOSING` or `DONE` (Acquire).
//! * **C2.** Between `CLOSING` and `DONE` the publisher may touch the waiter it took out. A waiter whose wait
//!   ended otherwise (abort) and which can't take itself out any more waits for `DONE`: a handful of the
//!   publisher's instructions.
//! * **C3.** Whoever turns the word `DETACHED` or finds `CLOSING`/`DONE` when it wants to decides who drops
//!   the result: the goroutine in the first case, the handle in the second. In the first the handle's reference to the
//!   block is the goroutine's from then on, so that it costs no exchange of its own; `LEFT` says so to the worker.
//! * **C4.** One handle at a time waits, registers or detaches: the owner of the result; with a detach nobody is any more.
//!   (A registered waiter that is not the caller's own would be one on somebody else's stack.)
//! * **C5.** A joiner that the publisher has claimed off its stack does not go on before it is woken: the borrow of a handle
//!   with which it waits, and so a counted reference, stays until then; and nobody else makes references by that handle.
//! * **C6.** A waker's panic, when it is woken or let go, ends here: the goroutine has ended, and nobody is there to whom it
//!   would go on; or the handle is being used for something else.

use crate::base::atomics::{AtomicUsize, Ordering};
use crate::base::unwind::{contained, drop_contained};
use crate::claim::claim_word::{Parker, Token, Wake};
use std::ptr::NonNull;
use std::task::Waker;

pub(crate) const EMPTY: usize = 0;
const DETACHED: usize = 1;
const CLOSING: usize = 2;
pub(crate) const DONE: usize = 3;
const LEFT: usize = 4;

/// Aligned, so that its address is none of the five states.
#[repr(align(8))]
pub(crate) enum Waiter {
    /// On the stack of a blocked joiner.
    Parked(NonNull<Parker>),
    /// Boxed, for a joiner that is a future.
    Task(Waker),
}

/// The word.
#[derive(Debug)]
pub struct Completion(pub(crate) AtomicUsize);

/// What `publish` found.
#[derive(Debug)]
#[must_use]
pub(crate) enum Published {
    /// Nobody will take the result: the goroutine drops it.
    Detached,
    /// A handle exists; whether it waits or not, it sees to the result. If it waits, it is the caller's to wake.
    Handed(Option<Wake>),
    /// As `Handed`; a future's waker, which may be anybody's code, was called on the goroutine, which has not been
    /// counted: it has to clean up after that code first.
    HandedToTask,
}

impl Completion {
    pub(super) fn new() -> Completion {
        Completion(AtomicUsize::new(EMPTY))
    }

    pub(super) fn reset(&self) {
        // Relaxed: the block is the spawner's alone (G2).
        self.0.store(EMPTY, Ordering::Relaxed);
    }

    /// Returns true if the result is there. If so, all that the goroutine did happens before.
    ///
    /// ```
    #[doc = include_str!("../examples.txt")]
    /// let goroutine = go(|| ());
    /// join(&goroutine);
    /// assert!(goroutine.completion().is_finished());
    /// ```
    #[must_use]
    pub fn is_finished(&self) -> bool {
        // Acquire: C1.
        matches!(self.0.load(Ordering::Acquire), CLOSING | DONE | LEFT)
    }

    /// By the goroutine, once its result is in the payload and its storage is gone. `counted` runs when it is
    /// sure that a handle will see to the result. After [`Published::Detached`]
    /// the goroutine drops the result and calls [`Completion::finish_detached`].
    pub(crate) fn publish(&self, counted: impl FnOnce()) -> Published {
        // Acquire, here and below on failure: the waiter's fields.
        let mut found = self.0.load(Ordering::Acquire);
        loop {
            if found == DETACHED {
                return Published::Detached;
            }
            // AcqRel: Release is C1.
            match self.0.compare_exchange(found, CLOSING, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(now) => found = now,
            }
        }
        if found == EMPTY {
            counted();
            self.0.store(DONE, Ordering::Release); // C2: pairs with `wait_done`.
            return Published::Handed(None);
        }
        let waiter = found as *mut Waiter;
        // SAFETY: C2: the waiter was registered, and stays until we store DONE (parked) or is ours (boxed).
        match unsafe { &*waiter } {
            Waiter::Parked(parker) => {
                counted();
                // SAFETY: C2 stands for the lock of P3: the joiner does not leave before DONE.
                let wake = unsafe { Parker::claim(*parker, Token::DONE) };
                self.0.store(DONE, Ordering::Release); // C2: pairs with `wait_done`.
                Published::Handed(wake)
            }
            Waiter::Task(_) => {
                // SAFETY: boxed in `poll_register`, and taken out by our exchange.
                let waiter = unsafe { Box::from_raw(waiter) };
                self.0.store(DONE, Ordering::Release); // C1, for symmetry.
                if let Waiter::Task(waker) = *waiter {
                    // C6.
                    contained(|| waker.wake());
                }
                Published::HandedToTask
            }
        }
    }

    pub(crate) fn finish_detached(&self) {
        // Release: C1, for who has a clone of the handle and asks whether it has ended.
        self.0.store(LEFT, Ordering::Release);
    }

    /// Returns true if the handle's reference was left to the goroutine, which has ended. Called by its worker.
    pub(super) fn is_left(&self) -> bool {
        // Relaxed: written on this thread.
        self.0.load(Ordering::Relaxed) == LEFT
    }

    /// By the handle that gives up the result, and with it its reference. `false`: the result is there, and the handle's to
    /// drop.
    ///
    /// # Safety
    /// C4.
    #[inline]
    pub(super) unsafe fn detach(&self) -> bool {
        loop {
            let found = self.0.load(Ordering::Acquire); // C1
            debug_assert!(!matches!(found, DETACHED | LEFT), "C4");
            if matches!(found, CLOSING | DONE) {
                return false;
            }
            // Release: the handle's last uses of the block come before its next life. The boxed waiter that it takes back is
            // its own (C4).
            if self.0.compare_exchange(found, DETACHED, Ordering::Release, Ordering::Relaxed).is_ok() {
                if found != EMPTY {
                    // SAFETY: a handle is detached by its owner, which isn't parked in `wait` then: the waiter is a boxed
                    // one, and our exchange took it out.
                    drop_contained(unsafe { Box::from_raw(found as *mut Waiter) });
                }
                return true;
            }
        }
    }

    #[inline]
    pub(crate) fn take_back_waker(&self) {
        // Relaxed: only a guess for the exchange; and a waiter that it takes back is our own, as in `detach`.
        let found = self.0.load(Ordering::Relaxed);
        if !matches!(found, EMPTY | DETACHED | CLOSING | DONE | LEFT)
            && self.0.compare_exchange(found, EMPTY, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            // SAFETY: only the handle registers, and it isn't parked: a boxed waiter, taken out by our exchange.
            drop_contained(unsafe { Box::from_raw(found as *mut Waiter) });
        }
    }

    /// For a joiner that is a future: `true` if the result is there, else `waker` will be woken when it is.
    ///
    /// # Safety
    /// C4.
    ///
    /// ```
    #[doc = include_str!("../examples.txt")]
    /// let goroutine = go(|| ());
    /// // SAFETY: the handle is ours alone.
    /// while !unsafe { goroutine.completion().poll_register(std::task::Waker::noop()) } {
    ///     std::thread::yield_now(); // an executor would wait for the waker to be woken
    /// }
    /// assert!(goroutine.completion().is_finished());
    /// ```
    #[must_use]
    pub unsafe fn poll_register(&self, waker: &Waker) -> bool {
        if self.is_finished() {
            return true;
        }
        self.take_back_waker();
        let waiter = Box::into_raw(Box::new(Waiter::Task(waker.clone())));
        // Release: the waiter's fields, for `publish`. Acquire on failure: C1.
        match self.0.compare_exchange(EMPTY, waiter as usize, Ordering::Release, Ordering::Acquire) {
            Ok(_) => false,
            Err(_) => {
                // SAFETY: it was never registered.
                drop_contained(unsafe { Box::from_raw(waiter) });
                true
            }
        }
    }
}

#[cfg(all(test, loom))]
mod models;
