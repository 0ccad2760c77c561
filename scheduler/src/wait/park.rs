//! The blocking half of the seam: how the current goroutine or plain thread waits.
//!
//! Called by every primitive. What decides lives with the primitives and in `claim_word`; this file suspends.

use crate::base::unwind::unwind_aborted;
use crate::claim::claim_word::Armed;
use crate::claim::claim_word::{Parker, ThreadParker, Token};
use crate::config::ThreadLocals;
use crate::goroutine::block::{Goroutine, YIELD};
use crate::goroutine::current;
use crate::goroutine::suspend::suspend;
use crate::processor::core::Processor;
use crate::stack::coroutine::Suspended;
use crate::wait::abort::lift_shields;
use crate::wait::deadline::with_deadline;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// What a goroutine waits for: for dumps and metrics. Never used again for something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "each is the name of the operation")]
pub enum WaitReason {
    None = 0,
    Sleep = 1,
    ChanSend = 2,
    ChanRecv = 3,
    Select = 4,
    Mutex = 5,
    RwLock = 6,
    Condvar = 7,
    WaitGroup = 8,
    Semaphore = 9,
    Barrier = 10,
    Once = 11,
    Join = 12,
    Scope = 13,
    Blocking = 14,
    Net = 15,
    Other = 16,
}

/// The current goroutine or plain thread, as one that is about to wait.
#[derive(Debug)]
pub struct Blocker {
    parker: NonNull<Parker>,
    thread: Option<BoxedParker>,
}

/// A plain thread's parker, which we own, by a pointer that stays valid when the blocker moves. (A `Box` is unique: each
/// move of it ends the pointers that were derived from it before.)
#[derive(Debug)]
struct BoxedParker(NonNull<ThreadParker>);

impl Drop for BoxedParker {
    fn drop(&mut self) {
        // SAFETY: from `Box::into_raw`, and dropped once. P3: whoever could claim it has let go of it by now.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

impl Blocker {
    /// Whoever calls: a goroutine, or a plain thread. It stays with its caller, and may be used for one wait after another.
    ///
    /// ```
    /// use gorun_scheduler::{Blocker, Token, WaitReason};
    /// let blocker = Blocker::current();
    /// blocker.arm();
    /// // Nobody can claim it: it is in no queue. So this is a sleep of a millisecond.
    /// let until = std::time::Instant::now() + std::time::Duration::from_millis(1);
    /// assert_eq!(blocker.park(WaitReason::Sleep, Some(until)), Token::TIMEOUT);
    /// ```
    #[inline]
    #[must_use]
    pub fn current() -> Blocker {
        match current::goroutine() {
            Some(g) => Blocker { parker: NonNull::from(g).cast(), thread: None },
            None => Blocker::of_thread(),
        }
    }

    /// As [`Blocker::current`] and [`Blocker::arm`].
    ///
    /// ```
    /// use gorun_scheduler::{Blocker, Parker, Token, WaitReason};
    /// let blocker = Blocker::armed();
    /// // SAFETY: the blocker, and so its parker, outlives the call.
    /// unsafe { Parker::claim(blocker.parker(), Token::DONE) }.unwrap().wake();
    /// assert_eq!(blocker.park(WaitReason::Other, None), Token::DONE);
    /// ```
    #[inline]
    #[must_use]
    pub fn armed() -> Blocker {
        match current::goroutine() {
            Some(g) => {
                arm_goroutine(g);
                Blocker { parker: NonNull::from(g).cast(), thread: None }
            }
            None => {
                let blocker = Blocker::of_thread();
                blocker.arm();
                blocker
            }
        }
    }

    #[cold]
    fn of_thread() -> Blocker {
        let thread = NonNull::from(Box::leak(Box::new(ThreadParker::current())));
        // SAFETY: just made.
        Blocker { parker: unsafe { thread.as_ref() }.parker(), thread: Some(BoxedParker(thread)) }
    }

    /// Its claim word, for who will end the wait; valid while the blocker is.
    ///
    /// ```
    /// use gorun_scheduler::{Blocker, Parker, Token, WaitReason};
    /// let blocker = Blocker::current();
    /// blocker.arm();
    /// // SAFETY: the blocker, and so its parker, outlives the call.
    /// let wake = unsafe { Parker::claim(blocker.parker(), Token::DONE) };
    /// wake.unwrap().wake();
    /// assert_eq!(blocker.park(WaitReason::Other, None), Token::DONE);
    /// ```
    #[inline]
    #[must_use]
    pub fn parker(&self) -> NonNull<Parker> {
        self.parker
    }

    /// Not that of a goroutine that left it where another one of its thread finds it.
    #[inline]
    fn is_of(&self, g: &Goroutine) -> bool {
        std::ptr::eq(self.parker.as_ptr(), &raw const g.parker)
    }

    fn check_caller(&self) {
        let is_callers = current::goroutine().map_or(self.thread.is_some(), |g| self.is_of(g));
        assert!(is_callers, "a blocker is used by whoever made it");
    }

    #[inline]
    fn word(&self) -> &Parker {
        // SAFETY: a goroutine's block is type-stable, a thread's parker is in our own box.
        unsafe { self.parker.as_ref() }
    }

    /// Announces the wait. From now on a claim may end it; so before it enqueues itself anywhere. What follows is one
    /// [`park`](Blocker::park), or a [`disarm`](Blocker::disarm) that succeeds.
    ///
    /// ```
    /// use gorun_scheduler::{Blocker, Parker, Token};
    /// let blocker = Blocker::current();
    /// // SAFETY: the blocker, and so its parker, outlives the calls.
    /// let claim = || unsafe { Parker::claim(blocker.parker(), Token::DONE) };
    /// assert!(claim().is_none());
    /// blocker.arm();
    /// assert!(claim().is_some());
    /// # let _ = blocker.park(gorun_scheduler::WaitReason::Other, None);
    /// ```
    #[inline]
    pub fn arm(&self) {
        match current::goroutine() {
            Some(g) => arm_goroutine(g),
            None => {
                self.word().arm(std::thread::panicking());
            }
        }
    }

    /// As [`Blocker::arm`], but an abort does not end this wait: where others hold borrows of our stack.
    ///
    /// # Panics
    /// When the caller is not the one that the blocker was made by.
    ///
    /// ```
    #[doc = include_str!("../examples.txt")]
    /// let goroutine = go(|| {
    ///     let blocker = Blocker::current();
    ///     blocker.arm_shielded();
    ///     current_goroutine().unwrap().abort();
    ///     let soon = std::time::Instant::now() + std::time::Duration::from_millis(1);
    ///     assert_eq!(blocker.park(WaitReason::Scope, Some(soon)), Token::TIMEOUT);
    /// });
    /// join(&goroutine);
    /// ```
    pub fn arm_shielded(&self) {
        self.check_caller();
        let _wait = self.word().arm(true);
    }

    /// Takes the announcement back, when the caller is in no queue. `false`: a claim (an abort's) came first, and
    /// [`Blocker::park`] has to be called, which returns at once.
    ///
    /// # Panics
    /// When the caller is not the one that the blocker was made by.
    ///
    /// ```
    /// let blocker = gorun_scheduler::Blocker::current();
    /// blocker.arm();
    /// // What we were going to wait for turns out to be there.
    /// assert!(blocker.disarm());
    /// ```
    #[must_use]
    pub fn disarm(&self) -> bool {
        self.check_caller();
        self.word().disarm()
    }

    /// Waits until claimed, or until `deadline`. Spurious returns do not happen. What the claimer did before its claim
    /// happens before the return.
    ///
    /// After [`Token::TIMEOUT`] or [`Token::ABORT`] the caller takes itself out of its queues; after an abort it
    /// then calls [`unwind_aborted`].
    ///
    /// The wait must have been [armed](Blocker::arm).
    ///
    /// # Panics
    /// On a goroutine, when the wait was not armed. (A plain thread would wait for ever.) When a goroutine calls that is not
    /// the one that the blocker was made by.
    ///
    /// ```
    /// use gorun_scheduler::{Blocker, Token, WaitQueue, WaitReason, Waiter};
    /// use std::{cell::Cell, sync::Mutex};
    /// static QUEUE: Mutex<WaitQueue<Cell<u32>>> = Mutex::new(WaitQueue::new());
    ///
    /// let blocker = Blocker::current();
    /// let waiter = Waiter::new(&blocker, Token::DONE, Cell::new(0));
    /// blocker.arm();
    /// // SAFETY: the waiter stays in this frame until it has been claimed.
    /// unsafe { QUEUE.lock().unwrap().push_back(&waiter) };
    /// let giver = std::thread::spawn(|| {
    ///     let given = QUEUE.lock().unwrap().claim_next(|slot| slot.set(7), |_, ()| ());
    ///     given.unwrap().1.wake();
    /// });
    /// assert_eq!(blocker.park(WaitReason::Other, None), Token::DONE);
    /// assert_eq!(waiter.slot.get(), 7);
    /// giver.join().unwrap();
    /// ```
    // Inlined, as all that lies between a blocking operation and the switch should be: a processor predicts returns by a
    // stack of its own, which after a switch is another goroutine's, so each return on the way back is mispredicted, and
    // costs 5 ns.
    #[inline(always)]
    #[must_use]
    pub fn park(&self, reason: WaitReason, deadline: Option<Instant>) -> Token {
        match current::goroutine() {
            Some(g) if self.is_of(g) => {
                // Relaxed: read by observers only.
                g.reason.store(reason as u8, Ordering::Relaxed);
                match deadline {
                    None => {
                        if g.parker.claimed().is_none() {
                            suspend(g, Suspended::Park);
                        }
                    }
                    Some(at) => self.park_until(g, at),
                }
                // Relaxed: as above.
                g.reason.store(WaitReason::None as u8, Ordering::Relaxed);
            }
            _ => self.park_thread(deadline),
        }
        self.word().finish()
    }

    #[inline(never)]
    fn park_until(&self, g: &Goroutine, at: Instant) {
        with_deadline(self.parker, at, || {
            if g.parker.claimed().is_none() {
                suspend(g, Suspended::Park);
            }
        });
    }

    #[cold]
    #[cfg_attr(not(any(loom, shuttle)), expect(clippy::disallowed_methods, reason = "a plain thread waits"))]
    fn park_thread(&self, deadline: Option<Instant>) {
        assert!(self.thread.is_some(), "a goroutine's blocker stays on its goroutine");
        while self.word().claimed().is_none() {
            match deadline {
                None => crate::base::atomics::park_thread(),
                Some(at) => {
                    let now = if cfg!(any(loom, shuttle)) { at } else { Instant::now() };
                    let left = at.saturating_duration_since(now);
                    if left.is_zero() {
                        // SAFETY: it is our own parker. If the claim is lost, another one was won.
                        let _ = unsafe { Parker::claim(self.parker, Token::TIMEOUT) };
                    } else {
                        crate::base::atomics::park_thread_timeout(left);
                    }
                }
            }
        }
    }
}

#[inline]
fn arm_goroutine(g: &Goroutine) {
    // A goroutine that is being unwound, or is in its exit path, can't be aborted once more.
    let panicking = std::thread::panicking();
    let exiting = g.exiting.get();
    let wait = g.parker.arm(exiting || panicking);
    if g.mode.get() == ThreadLocals::Pinned {
        doubt(g, (panicking && !exiting).then_some(wait), panicking);
    }
}

/// Notes that the wait of a pinned goroutine is shielded on suspicion, or lifts such shields: see `abort_shields`. On its own
/// stack.
#[inline]
pub(crate) fn doubt(g: &Goroutine, shielded: Option<Armed>, panicking: bool) {
    let doubts = &Processor::of(g).doubts;
    match shielded {
        Some(wait) => doubts.note(g, wait),
        None if panicking => {}
        None if doubts.are_any() => lift_shields(doubts),
        None => {}
    }
}

/// A cancellation point: unwinds the goroutine if it is being aborted, and yields if it was asked to.
///
/// Every blocking operation begins with one. Does nothing on a plain thread.
///
/// ```
#[doc = include_str!("../examples.txt")]
/// let goroutine = go(|| {
///     current_goroutine().unwrap().abort();
///     checkpoint();
///     unreachable!("it has been unwound");
/// });
/// join(&goroutine);
/// ```
#[inline]
pub fn checkpoint() {
    if let Some(g) = current::goroutine()
        // Relaxed: an abort's effects travel through the claim or not at all; a late look is a late abort.
        && g.requests.load(Ordering::Relaxed) != 0
    {
        heed(g, true);
    }
}

/// After a wait for the end of others: unwinds the goroutine if it is being aborted, or its runtime ends and is about to
/// abort it. For then those others may have been aborted, and their ends are no answer. Does nothing on a plain thread, nor
/// where an abort does nothing.
///
/// ```
#[doc = include_str!("../examples.txt")]
/// let goroutine = go(|| {
///     unwind_if_ending();
///     current_goroutine().unwrap().abort();
///     unwind_if_ending();
///     unreachable!("it has been unwound");
/// });
/// join(&goroutine);
/// ```
#[inline]
pub fn unwind_if_ending() {
    if cfg!(panic = "unwind")
        && let Some(g) = current::goroutine()
        && g.ends_with_others()
        && !g.exiting.get()
        && !std::thread::panicking()
    {
        unwind_aborted();
    }
}

/// Yields if the goroutine was asked to: for operations that do not block, and so are no cancellation points.
///
/// Only an isolated goroutine does: a pinned one may hold a lock of std's that a neighbour waits for on the same thread,
/// and would never get on again; where it expects to wait (`checkpoint`) it has itself to blame.
///
/// ```
#[doc = include_str!("../examples.txt")]
/// let sum = go(|| {
///     let mut sum = 0_u64;
///     for n in 0..1000 {
///         sum += n;
///         breathe(); // whoever waits for this worker gets it now and then
///     }
///     assert_eq!(sum, 499_500);
/// });
/// join(&sum);
/// ```
#[inline]
pub fn breathe() {
    if let Some(g) = current::goroutine()
        // Relaxed: a hint.
        && g.requests.load(Ordering::Relaxed) & YIELD != 0
    {
        heed(g, false);
    }
}

/// Yields if the goroutine was asked to, pinned or not: for operations that may wait, where they need not and are
/// no cancellation points.
///
/// ```
#[doc = include_str!("../examples.txt")]
/// let turns = go(|| (0..1000).for_each(|_| give_way()));
/// join(&turns);
/// ```
#[inline]
pub fn give_way() {
    if let Some(g) = current::goroutine()
        // Relaxed: a hint.
        && g.requests.load(Ordering::Relaxed) & YIELD != 0
    {
        yield_if_asked(g);
    }
}

#[cold]
fn heed(g: &Goroutine, cancels: bool) {
    if !cancels && g.mode.get() == ThreadLocals::Pinned {
        return;
    }
    // Without unwinding (`panic = "abort"`) a goroutine that has begun can't be ended from inside.
    if cancels && cfg!(panic = "unwind") && g.is_aborted() && !g.exiting.get() && !std::thread::panicking() {
        unwind_aborted();
    }
    yield_if_asked(g);
}

#[cold]
pub(crate) fn yield_if_asked(g: &Goroutine) {
    // Relaxed: a request, nothing is published with it.
    if g.requests.fetch_and(!YIELD, Ordering::Relaxed) & YIELD != 0 {
        suspend(g, Suspended::Asked);
    }
}

/// Yields: for a goroutine that has spawned more than its worker gets round to. As [`breathe`], an isolated one only.
#[cold]
pub(crate) fn let_begin() {
    if let Some(g) = current::goroutine()
        && g.mode.get() == ThreadLocals::Isolated
    {
        suspend(g, Suspended::Yield);
    }
}

/// Yields, if others are ready on this worker and all of them will have had their turns within microseconds, as far as is
/// known (`turn_length`): for who would otherwise go to some length to wait for one of them. Returns true if it has.
///
/// No cancellation point.
///
/// ```
/// assert!(!gorun_scheduler::let_fine_ones_go(), "no goroutine calls");
/// ```
// Inlined: see `Blocker::park`.
#[inline(always)]
pub fn let_fine_ones_go() -> bool {
    match (current::goroutine(), Processor::current()) {
        (Some(g), Some(processor)) if processor.has_fine_ones() => {
            suspend(g, Suspended::Yield);
            true
        }
        _ => false,
    }
}

/// Lets others run. A goroutine goes to the end of its worker's queue; a plain thread yields to the kernel.
/// A cancellation point.
///
/// Go's [`runtime.Gosched`](https://pkg.go.dev/runtime#Gosched).
///
/// ```
#[doc = include_str!("../examples.txt")]
/// use std::sync::atomic::{AtomicBool, Ordering};
/// static READY: AtomicBool = AtomicBool::new(false);
/// let waits = go(|| while !READY.load(Ordering::Acquire) { yield_now() });
/// join(&go(|| READY.store(true, Ordering::Release)));
/// join(&waits);
/// ```
// Inlined: see `Blocker::park`.
#[inline(always)]
pub fn yield_now() {
    match current::goroutine() {
        None => std::thread::yield_now(),
        Some(g) => {
            checkpoint();
            suspend(g, Suspended::Yield);
            checkpoint();
        }
    }
}
