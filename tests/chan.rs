//! Channels from the outside: Go's rules for them one by one, then conservation under everything at once.
//!
//! The Go specification ("Channel types", "Send statements", "Receive operator", "Close", "Length and capacity") and
//! the Go memory model ("Channel communication") are the source; each test says what it holds to. A channel that
//! loses a wake-up hangs its test; `within` turns that into a failure.

use gorun::chan::{Receiver, RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError};
use gorun::sync::WaitGroup;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

const HOUR: Duration = Duration::from_secs(3600);
/// Long enough for a loaded machine, short enough to tell a hang.
const GENEROUS: Duration = Duration::from_secs(60);

/// Runs `f` on a thread of its own and fails when it has not ended in a generous time.
fn within<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let (told, tells) = mpsc::channel();
    let body = thread::spawn(move || {
        let _ = told.send(f());
    });
    match tells.recv_timeout(GENEROUS) {
        Ok(value) => value,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("nothing moves any more"),
        Err(mpsc::RecvTimeoutError::Disconnected) => match body.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => unreachable!("it sends before it ends"),
        },
    }
}

/// Waits, without sleeping, until `condition` holds.
fn until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < GENEROUS, "the condition never came true");
        thread::yield_now();
    }
}

/// A value that counts how often it is dropped.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn counter() -> (Arc<AtomicUsize>, impl Fn() -> usize) {
    let count = Arc::new(AtomicUsize::new(0));
    (count.clone(), move || count.load(Ordering::SeqCst))
}

/// A small random number generator; the seed is in the text of what fails.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

// "If the capacity is zero or absent, the channel is unbuffered and communication succeeds only when both a sender
// and receiver are ready." (Channel types)
#[test]
fn without_capacity_a_send_waits_for_its_receiver() {
    within(|| {
        let (tx, rx) = gorun::channel(0);
        assert_eq!(tx.try_send(1), Err(TrySendError::Full(1)));
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        let sent = Arc::new(AtomicUsize::new(0));
        let sender = gorun::go({
            let sent = sent.clone();
            move || {
                tx.send(2).unwrap();
                sent.fetch_add(1, Ordering::SeqCst);
            }
        });
        // Others run, many times over, and the sender still waits.
        for _ in 0..100 {
            gorun::go(|| ()).join().unwrap();
        }
        assert_eq!(sent.load(Ordering::SeqCst), 0);
        assert_eq!(rx.recv(), Ok(2));
        sender.join().unwrap();
        assert_eq!(sent.load(Ordering::SeqCst), 1);
    });
}

// "Otherwise, the channel is buffered and communication succeeds without blocking if the buffer is not full (sends)
// or not empty (receives)." (Channel types)
#[test]
fn with_capacity_sends_succeed_until_it_is_full_and_receives_until_it_is_empty() {
    let (tx, rx) = gorun::channel(3);
    assert!(rx.is_empty() && !rx.is_full());
    for n in 0..3 {
        assert_eq!((tx.len(), rx.len()), (n, n));
        tx.send(n).unwrap();
    }
    assert!(tx.is_full() && !tx.is_empty());
    assert_eq!(tx.try_send(3), Err(TrySendError::Full(3)));
    assert_eq!(rx.try_iter().collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    assert_eq!((tx.capacity(), rx.capacity(), rx.len()), (3, 3, 0));
}

// "Channels act as first-in-first-out queues." (Channel types): also over the buffer's end, with a sender waiting.
#[test]
fn values_come_out_in_the_order_they_went_in() {
    within(|| {
        for capacity in [0, 1, 2, 7] {
            let (tx, rx) = gorun::channel(capacity);
            let sender = gorun::go(move || (0..500).for_each(|n| tx.send(n).unwrap()));
            assert!(rx.iter().eq(0..500), "capacity {capacity}");
            sender.join().unwrap();
        }
    });
}

#[test]
fn waiting_senders_are_served_first_come_first_served() {
    within(|| {
        for capacity in [0, 1, 3] {
            // One worker: those that are spawned begin one after the other and wait in that order.
            let runtime = gorun::runtime::Builder::new().workers(1).build().unwrap();
            runtime.run(|| {
                let (tx, rx) = gorun::channel(capacity);
                let began = Arc::new(AtomicUsize::new(0));
                for n in 0..10 {
                    let (tx, counts) = (tx.clone(), began.clone());
                    gorun::go(move || {
                        counts.fetch_add(1, Ordering::SeqCst);
                        tx.send(n).unwrap();
                    });
                    while began.load(Ordering::SeqCst) <= n {
                        gorun::yield_now();
                    }
                }
                drop(tx);
                assert!(rx.iter().eq(0..10), "capacity {capacity}");
            });
        }
    });
}

#[test]
fn waiting_receivers_are_served_first_come_first_served() {
    within(|| {
        let runtime = gorun::runtime::Builder::new().workers(1).build().unwrap();
        runtime.run(|| {
            let (tx, rx) = gorun::channel(4);
            let began = Arc::new(AtomicUsize::new(0));
            let receivers: Vec<_> = (0..10)
                .map(|n| {
                    let (rx, counts) = (rx.clone(), began.clone());
                    let receiver = gorun::go(move || {
                        counts.fetch_add(1, Ordering::SeqCst);
                        rx.recv().unwrap()
                    });
                    while began.load(Ordering::SeqCst) <= n {
                        gorun::yield_now();
                    }
                    receiver
                })
                .collect();
            // Straight into the waiters' hands: more than the buffer takes, and nothing is ever in it.
            for n in 0..10 {
                tx.try_send(n).unwrap();
                assert_eq!(tx.len(), 0);
            }
            for (n, receiver) in receivers.into_iter().enumerate() {
                assert_eq!(receiver.join().unwrap(), n);
            }
        });
    });
}

// "A receive from a closed channel" yields what was sent, then fails at once. (Receive operator, Close)
#[test]
fn what_was_sent_before_the_close_is_received_after_it() {
    let (tx, rx) = gorun::channel(2);
    tx.send(1).unwrap();
    tx.send(2).unwrap();
    tx.close();
    rx.close();
    assert!(tx.is_closed() && rx.is_closed());
    assert_eq!(tx.send(3), Err(SendError(3)));
    assert_eq!(tx.try_send(3), Err(TrySendError::Closed(3)));
    assert_eq!(tx.send_timeout(3, HOUR), Err(SendTimeoutError::Closed(3)));
    assert_eq!((rx.recv(), rx.try_recv()), (Ok(1), Ok(2)));
    for _ in 0..2 {
        assert_eq!(rx.recv(), Err(RecvError));
        assert_eq!(rx.try_recv(), Err(TryRecvError::Closed));
        assert_eq!(rx.recv_timeout(HOUR), Err(RecvTimeoutError::Closed));
    }
}

#[test]
fn a_close_wakes_everyone_and_senders_get_their_values_back() {
    within(|| {
        for by_drop in [false, true] {
            let (tx, rx) = gorun::channel(1);
            tx.send(100).unwrap();
            let began = Arc::new(AtomicUsize::new(0));
            let body = |n: i32| {
                let (tx, began) = (tx.clone(), began.clone());
                move || {
                    began.fetch_add(1, Ordering::SeqCst);
                    tx.send(n).unwrap_err().into_inner()
                }
            };
            let goroutines: Vec<_> = (0..5).map(|n| gorun::go(body(n))).collect();
            let threads: Vec<_> = (5..10).map(|n| thread::spawn(body(n))).collect();
            until(|| began.load(Ordering::SeqCst) == 10);
            if by_drop {
                drop(rx)
            } else {
                rx.close()
            }
            let back: Vec<i32> = goroutines.into_iter().map(|g| g.join().unwrap()).collect();
            assert_eq!(back, [0, 1, 2, 3, 4]);
            let back: Vec<i32> = threads.into_iter().map(|t| t.join().unwrap()).collect();
            assert_eq!(back, [5, 6, 7, 8, 9]);

            let (tx, rx) = gorun::channel::<i32>(1);
            let began = Arc::new(AtomicUsize::new(0));
            let body = || {
                let (rx, began) = (rx.clone(), began.clone());
                move || {
                    began.fetch_add(1, Ordering::SeqCst);
                    rx.recv()
                }
            };
            let goroutines: Vec<_> = (0..5).map(|_| gorun::go(body())).collect();
            let threads: Vec<_> = (0..5).map(|_| thread::spawn(body())).collect();
            until(|| began.load(Ordering::SeqCst) == 10);
            if by_drop {
                drop(tx)
            } else {
                tx.close()
            }
            assert!(goroutines.into_iter().all(|g| g.join().unwrap() == Err(RecvError)));
            assert!(threads.into_iter().all(|t| t.join().unwrap() == Err(RecvError)));
        }
    });
}

#[test]
fn a_channel_closes_with_its_last_sender_or_receiver_and_no_sooner() {
    let (tx, rx) = gorun::channel(2);
    let (tx2, rx2) = (tx.clone(), rx.clone());
    assert!(tx.same_channel(&tx2) && rx.same_channel(&rx2));
    assert!(!tx.same_channel(&gorun::channel(2).0));
    drop((tx, rx));
    tx2.send(1).unwrap();
    assert_eq!(rx2.recv(), Ok(1));
    tx2.send(2).unwrap();
    drop(tx2);
    assert!(rx2.is_closed());
    assert_eq!((rx2.recv(), rx2.recv()), (Ok(2), Err(RecvError)));

    let (tx, rx) = gorun::channel(2);
    drop(rx);
    assert!(tx.is_closed());
    assert_eq!(tx.send(1), Err(SendError(1)));
}

#[test]
fn iterators_end_where_the_channel_does() {
    let (tx, rx) = gorun::channel(4);
    (0..4).for_each(|n| tx.send(n).unwrap());
    assert_eq!(rx.try_iter().take(1).collect::<Vec<_>>(), [0]);
    tx.close();
    let mut seen = Vec::new();
    for n in &rx {
        seen.push(n);
        if n == 2 {
            break;
        }
    }
    assert_eq!(seen, [1, 2]);
    let mut rest = rx.into_iter();
    assert_eq!((rest.next(), rest.next(), rest.next()), (Some(3), None, None));
}

#[test]
fn a_time_limit_ends_the_wait_and_gives_the_value_back() {
    within(|| {
        let wait = Duration::from_millis(5);
        let test = move || {
            let (tx, rx) = gorun::channel(1);
            let start = Instant::now();
            assert_eq!(rx.recv_timeout(wait), Err(RecvTimeoutError::Timeout));
            assert!(start.elapsed() >= wait);
            assert_eq!(tx.send_timeout(1, Duration::ZERO), Ok(()), "there is room");
            let start = Instant::now();
            assert_eq!(tx.send_timeout(2, wait), Err(SendTimeoutError::Timeout(2)));
            assert!(start.elapsed() >= wait);
            assert_eq!(tx.send_deadline(3, start), Err(SendTimeoutError::Timeout(3)));
            assert_eq!(rx.recv_deadline(start), Ok(1), "it is there");
            assert_eq!(rx.recv_deadline(start), Err(RecvTimeoutError::Timeout));
            // Those that gave up are out of the queues: nobody is handed anything.
            assert_eq!(tx.try_send(4), Ok(()));
            assert_eq!((tx.len(), rx.try_recv(), rx.try_recv()), (1, Ok(4), Err(TryRecvError::Empty)));
            // A time that the clock can't say is for ever.
            tx.send_timeout(5, Duration::MAX).unwrap();
            assert_eq!(rx.recv_timeout(Duration::MAX), Ok(5));
        };
        test();
        gorun::go(test).join().unwrap();
    });
}

#[test]
fn goroutines_and_plain_threads_meet_on_one_channel() {
    within(|| {
        for capacity in [0, 1, 16] {
            let (to_thread, from_goroutine) = gorun::channel(capacity);
            let (to_goroutine, from_thread) = gorun::channel(capacity);
            let echo = thread::spawn(move || {
                from_goroutine.iter().for_each(|n: u64| to_goroutine.send(n + 1).unwrap());
            });
            let sum = gorun::go(move || {
                (0..1000).fold(0, |sum, n| {
                    to_thread.send(n).unwrap();
                    sum + from_thread.recv().unwrap()
                })
            });
            assert_eq!(sum.join().unwrap(), (1..=1000).sum::<u64>());
            echo.join().unwrap();
        }
    });
}

// The memory model's example: "a send on a channel is synchronized before the completion of the corresponding
// receive", and "the kth receive ... before the completion of the k+Cth send" as a semaphore.
#[test]
fn a_channel_is_a_semaphore_and_an_edge() {
    within(|| {
        const LIMIT: usize = 3;
        let (acquire, release) = gorun::channel(LIMIT);
        let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let group = WaitGroup::new();
        for _ in 0..100 {
            let (acquire, release, inside, most) = (acquire.clone(), release.clone(), inside.clone(), most.clone());
            group.go(move || {
                acquire.send(()).unwrap();
                most.fetch_max(1 + inside.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
                gorun::yield_now();
                inside.fetch_sub(1, Ordering::SeqCst);
                release.recv().unwrap();
            });
        }
        group.wait();
        assert!((1..=LIMIT).contains(&most.load(Ordering::SeqCst)));

        let (tx, rx) = gorun::channel(0);
        let plain = Arc::new(AtomicU64::new(0));
        let writer = plain.clone();
        gorun::go(move || {
            for n in 1..=1000 {
                writer.store(n, Ordering::Relaxed);
                tx.send(n).unwrap();
            }
        });
        rx.iter().for_each(|n| assert!(plain.load(Ordering::Relaxed) >= n));
    });
}

#[test]
fn what_nobody_received_is_dropped_with_the_last_receiver() {
    let (count, dropped) = counter();
    let (tx, rx) = gorun::channel(8);
    (0..8).for_each(|_| tx.send(Counted(count.clone())).unwrap());
    let rx2 = rx.clone();
    drop(rx.recv().unwrap());
    drop(rx);
    assert_eq!(dropped(), 1);
    drop(rx2);
    assert_eq!(dropped(), 8, "at once, with senders still there");
    drop(tx.send(Counted(count.clone())));
    assert_eq!(dropped(), 9);
}

/// Its `Drop` uses the channel it lies in, and some of them panic.
struct Meddler {
    channel: gorun::Sender<Meddler>,
    panics: bool,
    count: Arc<AtomicUsize>,
}

impl Drop for Meddler {
    fn drop(&mut self) {
        // Deadlocks if the channel's lock is held.
        assert!(self.channel.is_closed());
        self.count.fetch_add(1, Ordering::SeqCst);
        if self.panics {
            std::panic::resume_unwind(Box::new("on purpose"));
        }
    }
}

#[test]
fn values_are_dropped_outside_the_lock_and_a_panicking_drop_loses_no_others() {
    within(|| {
        let (count, dropped) = counter();
        let (tx, rx) = gorun::channel(8);
        for n in 0..8 {
            tx.send(Meddler { channel: tx.clone(), panics: n == 2, count: count.clone() }).unwrap_or_else(|_| panic!());
        }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(rx)));
        assert_eq!(*outcome.unwrap_err().downcast::<&str>().unwrap(), "on purpose");
        assert_eq!(dropped(), 8);
        assert!(tx.is_closed());
    });
}

#[test]
fn an_abort_drops_the_value_that_waits_to_be_sent_once_and_leaves_the_queue_whole() {
    within(|| {
        for capacity in [0, 1] {
            let (count, dropped) = counter();
            let (tx, rx) = gorun::channel(capacity);
            (0..capacity).for_each(|_| tx.send(Counted(count.clone())).unwrap());
            let began = Arc::new(AtomicUsize::new(0));
            let senders: Vec<_> = (0..9)
                .map(|_| {
                    let (tx, began, value) = (tx.clone(), began.clone(), Counted(count.clone()));
                    gorun::go(move || {
                        began.fetch_add(1, Ordering::SeqCst);
                        tx.send(value).unwrap();
                    })
                })
                .collect();
            until(|| began.load(Ordering::SeqCst) == 9);
            senders.iter().step_by(2).for_each(gorun::JoinHandle::abort);
            let mut aborted = 0;
            let mut odd = Vec::new();
            for (n, sender) in senders.into_iter().enumerate() {
                if n % 2 == 0 {
                    assert!(sender.join().unwrap_err().is_aborted());
                    aborted += 1;
                } else {
                    odd.push(sender);
                }
            }
            assert_eq!(dropped(), aborted);
            // The others' values come through, and no more than those.
            drop(tx);
            let received: Vec<_> = rx.iter().collect();
            assert_eq!(received.len(), capacity + odd.len());
            odd.into_iter().for_each(|sender| sender.join().unwrap());
            drop(received);
            assert_eq!(dropped(), capacity + 9);
        }
    });
}

#[test]
fn an_aborted_receiver_has_received_nothing() {
    within(|| {
        let (tx, rx) = gorun::channel(0);
        for round in 0..200 {
            let receiver = gorun::go({
                let rx = rx.clone();
                move || rx.recv()
            });
            if round % 2 == 0 {
                gorun::go(|| ()).join().unwrap();
            }
            receiver.abort();
            // Either it has the value, or the value comes back: never both, never neither.
            let sent = tx.try_send(round);
            match receiver.join() {
                Ok(received) => {
                    assert_eq!(received, Ok(round));
                    assert_eq!(sent, Ok(()));
                }
                Err(error) => {
                    assert!(error.is_aborted());
                    assert_eq!(sent, Err(TrySendError::Full(round)));
                }
            }
        }
    });
}

#[test]
fn an_abort_strikes_before_an_operation_that_would_not_wait() {
    within(|| {
        let (tx, rx) = gorun::channel(1);
        let (go_on, waits) = mpsc::channel();
        let (told, tells) = mpsc::channel();
        let sender = gorun::go(move || {
            told.send(()).unwrap();
            waits.recv().unwrap(); // holds its thread: no cancellation point
            tx.send(1).unwrap();
        });
        tells.recv().unwrap();
        sender.abort();
        go_on.send(()).unwrap();
        assert!(sender.join().unwrap_err().is_aborted());
        assert_eq!(rx.recv(), Err(RecvError), "and the value is gone with it");
    });
}

// "Receiving from a nil channel blocks forever." (Receive operator)
#[test]
fn never_is_silent_and_stays_open() {
    within(|| {
        let rx = gorun::never::<u8>();
        let other = rx.clone();
        drop(rx);
        assert_eq!(other.try_recv(), Err(TryRecvError::Empty));
        let waits = gorun::go({
            let rx = other.clone();
            move || rx.recv()
        });
        assert_eq!(other.recv_timeout(Duration::from_millis(2)), Err(RecvTimeoutError::Timeout));
        assert!(!other.is_closed() && !waits.is_finished());
        waits.abort();
        assert!(waits.join().unwrap_err().is_aborted());
    });
}

#[test]
fn unbounded_never_waits() {
    let (tx, rx) = gorun::unbounded();
    assert_eq!((tx.capacity(), rx.capacity()), (usize::MAX, usize::MAX));
    (0..10_000).for_each(|n| tx.try_send(n).unwrap());
    assert!(!tx.is_full() && tx.len() == 10_000);
    tx.close();
    assert!(rx.into_iter().eq(0..10_000));
}

#[test]
fn errors_say_what_happened_and_convert() {
    let boxed: Box<dyn std::error::Error> = Box::new(SendError(1));
    assert_eq!(boxed.to_string(), "sending on a closed channel");
    assert_eq!(TrySendError::Full(()).to_string(), "sending on a full channel");
    assert_eq!(SendTimeoutError::Timeout(()).to_string(), "timed out sending on a channel");
    assert_eq!(RecvError.to_string(), "receiving from a closed and empty channel");
    assert_eq!(TryRecvError::Empty.to_string(), "receiving from an empty channel");
    assert_eq!(RecvTimeoutError::Timeout.to_string(), "timed out receiving from a channel");
    assert_eq!(TrySendError::from(SendError(1)), TrySendError::Closed(1));
    assert_eq!(SendTimeoutError::from(SendError(1)).into_inner(), 1);
    assert_eq!(TryRecvError::from(RecvError), TryRecvError::Closed);
    assert_eq!(RecvTimeoutError::from(RecvError), RecvTimeoutError::Closed);
}

#[test]
fn handles_go_where_their_values_may() {
    fn send_sync<T: Send + Sync>() {}
    send_sync::<gorun::Sender<std::cell::Cell<u8>>>();
    send_sync::<Receiver<std::cell::Cell<u8>>>();
    // Of any size, and of none.
    let (tx, rx) = gorun::channel(2);
    tx.send([7u64; 512]).unwrap();
    assert_eq!(rx.recv().unwrap(), [7; 512]);
    let (tx, rx) = gorun::channel(usize::MAX);
    (0..5000).for_each(|_| tx.send(()).unwrap());
    assert_eq!((rx.len(), rx.try_iter().count()), (5000, 5000));
}

const SENDERS: usize = 10;
const EACH: usize = 400;

/// What became of one value, each thing counted.
#[derive(Default)]
struct Fate {
    made: AtomicUsize,
    sent: AtomicUsize,
    came_back: AtomicUsize,
    received: AtomicUsize,
    dropped: AtomicUsize,
}

fn tick(count: &AtomicUsize) {
    count.fetch_add(1, Ordering::SeqCst);
}

/// A value with a number, whose drop is written down.
struct Numbered(usize, Arc<Vec<Fate>>);

impl Drop for Numbered {
    fn drop(&mut self) {
        tick(&self.1[self.0].dropped);
    }
}

/// Senders and receivers on goroutines and threads, with waits, tries and random time limits; a share of the
/// goroutines is aborted at random. In the end each value was received, or came back in its own sender's error, or
/// went with its aborted sender: one of the three, once; and it was dropped once.
fn conservation(capacity: usize, aborts: bool, seed: u64) {
    let fates: Arc<Vec<Fate>> = Arc::new((0..SENDERS * EACH).map(|_| Fate::default()).collect());
    let made = Arc::new(AtomicUsize::new(0));
    let (tx, rx) = gorun::channel::<Numbered>(capacity);
    let sender = |index: usize, seed: u64| {
        let (tx, fates, made) = (tx.clone(), fates.clone(), made.clone());
        move || {
            let mut random = Random(seed);
            for number in index * EACH..(index + 1) * EACH {
                tick(&made);
                tick(&fates[number].made);
                let value = Numbered(number, fates.clone());
                let sent = match random.below(4) {
                    0 => tx.send(value).map_err(SendError::into_inner),
                    1 => tx.try_send(value).map_err(TrySendError::into_inner),
                    _ => tx
                        .send_timeout(value, Duration::from_micros(random.below(50)))
                        .map_err(SendTimeoutError::into_inner),
                };
                // An abort unwinds out of an operation that did not happen, never out of one that did.
                match sent {
                    Ok(()) => tick(&fates[number].sent),
                    Err(value) => {
                        assert_eq!(value.0, number, "somebody else's value came back");
                        tick(&fates[number].came_back);
                    }
                }
            }
        }
    };
    let receiver = |seed: u64| {
        let (rx, fates) = (rx.clone(), fates.clone());
        move || {
            let mut random = Random(seed);
            loop {
                let received = match random.below(4) {
                    0 => rx.recv().map_err(|_| true),
                    1 => rx.try_recv().map_err(|e| e == TryRecvError::Closed),
                    _ => rx
                        .recv_timeout(Duration::from_micros(random.below(50)))
                        .map_err(|e| e == RecvTimeoutError::Closed),
                };
                match received {
                    Ok(value) => tick(&fates[value.0].received),
                    Err(true) => return,
                    Err(false) => gorun::yield_now(),
                }
            }
        }
    };
    let mut random = Random(seed);
    let mut seeds = || random.below(u64::MAX) | 1;
    let senders: Vec<_> = (0..8).map(|index| gorun::go(sender(index, seeds()))).collect();
    let receivers: Vec<_> = (0..6).map(|_| gorun::go(receiver(seeds()))).collect();
    let sender_threads: Vec<_> = (8..SENDERS).map(|index| thread::spawn(sender(index, seeds()))).collect();
    let receiver_threads: Vec<_> = (0..2).map(|_| thread::spawn(receiver(seeds()))).collect();
    drop((tx, rx));
    if aborts {
        // Spread over the run by its own progress. The threads go on, and see to it that it ends.
        for n in 0..5 {
            until(|| made.load(Ordering::SeqCst) > 300 * (n + 1) || senders[n].is_finished());
            senders[n].abort();
            receivers[n].abort();
        }
    }
    let ended = |(index, end): (usize, Result<(), gorun::JoinError>)| match end {
        Ok(()) => false,
        Err(error) => {
            assert!(error.is_aborted() && aborts && index < 5, "{error}");
            true
        }
    };
    let aborted: Vec<bool> = senders.into_iter().map(|g| g.join()).enumerate().map(ended).collect();
    sender_threads.into_iter().for_each(|t| t.join().unwrap());
    assert_eq!(receivers.into_iter().map(|g| g.join()).enumerate().map(ended).count(), 6);
    receiver_threads.into_iter().for_each(|t| t.join().unwrap());
    let mut lost_with_their_senders = [0; SENDERS];
    for (number, fate) in fates.iter().enumerate() {
        let [made, sent, came_back, received, dropped] =
            [&fate.made, &fate.sent, &fate.came_back, &fate.received, &fate.dropped].map(|c| c.load(Ordering::SeqCst));
        let what = format!("value {number}, capacity {capacity}, seed {seed}");
        assert_eq!(sent, received, "sent and received: {what}");
        assert_eq!(made, dropped, "made and dropped: {what}");
        assert!(sent + came_back <= made && made <= 1, "one fate: {what}");
        lost_with_their_senders[number / EACH] += made - sent - came_back;
        let finished = !aborted.get(number / EACH).copied().unwrap_or(false);
        assert!(!finished || made == 1, "never made: {what}");
    }
    for (index, lost) in lost_with_their_senders.into_iter().enumerate() {
        // An aborted sender takes with it the one value it was sending, if it was.
        assert!(lost <= usize::from(aborted.get(index).copied().unwrap_or(false)), "{lost} lost, seed {seed}");
    }
}

#[test]
fn nothing_is_lost_or_doubled_with_time_limits() {
    within(|| {
        for (seed, capacity) in [0, 1, 2, 16].into_iter().enumerate() {
            conservation(capacity, false, 0x9e37_79b9 + seed as u64);
        }
    });
}

#[test]
fn nothing_is_lost_or_doubled_with_time_limits_and_aborts() {
    within(|| {
        for (seed, capacity) in [0, 1, 2, 16].into_iter().enumerate() {
            conservation(capacity, true, 0x7f4a_7c15 + seed as u64);
        }
    });
}
