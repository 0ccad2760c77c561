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

use super::sending_timer::SendingTimer;
use super::slot::Slot;
use super::state::{Side, State};
use super::token::{arm_of, patience};
use crate::sync::shim::{AtomicU32, AtomicUsize, Ordering};
use gorun_scheduler::{Blocker, Note, ShortLock, Token, WaitReason, Waiter, Wake};
use std::cell::Cell;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::OnceLock;

/// There are watchers to be told.
pub(super) const TELL_WATCHERS: u32 = 0b100;
/// N3.
pub(super) const QUIET: u32 = 0b1000;
/// N4. QUIET is never without it.
pub(super) const PLAIN: u32 = 0b1_0000;
/// It is a timer's, for ever: what the rest says may be overdue (`timed`).
pub(super) const TIMED: u32 = 0b10_0000;

impl Side {
    pub(crate) const fn bit(self) -> u32 {
        1 << self as u8
    }

    /// The bits of [`Side::bit`], for a caller that looks again: a timer's channel may have something to receive by now.
    pub(crate) const fn bits(self) -> u32 {
        match self {
            Side::Send => self.bit(),
            Side::Receive => self.bit() | TIMED,
        }
    }
}

pub(crate) struct Core<T> {
    /// With the hints as its note: a bit for each side, and those below.
    pub(super) state: ShortLock<State<T>>,
    /// Where selects that begin with this channel take their random numbers from.
    seed: AtomicU32,
    /// The timer that sends here, if one does: it need not once nobody can receive.
    timer: OnceLock<SendingTimer<T>>,
    pub(super) capacity: usize,
    pub(super) sent_by: SentBy,
    senders: AtomicUsize,
    receivers: AtomicUsize,
}

// As std's and crossbeam's: no code of a user's runs under the lock, so no panic leaves a channel half changed.
impl<T> UnwindSafe for Core<T> {}
impl<T> RefUnwindSafe for Core<T> {}

/// The owner of the sending side, which has the right to close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SentBy {
    /// Users have handles of both sides, and each may close.
    Users,
    /// Only the library sends, if anyone, and only it may close. Other parties have handles of the same receiving side.
    Library,
    /// Like the library's; in addition, receiving operations check whether the timer is due (`timed`).
    Timer,
}

/// A close that has happened, but whose waiters have not been woken yet: see [`Core::begin_close`].
#[must_use = "those who wait are to be told"]
pub(crate) struct Closing {
    first: bool,
    watched: bool,
}

/// A number other than 0, different for each channel that is selected from. (Its address would not do: channels that each
/// live for one select often have the same address.)
#[cold]
fn first_seed() -> u32 {
    static LAST: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    // Relaxed, and no exchange: two channels with the same seed do no harm.
    let seed = LAST.load(Ordering::Relaxed).wrapping_add(0x9e37_79b9);
    LAST.store(seed, Ordering::Relaxed); // as above
    seed | 1
}

impl<T> Core<T> {
    pub(super) fn new(capacity: usize, sent_by: SentBy) -> Core<T> {
        let state = State::new(capacity, sent_by == SentBy::Timer);
        Core {
            state: {
                let hints = state.hints();
                ShortLock::new(state, hints)
            },
            seed: AtomicU32::new(0),
            timer: OnceLock::new(),
            capacity,
            sent_by,
            senders: AtomicUsize::new(1),
            receivers: AtomicUsize::new(1),
        }
    }

    /// N1.
    #[inline]
    pub(crate) fn may_proceed(&self, side: Side) -> bool {
        self.state.note() & side.bit() != 0
    }

    /// Like [`Core::may_proceed`], but also true if only a try can tell ([`Side::bits`]).
    #[inline]
    pub(crate) fn is_worth_trying(&self, side: Side) -> bool {
        self.state.note() & side.bits() != 0
    }

    /// Returns true if it is a timer's.
    #[inline]
    pub(crate) fn is_timed(&self) -> bool {
        self.state.note() & TIMED != 0
    }

    /// The bits that [`Core::is_worth_trying`] checks: any of the side's bits ([`Side::bits`]).
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
            x = first_seed();
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

    /// Waits for the value that was promised, after the wait of `waiter` has ended with such a token. Returns true if it is
    /// in the waiter's slot. If not there will be none after all (closed, or its sender gave up), or it takes too long
    /// ([`patience`]), and the receive begins anew.
    #[cold]
    pub(crate) fn await_promise(&self, blocker: &Blocker, waiter: &Waiter<Slot<T>>, reason: WaitReason) -> bool {
        let state = self.lock();
        if waiter.is_queued() {
            // Shielded: see `state`. It is in `awaiting` all the time.
            blocker.arm_shielded();
            drop(state);
            let token = blocker.park(reason, patience());
            self.end_promised(waiter, token);
        }
        // Taken out under the lock: by `keep_promise`, whose write we see through the claim or through our lock.
        waiter.slot.is_filled()
    }

    /// After the wait of a committed receiver: it leaves `awaiting` if it has lost its patience.
    #[inline]
    pub(crate) fn end_promised(&self, waiter: &Waiter<Slot<T>>, token: Token) {
        if arm_of(token).is_none() {
            self.lock().give_up_promised(waiter);
        }
    }

    /// With a permit: see [`State::complete`].
    pub(crate) fn complete(&self, value: T) -> Result<(), T> {
        let value = Cell::new(Some(value));
        let woken = self.lock().complete(&value);
        if let Some(wake) = woken {
            wake.wake();
        }
        value.into_inner().map_or(Ok(()), Err)
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
        let closing = self.begin_close();
        self.finish_close(closing);
    }

    /// Called by a receiver: does nothing if receivers may not close the channel.
    pub(super) fn close_by_receiver(&self) {
        if self.sent_by == SentBy::Users {
            self.close();
        }
    }

    /// Only closes, for a caller that holds a lock: it wakes no waiter. [`Core::finish_close`] must follow without the
    /// lock.
    pub(crate) fn begin_close(&self) -> Closing {
        let mut state = self.lock();
        let first = state.close();
        Closing { first, watched: state.release() }
    }

    /// Wakes all waiters. Wakers are foreign code.
    pub(crate) fn finish_close(&self, closing: Closing) {
        if closing.watched {
            self.tell_watchers();
        }
        if closing.first {
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
