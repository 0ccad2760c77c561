//! Interpreters in goroutines with stacks of the default size: Lua, JavaScript (QuickJS), Python, and WebAssembly (wasmtime).
//!
//! Their own limits of recursion are reached before the end of the stack, so that they answer with an error, as on a thread.
//! What they keep by thread (traps and their signal stack, long jumps, Python's thread states and its global lock) is right in
//! goroutines that wait and migrate.
#![deny(warnings, clippy::all)]

use gorun::yield_now;
use gorun_compat::{ISOLATED, SOME, at_once};
use mlua::Lua;
use pyo3::exceptions::{PyMemoryError, PyRecursionError};
use pyo3::ffi::c_str;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple};
use rquickjs::{Context, Runtime};
use std::sync::atomic::{AtomicUsize, Ordering};
use wasmtime::{Caller, Engine, Func, Instance, Module, Store, Trap};

/// Runs `f` on a thread, and then in so many goroutines at once.
fn as_on_a_thread(goroutines: usize, f: impl Fn() + Send + Sync + Copy + 'static) {
    std::thread::spawn(f).join().expect("a thread can do it");
    at_once(ISOLATED, goroutines, move |_| f());
}

/// Functions that trap, and one that lets the host wait before it does.
const TRAPS: &str = r#"(module
    (import "host" "wait" (func $wait))
    (memory 1)
    (func $divide (export "divide") (param i32) (result i32) (call $wait) (i32.div_s (i32.const 1) (local.get 0)))
    (func (export "load") (param i32) (result i32) (call $wait) (i32.load (local.get 0)))
    (func (export "unreachable") (param i32) (result i32) (call $wait) unreachable)
    (func $recurse (export "recurse") (param i32) (result i32)
        (i32.add (i32.const 1) (call $recurse (i32.add (i32.const 1) (local.get 0)))))
    (func (export "indirect") (param i32) (result i32) (call_indirect (param i32) (result i32) (i32.const 0) (local.get 0)))
    (table funcref (elem $divide)))"#;

/// wasmtime's traps are signals (SIGFPE, SIGSEGV, SIGILL), handled on the alternate stack, and found by a thread-local that
/// says which calls are under way.
#[test]
fn webassembly_traps_are_errors() {
    let engine = Engine::default();
    let module = Module::new(&engine, TRAPS).expect("a module");
    let at_work = move || {
        let mut store = Store::new(&engine, 0_u32);
        let wait = Func::wrap(&mut store, |mut caller: Caller<'_, u32>| {
            *caller.data_mut() += 1;
            yield_now();
        });
        let instance = Instance::new(&mut store, &module, &[wait.into()]).expect("an instance");
        let mut call = |name: &str, n: i32| {
            let function = instance.get_typed_func::<i32, i32>(&mut store, name).expect("a function");
            let result = function.call(&mut store, n);
            yield_now();
            result.map_err(|error| *error.downcast_ref::<Trap>().expect("a trap"))
        };
        for _ in 0..5 {
            assert_eq!(call("divide", 1), Ok(1));
            assert_eq!(call("divide", 0), Err(Trap::IntegerDivisionByZero));
            assert_eq!(call("load", 0), Ok(0));
            assert_eq!(call("load", 1 << 20), Err(Trap::MemoryOutOfBounds));
            assert_eq!(call("unreachable", 0), Err(Trap::UnreachableCodeReached));
            assert_eq!(call("recurse", 0), Err(Trap::StackOverflow));
            assert_eq!(call("indirect", 1), Err(Trap::TableOutOfBounds));
        }
        assert_eq!(*store.data(), 25);
    };
    let in_goroutines = at_work.clone();
    std::thread::spawn(at_work).join().expect("a thread can do it");
    at_once(ISOLATED, 100, move |_| in_goroutines());
}

/// A trap inside a call of the host that was made by a call of WebAssembly, in a goroutine started by a third.
#[test]
fn a_webassembly_trap_ends_the_innermost_call() {
    let engine = Engine::default();
    let module = Module::new(&engine, TRAPS).expect("a module");
    at_once(ISOLATED, 100, move |_| {
        let mut outer = Store::new(&engine, ());
        let (inner_engine, inner_module) = (engine.clone(), module.clone());
        let wait = Func::wrap(&mut outer, move || {
            let mut store = Store::new(&inner_engine, ());
            let wait = Func::wrap(&mut store, yield_now);
            let instance = Instance::new(&mut store, &inner_module, &[wait.into()]).expect("an instance");
            let divide = instance.get_typed_func::<i32, i32>(&mut store, "divide").expect("a function");
            let error = divide.call(&mut store, 0).expect_err("a division by zero");
            assert_eq!(error.downcast_ref(), Some(&Trap::IntegerDivisionByZero));
            yield_now();
        });
        let instance = Instance::new(&mut outer, &module, &[wait.into()]).expect("an instance");
        let load = instance.get_typed_func::<i32, i32>(&mut outer, "load").expect("a function");
        assert_eq!(load.call(&mut outer, 0).expect("in bounds"), 0);
        yield_now();
        let error = load.call(&mut outer, -1).expect_err("out of bounds");
        assert_eq!(error.downcast_ref(), Some(&Trap::MemoryOutOfBounds));
    });
}

/// Lua counts its nested C calls; the programs nest a function of the library, coroutines, and the parser.
const LUA_RECURSIONS: &[&str] = &[
    "local function f() return (string.gsub('a', 'a', f)) end f()",
    "local function f() coroutine.wrap(f)() end f()",
    "assert(load('return ' .. string.rep('(', 1000) .. '1' .. string.rep(')', 1000)))",
    "local t = setmetatable({}, {}) getmetatable(t).__index = function(t, k) return t[k] end return t.a",
];

#[test]
fn luas_recursion_ends_with_an_error() {
    as_on_a_thread(50, || {
        let lua = Lua::new();
        for program in LUA_RECURSIONS {
            let error = lua.load(*program).exec().expect_err("too deep").to_string();
            assert!(error.contains("overflow") || error.contains("too many C levels"), "{program}: {error}");
            yield_now();
        }
    });
}

/// Lua's errors are long jumps, and its coroutines change stacks of its own, both while the goroutine waits in between.
#[test]
fn luas_errors_and_coroutines_cross_waits() {
    at_once(ISOLATED, SOME, |i| {
        let lua = Lua::new();
        let wait = lua.create_function(|_, n: usize| {
            yield_now();
            if n % 3 == 2 { Err(mlua::Error::runtime(format!("no {n}"))) } else { Ok(n) }
        });
        lua.globals().set("wait", wait.expect("a function")).expect("room");
        let text: String = lua
            .load(
                "local base = ... local all = {}
                local thread = coroutine.wrap(function()
                    for n = base, base + 8 do
                        local ok, got = pcall(wait, n)
                        coroutine.yield(ok and tostring(got) or 'failed')
                    end
                end)
                for n = 1, 9 do wait(0) all[n] = thread() end
                return table.concat(all, ' ')",
            )
            .call(i)
            .expect("it ends");
        let expected: Vec<_> =
            (i..i + 9).map(|n| if n % 3 == 2 { "failed".to_owned() } else { n.to_string() }).collect();
        assert_eq!(text, expected.join(" "));
    });
}

/// A recursion, one through a function of the library, and the parser's.
const JAVASCRIPT_RECURSIONS: &[&str] = &[
    "function f() { return 1 + f(); } f()",
    "function g() { return [1, 2].sort(g); } g()",
    "eval('('.repeat(100000) + '1' + ')'.repeat(100000))",
    "JSON.parse('['.repeat(1000000))",
];

#[test]
fn javascripts_recursion_ends_with_an_error() {
    as_on_a_thread(50, || {
        let runtime = Runtime::new().expect("a runtime");
        let context = Context::full(&runtime).expect("a context");
        for program in JAVASCRIPT_RECURSIONS {
            context.with(|js| {
                assert!(js.eval::<rquickjs::Value<'_>, _>(*program).is_err());
                let error = js.catch();
                let error = error.as_exception().and_then(rquickjs::Exception::message).expect("an error");
                assert!(error.contains("stack"), "{program}: {error}");
            });
            yield_now();
        }
    });
}

#[test]
fn javascript_calls_what_waits() {
    at_once(ISOLATED, SOME, |i| {
        let runtime = Runtime::new().expect("a runtime");
        let context = Context::full(&runtime).expect("a context");
        context.with(|js| {
            let wait = rquickjs::Function::new(js.clone(), |n: u32| {
                yield_now();
                n + 1
            });
            js.globals().set("wait", wait).expect("room");
            let sum: u32 = js.eval(format!("[1, 2, 3].map(wait).reduce((a, b) => wait(a + b), {i})")).expect("a sum");
            assert_eq!(sum as usize, i + 12);
        });
    });
}

/// Runs a program in Python with a new dictionary of globals; `n` is a number in it.
fn python(program: &std::ffi::CStr, n: usize) -> PyResult<()> {
    Python::attach(|py| {
        let globals = PyDict::new(py);
        globals.set_item("n", n)?;
        // Waits with the global lock held.
        let wait = |_: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| yield_now();
        globals.set_item("wait", PyCFunction::new_closure(py, None, None, wait)?)?;
        py.run(program, Some(&globals), None)
    })
}

/// A recursion that takes the parser's stack, and others by way of functions written in C.
const PYTHON_RECURSIONS: &[&std::ffi::CStr] = &[
    c_str!("def f(): return 1 + f()\nf()"),
    c_str!("compile('lambda: ' * 5000 + '1', 'nested', 'eval')"),
    c_str!("class C:\n    def __getattr__(self, name): return getattr(self, name + 'x')\nC().a"),
    c_str!("class C:\n    def __repr__(self): return repr(self)\nrepr(C())"),
];

#[test]
fn pythons_recursion_ends_with_an_error() {
    as_on_a_thread(20, || {
        for program in PYTHON_RECURSIONS {
            let error = python(program, 0).expect_err("too deep");
            // The parser says that it has no more memory.
            let is_expected = Python::attach(|py: Python<'_>| {
                error.is_instance_of::<PyRecursionError>(py) || error.is_instance_of::<PyMemoryError>(py)
            });
            assert!(is_expected, "{program:?}: {error}");
            yield_now();
        }
    });
}

/// A thousand calls through `sorted` take 2.4 MiB, which is too much for a std thread of the default size, too.
#[test]
fn pythons_recursion_through_sorted_ends_with_an_error_on_a_large_stack() {
    const STACK: usize = 4 << 20;
    let sorted = || {
        let error = python(c_str!("def f(x): return sorted([1, 2], key=f)\nf(1)"), 0).expect_err("too deep");
        assert!(error.to_string().contains("recursion"), "{error}");
    };
    std::thread::Builder::new().stack_size(STACK).spawn(sorted).expect("a thread").join().expect("a thread can do it");
    gorun::run(move || {
        let goroutines: Vec<_> =
            (0..20).map(|_| gorun::Builder::new().stack_size(STACK).go(sorted).expect("a large stack")).collect();
        goroutines.into_iter().for_each(|one| one.join().expect("as on a thread"));
    });
}

/// Python finds its thread state by thread, and lets one of them run at a time: who waits for the global lock waits in the
/// kernel, and another worker resumes the goroutine that holds it.
#[test]
fn pythons_global_lock_is_held_over_waits() {
    static DONE: AtomicUsize = AtomicUsize::new(0);
    at_once(ISOLATED, SOME, |i| {
        let program = c_str!(
            "import threading\nme = threading.get_ident()\n\
            for m in range(3):\n    wait()\n    assert threading.get_ident() == me\n\
            try:\n    raise ValueError(n)\nexcept ValueError as e:\n    wait()\n    assert e.args == (n,)\n    \
            import sys\n    assert sys.exc_info()[1] is e\n"
        );
        python(program, i).expect("no error");
        DONE.fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!(DONE.load(Ordering::Relaxed), SOME);
}
