//! What all workers of one runtime share: the injector, the seats, the phase.
//!
//! Written to by everybody; owned by an `Arc` that each worker, the monitor and the `Scheduler` hold.
//!
//! * **S1.** See [`RuntimeHead`].
//! * **S2.** A goroutine is counted as spawned before it is visible to any worker, and as finished after its exit
//!   path and before its result is published.

use crate::base::atomics::{AtomicBool, AtomicU64, ModelledCondvar, ModelledLock, Ordering, Thread, fence};
use crate::base::membarrier;
use crate::base::report::Once;
use crate::config::{Config, ThreadLocals};
use crate::goroutine::block::{Goroutine, Ref};
use crate::goroutine::runtime_head::{RUNNING, RuntimeHead};
use crate::memory::StackClass;
use crate::processor::idle::Idle;
use crate::processor::spares::{Hiring, Spares};
use crate::queue::run_queue::{Injector, RunQueue, RunStealer};
use crate::seat::seats::{Seat, Seats, WakeForTimer};
use crate::stack::cache::WarmPool;
use crate::stack::coroutine::Body;
use std::io;
use std::sync::{Arc, OnceLock, Weak};
use std::thread::JoinHandle;

/// Starts the thread of the worker on a seat, with the owner's end of its queue, which is returned if no thread can be
/// started.
pub(crate) type Start = fn(&Arc<Shared>, usize, RunQueue) -> Result<JoinHandle<()>, (io::Error, RunQueue)>;

/// `repr(C)`: a goroutine's pointer to the head is one to the whole ([`Shared::of`]).
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Shared {
    pub(crate) head: RuntimeHead,
    pub(crate) config: Config,
    pub(crate) class: StackClass,
    /// Of goroutines that do not say otherwise.
    pub(crate) mode: ThreadLocals,
    start: Start,
    /// What runs on each stack: the exit path is above this floor.
    pub(crate) body: Body,
    pub(crate) injector: Injector,
    /// Goroutines that have not begun, while no worker is free for them (V3 in `spares`), or there is no stack, or for pinned
    /// ones no thread without a panic (D3 in `abort_shields`).
    pub(crate) held: Injector,
    /// There was no stack for one, since the monitor's last look (G3 in `memory/guard`).
    pub(crate) no_stack: AtomicBool,
    pub(crate) seats: Seats,
    pub(crate) spares: Spares,
    pub(crate) warm: WarmPool,
    pub(crate) idle: Idle,
    /// Spawned from outside any worker (S2).
    spawned: AtomicU64,
    drained: ModelledLock<()>,
    drained_signal: ModelledCondvar,
    pub(crate) monitor: OnceLock<Thread>,
    pub(crate) monitor_asleep: AtomicBool,
    pub(crate) told_of_refusal: Once,
}

impl Shared {
    pub(crate) fn new(
        config: Config,
        (class, mode): (StackClass, ThreadLocals),
        (start, body): (Start, Body),
    ) -> Shared {
        Shared {
            head: RuntimeHead::new(),
            seats: Seats::new(),
            spares: Spares::new(&config),
            warm: WarmPool::new(&config),
            config,
            class,
            mode,
            start,
            body,
            injector: Injector::new(),
            held: Injector::new(),
            no_stack: AtomicBool::new(false),
            idle: Idle::new(),
            spawned: AtomicU64::new(0),
            drained: ModelledLock::new(()),
            drained_signal: ModelledCondvar::new(),
            monitor: OnceLock::new(),
            monitor_asleep: AtomicBool::new(false),
            told_of_refusal: Once::default(),
        }
    }

    pub(crate) fn phase(&self) -> u8 {
        self.head.phase()
    }

    pub(crate) fn set_phase(&self, phase: u8) {
        self.head.set_phase(phase);
    }

    /// The pointer that its goroutines have to it.
    pub(crate) fn as_runtime(self: &Arc<Shared>) -> *const RuntimeHead {
        Arc::as_ptr(self).cast()
    }

    /// Returns true if `g` is one of this runtime's goroutines.
    #[inline]
    pub(crate) fn runs(&self, g: &Goroutine) -> bool {
        std::ptr::eq(g.runtime(), &raw const self.head)
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

    /// D3 in `abort_shields`: returns true if a pinned goroutine may begin on a seat.
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
        membarrier::light();
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

    /// Returns true if no worker is at work.
    pub(crate) fn do_all_sleep(&self) -> bool {
        let asleep = self.idle.asleep();
        let (attend, stuck) = self.spares.crew();
        // While none attends the monitor must not sleep: nobody else can change that. A second net: V1 and C1 keep the counts from
        // being (0, 0), and a worker that is found stuck while it falls asleep comes back or is woken.
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

impl Hiring for Arc<Shared> {
    fn unpark(&self, seat: usize) {
        self.seats.get(seat).unpark();
    }

    fn add_seat(&self, stealer: RunStealer) -> Option<usize> {
        let weak: Weak<Shared> = Arc::downgrade(self);
        self.seats.add(weak, stealer)
    }

    fn start(&self, seat: usize, queue: RunQueue) -> Result<JoinHandle<()>, (io::Error, RunQueue)> {
        (self.start)(self, seat, queue)
    }
}

impl WakeForTimer for Shared {
    fn wake_for_timer(&self, at: u64) {
        if !self.seats.worth_a_look().any(|seat| seat.wakes_by(at) && !seat.is_unattended()) {
            self.notify();
        }
    }
}

#[cfg(all(test, loom))]
#[expect(unsafe_code, reason = "loom's cells")]
pub(crate) mod models;
