//! Mutexes that know their owner by its thread id, held by goroutines: between processes and over forks, with priority
//! inheritance, robust ones.

#![cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
#![allow(unsafe_code, reason = "pthread mutexes in shared memory, and forks")]

mod common;

use common::child::{is_child, passes};
use gorun::runtime::{Builder, ThreadLocals};
use std::cell::RefCell;
use std::collections::HashSet;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::{mem, ptr};

/// No thread id of the kernel's is larger.
const LARGEST_THREAD: u32 = 1 << 22;

/// A mutex in memory that forked processes share.
#[derive(Clone, Copy)]
struct Shared(*mut libc::pthread_mutex_t);

// SAFETY: made to be shared, and never freed.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn new(kind: i32, protocol: i32, robust: i32) -> Shared {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: fresh memory, and attributes that are initialised first.
        unsafe {
            let memory = libc::mmap(ptr::null_mut(), 4096, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
            assert_ne!(memory, libc::MAP_FAILED);
            libc::pthread_mutexattr_init(attributes.as_mut_ptr());
            assert_eq!(libc::pthread_mutexattr_settype(attributes.as_mut_ptr(), kind), 0);
            assert_eq!(libc::pthread_mutexattr_setpshared(attributes.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED), 0);
            assert_eq!(libc::pthread_mutexattr_setprotocol(attributes.as_mut_ptr(), protocol), 0);
            assert_eq!(libc::pthread_mutexattr_setrobust(attributes.as_mut_ptr(), robust), 0);
            assert_eq!(libc::pthread_mutex_init(memory.cast(), attributes.as_ptr()), 0);
            Shared(memory.cast())
        }
    }

    fn recursive() -> Shared {
        Shared::new(libc::PTHREAD_MUTEX_RECURSIVE, libc::PTHREAD_PRIO_NONE, libc::PTHREAD_MUTEX_STALLED)
    }

    fn robust() -> Shared {
        Shared::new(libc::PTHREAD_MUTEX_NORMAL, libc::PTHREAD_PRIO_NONE, libc::PTHREAD_MUTEX_ROBUST)
    }

    fn lock(self) -> i32 {
        // SAFETY: initialised.
        unsafe { libc::pthread_mutex_lock(self.0) }
    }

    fn try_lock(self) -> i32 {
        // SAFETY: as above.
        unsafe { libc::pthread_mutex_trylock(self.0) }
    }

    fn unlock(self) {
        // SAFETY: as above.
        assert_eq!(unsafe { libc::pthread_mutex_unlock(self.0) }, 0);
    }

    /// The words of `pthread_mutex_t`: the lock, a count, the owner.
    fn word(self, which: usize) -> u32 {
        // SAFETY: a word of the mutex, which is written by atomic operations or by nobody now.
        unsafe { &*self.0.cast::<AtomicU32>().add(which) }.load(SeqCst)
    }
}

/// The id that a mutex gets for its owner when the caller locks it.
fn own_id() -> u32 {
    // SAFETY: all zeros is an unlocked mutex (`PTHREAD_MUTEX_INITIALIZER`).
    let mut mutex: libc::pthread_mutex_t = unsafe { mem::zeroed() };
    let mutex = Shared(&raw mut mutex);
    assert_eq!(mutex.lock(), 0);
    let owner = mutex.word(2);
    mutex.unlock();
    owner
}

fn thread() -> u32 {
    // SAFETY: no preconditions.
    unsafe { libc::gettid() }.cast_unsigned()
}

/// The list of robust mutexes that the kernel will look through when the calling thread ends.
fn robust_list() -> usize {
    let (mut head, mut size) = (0_usize, 0_usize);
    // SAFETY: asks about the caller itself; two words for the answer.
    let code = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut size) };
    assert_eq!(code, 0);
    head
}

/// Forks. The child runs `f` and exits with its result.
fn fork(f: impl FnOnce() -> i32) -> libc::pid_t {
    // SAFETY: the child does what a child may after gorun's handlers, or before the first use of it.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let code = f();
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(code) };
    }
    assert!(pid > 0);
    pid
}

/// Waits for its end: its exit status, or minus the signal.
fn status(pid: libc::pid_t) -> i32 {
    let mut status = 0;
    // SAFETY: a child of ours, and a place for its status.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -libc::WTERMSIG(status) }
}

/// A pipe, which stays open: one end waits until the other has spoken.
#[derive(Clone, Copy)]
struct Pipe([i32; 2]);

impl Pipe {
    fn new() -> Pipe {
        let mut ends = [0; 2];
        // SAFETY: room for two descriptors.
        assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
        Pipe(ends)
    }

    fn speak(self) {
        // SAFETY: one byte.
        assert_eq!(unsafe { libc::write(self.0[1], [0_u8].as_ptr().cast(), 1) }, 1);
    }

    fn listen(self) {
        let mut byte = 0_u8;
        // SAFETY: as above.
        assert_eq!(unsafe { libc::read(self.0[0], (&raw mut byte).cast(), 1) }, 1);
    }
}

/// In an isolated goroutine of a runtime of its own.
fn in_goroutine<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let runtime = Builder::new().workers(2).thread_locals(ThreadLocals::Isolated).build().unwrap();
    runtime.run(|| gorun::go(f).join().unwrap())
}

#[test]
fn what_a_goroutine_holds_is_not_another_processs() {
    if is_child() {
        let (mutex, held) = (Shared::recursive(), Pipe::new());
        // Before the first use: nothing that they could have agreed on.
        let other = fork(|| {
            held.listen();
            in_goroutine(move || mutex.try_lock())
        });
        let answer = in_goroutine(move || {
            assert_eq!(mutex.lock(), 0);
            held.speak();
            let answer = status(other);
            mutex.unlock();
            answer
        });
        assert_eq!(answer, libc::EBUSY);
        return;
    }
    passes("what_a_goroutine_holds_is_not_another_processs", &[]);
}

#[test]
fn what_a_goroutine_holds_is_not_its_forked_childs() {
    if is_child() {
        let mutex = Shared::recursive();
        let answers = in_goroutine(move || {
            assert_eq!(mutex.lock(), 0);
            [
                // The goroutine itself, a plain thread there, and one that is new.
                status(fork(|| mutex.try_lock())),
                status(fork(|| in_goroutine(move || mutex.try_lock()))),
                status(fork(|| i32::from(own_id() != thread()))),
            ]
        });
        assert_eq!(answers, [libc::EBUSY, libc::EBUSY, 0]);
        return;
    }
    passes("what_a_goroutine_holds_is_not_its_forked_childs", &[]);
}

#[test]
fn a_mutex_with_priority_inheritance_is_handed_over_by_a_locked_goroutine() {
    if is_child() {
        let mutex = Shared::new(libc::PTHREAD_MUTEX_NORMAL, libc::PTHREAD_PRIO_INHERIT, libc::PTHREAD_MUTEX_STALLED);
        in_goroutine(move || {
            let locked = gorun::lock_os_thread();
            assert_eq!(mutex.lock(), 0);
            let next = std::thread::spawn(move || {
                assert_eq!(mutex.lock(), 0);
                mutex.unlock();
            });
            // Until the kernel knows that somebody waits. The goroutine waits, too.
            while mutex.word(0) & libc::FUTEX_WAITERS == 0 {
                gorun::time::sleep(std::time::Duration::from_millis(1));
            }
            assert_eq!(mutex.word(0) & !libc::FUTEX_WAITERS, thread());
            mutex.unlock();
            next.join().unwrap();
            drop(locked);
        });
        return;
    }
    passes("a_mutex_with_priority_inheritance_is_handed_over_by_a_locked_goroutine", &[]);
}

#[test]
fn a_robust_mutex_tells_that_a_locked_goroutine_was_killed() {
    if is_child() {
        let (mutex, held) = (Shared::robust(), Pipe::new());
        let holder = fork(|| {
            in_goroutine(move || {
                let _locked = gorun::lock_os_thread();
                assert_eq!(mutex.lock(), 0);
                gorun::yield_now();
                held.speak();
                loop {
                    gorun::time::sleep(std::time::Duration::from_secs(1));
                }
            })
        });
        held.listen();
        // SAFETY: a child of ours, not waited for.
        unsafe { libc::kill(holder, libc::SIGKILL) };
        assert_eq!(status(holder), -libc::SIGKILL);
        assert_eq!(mutex.try_lock(), libc::EOWNERDEAD);
        // The same by one that has forked, and is its process's only thread.
        let mutex = Shared::robust();
        assert_eq!(in_goroutine(move || status(fork(|| mutex.lock()))), 0);
        assert_eq!(mutex.try_lock(), libc::EOWNERDEAD);
        return;
    }
    passes("a_robust_mutex_tells_that_a_locked_goroutine_was_killed", &[]);
}

#[test]
fn goroutines_that_live_at_once_have_different_ids_and_none_of_a_threads() {
    const MANY: usize = 2000;
    for _ in 0..2 {
        let runtime = Builder::new().workers(2).thread_locals(ThreadLocals::Isolated).build().unwrap();
        let ids: Vec<u32> = runtime.run(|| {
            let (open, gate) = gorun::channel::<()>(0);
            let (tell, told) = gorun::channel::<()>(0);
            let all: Vec<_> = (0..MANY)
                .map(|_| {
                    let (gate, tell) = (gate.clone(), tell.clone());
                    gorun::go(move || {
                        let id = own_id();
                        tell.send(()).unwrap();
                        let _ = gate.recv();
                        assert_eq!(own_id(), id);
                        id
                    })
                })
                .collect();
            (0..MANY).for_each(|_| told.recv().unwrap());
            drop(open);
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| *id > LARGEST_THREAD), "{ids:?}");
        assert_eq!(ids.into_iter().collect::<HashSet<_>>().len(), MANY);
    }
}

#[test]
fn a_locked_goroutine_has_its_threads_id_as_long_as_it_is_locked() {
    in_goroutine(|| {
        let before = own_id();
        assert!(before > LARGEST_THREAD);
        let outer = gorun::lock_os_thread();
        let inner = gorun::lock_os_thread();
        assert_eq!(own_id(), thread());
        gorun::time::sleep(std::time::Duration::from_millis(1));
        drop(inner);
        gorun::yield_now();
        assert_eq!(own_id(), thread());
        // The kernel finds it.
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: asks about the caller itself.
        unsafe {
            assert_eq!(libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()), 0);
            libc::pthread_attr_destroy(attributes.as_mut_ptr());
        }
        drop(outer);
        assert_eq!(own_id(), before);
    });
}

#[test]
fn a_goroutine_that_ends_locked_leaves_its_threads_id_to_nobody() {
    let runtime = Builder::new().workers(2).thread_locals(ThreadLocals::Isolated).build().unwrap();
    runtime.run(|| {
        for _ in 0..20 {
            let locked = gorun::go(|| {
                mem::forget(gorun::lock_os_thread());
                assert_eq!(own_id(), thread());
            });
            locked.join().unwrap();
            let next: Vec<_> = (0..4).map(|_| gorun::go(own_id)).collect();
            for one in next {
                assert!(one.join().unwrap() > LARGEST_THREAD);
            }
        }
    });
}

/// Tells, when the thread that has it as a thread-local ends, which list is registered then.
struct ListAtEnd(SyncSender<usize>);

impl Drop for ListAtEnd {
    fn drop(&mut self) {
        self.0.send(robust_list()).unwrap();
    }
}

thread_local! {
    static LIST_AT_END: RefCell<Option<ListAtEnd>> = const { RefCell::new(None) };
}

/// The goroutine's block serves others by the time at which the thread ends, or its memory is given back. The kernel would walk
/// through it.
#[test]
fn a_thread_whose_locked_goroutine_has_ended_ends_with_its_own_list() {
    if is_child() {
        // No other thread than the one that is locked, and the one that is started in its place.
        let runtime = Builder::new().workers(1).spare_workers(0).thread_locals(ThreadLocals::Isolated).build().unwrap();
        let (tells, told) = sync_channel(1);
        let own = runtime.run(move || {
            let pinned = gorun::Builder::new().thread_locals(ThreadLocals::Pinned).go(move || {
                LIST_AT_END.set(Some(ListAtEnd(tells)));
                (thread(), robust_list())
            });
            let (worker, own) = pinned.unwrap().join().unwrap();
            let locked = gorun::go(move || {
                mem::forget(gorun::lock_os_thread());
                assert_eq!(thread(), worker);
                assert_ne!(robust_list(), own);
            });
            locked.join().unwrap();
            own
        });
        assert_eq!(told.recv(), Ok(own));
        return;
    }
    passes("a_thread_whose_locked_goroutine_has_ended_ends_with_its_own_list", &[]);
}

/// glibc would link what the child locks to what the parent's goroutine holds, by writing to that.
#[test]
fn what_a_goroutine_holds_is_not_on_the_list_of_its_forked_child() {
    if is_child() {
        let (held, other) = (Shared::robust(), Shared::robust());
        // All of it, with its links.
        let words = move || (0..10).map(|at| held.word(at)).collect::<Vec<_>>();
        let ended = in_goroutine(move || {
            assert_eq!(held.lock(), 0);
            let ended = status(fork(|| {
                let before = words();
                i32::from(other.lock() != 0 || words() != before)
            }));
            held.unlock();
            ended
        });
        assert_eq!(ended, 0);
        return;
    }
    passes("what_a_goroutine_holds_is_not_on_the_list_of_its_forked_child", &[]);
}
