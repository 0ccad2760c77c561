//! The floating-point control state (rounding mode, flush-to-zero, x87 precision) is the goroutine's own, in both modes.
#![allow(unsafe_code, reason = "instructions, and functions of libc")]
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

mod common;

use common::child::skip_isolated;
use gorun::runtime::{Builder, Runtime, ThreadLocals};
use std::arch::asm;
use std::hint::black_box;

/// Of `fenv.h`, on x86.
const FE_TONEAREST: i32 = 0;
const FE_UPWARD: i32 = 0x800;
const FE_DOWNWARD: i32 = 0x400;

unsafe extern "C" {
    safe fn fesetround(mode: i32) -> i32;
    safe fn fegetround() -> i32;
}

fn third() -> f64 {
    black_box(1.0) / black_box(3.0)
}

/// What the x87 unit makes of it: another register than that of `third`.
fn x87_third() -> f64 {
    let (mut one, three) = (1.0f64, 3.0f64);
    // SAFETY: loads two variables and stores one; the x87 stack is as before.
    unsafe {
        asm!(
            "fld qword ptr [{one}]",
            "fld qword ptr [{three}]",
            "fdivp",
            "fstp qword ptr [{one}]",
            one = in(reg) &raw mut one,
            three = in(reg) &raw const three,
            options(nostack)
        );
    }
    one
}

const NEAREST: f64 = 1.0 / 3.0;

fn mxcsr() -> u32 {
    let mut value = 0u32;
    // SAFETY: stores a register into a variable.
    unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut value, options(nostack, preserves_flags)) };
    value & !0x3f
}

fn set_mxcsr(value: u32) {
    // SAFETY: no reserved bit is set by the callers.
    unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const value, options(nostack, preserves_flags)) };
}

fn runtime_in(mode: ThreadLocals, workers: usize) -> Runtime {
    Builder::new().workers(workers).thread_locals(mode).build().unwrap()
}

fn both_modes(f: impl Fn(ThreadLocals)) {
    f(ThreadLocals::Pinned);
    if gorun::runtime::isolation().is_ok() {
        f(ThreadLocals::Isolated);
    } else {
        skip_isolated();
    }
}

#[test]
fn a_mode_ends_with_its_goroutine() {
    both_modes(|mode| {
        runtime_in(mode, 1).run(|| {
            gorun::go(|| assert_eq!(fesetround(FE_UPWARD), 0)).join().unwrap();
            let (quotient, mode) = gorun::go(|| (third(), fegetround())).join().unwrap();
            assert_eq!((quotient, mode), (NEAREST, FE_TONEAREST));
        });
    });
}

#[test]
fn a_mode_is_kept_over_waits_and_is_nobody_elses() {
    both_modes(|mode| {
        runtime_in(mode, 2).run(|| {
            gorun::scope(|scope| {
                for n in 0..1000 {
                    scope.go(move || {
                        let wanted = [FE_TONEAREST, FE_UPWARD, FE_TONEAREST, FE_DOWNWARD][n % 4];
                        if wanted != FE_TONEAREST {
                            assert_eq!(fesetround(wanted), 0);
                        }
                        let (before, before_x87) = (third(), x87_third());
                        for _ in 0..20 {
                            gorun::yield_now();
                            assert_eq!(fegetround(), wanted);
                            assert_eq!((third(), x87_third()), (before, before_x87));
                        }
                        assert_eq!(before > NEAREST, wanted == FE_UPWARD);
                    });
                }
            });
        });
    });
}

#[test]
fn flush_to_zero_is_kept_over_a_wait_and_left_to_nobody() {
    const FLUSH_TO_ZERO: u32 = 0x8000;
    both_modes(|mode| {
        runtime_in(mode, 1).run(|| {
            // The other one computes while this one is suspended, and this one goes on after it.
            let (asks, asked) = gorun::channel::<()>(0);
            let (answers, answered) = gorun::channel(0);
            let other = gorun::go(move || {
                asked.recv().unwrap();
                answers.send(black_box(f64::MIN_POSITIVE) / black_box(4.0)).unwrap();
            });
            let flushes = gorun::go(move || {
                set_mxcsr(mxcsr() | FLUSH_TO_ZERO);
                asks.send(()).unwrap();
                let others = answered.recv().unwrap();
                (others > black_box(0.0), black_box(f64::MIN_POSITIVE) / black_box(4.0))
            });
            other.join().unwrap();
            let (others_is_above_zero, own) = flushes.join().unwrap();
            assert_eq!(own, 0.0);
            assert!(others_is_above_zero, "the other one's denormal was flushed");
        });
    });
}

#[test]
fn a_panic_in_an_odd_mode_leaves_the_worker_in_the_usual_one() {
    both_modes(|mode| {
        runtime_in(mode, 1).run(|| {
            let panics = gorun::go(|| {
                fesetround(FE_UPWARD);
                gorun::yield_now();
                std::panic::resume_unwind(Box::new("on purpose"));
            });
            assert!(panics.join().is_err());
            assert_eq!(gorun::go(third).join().unwrap(), NEAREST);
        });
    });
}

#[test]
fn a_runtime_made_in_an_odd_mode_begins_in_the_usual_one() {
    both_modes(|mode| {
        fesetround(FE_UPWARD);
        let runtime = runtime_in(mode, 1);
        let seen = runtime.run(|| (third(), gorun::go(third).join().unwrap()));
        let mine = third();
        fesetround(FE_TONEAREST);
        assert_eq!(seen, (NEAREST, NEAREST));
        assert!(mine > NEAREST, "a plain thread keeps its own");
    });
}
