//! What a goroutine leaves in its block for the next one on it, and in memory when the block goes: nothing that a thread
//! would not leave to a new thread.

#![cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
#![allow(unsafe_code, reason = "libc's functions")]

mod common;

use common::child::{is_child, passes, skip_here};
use gorun::runtime::{Builder, Runtime, ThreadLocals};
use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};

unsafe extern "C" {
    #[link_name = "__ctype_b_loc"]
    safe fn ctype_b_loc() -> *const *const u16;
    fn pthread_setcancelstate(state: i32, old: *mut i32) -> i32;
    fn pthread_setcanceltype(kind: i32, old: *mut i32) -> i32;
}

/// One worker, so that one block serves all goroutines that run one after the other.
fn runtime() -> Runtime {
    Builder::new().workers(1).thread_locals(ThreadLocals::Isolated).build().unwrap()
}

/// Runs it in `n` goroutines, one after the other.
fn in_turns<T: Send + 'static>(n: usize, f: fn() -> T) -> Vec<T> {
    runtime().run(|| (0..n).map(|_| gorun::go(f).join().unwrap()).collect())
}

static KEY: AtomicUsize = AtomicUsize::new(0);
static CALLS: AtomicUsize = AtomicUsize::new(0);

fn key() -> libc::pthread_key_t {
    KEY.load(Ordering::SeqCst) as libc::pthread_key_t
}

#[test]
fn a_key_that_is_always_set_again_is_given_up_as_a_threads_is() {
    unsafe extern "C" fn again(value: *mut c_void) {
        CALLS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: our key; the value is never followed.
        assert_eq!(unsafe { libc::pthread_setspecific(key(), value) }, 0);
    }
    /// Sets the key, and returns what it found.
    fn set() -> usize {
        // SAFETY: as above.
        unsafe {
            let found = libc::pthread_getspecific(key()) as usize;
            assert_eq!(libc::pthread_setspecific(key(), std::ptr::dangling::<u8>().cast()), 0);
            found
        }
    }
    let mut key = 0;
    // SAFETY: a function of the type asked for.
    assert_eq!(unsafe { libc::pthread_key_create(&raw mut key, Some(again)) }, 0);
    KEY.store(key as usize, Ordering::SeqCst);
    assert_eq!(std::thread::spawn(set).join().unwrap(), 0);
    let of_a_thread = CALLS.swap(0, Ordering::SeqCst);
    assert_eq!(in_turns(10, set), [0; 10]);
    assert_eq!(CALLS.load(Ordering::SeqCst), 10 * of_a_thread);
}

#[test]
fn characters_are_classified_by_the_locale_that_was_set_last() {
    if is_child() {
        // SAFETY: a word of the running thread's.
        let table = || unsafe { *ctype_b_loc() } as usize;
        let set = |name: &std::ffi::CStr| {
            // SAFETY: a name with its terminator, while no other thread uses the locale.
            assert!(!unsafe { libc::setlocale(libc::LC_ALL, name.as_ptr()) }.is_null());
            std::thread::spawn(table).join().unwrap()
        };
        let tables: Vec<(usize, Vec<usize>)> = runtime().run(|| {
            [c"C", c"C.UTF-8", c"C"]
                .into_iter()
                .map(|name| {
                    let of_a_thread = set(name);
                    (of_a_thread, (0..20).map(|_| gorun::go(table).join().unwrap()).collect())
                })
                .collect()
        });
        assert_ne!(tables[0].0, tables[1].0, "two locales");
        for (of_a_thread, of_goroutines) in tables {
            assert_eq!(of_goroutines, [of_a_thread; 20]);
        }
        return;
    }
    passes("characters_are_classified_by_the_locale_that_was_set_last", &[]);
}

#[test]
fn whether_one_can_be_canceled_is_as_in_a_new_thread() {
    /// Changes both, and returns what they were.
    fn change() -> (i32, i32) {
        let (mut state, mut kind) = (7, 7);
        // SAFETY: numbers that libc knows, and places for the old ones; nobody cancels.
        unsafe {
            assert_eq!(pthread_setcancelstate(1, &raw mut state), 0);
            assert_eq!(pthread_setcanceltype(1, &raw mut kind), 0);
        }
        (state, kind)
    }
    assert_eq!(std::thread::spawn(change).join().unwrap(), (0, 0));
    assert_eq!(in_turns(10, change), [(0, 0); 10]);
}

/// Leaves an error message that nobody has asked for.
fn fail_to_load() -> bool {
    // SAFETY: names with their terminators.
    unsafe {
        let found = !libc::dlerror().is_null();
        assert!(libc::dlsym(libc::RTLD_DEFAULT, c"there is no such symbol".as_ptr()).is_null());
        found
    }
}

#[test]
fn a_message_of_the_loader_is_for_who_has_made_the_error() {
    assert_eq!(in_turns(10, fail_to_load), [false; 10]);
}

/// How much more memory malloc has handed out after `f`.
fn grown(f: impl Fn()) -> usize {
    // Once before, for what is there for good.
    f();
    // SAFETY: no preconditions.
    let before = unsafe { libc::mallinfo2() };
    f();
    // SAFETY: as above.
    let after = unsafe { libc::mallinfo2() };
    after.uordblks.saturating_sub(before.uordblks)
}

#[test]
fn a_block_that_goes_leaves_no_message() {
    if is_child() {
        // No stack is used twice: each goroutine has a block of its own.
        let runtime = Builder::new().workers(1).warm_stacks(0).thread_locals(ThreadLocals::Isolated).build().unwrap();
        let round = || {
            grown(|| {
                // One after the other: no more than one block at a time.
                for _ in 0..4000 {
                    assert!(!runtime.go(fail_to_load).unwrap().join().unwrap());
                }
            })
        };
        // What leaks, leaks in each round; a buffer that doubles does so in one of them.
        let more = round().min(round());
        assert!(more < 128 << 10, "{more} bytes for 4000 goroutines");
        return;
    }
    passes("a_block_that_goes_leaves_no_message", &[]);
}

/// Since glibc 2.41 a thread that asks for random bytes has a state in memory that it shares with the kernel.
#[test]
fn a_block_that_goes_leaves_no_state_of_random_numbers() {
    if is_child() {
        fn random() -> u8 {
            let mut byte = 0_u8;
            // SAFETY: a byte of ours.
            assert_eq!(unsafe { libc::getrandom((&raw mut byte).cast(), 1, 0) }, 1);
            byte
        }
        /// KiB of such states: the memory that the kernel may drop (Linux 6.11) is theirs.
        fn states() -> u64 {
            let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
            let mut size = 0;
            let mut sum = 0;
            for line in maps.lines() {
                if let Some(kib) = line.strip_prefix("Size:") {
                    size = kib.trim().trim_end_matches(" kB").parse().unwrap();
                } else if line.starts_with("VmFlags:") && line.split(' ').any(|flag| flag == "dp") {
                    sum += size;
                }
            }
            sum
        }
        let runtime = Builder::new().workers(1).warm_stacks(0).thread_locals(ThreadLocals::Isolated).build().unwrap();
        let some = |n: usize| {
            for _ in 0..n {
                runtime.go(random).unwrap().join().unwrap();
            }
        };
        some(100);
        let before = states();
        if before == 0 {
            return skip_here("no states of random numbers: they came with glibc 2.41 and Linux 6.11");
        }
        // At 144 bytes or more each: more than 700 KiB.
        some(5000);
        let more = states() - before;
        assert!(more <= 100, "{more} KiB for 5000 goroutines");
        return;
    }
    passes("a_block_that_goes_leaves_no_state_of_random_numbers", &[]);
}
