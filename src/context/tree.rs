//! The tree of what can be canceled: a node for each context that was derived with a cancel function.
//!
//! A node knows its parent, which it keeps, and what hangs below it (`children`), which it does not keep. Each node has
//! a lock of its own, for a few lines.
//!
//! * **T1.** A node ends once: the first to set `ended`, under its lock, also closes its channel, under the same lock, and
//!   wakes those who waited there, later. A reader that finds `ended` with [`CLOSING`] passes the lock before it returns.
//!   So an error implies a closed channel, and a closed channel an error.
//! * **T2.** Something is added below a node only under the node's lock and only while the node has not ended.
//! * **T3.** No two nodes' locks are held at once, and under none of them anything of a user's is dropped, anybody woken
//!   or a timer set. (A user's closures hang in `children`: what is taken out there is dropped after unlocking.) A
//!   channel's lock is taken under a node's, and never the other way round.
//! * **T4.** Nothing here calls itself along the tree, whose depth the stack need not have.
//! * **T5.** The entries below a node that has ended are taken out only by a thread that has ended all nodes below. So a
//!   thread that comes to a node that another has ended still finds there every node that may be alive, and ends it too.
//!
//! A cancel goes through the tree twice. First it ends all nodes below, including those below nodes that others have ended
//! (T5); no user code runs meanwhile. After that, nothing below is alive, and it takes the tables away, stops timers, calls
//! functions, and wakes the waiters, whose wakers are user code.
//!
//! # The bad interleavings
//!
//! * A child is made while its parent ends. T2: it is in the table and is found there, or it sees the end and ends.
//! * The channel is asked for while the node ends: it is made under the lock, closed if `ended` is set; ending the node
//!   sets `ended` and looks for the channel under the same lock.
//! * A child is dropped while its parent ends: the parent has a weak reference, which it can turn into a strong one or
//!   can't; in the first case the child ends and is dropped by the parent's canceler, in the second nobody has it.
//! * The deadline passes while its timer is being set up: see [`Node::end_at`].
//! * A deadline ends a node in the middle and is held up; a cancel from above comes, finds the node ended, and returns while
//!   what is below lives on. Not with T5: the node has its table still.
//! * A cancel of the root wakes a waker that cancels the root, which has ended: that second cancel returns at once, and may
//!   rely on what the first has not got to yet. Hence no waiter is woken before all nodes have ended.

use super::children::{self, Place};
use super::error::{Cause, ContextError};
use crate::chan::{Closing, Receiver, Sender, channel_of_library};
use crate::sync::shim::{AtomicU8, Mutex, Ordering, lock};
use crate::time::{FuncTimer, WeakFuncTimer};
use gorun_scheduler::{contained, drop_contained};
use std::convert::Infallible;
use std::error::Error;
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Instant;

type Child = children::Child<Node>;
type Children = children::Children<Node>;

/// What a done channel carries: nothing, ever.
pub(super) type Done = Infallible;

const ALIVE: u8 = 0;
const CANCELED: u8 = 1;
const DEADLINE_EXCEEDED: u8 = 2;
/// T1: set together with one of those two, until the channel is closed.
const CLOSING: u8 = 4;

pub(super) struct Node {
    parent: Option<Arc<Node>>,
    deadline: Option<Instant>,
    /// Written under the lock (T1).
    ended: AtomicU8,
    state: Mutex<State>,
    done: OnceLock<(Sender<Done>, Receiver<Done>)>,
}

#[derive(Default)]
struct State {
    /// If another than the error itself.
    cause: Option<Cause>,
    children: Children,
    /// Not kept: the timer keeps the node as long as it is pending.
    timer: Option<WeakFuncTimer>,
    /// Where this node is below its parent.
    place: Option<Place>,
}

/// The cause of the end of a context whose deadline can no longer pass.
const LOST: &str = "the runtime that kept the context's deadline has ended";

/// A node that must still be ended, and the reason.
type ToEnd = (Arc<Node>, ContextError, Option<Cause>);

/// What remains to be done, without a lock, for a node that has ended, after all nodes below have ended.
struct Duty {
    node: Arc<Node>,
    closing: Option<Closing>,
    timer: Option<WeakFuncTimer>,
    children: Children,
}

impl Duty {
    /// Each step may run a user's code that panics (a waker, or the drop of a function or of a cause), and keeps none of the
    /// others from being taken. Those who wait come first: nobody else would wake them, as the channel is closed already.
    fn fulfil(self) {
        let Duty { node, closing, timer, children } = self;
        if let (Some(closing), Some((sender, _))) = (closing, node.done.get()) {
            contained(|| sender.core.finish_close(closing));
        }
        for child in children.into_all() {
            contained(move || match child {
                Child::Func(func) => _ = func.set(Instant::now()),
                Child::Node(_) | Child::Held(_) => {}
            });
        }
        if let Some(timer) = timer {
            contained(|| timer.stop());
        }
        drop_contained(node);
    }
}

impl Node {
    /// A node below `parent`, with `deadline` if that is earlier than the parent's.
    pub(super) fn child(parent: Option<&Arc<Node>>, deadline: Option<Instant>) -> Arc<Node> {
        let deadline = deadline.or_else(|| parent.and_then(|p| p.deadline));
        let node = Arc::new(Node {
            parent: parent.cloned(),
            deadline,
            ended: AtomicU8::new(ALIVE),
            state: Mutex::default(),
            done: OnceLock::new(),
        });
        if let Some(parent) = parent {
            match parent.add(Child::Node(Arc::downgrade(&node))) {
                // Nobody else has the node yet but the parent, who does not look at its place.
                Ok(place) => lock(&node.state).place = Some(place),
                Err(_ended) => {
                    if let Some(error) = parent.error() {
                        node.cancel(error, lock(&parent.state).cause.clone());
                    }
                }
            }
        }
        node
    }

    /// T2; the child comes back if the node has ended.
    fn add(&self, child: Child) -> Result<Place, Child> {
        let mut state = lock(&self.state);
        if self.error().is_some() { Err(child) } else { Ok(state.children.add(child)) }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(super) fn error(&self) -> Option<ContextError> {
        // Acquire: pairs with the Release in `end`: what came before the cancel.
        let ended = self.ended.load(Ordering::Acquire);
        if ended & CLOSING != 0 {
            // T1. Not under our own lock: who has that sees no CLOSING.
            drop(lock(&self.state));
        }
        match ended & !CLOSING {
            ALIVE => None,
            CANCELED => Some(ContextError::Canceled),
            _ => Some(ContextError::DeadlineExceeded),
        }
    }

    pub(super) fn cause(&self) -> Option<Cause> {
        let state = lock(&self.state);
        let error = self.error()?;
        Some(state.cause.clone().unwrap_or_else(|| Arc::new(error)))
    }

    pub(super) fn done(&self) -> &Receiver<Done> {
        if let Some((_, done)) = self.done.get() {
            return done;
        }
        // The lock is for the order with `end`, see above.
        let _state = lock(&self.state);
        let (_, done) = self.done.get_or_init(|| {
            let (sender, receiver) = channel_of_library(0);
            if self.error().is_some() {
                // Nobody waits in it yet.
                sender.close();
            }
            (sender, receiver)
        });
        done
    }

    /// Ends this node and all nodes below it before it returns, even if other threads are ending some of them.
    pub(super) fn cancel(self: &Arc<Node>, error: ContextError, cause: Option<Cause>) {
        // Dropped last, as that may panic: `end` has no use for it where another has ended the node.
        let _last = cause.clone();
        // T4: what is still to be ended is in a list and not on the stack.
        let mut left = Vec::new();
        let mut duties = Vec::new();
        let mut next = Some((self.clone(), error, cause));
        while let Some((node, error, cause)) = next {
            duties.extend(node.end(error, cause, &mut left));
            next = left.pop();
        }
        // All have ended. T5: nobody needs their tables any more.
        for duty in &mut duties {
            duty.children = std::mem::take(&mut lock(&duty.node.state).children);
        }
        if !duties.is_empty() {
            self.leave();
        }
        duties.into_iter().for_each(Duty::fulfil);
    }

    /// T1. Puts the nodes below into `left`, to be ended for the same reason as this node. Returns `None` if another thread
    /// has ended it and nothing below may be alive.
    fn end(self: Arc<Node>, error: ContextError, cause: Option<Cause>, left: &mut Vec<ToEnd>) -> Option<Duty> {
        let (closing, timer) = {
            let mut state = lock(&self.state);
            let (error, closing, timer) = match self.error() {
                // T5. Of the two reasons it is that node's that counts below.
                Some(_) if state.children.is_empty() => return None,
                Some(error) => (error, None, None),
                None => {
                    state.cause = cause;
                    let ended = match error {
                        ContextError::Canceled => CANCELED,
                        ContextError::DeadlineExceeded => DEADLINE_EXCEEDED,
                    };
                    // Release, twice: pairs with `error`. Who sees the channel closed sees one of the two.
                    self.ended.store(ended | CLOSING, Ordering::Release);
                    let closing = self.done.get().map(|(sender, _)| sender.core.begin_close());
                    self.ended.store(ended, Ordering::Release);
                    (error, closing, state.timer.take())
                }
            };
            left.extend(state.children.nodes().map(|node| (node, error, state.cause.clone())));
            (closing, timer)
        };
        Some(Duty { node: self, closing, timer, children: Children::default() })
    }

    /// Sets the timer for the deadline. By the one who has just made the node.
    #[track_caller]
    pub(super) fn end_at(self: &Arc<Node>, deadline: Instant, cause: Option<Cause>) {
        if self.error().is_some() {
            return;
        }
        if deadline <= Instant::now() {
            return self.cancel(ContextError::DeadlineExceeded, cause);
        }
        let (node, unable) = (self.clone(), self.clone());
        let timer = FuncTimer::or_at_the_end(
            move || node.cancel(ContextError::DeadlineExceeded, cause.clone()),
            // Nobody else would end it, and those who wait would wait for ever.
            move || unable.cancel(ContextError::Canceled, Some(Arc::from(Box::<dyn Error + Send + Sync>::from(LOST)))),
        );
        timer.set(deadline);
        // The node may have ended since, by its parent or by this very timer: then nobody has found the timer here.
        let ended = {
            let mut state = lock(&self.state);
            state.timer = Some(timer.downgrade());
            self.error().is_some()
        };
        if ended {
            timer.stop();
        }
    }

    /// In the child of a fork: lets the deadlines of before hold there, this node's and those above it. What other threads of
    /// the parent were about to do at the fork is not done here.
    #[cold]
    #[track_caller]
    pub(super) fn renew_deadlines(&self) {
        let mut next = Some(self);
        while let Some(node) = next {
            let parents = {
                let state = lock(&node.state);
                let timer = state.timer.as_ref().filter(|_| node.error().is_none());
                timer.and_then(WeakFuncTimer::upgrade).filter(FuncTimer::is_parents)
            };
            if let (Some(timer), Some(deadline)) = (parents, node.deadline) {
                let timer = timer.renew_deadline();
                // As in `end_at`.
                let ended = {
                    let mut state = lock(&node.state);
                    state.timer = Some(timer.downgrade());
                    node.error().is_some()
                };
                if !ended {
                    timer.set(deadline);
                }
            }
            next = node.parent.as_deref();
        }
    }

    /// Has `f` called when the node ends, or now if it has. Where it hangs; `None` if it is being called.
    #[track_caller]
    pub(super) fn call_after(&self, f: impl FnOnce() + Send + 'static) -> Option<Place> {
        let once = Mutex::new(Some(f));
        let func = FuncTimer::new(move || {
            let f = once.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(f) = f {
                f();
            }
        });
        match self.add(Child::Func(func)) {
            Ok(place) => Some(place),
            Err(Child::Func(func)) => {
                func.set(Instant::now());
                None
            }
            Err(_) => unreachable!("what comes back is what was given"),
        }
    }

    /// Takes out what [`Node::call_after`] put there. `false` if it is not there any more.
    pub(super) fn take_back(&self, place: Place) -> bool {
        let func = lock(&self.state).children.remove(place);
        func.is_some()
    }

    /// Lets the parent keep the node until it ends, though nobody else may.
    pub(super) fn hold(self: &Arc<Node>) {
        if let (Some(parent), Some(place)) = (&self.parent, self.place()) {
            let replaced = lock(&parent.state).children.replace(place, Child::Held(self.clone()));
            drop(replaced);
        }
    }

    fn place(&self) -> Option<Place> {
        lock(&self.state).place
    }

    /// Takes the node out of its parent's table.
    fn leave(&self) {
        if let (Some(parent), Some(place)) = (&self.parent, self.place()) {
            let us = lock(&parent.state).children.remove(place);
            drop(us);
        }
    }
}

impl Drop for Node {
    /// T4: the parents that go with us go one after the other.
    fn drop(&mut self) {
        let mut next = self.release();
        while let Some(parent) = next {
            next = Arc::into_inner(parent).and_then(|mut parent| parent.release());
        }
    }
}

impl Node {
    /// Leaves the parent and gives it away.
    fn release(&mut self) -> Option<Arc<Node>> {
        if self.error().is_none() {
            self.leave();
        }
        self.parent.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Weak;
    use std::time::Duration;

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(3600)
    }

    /// A node with a deadline, and a way to see that it is gone.
    fn timed(parent: &Arc<Node>) -> (Arc<Node>, Weak<Node>) {
        let node = Node::child(Some(parent), Some(later()));
        node.end_at(later(), None);
        let weak = Arc::downgrade(&node);
        (node, weak)
    }

    #[test]
    fn who_has_ended_or_gone_leaves_nothing_behind() {
        let parent = Node::child(None, None);
        let (ended, gone) = timed(&parent);
        ended.cancel(ContextError::Canceled, None);
        assert!(lock(&parent.state).children.is_empty(), "not in the table");
        drop(ended);
        assert!(gone.upgrade().is_none(), "no timer keeps it");
        let plain = Node::child(Some(&parent), None);
        assert!(!lock(&parent.state).children.is_empty());
        drop(plain);
        assert!(lock(&parent.state).children.is_empty());
        let held = Node::child(Some(&parent), None);
        held.hold();
        let weak = Arc::downgrade(&held);
        drop(held);
        assert!(weak.upgrade().is_some(), "the parent keeps it");
        parent.cancel(ContextError::Canceled, None);
        assert!(weak.upgrade().is_none());
        let (late, gone) = timed(&parent);
        assert_eq!(late.error(), Some(ContextError::Canceled));
        drop(late);
        assert!(gone.upgrade().is_none());
    }

    #[test]
    fn a_pending_deadline_keeps_its_node() {
        let parent = Node::child(None, None);
        let (node, weak) = timed(&parent);
        drop(node);
        assert!(weak.upgrade().is_some());
        parent.cancel(ContextError::Canceled, None);
        assert!(weak.upgrade().is_none());
    }

    /// The parent ends at some moment while the child's deadline is set up: nothing keeps the child afterwards.
    #[test]
    fn deadlines_are_set_up_while_the_parent_ends() {
        for round in 0..3000 {
            let parent = Node::child(None, None);
            let ready = std::sync::Barrier::new(2);
            let gone = std::thread::scope(|s| {
                s.spawn(|| {
                    ready.wait();
                    (0..round % 300).for_each(|_| std::hint::spin_loop());
                    parent.cancel(ContextError::Canceled, None);
                });
                ready.wait();
                timed(&parent).1
            });
            assert!(gone.upgrade().is_none(), "round {round}");
        }
    }
}

#[cfg(all(test, loom))]
#[expect(unsafe_code, reason = "loom's cells")]
mod models;
