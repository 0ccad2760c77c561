//! Workers beyond the configured number: who takes over while one is stuck, and how the number goes back.
//!
//! A worker is stuck when the goroutine it runs computes or blocks in the kernel and comes to no runtime call. Nothing
//! can be done about that goroutine, but all the rest of its seat can be had by others (S4 in `seats`); so that as many
//! run goroutines as were configured, the monitor brings in one worker more for each that is stuck. When the stuck one
//! comes back there is one too many: `excess`. Whichever worker sees it first and may (it is the home of no pinned
//! goroutine) gives its queue away and waits in line, for [`KEEP`]; after that its thread ends, and its seat is left
//! for a later one.
//!
//! Used by `monitor` (bring in), `worker` (come back, retire), `lock_thread` (a goroutine with a thread of its own).
//!
//! * **V1.** `active` counts workers that run goroutines, look for some, or sleep until there are any: the configured
//!   number, plus one for each that was brought in, minus one for each that retired or is a locked goroutine's.
//! * **V2.** A worker in line is taken out under the lock, by whoever brings it in or by itself when it leaves.
//! * **V3.** Threads are few: when three quarters of the spare ones are stuck, goroutines that have not begun are held
//!   back, so that a thousand that all block in the kernel leave threads to those that have begun.

use crate::config::Config;
use crate::run_queue::RunQueue;
use crate::seats::Seat;
use crate::shared::Shared;
use crate::shim::Lock;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a worker that is not needed waits to be needed again.
const KEEP: Duration = Duration::from_secs(2);

/// Starts the thread of the worker on a seat, with the owner's end of its queue.
pub(crate) type Start = fn(&Arc<Shared>, usize, RunQueue) -> io::Result<JoinHandle<()>>;

#[derive(Debug)]
pub(crate) struct Spares {
    start: Start,
    line: Lock<Line>,
    active: AtomicUsize,
    excess: AtomicUsize,
    stuck: AtomicUsize,
    scarce_at: usize,
    refused: AtomicBool,
    can_bring_in: bool,
}

#[derive(Debug, Default)]
struct Line {
    /// Seats of workers that wait, the hottest last.
    waiting: Vec<usize>,
    /// Seats without a thread.
    left: Vec<(usize, RunQueue)>,
    threads: Vec<JoinHandle<()>>,
}

/// How a wait in line ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// The worker is needed again.
    BroughtIn,
    /// It is not: its thread ends.
    TooLong,
}

impl Spares {
    pub(crate) fn new(config: &Config, start: Start) -> Spares {
        Spares {
            start,
            line: Lock::new(Line::default()),
            active: AtomicUsize::new(0),
            excess: AtomicUsize::new(0),
            stuck: AtomicUsize::new(0),
            scarce_at: config.workers + config.spare_workers - config.spare_workers / 4,
            refused: AtomicBool::new(false),
            can_bring_in: config.spare_workers > 0,
        }
    }

    /// V1.
    pub(crate) fn active(&self) -> usize {
        self.active.load(Ordering::SeqCst)
    }

    /// Whether there is a worker to bring in for one that is stuck. If not, a goroutine may not be made to wait where it does
    /// not expect to (`spawn`): it may hold a lock of std's that those want who go first.
    pub(crate) fn can_be_had(&self) -> bool {
        self.can_bring_in
    }

    /// V3: goroutines that have not begun are to be held back.
    #[inline]
    pub(crate) fn are_scarce(&self) -> bool {
        // Relaxed: a hint; what is held back is looked at by every worker that finds threads not to be scarce.
        self.stuck() >= self.scarce_at
    }

    /// A worker was found stuck, or has come back.
    pub(crate) fn count_stuck(&self, stuck: bool) {
        // Relaxed: see `are_scarce`.
        if stuck {
            self.stuck.fetch_add(1, Ordering::Relaxed);
        } else {
            self.stuck.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// How many are stuck. A snapshot.
    pub(crate) fn stuck(&self) -> usize {
        // Relaxed: a snapshot. Whoever comes back may be counted before the monitor has counted it as stuck.
        self.stuck.load(Ordering::Relaxed).cast_signed().max(0).cast_unsigned()
    }

    /// Whether a worker more was asked for and could not be had, at any time.
    pub(crate) fn were_refused(&self) -> bool {
        // Relaxed: a snapshot.
        self.refused.load(Ordering::Relaxed)
    }

    /// How many threads there are: at work, stuck, or in line.
    pub(crate) fn threads(&self) -> usize {
        let mut line = self.line.lock();
        line.threads.retain(|thread| !thread.is_finished());
        line.threads.len()
    }

    /// One worker more: the last in line, or a new thread.
    ///
    /// # Errors
    /// When there is no seat left, or the kernel refuses a thread.
    pub(crate) fn bring_in(&self, shared: &Arc<Shared>) -> io::Result<()> {
        let mut line = self.line.lock();
        // Before it begins: it may retire at once.
        self.active.fetch_add(1, Ordering::SeqCst);
        if let Some(index) = line.waiting.pop() {
            shared.seats.get(index).unpark();
            return Ok(());
        }
        let outcome = self.start_one(&mut line, shared);
        if outcome.is_err() {
            self.active.fetch_sub(1, Ordering::SeqCst);
            // Relaxed: a statistic.
            self.refused.store(true, Ordering::Relaxed);
        }
        outcome
    }

    fn start_one(&self, line: &mut Line, shared: &Arc<Shared>) -> io::Result<()> {
        line.threads.retain(|thread| !thread.is_finished());
        let (index, queue) = match line.left.pop() {
            Some(left) => left,
            None => {
                let queue = RunQueue::new();
                let Some(index) = shared.seats.add(Arc::downgrade(shared), queue.stealer()) else {
                    return Err(io::Error::other("no seat left for another worker"));
                };
                (index, queue)
            }
        };
        // What a thread that could not be started took along is lost, seat and all: a later one gets a new seat.
        line.threads.push((self.start)(shared, index, queue)?);
        Ok(())
    }

    /// By a worker, about its own seat: if it was found stuck meanwhile it looks after the seat again, and if another
    /// was brought in for it there is one too many.
    pub(crate) fn come_back(&self, seat: &Seat) {
        if seat.is_unattended() && seat.set_unattended(false) {
            self.count_stuck(false);
        }
        // The monitor's note to itself and to us; the exchange takes it once. SeqCst: coming back, then the note; the monitor
        // writes the note, and then looks whether we have come back, and wakes us.
        if seat.replaced.load(Ordering::SeqCst) && seat.replaced.swap(false, Ordering::SeqCst) {
            self.count_excess();
        }
    }

    /// There is one worker too many.
    pub(crate) fn count_excess(&self) {
        // Relaxed: a count; nothing is published with it.
        self.excess.fetch_add(1, Ordering::Relaxed);
    }

    /// By a worker that is not stuck: its seat is for others to look after from now on.
    pub(crate) fn set_aside(&self, seat: &Seat) {
        // If the monitor has just found it stuck, that was a moment ago.
        if seat.set_unattended(true) {
            self.count_stuck(false);
        }
    }

    /// Whether the caller is the one too many: then it retires.
    #[inline]
    pub(crate) fn take_excess(&self) -> bool {
        // Relaxed: as in `come_back`; the exchange makes one worker of several the one.
        let mut excess = self.excess.load(Ordering::Relaxed);
        while excess != 0 {
            match self.excess.compare_exchange_weak(excess, excess - 1, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => excess = now,
            }
        }
        false
    }

    /// The caller's worker stops running goroutines: it retires, or becomes a locked goroutine's own.
    pub(crate) fn count_off(&self) {
        self.active.fetch_sub(1, Ordering::SeqCst);
    }

    /// The locked goroutine's worker is one like the others again.
    pub(crate) fn count_on(&self) {
        self.active.fetch_add(1, Ordering::SeqCst);
    }

    /// Waits in line, on the retired worker's own thread (V2).
    #[expect(clippy::disallowed_methods, reason = "a retired worker, which runs nothing")]
    pub(crate) fn wait(&self, index: usize, stopping: impl Fn() -> bool) -> Waited {
        let until = Instant::now() + KEEP;
        self.line.lock().waiting.push(index);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if !left.is_zero() && !stopping() {
                std::thread::park_timeout(left);
            }
            let mut line = self.line.lock();
            let Some(at) = line.waiting.iter().position(|i| *i == index) else { return Waited::BroughtIn };
            if stopping() || Instant::now() >= until {
                line.waiting.remove(at);
                return Waited::TooLong;
            }
        }
    }

    /// The seat of a worker whose thread ends.
    pub(crate) fn leave(&self, index: usize, queue: RunQueue) {
        self.line.lock().left.push((index, queue));
    }

    /// Waits for the threads to end; `false` leaves them alone.
    pub(crate) fn end(&self, wait: bool) {
        let threads = std::mem::take(&mut self.line.lock().threads);
        for thread in threads.into_iter().filter(|_| wait) {
            // A worker that panicked has aborted the process.
            let _ = thread.join();
        }
    }
}
