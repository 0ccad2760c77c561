//! What hangs below a node of the tree (`N`): a table with free places, so that a child leaves in constant time.

use crate::time::FuncTimer;
use std::sync::{Arc, Weak};

/// What is to be canceled or called when the node is canceled.
pub(super) enum Child<N> {
    /// A derived context. It leaves the table when it is dropped.
    Node(Weak<N>),
    /// One whose cancel function was given up: nobody else may have it any more, and it is to be canceled all the same.
    Held(Arc<N>),
    /// A function that is to be called, as a timer that is yet to be set.
    Func(FuncTimer),
}

/// Where a child is. A place that is used again gets another number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    index: usize,
    number: u64,
}

pub(super) struct Children<N> {
    places: Vec<(u64, Option<Child<N>>)>,
    free: Vec<usize>,
    last_number: u64,
}

impl<N> Default for Children<N> {
    fn default() -> Self {
        Children { places: Vec::new(), free: Vec::new(), last_number: 0 }
    }
}

impl<N> Children<N> {
    pub(super) fn add(&mut self, child: Child<N>) -> Place {
        self.last_number += 1;
        let number = self.last_number;
        let index = match self.free.pop() {
            Some(index) => {
                self.places[index] = (number, Some(child));
                index
            }
            None => {
                self.places.push((number, Some(child)));
                self.places.len() - 1
            }
        };
        Place { index, number }
    }

    /// Takes the child out, if it is still there. To be dropped without the lock.
    pub(super) fn remove(&mut self, place: Place) -> Option<Child<N>> {
        let child = self.get(place)?.take();
        self.free.push(place.index);
        if self.free.len() == self.places.len() {
            // A crowd has been here and gone: nothing of it stays.
            self.places = Vec::new();
            self.free = Vec::new();
        }
        child
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.iter().all(|(_, child)| child.is_none())
    }

    /// Puts another child in its place, if it is still there.
    pub(super) fn replace(&mut self, place: Place, child: Child<N>) -> Option<Child<N>> {
        self.get(place)?.replace(child)
    }

    fn get(&mut self, place: Place) -> Option<&mut Option<Child<N>>> {
        let (number, child) = self.places.get_mut(place.index)?;
        (*number == place.number && child.is_some()).then_some(child)
    }

    /// The contexts that hang here, to be canceled: each kept.
    pub(super) fn nodes(&self) -> impl Iterator<Item = Arc<N>> {
        self.places.iter().filter_map(|(_, child)| match child {
            Some(Child::Node(node)) => node.upgrade(),
            Some(Child::Held(node)) => Some(node.clone()),
            Some(Child::Func(_)) | None => None,
        })
    }

    pub(super) fn into_all(self) -> impl Iterator<Item = Child<N>> {
        self.places.into_iter().filter_map(|(_, child)| child)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_ones_own() {
        let mut children = Children::<()>::default();
        let child = || Child::Node(Weak::new());
        let (a, b) = (children.add(child()), children.add(child()));
        assert!(children.remove(a).is_some());
        assert!(children.remove(a).is_none(), "it has gone");
        let c = children.add(child());
        assert_eq!(c.index, a.index);
        assert!(children.remove(a).is_none(), "the place is another's");
        assert!(children.replace(b, child()).is_some());
        assert!(children.replace(a, child()).is_none());
        assert!(children.remove(b).is_some());
        assert!(children.remove(c).is_some());
        assert_eq!((children.places.capacity(), children.free.capacity()), (0, 0));
        assert!(children.remove(c).is_none());
        assert_ne!(children.add(child()), a);
    }
}
