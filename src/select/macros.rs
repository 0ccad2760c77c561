//! The grammar of `select!`, which is crossbeam-channel's, and what it expands to.
//!
//! `@list` makes every arm of one form, `@add` turns arm after arm into a `match` around the rest, so that temporaries in
//! the channel's expression live as long as the arm does. Both take one step per arm, which allows some sixty arms
//! before a `#![recursion_limit]` is needed.
//!
//! Compiler errors point at the arm. `@list` writes an arm's word twice: the second copy names the method that makes the
//! arm, and a type error is reported where the method's name stands. `compile_error!` can only point at the whole macro, so
//! it comes with a call of `__select_expects!`, which fails at the token it is given.

/// Waits for one of several channel operations and carries it out.
///
/// ```text
/// recv(receiver) -> result => body,          result: Result<T, RecvError>
/// send(sender, value) -> result => body,     result: Result<(), SendError<T>>
/// default => body,                           when no operation can go on at once
/// default(timeout) => body,                  when none could until then
/// ```
///
/// An operation can go on when it would not have to wait, be it that it fails because its channel is closed. If several
/// can, each of them is equally likely to be chosen; [`select_biased!`](crate::select_biased!) takes the first. Without a
/// `default`, it waits until one can. Any number of arms, and the same channel in several of them, on both sides too: a
/// select never serves itself. An arm whose channel is `None` (see [`AsReceiver`](crate::select::AsReceiver)) or
/// [`never()`](crate::never()) is never chosen.
///
/// The channels' expressions are evaluated once, in the order in which they are written, and the timeout after them. A
/// value to send is evaluated when its arm has been chosen; until then it stays with the caller. (In Go it is evaluated at
/// once, whether it is sent or not.) While it is evaluated, a receiver that was found waiting goes on waiting for it, and
/// if the evaluation panics or leaves with `return`, nothing was sent. But the receiver does not wait without limit: if the
/// value is not there after some 10 ms, the receiver checks its deadline, aborts and its other arms again, and may leave.
/// The send then still succeeds: the value stays in the channel for the next receive, even if the channel has no capacity.
/// So compute an expensive value before the `select!`.
///
/// A cancellation point, unless it has a plain `default`: when the goroutine is aborted while it waits, no operation was
/// carried out. The orderings are those of the operations: see [`chan`](crate::chan).
///
/// Go's specification: "Select statements".
///
/// ```
/// use gorun::select;
/// use std::time::Duration;
///
/// let (words, heard) = gorun::channel(0);
/// let (stop, stopped) = gorun::channel::<()>(0);
/// let speaker = gorun::go(move || {
///     ["one", "two"].map(|word| words.send(word).unwrap());
///     drop(stop);
///     words // stays open as long as the handle
/// });
/// let mut count = 0;
/// loop {
///     select! {
///         recv(heard) -> word => count += word.unwrap().len(),
///         recv(stopped) -> _ => break,
///         default(Duration::from_secs(60)) => panic!("nobody speaks"),
///     }
/// }
/// assert_eq!(count, 6);
/// drop(speaker);
/// ```
///
/// Sending what is not needed otherwise; a value that was not sent is still there:
///
/// ```
/// let (tx, rx) = gorun::channel(1);
/// let mut left = Vec::new();
/// for word in ["first".to_string(), "second".to_string()] {
///     gorun::select! {
///         send(tx, word) -> sent => sent.unwrap(),
///         default => left.push(word),
///     }
/// }
/// assert_eq!((rx.recv().unwrap(), left), ("first".to_string(), vec!["second".to_string()]));
/// ```
#[macro_export]
macro_rules! select {
    ($($tokens:tt)*) => {
        $crate::__select!(@begin false $($tokens)*)
    };
}

/// As [`select!`](crate::select!), but of several arms that can go on the first is chosen.
///
/// ```
/// let (urgent_tx, urgent) = gorun::channel(2);
/// let (tx, rx) = gorun::channel(2);
/// tx.send("later").unwrap();
/// urgent_tx.send("now").unwrap();
/// let mut seen = Vec::new();
/// for _ in 0..2 {
///     gorun::select_biased! {
///         recv(urgent) -> word => seen.push(word.unwrap()),
///         recv(rx) -> word => seen.push(word.unwrap()),
///     }
/// }
/// assert_eq!(seen, ["now", "later"]);
/// ```
#[macro_export]
macro_rules! select_biased {
    ($($tokens:tt)*) => {
        $crate::__select!(@begin true $($tokens)*)
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __select {
    (@begin $biased:tt) => {
        compile_error!("empty `select!` block; to wait for ever write `gorun::never::<()>().recv()`")
    };
    (@begin $biased:tt $($tokens:tt)+) => {
        $crate::__select!(@list $biased () $($tokens)+)
    };

    // All arms have the same form now.
    (@list $biased:tt ($($arms:tt)*)) => {
        $crate::__select!(@add $biased (0) [] [] [] $($arms)*)
    };
    (@list $biased:tt $arms:tt $kind:tt => $($rest:tt)*) => {
        $crate::__select!(@list $biased $arms $kind () => $($rest)*)
    };
    (@list $biased:tt $arms:tt default $(($($args:tt)*))? -> $($rest:tt)*) => {{
        $crate::__select_expects!(@double_arrow $($rest)*);
        compile_error!("expected `=>` after `default`, found `->`")
    }};
    (@list $biased:tt $arms:tt recv($($args:tt)*) => $($rest:tt)*) => {{
        $crate::__select_expects!(@arrow $($rest)*);
        compile_error!("expected `->` after `recv(..)`, found `=>`")
    }};
    (@list $biased:tt $arms:tt send($($args:tt)*) => $($rest:tt)*) => {{
        $crate::__select_expects!(@arrow $($rest)*);
        compile_error!("expected `->` after `send(..)`, found `=>`")
    }};
    (@list $biased:tt ($($arms:tt)*) $kind:tt $args:tt $(-> $result:pat)? => { $($body:tt)* }, $($rest:tt)*) => {
        $crate::__select!(@list $biased ($($arms)* $kind $kind $args ($($result)?) { $($body)* }) $($rest)*)
    };
    (@list $biased:tt ($($arms:tt)*) $kind:tt $args:tt $(-> $result:pat)? => $body:expr, $($rest:tt)*) => {
        $crate::__select!(@list $biased ($($arms)* $kind $kind $args ($($result)?) { $body }) $($rest)*)
    };
    // No comma is needed after a block.
    (@list $biased:tt ($($arms:tt)*) $kind:tt $args:tt $(-> $result:pat)? => { $($body:tt)* } $($rest:tt)*) => {
        $crate::__select!(@list $biased ($($arms)* $kind $kind $args ($($result)?) { $($body)* }) $($rest)*)
    };
    (@list $biased:tt ($($arms:tt)*) $kind:tt $args:tt $(-> $result:pat)? => $body:expr) => {
        $crate::__select!(@list $biased ($($arms)* $kind $kind $args ($($result)?) { $body }))
    };
    (@list $biased:tt $arms:tt $($rest:tt)*) => {{
        $crate::__select_expects!(@arm $($rest)*);
        compile_error!(concat!(
            "expected `recv(r) -> result => body`, `send(s, value) -> result => body`, `default => body` or ",
            "`default(timeout) => body`, separated by commas, found `", stringify!($($rest)*), "`",
        ))
    }};

    (@add $biased:tt ($($n:tt)*) [$($table:tt)*] [$($branches:tt)*] $default:tt
        recv $recv:tt ($receiver:expr $(,)?) ($result:pat) $body:tt $($rest:tt)*
    ) => {
        match $crate::select::internal::Arms.$recv(&$receiver, ::core::marker::PhantomData) {
            mut _arm => $crate::__select!(
                @add $biased ($($n)* + 1) [$($table)* _arm.arm(),]
                [$($branches)* (($($n)*) { let $result = _arm.finish(); $body })]
                $default $($rest)*
            ),
        }
    };
    (@add $biased:tt ($($n:tt)*) [$($table:tt)*] [$($branches:tt)*] $default:tt
        send $send:tt ($sender:expr, $value:expr $(,)?) ($result:pat) $body:tt $($rest:tt)*
    ) => {
        match $crate::select::internal::Arms.$send(&$sender, ::core::marker::PhantomData) {
            mut _arm => $crate::__select!(
                @add $biased ($($n)* + 1) [$($table)* _arm.arm(),]
                [$($branches)* (($($n)*) { let $result = _arm.permit().send($value); $body })]
                $default $($rest)*
            ),
        }
    };
    (@add $biased:tt $n:tt $table:tt $branches:tt []
        default $word:tt () () $body:tt $($rest:tt)*
    ) => {
        $crate::__select!(
            @add $biased $n $table $branches [($crate::select::internal::Wait::Not) $body] $($rest)*
        )
    };
    (@add $biased:tt $n:tt $table:tt $branches:tt []
        default $word:tt ($timeout:expr $(,)?) () $body:tt $($rest:tt)*
    ) => {
        $crate::__select!(
            @add $biased $n $table $branches [($crate::select::internal::for_at_most($timeout)) $body] $($rest)*
        )
    };
    (@add $biased:tt $n:tt $table:tt $branches:tt [$($default:tt)+]
        default $second:tt $args:tt () $body:tt $($rest:tt)*
    ) => {{
        $crate::__select_expects!(@no_second_default $second $args);
        compile_error!("there can be only one `default` in a `select!` block")
    }};
    (@add $biased:tt $n:tt $table:tt $branches:tt []) => {
        $crate::__select!(
            @add $biased $n $table $branches
            [($crate::select::internal::Wait::Until(::std::option::Option::None)) {
                ::std::unreachable!("there is no deadline")
            }]
        )
    };
    (@add $biased:tt $n:tt [$($table:tt)*] [$((($($index:tt)*) $branch:block))*] [($wait:expr) $default:tt]) => {{
        let _selected = $crate::select::internal::run(&mut [$($table)*], $biased, $wait);
        match _selected {
            $(::std::option::Option::Some(_index) if _index == $($index)* => $branch)*
            ::std::option::Option::Some(_) => ::std::unreachable!("an arm of this select"),
            ::std::option::Option::None => $default,
        }
    }};
    (@add $biased:tt $n:tt $table:tt $branches:tt $default:tt $kind:tt $again:tt $args:tt $($rest:tt)*) => {{
        $crate::__select_expects!(@arm $again $args);
        compile_error!(concat!("invalid arm `", stringify!($kind), stringify!($args), "` in a `select!` block"))
    }};
}

/// Takes nothing that it is given: the compiler points at the first token behind the name, and says what was expected.
#[doc(hidden)]
#[macro_export]
macro_rules! __select_expects {
    (@arrow ->) => {};
    (@double_arrow =>) => {};
    (@arm) => {};
    (@no_second_default) => {};
}
