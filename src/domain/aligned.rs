//! Memory that begins at a multiple of 4096, which a disk can take as it is (O_DIRECT): a data set
//! is read from the network into it and written from it, without a copy between.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use bytes::Bytes;

/// What addresses and lengths are multiples of.
pub const BLOCK: usize = 4096;

/// Buffers of one size that are used again, so that no fresh pages are asked for each time.
#[derive(Debug)]
pub struct Pool {
    spare: Mutex<Vec<Vec<u8>>>,
    spare_max: usize,
    buffer_bytes: usize,
}

impl Pool {
    /// - `buffer_bytes`: that one buffer holds.
    /// - `spare_max`: buffers that are kept while nobody uses them.
    pub fn new(buffer_bytes: usize, spare_max: usize) -> Arc<Pool> {
        Arc::new(Pool { spare: Mutex::default(), spare_max, buffer_bytes })
    }

    /// An empty buffer. When it is dropped, its memory comes back here.
    pub fn take(self: &Arc<Pool>) -> Aligned {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let memory = spare.unwrap_or_else(|| vec![0; self.buffer_bytes + BLOCK]);
        let from = memory.as_ptr().align_offset(BLOCK);
        Aligned { memory, from, len: 0, pool: Arc::clone(self) }
    }
}

/// A buffer of a fixed size that is filled from its start.
#[derive(Debug)]
pub struct Aligned {
    memory: Vec<u8>,
    from: usize,
    len: usize,
    pool: Arc<Pool>,
}

impl Aligned {
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that it can still take.
    pub fn room(&self) -> usize {
        self.pool.buffer_bytes - self.len
    }

    /// Room for the next bytes, at most `bytes` of it; [`Aligned::advance`] says how many came.
    pub fn spare(&mut self, bytes: usize) -> &mut [u8] {
        let begin = self.from + self.len;
        let end = begin + bytes.min(self.room());
        &mut self.memory[begin..end]
    }

    pub fn advance(&mut self, bytes: usize) {
        self.len += bytes.min(self.room());
    }

    /// Takes as much of `bytes` as there is room for, and says how much.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let spare = self.spare(bytes.len());
        let taken = spare.len();
        spare.copy_from_slice(&bytes[..taken]);
        self.advance(taken);
        taken
    }

    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Aligned {
    fn as_ref(&self) -> &[u8] {
        &self.memory[self.from..self.from + self.len]
    }
}

impl Drop for Aligned {
    fn drop(&mut self) {
        let mut spare = self.pool.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < self.pool.spare_max {
            spare.push(std::mem::take(&mut self.memory));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_aligned_holds_what_fits_and_is_used_again() {
        let pool = Pool::new(10_000, 1);
        for round in 0..3_u8 {
            let (mut one, other) = (pool.take(), pool.take());
            assert_eq!(one.push(&[round; 6000]), 6000);
            one.spare(100)[..2].copy_from_slice(&[9, 8]);
            one.advance(2);
            assert_eq!((one.push(&[7; 6000]), one.room()), (3998, 0));
            let bytes = one.freeze();
            assert_eq!(bytes.as_ptr().align_offset(BLOCK), 0);
            assert_eq!((bytes.len(), bytes[5999], bytes[6001], bytes[9999]), (10_000, round, 8, 7));
            drop((bytes, other));
            assert_eq!(pool.spare.lock().unwrap().len(), 1);
        }
    }
}
