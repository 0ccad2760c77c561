//! What the C library keeps by thread: errno, locale, mutex owners, keys, resolver, signals, the stack.

use super::{BOTH, ISOLATED, MANY, SOME, at_once, suspend};
use std::cell::{Cell, UnsafeCell};
use std::ffi::{CStr, c_int, c_void};
use std::mem::MaybeUninit;
use std::net::ToSocketAddrs;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

fn errno() -> &'static mut c_int {
    // SAFETY: no preconditions; the reference is used at once.
    unsafe { &mut *libc::__errno_location() }
}

#[test]
fn errno_is_kept() {
    at_once(ISOLATED, MANY, |i| {
        for n in 0..20 {
            *errno() = (i + n) as c_int;
            gorun::yield_now();
            assert_eq!(*errno(), (i + n) as c_int);
        }
        // SAFETY: an error without effects.
        assert_eq!(unsafe { libc::close(-1) }, -1);
        gorun::yield_now();
        assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::EBADF));
    });
}

unsafe extern "C" {
    fn strtod(text: *const libc::c_char, end: *mut *mut libc::c_char) -> f64;
    fn toupper(c: c_int) -> c_int;
    fn dlerror() -> *const libc::c_char;
}

/// A locale in which something is different from the usual one, if the system has any.
fn other_locale() -> libc::locale_t {
    for name in [c"de_DE.UTF-8", c"fr_FR.UTF-8", c"C.UTF-8", c"C"] {
        // SAFETY: a name with its terminator.
        let locale = unsafe { libc::newlocale(libc::LC_ALL_MASK, name.as_ptr(), ptr::null_mut()) };
        if !locale.is_null() {
            return locale;
        }
    }
    unreachable!("there is always the C locale");
}

#[test]
fn characters_and_numbers() {
    at_once(BOTH, MANY, |i| {
        for _ in 0..5 {
            // SAFETY: characters; a text with its terminator.
            unsafe {
                assert!(libc::isalpha(i32::from(b'g')) != 0 && libc::isalpha(i32::from(b'3')) == 0);
                assert_eq!(toupper(i32::from(b'q')), i32::from(b'Q'));
                let text = std::ffi::CString::new(format!("{i}.25")).expect("no 0 in it");
                assert_eq!(strtod(text.as_ptr(), ptr::null_mut()), i as f64 + 0.25);
            }
            suspend();
        }
    });
}

#[test]
fn a_locale_is_a_goroutines_own() {
    static LEFT: AtomicUsize = AtomicUsize::new(0);
    let other = other_locale() as usize;
    at_once(ISOLATED, MANY, move |i| {
        // SAFETY: asks.
        let current = || unsafe { libc::uselocale(ptr::null_mut()) };
        assert_eq!(current() as usize, usual_locale(), "the one before has left its locale");
        if i % 2 == 0 {
            // SAFETY: a locale that is never freed.
            unsafe { libc::uselocale(other as libc::locale_t) };
            for _ in 0..5 {
                suspend();
                assert_eq!(current() as usize, other);
            }
            // Left in force at the end; the stack's next goroutine must not see it.
            LEFT.fetch_add(1, SeqCst);
        } else {
            for _ in 0..5 {
                suspend();
                assert_eq!(current() as usize, usual_locale(), "another goroutine's");
            }
        }
        // SAFETY: a character.
        assert!(unsafe { libc::isalpha(i32::from(b'g')) } != 0);
        let next = gorun::go(move || {
            assert_eq!(current() as usize, usual_locale());
            // SAFETY: a character.
            assert!(unsafe { libc::isalpha(i32::from(b'g')) } != 0);
        });
        next.join().expect("no panic");
    });
    assert_eq!(LEFT.load(SeqCst), MANY / 2);
}

/// `LC_GLOBAL_LOCALE`.
fn usual_locale() -> usize {
    usize::MAX
}

struct Pthread(UnsafeCell<libc::pthread_mutex_t>);

// SAFETY: made to be shared.
unsafe impl Sync for Pthread {}
// SAFETY: as above.
unsafe impl Send for Pthread {}

impl Pthread {
    fn new(kind: c_int) -> Pthread {
        let mut mutex = MaybeUninit::uninit();
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: objects of ours.
        unsafe {
            libc::pthread_mutexattr_init(attributes.as_mut_ptr());
            assert_eq!(libc::pthread_mutexattr_settype(attributes.as_mut_ptr(), kind), 0);
            assert_eq!(libc::pthread_mutex_init(mutex.as_mut_ptr(), attributes.as_ptr()), 0);
            Pthread(UnsafeCell::new(mutex.assume_init()))
        }
    }

    fn lock(&self) -> c_int {
        // SAFETY: initialised, and never moved while in use.
        unsafe { libc::pthread_mutex_lock(self.0.get()) }
    }

    fn try_lock(&self) -> c_int {
        // SAFETY: as above.
        unsafe { libc::pthread_mutex_trylock(self.0.get()) }
    }

    fn unlock(&self) -> c_int {
        // SAFETY: as above.
        unsafe { libc::pthread_mutex_unlock(self.0.get()) }
    }
}

#[test]
fn mutexes_with_owners() {
    // Own ones of each goroutine first: thousands, held over suspensions.
    at_once(ISOLATED, MANY, |_| {
        let recursive = Box::new(Pthread::new(libc::PTHREAD_MUTEX_RECURSIVE));
        let checking = Box::new(Pthread::new(libc::PTHREAD_MUTEX_ERRORCHECK));
        assert_eq!(checking.unlock(), libc::EPERM);
        for _ in 0..5 {
            assert_eq!((recursive.lock(), checking.lock()), (0, 0));
            suspend();
            assert_eq!((recursive.lock(), checking.lock()), (0, libc::EDEADLK));
            suspend();
            assert_eq!((recursive.unlock(), recursive.unlock(), checking.unlock()), (0, 0, 0));
            assert_eq!(recursive.unlock(), libc::EPERM);
        }
    });
    // Then one of all: owned by one goroutine at a time, wherever it runs.
    static INSIDE: AtomicUsize = AtomicUsize::new(0);
    static HAD: AtomicUsize = AtomicUsize::new(0);
    let all = Pthread::new(libc::PTHREAD_MUTEX_RECURSIVE);
    at_once(ISOLATED, SOME, move |_| {
        let all = &all;
        let mut had = 0;
        while had < 3 {
            if all.try_lock() != 0 {
                suspend();
                continue;
            }
            assert_eq!(INSIDE.fetch_add(1, SeqCst), 0, "owned by two");
            assert_eq!(all.lock(), 0);
            suspend();
            suspend();
            assert_eq!(all.unlock(), 0);
            INSIDE.fetch_sub(1, SeqCst);
            assert_eq!(all.unlock(), 0);
            had += 1;
        }
        HAD.fetch_add(had, SeqCst);
    });
    assert_eq!(HAD.load(SeqCst), 3 * SOME);
}

#[test]
fn keys_with_destructors() {
    static DESTROYED: AtomicUsize = AtomicUsize::new(0);
    static KEYS: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
    struct Value {
        key: libc::pthread_key_t,
        owner: gorun::GoroutineId,
        again: Cell<bool>,
    }
    unsafe extern "C" fn destroy(value: *mut c_void) {
        // SAFETY: the values set below.
        let value = unsafe { Box::from_raw(value.cast::<Value>()) };
        assert_eq!(gorun::id(), value.owner, "in the goroutine");
        // It may wait.
        suspend();
        if value.again.take() {
            // A value that a destructor leaves is destroyed in another round.
            // SAFETY: our key.
            unsafe {
                let key = value.key;
                libc::pthread_setspecific(key, Box::into_raw(value).cast());
            }
        } else {
            DESTROYED.fetch_add(1, SeqCst);
        }
    }
    let key = || {
        let mut key = 0;
        // SAFETY: a function of the type asked for.
        unsafe { assert_eq!(libc::pthread_key_create(&raw mut key, Some(destroy)), 0) };
        key
    };
    // More than the 32 whose values lie in the control block.
    let keys: Vec<_> = (0..60).map(|_| key()).collect();
    KEYS[0].store(keys[0] as usize, SeqCst);
    KEYS[1].store(keys[59] as usize, SeqCst);
    for round in 1..=2 {
        at_once(ISOLATED, MANY, |_| {
            for key in KEYS.iter().map(|key| key.load(SeqCst) as libc::pthread_key_t) {
                // SAFETY: our keys.
                unsafe {
                    assert!(libc::pthread_getspecific(key).is_null(), "fresh");
                    let value = Value { key, owner: gorun::id(), again: Cell::new(true) };
                    let value = Box::into_raw(Box::new(value));
                    assert_eq!(libc::pthread_setspecific(key, value.cast()), 0);
                    suspend();
                    assert_eq!(libc::pthread_getspecific(key).cast(), value);
                }
            }
        });
        assert_eq!(DESTROYED.load(SeqCst), 2 * MANY * round);
    }
}

#[test]
fn names_are_resolved() {
    at_once(BOTH, 24, |i| {
        for _ in 0..3 {
            let found = ("localhost", i as u16).to_socket_addrs().expect("localhost").next().expect("an address");
            assert!(found.ip().is_loopback() && found.port() == i as u16);
            suspend();
        }
        // Goes to the resolver, whose state is a thread's; whatever it says. (Where there is none it takes seconds.)
        if i == 0 {
            let _ = ("gorun.invalid", 1).to_socket_addrs();
        }
    });
}

#[test]
fn messages_of_errors() {
    at_once(ISOLATED, MANY, |i| {
        let name = std::ffi::CString::new(format!("/no/such/library-{i}.so")).expect("no 0 in it");
        // SAFETY: texts with their terminators; dlerror's is read before the next call.
        unsafe {
            assert!(libc::dlopen(name.as_ptr(), libc::RTLD_NOW).is_null());
            suspend();
            let message = dlerror();
            assert!(!message.is_null());
            let message = CStr::from_ptr(message).to_string_lossy();
            assert!(message.contains(&format!("library-{i}.so")), "another goroutine's: {message}");
            suspend();
            assert!(dlerror().is_null());
        }
    });
}

thread_local! {
    static SIGNALS: Cell<usize> = const { Cell::new(0) };
}

#[test]
fn signals_to_oneself() {
    extern "C" fn handler(_: c_int) {
        SIGNALS.set(SIGNALS.get() + 1);
        // SAFETY: an error without effects, whose errno the handler takes back.
        unsafe {
            let before = *errno();
            libc::close(-1);
            *errno() = before;
        }
    }
    // SAFETY: a handler that does what handlers may.
    unsafe { libc::signal(libc::SIGUSR2, handler as *const () as usize) };
    at_once(ISOLATED, MANY, |i| {
        for n in 0..5 {
            assert_eq!(SIGNALS.get(), 2 * n);
            *errno() = i as c_int;
            // SAFETY: handled above.
            unsafe {
                assert_eq!(libc::raise(libc::SIGUSR2), 0);
                assert_eq!(libc::pthread_kill(libc::pthread_self(), libc::SIGUSR2), 0);
            }
            assert_eq!(*errno(), i as c_int);
            suspend();
        }
    });
}

#[test]
fn signals_at_any_moment() {
    static TICKS: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn handler(_: c_int) {
        // In whatever block is loaded, between whatever instructions.
        let before = SIGNALS.get();
        SIGNALS.set(before + 1);
        TICKS.fetch_add(1, SeqCst);
        SIGNALS.set(before);
    }
    // SAFETY: a handler that does what handlers may; the timer is stopped below.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        assert_eq!(libc::sigaction(libc::SIGPROF, &raw const action, ptr::null_mut()), 0);
        let every = libc::timeval { tv_sec: 0, tv_usec: 100 };
        let timer = libc::itimerval { it_interval: every, it_value: every };
        assert_eq!(libc::setitimer(libc::ITIMER_PROF, &raw const timer, ptr::null_mut()), 0);
    }
    at_once(BOTH, SOME, |_| {
        for _ in 0..2000 {
            suspend();
            // Not in pinned mode's neighbours either: the handler puts back what it found.
            assert_eq!(SIGNALS.get(), 0);
        }
    });
    // SAFETY: as above.
    unsafe {
        let timer: libc::itimerval = std::mem::zeroed();
        assert_eq!(libc::setitimer(libc::ITIMER_PROF, &raw const timer, ptr::null_mut()), 0);
    }
    assert!(TICKS.load(SeqCst) > 0);
}

#[test]
fn the_stack_is_known() {
    at_once(ISOLATED, SOME, |_| {
        let here = 0_u8;
        let here = &raw const here as usize;
        // SAFETY: objects of ours.
        unsafe {
            let mut attributes = MaybeUninit::zeroed();
            let (mut address, mut size) = (ptr::null_mut(), 0);
            let code = libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr());
            assert!(code == 0 || code == libc::ESRCH);
            libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut address, &raw mut size);
            assert!((address as usize..address as usize + size).contains(&here));
            assert!(size < 2 << 20, "the main thread's");
            libc::pthread_attr_destroy(attributes.as_mut_ptr());
        }
        suspend();
    });
}
