//! One arm of a select: a channel, a side of it, and the waiter that stands in its queue meanwhile.
//!
//! Made by the macros, on the stack, and by [`Select`](super::Select), in an `Rc`; driven by `run` through [`Operations`],
//! which does not know the type of the values.
//!
//! * **A1.** While an arm's lock is held its pointer to the channel's state is the only way to that state. Arms of one
//!   channel share the pointer of the first of them; equal addresses are equal channels, hence equal types.
//! * **A2.** `run` takes every waiter out of its queue before it returns or unwinds (W2). So an arm needs no `Drop`, and
//!   the bodies of `select!` may move and drop the handles that the arms borrow.
//! * **A3.** What was selected is in the arm until it is taken: a received value in the slot, a permit in `permitted`.
//! * **A4.** An operation is in one table at a time, once: its waiter would otherwise get into two queues. An [`Arm`] borrows
//!   it exclusively, [`Select`](super::Select) owns it.

use crate::chan::{
    Core, Locked, Offered, Received, Receiver, RecvError, SendError, Sender, Side, Slot, State, settled,
};
use gorun_scheduler::{Blocker, Note, Token, WaitReason, Waiter, Wake};
use std::cell::{Cell, OnceCell};
use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

/// What trying an arm under its lock came to.
#[must_use]
pub(super) enum Tried {
    /// It would have to wait.
    NotNow,
    /// Done; somebody may have to be woken.
    Done(Option<Wake>),
    /// The other side's select was claimed, and this arm's waiter is committed and armed: wake it, then park, then look
    /// ([`Operations::fulfilled`]).
    Committed(Wake),
}

/// The waiting goroutine or thread: made when the select has to wait.
#[derive(Default)]
pub(super) struct Waits(OnceCell<Blocker>);

impl Waits {
    pub(super) fn blocker(&self) -> &Blocker {
        self.0.get_or_init(Blocker::current)
    }
}

/// A pointer to a channel's state, whose lock is held (A1).
pub(super) type Erased = NonNull<()>;

/// What `run` does with an arm of any type.
pub(super) trait Operations {
    /// Where the channel is, which tells channels apart; 0 for an arm that is never ready.
    fn address(&self) -> usize;
    fn side(&self) -> Side;
    /// The channel's hint (N1): `false` if there is no need to try.
    fn may_proceed(&self) -> bool;
    /// Returns true if the operation would not have to wait. A snapshot.
    fn is_ready(&self) -> bool;
    fn random(&self) -> u32;
    /// Takes the lock, and says whether the arm may proceed. Not for an arm that is never ready.
    fn lock(&self) -> (Erased, bool);
    /// Releases the lock that this arm took; `true` if watchers are to be told.
    fn unlock(&self) -> bool;
    fn tell_watchers(&self);
    /// Takes the lock, tries, and releases it. Not for an arm that is never ready.
    fn attempt_alone(&self, waits: &Waits) -> Tried;
    /// # Safety
    /// A1: the pointer is that of this arm's channel, whose lock the caller holds. So in the next two.
    unsafe fn attempt(&self, state: Erased, waits: &Waits) -> Tried;
    /// Stands in the queue as arm `index`.
    ///
    /// # Safety
    /// As `attempt`; and W2: the arm stays where it is, and the caller calls `leave` on it.
    unsafe fn enqueue(&self, state: Erased, blocker: &Blocker, index: usize);
    /// As `enqueue`, for an arm that has its channel to itself; and releases the lock. `true` if watchers are to be told.
    /// Nothing, for an arm that is never ready.
    ///
    /// # Safety
    /// As `enqueue`: the caller has let this arm take the lock, and has tried under it in vain.
    unsafe fn stand(&self, blocker: &Blocker, index: usize) -> bool;
    /// As `enqueue`, but to be told and not served; `false` if there is no need to wait.
    ///
    /// # Safety
    /// As `enqueue`, with `leave_watch`. The caller has armed itself and holds no lock.
    unsafe fn watch(&self, blocker: &Blocker, index: usize) -> bool;
    /// Takes the lock, and the waiter out of the queue, if it is still there.
    fn leave(&self);
    fn leave_watch(&self);
    /// Called after a wait that ended with the token of a promise. Returns false if the other side gave up, or takes too
    /// long; then the select begins again.
    fn promised(&self, waits: &Waits) -> bool;
    /// Called after a committed wait that ended with `token`. Returns true if the value came.
    fn fulfilled(&self, token: Token) -> bool;
    /// Moves what was received to `to`, an `Option` of the channel's type.
    ///
    /// # Safety
    /// `to` is that, and this is an arm that receives.
    unsafe fn take_value(&self, to: NonNull<()>);
    /// Returns true if it has a permit. It is the caller's then.
    fn take_permit(&self) -> bool;
    /// Undoes what was selected: the value goes back, the permit too.
    fn abandon(&self);
}

/// An arm that receives.
pub struct RecvArm<'a, T> {
    core: Option<&'a Core<T>>,
    waiter: Waiter<Slot<T>>,
    locked: Cell<Option<ManuallyDrop<Locked<'a, T>>>>,
}

/// An arm that sends.
pub struct SendArm<'a, T> {
    core: Option<&'a Core<T>>,
    waiter: Waiter<Slot<T>>,
    locked: Cell<Option<ManuallyDrop<Locked<'a, T>>>>,
    permitted: Cell<bool>,
}

/// An arm whose type has been left behind.
///
/// A4: it can't be copied.
pub struct Arm<'a> {
    pub(super) operations: &'a dyn Operations,
    /// Its channel's hint, to be read without a call; `None`: it is never ready.
    note: Option<Note<'a>>,
    bits: u32,
}

impl<'a> Arm<'a> {
    #[inline]
    fn new<T>(operations: &'a dyn Operations, core: Option<&'a Core<T>>, side: Side) -> Arm<'a> {
        Arm { operations, note: core.map(Core::as_note), bits: side.bits() }
    }

    /// As [`Operations::may_proceed`].
    #[inline]
    pub(super) fn may_proceed(&self) -> bool {
        self.note.is_some_and(|note| note.get() & self.bits != 0)
    }
}

impl fmt::Debug for Arm<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arm").field("side", &self.operations.side()).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for RecvArm<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvArm").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for SendArm<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendArm").finish_non_exhaustive()
    }
}

impl<'a, T> RecvArm<'a, T> {
    #[inline]
    pub(super) fn new(receiver: Option<&'a Receiver<T>>) -> RecvArm<'a, T> {
        let core = receiver.map(|receiver| &*receiver.core);
        RecvArm { core, waiter: Waiter::idle(Slot::new(None)), locked: Cell::new(None) }
    }

    /// For the same operation.
    pub(super) fn another(&self) -> RecvArm<'a, T> {
        RecvArm { core: self.core, waiter: Waiter::idle(Slot::new(None)), locked: Cell::new(None) }
    }

    /// For the table of arms.
    #[inline]
    pub fn arm(&mut self) -> Arm<'_> {
        Arm::new(self, self.core, Side::Receive)
    }

    /// What was received, after this arm was selected.
    ///
    /// # Errors
    /// The channel is closed and empty.
    #[inline]
    pub fn finish(&self) -> Result<T, RecvError> {
        self.waiter.slot.take().ok_or(RecvError)
    }
}

impl<'a, T> SendArm<'a, T> {
    #[inline]
    pub(super) fn new(sender: Option<&'a Sender<T>>) -> SendArm<'a, T> {
        let core = sender.map(|sender| &*sender.core);
        SendArm { core, waiter: Waiter::idle(Slot::offer()), locked: Cell::new(None), permitted: Cell::new(false) }
    }

    /// For the same operation.
    pub(super) fn another(&self) -> SendArm<'a, T> {
        SendArm {
            core: self.core,
            waiter: Waiter::idle(Slot::offer()),
            locked: Cell::new(None),
            permitted: Cell::new(false),
        }
    }

    /// For the table of arms.
    #[inline]
    pub fn arm(&mut self) -> Arm<'_> {
        Arm::new(self, self.core, Side::Send)
    }

    /// The right to send, after this arm was selected.
    #[inline]
    pub fn permit(&self) -> Permit<'a, T> {
        Permit { core: self.core.filter(|_| self.permitted.take()) }
    }
}

/// The right to send one value to a channel. Given back when it is dropped, as when the value's expression panics.
pub struct Permit<'a, T> {
    /// `None`: the channel was closed already.
    core: Option<&'a Core<T>>,
}

impl<'a, T> Permit<'a, T> {
    pub(super) fn new(core: Option<&'a Core<T>>) -> Permit<'a, T> {
        Permit { core }
    }

    /// Sends. Never waits.
    ///
    /// # Errors
    /// The channel is closed, and the value comes back.
    #[inline]
    pub fn send(mut self, value: T) -> Result<(), SendError<T>> {
        match self.core.take() {
            Some(core) => core.complete(value).map_err(SendError),
            None => Err(SendError(value)),
        }
    }
}

impl<T> Drop for Permit<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(core) = self.core.take() {
            core.cancel();
        }
    }
}

impl<T> fmt::Debug for Permit<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}

/// # Safety
/// A1.
unsafe fn typed<'x, T>(state: Erased) -> &'x mut State<T> {
    // SAFETY: by the caller.
    unsafe { state.cast::<State<T>>().as_mut() }
}

/// What both kinds do alike.
macro_rules! operations {
    ($side:expr) => {
        #[inline]
        fn address(&self) -> usize {
            self.core.map_or(0, |core| std::ptr::from_ref(core).addr())
        }

        fn side(&self) -> Side {
            $side
        }

        #[inline]
        fn may_proceed(&self) -> bool {
            self.core.is_some_and(|core| core.is_worth_trying($side))
        }

        fn is_ready(&self) -> bool {
            self.core.is_some_and(|core| {
                core.freshen();
                core.may_proceed($side)
            })
        }

        fn random(&self) -> u32 {
            self.core.map_or(0, Core::random)
        }

        fn lock(&self) -> (Erased, bool) {
            let mut locked = self.core.expect("an arm that may become ready").lock();
            let ready = locked.may_proceed_now($side);
            let state = NonNull::from(&mut *locked).cast();
            self.locked.set(Some(ManuallyDrop::new(locked)));
            (state, ready)
        }

        unsafe fn stand(&self, blocker: &Blocker, index: usize) -> bool {
            let Some(locked) = self.locked.take() else { return false };
            self.waiter.assign(blocker.parker(), settled(index));
            // SAFETY: by the caller.
            unsafe { ManuallyDrop::into_inner(locked).stand($side, &self.waiter) }
        }

        fn leave(&self) {
            if let Some(core) = self.core {
                core.lock().leave($side, &self.waiter);
            }
        }

        fn unlock(&self) -> bool {
            self.locked.take().is_some_and(|locked| ManuallyDrop::into_inner(locked).release())
        }

        fn tell_watchers(&self) {
            if let Some(core) = self.core {
                core.tell_watchers();
            }
        }

        unsafe fn watch(&self, blocker: &Blocker, index: usize) -> bool {
            let Some(core) = self.core else { return true };
            let mut state = core.lock();
            if state.may_proceed($side) {
                return false;
            }
            self.waiter.assign(blocker.parker(), settled(index));
            // SAFETY: W2 by the caller.
            unsafe { state.watch($side, &self.waiter) };
            true
        }

        fn leave_watch(&self) {
            if let Some(core) = self.core {
                core.lock().give_up_watch($side, &self.waiter);
            }
        }
    };
}

impl<T> RecvArm<'_, T> {
    /// Under the lock.
    #[inline]
    fn try_in(&self, state: &mut State<T>, waits: &Waits) -> Tried {
        match state.receive(&self.waiter.slot.value) {
            Received::Value(sender) => Tried::Done(sender),
            Received::Closed => Tried::Done(None),
            Received::Empty => Tried::NotNow,
            Received::Promised(sender) => {
                let blocker = waits.blocker();
                self.waiter.assign(blocker.parker(), settled(0));
                blocker.arm_shielded();
                // SAFETY: W2: `run` parks until the channel has taken it out, or takes it out (`fulfilled`).
                unsafe { state.wait_for_promised(&self.waiter) };
                Tried::Committed(sender)
            }
        }
    }
}

impl<T> Operations for RecvArm<'_, T> {
    operations!(Side::Receive);

    fn attempt_alone(&self, waits: &Waits) -> Tried {
        let core = self.core.expect("an arm that may become ready");
        if core.is_timed() {
            core.freshen();
            if !core.may_proceed(Side::Receive) {
                return Tried::NotNow;
            }
        }
        let state = core.lock();
        if state.can_pop() {
            state.pop_into(&self.waiter.slot.value);
            return Tried::Done(None);
        }
        match state.meet_sender(&self.waiter.slot.value) {
            Ok(()) => Tried::Done(None),
            Err(mut state) => self.try_in(&mut state, waits),
        }
    }

    unsafe fn attempt(&self, state: Erased, waits: &Waits) -> Tried {
        // SAFETY: by the caller.
        self.try_in(unsafe { typed::<T>(state) }, waits)
    }

    unsafe fn enqueue(&self, state: Erased, blocker: &Blocker, index: usize) {
        self.waiter.assign(blocker.parker(), settled(index));
        // SAFETY: by the caller.
        unsafe { typed::<T>(state).wait_to_receive(&self.waiter) };
    }

    fn promised(&self, waits: &Waits) -> bool {
        self.core.is_some_and(|core| core.await_promise(waits.blocker(), &self.waiter, WaitReason::Select))
    }

    fn fulfilled(&self, token: Token) -> bool {
        if let Some(core) = self.core {
            core.end_promised(&self.waiter, token);
        }
        self.waiter.slot.is_filled()
    }

    unsafe fn take_value(&self, to: NonNull<()>) {
        // SAFETY: by the caller.
        unsafe { *to.cast::<Option<T>>().as_mut() = self.waiter.slot.take() };
    }

    fn take_permit(&self) -> bool {
        false
    }

    fn abandon(&self) {
        if let (Some(core), Some(value)) = (self.core, self.waiter.slot.take()) {
            core.give_back(value);
        }
    }
}

impl<T> SendArm<'_, T> {
    /// Under the lock.
    #[inline]
    fn try_in(&self, state: &mut State<T>) -> Tried {
        match state.offer() {
            Offered::Permit(receiver) => {
                self.permitted.set(true);
                Tried::Done(receiver)
            }
            Offered::Closed => Tried::Done(None),
            Offered::Full => Tried::NotNow,
        }
    }
}

impl<T> Operations for SendArm<'_, T> {
    operations!(Side::Send);

    fn attempt_alone(&self, _waits: &Waits) -> Tried {
        self.try_in(&mut self.core.expect("an arm that may become ready").lock())
    }

    unsafe fn attempt(&self, state: Erased, _waits: &Waits) -> Tried {
        // SAFETY: by the caller.
        self.try_in(unsafe { typed::<T>(state) })
    }

    unsafe fn enqueue(&self, state: Erased, blocker: &Blocker, index: usize) {
        self.waiter.assign(blocker.parker(), settled(index));
        // SAFETY: by the caller.
        unsafe { typed::<T>(state).wait_to_send(&self.waiter) };
    }

    fn promised(&self, _waits: &Waits) -> bool {
        self.permitted.set(true);
        true
    }

    fn fulfilled(&self, _token: Token) -> bool {
        unreachable!("who sends does not commit itself")
    }

    unsafe fn take_value(&self, _to: NonNull<()>) {
        unreachable!("an arm that sends")
    }

    fn take_permit(&self) -> bool {
        self.permitted.take()
    }

    fn abandon(&self) {
        drop(self.permit());
    }
}
