//! `blocking(f)`: calls that hold their thread, on threads that may be held. The only use of crossbeam-channel.
//!
//! * **O1.** The caller waits, shielded from aborts, until its job has run, so the job may lie on the caller's
//!   stack and borrow from it.

use crossbeam_channel::{Receiver, Sender, unbounded};
use gorun_scheduler::{Blocker, Parker, Token, WaitReason};
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
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

struct Pool {
    jobs: Sender<Job>,
    waiting: Receiver<Job>,
    threads: AtomicUsize,
    idle: AtomicUsize,
}

fn pool() -> &'static Pool {
    static POOL: OnceLock<Pool> = OnceLock::new();
    POOL.get_or_init(|| {
        let (jobs, waiting) = unbounded();
        Pool { jobs, waiting, threads: AtomicUsize::new(0), idle: AtomicUsize::new(0) }
    })
}

/// Runs `f` on a thread made for blocking, while the goroutine waits parked and its worker runs others.
///
/// For file I/O, C libraries, long computations. `f` may borrow from the caller. Up to 512 such threads exist, made
/// when needed and ended after 10 s without work; more calls than that queue up. On a plain thread `f` just runs.
/// Not a cancellation point while it waits: an aborted goroutine unwinds at its next one.
///
/// # Panics
/// When `f` panics, with its payload; or when not one thread can be had from the system.
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
    // SAFETY: as above.
    unsafe { *task.result.get() = Some(result) };
    let parker = task.parker;
    // SAFETY: O1 stands for the lock of P3: nobody else ends this wait. The claim's release publishes the result.
    if let Some(wake) = unsafe { Parker::claim(parker, Token::DONE) } {
        wake.wake();
    }
}

impl Pool {
    fn submit(&'static self, job: Job) {
        self.jobs.send(job).expect("the pool holds a receiver");
        // SeqCst: the job is in the queue before we look for an idle thread; a thread is counted as idle before it
        // looks into the queue. So a job that finds an idle thread is found by it.
        if self.idle.load(Ordering::SeqCst) > self.waiting.len().saturating_sub(1) {
            return;
        }
        // SeqCst: with the above.
        let before = self.threads.fetch_add(1, Ordering::SeqCst);
        if before >= MAX_THREADS {
            self.threads.fetch_sub(1, Ordering::SeqCst);
            return;
        }
        let spawned = std::thread::Builder::new().name("gorun-blocking".to_owned()).spawn(|| self.serve());
        if let Err(error) = spawned {
            let others = self.threads.fetch_sub(1, Ordering::SeqCst) - 1;
            // With others at work the job waits for one of them; without, it would wait for ever, and its
            // caller's stack is borrowed: no unwinding past it.
            if others == 0 && self.run_here().is_none() {
                panic!("gorun::blocking: no thread can be had: {error}");
            }
        }
    }

    /// Runs one job on the calling worker, as the last resort.
    fn run_here(&self) -> Option<()> {
        let job = self.waiting.try_recv().ok()?;
        // SAFETY: O1; jobs are run once, by who received them.
        unsafe { (job.run)(job.data) };
        Some(())
    }

    fn serve(&self) {
        loop {
            self.idle.fetch_add(1, Ordering::SeqCst);
            let job = self.waiting.recv_timeout(KEEP_ALIVE);
            self.idle.fetch_sub(1, Ordering::SeqCst);
            match job {
                // SAFETY: O1; jobs are run once, by who received them.
                Ok(job) => unsafe { (job.run)(job.data) },
                Err(_) => {
                    self.threads.fetch_sub(1, Ordering::SeqCst);
                    // A job that came in between counted us as idle: look once more.
                    match self.waiting.try_recv() {
                        Err(_) => return,
                        Ok(job) => {
                            self.threads.fetch_add(1, Ordering::SeqCst);
                            // SAFETY: as above.
                            unsafe { (job.run)(job.data) };
                        }
                    }
                }
            }
        }
    }
}
