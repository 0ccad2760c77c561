//! The seats of a runtime: for each worker the part of it that others may touch.
//!
//! A seat is made when its first worker starts and never goes away, so references to it stay good; a worker that is
//! taken in later ([`crate::spares`]) may sit down on one that was left. Read by everybody, added to by `spares`.
//!
//! * **S3.** `used` seats are initialised, from index 0 on, and stay where they are.
//! * **S4.** A seat that is *unattended* has no worker that looks after it: that worker is stuck in a goroutine, belongs
//!   to a locked one, or has left. What others may take from it they take at once, its timers included.

use crate::goroutine::{Goroutine, Ref};
use crate::grain::Grain;
use crate::inbox::Inbox;
use crate::next_slot::NextSlot;
use crate::run_queue::RunStealer;
use crate::shared::Shared;
use crate::shim::Lock;
use crate::timers::{NEVER, Timers};
use crossbeam_utils::CachePadded;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::Thread;

/// The table.
#[derive(Debug)]
pub(crate) struct Seats {
    /// Each by reference: a timer that outlives the runtime keeps its seat.
    table: Box<[OnceLock<Arc<CachePadded<Seat>>>]>,
    used: AtomicUsize,
    /// Counts timers made outside of any worker: the seats take turns.
    timer_turn: AtomicUsize,
}

impl Seats {
    /// A table with room for `most`.
    pub(crate) fn new(most: usize) -> Seats {
        Seats {
            table: (0..most).map(|_| OnceLock::new()).collect(),
            used: AtomicUsize::new(0),
            timer_turn: AtomicUsize::new(0),
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        // Acquire: pairs with the Release in `add` (S3).
        self.used.load(Ordering::Acquire)
    }

    pub(crate) fn get(&self, index: usize) -> &Seat {
        self.shared(index)
    }

    /// To be kept longer than the runtime.
    pub(crate) fn shared(&self, index: usize) -> &Arc<CachePadded<Seat>> {
        self.table[index].get().expect("S3: a seat in use")
    }

    /// The seat for a timer that is made outside of any worker: the next that is looked after.
    pub(crate) fn for_timer(&self) -> Arc<CachePadded<Seat>> {
        // Relaxed: any seat will do.
        let (turn, seats) = (self.timer_turn.fetch_add(1, Ordering::Relaxed), self.len());
        let mut in_turn = (0..seats).map(|i| self.shared(turn.wrapping_add(i) % seats));
        let attended = in_turn.find(|seat| !seat.is_unattended());
        attended.unwrap_or_else(|| self.shared(turn % seats)).clone()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Seat> {
        (0..self.len()).map(|index| self.get(index))
    }

    /// One seat more, if there is room. Not called by two threads at once.
    pub(crate) fn add(&self, shared: Weak<Shared>, stealer: RunStealer) -> Option<usize> {
        let index = self.len();
        self.table.get(index)?.set(Arc::new(CachePadded::new(Seat::new(shared, stealer)))).expect("S3: not in use yet");
        // Release: pairs with the Acquire in `len` (S3).
        self.used.store(index + 1, Ordering::Release);
        Some(index)
    }
}

/// The part of a worker and its processor that others may touch.
#[derive(Debug)]
pub(crate) struct Seat {
    shared: Weak<Shared>,
    pub(crate) stealer: RunStealer,
    pub(crate) next: NextSlot,
    pub(crate) inbox: Inbox,
    pub(crate) timers: Timers,
    thread: Lock<Option<Thread>>,
    asleep: AtomicBool,
    /// While it is asleep: when it will wake by itself, as far as it has said so.
    until: AtomicU64,
    /// Counts scheduling rounds: the monitor sees by it that a goroutine has been running for long.
    pub(crate) rounds: AtomicU32,
    pub(crate) grain: Grain,
    /// The goroutine that runs here now; null while the scheduler looks for one.
    pub(crate) running: AtomicPtr<Goroutine>,
    unattended: AtomicBool,
    /// Another worker was brought in for the one that is stuck here.
    pub(crate) replaced: AtomicBool,
    /// When its worker was found stuck, in the timers' nanoseconds.
    pub(crate) stuck_since: AtomicU64,
    spawned: AtomicU64,
    finished: AtomicU64,
}

impl Seat {
    fn new(shared: Weak<Shared>, stealer: RunStealer) -> Seat {
        Seat {
            shared,
            stealer,
            next: NextSlot::new(),
            inbox: Inbox::new(),
            timers: Timers::new(),
            thread: Lock::new(None),
            asleep: AtomicBool::new(false),
            until: AtomicU64::new(NEVER),
            rounds: AtomicU32::new(0),
            grain: Grain::new(),
            running: AtomicPtr::new(ptr::null_mut()),
            unattended: AtomicBool::new(false),
            replaced: AtomicBool::new(false),
            stuck_since: AtomicU64::new(0),
            spawned: AtomicU64::new(0),
            finished: AtomicU64::new(0),
        }
    }

    /// By the worker, as the first thing it does.
    pub(crate) fn sit_down(&self) {
        *self.thread.lock() = Some(std::thread::current());
        // A worker had left it unattended (S4); that one was not counted as stuck.
        let _was = self.set_unattended(false);
    }

    #[inline(never)]
    pub(crate) fn unpark(&self) {
        if let Some(thread) = &*self.thread.lock() {
            thread.unpark();
        }
    }

    /// Whether nobody looks after it (S4).
    pub(crate) fn is_unattended(&self) -> bool {
        // SeqCst: see `set_unattended`.
        self.unattended.load(Ordering::SeqCst)
    }

    /// Says who looks after it from now on. Returns what was so before.
    pub(crate) fn set_unattended(&self, unattended: bool) -> bool {
        // SeqCst: the monitor and the worker itself both want to change it; the exchange decides which one did.
        self.unattended.swap(unattended, Ordering::SeqCst)
    }

    /// A started goroutine goes back to its worker. Dekker pair with [`Seat::announce_sleep`]: push (SeqCst), then
    /// look whether it sleeps; it says that it sleeps (SeqCst), then looks into the inbox. One sees the other.
    pub(crate) fn send_home(&self, g: Ref) {
        self.inbox.push(g);
        if self.asleep.load(Ordering::SeqCst) {
            self.unpark();
        }
    }

    /// A timer has been set here, not by this seat's worker, that is due `at`, before all others. Whoever would sleep too
    /// long for it is woken: this seat's worker, or if the seat has none that looks after it, one of those who sleep (they
    /// count in the timers of such seats), unless one of them wakes in time by itself. So who sets and stops timers again
    /// and again, none for earlier than the first, wakes nobody but once. A worker that is at work looks for timers before
    /// it sleeps.
    ///
    /// Dekker pair with falling asleep (`announce_sleep`, and `Idle::fall_asleep` for the others): the timer, then who
    /// sleeps, and until when; saying that it sleeps, then the timers, then until when. So whoever has not seen the timer
    /// has not said yet until when (and is woken), or sleeps until a time that it took from the others.
    pub(crate) fn timer_set(&self, at: u64) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) {
            if !self.wakes_by(at) {
                self.unpark();
            }
        } else if self.is_unattended()
            && let Some(shared) = self.shared.upgrade()
            && !shared.seats.iter().any(|seat| seat.wakes_by(at) && !seat.is_unattended())
        {
            shared.notify();
        }
    }

    /// Whether its worker sleeps, and will look for timers at that time, its own ones and, if it is an attended seat, those
    /// of the unattended ones.
    fn wakes_by(&self, at: u64) -> bool {
        // Acquire: pairs with the store of `asleep`, so that `until` is of this sleep and of none before. Relaxed: whatever
        // it is, the worker wakes by then.
        self.asleep.load(Ordering::Acquire) && self.until.load(Ordering::Relaxed) <= at
    }

    /// By its worker, after it has looked for the earliest timer: how long it sleeps.
    pub(crate) fn sleeps_until(&self, at: u64) {
        // Relaxed: see `timer_set`; nothing is published with it.
        self.until.store(at, Ordering::Relaxed);
    }

    /// See [`Seat::send_home`] and [`Seat::timer_set`]; the worker looks into the inbox and for the earliest timer after
    /// this and before it sleeps.
    pub(crate) fn announce_sleep(&self, asleep: bool) {
        // Relaxed: published by the next store (`wakes_by`).
        self.until.store(NEVER, Ordering::Relaxed);
        self.asleep.store(asleep, Ordering::SeqCst);
        // What is looked at next is not older than the store.
        fence(Ordering::SeqCst);
    }

    pub(crate) fn is_asleep(&self) -> bool {
        // Relaxed: a hint.
        self.asleep.load(Ordering::Relaxed)
    }

    /// Something is here that another worker could take, and that is worth it.
    pub(crate) fn has_work(&self) -> bool {
        if self.is_unattended() {
            return !self.stealer.is_empty() || self.next.has_stealable();
        }
        self.grain.is_worth_with(self.stealer.unbegun(), self.stealer.ready())
    }

    pub(crate) fn count_spawn(&self) {
        // Only this seat's worker writes: no exchange needed. Release: pairs with `live`'s Acquire.
        self.spawned.store(self.spawned.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    pub(crate) fn count_finish(&self) {
        // As in `count_spawn`.
        self.finished.store(self.finished.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    pub(crate) fn spawned(&self) -> u64 {
        // Acquire: pairs with `count_spawn`.
        self.spawned.load(Ordering::Acquire)
    }

    pub(crate) fn finished(&self) -> u64 {
        // Acquire: pairs with `count_finish`.
        self.finished.load(Ordering::Acquire)
    }
}
