//! A channel's lock, held: what may be done under it at once, and the note that is left behind when it is released.
//!
//! Made by `core`'s [`Core::lock`]; used by the handles' operations and by `select`. What decides is in `state`; what the
//! note says, and who may rely on it, is in `core` (N1 to N4).

use super::core::{Core, PLAIN, QUIET, TELL_WATCHERS, TIMED};
use super::slot::{Slot, fill};
use super::state::{Side, State};
use super::token::patience;
use gorun_scheduler::{Blocker, ShortGuard, WaitReason, Waiter, Wake};
use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};

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

impl<T> Core<T> {
    #[inline]
    pub(crate) fn lock(&self) -> Locked<'_, T> {
        self.locked(self.state.lock())
    }

    /// With the guard of this very channel ([`Locked::into_guard`]).
    #[inline(always)]
    pub(super) fn locked<'a>(&'a self, guard: ShortGuard<'a, State<T>>) -> Locked<'a, T> {
        Locked::new(self, guard)
    }

    /// Does what [`Core::await_promise`] does, for a receiver that has just met a select's send arm under `state`.
    #[cold]
    pub(crate) fn commit(
        &self,
        mut state: Locked<'_, T>,
        sender: Wake,
        blocker: &Blocker,
        waiter: &Waiter<Slot<T>>,
        reason: WaitReason,
    ) -> bool {
        blocker.arm_shielded();
        // SAFETY: W2: the waiter is in our caller's frame, and leaves the queue below unless this channel has taken it out.
        unsafe { state.wait_for_promised(waiter) };
        drop(state);
        sender.wake();
        let token = blocker.park(reason, patience());
        self.end_promised(waiter, token);
        waiter.slot.is_filled()
    }
}

impl<'a, T> Locked<'a, T> {
    /// Returns true if a receive would come to a select's offer first.
    pub(super) fn next_is_promise(&self) -> bool {
        self.len() == 0 && !self.is_closed() && self.sending.front().is_some_and(|slot| slot.offer)
    }

    #[inline(always)]
    pub(super) fn new(core: &'a Core<T>, guard: ShortGuard<'a, State<T>>) -> Locked<'a, T> {
        Locked { core, state: ManuallyDrop::new(guard) }
    }

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

    /// Returns true if [`Locked::push`] may follow: then that is all there is to a send (N3).
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

    /// Returns true if [`Locked::pop`] may follow: then that is all there is to a receive.
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

    /// As [`Locked::pop`], to where the value is wanted, which is empty.
    #[inline(always)]
    pub(crate) fn pop_into(mut self, to: &Cell<Option<T>>) {
        fill(to, self.state.pop());
        self.release_quietly();
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
    pub(crate) fn meet_sender(mut self, to: &Cell<Option<T>>) -> Result<(), Self> {
        if self.state.note() & PLAIN != 0
            && let Some(wake) = self.state.receive_from_parked(to)
        {
            let hints = self.state.plain_hints();
            self.release_with(hints);
            wake.wake();
            return Ok(());
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
    pub(super) fn hints(&self) -> u32 {
        if self.is_quiet() { self.quiet_hints() } else { self.loud_hints() }
    }

    #[inline(always)]
    fn loud_hints(&self) -> u32 {
        let send = u32::from(self.may_proceed(Side::Send));
        let receive = u32::from(self.may_proceed(Side::Receive));
        let mut hints = (send * Side::Send.bit()) | (receive * Side::Receive.bit());
        hints |= (u32::from(self.is_plain()) * PLAIN) | (u32::from(self.is_timed()) * TIMED);
        if self.is_watched() {
            let watched = |side: Side| u32::from(!self.watching[side as usize].is_empty());
            hints |= ((send & watched(Side::Send)) | (receive & watched(Side::Receive))) * TELL_WATCHERS;
        }
        hints
    }
}
