//! What all workers of one runtime share: the injector, and for each worker a seat that others may reach.
//!
//! Written to by everybody; owned by an `Arc` that each worker, the monitor and the `Scheduler` hold.
//!
//! * **S1.** `phase` only grows.
//! * **S2.** A goroutine is counted as spawned before it is visible to any worker, and as finished after its exit
//!   path and before its result is published.

use crate::config::{Config, ThreadLocals};
use crate::goroutine::Ref;
use crate::idle::Idle;
use crate::inbox::Inbox;
use crate::next_slot::NextSlot;
use crate::shim::Lock;
use crate::stack::StackClass;
use crate::timers::Timers;
use crossbeam_deque::{Injector, Stealer};
use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, OnceLock};
use std::thread::Thread;

/// Where a runtime is in its life (S1).
pub(crate) const RUNNING: u8 = 0;
/// Nothing more from outside; everything is being aborted.
pub(crate) const DRAINING: u8 = 1;
/// The workers leave.
pub(crate) const STOPPING: u8 = 2;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) class: StackClass,
    /// Of goroutines that do not say otherwise.
    pub(crate) mode: ThreadLocals,
    pub(crate) injector: Injector<Ref>,
    /// Each by reference: a timer that outlives the runtime keeps its seat.
    pub(crate) seats: Box<[Arc<CachePadded<Seat>>]>,
    /// Counts timers made outside of any worker: the seats take turns.
    timer_turn: AtomicUsize,
    pub(crate) idle: Idle,
    phase: AtomicU8,
    /// Spawned from outside any worker (S2).
    spawned: AtomicU64,
    drained: Lock<()>,
    drained_signal: Condvar,
    pub(crate) monitor: OnceLock<Thread>,
    pub(crate) monitor_asleep: AtomicBool,
}

/// The part of a worker and its processor that others may touch.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) stealer: Stealer<Ref>,
    pub(crate) next: NextSlot,
    pub(crate) inbox: Inbox,
    pub(crate) timers: Timers,
    thread: OnceLock<Thread>,
    asleep: AtomicBool,
    /// Counts scheduling rounds: the monitor sees by it that a goroutine has been running for long.
    pub(crate) rounds: AtomicU32,
    /// A goroutine runs here now (and not the scheduler).
    pub(crate) busy: AtomicBool,
    pub(crate) yield_requested: AtomicBool,
    spawned: AtomicU64,
    finished: AtomicU64,
}

impl Seat {
    pub(crate) fn new(stealer: Stealer<Ref>) -> Seat {
        Seat {
            stealer,
            next: NextSlot::new(),
            inbox: Inbox::new(),
            timers: Timers::new(),
            thread: OnceLock::new(),
            asleep: AtomicBool::new(false),
            rounds: AtomicU32::new(0),
            busy: AtomicBool::new(false),
            yield_requested: AtomicBool::new(false),
            spawned: AtomicU64::new(0),
            finished: AtomicU64::new(0),
        }
    }

    /// By the worker, as the first thing it does.
    pub(crate) fn sit_down(&self) {
        self.thread.set(std::thread::current()).expect("a seat has one worker");
    }

    pub(crate) fn unpark(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// A started goroutine goes back to its worker. Dekker pair with [`Seat::announce_sleep`]: push (SeqCst), then
    /// look whether it sleeps; it says that it sleeps (SeqCst), then looks into the inbox. One sees the other.
    pub(crate) fn send_home(&self, g: Ref) {
        self.inbox.push(g);
        self.poke();
    }

    /// Wakes its worker if that sleeps, after something was left for it.
    pub(crate) fn poke(&self) {
        // SeqCst: the second half of a Dekker pair, see `send_home` and `timers::Timer::set`.
        if self.asleep.load(Ordering::SeqCst) {
            self.unpark();
        }
    }

    /// See [`Seat::send_home`] and `timers::Timer::set`; the worker looks into the inbox and for the earliest timer after
    /// this and before it sleeps.
    pub(crate) fn announce_sleep(&self, asleep: bool) {
        self.asleep.store(asleep, Ordering::SeqCst);
        // What is looked at next must not be older than the store.
        fence(Ordering::SeqCst);
    }

    pub(crate) fn count_spawn(&self) {
        // Only this seat's worker writes: no exchange needed. Release: pairs with `live`'s Acquire.
        self.spawned.store(self.spawned.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    pub(crate) fn count_finish(&self) {
        // As in `count_spawn`.
        self.finished.store(self.finished.load(Ordering::Relaxed) + 1, Ordering::Release);
    }
}

impl Shared {
    pub(crate) fn new(
        config: Config,
        (class, mode): (StackClass, ThreadLocals),
        stealers: impl Iterator<Item = Stealer<Ref>>,
    ) -> Shared {
        Shared {
            config,
            class,
            mode,
            injector: Injector::new(),
            seats: stealers.map(|s| Arc::new(CachePadded::new(Seat::new(s)))).collect(),
            timer_turn: AtomicUsize::new(0),
            idle: Idle::new(),
            phase: AtomicU8::new(RUNNING),
            spawned: AtomicU64::new(0),
            drained: Lock::new(()),
            drained_signal: Condvar::new(),
            monitor: OnceLock::new(),
            monitor_asleep: AtomicBool::new(false),
        }
    }

    pub(crate) fn phase(&self) -> u8 {
        // SeqCst: spawn counts itself and then reads the phase, the drain writes the phase and then counts.
        self.phase.load(Ordering::SeqCst)
    }

    pub(crate) fn set_phase(&self, phase: u8) {
        self.phase.fetch_max(phase, Ordering::SeqCst);
    }

    /// Work that any worker may take.
    pub(crate) fn inject(&self, g: Ref) {
        self.injector.push(g);
        self.notify();
    }

    /// The seat for a timer that is made outside of any worker.
    pub(crate) fn seat_for_timer(&self) -> &Arc<CachePadded<Seat>> {
        // Relaxed: any seat will do.
        let turn = self.timer_turn.fetch_add(1, Ordering::Relaxed);
        &self.seats[turn % self.seats.len()]
    }

    /// After any push that others may take.
    #[inline]
    pub(crate) fn notify(&self) {
        if let Some(index) = self.idle.notify() {
            self.seats[index].unpark();
        }
    }

    pub(crate) fn count_outside_spawn(&self) {
        // SeqCst: see `phase`.
        self.spawned.fetch_add(1, Ordering::SeqCst);
    }

    /// A spawn that was counted and then refused.
    pub(crate) fn uncount_outside_spawn(&self) {
        self.spawned.fetch_sub(1, Ordering::SeqCst);
        self.check_drained();
    }

    /// Live goroutines: spawned and not finished. Never too low: what has finished is read first, so that
    /// "0" means that at one moment there was none.
    pub(crate) fn live(&self) -> u64 {
        fence(Ordering::SeqCst);
        // Acquire: pairs with the Release of the counts; what led to a finish (its spawn) is visible below.
        let finished: u64 = self.seats.iter().map(|s| s.finished.load(Ordering::Acquire)).sum();
        let inside: u64 = self.seats.iter().map(|s| s.spawned.load(Ordering::Acquire)).sum();
        (inside + self.spawned.load(Ordering::SeqCst)).saturating_sub(finished)
    }

    /// After a finish: wakes a drain that waits for the last one.
    pub(crate) fn check_drained(&self) {
        // The count that was just written, and then the phase: Dekker with `wait_drained`.
        fence(Ordering::SeqCst);
        if self.phase() != RUNNING && self.live() == 0 {
            let _guard = self.drained.lock();
            self.drained_signal.notify_all();
        }
    }

    /// Waits until no goroutine is left, at most for `grace`.
    pub(crate) fn wait_drained(&self, grace: std::time::Duration) -> bool {
        let until = std::time::Instant::now().checked_add(grace);
        let mut guard = self.drained.lock();
        while self.live() != 0 {
            match until {
                None => {
                    guard = self.drained_signal.wait(guard).unwrap_or_else(std::sync::PoisonError::into_inner);
                }
                Some(until) => {
                    let left = until.saturating_duration_since(std::time::Instant::now());
                    if left.is_zero() {
                        return false;
                    }
                    guard = self
                        .drained_signal
                        .wait_timeout(guard, left)
                        .unwrap_or_else(std::sync::PoisonError::into_inner)
                        .0;
                }
            }
        }
        true
    }

    /// A worker is at work: the monitor must be too.
    pub(crate) fn wake_monitor(&self) {
        if self.monitor_asleep.load(Ordering::SeqCst)
            && self.monitor_asleep.swap(false, Ordering::SeqCst)
            && let Some(monitor) = self.monitor.get()
        {
            monitor.unpark();
        }
    }
}
