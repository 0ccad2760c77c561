//! Sending: what it does when it has to wait. `state` decides whether it has to.

use super::error::{SendError, SendTimeoutError, TrySendError};
use super::handle::Sender;
use super::locked::Locked;
use super::slot::Slot;
use super::state::{Sent, Side, State};
use super::token::{arm_of, settled};
use gorun_scheduler::{
    Blocker, ShortGuard, Token, WaitReason, Waiter, Wake, breathe, checkpoint, polled_in_vain, unwind_aborted,
};
use std::cell::Cell;
use std::time::{Duration, Instant};

fn wake(wake: Option<Wake>) {
    if let Some(wake) = wake {
        wake.wake();
    }
}

fn sole<T>(value: &Cell<Option<T>>) -> T {
    value.take().expect("H3: nobody took it")
}

impl<T> Sender<T> {
    /// Gives up the handle but not its count: the channel keeps a sender for ever.
    pub(super) fn forget(self) {
        self.core.add_sender();
    }

    /// Sends `value`: waits until there is room, or, without capacity, until a receiver has it. Waiting senders are
    /// served first come, first served.
    ///
    /// The send happens before the receive that gets the value. Without capacity that receive happens before `send`
    /// returns; with capacity `n`, the k-th receive happens before the return of the (k+n)-th send.
    ///
    /// A cancellation point: when the goroutine is aborted before the value is sent, the value is dropped, once.
    ///
    /// # Errors
    /// [`SendError`] gives the value back when the channel is closed, or gets closed meanwhile.
    ///
    /// ```
    /// let (tx, rx) = gorun::channel(0);
    /// let sender = gorun::go(move || tx.send("over").and_then(|()| tx.send("and out")));
    /// assert_eq!(rx.recv(), Ok("over"));
    /// rx.close();
    /// assert_eq!(sender.join().unwrap().unwrap_err().into_inner(), "and out");
    /// ```
    #[inline(always)]
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        checkpoint();
        let state = self.core.lock();
        if state.can_push() {
            state.push(value);
            return Ok(());
        }
        // The wait itself is in the caller's frame: see `Blocker::park`.
        let waiter = Waiter::idle(Slot::new(Some(value)));
        // SAFETY: W2: the waiter stays in this frame until it is claimed, or given up by `abort_send`.
        if let Some(blocker) = unsafe { self.begin_send(state.into_guard(), &waiter) } {
            let token = blocker.park(WaitReason::ChanSend, None);
            if arm_of(token).is_none() {
                self.abort_send(&waiter);
            }
        }
        // Received; or closed, and then the value is still here.
        waiter.slot.take().map_or(Ok(()), |value| Err(SendError(value)))
    }

    /// Sends what is in the slot, or stands in the queue: then it is to be waited.
    ///
    /// # Safety
    /// W2, if there is a wait.
    #[inline(never)]
    unsafe fn begin_send(&self, guard: ShortGuard<'_, State<T>>, waiter: &Waiter<Slot<T>>) -> Option<Blocker> {
        let state = self.core.locked(guard);
        if state.just_waits(Side::Send) {
            let blocker = Blocker::armed();
            waiter.assign(blocker.parker(), settled(0));
            // SAFETY: by the caller.
            unsafe { state.wait(Side::Send, waiter) };
            return Some(blocker);
        }
        match state.meet_receiver(&waiter.slot.value) {
            Ok(()) => None,
            // SAFETY: by the caller.
            Err(state) => unsafe { self.begin_special_send(state, waiter) },
        }
    }

    /// When there is more to it: watchers, permits, selects, futures, threads, a close.
    ///
    /// # Safety
    /// As [`Sender::begin_send`].
    #[inline(never)]
    unsafe fn begin_special_send(&self, mut state: Locked<'_, T>, waiter: &Waiter<Slot<T>>) -> Option<Blocker> {
        match state.send(&waiter.slot.value) {
            Sent::Done(receiver) => {
                drop(state);
                wake(receiver);
                return None;
            }
            Sent::Closed => return None,
            Sent::Full => {}
        }
        let blocker = Blocker::current();
        waiter.assign(blocker.parker(), settled(0));
        blocker.arm();
        // SAFETY: by the caller.
        unsafe { state.wait_to_send(waiter) };
        state.release_loudly();
        Some(blocker)
    }

    /// After a wait without a deadline that no claim of the channel has ended.
    #[cold]
    fn abort_send(&self, waiter: &Waiter<Slot<T>>) -> ! {
        self.core.lock().give_up_send(waiter);
        drop(sole(&waiter.slot.value));
        unwind_aborted();
    }

    /// As [`send`](Sender::send), for `timeout` at most; what needs no waiting succeeds even if that is zero.
    ///
    /// # Errors
    /// The value comes back when the time is up, or the channel is closed or gets closed meanwhile.
    ///
    /// ```
    /// use gorun::chan::SendTimeoutError;
    /// let (tx, _rx) = gorun::channel(1);
    /// let late = gorun::go(move || (0..2).try_for_each(|n| tx.send_timeout(n, std::time::Duration::from_millis(2))));
    /// assert_eq!(late.join().unwrap(), Err(SendTimeoutError::Timeout(1)));
    /// ```
    pub fn send_timeout(&self, value: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        // A deadline that the clock can't say is none.
        self.send_until(value, Instant::now().checked_add(timeout))
    }

    /// As [`send_timeout`](Sender::send_timeout), until `deadline` at most.
    ///
    /// # Errors
    /// The value comes back when the time is up, or the channel is closed or gets closed meanwhile.
    ///
    /// ```
    /// use gorun::chan::SendTimeoutError;
    /// let (tx, _rx) = gorun::channel(0);
    /// let late = gorun::go(move || tx.send_deadline('v', std::time::Instant::now()));
    /// assert_eq!(late.join().unwrap(), Err(SendTimeoutError::Timeout('v')));
    /// ```
    pub fn send_deadline(&self, value: T, deadline: Instant) -> Result<(), SendTimeoutError<T>> {
        self.send_until(value, Some(deadline))
    }

    fn send_until(&self, value: T, deadline: Option<Instant>) -> Result<(), SendTimeoutError<T>> {
        checkpoint();
        let state = self.core.lock();
        if state.can_push() {
            state.push(value);
            return Ok(());
        }
        self.send_loudly(state, value, deadline)
    }

    /// When there is more to it than room in the buffer.
    fn send_loudly(
        &self,
        mut state: Locked<'_, T>,
        value: T,
        deadline: Option<Instant>,
    ) -> Result<(), SendTimeoutError<T>> {
        let value = Cell::new(Some(value));
        match state.send(&value) {
            Sent::Done(receiver) => {
                drop(state);
                wake(receiver);
                return Ok(());
            }
            Sent::Closed => return Err(SendTimeoutError::Closed(sole(&value))),
            Sent::Full => {}
        }
        let blocker = Blocker::current();
        let waiter = Waiter::new(&blocker, settled(0), Slot::new(value.into_inner()));
        blocker.arm();
        // SAFETY: W2: the waiter stays in this frame until it is claimed or given up below.
        unsafe { state.wait_to_send(&waiter) };
        state.release_loudly();
        let token = blocker.park(WaitReason::ChanSend, deadline);
        if arm_of(token).is_some() {
            // Received; or closed, and then the value is still here.
            return waiter.slot.take().map_or(Ok(()), |value| Err(SendTimeoutError::Closed(value)));
        }
        self.core.lock().give_up_send(&waiter);
        let value = sole(&waiter.slot.value);
        if token == Token::ABORT {
            drop(value);
            unwind_aborted();
        }
        Err(SendTimeoutError::Timeout(value))
    }

    /// Sends `value` if that needs no waiting: there is room, or a receiver waits. No cancellation point.
    ///
    /// # Errors
    /// The value comes back when it would have to wait, or the channel is closed.
    ///
    /// ```
    /// use gorun::chan::TrySendError;
    /// let (tx, rx) = gorun::channel(1);
    /// assert_eq!(tx.try_send(1), Ok(()));
    /// assert_eq!(tx.try_send(2), Err(TrySendError::Full(2)));
    /// drop(rx);
    /// assert_eq!(tx.try_send(3), Err(TrySendError::Closed(3)));
    /// ```
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        breathe();
        let mut state = self.core.lock();
        if state.can_push() {
            state.push(value);
            return Ok(());
        }
        let value = Cell::new(Some(value));
        let sent = state.send(&value);
        drop(state);
        match sent {
            Sent::Done(receiver) => {
                wake(receiver);
                Ok(())
            }
            Sent::Closed => Err(TrySendError::Closed(sole(&value))),
            Sent::Full => {
                polled_in_vain();
                Err(TrySendError::Full(sole(&value)))
            }
        }
    }
}
