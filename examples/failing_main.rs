//! A `main` that can fail: every error, a goroutine's panic among them, goes up with `?` and becomes the program's.
//!
//! Adds up its arguments, each parsed by a goroutine of its own. `cargo run --example failing_main -- 1 2 3` prints the sum;
//! `-- 1 two` ends with status 1 and `Error: ParseIntError { kind: InvalidDigit }`, and `-- 1 panic` with the `JoinError`.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use std::error::Error;

/// Go's `error`: anything, from any goroutine.
type AnyError = Box<dyn Error + Send + Sync>;

fn parse(text: &str) -> Result<u64, AnyError> {
    assert_ne!(text, "panic", "as it was told");
    Ok(text.parse()?)
}

fn sum(words: Vec<String>) -> Result<u64, AnyError> {
    let parsers: Vec<_> = words.into_iter().map(|word| gorun::go(move || parse(&word))).collect();
    let mut sum = 0;
    for parser in parsers {
        sum += parser.join()??; // the first `?` is for a panic, the second for what it returned
    }
    Ok(sum)
}

fn main() -> Result<(), AnyError> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let total = gorun::run(|| sum(words))?;
    println!("{total}");
    Ok(())
}
