//! A ring buffer: a power of two of places, a head and a tail that only count up.
//!
//! It has one owner and so needs no lock; it is what a mailbox keeps its ranges in.
//! Invariant: `head ≤ tail ≤ head + places.len()`, and the places in between are filled.

/// A queue of `T` that allocates nothing until the first push and grows by doubling.
#[derive(Clone, Debug)]
pub struct Ring<T> {
    places: Box<[Option<T>]>,
    head: usize,
    tail: usize,
}

impl<T> Default for Ring<T> {
    fn default() -> Self {
        Ring { places: Box::new([]), head: 0, tail: 0 }
    }
}

impl<T> Ring<T> {
    /// How many items are in it.
    pub fn len(&self) -> usize {
        self.tail.wrapping_sub(self.head)
    }

    /// True when nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.head == self.tail
    }

    /// Adds at the tail.
    pub fn push(&mut self, item: T) {
        if self.len() == self.places.len() {
            self.grow();
        }
        let at = self.place(self.tail);
        self.places[at] = Some(item);
        self.tail = self.tail.wrapping_add(1);
        self.check();
    }

    /// Takes from the head.
    pub fn pop(&mut self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        let at = self.place(self.head);
        self.head = self.head.wrapping_add(1);
        self.check();
        self.places[at].take()
    }

    /// The item at the head.
    pub fn first(&self) -> Option<&T> {
        if self.is_empty() { None } else { self.places[self.place(self.head)].as_ref() }
    }

    /// All items, from head to tail.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        (0..self.len()).filter_map(|i| self.places[self.place(self.head.wrapping_add(i))].as_ref())
    }

    /// All items, from head to tail, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let at = if self.places.is_empty() { 0 } else { self.place(self.head) };
        let (wrapped, first) = self.places.split_at_mut(at);
        first.iter_mut().chain(wrapped).filter_map(Option::as_mut)
    }

    fn place(&self, count: usize) -> usize {
        count & (self.places.len() - 1)
    }

    fn grow(&mut self) {
        let mut bigger: Vec<Option<T>> = Vec::with_capacity((self.places.len() * 2).max(1));
        while let Some(item) = self.pop() {
            bigger.push(Some(item));
        }
        self.head = 0;
        self.tail = bigger.len();
        bigger.resize_with(bigger.capacity().next_power_of_two(), || None);
        self.places = bigger.into_boxed_slice();
    }

    fn check(&self) {
        debug_assert!(self.places.len().is_power_of_two());
        debug_assert!(self.len() <= self.places.len());
    }
}

impl<T> FromIterator<T> for Ring<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut ring = Ring::default();
        items.into_iter().for_each(|item| ring.push(item));
        ring
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn a_ring_behaves_like_a_queue(ops in prop::collection::vec(prop::option::of(0u16..999), 0..200)) {
            let (mut ring, mut model) = (Ring::default(), VecDeque::new());
            for op in ops {
                match op {
                    Some(n) => { ring.push(n); model.push_back(n); }
                    None => prop_assert_eq!(ring.pop(), model.pop_front()),
                }
                prop_assert_eq!(ring.len(), model.len());
                prop_assert_eq!(ring.first(), model.front());
                prop_assert!(ring.iter().eq(model.iter()));
                prop_assert!(ring.iter_mut().map(|n| &*n).eq(model.iter()));
            }
        }
    }
}
