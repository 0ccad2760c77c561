//! A program with a large thread-local, and one whose alignment is larger than a page: goroutines are isolated, and have
//! room for both beside their stacks.

use gorun::runtime::{Builder, ThreadLocals, isolation};
use std::cell::{Cell, RefCell};

const LARGE: usize = 64 << 10;

#[repr(align(8192))]
struct Aligned(Cell<u64>);

thread_local! {
    static BYTES: RefCell<[u8; LARGE]> = const { RefCell::new([0; LARGE]) };
    static FAR: Aligned = const { Aligned(Cell::new(7)) };
}

#[test]
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
fn large_thread_locals_leave_goroutines_isolated() {
    assert_eq!(isolation(), Ok(()));
    assert_eq!(Builder::new().build().unwrap().thread_locals(), ThreadLocals::Isolated);
}

#[test]
fn each_goroutine_has_its_own_and_its_whole_stack() {
    let runtime = Builder::new().workers(2).build().unwrap();
    runtime.run(|| {
        // Twice, so that blocks are used again.
        for _ in 0..2 {
            let all: Vec<_> = (1..=50_u8)
                .map(|n| {
                    gorun::Builder::new()
                        .stack_size(100_000)
                        .go(move || {
                            BYTES.with_borrow_mut(|bytes| {
                                assert!(bytes.iter().all(|b| *b == 0), "fresh");
                                bytes.fill(n);
                            });
                            FAR.with(|far| {
                                assert!(std::ptr::from_ref(far).addr().is_multiple_of(8192));
                                assert_eq!(far.0.replace(u64::from(n)), 7);
                            });
                            assert_eq!(std::hint::black_box([n; 40_000])[39_999], n);
                            gorun::yield_now();
                            let kept = BYTES.with_borrow(|bytes| bytes.iter().all(|b| *b == n));
                            kept && FAR.with(|far| far.0.get()) == u64::from(n)
                        })
                        .unwrap()
                })
                .collect();
            assert!(runtime_mode_is_isolated() || isolation().is_err());
            for one in all {
                let kept = one.join().unwrap();
                // Pinned goroutines share a thread's.
                assert!(kept || isolation().is_err());
            }
        }
    });
}

fn runtime_mode_is_isolated() -> bool {
    gorun::current().unwrap().thread_locals() == ThreadLocals::Isolated
}
