//! `goroutine_local!`: `thread_local!`'s grammar, and `#[inherit]`.

/// Declares goroutine-local keys, as `std::thread_local!` declares thread-local ones.
///
/// Each goroutine (and each plain thread) has a value of its own, initialised at its first look. With `#[inherit]` a
/// child gets a clone of its parent's value when it is spawned, if the parent has one (`T: Clone + Send`); with
/// `#[inherit(hook)]` what `hook`, a function or non-capturing closure from `&T` to `T`, makes of it (`T: Send`).
/// The hook runs in the parent.
///
/// ```
/// use std::cell::{Cell, RefCell};
/// gorun::goroutine_local! {
///     /// How deep we are.
///     pub static DEPTH: Cell<u32> = const { Cell::new(0) };
///     static LOG: RefCell<Vec<String>> = RefCell::new(Vec::new());
///     #[inherit]
///     static REQUEST: Cell<u64> = const { Cell::new(0) };
///     #[inherit(|parent| Cell::new(parent.get() + 1))]
///     static GENERATION: Cell<u32> = const { Cell::new(0) };
/// }
/// gorun::go(|| {
///     REQUEST.set(7);
///     GENERATION.set(1);
///     DEPTH.set(3);
///     let child = gorun::go(|| (REQUEST.get(), GENERATION.get(), DEPTH.get(), LOG.with_borrow(Vec::len)));
///     assert_eq!(child.join().unwrap(), (7, 2, 0, 0));
/// }).join().unwrap();
/// ```
#[macro_export]
macro_rules! goroutine_local {
    () => {};
    ($($tokens:tt)+) => { $crate::__goroutine_local!([] [none] $($tokens)+); };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __goroutine_local {
    // Attributes, one by one.
    ([$($attr:tt)*] [$($inherit:tt)*] #[inherit] $($rest:tt)*) => {
        $crate::__goroutine_local!([$($attr)*] [clone] $($rest)*);
    };
    ([$($attr:tt)*] [$($inherit:tt)*] #[inherit($hook:expr)] $($rest:tt)*) => {
        $crate::__goroutine_local!([$($attr)*] [hook $hook] $($rest)*);
    };
    ([$($attr:tt)*] [$($inherit:tt)*] #[$other:meta] $($rest:tt)*) => {
        $crate::__goroutine_local!([$($attr)* #[$other]] [$($inherit)*] $($rest)*);
    };
    // One key.
    ([$($attr:tt)*] [$($inherit:tt)*] $vis:vis static $name:ident : $type:ty = const $init:block $(; $($rest:tt)*)?) => {
        $crate::__goroutine_local!(@key [$($attr)*] [$($inherit)*] $vis $name $type, { const $init });
        $crate::goroutine_local!($($($rest)*)?);
    };
    ([$($attr:tt)*] [$($inherit:tt)*] $vis:vis static $name:ident : $type:ty = $init:expr $(; $($rest:tt)*)?) => {
        $crate::__goroutine_local!(@key [$($attr)*] [$($inherit)*] $vis $name $type, { $init });
        $crate::goroutine_local!($($($rest)*)?);
    };
    (@key [$($attr:tt)*] [$($inherit:tt)*] $vis:vis $name:ident $type:ty, $init:block) => {
        $($attr)*
        $vis static $name: $crate::local::LocalKey<$type> = {
            fn init() -> $type $init
            const KIND: &$crate::local::__private::ValueKind =
                &$crate::local::__private::ValueKind::of::<$type>($crate::__goroutine_local!(@inherit $name $type, $($inherit)*));
            // SAFETY: the kind is that of the type, and its inherit function is this key's.
            unsafe { $crate::local::LocalKey::__new(init, KIND) }
        };
    };
    (@inherit $name:ident $type:ty, none) => { None };
    (@inherit $name:ident $type:ty, clone) => {
        $crate::__goroutine_local!(@inherit $name $type, hook |value: &$type| ::std::clone::Clone::clone(value))
    };
    (@inherit $name:ident $type:ty, hook $hook:expr) => {{
        unsafe fn inherit(parent: *const u8, child: &$crate::local::__private::Locals) {
            fn sendable<T: Send>(hook: fn(&T) -> T) -> fn(&T) -> T {
                hook
            }
            let hook = sendable::<$type>($hook);
            // SAFETY: the record calls with a value of this key, and a child that is not visible yet.
            unsafe { $name.__inherit(hook(&*parent.cast::<$type>()), child) };
        }
        Some(inherit)
    }};
}
