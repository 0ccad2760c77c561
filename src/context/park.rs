//! Waiting for something else and for the end of a context at the same time.
//!
//! Called by primitives with a queue of their own, for their operations that take a context. The end comes as a time-out
//! does: it claims the waiter, who then leaves its queue.
//!
//! * **E1.** The waiter is in the done channel's queue of watchers while it is parked, and not longer. Who ends the context
//!   closes the channel, and claims all watchers (N2 in `chan/core`).
//! * **E2.** Between the look at the channel and the enqueueing there its lock is held: the end is seen, or sees us.

use super::Context;
use crate::chan::{Side, Slot};
use gorun_scheduler::{Blocker, Parker, Token, WaitReason, Waiter};

impl Context {
    /// [`Blocker::park`] until the context ends, for one that is armed and in a queue. [`Token::TIMEOUT`] says that it
    /// has ended.
    pub(crate) fn park(&self, blocker: &Blocker, reason: WaitReason) -> Token {
        if self.node.is_none() {
            return blocker.park(reason, None);
        }
        let core = &self.done().core;
        let waiter = Waiter::new(blocker, Token::TIMEOUT, Slot::new(None));
        {
            let mut state = core.lock();
            if state.may_proceed(Side::Receive) {
                // SAFETY: P3: it is our own. If the claim is lost, another one was won; nobody has to be woken.
                let _ = unsafe { Parker::claim(blocker.parker(), Token::TIMEOUT) };
            } else {
                // SAFETY: W2: the waiter stays in this frame until it is taken out below; nothing unwinds in between.
                unsafe { state.watch(Side::Receive, &waiter) };
            }
        }
        let token = blocker.park(reason, None);
        core.lock().give_up_watch(Side::Receive, &waiter);
        token
    }
}
