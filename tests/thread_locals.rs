//! Whose thread-locals a goroutine sees, in both modes: its own wherever it runs, or its worker's for good.

#![allow(unsafe_code, reason = "what C sees of threads")]

mod common;

use common::child::{in_mode, skip_isolated};
use common::{GENEROUS, kernel_thread, within};
use gorun::runtime::{Builder, Runtime, ThreadLocals, isolation};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};

thread_local! {
    static MARK: Cell<usize> = const { Cell::new(0) };
    static LAZY: RefCell<Vec<usize>> = RefCell::new(vec![7]);
    static DROPS: Cell<Option<CountsDrops>> = const { Cell::new(None) };
}

struct CountsDrops(Arc<AtomicUsize>);

impl Drop for CountsDrops {
    fn drop(&mut self) {
        // A destructor may wait, in the goroutine that it belongs to.
        let id = gorun::id();
        gorun::yield_now();
        assert_eq!(gorun::id(), id);
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn runtime(mode: ThreadLocals, workers: usize) -> Option<Runtime> {
    in_mode(Builder::new().workers(workers), mode)
}

#[test]
fn this_platform_has_isolation() {
    // The platforms that are tested must have it: a fall-back that nobody notices would pass everything below.
    if cfg!(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")) {
        assert_eq!(isolation(), Ok(()));
        if std::env::var_os("GORUN_THREAD_LOCALS").is_none() {
            assert_eq!(Builder::new().build().unwrap().thread_locals(), ThreadLocals::Isolated);
        }
    }
}

#[test]
fn thread_locals_stay_put_over_migrations() {
    let Some(runtime) = runtime(ThreadLocals::Isolated, 4) else { return };
    let threads = runtime.run(|| {
        let goroutines: Vec<_> = (1..=200)
            .map(|mark| {
                gorun::go(move || {
                    MARK.set(mark);
                    assert_eq!(LAZY.with_borrow(Vec::clone), [7], "fresh");
                    let (thread, mut kernel) = (std::thread::current().id(), HashSet::new());
                    for turn in 0..500 {
                        LAZY.with_borrow_mut(|lazy| {
                            lazy.push(mark + turn);
                            // A borrow held over a suspension: nobody else's.
                            gorun::yield_now();
                            assert_eq!(lazy.last(), Some(&(mark + turn)));
                        });
                        kernel.insert(kernel_thread());
                        assert_eq!((MARK.get(), std::thread::current().id()), (mark, thread));
                    }
                    kernel.len()
                })
            })
            .collect();
        goroutines.into_iter().map(|g| g.join().unwrap()).max().unwrap()
    });
    assert!(threads > 1, "some goroutine has run on more than one thread");
}

#[test]
fn destructors_run_once_and_in_the_goroutine() {
    let Some(runtime) = runtime(ThreadLocals::Isolated, 2) else { return };
    let drops = Arc::new(AtomicUsize::new(0));
    runtime.run(|| {
        for n in 1..=100 {
            let (counted, seen) = (CountsDrops(drops.clone()), drops.clone());
            gorun::go(move || {
                assert!(DROPS.replace(Some(counted)).is_none(), "fresh");
                assert_eq!(seen.load(Ordering::SeqCst), n - 1);
            })
            .join()
            .unwrap();
            // Joined: its thread-locals are gone.
            assert_eq!(drops.load(Ordering::SeqCst), n);
        }
    });
}

/// A thread-local whose destructor stores in the goroutine, which wakes the next one.
struct Stores(fn());

impl Drop for Stores {
    fn drop(&mut self) {
        (self.0)();
    }
}

thread_local! {
    static FIRST: Cell<Option<Stores>> = const { Cell::new(None) };
    static SECOND: Cell<Option<Stores>> = const { Cell::new(None) };
    static THIRD: Cell<Option<Stores>> = const { Cell::new(None) };
}

/// What is put into storage uses the next thread-local when it is dropped.
struct Uses(fn());

impl Drop for Uses {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn what_destructors_store_in_turns_is_gone_before_the_end() {
    let Some(runtime) = runtime(ThreadLocals::Isolated, 1) else { return };
    static ENDS: AtomicUsize = AtomicUsize::new(0);
    runtime.run(|| {
        for n in 1..=20 {
            gorun::go(|| {
                assert_eq!(gorun::local::get::<_, u32>(&"left over"), None, "a fresh record");
                FIRST.set(Some(Stores(|| {
                    gorun::local::set(
                        "one",
                        Uses(|| {
                            SECOND.set(Some(Stores(|| {
                                gorun::local::set(
                                    "two",
                                    Uses(|| {
                                        THIRD.set(Some(Stores(|| {
                                            gorun::local::set("left over", 7_u32);
                                            ENDS.fetch_add(1, Ordering::SeqCst);
                                        })));
                                    }),
                                );
                            })));
                        }),
                    );
                })));
            })
            .join()
            .unwrap();
            assert_eq!(ENDS.load(Ordering::SeqCst), n);
        }
    });
}

#[test]
fn what_a_keys_destructor_is_the_first_to_use_is_dropped_once_and_there() {
    let Some(runtime) = runtime(ThreadLocals::Isolated, 1) else { return };
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    struct Late;
    impl Drop for Late {
        fn drop(&mut self) {
            DROPS.fetch_add(1, Ordering::SeqCst);
        }
    }
    thread_local! {
        static LATE: Late = const { Late };
    }
    // pthread keys' destructors come after those of thread-locals.
    unsafe extern "C" fn destroy(_: *mut libc::c_void) {
        LATE.with(|_| ());
    }
    let mut key = 0;
    // SAFETY: a function of the type asked for.
    assert_eq!(unsafe { libc::pthread_key_create(&raw mut key, Some(destroy)) }, 0);
    runtime.run(|| {
        for n in 1..=20 {
            // SAFETY: our key; the value is not looked at.
            let set = move || unsafe { libc::pthread_setspecific(key, std::ptr::dangling::<u8>().cast()) };
            assert_eq!(gorun::go(set).join().unwrap(), 0);
            // Neither left to the next goroutine on this stack, nor dropped by it once more.
            assert_eq!(DROPS.load(Ordering::SeqCst), n);
        }
    });
}

#[test]
fn a_pinned_goroutine_stays_on_its_thread() {
    within(|| {
        let runtime = runtime(ThreadLocals::Pinned, 4).expect("pinned is everywhere");
        let threads: HashSet<_> = runtime.run(|| {
            // The first two need a thread each, or neither goes on.
            let two = Arc::new(Barrier::new(2));
            let goroutines: Vec<_> = (0..100)
                .map(|n| {
                    let two = two.clone();
                    gorun::go(move || {
                        if n < 2 {
                            two.wait();
                        }
                        let thread = (kernel_thread(), std::thread::current().id());
                        for _ in 0..100 {
                            gorun::yield_now();
                            assert_eq!((kernel_thread(), std::thread::current().id()), thread);
                        }
                        thread.0
                    })
                })
                .collect();
            goroutines.into_iter().map(|g| g.join().unwrap()).collect()
        });
        assert!(threads.len() > 1);
    });
}

#[test]
fn both_kinds_live_in_one_runtime_and_talk() {
    let Some(runtime) = runtime(ThreadLocals::Isolated, 2) else { return };
    runtime.run(|| {
        let (ping, pings) = gorun::channel::<usize>(0);
        let (pong, pongs) = gorun::channel(0);
        let pinned = gorun::Builder::new().thread_locals(ThreadLocals::Pinned);
        let echo = pinned.go(move || {
            assert_eq!(gorun::current().unwrap().thread_locals(), ThreadLocals::Pinned);
            let thread = kernel_thread();
            for n in pings {
                assert_eq!(kernel_thread(), thread);
                pong.send(n).unwrap();
            }
        });
        MARK.set(42);
        for n in 0..10_000 {
            ping.send(n).unwrap();
            assert_eq!((pongs.recv(), MARK.get()), (Ok(n), 42));
        }
        drop(ping);
        echo.unwrap().join().unwrap();
    });
}

/// Runs `f` in an isolated goroutine, if there can be one, and waits for its end.
fn isolated(f: impl FnOnce() + Send + 'static) {
    if isolation().is_ok() {
        gorun::Builder::new().thread_locals(ThreadLocals::Isolated).go(f).unwrap().join().unwrap();
    } else {
        skip_isolated();
    }
}

#[test]
fn destructors_of_pthread_keys_run() {
    if isolation().is_err() {
        return skip_isolated();
    }
    static RAN: AtomicUsize = AtomicUsize::new(0);
    unsafe extern "C" fn ran(_: *mut libc::c_void) {
        RAN.fetch_add(1, Ordering::SeqCst);
    }
    let mut key = 0;
    // SAFETY: a key of our own.
    assert_eq!(unsafe { libc::pthread_key_create(&raw mut key, Some(ran)) }, 0);
    for n in 1..=3 {
        // The same block and stack again, with nothing under the key.
        isolated(move || {
            // SAFETY: the key exists; its destructor does not look at the value.
            unsafe {
                assert!(libc::pthread_getspecific(key).is_null());
                assert_eq!(libc::pthread_setspecific(key, std::ptr::dangling::<u8>().cast()), 0);
            }
        });
        assert_eq!(RAN.load(Ordering::SeqCst), n, "before the end is told");
    }
}

/// Glibc has `setuid` wait until each thread has changed its ids, in a signal handler that finds its thread by thread-locals.
#[test]
fn setuid_on_a_thread_returns_while_a_goroutine_runs() {
    isolated(|| {
        let (told, tells) = mpsc::channel();
        std::thread::spawn(move || {
            // SAFETY: no preconditions; it changes nothing, as these are the ids that we have.
            told.send(unsafe { libc::setuid(libc::getuid()) })
        });
        // It holds the worker's thread, with the goroutine's thread-locals loaded.
        assert_eq!(tells.recv_timeout(GENEROUS), Ok(0));
    });
}

#[test]
fn a_goroutine_may_fork() {
    isolated(|| {
        // SAFETY: the child calls what a thread may; glibc makes `malloc` usable after a fork.
        let status = unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::alarm(60);
                // A thread's start and end look at the list of threads, which the fork has to have made anew.
                let _ = std::thread::spawn(|| ()).join();
                libc::_exit(7);
            }
            let mut status = 0;
            assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
            status
        };
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 7, "{status}");
    });
}

/// Says that it is being dropped, and waits there until it may go on.
struct WaitsInDrop(gorun::Sender<()>, gorun::Receiver<()>);

impl Drop for WaitsInDrop {
    fn drop(&mut self) {
        assert!(std::thread::panicking());
        self.0.send(()).unwrap();
        assert!(self.1.recv().is_err());
        assert!(std::thread::panicking());
    }
}

/// With one worker, and so many to take its place while it is stuck or its thread is in a panic.
fn pinned_on_one_thread(spare_workers: usize) -> Runtime {
    let builder = Builder::new().workers(1).spare_workers(spare_workers).thread_locals(ThreadLocals::Pinned);
    builder.build().expect("pinned is everywhere")
}

/// A goroutine that waits in a destructor, in a panic, until the sender is dropped.
fn waits_in_a_panic() -> (gorun::JoinHandle<()>, gorun::Sender<()>) {
    let (tell, told) = gorun::channel(0);
    let (open, gate) = gorun::channel(0);
    let panics = gorun::go(move || {
        let _waits = WaitsInDrop(tell, gate);
        std::panic::resume_unwind(Box::new("first"));
    });
    told.recv().unwrap();
    (panics, open)
}

#[test]
fn pinned_neighbours_of_one_that_panics_panic_and_catch_as_usual() {
    // On its own thread each, and with no other thread to be had on one.
    for spare_workers in [1000, 0] {
        within(move || panic_beside_a_panic(spare_workers));
    }
}

fn panic_beside_a_panic(spare_workers: usize) {
    pinned_on_one_thread(spare_workers).run(|| {
        let (panics, open) = waits_in_a_panic();
        for n in 0..30_usize {
            // They see the other's panic. Their own ones reach whom they should, caught or joined, waited in or not.
            assert!(std::thread::panicking());
            let caught = std::panic::catch_unwind(|| std::panic::resume_unwind(Box::new(n)));
            assert_eq!(caught.unwrap_err().downcast_ref(), Some(&n));
            let (second, open) = waits_in_a_panic();
            let third = gorun::go(move || std::panic::resume_unwind(Box::new(n)));
            assert_eq!(third.join().map(|()| 0).unwrap_err().into_panic().unwrap().downcast_ref(), Some(&n));
            drop(open);
            assert!(second.join().unwrap_err().is_panic());
        }
        drop(open);
        assert!(panics.join().unwrap_err().is_panic());
        assert!(!std::thread::panicking(), "counted in and out");
    });
}

#[test]
fn an_abort_of_a_pinned_neighbour_of_one_that_panics_comes_later() {
    pinned_on_one_thread(0).run(|| {
        let (panics, open) = waits_in_a_panic();
        let (go_on, waits) = gorun::channel(0);
        let (begun, begins) = gorun::channel(0);
        let reached = Arc::new(AtomicUsize::new(0));
        let seen = reached.clone();
        let neighbour = gorun::go(move || {
            begun.send(()).unwrap();
            waits.recv().unwrap();
            seen.fetch_add(1, Ordering::SeqCst);
            // Nobody panics any more: this one is ended by the abort.
            let _ = waits.recv();
            seen.fetch_add(1, Ordering::SeqCst);
        });
        begins.recv().unwrap();
        gorun::yield_now();
        neighbour.abort();
        // It might be the one that panics, so its wait goes on, and so does the next one.
        go_on.send(()).unwrap();
        gorun::yield_now();
        assert_eq!(reached.load(Ordering::SeqCst), 1);
        drop(open);
        assert!(panics.join().unwrap_err().is_panic());
        assert!(neighbour.join().unwrap_err().is_aborted());
        assert_eq!(reached.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn an_abort_that_came_during_a_neighbours_panic_reaches_a_pinned_one_after_it() {
    within(|| {
        pinned_on_one_thread(0).run(|| {
            for again in [false, true] {
                let (panics, open) = waits_in_a_panic();
                let (begun, begins) = gorun::channel(0);
                let (never, waits) = gorun::channel::<()>(0);
                let neighbour = gorun::go(move || {
                    begun.send(()).unwrap();
                    waits.recv()
                });
                begins.recv().unwrap();
                gorun::yield_now();
                neighbour.abort();
                if again {
                    // A second panic begins before the first is over.
                    let (panics, open) = waits_in_a_panic();
                    drop(open);
                    assert!(panics.join().unwrap_err().is_panic());
                }
                gorun::yield_now();
                assert!(!neighbour.is_finished(), "it might be the one that panics");
                drop(open);
                assert!(panics.join().unwrap_err().is_panic());
                assert!(neighbour.join().unwrap_err().is_aborted());
                drop(never);
            }
        });
    });
}

#[test]
fn isolated_neighbours_of_one_that_panics_see_nothing_of_it() {
    let Some(runtime) = runtime(ThreadLocals::Isolated, 1) else { return };
    runtime.run(|| {
        let (panics, open) = waits_in_a_panic();
        assert!(!std::thread::panicking());
        let (begun, begins) = gorun::channel(0);
        let (_tx, rx) = gorun::channel::<()>(0);
        let neighbour = gorun::go(move || {
            begun.send(()).unwrap();
            rx.recv()
        });
        begins.recv().unwrap();
        gorun::yield_now();
        neighbour.abort();
        assert!(neighbour.join().unwrap_err().is_aborted(), "while the other one still waits");
        drop(open);
        assert!(panics.join().unwrap_err().is_panic());
    });
}
