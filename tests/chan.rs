//! Channels from the outside: Go's rules for them one by one. What aborts and drops do is in
//! `chan_loss`, futures are in `chan_async`.
//!
//! The Go specification (version of Go 1.24) and the Go memory model (June 6, 2022) are the source; each test says which
//! sentence of which section it holds to. What can't be said here is at the end of docs/porting-from-go.md. A channel
//! that loses a wake-up hangs its test; `within` turns that into a failure.

mod common;

use common::{until, within};
use gorun::chan::{Receiver, RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError};
use gorun::sync::WaitGroup;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const HOUR: Duration = Duration::from_secs(3600);

// Go spec, Channel types: "If the capacity is zero or absent, the channel is unbuffered and communication succeeds only when
// both a sender and receiver are ready." Send statements: "Communication blocks until the send can proceed." Making slices,
// maps and channels: "make(T) channel: unbuffered channel of type T".
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

// Go spec, Channel types: "Otherwise, the channel is buffered and communication succeeds without blocking if the buffer is
// not full (sends) or not empty (receives)." And: "The capacity, in number of elements, sets the size of the buffer in the
// channel." Send statements: "A send on a buffered channel can proceed if there is room in the buffer." Length and capacity:
// len is the "number of elements queued in channel buffer", cap the "channel buffer capacity".
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

// Go spec, Channel types: "Channels act as first-in-first-out queues. For example, if one goroutine sends values on a channel
// and a second goroutine receives them, the values are received in the order sent." Also over the buffer's end, with a sender
// waiting.
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

// Go spec, Receive operator: "A receive operation on a closed channel can always proceed immediately, yielding the element
// type's zero value after any previously sent values have been received." Here an error instead of a zero value: it is what
// `ok` is in Go, "true if the value received was delivered by a successful send operation to the channel, or false if it is a
// zero value generated because the channel is closed and empty". Channel types: the two-valued form "reports whether a
// received value was sent before the channel was closed".
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

// Go spec, Comparison operators: "Two channel values are equal if they were created by the same call to make".
#[test]
fn handles_of_one_channel_are_the_same() {
    let (tx, rx) = gorun::channel::<u8>(2);
    assert!(tx.same_channel(&tx.clone()) && rx.same_channel(&rx.clone()));
    let (other_tx, other_rx) = gorun::channel(2);
    assert!(!tx.same_channel(&other_tx) && !rx.same_channel(&other_rx));
}

#[test]
fn a_channel_closes_with_its_last_sender_or_receiver_and_no_sooner() {
    let (tx, rx) = gorun::channel(2);
    let (tx2, rx2) = (tx.clone(), rx.clone());
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

// Go memory model, Channel communication: "A send on a channel is synchronized before the completion of the corresponding
// receive from that channel." And: "It allows a counting semaphore to be modeled by a buffered channel", as "the kth receive
// on a channel with capacity C is synchronized before the completion of the k+Cth send".
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

// Go spec, Receive operator: "Receiving from a nil channel blocks forever." Channel types: "A nil channel is never ready for
// communication." For statements with range clause: "If the channel is nil, the range expression blocks forever." Length and
// capacity: "The length of a nil slice, map or channel is 0. The capacity of a nil slice or channel is 0."
#[test]
fn never_is_silent_and_stays_open() {
    within(|| {
        let rx = gorun::never::<u8>();
        assert_eq!((rx.len(), rx.capacity()), (0, 0));
        assert!(!rx.same_channel(&gorun::never()), "each is one of its own");
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
        let ranges = gorun::go(move || other.into_iter().count());
        (0..10).for_each(|_| gorun::yield_now());
        assert!(!ranges.is_finished());
        ranges.abort();
        assert!(ranges.join().unwrap_err().is_aborted());
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

// Go spec, Send statements: "A send on a closed channel proceeds by causing a run-time panic." Here an error with the value.
// Close: "the built-in function close records that no more values will be sent on the channel", and "Sending to or closing a
// closed channel causes a run-time panic." Here closing again does nothing.
#[test]
fn what_panics_in_go_is_an_error_or_nothing_here() {
    let (tx, rx) = gorun::channel(1);
    tx.close();
    assert_eq!(tx.send("kept"), Err(SendError("kept")));
    tx.close();
    rx.close();
    assert_eq!(tx.try_send("kept"), Err(TrySendError::Closed("kept")));
    assert_eq!(rx.recv(), Err(RecvError));
}

// Go spec, For statements with range clause: "For channels, the iteration values produced are the successive values sent on
// the channel until the channel is closed."
#[test]
fn a_range_takes_values_until_the_close() {
    within(|| {
        let (tx, rx) = gorun::channel(0);
        let ranges = gorun::go(move || {
            let mut seen = Vec::new();
            for n in rx {
                seen.push(n);
            }
            seen
        });
        (0..5).for_each(|n| tx.send(n).unwrap());
        tx.close();
        assert_eq!(ranges.join().unwrap(), [0, 1, 2, 3, 4]);
    });
}

// Go memory model, Channel communication: "The closing of a channel is synchronized before a receive that returns a zero value
// because the channel is closed." And: "A receive from an unbuffered channel is synchronized before the completion of the
// corresponding send on that channel." Its own examples, many times over.
#[test]
fn a_close_and_an_unbuffered_receive_are_edges() {
    within(|| {
        for n in 1..500 {
            let said = Arc::new(AtomicU64::new(0));
            let (tx, rx) = gorun::channel::<()>(0);
            let says = said.clone();
            gorun::go(move || {
                says.store(n, Ordering::Relaxed);
                tx.close();
            });
            assert_eq!(rx.recv(), Err(RecvError));
            assert_eq!(said.load(Ordering::Relaxed), n);

            let (tx, rx) = gorun::channel(0);
            let says = said.clone();
            gorun::go(move || {
                says.store(2 * n, Ordering::Relaxed);
                rx.recv()
            });
            tx.send(()).unwrap();
            assert_eq!(said.load(Ordering::Relaxed), 2 * n);
        }
    });
}

// Go spec, Send statements: "A send on an unbuffered channel can proceed if a receiver is ready." Receive operator: "The
// expression blocks until a value is available."
#[test]
fn a_waiting_receiver_is_ready() {
    within(|| {
        let runtime = gorun::runtime::Builder::new().workers(1).spare_workers(0).build().unwrap();
        runtime.run(|| {
            let (tx, rx) = gorun::channel(0);
            assert_eq!(tx.try_send(0), Err(TrySendError::Full(0)));
            let receiver = gorun::go(move || rx.recv());
            (0..20).for_each(|_| gorun::yield_now());
            assert!(!receiver.is_finished());
            assert_eq!(tx.try_send(1), Ok(()));
            assert_eq!(tx.try_send(2), Err(TrySendError::Full(2)), "it has its value");
            assert_eq!(receiver.join().unwrap(), Ok(1));
        });
    });
}

// Go spec, Send statements: "Both the channel and the value expression are evaluated before communication begins."
#[test]
fn the_value_is_there_before_communication_begins() {
    within(|| {
        let (tx, rx) = gorun::channel(0);
        let told = Arc::new(AtomicUsize::new(0));
        let waiting = gorun::go({
            let (tx, told) = (tx.clone(), told.clone());
            move || tx.send(told.fetch_add(1, Ordering::SeqCst))
        });
        // Nobody receives yet, and it has been evaluated.
        until(|| told.load(Ordering::SeqCst) == 1);
        assert_eq!(rx.recv(), Ok(0));
        waiting.join().unwrap().unwrap();
        // And where it comes to nothing, nothing has begun.
        let no_value = || -> usize { std::panic::resume_unwind(Box::new("no value")) };
        let failing = gorun::go(move || tx.send(no_value()));
        assert!(failing.join().unwrap_err().is_panic());
        assert_eq!(rx.recv(), Err(RecvError));
    });
}

// Go spec, Channel types: "A single channel may be used in send statements, receive operations, and calls to the built-in
// functions cap and len by any number of goroutines without further synchronization."
#[test]
fn everybody_may_use_it_at_once() {
    within(|| {
        const EACH: usize = 300;
        let (tx, rx) = gorun::channel(3);
        let looks: Vec<_> = (0..2)
            .map(|_| {
                let (tx, rx) = (tx.clone(), rx.clone());
                gorun::go(move || {
                    for _ in 0..EACH {
                        assert!(tx.len() <= 3 && rx.len() <= 3 && tx.capacity() == 3);
                        gorun::yield_now();
                    }
                })
            })
            .collect();
        let sums: Vec<_> = (0..4)
            .map(|_| {
                let rx = rx.clone();
                gorun::go(move || rx.iter().sum::<usize>())
            })
            .collect();
        for n in 0..4 {
            let tx = tx.clone();
            gorun::go(move || (0..EACH).for_each(|i| tx.send(n * EACH + i).unwrap()));
        }
        drop((tx, rx));
        looks.into_iter().for_each(|l| l.join().unwrap());
        let sum: usize = sums.into_iter().map(|s| s.join().unwrap()).sum();
        assert_eq!(sum, (0..4 * EACH).sum());
    });
}

// Go spec, Close: "After calling close, and after any previously sent values have been received, receive operations will
// return the zero value for the channel's type without blocking." Here an error; every time, for everybody.
#[test]
fn receives_after_a_close_never_wait() {
    within(|| {
        let (tx, rx) = gorun::channel(1);
        tx.send(7).unwrap();
        tx.close();
        let all: Vec<_> = (0..3)
            .map(|_| {
                let rx = rx.clone();
                gorun::go(move || [rx.recv(), rx.recv()])
            })
            .collect();
        let received = all.into_iter().flat_map(|r| r.join().unwrap()).filter(|r| *r == Ok(7)).count();
        assert_eq!(received, 1);
        assert_eq!(rx.recv(), Err(RecvError));
    });
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
