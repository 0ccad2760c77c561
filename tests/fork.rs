//! After `fork` without `exec`: the child has a default runtime and a blocking pool of its own, runtimes built before it say
//! so, a goroutine that forked goes on as a plain thread, and nothing stands still in silence.

#![allow(unsafe_code, reason = "forks")]

mod common;

use common::child::{is_child, passes, skip_isolated};
use common::forked::{fork, in_fork, wait_for};
use common::until;
use gorun::runtime::{Builder, ThreadLocals, isolation};
use std::cell::Cell;
use std::os::fd::FromRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// A bit of all that waits, on the default runtime and on a new one.
fn everything() {
    assert_eq!(gorun::go(|| 1 + 1).join().unwrap(), 2);
    let (tx, rx) = gorun::channel(0);
    let sends = gorun::go(move || (0..100).for_each(|n| tx.send(n).unwrap()));
    assert_eq!(rx.iter().sum::<i32>(), 4950);
    sends.join().unwrap();
    gorun::time::sleep(Duration::from_millis(1));
    gorun::go(|| gorun::time::sleep(Duration::from_millis(1))).join().unwrap();
    assert!(gorun::time::after(Duration::from_millis(1)).recv().is_ok());
    assert_eq!(gorun::go(|| gorun::blocking(|| 7)).join().unwrap(), 7);
    assert_eq!(gorun::scope(|s| s.go(|| 3).join().unwrap()), 3);
    let runtime = Builder::new().workers(2).build().unwrap();
    let many: Vec<_> = (0..200).map(|n| runtime.go(move || n).unwrap()).collect();
    assert_eq!(many.into_iter().map(|h| h.join().unwrap()).sum::<i32>(), 19_900);
    assert_eq!(runtime.run(|| gorun::go(|| 5).join().unwrap()), 5);
}

fn text(payload: &(dyn std::any::Any + Send)) -> String {
    let owned = payload.downcast_ref::<String>().cloned();
    owned.or_else(|| payload.downcast_ref::<&str>().map(|s| (*s).to_owned())).expect("a panic with a text")
}

#[test]
fn a_child_forked_before_the_first_goroutine_has_everything() {
    if is_child() {
        in_fork(everything);
        return everything();
    }
    passes("a_child_forked_before_the_first_goroutine_has_everything", &[]);
}

#[test]
fn a_child_forked_after_it_has_everything_anew() {
    if is_child() {
        everything();
        // Left over in the parent: a parked goroutine, a runtime with one, an idle thread for blocking calls.
        let (_keep, never) = gorun::channel::<()>(0);
        let _waits = gorun::go(move || never.recv().is_err());
        in_fork(|| {
            everything();
            // And a fork of the fork.
            in_fork(everything);
            everything();
        });
        return everything();
    }
    for mode in ["isolated", "pinned"] {
        passes("a_child_forked_after_it_has_everything_anew", &[("GORUN_THREAD_LOCALS", mode)]);
    }
}

#[test]
fn a_child_exits_normally() {
    if is_child() {
        everything();
        let runtime = Builder::new().workers(1).build().unwrap();
        let status = match fork() {
            Some(pid) => wait_for(pid),
            None => {
                everything();
                drop(runtime);
                std::process::exit(7)
            }
        };
        assert_eq!(status.code(), Some(7));
        return;
    }
    passes("a_child_exits_normally", &[]);
}

#[test]
fn what_was_made_before_the_fork_says_so() {
    if is_child() {
        let [a, b, c, d] = [(); 4].map(|()| Builder::new().workers(1).build().unwrap());
        let (_keep, never) = gorun::channel::<()>(0);
        let waits = a.go(move || never.recv().is_err()).unwrap();
        let finished = a.go(|| 9).unwrap();
        until(|| finished.is_finished());
        in_fork(|| {
            let refused = a.go(|| ()).unwrap_err().to_string();
            assert!(refused.contains("fork"), "{refused}");
            let panic = catch_unwind(AssertUnwindSafe(|| b.run(|| ()))).unwrap_err();
            assert!(text(&*panic).contains("fork"), "{}", text(&*panic));
            assert_eq!(finished.join().unwrap(), 9);
            // Its goroutine is in the parent only.
            let panic = catch_unwind(AssertUnwindSafe(|| waits.join())).unwrap_err();
            assert!(text(&*panic).contains("fork"), "{}", text(&*panic));
            assert!(c.shutdown(Duration::from_secs(3600)).is_ok());
            drop(d);
            drop(a);
            everything();
        });
        return;
    }
    passes("what_was_made_before_the_fork_says_so", &[]);
}

#[test]
fn a_goroutine_of_the_child_that_joins_one_of_the_parent_panics() {
    if is_child() {
        let (_keep, never) = gorun::channel::<()>(0);
        let waits = gorun::go(move || never.recv().is_err());
        in_fork(|| {
            let error = gorun::go(|| waits.join()).join().unwrap_err();
            assert!(text(&*error.into_panic().unwrap()).contains("fork"));
        });
        return;
    }
    passes("a_goroutine_of_the_child_that_joins_one_of_the_parent_panics", &[]);
}

#[test]
fn a_scope_forked_inside_ends_with_a_panic() {
    if is_child() {
        let (keep, never) = gorun::channel::<()>(0);
        let mut forked = None;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            gorun::scope(|s| {
                s.go(|| never.recv().is_err());
                forked = Some(fork());
                if forked == Some(None) {
                    // It could outlive what it borrows: here the scope does not wait.
                    let outlives = s.spawn(gorun::Builder::new(), || ());
                    assert!(
                        matches!(outlives, Err(gorun::SpawnError::Forked)),
                        "a goroutine of the child's in the parent's scope"
                    );
                }
                drop(keep);
            });
        }));
        match forked.unwrap() {
            Some(pid) => {
                assert!(outcome.is_ok());
                assert_eq!(wait_for(pid).code(), Some(3));
            }
            None => {
                let told = text(&*outcome.unwrap_err()).contains("fork");
                std::process::exit(if told { 3 } else { 4 });
            }
        }
        return;
    }
    passes("a_scope_forked_inside_ends_with_a_panic", &[]);
}

thread_local! {
    static MINE: Cell<u32> = const { Cell::new(0) };
}

gorun::goroutine_local! {
    static STORED: Cell<u32> = const { Cell::new(0) };
}

/// A goroutine that forks, and both halves of it go on.
fn forking(mode: ThreadLocals) {
    let (tx, rx) = gorun::channel::<i32>(0);
    let busy = Arc::new(AtomicBool::new(false));
    // A neighbour, which the child must not run a second time.
    let neighbour = gorun::go({
        let busy = busy.clone();
        move || {
            while !busy.load(Ordering::Acquire) {
                gorun::yield_now();
            }
            rx.iter().sum::<i32>()
        }
    });
    let forks = gorun::Builder::new().thread_locals(mode).go(move || {
        MINE.set(1);
        STORED.set(2);
        gorun::yield_now();
        let Some(pid) = fork() else {
            assert!(gorun::current().is_none(), "a plain thread in the child");
            assert_eq!((MINE.get(), STORED.get()), (1, 2));
            gorun::yield_now();
            everything();
            // It waits as a plain thread, for a goroutine of the child.
            let (tx, rx) = gorun::channel(0);
            let sends = gorun::go(move || tx.send(5).unwrap());
            assert_eq!(rx.recv(), Ok(5));
            sends.join().unwrap();
            let _locked = gorun::lock_os_thread();
            return -1;
        };
        assert_eq!(wait_for(pid).code(), Some(0), "the child ends when its goroutine does");
        assert!(gorun::current().is_some());
        busy.store(true, Ordering::Release);
        tx.send(11).unwrap();
        gorun::yield_now();
        1
    });
    assert_eq!(forks.unwrap().join().unwrap(), 1);
    assert_eq!(neighbour.join().unwrap(), 11);
}

#[test]
fn an_isolated_goroutine_that_forks_is_a_plain_thread_in_the_child() {
    if is_child() {
        if isolation().is_ok() {
            (0..5).for_each(|_| forking(ThreadLocals::Isolated));
        } else {
            skip_isolated();
        }
        return everything();
    }
    passes("an_isolated_goroutine_that_forks_is_a_plain_thread_in_the_child", &[("GORUN_MAXPROCS", "1")]);
    passes("an_isolated_goroutine_that_forks_is_a_plain_thread_in_the_child", &[("GORUN_MAXPROCS", "4")]);
}

#[test]
fn a_pinned_goroutine_that_forks_is_a_plain_thread_in_the_child() {
    if is_child() {
        (0..5).for_each(|_| forking(ThreadLocals::Pinned));
        return everything();
    }
    passes("a_pinned_goroutine_that_forks_is_a_plain_thread_in_the_child", &[("GORUN_MAXPROCS", "1")]);
    passes("a_pinned_goroutine_that_forks_is_a_plain_thread_in_the_child", &[("GORUN_MAXPROCS", "4")]);
}

#[test]
fn the_main_goroutine_may_fork_and_return() {
    if is_child() {
        let pid = gorun::run(|| {
            gorun::at_exit(|| ());
            fork()
        });
        // The child has ended where the goroutine did.
        assert_eq!(wait_for(pid.unwrap()).code(), Some(0));
        return;
    }
    passes("the_main_goroutine_may_fork_and_return", &[]);
}

#[test]
fn a_childs_goroutine_that_panics_ends_its_process_with_101() {
    if is_child() {
        for mode in [ThreadLocals::Pinned, gorun::runtime::Builder::new().build().unwrap().thread_locals()] {
            let (told, tells) = std::sync::mpsc::channel();
            let forks = gorun::Builder::new().thread_locals(mode).go(move || match fork() {
                None => panic!("in the child"),
                Some(pid) => told.send(pid).unwrap(),
            });
            forks.unwrap().join().unwrap();
            assert_eq!(wait_for(tells.recv().unwrap()).code(), Some(101));
        }
        return;
    }
    passes("a_childs_goroutine_that_panics_ends_its_process_with_101", &[]);
}

#[test]
fn handlers_and_destructors_of_the_forked_goroutine_run_in_both() {
    if is_child() {
        let mut ends = [0; 2];
        // SAFETY: a place for two descriptors.
        assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
        let pid = gorun::run(move || {
            // SAFETY: a byte of ours; into a pipe that nobody closes.
            gorun::at_exit(move || unsafe { assert_eq!(libc::write(ends[1], b"x".as_ptr().cast(), 1), 1) });
            fork()
        });
        assert!(wait_for(pid.unwrap()).success());
        // SAFETY: ours, and closed by nobody else.
        let mut read = unsafe {
            libc::close(ends[1]);
            std::fs::File::from_raw_fd(ends[0])
        };
        let mut all = String::new();
        std::io::Read::read_to_string(&mut read, &mut all).unwrap();
        assert_eq!(all, "xx");
        return;
    }
    passes("handlers_and_destructors_of_the_forked_goroutine_run_in_both", &[]);
}

#[test]
fn a_job_of_blocking_may_fork() {
    if is_child() {
        let pid = gorun::run(|| {
            gorun::blocking(|| {
                let pid = fork();
                if pid.is_none() {
                    everything();
                }
                pid
            })
        });
        assert_eq!(wait_for(pid.unwrap()).code(), Some(0), "the child ends with its job");
        return everything();
    }
    passes("a_job_of_blocking_may_fork", &[]);
}

/// As daemon(3): fork, setsid, fork. Runs `f` in the grandchild.
fn daemonise(f: impl FnOnce()) {
    let mut ends = [0; 2];
    // SAFETY: a place for two descriptors.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    in_fork(|| {
        // SAFETY: no preconditions.
        assert!(unsafe { libc::setsid() } > 0);
        if fork().is_none() {
            f();
            // SAFETY: a byte of ours; then the process ends.
            unsafe {
                libc::write(ends[1], b"!".as_ptr().cast(), 1);
                libc::_exit(0);
            }
        }
    });
    // SAFETY: ours, and closed by nobody else.
    let mut read = unsafe {
        libc::close(ends[1]);
        std::fs::File::from_raw_fd(ends[0])
    };
    let mut all = String::new();
    // Until the grandchild has ended, however it does.
    std::io::Read::read_to_string(&mut read, &mut all).unwrap();
    assert_eq!(all, "!", "the daemon has not come to its end");
}

#[test]
fn a_program_may_become_a_daemon_after_its_first_goroutine() {
    if is_child() {
        everything();
        daemonise(everything);
        gorun::run(|| daemonise(everything));
        gorun::Builder::new().thread_locals(ThreadLocals::Pinned).go(|| daemonise(everything)).unwrap().join().unwrap();
        return everything();
    }
    passes("a_program_may_become_a_daemon_after_its_first_goroutine", &[]);
}

/// What a child does that is forked 200 times.
fn a_little() {
    assert_eq!(gorun::go(|| gorun::blocking(|| 2)).join().unwrap(), 2);
    let (tx, rx) = gorun::channel(1);
    let all: Vec<_> = (0..300)
        .map(|n| {
            let tx = tx.clone();
            gorun::go(move || tx.send(n).unwrap())
        })
        .collect();
    drop(tx);
    assert_eq!(rx.iter().count(), 300);
    all.into_iter().for_each(|h| h.join().unwrap());
}

#[test]
fn two_hundred_forks_beside_threads_and_goroutines_that_spawn() {
    if is_child() {
        let stop = Arc::new(AtomicBool::new(false));
        let spawned = Arc::new(AtomicUsize::new(0));
        let spawners: Vec<_> = (0..3)
            .map(|i| {
                let (stop, spawned) = (stop.clone(), spawned.clone());
                std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let burst = move || {
                            let (tx, rx) = gorun::channel(1);
                            let handles: Vec<_> = (0..50)
                                .map(|n| {
                                    let tx = tx.clone();
                                    gorun::go(move || gorun::blocking(|| tx.send(n)).unwrap())
                                })
                                .collect();
                            drop(tx);
                            assert_eq!(rx.iter().count(), 50);
                            handles.into_iter().for_each(|h| h.join().unwrap());
                        };
                        if i == 0 {
                            burst()
                        } else {
                            gorun::go(burst).join().unwrap()
                        }
                        spawned.fetch_add(50, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        until(|| spawned.load(Ordering::Relaxed) > 0);
        for n in 0..200 {
            match n % 4 {
                0 => gorun::go(|| in_fork(a_little)).join().unwrap(),
                _ => in_fork(a_little),
            }
        }
        stop.store(true, Ordering::Relaxed);
        spawners.into_iter().for_each(|s| s.join().unwrap());
        return;
    }
    passes("two_hundred_forks_beside_threads_and_goroutines_that_spawn", &[]);
}

#[test]
fn forks_beside_runtimes_that_start_and_end() {
    if is_child() {
        let stop = Arc::new(AtomicBool::new(false));
        let starters: Vec<_> = (0..2)
            .map(|_| {
                let stop = stop.clone();
                std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        assert_eq!(gorun::run(|| gorun::go(|| 1).join().unwrap()), 1);
                    }
                })
            })
            .collect();
        // The first ones beside the first start of all.
        (0..100).for_each(|_| in_fork(a_little));
        stop.store(true, Ordering::Relaxed);
        starters.into_iter().for_each(|s| s.join().unwrap());
        return;
    }
    for _ in 0..5 {
        passes("forks_beside_runtimes_that_start_and_end", &[]);
    }
}

/// Forks when it is dropped, and tells who it was in the parent.
struct Forks(std::sync::mpsc::Sender<libc::pid_t>);

impl Drop for Forks {
    fn drop(&mut self) {
        if let Some(pid) = fork() {
            self.0.send(pid).unwrap();
        } else {
            assert!(gorun::current().is_none());
            everything();
        }
    }
}

thread_local! {
    static FORKS: Cell<Option<Forks>> = const { Cell::new(None) };
}

#[test]
fn a_goroutine_may_fork_on_its_way_out() {
    if is_child() {
        let (told, tells) = std::sync::mpsc::channel();
        let ended_well = || assert_eq!(wait_for(tells.recv().unwrap()).code(), Some(0));
        for mode in [ThreadLocals::Pinned, Builder::new().build().unwrap().thread_locals()] {
            let go = |f: Box<dyn FnOnce() -> Option<Forks> + Send>| {
                drop(gorun::Builder::new().thread_locals(mode).go(f).unwrap());
                ended_well();
            };
            // In a handler, in goroutine-local storage, and as a result that nobody takes.
            let forks = Forks(told.clone());
            go(Box::new(move || {
                gorun::at_exit(move || drop(forks));
                None
            }));
            let forks = Forks(told.clone());
            go(Box::new(move || {
                gorun::local::set("forks", forks);
                None
            }));
            let forks = Forks(told.clone());
            let (detach, detached) = gorun::channel::<()>(0);
            let ends = move || {
                let _closed = detached.recv();
                Some(forks)
            };
            drop(gorun::Builder::new().thread_locals(mode).go(ends).unwrap());
            drop(detach);
            ended_well();
        }
        if isolation().is_ok() {
            let forks = Forks(told.clone());
            gorun::go(move || FORKS.set(Some(forks))).join().unwrap();
            ended_well();
        } else {
            skip_isolated();
        }
        return everything();
    }
    passes("a_goroutine_may_fork_on_its_way_out", &[]);
}

#[test]
fn what_waits_for_a_timer_of_the_parent_does_not_hang() {
    if is_child() {
        let long = Duration::from_secs(3600);
        let never = || gorun::time::after(long);
        let (a, b, c, d, e) = (never(), never(), never(), never(), never());
        let ticker = gorun::time::Ticker::new(long);
        let timer = gorun::time::Timer::new(long);
        let _made = timer.channel();
        let rung = gorun::time::after(Duration::ZERO);
        let mut select = gorun::select::Select::new();
        select.recv(&rung);
        assert_eq!(select.ready(), 0);
        in_fork(|| {
            // As from a timer whose runtime has ended.
            assert!(a.recv().is_err());
            assert_eq!(b.recv_timeout(long), Err(gorun::chan::RecvTimeoutError::Closed));
            assert_eq!(c.try_recv(), Err(gorun::chan::TryRecvError::Closed));
            gorun::select! { recv(d) -> at => assert!(at.is_err()) }
            let mut select = gorun::select::Select::new();
            select.recv(&e);
            assert_eq!(select.ready(), 0);
            assert!(ticker.channel().recv().is_err());
            assert!(timer.channel().recv().is_err());
            // What had rung is there.
            assert!(rung.recv().is_ok());
            everything();
        });
        // In the parent nothing has changed.
        assert_eq!(a.try_recv(), Err(gorun::chan::TryRecvError::Empty));
        return;
    }
    passes("what_waits_for_a_timer_of_the_parent_does_not_hang", &[]);
}

#[test]
fn a_deadline_of_the_parents_holds_in_the_child() {
    if is_child() {
        let soon = Duration::from_millis(50);
        let (ctx, _cancel) = gorun::context::background().with_timeout_cause(soon, "too slow");
        let (derived, _cancel) = ctx.with_cancel();
        let (polled, _cancel) = ctx.with_cancel();
        let (kept, cancel) = gorun::context::background().with_timeout(Duration::from_secs(3600));
        in_fork(|| {
            assert!(derived.done().recv().is_err());
            assert_eq!(derived.cause().unwrap().to_string(), "too slow");
            until(|| polled.err().is_some());
            assert!(kept.err().is_none());
            cancel.cancel();
            assert!(kept.done().recv().is_err());
        });
        assert!(derived.done().recv().is_err());
        return;
    }
    passes("a_deadline_of_the_parents_holds_in_the_child", &[]);
}

/// Forks when it is woken, and tells how the child ended.
struct ForkOnWake(std::sync::mpsc::SyncSender<Option<i32>>);

impl std::task::Wake for ForkOnWake {
    fn wake(self: Arc<Self>) {
        if let Some(pid) = fork() {
            self.0.send(wait_for(pid).code()).unwrap();
        }
    }
}

#[test]
fn a_child_forked_by_a_waker_on_a_worker_ends_when_it_returns() {
    if is_child() {
        let (tells, told) = std::sync::mpsc::sync_channel(1);
        // A neighbour whose turn the child must not have a second time.
        let turns = gorun::go(|| (0..100).map(|_| gorun::time::sleep(Duration::from_millis(1))).count());
        let rung = gorun::time::after(Duration::from_millis(20));
        let mut waits = std::pin::pin!(rung.recv_async());
        let waker = std::task::Waker::from(Arc::new(ForkOnWake(tells)));
        assert!(waits.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending());
        assert_eq!(told.recv(), Ok(Some(0)));
        assert_eq!(turns.join().unwrap(), 100);
        return everything();
    }
    passes("a_child_forked_by_a_waker_on_a_worker_ends_when_it_returns", &[]);
}

/// In the child the goroutine's block is its thread's own, and the worker's is memory for other threads: neither `setuid`, which
/// has each thread change its ids, nor another fork may look there.
#[test]
fn in_the_child_a_thread_may_change_ids_and_the_forked_goroutine_fork_again() {
    if is_child() {
        if isolation().is_err() {
            return skip_isolated();
        }
        let forks = gorun::Builder::new().thread_locals(ThreadLocals::Isolated).go(move || {
            gorun::yield_now();
            in_fork(|| {
                let (end, ended) = std::sync::mpsc::channel::<()>();
                let more: Vec<_> = (0..4).map(|_| std::sync::mpsc::channel::<()>()).collect();
                let (keep, threads): (Vec<_>, Vec<_>) =
                    more.into_iter().map(|(keep, wait)| (keep, std::thread::spawn(move || wait.recv()))).unzip();
                let changes = std::thread::spawn(move || {
                    // SAFETY: the ids stay what they are.
                    let code = unsafe { libc::setuid(libc::getuid()) };
                    drop(end);
                    code
                });
                assert!(ended.recv().is_err());
                assert_eq!(changes.join().unwrap(), 0);
                in_fork(|| assert_eq!(std::thread::spawn(|| 1).join().unwrap(), 1));
                drop(keep);
                threads.into_iter().for_each(|one| assert!(one.join().unwrap().is_err()));
            });
        });
        return forks.unwrap().join().unwrap();
    }
    passes("in_the_child_a_thread_may_change_ids_and_the_forked_goroutine_fork_again", &[]);
}

/// glibc uses the memory of the worker's own block for new threads of the child. If the kernel went on writing a processor's number
/// there, for the thread that has forked, it would write into theirs.
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
#[test]
fn the_kernel_writes_no_processor_numbers_into_the_workers_block_in_the_child() {
    if is_child() {
        if isolation().is_err() {
            return skip_isolated();
        }
        let registers = || {
            #[repr(align(32))]
            struct Area([u32; 8]);
            const SIGNATURE: u32 = 0x5305_3053;
            let area = Box::leak(Box::new(Area([0; 8])));
            // SAFETY: memory of ours, for good. A thread has one such area at most; the kernel refuses another one.
            unsafe { libc::syscall(libc::SYS_rseq, area.0.as_mut_ptr(), 32, 0, SIGNATURE) == 0 }
        };
        let forks = gorun::Builder::new().thread_locals(ThreadLocals::Isolated).go(move || {
            gorun::yield_now();
            in_fork(|| assert!(registers(), "the worker's area is registered still"));
        });
        return forks.unwrap().join().unwrap();
    }
    passes("the_kernel_writes_no_processor_numbers_into_the_workers_block_in_the_child", &[]);
}
