//! Channels from futures: with other futures, goroutines and threads, and dropped at every point.
//!
//! Polled by hand where the point matters, by an executor where not.

mod common;

use common::within;
use futures_lite::{StreamExt, future};
use gorun::chan::{RecvError, SendError, TryRecvError, TrySendError};
use gorun::select::Select;
use gorun::{channel, select};
use std::cell::RefCell;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

/// Counts its wake-ups.
#[derive(Default)]
struct Counts(AtomicUsize);

impl Wake for Counts {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Counts {
    fn woken(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn poll<F: Future>(future: Pin<&mut F>, counts: &Arc<Counts>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(&Waker::from(counts.clone())))
}

#[test]
fn futures_goroutines_and_threads_talk_over_one_channel() {
    within(|| {
        for capacity in [0, 1, 16] {
            let (tx, rx) = channel(capacity);
            let (back_tx, back) = channel(capacity);
            let echo = thread::spawn(move || {
                future::block_on(async {
                    let mut incoming = pin!(rx.stream());
                    while let Some(n) = incoming.next().await {
                        back_tx.send_async(n + 1u64).await.unwrap();
                    }
                });
            });
            let goroutine = gorun::go({
                let (tx, back) = (tx.clone(), back.clone());
                move || (0..500).map(|n| (tx.send(n).unwrap(), back.recv().unwrap()).1).sum::<u64>()
            });
            let sum = future::block_on(async {
                let mut sum = 0;
                for n in 500..1000 {
                    tx.send_async(n).await.unwrap();
                    sum += back.recv_async().await.unwrap();
                }
                sum
            });
            assert_eq!(sum + goroutine.join().unwrap(), (1..=1000).sum());
            drop(tx);
            echo.join().unwrap();
        }
    });
}

#[test]
fn a_future_is_woken_when_it_is_served_and_by_its_last_waker() {
    let (tx, rx) = channel(0);
    let (first, last) = (Arc::new(Counts::default()), Arc::new(Counts::default()));
    let mut receive = pin!(rx.recv_async());
    assert_eq!(poll(receive.as_mut(), &first), Poll::Pending);
    assert_eq!(poll(receive.as_mut(), &last), Poll::Pending);
    assert_eq!(Arc::strong_count(&first), 1, "a waker that was replaced is dropped");
    assert_eq!(tx.try_send(1), Ok(()));
    assert_eq!((first.woken(), last.woken()), (0, 1));
    assert_eq!(poll(receive.as_mut(), &last), Poll::Ready(Ok(1)));

    let mut send = pin!(tx.send_async(2));
    assert_eq!(poll(send.as_mut(), &first), Poll::Pending);
    assert_eq!(poll(send.as_mut(), &first), Poll::Pending);
    assert_eq!(rx.try_recv(), Ok(2));
    assert_eq!(first.woken(), 1);
    assert_eq!(poll(send.as_mut(), &first), Poll::Ready(Ok(())));
}

#[test]
fn a_close_reaches_those_who_wait() {
    let counts = Arc::new(Counts::default());
    let (tx, rx) = channel::<i32>(0);
    let mut receive = pin!(rx.recv_async());
    let mut stream = rx.stream();
    assert_eq!(poll(receive.as_mut(), &counts), Poll::Pending);
    assert_eq!(poll(pin!(stream.next()), &counts), Poll::Pending);
    tx.close();
    assert_eq!(counts.woken(), 2);
    assert_eq!(poll(receive.as_mut(), &counts), Poll::Ready(Err(RecvError)));
    assert_eq!(poll(pin!(stream.next()), &counts), Poll::Ready(None));

    let (tx, rx) = channel(0);
    let mut send = pin!(tx.send_async(5));
    assert_eq!(poll(send.as_mut(), &counts), Poll::Pending);
    drop(rx);
    assert_eq!(counts.woken(), 3);
    assert_eq!(poll(send.as_mut(), &counts), Poll::Ready(Err(SendError(5))));
    let again = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| poll(send.as_mut(), &counts)));
    assert!(again.is_err(), "its value is gone");
}

/// The user's code in it: it runs where the channel is closed.
struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        std::panic::resume_unwind(Box::new("waker"));
    }
}

#[test]
fn a_waker_that_panics_keeps_nobody_from_being_woken() {
    let counts = Arc::new(Counts::default());
    let (tx, rx) = channel::<i32>(0);
    let mut futures: Vec<_> = (0..50).map(|_| Box::pin(rx.recv_async())).collect();
    for (n, future) in futures.iter_mut().enumerate() {
        let waker = if n == 3 { Waker::from(Arc::new(Panics)) } else { Waker::from(counts.clone()) };
        assert_eq!(future.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Pending);
    }
    tx.close();
    assert_eq!(counts.woken(), 49);
    assert!(futures.iter_mut().all(|f| poll(f.as_mut(), &counts) == Poll::Ready(Err(RecvError))));
}

#[test]
fn a_dropped_sending_future_has_not_sent() {
    let counts = Arc::new(Counts::default());
    for capacity in [0, 1] {
        let (tx, rx) = channel(capacity);
        let value = Arc::new(());
        (0..capacity).for_each(|_| tx.try_send(value.clone()).unwrap());
        {
            let mut send = pin!(tx.send_async(value.clone()));
            assert!(poll(send.as_mut(), &counts).is_pending());
        }
        assert_eq!(Arc::strong_count(&value), 1 + capacity);
        assert_eq!(rx.try_iter().count(), capacity);
        // Served before it is dropped: it has.
        (0..capacity).for_each(|_| tx.try_send(value.clone()).unwrap());
        {
            let mut send = pin!(tx.send_async(value.clone()));
            assert!(poll(send.as_mut(), &counts).is_pending());
            assert!(rx.try_recv().is_ok());
        }
        assert_eq!(rx.try_iter().count(), capacity);
    }
}

#[test]
fn a_value_given_to_a_dropped_future_is_not_lost_and_stays_in_order() {
    let counts = Arc::new(Counts::default());
    for capacity in [0, 3] {
        let (tx, rx) = channel(capacity);
        {
            let mut receive = pin!(rx.recv_async());
            assert_eq!(poll(receive.as_mut(), &counts), Poll::Pending);
            assert_eq!(tx.try_send(1), Ok(()));
            let _later = (0..capacity as i32).map(|n| tx.try_send(2 + n).unwrap()).count();
        }
        assert_eq!(rx.len(), 1 + capacity);
        assert_eq!(tx.try_send(9), Err(TrySendError::Full(9)));
        assert!(rx.try_iter().eq(1..2 + capacity as i32));
        // To the next who waits, if there is one.
        let mut next = pin!(rx.recv_async());
        {
            let mut receive = pin!(rx.recv_async());
            assert_eq!(poll(receive.as_mut(), &counts), Poll::Pending);
            assert_eq!(poll(next.as_mut(), &counts), Poll::Pending);
            assert_eq!(tx.try_send(7), Ok(()));
        }
        assert_eq!(poll(next.as_mut(), &counts), Poll::Ready(Ok(7)));
        // One that was not served leaves nothing behind.
        {
            let mut receive = pin!(rx.recv_async());
            assert_eq!(poll(receive.as_mut(), &counts), Poll::Pending);
        }
        assert_eq!(tx.try_send(8).is_ok(), capacity > 0);
        assert_eq!(rx.try_recv().is_ok(), capacity > 0);
        // After a close it is still there.
        {
            let mut receive = pin!(rx.recv_async());
            assert_eq!(poll(receive.as_mut(), &counts), Poll::Pending);
            assert_eq!(tx.try_send(6), Ok(()));
            tx.close();
        }
        assert_eq!((rx.recv(), rx.recv()), (Ok(6), Err(RecvError)));
    }
}

/// A select that sends has chosen the future, whose value is still to be made.
#[test]
fn a_future_that_was_promised_a_value() {
    let counts = Arc::new(Counts::default());
    // What the future does meanwhile: nothing; is polled; is dropped. And whether the value is made in the end.
    for meanwhile in 0..3 {
        for made in [true, false] {
            let (tx, rx) = channel(0);
            let before = counts.woken();
            let mut receive = Some(Box::pin(rx.recv_async()));
            assert_eq!(poll(receive.as_mut().unwrap().as_mut(), &counts), Poll::Pending);
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                select! {
                    send(tx, {
                        match meanwhile {
                            0 => {}
                            1 => assert_eq!(poll(receive.as_mut().unwrap().as_mut(), &counts), Poll::Pending),
                            _ => receive = None,
                        }
                        assert_eq!(counts.woken(), before, "there is nothing yet");
                        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
                        if !made {
                            std::panic::resume_unwind(Box::new(()));
                        }
                        4
                    }) -> sent => sent,
                    default => unreachable!(),
                }
            }));
            assert_eq!(outcome.is_ok(), made);
            let Some(mut receive) = receive else {
                // As if it had been dropped with the value in hand.
                assert_eq!(rx.try_recv().ok(), made.then_some(4));
                continue;
            };
            assert_eq!(counts.woken(), before + 1);
            if made {
                assert_eq!(poll(receive.as_mut(), &counts), Poll::Ready(Ok(4)));
            } else {
                assert_eq!(poll(receive.as_mut(), &counts), Poll::Pending);
                assert_eq!(tx.try_send(5), Ok(()));
                assert_eq!(poll(receive.as_mut(), &counts), Poll::Ready(Ok(5)));
            }
        }
    }
}

/// A select that sends waits, and a future comes to receive.
#[test]
fn a_future_meets_a_waiting_select() {
    within(|| {
        gorun::runtime::Builder::new().workers(1).build().unwrap().run(|| {
            let (tx, rx) = channel(0);
            for dropped in [false, true] {
                let counts = Arc::new(Counts::default());
                let sender = gorun::go({
                    let tx = tx.clone();
                    move || select! { send(tx, 3) -> sent => sent.unwrap() }
                });
                (0..10).for_each(|_| gorun::yield_now());
                let mut receive = Some(Box::pin(rx.recv_async()));
                assert_eq!(poll(receive.as_mut().unwrap().as_mut(), &counts), Poll::Pending);
                if dropped {
                    receive = None;
                }
                sender.join().unwrap();
                match receive {
                    Some(mut receive) => {
                        assert_eq!(counts.woken(), 1);
                        assert_eq!(poll(receive.as_mut(), &counts), Poll::Ready(Ok(3)));
                    }
                    None => assert_eq!(rx.try_recv(), Ok(3)),
                }
            }
        });
    });
}

#[test]
fn futures_are_send_and_streams_unpin() {
    fn send<T: Send>(_: &T) {}
    fn unpin<T: Unpin>(_: &T) {}
    let (tx, rx) = channel::<std::cell::Cell<u8>>(0);
    send(&tx.send_async(0.into()));
    send(&rx.recv_async());
    let stream = rx.into_stream();
    send(&stream);
    unpin(&stream);
}

thread_local! {
    static MEANWHILE: RefCell<Vec<Box<dyn FnOnce()>>> = const { RefCell::new(Vec::new()) };
}

/// Does what there is to do, on the thread that wakes.
struct Does;

impl Wake for Does {
    fn wake(self: Arc<Self>) {
        let next = MEANWHILE.with_borrow_mut(Vec::pop);
        next.map(|f| f()).unwrap_or_default();
    }
}

/// A close wakes one after the other, without the lock: those whose turn is still to come are not served in between.
#[test]
fn a_close_that_is_under_way_is_a_close() {
    let does = |future: Pin<&mut dyn Future<Output = _>>| {
        assert!(future.poll(&mut Context::from_waker(&Waker::from(Arc::new(Does)))).is_pending());
    };
    for capacity in [0, 1] {
        let (tx, rx) = channel(capacity);
        (0..capacity).for_each(|n| tx.try_send(n).unwrap());
        let (mut first, mut second) = (Box::pin(tx.send_async(10)), Box::pin(tx.send_async(11)));
        does(first.as_mut());
        does(second.as_mut());
        let (looks, expected) = (rx.clone(), (0..capacity).map(Ok).chain([Err(TryRecvError::Closed)]));
        let expected: Vec<_> = expected.collect();
        MEANWHILE.with_borrow_mut(|m| {
            m.push(Box::new(move || assert!(expected.into_iter().all(|expected| looks.try_recv() == expected))));
        });
        tx.close();
        assert!(MEANWHILE.with_borrow(Vec::is_empty));
        assert_eq!(future::block_on(first), Err(SendError(10)));
        assert_eq!(future::block_on(second), Err(SendError(11)));
    }

    // Two receivers are promised values, and both values come when one receiver has been woken and the other not yet.
    let (tx, rx): &'static _ = Box::leak(Box::new(channel(0)));
    let (mut first, mut second) = (Box::pin(rx.recv_async()), Box::pin(rx.recv_async()));
    for future in [first.as_mut(), second.as_mut()] {
        assert!(future.poll(&mut Context::from_waker(&Waker::from(Arc::new(Does)))).is_pending());
    }
    let mut set = Select::new();
    set.send(tx);
    let (one, other) = (set.select(), set.select());
    MEANWHILE.with_borrow_mut(|m| {
        m.push(Box::new(|| {
            assert_eq!(one.send(tx, 1), Err(SendError(1)));
            assert_eq!(other.send(tx, 2), Err(SendError(2)));
        }));
    });
    tx.close();
    assert!(MEANWHILE.with_borrow(Vec::is_empty));
    assert_eq!(future::block_on(first), Err(RecvError));
    assert_eq!(future::block_on(second), Err(RecvError));
}

#[test]
fn who_gives_up_a_sending_future_learns_whether_it_was_received() {
    let poll = |sending: Pin<&mut gorun::chan::SendFuture<'_, String>>| {
        std::future::Future::poll(sending, &mut std::task::Context::from_waker(std::task::Waker::noop())).is_ready()
    };
    let value = || String::from("value");
    for capacity in [0, 1] {
        let (tx, rx) = channel(capacity);
        (0..capacity).for_each(|_| tx.send(String::from("first")).unwrap());
        // Never polled.
        assert_eq!(pin!(tx.send_async(value())).withdraw(), Some(value()));
        // Polled, and nobody has received.
        let mut sending = pin!(tx.send_async(value()));
        assert!(!poll(sending.as_mut()));
        assert_eq!(sending.as_mut().withdraw(), Some(value()));
        assert_eq!(sending.as_mut().withdraw(), None, "it has been given back");
        // Polled, and received (or moved into the buffer by a receive) before it is polled again.
        let mut sending = pin!(tx.send_async(value()));
        assert!(!poll(sending.as_mut()));
        assert_eq!(rx.recv().unwrap(), if capacity == 0 { value() } else { String::from("first") });
        assert_eq!(sending.as_mut().withdraw(), None, "capacity {capacity}: it was sent");
        if capacity == 1 {
            assert_eq!(rx.recv(), Ok(value()));
        }
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        // Closed meanwhile.
        (0..capacity).for_each(|_| tx.send(String::from("first")).unwrap());
        let mut sending = pin!(tx.send_async(value()));
        assert!(!poll(sending.as_mut()));
        rx.close();
        assert_eq!(sending.as_mut().withdraw(), Some(value()));
    }
    // What has told of its end has nothing to give back.
    let (tx, rx) = channel(1);
    let mut sending = pin!(tx.send_async(value()));
    assert!(poll(sending.as_mut()));
    assert_eq!((sending.as_mut().withdraw(), rx.recv()), (None, Ok(value())));
}

#[test]
fn a_dropped_sending_future_may_have_sent() {
    // What the documentation of `send_async` says.
    let (tx, rx) = channel(0);
    let mut sending = Box::pin(tx.send_async("value"));
    assert!(future::block_on(future::poll_once(sending.as_mut())).is_none());
    assert_eq!(rx.try_recv(), Ok("value"));
    drop(sending);
    let mut sending = Box::pin(tx.send_async("value"));
    assert!(future::block_on(future::poll_once(sending.as_mut())).is_none());
    drop(sending);
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
}
