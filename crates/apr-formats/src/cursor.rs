//! Reading numbers and strings from bytes nobody vouches for.

use crate::ParseError;
use apr_tensor::ByteOrder;

/// A position in untrusted bytes. Every read is checked against what remains.
#[derive(Clone)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    pos: usize,
    order: ByteOrder,
}

macro_rules! number {
    ($name:ident, $type:ty) => {
        pub(crate) fn $name(&mut self, what: &str) -> Result<$type, ParseError> {
            let bytes = self.take(size_of::<$type>() as u64, what)?;
            let bytes = bytes.try_into().expect("take returned the length asked for");
            Ok(match self.order {
                ByteOrder::Little => <$type>::from_le_bytes(bytes),
                ByteOrder::Big => <$type>::from_be_bytes(bytes),
            })
        }
    };
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self::at(bytes, 0)
    }

    pub(crate) fn at(bytes: &'a [u8], pos: usize) -> Self {
        Self { bytes, pos: pos.min(bytes.len()), order: ByteOrder::Little }
    }

    /// Order of the numbers from here on; it starts as little-endian.
    pub(crate) fn set_order(&mut self, order: ByteOrder) {
        self.order = order;
    }

    pub(crate) fn order(&self) -> ByteOrder {
        self.order
    }

    pub(crate) fn pos(&self) -> u64 {
        self.pos as u64
    }

    /// What comes next, to the end.
    pub(crate) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.pos..]
    }

    pub(crate) fn remaining(&self) -> u64 {
        (self.bytes.len() - self.pos) as u64
    }

    pub(crate) fn error(&self, detail: impl Into<String>) -> ParseError {
        ParseError::at(self.pos(), detail)
    }

    /// The next `n` bytes.
    pub(crate) fn take(&mut self, n: u64, what: &str) -> Result<&'a [u8], ParseError> {
        if n > self.remaining() {
            return Err(self.error(format!("{what} needs {n} bytes, the file has {} left", self.remaining())));
        }
        // `n` is at most the length of a slice, so it fits.
        let n = n as usize;
        let taken = &self.bytes[self.pos..self.pos + n];
        self.pos += n;
        Ok(taken)
    }

    number!(u8, u8);
    number!(i8, i8);
    number!(u16, u16);
    number!(i16, i16);
    number!(u32, u32);
    number!(i32, i32);
    number!(u64, u64);
    number!(i64, i64);
    number!(f32, f32);
    number!(f64, f64);

    /// A count that the file states: under `cap`, and at least `min_bytes` of file left for each item.
    pub(crate) fn count(&self, n: u64, cap: u64, min_bytes: u64, what: &str) -> Result<usize, ParseError> {
        if n > cap {
            return Err(self.error(format!("{n} {what}, at most {cap} are accepted")));
        }
        if n.checked_mul(min_bytes).is_none_or(|bytes| bytes > self.remaining()) {
            let left = self.remaining();
            return Err(self.error(format!("{n} {what} can't fit in the {left} bytes that are left")));
        }
        Ok(n as usize)
    }

    /// `n` bytes of UTF-8.
    pub(crate) fn utf8(&mut self, n: u64, cap: u64, what: &str) -> Result<&'a str, ParseError> {
        if n > cap {
            return Err(self.error(format!("{what} of {n} bytes, at most {cap} are accepted")));
        }
        let start = self.pos();
        let bytes = self.take(n, what)?;
        std::str::from_utf8(bytes).map_err(|e| ParseError::at(start, format!("{what} is not UTF-8: {e}")))
    }
}

/// The next multiple of `alignment` at or after `offset`, or `None` on overflow.
pub(crate) fn align_up(offset: u64, alignment: u64) -> Option<u64> {
    offset.checked_next_multiple_of(alignment)
}
