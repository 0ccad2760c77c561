//! Receiving: what it does when it has to wait. `state` decides whether it has to.

use super::error::{RecvError, RecvTimeoutError, TryRecvError};
use super::handle::Receiver;
use super::iter::{Iter, TryIter};
use super::locked::Locked;
use super::slot::Slot;
use super::state::{Received, Side, State};
use super::token::{arm_of, is_promise, patience, settled};
use gorun_scheduler::{
    Blocker, ShortGuard, Token, WaitReason, Waiter, Wake, breathe, checkpoint, polled_in_vain, unwind_aborted,
};
use std::time::{Duration, Instant};

fn wake(wake: Option<Wake>) {
    if let Some(wake) = wake {
        wake.wake();
    }
}

/// For how long a receive waits.
#[derive(Clone, Copy)]
enum Limit {
    Now,
    At(Option<Instant>),
}

impl<T> Receiver<T> {
    /// Receives a value, waiting for one if need be. Waiting receivers are served first come, first served.
    ///
    /// The send of the value happens before `recv` returns it; so does the close before a `recv` that fails because
    /// of it.
    ///
    /// A cancellation point: a goroutine that is aborted while it waits has received nothing.
    ///
    /// # Errors
    /// [`RecvError`] when the channel is closed and empty.
    ///
    /// ```
    /// use gorun::chan::RecvError;
    /// let (tx, rx) = gorun::channel(2);
    /// gorun::go(move || tx.send(7).unwrap()); // and drops the last sender
    /// assert_eq!(rx.recv(), Ok(7));
    /// assert_eq!(rx.recv(), Err(RecvError));
    /// ```
    #[inline(always)]
    pub fn recv(&self) -> Result<T, RecvError> {
        checkpoint();
        let state = self.core.lock();
        if state.can_pop() {
            return Ok(state.pop());
        }
        // The wait itself is in the caller's frame: see `Blocker::park`.
        let waiter = Waiter::idle(Slot::new(None));
        // SAFETY: W2: the waiter stays in this frame until it is claimed, or given up by `end_recv`.
        if let Some(blocker) = unsafe { self.begin_recv(state.into_guard(), &waiter) } {
            let token = blocker.park(WaitReason::ChanRecv, None);
            if token != settled(0) {
                return self.end_recv(&blocker, &waiter, token);
            }
        }
        // A value; or closed, and then the slot is empty.
        waiter.slot.take().ok_or(RecvError)
    }

    /// Receives into the slot, or stands in the queue: then it is to be waited.
    ///
    /// # Safety
    /// W2, if there is a wait.
    #[inline(never)]
    unsafe fn begin_recv(&self, guard: ShortGuard<'_, State<T>>, waiter: &Waiter<Slot<T>>) -> Option<Blocker> {
        let state = self.core.locked(guard);
        if state.just_waits(Side::Receive) {
            let blocker = Blocker::armed();
            waiter.assign(blocker.parker(), settled(0));
            // SAFETY: by the caller.
            unsafe { state.wait(Side::Receive, waiter) };
            return Some(blocker);
        }
        match state.meet_sender(&waiter.slot.value) {
            Ok(()) => None,
            // SAFETY: by the caller.
            Err(state) => unsafe { self.begin_special_recv(state, waiter) },
        }
    }

    /// When there is more to it: watchers, permits, selects, futures, threads, values in the buffer, a close.
    ///
    /// # Safety
    /// As [`Receiver::begin_recv`].
    #[inline(never)]
    unsafe fn begin_special_recv<'a>(&'a self, state: Locked<'a, T>, waiter: &Waiter<Slot<T>>) -> Option<Blocker> {
        let mut state = self.core.fresh(state);
        loop {
            let promised = match state.receive(&waiter.slot.value) {
                Received::Value(sender) => {
                    drop(state);
                    wake(sender);
                    return None;
                }
                Received::Closed => return None,
                Received::Empty => None,
                Received::Promised(sender) => Some(sender),
            };
            let blocker = Blocker::current();
            waiter.assign(blocker.parker(), settled(0));
            let Some(sender) = promised else {
                blocker.arm();
                // SAFETY: by the caller.
                unsafe { state.wait_to_receive(waiter) };
                state.release_loudly();
                return Some(blocker);
            };
            if self.core.commit(state, sender, &blocker, waiter, WaitReason::ChanRecv) {
                return None;
            }
            // The waiter is in no queue. Any number of selects may wait here, so an abort is looked for before the next one.
            checkpoint();
            state = self.core.lock();
        }
    }

    /// After a wait without a deadline that no value and no close has ended.
    #[cold]
    fn end_recv(&self, blocker: &Blocker, waiter: &Waiter<Slot<T>>, token: Token) -> Result<T, RecvError> {
        if is_promise(token) {
            if !self.core.await_promise(blocker, waiter, WaitReason::ChanRecv) {
                // The select that had chosen to send to us has given up. It may happen any number of times, so what follows is
                // a loop: a call of `recv` from here would use more stack each time.
                checkpoint();
                // Without a deadline there is no other error.
                self.receive_into(self.core.lock().into_guard(), waiter, Limit::At(None))
                    .map_err(|_closed| RecvError)?;
            }
            return waiter.slot.take().ok_or(RecvError);
        }
        self.core.lock().give_up_receive(waiter);
        unwind_aborted();
    }

    /// As [`recv`](Receiver::recv), for `timeout` at most; what is there is received even if that is zero.
    ///
    /// # Errors
    /// When the time is up, or the channel is closed and empty.
    ///
    /// ```
    /// use gorun::chan::RecvTimeoutError;
    /// let (_tx, rx) = gorun::channel::<u8>(0);
    /// let waiting = gorun::go(move || rx.recv_timeout(std::time::Duration::from_millis(2)));
    /// assert_eq!(waiting.join().unwrap(), Err(RecvTimeoutError::Timeout));
    /// ```
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.recv_until(Instant::now().checked_add(timeout))
    }

    /// As [`recv_timeout`](Receiver::recv_timeout), until `deadline` at most.
    ///
    /// # Errors
    /// When the time is up, or the channel is closed and empty.
    ///
    /// ```
    /// use gorun::chan::RecvTimeoutError;
    /// let (tx, rx) = gorun::channel(1);
    /// tx.send(1).unwrap();
    /// let twice = gorun::go(move || [(); 2].map(|()| rx.recv_deadline(std::time::Instant::now())));
    /// assert_eq!(twice.join().unwrap(), [Ok(1), Err(RecvTimeoutError::Timeout)]);
    /// ```
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        self.recv_until(Some(deadline))
    }

    fn recv_until(&self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        checkpoint();
        let state = self.core.lock();
        if state.can_pop() {
            return Ok(state.pop());
        }
        let waiter = Waiter::idle(Slot::new(None));
        self.receive_into(state.into_guard(), &waiter, Limit::At(deadline))?;
        waiter.slot.take().ok_or(RecvTimeoutError::Closed)
    }

    /// The receive step of all that has not found a value at once: receives into the waiter's slot, which is empty, or waits
    /// until `limit`.
    #[inline(never)]
    fn receive_into(
        &self,
        guard: ShortGuard<'_, State<T>>,
        waiter: &Waiter<Slot<T>>,
        limit: Limit,
    ) -> Result<(), RecvTimeoutError> {
        let mut state = self.core.fresh(self.core.locked(guard));
        // One that does not wait has patience with a promise all the same, once.
        let mut until = None;
        loop {
            let promised = match state.receive(&waiter.slot.value) {
                Received::Value(sender) => {
                    drop(state);
                    wake(sender);
                    return Ok(());
                }
                Received::Closed => return Err(RecvTimeoutError::Closed),
                Received::Empty => None,
                Received::Promised(sender) => Some(sender),
            };
            let deadline = match limit {
                Limit::At(deadline) => deadline,
                Limit::Now if promised.is_some() => *until.get_or_insert_with(patience),
                Limit::Now => return Err(RecvTimeoutError::Timeout),
            };
            let blocker = Blocker::current();
            waiter.assign(blocker.parker(), settled(0));
            let is_over = match promised {
                Some(sender) => self.core.commit(state, sender, &blocker, waiter, WaitReason::ChanRecv),
                None => {
                    blocker.arm();
                    // SAFETY: W2: the waiter stays in the caller's frame; it is claimed or given up below.
                    unsafe { state.wait_to_receive(waiter) };
                    state.release_loudly();
                    let token = blocker.park(WaitReason::ChanRecv, deadline);
                    if is_promise(token) {
                        self.core.await_promise(&blocker, waiter, WaitReason::ChanRecv)
                    } else if arm_of(token).is_some() {
                        // A value; or closed, and then the slot is empty.
                        true
                    } else {
                        self.core.lock().give_up_receive(waiter);
                        if token == Token::ABORT {
                            unwind_aborted();
                        }
                        return Err(RecvTimeoutError::Timeout);
                    }
                }
            };
            if is_over {
                return Ok(());
            }
            // The select that had chosen to send to us has given up.
            if matches!(limit, Limit::At(_)) {
                checkpoint();
            }
            state = self.lock_before(deadline).ok_or(RecvTimeoutError::Timeout)?;
        }
    }

    /// The lock, after a promise that was not kept. `None` if it is too late for the next promise, and that is what comes
    /// next: any number of selects may wait here, and each takes as long as its value does, or as our patience.
    fn lock_before(&self, deadline: Option<Instant>) -> Option<Locked<'_, T>> {
        let state = self.core.lock();
        let late = deadline.is_some_and(|deadline| deadline <= Instant::now());
        (!late || !state.next_is_promise()).then_some(state)
    }

    /// Receives a value if that needs no waiting: one is in the buffer, or a sender waits. No cancellation point.
    ///
    /// If the waiting sender is a `select!`, its arm is chosen and this call waits for the value, for at most some 10 ms.
    /// If the sender takes longer to make it, this call returns an error, and the value goes to the next receive.
    ///
    /// # Errors
    /// When there is none now, or the channel is closed and empty.
    ///
    /// ```
    /// use gorun::chan::TryRecvError;
    /// let (tx, rx) = gorun::channel(1);
    /// assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    /// tx.send(1).unwrap();
    /// tx.close();
    /// assert_eq!(rx.try_recv(), Ok(1));
    /// assert_eq!(rx.try_recv(), Err(TryRecvError::Closed));
    /// ```
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        breathe();
        let state = self.core.lock();
        if state.can_pop() {
            return Ok(state.pop());
        }
        let state = self.core.fresh(state);
        if state.has_nothing() {
            drop(state);
            polled_in_vain();
            return Err(TryRecvError::Empty);
        }
        let waiter = Waiter::idle(Slot::new(None));
        match self.receive_into(state.into_guard(), &waiter, Limit::Now) {
            Ok(()) => waiter.slot.take().ok_or(TryRecvError::Closed),
            Err(RecvTimeoutError::Closed) => Err(TryRecvError::Closed),
            Err(RecvTimeoutError::Timeout) => {
                polled_in_vain();
                Err(TryRecvError::Empty)
            }
        }
    }

    /// Receives, waiting as [`recv`](Receiver::recv) does, until the channel is closed and empty.
    ///
    /// ```
    /// let (tx, rx) = gorun::channel(0);
    /// gorun::go(move || ["a", "b"].map(|s| tx.send(s).unwrap()));
    /// assert_eq!(rx.iter().collect::<String>(), "ab");
    /// ```
    #[must_use]
    pub fn iter(&self) -> Iter<'_, T> {
        Iter::new(self)
    }

    /// Receives what is there now, without waiting.
    ///
    /// ```
    /// let (tx, rx) = gorun::channel(3);
    /// (0..3).for_each(|n| tx.send(n).unwrap());
    /// assert_eq!(rx.try_iter().collect::<Vec<_>>(), [0, 1, 2]);
    /// ```
    #[must_use]
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter::new(self)
    }
}
