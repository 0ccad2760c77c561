//! A select has chosen to send, and its value takes long to make: those who would receive keep their own time, and the
//! value is not lost.

mod common;

use common::{on_one_worker, others_wait, within};
use gorun::chan::{RecvTimeoutError, TryRecvError};
use gorun::context::background;
use gorun::select;
use gorun::time::{Duration, Instant, timeout};
use gorun::{Receiver, Sender, channel};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const SOON: Duration = Duration::from_millis(20);
/// The value is made then at the latest, for the sake of a test that fails.
const LATE: Duration = Duration::from_secs(20);

/// A select that sends 7 on a channel without capacity; its value is made when `gate` is closed.
struct Slow {
    rx: Receiver<i32>,
    gate: Sender<()>,
    making: Receiver<()>,
    sender: gorun::JoinHandle<bool>,
    start: Instant,
}

impl Slow {
    fn new() -> Slow {
        let (tx, rx) = channel(0);
        let (gate, gated) = channel::<()>(0);
        let (makes, making) = channel(1);
        let sender = gorun::go(move || {
            let (_other, others) = channel::<()>(0);
            select! {
                send(tx, { makes.send(()).unwrap(); let _ = gated.recv_timeout(LATE); 7 }) -> sent => sent.is_ok(),
                recv(others) -> _ => unreachable!("nobody sends"),
            }
        });
        Slow { rx, gate, making, sender, start: Instant::now() }
    }

    /// The value is made now; it was not waited for, and is there for the next one.
    fn end(self) {
        assert!(self.making.recv().is_ok());
        assert!(self.start.elapsed() < LATE / 2, "it has waited for the value");
        drop(self.gate);
        assert_eq!(self.rx.recv(), Ok(7));
        assert!(self.sender.join().unwrap());
        assert_eq!(self.rx.try_recv(), Err(TryRecvError::Closed));
    }
}

/// On a thread; and in a goroutine, which comes before the select, and after it.
fn each(receive: impl Fn(Receiver<i32>) + Send + 'static) {
    within(move || {
        let slow = Slow::new();
        receive(slow.rx.clone());
        slow.end();
        on_one_worker(move || {
            let slow = Slow::new();
            receive(slow.rx.clone());
            slow.end();
            let slow = Slow::new();
            others_wait();
            receive(slow.rx.clone());
            slow.end();
        });
    });
}

#[test]
fn a_receive_ends_at_its_time() {
    each(|rx| assert_eq!(rx.recv_timeout(SOON), Err(RecvTimeoutError::Timeout)));
}

#[test]
fn a_timeout_ends_at_its_time() {
    each(|rx| assert!(timeout(SOON, || rx.recv()).is_err()));
}

#[test]
fn a_select_ends_at_its_time() {
    each(|rx| {
        select! {
            recv(rx) -> _ => panic!("the value is not made"),
            default(SOON) => {}
        }
    });
}

#[test]
fn an_abort_ends_a_receive() {
    within(|| {
        let slow = Slow::new();
        let rx = slow.rx.clone();
        let receiver = gorun::go(move || rx.recv());
        // They have met: the value is being made.
        while slow.making.is_empty() {
            gorun::yield_now();
        }
        receiver.abort();
        assert!(receiver.join().unwrap_err().is_aborted());
        slow.end();
    });
}

#[test]
fn a_context_ends_a_select() {
    each(|rx| {
        let (context, _cancel) = background().with_timeout(SOON);
        select! {
            recv(rx) -> _ => panic!("the value is not made"),
            recv(context.done()) -> _ => {}
        }
    });
}

/// Who does not wait may have to be given the time to meet the other side; not the time that its value takes.
#[test]
fn those_who_do_not_wait_do_not_wait_for_the_value() {
    within(|| {
        let slow = Slow::new();
        while slow.making.is_empty() {
            select! {
                recv(slow.rx) -> _ => panic!("the value is not made"),
                default => gorun::yield_now(),
            }
        }
        slow.end();
        let slow = Slow::new();
        while slow.making.is_empty() {
            assert_eq!(slow.rx.try_recv(), Err(TryRecvError::Empty));
            gorun::yield_now();
        }
        slow.end();
    });
}

/// A receive without a deadline gets the value, however late it is.
#[test]
fn a_receive_waits_for_as_long_as_it_takes() {
    within(|| {
        let slow = Slow::new();
        let rx = slow.rx.clone();
        let receiver = gorun::go(move || rx.recv());
        assert!(slow.making.recv().is_ok());
        gorun::time::sleep(5 * SOON);
        drop(slow.gate);
        assert_eq!(receiver.join().unwrap(), Ok(7));
        assert!(slow.sender.join().unwrap());
    });
}

/// Panics without a message: thousands of them would bury the test's own.
fn no_value(round: usize) -> i32 {
    std::panic::resume_unwind(Box::new(round))
}

/// Each promise that is not kept costs a receiver no stack.
#[test]
fn promises_that_are_not_kept_use_no_stack() {
    const ROUNDS: usize = 5_000;
    within(|| {
        let (tx, rx) = channel(0);
        let receiver = gorun::go(move || rx.recv());
        for round in 0..ROUNDS {
            let promise = || select! { send(tx, no_value(round)) -> _ => {} };
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(promise)).is_err());
        }
        tx.send(7).unwrap();
        assert_eq!(receiver.join().unwrap(), Ok(7));
    });
}

/// Many selects wait to send on one channel, and none of them gets its value made in time.
const CROWD: usize = 100;

/// Calls `receive` with the channel and the number of selects that were chosen so far, which stays far below that of all.
fn beside_a_crowd(receive: impl FnOnce(Receiver<i32>, Arc<AtomicUsize>) + Send + 'static) {
    within(|| {
        on_one_worker(|| {
            let (tx, rx) = channel(0);
            let (gate, gated) = channel::<()>(0);
            let (begun, chosen) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            for _ in 0..CROWD {
                let (tx, gated, begun, chosen) = (tx.clone(), gated.clone(), begun.clone(), chosen.clone());
                gorun::go(move || {
                    begun.fetch_add(1, Ordering::SeqCst);
                    let value = || {
                        chosen.fetch_add(1, Ordering::SeqCst);
                        let _ = gated.recv_timeout(LATE);
                        7
                    };
                    select! { send(tx, value()) -> _ => {} }
                });
            }
            // There is one worker, so those who have begun wait by now.
            while begun.load(Ordering::SeqCst) < CROWD {
                gorun::yield_now();
            }
            receive(rx.clone(), chosen.clone());
            let chosen = chosen.load(Ordering::SeqCst);
            assert!(chosen < CROWD / 2, "the call has waited for {chosen} of {CROWD}");
            drop((rx, gate));
        });
    });
}

#[test]
fn a_receive_beside_a_crowd_ends_at_its_time() {
    beside_a_crowd(|rx, _| assert_eq!(rx.recv_timeout(SOON), Err(RecvTimeoutError::Timeout)));
}

#[test]
fn a_receive_that_does_not_wait_is_no_longer_with_a_crowd() {
    beside_a_crowd(|rx, _| assert_eq!(rx.try_recv(), Err(TryRecvError::Empty)));
}

#[test]
fn a_select_beside_a_crowd_ends_at_its_time() {
    beside_a_crowd(|rx, _| {
        let taken = select! { recv(rx) -> value => Some(value), default(SOON) => None };
        assert_eq!(taken, None);
    });
}

#[test]
fn a_select_that_does_not_wait_is_no_longer_with_a_crowd() {
    beside_a_crowd(|rx, _| {
        let taken = select! { recv(rx) -> value => Some(value), default => None };
        assert_eq!(taken, None);
    });
}

#[test]
fn an_abort_ends_a_receive_beside_a_crowd() {
    beside_a_crowd(|rx, chosen| {
        let receiver = gorun::go(move || rx.recv());
        while chosen.load(Ordering::SeqCst) == 0 {
            gorun::yield_now();
        }
        receiver.abort();
        assert!(receiver.join().unwrap_err().is_aborted());
    });
}

#[test]
fn an_abort_ends_a_select_beside_a_crowd() {
    beside_a_crowd(|rx, chosen| {
        let receiver = gorun::go(move || select! { recv(rx) -> value => value });
        while chosen.load(Ordering::SeqCst) == 0 {
            gorun::yield_now();
        }
        receiver.abort();
        assert!(receiver.join().unwrap_err().is_aborted());
    });
}
