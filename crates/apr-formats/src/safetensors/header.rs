//! The JSON header: tensor descriptions that cover the data exactly.

use super::{CAPSULE_KEY, METADATA_KEY, PACKED_KEY};
use crate::cursor::Cursor;
use crate::gguf_no_overlap;
use crate::json_entries::Entries;
use crate::{Limits, ParseError};
use apr_model::Tensor;
use apr_tensor::{DType, Shape};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;

/// Bytes before the JSON text: its length.
pub(super) const PREFIX_BYTES: usize = 8;

/// A validated header.
#[derive(Debug)]
pub struct Header {
    /// The string pairs of `__metadata__`, in file order, without the capsule.
    pub metadata: Vec<(String, String)>,
    /// Tensors in header order; names are unique, ranges cover the data without gap or overlap.
    pub tensors: Vec<TensorInfo>,
    /// Where the text of the capsule lies in the file.
    pub capsule: Option<Range<usize>>,
}

/// One tensor description.
#[derive(Debug, Clone)]
pub struct TensorInfo {
    /// Name as stored.
    pub name: String,
    /// Row-major shape.
    pub shape: Shape,
    /// Stored dtype; for packed tensors the dtype of the blocks.
    pub dtype: DType,
    /// Absolute range in the file.
    pub range: Range<usize>,
}

/// Dtype and shape of a tensor whose blocks are carried as bytes.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Packed {
    pub(super) dtype: String,
    pub(super) shape: Vec<u64>,
}

impl Header {
    /// Parses and checks the header of a whole file.
    pub fn parse(file: &[u8], limits: &Limits) -> Result<Self, ParseError> {
        let mut cursor = Cursor::new(file);
        let n = cursor.u64("header length")?;
        if n > limits.safetensors_header_bytes {
            let cap = limits.safetensors_header_bytes;
            return Err(ParseError::at(0, format!("header of {n} bytes, at most {cap} are accepted")));
        }
        let text = cursor.utf8(n, limits.safetensors_header_bytes, "header")?;
        let data_start = cursor.pos() as usize;
        if !text.starts_with('{') {
            let found = text.chars().next().map_or("nothing".to_owned(), |c| format!("{c:?}"));
            return Err(ParseError::at(PREFIX_BYTES as u64, format!("header starts with {found}, expected '{{'")));
        }
        let Entries(entries) = serde_json::from_str(text)
            .map_err(|e| ParseError::at(PREFIX_BYTES as u64, format!("header is not the JSON expected: {e}")))?;
        if entries.len() as u64 > limits.tensors {
            return Err(ParseError::at(
                PREFIX_BYTES as u64,
                format!("{} tensors, at most {} are accepted", entries.len(), limits.tensors),
            ));
        }

        let mut metadata = Vec::new();
        let mut tensors = Vec::with_capacity(entries.len());
        let mut names = HashSet::with_capacity(entries.len());
        for (name, value) in &entries {
            if !names.insert(name) {
                return Err(bad(name, "appears twice in the header"));
            }
            if name == METADATA_KEY {
                metadata = strings(value)?;
            }
        }
        let packed = packed(&metadata)?;
        for (name, value) in entries.iter().filter(|(name, _)| name != METADATA_KEY) {
            tensors.push(describe(name, value, packed.get(name.as_str()), data_start, file.len())?);
        }
        gguf_no_overlap(tensors.iter().map(|t| (t.name.as_str(), &t.range)))?;
        covers(&tensors, data_start, file.len())?;

        let capsule = metadata.iter().find(|(key, _)| key == CAPSULE_KEY).and_then(|(_, value)| locate(text, value));
        metadata.retain(|(key, _)| key != CAPSULE_KEY);
        Ok(Self { metadata, tensors, capsule })
    }
}

/// Where the capsule's text stands in the header. Base64 needs no escapes, so it stands there as it is.
fn locate(text: &str, value: &str) -> Option<Range<usize>> {
    let key = format!("\"{CAPSULE_KEY}\":\"");
    let start = text.find(&key)? + key.len();
    (text.get(start..start + value.len())? == value).then_some(PREFIX_BYTES + start..PREFIX_BYTES + start + value.len())
}

fn bad(name: &str, detail: impl fmt::Display) -> ParseError {
    ParseError::new(format!("tensor {name:?} {detail}"))
}

fn strings(value: &Value) -> Result<Vec<(String, String)>, ParseError> {
    let map = value.as_object().ok_or_else(|| ParseError::new("__metadata__ is not an object"))?;
    map.iter()
        .map(|(key, value)| match value {
            Value::String(text) => Ok((key.clone(), text.clone())),
            other => Err(ParseError::new(format!("__metadata__ key {key:?} is {other}, expected a string"))),
        })
        .collect()
}

fn packed(metadata: &[(String, String)]) -> Result<HashMap<String, Packed>, ParseError> {
    match metadata.iter().find(|(key, _)| key == PACKED_KEY) {
        None => Ok(HashMap::new()),
        Some((_, text)) => serde_json::from_str(text)
            .map_err(|e| ParseError::new(format!("__metadata__ key {PACKED_KEY:?} is not the JSON expected: {e}"))),
    }
}

fn describe(
    name: &str,
    value: &Value,
    packed: Option<&Packed>,
    data_start: usize,
    file_len: usize,
) -> Result<TensorInfo, ParseError> {
    let map = value.as_object().ok_or_else(|| bad(name, "is not described by an object"))?;
    let field = |key: &str| map.get(key).ok_or_else(|| bad(name, format!("has no {key}")));
    if let Some(key) = map.keys().find(|key| !["dtype", "shape", "data_offsets"].contains(&key.as_str())) {
        return Err(bad(name, format!("has an unknown field {key:?}")));
    }
    let stored = field("dtype")?.as_str().ok_or_else(|| bad(name, "has a dtype that is not a string"))?;
    let shape = numbers(field("shape")?).ok_or_else(|| bad(name, "has a shape that is not a list of sizes"))?;
    let offsets = numbers(field("data_offsets")?)
        .and_then(|list| <[u64; 2]>::try_from(list).ok())
        .ok_or_else(|| bad(name, "has data_offsets that are not two positions"))?;

    let (dtype, shape) = match packed {
        None => {
            let dtype = DType::from_safetensors_name(stored)
                .map_err(|e| ParseError::unsupported(format!("tensor {name:?}: {e}")))?;
            (dtype, shape)
        }
        Some(packed) if stored == "U8" => {
            let dtype = DType::from_name(&packed.dtype).map_err(|e| bad(name, format!("is packed: {e}")))?;
            (dtype, packed.shape.clone())
        }
        Some(_) => return Err(bad(name, format!("is packed and stored as {stored}, expected U8"))),
    };
    let shape = Shape::new(&shape).map_err(|e| bad(name, e))?;
    let size = Tensor::size_bytes(name, dtype, &shape).map_err(|e| ParseError::new(e.to_string()))?;
    let [start, end] = offsets;
    let len = end.checked_sub(start).ok_or_else(|| bad(name, format!("ends at {end} before it starts at {start}")))?;
    if len != size as u64 {
        return Err(bad(name, format!("has {len} bytes of data, {dtype} {shape} needs {size}")));
    }
    let available = (file_len - data_start) as u64;
    if end > available {
        return Err(bad(name, format!("data exceeds file size: it ends at {end} of {available} data bytes")));
    }
    let range = data_start + start as usize..data_start + end as usize;
    Ok(TensorInfo { name: name.to_owned(), shape, dtype, range })
}

fn numbers(value: &Value) -> Option<Vec<u64>> {
    value.as_array()?.iter().map(Value::as_u64).collect()
}

/// The reference library refuses bytes that no tensor covers; so does this reader.
fn covers(tensors: &[TensorInfo], data_start: usize, file_len: usize) -> Result<(), ParseError> {
    let mut ranges: Vec<_> = tensors.iter().map(|t| t.range.clone()).collect();
    ranges.sort_by_key(|range| (range.start, range.end));
    let mut pos = data_start;
    for range in ranges {
        if range.start > pos {
            return Err(ParseError::at(pos as u64, format!("{} bytes that no tensor covers", range.start - pos)));
        }
        pos = pos.max(range.end);
    }
    if pos < file_len {
        let detail = format!("{} bytes after the last tensor", file_len - pos);
        return Err(ParseError::at(pos as u64, detail));
    }
    Ok(())
}

/// The bytes of all tensors, where an index states them.
pub(super) fn total_size(index: &[u8]) -> Result<Option<u64>, ParseError> {
    let index: Value = serde_json::from_slice(index).map_err(|e| ParseError::new(format!("index: {e}")))?;
    Ok(index["metadata"]["total_size"].as_u64())
}
