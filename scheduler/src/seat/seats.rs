//! The seats of a runtime: for each worker the part of it that others may touch.
//!
//! A seat is made when its first worker starts and never goes away, so references to it stay good; a worker that is
//! taken in later ([`crate::processor::spares`]) may sit down on one that was left. Read by everybody, added to by `spares`.
//!
//! * **S3.** `used` seats are initialised, from index 0 on, and stay where they are. The table is made in segments, as it
//!   grows: a runtime that never has thousands of workers has no room for them.
//! * **S4.** A seat that is *unattended* has no worker that looks after it: that worker is stuck in a goroutine, belongs
//!   to a locked one, or has left. What others may take from it they take at once, its timers included.
//!
//! There may be thousands, most of them of workers that are stuck and have nothing; so whoever seeks something goes through
//! those that are *worth a look* (`seat_bitmap`), and not through all.

use crate::base::atomics::{
    AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Lock, Ordering, Thread, current_thread, fence,
};
use crate::base::thread_clock;
use crate::goroutine::block::{Goroutine, Ref};
use crate::queue::inbox::Inbox;
use crate::queue::next_slot::NextSlot;
use crate::queue::run_queue::RunStealer;
use crate::seat::seat_bitmap::Marks;
use crate::seat::turn_length::Grain;
use crate::timer::clock::NEVER;
use crate::timer::timers::Timers;
use crossbeam_utils::CachePadded;
use std::fmt;
use std::ptr;
use std::sync::atomic::AtomicI32;
use std::sync::{Arc, OnceLock, Weak};

/// Seats at most: more than the workers and the spare ones that can be asked for, as locked goroutines have threads of
/// their own beside those.
pub(crate) const MOST: usize = if cfg!(loom) { SEGMENT } else { 1 << 17 };
/// Seats in a segment.
const SEGMENT: usize = 256;

/// The runtime of a seat that nobody looks after.
pub(crate) trait WakeForTimer: Send + Sync + fmt::Debug {
    /// Wakes a sleeping worker unless an attended one wakes by `at` by itself.
    fn wake_for_timer(&self, at: u64);
}

/// One seat's place in the table. By reference: a timer that outlives the runtime keeps its seat.
type Place = OnceLock<Arc<CachePadded<Seat>>>;

/// The table.
#[derive(Debug)]
pub(crate) struct Seats {
    segments: Box<[OnceLock<Box<[Place]>>]>,
    used: AtomicUsize,
    marks: Arc<Marks>,
    /// Counts timers made outside of any worker: the seats take turns.
    timer_turn: AtomicUsize,
}

impl Seats {
    pub(crate) fn new() -> Seats {
        Seats {
            segments: (0..MOST / SEGMENT).map(|_| OnceLock::new()).collect(),
            used: AtomicUsize::new(0),
            marks: Arc::new(Marks::new(MOST)),
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
        let segment = self.segments[index / SEGMENT].get().expect("S3: a segment in use");
        segment[index % SEGMENT].get().expect("S3: a seat in use")
    }

    /// The seat for a timer that is made outside of any worker: the next that is looked after.
    pub(crate) fn for_timer(&self) -> Arc<CachePadded<Seat>> {
        // Relaxed: any seat will do.
        let turn = self.timer_turn.fetch_add(1, Ordering::Relaxed) % self.len();
        let attended = self.worth_a_look_from(turn).find(|seat| !seat.is_unattended());
        self.shared(attended.map_or(turn, |seat| seat.index)).clone()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Seat> {
        (0..self.len()).map(|index| self.get(index))
    }

    /// Those that are looked after, and of the others those that have something (`seat_bitmap`).
    pub(crate) fn worth_a_look(&self) -> impl Iterator<Item = &Seat> {
        self.worth_a_look_from(0)
    }

    /// The same from a seat on, and round.
    pub(crate) fn worth_a_look_from(&self, start: usize) -> impl Iterator<Item = &Seat> {
        self.marks.from(start, self.len()).map(|index| self.get(index))
    }

    /// One seat more, if there is room. Not called by two threads at once.
    pub(crate) fn add(&self, runtime: Weak<dyn WakeForTimer>, stealer: RunStealer) -> Option<usize> {
        let index = self.len();
        let segment = self.segments.get(index / SEGMENT)?;
        let segment = segment.get_or_init(|| (0..SEGMENT).map(|_| OnceLock::new()).collect());
        let seat = Seat::new(runtime, stealer, (index, self.marks.clone()));
        segment[index % SEGMENT].set(Arc::new(CachePadded::new(seat))).expect("S3: not in use yet");
        // Release: pairs with the Acquire in `len` (S3).
        self.used.store(index + 1, Ordering::Release);
        Some(index)
    }
}

/// The part of a worker and its processor that others may touch.
#[derive(Debug)]
pub(crate) struct Seat {
    runtime: Weak<dyn WakeForTimer>,
    /// Which one it is.
    pub(crate) index: usize,
    marks: Arc<Marks>,
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
    /// The round at which the worker looks beyond its own queues next (L1 in `poll_interval`).
    look_at: AtomicU32,
    /// The round whose turn the monitor has found to be long, if any, above a bit that says so.
    long_turn: AtomicU64,
    pub(crate) grain: Grain,
    /// The goroutine that runs here now; null while the scheduler looks for one.
    pub(crate) running: AtomicPtr<Goroutine>,
    unattended: AtomicBool,
    /// A pinned goroutine has left its stack here in the middle of a panic (D3 in `abort_shields`).
    in_panic: AtomicBool,
    /// The round in which a goroutine had its first turn here, while that was watched (V3 in `spares`).
    first_turn: AtomicU32,
    /// The clock of its thread's own time (`thread_clock`).
    clock: AtomicI32,
    /// When its worker was found stuck, in the timers' nanoseconds.
    pub(crate) stuck_since: AtomicU64,
    spawned: AtomicU64,
    finished: AtomicU64,
}

impl Seat {
    fn new(runtime: Weak<dyn WakeForTimer>, stealer: RunStealer, (index, marks): (usize, Arc<Marks>)) -> Seat {
        Seat {
            runtime,
            index,
            marks,
            stealer,
            next: NextSlot::new(),
            inbox: Inbox::new(),
            timers: Timers::new(),
            thread: Lock::new(None),
            asleep: AtomicBool::new(false),
            until: AtomicU64::new(NEVER),
            rounds: AtomicU32::new(0),
            look_at: AtomicU32::new(0),
            long_turn: AtomicU64::new(0),
            grain: Grain::new(),
            running: AtomicPtr::new(ptr::null_mut()),
            // Nobody has sat down yet.
            unattended: AtomicBool::new(true),
            in_panic: AtomicBool::new(false),
            first_turn: AtomicU32::new(u32::MAX),
            clock: AtomicI32::new(0),
            stuck_since: AtomicU64::new(0),
            spawned: AtomicU64::new(0),
            finished: AtomicU64::new(0),
        }
    }

    /// By the worker, as the first thing it does.
    pub(crate) fn sit_down(&self) {
        *self.thread.lock() = Some(current_thread());
        // Relaxed: for the monitor, which guesses by it.
        self.clock.store(thread_clock::mine(), Ordering::Relaxed);
        // Relaxed, all: hints; a worker begins with round 0.
        self.rounds.store(0, Ordering::Relaxed);
        self.look_at.store(0, Ordering::Relaxed);
        self.long_turn.store(0, Ordering::Relaxed);
        self.first_turn.store(u32::MAX, Ordering::Relaxed);
        self.in_panic.store(false, Ordering::Relaxed);
        // A worker had left it unattended (S4); that one was not counted as stuck.
        let _was = self.set_unattended(false);
    }

    #[inline(never)]
    pub(crate) fn unpark(&self) {
        if let Some(thread) = &*self.thread.lock() {
            thread.unpark();
        }
    }

    /// D3 in `abort_shields`: returns true if a pinned goroutine waits or has yielded here in the middle of a panic.
    #[inline]
    pub(crate) fn is_in_panic(&self) -> bool {
        // Relaxed: written by the seat's own worker; others wake or bring in workers by it, and look again.
        self.in_panic.load(Ordering::Relaxed)
    }

    /// Called by the seat's own worker.
    pub(crate) fn set_in_panic(&self, in_panic: bool) {
        // Relaxed: see `is_in_panic`.
        self.in_panic.store(in_panic, Ordering::Relaxed);
    }

    /// Returns true if nobody looks after it (S4).
    pub(crate) fn is_unattended(&self) -> bool {
        // SeqCst: see `set_unattended`.
        self.unattended.load(Ordering::SeqCst)
    }

    /// Says who looks after it from now on. Returns what was so before. Whoever leaves it unattended and looks at it then (for
    /// timers) sees what was there for those who have found it attended still, in [`Seat::timer_set`].
    pub(crate) fn set_unattended(&self, unattended: bool) -> bool {
        // SeqCst: the monitor and the worker itself both want to change it; the exchange decides which one did.
        let before = self.unattended.swap(unattended, Ordering::SeqCst);
        if unattended {
            // What is looked at next is not older than the exchange.
            fence(Ordering::SeqCst);
        } else {
            // E1.
            self.marks.set(self.index);
        }
        before
    }

    /// After something was put here, though nobody may look after it (E2).
    pub(crate) fn mark(&self) {
        if self.is_unattended() {
            self.marks.set(self.index);
        }
    }

    /// Called by the monitor; returns true if it is worth a look. If it need not be, it is not any more.
    pub(crate) fn sweep(&self) -> bool {
        let needed = || !self.is_unattended() || self.has_work() || self.timers.earliest() != NEVER;
        if needed() {
            return true;
        }
        self.marks.clear(self.index);
        // E2: once more.
        if needed() {
            self.marks.set(self.index);
        }
        false
    }

    /// For how long its worker's thread has run so far. `None` where that can't be known.
    pub(crate) fn thread_time(&self) -> Option<u64> {
        // Relaxed: a guess; the thread may be another one's by now.
        thread_clock::read(self.clock.load(Ordering::Relaxed))
    }

    /// The turn that begins now is a goroutine's first.
    pub(crate) fn begins(&self) {
        // Relaxed, both: V3 in `spares` is a guess; only its own worker writes them.
        self.first_turn.store(self.rounds.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Returns true if its worker is in the first turn of a goroutine, as far as that was watched.
    pub(crate) fn is_in_first_turn(&self) -> bool {
        // Relaxed, both: V3 in `spares` is a guess. The end of each turn begins another round. What is running is not asked for:
        // that is noted when the goroutine has its stack, and meanwhile another worker would count on this one.
        self.first_turn.load(Ordering::Relaxed) == self.rounds.load(Ordering::Relaxed)
    }

    /// A started goroutine goes back to its worker. Dekker pair with [`Seat::announce_sleep`]: push (SeqCst), then
    /// look whether it sleeps (SeqCst); it says that it sleeps, passes a fence, then looks into the inbox. One sees the other.
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
        // Relaxed: ordered by the fence; `wakes_by` looks again.
        if self.asleep.load(Ordering::Relaxed) {
            if !self.wakes_by(at) {
                self.unpark();
            }
        } else if self.is_unattended()
            && let Some(runtime) = self.runtime.upgrade()
        {
            self.mark();
            // Once more: who has looked through the marks before that was falling asleep.
            fence(Ordering::SeqCst);
            runtime.wake_for_timer(at);
        }
    }

    /// Returns true if its worker sleeps, and will look for timers at that time, its own ones and, if it is an attended seat, those
    /// of the unattended ones.
    pub(crate) fn wakes_by(&self, at: u64) -> bool {
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
        // Relaxed: published by the next store.
        self.until.store(NEVER, Ordering::Relaxed);
        // Release: with `until` (`wakes_by`).
        self.asleep.store(asleep, Ordering::Release);
        // What is looked at next is not older than the store: the sleeper's side of both Dekker pairs.
        fence(Ordering::SeqCst);
    }

    /// Called by its worker: the round after which it looks beyond its own queues.
    pub(crate) fn looks_at(&self, round: u32) {
        // Relaxed: L1 in `poll_interval`.
        self.look_at.store(round, Ordering::Relaxed);
    }

    /// Returns true if that round has come.
    #[inline]
    pub(crate) fn look_is_due(&self, round: u32) -> bool {
        // Relaxed: as above.
        round.wrapping_sub(self.look_at.load(Ordering::Relaxed)).cast_signed() >= 0
    }

    /// Called by the monitor: the worker is to look before its next turn.
    pub(crate) fn look_now(&self) {
        // Relaxed, both: as above.
        self.look_at.store(self.rounds.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Called by the monitor; returns true if the turn of this round has been going on for long.
    pub(crate) fn set_long_turn(&self, round: Option<u32>) {
        let note = round.map_or(0, |round| u64::from(round) << 1 | 1);
        // Relaxed, both: a hint. Written only where it changes: others read the line.
        if self.long_turn.load(Ordering::Relaxed) != note {
            self.long_turn.store(note, Ordering::Relaxed);
        }
    }

    /// Returns true if its worker does not come to what waits here: nobody looks after it (S4), or it has been in one turn for long
    /// (a hint). Others may take what they can from it, its next slot included.
    pub(crate) fn is_neglected(&self) -> bool {
        if self.is_unattended() {
            return true;
        }
        // Relaxed, both: a hint.
        let note = self.long_turn.load(Ordering::Relaxed);
        note != 0 && note >> 1 == u64::from(self.rounds.load(Ordering::Relaxed))
    }

    pub(crate) fn is_asleep(&self) -> bool {
        // Relaxed: a hint. (The monitor, which has to know, has a fence before it.)
        self.asleep.load(Ordering::Relaxed)
    }

    /// Something is here that another worker could take, and that is worth it.
    pub(crate) fn has_work(&self) -> bool {
        if self.is_neglected() {
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

#[cfg(all(test, loom))]
#[expect(unsafe_code, reason = "loom's cells")]
mod models;
