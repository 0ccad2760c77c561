//! Threads, processes and forks that goroutines make, and what they know of themselves.

use super::{BOTH, ISOLATED, MANY, SOME, at_once, suspend};
use std::cell::Cell;
use std::collections::HashSet;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread::{self, ThreadId};

thread_local! {
    static MARK: Cell<usize> = const { Cell::new(0) };
}

#[test]
fn ids_stay_and_differ() {
    static SEEN: Mutex<Option<HashSet<ThreadId>>> = Mutex::new(None);
    at_once(ISOLATED, MANY, |_| {
        let id = thread::current().id();
        // SAFETY: no preconditions.
        let myself = || unsafe { libc::pthread_self() };
        let pthread = myself();
        for _ in 0..20 {
            suspend();
            assert_eq!((thread::current().id(), myself()), (id, pthread));
        }
        let mut seen = SEEN.lock().expect("no panic");
        assert!(seen.get_or_insert_default().insert(id), "two have the same");
    });
}

#[test]
fn spawn_and_join() {
    at_once(BOTH, SOME, |i| {
        MARK.set(i);
        let inner = thread::spawn(move || (MARK.replace(i), thread::current().id()));
        suspend();
        let (mark, id) = inner.join().expect("no panic");
        assert_eq!(mark, 0, "a thread of its own");
        assert_ne!(id, thread::current().id());
        let mut borrowed = 0;
        thread::scope(|scope| {
            scope.spawn(|| borrowed = i);
        });
        assert_eq!(borrowed, i);
    });
    at_once(ISOLATED, SOME, |i| {
        MARK.set(i);
        let inner = thread::spawn(panic_quietly);
        suspend();
        assert!(inner.join().is_err());
        assert_eq!(MARK.get(), i);
    });
}

fn panic_quietly() {
    gorun_compat::quiet(false);
    std::panic::panic_any(gorun_compat::OnPurpose(0));
}

#[test]
fn a_thread_spawns_goroutines_that_it_joins() {
    at_once(ISOLATED, 50, |i| {
        let inner = thread::spawn(move || gorun::go(move || i + 1).join().expect("no panic"));
        assert_eq!(inner.join().expect("no panic"), i + 1);
    });
}

#[test]
#[expect(clippy::disallowed_methods, reason = "std's own parking is what it tries")]
fn park_and_unpark() {
    at_once(ISOLATED, 50, |_| {
        // A permit that is there already.
        let me = thread::current();
        me.unpark();
        suspend();
        thread::park();
        // One that another goroutine gives, while this one blocks its thread.
        let other = gorun::go(move || me.unpark());
        thread::park();
        other.join().expect("no panic");
        // And one of a thread.
        let me = thread::current();
        thread::spawn(move || me.unpark());
        thread::park();
    });
}

#[test]
fn commands() {
    static RAN: AtomicUsize = AtomicUsize::new(0);
    at_once(BOTH, 24, |i| {
        // By posix_spawn.
        let output = Command::new("echo").arg(i.to_string()).output().expect("a process");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), i.to_string());
        suspend();
        // By fork and exec, with code of ours between.
        let mut command = Command::new("sh");
        command.args(["-c", "echo $MARK; ulimit -n"]).env("MARK", i.to_string());
        // SAFETY: one system call.
        unsafe {
            command.pre_exec(|| {
                let limit = libc::rlimit { rlim_cur: 123, rlim_max: 123 };
                match libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
        let output = command.output().expect("a process");
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{i}\n123\n"));
        suspend();
        assert!(Command::new("/no/such/program").spawn().is_err());
        RAN.fetch_add(1, SeqCst);
    });
    assert_eq!(RAN.load(SeqCst), 48);
}

#[test]
fn forks() {
    at_once(BOTH, 50, |i| {
        MARK.set(i);
        suspend();
        let mark = MARK.get();
        // SAFETY: the child, a plain thread, reads memory and leaves without any clean-up. It does not allocate: mimalloc's lock may have been
        // another thread's when it was forked (`a_goroutine_may_fork` in tests/thread_locals.rs allocates, with glibc's malloc).
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let right = MARK.get() == mark && gorun::current().is_none();
            // SAFETY: as above.
            unsafe { libc::_exit(if right { 40 + (mark % 10) as i32 } else { 1 }) };
        }
        assert!(pid > 0);
        let mut status = 0;
        // SAFETY: our own child.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        let right = libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 40 + (mark % 10) as i32;
        assert!(right, "the child ended with {status:#x}");
        assert_eq!(MARK.get(), mark);
    });
}

#[test]
fn a_system_call_for_all_threads() {
    // glibc makes all of its threads call setgroups and the like by a signal; goroutines are in none of its lists.
    at_once(BOTH, 50, |_| {
        for _ in 0..10 {
            // SAFETY: changes nothing.
            unsafe { assert_eq!(libc::setuid(libc::getuid()), 0) };
            suspend();
        }
    });
}

#[test]
fn the_processor_is_the_threads() {
    // glibc reads it from the rseq area of the control block, which the kernel keeps up to date for threads only.
    // One at a time: pinned ones that have begun on one thread lock it together.
    at_once(BOTH, 1, |_| {
        let locked = gorun::lock_os_thread();
        // SAFETY: sets of processors of ours; the thread gets its own set back.
        unsafe {
            let mut before: libc::cpu_set_t = std::mem::zeroed();
            let size = size_of::<libc::cpu_set_t>();
            assert_eq!(libc::sched_getaffinity(0, size, &raw mut before), 0);
            let all: Vec<_> = (0..libc::CPU_SETSIZE as usize).filter(|cpu| libc::CPU_ISSET(*cpu, &before)).collect();
            for turn in 0..4 {
                let cpu = all[turn % all.len()];
                let mut one: libc::cpu_set_t = std::mem::zeroed();
                libc::CPU_SET(cpu, &mut one);
                assert_eq!(libc::sched_setaffinity(0, size, &raw const one), 0);
                suspend();
                assert_eq!(libc::sched_getcpu(), cpu as i32);
            }
            assert_eq!(libc::sched_setaffinity(0, size, &raw const before), 0);
        }
        drop(locked);
    });
}
