//! What decides: the buffer, the two queues of waiters, and who gets which value.
//!
//! Called by `chan/mod.rs`, which suspends. Nothing of the user's (a `Drop`, a `Clone`) runs under the lock, and
//! nobody is woken under it: [`State`] moves values and gives the [`Wake`]s to its caller, who unlocks first.
//!
//! * **H1.** Receivers wait only while the buffer is empty and no sender waits; senders wait only while the buffer is
//!   full and no receiver waits.
//! * **H2.** Values come out in the order in which their sends took the lock: the buffer is older than the waiting
//!   senders, and a free place is filled by the first of them at once.
//! * **H3.** A value is in exactly one place: its sender's hands or slot, the buffer, its receiver's slot or hands. It
//!   moves under the lock, and moves back when a claim is lost.
//! * **H4.** Once `closed` is set, nobody waits and no value comes in.
//!
//! An unbounded channel is one with more capacity than there is memory; a select enqueues a waiter of its own in
//! each of its channels: both need nothing new here.

use crate::sync::lock;
use gorun_scheduler::{Stopper, WaitQueue, Waiter, Wake};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

/// The place in a waiter through which a value crosses from one stack to the other.
pub(super) type Slot<T> = Cell<Option<T>>;

pub(super) struct Core<T> {
    state: Mutex<State<T>>,
    pub(super) capacity: usize,
    senders: AtomicUsize,
    receivers: AtomicUsize,
}

/// What the lock guards.
pub(super) struct State<T> {
    buffer: VecDeque<T>,
    capacity: usize,
    sending: WaitQueue<Slot<T>>,
    receiving: WaitQueue<Slot<T>>,
    closed: bool,
    /// The timer that sends, if one does: it need not once nobody can receive.
    timer: Option<Stopper>,
}

/// What a send found.
#[must_use]
pub(super) enum Sent {
    /// The value is in the buffer, or with a receiver, who is to be woken.
    Done(Option<Wake>),
    /// There is no room; the value is where it was.
    Full,
    /// It is closed; the value is where it was.
    Closed,
}

/// What a receive found.
#[must_use]
pub(super) enum Received<T> {
    /// A value, and perhaps the sender who got rid of his by it.
    Value(T, Option<Wake>),
    /// Nothing now.
    Empty,
    /// Nothing, and nothing will come.
    Closed,
}

/// Buffers are not allocated for more than this ahead of need.
const AHEAD: usize = 1024;

impl<T> State<T> {
    /// Sends the value in `value`, if that needs no waiting.
    pub(super) fn send(&mut self, value: &Slot<T>) -> Sent {
        if self.closed {
            return Sent::Closed;
        }
        // H1: who receives waits for the oldest value, and the buffer is empty.
        let claimed = self.receiving.claim_next(|slot| slot.set(value.take()), |slot, ()| value.set(slot.take()));
        if let Some(((), wake)) = claimed {
            return Sent::Done(Some(wake));
        }
        if self.buffer.len() < self.capacity {
            self.buffer.extend(value.take());
            return Sent::Done(None);
        }
        Sent::Full
    }

    /// Receives a value, if that needs no waiting.
    pub(super) fn receive(&mut self) -> Received<T> {
        let State { buffer, sending, closed, .. } = self;
        let Some(value) = buffer.pop_front() else {
            // H1: the buffer is empty, so a sender waits only if there is no buffer.
            let direct = sending.claim_next(Cell::take, |slot, value| slot.set(value));
            return match direct {
                Some((value, wake)) => Received::Value(value.expect("H3: a waiting sender has its value"), Some(wake)),
                None if *closed => Received::Closed,
                None => Received::Empty,
            };
        };
        // H2: the first waiting sender's value takes the free place. It is in the buffer before the claim, as the
        // slot is gone after it.
        let buffer = RefCell::new(buffer);
        let moved = sending.claim_next(
            |slot| buffer.borrow_mut().extend(slot.take()),
            |slot, ()| slot.set(buffer.borrow_mut().pop_back()),
        );
        Received::Value(value, moved.map(|((), wake)| wake))
    }

    /// Lets a sender wait, with its value in the slot, after [`State::send`] said `Full` under the same lock.
    ///
    /// # Safety
    /// W2 for the waiter, which is armed.
    pub(super) unsafe fn wait_to_send(&mut self, waiter: &Waiter<Slot<T>>) {
        // SAFETY: by the caller.
        unsafe { self.sending.push_back(waiter) };
    }

    /// Lets a receiver wait, with its slot empty, after [`State::receive`] said `Empty` under the same lock.
    ///
    /// # Safety
    /// W2 for the waiter, which is armed.
    pub(super) unsafe fn wait_to_receive(&mut self, waiter: &Waiter<Slot<T>>) {
        // SAFETY: by the caller.
        unsafe { self.receiving.push_back(waiter) };
    }

    /// Takes out a sender whose wait ended otherwise than by a claim of this channel. Its value is in its slot.
    pub(super) fn give_up_send(&mut self, waiter: &Waiter<Slot<T>>) {
        // SAFETY: it is in this queue, or was taken out of it.
        let _was_in = unsafe { self.sending.remove(waiter) };
    }

    /// Takes out a receiver whose wait ended otherwise than by a claim of this channel. Its slot is empty.
    pub(super) fn give_up_receive(&mut self, waiter: &Waiter<Slot<T>>) {
        // SAFETY: it is in this queue, or was taken out of it.
        let _was_in = unsafe { self.receiving.remove(waiter) };
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }
}

impl<T> Core<T> {
    pub(super) fn new(capacity: usize) -> Core<T> {
        Core {
            state: Mutex::new(State {
                buffer: VecDeque::with_capacity(capacity.min(AHEAD)),
                capacity,
                sending: WaitQueue::new(),
                receiving: WaitQueue::new(),
                closed: false,
                timer: None,
            }),
            capacity,
            senders: AtomicUsize::new(1),
            receivers: AtomicUsize::new(1),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State<T>> {
        lock(&self.state)
    }

    /// `timer` sends here, and is stopped when the last receiver goes.
    pub(super) fn set_timer(&self, timer: Stopper) {
        self.lock().timer = Some(timer);
    }

    /// H4. Waiters find their slots as they were: senders their value, receivers nothing.
    pub(super) fn close(&self) {
        let mut woken: Vec<Wake> = Vec::new();
        {
            let mut state = self.lock();
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

    pub(super) fn add_sender(&self) {
        // Relaxed, here and below: whoever has a handle may make another, as in Arc. The Arc's own count, which is
        // never smaller, aborts before these overflow.
        self.senders.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_receiver(&self) {
        self.receivers.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn drop_sender(&self) {
        // AcqRel: pairs with itself in the other handles' drops: all their sends come before the close.
        if self.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.close();
        }
    }

    pub(super) fn drop_receiver(&self) {
        // AcqRel: as above.
        if self.receivers.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.close();
            // Nobody can receive them any more, and none can come (H4). Dropped outside the lock; a `Drop` that
            // panics keeps none of the others from being dropped, as in any `VecDeque`.
            let (unreceived, timer) = {
                let mut state = self.lock();
                (std::mem::take(&mut state.buffer), state.timer.take())
            };
            if let Some(timer) = timer {
                timer.stop();
            }
            drop(unreceived);
        }
    }
}
