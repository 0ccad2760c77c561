//! Tests that need a process of their own: each runs its test binary again, with itself as the only test.

use gorun::runtime::{Builder, Runtime, ThreadLocals, isolation};
use std::process::{Command, Output};

const CHILD: &str = "GORUN_TEST_CHILD";
/// Set by `.ci/run`: what is not installed fails the test that needs it instead of skipping it.
const COMPLETE: &str = "GORUN_TEST_COMPLETE";
/// Begins a line that says what was not tried.
const SKIPPED: &str = "SKIPPED: ";
/// Seconds after which a child that hangs is killed, and its test fails.
const GENEROUS: libc::c_uint = 120;

/// Returns true in the child, which then ends by itself and leaves no core file.
pub(crate) fn is_child() -> bool {
    if std::env::var_os(CHILD).is_none() {
        return false;
    }
    // SAFETY: a valid rlimit for the duration of the call; `alarm` has no preconditions.
    unsafe {
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
        libc::alarm(GENEROUS);
    }
    true
}

/// A command for this binary below `wrapper` (a program and its arguments, or nothing), without gorun's variables from
/// outside.
fn command(wrapper: &[&str]) -> Command {
    let me = std::env::current_exe().unwrap();
    let mut command = match wrapper {
        [] => Command::new(me),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(me);
            command
        }
    };
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"GORUN_")) {
        // What the child may skip is the same as here.
        if name != COMPLETE {
            command.env_remove(name);
        }
    }
    command
}

/// Runs test `name` in a child below `wrapper`, which has to run that one test and pass. Returns its standard error; what
/// the child has skipped is said here, too.
#[expect(clippy::print_stderr, reason = "for who reads the log of a test")]
pub(crate) fn passes_below(wrapper: &[&str], name: &str, variables: &[(&str, &str)]) -> String {
    let output: Output = command(wrapper)
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && stdout.contains("1 passed"),
        "{variables:?} {:?}: {stdout}{stderr}",
        output.status
    );
    stderr.lines().filter(|line| line.starts_with(SKIPPED)).for_each(|line| eprintln!("{line}"));
    stderr
}

/// Runs test `name` in a child, which has to be ended by this signal. Returns its standard error.
pub(crate) fn signaled(name: &str, signal: libc::c_int, variables: &[(&str, &str)]) -> String {
    use std::os::unix::process::ExitStatusExt;
    let mut command = command(&[]);
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(CHILD, "1").envs(variables.iter().copied());
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.signal(), Some(signal), "{variables:?} {:?}: {stderr}", output.status);
    stderr
}

/// Returns true if the child whose standard error this is did not try all that it was to try.
pub(crate) fn has_skipped(stderr: &str) -> bool {
    stderr.lines().any(|line| line.starts_with(SKIPPED))
}

/// As `passes_below`, below nothing.
pub(crate) fn passes(name: &str, variables: &[(&str, &str)]) -> String {
    passes_below(&[], name, variables)
}

/// Says that `what` is not installed, and so not tried; in `.ci/run`, which installs it, that is a failure.
#[expect(clippy::print_stderr, reason = "for who reads the log of a test")]
pub(crate) fn skip(what: &str) {
    assert!(std::env::var_os(COMPLETE).is_none(), "{what} is not installed");
    eprintln!("{SKIPPED}{what} is not installed");
}

/// Says that this machine can't run thread-local isolation, which the test is about; in `.ci/run` that is a failure.
#[expect(clippy::print_stderr, reason = "for who reads the log of a test")]
pub(crate) fn skip_isolated() {
    let reason = gorun::runtime::isolation();
    assert!(std::env::var_os(COMPLETE).is_none(), "no isolated goroutines: {reason:?}");
    eprintln!("{SKIPPED}no isolated goroutines: {reason:?}");
}

/// A runtime of this mode; `None`, and said, if this machine can't run isolated goroutines. Another error fails the test.
pub(crate) fn in_mode(builder: Builder, mode: ThreadLocals) -> Option<Runtime> {
    match builder.thread_locals(mode).build() {
        Ok(runtime) => Some(runtime),
        Err(error) => {
            let reason = isolation().expect_err(&format!("refused for another reason: {error}"));
            assert!(mode == ThreadLocals::Isolated && error.to_string().contains(&reason.to_string()), "{error}");
            skip_isolated();
            None
        }
    }
}

/// Becomes a user whose threads are counted (`RLIMIT_NPROC`), which root's are not. `false`, and said, if there is none:
/// in a user namespace that knows no other user and belongs to root.
pub(crate) fn become_counted() -> bool {
    const NOBODY: libc::uid_t = 65_534;
    let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: valid rlimits for the duration of the calls. Each thread changes its ids, and glibc sees to it.
    let is_counted = unsafe {
        if libc::geteuid() == 0 && libc::setresgid(NOBODY, NOBODY, NOBODY) == 0 {
            libc::setresuid(NOBODY, NOBODY, NOBODY);
        }
        assert_eq!(libc::getrlimit(libc::RLIMIT_NPROC, &raw mut before), 0);
        let none = libc::rlimit { rlim_cur: 0, ..before };
        assert_eq!(libc::setrlimit(libc::RLIMIT_NPROC, &raw const none), 0);
        let is_counted = std::thread::Builder::new().spawn(|| ()).is_err();
        assert_eq!(libc::setrlimit(libc::RLIMIT_NPROC, &raw const before), 0);
        is_counted
    };
    if !is_counted {
        skip_here("no user whose threads are counted");
    }
    is_counted
}

/// Says that a test was not tried because of what this machine is, which installing nothing can change: no failure anywhere.
#[expect(clippy::print_stderr, reason = "for who reads the log of a test")]
pub(crate) fn skip_here(why: &str) {
    eprintln!("{SKIPPED}{why}");
}
