//! What all of these programs run: goroutines that allocate and hold a thread-local over waits.

use gorun::runtime::{Builder, ThreadLocals};
use std::cell::Cell;

thread_local! {
    static MINE: Cell<usize> = const { Cell::new(0) };
}

/// Runs them and returns which mode they had.
pub fn run() -> ThreadLocals {
    let mode = Builder::new().build().expect("a runtime").thread_locals();
    gorun::run(|| {
        // Left when `run` ends: one that waits, and one that does not.
        let (keep, wait) = gorun::channel::<()>(0);
        gorun::go(move || wait.recv());
        gorun::go(|| {
            loop {
                gorun::yield_now();
            }
        });
        std::mem::forget(keep);
        for _ in 0..3 {
            let handles: Vec<_> = (1..=1000).map(|n| gorun::go(move || work(n, mode))).collect();
            for (n, handle) in (1..).zip(handles) {
                assert_eq!(handle.join().expect("it does not panic"), 20 * n + 10 * 19);
            }
        }
    });
    mode
}

fn work(n: usize, mode: ThreadLocals) -> usize {
    let isolated = mode == ThreadLocals::Isolated;
    assert!(MINE.replace(n) == 0 || !isolated, "fresh");
    let mut kept = Vec::new();
    for i in 0..20 {
        kept.push(Box::new(n + i));
        gorun::yield_now();
        assert!(MINE.get() == n || !isolated, "its own");
    }
    kept.iter().map(|value| **value).sum()
}
