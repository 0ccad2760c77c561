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

/// A library with thread-locals that are allocated for a thread when it first touches them: a number, a pointer that the loader
/// has to relocate, and a large array of zeros. `next` returns -1 if one of them is not as it should be.
const ON_DEMAND: &str = "
    static __thread int counter = 7;
    static int there;
    static __thread int *pointer = &there;
    static __thread char zeros[100000];
    int next(int by) {
        if (counter == 7 ? pointer != &there || zeros[0] || zeros[99999] : pointer || !zeros[0]) return -1;
        pointer = 0;
        zeros[0] = zeros[99999] = 1;
        counter += by;
        return counter;
    }
";

/// The number by which libc knows the calling thread: another one in each block.
fn number() -> c_int {
    // SAFETY: a mutex of ours, whose third word is its owner's number while it is held (its layout is part of glibc's ABI).
    unsafe {
        let mut attributes = std::mem::zeroed();
        libc::pthread_mutexattr_init(&raw mut attributes);
        libc::pthread_mutexattr_settype(&raw mut attributes, libc::PTHREAD_MUTEX_ERRORCHECK);
        let mut mutex: libc::pthread_mutex_t = std::mem::zeroed();
        libc::pthread_mutex_init(&raw mut mutex, &raw const attributes);
        assert_eq!(libc::pthread_mutex_lock(&raw mut mutex), 0);
        let owner = (&raw const mutex).cast::<c_int>().add(2).read();
        assert_eq!(libc::pthread_mutex_unlock(&raw mut mutex), 0);
        owner
    }
}

/// A block is used again after a goroutine has touched such thread-locals, and the next goroutine finds them as they are at first.
#[test]
fn blocks_are_used_again_after_a_library_has_allocated_thread_locals_in_them() {
    if is_child() {
        let paths = std::env::var("GORUN_TEST_LIBRARY").unwrap();
        let runtime = Builder::new().workers(1).thread_locals(ThreadLocals::Isolated).build().unwrap();
        runtime.run(|| {
            for path in paths.split(':') {
                let path = CString::new(path).unwrap();
                // SAFETY: a path with its terminator.
                let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
                assert!(!handle.is_null(), "{path:?}");
                let next = function(handle, c"next");
                let one = move || {
                    // SAFETY: a function that counts.
                    unsafe { assert_eq!((next(1), next(2)), (8, 10)) };
                    gorun::yield_now();
                    // SAFETY: as above.
                    assert_eq!(unsafe { next(1) }, 11);
                    number()
                };
                let numbers: std::collections::HashSet<c_int> =
                    (0..200).map(|_| gorun::go(one).join().unwrap()).collect();
                // A load makes those unusable that were there before.
                assert!(numbers.len() < 20, "{} blocks for 200 goroutines, one after another", numbers.len());
                // SAFETY: nobody uses it any more.
                assert_eq!(unsafe { libc::dlclose(handle) }, 0);
                (0..20).for_each(|_| gorun::go(gorun::yield_now).join().unwrap());
            }
        });
        return;
    }
    // The second gets the first one's number.
    let libraries = [("on-demand", &[][..]), ("behind-descriptors", &["-mtls-dialect=gnu2"])];
    let Some(paths) =
        libraries.iter().map(|(name, options)| compile(name, ON_DEMAND, options)).collect::<Option<Vec<_>>>()
    else {
        return;
    };
    let all = paths.iter().map(|path| path.to_str().unwrap()).collect::<Vec<_>>().join(":");
    let name = "blocks_are_used_again_after_a_library_has_allocated_thread_locals_in_them";
    passes(name, &[("GORUN_TEST_LIBRARY", &all), ("GLIBC_TUNABLES", "glibc.rtld.optional_static_tls=0")]);
    paths.iter().for_each(|path| drop(std::fs::remove_file(path)));
}

/// A library that registers fork handlers before a program's first function runs: they lock a recursive mutex, and count in a
/// thread-local. (In the child the mutex is made anew: it knows its owner by a number that the child's thread does not have.)
const HANDLERS: &str = "
    #define _GNU_SOURCE
    #include <pthread.h>
    static pthread_mutex_t mutex = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
    static __thread int calls;
    static void before(void) { pthread_mutex_lock(&mutex); calls += 1; }
    static void in_parent(void) { pthread_mutex_unlock(&mutex); calls += 10; }
    static void in_child(void) {
        pthread_mutex_t new = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
        mutex = new;
        calls += 100;
    }
    __attribute__((constructor)) static void start(void) { pthread_atfork(before, in_parent, in_child); }
    int hold(int n) { return n ? pthread_mutex_lock(&mutex) : pthread_mutex_unlock(&mutex); }
    int called(int n) { return calls; }
";

#[test]
fn fork_handlers_of_a_librarys_constructor_run_on_the_thread_that_forks() {
    if is_child() {
        let [hold, called] = [c"hold", c"called"].map(|name| function(libc::RTLD_DEFAULT, name));
        // SAFETY: functions of this type; a child that calls what a thread may, and ends.
        let fork = move || unsafe {
            assert_eq!(hold(1), 0);
            let before = called(0);
            let Some(pid) = common::forked::fork() else {
                // A thread of its own in the child, and a fork of that.
                let inner = std::thread::spawn(move || (called(0), hold(1), hold(0)));
                let right = called(0) == before + 101 && inner.join().unwrap() == (0, 0, 0);
                libc::_exit(if right { 0 } else { called(0) - before })
            };
            assert_eq!(common::forked::wait_for(pid).code(), Some(0));
            assert_eq!((hold(0), called(0)), (0, before + 11));
        };
        std::thread::spawn(fork).join().unwrap();
        for mode in [ThreadLocals::Isolated, ThreadLocals::Pinned] {
            let runtime = Builder::new().workers(2).thread_locals(mode).build().unwrap();
            runtime.run(|| {
                (0..20).for_each(|_| {
                    let forks = gorun::go(move || {
                        gorun::yield_now();
                        fork();
                        gorun::yield_now();
                    });
                    forks.join().unwrap();
                });
            });
        }
        return;
    }
    let Some(library) = compile("handlers", HANDLERS, &["-pthread"]) else { return };
    let name = "fork_handlers_of_a_librarys_constructor_run_on_the_thread_that_forks";
    let path = library.to_str().unwrap();
    passes(name, &[("LD_PRELOAD", path)]);
    passes(name, &[("LD_PRELOAD", path), ("GORUN_TEST_MIGRATE", "1")]);
    let _ = std::fs::remove_file(&library);
}

/// A library that uses its own libc, the namespace's: memory, `errno` and formatted output.
const NAMESPACE: &str = "
    #include <errno.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    static __thread int counter = 7;
    int next(int by) {
        char text[32];
        char *copy;
        errno = by;
        snprintf(text, sizeof text, \"%d\", by);
        copy = malloc(100);
        if (!copy || errno != by) return -1;
        strcpy(copy, text);
        counter += atoi(copy);
        free(copy);
        return counter;
    }
";

/// What docs/thread-locals.md says of `dlmopen`: before the first goroutine, and then threads and pinned goroutines have it as it
/// is; isolated ones may find what another has left on the same block.
#[test]
fn a_library_in_another_namespace_is_loaded_before_the_first_goroutine() {
    if is_child() {
        let path = CString::new(std::env::var("GORUN_TEST_LIBRARY").unwrap()).unwrap();
        // SAFETY: a path with its terminator.
        let handle = unsafe { libc::dlmopen(libc::LM_ID_NEWLM, path.as_ptr(), libc::RTLD_NOW) };
        assert!(!handle.is_null());
        let next = function(handle, c"next");
        // SAFETY: a function that counts.
        let call = move || unsafe { next(1) };
        assert_eq!(std::thread::spawn(move || [call(), call()]).join().unwrap(), [8, 9]);
        for mode in [ThreadLocals::Isolated, ThreadLocals::Pinned] {
            let runtime = Builder::new().workers(1).thread_locals(mode).build().unwrap();
            runtime.run(|| {
                for n in 0..100 {
                    let first = gorun::go(move || {
                        let first = call();
                        gorun::yield_now();
                        assert_eq!(call(), first + 1);
                        first
                    });
                    let first = first.join().unwrap();
                    assert!(first >= 8, "{mode}: initialised, or left by another");
                    // Pinned ones count for their worker's thread.
                    assert!(mode == ThreadLocals::Isolated || first == 8 + 2 * n, "{first}");
                }
            });
        }
        return;
    }
    let Some(library) = compile("namespace", NAMESPACE, &[]) else { return };
    let name = "a_library_in_another_namespace_is_loaded_before_the_first_goroutine";
    passes(name, &[("GORUN_TEST_LIBRARY", library.to_str().unwrap())]);
    let _ = std::fs::remove_file(&library);
}
