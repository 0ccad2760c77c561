//! A first use of gorun in odd places: before `main`, after it, in a thread-local's destructor, on a small stack, also with
//! another allocator preloaded. Each in a process of its own.

#![cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
#![allow(unsafe_code, reason = "a constructor, and functions for the end of the process")]

mod common;

use common::child::{is_child, passes, skip};
use gorun::runtime::{Builder, ThreadLocals, isolation};
use std::cell::Cell;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

const CONSTRUCTOR: &str = "GORUN_TEST_CONSTRUCTOR";
static CONSTRUCTED: AtomicBool = AtomicBool::new(false);

/// Functions in this section run before `main`.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = before_main;

extern "C" fn before_main() {
    if std::env::var_os(CONSTRUCTOR).is_some() {
        first_use();
        CONSTRUCTED.store(true, Ordering::SeqCst);
    }
}

/// Through the default runtime, and one that is shut down again.
fn first_use() {
    thread_local! {
        static MINE: Cell<u32> = const { Cell::new(0) };
    }
    let work = |n| {
        MINE.set(n);
        let text = n.to_string();
        gorun::yield_now();
        assert_eq!(MINE.get().to_string(), text);
        n
    };
    assert_eq!(gorun::go(move || work(7)).join().unwrap(), 7);
    assert_eq!(isolation(), Ok(()));
    let runtime = Builder::new().workers(2).build().unwrap();
    assert_eq!(runtime.thread_locals(), ThreadLocals::Isolated);
    let sum = runtime.run(|| {
        let all: Vec<_> = (1..=20).map(|n| gorun::go(move || work(n))).collect();
        all.into_iter().map(|one| one.join().unwrap()).sum::<u32>()
    });
    assert_eq!(sum, 210);
}

/// Runs the child `name` with each allocator; each ends well, and says nothing but `says`.
fn with_each_allocator(name: &str, variables: &[(&str, &str)], says: &str) {
    let preloads = [None, Some("libjemalloc.so.2"), Some("libtcmalloc_minimal.so.4")];
    for file in preloads {
        let path = file.map(|file| format!("/usr/lib/x86_64-linux-gnu/{file}"));
        let mut variables = variables.to_vec();
        if let Some(path) = &path {
            if !Path::new(path).exists() {
                skip(path);
                continue;
            }
            variables.push(("LD_PRELOAD", path));
        }
        let said = passes(name, &variables);
        assert!(said.contains(says), "{path:?}: {said}");
        assert!(!said.contains("gorun:") && !said.contains("panicked"), "{path:?}: {said}");
    }
}

#[test]
fn before_main_is_as_good() {
    if is_child() {
        assert!(CONSTRUCTED.load(Ordering::SeqCst));
        return first_use();
    }
    with_each_allocator("before_main_is_as_good", &[(CONSTRUCTOR, "1")], "");
}

#[test]
fn at_the_end_of_the_process() {
    extern "C" fn late() {
        first_use();
        say("late\n");
    }
    if is_child() {
        // SAFETY: a function that does not unwind short of a failed assertion, which aborts.
        assert_eq!(unsafe { libc::atexit(late) }, 0);
        return;
    }
    with_each_allocator("at_the_end_of_the_process", &[], "late");
}

/// On standard error, by nothing that may have been torn down.
fn say(text: &str) {
    // SAFETY: bytes of ours.
    unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
}

struct Late;

impl Drop for Late {
    fn drop(&mut self) {
        first_use();
        say("late\n");
    }
}

#[test]
fn in_a_thread_locals_destructor() {
    thread_local! {
        static LATE: Late = const { Late };
    }
    if is_child() {
        std::thread::spawn(|| LATE.with(|_| ())).join().unwrap();
        return;
    }
    with_each_allocator("in_a_thread_locals_destructor", &[], "late");
}

#[test]
fn on_a_small_stack() {
    if is_child() {
        return std::thread::Builder::new().stack_size(64 << 10).spawn(first_use).unwrap().join().unwrap();
    }
    with_each_allocator("on_a_small_stack", &[], "");
}

#[test]
fn by_many_threads_at_once() {
    if is_child() {
        let all: Vec<_> = (0..16).map(|_| std::thread::spawn(first_use)).collect();
        all.into_iter().for_each(|one| one.join().unwrap());
        return;
    }
    with_each_allocator("by_many_threads_at_once", &[], "");
}
