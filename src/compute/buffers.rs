//! Working memory that is used again: a forward pass touches the same few megabytes for every layer instead of asking
//! the system for fresh pages, whose first touch costs more than the arithmetic on them.

use std::sync::{Mutex, PoisonError};

use bytemuck::Pod;

/// Buffers that wait for their next use, smallest first.
static IDLE: Mutex<Vec<Vec<u64>>> = Mutex::new(Vec::new());
/// Most buffers that wait; more are given back to the system.
const MOST_IDLE: usize = 24;
/// Most bytes that wait.
const MOST_IDLE_BYTES: usize = 512 << 20;
/// Where buffers begin: a line of the cache, and the widest vector.
const ALIGN: usize = 64;

/// Some memory of unspecified contents; dropped, it waits for its next use.
#[derive(Debug)]
pub(super) struct Buffer {
    memory: Vec<u64>,
    /// Words before the first aligned one.
    skip: usize,
}

impl Buffer {
    /// Memory for this many numbers.
    pub(super) fn of<T: Pod>(len: usize) -> Self {
        let words = (len * size_of::<T>()).div_ceil(size_of::<u64>()) + ALIGN / size_of::<u64>();
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = idle.partition_point(|memory| memory.len() < words);
        // A much larger one may be wanted by somebody who needs it.
        let memory = (idle.get(fits).is_some_and(|memory| memory.len() / 2 <= words)).then(|| idle.remove(fits));
        drop(idle);
        let memory = memory.unwrap_or_else(|| vec![0; words.next_multiple_of(1 << 9)]);
        let skip = memory.as_ptr().align_offset(ALIGN).min(ALIGN / size_of::<u64>());
        Self { memory, skip }
    }

    /// All of it, as numbers; at least as many as were asked for.
    pub(super) fn slice<T: Pod>(&self) -> &[T] {
        bytemuck::cast_slice(self.memory.get(self.skip..).unwrap_or_default())
    }

    /// As [`Buffer::slice`].
    pub(super) fn slice_mut<T: Pod>(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(self.memory.get_mut(self.skip..).unwrap_or_default())
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        let at = idle.partition_point(|other| other.len() < memory.len());
        idle.insert(at, memory);
        let bytes = |idle: &Vec<Vec<u64>>| idle.iter().map(|memory| size_of_val(memory.as_slice())).sum::<usize>();
        while idle.len() > MOST_IDLE || bytes(&idle) > MOST_IDLE_BYTES {
            // The smallest cost least to make anew.
            idle.remove(0);
        }
    }
}

/// Numbers that several tasks write, each its own of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Apart(*mut f32);

// SAFETY: it only gives addresses; whoever writes there says why nobody else does.
unsafe impl Sync for Apart {}

impl Apart {
    pub(super) fn new(numbers: &mut [f32]) -> Self {
        Self(numbers.as_mut_ptr())
    }

    /// The address of a number.
    pub(super) fn at(&self, index: usize) -> *mut f32 {
        self.0.wrapping_add(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_aligned_long_enough_and_used_again() {
        let mut first = Buffer::of::<f32>(70_001);
        assert!(first.slice::<f32>().len() >= 70_001);
        assert_eq!(first.slice::<u8>().as_ptr().align_offset(ALIGN), 0);
        first.slice_mut::<f32>()[70_000] = 1.5;
        let at = first.slice::<f32>().as_ptr();
        drop(first);
        // Other tests may take it in between; one of a few tries meets it again.
        let again = (0..50).any(|_| Buffer::of::<f32>(70_001).slice::<f32>().as_ptr() == at);
        assert!(again);
        assert!(Buffer::of::<u8>(0).slice::<u8>().len() < 1 << 13);
    }
}
