//! `goroutine_local!`: the grammar of `thread_local!`, with `#[inherit]`.

/// Declares [`LocalKey`](crate::local::LocalKey)s, in the grammar of `std::thread_local!`.
///
/// Two attributes more: `#[inherit]` hands a clone of the spawner's value to every goroutine it spawns, if the
/// spawner has one by then; `#[inherit(hook)]` makes the child's value with `hook`, a function or a closure that
/// captures nothing, from `&T` to `T`. The hook runs in the spawner; its panic ends the spawn. What is inherited
/// must be `Send`, because the child may run on another thread.
///
/// ```
/// use std::cell::{Cell, RefCell};
///
/// gorun::goroutine_local! {
///     /// Made once, at compile time.
///     pub static DEPTH: Cell<u32> = const { Cell::new(0) };
///     static NAMES: RefCell<Vec<String>> = RefCell::new(Vec::new());
///     #[inherit]
///     static REQUEST: Cell<u64> = const { Cell::new(0) };
///     #[inherit(|parent: &Cell<u32>| Cell::new(parent.get() + 1))]
///     static GENERATION: Cell<u32> = const { Cell::new(0) };
/// }
///
/// REQUEST.set(17);
/// GENERATION.set(1);
/// DEPTH.set(1);
/// let child = gorun::go(|| (REQUEST.get(), GENERATION.get(), DEPTH.get()));
/// assert_eq!(child.join().unwrap(), (17, 2, 0));
/// ```
///
/// What is not `Send` is not inherited:
///
/// ```compile_fail,E0277
/// gorun::goroutine_local! {
///     #[inherit]
///     static SHARED: std::rc::Rc<u32> = std::rc::Rc::new(1);
/// }
/// ```
#[macro_export]
macro_rules! goroutine_local {
    () => {};
    ($($declarations:tt)+) => { $crate::__goroutine_local!([] [__new()] $($declarations)+); };
}

/// Collects one declaration's attributes, takes `#[inherit]` out, declares, goes on with the rest.
#[doc(hidden)]
#[macro_export]
macro_rules! __goroutine_local {
    ([$($attr:tt)*] [$($key:tt)*] #[inherit] $($rest:tt)*) => {
        $crate::__goroutine_local!([$($attr)*] [__inheriting(, ::core::clone::Clone::clone)] $($rest)*);
    };
    ([$($attr:tt)*] [$($key:tt)*] #[inherit($hook:expr $(,)?)] $($rest:tt)*) => {
        $crate::__goroutine_local!([$($attr)*] [__inheriting(, $hook)] $($rest)*);
    };
    ([$($attr:tt)*] $key:tt #[$other:meta] $($rest:tt)*) => {
        $crate::__goroutine_local!([$($attr)* #[$other]] $key $($rest)*);
    };
    (
        [$($attr:tt)*] [$new:ident($($hook:tt)*)]
        $vis:vis static $name:ident: $t:ty = const $init:block $(; $($rest:tt)*)?
    ) => {
        $($attr)*
        $vis static $name: $crate::local::LocalKey<$t> =
            $crate::local::LocalKey::<$t>::$new(|| const $init $($hook)*);
        $crate::goroutine_local!($($($rest)*)?);
    };
    (
        [$($attr:tt)*] [$new:ident($($hook:tt)*)]
        $vis:vis static $name:ident: $t:ty = $init:expr $(; $($rest:tt)*)?
    ) => {
        $($attr)*
        $vis static $name: $crate::local::LocalKey<$t> =
            $crate::local::LocalKey::<$t>::$new(|| $init $($hook)*);
        $crate::goroutine_local!($($($rest)*)?);
    };
}
