//! Waiting in a queue that a primitive keeps under its lock, as all of them but the locks themselves do it.

use super::raw_mutex::Abort;
use super::shim::Lock;
use gorun_scheduler::{Blocker, Token, WaitQueue, WaitReason, Waiter, Wake};
use std::time::Instant;

/// Why it is waited, and until when.
#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    pub(super) reason: WaitReason,
    pub(super) deadline: Option<Instant>,
    pub(super) abort: Abort,
}

/// How a wait ended.
#[derive(Debug)]
pub(super) enum Waited<R> {
    /// It did not begin: here is the answer.
    Not(R),
    /// Somebody claimed the waiter, and took it out of the queue.
    Woken,
    TimedOut,
    /// The caller goes on to unwind.
    Aborted,
}

/// Waits in the queue that `queue` finds, unless `now` has an answer; both under the lock. Who gives up leaves the queue,
/// and calls `leave` under the same lock: with whether it still was in, or was taken out by one whose claim came too late.
/// It wakes whom that returns.
pub(super) fn wait<T, S, R>(
    state: &Lock<T>,
    how: How,
    slot: S,
    queue: impl Fn(&mut T) -> &mut WaitQueue<S>,
    now: impl FnOnce(&mut T) -> Option<R>,
    leave: impl FnOnce(&mut T, bool) -> Vec<Wake>,
) -> Waited<R> {
    wait_by(state, how.abort, |blocker| blocker.park(how.reason, how.deadline), slot, queue, now, leave)
}

/// As [`wait`], where `park` waits, and may have the wait ended by something else with a token of a time-out.
pub(super) fn wait_by<T, S, R>(
    state: &Lock<T>,
    abort: Abort,
    park: impl FnOnce(&Blocker) -> Token,
    slot: S,
    queue: impl Fn(&mut T) -> &mut WaitQueue<S>,
    now: impl FnOnce(&mut T) -> Option<R>,
    leave: impl FnOnce(&mut T, bool) -> Vec<Wake>,
) -> Waited<R> {
    let blocker = Blocker::current();
    let waiter = Waiter::new(&blocker, Token::DONE, slot);
    {
        let mut state = state.lock();
        if let Some(answer) = now(&mut state) {
            return Waited::Not(answer);
        }
        match abort {
            Abort::Unwinds => blocker.arm(),
            Abort::Waits => blocker.arm_shielded(),
        }
        // SAFETY: W2: the waiter stays in this frame until it is claimed or removed below.
        unsafe { queue(&mut state).push_back(&waiter) };
    }
    let token = park(&blocker);
    if token == Token::DONE {
        return Waited::Woken;
    }
    let woken = {
        let mut state = state.lock();
        // SAFETY: it is in this queue, or was taken out of it.
        let was_in = unsafe { queue(&mut state).remove(&waiter) };
        leave(&mut state, was_in)
    };
    Wake::wake_all(woken);
    if token == Token::ABORT { Waited::Aborted } else { Waited::TimedOut }
}

/// Claims all who wait in `queue`.
pub(super) fn claim_all<S>(queue: &mut WaitQueue<S>) -> Vec<Wake> {
    let mut woken = Vec::new();
    while let Some(((), wake)) = queue.claim_next(|_| (), |_, ()| ()) {
        woken.push(wake);
    }
    woken
}
