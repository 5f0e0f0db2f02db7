//! A list of bounded length that lives where it is declared: before there is a heap, and for
//! tables whose capacity is part of the contract.

use core::ops::{Deref, DerefMut};

/// At most `N` values in the order in which they were pushed.
#[derive(Clone, Copy, Debug)]
pub struct List<T, const N: usize> {
    values: [T; N],
    len: usize,
}

impl<T: Copy + Default, const N: usize> List<T, N> {
    /// An empty list.
    pub fn new() -> Self {
        Self {
            values: [T::default(); N],
            len: 0,
        }
    }

    /// Appends `value`; gives it back if the list is full.
    pub fn push(&mut self, value: T) -> Result<(), T> {
        let slot = self.values.get_mut(self.len).ok_or(value)?;
        *slot = value;
        self.len += 1;
        Ok(())
    }

    /// Takes the last value.
    pub fn pop(&mut self) -> Option<T> {
        self.len = self.len.checked_sub(1)?;
        Some(self.values[self.len])
    }

    /// Removes the value at `index`; the last one takes its place.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn swap_remove(&mut self, index: usize) -> T {
        let removed = self[index];
        self.len -= 1;
        self.values[index] = self.values[self.len];
        removed
    }
}

impl<T: Copy + Default, const N: usize> Default for List<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, const N: usize> Deref for List<T, N> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.values[..self.len]
    }
}

impl<T, const N: usize> DerefMut for List<T, N> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.values[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_list_gives_the_value_back() {
        let mut list = List::<u32, 2>::new();
        assert_eq!(list.pop(), None);
        assert_eq!(list.push(1), Ok(()));
        assert_eq!(list.push(2), Ok(()));
        assert_eq!(list.push(3), Err(3));
        assert_eq!(list.swap_remove(0), 1);
        assert_eq!(&*list, [2]);
        assert_eq!(list.pop(), Some(2));
    }
}
