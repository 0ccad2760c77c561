//! Goroutine-local storage and coroutines that are not gorun's, which can be left in the middle of a look: looks then end
//! in another order than they began. (What ends the process instead is in `process`.)

#![forbid(unsafe_code)]

#[path = "local_support/mod.rs"]
mod support;

use corosensei::{Coroutine, Yielder};
use gorun::{goroutine_local, local};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use support::{Log, everywhere};

goroutine_local! {
    static NAME: RefCell<String> = RefCell::new("nobody".to_string());
    static N: Cell<u32> = const { Cell::new(1) };
}

/// A coroutine that looks at `N`, is left there, and ends when it is resumed.
fn left_in_a_look() -> Coroutine<(), (), ()> {
    let mut coroutine = Coroutine::new(|yielder: &Yielder<(), ()>, ()| N.with(|_| yielder.suspend(())));
    coroutine.resume(());
    coroutine
}

fn end(mut coroutine: Coroutine<(), (), ()>) {
    assert!(coroutine.resume(()).as_return().is_some());
}

fn is_refused(drops: fn()) -> bool {
    catch_unwind(AssertUnwindSafe(drops)).is_err()
}

#[test]
fn a_look_that_outlives_the_one_it_began_before_keeps_its_value() {
    everywhere(&["ann"], |log: Log| {
        let first = left_in_a_look();
        NAME.with(|name| {
            name.replace("ann".to_string());
            end(first);
            assert!(is_refused(local::reset) && is_refused(local::unload));
            log.add(&**name.borrow());
        });
        local::reset();
        assert_eq!((N.get(), NAME.take()), (1, "nobody".to_string()));
    });
}

#[test]
fn so_does_one_that_a_look_began_in_and_left_behind() {
    everywhere(&["ann"], |log: Log| {
        NAME.set("ann".to_string());
        let second = NAME.with(|_| left_in_a_look());
        assert!(is_refused(local::reset));
        // The next look is the second of two again.
        NAME.with(|name| {
            end(second);
            assert!(is_refused(local::reset));
            log.add(&**name.borrow());
        });
        local::reset();
    });
}

#[test]
fn when_all_have_ended_scopes_are_as_ever() {
    everywhere(&["7 1"], |log: Log| {
        let outer = left_in_a_look();
        let inner = N.with(|_| left_in_a_look());
        end(outer);
        end(inner);
        let seen = N.scope(Cell::new(7), || N.get());
        log.add(format!("{seen} {}", N.get()));
    });
}

#[test]
fn a_scope_may_be_left_and_ended_in_order() {
    everywhere(&["2 3 2 1"], |log: Log| {
        let mut coroutine = Coroutine::new(|yielder: &Yielder<(), u32>, ()| {
            N.scope(Cell::new(2), || {
                yielder.suspend(N.get());
                yielder.suspend(N.scope(Cell::new(3), || N.get()));
                N.get()
            })
        });
        let mut next = || match coroutine.resume(()) {
            corosensei::CoroutineResult::Yield(n) | corosensei::CoroutineResult::Return(n) => n,
        };
        log.add(format!("{} {} {} {}", next(), next(), next(), N.get()));
    });
}
