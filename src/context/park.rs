//! Waiting for something else and for the end of a context at the same time.
//!
//! Called by primitives with a queue of their own, for their operations that take a context. The end comes as a time-out
//! does: it claims the waiter, who then leaves its queue.
//!
//! * **E1.** The waiter is in the done channel's queue of watchers while it is parked, and not longer. Who ends the context
//!   closes the channel, and claims all watchers (N2 in `chan/core`).
//! * **E2.** So an end that came before is told as soon as the lock is released behind the enqueueing: by ourselves.

use super::Context;
use crate::chan::{Side, Slot};
use gorun_scheduler::{Blocker, Token, WaitReason, Waiter};

impl Context {
    /// [`Blocker::park`] until the context ends, for one that is armed and in a queue. [`Token::TIMEOUT`] says that it
    /// has ended.
    pub(crate) fn park(&self, blocker: &Blocker, reason: WaitReason) -> Token {
        if self.node.is_none() {
            return blocker.park(reason, None);
        }
        let core = &self.done().core;
        let waiter = Waiter::new(blocker, Token::TIMEOUT, Slot::new(None));
        // SAFETY: W2: the waiter stays in this frame until it is taken out below; nothing unwinds in between.
        unsafe { core.lock().watch(Side::Receive, &waiter) };
        let token = blocker.park(reason, None);
        core.lock().give_up_watch(Side::Receive, &waiter);
        token
    }
}
