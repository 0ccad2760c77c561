//! Nobody starves: whoever is ready runs, whatever the others on its worker do.
//!
//! On one worker, which nobody replaces: what it does not see to itself is not done.

mod common;

use common::child::in_mode;
use common::stuck::{compute, flag, found_stuck, keep_busy};
use common::{one_worker, within};
use gorun::runtime::{Builder, Runtime, ThreadLocals};
use gorun_scheduler::{Blocker, WaitReason};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// The bound of the next slot (`NEXT_STREAK` in the processor), with room for the turns before and after.
const MOST_ROUNDS: u64 = 64;

/// In either mode, where it can be had.
fn in_both_modes(settings: fn() -> Builder, f: fn(&Runtime)) {
    within(move || {
        for mode in [ThreadLocals::Isolated, ThreadLocals::Pinned] {
            if let Some(runtime) = in_mode(settings(), mode) {
                f(&runtime);
            }
        }
    });
}

/// Whether a neighbour that has begun, and is ready, has a turn beside one that repeats `step`, which need not wait, until
/// it has. It never waits otherwise, and its worker is not replaced.
fn neighbour_has_a_turn(runtime: &Runtime, mut step: impl FnMut() + Send + 'static) {
    let (stop, stops) = flag();
    let busy = move || {
        let neighbour = gorun::go(move || {
            gorun::yield_now();
            stop.store(true, Ordering::SeqCst);
        });
        // It has begun: a pinned one is bound to this worker from here on.
        gorun::yield_now();
        while !stops.load(Ordering::SeqCst) {
            step();
        }
        neighbour.join().unwrap();
    };
    runtime.go(busy).unwrap().join().unwrap();
}

#[test]
fn a_goroutine_that_never_waits_is_asked_to_yield() {
    in_both_modes(one_worker, |runtime| {
        // A channel that always has room, or a value.
        let (tx, rx) = gorun::channel::<()>(1);
        neighbour_has_a_turn(runtime, move || {
            tx.send(()).unwrap();
            rx.recv().unwrap();
        });
        let (tx, rx) = gorun::channel::<()>(1);
        neighbour_has_a_turn(runtime, move || {
            gorun::select! { send(tx, ()) -> sent => sent.unwrap() }
            gorun::select! { recv(rx) -> received => received.unwrap() }
        });
        let mutex = gorun::sync::Mutex::new(());
        neighbour_has_a_turn(runtime, move || drop(mutex.lock()));
        let shielded = lock_api::Mutex::<gorun::sync::RawMutex, ()>::new(());
        neighbour_has_a_turn(runtime, move || drop(shielded.lock()));
        let lock = gorun::sync::RwLock::new(());
        neighbour_has_a_turn(runtime, move || drop(lock.read()));
        let lock = gorun::sync::RwLock::new(());
        neighbour_has_a_turn(runtime, move || drop(lock.write()));
        let semaphore = gorun::sync::Semaphore::new(1);
        neighbour_has_a_turn(runtime, move || drop(semaphore.acquire(1)));
        let group = gorun::sync::WaitGroup::new();
        neighbour_has_a_turn(runtime, move || group.wait());
    });
}

#[test]
fn a_goroutine_that_polls_in_vain_gives_way() {
    // It may only where a worker could be brought in, or after many polls.
    for settings in [one_worker, || Builder::new().workers(1)] {
        in_both_modes(settings, |runtime| {
            let (tx, rx) = gorun::channel::<()>(0);
            neighbour_has_a_turn(runtime, {
                let rx = rx.clone();
                move || assert!(rx.try_recv().is_err())
            });
            neighbour_has_a_turn(runtime, {
                let tx = tx.clone();
                move || assert!(tx.try_send(()).is_err())
            });
            neighbour_has_a_turn(runtime, {
                let rx = rx.clone();
                move || {
                    gorun::select! {
                        recv(rx) -> _ => unreachable!(),
                        default => {}
                    }
                }
            });
            neighbour_has_a_turn(runtime, {
                let rx = rx.clone();
                move || assert!(rx.is_empty())
            });
            let mutex = gorun::sync::Mutex::new(());
            std::mem::forget(mutex.lock());
            neighbour_has_a_turn(runtime, move || assert!(mutex.try_lock().is_none()));
            let lock = gorun::sync::RwLock::new(());
            std::mem::forget(lock.read());
            neighbour_has_a_turn(runtime, move || assert!(lock.try_write().is_none()));
            let semaphore = gorun::sync::Semaphore::new(0);
            neighbour_has_a_turn(runtime, move || assert!(semaphore.try_acquire(1).is_none()));
            let waits = runtime.go(move || rx.recv()).unwrap();
            neighbour_has_a_turn(runtime, move || assert!(!waits.is_finished()));
            drop(tx);
        });
    }
}

/// One side polls, and never waits; the other waits, and is readied by a poll that succeeds. (crossbeam-channel's
/// `stress_iter`.)
fn rounds_with_a_poller(rounds: usize) {
    let (requests, requested) = gorun::channel::<()>(0);
    let (responses, responded) = gorun::channel::<usize>(0);
    let polls = gorun::go(move || {
        let mut count = 0;
        while count < rounds {
            count += responded.try_iter().sum::<usize>();
            let _ = requests.try_send(());
        }
    });
    requested.iter().take_while(|()| responses.send(1).is_ok()).count();
    polls.join().unwrap();
}

#[test]
fn whom_a_poller_readies_does_not_wait_for_the_monitor() {
    within(|| {
        // Some 40 ms a round it would be then: minutes.
        if let Some(runtime) = in_mode(Builder::new().workers(2), ThreadLocals::Isolated) {
            runtime.run(|| rounds_with_a_poller(10_000));
        }
        // A pinned one has to, to be on the safe side; and on a worker of its own it disturbs nobody.
        for workers in [1, 2] {
            let pinned = Builder::new().workers(workers).thread_locals(ThreadLocals::Pinned);
            pinned.build().unwrap().run(|| rounds_with_a_poller(20));
        }
    });
}

/// Turns of 2 ms.
const TURN: Duration = Duration::from_millis(2);
/// So many of those may pass before somebody who waits for something else than them has a turn; between two looks there
/// were up to 61 once.
const FEW_TURNS: u64 = 12;

/// Two goroutines that compute for [`TURN`], yield, and so on, until the flag is set; and the number of turns they have had.
fn coarse_neighbours(runtime: &Runtime) -> (Arc<AtomicBool>, Arc<AtomicU64>) {
    let (over, turns) = (flag().0, Arc::new(AtomicU64::new(0)));
    for _ in 0..2 {
        let (over, turns) = (over.clone(), turns.clone());
        drop(runtime.go(move || {
            while !over.load(Ordering::SeqCst) {
                let began = Instant::now();
                while began.elapsed() < TURN {
                    std::hint::spin_loop();
                }
                turns.fetch_add(1, Ordering::SeqCst);
                gorun::yield_now();
            }
        }));
    }
    common::until(|| turns.load(Ordering::SeqCst) > 4);
    (over, turns)
}

#[test]
fn a_sleeper_waits_for_a_few_turns_of_others_however_long_they_are() {
    in_both_modes(one_worker, |runtime| {
        let (over, turns) = coarse_neighbours(runtime);
        let sleeper = move || {
            let before = turns.load(Ordering::SeqCst);
            (0..20).for_each(|_| gorun::time::sleep(Duration::from_millis(1)));
            turns.load(Ordering::SeqCst) - before
        };
        let turns = runtime.go(sleeper).unwrap().join().unwrap();
        over.store(true, Ordering::SeqCst);
        assert!(turns <= 20 * FEW_TURNS, "{turns} turns of others beside 20 naps");
    });
}

#[test]
fn what_comes_from_outside_waits_for_a_few_turns_of_others_however_long_they_are() {
    in_both_modes(one_worker, |runtime| {
        let (over, turns) = coarse_neighbours(runtime);
        let mut waited = [0, 0];
        let (tx, rx) = gorun::channel::<u64>(1);
        let now = turns.clone();
        let woken = runtime.go(move || rx.iter().map(|sent| now.load(Ordering::SeqCst) - sent).sum::<u64>()).unwrap();
        for _ in 0..20 {
            let (now, before) = (turns.clone(), turns.load(Ordering::SeqCst));
            // Through the injector.
            waited[0] += runtime.go(move || now.load(Ordering::SeqCst) - before).unwrap().join().unwrap();
            // Through the inbox, where it is pinned.
            tx.send(turns.load(Ordering::SeqCst)).unwrap();
        }
        drop(tx);
        waited[1] = woken.join().unwrap();
        over.store(true, Ordering::SeqCst);
        assert!(waited.iter().all(|turns| *turns <= 20 * FEW_TURNS), "{waited:?} turns of others, 20 times");
    });
}

/// A worker of which a replacement was wanted and could not be had used to retire as the one too many: then there was none.
#[test]
fn polls_with_a_default_are_asked_to_yield_and_keep_their_worker() {
    within(|| {
        let Some(runtime) = in_mode(one_worker(), ThreadLocals::Isolated) else { return };
        for _ in 0..20 {
            let (quit, quits) = gorun::channel::<()>(0);
            let polls = runtime.go(move || {
                loop {
                    gorun::select! {
                        recv(quits) -> _ => break,
                        default => {}
                    }
                }
            });
            // It has to be found stuck, and to be wanted elsewhere, before it hears of this.
            runtime.go(move || gorun::time::sleep(std::time::Duration::from_millis(30))).unwrap().join().unwrap();
            drop(quit);
            polls.unwrap().join().unwrap();
        }
    });
}

#[test]
fn a_pair_that_readies_each_other_does_not_starve_the_rest() {
    within(|| {
        let rounds = one_worker().build().unwrap().run(|| {
            let (stop, stops) = flag();
            let (ping, pings) = gorun::channel::<()>(0);
            let (pong, pongs) = gorun::channel::<()>(0);
            let pair = gorun::go(move || pings.iter().take_while(|()| pong.send(()).is_ok()).count());
            let other = gorun::go(move || stop.store(true, Ordering::SeqCst));
            let mut rounds = 0;
            while !stops.load(Ordering::SeqCst) {
                ping.send(()).unwrap();
                pongs.recv().unwrap();
                rounds += 1;
            }
            drop(ping);
            pair.join().unwrap();
            other.join().unwrap();
            rounds
        });
        assert!(rounds <= MOST_ROUNDS, "{rounds} rounds before the third one had its turn");
    });
}

#[test]
fn work_at_home_without_end_does_not_starve_what_comes_from_outside() {
    within(|| {
        let runtime = one_worker().build().unwrap();
        let (over, _) = flag();
        keep_busy(&runtime, 3, &over);
        runtime.go(|| ()).unwrap().join().unwrap();
        over.store(true, Ordering::SeqCst);
    });
}

/// Skynet: each goroutine starts ten, and passes on the sum of what they send, down to the numbers themselves.
fn sum_of_tree(depth: u32, first: u64) -> u64 {
    if depth == 0 {
        return first;
    }
    let (tx, rx) = gorun::channel(0);
    let below = 10_u64.pow(depth - 1);
    for n in 0..10 {
        let tx = tx.clone();
        drop(gorun::go(move || tx.send(sum_of_tree(depth - 1, first + n * below)).unwrap()));
    }
    drop(tx);
    rx.iter().sum()
}

#[test]
fn a_tree_of_goroutines_that_send_to_their_parents_comes_to_an_end() {
    within(|| {
        for mode in [ThreadLocals::Isolated, ThreadLocals::Pinned] {
            let Some(runtime) = in_mode(one_worker(), mode) else { continue };
            for _ in 0..3 {
                assert_eq!(runtime.go(|| sum_of_tree(4, 0)).unwrap().join().unwrap(), 9_999 * 10_000 / 2);
            }
        }
        // The default.
        let runtime = gorun::runtime::Builder::new().workers(1).build().unwrap();
        assert_eq!(runtime.run(|| sum_of_tree(4, 0)), 9_999 * 10_000 / 2);
    });
}

#[test]
fn what_was_held_back_begins_beside_work_without_end() {
    within(|| {
        // Without spare workers one that is stuck makes threads scarce, and what has not begun is held back.
        let runtime = one_worker().build().unwrap();
        let ((over, _), (free, stays)) = (flag(), flag());
        keep_busy(&runtime, 2, &over);
        let (told, tells) = mpsc::channel();
        drop(runtime.go(move || {
            told.send(gorun::go(|| ())).unwrap();
            compute(&stays);
        }));
        let child = tells.recv().unwrap();
        found_stuck(&runtime, 1);
        free.store(true, Ordering::SeqCst);
        // The worker is found to be none of the stuck a moment after it has come to the child.
        child.join().unwrap();
        over.store(true, Ordering::SeqCst);
    });
}

/// Timers that are due are not all fired at once; but one for each turn at least, and nobody who always has a turn to take
/// holds them up.
#[test]
fn many_timers_that_are_due_fire_beside_work_without_end() {
    const SLEEPERS: u64 = 2000;
    within(|| {
        let turns = one_worker().build().unwrap().run(|| {
            let due = Instant::now() + Duration::from_millis(20);
            let [begun, woken] = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
            for _ in 0..SLEEPERS {
                let (begun, woken) = (begun.clone(), woken.clone());
                gorun::go(move || {
                    begun.fetch_add(1, Ordering::SeqCst);
                    let _timeout = Blocker::armed().park(WaitReason::Sleep, Some(due));
                    woken.fetch_add(1, Ordering::SeqCst);
                });
            }
            while begun.load(Ordering::SeqCst) < SLEEPERS || Instant::now() <= due {
                gorun::yield_now();
            }
            let mut turns = 0;
            while woken.load(Ordering::SeqCst) < SLEEPERS {
                gorun::yield_now();
                turns += 1;
            }
            turns
        });
        // It has a turn, each time, beside those that were fired since its last one.
        assert!(turns <= SLEEPERS, "{turns} turns of another goroutine while {SLEEPERS} sleepers woke");
    });
}
