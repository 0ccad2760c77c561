//! Unit tests of the pool's counts: refusals, forks, threads that end.

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

/// A job whose caller does not wait, so its parker is never claimed.
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

/// If a thread is refused while another job is in the queue, that job goes back to its caller as well.
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

/// A child may have asked for a signal at the end of the thread that forked it.
#[cfg(unix)]
#[test]
fn a_thread_that_has_forked_stays() {
    /// Forks a child that ends at once.
    unsafe fn fork(data: *const ()) -> bool {
        // SAFETY: the child does nothing; a place for its status.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::_exit(0);
            }
            assert_eq!(libc::waitpid(child, &mut 0, 0), child);
            tell(data)
        }
    }
    let pool = leaked(Pool::new(Duration::ZERO, None, Pool::start_thread));
    let (told, tells) = mpsc::channel();
    let job = job(leaked((told, 1)));
    assert!(pool.submit(job));
    tells.recv().unwrap();
    while lock(&pool.counts).threads > 0 {
        std::thread::yield_now();
    }
    // Forks are noticed from the first runtime on.
    crate::go(|| ()).join().unwrap();
    assert!(pool.submit(Job { run: fork, ..job }));
    tells.recv().unwrap();
    // Others end as soon as they find no job.
    for _ in 0..1000 {
        assert_eq!(lock(&pool.counts).threads, 1);
        std::thread::yield_now();
    }
}
