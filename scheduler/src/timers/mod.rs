//! Time: a queue of timers per seat, for the deadlines of waits and for timers that are nobody's wait.
//!
//! A wait's timer lies on the waiter's stack ([`with_deadline`], called by `park`); the others are shared objects
//! ([`Timer`] in `owned`, used by `gorun::time`). Both are fired by `worker`: its own seat's at every scheduling
//! round that asks the clock, other seats' when they are overdue. Workers sleep until their seat's earliest, on the
//! kernel's nanosecond clock.
//!
//! * **M1.** What belongs to a timer's being pending changes only under the lock of its seat's queue. Any thread may
//!   take that lock; it is held for a handful of timers at a time.
//! * **M2.** A timer in the queue exists: a wait's is taken out, by firing or by cancelling, before its waiter leaves
//!   [`with_deadline`]; of a shared one the queue has a reference of its own.
//! * **M3.** What a timer does to others when it fires (a claim, a value into a channel) happens under the queue's lock.
//!   So once a stop has the lock, either it takes the timer out and nothing will happen, or all of it has happened.
//!   Wake-ups, and whatever allocates or drops, come after unlocking.
//! * **M4.** Under the queue's lock a channel's lock may be taken, and never the other way round.
//! * **M5.** Once the queue is closed, at its runtime's end, no shared timer is in it and none comes in.
//!
//! # The bad interleavings
//!
//! * Stop and fire: without M3 a worker takes the timer out, the stop finds it gone and empties its channel, then the
//!   worker puts the value in: a value received after the stop. With M3 the value is there when the stop looks.
//! * Reset and fire: the same with the timer then set anew; the old value would look like the new one's.
//! * Drop and fire: the last handle goes while a worker has the timer in its hands. The queue's reference passes to the
//!   worker when it takes the timer out, and is dropped after unlocking.
//! * A wait's end and fire: the waiter was claimed by another and wants its stack back, while a worker looks at the
//!   timer on it. The waiter needs the lock first (M2), and the claim under the lock fails or has woken it (P3).
//! * Set from outside, and the worker falls asleep: see `Seat::timer_set`.
//! * The runtime's end and set: M5; one that is set later never fires.

mod clock;
mod heap;
mod owned;
mod queue;
mod spawner;
mod stopper;

pub use clock::Moment;
pub use owned::{Alarm, Rung, Started, Timer, TimerHome, WeakTimer};
pub use spawner::Spawner;
pub use stopper::Stopper;

pub(crate) use clock::{NEVER, now, wake_in_time};

use self::owned::Shared;
use self::queue::{Node, Queue};
use crate::carrier::Carrier;
use crate::current;
use crate::fetch;
use crate::parker::{Parker, Token, Wake};
use crate::process::{self, PerProcess};
use crate::seats::Seat;
use crate::shim::Lock;
use crate::unwind::{contained, drop_contained};
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::Instant;

/// So many are fired in one go, under one lock. Few: what their goroutines will touch is fetched then (`fetch`).
pub(crate) const BATCH: usize = 16;
/// How far ahead of its turn a timer is fetched, and then whom it wakes.
const TIMER_AHEAD: usize = 8;
const WAITER_AHEAD: usize = 4;

/// What happens when it is time.
#[derive(Debug)]
enum What {
    /// The wait ends.
    Wait(NonNull<Parker>),
    /// It is the first field of a shared timer, which knows.
    Shared(&'static Shared),
}

/// Runs `f` (a suspension) with a deadline for the wait of `parker`, on the current processor's seat. `f` does not
/// unwind.
pub(crate) fn with_deadline(parker: NonNull<Parker>, at: Instant, f: impl FnOnce()) {
    let node = Node::new(What::Wait(parker));
    let processor = current::processor().expect("only goroutines set timers");
    // Kept over the suspension: the runtime has a live goroutine, us.
    let seat: *const Seat = processor.seat();
    processor.seat_ref().timers.push(Moment::from(at).0, &node);
    f();
    // SAFETY: as above.
    unsafe { &*seat }.timers.cancel(&node);
}

/// The timers of one seat.
#[derive(Debug)]
pub(crate) struct Timers {
    state: Lock<State>,
    /// Where somebody looks after them.
    process: u64,
    earliest: AtomicU64,
}

#[derive(Debug)]
struct State {
    queue: Queue<What>,
    /// M5: since when.
    closed: Option<u64>,
}

// SAFETY: M1 and M2: the pointers are followed under the lock only, and while their timers exist.
unsafe impl Send for State {}

/// What fired, to be seen to after unlocking.
#[derive(Default)]
pub(crate) struct Due {
    pub(crate) woken: Vec<Wake>,
    /// Those that are to be called.
    pub(crate) called: Vec<Arc<dyn owned::Call>>,
    /// Those that are merely over.
    over: Vec<Arc<dyn owned::Call>>,
}

impl fmt::Debug for Due {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Due").field("woken", &self.woken.len()).field("called", &self.called.len()).finish()
    }
}

impl Timers {
    pub(crate) fn new() -> Timers {
        Timers { state: Lock::new(State::new()), process: process::process(), earliest: AtomicU64::new(NEVER) }
    }

    /// For shared timers: their state, and whether they may be in the queue. In the child of a fork, which has nobody to look
    /// after the parent's, all of those share one that is closed (M5); theirs may be locked or half changed for ever.
    fn lock_shared(&self) -> (MutexGuard<'_, State>, bool) {
        static PARENTS: PerProcess<Lock<State>> = PerProcess::new();
        if process::is_parents(self.process) {
            let closed = || Lock::new(State { closed: Some(now()), ..State::new() });
            return (PARENTS.get(closed).lock(), false);
        }
        (self.state.lock(), true)
    }

    /// When the next one is due, in `now()`'s nanoseconds; [`NEVER`] if there is none. A snapshot.
    pub(crate) fn earliest(&self) -> u64 {
        // Relaxed: a hint; the owner of the seat reads what it wrote itself, others look again. What must not be
        // missed, the owner's look before it sleeps, has a fence before it.
        self.earliest.load(Ordering::Relaxed)
    }

    fn push(&self, at: u64, node: &Node<What>) {
        let mut state = self.state.lock();
        state.queue.push(at, NonNull::from(node));
        self.publish(&state);
    }

    fn cancel(&self, node: &Node<What>) {
        let mut state = self.state.lock();
        if node.is_in() {
            state.queue.remove(NonNull::from(node));
            self.publish(&state);
        }
    }

    /// Fires those that are due at `now`, or a batch of them: `true` if there are more. The caller sees to what it gets.
    #[must_use]
    pub(crate) fn fire(&self, now: u64, due: &mut Due) -> bool {
        if self.earliest() > now {
            return false;
        }
        let mut more = false;
        {
            let mut state = self.state.lock();
            for _ in 0..BATCH {
                more = state.fire_next(now, due);
                if !more {
                    break;
                }
            }
            self.publish(&state);
        }
        due.over.clear();
        more
    }

    fn publish(&self, state: &State) {
        let earliest = state.queue.earliest();
        // Relaxed: see `earliest`; who sets a timer from outside adds a fence.
        self.earliest.store(earliest, Ordering::Relaxed);
    }

    /// Whether the caller runs on the worker of the seat whose timers these are.
    fn are_mine(&self) -> bool {
        current::processor().is_some_and(|processor| ptr::eq(&raw const processor.seat_ref().timers, self))
    }

    /// M5, when the runtime ends.
    pub(crate) fn close(&self) {
        let left: Vec<_> = {
            let mut state = self.state.lock();
            state.closed = Some(now());
            let left = state.queue.extract(|what| matches!(what, What::Shared(_)));
            self.publish(&state);
            // SAFETY: M2: with the node the queue's reference is ours.
            left.into_iter().filter_map(|node| unsafe { adopt(node) }).collect()
        };
        // With the last reference goes a user's function. Its panic must neither keep the rest nor the runtime from ending.
        for timer in left {
            contained(|| timer.end());
            drop_contained(timer);
        }
    }
}

impl State {
    fn new() -> State {
        State { queue: Queue::new(), closed: None }
    }

    /// One step: fires one, or moves one that was put off. `false`: nothing is due.
    fn fire_next(&mut self, now: u64, due: &mut Due) -> bool {
        let Some((at, node)) = self.queue.first().filter(|(at, _)| *at <= now) else { return false };
        self.fetch_ahead();
        if self.queue.move_if_put_off(at, node) {
            return true;
        }
        // SAFETY: M2.
        match &unsafe { node.as_ref() }.what {
            What::Wait(parker) => {
                self.queue.remove(node);
                // SAFETY: P3: its owner can't leave without our lock.
                let wake = unsafe { Parker::claim(*parker, Token::TIMEOUT) };
                if let Some(g) = wake.as_ref().and_then(Wake::goroutine) {
                    // One at a time: of many hints at once most are not followed.
                    fetch::lines(g.as_ptr().cast::<u8>().wrapping_add(fetch::LINE), 2);
                    Carrier::fetch(g.carrier.get());
                }
                due.woken.extend(wake);
            }
            What::Shared(shared) => {
                // SAFETY: the node is the first field of the type that `shared` was made for.
                let rung = unsafe { (shared.ring)(node, Moment(at), Moment(now)) };
                due.woken.extend(rung.wake);
                if let Some(at) = rung.again {
                    // Later than now, whatever was asked for: we would never get out of here.
                    self.queue.change(at.0.max(now + 1), node);
                    if rung.call {
                        // SAFETY: M2; as above.
                        due.called.push(unsafe { (shared.share)(node) });
                    }
                    return true;
                }
                self.queue.remove(node);
                let list = if rung.call { &mut due.called } else { &mut due.over };
                // SAFETY: M2: with the node the queue's reference is ours.
                list.push(unsafe { (shared.adopt)(node) });
            }
        }
        true
    }

    /// A wait's timer lies on a stack that nobody has looked at since it was set, and its waiter elsewhere.
    fn fetch_ahead(&self) {
        if let Some(node) = self.queue.ahead(TIMER_AHEAD) {
            fetch::lines(node.as_ptr(), 1);
            // SAFETY: M2.
            let near = self.queue.ahead(WAITER_AHEAD).map(|node| unsafe { &node.as_ref().what });
            if let Some(What::Wait(parker)) = near {
                fetch::lines(parker.as_ptr(), 1);
            }
        }
    }
}

/// The queue's reference to a shared timer, after it was taken out.
///
/// # Safety
/// It was taken out by the caller, and not by another before.
unsafe fn adopt(node: NonNull<Node<What>>) -> Option<Arc<dyn owned::Call>> {
    // SAFETY: by the caller the reference is there, so the node is.
    match &unsafe { node.as_ref() }.what {
        What::Wait(_) => None,
        // SAFETY: as above, and the node is the first field of the type that `shared` was made for.
        What::Shared(shared) => Some(unsafe { (shared.adopt)(node) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::park::{Blocker, WaitReason};

    fn wait(blocker: &Blocker) -> Node<What> {
        Node::new(What::Wait(blocker.parker()))
    }

    #[test]
    fn a_timer_fires_at_its_time_and_not_before() {
        let timers = Timers::new();
        let blocker = Blocker::current();
        blocker.arm();
        let node = wait(&blocker);
        timers.push(100, &node);
        let mut due = Due::default();
        assert!(!timers.fire(99, &mut due));
        assert!(due.woken.is_empty());
        assert_eq!(timers.earliest(), 100);
        assert!(!timers.fire(100, &mut due));
        assert_eq!(due.woken.len(), 1);
        assert_eq!(timers.earliest(), NEVER);
        assert_eq!(blocker.park(WaitReason::Sleep, None), Token::TIMEOUT);
        due.woken.pop().unwrap().wake();
    }

    #[test]
    fn a_cancelled_timer_never_fires() {
        let timers = Timers::new();
        let blocker = Blocker::current();
        blocker.arm();
        let node = wait(&blocker);
        timers.push(100, &node);
        timers.cancel(&node);
        timers.cancel(&node);
        let mut due = Due::default();
        assert!(!timers.fire(1000, &mut due));
        assert!(due.woken.is_empty());
        assert!(blocker.disarm());
    }

    #[test]
    fn many_that_are_due_fire_in_batches() {
        let timers = Timers::new();
        let blockers: Vec<_> = (0..BATCH + 1).map(|_| Blocker::current()).collect();
        let nodes: Vec<_> = blockers.iter().map(wait).collect();
        for (blocker, node) in blockers.iter().zip(&nodes) {
            blocker.arm();
            timers.push(5, node);
        }
        let mut due = Due::default();
        assert!(timers.fire(5, &mut due));
        assert_eq!(due.woken.len(), BATCH);
        assert!(!timers.fire(5, &mut due));
        assert_eq!(due.woken.len(), BATCH + 1);
        assert!(blockers.iter().all(|blocker| !blocker.disarm()));
    }
}
