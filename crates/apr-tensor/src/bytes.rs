//! Shared, sliceable bytes: the tensor data of a checkpoint without a copy.

use std::fmt;
use std::io;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// Something that owns bytes for as long as views on them live: a memory map, a buffer, embedded data.
pub trait Storage: Send + Sync {
    /// All bytes owned.
    fn as_bytes(&self) -> &[u8];

    /// How many there are; a storage that makes its bytes when they are read knows it before.
    fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Hint that all of `range` will be read now, so that a map may bring in its pages at once.
    fn prefetch(&self, range: Range<usize>) {
        let _ = range;
    }

    /// Hint that `range` will not be read soon, so that a map may give its pages back. Reading again stays valid.
    fn release(&self, range: Range<usize>) {
        let _ = range;
    }

    /// An error where the bytes may have changed since they were first there, as those of a mapped file that somebody
    /// writes to.
    fn check_unchanged(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Storage for Vec<u8> {
    fn as_bytes(&self) -> &[u8] {
        self
    }
}

impl Storage for &'static [u8] {
    fn as_bytes(&self) -> &[u8] {
        self
    }
}

/// A range of some [`Storage`]. Cloning and slicing share the storage.
#[derive(Clone)]
pub struct Bytes {
    storage: Arc<dyn Storage>,
    range: Range<usize>,
}

impl Bytes {
    /// All of `storage`.
    pub fn new(storage: impl Storage + 'static) -> Self {
        let range = 0..storage.len();
        Self { storage: Arc::new(storage), range }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// A part of these bytes, or `None` where the range does not lie within them.
    pub fn slice(&self, range: Range<usize>) -> Option<Self> {
        let start = self.range.start.checked_add(range.start)?;
        let end = self.range.start.checked_add(range.end)?;
        (start <= end && end <= self.range.end).then(|| Self { storage: Arc::clone(&self.storage), range: start..end })
    }

    /// Hint that these bytes will all be read now; see [`Storage::prefetch`].
    pub fn prefetch(&self) {
        self.storage.prefetch(self.range.clone());
    }

    /// Hint that these bytes will not be read soon; see [`Storage::release`].
    pub fn release(&self) {
        self.storage.release(self.range.clone());
    }

    /// An error where these bytes may have changed; see [`Storage::check_unchanged`].
    pub fn check_unchanged(&self) -> io::Result<()> {
        self.storage.check_unchanged()
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.storage.as_bytes()[self.range.clone()]
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes)
    }
}

impl From<&'static [u8]> for Bytes {
    fn from(bytes: &'static [u8]) -> Self {
        Self::new(bytes)
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({})", self.range.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_stay_inside() {
        let bytes = Bytes::from(vec![1, 2, 3, 4]);
        let inner = bytes.slice(1..3).unwrap();
        assert_eq!(&*inner, &[2, 3]);
        assert_eq!(&*inner.slice(1..2).unwrap(), &[3]);
        assert!(inner.slice(1..3).is_none(), "a slice of a slice may not reach past it");
        assert!(inner.slice(0..usize::MAX).is_none());
    }
}
