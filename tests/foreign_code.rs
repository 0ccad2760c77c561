//! Code that is not ours, in every place where it can run: it waits, spawns, panics, stores, and calls the very object.
//!
//! The places are rows of `docs/foreign-code.md`, in its order; a test is named after its row. What is foreign does one of
//! [`ACTS`], in both modes and on one worker, on which nobody else could go on if it were held up. `foreign_objects.rs` has
//! the rest of the rows.

#![allow(unsafe_code, reason = "a waker made by hand")]

mod common;

use common::foreign::{Act, each, until_yielding};
use common::{counter, others_wait, within};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker};
use std::time::Duration;

/// Where in a waker's life it acts.
#[derive(Clone, Copy, PartialEq)]
enum When {
    Wake,
    Drop,
}

/// A waker that acts once, and counts.
struct Foreign {
    when: When,
    act: Act,
    acted: Arc<AtomicUsize>,
}

impl Foreign {
    fn act(&self, when: When) {
        if self.when == when {
            self.acted.fetch_add(1, Ordering::SeqCst);
            self.act.run();
        }
    }
}

impl Wake for Foreign {
    fn wake(self: Arc<Self>) {
        self.act(When::Wake);
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        self.act(When::Drop);
    }
}

fn waker(when: When, act: Act) -> (Waker, impl Fn() -> usize) {
    let (acted, count) = counter();
    (Waker::from(Arc::new(Foreign { when, act, acted })), count)
}

/// Polls with a waker that is the future's alone afterwards.
fn poll<F: Future>(future: Pin<&mut F>, waker: Waker) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(&waker))
}

fn quiet<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    poll(future, Waker::noop().clone())
}

mod a_waker_that_is_woken {
    use super::*;

    #[test]
    fn by_the_end_of_a_joined_goroutine() {
        each(|act| {
            let (waker, woken) = waker(When::Wake, act);
            let (go_on, goes_on) = gorun::channel::<()>(0);
            let mut handle = pin!(gorun::go(move || goes_on.recv().is_err()));
            assert!(poll(handle.as_mut(), waker).is_pending());
            drop(go_on);
            others_wait();
            until_yielding(|| woken() == 1);
            assert!(matches!(quiet(handle), Poll::Ready(Ok(true))));
        });
    }

    #[test]
    fn by_a_send() {
        each(|act| {
            for capacity in [0, 1] {
                let (waker, woken) = waker(When::Wake, act);
                let (tx, rx) = gorun::channel(capacity);
                let mut receive = pin!(rx.recv_async());
                assert!(poll(receive.as_mut(), waker).is_pending());
                assert_eq!(tx.send(5), Ok(()));
                assert_eq!((woken(), quiet(receive)), (1, Poll::Ready(Ok(5))));
            }
        });
    }

    #[test]
    fn by_a_future_that_sends() {
        each(|act| {
            let (waker, woken) = waker(When::Wake, act);
            let (tx, rx) = gorun::channel(0);
            let mut receive = pin!(rx.recv_async());
            assert!(poll(receive.as_mut(), waker).is_pending());
            assert_eq!(quiet(pin!(tx.send_async(5))), Poll::Ready(Ok(())));
            assert_eq!((woken(), quiet(receive)), (1, Poll::Ready(Ok(5))));
        });
    }

    #[test]
    fn by_a_receive() {
        each(|act| {
            for capacity in [0, 1] {
                let (waker, woken) = waker(When::Wake, act);
                let (tx, rx) = gorun::channel(capacity);
                (0..capacity).for_each(|n| tx.send(n).unwrap());
                let mut send = pin!(tx.send_async(9));
                assert!(poll(send.as_mut(), waker).is_pending());
                let got: Vec<_> = (0..=capacity).map(|_| rx.recv().unwrap()).collect();
                assert_eq!(got.last(), Some(&9));
                assert_eq!((woken(), quiet(send)), (1, Poll::Ready(Ok(()))));
            }
        });
    }

    #[test]
    fn by_a_select_from_either_side() {
        each(|act| {
            let (waker, woken) = waker(When::Wake, act);
            let (tx, rx) = gorun::channel(0);
            let mut receive = pin!(rx.recv_async());
            assert!(poll(receive.as_mut(), waker).is_pending());
            gorun::select! { send(tx, 5) -> sent => sent.unwrap() }
            assert_eq!((woken(), quiet(receive)), (1, Poll::Ready(Ok(5))));

            let (waker, woken) = super::waker(When::Wake, act);
            let mut send = pin!(tx.send_async(6));
            assert!(poll(send.as_mut(), waker).is_pending());
            gorun::select! { recv(rx) -> got => assert_eq!(got, Ok(6)) }
            assert_eq!((woken(), quiet(send)), (1, Poll::Ready(Ok(()))));
        });
    }

    #[test]
    fn by_a_permit_that_is_given_back() {
        each(|act| {
            let (waker, woken) = waker(When::Wake, act);
            let (tx, rx) = gorun::channel(1);
            let mut select = gorun::select::Select::new();
            select.send(&tx);
            let operation = select.select();
            let mut send = pin!(tx.send_async(6));
            assert!(poll(send.as_mut(), waker).is_pending(), "the place is the operation's");
            assert!(catch_unwind(AssertUnwindSafe(|| drop(operation))).is_err(), "it says that it was to be completed");
            assert_eq!((woken(), rx.try_recv()), (1, Ok(6)));
        });
    }

    #[test]
    fn by_a_close_and_the_others_are_woken_too() {
        each(|act| {
            let (waker, woken) = waker(When::Wake, act);
            let (tx, rx) = gorun::channel::<u8>(0);
            let others: Vec<_> = (0..3).map(|_| rx.clone()).map(|rx| gorun::go(move || rx.recv())).collect();
            let mut receive = pin!(rx.recv_async());
            assert!(poll(receive.as_mut(), waker).is_pending());
            others_wait();
            let more: Vec<_> = (0..3).map(|_| rx.clone()).map(|rx| gorun::go(move || rx.recv())).collect();
            others_wait();
            drop(tx);
            assert!(others.into_iter().chain(more).all(|other| other.join().unwrap().is_err()));
            assert_eq!((woken(), quiet(receive).is_ready()), (1, true));
        });
    }

    #[test]
    fn by_a_cancel_and_all_descendants_are_canceled() {
        each(|act| {
            let (waker, woken) = waker(When::Wake, act);
            let (root, cancel) = gorun::context::background().with_cancel();
            let children: Vec<_> = (0..3).map(|_| root.with_cancel()).collect();
            let mut done = pin!(children[1].0.done().recv_async());
            assert!(poll(done.as_mut(), waker).is_pending());
            let grandchildren: Vec<_> = children.iter().map(|(child, _)| child.with_cancel()).collect();
            cancel.cancel();
            assert_eq!(woken(), 1);
            assert!(children.iter().chain(&grandchildren).all(|(ctx, _)| ctx.err().is_some()));
        });
    }

    #[test]
    fn by_a_timer_on_the_worker() {
        each(|act| {
            // On the worker itself, which is a plain thread then: where it waits, it waits as one.
            let (waker, woken) = waker(When::Wake, act);
            let timer = gorun::time::after(Duration::from_millis(1));
            let mut receive = pin!(timer.recv_async());
            assert!(poll(receive.as_mut(), waker).is_pending());
            until_yielding(|| woken() == 1);
            assert!(quiet(receive).is_ready());
        });
    }

    #[test]
    fn and_calls_the_very_channel() {
        struct Again(gorun::Sender<u32>, gorun::Receiver<u32>);
        impl Wake for Again {
            fn wake(self: Arc<Self>) {
                self.0.try_send(2).unwrap();
                assert_eq!((self.1.len(), self.1.try_recv()), (1, Ok(2)));
                self.0.close();
            }
        }
        within(|| {
            let (tx, rx) = gorun::channel(1);
            let mut receive = pin!(rx.recv_async());
            assert!(poll(receive.as_mut(), Waker::from(Arc::new(Again(tx.clone(), rx.clone())))).is_pending());
            assert_eq!((tx.send(1), quiet(receive)), (Ok(()), Poll::Ready(Ok(1))));
            assert!(tx.is_closed());
        });
    }

    /// An abort that reaches a goroutine in somebody else's waker ends it at its next wait, and not the waker's caller's
    /// operation.
    #[test]
    fn and_is_aborted_there() {
        struct Sleeps(std::sync::mpsc::Sender<()>);
        impl Wake for Sleeps {
            fn wake(self: Arc<Self>) {
                self.0.send(()).unwrap();
                gorun::time::sleep(Duration::from_secs(3600));
            }
        }
        within(|| {
            let (tx, rx) = gorun::channel(0);
            let (slept, sleeps) = std::sync::mpsc::channel();
            let mut receive = Box::pin(rx.recv_async());
            assert!(poll(receive.as_mut(), Waker::from(Arc::new(Sleeps(slept)))).is_pending());
            let (told, tells) = std::sync::mpsc::channel();
            let sends = gorun::go(move || {
                told.send(tx.send(1)).unwrap();
                gorun::time::sleep(Duration::from_secs(3600));
            });
            sleeps.recv().unwrap();
            sends.abort();
            assert!(sends.join().unwrap_err().is_aborted());
            assert_eq!((tells.recv(), quiet(receive.as_mut())), (Ok(Ok(())), Poll::Ready(Ok(1))));
        });
    }
}

mod a_waker_that_is_let_go {
    use super::*;

    /// What was claimed is woken, and the value is where it should be.
    #[test]
    fn by_the_poll_that_receives() {
        each(|act| {
            let (waker, dropped) = waker(When::Drop, act);
            let (tx, rx) = gorun::channel(1);
            let mut receive = pin!(rx.recv_async());
            assert!(poll(receive.as_mut(), waker).is_pending());
            tx.send(5).unwrap();
            assert_eq!((dropped(), quiet(receive)), (1, Poll::Ready(Ok(5))));
        });
    }

    #[test]
    fn by_the_poll_that_replaces_it() {
        each(|act| {
            let (waker, dropped) = waker(When::Drop, act);
            let (tx, rx) = gorun::channel(1);
            let mut receive = pin!(rx.recv_async());
            assert!(poll(receive.as_mut(), waker).is_pending());
            assert!(quiet(receive.as_mut()).is_pending());
            tx.send(5).unwrap();
            assert_eq!((dropped(), quiet(receive)), (1, Poll::Ready(Ok(5))));
        });
    }

    /// The waker that is not needed goes; the receiver that was claimed is woken all the same, and who polls is told.
    #[test]
    fn by_a_poll_that_need_not_wait() {
        each(|act| {
            let (tx, rx) = gorun::channel(0);
            let receiver = gorun::go(move || rx.recv());
            others_wait();
            let sent = catch_unwind(AssertUnwindSafe(|| poll(pin!(tx.send_async(5)), fickle(act, Once::Drop))));
            assert!(matches!(sent, Ok(Poll::Ready(Ok(())))));
            assert_eq!(receiver.join().unwrap(), Ok(5));
            let sent = catch_unwind(AssertUnwindSafe(|| poll(pin!(tx.send_async(6)), fickle(act, Once::Drop))));
            assert!(matches!(sent, Ok(Poll::Ready(Err(gorun::chan::SendError(6))))));
        });
    }

    #[test]
    fn by_a_receiving_future_that_gives_its_value_to_the_next() {
        each(|act| {
            let (tx, rx) = gorun::channel(0);
            let mut receive = Box::pin(rx.recv_async());
            let (waker, dropped) = waker(When::Drop, act);
            assert!(poll(receive.as_mut(), waker).is_pending());
            // Promised: its waker is kept by what is due until the value comes.
            let (go_on, goes_on) = gorun::channel::<()>(0);
            let sends = gorun::go({
                let tx = tx.clone();
                move || gorun::select! { send(tx, { let _ = goes_on.recv(); 5 }) -> sent => sent.unwrap() }
            });
            others_wait();
            let next = gorun::go({
                let rx = rx.clone();
                move || rx.recv()
            });
            others_wait();
            assert!(catch_unwind(AssertUnwindSafe(|| drop(receive))).is_ok());
            drop(go_on);
            sends.join().unwrap();
            assert_eq!((next.join().unwrap(), dropped()), (Ok(5), 1));
        });
    }

    #[test]
    fn by_a_future_that_is_dropped_while_it_waits() {
        each(|act| {
            let (waker, dropped) = waker(When::Drop, act);
            let (tx, rx) = gorun::channel(0);
            let mut receive = Box::pin(rx.recv_async());
            assert!(poll(receive.as_mut(), waker).is_pending());
            // A field of the future's: its panic is the dropper's.
            let panicked = catch_unwind(AssertUnwindSafe(|| drop(receive))).is_err();
            assert_eq!((dropped(), panicked), (1, act == Act::Panics));
            assert!(tx.try_send(1).is_err(), "nobody waits");
        });
    }

    #[test]
    fn by_a_join_handle() {
        each(|act| {
            for joins in [false, true] {
                let (waker, dropped) = waker(When::Drop, act);
                let (go_on, goes_on) = gorun::channel::<()>(0);
                let mut handle = gorun::go(move || goes_on.recv().is_err());
                assert!(poll(Pin::new(&mut handle), waker).is_pending());
                if joins {
                    let opens = gorun::go(move || drop(go_on));
                    assert!(handle.join().unwrap());
                    opens.join().unwrap();
                } else {
                    drop(handle);
                }
                assert_eq!(dropped(), 1);
            }
        });
    }

    #[test]
    fn by_a_join_handle_that_is_polled_again() {
        each(|act| {
            let (waker, dropped) = waker(When::Drop, act);
            let (go_on, goes_on) = gorun::channel::<()>(0);
            let mut handle = gorun::go(move || goes_on.recv().is_err());
            assert!(poll(Pin::new(&mut handle), waker).is_pending());
            assert!(quiet(Pin::new(&mut handle)).is_pending());
            assert_eq!(dropped(), 1);
            drop(go_on);
            assert!(handle.join().unwrap());
        });
    }
}

mod a_waker_that_is_cloned {
    use super::*;

    /// Before anything has been done: the panic is the poll's.
    #[test]
    fn by_a_poll() {
        each(|act| {
            let (tx, rx) = gorun::channel(1);
            let acts = || fickle(act, Once::Clone);
            let panics = act == Act::Panics;
            let mut receive = pin!(rx.recv_async());
            let polled = catch_unwind(AssertUnwindSafe(|| poll(receive.as_mut(), acts())));
            assert_eq!(polled.map_err(drop), if panics { Err(()) } else { Ok(Poll::Pending) });
            tx.send(1).unwrap();
            assert_eq!(quiet(receive), Poll::Ready(Ok(1)));
            tx.send(2).unwrap();
            let mut send = pin!(tx.send_async(3));
            let polled = catch_unwind(AssertUnwindSafe(|| poll(send.as_mut(), acts())));
            assert_eq!(polled.map_err(drop), if panics { Err(()) } else { Ok(Poll::Pending) });
            assert_eq!(rx.recv(), Ok(2));
            assert_eq!((quiet(send), rx.recv()), (Poll::Ready(Ok(())), Ok(3)));
            let mut handle = gorun::go(|| 7);
            let polled = catch_unwind(AssertUnwindSafe(|| poll(Pin::new(&mut handle), acts())));
            match polled {
                Ok(Poll::Ready(value)) => assert_eq!(value.unwrap(), 7),
                Ok(Poll::Pending) | Err(_) => assert_eq!(handle.join().unwrap(), 7),
            }
        });
    }
}

/// What a [`fickle`] waker does once.
#[derive(Clone, Copy, PartialEq)]
enum Once {
    Clone,
    /// The drop of a clone, while others are there.
    Drop,
}

/// A waker that acts at its first clone, or at its first drop.
fn fickle(act: Act, once: Once) -> Waker {
    type Data = (Act, Once, AtomicUsize);
    static VTABLE: RawWakerVTable = RawWakerVTable::new(
        |data| {
            // SAFETY: leaked below.
            let (act, once, acted) = unsafe { &*data.cast::<Data>() };
            if *once == Once::Clone && acted.fetch_add(1, Ordering::SeqCst) == 0 {
                act.run();
            }
            RawWaker::new(data, &VTABLE)
        },
        |_| (),
        |_| (),
        |data| {
            // SAFETY: as above.
            let (act, once, acted) = unsafe { &*data.cast::<Data>() };
            if *once == Once::Drop && acted.fetch_add(1, Ordering::SeqCst) == 0 {
                act.run();
            }
        },
    );
    let data: &'static Data = Box::leak(Box::new((act, once, AtomicUsize::new(0))));
    // SAFETY: the functions do with the data, which is leaked, what they may from any thread.
    unsafe { Waker::from_raw(RawWaker::new(std::ptr::from_ref(data).cast(), &VTABLE)) }
}

#[test]
fn every_row_names_tests_that_exist() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(root.join("docs/foreign-code.md")).unwrap();
    let mut named = 0;
    for line in document.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| what")) {
        let cell = line.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let names: Vec<_> = cell.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "a row that nobody tries: {line}");
        // `file.rs::module::test`, or `::test` in the file before.
        let mut text = String::new();
        for name in names {
            let (file, path) = name.split_once("::").unwrap_or((name, ""));
            if !file.is_empty() {
                text = std::fs::read_to_string(root.join("tests").join(file)).unwrap_or_else(|_| panic!("{file}"));
            }
            let test = path.rsplit("::").next().unwrap();
            let is_there = [format!("fn {test}("), format!("fn {test}<")].iter().any(|name| text.contains(name));
            assert!(path.is_empty() || is_there, "{name}");
            named += 1;
        }
    }
    assert!(named > 50, "{named}");
}
