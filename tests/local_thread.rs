//! Goroutine-local storage on plain threads: what is a thread's alone, its end above all.
#![allow(clippy::print_stderr, reason = "the child process tells its parent what it dropped")]

use gorun::{goroutine_local, local};
use std::cell::{Cell, RefCell};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};

struct OnDrop(Box<dyn Fn()>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        (self.0)();
    }
}

goroutine_local! {
    static N: Cell<u32> = const { Cell::new(1) };
    static KEPT: RefCell<Option<OnDrop>> = const { RefCell::new(None) };
}

thread_local! {
    static EARLY: RefCell<Option<OnDrop>> = const { RefCell::new(None) };
    static LATE: RefCell<Option<OnDrop>> = const { RefCell::new(None) };
}

fn refuses(f: impl FnOnce() + std::panic::UnwindSafe) -> bool {
    std::panic::catch_unwind(f).is_err()
}

/// What the storage says, where it can be had and where it can't.
fn probe(tx: &Sender<(&'static str, bool)>, who: &'static str) {
    let gone = N.try_with(|_| ()).is_err();
    assert_eq!(refuses(|| N.set(1)), gone);
    assert_eq!(refuses(|| N.with(|_| ())), gone);
    assert_eq!(refuses(|| N.scope(Cell::new(1), || ())), gone);
    assert_eq!(refuses(|| local::set(1, 1)), gone);
    assert_eq!(refuses(|| gorun::at_exit(|| ())), gone);
    assert_eq!(refuses(|| assert!(local::id().get() > 0)), gone);
    assert_eq!(local::get::<_, i32>(&1).is_none(), gone);
    assert_eq!(local::with(&1, |_: &i32| ()).is_none(), gone);
    assert_eq!(local::contains(&1), !gone);
    assert_eq!(local::take::<_, i32>(&1).is_none(), gone);
    assert!(!local::del(&1));
    local::reset();
    local::unload();
    tx.send((who, gone)).unwrap();
}

#[test]
fn before_its_record_ends_a_thread_can_store_and_after_it_cannot() {
    // std drops thread-locals in the reverse order of their first use; the record is one of them.
    let (tx, rx) = channel();
    std::thread::spawn(move || {
        let (early, late) = (tx.clone(), tx.clone());
        EARLY.set(Some(OnDrop(Box::new(move || probe(&early, "early")))));
        KEPT.set(Some(OnDrop(Box::new(move || tx.send(("record", false)).unwrap()))));
        LATE.set(Some(OnDrop(Box::new(move || probe(&late, "late")))));
    })
    .join()
    .unwrap();
    // `probe` unloads, so the late one takes the record's value with it.
    assert_eq!(rx.iter().collect::<Vec<_>>(), [("record", false), ("late", false), ("early", true)]);
}

#[test]
fn threads_have_storage_and_ids_of_their_own() {
    let mine = local::id();
    local::set("k", 1);
    N.set(2);
    let other = std::thread::spawn(move || {
        assert_ne!(local::id(), mine);
        assert!(!local::contains(&"k"));
        N.replace(3)
    });
    assert_eq!(other.join().unwrap(), 1);
    assert_eq!((local::get::<_, i32>(&"k"), N.get(), local::id()), (Some(1), 2, mine));
}

#[test]
fn a_goroutine_inherits_from_the_plain_thread_that_spawns_it() {
    goroutine_local! {
        #[inherit]
        static NAME: RefCell<String> = RefCell::new("nobody".into());
    }
    let name = || gorun::go(|| NAME.with_borrow(String::clone)).join().unwrap();
    assert_eq!(name(), "nobody");
    NAME.set("ann".into());
    assert_eq!(name(), "ann");
    assert_eq!(std::thread::spawn(|| NAME.take()).join().unwrap(), "nobody", "a thread inherits nothing");
}

/// Set in the process that `exit_under_open_looks` starts.
const INNER: &str = "GORUN_TEST_EXIT_UNDER_LOOKS";

#[test]
fn exit_under_open_looks() {
    // `std::process::exit` ends the thread's storage while frames that look at it are still on the stack.
    if std::env::var_os(INNER).is_some() {
        let report = |text: &'static str| OnDrop(Box::new(move || eprintln!("dropped: {text}")));
        KEPT.set(Some(report("typed")));
        local::set("looked at", report("dynamic, looked at"));
        local::set("other", report("dynamic"));
        gorun::at_exit(|| {
            assert!(refuses(local::reset));
            eprintln!("handler, n = {}", N.get());
        });
        KEPT.scope(RefCell::new(Some(report("scoped"))), || {
            N.scope(Cell::new(5), || local::with(&"looked at", |_: &OnDrop| KEPT.with(|_| std::process::exit(7))));
        });
    }
    let inner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "exit_under_open_looks", "--nocapture", "--test-threads=1"])
        .env(INNER, "1")
        .stdout(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8(inner.stderr).unwrap();
    assert_eq!(inner.status.code(), Some(7), "{said}");
    // What frames own, or look at, is not dropped: they never return.
    let said: Vec<&str> = said.lines().filter(|l| l.starts_with("dropped") || l.starts_with("handler")).collect();
    assert_eq!(said, ["handler, n = 5", "dropped: dynamic", "dropped: typed"]);
}
