//! `blocking(f)`: calls that hold their thread, on threads that may be held. The only use of crossbeam-channel.
//!
//! * **O1.** The caller waits, shielded from aborts, until its job has run or is given back to it, so the job may lie on
//!   the caller's stack and borrow from it. The current holder of the job (a thread, the queue) ends that wait, exactly
//!   once.
//! * **O2.** For each pending job there is a thread that is idle or being started: a pending job never waits behind a
//!   running one. A thread that has taken a job but not yet recorded it counts as idle and its job as pending, so comparing
//!   the two counts is exact.
//! * **O3.** Jobs queue only while the pool has as many threads as it may have. If a permitted thread is refused, the job
//!   goes back to its caller, and so do the queued jobs: a job that has a thread may be waiting for any of them.
//! * **O4.** A caller runs only its own job, and not while its wait is announced: a job may wait, like any code.
//!
//! The bad interleaving without O4: the caller's parker is armed, and the caller runs a job that waits for a lock, which
//! arms the parker again; the lock's claim is then lost, or ends the wait for the job.
//!
//! The caller's storage stays with the caller: its values need not be Send. What a job stores is its thread's, and ends
//! with the job, so that the next one finds nothing of it.

use crate::sync::lock;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use gorun_scheduler::{Blocker, Parker, PerProcess, Token, WaitReason};
use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Result as Caught;
use std::time::Duration;

/// The default limit on the number of threads.
const MAX_THREADS: usize = 512;
/// An idle thread ends after this long.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// The job is its caller's again (O3).
const GIVEN_BACK: Token = Token::TIMEOUT;

/// The last argument of [`set_blocking_threads`], or 0 if it was not called. Children of a fork inherit it.
static MOST: AtomicUsize = AtomicUsize::new(0);

/// A job on its caller's stack (O1).
#[derive(Clone, Copy)]
struct Job {
    /// Returns true if the job has panicked.
    run: unsafe fn(*const ()) -> bool,
    data: *const (),
    /// The caller's.
    parker: NonNull<Parker>,
}

// SAFETY: `blocking` asks that what the job holds is Send, and O1 keeps it alive, and the parker with it.
unsafe impl Send for Job {}

struct Task<F, R> {
    f: UnsafeCell<Option<F>>,
    result: UnsafeCell<Option<Caught<R>>>,
}

/// Starts a thread of the pool.
type Start = fn(&'static Pool) -> io::Result<()>;

struct Pool {
    /// `None` tells the thread that receives it to end.
    jobs: Sender<Option<Job>>,
    waiting: Receiver<Option<Job>>,
    counts: Mutex<Counts>,
    /// [`KEEP_ALIVE`], but in tests.
    keep_alive: Duration,
    start: Start,
    /// The process ends with the job that forked it, in the child.
    process: u64,
}

struct Counts {
    /// Threads that wait for a job.
    idle: usize,
    /// Jobs that no thread has yet recorded as taken, and requests to end.
    pending: usize,
    /// Excludes threads that have been asked to end.
    threads: usize,
    /// The limit on the number of threads.
    most: usize,
    /// O3.
    queue: VecDeque<Job>,
    /// True until the message about reaching the limit has been printed.
    tell: bool,
}

/// The pool of this process.
fn pool() -> &'static Pool {
    static POOL: PerProcess<Pool> = PerProcess::new();
    POOL.get(|| {
        // Relaxed: a number. A variable that can't be used has been refused when a runtime started.
        let set = Some(MOST.load(Ordering::Relaxed)).filter(|most| *most != 0);
        let set = set.or_else(|| gorun_scheduler::blocking_threads().unwrap_or(None));
        Pool::new(KEEP_ALIVE, set, Pool::start_thread)
    })
}

/// Runs `f` on a thread made for blocking, while the goroutine waits parked and its worker runs others.
///
/// Use it for file I/O, C libraries and long computations. `f` may borrow from the caller. On a plain thread, `f` runs in
/// place. Not a cancellation point while it waits: an aborted goroutine unwinds at its next one.
///
/// The process has one pool of threads, which are started when needed and end after 10 s without work. There are at most
/// 512 (`GORUN_BLOCKING_THREADS`, [`set_blocking_threads`]). Further calls wait for a thread, first come, first served; so
/// if every thread waits for such a call, they deadlock. When the default limit is reached, a line on standard error says
/// so, once. The threads inherit the state of the process when its first runtime started, not what a goroutine has set on
/// its own thread (affinity, niceness, blocked signals).
///
/// If the system refuses a thread, `f` runs on the calling goroutine: it holds up its worker like any blocking call, and
/// its calls of gorun wait as they do in a goroutine. The next call asks for a thread again.
///
/// On a thread of the pool, `f` is not in the goroutine: [`current`](crate::current) is `None`, thread-locals are the
/// thread's, as earlier jobs left them, and goroutine-local storage is the job's own: it begins empty, and ends with the
/// job, at-exit handlers and destructors included, before `blocking` returns. (On a plain thread, or if `f` runs on the
/// goroutine, its storage is the caller's.)
///
/// # Panics
/// When `f` panics, with its payload.
///
/// ```
/// let text = gorun::go(|| gorun::blocking(|| std::fs::read_to_string("Cargo.toml"))).join().unwrap();
/// assert!(text.unwrap().contains("gorun"));
/// ```
pub fn blocking<F, R>(f: F) -> R
where
    F: FnOnce() -> R + Send,
    R: Send,
{
    if !gorun_scheduler::in_goroutine() {
        return f();
    }
    gorun_scheduler::checkpoint();
    let blocker = Blocker::current();
    let task = Task { f: UnsafeCell::new(Some(f)), result: UnsafeCell::new(None) };
    blocker.arm_shielded();
    let job = Job { run: run_task::<F, R>, data: (&raw const task).cast(), parker: blocker.parker() };
    let is_mine = if pool().submit(job) {
        let token = blocker.park(WaitReason::Blocking, None);
        debug_assert!(token == Token::DONE || token == GIVEN_BACK, "O1");
        token == GIVEN_BACK
    } else {
        // No thread has had the job.
        let disarmed = blocker.disarm();
        assert!(disarmed, "O1");
        true
    };
    if is_mine {
        // O4: no wait is announced any more.
        return (task.f.into_inner().expect("a job runs once"))();
    }
    match task.result.into_inner().expect("the job has run") {
        Ok(value) => value,
        Err(payload) => resume_unwind(payload),
    }
}

/// Sets the maximum number of threads for [`blocking`] in this process, and returns the previous one: at first
/// `GORUN_BLOCKING_THREADS`, or 512.
///
/// The limit is for the whole process, like the threads, not for one runtime. If it is raised, waiting calls go on at once;
/// if it is lowered, surplus threads end as soon as their calls return.
///
/// # Panics
/// If `most` is 0.
///
/// ```
/// let before = gorun::set_blocking_threads(2000);
/// assert_eq!(gorun::set_blocking_threads(before), 2000);
/// ```
pub fn set_blocking_threads(most: usize) -> usize {
    assert!(most > 0, "gorun::set_blocking_threads: the limit must be at least 1");
    let before = pool().set_most(most);
    // Relaxed: a number.
    MOST.store(most, Ordering::Relaxed);
    before
}

unsafe fn run_task<F: FnOnce() -> R, R>(data: *const ()) -> bool {
    // SAFETY: O1: the task lives until our caller has claimed its parker.
    let task = unsafe { &*data.cast::<Task<F, R>>() };
    // SAFETY: O1: the caller looks at neither cell before the claim.
    let f = unsafe { (*task.f.get()).take() }.expect("a job runs once");
    let result = catch_unwind(AssertUnwindSafe(f));
    // Before the claim: what happens here happens before `blocking` returns, and nobody's next job finds it.
    gorun_scheduler::end_thread_storage();
    let panicked = result.is_err();
    // SAFETY: as above.
    unsafe { *task.result.get() = Some(result) };
    panicked
}

impl Job {
    fn end_wait(self, token: Token) {
        // SAFETY: O1 stands for the lock of P3: we have the job, so nobody else ends this wait. The claim's release
        // publishes the result.
        if let Some(wake) = unsafe { Parker::claim(self.parker, token) } {
            wake.wake();
        }
    }
}

/// The result of submitting a job.
enum Place {
    /// There is an idle thread for it.
    Idle,
    /// A thread must be started for it.
    New,
    /// It waits for a busy thread. True if a message should say so.
    Queue(bool),
}

impl Pool {
    fn new(keep_alive: Duration, most: Option<usize>, start: Start) -> Pool {
        let (jobs, waiting) = unbounded();
        let (tell, most) = (most.is_none(), most.unwrap_or(MAX_THREADS));
        let counts = Counts { idle: 0, pending: 0, threads: 0, most, queue: VecDeque::new(), tell };
        Pool { jobs, waiting, counts: Mutex::new(counts), keep_alive, start, process: gorun_scheduler::process() }
    }

    fn start_thread(&'static self) -> io::Result<()> {
        gorun_scheduler::start_thread("gorun-blocking".to_owned(), Box::new(|| self.serve())).map(drop)
    }

    /// Submits the job. Returns false if no thread could be started; then the job is the caller's again.
    #[expect(clippy::disallowed_methods, reason = "the channel has no bound, so there is always room")]
    fn submit(&'static self, job: Job) -> bool {
        let place = lock(&self.counts).place(job);
        match place {
            Place::Idle => {}
            Place::New if (self.start)(self).is_ok() => {}
            Place::New => {
                if !self.was_refused() {
                    return false;
                }
            }
            Place::Queue(tell) => {
                if tell {
                    self.tell();
                }
                return true;
            }
        }
        self.jobs.send(Some(job)).expect("the pool holds a receiver");
        true
    }

    /// Handles the refusal of a thread that was counted: returns the queued jobs to their callers (O3). Returns true if
    /// there is an idle thread by now for the job that it was for; if not, that job is no longer pending.
    #[cold]
    fn was_refused(&self) -> bool {
        let (queue, has_one) = {
            let mut counts = lock(&self.counts);
            counts.threads -= 1;
            let has_one = counts.pending <= counts.idle;
            counts.pending -= usize::from(!has_one);
            (std::mem::take(&mut counts.queue), has_one)
        };
        queue.into_iter().for_each(|job| job.end_wait(GIVEN_BACK));
        has_one
    }

    #[expect(clippy::disallowed_methods, reason = "the channel has no bound, so there is always room")]
    fn set_most(&'static self, most: usize) -> usize {
        let (before, too_many) = {
            let mut counts = lock(&self.counts);
            counts.tell = false;
            let idle = counts.idle.saturating_sub(counts.pending);
            let too_many = counts.threads.saturating_sub(most).min(idle);
            counts.pending += too_many;
            // Counted now, so that no other thread leaves in their place.
            counts.threads -= too_many;
            (std::mem::replace(&mut counts.most, most), too_many)
        };
        for _ in 0..too_many {
            self.jobs.send(None).expect("the pool holds a receiver");
        }
        loop {
            let job = {
                let mut counts = lock(&self.counts);
                if counts.threads >= counts.most {
                    return before;
                }
                let Some(job) = counts.queue.pop_front() else { return before };
                counts.pending += 1;
                counts.threads += 1;
                job
            };
            self.begin(job);
        }
    }

    /// Starts a thread for a job that waited.
    #[expect(clippy::disallowed_methods, reason = "the channel has no bound, so there is always room")]
    fn begin(&'static self, job: Job) {
        if (self.start)(self).is_ok() || self.was_refused() {
            self.jobs.send(Some(job)).expect("the pool holds a receiver");
        } else {
            job.end_wait(GIVEN_BACK);
        }
    }

    #[cold]
    fn tell(&self) {
        let _ = writeln!(
            io::stderr(),
            "gorun: all {MAX_THREADS} threads of `blocking` are busy, and more calls wait for one of them; raise the limit \
             with GORUN_BLOCKING_THREADS or `gorun::set_blocking_threads`"
        );
    }

    fn serve(&self) {
        while let Some(job) = self.next() {
            // SAFETY: O1; a job is run once, by its holder.
            let panicked = unsafe { (job.run)(job.data) };
            if gorun_scheduler::process() != self.process {
                // The job has forked, and this is the child's only thread; the caller waits in the parent.
                std::process::exit(if panicked { 101 } else { 0 });
            }
            job.end_wait(Token::DONE);
        }
    }

    /// The next job for the calling thread. `None`: it ends.
    #[expect(clippy::disallowed_methods, reason = "on a thread of the pool")]
    fn next(&self) -> Option<Job> {
        loop {
            {
                let mut counts = lock(&self.counts);
                // O2: jobs in the channel have the first claim on free threads.
                if counts.pending <= counts.idle {
                    if counts.threads > counts.most {
                        counts.threads -= 1;
                        return None;
                    }
                    if let Some(job) = counts.queue.pop_front() {
                        return Some(job);
                    }
                }
                counts.idle += 1;
            }
            let job = if gorun_scheduler::has_forked() {
                // A job's child may wait for this thread's end, and take it for the end of the program.
                self.waiting.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                self.waiting.recv_timeout(self.keep_alive)
            };
            let mut counts = lock(&self.counts);
            counts.idle -= 1;
            match job {
                Ok(job) => {
                    counts.pending -= 1;
                    return job;
                }
                // A job that counts on us is on its way (O2).
                Err(_) if counts.pending > counts.idle => {}
                Err(_) => {
                    counts.threads -= 1;
                    return None;
                }
            }
        }
    }
}

impl Counts {
    fn place(&mut self, job: Job) -> Place {
        if self.pending >= self.idle && self.threads >= self.most {
            self.queue.push_back(job);
            return Place::Queue(std::mem::take(&mut self.tell));
        }
        self.pending += 1;
        if self.pending <= self.idle {
            return Place::Idle;
        }
        self.threads += 1;
        Place::New
    }
}

#[cfg(test)]
mod tests;
