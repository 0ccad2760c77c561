//! Spare workers, beyond the configured number: they take over while a worker is stuck, and retire afterwards.
//!
//! A worker is stuck when the goroutine it runs computes or blocks in the kernel and comes to no runtime call. Nothing can
//! be done about that goroutine, but others can take all the rest of its seat (S4 in `seats`); the monitor brings in
//! workers (`replacement`) so that the wanted number runs goroutines. When a stuck worker comes back there may be more than
//! are wanted. The first worker that notices this and may retire (it is the home of no pinned goroutine) gives its queue
//! away and waits in line, for [`KEEP`]; after that its thread ends, and its seat is left for a later one.
//!
//! Used by `monitor` and `replacement` (bring in), `worker` (come back, retire), `lock_thread` (a goroutine with a thread of
//! its own).
//!
//! * **V1.** The crew (`worker_counts`) counts each worker once: as one that *attends* (it runs goroutines, looks for some, or
//!   sleeps until there are any), or as one that is *stuck*. A worker in line, and a locked goroutine's worker, are in
//!   neither count. The counts change with the seats' `unattended`.
//! * **V2.** A worker in line is taken out under the lock, by the thread that brings it in or by itself when it leaves.
//! * **V3.** New goroutines must not use up all threads: a goroutine that has begun may hold what all the others are
//!   blocked by. So when dozens of workers are stuck, a goroutine begins only if another worker is free: one that attends,
//!   and is not in a goroutine's first turn. The others are held back until there is one, and the monitor brings one in as
//!   long as threads can be had.
//! * **V4.** A refusal leaves nothing behind: the seat and its queue go back to the line.

use crate::base::atomics::Lock;
use crate::config::Config;
use crate::processor::worker_counts::Crew;
use crate::queue::run_queue::{RunQueue, RunStealer};
use crate::seat::seats::{MOST, Seat, Seats};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{fmt, io, ptr};

/// How long a worker that is not needed waits to be needed again.
pub(crate) const KEEP: Duration = Duration::from_secs(2);
/// V3 applies when this many workers beyond the configured number are stuck. Not fewer: goroutines that block for
/// milliseconds at a time, each with a connection of its own, do with some 25 threads, and would be slowed down.
const DOZENS: usize = 32;

/// The runtime as it hires workers: its seats and their threads.
pub(crate) trait Hiring {
    /// Wakes the worker in line that has this seat.
    fn unpark(&self, seat: usize);
    /// Makes one seat more, if there is room.
    fn add_seat(&self, stealer: RunStealer) -> Option<usize>;
    /// Starts the thread of the worker on a seat, with the owner's end of its queue, which is returned if no thread can be
    /// started.
    fn start(&self, seat: usize, queue: RunQueue) -> Result<JoinHandle<()>, (io::Error, RunQueue)>;
}

#[derive(Debug)]
pub(crate) struct Spares {
    line: Lock<Line>,
    /// V1.
    crew: Crew,
    /// How many are to attend.
    wanted: AtomicUsize,
    /// Locked goroutines' workers, whose threads do not count as spare ones.
    aside: AtomicUsize,
    /// The limit on threads, not counting those of locked goroutines.
    most: usize,
    careful_at: usize,
    /// V3: true while dozens are stuck.
    dozens: AtomicBool,
    /// True while dozens are stuck, or there may be no stack for a new goroutine.
    careful: AtomicBool,
    beginning: Lock<()>,
    /// Whether the last attempt was refused, and whether any ever was.
    refusing: AtomicBool,
    refused: AtomicBool,
    /// Threads that have ended, or are about to, and are still in the list.
    ended: AtomicUsize,
    peak: AtomicUsize,
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

/// Why no further worker can be had.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The configured limit is reached.
    Cap,
    /// There is no room for another seat.
    Seats,
    /// The kernel refused a thread.
    Kernel(io::Error),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Cap => f.write_str("the limit on threads is reached"),
            Refused::Seats => write!(f, "a runtime can have at most {MOST} threads"),
            Refused::Kernel(error) => write!(f, "the system refused a thread: {error}"),
        }
    }
}

/// How a wait in line ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// The worker is needed again.
    BroughtIn,
    /// The worker is not needed: its thread ends.
    TooLong,
}

impl Spares {
    pub(crate) fn new(config: &Config) -> Spares {
        let most = config.workers + config.spare_workers;
        Spares {
            line: Lock::new(Line::default()),
            crew: Crew::new(),
            wanted: AtomicUsize::new(config.workers),
            aside: AtomicUsize::new(0),
            most,
            careful_at: (most - config.spare_workers / 4).min(config.workers + DOZENS),
            dozens: AtomicBool::new(false),
            careful: AtomicBool::new(false),
            beginning: Lock::new(()),
            refusing: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            ended: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            can_bring_in: config.spare_workers > 0,
        }
    }

    /// V1: those that attend, and those that are stuck.
    pub(crate) fn crew(&self) -> (usize, usize) {
        self.crew.counts()
    }

    /// How many are stuck. A snapshot.
    pub(crate) fn stuck(&self) -> usize {
        self.crew().1
    }

    /// How many are to attend.
    pub(crate) fn wanted(&self) -> usize {
        // Relaxed: written by the monitor, which sees to it that there are so many; others retire by it, sooner or later.
        self.wanted.load(Ordering::Relaxed)
    }

    pub(crate) fn want(&self, workers: usize) {
        // Relaxed: see `wanted`.
        self.wanted.store(workers, Ordering::Relaxed);
    }

    /// Returns true if a worker can be brought in for one that is stuck. If not, a goroutine must not be made to wait where
    /// it does not expect to (`spawn`): it may hold a lock of std's that the goroutines that go first want.
    pub(crate) fn can_be_had(&self) -> bool {
        // Relaxed: a hint.
        self.can_bring_in && !self.refusing.load(Ordering::Relaxed)
    }

    /// Returns true if the checks before a goroutine begins are on (V3; G3 in `memory/guard`).
    #[inline]
    pub(crate) fn is_careful(&self) -> bool {
        // Relaxed: a hint; what is held back is looked at by the monitor.
        self.careful.load(Ordering::Relaxed)
    }

    /// V3: returns true if a goroutine begins only if another worker is free.
    pub(crate) fn dozens_are_stuck(&self) -> bool {
        // Relaxed: as in `is_careful`.
        self.dozens.load(Ordering::Relaxed)
    }

    /// Called by the monitor: records whether dozens are stuck (V3). `late`: there may be no stack for a new goroutine.
    pub(crate) fn see_to_care(&self, late: bool) -> bool {
        let dozens = self.stuck() >= self.careful_at;
        // Relaxed, both: see `is_careful`.
        self.dozens.store(dozens, Ordering::Relaxed);
        self.careful.store(dozens || late, Ordering::Relaxed);
        dozens
    }

    /// V3: called by the worker of `seat`; returns true if a goroutine may begin there, and records its first turn. One
    /// caller at a time, so that two workers do not count on each other.
    #[cold]
    pub(crate) fn may_begin(&self, seats: &Seats, seat: &Seat) -> bool {
        let _one = self.beginning.lock();
        let may = Spares::another_is_free(seats, seat);
        if may {
            seat.begins();
        }
        may
    }

    /// V3: returns true if a worker other than that of `seat` is free.
    pub(crate) fn another_is_free(seats: &Seats, seat: &Seat) -> bool {
        let mut others = seats.worth_a_look().filter(|other| !ptr::eq(*other, seat));
        others.any(|other| !other.is_unattended() && !other.is_in_first_turn())
    }

    /// Called by the monitor for a seat on which nothing has moved for long: marks its worker as stuck. Returns true if it
    /// was not marked before.
    pub(crate) fn found_stuck(&self, seat: &Seat) -> bool {
        if seat.is_unattended() {
            return false;
        }
        self.crew.found_stuck(|| seat.set_unattended(true))
    }

    /// Called by a worker for its own seat: if it was marked as stuck meanwhile, it attends again.
    pub(crate) fn come_back(&self, seat: &Seat) {
        if seat.is_unattended() && seat.set_unattended(false) {
            self.crew.not_stuck();
        }
    }

    /// Called by a worker that is not stuck and no longer counted as attending: leaves its seat unattended.
    pub(crate) fn set_aside(&self, seat: &Seat) {
        // If the monitor has just found it stuck, that was a moment ago.
        if seat.set_unattended(true) {
            self.crew.not_stuck();
        }
    }

    /// Returns true if the caller, which attends, is one too many: then it is no longer counted, and must retire.
    #[inline]
    pub(crate) fn take_excess(&self) -> bool {
        self.crew.take_excess(self.wanted())
    }

    /// Turns the caller's worker, whose place among those that attend has been handed over
    /// ([`Spares::bring_in_for_lock`]), into a locked goroutine's own.
    pub(crate) fn lend(&self) {
        // Relaxed: a count, that of the threads which may be started.
        self.aside.fetch_add(1, Ordering::Relaxed);
    }

    /// Turns the locked goroutine's worker back into an ordinary one.
    pub(crate) fn take_back(&self) {
        self.crew.come();
        // Relaxed: as in `lend`.
        self.aside.fetch_sub(1, Ordering::Relaxed);
    }

    /// Records that a locked goroutine's thread ends with it.
    pub(crate) fn write_off(&self) {
        // Relaxed: as in `lend`.
        self.aside.fetch_sub(1, Ordering::Relaxed);
    }

    /// Returns true if a further worker was ever asked for and refused.
    pub(crate) fn were_refused(&self) -> bool {
        // Relaxed: a snapshot.
        self.refused.load(Ordering::Relaxed)
    }

    /// How many threads there are: at work, stuck, or in line.
    pub(crate) fn threads(&self) -> usize {
        let mut line = self.line.lock();
        self.sweep(&mut line);
        line.threads.len()
    }

    /// The highest number of threads so far.
    pub(crate) fn peak(&self) -> usize {
        // Relaxed: a statistic.
        self.peak.load(Ordering::Relaxed)
    }

    /// Removes the threads that have ended from the list. Not called at each look: there may be thousands.
    fn sweep(&self, line: &mut Line) {
        // Relaxed, both: a count, and what it stands for is looked at. A thread that has counted itself may not have ended.
        if self.ended.load(Ordering::Relaxed) > 0 {
            let before = line.threads.len();
            line.threads.retain(|thread| !thread.is_finished());
            self.ended.fetch_sub(before - line.threads.len(), Ordering::Relaxed);
        }
    }

    /// Brings in one worker more: the last in line, or a new thread. Called by the monitor, and while there is none yet.
    ///
    /// # Errors
    /// If the limit is reached, or the kernel refuses a thread. The caller may try again (V4).
    pub(crate) fn bring_in(&self, runtime: &impl Hiring) -> Result<(), Refused> {
        let mut line = self.line.lock();
        self.bring_in_up_to(&mut line, runtime, self.most)?;
        // C1: only now that it is there.
        self.crew.come();
        Ok(())
    }

    /// Brings in a worker in the place of the caller's, which attends, and which a locked goroutine is about to own
    /// ([`Spares::lend`] follows): it is not a spare one. Brings in none if there is one too many. If it is refused, the
    /// caller's worker attends as before.
    ///
    /// The caller's place in the counts is handed over: from here on its successor is counted, and it is not. If the successor
    /// were counted first, and the caller's worker left afterwards, any worker (the successor too) could find one too many in
    /// between and retire, and nobody might be left.
    ///
    /// # Errors
    /// As [`Spares::bring_in`].
    pub(crate) fn bring_in_for_lock(&self, runtime: &impl Hiring) -> Result<(), Refused> {
        if self.take_excess() {
            return Ok(());
        }
        self.bring_in_up_to(&mut self.line.lock(), runtime, usize::MAX)
    }

    /// Without counting it.
    fn bring_in_up_to(&self, line: &mut Line, runtime: &impl Hiring, most: usize) -> Result<(), Refused> {
        if let Some(index) = line.waiting.pop() {
            runtime.unpark(index);
            return Ok(());
        }
        let outcome = self.start_one(line, runtime, most);
        // Relaxed, all: hints and statistics.
        self.refusing.store(outcome.is_err(), Ordering::Relaxed);
        if outcome.is_err() {
            self.refused.store(true, Ordering::Relaxed);
        } else {
            self.peak.fetch_max(line.threads.len(), Ordering::Relaxed);
        }
        outcome
    }

    fn start_one(&self, line: &mut Line, runtime: &impl Hiring, most: usize) -> Result<(), Refused> {
        self.sweep(line);
        // Relaxed: see `lend`.
        if line.threads.len().saturating_sub(self.aside.load(Ordering::Relaxed)) >= most {
            return Err(Refused::Cap);
        }
        let (index, queue) = match line.left.pop() {
            Some(left) => left,
            None => {
                let queue = RunQueue::new();
                let index = runtime.add_seat(queue.stealer()).ok_or(Refused::Seats)?;
                (index, queue)
            }
        };
        match runtime.start(index, queue) {
            Ok(thread) => {
                line.threads.push(thread);
                Ok(())
            }
            Err((error, queue)) => {
                // V4.
                line.left.push((index, queue));
                Err(Refused::Kernel(error))
            }
        }
    }

    /// Waits in line for as long as `keep`, on the retired worker's own thread (V2).
    #[expect(clippy::disallowed_methods, reason = "a retired worker, which runs nothing")]
    pub(crate) fn wait(&self, index: usize, keep: Duration, stopping: impl Fn() -> bool) -> Waited {
        let until = Instant::now() + keep;
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

    /// Gives back the seat of a worker whose thread ends.
    pub(crate) fn leave(&self, index: usize, queue: RunQueue) {
        self.line.lock().left.push((index, queue));
        // Relaxed: see `sweep`.
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits for the threads to end; with `false`, leaves them alone.
    pub(crate) fn end(&self, wait: bool) {
        let threads = std::mem::take(&mut self.line.lock().threads);
        for thread in threads.into_iter().filter(|_| wait) {
            // A worker that panicked has aborted the process.
            let _ = thread.join();
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
