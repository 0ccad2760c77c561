//! Timers that are nobody's wait: shared objects that can be set, stopped and set again from any thread.
//!
//! Made and used by `gorun::time`, which says by an [`Alarm`] what they do. A timer belongs to the seat on which it
//! was made, for ever: one lock decides all that happens to it. (Following the goroutine that sets it would need a
//! second lock, or a count on the runtime with every timer that all its workers change.) The timer keeps its seat's
//! memory, not its runtime.
//!
//! The invariants are those of `timers` (M1 to M5).

use crate::goroutine::block::Above;
use crate::processor::core::Processor;
use crate::seat::seats::Seat;
use crate::shared_timer::spawner::Spawner;
use crate::shared_timer::stopper::Stopper;
use crate::timer::clock::{Moment, NEVER, now};
use crate::timer::node::Node;
use crate::timer::timers::Call;
use crate::timer::timers::Rung;
use crate::timer::timers::Shared;
use crate::timer::timers::{State, Timers, What};
use crossbeam_utils::CachePadded;
use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// What a timer does when it is time. None of it is user code.
pub trait Alarm: Send + Sync + Sized + 'static {
    /// It is time: `due` is when it should have been, `now` is when it is. Under the timers' lock (M3, M4): takes no
    /// lock but a channel's, wakes nobody, and drops nothing of a user's.
    ///
    /// ```
    #[doc = include_str!("../examples.txt")]
    /// use std::sync::atomic::{AtomicU32, Ordering};
    /// use std::time::Duration;
    /// static RUNG: AtomicU32 = AtomicU32::new(0);
    /// struct ThreeTimes;
    /// impl Alarm for ThreeTimes {
    ///     fn ring(&self, due: Moment, now: Moment) -> Rung {
    ///         assert!(due <= now);
    ///         let times = RUNG.fetch_add(1, Ordering::Release) + 1;
    ///         Rung { wake: None, call: false, again: (times < 3).then(|| now.after(Duration::from_millis(1))) }
    ///     }
    /// }
    /// Timer::new(SCHEDULER.remote().timer_home(), ThreeTimes).set(Moment::now(), |_, _| ());
    /// while RUNG.load(Ordering::Acquire) < 3 { std::thread::yield_now() }
    /// ```
    fn ring(&self, due: Moment, now: Moment) -> Rung;

    /// After a [`Rung`] that wants it, with no lock held, on a worker but not on a goroutine: to start one
    /// ([`Spawner::spawn`]), or to wake more.
    ///
    /// ```
    #[doc = include_str!("../examples.txt")]
    /// struct Tell(std::sync::mpsc::Sender<bool>);
    /// impl Alarm for Tell {
    ///     fn ring(&self, _due: Moment, _now: Moment) -> Rung { Rung { wake: None, call: true, again: None } }
    ///     fn call(timer: Timer<Tell>, _spawner: &Spawner<'_>) { timer.alarm().0.send(in_goroutine()).unwrap() }
    /// }
    /// let (tx, rx) = std::sync::mpsc::channel();
    /// Timer::new(SCHEDULER.remote().timer_home(), Tell(tx)).set(Moment::now(), |_, _| ());
    /// assert_eq!(rx.recv(), Ok(false));
    /// ```
    fn call(_timer: Timer<Self>, _spawner: &Spawner<'_>) {}

    /// The runtime has ended while the timer was pending: it won't ring. With no lock held.
    ///
    /// ```
    #[doc = include_str!("../examples.txt")]
    /// # use std::time::Duration;
    /// struct Tell(std::sync::mpsc::Sender<&'static str>);
    /// impl Alarm for Tell {
    ///     fn ring(&self, _due: Moment, _now: Moment) -> Rung { unreachable!() }
    ///     fn end(&self) { self.0.send("never").unwrap() }
    /// }
    /// let (tx, rx) = std::sync::mpsc::channel();
    /// let scheduler = Scheduler::start(Config { workers: 1, ..Config::from_env().unwrap() }).unwrap();
    /// Timer::new(scheduler.remote().timer_home(), Tell(tx)).set(Moment::now().after(Duration::from_secs(3600)), |_, _| ());
    /// scheduler.shut_down(Duration::from_secs(10)).unwrap();
    /// assert_eq!(rx.recv(), Ok("never"));
    /// ```
    fn end(&self) {}
}

/// What became of a timer that was started late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    /// It will ring.
    Pending,
    /// It would have rung: its time has passed.
    Due,
    /// It won't ring: its runtime ended before its time came.
    Ended,
}

/// Where timers are made: the seat to which they will belong. Keeps the seat's memory, not its runtime.
#[derive(Clone, Debug)]
pub struct TimerHome(Arc<CachePadded<Seat>>);

impl TimerHome {
    /// The current goroutine's; `None` if no goroutine calls.
    ///
    /// ```
    #[doc = include_str!("../examples.txt")]
    /// assert!(TimerHome::here().is_none());
    /// join(&go(|| assert!(TimerHome::here().is_some())));
    /// ```
    #[inline]
    #[must_use]
    pub fn here() -> Option<TimerHome> {
        Processor::current().map(|processor| TimerHome(processor.shared.seats.shared(processor.index).clone()))
    }

    pub(crate) fn on(seat: Arc<CachePadded<Seat>>) -> TimerHome {
        TimerHome(seat)
    }
}

/// A timer, by reference: clones are the same timer. It rings though all its handles are gone.
pub struct Timer<A>(Arc<Owned<A>>);

/// A reference that does not keep the timer: only its being pending does.
pub struct WeakTimer<A>(Weak<Owned<A>>);

/// `repr(C)` with the node first: a pointer to the node is a pointer to the whole.
#[repr(C)]
struct Owned<A> {
    node: Node<What>,
    seat: Arc<CachePadded<Seat>>,
    /// When it rings next, to be read without the lock; [`NEVER`] if it is not pending. Changes under the lock, with the
    /// node. A hint: who acts on it looks again under the lock.
    due: AtomicU64,
    alarm: A,
}

// SAFETY: M1: the node changes under the lock of the seat's queue only; the rest is Send and Sync.
unsafe impl<A: Send + Sync> Send for Owned<A> {}
// SAFETY: as above.
unsafe impl<A: Send + Sync> Sync for Owned<A> {}

impl<A: Alarm> Call for Owned<A> {
    unsafe fn call(self: Arc<Self>, processor: *const Above) {
        // SAFETY: the caller's contract; its worker keeps it.
        let processor = unsafe { &*processor.cast::<Processor>() };
        A::call(Timer(self), &Spawner::on(processor));
    }

    fn end(&self) {
        // Relaxed: a hint.
        self.due.store(NEVER, Ordering::Relaxed);
        self.alarm.end();
    }

    fn stop(self: Arc<Self>) {
        Timer(self).stop(|_, _| ());
    }

    fn due(&self) -> u64 {
        // Relaxed: a hint. Who has set the timer, or was told so, reads what was set.
        self.due.load(Ordering::Relaxed)
    }

    fn ring_now(self: Arc<Self>) -> bool {
        let timer = Timer(self);
        let timers = timer.0.timers();
        let (rung, _dropped_unlocked) = {
            let (mut state, may_be_in) = timers.lock_shared();
            let at = timer.0.node.at.get();
            let now = now();
            if !may_be_in || !timer.0.node.is_in() || at > now {
                return false;
            }
            // SAFETY: the node is the first field of an `Owned<A>`, it is in the queue, and we have the lock.
            let rung = unsafe { Owned::<A>::ring(timer.node(), Moment(at), Moment(now)) };
            let taken = match rung.again {
                Some(at) => {
                    // As where workers fire.
                    state.queue.change(at.0.max(now + 1), timer.node());
                    None
                }
                None => {
                    state.queue.remove(timer.node());
                    // SAFETY: M2: with the node the queue's reference is ours.
                    Some(unsafe { Owned::<A>::adopt(timer.node()) })
                }
            };
            timers.publish(&state);
            (rung, taken)
        };
        if let Some(wake) = rung.wake {
            wake.wake();
        }
        rung.call
    }
}

impl<A: Alarm> Owned<A> {
    const SHARED: &'static Shared = &Shared { ring: Self::ring, share: Self::share, adopt: Self::adopt };

    /// # Safety
    /// The node is the first field of an `Owned<A>`, in the queue, whose lock the caller has.
    unsafe fn ring(node: NonNull<Node<What>>, due: Moment, now: Moment) -> Rung {
        // SAFETY: by the caller, and M2.
        let owned = unsafe { node.cast::<Owned<A>>().as_ref() };
        let rung = owned.alarm.ring(due, now);
        // Relaxed: a hint.
        owned.due.store(rung.again.map_or(NEVER, |at| at.0.max(now.0 + 1)), Ordering::Relaxed);
        rung
    }

    /// # Safety
    /// The node is the first field of an `Owned<A>`, in the queue, whose lock the caller has.
    unsafe fn share(node: NonNull<Node<What>>) -> Arc<dyn Call> {
        let owned = node.cast::<Owned<A>>().as_ptr();
        // SAFETY: it came from `Arc::into_raw` in `set`, and the queue's reference stays.
        unsafe {
            Arc::increment_strong_count(owned);
            Arc::from_raw(owned)
        }
    }

    /// # Safety
    /// The node is the first field of an `Owned<A>`, and the queue's reference is the caller's.
    unsafe fn adopt(node: NonNull<Node<What>>) -> Arc<dyn Call> {
        // SAFETY: it came from `Arc::into_raw` in `set`.
        unsafe { Arc::from_raw(node.cast::<Owned<A>>().as_ptr()) }
    }

    /// Returns true if the caller runs on the worker of the seat to which it belongs.
    fn is_mine(&self) -> bool {
        Processor::current().is_some_and(|processor| std::ptr::eq(processor.seat_ref(), &raw const **self.seat))
    }

    fn timers(&self) -> &Timers {
        &self.seat.timers
    }
}

impl<A: Alarm> Timer<A> {
    /// A timer that is not set.
    ///
    /// ```
    #[doc = include_str!("../examples.txt")]
    #[doc = include_str!("owned.txt")]
    /// let timer = Timer::new(home, Never);
    /// assert!(!timer.stop(|_, was_pending| was_pending));
    /// ```
    #[must_use]
    pub fn new(home: TimerHome, alarm: A) -> Timer<A> {
        let node = Node::new(What::Shared(Owned::<A>::SHARED));
        Timer(Arc::new(Owned { node, seat: home.0, due: AtomicU64::new(NEVER), alarm }))
    }

    /// What it does: what the timer was made of.
    ///
    /// ```
    #[doc = include_str!("../examples.txt")]
    #[doc = include_str!("owned.txt")]
    /// struct Named(&'static str);
    /// impl Alarm for Named {
    ///     fn ring(&self, _due: Moment, _now: Moment) -> Rung { unreachable!() }
    /// }
    /// assert_eq!(Timer::new(home, Named("tea")).alarm().0, "tea");
    /// ```
    #[must_use]
    pub fn alarm(&self) -> &A {
        &self.0.alarm
    }

    /// The same timer, for one who can only stop it.
    ///
    /// ```
    #[doc = include_str!("../examples.txt")]
    #[doc = include_str!("owned.txt")]
    /// let timer = Timer::new(home, Never);
    /// timer.set(later, |_, _| ());
    /// let stopper: Stopper = timer.stopper(); // whatever the alarm's type
    /// stopper.stop();
    /// ```
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper::of(self.0.clone())
    }

    /// A reference that does not keep it. For an alarm that belongs to what the timer is to reach.
    ///
    /// ```
    #[doc = include_str!("../examples.txt")]
    #[doc = include_str!("owned.txt")]
    /// let timer = Timer::new(home, Never);
    /// let weak = timer.downgrade();
    /// drop(timer);
    /// assert!(weak.upgrade().is_none(), "it was not pending");
    /// ```
    #[must_use]
    pub fn downgrade(&self) -> WeakTimer<A> {
        WeakTimer(Arc::downgrade(&self.0))
    }

    /// Lets it ring at `at`, and not when it would have otherwise. `first` runs before, under the lock, and is told
    /// whether the timer was pending; it may do what [`Alarm::ring`] may. If the runtime has ended, the timer won't ring.
    ///
    /// ```
    #[doc = include_str!("../examples.txt")]
    #[doc = include_str!("owned.txt")]
    /// let timer = Timer::new(home, Never);
    /// assert!(!timer.set(later, |_, was_pending| was_pending));
    /// assert!(timer.set(later.after(Duration::from_secs(1)), |_, was_pending| was_pending));
    /// ```
    pub fn set<R>(&self, at: Moment, first: impl FnOnce(&A, bool) -> R) -> R {
        self.set_if(at, |alarm, pending| (first(alarm, pending), true))
    }

    /// As [`Timer::set`], but a timer that is pending is left alone.
    ///
    /// ```
    #[doc = include_str!("../examples.txt")]
    #[doc = include_str!("owned.txt")]
    /// let timer = Timer::new(home, Never);
    /// timer.set_unless_pending(later);
    /// timer.set_unless_pending(Moment::now()); // changes nothing: it would ring
    /// assert!(timer.stop(|_, was_pending| was_pending));
    /// ```
    pub fn set_unless_pending(&self, at: Moment) {
        self.set_if(at, |_, pending| ((), !pending));
    }

    fn set_if<R>(&self, at: Moment, first: impl FnOnce(&A, bool) -> (R, bool)) -> R {
        let (result, earlier) = {
            let (mut state, may_be_in) = self.0.timers().lock_shared();
            let (result, wanted) = first(&self.0.alarm, may_be_in && self.0.node.is_in());
            if !wanted || state.closed.is_some() {
                return result;
            }
            (result, self.enter(&mut state, at))
        };
        if earlier {
            self.announce(at);
        }
        result
    }

    /// Sets a timer that was never set, as if that had been done when there was still time: one whose time has passed is
    /// not set.
    ///
    /// ```
    #[doc = include_str!("../examples.txt")]
    #[doc = include_str!("owned.txt")]
    /// let timer = Timer::new(home.clone(), Never);
    /// assert_eq!(timer.start(later), Started::Pending);
    /// assert_eq!(Timer::new(home, Never).start(Moment::now()), Started::Due);
    /// ```
    pub fn start(&self, at: Moment) -> Started {
        let now = Moment::now();
        let earlier = {
            let (mut state, _) = self.0.timers().lock_shared();
            if at <= now && state.closed.is_none_or(|closed| at.0 <= closed) {
                return Started::Due;
            }
            if state.closed.is_some() {
                return Started::Ended;
            }
            self.enter(&mut state, at)
        };
        if earlier {
            self.announce(at);
        }
        Started::Pending
    }

    /// Returns true if it is the earliest now, and was not.
    fn enter(&self, state: &mut State, at: Moment) -> bool {
        // Relaxed: a hint.
        self.0.due.store(at.0, Ordering::Relaxed);
        if self.0.node.is_in() {
            state.queue.change(at.0, self.node());
        } else {
            // The queue's reference (M2).
            let node = Arc::into_raw(self.0.clone()).cast_mut();
            state.queue.push(at.0, NonNull::new(node).expect("an Arc is not null").cast());
        }
        let before = self.0.timers().earliest();
        self.0.timers().publish(state);
        self.0.timers().earliest() < before
    }

    /// Sees to it that somebody looks in time. Without the lock.
    fn announce(&self, at: Moment) {
        // On the seat's own worker there is nobody asleep, unless it has but one goroutine to run (S4).
        if !self.0.is_mine() || self.0.seat.is_unattended() {
            self.0.seat.timer_set(at.0);
        }
    }

    /// Takes it out: it won't ring unless it is set again. `then` runs under the lock and is told whether the timer was
    /// pending; it may do what [`Alarm::ring`] may.
    ///
    /// ```
    #[doc = include_str!("../examples.txt")]
    #[doc = include_str!("owned.txt")]
    /// let timer = Timer::new(home, Never);
    /// timer.set(later, |_, _| ());
    /// assert!(timer.stop(|_, was_pending| was_pending));
    /// assert!(!timer.stop(|_, was_pending| was_pending));
    /// ```
    pub fn stop<R>(&self, then: impl FnOnce(&A, bool) -> R) -> R {
        let timers = self.0.timers();
        let (result, _dropped_unlocked) = {
            let (mut state, may_be_in) = timers.lock_shared();
            let pending = may_be_in && self.0.node.is_in();
            let taken = pending.then(|| {
                // Relaxed: a hint.
                self.0.due.store(NEVER, Ordering::Relaxed);
                state.queue.remove(self.node());
                timers.publish(&state);
                // SAFETY: M2: with the node the queue's reference is ours.
                unsafe { Owned::<A>::adopt(self.node()) }
            });
            (then(&self.0.alarm, pending), taken)
        };
        result
    }

    fn node(&self) -> NonNull<Node<What>> {
        // The whole owner's provenance: `ring` and `adopt` cast back to it.
        NonNull::new(Arc::as_ptr(&self.0).cast_mut()).expect("an Arc is not null").cast()
    }
}

impl<A> WeakTimer<A> {
    /// The timer, if somebody keeps it: a handle, or its being pending.
    ///
    /// ```
    #[doc = include_str!("../examples.txt")]
    #[doc = include_str!("owned.txt")]
    /// let weak = {
    ///     let timer = Timer::new(home, Never);
    ///     timer.set(later, |_, _| ());
    ///     timer.downgrade()
    /// };
    /// weak.upgrade().expect("it is pending").stop(|_, _| ());
    /// assert!(weak.upgrade().is_none());
    /// ```
    #[must_use]
    pub fn upgrade(&self) -> Option<Timer<A>> {
        self.0.upgrade().map(Timer)
    }
}

impl<A> Clone for Timer<A> {
    fn clone(&self) -> Self {
        Timer(self.0.clone())
    }
}

impl<A> fmt::Debug for Timer<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer").finish_non_exhaustive()
    }
}

impl<A> fmt::Debug for WeakTimer<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakTimer").finish_non_exhaustive()
    }
}
