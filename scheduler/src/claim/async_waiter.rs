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

use crate::claim::claim_word::{Kind, Parker, TaskParker, Token};
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomPinned;
use std::ptr::NonNull;
use std::task::Waker;

/// The claim word of a future, inside of it.
pub struct Task {
    inner: TaskParker,
    _pinned: PhantomPinned,
}

impl Task {
    /// One that does not wait. It must not move once its [`claim_word`](Task::parker) is in a queue.
    ///
    /// ```
    /// assert!(gorun_scheduler::Task::new().claimed().is_none());
    /// ```
    #[must_use]
    pub fn new() -> Task {
        Task { inner: TaskParker { parker: Parker::new(Kind::Task), waker: Cell::new(None) }, _pinned: PhantomPinned }
    }

    /// Its claim word, for its waiter.
    ///
    /// ```
    /// use gorun_scheduler::{Task, Token, WaitQueue, Waiter};
    /// let (task, waiter) = (Task::new(), Waiter::idle(()));
    /// assert!(task.arm(std::task::Waker::noop().clone()).is_none());
    /// waiter.assign(task.parker(), Token::DONE);
    /// let mut queue = WaitQueue::new();
    /// // SAFETY: task and waiter stay here until they have been claimed.
    /// unsafe { queue.push_back(&waiter) };
    /// let ((), wake) = queue.claim_next(|()| (), |(), ()| ()).unwrap();
    /// wake.wake();
    /// assert_eq!(task.claimed(), Some(Token::DONE));
    /// ```
    #[must_use]
    pub fn parker(&self) -> NonNull<Parker> {
        // The provenance of the whole: a claim casts back to it.
        NonNull::from(&self.inner).cast()
    }

    /// Announces a wait, at whose end `waker` is to be woken. Gives back what waker there was. Under the queue's lock.
    ///
    /// ```
    /// use gorun_scheduler::Task;
    /// let task = Task::new();
    /// let waker = std::task::Waker::noop();
    /// assert!(task.arm(waker.clone()).is_none());
    /// assert!(task.claimed().is_none(), "it waits");
    /// ```
    #[must_use = "a waker is dropped outside the lock"]
    pub fn arm(&self, waker: Waker) -> Option<Waker> {
        self.inner.parker.arm(true);
        self.inner.waker.replace(Some(waker))
    }

    /// Changes the waker of a wait that goes on: a future that is polled again. Gives back the one that is no longer
    /// needed. Under the queue's lock.
    ///
    /// ```
    /// use gorun_scheduler::Task;
    /// let (task, waker) = (Task::new(), std::task::Waker::noop());
    /// assert!(task.arm(waker.clone()).is_none());
    /// let old = task.change_waker(waker.clone()).unwrap();
    /// assert!(old.will_wake(waker));
    /// ```
    #[must_use = "a waker is dropped outside the lock"]
    pub fn change_waker(&self, waker: Waker) -> Option<Waker> {
        self.inner.waker.replace(Some(waker))
    }

    /// The token, if the wait has ended. It may be armed again then.
    ///
    /// ```
    /// use gorun_scheduler::{Parker, Task, Token};
    /// let task = Task::new();
    /// drop(task.arm(std::task::Waker::noop().clone()));
    /// assert_eq!(task.claimed(), None);
    /// // SAFETY: the task outlives the call, and nobody else has its address.
    /// unsafe { Parker::claim(task.parker(), Token::case(1)) }.unwrap().wake();
    /// assert_eq!(task.claimed(), Some(Token::case(1)));
    /// ```
    #[must_use]
    pub fn claimed(&self) -> Option<Token> {
        self.inner.parker.claimed()
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("parker", &self.inner.parker).finish_non_exhaustive()
    }
}

impl Default for Task {
    fn default() -> Self {
        Task::new()
    }
}
