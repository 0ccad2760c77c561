//! `blocking(f)`: calls that hold their thread, on threads that may be held. The only use of crossbeam-channel.
//!
//! * **O1.** The caller waits, shielded from aborts, until its job has run, so the job may lie on the caller's
//!   stack and borrow from it.
//!
//! The caller's storage stays with the caller: its values need not be Send. What a job stores is its thread's, and ends
//! with the job, so that the next one finds nothing of it.

use crate::sync::lock;
use crossbeam_channel::{Receiver, Sender, unbounded};
use gorun_scheduler::{Blocker, Parker, Token, WaitReason};
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;
use std::sync::{Mutex, OnceLock};
use std::thread::Result as Caught;
use std::time::Duration;

/// Threads at most; jobs beyond that wait, parked, for a free one.
const MAX_THREADS: usize = 512;
/// An idle thread ends after this long.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A job on its caller's stack (O1).
#[derive(Clone, Copy)]
struct Job {
    run: unsafe fn(*const ()),
    data: *const (),
}

// SAFETY: `blocking` asks that what the job holds is Send, and O1 keeps it alive.
unsafe impl Send for Job {}

struct Task<F, R> {
    f: UnsafeCell<Option<F>>,
    result: UnsafeCell<Option<Caught<R>>>,
    parker: NonNull<Parker>,
}

/// * **O2.** There is an idle thread, or one being started, for each pending job, unless `MAX_THREADS` exist: a job never
///   waits behind one that blocks. A thread that took a job and has not said so yet counts as idle and its job as
///   pending, so the comparison of the two is exact.
struct Pool {
    jobs: Sender<Job>,
    waiting: Receiver<Job>,
    counts: Mutex<Counts>,
    /// [`KEEP_ALIVE`], but in tests.
    keep_alive: Duration,
}

#[derive(Default)]
struct Counts {
    /// Threads that wait for a job.
    idle: usize,
    /// Jobs that no thread has said to have taken.
    pending: usize,
    threads: usize,
}

fn pool() -> &'static Pool {
    static POOL: OnceLock<Pool> = OnceLock::new();
    POOL.get_or_init(|| Pool::new(KEEP_ALIVE))
}

/// Runs `f` on a thread made for blocking, while the goroutine waits parked and its worker runs others.
///
/// For file I/O, C libraries, long computations. `f` may borrow from the caller. Up to 512 such threads exist, made
/// when needed and ended after 10 s without work; more calls than that queue up. (Where the system has not one thread to
/// give, `f` runs on the worker.) On a plain thread `f` just runs.
/// Not a cancellation point while it waits: an aborted goroutine unwinds at its next one.
///
/// `f` is not in the goroutine: there [`current`](crate::current) is `None`, thread-locals are those of its thread, as
/// its earlier users left them, and goroutine-local storage is its own: it begins with none, and what it
/// stores ends with it, at-exit handlers and destructors included, before `blocking` returns. (Not so on a plain thread, and
/// not where it runs on the worker: there it is the caller's.)
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
    let task = Task { f: UnsafeCell::new(Some(f)), result: UnsafeCell::new(None), parker: blocker.parker() };
    blocker.arm_shielded();
    pool().submit(Job { run: run_task::<F, R>, data: (&raw const task).cast() });
    let token = blocker.park(WaitReason::Blocking, None);
    debug_assert_eq!(token, Token::DONE, "nothing else ends a shielded wait");
    match task.result.into_inner().expect("the job has run") {
        Ok(value) => value,
        Err(payload) => resume_unwind(payload),
    }
}

unsafe fn run_task<F: FnOnce() -> R, R>(data: *const ()) {
    // SAFETY: O1: the task lives until we have claimed its parker below.
    let task = unsafe { &*data.cast::<Task<F, R>>() };
    // SAFETY: O1: the caller looks at neither cell before the claim.
    let f = unsafe { (*task.f.get()).take() }.expect("a job runs once");
    let result = catch_unwind(AssertUnwindSafe(f));
    // Before the claim: what happens here happens before `blocking` returns, and nobody's next job finds it.
    gorun_scheduler::end_thread_storage();
    // SAFETY: as above.
    unsafe { *task.result.get() = Some(result) };
    let parker = task.parker;
    // SAFETY: O1 stands for the lock of P3: nobody else ends this wait. The claim's release publishes the result.
    if let Some(wake) = unsafe { Parker::claim(parker, Token::DONE) } {
        wake.wake();
    }
}

impl Pool {
    fn new(keep_alive: Duration) -> Pool {
        let (jobs, waiting) = unbounded();
        Pool { jobs, waiting, counts: Mutex::default(), keep_alive }
    }

    #[expect(clippy::disallowed_methods, reason = "the queue has no bound, so there is always room")]
    fn submit(&'static self, job: Job) {
        let start = {
            let mut counts = lock(&self.counts);
            counts.pending += 1;
            let start = counts.pending > counts.idle && counts.threads < MAX_THREADS;
            counts.threads += usize::from(start);
            start
        };
        self.jobs.send(job).expect("the pool holds a receiver");
        if !start {
            return;
        }
        let thread = std::thread::Builder::new().name("gorun-blocking".to_owned()).spawn(|| self.serve());
        if thread.is_err() {
            let mut counts = lock(&self.counts);
            counts.threads -= 1;
            if counts.threads > 0 {
                // One of those that exist will come to it.
                return;
            }
            drop(counts);
            // Not one thread to be had, and no way back: the job lies on our caller's stack (O1). So the worker itself
            // does what is there.
            while let Ok(job) = self.waiting.try_recv() {
                lock(&self.counts).pending -= 1;
                // SAFETY: O1; jobs are run once, by who received them.
                unsafe { (job.run)(job.data) };
            }
        }
    }

    #[expect(clippy::disallowed_methods, reason = "on a thread of the pool")]
    fn serve(&self) {
        loop {
            lock(&self.counts).idle += 1;
            let job = self.waiting.recv_timeout(self.keep_alive);
            let mut counts = lock(&self.counts);
            counts.idle -= 1;
            match job {
                Ok(job) => {
                    counts.pending -= 1;
                    drop(counts);
                    // SAFETY: O1; jobs are run once, by who received them.
                    unsafe { (job.run)(job.data) };
                }
                // A job that counts on us is on its way (O2).
                Err(_) if counts.pending > counts.idle => {}
                Err(_) => {
                    counts.threads -= 1;
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Tells the test.
    unsafe fn tell(data: *const ()) {
        // SAFETY: the sender is leaked: we may be in `send` still when the test has received.
        let told = unsafe { &*data.cast::<mpsc::Sender<()>>() };
        told.send(()).expect("the test waits");
    }

    #[test]
    fn a_thread_that_gives_up_waiting_leaves_no_job_behind() {
        // Each thread leaves as soon as it finds nothing: about when the next job comes, a little sooner or later.
        let pool: &'static Pool = Box::leak(Box::new(Pool::new(Duration::ZERO)));
        let (told, tells) = mpsc::channel::<()>();
        let told: *const mpsc::Sender<()> = Box::leak(Box::new(told));
        for n in 0..30_000 {
            (0..n % 300).for_each(|_| std::hint::spin_loop());
            pool.submit(Job { run: tell, data: told.cast() });
            assert_eq!(tells.recv_timeout(Duration::from_secs(60)), Ok(()), "job {n}");
        }
    }
}
