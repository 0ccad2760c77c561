//! Finds out, for the first caller, if goroutines can have thread-locals of their own.
//!
//! Called by `config`, before a runtime starts.

use super::error::{Failure, Refusal};
use super::layout::Layout;
use super::verdict::VERDICT;
use super::{explore, fsbase, self_test, setxid};

/// What a block looks like in this process. The first call takes a thread or two and about a millisecond. No runtime
/// starts before there is a verdict, so that no worker is without it.
pub(crate) fn layout() -> Result<&'static Layout, Refusal> {
    #[expect(
        clippy::disallowed_methods,
        reason = "on the thread that starts a first runtime, before there are workers"
    )]
    VERDICT.get(find_out, std::thread::sleep)
}

fn find_out() -> Result<Layout, Failure> {
    fsbase::usable()?;
    let layout = explore::explore()?;
    self_test::run(&layout)?;
    // It changes the process, and so comes last: nothing after it can fail and have it done twice.
    setxid::install()?;
    Ok(layout)
}
