//! One channel: the lock around its [`State`], its handles' counts, and the two words that can be read without the lock.
//!
//! Called by the handles and by `select`. Here is also what a wait's token means to a channel.
//!
//! * **N1.** What [`Core::may_proceed`] says is what the last one who had the lock left behind: the lock's note, written
//!   as it is released. Who acts on it takes the lock and looks again; who relies on a "no" must have it under the lock, or
//!   have no more to rely on than that the channel was like that at one time during the call.
//! * **N2.** Watchers ([`Select::ready`](crate::select::Select::ready)) are claimed by whoever releases the lock with
//!   their condition true.
//! * **N3.** The note says QUIET only where nobody stands in any queue, no permit is out, and the channel is open. Then a
//!   send is a push and a receive a pop, and what the note has to say afterwards follows from the buffer alone. So a
//!   buffered channel's operation that need not wait looks at nothing but the buffer.
//! * **N4.** The note says PLAIN where nobody watches, no permit is out, and the channel is open. Then there is nothing to
//!   look after but the buffer and the two queues.

use super::state::{Side, Slot, State};
use super::timed::SendingTimer;
use crate::sync::shim::{AtomicU32, AtomicUsize, Ordering};
use gorun_scheduler::{Blocker, ShortGuard, ShortLock, Token, WaitReason, Waiter, Wake};
use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::sync::OnceLock;

/// The token of a wait that is over: what there was to exchange lies in the slot. With the number of the select's arm.
pub(crate) fn settled(arm: usize) -> Token {
    Token::case(2 * arm)
}

/// The token of an arm that was chosen, while the value is still to come: see `state`. The waiter takes the lock.
pub(crate) fn promise(settled: Token) -> Token {
    settled.index().map_or(settled, |index| Token::case(index | 1))
}

pub(crate) fn is_promise(token: Token) -> bool {
    token.index().is_some_and(|index| index & 1 == 1)
}

/// The arm whose token it is. `None`: time-out or abort.
pub(crate) fn arm_of(token: Token) -> Option<usize> {
    token.index().map(|index| index / 2)
}

pub(crate) struct Core<T> {
    /// With the hints as its note: a bit for each side, and those below.
    state: ShortLock<State<T>>,
    /// Where selects that begin with this channel take their random numbers from.
    seed: AtomicU32,
    /// The timer that sends here, if one does: it need not once nobody can receive.
    timer: OnceLock<SendingTimer<T>>,
    pub(super) capacity: usize,
    senders: AtomicUsize,
    receivers: AtomicUsize,
}

/// There are watchers to be told.
const TELL_WATCHERS: u32 = 0b100;
/// N3.
const QUIET: u32 = 0b1000;
/// N4. QUIET is never without it.
const PLAIN: u32 = 0b1_0000;

impl Side {
    const fn bit(self) -> u32 {
        1 << self as u8
    }
}

/// The lock, held. Leaves the hints behind and tells watchers.
pub(crate) struct Locked<'a, T> {
    core: &'a Core<T>,
    state: ManuallyDrop<ShortGuard<'a, State<T>>>,
}

impl<T> Deref for Locked<'_, T> {
    type Target = State<T>;
    #[inline]
    fn deref(&self) -> &State<T> {
        &self.state
    }
}

impl<T> DerefMut for Locked<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut State<T> {
        &mut self.state
    }
}

impl<'a, T> Locked<'a, T> {
    /// For [`Core::locked`]: two words, which a call hands over in registers.
    #[inline(always)]
    pub(super) fn into_guard(self) -> ShortGuard<'a, State<T>> {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is not dropped.
        unsafe { ManuallyDrop::take(&mut this.state) }
    }

    /// As [`Core::may_proceed`], and so it is.
    #[inline(always)]
    pub(crate) fn may_proceed_now(&self, side: Side) -> bool {
        self.state.note() & side.bit() != 0
    }

    /// A waiter stands in the queue, after a try under this lock that found nothing to do; releases the lock. `true` if
    /// watchers are to be told.
    ///
    /// # Safety
    /// As [`Locked::wait`].
    #[inline(always)]
    pub(crate) unsafe fn stand(mut self, side: Side, waiter: &Waiter<Slot<T>>) -> bool {
        if self.just_waits(side) {
            // SAFETY: by the caller.
            unsafe { self.wait(side, waiter) };
            return false;
        }
        // SAFETY: by the caller.
        unsafe {
            match side {
                Side::Send => self.wait_to_send(waiter),
                Side::Receive => self.wait_to_receive(waiter),
            }
        }
        self.release()
    }

    /// A waiter whose wait is over leaves the queue, if it is still there; releases the lock.
    #[inline(always)]
    pub(crate) fn leave(mut self, side: Side, waiter: &Waiter<Slot<T>>) {
        match side {
            Side::Send => self.give_up_send(waiter),
            Side::Receive => self.give_up_receive(waiter),
        }
        if self.state.note() & PLAIN != 0 {
            let hints = self.state.plain_hints();
            self.release_with(hints);
        }
    }

    /// Releases the lock; `true` if watchers are to be told ([`Core::tell_watchers`]).
    pub(crate) fn release(self) -> bool {
        // SAFETY: `self` is not dropped.
        unsafe { ManuallyDrop::new(self).unlock() }
    }

    /// See [`State::put_back`]. What a timer has sent is gone if the timer was stopped since.
    pub(crate) fn give_back(&mut self, value: T) -> Option<Wake> {
        if self.core.timer().is_some_and(|timer| timer.is_stale(&value)) {
            return None;
        }
        self.put_back(value)
    }

    /// Whether [`Locked::push`] may follow: then that is all there is to a send (N3).
    #[inline(always)]
    pub(super) fn can_push(&self) -> bool {
        self.state.note() & (QUIET | Side::Send.bit()) == QUIET | Side::Send.bit()
    }

    /// Sends `value` and releases the lock.
    #[inline(always)]
    pub(super) fn push(mut self, value: T) {
        self.state.push(value);
        self.release_quietly();
    }

    /// Whether [`Locked::pop`] may follow: then that is all there is to a receive.
    #[inline(always)]
    pub(crate) fn can_pop(&self) -> bool {
        self.state.note() & (QUIET | Side::Receive.bit()) == QUIET | Side::Receive.bit()
    }

    /// Receives and releases the lock.
    #[inline(always)]
    pub(crate) fn pop(mut self) -> T {
        let value = self.state.pop().expect("N3: there is one");
        self.release_quietly();
        value
    }

    /// N4: a send whose receiver waits, as goroutines do: gives it the value, releases the lock and wakes it. Anything else
    /// comes back as it was.
    #[inline(always)]
    pub(super) fn meet_receiver(mut self, value: &Cell<Option<T>>) -> Result<(), Self> {
        if self.state.note() & PLAIN != 0
            && let Some(wake) = self.state.hand_over_to_parked(value)
        {
            let hints = self.state.plain_hints();
            self.release_with(hints);
            wake.wake();
            return Ok(());
        }
        Err(self)
    }

    /// As [`Locked::meet_receiver`], from the other side.
    #[inline(always)]
    pub(super) fn meet_sender(mut self) -> Result<T, Self> {
        if self.state.note() & PLAIN != 0
            && let Some((value, wake)) = self.state.receive_from_parked()
        {
            let hints = self.state.plain_hints();
            self.release_with(hints);
            wake.wake();
            return Ok(value);
        }
        Err(self)
    }

    /// N4: whether an operation of that side has to wait, and nobody needs to be told that it does. [`Locked::wait`] may
    /// follow.
    #[inline(always)]
    pub(super) fn just_waits(&self, side: Side) -> bool {
        self.state.note() & (PLAIN | side.bit()) == PLAIN
    }

    /// Stands in the queue, and releases the lock.
    ///
    /// # Safety
    /// W2 for the waiter, which is armed.
    #[inline(always)]
    pub(super) unsafe fn wait(mut self, side: Side, waiter: &Waiter<Slot<T>>) {
        // SAFETY: by the caller.
        let other = unsafe {
            match side {
                Side::Send => {
                    self.state.wait_to_send(waiter);
                    Side::Receive
                }
                Side::Receive => {
                    self.state.wait_to_receive(waiter);
                    Side::Send
                }
            }
        };
        // Whoever comes from there finds us, and whoever comes from here waits behind us.
        self.release_with(PLAIN | other.bit());
    }

    #[inline(always)]
    fn release_with(self, hints: u32) {
        debug_assert_eq!(hints, self.state.hints());
        self.into_guard().release(hints);
    }

    #[inline(always)]
    fn release_quietly(self) {
        let hints = self.state.quiet_hints();
        self.release_with(hints);
    }

    /// Releases the lock after somebody has gone into a queue: as `drop`, and knows that it is not quiet.
    #[inline(always)]
    pub(super) fn release_loudly(self) {
        let hints = self.state.loud_hints();
        debug_assert_eq!(hints, self.state.hints());
        let mut this = ManuallyDrop::new(self);
        // SAFETY: the end: `this` is not dropped.
        unsafe { ManuallyDrop::take(&mut this.state) }.release(hints);
        if hints & TELL_WATCHERS != 0 {
            this.core.tell_watchers();
        }
    }

    /// # Safety
    /// Once, at the end.
    #[inline]
    unsafe fn unlock(&mut self) -> bool {
        let hints = self.state.hints();
        // SAFETY: by the caller.
        unsafe { ManuallyDrop::take(&mut self.state) }.release(hints);
        hints & TELL_WATCHERS != 0
    }
}

impl<T> Drop for Locked<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the end.
        if unsafe { self.unlock() } {
            self.core.tell_watchers();
        }
    }
}

impl<T> State<T> {
    #[inline(always)]
    fn quiet_hints(&self) -> u32 {
        let send = u32::from(self.buffer_has_room()) * Side::Send.bit();
        let receive = u32::from(self.len() > 0) * Side::Receive.bit();
        QUIET | PLAIN | send | receive
    }

    /// Of a plain channel.
    #[inline(always)]
    fn plain_hints(&self) -> u32 {
        let (sending, receiving) = self.waited_for();
        let quiet = u32::from(!(sending | receiving)) * QUIET;
        let send = u32::from(receiving | self.buffer_has_room()) * Side::Send.bit();
        let receive = u32::from(sending | (self.len() > 0)) * Side::Receive.bit();
        PLAIN | quiet | send | receive
    }

    #[inline(always)]
    fn hints(&self) -> u32 {
        if self.is_quiet() { self.quiet_hints() } else { self.loud_hints() }
    }

    #[inline(always)]
    fn loud_hints(&self) -> u32 {
        let send = u32::from(self.may_proceed(Side::Send));
        let receive = u32::from(self.may_proceed(Side::Receive));
        let mut hints = (send * Side::Send.bit()) | (receive * Side::Receive.bit());
        hints |= u32::from(self.is_plain()) * PLAIN;
        if self.is_watched() {
            let watched = |side: Side| u32::from(!self.watching[side as usize].is_empty());
            hints |= ((send & watched(Side::Send)) | (receive & watched(Side::Receive))) * TELL_WATCHERS;
        }
        hints
    }
}

impl<T> Core<T> {
    pub(super) fn new(capacity: usize) -> Core<T> {
        let state = State::new(capacity);
        Core {
            state: {
                let hints = state.hints();
                ShortLock::new(state, hints)
            },
            seed: AtomicU32::new(0),
            timer: OnceLock::new(),
            capacity,
            senders: AtomicUsize::new(1),
            receivers: AtomicUsize::new(1),
        }
    }

    #[inline]
    pub(crate) fn lock(&self) -> Locked<'_, T> {
        self.locked(self.state.lock())
    }

    /// With the guard of this very channel ([`Locked::into_guard`]).
    #[inline(always)]
    pub(super) fn locked<'a>(&'a self, guard: ShortGuard<'a, State<T>>) -> Locked<'a, T> {
        Locked { core: self, state: ManuallyDrop::new(guard) }
    }

    /// N1.
    #[inline]
    pub(crate) fn may_proceed(&self, side: Side) -> bool {
        self.state.note() & side.bit() != 0
    }

    /// A number that is random enough to be fair.
    #[inline]
    pub(crate) fn random(&self) -> u32 {
        // Relaxed, and no exchange: two that draw the same number do no harm.
        let mut x = self.seed.load(Ordering::Relaxed);
        if x == 0 {
            // Where the channel lies; odd, hence not 0.
            x = (std::ptr::from_ref(self).addr() >> 4) as u32 | 1;
        }
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        self.seed.store(x, Ordering::Relaxed); // as above
        x.wrapping_mul(0x9e37_79b9)
    }

    /// N2.
    #[cold]
    pub(crate) fn tell_watchers(&self) {
        Wake::wake_all(std::iter::from_fn(|| {
            // Not through `lock`, whose end brought us here.
            let mut state = self.state.lock();
            [Side::Send, Side::Receive].into_iter().find_map(|side| {
                let told =
                    state.may_proceed(side).then(|| state.watching[side as usize].claim_next(|_| (), |_, ()| ()));
                told.flatten().map(|((), wake)| wake)
            })
        }));
    }

    /// Waits for the value that was promised, after the wait of `waiter` has ended with such a token. `None`: there will
    /// be none after all (closed, or its sender gave up), and the receive begins anew.
    #[cold]
    pub(crate) fn await_promise(&self, blocker: &Blocker, waiter: &Waiter<Slot<T>>, reason: WaitReason) -> Option<T> {
        let state = self.lock();
        if waiter.is_queued() {
            // Shielded, and without a deadline: see `state`. It is in `awaiting` all the time.
            blocker.arm_shielded();
            drop(state);
            let _settled = blocker.park(reason, None);
        }
        // Taken out under the lock: by `keep_promise`, whose write we see through the claim or through our lock.
        waiter.slot.take()
    }

    /// As [`Core::await_promise`], for a receiver that has just met a select's send arm under `state`.
    #[cold]
    pub(crate) fn commit(
        mut state: Locked<'_, T>,
        sender: Wake,
        blocker: &Blocker,
        waiter: &Waiter<Slot<T>>,
        reason: WaitReason,
    ) -> Option<T> {
        blocker.arm_shielded();
        // SAFETY: W2: the waiter is in our caller's frame, and the wait ends by a claim of this channel only.
        unsafe { state.wait_for_promised(waiter) };
        drop(state);
        sender.wake();
        let _settled = blocker.park(reason, None);
        waiter.slot.take()
    }

    /// With a permit: see [`State::complete`].
    pub(crate) fn complete(&self, value: T) -> Result<(), T> {
        let (completed, woken) = self.lock().complete(value);
        if let Some(wake) = woken {
            wake.wake();
        }
        completed
    }

    /// Gives a permit back.
    pub(crate) fn cancel(&self) {
        let woken = self.lock().cancel();
        if let Some(wake) = woken {
            wake.wake();
        }
    }

    /// See [`Locked::give_back`].
    pub(crate) fn give_back(&self, value: T) {
        let woken = self.lock().give_back(value);
        if let Some(wake) = woken {
            wake.wake();
        }
    }

    /// H4.
    pub(super) fn close(&self) {
        if self.lock().close() {
            self.wake_the_closed();
        }
    }

    /// They go on in the order in which they came. No one joins them any more, so the lock is taken for each.
    fn wake_the_closed(&self) {
        /// Goes on when a user's waker panics.
        struct Rest<'a, T>(&'a Core<T>, bool);
        impl<T> Drop for Rest<'_, T> {
            fn drop(&mut self) {
                if self.1 {
                    self.0.wake_the_closed();
                }
            }
        }
        let mut rest = Rest(self, true);
        Wake::wake_all(std::iter::from_fn(|| self.lock().next_of_the_closed()));
        rest.1 = false;
    }

    /// `timer` sends here, and is stopped when the last receiver goes.
    pub(super) fn set_timer(&self, timer: SendingTimer<T>) {
        assert!(self.timer.set(timer).is_ok(), "a channel has one timer");
    }

    pub(super) fn timer(&self) -> Option<&SendingTimer<T>> {
        self.timer.get()
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
            let unreceived = self.lock().take_buffer();
            if let Some(timer) = self.timer.get() {
                timer.stop();
            }
            drop(unreceived);
        }
    }
}
