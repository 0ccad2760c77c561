//! C code that a thread can run, and so can a goroutine: what needs an executable stack, and libraries that are loaded while
//! goroutines live. Compiled here, by `cc`; each in a process of its own.

#![cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
#![allow(unsafe_code, reason = "C functions, by name")]

mod common;

use common::child::{is_child, passes, skip};
use gorun::runtime::{Builder, ThreadLocals};
use std::ffi::{CString, c_int};
use std::path::PathBuf;
use std::process::Command;

type Function = unsafe extern "C" fn(c_int) -> c_int;

/// Compiles a library; `None`: there is no C compiler, or none that takes this.
fn compile(name: &str, source: &str, options: &[&str]) -> Option<PathBuf> {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let file = |ending| directory.join(format!("{name}-{}.{ending}", std::process::id()));
    let (c, library) = (file("c"), file("so"));
    std::fs::write(&c, source).unwrap();
    let output =
        Command::new("cc").args(["-shared", "-fPIC", "-O1"]).args(options).arg("-o").args([&library, &c]).output();
    let _ = std::fs::remove_file(&c);
    if output.is_ok_and(|output| output.status.success()) {
        return Some(library);
    }
    skip(&format!("a C compiler that takes {options:?}"));
    None
}

/// A function of a loaded library.
fn function(handle: *mut libc::c_void, name: &std::ffi::CStr) -> Function {
    // SAFETY: a name with its terminator, and all functions of these tests are of this type.
    unsafe {
        let function = libc::dlsym(handle, name.as_ptr());
        assert!(!function.is_null(), "{name:?}");
        std::mem::transmute::<*mut libc::c_void, Function>(function)
    }
}

/// `add` is a nested function that uses its parent's variable: GCC puts a piece of code on the stack, and calls that.
const NESTED: &str = "
    static int apply(int (*f)(int), int x) { return f(x); }
    int nested(int y) { int add(int x) { return x + y; } return apply(add, 1); }
";

#[test]
fn a_nested_function_runs_where_the_process_has_executable_stacks() {
    if is_child() {
        let nested = function(libc::RTLD_DEFAULT, c"nested");
        // SAFETY: a function that adds one.
        let call = move |n: c_int| unsafe { nested(n) };
        assert_eq!(std::thread::spawn(move || call(1)).join().unwrap(), 2);
        for mode in [ThreadLocals::Isolated, ThreadLocals::Pinned] {
            let runtime = Builder::new().workers(2).thread_locals(mode).build().unwrap();
            let sum = runtime.run(|| {
                let all: Vec<_> = (0..100)
                    .map(|n| {
                        gorun::go(move || {
                            gorun::yield_now();
                            call(n)
                        })
                    })
                    .collect();
                all.into_iter().map(|one| one.join().unwrap()).sum::<c_int>()
            });
            assert_eq!(sum, 5050, "{mode}");
        }
        return;
    }
    let Some(library) = compile("nested", NESTED, &["-O0", "-fno-inline"]) else { return };
    let path = library.to_str().unwrap();
    let name = "a_nested_function_runs_where_the_process_has_executable_stacks";
    passes(name, &[("LD_PRELOAD", path)]);
    let _ = std::fs::remove_file(&library);
}

#[test]
fn stacks_are_not_executable_where_nobody_needs_it() {
    if is_child() {
        let is_executable = gorun::go(|| {
            let local = 0_u8;
            let here = std::hint::black_box(std::ptr::from_ref(&local)).addr();
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            let mine = maps.lines().find(|line| {
                let (range, _) = line.split_once(' ').unwrap();
                let (start, end) = range.split_once('-').unwrap();
                let at = |text| usize::from_str_radix(text, 16).unwrap();
                (at(start)..at(end)).contains(&here)
            });
            mine.unwrap().split(' ').nth(1).unwrap().contains('x')
        });
        assert!(!is_executable.join().unwrap());
        return;
    }
    passes("stacks_are_not_executable_where_nobody_needs_it", &[]);
}

/// A library with a small thread-local, which the loader may place in the static part of each thread's block.
const COUNTER: &str = "
    static __thread int counter = 7;
    int next(int by) { counter += by; return counter; }
";

#[test]
fn a_library_loaded_later_is_initialised_in_begun_goroutines_if_none_gets_a_place_in_the_static_part() {
    if is_child() {
        let path = CString::new(std::env::var("GORUN_TEST_LIBRARY").unwrap()).unwrap();
        let runtime = Builder::new().workers(2).thread_locals(ThreadLocals::Isolated).build().unwrap();
        runtime.run(|| {
            let (tell, told) = gorun::channel::<usize>(0);
            let begun: Vec<_> = (0..10)
                .map(|_| {
                    let told = told.clone();
                    gorun::go(move || {
                        // SAFETY: the address of `next`.
                        let next = unsafe { std::mem::transmute::<usize, Function>(told.recv().unwrap()) };
                        // SAFETY: as above.
                        [1, 1].map(|by| unsafe { next(by) })
                    })
                })
                .collect();
            gorun::yield_now();
            // SAFETY: a path with its terminator.
            let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
            assert!(!handle.is_null());
            let next = function(handle, c"next");
            // SAFETY: a function of this type. The goroutine that loads it is one of those that have begun.
            assert_eq!([1, 1].map(|by| unsafe { next(by) }), [8, 9]);
            for _ in 0..begun.len() {
                tell.send(next as usize).unwrap();
            }
            for one in begun {
                assert_eq!(one.join().unwrap(), [8, 9]);
            }
        });
        return;
    }
    let tunable = ("GLIBC_TUNABLES", "glibc.rtld.optional_static_tls=0");
    let name = "a_library_loaded_later_is_initialised_in_begun_goroutines_if_none_gets_a_place_in_the_static_part";
    for dialect in ["gnu", "gnu2"] {
        let option = format!("-mtls-dialect={dialect}");
        let Some(library) = compile(dialect, COUNTER, &[&option]) else { continue };
        passes(name, &[("GORUN_TEST_LIBRARY", library.to_str().unwrap()), tunable]);
        let _ = std::fs::remove_file(&library);
    }
}
