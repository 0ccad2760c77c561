//! `blocking(f)`: calls that hold their thread, on threads that may be held. The only use of crossbeam-channel.
//!
//! * **O1.** The caller waits, shielded from aborts, until its job has run or is given back to it, so the job may lie on the
//!   caller's stack and borrow from it. Whoever has the job (a thread, the queue) ends that wait, once; nobody else does.
//! * **O2.** There is an idle thread, or one being started, for each pending job: a pending job never waits behind one that
//!   runs. A thread that took a job and has not said so yet counts as idle and its job as pending, so the comparison of the
//!   two is exact.
//! * **O3.** Jobs queue only while there are as many threads as there may be. Where one that may be can't be had, the job goes
//!   back to its caller, and so do those in the queue: each may be what a job waits for that has a thread.
//! * **O4.** A caller runs its own job only, and not while its wait is announced: a job may wait as any code may.
//!
//! The bad interleaving without O4: the caller is armed, runs a job that waits for a lock, and that arms it anew; the lock's
//! claim is then lost, or ends the wait for the job.
//!
//! The caller's storage stays with the caller: its values need not be Send. What a job stores is its thread's, and ends
//! with the job, so that the next one finds nothing of it.

use crate::sync::lock;
use crossbeam_channel::{Receiver, Sender, unbounded};
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

/// Threads at most, unless somebody says otherwise.
const MAX_THREADS: usize = 512;
/// An idle thread ends after this long.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// The job is its caller's again (O3).
const GIVEN_BACK: Token = Token::TIMEOUT;

/// What [`set_blocking_threads`] said last; 0: nothing. Also for the children of forks.
static MOST: AtomicUsize = AtomicUsize::new(0);

/// A job on its caller's stack (O1).
#[derive(Clone, Copy)]
struct Job {
    /// Says whether it has panicked.
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
    /// `None`: whoever gets it ends.
    jobs: Sender<Option<Job>>,
    waiting: Receiver<Option<Job>>,
    counts: Mutex<Counts>,
    /// [`KEEP_ALIVE`], but in tests.
    keep_alive: Duration,
    start: Start,
    /// Its process ends with the job that forks it, in the child.
    process: u64,
}

struct Counts {
    /// Threads that wait for a job.
    idle: usize,
    /// Jobs that no thread has said to have taken, and calls to end.
    pending: usize,
    /// Those that are called to end left out.
    threads: usize,
    /// How many threads there may be.
    most: usize,
    /// O3.
    queue: VecDeque<Job>,
    /// True while it is still to be said when there are as many as there may be.
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
/// For file I/O, C libraries, long computations. `f` may borrow from the caller. On a plain thread `f` just runs.
/// Not a cancellation point while it waits: an aborted goroutine unwinds at its next one.
///
/// The threads are the process's, made when needed and ended after 10 s without work. There are up to 512
/// (`GORUN_BLOCKING_THREADS`, [`set_blocking_threads`]). Calls beyond that wait for one of them in the order in which they
/// came; so if all of them wait for such a call, they do so for ever. Unless that number was set by somebody, a line on
/// standard error says so when it is met. The threads are as the process was when its first runtime started: what a goroutine
/// has done to its thread (affinity, niceness, blocked signals) is not theirs.
///
/// Where the system refuses a thread, `f` runs on the goroutine that calls: it holds up its worker as any call in a goroutine
/// does that blocks, and waits as a goroutine where it waits for something of gorun's. The next call tries again.
///
/// On a thread of the pool `f` is not in the goroutine: there [`current`](crate::current) is `None`, thread-locals are those
/// of its thread, as its earlier users left them, and goroutine-local storage is its own: it begins with none, and what it
/// stores ends with it, at-exit handlers and destructors included, before `blocking` returns. (Not so on a plain thread, and
/// not where it runs on the goroutine: there it is the caller's.)
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
        // Nobody else has had the job.
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

/// Sets how many threads for [`blocking`] the process may have, and returns the number before: `GORUN_BLOCKING_THREADS` or
/// 512 if nobody has set it.
///
/// It is the process's and no runtime's, as the threads are. With a larger number the calls that wait go on at once; with a
/// smaller one, threads that are too many end as soon as their calls have.
///
/// # Panics
/// When it is 0.
///
/// ```
/// let before = gorun::set_blocking_threads(2000);
/// assert_eq!(gorun::set_blocking_threads(before), 2000);
/// ```
pub fn set_blocking_threads(most: usize) -> usize {
    assert!(most > 0, "gorun::set_blocking_threads: there has to be one thread at least");
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

/// What becomes of a job.
enum Place {
    /// There is an idle thread for it.
    Idle,
    /// A thread is to be started for it.
    New,
    /// It waits for one that is busy; whether that is to be said.
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

    /// Has the job run. `false`: there is no thread to be had, and the job is the caller's.
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

    /// A thread that was counted can't be had. Gives the jobs that wait back (O3); whether there is an idle thread now for the
    /// one that it was for, which is no longer pending if not.
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
            // From now on, so that no other one leaves in their stead.
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
            "gorun: {MAX_THREADS} threads are busy with calls of `blocking`, and more calls wait for one of them; there may be \
             more threads with GORUN_BLOCKING_THREADS or `gorun::set_blocking_threads`"
        );
    }

    fn serve(&self) {
        while let Some(job) = self.next() {
            // SAFETY: O1; a job is run once, by who has it.
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
                // O2: those in the channel have the first claim on whoever is free.
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
            let job = self.waiting.recv_timeout(self.keep_alive);
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
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc;

    type Message = (mpsc::Sender<u32>, u32);

    /// Tells the test.
    unsafe fn tell(data: *const ()) -> bool {
        // SAFETY: it is leaked: we may be in `send` still when the test has received.
        let (told, n) = unsafe { &*data.cast::<Message>() };
        told.send(*n).expect("the test waits");
        false
    }

    fn leaked<T>(value: T) -> &'static T {
        Box::leak(Box::new(value))
    }

    /// A job whose caller does not wait: nothing ends by its parker.
    fn job(data: &'static Message) -> Job {
        Job { run: tell, data: std::ptr::from_ref(data).cast(), parker: leaked(Blocker::current()).parker() }
    }

    #[test]
    fn a_thread_that_gives_up_waiting_leaves_no_job_behind() {
        // Each thread leaves as soon as it finds nothing: about when the next job comes, a little sooner or later.
        let pool = leaked(Pool::new(Duration::ZERO, None, Pool::start_thread));
        let (told, tells) = mpsc::channel();
        let data = leaked((told, 7));
        let job = job(data);
        for n in 0..30_000 {
            (0..n % 300).for_each(|_| std::hint::spin_loop());
            assert!(pool.submit(job));
            assert_eq!(tells.recv_timeout(Duration::from_secs(60)), Ok(7), "job {n}");
        }
    }

    #[test]
    fn a_job_without_a_thread_is_its_callers_and_the_next_one_tries_again() {
        static REFUSES: AtomicBool = AtomicBool::new(true);
        let start: Start =
            |pool| if REFUSES.load(Ordering::SeqCst) { Err(io::Error::other("no")) } else { pool.start_thread() };
        let pool = leaked(Pool::new(Duration::from_secs(60), None, start));
        let (told, tells) = mpsc::channel();
        let data = leaked((told, 1));
        for _ in 0..3 {
            assert!(!pool.submit(job(data)));
            let counts = lock(&pool.counts);
            assert_eq!((counts.idle, counts.pending, counts.threads, counts.queue.len()), (0, 0, 0, 0));
        }
        REFUSES.store(false, Ordering::SeqCst);
        assert!(pool.submit(job(data)));
        assert_eq!(tells.recv_timeout(Duration::from_secs(60)), Ok(1));
    }

    /// What is refused while another job is in the queue: that one goes back to its caller as well.
    #[test]
    fn a_queue_behind_a_thread_that_can_not_be_had_goes_back() {
        static REFUSED: AtomicBool = AtomicBool::new(false);
        // By the time the only thread is refused, another caller has queued for it.
        let start: Start = |pool| {
            if !REFUSED.swap(true, Ordering::SeqCst) {
                let queued = std::thread::spawn(move || {
                    let (told, _tells) = mpsc::channel();
                    let blocker = Blocker::current();
                    blocker.arm_shielded();
                    let data: *const Message = leaked((told, 1));
                    assert!(pool.submit(Job { run: tell, data: data.cast(), parker: blocker.parker() }));
                    blocker.park(WaitReason::Blocking, None) == GIVEN_BACK
                });
                while lock(&pool.counts).queue.is_empty() {
                    std::thread::yield_now();
                }
                *lock(&QUEUED) = Some(queued);
            }
            Err(io::Error::other("no"))
        };
        static QUEUED: Mutex<Option<std::thread::JoinHandle<bool>>> = Mutex::new(None);
        let pool = leaked(Pool::new(Duration::from_secs(60), Some(1), start));
        let (told, _tells) = mpsc::channel();
        assert!(!pool.submit(job(leaked((told, 2)))));
        assert!(lock(&QUEUED).take().unwrap().join().unwrap(), "given back");
        // The same where more threads are allowed and refused.
        let counts = lock(&pool.counts);
        assert_eq!((counts.idle, counts.pending, counts.threads, counts.queue.len()), (0, 0, 0, 0));
    }
}
