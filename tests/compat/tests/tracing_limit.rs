//! tracing-subscriber's registry and its limit: 4,096 threads that have made a span and live, goroutines with
//! thread-locals of their own among them.
//!
//! The registry numbers threads (sharded-slab), takes a number back in a thread-local's destructor, and panics beyond
//! 4,096 of them. What that means for goroutines, each case in a process of its own, because the numbers are the
//! process's: `docs/thread-locals.md` has the results.

use gorun::runtime::{Builder, Runtime, ThreadLocals};
use std::collections::HashSet;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use tracing_subscriber::layer::SubscriberExt;

const CHILD: &str = "GORUN_COMPAT_CHILD";
/// Of the registry; the test's own threads take a few of them.
const LIMIT: usize = 4096;

/// Runs this very test, which is called `name`, alone in a process with a registry, or says that this is it.
fn alone(name: &str) -> bool {
    if std::env::var_os(CHILD).is_some() {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !info.payload_as_str().is_some_and(|text| text.contains("max threads")) {
                usual(info);
            }
        }));
        let layer = tracing_subscriber::fmt::layer().with_writer(std::io::sink);
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer)).expect("the first");
        return true;
    }
    let mut child = Command::new(std::env::current_exe().expect("a path"));
    let output = child.args(["--exact", name, "--test-threads=1"]).env(CHILD, "1").output().expect("a process");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said} {}", String::from_utf8_lossy(&output.stderr));
    false
}

fn runtime() -> Runtime {
    Builder::new().workers(2).thread_locals(ThreadLocals::Isolated).build().expect("this platform has it")
}

/// The thread number that is part of a span's id: what the registry's slab (`sharded_slab`'s default configuration on
/// 64-bit processors) has above the 38 bits of an address.
fn thread_number(span: &tracing::Span) -> u64 {
    let id = span.id().expect("an enabled span").into_u64() - 1;
    (id >> 38) & 0x1fff
}

/// Starts `n` goroutines, all of which live and have a span entered at the same time, and counts who could.
fn crowd(n: usize, mode: ThreadLocals) -> (HashSet<u64>, usize) {
    let (open, gate) = gorun::channel::<()>(0);
    let (tell, told) = gorun::channel(0);
    let entered = Arc::new(AtomicUsize::new(0));
    let builder = gorun::Builder::new().thread_locals(mode);
    let goroutines: Vec<_> = (0..n)
        .map(|i| {
            let (gate, tell, entered) = (gate.clone(), tell.clone(), entered.clone());
            let goroutine = builder.clone().go(move || {
                let made = std::panic::catch_unwind(|| tracing::info_span!("held", i));
                let number = made.as_ref().map(thread_number).ok();
                tell.send(number).expect("open");
                let span = made.unwrap_or_else(|panic| std::panic::resume_unwind(panic)).entered();
                tracing::info!("an event");
                let _closed = gate.recv();
                // Isolated ones alone are sure to find their own span here.
                drop(span);
                entered.fetch_add(1, SeqCst);
            });
            goroutine.expect("memory")
        })
        .collect();
    let numbers = (0..n).filter_map(|_| told.recv().expect("open")).collect();
    drop(open);
    let failed = goroutines.into_iter().filter_map(|g| g.join().err()).inspect(|e| assert!(e.is_panic())).count();
    assert_eq!(entered.load(SeqCst) + failed, n, "each one way or the other");
    (numbers, failed)
}

#[test]
fn four_thousand_at_a_time_are_right() {
    if alone("four_thousand_at_a_time_are_right") {
        for _ in 0..2 {
            let (numbers, failed) = runtime().run(|| crowd(4000, ThreadLocals::Isolated));
            assert_eq!((numbers.len(), failed), (4000, 0), "each its own number");
        }
    }
}

#[test]
fn numbers_are_given_back() {
    // A hundred thousand, of which a hundred live at once, take no more numbers than a hundred threads do.
    if alone("numbers_are_given_back") {
        let numbers: HashSet<u64> = runtime().run(|| {
            (0..1000)
                .flat_map(|_| {
                    let (numbers, failed) = crowd(100, ThreadLocals::Isolated);
                    assert_eq!(failed, 0);
                    numbers
                })
                .collect()
        });
        assert!((100..120).contains(&numbers.len()), "{}", numbers.len());
    }
}

#[test]
fn beyond_the_limit_the_goroutine_panics_and_so_do_later_ones() {
    if alone("beyond_the_limit_the_goroutine_panics_and_so_do_later_ones") {
        runtime().run(|| {
            const TOO_MANY: usize = LIMIT + 500;
            let (numbers, failed) = crowd(TOO_MANY, ThreadLocals::Isolated);
            assert_eq!((numbers.len(), failed), (LIMIT, TOO_MANY - LIMIT), "who came too late, and nobody else");
            // The numbers that were too high went to the free ones like all others, and come round again: so a program
            // has to stay below the limit always. (With threads it is the same.)
            let later: usize = (0..10).map(|_| crowd(1000, ThreadLocals::Isolated).1).sum();
            assert!(later > 0, "the registry has become better than docs/thread-locals.md says");
        });
    }
}

#[test]
fn pinned_ones_take_the_workers_numbers() {
    if alone("pinned_ones_take_the_workers_numbers") {
        let (numbers, failed) = runtime().run(|| crowd(3 * LIMIT, ThreadLocals::Pinned));
        assert_eq!(failed, 0);
        assert!(numbers.len() <= 8, "{}", numbers.len());
    }
}
