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
    ($($declarations:tt)+) => { $crate::__goroutine_local!([] [new()] $($declarations)+); };
}

/// Collects one declaration's attributes, takes `#[inherit]` out, declares, goes on with the rest.
#[doc(hidden)]
#[macro_export]
macro_rules! __goroutine_local {
    ([$($attr:tt)*] [$($key:tt)*] #[inherit] $($rest:tt)*) => {
        $crate::__goroutine_local!([$($attr)*] [inheriting(, ::core::clone::Clone::clone)] $($rest)*);
    };
    ([$($attr:tt)*] [$($key:tt)*] #[inherit($hook:expr $(,)?)] $($rest:tt)*) => {
        $crate::__goroutine_local!([$($attr)*] [inheriting(, $hook)] $($rest)*);
    };
    ([$($attr:tt)*] $key:tt #[$other:meta] $($rest:tt)*) => {
        $crate::__goroutine_local!([$($attr)* #[$other]] $key $($rest)*);
    };
    (
        [$($attr:tt)*] [$new:ident($($hook:tt)*)]
        $vis:vis static $name:ident: $t:ty = const $init:block $(; $($rest:tt)*)?
    ) => {
        $($attr)*
        $vis const $name: $crate::local::LocalKey<$t> =
            $crate::__goroutine_local!(@key $t, $new(|| const $init $($hook)*));
        $crate::goroutine_local!($($($rest)*)?);
    };
    (
        [$($attr:tt)*] [$new:ident($($hook:tt)*)]
        $vis:vis static $name:ident: $t:ty = $init:expr $(; $($rest:tt)*)?
    ) => {
        $($attr)*
        $vis const $name: $crate::local::LocalKey<$t> =
            $crate::__goroutine_local!(@key $t, $new(|| $init $($hook)*));
        $crate::goroutine_local!($($($rest)*)?);
    };
    // The items have names of our own: what the initialiser mentions is the user's. It can say these names too, so nothing
    // that is safe to call may be done with them that is not sound.
    (@key $t:ty, $new:ident($($parts:tt)*)) => {{
        ::std::thread_local! {
            static __GORUN_MIRROR: $crate::local::__Mirror<$t> = const { $crate::local::__Mirror::new() };
        }
        static __GORUN_KEY: $crate::local::__Key<$t> = $crate::local::__Key::<$t>::$new(
            // A closure, which has no name. SAFETY: the key's kind alone is given it.
            |value| __GORUN_MIRROR.with(|mirror| unsafe { mirror.set(value) }),
            $($parts)*
        );
        // SAFETY: the key and the mirror, which its kind writes, are this constant's alone.
        unsafe { $crate::local::LocalKey::__new(|| &__GORUN_KEY, || __GORUN_MIRROR.with(|mirror| mirror.get())) }
    }};
}
