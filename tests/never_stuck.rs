//! A goroutine that computes or blocks in the kernel holds up nobody else.
//!
//! No timing is asserted, only that the others get on while the stuck ones are stuck, and that the threads go back.

mod common;

use common::child::in_mode;
use common::stuck::{
    block_in_a_c_library, compute, flag, found_stuck, goes_back, keep_busy, sleep_in_the_kernel, stick,
    the_rest_goes_on,
};
use common::{kernel_thread, until, within};
use gorun::runtime::{Builder, Runtime, ThreadLocals};
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

fn runtime(workers: usize) -> Runtime {
    Builder::new().workers(workers).build().unwrap()
}

/// One worker, and one that may be brought in: whatever the first does not do, this one has to.
fn one_and_a_spare() -> Runtime {
    Builder::new().workers(1).spare_workers(1).build().unwrap()
}

#[test]
fn goroutines_that_compute_hold_up_nobody() {
    within(|| {
        let runtime = runtime(2);
        let free = stick(&runtime, 2, compute);
        the_rest_goes_on(&runtime);
        let seen = runtime.metrics();
        assert_eq!(seen.workers, 2);
        assert!(seen.threads > 2 && !seen.refused_workers, "{seen:?}");
        until(|| runtime.metrics().long_running.len() == 2);
        for long in runtime.metrics().long_running {
            assert!(long.goroutine.spawned_at().file().ends_with("common/stuck.rs"));
        }
        free.store(true, Ordering::SeqCst);
        goes_back(&runtime);
        the_rest_goes_on(&runtime);
    });
}

#[test]
fn what_had_begun_before_goes_on_beside_what_is_stuck() {
    within(|| {
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
            found_stuck(&runtime, 2);
            for _ in 0..50 {
                ticks.recv().unwrap();
            }
            drop(ticks);
            sleeper.unwrap().join().unwrap();
            assert!(!free.swap(true, Ordering::SeqCst), "they were stuck all the time");
            goes_back(&runtime);
        }
    });
}

#[test]
fn more_than_there_are_workers_block_in_the_kernel_and_hold_up_nobody() {
    within(|| {
        let runtime = runtime(2);
        let free = stick(&runtime, 4, sleep_in_the_kernel);
        found_stuck(&runtime, 4);
        the_rest_goes_on(&runtime);
        free.store(true, Ordering::SeqCst);
        goes_back(&runtime);
    });
}

#[test]
fn a_timer_of_a_stuck_worker_rings_though_nothing_else_waits() {
    within(|| {
        let runtime = one_and_a_spare();
        let (free, stays) = flag();
        let (rings, rang) = mpsc::channel();
        drop(runtime.go(move || {
            let _timer = gorun::time::after_func(Duration::from_millis(1), move || rings.send(()).unwrap());
            compute(&stays);
        }));
        rang.recv().unwrap();
        free.store(true, Ordering::SeqCst);
        goes_back(&runtime);
    });
}

#[test]
fn a_timer_of_a_stuck_worker_rings_beside_work_without_end() {
    within(|| {
        let runtime = one_and_a_spare();
        let ((free, stays), (over, _), (go_on, waits)) = (flag(), flag(), flag());
        let (rings, rang) = mpsc::channel();
        drop(runtime.go(move || {
            compute(&waits);
            let _timer = gorun::time::after_func(Duration::from_millis(1), move || rings.send(()).unwrap());
            compute(&stays);
        }));
        found_stuck(&runtime, 1);
        // The worker that takes over never runs out of work.
        keep_busy(&runtime, 2, &over);
        go_on.store(true, Ordering::SeqCst);
        rang.recv().unwrap();
        over.store(true, Ordering::SeqCst);
        free.store(true, Ordering::SeqCst);
        goes_back(&runtime);
    });
}

#[test]
fn what_a_stuck_goroutine_starts_begins() {
    within(|| {
        for mode in [ThreadLocals::Isolated, ThreadLocals::Pinned] {
            // The worker that takes over sleeps, or always finds work at home.
            for busy in [0, 2] {
                let Some(runtime) = in_mode(Builder::new().workers(1).spare_workers(1), mode) else {
                    continue;
                };
                let ((free, stays), (over, _), (go_on, waits)) = (flag(), flag(), flag());
                let (told, tells) = mpsc::channel();
                drop(runtime.go(move || {
                    compute(&waits);
                    told.send(gorun::go(|| ())).unwrap();
                    compute(&stays);
                }));
                found_stuck(&runtime, 1);
                // It has begun, and so has looked everywhere once.
                runtime.go(gorun::yield_now).unwrap().join().unwrap();
                keep_busy(&runtime, busy, &over);
                go_on.store(true, Ordering::SeqCst);
                let child = tells.recv().unwrap();
                until(|| child.is_finished());
                over.store(true, Ordering::SeqCst);
                free.store(true, Ordering::SeqCst);
            }
        }
    });
}

#[test]
fn whom_a_stuck_goroutine_wakes_goes_on() {
    within(|| {
        for busy in [0, 2] {
            let runtime = one_and_a_spare();
            let ((free, stays), (over, _), (go_on, waits)) = (flag(), flag(), flag());
            let (tx, rx) = gorun::channel::<()>(0);
            let (begun, begins) = mpsc::channel();
            let woken = runtime.go(move || {
                begun.send(()).unwrap();
                rx.recv().unwrap();
            });
            begins.recv().unwrap();
            drop(runtime.go(move || {
                compute(&waits);
                tx.send(()).unwrap();
                compute(&stays);
            }));
            found_stuck(&runtime, 1);
            runtime.go(gorun::yield_now).unwrap().join().unwrap();
            keep_busy(&runtime, busy, &over);
            go_on.store(true, Ordering::SeqCst);
            woken.unwrap().join().unwrap();
            over.store(true, Ordering::SeqCst);
            free.store(true, Ordering::SeqCst);
        }
    });
}

/// There is one worker to take over; if it took one of those that come from outside first, it would be stuck as well.
#[test]
fn whom_a_stuck_goroutine_wakes_goes_before_what_comes_from_outside() {
    within(|| {
        let runtime = one_and_a_spare();
        for _ in 0..4 {
            let ((free, stays), (has_woken, wakes)) = (flag(), flag());
            let (tx, rx) = gorun::channel::<()>(0);
            let (begun, begins) = mpsc::channel();
            let woken = runtime.go(move || {
                begun.send(()).unwrap();
                rx.recv().unwrap();
            });
            begins.recv().unwrap();
            let stuck = runtime.go(move || {
                tx.send(()).unwrap();
                has_woken.store(true, Ordering::SeqCst);
                compute(&stays);
            });
            until(|| wakes.load(Ordering::SeqCst));
            let from_outside = [(); 3].map(|()| {
                let free = free.clone();
                runtime.go(move || compute(&free)).unwrap()
            });
            woken.unwrap().join().unwrap();
            free.store(true, Ordering::SeqCst);
            stuck.unwrap().join().unwrap();
            from_outside.into_iter().for_each(|g| g.join().unwrap());
        }
    });
}

#[test]
fn a_pinned_one_that_a_stuck_one_woke_waits_for_its_thread() {
    within(|| {
        let runtime = Builder::new().workers(1).spare_workers(1).thread_locals(ThreadLocals::Pinned).build().unwrap();
        let (free, stays) = flag();
        let (tx, rx) = gorun::channel::<()>(0);
        let (begun, begins) = mpsc::channel();
        let pinned = runtime.go(move || {
            begun.send(()).unwrap();
            let here = kernel_thread();
            rx.recv().unwrap();
            (here, kernel_thread())
        });
        begins.recv().unwrap();
        drop(runtime.go(move || {
            // It is ready, and where the worker would have looked first.
            tx.send(()).unwrap();
            compute(&stays);
        }));
        found_stuck(&runtime, 1);
        // Whoever takes over looks after the seat of the stuck one every now and then, and more often than this once.
        runtime.go(|| (0..200).for_each(|_| gorun::yield_now())).unwrap().join().unwrap();
        free.store(true, Ordering::SeqCst);
        let (before, after) = pinned.unwrap().join().unwrap();
        assert_eq!(before, after);
    });
}

#[test]
fn a_seat_that_was_left_is_taken_again() {
    within(|| {
        let runtime = one_and_a_spare();
        for _ in 0..2 {
            let free = stick(&runtime, 1, sleep_in_the_kernel);
            found_stuck(&runtime, 1);
            the_rest_goes_on(&runtime);
            free.store(true, Ordering::SeqCst);
            // The thread of the spare worker ends; the next time its seat is taken by another, as there is no third one.
            goes_back(&runtime);
            assert!(!runtime.metrics().refused_workers);
        }
        // Nobody is stuck, so what has not begun begins.
        the_rest_goes_on(&runtime);
    });
}

#[test]
fn a_read_from_a_pipe_holds_up_nobody() {
    within(|| {
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
    });
}

#[test]
fn pinned_ones_that_have_not_begun_are_not_held_up() {
    within(|| {
        let runtime = Builder::new().workers(2).thread_locals(ThreadLocals::Pinned).build().unwrap();
        let free = stick(&runtime, 2, compute);
        found_stuck(&runtime, 2);
        the_rest_goes_on(&runtime);
        free.store(true, Ordering::SeqCst);
        goes_back(&runtime);
    });
}

#[test]
fn a_std_mutex_held_by_a_parked_goroutine_is_waited_for() {
    within(|| {
        let runtime = runtime(1);
        let lock = Arc::new(Mutex::new(0));
        let (tx, rx) = gorun::channel::<()>(0);
        let held = lock.clone();
        let (begun, begins) = mpsc::channel();
        let holder = runtime.go(move || {
            let mut held = held.lock().unwrap();
            begun.send(()).unwrap();
            rx.recv().unwrap();
            *held += 1;
        });
        begins.recv().unwrap();
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let lock = lock.clone();
                // Blocks the thread itself.
                runtime.go(move || *lock.lock().unwrap() += 1).unwrap()
            })
            .collect();
        found_stuck(&runtime, 3);
        runtime.go(move || tx.send(()).unwrap()).unwrap().join().unwrap();
        holder.unwrap().join().unwrap();
        waiters.into_iter().for_each(|w| w.join().unwrap());
        assert_eq!(*lock.lock().unwrap(), 4);
    });
}

#[test]
fn a_std_mutex_held_while_many_are_spawned_that_want_it_costs_a_few_threads() {
    within(|| {
        let Some(runtime) = in_mode(Builder::new().workers(2), ThreadLocals::Isolated) else { return };
        let lock = Arc::new(Mutex::new(0));
        let wanted = lock.clone();
        let all = move || {
            let mut held = wanted.lock().unwrap();
            let want = |_| {
                let wanted = wanted.clone();
                gorun::go(move || *wanted.lock().unwrap() += 1)
            };
            let all: Vec<_> = (0..300).map(want).collect();
            *held += 1;
            drop(held);
            all.into_iter().for_each(|g| g.join().unwrap());
        };
        runtime.go(all).unwrap().join().unwrap();
        assert_eq!(*lock.lock().unwrap(), 301);
        // Those that want the lock stop the workers, and another one goes on with its holder, until it gives way again.
        let threads = runtime.metrics().threads;
        assert!(threads < 20, "{threads} threads");
    });
}

#[test]
fn a_thousand_in_the_kernel_leave_threads_to_the_rest() {
    within(|| {
        const SPARE: usize = 16;
        let runtime = Builder::new().workers(2).spare_workers(SPARE).build().unwrap();
        let (tick, ticks) = gorun::channel(0);
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let stopped = stop.clone();
        let ticker = runtime.go(move || {
            while !stopped.load(Ordering::SeqCst) {
                gorun::time::sleep(Duration::from_millis(1));
                let _ = tick.send(());
            }
        });
        let (free, stays) = flag();
        let blocked: Vec<_> = (0..1000)
            .map(|_| {
                let (stays, done) = (stays.clone(), done.clone());
                runtime.go(move || {
                    sleep_in_the_kernel(&stays);
                    done.fetch_add(1, Ordering::SeqCst);
                })
            })
            .collect();
        until(|| runtime.metrics().stuck_workers >= SPARE * 3 / 4);
        // Held up by none of them, begun as it is.
        for _ in 0..100 {
            ticks.recv().unwrap();
        }
        let seen = runtime.metrics();
        assert!(seen.threads <= 2 + SPARE, "{seen:?}");
        assert_eq!(done.load(Ordering::SeqCst), 0);
        free.store(true, Ordering::SeqCst);
        blocked.into_iter().for_each(|b| b.unwrap().join().unwrap());
        stop.store(true, Ordering::SeqCst);
        drop(ticks);
        ticker.unwrap().join().unwrap();
        goes_back(&runtime);
    });
}

#[test]
fn without_spare_workers_a_hog_holds_up_its_worker_and_that_can_be_seen() {
    within(|| {
        let runtime = Builder::new().workers(1).spare_workers(0).build().unwrap();
        let free = stick(&runtime, 1, compute);
        let waits = runtime.go(|| ()).unwrap();
        until(|| runtime.metrics().refused_workers);
        assert!(!waits.is_finished());
        free.store(true, Ordering::SeqCst);
        waits.join().unwrap();
    });
}
