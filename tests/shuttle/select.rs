//! Selects: of several operations one takes effect, whoever else is at the same channels, and nobody sleeps through it.

use super::{Ledger, Log, Parties, SOON, Value, model};
use gorun::chan::TryRecvError;
use gorun::select::Select;
use gorun::{Receiver, Sender, channel, select};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Sends `count` values of one maker.
fn send_some(sender: &Sender<Value>, ledger: &Ledger, log: &Log, maker: usize, count: usize) {
    for _ in 0..count {
        let value = ledger.make(maker);
        log.add(value.number);
        assert!(sender.send(value).is_ok());
    }
}

/// Receives by select until both are closed.
fn select_all(one: &Receiver<Value>, two: &Receiver<Value>, log: &Log) {
    let (mut one, mut two) = (Some(one), Some(two));
    let mut last = [None; 2];
    let mut take = |value: Value| {
        assert!(last[value.maker] < Some(value.number), "overtaken");
        last[value.maker] = Some(value.number);
        log.add(value.number);
    };
    while one.is_some() || two.is_some() {
        select! {
            recv(one) -> value => value.map_or_else(|_| one = None, &mut take),
            recv(two) -> value => value.map_or_else(|_| two = None, &mut take),
        }
    }
}

/// A select of two channels beside a receiver of one of them.
#[test]
fn receiving_from_two_beside_a_competitor() {
    for capacity in [0, 1] {
        model(move || {
            let (ledger, sent, received) = (Ledger::default(), Log::default(), Log::default());
            let pair = [channel(capacity), channel(capacity)];
            let mut parties = Parties::default();
            for (maker, (sender, _)) in pair.iter().enumerate() {
                let (sender, ledger, sent) = (sender.clone(), ledger.clone(), sent.clone());
                parties.add(move || send_some(&sender, &ledger, &sent, maker, 2));
            }
            let (one, log) = (pair[0].1.clone(), received.clone());
            parties.add(move || one.iter().for_each(|value| log.add(value.number)));
            let [one, two] = pair.map(|(_, receiver)| receiver);
            let log = received.clone();
            parties.add(move || select_all(&one, &two, &log));
            parties.join();
            assert_eq!(sent.sorted(), received.sorted());
            ledger.all_gone();
        });
    }
}

/// Two selects of the same two channels, named in opposite orders.
#[test]
fn two_selects_of_the_same_channels() {
    model(|| {
        let (ledger, sent, received) = (Ledger::default(), Log::default(), Log::default());
        let pair = [channel(0), channel(0)];
        let mut parties = Parties::default();
        for maker in 0..2 {
            let (sender, ledger, sent) = (pair[maker].0.clone(), ledger.clone(), sent.clone());
            parties.add(move || send_some(&sender, &ledger, &sent, maker, 2));
            let (one, two, log) = (pair[maker].1.clone(), pair[1 - maker].1.clone(), received.clone());
            parties.add(move || select_all(&one, &two, &log));
        }
        drop(pair);
        parties.join();
        assert_eq!(sent.sorted(), received.sorted());
        ledger.all_gone();
    });
}

/// The sending side: a value goes to one of two, beside a sender to one of them.
#[test]
fn sending_to_two_beside_a_competitor() {
    for capacity in [0, 1] {
        model(move || {
            let (ledger, sent, received) = (Ledger::default(), Log::default(), Log::default());
            let pair = [channel(capacity), channel(capacity)];
            let mut parties = Parties::default();
            for (_, receiver) in &pair {
                let (receiver, log) = (receiver.clone(), received.clone());
                parties.add(move || receiver.iter().for_each(|value: Value| log.add(value.number)));
            }
            let (sender, ledger_, log) = (pair[0].0.clone(), ledger.clone(), sent.clone());
            parties.add(move || send_some(&sender, &ledger_, &log, 0, 2));
            let [(one, _), (two, _)] = pair;
            let (ledger_, log) = (ledger.clone(), sent.clone());
            parties.add(move || {
                let make = || {
                    let value = ledger_.make(1);
                    log.add(value.number);
                    value
                };
                for _ in 0..2 {
                    select! {
                        send(one, make()) -> sent => assert!(sent.is_ok()),
                        send(two, make()) -> sent => assert!(sent.is_ok()),
                    }
                }
            });
            parties.join();
            assert_eq!(sent.sorted(), received.sorted());
            ledger.all_gone();
        });
    }
}

/// Selects that meet from both sides of two channels: each serves the other once, or is served by it.
#[test]
fn selects_meet_from_both_sides() {
    model(|| {
        let (received, pair) = (Log::default(), [channel(0), channel(0)]);
        let mut parties = Parties::default();
        for side in 0..2 {
            let (to, from, log) = (pair[side].0.clone(), pair[1 - side].1.clone(), received.clone());
            parties.add(move || {
                for turn in 0..2 {
                    select! {
                        send(to, turn) -> sent => assert!(sent.is_ok()),
                        recv(from) -> value => {
                            assert_eq!(value, Ok(turn), "one exchange a turn");
                            log.add(turn);
                        }
                    }
                }
            });
        }
        let _open = pair;
        parties.join();
        assert_eq!(received.sorted(), [0, 1]);
    });
}

/// Both sides of one and the same channel in a select, and several of those: none serves itself.
#[test]
fn nobody_serves_itself() {
    model(|| {
        let (received, (sender, receiver)) = (Log::default(), channel(0));
        let mut parties = Parties::default();
        for party in 0..4 {
            let (sender, receiver, log) = (sender.clone(), receiver.clone(), received.clone());
            parties.add(move || {
                select! {
                    send(sender, party) -> sent => assert!(sent.is_ok()),
                    recv(receiver) -> from => {
                        assert_ne!(from, Ok(party));
                        log.add(party);
                    }
                }
            });
        }
        let _open = (sender, receiver);
        parties.join();
        assert_eq!(received.sorted().len(), 2);
    });
}

/// A select that gives up while it is handed a value, on either side: all or nothing.
#[test]
fn who_gives_up_takes_nothing_along() {
    model(|| {
        let (ledger, sent, received) = (Ledger::default(), Log::default(), Log::default());
        let [(to_one, one), (to_two, two)] = [channel::<Value>(0), channel(0)];
        let mut parties = Parties::default();
        let (a, b, log) = (one.clone(), two.clone(), received.clone());
        parties.add(move || {
            for _ in 0..2 {
                select! {
                    recv(a) -> value => if let Ok(value) = value { log.add(value.number) },
                    recv(b) -> value => if let Ok(value) = value { log.add(value.number) },
                    default(SOON) => {}
                }
            }
        });
        let log = received.clone();
        parties.add(move || select_all(&one, &two, &log));
        let (sender, ledger_, log) = (to_one.clone(), ledger.clone(), sent.clone());
        parties.add(move || send_some(&sender, &ledger_, &log, 0, 2));
        let (ledger_, log) = (ledger.clone(), sent.clone());
        parties.add(move || {
            let make = || {
                let value = ledger_.make(1);
                log.add(value.number);
                value
            };
            for _ in 0..2 {
                select! {
                    send(to_one, make()) -> sent => assert!(sent.is_ok()),
                    send(to_two, make()) -> sent => assert!(sent.is_ok()),
                    default(SOON) => {}
                }
            }
        });
        parties.join();
        assert_eq!(sent.sorted(), received.sorted());
        ledger.all_gone();
    });
}

/// Chooses a send arm whose value is never made, if there is time.
fn break_a_promise(sender: &Sender<Value>) {
    let none = || -> Value { resume_unwind(Box::new(())) };
    let _broken = catch_unwind(AssertUnwindSafe(|| {
        select! {
            send(sender, none()) -> _ => unreachable!(),
            default(SOON) => {}
        }
    }));
}

/// The receiver that was promised a value gets another's, whether it waits in a `recv`, in a select or in a future; nobody
/// closes the channel and sets it free.
#[test]
fn a_broken_promise_holds_no_receiver_up() {
    for capacity in [0, 1] {
        model(move || {
            let (ledger, sent, received) = (Ledger::default(), Log::default(), Log::default());
            let (sender, receiver) = channel(capacity);
            let mut parties = Parties::default();
            let other = sender.clone();
            parties.add(move || break_a_promise(&other));
            let (other, ledger_, log) = (sender.clone(), ledger.clone(), sent.clone());
            parties.add(move || send_some(&other, &ledger_, &log, 0, 3));
            let (one, log) = (receiver.clone(), received.clone());
            parties.add(move || log.add(one.recv().ok().unwrap().number));
            let (one, log) = (receiver.clone(), received.clone());
            parties.add(move || log.add(shuttle::future::block_on(one.recv_async()).ok().unwrap().number));
            let (one, log) = (receiver.clone(), received.clone());
            parties.add(move || {
                let never = gorun::never::<Value>();
                select! {
                    recv(one) -> value => log.add(value.ok().unwrap().number),
                    recv(never) -> _ => unreachable!(),
                }
            });
            parties.join();
            drop((sender, receiver));
            assert_eq!(sent.sorted(), received.sorted());
            ledger.all_gone();
        });
    }
}

/// The place that was kept for a value that never comes is given to who waits for it, without any receiver's doing.
#[test]
fn a_broken_promise_holds_no_sender_up() {
    model(|| {
        let ledger = Ledger::default();
        let (sender, receiver) = channel(1);
        let mut parties = Parties::default();
        let other = sender.clone();
        parties.add(move || break_a_promise(&other));
        let ledger_ = ledger.clone();
        parties.add(move || assert!(sender.send(ledger_.make(0)).is_ok()));
        parties.join();
        drop(receiver);
        ledger.all_gone();
    });
}

/// A close meets selects on both sides, one of which may have been chosen to send.
#[test]
fn a_close_ends_selects() {
    for capacity in [0, 1] {
        model(move || {
            let (ledger, sent, received) = (Ledger::default(), Log::default(), Log::default());
            let (sender, receiver) = channel(capacity);
            let (_open, silent) = channel::<Value>(0);
            let mut parties = Parties::default();
            let (to, ledger_, log, never) = (sender.clone(), ledger.clone(), sent.clone(), silent.clone());
            parties.add(move || {
                let mut open = true;
                while open {
                    select! {
                        send(to, ledger_.make(0)) -> sent => match sent {
                            Ok(()) => log.add(0),
                            Err(error) => {
                                assert_eq!(error.into_inner().maker, 0);
                                open = false;
                            }
                        },
                        recv(never) -> _ => unreachable!(),
                    }
                }
            });
            let (from, log) = (receiver.clone(), received.clone());
            parties.add(move || {
                loop {
                    select! {
                        recv(from) -> value => match value {
                            Ok(_) => log.add(0),
                            Err(_) => break,
                        },
                        recv(silent) -> _ => unreachable!(),
                    }
                }
            });
            parties.add(move || sender.close());
            drop(receiver);
            parties.join();
            assert_eq!(sent.sorted(), received.sorted());
            ledger.all_gone();
        });
    }
}

/// Who only wants to know whether it could go on is told, though others take it away before its eyes.
#[test]
fn watchers_are_told() {
    for capacity in [0, 1] {
        model(move || {
            let (ledger, sent, received) = (Ledger::default(), Log::default(), Log::default());
            let pair = [channel(capacity), channel(capacity)];
            let mut parties = Parties::default();
            for (maker, (sender, _)) in pair.iter().enumerate() {
                let (sender, ledger, sent) = (sender.clone(), ledger.clone(), sent.clone());
                parties.add(move || send_some(&sender, &ledger, &sent, maker, 2));
            }
            let (one, log) = (pair[0].1.clone(), received.clone());
            parties.add(move || one.iter().for_each(|value| log.add(value.number)));
            let log = received.clone();
            let receivers = pair.map(|(_, receiver)| receiver);
            parties.add(move || {
                let mut set = Select::new();
                receivers.iter().for_each(|receiver| _ = set.recv(receiver));
                let mut open = 2;
                while open > 0 {
                    let index = set.ready();
                    match receivers[index].try_recv() {
                        Ok(value) => log.add(value.number),
                        Err(TryRecvError::Closed) => {
                            set.remove(index);
                            open -= 1;
                        }
                        Err(TryRecvError::Empty) => {}
                    }
                }
            });
            parties.join();
            assert_eq!(sent.sorted(), received.sorted());
            ledger.all_gone();
        });
    }
}
