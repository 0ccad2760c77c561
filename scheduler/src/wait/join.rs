//! A goroutine or thread waits for the end of another goroutine.
//!
//! Called by join handles and scopes; the protocol and its invariants are in `goroutine/completion`.

use crate::base::atomics::{Backoff, Ordering};
use crate::claim::claim_word::Token;
use crate::goroutine::completion::{Completion, DONE, EMPTY, Waiter};
use crate::wait::park::{Blocker, WaitReason};
use std::time::Instant;

impl Completion {
    /// Blocks the current goroutine or thread until the result is there. [`Token::ABORT`] if the goroutine was
    /// aborted first, [`Token::TIMEOUT`] if it was still not there at `deadline`; [`Token::DONE`] otherwise.
    ///
    /// # Safety
    /// C4; and until it returns nobody else makes references by the handle (C5).
    ///
    /// What the goroutine did happens before a return of [`Token::DONE`].
    ///
    /// ```
    #[doc = include_str!("../examples.txt")]
    /// let goroutine = go(|| ());
    /// // SAFETY: the handle is ours alone.
    /// assert_eq!(unsafe { goroutine.completion().wait(WaitReason::Join, false, None) }, Token::DONE);
    /// ```
    // Inlined: see `Blocker::park`.
    #[inline(always)]
    #[must_use]
    pub unsafe fn wait(&self, reason: WaitReason, shielded: bool, deadline: Option<Instant>) -> Token {
        if self.is_finished() {
            return Token::DONE;
        }
        self.take_back_waker();
        let blocker = Blocker::current();
        if shielded {
            blocker.arm_shielded()
        } else {
            blocker.arm()
        }
        let waiter = Waiter::Parked(blocker.parker());
        let address = (&raw const waiter) as usize;
        // Release: the waiter's fields, for `publish`. Acquire on failure: C1.
        if self.0.compare_exchange(EMPTY, address, Ordering::Release, Ordering::Acquire).is_err() {
            let disarmed = blocker.disarm();
            if !disarmed {
                // An abort won meanwhile; the result is there all the same, and the next cancellation point acts.
                let _ = blocker.park(reason, None);
            }
            return Token::DONE;
        }
        let token = blocker.park(reason, deadline);
        if token != Token::DONE {
            self.give_up(address);
        }
        token
    }

    /// Takes the waiter at this address out, or waits until the publisher has done with it.
    pub(crate) fn give_up(&self, address: usize) {
        // Relaxed on success: the waiter is ours again, nobody wrote to it. On failure: `wait_done` acquires.
        if self.0.compare_exchange(address, EMPTY, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            self.wait_done();
        }
    }

    /// C2.
    fn wait_done(&self) {
        let backoff = Backoff::new();
        while self.0.load(Ordering::Acquire) != DONE {
            backoff.snooze();
        }
    }
}
