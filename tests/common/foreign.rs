//! Foreign code that does one thing after another, and a runtime on which it shows whom that harms.

use super::child::skip_isolated;
use super::{GENEROUS, within};
use gorun::runtime::{Builder, ThreadLocals, isolation};
use std::time::Duration;

/// What foreign code does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Act {
    Waits,
    Spawns,
    Stores,
    Panics,
}

pub(crate) const ACTS: [Act; 4] = [Act::Waits, Act::Spawns, Act::Stores, Act::Panics];

impl Act {
    pub(crate) fn run(self) {
        match self {
            Act::Waits => {
                gorun::yield_now();
                gorun::time::sleep(Duration::from_micros(100));
            }
            Act::Spawns => assert_eq!(gorun::go(|| 7).join().unwrap(), 7),
            Act::Stores => gorun::local::set("foreign", String::from("stored")),
            Act::Panics => std::panic::resume_unwind(Box::new("foreign")),
        }
    }
}

/// Runs `f` for each act, each time as the main goroutine of one worker, in both modes. A deadlock is told.
pub(crate) fn each(f: fn(Act)) {
    for mode in [ThreadLocals::Isolated, ThreadLocals::Pinned] {
        if mode == ThreadLocals::Isolated && isolation().is_err() {
            skip_isolated();
            continue;
        }
        for act in ACTS {
            within(move || {
                let runtime = Builder::new().workers(1).spare_workers(0).thread_locals(mode).build().unwrap();
                runtime.run(|| {
                    f(act);
                    // Whatever it was, the worker goes on.
                    assert_eq!(gorun::go(|| 1).join().unwrap(), 1);
                });
            });
        }
    }
}

/// On one worker: lets others go on.
pub(crate) fn until_yielding(condition: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !condition() {
        assert!(start.elapsed() < GENEROUS, "the condition never came true");
        gorun::yield_now();
    }
}
