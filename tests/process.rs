//! What only a process of its own can show: overflow reports, environment, exhaustion. Each test runs this very binary
//! again, with itself as the only test and a variable that says so.

use gorun::runtime::Builder;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

const CHILD: &str = "GORUN_TEST_CHILD";

/// Whether this is the child.
fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Runs test `name` in a child, with these variables.
fn child(name: &str, variables: &[(&str, &str)]) -> (Output, String) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, stderr)
}

fn recurse(n: u64) -> u64 {
    let frame = std::hint::black_box([n; 32]);
    if n == u64::MAX { 0 } else { frame[1].wrapping_add(recurse(n + 1)) }
}

#[test]
fn an_overflow_names_the_goroutine() {
    if is_child() {
        let deep = gorun::Builder::new().name("deep").stack_size(100_000).go(|| recurse(0)).unwrap();
        let _ = deep.join();
        return;
    }
    let (output, stderr) = child("an_overflow_names_the_goroutine", &[]);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{stderr}");
    for part in ["gorun: goroutine ", "\"deep\"", "tests/process.rs:", "overflowed", "GORUN_STACK_SIZE", "stack_size"] {
        assert!(stderr.contains(part), "{part:?} is missing in: {stderr}");
    }
}

#[test]
fn a_bad_variable_is_named_with_its_value() {
    if is_child() {
        let error = Builder::new().build().unwrap_err().to_string();
        assert!(error.contains("GORUN_MAXPROCS") && error.contains("\"many\""), "{error}");
        let panic = std::panic::catch_unwind(|| gorun::go(|| ())).unwrap_err();
        let text = panic.downcast_ref::<String>().expect("a panic with a text");
        assert!(text.contains("GORUN_MAXPROCS"), "{text}");
        return;
    }
    let (output, stderr) = child("a_bad_variable_is_named_with_its_value", &[("GORUN_MAXPROCS", "many")]);
    assert!(output.status.success(), "{stderr}");
}

#[test]
fn the_variables_are_honoured() {
    if is_child() {
        let runtime = Builder::new().build().unwrap();
        assert_eq!(runtime.workers(), 3);
        let used = runtime.go(|| std::hint::black_box([1u8; 3 << 20]).len()).unwrap();
        assert_eq!(used.join().unwrap(), 3 << 20);
        return;
    }
    let variables = [("GORUN_MAXPROCS", "3"), ("GORUN_STACK_SIZE", "4194304")];
    let (output, stderr) = child("the_variables_are_honoured", &variables);
    assert!(output.status.success(), "{stderr}");
}

/// Spawns until there is no more, in a child whose resources are limited; then everything spawned still ends.
fn exhaust() -> gorun::SpawnError {
    let runtime = Builder::new().workers(1).build().unwrap();
    runtime.run(|| {
        let (gate, opens) = gorun::channel::<()>(0);
        let mut handles = Vec::new();
        let error = loop {
            let opens = opens.clone();
            match gorun::Builder::new().go(move || opens.recv().is_err()) {
                Ok(handle) => handles.push(handle),
                Err(error) => break error,
            }
        };
        assert!(handles.len() > 100, "{error}");
        drop(gate);
        handles.into_iter().for_each(|h| assert!(h.join().unwrap()));
        assert!(gorun::go(|| true).join().unwrap(), "and there is room again");
        error
    })
}

#[test]
fn too_little_address_space_is_an_error_from_the_builder() {
    if is_child() {
        let limit = libc::rlimit { rlim_cur: 4 << 30, rlim_max: 4 << 30 };
        // SAFETY: a valid rlimit for the duration of the call.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
        let error = exhaust().to_string();
        assert!(error.contains("RLIMIT_AS"), "{error}");
        return;
    }
    let (output, stderr) = child("too_little_address_space_is_an_error_from_the_builder", &[]);
    assert!(output.status.success(), "{stderr}");
}

#[test]
fn too_few_mappings_are_an_error_from_the_builder() {
    if is_child() {
        let error = exhaust().to_string();
        assert!(error.contains("vm.max_map_count"), "{error}");
        return;
    }
    // As on kernels before 6.13: each guard page takes mappings.
    let (output, stderr) = child("too_few_mappings_are_an_error_from_the_builder", &[("GORUN_NO_GUARD_INSTALL", "1")]);
    assert!(output.status.success(), "{stderr}");
}
