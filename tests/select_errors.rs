//! What the compiler says of a mistake in a `select!`: it points at the arm, and not at the whole macro.
//!
//! The programs are given to `rustc` with the library that these tests were linked with, which lies beside them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The compiler's errors, one a line, each with its place, for a `select!` with these arms: the first is on line 5.
fn errors(arms: &str) -> Vec<String> {
    errors_with(library(), arms)
}

fn errors_with(library: &Path, arms: &str) -> Vec<String> {
    static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let unused = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("select_errors_{number}.rmeta"));
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--edition=2024", "--crate-type=bin", "--emit=metadata", "--error-format=short", "-Awarnings", "-"])
        .arg("-o")
        .arg(unused)
        .arg("--extern")
        .arg(format!("gorun={}", library.display()))
        .arg("-L")
        .arg(format!("dependency={}", library.parent().unwrap().display()))
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("rustc is there: it has compiled this test");
    let program = format!(
        "#![allow(unreachable_code)]\nfn main() {{\n    let (tx, rx) = gorun::channel::<u32>(1);\n    gorun::select! {{\n{arms}\n    }}\n}}\n"
    );
    rustc.stdin.take().unwrap().write_all(program.as_bytes()).unwrap();
    let output = rustc.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.lines().filter(|line| line.contains(": error")).map(str::to_owned).collect()
}

/// The newest build of the library that a correct program compiles with: there may be older ones beside it.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let beside = std::env::current_exe().unwrap().parent().unwrap().to_owned();
        let names = std::fs::read_dir(beside).unwrap().map(|entry| entry.unwrap().path());
        let mut found: Vec<_> = names
            .filter(|path| {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                name.starts_with("libgorun-") && name.ends_with(".rlib")
            })
            .collect();
        found.sort_by_key(|path| std::fs::metadata(path).unwrap().modified().unwrap());
        let correct = "recv(rx) -> v => drop(v),\nsend(tx, 1) -> sent => drop(sent),\ndefault => (),";
        let fits = found.into_iter().rev().find(|path| errors_with(path, correct).is_empty());
        fits.expect("the library lies beside its tests")
    })
}

/// Where the errors are: the lines of the program.
fn lines(errors: &[String]) -> Vec<u32> {
    errors.iter().filter_map(|error| error.split(':').nth(1)?.parse().ok()).collect()
}

#[test]
fn an_error_of_types_points_at_its_arm() {
    for (name, arms, text) in [
        (
            "a sender to receive from",
            "recv(rx) -> v => drop(v),\nrecv(tx) -> v => drop(v),",
            "a `recv` arm can't receive",
        ),
        ("a receiver to send to", "recv(rx) -> v => drop(v),\nsend(rx, 1) -> v => drop(v),", "a `send` arm can't send"),
        ("a number to receive from", "default => (),\nrecv(5) -> v => drop(v),", "a `recv` arm can't receive"),
        (
            "a value of another type",
            "recv(rx) -> v => drop(v),\nsend(tx, \"text\") -> v => drop(v),",
            "mismatched types",
        ),
        ("a number for a duration", "recv(rx) -> v => drop(v),\ndefault(3) => (),", "mismatched types"),
        (
            "a result that is not looked at",
            "recv(rx) -> v => drop(v),\nrecv(rx) -> Ok(v) => drop::<u32>(v),",
            "refutable",
        ),
    ] {
        let errors = errors(arms);
        assert!(errors.iter().any(|error| error.contains(text)), "{name}: {errors:#?}");
        assert!(lines(&errors).iter().all(|&line| line == 6), "{name}: {errors:#?}");
    }
}

#[test]
fn an_error_of_grammar_points_at_its_arm() {
    for (name, arms, text) in [
        ("no arrow", "recv(rx) -> v => drop(v),\nsend(tx, 1) => (),", "expected `->` after `send(..)`"),
        ("no arrow after recv", "recv(rx) -> v => drop(v),\nrecv(rx) => (),", "expected `->` after `recv(..)`"),
        ("a result of default", "recv(rx) -> v => drop(v),\ndefault -> v => (),", "expected `=>` after `default`"),
        ("an unknown word", "recv(rx) -> v => drop(v),\nreceive(rx) -> v => drop(v),", "invalid arm `receive(rx)`"),
        (
            "too much in parentheses",
            "recv(rx) -> v => drop(v),\nrecv(rx, 4) -> v => drop(v),",
            "invalid arm `recv(rx, 4)`",
        ),
        ("a second default", "default => (),\ndefault => (),", "there can be only one `default`"),
        ("Go's arrow", "recv(rx) -> v => drop(v),\nv <- rx => drop(v),", "expected `recv(r) -> result => body`"),
        (
            "a comma that is missing",
            "default => (),\nrecv(rx) -> v => drop(v)\nrecv(rx) -> v => (),",
            "separated by commas",
        ),
    ] {
        let errors = errors(arms);
        // One says what is right, and one where: `compile_error!` can only point at the macro.
        assert!(errors.iter().any(|error| error.contains(text)), "{name}: {errors:#?}");
        assert!(lines(&errors).contains(&6), "{name}: {errors:#?}");
    }
}

#[test]
fn names_of_the_users_own_mean_what_they_mean() {
    // The macro's methods are called recv and send as well.
    let own = "recv({ fn recv(r: gorun::Receiver<u32>) -> gorun::Receiver<u32> { r } recv(rx) }) -> v => drop(v),";
    assert!(errors(own).is_empty(), "{:#?}", errors(own));
}
