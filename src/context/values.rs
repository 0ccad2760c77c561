//! The list of a context's values: each context points to the one that was added last.

use std::any::Any;
use std::sync::Arc;

pub(super) struct Value {
    before: Option<Arc<Value>>,
    value: Box<dyn Any + Send + Sync>,
}

impl Value {
    pub(super) fn new<T: Send + Sync + 'static>(before: Option<Arc<Value>>, value: T) -> Arc<Value> {
        Arc::new(Value { before, value: Box::new(value) })
    }

    pub(super) fn find<T: 'static>(last: Option<&Value>) -> Option<&T> {
        Value::iter(last).find_map(|value| value.value.downcast_ref())
    }

    pub(super) fn count(last: Option<&Value>) -> usize {
        Value::iter(last).count()
    }

    fn iter(last: Option<&Value>) -> impl Iterator<Item = &Value> {
        std::iter::successors(last, |value| value.before.as_deref())
    }
}

impl Drop for Value {
    /// One after the other and not one inside the other: the list may be longer than the stack is deep.
    fn drop(&mut self) {
        let mut next = self.before.take();
        while let Some(value) = next {
            next = Arc::into_inner(value).and_then(|mut value| value.before.take());
        }
    }
}
