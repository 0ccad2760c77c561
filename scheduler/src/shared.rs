//! What all workers of one runtime share: the injector, the seats, the phase.
//!
//! Written to by everybody; owned by an `Arc` that each worker, the monitor and the `Scheduler` hold.
//!
//! * **S1.** `phase` only grows.
//! * **S2.** A goroutine is counted as spawned before it is visible to any worker, and as finished after its exit
//!   path and before its result is published.

use crate::asymmetric;
use crate::config::{Config, ThreadLocals};
use crate::goroutine::Ref;
use crate::idle::Idle;
use crate::process;
use crate::run_queue::Injector;
use crate::seats::{Seat, Seats};
use crate::shim::{AtomicBool, AtomicU8, AtomicU64, ModelledCondvar, ModelledLock, Ordering, Thread, fence};
use crate::spares::{Spares, Start};
use crate::stack::StackClass;
use crate::tell::Once;
use crate::warm::WarmPool;
use std::sync::OnceLock;

/// Where a runtime is in its life (S1).
pub(crate) const RUNNING: u8 = 0;
/// Nothing more from outside; everything is being told that it will be aborted.
pub(crate) const ENDING: u8 = 1;
/// Everything is being aborted.
pub(crate) const DRAINING: u8 = 2;
/// The workers leave.
pub(crate) const STOPPING: u8 = 3;

#[derive(Debug)]
pub(crate) struct Shared {
    /// The one in which its workers are.
    pub(crate) process: u64,
    pub(crate) config: Config,
    pub(crate) class: StackClass,
    /// Of goroutines that do not say otherwise.
    pub(crate) mode: ThreadLocals,
    pub(crate) injector: Injector,
    /// Goroutines that have not begun, while no worker is free for them (V3 in `spares`), or there is no stack, or for pinned
    /// ones no thread without a panic (D3 in `doubt`).
    pub(crate) held: Injector,
    /// There was no stack for one, since the monitor's last look (G3 in `stack/guard`).
    pub(crate) no_stack: AtomicBool,
    pub(crate) seats: Seats,
    pub(crate) spares: Spares,
    pub(crate) warm: WarmPool,
    pub(crate) idle: Idle,
    phase: AtomicU8,
    /// Spawned from outside any worker (S2).
    spawned: AtomicU64,
    drained: ModelledLock<()>,
    drained_signal: ModelledCondvar,
    pub(crate) monitor: OnceLock<Thread>,
    pub(crate) monitor_asleep: AtomicBool,
    pub(crate) told_of_refusal: Once,
}

impl Shared {
    pub(crate) fn new(config: Config, (class, mode): (StackClass, ThreadLocals), start: Start) -> Shared {
        Shared {
            process: process::process(),
            seats: Seats::new(),
            spares: Spares::new(&config, start),
            warm: WarmPool::new(&config),
            config,
            class,
            mode,
            injector: Injector::new(),
            held: Injector::new(),
            no_stack: AtomicBool::new(false),
            idle: Idle::new(),
            phase: AtomicU8::new(RUNNING),
            spawned: AtomicU64::new(0),
            drained: ModelledLock::new(()),
            drained_signal: ModelledCondvar::new(),
            monitor: OnceLock::new(),
            monitor_asleep: AtomicBool::new(false),
            told_of_refusal: Once::default(),
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

    /// After a push of what anybody may take. (After a push onto the own queue `Processor` decides first whether it is
    /// worth it.)
    #[inline]
    pub(crate) fn notify(&self) {
        if let Some(index) = self.idle.notify() {
            self.seats.get(index).unpark();
        }
    }

    /// The same for what is held back: wakes a worker that may take it, if one sleeps.
    pub(crate) fn notify_of_held(&self) {
        if let Some(index) = self.idle.notify_rather(|index| self.may_begin_at(self.seats.get(index))) {
            self.seats.get(index).unpark();
        }
    }

    /// D3 in `doubt`: returns true if a pinned goroutine may begin on a seat.
    #[inline]
    pub(crate) fn may_begin_at(&self, seat: &Seat) -> bool {
        !seat.is_in_panic() || !self.spares.can_be_had()
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
        // Against another that ends at the same time: our own count comes before it, and theirs after theirs. One of the two
        // sees both.
        fence(Ordering::SeqCst);
        // Acquire: pairs with the Release of the counts; what led to a finish (its spawn) is visible below.
        let finished: u64 = self.seats.iter().map(Seat::finished).sum();
        let inside: u64 = self.seats.iter().map(Seat::spawned).sum();
        (inside + self.spawned.load(Ordering::SeqCst)).saturating_sub(finished)
    }

    /// After a finish: wakes a drain that waits for the last one.
    pub(crate) fn check_drained(&self) {
        // The count that was just written, and then the phase: Dekker with `begin_drain`.
        asymmetric::light();
        if self.phase() != RUNNING {
            self.check_live();
        }
    }

    #[cold]
    #[inline(never)]
    fn check_live(&self) {
        if self.live() == 0 {
            let _guard = self.drained.lock();
            self.drained_signal.notify_all();
        }
    }

    /// Phase DRAINING. What was spawned and marked, or has ended, without seeing it can be seen by the caller afterwards.
    pub(crate) fn begin_drain(&self) {
        self.set_phase(DRAINING);
        asymmetric::heavy();
    }

    /// Waits until no goroutine is left, at most for `grace`.
    #[expect(
        clippy::disallowed_methods,
        reason = "a plain thread, or another runtime's worker, waits for the end of this one"
    )]
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

    /// By the monitor, which is about to sleep: whether all workers do. Until it says that it is awake, `wake_monitor` wakes it.
    pub(crate) fn announce_monitor_asleep(&self) -> bool {
        // Dekker with `wake_monitor`: the flag, then the count; a waking worker changes the count and then reads the flag.
        // SeqCst, all four (`Idle::asleep`, `take_sleeper`, `wake_up`).
        self.monitor_asleep.store(true, Ordering::SeqCst);
        self.do_all_sleep()
    }

    pub(crate) fn announce_monitor_awake(&self) {
        // Relaxed: if a worker that wakes does not see it yet, it wakes us in vain.
        self.monitor_asleep.store(false, Ordering::Relaxed);
    }

    /// Whether no worker is at work.
    pub(crate) fn do_all_sleep(&self) -> bool {
        let asleep = self.idle.asleep();
        let (attend, stuck) = self.spares.crew();
        // While none attends the monitor must not sleep: nobody else can change that.
        attend > 0 && asleep >= attend + stuck
    }

    /// A worker is at work: the monitor must be too.
    pub(crate) fn wake_monitor(&self) {
        // SeqCst: see `announce_monitor_asleep`. Relaxed: the exchange makes one of several wake it.
        if self.monitor_asleep.load(Ordering::SeqCst)
            && self.monitor_asleep.swap(false, Ordering::Relaxed)
            && let Some(monitor) = self.monitor.get()
        {
            monitor.unpark();
        }
    }
}

#[cfg(all(test, loom))]
#[expect(unsafe_code, reason = "loom's cells")]
pub(crate) mod models;
