//! A million goroutines, parked at once: how long it takes and what it weighs. An argument sets another number.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its user")]

use gorun::sync::WaitGroup;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Resident memory of the process, in bytes; 0 where the system doesn't say.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<usize>().ok());
    kilobytes.unwrap_or(0) * 1024
}

fn main() -> ExitCode {
    let goroutines = match std::env::args().nth(1).map(|n| n.parse::<usize>()) {
        None => 1_000_000,
        Some(Ok(n)) if n > 0 => n,
        _ => {
            eprintln!("usage: million [NUMBER]   NUMBER: how many goroutines, from 1");
            return ExitCode::from(2);
        }
    };
    let runtime = match gorun::runtime::Builder::new().grace(Duration::from_secs(120)).build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("million: {error}");
            return ExitCode::FAILURE;
        }
    };
    let before = resident();
    let start = Instant::now();
    let parked = runtime.run(|| {
        let begun = WaitGroup::new();
        begun.add(goroutines);
        let (gate, opens) = gorun::channel::<()>(0);
        for n in 0..goroutines {
            let (begun, opens) = (begun.clone(), opens.clone());
            let spawned = gorun::Builder::new().go(move || {
                begun.done();
                // Waits until the gate is dropped.
                let _ = opens.recv();
            });
            if let Err(error) = spawned {
                eprintln!("million: after {n} goroutines: {error}");
                std::process::exit(1);
            }
        }
        begun.wait();
        let took = start.elapsed();
        let bytes = resident().saturating_sub(before);
        println!(
            "{} goroutines parked after {took:.2?}: {:.2} us and {} bytes of resident memory each",
            gorun::num_goroutines() - 1,
            took.as_secs_f64() * 1e6 / goroutines as f64,
            bytes / goroutines
        );
        drop(gate);
        start.elapsed()
    });
    println!("all woken and gone after {:.2?} more", start.elapsed() - parked);
    ExitCode::SUCCESS
}
