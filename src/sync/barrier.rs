//! `Barrier`: a number of goroutines that wait for each other, again and again.
//!
//! * **B1.** `arrived` counts those in the queue. The last to come claims all of them under the lock, and begins anew.
//! * **B2.** Who gives up takes its arrival back, unless it was taken out of the queue: then the others went on counting it.

use super::raw_mutex::Abort;
use super::shim::Lock;
use super::wait::{How, Waited, claim_all, wait};
use gorun_scheduler::{WaitQueue, WaitReason, Wake, checkpoint, unwind_aborted};
use std::fmt;

/// Lets a number of goroutines, or threads, wait until all have come: std's `Barrier`.
///
/// It can be used again at once: it is cyclic. What each did before it came happens before all go on.
///
/// ```
/// use gorun::sync::Barrier;
/// use std::sync::Arc;
/// let barrier = Arc::new(Barrier::new(3));
/// let all: Vec<_> = (0..3).map(|_| { let barrier = barrier.clone(); gorun::go(move || barrier.wait()) }).collect();
/// let leaders = all.into_iter().map(|g| g.join().unwrap()).filter(|r| r.is_leader()).count();
/// assert_eq!(leaders, 1);
/// ```
pub struct Barrier {
    n: usize,
    state: Lock<State>,
}

#[derive(Debug)]
struct State {
    arrived: usize,
    queue: WaitQueue<()>,
}

/// What [`Barrier::wait`] tells.
#[derive(Debug)]
pub struct BarrierWaitResult {
    leader: bool,
}

impl BarrierWaitResult {
    /// Returns true if the caller was the last to come: one in each round.
    ///
    /// ```
    /// assert!(gorun::sync::Barrier::new(1).wait().is_leader());
    /// ```
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.leader
    }
}

impl Barrier {
    /// One for `n` goroutines or threads; 0 is as good as 1.
    ///
    /// ```
    /// static START: gorun::sync::Barrier = gorun::sync::Barrier::new(2);
    /// let other = gorun::go(|| START.wait().is_leader());
    /// assert!(START.wait().is_leader() != other.join().unwrap());
    /// ```
    #[must_use]
    pub const fn new(n: usize) -> Barrier {
        Barrier { n, state: Lock::new(State { arrived: 0, queue: WaitQueue::new() }) }
    }

    /// Waits until as many have come as the barrier is for. Their waits end in the order in which they came.
    ///
    /// A cancellation point: who is aborted while it waits has not come, and the others wait for another.
    ///
    /// ```
    /// let barrier = gorun::sync::Barrier::new(1);
    /// assert!(barrier.wait().is_leader());
    /// assert!(barrier.wait().is_leader()); // again
    /// ```
    pub fn wait(&self) -> BarrierWaitResult {
        checkpoint();
        let how = How { reason: WaitReason::Barrier, deadline: None, abort: Abort::Unwinds };
        let waited = wait(
            &self.state,
            how,
            (),
            |state| &mut state.queue,
            |state| {
                if state.arrived + 1 < self.n {
                    state.arrived += 1;
                    return None;
                }
                state.arrived = 0;
                Some(claim_all(&mut state.queue))
            },
            |state, was_in| {
                // B2.
                state.arrived -= usize::from(was_in);
                Vec::new()
            },
        );
        match waited {
            Waited::Not(others) => {
                Wake::wake_all(others);
                BarrierWaitResult { leader: true }
            }
            Waited::Woken | Waited::TimedOut => BarrierWaitResult { leader: false },
            Waited::Aborted => unwind_aborted(),
        }
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arrived = self.state.lock().arrived;
        f.debug_struct("Barrier").field("n", &self.n).field("arrived", &arrived).finish()
    }
}
