//! A rate limiter: bursts of up to three, then one request a tick.
//!
//! From "Go by Example: Rate Limiting" (gobyexample.com/rate-limiting). Run with `cargo run --example rate_limiter`.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use gorun::chan::Receiver;
use gorun::select;
use gorun::time::Ticker;
use std::time::{Duration, Instant};

const TICK: Duration = Duration::from_millis(20);
const BURST: usize = 3;

/// A channel with a token for each request that may be made; it ends when `stop` does.
fn tokens(stop: Receiver<()>) -> Receiver<()> {
    let (fill, tokens) = gorun::channel(BURST);
    for _ in 0..BURST {
        fill.send(()).expect("there is room");
    }
    gorun::go(move || {
        let ticker = Ticker::new(TICK);
        loop {
            select! {
                // What finds no room is not saved up.
                recv(ticker.channel()) -> _ => { let _full = fill.try_send(()); }
                recv(stop) -> _ => return,
            }
        }
    });
    tokens
}

fn main() {
    let started = Instant::now();
    let made: Vec<Duration> = gorun::run(|| {
        let (_stop, stopped) = gorun::channel(0);
        let tokens = tokens(stopped);
        (0..8)
            .map(|request| {
                tokens.recv().expect("the limiter runs");
                println!("request {request} after {:?}", started.elapsed());
                started.elapsed()
            })
            .collect()
    });
    // Three at once, and no later one before its tick.
    for (request, at) in made.iter().enumerate().skip(BURST) {
        let ticks = u32::try_from(request - BURST + 1).expect("a few");
        assert!(*at >= TICK * ticks, "request {request} came after {at:?}");
    }
}
