//! The floating-point control state of a goroutine: rounding mode, exception masks, flush-to-zero.
//!
//! The ABI counts these bits among the registers that a call preserves (System V AMD64, 3.2.3: the control bits of MXCSR
//! and the x87 control word), so a wait must restore them, and no other goroutine may compute with them meanwhile. Used by
//! `coroutine` at each suspension, and by threads of the runtime when they begin.
//!
//! * **N1.** A worker's thread is in the default state whenever it is on its own stack: [`FloatControl::set_default`] when
//!   it begins, and a goroutine restores it before leaving its own stack. So a goroutine begins in the default state, and
//!   if it never changes the state it pays for two stores and a comparison at each suspension, and nothing at resumption.
//!
//! The status bits, which say what exceptions have occurred, are not kept: the ABI does not require calls to preserve them.
//! On processors other than x86-64 nothing is kept.

/// The control bits in force on a thread at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FloatControl {
    #[cfg(target_arch = "x86_64")]
    mxcsr: u32,
    #[cfg(target_arch = "x86_64")]
    x87: u16,
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use super::FloatControl;
    use std::arch::asm;
    use std::mem::MaybeUninit;

    /// All bits of MXCSR except the six status bits.
    const MXCSR_CONTROL: u32 = !0x3f;

    impl FloatControl {
        /// As in a new process: all exceptions masked, to nearest, denormals kept; x87 with 64 bits of precision.
        pub(crate) const DEFAULT: FloatControl = FloatControl { mxcsr: 0x1f80, x87: 0x037f };

        #[inline(always)]
        pub(crate) fn current() -> FloatControl {
            let (mut mxcsr, mut x87) = (MaybeUninit::<u32>::uninit(), MaybeUninit::<u16>::uninit());
            // SAFETY: stores two registers into two variables, which are initialised by it.
            let (mxcsr, x87) = unsafe {
                asm!(
                    "stmxcsr [{mxcsr}]",
                    "fnstcw [{x87}]",
                    mxcsr = in(reg) mxcsr.as_mut_ptr(),
                    x87 = in(reg) x87.as_mut_ptr(),
                    options(nostack, preserves_flags)
                );
                (mxcsr.assume_init(), x87.assume_init())
            };
            FloatControl { mxcsr: mxcsr & MXCSR_CONTROL, x87 }
        }

        /// Takes effect for everything that the thread computes from here on.
        #[cold]
        #[inline(never)]
        pub(crate) fn set(self) {
            // SAFETY: both are values that the registers have had, or the default: no reserved bit is set. The status bits of
            // x87 are cleared first: they may be another goroutine's, and one that is set and not masked would trap. (Those
            // of MXCSR trap only when an operation sets them.)
            unsafe {
                asm!(
                    "fnclex",
                    "fldcw [{x87}]",
                    "ldmxcsr [{mxcsr}]",
                    mxcsr = in(reg) &raw const self.mxcsr,
                    x87 = in(reg) &raw const self.x87,
                    options(nostack, preserves_flags)
                );
            }
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl FloatControl {
    pub(crate) const DEFAULT: FloatControl = FloatControl {};

    pub(crate) fn current() -> FloatControl {
        FloatControl::DEFAULT
    }

    pub(crate) fn set(self) {}
}

impl FloatControl {
    /// Returns true if the thread computes in the default state.
    #[inline(always)]
    pub(crate) fn is_default() -> bool {
        FloatControl::current() == FloatControl::DEFAULT
    }

    /// Called on a new thread, which inherits the state of the thread that started it, and when a goroutine has ended.
    #[inline(always)]
    pub(crate) fn set_default() {
        if !FloatControl::is_default() {
            FloatControl::DEFAULT.set();
        }
    }
}
