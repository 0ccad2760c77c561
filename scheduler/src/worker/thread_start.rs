//! A thread that starts threads, so that workers and pool threads inherit the state of the process when its first runtime
//! started.
//!
//! A new thread inherits from the one that starts it: affinity, niceness and scheduling policy, blocked signals,
//! capabilities, namespaces, seccomp filters. A goroutine that has locked its thread may have changed them, for good in
//! some cases (a niceness can't be lowered again without a privilege), so they can't be restored afterwards. So this
//! thread, which does nothing else, starts the threads that goroutines need. It corresponds to Go's template thread.
//!
//! Threads started for a plain thread inherit from it: a runtime that is built on a thread bound to some processors has
//! workers bound to them.
//!
//! Used by `scheduler` (workers) and by `gorun::blocking`.

use crate::base::atomics::Lock;
use crate::base::process::{self, PerProcess};
use crate::goroutine::current;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

type Body = Box<dyn FnOnce() + Send>;

/// A request for a thread, and where the answer goes.
struct Request {
    name: String,
    body: Body,
    answer: Arc<Answer>,
}

#[derive(Default)]
struct Answer {
    given: Mutex<Option<io::Result<JoinHandle<()>>>>,
    signal: Condvar,
}

#[derive(Default)]
struct Starter {
    requests: Mutex<VecDeque<Request>>,
    signal: Condvar,
    /// True once its thread was started.
    begun: Lock<bool>,
    /// Opened by that thread when it has done what it does first.
    ready: Gate,
}

fn starter() -> &'static Starter {
    static STARTER: PerProcess<Starter> = PerProcess::new();
    STARTER.get(Starter::default)
}

/// Starts the starter thread, once for the process; it inherits from the calling thread. Returns when that thread has called
/// `first`.
///
/// # Errors
/// When the kernel refuses it.
pub(crate) fn begin(first: fn()) -> io::Result<()> {
    let mut begun = starter().begun.lock();
    if !*begun {
        let body = move || {
            first();
            starter().ready.open();
            starter().serve();
        };
        spawn("gorun-starter".to_owned(), Box::new(body))?;
        starter().ready.wait();
        *begun = true;
    }
    Ok(())
}

/// Starts a thread that inherits the state of the process when its first runtime started; if a plain thread calls, the new
/// thread inherits from the caller.
///
/// # Errors
/// When the kernel refuses it; `body` is dropped then.
///
/// ```
#[doc = include_str!("../examples.txt")]
/// join(&go(|| {
///     let thread = gorun_scheduler::start_thread("io".to_owned(), Box::new(|| ())).unwrap();
///     thread.join().unwrap();
/// }));
/// ```
pub fn start_thread(name: String, body: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
    if current::goroutine().is_none() {
        return spawn(name, body);
    }
    starter().ask(name, body)
}

/// Starts a thread. Forks wait while it begins and while it ends: std takes a lock of its own there, which would be held for
/// ever in the child, where no thread of std's would ever begin.
fn spawn(name: String, body: Body) -> io::Result<JoinHandle<()>> {
    struct Ends;
    impl Drop for Ends {
        fn drop(&mut self) {
            current::hold_off_until_end();
        }
    }
    let beginning = process::hold_off();
    Builder::new().name(name).spawn(move || {
        drop(beginning);
        let _ends = Ends;
        body();
    })
}

/// Closed until somebody opens it.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    signal: Condvar,
}

impl Gate {
    fn open(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.signal.notify_all();
    }

    #[expect(clippy::disallowed_methods, reason = "until a thread has begun, once in a process")]
    fn wait(&self) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.signal.wait_while(open, |open| !*open));
    }
}

impl Starter {
    #[expect(clippy::disallowed_methods, reason = "another thread answers, within some ten microseconds")]
    fn ask(&self, name: String, body: Body) -> io::Result<JoinHandle<()>> {
        let answer = Arc::new(Answer::default());
        let request = Request { name, body, answer: answer.clone() };
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push_back(request);
        self.signal.notify_one();
        let given = answer.given.lock().unwrap_or_else(PoisonError::into_inner);
        let given = answer.signal.wait_while(given, |given| given.is_none());
        given.unwrap_or_else(PoisonError::into_inner).take().expect("waited for")
    }

    #[expect(clippy::disallowed_methods, reason = "the starter's own thread")]
    fn serve(&self) {
        loop {
            let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
            let requests = self.signal.wait_while(requests, |requests| requests.is_empty());
            let Some(Request { name, body, answer }) = requests.unwrap_or_else(PoisonError::into_inner).pop_front()
            else {
                continue;
            };
            let started = spawn(name, body);
            *answer.given.lock().unwrap_or_else(PoisonError::into_inner) = Some(started);
            answer.signal.notify_one();
        }
    }
}
