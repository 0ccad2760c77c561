//! A future as one that waits: a claim word whose claim yields a waker.
//!
//! Called by futures that stand in a [`WaitQueue`](crate::WaitQueue) (channels). Everything about it happens under the
//! lock of the queue: arming, a change of waker, a look at the claim, and every claim, as nobody else has its address (no
//! timer, no abort). There is no commit, since a future is never on a stack of its own while it waits: a claimer finds
//! `PARKING` and gets the waker.
//!
//! * **F1.** The waker is touched under the queue's lock only.
//! * **F2.** A task that is armed takes the lock and leaves the queue before its memory goes (W2, P3).
//! * **F3.** A user's waker is cloned, dropped and woken outside the lock: it is moved in and out here.

use crate::parker::{Kind, Parker, Token, Wake};
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomPinned;
use std::ptr::NonNull;
use std::task::Waker;

/// The claim word of a future, inside of it.
#[repr(C)]
pub struct Task {
    parker: Parker,
    waker: Cell<Option<Waker>>,
    _pinned: PhantomPinned,
}

/// # Safety
/// `this` is a task's parker, alive, and the caller holds the lock (F1).
pub(crate) unsafe fn take_waker(this: NonNull<Parker>) -> Wake {
    // SAFETY: by the caller; `Task::parker` made the pointer from one to the whole task.
    Wake::task(unsafe { this.cast::<Task>().as_ref() }.waker.take())
}

impl Task {
    /// One that does not wait.
    #[must_use]
    pub fn new() -> Task {
        Task { parker: Parker::new(Kind::Task), waker: Cell::new(None), _pinned: PhantomPinned }
    }

    /// Its claim word, for its waiter.
    #[must_use]
    pub fn parker(&self) -> NonNull<Parker> {
        NonNull::from(self).cast()
    }

    /// Announces a wait, at whose end `waker` is to be woken. Gives back what waker there was.
    #[must_use = "a waker is dropped outside the lock"]
    pub fn arm(&self, waker: Waker) -> Option<Waker> {
        self.parker.arm(true);
        self.waker.replace(Some(waker))
    }

    /// Changes the waker of a wait that goes on. Gives back the one that is no longer needed.
    #[must_use = "a waker is dropped outside the lock"]
    pub fn change_waker(&self, waker: Waker) -> Option<Waker> {
        self.waker.replace(Some(waker))
    }

    /// The token, if the wait has ended. It may be armed again then.
    #[must_use]
    pub fn claimed(&self) -> Option<Token> {
        self.parker.claimed()
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("parker", &self.parker).finish_non_exhaustive()
    }
}

impl Default for Task {
    fn default() -> Self {
        Task::new()
    }
}
