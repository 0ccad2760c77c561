//! What decides: the buffer, the queues of waiters, and who gets which value.
//!
//! Called by the operations in `sender`, `receiver`, `future` and `select`, all under the lock in `core`. Nothing of the
//! user's (a `Drop`, a `Clone`) runs here, and nobody is woken here: values are moved, and the [`Wake`]s go to the
//! caller, who unlocks first.
//!
//! * **H1.** Receivers wait only while the buffer is empty and no sender waits; senders wait only while there is no
//!   room and no receiver waits. (The waiters of one and the same select don't count: it may wait on both sides.)
//! * **H2.** Values come out in the order in which their sends took the lock: the buffer is older than the waiting
//!   senders, and a free place is filled by the first of them at once. A send that a select has chosen is sent when it
//!   is completed, and not before.
//! * **H3.** A value is in exactly one place: its sender's hands or slot, the buffer, its receiver's slot or hands. It
//!   moves under the lock, and moves back when a claim is lost.
//! * **H4.** Once `closed` is set, nobody begins to wait, and those who wait are served by the close alone: it takes them
//!   out one after the other, and lets go of the lock in between. No value comes in, except one that comes back
//!   ([`State::put_back`]).
//! * **H5.** `committed ≤ permits`, and `buffer.len() + permits - committed ≤ capacity`, values that came back aside.
//!
//! # Permits and promises
//!
//! The value of a select's send arm is made after the arm was chosen, so that an untaken arm has no effect. Choosing it
//! therefore gives the select a *permit*, and the value follows (or does not: user code makes it, which may panic):
//!
//! ```text
//!  there is room            permits += 1: the place is taken
//!  a receiver waits         permits += 1, and the receiver is claimed with the token "promised", and woken: it is committed
//!                           to this channel, and sits in `awaiting` until somebody with a permit brings a value
//!  a receiver comes later   and finds the waiting send arm: claims it with "promised" (the permit), commits itself
//! ```
//!
//! A permit is not tied to the receiver for whose sake it was given: `complete` serves the first that awaits, `cancel`
//! turns one away if there are now more of them than permits, and that one begins anew. So who holds a permit points to
//! nobody's stack, and may even be forgotten.
//!
//! The bad interleaving if a promised receiver could time out, or choose another arm, at any moment: it leaves, the value
//! comes, and an unbuffered send has succeeded without a receive. Hence a commitment is a claim, and the wait for the value
//! a shielded one. But the value is made by users' code, which may take for ever, and a receiver's deadline, its abort and
//! its other arms count for something too. So it waits with *patience* (`patience` in `core`) only: most values are there before it
//! looks. Then it leaves `awaiting`, without its permit, and begins anew: it waits as if it had just come, for all that it
//! waited for before. The value, once it is made, goes to the first receiver that waits; if none does it stays in the channel
//! for the next one, beyond the capacity if need be. (So do the values of futures that are dropped: `put_back`.)

use super::slot::{Slot, fill};
#[cfg(doc)]
use super::token::patience;
use super::token::promise;
use gorun_scheduler::{WaitQueue, Waiter, Wake};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

/// What the lock guards.
pub(crate) struct State<T> {
    buffer: VecDeque<T>,
    capacity: usize,
    permits: usize,
    committed: usize,
    closed: bool,
    /// It is a timer's: those who receive look at the time first, so it is never plain.
    timed: bool,
    pub(super) sending: WaitQueue<Slot<T>>,
    receiving: WaitQueue<Slot<T>>,
    /// The committed receivers. Their claims are nobody's but ours.
    awaiting: WaitQueue<Slot<T>>,
    /// Watchers: selects that want to know when a send, or a receive, would not have to wait. Their slots are not used.
    pub(super) watching: [WaitQueue<Slot<T>>; 2],
}

/// The two sides of a channel, as indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Send = 0,
    Receive = 1,
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

/// What a send that has no value yet found.
#[must_use]
pub(crate) enum Offered {
    /// A permit: [`State::complete`] or [`State::cancel`] must follow. And perhaps a receiver, who is to be woken.
    Permit(Option<Wake>),
    Full,
    Closed,
}

/// What a receive found. A value lies where the receiver wants it: it is not passed up from call to call, each of which
/// would have room for it in its frame.
#[must_use]
pub(crate) enum Received {
    /// A value; and the sender that it came from, or whose value has moved up.
    Value(Option<Wake>),
    /// A select that will send, and is to be woken. The caller must commit itself under the same lock
    /// ([`State::wait_for_promised`]).
    Promised(Wake),
    /// Nothing now.
    Empty,
    /// Nothing, and nothing will come.
    Closed,
}

/// The capacity of an unbounded channel.
const UNBOUNDED: usize = usize::MAX;

impl<T> State<T> {
    /// Values for which a buffer has room ahead of need, and keeps it when it is empty: 1,024, or 64 KiB if that is less.
    const AHEAD: usize = match size_of::<T>() {
        0..=64 => 1024,
        4096.. => 16,
        size => 65536 / size,
    };

    pub(super) fn new(capacity: usize, timed: bool) -> State<T> {
        State {
            buffer: VecDeque::with_capacity(if capacity == UNBOUNDED { 0 } else { capacity.min(Self::AHEAD) }),
            capacity,
            permits: 0,
            committed: 0,
            closed: false,
            timed,
            sending: WaitQueue::new(),
            receiving: WaitQueue::new(),
            awaiting: WaitQueue::new(),
            watching: [WaitQueue::new(), WaitQueue::new()],
        }
    }

    /// Nobody in any queue, no permit out, not closed, and no timer's.
    #[inline(always)]
    pub(super) fn is_quiet(&self) -> bool {
        // Who is in `awaiting` is committed, hence permitted.
        self.sending.is_empty()
            && self.receiving.is_empty()
            && !self.is_watched()
            && self.permits | self.committed | usize::from(self.closed | self.timed) == 0
    }

    /// Nobody watches, no permit is out, it is open, and no timer's. (Who is committed is permitted.)
    #[inline(always)]
    pub(super) fn is_plain(&self) -> bool {
        !self.is_watched() && self.permits | usize::from(self.closed | self.timed) == 0
    }

    /// Two answers: somebody waits to send; somebody waits to receive.
    #[inline(always)]
    pub(super) fn waited_for(&self) -> (bool, bool) {
        (!self.sending.is_empty(), !self.receiving.is_empty())
    }

    #[inline(always)]
    pub(super) fn is_watched(&self) -> bool {
        let [send, receive] = &self.watching;
        !send.is_empty() || !receive.is_empty()
    }

    /// Of a plain channel.
    #[inline(always)]
    pub(super) fn buffer_has_room(&self) -> bool {
        self.buffer.len() < self.capacity
    }

    /// Of a quiet channel, with room.
    #[inline(always)]
    pub(super) fn push(&mut self, value: T) {
        self.buffer.push_back(value);
    }

    /// The oldest value in the buffer. Of a quiet channel, or with what follows from it done by the caller.
    #[inline(always)]
    pub(super) fn pop(&mut self) -> Option<T> {
        let value = self.buffer.pop_front();
        if self.buffer.is_empty() && self.buffer.capacity() > Self::AHEAD {
            self.shrink();
        }
        value
    }

    /// Gives back the memory of a backlog that is gone. An unbounded channel gives back all of it, a bounded one half each time
    /// it is empty: one that is filled again and again then copies each value once more at most.
    #[cold]
    #[inline(never)]
    fn shrink(&mut self) {
        let least = if self.capacity == UNBOUNDED { 0 } else { self.buffer.capacity() / 2 };
        self.buffer.shrink_to(least.max(Self::AHEAD));
    }

    #[inline(always)]
    fn has_room(&self) -> bool {
        self.buffer.len() + (self.permits - self.committed) < self.capacity
    }

    /// H1: who receives waits for the oldest value, and the buffer is empty.
    #[inline]
    fn hand_over(&mut self, value: &Cell<Option<T>>) -> Option<Wake> {
        self.receiving
            .claim_next(|slot| fill(&slot.value, value.take()), |slot, ()| fill(value, slot.take()))
            .map(|((), wake)| wake)
    }

    /// The same, to a goroutine that is parked; of a plain channel.
    #[inline(always)]
    pub(super) fn hand_over_to_parked(&mut self, value: &Cell<Option<T>>) -> Option<Wake> {
        let give = |slot: &Slot<T>| {
            fill(&slot.value, value.take());
            Some(())
        };
        self.receiving.claim_parked(give, |slot, ()| fill(value, slot.take())).map(|((), wake)| wake)
    }

    /// A value from a goroutine that is parked in its send; of a plain channel. Not if there is an older one in the buffer.
    #[inline(always)]
    pub(super) fn receive_from_parked(&mut self, to: &Cell<Option<T>>) -> Option<Wake> {
        if !self.buffer.is_empty() {
            return None;
        }
        let taken = self.sending.claim_parked(
            |slot| {
                // An offer has no value yet: that is not for here.
                (!slot.offer).then(|| fill(to, slot.take()))
            },
            |slot, ()| fill(&slot.value, to.take()),
        );
        taken.map(|((), wake)| wake)
    }

    /// Sends the value in `value`, if that needs no waiting.
    #[inline]
    pub(super) fn send(&mut self, value: &Cell<Option<T>>) -> Sent {
        if self.closed {
            return Sent::Closed;
        }
        if let Some(wake) = self.hand_over(value) {
            return Sent::Done(Some(wake));
        }
        if self.has_room() {
            if let Some(value) = value.take() {
                self.buffer.push_back(value);
            }
            return Sent::Done(None);
        }
        Sent::Full
    }

    /// Returns true if there is nothing to receive, and the channel is open.
    #[inline]
    pub(super) fn has_nothing(&self) -> bool {
        self.buffer.is_empty() && !self.closed && self.sending.is_empty()
    }

    /// Receives a value into `to`, which is empty, if that needs no waiting.
    #[inline(always)]
    pub(crate) fn receive(&mut self, to: &Cell<Option<T>>) -> Received {
        if !self.buffer.is_empty() {
            fill(to, self.pop());
            return Received::Value(self.admit());
        }
        if self.closed {
            return Received::Closed;
        }
        let taken = self.sending.claim_next_as(
            |slot, token| {
                fill(to, slot.take());
                (!slot.offer, if slot.offer { promise(token) } else { token })
            },
            |slot, _| fill(&slot.value, to.take()),
        );
        match taken {
            Some((true, wake)) => Received::Value(Some(wake)),
            Some((false, wake)) => {
                self.permits += 1;
                Received::Promised(wake)
            }
            None => Received::Empty,
        }
    }

    /// H2: gives the place that may have become free to the first waiting sender.
    #[inline]
    fn admit(&mut self) -> Option<Wake> {
        if self.sending.is_empty() || self.closed || !self.has_room() {
            return None;
        }
        // The value is in the buffer before the claim, as the slot is gone after it.
        let buffer = RefCell::new(&mut self.buffer);
        let admitted = self.sending.claim_next_as(
            |slot, token| {
                if slot.offer {
                    return (true, promise(token));
                }
                buffer.borrow_mut().extend(slot.take());
                (false, token)
            },
            |slot, offer| {
                if !offer {
                    slot.value.set(buffer.borrow_mut().pop_back());
                }
            },
        );
        admitted.map(|(offer, wake)| {
            self.permits += usize::from(offer);
            wake
        })
    }

    /// Chooses a send whose value is still to be made, if that needs no waiting.
    pub(crate) fn offer(&mut self) -> Offered {
        if self.closed {
            return Offered::Closed;
        }
        if self.has_room() {
            self.permits += 1;
            return Offered::Permit(None);
        }
        let State { receiving, awaiting, .. } = self;
        let woken = Cell::new(None);
        let keep = |slot: &Slot<T>, wake: Wake| if wake.is_task() { &slot.due } else { &woken }.set(Some(wake));
        // SAFETY: on "promised", every receiver takes the lock again, and leaves `awaiting` before its operation ends
        // (`Core::await_promise`, the futures' drop).
        if unsafe { receiving.claim_next_into(awaiting, promise, keep) } {
            self.permits += 1;
            self.committed += 1;
            return Offered::Permit(woken.take());
        }
        Offered::Full
    }

    /// Ends a promise: the first committed receiver gets `value`, or, with none, is sent back to the beginning.
    fn keep_promise(&mut self, value: &Cell<Option<T>>) -> Option<Wake> {
        let ((due, ()), woken) = self.awaiting.take_first(|slot| (slot.due.take(), fill(&slot.value, value.take())))?;
        self.committed -= 1;
        // It does not wait if it has not got round to it since it was woken: then it will find that it is not in the
        // queue. Nor if it has lost its patience: it finds the same.
        woken.or(due)
    }

    /// Sends `value` with a permit. It stays where it is when the channel was closed meanwhile. Somebody is to be woken in
    /// both cases.
    pub(super) fn complete(&mut self, value: &Cell<Option<T>>) -> Option<Wake> {
        if self.closed {
            // The close may still be at work on those who are committed; H5 holds in between too.
            return self.cancel();
        }
        self.permits -= 1;
        if self.committed > 0 {
            return self.keep_promise(value);
        }
        let wake = self.hand_over(value);
        if let Some(value) = value.take() {
            self.buffer.push_back(value);
        }
        wake
    }

    /// Gives a permit back.
    pub(super) fn cancel(&mut self) -> Option<Wake> {
        self.permits -= 1;
        if self.committed > self.permits { self.keep_promise(&Cell::new(None)) } else { self.admit() }
    }

    /// Takes back a value whose receiver went away after it had got it: it is the oldest.
    pub(crate) fn put_back(&mut self, value: T) -> Option<Wake> {
        let value = Cell::new(Some(value));
        let wake = self.hand_over(&value);
        if let Some(value) = value.take() {
            self.buffer.push_front(value);
        }
        wake
    }

    /// Lets a sender wait, with its value in the slot or with an offer, after [`State::send`] or [`State::offer`] said
    /// `Full` under the same lock.
    ///
    /// # Safety
    /// W2 for the waiter, which is armed.
    pub(crate) unsafe fn wait_to_send(&mut self, waiter: &Waiter<Slot<T>>) {
        // SAFETY: by the caller.
        unsafe { self.sending.push_back(waiter) };
    }

    /// Lets a receiver wait, with its slot empty, after [`State::receive`] said `Empty` under the same lock.
    ///
    /// # Safety
    /// W2 for the waiter, which is armed.
    pub(crate) unsafe fn wait_to_receive(&mut self, waiter: &Waiter<Slot<T>>) {
        // SAFETY: by the caller.
        unsafe { self.receiving.push_back(waiter) };
    }

    /// Commits a receiver, after [`State::receive`] said `Promised` under the same lock.
    ///
    /// # Safety
    /// W2 for the waiter, whose wait is armed and ended by nobody but this channel.
    pub(crate) unsafe fn wait_for_promised(&mut self, waiter: &Waiter<Slot<T>>) {
        self.committed += 1;
        // SAFETY: by the caller.
        unsafe { self.awaiting.push_back(waiter) };
    }

    /// Lets somebody wait for the moment in which an operation of that side would not have to.
    ///
    /// # Safety
    /// W2 for the waiter, which is armed.
    pub(crate) unsafe fn watch(&mut self, side: Side, waiter: &Waiter<Slot<T>>) {
        // SAFETY: by the caller.
        unsafe { self.watching[side as usize].push_back(waiter) };
    }

    /// Takes out a sender whose wait ended otherwise than by a claim of this channel. Its value is in its slot.
    pub(crate) fn give_up_send(&mut self, waiter: &Waiter<Slot<T>>) {
        // SAFETY: it is in this queue, or was taken out of it.
        let _was_in = unsafe { self.sending.remove(waiter) };
    }

    /// Takes out a receiver whose wait ended otherwise than by a claim of this channel. Its slot is empty.
    pub(crate) fn give_up_receive(&mut self, waiter: &Waiter<Slot<T>>) {
        // SAFETY: it is in this queue, or was taken out of it.
        let _was_in = unsafe { self.receiving.remove(waiter) };
    }

    /// Takes out a committed receiver that waits no longer, if it is still in (else see its slot). Its permit stays.
    pub(crate) fn give_up_promised(&mut self, waiter: &Waiter<Slot<T>>) {
        // SAFETY: it is in this queue, or was taken out of it.
        self.committed -= usize::from(unsafe { self.awaiting.remove(waiter) });
    }

    /// Takes out a watcher.
    pub(crate) fn give_up_watch(&mut self, side: Side, waiter: &Waiter<Slot<T>>) {
        // SAFETY: it is in this queue, or was taken out of it.
        let _was_in = unsafe { self.watching[side as usize].remove(waiter) };
    }

    /// Closes it; `false` if it was. [`State::next_of_the_closed`] follows.
    pub(super) fn close(&mut self) -> bool {
        !std::mem::replace(&mut self.closed, true)
    }

    /// H4: one of those who waited when it was closed. They find their slots as they were: senders their value,
    /// receivers nothing.
    pub(super) fn next_of_the_closed(&mut self) -> Option<Wake> {
        let waiting = self.sending.claim_next(|_| (), |_, ()| ());
        if let Some(((), wake)) = waiting.or_else(|| self.receiving.claim_next(|_| (), |_, ()| ())) {
            return Some(wake);
        }
        while self.committed > 0 {
            let wake = self.keep_promise(&Cell::new(None));
            if wake.is_some() {
                return wake;
            }
        }
        None
    }

    /// What is in the buffer, for nobody to receive.
    pub(super) fn take_buffer(&mut self) -> VecDeque<T> {
        std::mem::take(&mut self.buffer)
    }

    #[inline]
    pub(super) fn is_timed(&self) -> bool {
        self.timed
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Returns true if an operation of that side may succeed (or fail) without waiting; waiters that were claimed elsewhere are
    /// taken for waiting ones.
    #[inline(always)]
    pub(crate) fn may_proceed(&self, side: Side) -> bool {
        // Not `||`: all of it is at hand, and cheaper than a branch.
        self.closed
            | match side {
                Side::Send => !self.receiving.is_empty() | self.has_room(),
                Side::Receive => !self.buffer.is_empty() | !self.sending.is_empty(),
            }
    }
}
