//! The return target: a goroutine that never stored anything leaves through the bare exit.
//!
//! One test, alone in its process, because the counter of cleaning exits is the process's.

use gorun::local::cleaning_exits;
use std::cell::Cell;

gorun::goroutine_local! {
    static USED: Cell<u32> = const { Cell::new(0) };
}

#[test]
fn only_a_goroutine_that_stored_something_enters_the_cleaning_exit() {
    gorun::run(|| {
        let start = cleaning_exits();
        let untouched: Vec<_> = (0..10_000).map(|n| gorun::go(move || n)).collect();
        assert_eq!(untouched.into_iter().map(|h| h.join().unwrap()).max(), Some(9_999));
        gorun::go(|| gorun::goexit()).join().unwrap_err();
        gorun::go(|| std::panic::resume_unwind(Box::new(1))).join().unwrap_err();
        assert_eq!(cleaning_exits(), start, "the target of an untouched goroutine is bare");

        gorun::go(|| USED.set(1)).join().unwrap();
        assert_eq!(cleaning_exits(), start + 1, "patched by the first value");
        gorun::go(|| gorun::at_exit(|| ())).join().unwrap();
        assert_eq!(cleaning_exits(), start + 2, "patched by the first handler");
        gorun::go(|| gorun::local::set("key", 1)).join().unwrap();
        assert_eq!(cleaning_exits(), start + 3, "patched by the first dynamic value");

        gorun::go(|| {
            USED.set(1);
            gorun::local::set("key", 1);
            gorun::at_exit(|| ());
            gorun::local::unload();
        })
        .join()
        .unwrap();
        assert_eq!(cleaning_exits(), start + 3, "patched back by unload");

        // The same control blocks and stacks again: nothing of the earlier goroutines is left in them.
        let again: Vec<_> = (0..1000).map(|_| gorun::go(|| gorun::local::contains(&"key"))).collect();
        again.into_iter().for_each(|h| assert!(!h.join().unwrap()));
        assert_eq!(cleaning_exits(), start + 3);
    });
}
