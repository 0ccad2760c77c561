//! Publish and subscribe: one goroutine owns the table of subscribers, everybody talks to it by channels.
//!
//! The pattern of Go's "share memory by communicating" (go.dev/blog/codelab-share): the broker's state needs no lock,
//! because nobody else sees it. Run with `cargo run --example pub_sub`.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use gorun::chan::{Receiver, Sender};
use gorun::select;
use gorun::sync::WaitGroup;
use std::collections::HashMap;

struct Subscribe {
    topic: &'static str,
    to: Sender<(&'static str, u32)>,
    ready: Sender<()>,
}

fn broker(subscriptions: &Receiver<Subscribe>, messages: &Receiver<(&'static str, u32)>) {
    let mut subscribers: HashMap<&str, Vec<Sender<(&'static str, u32)>>> = HashMap::new();
    loop {
        select! {
            recv(subscriptions) -> subscription => {
                let Ok(Subscribe { topic, to, ready }) = subscription else { return };
                subscribers.entry(topic).or_default().push(to);
                let _ = ready.send(());
            }
            recv(messages) -> message => {
                let Ok((topic, n)) = message else { return };
                // Who does not listen any more is forgotten.
                subscribers.entry(topic).or_default().retain(|to| to.send((topic, n)).is_ok());
            }
        }
    }
}

fn main() {
    let heard = gorun::run(|| {
        let (subscribe, subscriptions) = gorun::channel(0);
        let (publish, messages) = gorun::channel(16);
        let broker = gorun::go(move || broker(&subscriptions, &messages));
        let (sum, sums) = gorun::unbounded();
        let listeners = WaitGroup::new();
        for (name, topic) in [("ann", "weather"), ("bob", "weather"), ("eve", "stocks")] {
            let (to, inbox) = gorun::channel(1);
            let (ready, is_ready) = gorun::channel(0);
            let sum = sum.clone();
            listeners.go(move || {
                let total = inbox.into_iter().map(|(_, n)| n).sum::<u32>();
                let _ = sum.send((name, total));
            });
            assert!(subscribe.send(Subscribe { topic, to, ready }).is_ok());
            is_ready.recv().expect("the broker answers");
        }
        for n in 1..=100 {
            publish.send((if n % 2 == 0 { "weather" } else { "stocks" }, n)).expect("the broker runs");
        }
        drop((publish, sum)); // the broker ends, and with it the subscriptions
        broker.join().expect("the broker ends well");
        listeners.wait();
        sums.into_iter().collect::<HashMap<_, _>>()
    });
    println!("{heard:?}");
    assert_eq!(heard, HashMap::from([("ann", 2550), ("bob", 2550), ("eve", 2500)]));
}
