//! Go's concurrent prime sieve: a chain of goroutines, one a prime, joined by unbuffered channels.
//!
//! In Go the goroutines of the sieve are left behind when `main` returns. Here dropping the last receiver
//! closes the channel, every `send` up the chain fails in turn, and the whole chain ends by itself.
//!
//! Run with `cargo run --example prime_sieve -- 30`; the argument is how many primes to show.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its user")]

use std::process::ExitCode;

use gorun::chan::Receiver;

/// Sends 2, 3, 4, ... until nobody listens.
fn generate() -> Receiver<u64> {
    let (numbers, out) = gorun::channel(0);
    gorun::go(move || {
        for number in 2.. {
            if numbers.send(number).is_err() {
                break;
            }
        }
    });
    out
}

/// Passes on what `prime` does not divide.
fn filter(input: Receiver<u64>, prime: u64) -> Receiver<u64> {
    let (passed, out) = gorun::channel(0);
    gorun::go(move || {
        for number in input {
            if number % prime != 0 && passed.send(number).is_err() {
                break;
            }
        }
    });
    out
}

/// The first `count` primes.
fn primes(count: usize) -> Vec<u64> {
    let mut found = Vec::new();
    let mut numbers = generate();
    while found.len() < count {
        let prime = numbers.recv().expect("the generator never ends first");
        found.push(prime);
        numbers = filter(numbers, prime);
    }
    found
}

fn main() -> ExitCode {
    let count = match std::env::args().nth(1).map(|text| text.parse()) {
        None => 30,
        Some(Ok(count)) => count,
        Some(Err(_)) => {
            eprintln!("usage: prime_sieve [HOW_MANY]");
            return ExitCode::from(2);
        }
    };
    let primes = gorun::run(move || primes(count));
    for row in primes.chunks(10) {
        let row: Vec<String> = row.iter().map(|prime| format!("{prime:>6}")).collect();
        println!("{}", row.concat());
    }
    let by_division = (2u64..).filter(|n| (2..*n).all(|d| n % d != 0));
    assert!(primes.iter().copied().eq(by_division.take(count)));
    ExitCode::SUCCESS
}
