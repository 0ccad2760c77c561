//! A goroutine that computes or blocks in the kernel costs nobody but itself.
//!
//! No timing is asserted, only that the others get on while the stuck ones are stuck, and that the threads go back.

use gorun::runtime::{Builder, Runtime, ThreadLocals};
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(30);

fn runtime(workers: usize) -> Runtime {
    Builder::new().workers(workers).build().unwrap()
}

/// Waits, on a plain thread, until `holds`.
fn eventually(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < until, "{what}");
        thread::yield_now();
    }
}

/// A number of goroutines that are stuck in `stuck` until the returned flag is set.
fn stick(runtime: &Runtime, n: usize, stuck: impl Fn(&AtomicBool) + Send + Sync + 'static) -> Arc<AtomicBool> {
    let (free, began) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let stuck = Arc::new(stuck);
    for _ in 0..n {
        let (free, began, stuck) = (free.clone(), began.clone(), stuck.clone());
        drop(runtime.go(move || {
            began.fetch_add(1, Ordering::SeqCst);
            stuck(&free);
        }));
    }
    eventually("all of them have begun", || began.load(Ordering::SeqCst) == n);
    free
}

fn compute(free: &AtomicBool) {
    while !free.load(Ordering::Relaxed) {
        std::hint::spin_loop();
    }
}

#[expect(clippy::disallowed_methods, reason = "what the runtime must stand")]
fn sleep_in_the_kernel(free: &AtomicBool) {
    while !free.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(1));
    }
}

fn block_in_a_c_library(free: &AtomicBool) {
    while !free.load(Ordering::Relaxed) {
        // SAFETY: no descriptors are passed.
        unsafe { libc::poll(std::ptr::null_mut(), 0, 1) };
    }
}

fn the_rest_goes_on(runtime: &Runtime) {
    // Begun after and before, with timers, hand-overs, spawns: all that a processor has.
    let (tx, rx) = gorun::channel(0);
    let sleeper = runtime.go(move || {
        for n in 0..50 {
            gorun::time::sleep(Duration::from_millis(1));
            tx.send(n).unwrap();
            gorun::go(gorun::yield_now).join().unwrap();
        }
    });
    assert_eq!(rx.iter().sum::<i32>(), 49 * 25);
    sleeper.unwrap().join().unwrap();
}

fn goes_back(runtime: &Runtime) {
    eventually("the threads go back", || {
        let seen = runtime.metrics();
        seen.threads == seen.workers && seen.stuck_workers == 0 && seen.long_running.is_empty()
    });
}

#[test]
fn goroutines_that_compute_hold_up_nobody() {
    let runtime = runtime(2);
    let free = stick(&runtime, 2, compute);
    the_rest_goes_on(&runtime);
    let seen = runtime.metrics();
    assert_eq!(seen.workers, 2);
    assert!(seen.threads > 2 && !seen.refused_workers, "{seen:?}");
    eventually("both are seen", || runtime.metrics().long_running.len() == 2);
    for long in runtime.metrics().long_running {
        assert!(long.goroutine.spawned_at().file().ends_with("never_stuck.rs"));
    }
    free.store(true, Ordering::Relaxed);
    goes_back(&runtime);
    the_rest_goes_on(&runtime);
}

#[test]
fn what_had_begun_before_goes_on_beside_what_is_stuck() {
    for stuck in [compute as fn(&AtomicBool), sleep_in_the_kernel, block_in_a_c_library] {
        let runtime = runtime(2);
        let (tick, ticks) = gorun::channel(0);
        let sleeper = runtime.go(move || {
            while tick.send(()).is_ok() {
                gorun::time::sleep(Duration::from_millis(1));
            }
        });
        ticks.recv().unwrap();
        let free = stick(&runtime, 2, stuck);
        eventually("both are seen", || runtime.metrics().stuck_workers == 2);
        for _ in 0..50 {
            ticks.recv().unwrap();
        }
        drop(ticks);
        sleeper.unwrap().join().unwrap();
        assert!(!free.swap(true, Ordering::Relaxed), "they were stuck all the time");
        goes_back(&runtime);
    }
}

#[test]
fn goroutines_that_block_in_the_kernel_hold_up_nobody() {
    let runtime = runtime(2);
    let free = stick(&runtime, 4, sleep_in_the_kernel);
    the_rest_goes_on(&runtime);
    free.store(true, Ordering::Relaxed);
    goes_back(&runtime);
}

#[test]
fn timers_of_a_stuck_worker_ring_beside_work_without_end() {
    let runtime = runtime(1);
    let over = Arc::new(AtomicBool::new(false));
    let (sleeps, asleep) = gorun::channel(1);
    let sleeper = runtime.go(move || {
        sleeps.send(()).unwrap();
        // The time is kept on the seat of the worker that gets stuck.
        gorun::time::sleep(Duration::from_millis(500));
    });
    asleep.recv().unwrap();
    let free = stick(&runtime, 1, sleep_in_the_kernel);
    // The worker that takes over never runs out of work.
    let busy = [0, 1].map(|_| {
        let over = over.clone();
        runtime.go(move || {
            while !over.load(Ordering::Relaxed) {
                gorun::yield_now();
            }
        })
    });
    let sleeper = sleeper.unwrap();
    eventually("the sleeper wakes", || sleeper.is_finished());
    over.store(true, Ordering::Relaxed);
    busy.into_iter().for_each(|g| g.unwrap().join().unwrap());
    free.store(true, Ordering::Relaxed);
    goes_back(&runtime);
}

#[test]
fn a_seat_that_was_left_is_taken_again() {
    let runtime = runtime(1);
    for _ in 0..2 {
        let free = stick(&runtime, 1, sleep_in_the_kernel);
        the_rest_goes_on(&runtime);
        free.store(true, Ordering::Relaxed);
        // The thread of the spare worker ends; the next time its seat is taken by another.
        goes_back(&runtime);
    }
    // Nobody is stuck, so what has not begun begins.
    the_rest_goes_on(&runtime);
}

#[test]
fn a_read_from_a_pipe_holds_up_nobody() {
    let runtime = runtime(1);
    let (mut reads, mut writes) = std::io::pipe().unwrap();
    let (began, begins) = mpsc::channel();
    let reader = runtime.go(move || {
        began.send(()).unwrap();
        let mut word = [0; 4];
        reads.read_exact(&mut word).map(|()| word)
    });
    begins.recv().unwrap();
    the_rest_goes_on(&runtime);
    writes.write_all(b"pipe").unwrap();
    assert_eq!(reader.unwrap().join().unwrap().unwrap(), *b"pipe");
}

#[test]
fn pinned_ones_that_have_not_begun_are_not_held_up() {
    let runtime = Builder::new().workers(2).thread_locals(ThreadLocals::Pinned).build().unwrap();
    let free = stick(&runtime, 2, compute);
    the_rest_goes_on(&runtime);
    free.store(true, Ordering::Relaxed);
    goes_back(&runtime);
}

#[test]
fn a_std_mutex_held_by_a_parked_goroutine_is_waited_for() {
    let runtime = runtime(1);
    let lock = Arc::new(Mutex::new(0));
    let (tx, rx) = gorun::channel::<()>(0);
    let held = lock.clone();
    let holder = runtime.go(move || {
        let mut held = held.lock().unwrap();
        rx.recv().unwrap();
        *held += 1;
    });
    let waiters: Vec<_> = (0..3)
        .map(|_| {
            let lock = lock.clone();
            // Blocks the thread itself.
            runtime.go(move || *lock.lock().unwrap() += 1).unwrap()
        })
        .collect();
    runtime.go(move || tx.send(()).unwrap()).unwrap().join().unwrap();
    holder.unwrap().join().unwrap();
    waiters.into_iter().for_each(|w| w.join().unwrap());
    assert_eq!(*lock.lock().unwrap(), 4);
}

#[test]
fn a_thousand_in_the_kernel_leave_threads_to_the_rest() {
    const SPARE: usize = 16;
    let runtime = Builder::new().workers(2).spare_workers(SPARE).build().unwrap();
    let (tick, ticks) = gorun::channel(0);
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let stopped = stop.clone();
    let ticker = runtime.go(move || {
        while !stopped.load(Ordering::Relaxed) {
            gorun::time::sleep(Duration::from_millis(1));
            let _ = tick.send(());
        }
    });
    let free = Arc::new(AtomicBool::new(false));
    let blocked: Vec<_> = (0..1000)
        .map(|_| {
            let (free, done) = (free.clone(), done.clone());
            runtime.go(move || {
                sleep_in_the_kernel(&free);
                done.fetch_add(1, Ordering::Relaxed);
            })
        })
        .collect();
    eventually("threads are used up", || runtime.metrics().stuck_workers >= SPARE * 3 / 4);
    // Held up by none of them, begun as it is.
    for _ in 0..100 {
        ticks.recv().unwrap();
    }
    let seen = runtime.metrics();
    assert!(seen.threads <= 2 + SPARE, "{seen:?}");
    assert_eq!(done.load(Ordering::Relaxed), 0);
    free.store(true, Ordering::Relaxed);
    blocked.into_iter().for_each(|b| b.unwrap().join().unwrap());
    stop.store(true, Ordering::Relaxed);
    drop(ticks);
    ticker.unwrap().join().unwrap();
    goes_back(&runtime);
}

#[test]
fn without_spare_workers_a_hog_holds_up_its_worker_and_that_can_be_seen() {
    let runtime = Builder::new().workers(1).spare_workers(0).build().unwrap();
    let free = stick(&runtime, 1, compute);
    let waits = runtime.go(|| ()).unwrap();
    eventually("refused", || runtime.metrics().refused_workers);
    assert!(!waits.is_finished());
    free.store(true, Ordering::Relaxed);
    waits.join().unwrap();
}

fn kernel_thread() -> i32 {
    // SAFETY: no preconditions.
    unsafe { libc::gettid() }
}

#[test]
fn a_locked_goroutine_has_its_thread_to_itself() {
    for mode in [ThreadLocals::Isolated, ThreadLocals::Pinned] {
        let Ok(runtime) = Builder::new().workers(2).thread_locals(mode).build() else { continue };
        let locked_thread = runtime.run(move || {
            let guard = gorun::lock_os_thread();
            let inner = gorun::lock_os_thread();
            let mine = kernel_thread();
            drop(inner);
            let others: Vec<_> = (0..200)
                .map(|_| {
                    gorun::go(move || {
                        for _ in 0..20 {
                            assert_ne!(kernel_thread(), mine);
                            gorun::yield_now();
                        }
                    })
                })
                .collect();
            for other in others {
                // Waits, and comes back on the same thread.
                other.join().unwrap();
                assert_eq!(kernel_thread(), mine);
                gorun::time::sleep(Duration::from_micros(10));
                assert_eq!(kernel_thread(), mine);
            }
            drop(guard);
            mine
        });
        assert_ne!(locked_thread, kernel_thread());
    }
}

#[test]
fn a_timer_of_a_locked_goroutine_that_computes_is_fired_by_others() {
    let runtime = runtime(2);
    let (fired, fires) = mpsc::channel();
    let free = stick(&runtime, 1, move |free| {
        let _locked = gorun::lock_os_thread();
        let fired = fired.clone();
        let _timer = gorun::time::after_func(Duration::from_millis(1), move || fired.send(()).unwrap());
        compute(free);
    });
    fires.recv_timeout(LONG).expect("somebody else fires it");
    free.store(true, Ordering::Relaxed);
    goes_back(&runtime);
}

#[test]
fn several_pinned_ones_lock_one_thread_and_let_go_in_any_order() {
    let runtime = Builder::new().workers(1).thread_locals(ThreadLocals::Pinned).build().unwrap();
    let (second, first) = (gorun::channel::<()>(0), gorun::channel::<()>(0));
    let begun = runtime.go(move || {
        let one = gorun::go(move || {
            gorun::yield_now();
            let lock = gorun::lock_os_thread();
            second.0.send(()).unwrap();
            drop(lock);
            kernel_thread()
        });
        let two = gorun::go(move || {
            gorun::yield_now();
            let lock = gorun::lock_os_thread();
            second.1.recv().unwrap();
            first.1.recv().unwrap();
            drop(lock);
            kernel_thread()
        });
        let thread = one.join().unwrap();
        first.0.send(()).unwrap();
        (thread, two.join().unwrap())
    });
    let (one, two) = begun.unwrap().join().unwrap();
    assert_eq!(one, two);
    goes_back(&runtime);
    assert_eq!(runtime.go(|| 7).unwrap().join().unwrap(), 7);
}

#[test]
fn a_forgotten_lock_beside_a_pinned_goroutine_leaves_a_worker() {
    let runtime = runtime(1);
    let (go_on, waits) = gorun::channel::<()>(0);
    let (begun, begins) = gorun::channel::<()>(0);
    let spoiler = runtime.go(move || {
        let pinned = gorun::Builder::new().thread_locals(ThreadLocals::Pinned);
        let pinned = pinned.go(move || {
            begun.send(()).unwrap();
            waits.recv().unwrap();
        });
        begins.recv().unwrap();
        std::mem::forget(gorun::lock_os_thread());
        pinned.unwrap()
    });
    let pinned = spoiler.unwrap().join().unwrap();
    for n in 0..100 {
        assert_eq!(runtime.go(move || n).unwrap().join().unwrap(), n);
    }
    go_on.send(()).unwrap();
    pinned.join().unwrap();
    goes_back(&runtime);
    assert_eq!(runtime.go(|| 7).unwrap().join().unwrap(), 7);
}

#[test]
fn a_goroutine_that_ends_locked_takes_its_thread_along() {
    let runtime = runtime(1);
    let locked = runtime.go(|| {
        std::mem::forget(gorun::lock_os_thread());
        kernel_thread()
    });
    let spoilt = locked.unwrap().join().unwrap();
    for _ in 0..100 {
        assert_ne!(runtime.go(kernel_thread).unwrap().join().unwrap(), spoilt);
    }
    goes_back(&runtime);
    drop(gorun::lock_os_thread()); // on a plain thread: nothing
}
