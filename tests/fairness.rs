//! Nobody starves: whoever is ready runs, whatever the others on its worker do.
//!
//! On one worker, which nobody replaces: what it does not see to itself is not done.

mod common;

use common::stuck::{compute, flag, found_stuck, keep_busy};
use common::{one_worker, within};
use gorun::runtime::ThreadLocals;
use gorun_scheduler::{Blocker, WaitReason};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// The bound of the next slot (`NEXT_STREAK` in the processor), with room for the turns before and after.
const MOST_ROUNDS: u64 = 64;

#[test]
fn a_goroutine_that_never_waits_is_asked_to_yield() {
    within(|| {
        // A pinned one would not be asked where it does not expect to wait.
        let Ok(runtime) = one_worker().thread_locals(ThreadLocals::Isolated).build() else { return };
        let (stop, stops) = flag();
        // Its channel always has room, or a value.
        let (tx, rx) = gorun::channel::<()>(1);
        let busy = runtime.go(move || {
            while !stops.load(Ordering::SeqCst) {
                tx.send(()).unwrap();
                rx.recv().unwrap();
            }
        });
        runtime.go(move || stop.store(true, Ordering::SeqCst)).unwrap().join().unwrap();
        busy.unwrap().join().unwrap();
    });
}

/// A worker of which a replacement was wanted and could not be had used to retire as the one too many: then there was none.
#[test]
fn polls_with_a_default_are_asked_to_yield_and_keep_their_worker() {
    within(|| {
        let Ok(runtime) = one_worker().thread_locals(ThreadLocals::Isolated).build() else { return };
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
            let Ok(runtime) = one_worker().thread_locals(mode).build() else { continue };
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
