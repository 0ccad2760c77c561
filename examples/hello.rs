//! The smallest program: start goroutines, join them, get their values back.
//!
//! Run with `cargo run --example hello`.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

fn main() {
    let greetings = gorun::run(|| {
        let names = ["Ada", "Grace", "Barbara"];
        let handles = names.map(|name| gorun::go(move || format!("hello, {name}")));
        handles.map(|handle| handle.join().expect("a greeting does not panic"))
    });
    for greeting in &greetings {
        println!("{greeting}");
    }
    assert_eq!(greetings[0], "hello, Ada");
}
