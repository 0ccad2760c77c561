//! Runtimes: `run`, side by side, drain and shutdown, stealing, who stays where.

mod common;

use common::stuck::flag;
use common::{kernel_thread, kernel_thread_name, within};
use gorun::runtime::{BuildError, Builder};
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn run_gives_mains_value_and_ends_everybody_else() {
    let ended = Arc::new(AtomicUsize::new(0));
    struct Ends(Arc<AtomicUsize>);
    impl Drop for Ends {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let value = gorun::run(|| {
        for _ in 0..5000 {
            let ends = Ends(ended.clone());
            gorun::go(move || {
                let _ends = ends;
                gorun::time::sleep(HOUR);
            });
        }
        gorun::yield_now();
        "value"
    });
    assert_eq!(value, "value");
    assert_eq!(ended.load(Ordering::SeqCst), 5000, "parked or not begun: everyone left through its exit path");
}

#[test]
fn run_borrows_and_panics_come_out_of_it() {
    let local = [1, 2, 3];
    assert_eq!(gorun::run(|| local.len()), 3);
    let panic = std::panic::catch_unwind(|| gorun::run(|| std::panic::resume_unwind(Box::new(5u8)))).unwrap_err();
    assert_eq!(*panic.downcast::<u8>().unwrap(), 5);
}

#[test]
fn run_nests() {
    assert_eq!(gorun::run(|| 1 + gorun::run(|| 1 + gorun::go(|| 1).join().unwrap())), 3);
}

#[test]
fn runtimes_live_side_by_side_and_talk() {
    let one = Builder::new().workers(1).thread_name("one").build().unwrap();
    let two = Builder::new().workers(2).thread_name("two").build().unwrap();
    assert_eq!((one.workers(), two.workers()), (1, 2));
    let (ping, pings) = gorun::channel(0);
    let (pong, pongs) = gorun::channel(0);
    let echo = two
        .go(move || {
            for n in pings {
                let thread = kernel_thread_name();
                pong.send((n, thread)).unwrap();
            }
        })
        .unwrap();
    let asks = one
        .go(move || {
            for n in 0..1000 {
                ping.send(n).unwrap();
                let (m, thread) = pongs.recv().unwrap();
                assert_eq!(m, n);
                assert!(thread.starts_with("two-worker-"), "{thread}");
                assert!(kernel_thread_name().starts_with("one-worker-"));
            }
        })
        .unwrap();
    asks.join().unwrap();
    echo.join().unwrap();
    one.shutdown(HOUR).unwrap();
    two.shutdown(HOUR).unwrap();
}

#[test]
fn a_runtime_shuts_down_with_thousands_parked() {
    let runtime = Builder::new().workers(2).build().unwrap();
    let exits = Arc::new(AtomicUsize::new(0));
    let begun = gorun::sync::WaitGroup::new();
    let (never, nothing) = gorun::channel::<()>(0);
    let handles: Vec<_> = (0..5000)
        .map(|_| {
            begun.add(1);
            let (begun, exits, nothing) = (begun.clone(), exits.clone(), nothing.clone());
            runtime
                .go(move || {
                    gorun::at_exit(move || {
                        exits.fetch_add(1, Ordering::SeqCst);
                    });
                    begun.done();
                    let _ = nothing.recv();
                })
                .unwrap()
        })
        .collect();
    begun.wait();
    assert_eq!(runtime.num_goroutines(), 5000);
    runtime.shutdown(HOUR).unwrap();
    assert_eq!(exits.load(Ordering::SeqCst), 5000);
    drop(never);
    for handle in handles {
        assert!(handle.join().unwrap_err().is_aborted());
    }
}

#[test]
fn what_does_not_end_in_time_is_named() {
    let runtime = Builder::new().workers(1).build().unwrap();
    let (begun, begins) = mpsc::channel();
    let (end, ends) = flag();
    let line = line!() + 1;
    let stubborn = runtime
        .go(move || {
            begun.send(()).unwrap();
            while !ends.load(Ordering::SeqCst) && std::panic::catch_unwind(|| gorun::time::sleep(HOUR)).is_err() {
                std::hint::spin_loop();
            }
        })
        .unwrap();
    begins.recv().unwrap();
    let error = runtime.shutdown(Duration::from_millis(50)).unwrap_err();
    end.store(true, Ordering::SeqCst);
    assert_eq!(error.left_behind().len(), 1);
    assert!(error.left_behind()[0].spawned_at.line() > line);
    assert_eq!(error.left_behind()[0].id, stubborn.id());
    let text = error.to_string();
    assert!(text.contains("1 goroutine had not ended") && text.contains("tests/runtime.rs"), "{text}");
}

#[test]
fn while_a_runtime_ends_only_its_exit_paths_spawn() {
    within(|| {
        let runtime = Builder::new().workers(1).build().unwrap();
        let (begun, begins) = mpsc::channel();
        let (tx, rx) = mpsc::channel();
        let handle = runtime.go(move || {
            gorun::at_exit(move || {
                // Spawned by an exit path, so it runs; what it spawns itself is aborted at birth.
                let late = gorun::go(|| gorun::go(|| gorun::time::sleep(HOUR)).join().unwrap_err().is_aborted());
                tx.send(late.join().unwrap()).unwrap();
            });
            begun.send(()).unwrap();
            gorun::time::sleep(HOUR);
        });
        begins.recv().unwrap();
        runtime.shutdown(HOUR).unwrap();
        assert!(handle.unwrap().join().unwrap_err().is_aborted());
        assert_eq!(rx.recv(), Ok(true));
    });
}

#[test]
fn settings_that_make_no_sense_are_errors() {
    assert!(matches!(Builder::new().workers(0).build(), Err(BuildError::NoWorkers)));
    for workers in [1025, usize::MAX] {
        let error = Builder::new().workers(workers).build().unwrap_err();
        assert!(matches!(error, BuildError::TooManyWorkers { asked, max: 1024 } if asked == workers), "{error}");
        assert!(error.to_string().contains(&workers.to_string()), "{error}");
    }
    let error = Builder::new().stack_size(usize::MAX).build().unwrap_err();
    assert!(matches!(error, BuildError::Stack(_)), "{error}");
}

#[test]
fn unstarted_work_is_stolen() {
    within(|| {
        let runtime = Builder::new().workers(2).spare_workers(0).build().unwrap();
        let threads: HashSet<_> = runtime.run(|| {
            // Two goroutines that need a thread each at the same time: only possible if one is stolen.
            let both = Arc::new(Barrier::new(2));
            let handles = [both.clone(), both].map(|both| {
                gorun::go(move || {
                    both.wait();
                    kernel_thread()
                })
            });
            handles.into_iter().map(|h| h.join().unwrap()).collect()
        });
        assert_eq!(threads.len(), 2);
    });
}

#[test]
fn plain_threads_and_goroutines_wake_each_other() {
    let (to, from) = gorun::channel(0);
    let (back, comes) = gorun::channel(0);
    let goroutine = gorun::go(move || {
        for n in from {
            back.send(n + 1).unwrap();
        }
    });
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (to, comes) = (to.clone(), comes.clone());
            std::thread::spawn(move || {
                (0..500)
                    .map(|n: u64| {
                        to.send(n).unwrap();
                        comes.recv().unwrap()
                    })
                    .sum::<u64>()
            })
        })
        .collect();
    drop(to);
    let sum: u64 = threads.into_iter().map(|t| t.join().unwrap()).sum();
    assert_eq!(sum, 4 * (500 * 499 / 2 + 500));
    goroutine.join().unwrap();
}

#[test]
fn a_hundred_thousand_sleepers_wake() {
    gorun::run(|| {
        let group = gorun::sync::WaitGroup::new();
        for n in 0..100_000u64 {
            group.add(1);
            let group = group.clone();
            gorun::go(move || {
                gorun::time::sleep(Duration::from_micros(n % 5000));
                group.done();
            });
        }
        group.wait();
    });
}

#[test]
fn a_run_does_not_take_in_what_plain_threads_spawn() {
    let (go_on, goes_on) = gorun::channel::<()>(0);
    let outside = gorun::run(|| {
        // A plain thread's goroutine belongs to the default runtime, and outlives this `run`.
        gorun::blocking(|| std::thread::spawn(move || gorun::go(move || goes_on.recv())).join().unwrap())
    });
    assert!(!outside.is_finished());
    go_on.send(()).unwrap();
    assert_eq!(outside.join().unwrap(), Ok(()));
}

#[test]
fn a_builders_values_are_checked_as_the_environments_are() {
    let refused = |builder: Builder| builder.build().map(drop).unwrap_err().to_string();
    let one = || Builder::new().workers(1);
    assert_eq!(
        refused(one().spare_workers(usize::MAX)),
        format!("{} spare workers were asked for, but the most is 65536", usize::MAX)
    );
    assert!(refused(one().spare_workers(65_537)).contains("65537"));
    assert_eq!(
        refused(one().thread_name("a\0b")),
        "the threads of a runtime can't be named \"a\\0b\": there is a NUL byte in it"
    );
    assert!(refused(one().stack_size(0)).contains("stack size"));
    assert!(refused(one().stack_size(usize::MAX)).contains("stack size"));
    assert!(refused(Builder::new().workers(0)).contains("at least one"));
    assert!(refused(Builder::new().workers(usize::MAX)).contains("the most is 1024"));
    // What has no bound may be as large as can be said.
    let largest = one().spare_workers(65_536).warm_stacks(usize::MAX).idle_stacks(Duration::MAX).grace(Duration::MAX);
    assert_eq!(largest.build().unwrap().run(|| gorun::go(|| 7).join().unwrap()), 7);
    let smallest = one().spare_workers(0).warm_stacks(0).idle_stacks(Duration::ZERO).grace(Duration::ZERO);
    assert_eq!(smallest.thread_name("").build().unwrap().run(|| gorun::go(|| 7).join().unwrap()), 7);
}

#[test]
fn names_and_sizes_of_a_goroutine_are_taken_or_refused() {
    let named =
        gorun::Builder::new().name("a\0b").go(|| -> () { panic!("of a goroutine with a NUL in its name") }).unwrap();
    assert!(named.join().unwrap_err().to_string().contains("a\\0b"));
    assert!(gorun::Builder::new().stack_size(usize::MAX).go(|| ()).is_err());
    assert!(gorun::Builder::new().stack_size(0).go(|| ()).is_err());
}

#[test]
fn metrics_of_the_callers_runtime_and_of_the_default_one() {
    let runtime = Builder::new().workers(3).build().unwrap();
    let inside = runtime.run(|| gorun::runtime::metrics().unwrap());
    assert_eq!(inside.workers, 3);
    assert!(inside.goroutines >= 1);
    let on_default = gorun::go(|| gorun::runtime::metrics().unwrap().workers).join().unwrap();
    assert_eq!(gorun::runtime::default_metrics().unwrap().workers, on_default);
    assert_eq!(gorun::runtime::metrics().unwrap().workers, on_default, "a plain thread's is the default one");
    let other = Builder::new().workers(on_default + 1).build().unwrap();
    let seen =
        other.run(|| (gorun::runtime::metrics().unwrap().workers, gorun::runtime::default_metrics().unwrap().workers));
    assert_eq!(seen, (on_default + 1, on_default));
}
