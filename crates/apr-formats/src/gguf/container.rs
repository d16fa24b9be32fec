//! A GGUF file to be written: metadata, tensors, and the files that they are spread over.

use super::split::{self, ShardName};
use super::typed_text::Type;
use super::{DEFAULT_ALIGNMENT, Header, Value, header, reader};
use crate::Limits;
use crate::cursor::{Cursor, align_up};
use crate::plan::{OutFile, OutPiece};
use apr_tensor::{ByteOrder, DType};

/// Value types of the container.
pub(super) mod kind {
    pub(in crate::gguf) const U8: u32 = 0;
    pub(in crate::gguf) const I8: u32 = 1;
    pub(in crate::gguf) const U16: u32 = 2;
    pub(in crate::gguf) const I16: u32 = 3;
    pub(in crate::gguf) const U32: u32 = 4;
    pub(in crate::gguf) const I32: u32 = 5;
    pub(in crate::gguf) const F32: u32 = 6;
    pub(in crate::gguf) const BOOL: u32 = 7;
    pub(in crate::gguf) const STR: u32 = 8;
    pub(in crate::gguf) const ARRAY: u32 = 9;
    pub(in crate::gguf) const U64: u32 = 10;
    pub(in crate::gguf) const I64: u32 = 11;
    pub(in crate::gguf) const F64: u32 = 12;
}

/// Metadata: each key, and its value's type and bytes as they are stored.
#[derive(Default)]
pub(super) struct Pairs {
    order: ByteOrder,
    list: Vec<(String, Vec<u8>)>,
}

/// Numbers in one byte order.
pub(super) struct Bytes<'a> {
    order: ByteOrder,
    bytes: &'a mut Vec<u8>,
}

macro_rules! number {
    ($name:ident, $type:ty) => {
        pub(super) fn $name(&mut self, n: $type) {
            match self.order {
                ByteOrder::Little => self.bytes.extend(n.to_le_bytes()),
                ByteOrder::Big => self.bytes.extend(n.to_be_bytes()),
            }
        }
    };
}

impl Bytes<'_> {
    number!(u8, u8);
    number!(i8, i8);
    number!(u16, u16);
    number!(i16, i16);
    number!(u32, u32);
    number!(i32, i32);
    number!(f32, f32);
    number!(u64, u64);
    number!(i64, i64);
    number!(f64, f64);

    pub(super) fn text(&mut self, text: &str) {
        self.u64(text.len() as u64);
        self.bytes.extend(text.as_bytes());
    }
}

impl Pairs {
    /// Those of a file, as they are stored in it; `file` holds at least the header.
    pub(super) fn of(header: &Header<'_>, file: &[u8]) -> Self {
        let stored = header.pairs.iter().zip(&header.value_ranges);
        // A value's type stands in the four bytes before it.
        let list = stored.map(|((key, _), range)| ((*key).to_owned(), file[range.start - 4..range.end].to_vec()));
        Self { order: header.byte_order, list: list.collect() }
    }

    pub(super) fn remove(&mut self, key: &str) {
        self.list.retain(|(k, _)| k != key);
    }

    /// Type and value as they are stored.
    pub(super) fn get(&self, key: &str) -> Option<&[u8]> {
        self.list.iter().find(|(k, _)| k == key).map(|(_, stored)| stored.as_slice())
    }

    /// The type of a value that [`Pairs::get`] gave.
    pub(super) fn kind(&self, stored: &[u8]) -> Type {
        let mut numbers = Cursor::new(stored);
        numbers.set_order(self.order);
        let mut number = || numbers.u32("type").unwrap_or_default();
        let (id, element) = (number(), number());
        Type::stored(id, element)
    }

    /// A key's type and value for people.
    pub(super) fn shown(&self, key: &str, limits: &Limits) -> Result<Option<(String, String)>, String> {
        let Some(stored) = self.get(key) else { return Ok(None) };
        let mut cursor = Cursor::new(stored);
        cursor.set_order(self.order);
        let value = cursor.u32("value type").and_then(|kind| header::value(&mut cursor, kind, limits));
        let value = value.map_err(|e| format!("key {key:?}: {}", e.detail))?;
        Ok(Some((self.kind(stored).to_string(), reader::shown(&value))))
    }

    /// Gives a key another name, in its place.
    pub(super) fn rename(&mut self, from: &str, to: &str) {
        self.list.iter_mut().filter(|(key, _)| key == from).for_each(|(key, _)| to.clone_into(key));
    }

    /// Sets a key's value, in its place or at the end.
    pub(super) fn set(
        &mut self,
        key: &str,
        kind: u32,
        write: impl FnOnce(&mut Bytes<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut bytes = Vec::new();
        let mut value = Bytes { order: self.order, bytes: &mut bytes };
        value.u32(kind);
        write(&mut value)?;
        match self.list.iter_mut().find(|(k, _)| k == key) {
            Some((_, stored)) => *stored = bytes,
            None => self.list.push((key.to_owned(), bytes)),
        }
        Ok(())
    }

    /// Adds a pair at the end; `push` writes the value.
    fn push(&mut self, key: &str, kind: u32, push: impl FnOnce(&mut Bytes<'_>)) {
        let mut bytes = Vec::new();
        let mut value = Bytes { order: self.order, bytes: &mut bytes };
        value.u32(kind);
        push(&mut value);
        self.list.push((key.to_owned(), bytes));
    }

    pub(super) fn string(&mut self, key: &str, value: &str) {
        self.push(key, kind::STR, |v| v.text(value));
    }

    pub(super) fn u32(&mut self, key: &str, value: u32) {
        self.push(key, kind::U32, |v| v.u32(value));
    }

    pub(super) fn f32(&mut self, key: &str, value: f32) {
        self.push(key, kind::F32, |v| v.f32(value));
    }

    pub(super) fn bool(&mut self, key: &str, value: bool) {
        self.push(key, kind::BOOL, |v| v.bytes.push(u8::from(value)));
    }

    pub(super) fn array<T>(
        &mut self,
        key: &str,
        element: u32,
        list: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>,
        mut push: impl FnMut(&mut Bytes<'_>, T),
    ) {
        let list = list.into_iter();
        self.push(key, kind::ARRAY, |v| {
            v.u32(element);
            v.u64(list.len() as u64);
            list.for_each(|item| push(v, item));
        });
    }

    /// Says which of several files this is.
    fn place(&mut self, index: usize, n_files: usize, n_tensors: usize) {
        for (key, value) in split::KEYS.into_iter().zip(split::values(index, n_files, n_tensors)) {
            match value {
                Value::U16(n) => self.push(key, kind::U16, |v| v.u16(n)),
                Value::I32(n) => self.push(key, kind::I32, |v| v.i32(n)),
                _ => unreachable!("places are numbers of these types"),
            }
        }
    }
}

/// A tensor to be written.
pub(super) struct Entry {
    /// Name as stored.
    pub(super) name: String,
    /// Row-major dimensions.
    pub(super) dims: Vec<usize>,
    /// Dtype as stored, one of ggml's.
    pub(super) dtype: DType,
    /// Its data: one tensor, the experts of a layer, or bytes.
    pub(super) data: Vec<OutPiece>,
}

impl Entry {
    fn len_bytes(&self) -> u64 {
        self.data.iter().map(OutPiece::len_bytes).sum()
    }
}

/// What a GGUF model holds.
pub(super) struct Container {
    pub(super) version: u32,
    pub(super) alignment: u64,
    pub(super) pairs: Pairs,
    pub(super) tensors: Vec<Entry>,
}

impl Container {
    /// The file called `name`; or, where its tensors would take more than `shard_bytes`, the files into which they are
    /// put in turn, called after it. A larger tensor has a file to itself.
    pub(super) fn into_files(self, name: String, shard_bytes: Option<u64>) -> Result<Vec<OutFile>, String> {
        let Self { version, alignment, mut pairs, tensors } = self;
        let n_tensors = tensors.len();
        let mut shards = vec![Vec::new()];
        let mut shard_len = 0u64;
        for entry in tensors {
            let len = padded(entry.len_bytes(), alignment);
            if shard_bytes.is_some_and(|most| shard_len + len > most) && shard_len > 0 {
                shards.push(Vec::new());
                shard_len = 0;
            }
            shard_len += len;
            shards.last_mut().expect("there is one").push(entry);
        }
        let n_files = shards.len();
        if n_files == 1 {
            let tensors = shards.pop().expect("there is one");
            return Ok(vec![file(name, version, alignment, &pairs, tensors)]);
        }
        if n_files > split::MAX_FILES || n_tensors > i32::MAX as usize {
            return Err(format!("{n_files} files, GGUF allows {}; choose a larger shard", split::MAX_FILES));
        }
        let prefix = name.strip_suffix(".gguf").unwrap_or(&name).to_owned();
        let names = ShardName { prefix, index: 0, n_files };
        let order = pairs.order;
        let files = shards.into_iter().enumerate().map(|(index, tensors)| {
            let mut pairs = if index == 0 { std::mem::take(&mut pairs) } else { Pairs { order, list: Vec::new() } };
            if index > 0 && alignment != DEFAULT_ALIGNMENT {
                pairs.u32("general.alignment", alignment as u32);
            }
            pairs.place(index, n_files, n_tensors);
            file(names.sibling(index), version, alignment, &pairs, tensors)
        });
        Ok(files.collect())
    }
}

fn padded(len: u64, alignment: u64) -> u64 {
    align_up(len, alignment).expect("sizes of tensors in memory add up to a file size")
}

/// Key and value of each pair, after what comes before them in a file.
pub(super) fn head(version: u32, n_tensors: usize, pairs: &Pairs) -> Vec<u8> {
    let values: usize = pairs.list.iter().map(|(key, value)| 8 + key.len() + value.len()).sum();
    let mut bytes = Vec::with_capacity(24 + values);
    bytes.extend(b"GGUF");
    let mut out = Bytes { order: pairs.order, bytes: &mut bytes };
    out.u32(version);
    out.u64(n_tensors as u64);
    out.u64(pairs.list.len() as u64);
    for (key, value) in &pairs.list {
        out.text(key);
        out.bytes.extend(value);
    }
    bytes
}

fn file(name: String, version: u32, alignment: u64, pairs: &Pairs, tensors: Vec<Entry>) -> OutFile {
    let mut header = head(version, tensors.len(), pairs);
    let mut out = Bytes { order: pairs.order, bytes: &mut header };
    let mut data = Vec::new();
    let mut offset = 0u64;
    for entry in tensors {
        let len = entry.len_bytes();
        let Entry { name, dims, dtype, data: of_tensor } = entry;
        out.text(&name);
        out.u32(dims.len() as u32);
        dims.iter().rev().for_each(|&dim| out.u64(dim as u64));
        out.u32(dtype.ggml_id().expect("a plan for GGUF has no other dtypes"));
        out.u64(offset);
        let padding = padded(len, alignment) - len;
        offset += len + padding;
        data.extend(of_tensor);
        data.push(OutPiece::Zeros(padding));
    }
    header.resize(padded(header.len() as u64, alignment) as usize, 0);
    let mut pieces = vec![OutPiece::Literal(header.into())];
    pieces.extend(data);
    OutFile { name, pieces }
}
