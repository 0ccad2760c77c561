//! One channel: the lock around its [`State`], its handles' counts, and the two words that can be read without the lock.
//!
//! Called by the handles and by `select`; what is done under the lock is in `locked`. Here is also what a wait's token means to a channel.
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

use super::locked::Locked;
use super::state::{Side, Slot, State};
use super::timed::SendingTimer;
use crate::sync::shim::{AtomicU32, AtomicUsize, Ordering};
use gorun_scheduler::{Blocker, Note, ShortGuard, ShortLock, Token, WaitReason, Waiter, Wake};
use std::panic::{RefUnwindSafe, UnwindSafe};
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

// As std's and crossbeam's: no code of a user's runs under the lock, so no panic leaves a channel half changed.
impl<T> UnwindSafe for Core<T> {}
impl<T> RefUnwindSafe for Core<T> {}

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
        Locked::new(self, guard)
    }

    /// N1.
    #[inline]
    pub(crate) fn may_proceed(&self, side: Side) -> bool {
        self.state.note() & side.bit() != 0
    }

    /// What [`Core::may_proceed`] looks at: of which a bit of the side's ([`Side::bit`]) says it.
    #[inline]
    pub(crate) fn as_note(&self) -> Note<'_> {
        self.state.as_note()
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
        Wake::wake_all(std::iter::from_fn(|| self.lock().next_of_the_closed()));
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
