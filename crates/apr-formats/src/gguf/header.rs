//! The header: metadata pairs and tensor descriptions, checked against the file's length.

use super::str_list::StrList;
use super::{DEFAULT_ALIGNMENT, MAX_DIMS};
use crate::cursor::{Cursor, align_up};
use crate::{Limits, ParseError};
use apr_model::{Tensor, Texts};
use apr_tensor::{ByteOrder, DType, Shape};
use std::collections::HashSet;
use std::ops::Range;

/// Most arrays inside each other: no published key has two.
const MAX_ARRAY_DEPTH: usize = 4;

/// A validated header.
#[derive(Debug)]
pub struct Header<'a> {
    /// 2 or 3.
    pub version: u32,
    /// Order of all numbers, those in tensors included.
    pub byte_order: ByteOrder,
    /// Metadata in file order; keys are unique.
    pub pairs: Vec<(&'a str, Value<'a>)>,
    /// Where each pair's value starts and ends in the file.
    pub value_ranges: Vec<Range<usize>>,
    /// Tensors in file order; names are unique, data ranges lie in the file and don't overlap.
    pub tensors: Vec<TensorInfo<'a>>,
    /// Alignment of the data section and of each tensor in it.
    pub alignment: u64,
    /// Where the tensors are described.
    pub tensor_infos: Range<usize>,
    /// Where the data section starts.
    pub data_offset: u64,
}

/// One tensor description.
#[derive(Debug, Clone)]
pub struct TensorInfo<'a> {
    /// Name as stored.
    pub name: &'a str,
    /// Row-major shape (the file lists the fastest dimension first).
    pub shape: Shape,
    /// Stored dtype.
    pub dtype: DType,
    /// Absolute range in the file.
    pub range: Range<usize>,
}

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// Type 0.
    U8(u8),
    /// Type 1.
    I8(i8),
    /// Type 2.
    U16(u16),
    /// Type 3.
    I16(i16),
    /// Type 4.
    U32(u32),
    /// Type 5.
    I32(i32),
    /// Type 6.
    F32(f32),
    /// Type 7.
    Bool(bool),
    /// Type 8.
    Str(&'a str),
    /// Type 9.
    Array(Array),
    /// Type 10.
    U64(u64),
    /// Type 11.
    I64(i64),
    /// Type 12.
    F64(f64),
}

/// A metadata array. Only the element types that are used here are kept apart.
#[derive(Debug, Clone, PartialEq)]
pub enum Array {
    /// Strings.
    Str(Texts),
    /// Any integer or bool type.
    Int(Vec<i64>),
    /// `u64` values, which need not fit in `i64`.
    U64(Vec<u64>),
    /// `f32` or `f64`.
    Float(Vec<f64>),
    /// Arrays.
    Nested(Vec<Array>),
}

impl Array {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Array::Str(v) => v.len(),
            Array::Int(v) => v.len(),
            Array::U64(v) => v.len(),
            Array::Float(v) => v.len(),
            Array::Nested(v) => v.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'a> Header<'a> {
    /// Parses and checks the header of a whole file.
    pub fn parse(file: &'a [u8], limits: &Limits) -> Result<Self, ParseError> {
        Self::parse_start(file, file.len() as u64, limits)
    }

    /// [`Header::parse`] for the start of a file of `file_len` bytes, which holds the header.
    pub(super) fn parse_start(file: &'a [u8], file_len: u64, limits: &Limits) -> Result<Self, ParseError> {
        let mut cursor = Cursor::new(file);
        let magic = cursor.take(4, "magic")?;
        if magic != b"GGUF" {
            return Err(ParseError::at(0, format!("magic \"{}\", expected \"GGUF\"", magic.escape_ascii())));
        }
        let version = version(&mut cursor)?;
        let n_tensors = cursor.u64("tensor count")?;
        let n_pairs = cursor.u64("metadata count")?;
        // The smallest description: name length, no name, dimension count, dtype, offset.
        let n_tensors = cursor.count(n_tensors, limits.tensors, 8 + 4 + 4 + 8, "tensors")?;
        let n_pairs = cursor.count(n_pairs, limits.metadata_pairs, 8 + 4 + 1, "metadata pairs")?;

        let mut pairs: Vec<(&str, Value<'_>)> = Vec::with_capacity(n_pairs);
        let mut long_lists = Vec::new();
        let mut value_ranges = Vec::with_capacity(n_pairs);
        let mut keys = HashSet::with_capacity(n_pairs);
        for _ in 0..n_pairs {
            let at = cursor.pos();
            let key = string(&mut cursor, limits.name_bytes, "metadata key")?;
            if !keys.insert(key) {
                return Err(ParseError::at(at, format!("metadata key {key:?} appears twice")));
            }
            let kind = cursor.u32("value type")?;
            let start = cursor.pos() as usize;
            let value = match StrList::at(&mut cursor, kind, limits).map_err(|e| about(e, key))? {
                Some(list) => {
                    long_lists.push((pairs.len(), list));
                    Value::Array(Array::Str(Texts::default()))
                }
                None => value(&mut cursor, kind, limits).map_err(|e| about(e, key))?,
            };
            value_ranges.push(start..cursor.pos() as usize);
            pairs.push((key, value));
        }
        for (index, texts) in StrList::read_all(long_lists) {
            pairs[index].1 = Value::Array(Array::Str(texts.map_err(|e| about(e, pairs[index].0))?));
        }
        let alignment = alignment(&pairs)?;

        let infos_start = cursor.pos() as usize;
        let mut descriptions = Vec::with_capacity(n_tensors);
        for _ in 0..n_tensors {
            descriptions.push(describe(&mut cursor, limits)?);
        }
        let tensor_infos = infos_start..cursor.pos() as usize;
        let data_offset = align_up(cursor.pos(), alignment).ok_or_else(|| cursor.error("data offset overflows"))?;
        let tensors = place(descriptions, data_offset, alignment, file_len)?;
        Ok(Self {
            version,
            byte_order: cursor.order(),
            pairs,
            value_ranges,
            tensors,
            alignment,
            tensor_infos,
            data_offset,
        })
    }

    /// Takes the texts of a key out of the header; None where the key is absent or holds something else.
    pub(super) fn take_texts(&mut self, key: &str) -> Option<Texts> {
        match self.pairs.iter_mut().find(|(k, _)| *k == key) {
            Some((_, Value::Array(Array::Str(texts)))) => Some(std::mem::take(texts)),
            _ => None,
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value<'a>> {
        self.pairs.iter().find(|(k, _)| *k == key).map(|(_, value)| value)
    }
}

/// The version, which also tells the byte order: nothing else does.
fn version(cursor: &mut Cursor<'_>) -> Result<u32, ParseError> {
    let stored = cursor.u32("version")?;
    // Read in the wrong order, a small number is a huge one.
    let (order, version) = match stored.swap_bytes() {
        swapped if swapped < stored => (ByteOrder::Big, swapped),
        _ => (ByteOrder::Little, stored),
    };
    cursor.set_order(order);
    match version {
        2 | 3 => Ok(version),
        1 => Err(ParseError::unsupported("GGUF version 1 (32-bit counts); convert it with an older tool")),
        _ => Err(ParseError::at(4, format!("version {version}, versions 2 and 3 are read"))),
    }
}

struct Description<'a> {
    name: &'a str,
    shape: Shape,
    dtype: DType,
    offset: u64,
    at: u64,
}

fn describe<'a>(cursor: &mut Cursor<'a>, limits: &Limits) -> Result<Description<'a>, ParseError> {
    let at = cursor.pos();
    let name = string(cursor, limits.name_bytes, "tensor name")?;
    let n_dims = cursor.u32("dimension count")?;
    if n_dims as usize > MAX_DIMS {
        return Err(cursor.error(format!("tensor {name:?} has {n_dims} dimensions, GGUF allows {MAX_DIMS}")));
    }
    let mut dims = Vec::with_capacity(MAX_DIMS);
    for _ in 0..n_dims {
        dims.push(cursor.u64("dimension")?);
    }
    // ne[0] is the fastest dimension: reversing the list gives row-major dims without moving a byte.
    dims.reverse();
    let shape = Shape::new(&dims).map_err(|e| cursor.error(format!("tensor {name:?}: {e}")))?;
    let id = cursor.u32("tensor dtype")?;
    let dtype = DType::from_ggml_id(id).map_err(|e| ParseError {
        offset_bytes: Some(at),
        ..ParseError::unsupported(format!("tensor {name:?}: {e}"))
    })?;
    let offset = cursor.u64("tensor offset")?;
    Ok(Description { name, shape, dtype, offset, at })
}

/// Turns offsets into file ranges: aligned, inside the file, without overlap.
fn place<'a>(
    descriptions: Vec<Description<'a>>,
    data_offset: u64,
    alignment: u64,
    file_len: u64,
) -> Result<Vec<TensorInfo<'a>>, ParseError> {
    let mut names = HashSet::with_capacity(descriptions.len());
    let mut tensors = Vec::with_capacity(descriptions.len());
    for d in descriptions {
        let name = d.name;
        if !names.insert(name) {
            return Err(ParseError::at(d.at, format!("tensor {name:?} appears twice")));
        }
        if !d.offset.is_multiple_of(alignment) {
            return Err(ParseError::at(
                d.at,
                format!("tensor {name:?} starts at {}, not a multiple of {alignment}", d.offset),
            ));
        }
        let size = Tensor::size_bytes(name, d.dtype, &d.shape).map_err(|e| ParseError::at(d.at, e.to_string()))? as u64;
        let start = data_offset.checked_add(d.offset);
        let end = start.and_then(|start| start.checked_add(size));
        match (start, end) {
            (Some(start), Some(end)) if end <= file_len => {
                tensors.push(TensorInfo { name, shape: d.shape, dtype: d.dtype, range: start as usize..end as usize });
            }
            _ => {
                let detail = format!(
                    "tensor {name:?} data exceeds file size: {size} bytes at data offset {} of a file of {file_len} bytes",
                    d.offset
                );
                return Err(ParseError::at(d.at, detail));
            }
        }
    }
    no_overlap(tensors.iter().map(|t| (t.name, &t.range)))?;
    Ok(tensors)
}

/// Checks that no two ranges share a byte.
pub(crate) fn no_overlap<'a>(ranges: impl Iterator<Item = (&'a str, &'a Range<usize>)>) -> Result<(), ParseError> {
    let mut sorted: Vec<_> = ranges.filter(|(_, range)| !range.is_empty()).collect();
    sorted.sort_by_key(|(_, range)| range.start);
    for pair in sorted.windows(2) {
        let ((a, first), (b, second)) = (pair[0], pair[1]);
        if second.start < first.end {
            return Err(ParseError::at(second.start as u64, format!("tensors {a:?} and {b:?} share bytes")));
        }
    }
    Ok(())
}

fn alignment(pairs: &[(&str, Value<'_>)]) -> Result<u64, ParseError> {
    match pairs.iter().find(|(key, _)| *key == "general.alignment") {
        None => Ok(DEFAULT_ALIGNMENT),
        // The specification wants a multiple of eight, ggml a power of two.
        Some((_, Value::U32(n))) if n.is_power_of_two() && *n >= 8 => Ok(u64::from(*n)),
        Some((_, other)) => Err(ParseError::new(format!(
            "general.alignment is {other:?}, expected a power of two of at least 8 as u32"
        ))),
    }
}

fn about(error: ParseError, key: &str) -> ParseError {
    ParseError { detail: format!("metadata key {key:?}: {}", error.detail), ..error }
}

fn string<'a>(cursor: &mut Cursor<'a>, cap: u64, what: &str) -> Result<&'a str, ParseError> {
    let n = cursor.u64(what)?;
    cursor.utf8(n, cap, what)
}

pub(super) fn value<'a>(cursor: &mut Cursor<'a>, kind: u32, limits: &Limits) -> Result<Value<'a>, ParseError> {
    Ok(match kind {
        0 => Value::U8(cursor.u8("u8 value")?),
        1 => Value::I8(cursor.i8("i8 value")?),
        2 => Value::U16(cursor.u16("u16 value")?),
        3 => Value::I16(cursor.i16("i16 value")?),
        4 => Value::U32(cursor.u32("u32 value")?),
        5 => Value::I32(cursor.i32("i32 value")?),
        6 => Value::F32(cursor.f32("f32 value")?),
        7 => Value::Bool(boolean(cursor)?),
        8 => Value::Str(string(cursor, limits.string_bytes, "string value")?),
        9 => Value::Array(array(cursor, limits, 0)?),
        10 => Value::U64(cursor.u64("u64 value")?),
        11 => Value::I64(cursor.i64("i64 value")?),
        12 => Value::F64(cursor.f64("f64 value")?),
        other => return Err(cursor.error(format!("value type {other}, types 0 to 12 exist"))),
    })
}

fn boolean(cursor: &mut Cursor<'_>) -> Result<bool, ParseError> {
    match cursor.u8("bool value")? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(cursor.error(format!("bool value {other}, expected 0 or 1"))),
    }
}

fn array(cursor: &mut Cursor<'_>, limits: &Limits, depth: usize) -> Result<Array, ParseError> {
    if depth >= MAX_ARRAY_DEPTH {
        return Err(cursor.error(format!("arrays nested more than {MAX_ARRAY_DEPTH} deep")));
    }
    let kind = cursor.u32("array element type")?;
    let n = cursor.u64("array length")?;
    let min_bytes = match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        8 | 10..=12 => 8,
        9 => 12,
        other => return Err(cursor.error(format!("array element type {other}, types 0 to 12 exist"))),
    };
    let n = cursor.count(n, limits.array_elements, min_bytes, "array elements")?;
    fn collect<T>(n: usize, mut read: impl FnMut() -> Result<T, ParseError>) -> Result<Vec<T>, ParseError> {
        let mut list = Vec::with_capacity(n);
        for _ in 0..n {
            list.push(read()?);
        }
        Ok(list)
    }
    Ok(match kind {
        0 => Array::Int(collect(n, || cursor.u8("u8 element").map(i64::from))?),
        1 => Array::Int(collect(n, || cursor.i8("i8 element").map(i64::from))?),
        2 => Array::Int(collect(n, || cursor.u16("u16 element").map(i64::from))?),
        3 => Array::Int(collect(n, || cursor.i16("i16 element").map(i64::from))?),
        4 => Array::Int(collect(n, || cursor.u32("u32 element").map(i64::from))?),
        5 => Array::Int(collect(n, || cursor.i32("i32 element").map(i64::from))?),
        6 => Array::Float(collect(n, || cursor.f32("f32 element").map(f64::from))?),
        7 => Array::Int(collect(n, || boolean(cursor).map(i64::from))?),
        8 => Array::Str(StrList::skip(cursor, n, limits)?.read()?),
        9 => Array::Nested(collect(n, || array(cursor, limits, depth + 1))?),
        10 => Array::U64(collect(n, || cursor.u64("u64 element"))?),
        11 => Array::Int(collect(n, || cursor.i64("i64 element"))?),
        _ => Array::Float(collect(n, || cursor.f64("f64 element"))?),
    })
}
