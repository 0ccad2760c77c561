//! What decides: the buffer, the two queues of waiters, and who gets which value.
//!
//! Called by `chan/mod.rs`, which suspends. Nothing of the user's (a `Drop`, a `Clone`) runs under the lock, and
//! nobody is woken under it.
//!
//! * **H1.** Receivers wait only while the buffer is empty and no sender waits; senders wait only while the buffer is
//!   full and no receiver waits.
//! * **H2.** Values come out in the order in which their sends took the lock: the buffer is older than the waiting
//!   senders, and a free place is filled by the first of them at once.
//! * **H3.** A value is in exactly one place: its sender's hands or slot, the buffer, its receiver's slot or hands. It
//!   moves under the lock, and moves back when a claim is lost.
//! * **H4.** Once `closed` is set, nobody waits and no value comes in.

use crate::sync::lock;
use gorun_scheduler::{WaitQueue, Waiter, Wake};
use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The place in a waiter through which a value crosses from one stack to the other.
pub(super) type Slot<T> = Cell<Option<T>>;

pub(super) struct Core<T> {
    state: Mutex<State<T>>,
    pub(super) capacity: usize,
    senders: AtomicUsize,
    receivers: AtomicUsize,
}

struct State<T> {
    buffer: VecDeque<T>,
    sending: WaitQueue<Slot<T>>,
    receiving: WaitQueue<Slot<T>>,
    closed: bool,
}

/// What a send found.
#[must_use]
pub(super) enum Sent<T> {
    /// In the buffer, or with a receiver, who is to be woken.
    Done(Option<Wake>),
    /// No room, and no waiter to enqueue.
    Full(T),
    /// No room: the waiter is in the queue, with the value.
    Waiting,
    Closed(T),
}

/// What a receive found.
#[must_use]
pub(super) enum Received<T> {
    /// A value, and perhaps the sender whose value took its place.
    Value(T, Option<Wake>),
    /// Nothing yet: the waiter is in the queue, if there was one to enqueue.
    Empty,
    Closed,
}

/// Buffers are not allocated for more than this ahead of need.
const AHEAD: usize = 1024;

impl<T> Core<T> {
    pub(super) fn new(capacity: usize) -> Core<T> {
        Core {
            state: Mutex::new(State {
                buffer: VecDeque::with_capacity(capacity.min(AHEAD)),
                sending: WaitQueue::new(),
                receiving: WaitQueue::new(),
                closed: false,
            }),
            capacity,
            senders: AtomicUsize::new(1),
            receivers: AtomicUsize::new(1),
        }
    }

    /// Sends `value`, or enqueues `waiter` with it.
    ///
    /// # Safety
    /// W2 for the waiter, if there is one; `before_queue` arms its blocker.
    pub(super) unsafe fn send(&self, value: T, waiter: Option<&Waiter<Slot<T>>>, arm: impl FnOnce()) -> Sent<T> {
        let value = Cell::new(Some(value));
        let taken = || value.take().expect("H3");
        let mut state = lock(&self.state);
        if state.closed {
            return Sent::Closed(taken());
        }
        // H1: who receives waits for the oldest value, and the buffer is empty.
        let claimed = state.receiving.claim_next(|slot| slot.set(value.take()), |slot, ()| value.set(slot.take()));
        if let Some(((), wake)) = claimed {
            return Sent::Done(Some(wake));
        }
        if state.buffer.len() < self.capacity {
            state.buffer.push_back(taken());
            return Sent::Done(None);
        }
        let Some(waiter) = waiter else { return Sent::Full(taken()) };
        waiter.slot.set(value.take());
        arm();
        // SAFETY: by the caller.
        unsafe { state.sending.push_back(waiter) };
        Sent::Waiting
    }

    /// Receives a value, or enqueues `waiter` for one.
    ///
    /// # Safety
    /// As [`Core::send`].
    pub(super) unsafe fn receive(&self, waiter: Option<&Waiter<Slot<T>>>, arm: impl FnOnce()) -> Received<T> {
        let mut state = lock(&self.state);
        let State { buffer, sending, receiving, closed } = &mut *state;
        if let Some(value) = buffer.pop_front() {
            // H2: the first waiting sender's value takes the free place.
            let buffer = std::cell::RefCell::new(buffer);
            let moved = sending.claim_next(
                |slot| buffer.borrow_mut().push_back(slot.take().expect("H3")),
                |slot, ()| slot.set(buffer.borrow_mut().pop_back()),
            );
            return Received::Value(value, moved.map(|((), wake)| wake));
        }
        let direct = sending.claim_next(|slot| slot.take().expect("H3"), |slot, value| slot.set(Some(value)));
        if let Some((value, wake)) = direct {
            return Received::Value(value, Some(wake));
        }
        if *closed {
            return Received::Closed;
        }
        if let Some(waiter) = waiter {
            arm();
            // SAFETY: by the caller.
            unsafe { receiving.push_back(waiter) };
        }
        Received::Empty
    }

    /// A sender's wait ended otherwise than by a claim of ours.
    pub(super) fn give_up_send(&self, waiter: &Waiter<Slot<T>>) {
        // SAFETY: it is in this queue, or was taken out of it.
        let _was_in = unsafe { lock(&self.state).sending.remove(waiter) };
    }

    /// A receiver's wait ended otherwise than by a claim of ours.
    pub(super) fn give_up_receive(&self, waiter: &Waiter<Slot<T>>) {
        // SAFETY: as above.
        let _was_in = unsafe { lock(&self.state).receiving.remove(waiter) };
    }

    /// H4. Waiters find their slots as they were: senders their value, receivers nothing.
    pub(super) fn close(&self) {
        let mut woken: Vec<Wake> = Vec::new();
        {
            let mut state = lock(&self.state);
            if std::mem::replace(&mut state.closed, true) {
                return;
            }
            while let Some(((), wake)) = state.sending.claim_next(|_| (), |_, ()| ()) {
                woken.push(wake);
            }
            while let Some(((), wake)) = state.receiving.claim_next(|_| (), |_, ()| ()) {
                woken.push(wake);
            }
        }
        woken.into_iter().for_each(Wake::wake);
    }

    pub(super) fn is_closed(&self) -> bool {
        lock(&self.state).closed
    }

    pub(super) fn len(&self) -> usize {
        lock(&self.state).buffer.len()
    }

    pub(super) fn add_sender(&self) {
        // Relaxed, here and below: whoever has a handle may make another, as in Arc.
        self.senders.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_receiver(&self) {
        self.receivers.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn drop_sender(&self) {
        // AcqRel: all sends of other handles come before the close.
        if self.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.close();
        }
    }

    pub(super) fn drop_receiver(&self) {
        // AcqRel: as above.
        if self.receivers.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.close();
            // Nobody can receive them any more: dropped now, outside the lock.
            let unreceived = std::mem::take(&mut lock(&self.state).buffer);
            drop(unreceived);
        }
    }
}
