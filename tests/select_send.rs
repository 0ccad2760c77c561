//! What lies between the choice of a send arm and its value: whom it meets, what others see meanwhile, and what happens
//! when there is no value after all. And `Select`'s operations, which are completed later.

mod common;

use common::{GENEROUS, on_one_worker, others_wait, within};
use gorun::chan::{RecvError, SendError, TryRecvError};
use gorun::select::{ReadyTimeoutError, Select, SelectTimeoutError};
use gorun::{Receiver, Sender, channel, never, select};
use std::thread;
use std::time::Duration;

/// An expression for a value that does not come to one.
fn no_value() -> i32 {
    std::panic::resume_unwind(Box::new("no value"))
}

/// Each way in which a select that sends meets who receives, on a channel without capacity.
#[test]
fn a_select_that_sends_meets_every_kind_of_receiver() {
    within(|| {
        type Body = fn(Receiver<String>) -> Option<String>;
        let receivers: [Body; 5] = [
            |rx| rx.recv().ok(),
            |rx| rx.recv_timeout(GENEROUS).ok(),
            |rx| rx.iter().next(),
            |rx| select! { recv(never::<()>()) -> _ => None, recv(rx) -> v => v.ok() },
            |rx| {
                loop {
                    match rx.try_recv() {
                        Ok(value) => return Some(value),
                        Err(TryRecvError::Empty) => gorun::yield_now(),
                        Err(TryRecvError::Closed) => return None,
                    }
                }
            },
        ];
        for (kind, receiver) in receivers.into_iter().enumerate() {
            for select_first in [true, false] {
                let (tx, rx) = channel(0);
                let sends = || {
                    let tx = tx.clone();
                    move || {
                        select! {
                            recv(never::<()>()) -> _ => unreachable!(),
                            send(tx, { gorun::yield_now(); format!("to {kind}") }) -> sent => sent.unwrap(),
                        }
                    }
                };
                let receives = || {
                    let rx = rx.clone();
                    move || receiver(rx)
                };
                on_one_worker(|| {
                    let (sender, receiver) = if select_first {
                        let sender = gorun::go(sends());
                        others_wait();
                        (sender, gorun::go(receives()))
                    } else {
                        let receiver = gorun::go(receives());
                        others_wait();
                        (gorun::go(sends()), receiver)
                    };
                    assert_eq!(receiver.join().unwrap(), Some(format!("to {kind}")));
                    sender.join().unwrap();
                });
                // And from thread to thread.
                let (sender, receiver) = (thread::spawn(sends()), thread::spawn(receives()));
                assert_eq!(receiver.join().unwrap(), Some(format!("to {kind}")));
                sender.join().unwrap();
            }
        }
    });
}

/// The value's expression ends otherwise: nothing was sent, and whoever waited goes on waiting.
#[test]
fn a_value_that_is_not_made_is_not_sent() {
    within(|| {
        for (capacity, kind) in [(0, "recv"), (0, "select"), (1, "recv"), (1, "select")] {
            for receiver_first in [true, false] {
                on_one_worker(|| {
                    let (tx, rx) = channel::<i32>(capacity);
                    let receive = || {
                        let rx = rx.clone();
                        gorun::go(move || match kind {
                            "recv" => rx.recv(),
                            _ => select! { recv(never::<()>()) -> _ => unreachable!(), recv(rx) -> v => v },
                        })
                    };
                    let early = receiver_first.then(receive);
                    others_wait();
                    let leaves = |tx: &Sender<i32>| {
                        select! {
                            send(tx, if true { return false } else { 1 }) -> _ => true,
                            default => true,
                        }
                    };
                    let panics = gorun::go({
                        let tx = tx.clone();
                        move || {
                            select! {
                                send(tx, no_value()) -> _ => {}
                            }
                        }
                    });
                    others_wait();
                    let receiver = early.unwrap_or_else(receive);
                    others_wait();
                    assert!(panics.join().unwrap_err().is_panic());
                    assert!(!leaves(&tx), "the arm was chosen, and left");
                    others_wait();
                    assert!(!receiver.is_finished());
                    assert_eq!(tx.len(), 0);
                    tx.send(7).unwrap();
                    assert_eq!(receiver.join().unwrap(), Ok(7));
                    // The place is free again.
                    (0..capacity).for_each(|n| tx.try_send(n as i32).unwrap());
                    assert!(tx.try_send(9).is_err());
                });
            }
        }
    });
}

/// A place that a select has been promised is nobody else's, and a sender that waits for one gets it when it is given up.
#[test]
fn a_permit_is_a_place() {
    within(|| {
        on_one_worker(|| {
            let (tx, rx) = channel(1);
            let waits = gorun::go({
                let tx = tx.clone();
                let (other, stays) = (tx.clone(), rx.clone());
                move || {
                    let mut made = None;
                    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                        select! {
                            send(tx, {
                                // Chosen: there was room. Now there is none for others.
                                assert!(other.try_send(1).is_err() && stays.is_empty());
                                made = Some(gorun::go(move || other.send(2)));
                                others_wait();
                                assert!(!made.as_ref().unwrap().is_finished() && stays.is_empty());
                                no_value()
                            }) -> _ => unreachable!(),
                        }
                    }));
                    assert!(outcome.is_err());
                    made.unwrap().join().unwrap()
                }
            });
            assert_eq!(waits.join().unwrap(), Ok(()));
            assert_eq!(rx.try_recv(), Ok(2));
            // Closed while the value is made: it comes back, and who waited for it learns.
            for waits in [false, true] {
                let (tx, rx) = channel(0);
                let receiver = gorun::go({
                    let rx = rx.clone();
                    move || {
                        if waits {
                            rx.recv()
                        } else {
                            select! { recv(rx) -> v => v, recv(never::<()>()) -> _ => Ok(0) }
                        }
                    }
                });
                others_wait();
                let back = select! {
                    send(tx, { rx.close(); others_wait(); 3 }) -> sent => sent,
                };
                assert_eq!((back, receiver.join().unwrap()), (Err(SendError(3)), Err(RecvError)));
            }
            let back = select! {
                send(tx, { rx.close(); 3 }) -> sent => sent,
            };
            assert_eq!(back, Err(SendError(3)));
        });
    });
}

#[test]
fn a_selected_operation_is_to_be_completed() {
    within(|| {
        let (tx, rx) = channel(1);
        tx.send(1).unwrap();
        let mut set = Select::new();
        let recv = set.recv(&rx);
        // Dropped: it panics, and the value is where it was. So with another channel.
        let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(set.select())));
        assert!(dropped.unwrap_err().downcast_ref::<&str>().unwrap().contains("without being completed"));
        assert_eq!(rx.len(), 1);
        let (_other_tx, other) = channel::<i32>(1);
        let wrong = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| set.select().recv(&other)));
        assert!(wrong.is_err());
        // Two at once, and none mixed up.
        tx.try_send(9).unwrap_err();
        let first = set.select();
        tx.send(2).unwrap();
        let second = set.select();
        assert_eq!((first.index(), second.index()), (recv, recv));
        assert_eq!((second.recv(&rx), first.recv(&rx)), (Ok(2), Ok(1)));
        assert_eq!(set.select_timeout(Duration::from_millis(1)).unwrap_err(), SelectTimeoutError);
        set.remove(recv);
        let send = set.send(&tx);
        let operation = set.select();
        assert_eq!(operation.index(), send);
        assert!(tx.try_send(3).is_err(), "the place is taken");
        let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(operation)));
        assert!(dropped.is_err());
        assert_eq!(tx.try_send(3), Ok(()), "and given back");
    });
}

#[test]
fn readiness_is_told_and_nothing_is_done() {
    within(|| {
        for round in 0..30 {
            on_one_worker(|| {
                let (tx1, rx1) = channel(0);
                let (tx2, rx2) = channel(1);
                tx2.send(1).unwrap();
                let watcher = || {
                    let (rx1, tx2) = (rx1.clone(), tx2.clone());
                    move || {
                        let mut set = Select::new();
                        let (_recv, _send) = (set.recv(&rx1), set.send(&tx2));
                        set.ready()
                    }
                };
                let aborted = gorun::go(watcher());
                let watchers: Vec<_> = (0..20).map(|_| gorun::go(watcher())).collect();
                let thread = thread::spawn(watcher());
                others_wait();
                let mut set = Select::new();
                let recv = set.recv(&rx1);
                assert_eq!(set.ready_timeout(Duration::from_millis(1)), Err(ReadyTimeoutError));
                aborted.abort();
                assert!(aborted.join().unwrap_err().is_aborted());
                assert!(!watchers.iter().any(gorun::JoinHandle::is_finished));
                match round % 3 {
                    0 => {
                        let sender = gorun::go(move || tx1.send(round).unwrap());
                        watchers.into_iter().for_each(|w| assert_eq!(w.join().unwrap(), 0));
                        assert_eq!((thread.join().unwrap(), set.try_ready()), (0, Ok(recv)));
                        assert_eq!(rx1.recv(), Ok(round));
                        sender.join().unwrap();
                    }
                    1 => {
                        assert_eq!(rx2.recv(), Ok(1));
                        watchers.into_iter().for_each(|w| assert_eq!(w.join().unwrap(), 1));
                        assert_eq!((thread.join().unwrap(), tx2.is_empty()), (1, true));
                    }
                    _ => {
                        drop(tx1);
                        watchers.into_iter().for_each(|w| assert_eq!(w.join().unwrap(), 0));
                        assert_eq!(thread.join().unwrap(), 0);
                    }
                }
            });
        }
    });
}
