//! An array of strings in the metadata: the texts of a tokenizer's tokens and merges are nearly all of a header.

use crate::cursor::Cursor;
use crate::{Limits, ParseError};
use apr_model::Texts;
use apr_tensor::ByteOrder;

/// Element type of strings, and value type of arrays.
const STR: u32 = 8;
const ARRAY: u32 = 9;

/// Longer arrays are read on threads of their own.
const LONG: u64 = 1 << 14;

/// A vocabulary has two or three long lists; a file with thousands of them gets no thread for each.
const MAX_THREADS: usize = 4;

/// Strings whose lengths were checked and whose content was not.
#[derive(Clone, Copy)]
pub(super) struct StrList<'a> {
    /// Each string as its length in eight bytes and its bytes.
    bytes: &'a [u8],
    n: usize,
    /// Where `bytes` starts in the file.
    offset_bytes: u64,
    order: ByteOrder,
}

impl<'a> StrList<'a> {
    /// Passes over a value that is a long array of strings; None, and nothing is passed over, where it is another one.
    pub(super) fn at(cursor: &mut Cursor<'a>, kind: u32, limits: &Limits) -> Result<Option<Self>, ParseError> {
        if kind != ARRAY {
            return Ok(None);
        }
        let mut ahead = cursor.clone();
        let (element, n) = (ahead.u32("array element type")?, ahead.u64("array length")?);
        if element != STR || n < LONG {
            return Ok(None);
        }
        let n = ahead.count(n, limits.array_elements, 8, "array elements")?;
        let list = Self::skip(&mut ahead, n, limits)?;
        *cursor = ahead;
        Ok(Some(list))
    }

    /// Passes over `n` strings.
    pub(super) fn skip(cursor: &mut Cursor<'a>, n: usize, limits: &Limits) -> Result<Self, ParseError> {
        let (start, before) = (cursor.pos(), cursor.rest());
        for _ in 0..n {
            let len = cursor.u64("string element")?;
            if len > limits.string_bytes {
                let most = limits.string_bytes;
                return Err(cursor.error(format!("string element of {len} bytes, at most {most} are accepted")));
            }
            cursor.take(len, "string element")?;
        }
        let len = (cursor.pos() - start) as usize;
        Ok(Self { bytes: &before[..len], n, offset_bytes: start, order: cursor.order() })
    }

    /// The texts.
    pub(super) fn read(self) -> Result<Texts, ParseError> {
        let mut joined = Vec::with_capacity(self.bytes.len() - 8 * self.n);
        let mut ends = Vec::with_capacity(self.n);
        for (_, text) in self {
            joined.extend_from_slice(text);
            ends.push(joined.len());
        }
        // All at once is faster than each alone: it fails where one of them is wrong, or the end of one and the
        // beginning of the next would only together be a character.
        if let Some(texts) = String::from_utf8(joined).ok().and_then(|joined| Texts::from_parts(joined, ends)) {
            return Ok(texts);
        }
        let wrong = self.into_iter().find_map(|(offset, text)| Some((offset, std::str::from_utf8(text).err()?)));
        let (offset, error) = wrong.expect("texts that are UTF-8 each are so together");
        Err(ParseError::at(offset, format!("string element is not UTF-8: {error}")))
    }

    /// The texts of lists, read at the same time; what comes with a list stays with it.
    pub(super) fn read_all<T>(lists: Vec<(T, Self)>) -> Vec<(T, Result<Texts, ParseError>)> {
        let (tags, lists): (Vec<T>, Vec<Self>) = lists.into_iter().unzip();
        let texts = lists.chunks(MAX_THREADS).flat_map(Self::read_together);
        tags.into_iter().zip(texts).collect()
    }

    fn read_together(lists: &[Self]) -> Vec<Result<Texts, ParseError>> {
        let Some((first, others)) = lists.split_first() else { return Vec::new() };
        std::thread::scope(|scope| {
            let others: Vec<_> = others.iter().map(|list| scope.spawn(|| list.read())).collect();
            let first = first.read();
            let others = others.into_iter().map(|thread| thread.join().expect("reading texts does not panic"));
            std::iter::once(first).chain(others).collect()
        })
    }
}

/// Where each string starts in the file, and its bytes.
impl<'a> IntoIterator for StrList<'a> {
    type Item = (u64, &'a [u8]);
    type IntoIter = Strings<'a>;

    fn into_iter(self) -> Strings<'a> {
        Strings { rest: self.bytes, offset_bytes: self.offset_bytes, order: self.order }
    }
}

pub(super) struct Strings<'a> {
    rest: &'a [u8],
    offset_bytes: u64,
    order: ByteOrder,
}

impl<'a> Iterator for Strings<'a> {
    type Item = (u64, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (len, rest) = self.rest.split_first_chunk::<8>()?;
        let len = match self.order {
            ByteOrder::Little => u64::from_le_bytes(*len),
            ByteOrder::Big => u64::from_be_bytes(*len),
        };
        let (text, rest) = rest.split_at(len as usize); // the lengths were checked
        let start = self.offset_bytes + 8;
        (self.rest, self.offset_bytes) = (rest, start + len);
        Some((start, text))
    }
}
