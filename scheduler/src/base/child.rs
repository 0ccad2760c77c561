//! Runs one test of this binary again in a process of its own.
//!
//! Used by tests of what ends or changes a process.

use std::process::{Command, Output};

const MARK: &str = "GORUN_TEST_CHILD";

/// Returns true if this process is such a child, running `test`.
pub(crate) fn is(test: &str) -> bool {
    if std::env::var(MARK).is_ok_and(|t| t == test) {
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `none` outlives the call. A child that crashes on purpose leaves no core file.
        unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) };
        return true;
    }
    false
}

/// Runs `test` of the module `module` (`module_path!()`) in a child that [`is`] one.
pub(crate) fn run(module: &str, test: &str, env: &[(&str, &str)]) -> Output {
    let (_, inside) = module.split_once("::").expect("a path below the crate");
    Command::new(std::env::current_exe().expect("own path"))
        .args([&format!("{inside}::{test}"), "--exact", "--nocapture", "--test-threads=1"])
        .env(MARK, test)
        .envs(env.iter().copied())
        .output()
        .expect("child starts")
}

/// Runs it and insists that the one test ran and passed.
pub(crate) fn passes(module: &str, test: &str, env: &[(&str, &str)]) {
    let out = run(module, test, env);
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success() && text.contains("1 passed"), "{out:?}");
}
