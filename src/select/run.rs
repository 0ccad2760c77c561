//! How a select chooses: one operation of several, without holding up anybody and without anybody choosing twice.
//!
//! Called by the macros and by [`Select`](super::Select).
//!
//! # The protocol
//!
//! 1. *Look.* Of the arms whose channels hint that they may proceed, one after the other in random order: take its lock,
//!    try, release. Nothing of ours is in any queue, and our claim word says "running": we can claim others, and nobody
//!    can claim us.
//!    Of many arms none may: who is ready on this worker goes first, if that is a matter of microseconds, and then once
//!    more. A turn costs less than to stand in many queues.
//! 2. *All at once.* Take the locks of all channels, in the order of their addresses; try every arm again. If none can
//!    proceed, arm the claim word, put a waiter into each channel's queue and release its lock, park.
//! 3. *Leave.* One claim won: that arm was chosen, by the one who claimed. Take the other waiters out, one lock after
//!    the other.
//!
//! * **S1, no lost wake-up.** All are tried under all locks, and each lock is released only when our waiter stands in its
//!   channel's queue: whoever comes to one of the channels later finds it, and whoever came earlier was found by us. (We
//!   may be claimed in the first while we enqueue in the last: then that waiter is a claimed one, as any that is late.)
//! * **S2, one effect.** Before step 3 an arm is either tried by us, while nobody can claim us, or exchanged by one who
//!   wins our claim; never both. A loser puts its value back before it releases the lock (`claim_next`'s `undo`), and
//!   each waiter has a slot of its own, so that two who try at once on two channels do not meet.
//! * **S3, never itself.** We try only while our waiters are in no queue, so a select on both sides of a channel does not
//!   serve itself.
//! * **S4, no deadlock, no livelock.** More than one lock is taken in step 2 only, in one order for all. No step takes
//!   back a decision: two selects that meet from both sides are decided by the one that has the locks first, which either
//!   serves the other or is found waiting by it.
//!
//! The bad interleaving when locks are taken one at a time in step 2: A waits in channel 1 and looks at channel 2, B
//! waits in channel 2 and looks at channel 1; each finds the other, which can only be claimed if its owner is not
//! deciding itself; both withdraw and begin again, in step. With a flag "deciding" one would have to wait for the other,
//! and with no look after the first (A enqueued in 1, then in 2) a partner that came to 1 in between is not seen.
//!
//! An exception to "no step takes back a decision" is not ours: the other side's select was chosen to send and its value
//! expression panicked, or takes so long that we must check our deadline, an abort and the other arms (`patience` in
//! `chan`). Then we begin again, with the old deadline (`promised`).

use super::arm::{Arm, Erased, Operations, Tried, Waits};
use super::renew::Renew;
use crate::chan::{arm_of, is_promise, patience};
use gorun_scheduler::{Token, WaitReason, breathe, checkpoint, let_fine_ones_go, polled_in_vain, unwind_aborted};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long to wait.
#[derive(Clone, Copy, Debug)]
pub enum Wait {
    /// Not at all.
    Not,
    /// Until this instant; for ever without one.
    Until(Option<Instant>),
}

impl Wait {
    /// For as long at most; a deadline that the clock can't say is none.
    pub(super) fn for_at_most(timeout: Duration) -> Wait {
        Wait::Until(Instant::now().checked_add(timeout))
    }
}

/// A table of arms holds references or counted ones.
pub(super) trait AsOperations {
    fn operations(&self) -> &dyn Operations;
    /// As [`Operations::may_proceed`].
    fn may_proceed(&self) -> bool;
}

impl AsOperations for Arm<'_> {
    #[inline]
    fn operations(&self) -> &dyn Operations {
        self.operations
    }
    #[inline]
    fn may_proceed(&self) -> bool {
        Arm::may_proceed(self)
    }
}

impl<'a> AsOperations for (usize, Rc<dyn Renew<'a> + 'a>) {
    #[inline]
    fn operations(&self) -> &dyn Operations {
        &*self.1
    }
    #[inline]
    fn may_proceed(&self) -> bool {
        self.1.may_proceed()
    }
}

/// Chooses an arm and carries it out; `None` if the time is up first. What came of it is in the arm (A3).
///
/// A cancellation point, unless it does not wait.
#[inline]
pub(super) fn run<A: AsOperations>(arms: &[A], biased: bool, wait: Wait) -> Option<usize> {
    match wait {
        Wait::Until(_) => checkpoint(),
        Wait::Not => breathe(),
    }
    let waits = Waits::default();
    let mut given_way = arms.len() < MANY;
    // Nothing of ours is in any queue, and any number of selects may wait on the other side, so an abort and the time are looked
    // at before the next one. When the time is up each arm is tried once more, as this may be the first time for some.
    let mut last = false;
    let mut ends = || {
        if matches!(wait, Wait::Until(_)) {
            checkpoint();
        }
        std::mem::replace(&mut last, is_over(wait))
    };
    loop {
        let looked = in_some_order(arms, biased, |index| arms[index].operations().attempt_alone(&waits));
        match settle(arms, looked, &waits) {
            Settled::Chosen(index) => return Some(index),
            Settled::Anew if ends() => return None,
            Settled::Anew => continue,
            Settled::Nothing => {}
        }
        // Of a single channel the hint was all there is to know (N1).
        if matches!(wait, Wait::Not) && arms.len() <= 1 {
            polled_in_vain();
            return None;
        }
        if !std::mem::replace(&mut given_way, true) && matches!(wait, Wait::Until(_)) && let_fine_ones_go() {
            continue;
        }
        match all_at_once(arms, biased, wait, &waits) {
            Settled::Chosen(index) => return Some(index),
            Settled::Anew if ends() => return None,
            Settled::Anew => {}
            Settled::Nothing => {
                if matches!(wait, Wait::Not) {
                    polled_in_vain();
                }
                return None;
            }
        }
    }
}

/// Returns true if a select that has waited for a promise in vain has no more time.
#[cold]
fn is_over(wait: Wait) -> bool {
    match wait {
        Wait::Not => true,
        Wait::Until(deadline) => deadline.is_some_and(|at| Instant::now() >= at),
    }
}

/// So many arms cost more to wait in than a turn of somebody's who may make one of them ready.
const MANY: usize = 4;

enum Settled {
    Chosen(usize),
    /// The other side gave up, or takes too long: begin again.
    Anew,
    Nothing,
}

/// What remains to be done without locks after trying.
#[inline]
fn settle<A: AsOperations>(arms: &[A], tried: Option<(usize, Tried)>, waits: &Waits) -> Settled {
    match tried {
        None | Some((_, Tried::NotNow)) => Settled::Nothing,
        Some((index, Tried::Done(wake))) => {
            if let Some(wake) = wake {
                wake.wake();
            }
            Settled::Chosen(index)
        }
        Some((index, Tried::Committed(sender))) => {
            sender.wake();
            let token = waits.blocker().park(WaitReason::Select, patience());
            if arms[index].operations().fulfilled(token) { Settled::Chosen(index) } else { Settled::Anew }
        }
    }
}

/// Tries those that may proceed, each once, until one does: uniformly at random, or from the first.
#[inline]
fn in_some_order<A: AsOperations>(
    arms: &[A],
    biased: bool,
    attempt: impl FnMut(usize) -> Tried,
) -> Option<(usize, Tried)> {
    if arms.len() > 64 {
        return in_some_order_of_many(arms, biased, attempt);
    }
    let mut ready = 0u64;
    for (index, arm) in arms.iter().enumerate() {
        ready |= u64::from(arm.may_proceed()) << index;
    }
    try_ready(arms, ready, biased, attempt)
}

/// The same for the arms of which there is a bit in `ready`.
#[inline]
fn try_ready<A: AsOperations>(
    arms: &[A],
    mut ready: u64,
    biased: bool,
    mut attempt: impl FnMut(usize) -> Tried,
) -> Option<(usize, Tried)> {
    while ready != 0 {
        let mut choice = ready;
        let count = ready.count_ones();
        if !biased && count > 1 {
            let random = arms[ready.trailing_zeros() as usize].operations().random();
            // The high half of the product: as even as 2^32 numbers can be spread.
            for _ in 0..(u64::from(random) * u64::from(count)) >> 32 {
                choice &= choice - 1;
            }
        }
        let index = choice.trailing_zeros() as usize;
        match attempt(index) {
            Tried::NotNow => ready &= !(1 << index),
            tried => return Some((index, tried)),
        }
    }
    None
}

#[cold]
fn in_some_order_of_many<A: AsOperations>(
    arms: &[A],
    biased: bool,
    mut attempt: impl FnMut(usize) -> Tried,
) -> Option<(usize, Tried)> {
    let mut ready: Vec<usize> = (0..arms.len()).filter(|index| arms[*index].may_proceed()).collect();
    for left in (1..=ready.len()).rev() {
        let index = if biased {
            ready[ready.len() - left]
        } else {
            let random = arms[ready[0]].operations().random();
            ready.swap_remove(((u64::from(random) * left as u64) >> 32) as usize)
        };
        match attempt(index) {
            Tried::NotNow => {}
            tried => return Some((index, tried)),
        }
    }
    None
}

#[cold]
fn tell<A: AsOperations>(arms: &[A]) {
    arms.iter().for_each(|arm| arm.operations().tell_watchers());
}

/// Steps 2 and 3.
// All of it in one frame, and few between the caller's and the switch: see `Blocker::park`.
#[inline(always)]
fn all_at_once<A: AsOperations>(arms: &[A], biased: bool, wait: Wait, waits: &Waits) -> Settled {
    // On the stack for as many as one usually writes down, and not more than needed, as it is written to.
    const TWO: usize = 2;
    const FEW: usize = 16;
    let (mut two, mut few, mut many);
    let (addresses, order, states): (&mut [usize], &mut [u32], &mut [Option<Erased>]) = if arms.len() <= TWO {
        two = ([0; TWO], [0; TWO], [None; TWO]);
        (&mut two.0[..arms.len()], &mut two.1[..arms.len()], &mut two.2[..arms.len()])
    } else if arms.len() <= FEW {
        few = ([0; FEW], [0; FEW], [None; FEW]);
        (&mut few.0[..arms.len()], &mut few.1[..arms.len()], &mut few.2[..arms.len()])
    } else {
        many = (vec![0; arms.len()], vec![0; arms.len()], vec![None; arms.len()]);
        (&mut many.0, &mut many.1, &mut many.2)
    };
    let mut sorted = true;
    for (index, arm) in arms.iter().enumerate() {
        addresses[index] = arm.operations().address();
        sorted &= index == 0 || addresses[index - 1] <= addresses[index];
        // A claim's token has no room for more either (`Token::case`).
        order[index] = index as u32;
    }
    // S4. Each channel once, however many arms it is in.
    if !sorted {
        order.sort_unstable_by_key(|index| addresses[*index as usize]);
    }
    let mut last: Option<(usize, Erased)> = None;
    let (mut twice, mut ready) = (None, 0u64);
    for index in order.iter().map(|index| *index as usize).filter(|index| addresses[*index] != 0) {
        let operations = arms[index].operations();
        let (state, may_proceed) = match last {
            Some((address, state)) if address == addresses[index] => {
                twice = Some(index);
                (state, operations.may_proceed())
            }
            _ => operations.lock(),
        };
        last = Some((addresses[index], state));
        states[index] = Some(state);
        ready |= u64::from(may_proceed) << (index % 64);
    }
    let unlock = || {
        // Those that took a lock know it. Nobody is told anything before the last is released.
        if arms.iter().fold(false, |tell, arm| arm.operations().unlock() | tell) {
            tell(arms);
        }
    };

    let attempt = |index: usize| {
        let state = states[index].expect("it may proceed, so it has a channel");
        // SAFETY: A1.
        unsafe { arms[index].operations().attempt(state, waits) }
    };
    let tried = match arms.len() {
        0..=64 => try_ready(arms, ready, biased, attempt),
        _ => in_some_order_of_many(arms, biased, attempt),
    };
    let deadline = match wait {
        Wait::Until(deadline) if tried.is_none() => deadline,
        _ => {
            unlock();
            return settle(arms, tried, waits);
        }
    };
    let blocker = waits.blocker();
    blocker.arm();
    match twice {
        // S1: each channel's lock is kept until our waiter is there.
        None => {
            let stand = |tell, (index, arm): (usize, &A)| {
                // SAFETY: A1; A2: all leave below, and nothing unwinds in between.
                tell | unsafe { arm.operations().stand(blocker, index) }
            };
            if arms.iter().enumerate().fold(false, stand) {
                tell(arms);
            }
        }
        Some(index) => {
            // Of several arms in one queue the first to stand there is the one to be taken: any of them, unless biased.
            let first = if biased { 0 } else { arms[index].operations().random() as usize % arms.len() };
            for (index, arm) in arms.iter().enumerate().cycle().skip(first).take(arms.len()) {
                if let Some(state) = states[index] {
                    // SAFETY: as above.
                    unsafe { arm.operations().enqueue(state, blocker, index) };
                }
            }
            unlock();
        }
    }
    let token = blocker.park(WaitReason::Select, deadline);
    let chosen = arm_of(token);
    for (index, arm) in arms.iter().enumerate() {
        if chosen != Some(index) {
            arm.operations().leave();
        }
    }
    match chosen {
        Some(index) if is_promise(token) && !arms[index].operations().promised(waits) => Settled::Anew,
        Some(index) => Settled::Chosen(index),
        None if token == Token::ABORT => unwind_aborted(),
        None => Settled::Nothing,
    }
}

/// Waits until an arm would not have to wait, and does nothing about it.
pub(super) fn run_ready<A: AsOperations>(arms: &[A], biased: bool, wait: Wait) -> Option<usize> {
    let is_ready = |index: usize| if arms[index].operations().is_ready() { Tried::Done(None) } else { Tried::NotNow };
    let looked = || in_some_order(arms, biased, is_ready).map(|(index, _)| index);
    let deadline = match wait {
        Wait::Not => {
            let ready = looked();
            if ready.is_none() {
                polled_in_vain();
            }
            return ready;
        }
        Wait::Until(deadline) => deadline,
    };
    checkpoint();
    if let Some(index) = looked() {
        return Some(index);
    }
    let waits = Waits::default();
    let blocker = waits.blocker();
    blocker.arm();
    // One lock at a time will do: to be told changes nothing for anybody, so nothing has to be decided at once.
    let ready = arms.iter().enumerate().find_map(|(index, arm)| {
        // SAFETY: A2: all leave below, and nothing unwinds in between.
        (!unsafe { arm.operations().watch(blocker, index) }).then_some(index)
    });
    let token = match ready {
        Some(_) if blocker.disarm() => None,
        // Or it was claimed first, and this returns at once.
        _ => Some(blocker.park(WaitReason::Select, deadline)),
    };
    arms.iter().for_each(|arm| arm.operations().leave_watch());
    match token {
        Some(Token::ABORT) => unwind_aborted(),
        Some(token) => arm_of(token),
        None => ready,
    }
}
