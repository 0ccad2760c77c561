//! The timers of one seat: waits' and shared ones, fired in batches.
//!
//! See the folder for the invariants.

use crate::base::atomics::Lock;
use crate::base::prefetch;
use crate::base::process::{self, PerProcess};
use crate::base::unwind::{contained, drop_contained};
use crate::claim::claim_word::{Parker, Token, Wake};
use crate::goroutine::block::Above;
use crate::stack::coroutine::Carrier;
use crate::timer::clock::Moment;
use crate::timer::clock::NEVER;
use crate::timer::clock::now;
use crate::timer::node::Node;
use crate::timer::queue::Queue;
use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};

/// So many are fired in one go, under one lock. Few: what their goroutines will touch is fetched then (`prefetch`).
pub(crate) const BATCH: usize = 16;
/// How far ahead of its turn a timer is fetched, and then whom it wakes.
const TIMER_AHEAD: usize = 8;
const WAITER_AHEAD: usize = 4;

/// What happens when it is time.
#[derive(Debug)]
pub(crate) enum What {
    /// The wait ends.
    Wait(NonNull<Parker>),
    /// It is the first field of a shared timer, which knows.
    Shared(&'static Shared),
}

/// What became of a timer that rang.
#[derive(Debug)]
pub struct Rung {
    /// The waiter to wake.
    pub wake: Option<Wake>,
    /// True if [`Alarm::call`](crate::Alarm::call) is to follow.
    pub call: bool,
    /// When it rings again; `None` if it is over.
    pub again: Option<Moment>,
}

/// What the queue can do with a shared timer of which it has the node.
#[derive(Debug)]
pub(crate) struct Shared {
    /// `Alarm::ring`.
    pub(crate) ring: unsafe fn(NonNull<Node<What>>, Moment, Moment) -> Rung,
    /// Makes a reference beside the queue's.
    pub(crate) share: unsafe fn(NonNull<Node<What>>) -> Arc<dyn Call>,
    /// Makes the queue's reference the caller's.
    pub(crate) adopt: unsafe fn(NonNull<Node<What>>) -> Arc<dyn Call>,
}

/// A shared timer without its type.
pub(crate) trait Call: Send + Sync {
    /// # Safety
    /// `processor` is the processor of the calling worker.
    unsafe fn call(self: Arc<Self>, processor: *const Above);
    fn end(&self);
    fn stop(self: Arc<Self>);
    fn due(&self) -> u64;
    fn ring_now(self: Arc<Self>) -> bool;
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
pub(crate) struct State {
    pub(crate) queue: Queue<What>,
    /// M5: since when.
    pub(crate) closed: Option<u64>,
}

// SAFETY: M1 and M2: the pointers are followed under the lock only, and while their timers exist.
unsafe impl Send for State {}

/// What fired, to be seen to after unlocking.
#[derive(Default)]
pub(crate) struct Due {
    pub(crate) woken: Vec<Wake>,
    /// Those that are to be called.
    pub(crate) called: Vec<Arc<dyn Call>>,
    /// Those that are merely over.
    over: Vec<Arc<dyn Call>>,
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
    pub(crate) fn lock_shared(&self) -> (MutexGuard<'_, State>, bool) {
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

    pub(crate) fn push(&self, at: u64, node: &Node<What>) {
        let mut state = self.state.lock();
        state.queue.push(at, NonNull::from(node));
        self.publish(&state);
    }

    pub(crate) fn cancel(&self, node: &Node<What>) {
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

    pub(crate) fn publish(&self, state: &State) {
        let earliest = state.queue.earliest();
        // Relaxed: see `earliest`; who sets a timer from outside adds a fence.
        self.earliest.store(earliest, Ordering::Relaxed);
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
                    prefetch::lines(g.as_ptr().cast::<u8>().wrapping_add(prefetch::LINE), 2);
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
            prefetch::lines(node.as_ptr(), 1);
            // SAFETY: M2.
            let near = self.queue.ahead(WAITER_AHEAD).map(|node| unsafe { &node.as_ref().what });
            if let Some(What::Wait(parker)) = near {
                prefetch::lines(parker.as_ptr(), 1);
            }
        }
    }
}

/// The queue's reference to a shared timer, after it was taken out.
///
/// # Safety
/// It was taken out by the caller, and not by another before.
unsafe fn adopt(node: NonNull<Node<What>>) -> Option<Arc<dyn Call>> {
    // SAFETY: by the caller the reference is there, so the node is.
    match &unsafe { node.as_ref() }.what {
        What::Wait(_) => None,
        // SAFETY: as above, and the node is the first field of the type that `shared` was made for.
        What::Shared(shared) => Some(unsafe { (shared.adopt)(node) }),
    }
}
