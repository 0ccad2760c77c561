//! Hundreds and thousands of goroutines that block their threads at once: the rest still begins, and goes on.

mod common;

use common::child::{in_mode, is_child, passes};
use common::stuck::{gate, goes_back, the_rest_goes_on};
use common::{until, within};
use gorun::runtime::{Builder, Runtime, ThreadLocals};
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

fn runtime(workers: usize) -> Runtime {
    Builder::new().workers(workers).build().unwrap()
}

/// Pinned goroutines that have begun stay behind what is stuck on their thread: so these are about isolated ones.
fn isolated(workers: usize) -> Option<Runtime> {
    in_mode(Builder::new().workers(workers), ThreadLocals::Isolated)
}

/// So many goroutines block in the kernel, and what is spawned after them begins and goes on.
fn blocked_and_the_rest(blocked: usize) {
    let runtime = runtime(2);
    let (shut, open) = gate();
    let began = Arc::new(AtomicUsize::new(0));
    let all: Vec<_> = (0..blocked)
        .map(|_| {
            let (open, began) = (open.clone(), began.clone());
            runtime.go(move || {
                began.fetch_add(1, Ordering::SeqCst);
                open.wait();
            })
        })
        .collect();
    // Behind all of them.
    runtime.go(|| ()).unwrap().join().unwrap();
    until(|| began.load(Ordering::SeqCst) == blocked);
    the_rest_goes_on(&runtime);
    // Each of them has a thread, which the monitor finds stuck at one of its looks.
    until(|| runtime.metrics().stuck_workers >= blocked);
    assert!(!runtime.metrics().refused_workers);
    drop(shut);
    all.into_iter().for_each(|g| g.unwrap().join().unwrap());
    the_rest_goes_on(&runtime);
}

#[test]
fn two_hundred_that_sleep_hold_up_nobody() {
    within(|| blocked_and_the_rest(200));
}

#[test]
fn four_hundred_that_sleep_hold_up_nobody() {
    within(|| blocked_and_the_rest(400));
}

#[test]
fn two_thousand_that_sleep_hold_up_nobody() {
    within(|| blocked_and_the_rest(2000));
}

/// So many goroutines that have begun all want a lock of std's, and its holder waits for a message of a goroutine that has
/// not begun.
fn all_want_a_std_mutex(n: usize) {
    let Some(runtime) = isolated(2) else { return };
    let lock = Arc::new(Mutex::new(0));
    let began = Arc::new(AtomicUsize::new(0));
    let (message, messages) = gorun::channel::<()>(0);
    let (start, started) = gorun::channel::<()>(0);
    let held = lock.clone();
    let (holds, is_held) = std::sync::mpsc::channel();
    let holder = runtime.go(move || {
        let mut held = held.lock().unwrap();
        holds.send(()).unwrap();
        messages.recv().unwrap();
        *held += 1;
    });
    is_held.recv().unwrap();
    let all: Vec<_> = (0..n)
        .map(|_| {
            let (lock, began, started) = (lock.clone(), began.clone(), started.clone());
            runtime.go(move || {
                began.fetch_add(1, Ordering::SeqCst);
                // Until it is closed.
                let _ = started.recv();
                *lock.lock().unwrap() += 1;
            })
        })
        .collect();
    until(|| began.load(Ordering::SeqCst) == n);
    drop(start);
    until(|| runtime.metrics().stuck_workers >= 2);
    let sends = runtime.go(move || message.send(()).unwrap());
    holder.unwrap().join().unwrap();
    sends.unwrap().join().unwrap();
    all.into_iter().for_each(|g| g.unwrap().join().unwrap());
    assert_eq!(*lock.lock().unwrap(), n + 1);
}

#[test]
fn three_hundred_begun_ones_want_a_std_mutex_that_is_held_over_a_wait() {
    within(|| all_want_a_std_mutex(300));
}

#[test]
fn two_thousand_begun_ones_want_a_std_mutex_that_is_held_over_a_wait() {
    within(|| all_want_a_std_mutex(2000));
}

#[test]
fn a_chat_over_blocking_sockets_with_many_who_say_nothing() {
    within(|| {
        const CLIENTS: usize = 250;
        let runtime = runtime(2);
        let (mut ours, theirs): (Vec<_>, Vec<_>) = (0..CLIENTS).map(|_| UnixStream::pair().unwrap()).unzip();
        let readers: Vec<_> = theirs
            .into_iter()
            .map(|mut socket| {
                runtime.go(move || {
                    let mut line = [0; 4];
                    while socket.read_exact(&mut line).is_ok() {
                        socket.write_all(&line).unwrap();
                    }
                })
            })
            .collect();
        // The last one, who came when all the others were silent already.
        let last = ours.last_mut().unwrap();
        let mut answer = [0; 4];
        for _ in 0..3 {
            last.write_all(b"talk").unwrap();
            last.read_exact(&mut answer).unwrap();
            assert_eq!(answer, *b"talk");
        }
        drop(ours);
        readers.into_iter().for_each(|r| r.unwrap().join().unwrap());
    });
}

/// As with a database: each goroutine has a connection of its own, and blocks for a few milliseconds at a time.
#[test]
fn many_that_block_for_milliseconds_need_few_threads() {
    within(|| {
        const CLIENTS: usize = 500;
        const QUERIES: usize = 8;
        let runtime = runtime(2);
        let (servers, clients): (Vec<_>, Vec<_>) = (0..CLIENTS).map(|_| UnixStream::pair().unwrap()).unzip();
        let server = std::thread::spawn(move || answer_late(servers, Duration::from_millis(3)));
        let all: Vec<_> = clients
            .into_iter()
            .map(|mut socket| {
                runtime.go(move || {
                    let mut row = [0];
                    for query in 0..QUERIES as u8 {
                        socket.write_all(&[query]).unwrap();
                        socket.read_exact(&mut row).unwrap();
                        assert_eq!(row, [query]);
                    }
                })
            })
            .collect();
        all.into_iter().for_each(|g| g.unwrap().join().unwrap());
        server.join().unwrap();
        // 24 on a quiet machine with two processors; a loaded one looks as if reads took longer.
        let peak = runtime.metrics().peak_threads;
        assert!(peak < 150, "{peak} threads");
        goes_back(&runtime);
    });
}

/// Answers each byte after a while, until the other ends are closed.
#[expect(clippy::disallowed_methods, reason = "a plain thread")]
fn answer_late(sockets: Vec<UnixStream>, after: Duration) {
    sockets.iter().for_each(|socket| socket.set_nonblocking(true).unwrap());
    let mut due = VecDeque::new();
    let mut open: Vec<_> = sockets.iter().enumerate().collect();
    while !open.is_empty() {
        std::thread::sleep(Duration::from_millis(1));
        open.retain(|(i, socket)| {
            let (mut socket, mut query) = (*socket, [0]);
            match socket.read(&mut query) {
                Ok(0) => return false,
                Ok(_) => due.push_back((Instant::now() + after, *i, query)),
                Err(_) => {}
            }
            true
        });
        while due.front().is_some_and(|(at, ..)| *at <= Instant::now()) {
            let (_, i, query) = due.pop_front().unwrap();
            let _ = (&sockets[i]).write_all(&query);
        }
    }
}

#[test]
fn threads_go_back_also_while_some_stay_stuck() {
    within(|| {
        let runtime = runtime(2);
        let ((first, open), (second, other)) = (gate(), gate());
        let block = |n: usize, open: &common::stuck::Open| {
            (0..n).for_each(|_| {
                let open = open.clone();
                drop(runtime.go(move || open.wait()));
            });
        };
        block(1, &other);
        block(300, &open);
        until(|| runtime.metrics().stuck_workers == 301);
        drop(first);
        // The one that is stuck, and the two in its and the others' place.
        until(|| runtime.metrics().threads <= 3);
        drop(second);
        goes_back(&runtime);
    });
}

#[test]
fn others_print_when_who_held_standard_output_over_a_wait_lets_go() {
    if is_child() {
        static LOCKED: AtomicBool = AtomicBool::new(false);
        let Some(runtime) = isolated(2) else { return };
        runtime.run(|| {
            let holder = gorun::go(|| {
                let mut out = std::io::stdout().lock();
                LOCKED.store(true, Ordering::SeqCst);
                for _ in 0..10 {
                    gorun::time::sleep(Duration::from_millis(5));
                    writeln!(out, "held").unwrap();
                }
            });
            while !LOCKED.load(Ordering::SeqCst) {
                gorun::yield_now();
            }
            // Each blocks a worker.
            let others: Vec<_> =
                (0..400).map(|n| gorun::go(move || writeln!(std::io::stdout(), "line {n}").unwrap())).collect();
            others.into_iter().for_each(|one| one.join().unwrap());
            holder.join().unwrap();
        });
        return;
    }
    passes("others_print_when_who_held_standard_output_over_a_wait_lets_go", &[]);
}
