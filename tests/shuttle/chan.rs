//! Channels: nothing is lost, nothing comes twice, and each sender's values come in its order.

use super::{Ledger, Log, Parties, SOON, Value, model};
use gorun::chan::{RecvTimeoutError, SendTimeoutError};
use gorun::{Receiver, Sender, channel, unbounded};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// Receives until it is closed; what each sender sent comes in order. The numbers go into `log`.
fn receive_all(receiver: &Receiver<Value>, log: &Log) {
    let mut last = [None; 4];
    for value in receiver {
        assert!(last[value.maker] < Some(value.number), "overtaken");
        last[value.maker] = Some(value.number);
        log.add(value.number);
    }
}

fn every_value_arrives(make: impl Fn() -> (Sender<Value>, Receiver<Value>) + Send + Sync + 'static) {
    model(move || {
        let (ledger, sent, received) = (Ledger::default(), Log::default(), Log::default());
        let (sender, receiver) = make();
        let mut parties = Parties::default();
        for maker in 0..2 {
            let (sender, ledger, sent) = (sender.clone(), ledger.clone(), sent.clone());
            parties.add(move || {
                for _ in 0..3 {
                    let value = ledger.make(maker);
                    sent.add(value.number);
                    assert!(sender.send(value).is_ok());
                }
            });
            let (receiver, received) = (receiver.clone(), received.clone());
            parties.add(move || receive_all(&receiver, &received));
        }
        // The last sender's end closes it.
        drop((sender, receiver));
        parties.join();
        assert_eq!(sent.sorted(), received.sorted());
        ledger.all_gone();
    });
}

#[test]
fn every_value_arrives_unbuffered() {
    every_value_arrives(|| channel(0));
}

#[test]
fn every_value_arrives_buffered() {
    every_value_arrives(|| channel(1));
    every_value_arrives(|| channel(2));
}

#[test]
fn every_value_arrives_unbounded() {
    every_value_arrives(unbounded);
}

/// A place that becomes free is given to a waiting sender at once, not at the next receive.
#[test]
fn one_receive_frees_one_sender() {
    model(|| {
        let ledger = Ledger::default();
        let (sender, receiver) = channel::<Value>(1);
        let mut parties = Parties::default();
        for maker in 0..2 {
            let (sender, ledger) = (sender.clone(), ledger.clone());
            parties.add(move || assert!(sender.send(ledger.make(maker)).is_ok()));
        }
        drop(receiver.recv());
        parties.join();
        drop(receiver);
        ledger.all_gone();
    });
}

/// A close in the middle: what was sent is received, what was not comes back to its sender.
#[test]
fn a_close_loses_nothing() {
    for capacity in [0, 1] {
        model(move || {
            let (ledger, sent, received) = (Ledger::default(), Log::default(), Log::default());
            let (sender, receiver) = channel::<Value>(capacity);
            let mut parties = Parties::default();
            for maker in 0..2 {
                let (sender, ledger, sent) = (sender.clone(), ledger.clone(), sent.clone());
                parties.add(move || {
                    loop {
                        let value = ledger.make(maker);
                        let number = value.number;
                        match sender.send(value) {
                            Ok(()) => sent.add(number),
                            Err(error) => {
                                assert_eq!(error.into_inner().number, number);
                                break;
                            }
                        }
                    }
                });
                let (receiver, received) = (receiver.clone(), received.clone());
                parties.add(move || receive_all(&receiver, &received));
            }
            let first = receiver.recv().ok();
            sender.close();
            received.0.lock().unwrap().extend(first.map(|value| value.number));
            parties.join();
            assert_eq!(sent.sorted(), received.sorted());
            ledger.all_gone();
        });
    }
}

/// The last receiver goes while senders wait and while values lie in the buffer: the former come back, the latter are
/// dropped.
#[test]
fn the_last_receiver_goes() {
    for capacity in [0, 1] {
        model(move || {
            let ledger = Ledger::default();
            let (sender, receiver) = channel::<Value>(capacity);
            let mut parties = Parties::default();
            for maker in 0..2 {
                let (sender, ledger) = (sender.clone(), ledger.clone());
                parties.add(move || while sender.send(ledger.make(maker)).is_ok() {});
            }
            let other = receiver.clone();
            parties.add(move || drop(other.recv()));
            drop(receiver.recv());
            drop(receiver);
            parties.join();
            ledger.all_gone();
        });
    }
}

/// Waits that give up (as an abort makes them) while the other side hands over: the value is received once, or comes back;
/// and the patient ones get what the hasty did not.
#[test]
fn who_gives_up_takes_nothing_along() {
    for capacity in [0, 1] {
        model(move || {
            let (ledger, sent, received) = (Ledger::default(), Log::default(), Log::default());
            let (sender, receiver) = channel::<Value>(capacity);
            let mut parties = Parties::default();
            for hasty in [true, false] {
                let (sender, ledger, sent) = (sender.clone(), ledger.clone(), sent.clone());
                parties.add(move || {
                    for _ in 0..2 {
                        let value = ledger.make(usize::from(hasty));
                        let number = value.number;
                        let outcome = match hasty {
                            true => sender.send_timeout(value, SOON),
                            false => sender.send(value).map_err(SendTimeoutError::from),
                        };
                        match outcome {
                            Ok(()) => sent.add(number),
                            Err(SendTimeoutError::Timeout(value)) => assert_eq!(value.number, number),
                            Err(SendTimeoutError::Closed(_)) => unreachable!("there are receivers"),
                        }
                    }
                });
                let (receiver, received) = (receiver.clone(), received.clone());
                parties.add(move || {
                    let mut patience = 2;
                    while hasty && patience > 0 {
                        match receiver.recv_timeout(SOON) {
                            Ok(value) => received.add(value.number),
                            Err(RecvTimeoutError::Timeout) => patience -= 1,
                            Err(RecvTimeoutError::Closed) => return,
                        }
                    }
                    if !hasty {
                        receive_all(&receiver, &received);
                    }
                });
            }
            drop((sender, receiver));
            parties.join();
            assert_eq!(sent.sorted(), received.sorted());
            ledger.all_gone();
        });
    }
}

/// The same without waiting at all.
#[test]
fn trying_is_all_or_nothing() {
    for capacity in [0, 1] {
        model(move || {
            let (ledger, sent, received) = (Ledger::default(), Log::default(), Log::default());
            let (sender, receiver) = channel::<Value>(capacity);
            let mut parties = Parties::default();
            for maker in 0..2 {
                let (sender, ledger, sent) = (sender.clone(), ledger.clone(), sent.clone());
                parties.add(move || {
                    for _ in 0..2 {
                        let value = ledger.make(maker);
                        let number = value.number;
                        if sender.try_send(value).is_ok() {
                            sent.add(number);
                        }
                    }
                });
            }
            let (one, log) = (receiver.clone(), received.clone());
            parties.add(move || receive_all(&one, &log));
            drop(sender);
            for value in receiver.try_iter() {
                received.add(value.number);
            }
            drop(receiver);
            parties.join();
            assert_eq!(sent.sorted(), received.sorted());
            ledger.all_gone();
        });
    }
}

/// A receiving future is polled once and dropped, while it is handed a value: another receiver gets that.
#[test]
fn a_dropped_future_gives_its_value_back() {
    for capacity in [0, 1] {
        model(move || {
            let (ledger, sent, received) = (Ledger::default(), Log::default(), Log::default());
            let (sender, receiver) = channel::<Value>(capacity);
            let mut parties = Parties::default();
            let (waiting, log) = (receiver.clone(), received.clone());
            parties.add(move || {
                for _ in 0..2 {
                    let mut future = pin!(waiting.recv_async());
                    if let Poll::Ready(Ok(value)) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                        log.add(value.number);
                    }
                }
                // What comes back after the others have seen the end is still there.
                waiting.iter().for_each(|value| log.add(value.number));
            });
            let (patient, log) = (receiver.clone(), received.clone());
            parties.add(move || patient.iter().for_each(|value| log.add(value.number)));
            drop(receiver);
            for maker in 0..2 {
                let (sender, ledger, sent) = (sender.clone(), ledger.clone(), sent.clone());
                parties.add(move || {
                    let value = ledger.make(maker);
                    sent.add(value.number);
                    assert!(sender.send(value).is_ok());
                });
            }
            drop(sender);
            parties.join();
            assert_eq!(sent.sorted(), received.sorted());
            ledger.all_gone();
        });
    }
}

/// A sending future is dropped: its value was received, or goes with it.
#[test]
fn a_dropped_sending_future_sends_once_or_not() {
    model(|| {
        let (ledger, received) = (Ledger::default(), Log::default());
        let (sender, receiver) = channel(0);
        let mut parties = Parties::default();
        let log = received.clone();
        parties.add(move || receive_all(&receiver, &log));
        for maker in 0..2 {
            let (sender, ledger) = (sender.clone(), ledger.clone());
            parties.add(move || {
                let mut future = pin!(sender.send_async(ledger.make(maker)));
                let _sent = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            });
        }
        drop(sender);
        parties.join();
        ledger.all_gone();
    });
}

/// Futures and threads over one channel, all of them awaited.
#[test]
fn futures_are_woken() {
    model(|| {
        let (ledger, sent, received) = (Ledger::default(), Log::default(), Log::default());
        let (sender, receiver) = channel(0);
        let mut parties = Parties::default();
        for maker in 0..2 {
            let (sender, ledger, sent) = (sender.clone(), ledger.clone(), sent.clone());
            parties.add(move || {
                for _ in 0..2 {
                    let value = ledger.make(maker);
                    sent.add(value.number);
                    assert!(match maker {
                        0 => sender.send(value).is_ok(),
                        _ => shuttle::future::block_on(sender.send_async(value)).is_ok(),
                    });
                }
            });
            let (receiver, received) = (receiver.clone(), received.clone());
            parties.add(move || match maker {
                0 => receive_all(&receiver, &received),
                _ => shuttle::future::block_on(async {
                    while let Ok(value) = receiver.recv_async().await {
                        received.add(value.number);
                    }
                }),
            });
        }
        drop((sender, receiver));
        parties.join();
        assert_eq!(sent.sorted(), received.sorted());
        ledger.all_gone();
    });
}
