//! Arms that can be made again for the same operation: those of a set that is used more than once.
//!
//! Made by `dynamic`; driven by `run`.

use super::arm::{Operations, RecvArm, SendArm};
use std::rc::Rc;

/// An arm that can make another one for the same operation (D1).
pub(super) trait Renew<'a>: Operations {
    fn renew(&self) -> Rc<dyn Renew<'a> + 'a>;
}

impl<'a, T> Renew<'a> for RecvArm<'a, T> {
    fn renew(&self) -> Rc<dyn Renew<'a> + 'a> {
        Rc::new(self.another())
    }
}

impl<'a, T> Renew<'a> for SendArm<'a, T> {
    fn renew(&self) -> Rc<dyn Renew<'a> + 'a> {
        Rc::new(self.another())
    }
}
