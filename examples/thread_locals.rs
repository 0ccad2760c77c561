//! A hundred goroutines that keep what belongs to a thread over waits, and go on on other threads.
//!
//! Each holds an `Rc` out of a `thread_local!`, a mutable borrow of another one, its `ThreadId`, and a panic that is half
//! unwound, while it waits; and each is resumed on several of the runtime's threads. Under a runtime that moves started
//! goroutines (or whatever it calls them) and leaves them the threads' own thread-locals this program is undefined
//! behaviour without a single `unsafe`: two threads count one `Rc` at the same time, the borrow is given back to another
//! thread's cell and the next one panics, the count of panics goes below zero, and a thread-local's address that the
//! compiler kept over the wait is somebody else's. Here each goroutine has thread-locals of its own.
//!
//! `docs/thread-locals.md` says why, and what that costs. Run with `cargo run --release --example thread_locals`.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use gorun::runtime::{Builder, ThreadLocals, isolation};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::panic::{catch_unwind, resume_unwind};
use std::rc::Rc;
use std::thread;

const GOROUTINES: usize = 100;
const ROUNDS: usize = 200;

thread_local! {
    static COUNT: Rc<Cell<usize>> = Rc::new(Cell::new(0));
    static NAMES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Waits while it unwinds.
struct Waits;

impl Drop for Waits {
    fn drop(&mut self) {
        gorun::yield_now();
        assert!(thread::panicking());
    }
}

/// The kernel's name for the thread on which we are now.
fn kernel_thread() -> String {
    let link = std::fs::read_link("/proc/thread-self").expect("Linux has it");
    link.to_string_lossy().into_owned()
}

/// What one goroutine does; returns on how many threads it was.
fn hold(goroutine: usize) -> usize {
    let me = thread::current().id();
    let count = COUNT.with(Rc::clone);
    let mut threads = HashSet::new();
    for round in 0..ROUNDS {
        NAMES.with_borrow_mut(|names| {
            names.push(format!("{goroutine}/{round}"));
            gorun::yield_now();
            assert_eq!(names.len(), round + 1);
            assert_eq!(names[round], format!("{goroutine}/{round}"));
        });
        count.set(count.get() + 1);
        assert!(!thread::panicking());
        let thrown = catch_unwind(|| {
            let _waits = Waits;
            resume_unwind(Box::new(round));
        });
        assert_eq!(thrown.expect_err("thrown").downcast_ref(), Some(&round));
        assert_eq!(thread::current().id(), me);
        threads.insert(kernel_thread());
    }
    assert_eq!(COUNT.with(|count| (count.get(), Rc::strong_count(count))), (ROUNDS, 2));
    threads.len()
}

fn main() {
    if let Err(reason) = isolation() {
        println!("Goroutines can't have thread-locals of their own here: {reason}.");
        return;
    }
    let runtime = Builder::new().workers(4).thread_locals(ThreadLocals::Isolated).build().expect("a runtime");
    let threads: Vec<usize> = runtime.run(|| {
        let goroutines: Vec<_> = (0..GOROUTINES).map(|n| gorun::go(move || hold(n))).collect();
        goroutines.into_iter().map(|g| g.join().expect("it finds everything as it was")).collect()
    });
    let moved = threads.iter().filter(|n| **n > 1).count();
    println!("{GOROUTINES} goroutines found their thread-locals as they had left them, {} times each.", 2 * ROUNDS);
    println!(
        "{moved} of them had gone on on another thread; the most travelled saw {}.",
        threads.iter().max().unwrap_or(&0)
    );
}
