//! Dining philosophers: five forks, five philosophers, nobody starves and nobody waits for ever.
//!
//! Each fork is a mutex; the last philosopher takes them in the other order, so that there is no circle to wait in.
//! After Dijkstra (EWD 310), as in many Go courses. Run with `cargo run --example philosophers`.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use gorun::sync::{Mutex, WaitGroup};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const SEATS: usize = 5;
const MEALS: usize = 200;

fn main() {
    let (forks, meals) = gorun::run(|| {
        let forks: Arc<Vec<_>> = Arc::new((0..SEATS).map(|_| Mutex::new(0)).collect());
        let eating: Arc<Vec<_>> = Arc::new((0..SEATS).map(|_| AtomicBool::new(false)).collect());
        let meals = Arc::new(AtomicUsize::new(0));
        let table = WaitGroup::new();
        for seat in 0..SEATS {
            let (forks, eating, meals) = (forks.clone(), eating.clone(), meals.clone());
            table.go(move || {
                let (left, right) = (seat, (seat + 1) % SEATS);
                let (first, second) = (left.min(right), left.max(right));
                for meal in 0..MEALS {
                    let (mut one, mut two) = (forks[first].lock(), forks[second].lock());
                    eating[seat].store(true, Ordering::SeqCst);
                    assert!(!eating[(seat + 1) % SEATS].load(Ordering::SeqCst), "the neighbour shares a fork");
                    assert!(!eating[(seat + SEATS - 1) % SEATS].load(Ordering::SeqCst));
                    (*one, *two) = (*one + 1, *two + 1);
                    if meal % 50 == 0 {
                        gorun::time::sleep(Duration::from_millis(1)); // with both forks in hand
                    } else {
                        gorun::yield_now();
                    }
                    eating[seat].store(false, Ordering::SeqCst);
                    meals.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        table.wait();
        let used: Vec<usize> = forks.iter().map(|fork| *fork.lock()).collect();
        (used, meals.load(Ordering::SeqCst))
    });
    println!("{meals} meals; the forks were used {forks:?} times");
    assert_eq!(meals, SEATS * MEALS);
    assert_eq!(forks, [2 * MEALS; SEATS]);
}
