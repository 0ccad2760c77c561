//! Goroutine-local request ids: what a log line needs to know travels with the goroutine, not with the call.
//!
//! Each request is served by a goroutine that notes its id once. Helpers that it starts inherit the id, and
//! functions far down the call chain read it without a parameter. A handler registered with
//! [`gorun::at_exit`] writes the closing line on every way out, also when serving the request panics.
//!
//! Run with `cargo run --example request_ids`; one of the requests panics, and its message on stderr is
//! part of the demonstration.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use std::cell::{Cell, RefCell};

use gorun::goroutine_local;

goroutine_local! {
    #[inherit]
    static REQUEST: Cell<u64> = const { Cell::new(0) };
    static STEPS: RefCell<Vec<&'static str>> = RefCell::new(Vec::new());
}

/// Writes a line with the id of the request that this goroutine works for.
fn log(text: &str) {
    println!("[request {}] {text}", REQUEST.get());
}

/// One step of serving; nobody hands it the id.
fn step(name: &'static str) {
    STEPS.with_borrow_mut(|steps| steps.push(name));
    gorun::yield_now();
    log(name);
}

fn serve(request: u64) -> u64 {
    REQUEST.set(request);
    gorun::at_exit(|| log(&format!("done after {:?}", STEPS.take())));
    step("authorise");
    let helper = gorun::go(|| {
        step("look up, in a helper");
        REQUEST.get()
    });
    assert!(request != 3, "request 3 is the one that fails");
    step("answer");
    helper.join().expect("the helper does not panic")
}

fn main() {
    let outcomes = gorun::run(|| {
        let handles: Vec<_> = (1..=4).map(|id| gorun::go(move || serve(id))).collect();
        handles.into_iter().map(|handle| handle.join()).collect::<Vec<_>>()
    });
    for (request, outcome) in (1..).zip(outcomes) {
        match outcome {
            Ok(seen) => assert_eq!(seen, request, "the helper inherited the id"),
            Err(error) => {
                println!("request {request} failed: {error}");
                assert!(request == 3 && error.is_panic());
            }
        }
    }
}
