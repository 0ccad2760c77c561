//! When no stack can be had for another goroutine: what would start one says so and leaves nothing half done, deadlines hold,
//! and what was late comes when there are stacks again. Each in a process of its own.

#![allow(unsafe_code, reason = "limits of the process")]

mod common;

use common::child::{is_child, passes};
use common::until;
use gorun::context::{ContextError, background};
use gorun::runtime::Builder;
use gorun::sync::{ErrGroup, SingleFlight, WaitGroup};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_millis(2);

/// Whether all other threads of the process sleep, three times in a row.
fn others_sleep() -> bool {
    let sleep = || {
        // SAFETY: no preconditions.
        let me = unsafe { libc::gettid() }.to_string();
        std::fs::read_dir("/proc/self/task").unwrap().all(|task| {
            let task = task.unwrap();
            // One that has ended meanwhile maps nothing any more.
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
            task.file_name().to_str() == Some(&me) || state.is_none_or(|state| state == 'S')
        })
    };
    (0..3).all(|_| sleep())
}

/// Goroutines that have all the stacks there can be.
struct NoStacks {
    before: libc::rlimit,
    keep: gorun::Sender<()>,
    fillers: Vec<gorun::JoinHandle<bool>>,
}

impl NoStacks {
    /// On a goroutine of a runtime with one worker, which has all reservations.
    fn begin() -> NoStacks {
        // A thread that begins maps more than the limit would leave, and std ends the process where it can't.
        until(others_sleep);
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: libc::rlim_t = statm.split(' ').next().unwrap().parse().unwrap();
        let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: valid rlimits for the duration of the calls.
        unsafe {
            assert_eq!(libc::getrlimit(libc::RLIMIT_AS, &raw mut before), 0);
            // Stacks leave 16 MiB to the allocator and to threads.
            let now = libc::rlimit { rlim_cur: pages * 4096 + (20 << 20), ..before };
            assert_eq!(libc::setrlimit(libc::RLIMIT_AS, &raw const now), 0);
        }
        let (keep, held) = gorun::channel::<()>(0);
        let mut fillers = Vec::new();
        loop {
            let held = held.clone();
            match gorun::Builder::new().go(move || held.recv().is_err()) {
                Ok(filler) => fillers.push(filler),
                Err(gorun::SpawnError::Stack(_)) => break,
                Err(other) => panic!("{other}"),
            }
            assert!(fillers.len() < 100_000, "the limit does not limit");
        }
        NoStacks { before, keep, fillers }
    }

    fn end(self) {
        // SAFETY: a valid rlimit for the duration of the call.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const self.before) }, 0);
        drop(self.keep);
        self.fillers.into_iter().for_each(|filler| assert!(filler.join().unwrap()));
    }
}

/// Runs `f` on the main goroutine of a runtime with one worker, in both modes. What each child says.
fn alone(name: &str, f: impl FnOnce() + Send) -> Vec<String> {
    if is_child() {
        // What plain threads spawn goes to the default runtime, which is not to start then.
        gorun::go(|| ()).join().unwrap();
        Builder::new().workers(1).build().unwrap().run(f);
        return Vec::new();
    }
    ["isolated", "pinned"]
        .map(|mode| passes(name, &[("GORUN_THREAD_LOCALS", mode), ("GORUN_STACK_SIZE", "900000")]))
        .into()
}

/// Calls what has to panic for want of a stack, and say what to do.
fn refused<R>(call: &str, f: impl FnOnce() -> R) {
    let Err(payload) = catch_unwind(AssertUnwindSafe(f)) else { panic!("{call}: there was a stack") };
    let text = payload.downcast_ref::<String>().expect("a text");
    assert!(text.starts_with(call) && text.contains("RLIMIT_AS") && text.contains("fewer goroutines"), "{text}");
}

#[test]
fn go_says_what_to_do_and_drops_its_closure() {
    alone("go_says_what_to_do_and_drops_its_closure", || {
        let none = NoStacks::begin();
        let owned = Arc::new(());
        let live = gorun::num_goroutines();
        for _ in 0..100 {
            let own = owned.clone();
            refused("gorun::go: ", || gorun::go(move || drop(own)));
            let own = owned.clone();
            assert!(gorun::Builder::new().go(move || drop(own)).is_err());
        }
        assert_eq!((Arc::strong_count(&owned), gorun::num_goroutines()), (1, live));
        // From a plain thread, on the same runtime's stacks.
        std::thread::scope(|s| {
            s.spawn(|| refused("gorun::go: ", || gorun::go(|| ()))).join().unwrap_or_else(|_| panic!("the thread"));
        });
        none.end();
        gorun::go(move || drop(owned)).join().unwrap();
    });
}

#[test]
fn groups_count_as_before() {
    alone("groups_count_as_before", || {
        let (group, limited) = (WaitGroup::new(), ErrGroup::<()>::new());
        limited.set_limit(1);
        let none = NoStacks::begin();
        group.add(1);
        for _ in 0..10 {
            refused("gorun::sync::WaitGroup::go: ", || group.go(|| ()));
            // The room is given back each time; else the second would wait for ever, and `try_go` give its closure back.
            refused("gorun::sync::ErrGroup::go: ", || limited.go(|| Ok(())));
            refused("gorun::sync::ErrGroup::go: ", || limited.try_go(|| Ok(())).is_ok());
        }
        assert_eq!(limited.wait(), Ok(()));
        group.done();
        group.wait();
        none.end();
        limited.go(|| Err(()));
        assert_eq!(limited.wait(), Err(()));
        group.go(|| ()).join().unwrap();
        group.wait();
    });
}

#[test]
fn a_flight_that_could_not_begin_is_not_under_way() {
    alone("a_flight_that_could_not_begin_is_not_under_way", || {
        let flights = Arc::new(SingleFlight::new());
        let none = NoStacks::begin();
        for n in 0..10 {
            refused("gorun::go: ", || SingleFlight::run_chan(&flights, "key", || -1));
            assert_eq!(flights.run("key", || n), (n, false));
        }
        none.end();
        assert_eq!(SingleFlight::run_chan(&flights, "key", || 7).recv(), Ok((7, false)));
    });
}

#[test]
fn a_scope_returns_and_has_waited_for_those_there_were() {
    alone("a_scope_returns_and_has_waited_for_those_there_were", || {
        let (owned, ended) = (Arc::new(()), AtomicUsize::new(0));
        let mut none = None;
        refused("gorun::Scope::go: ", || {
            gorun::scope(|s| {
                s.go(|| {
                    gorun::time::sleep(SOON);
                    ended.fetch_add(1, Ordering::Relaxed);
                });
                none = Some(NoStacks::begin());
                let own = owned.clone();
                assert!(s.spawn(gorun::Builder::new(), move || drop(own)).is_err());
                let own = owned.clone();
                s.go(move || drop(own));
            });
        });
        assert_eq!((ended.load(Ordering::Relaxed), Arc::strong_count(&owned)), (1, 1));
        none.unwrap().end();
        let none = NoStacks::begin();
        assert!(gorun::scope(|s| s.spawn(gorun::Builder::new(), || ()).is_err()));
        none.end();
    });
}

#[test]
fn a_call_with_a_time_limit_says_so() {
    alone("a_call_with_a_time_limit_says_so", || {
        let none = NoStacks::begin();
        let owned = Arc::new(());
        let own = owned.clone();
        refused("gorun::time::timeout: ", move || gorun::time::timeout(LONG, move || drop(own)));
        assert_eq!(Arc::strong_count(&owned), 1);
        assert!(gorun::try_grow(64 << 20, || ()).is_err());
        refused("gorun::grow: ", || gorun::grow(64 << 20, || ()));
        none.end();
        assert_eq!(gorun::time::timeout(LONG, || 3), Ok(3));
        assert!(gorun::try_grow(64 << 20, || ()).is_ok());
    });
}

#[test]
fn a_deadline_needs_no_stack() {
    alone("a_deadline_needs_no_stack", || {
        let none = NoStacks::begin();
        let (ctx, _cancel) = background().with_timeout(SOON);
        let (derived, _cancel) = ctx.with_cancel();
        // Those that would end and give their stacks back may be waiting for this very deadline.
        assert!(derived.done().recv().is_err());
        assert_eq!(derived.err(), Some(ContextError::DeadlineExceeded));
        // So do channels, and deadlines of waits.
        assert!(gorun::time::after(SOON).recv().is_ok());
        assert!(none.fillers.iter().all(|filler| !filler.is_finished()));
        none.end();
    });
}

#[test]
fn a_timers_function_is_late_and_not_lost() {
    let told = alone("a_timers_function_is_late_and_not_lost", || {
        let called = Arc::new(AtomicUsize::new(0));
        let call = || {
            let called = called.clone();
            move || _ = called.fetch_add(1, Ordering::Relaxed)
        };
        let none = NoStacks::begin();
        let timers: Vec<_> = (0..10).map(|_| gorun::time::after_func(SOON, call())).collect();
        let (ctx, cancel) = background().with_cancel();
        ctx.after_func(call());
        cancel.cancel();
        // One that is stopped while it is late is not called.
        let stopped = gorun::time::after_func(SOON, || panic!("it was stopped"));
        gorun::time::sleep(25 * SOON);
        assert_eq!(called.load(Ordering::Relaxed), 0);
        assert!(stopped.stop(), "it is pending");
        none.end();
        until(|| {
            gorun::yield_now();
            called.load(Ordering::Relaxed) == 11
        });
        assert!(timers.iter().all(|timer| !timer.stop()));
    });
    for told in told {
        assert_eq!(told.matches("gorun: ").count(), 1, "{told}");
        assert!(told.contains("timer") && told.contains("RLIMIT_AS"), "{told}");
    }
}

#[test]
fn a_deadline_is_late_where_there_is_no_thread_either() {
    alone("a_deadline_is_late_where_there_is_no_thread_either", || {
        let none = NoStacks::begin();
        let mut threads = Vec::new();
        let (end, ends) = mpsc::channel::<()>();
        let ends = Arc::new(Mutex::new(ends));
        loop {
            let ends = ends.clone();
            match std::thread::Builder::new().spawn(move || ends.lock().unwrap().recv().is_err()) {
                Ok(thread) => threads.push(thread),
                Err(_) => break,
            }
            assert!(threads.len() < 1000, "the limit does not limit");
        }
        let (ctx, _cancel) = background().with_timeout(SOON);
        gorun::time::sleep(25 * SOON);
        assert!(ctx.err().is_none());
        drop(end);
        threads.into_iter().for_each(|thread| assert!(thread.join().unwrap()));
        assert!(ctx.done().recv().is_err());
        none.end();
    });
}
