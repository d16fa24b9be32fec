//! Header and tensor index, checked against the file's length and its checksums.

use super::{ALIGNMENT, CHECKSUM_MAGIC, HEADER_BYTES, flag};
use crate::cursor::Cursor;
use crate::gguf_no_overlap;
use crate::{Limits, ParseError};
use apr_model::Tensor;
use apr_tensor::{DType, MAX_DIMS, Shape};
use std::collections::HashSet;
use std::ops::Range;

/// A validated header with its index.
#[derive(Debug)]
pub struct Header {
    /// Fourth byte of the magic: 0, or `2` in files of the tool's first v2 releases.
    pub magic: [u8; 4],
    /// Major and minor version.
    pub version: (u8, u8),
    /// Flag bits.
    pub flags: u16,
    /// Where the metadata JSON lies.
    pub metadata: Range<usize>,
    /// Tensors in index order; names are unique, ranges lie in the file and don't overlap.
    pub tensors: Vec<TensorInfo>,
    /// CRC32 of each tensor, in order of its data, where the file has them.
    pub tensor_checksums: Option<Vec<u32>>,
    /// The CRC32 in the last four bytes, of everything before them.
    pub footer_checksum: Option<u32>,
}

/// One index entry.
#[derive(Debug, Clone)]
pub struct TensorInfo {
    /// Name as stored.
    pub name: String,
    /// Row-major shape.
    pub shape: Shape,
    /// Stored dtype.
    pub dtype: DType,
    /// Absolute range in the file.
    pub range: Range<usize>,
}

impl Header {
    /// Parses and checks header and index of a whole file. The data's checksums are read, not compared.
    pub fn parse(file: &[u8], limits: &Limits) -> Result<Self, ParseError> {
        let mut cursor = Cursor::new(file);
        let fixed = cursor.take(HEADER_BYTES as u64, "header")?;
        let magic: [u8; 4] = fixed[..4].try_into().expect("header is 64 bytes");
        if magic != *b"APR\0" && magic != *b"APR2" {
            return Err(ParseError::at(
                0,
                format!("magic \"{}\", expected \"APR\\0\" or \"APR2\"", magic.escape_ascii()),
            ));
        }
        let mut field = Cursor::at(fixed, 4);
        let version = (field.u8("version")?, field.u8("version")?);
        if version.0 != 2 {
            return Err(ParseError::unsupported(format!("APR version {}.{}; version 2 is read", version.0, version.1)));
        }
        let flags = field.u16("flags")?;
        check_flags(flags)?;
        let n_tensors = u64::from(field.u32("tensor count")?);
        let metadata_offset = field.u64("metadata offset")?;
        let metadata_size = u64::from(field.u32("metadata size")?);
        let index_offset = field.u64("index offset")?;
        let data_offset = field.u64("data offset")?;
        let stated = field.u32("header checksum")?;
        let mut crc = crc32fast::Hasher::new();
        crc.update(&fixed[..40]);
        crc.update(&fixed[44..]);
        let computed = crc.finalize();
        if stated != computed {
            return Err(ParseError::at(40, format!("header checksum {stated:08x}, its bytes give {computed:08x}")));
        }

        let len = file.len() as u64;
        if metadata_size > limits.apr_metadata_bytes {
            let cap = limits.apr_metadata_bytes;
            return Err(ParseError::at(20, format!("metadata of {metadata_size} bytes, at most {cap} are accepted")));
        }
        let metadata_end = metadata_offset.checked_add(metadata_size);
        let ordered = metadata_offset >= HEADER_BYTES as u64
            && metadata_end.is_some_and(|end| end <= index_offset)
            && index_offset <= data_offset
            && data_offset <= len;
        if !ordered {
            let detail = format!(
                "sections out of order or past the end: metadata at {metadata_offset} of {metadata_size} bytes, \
                 index at {index_offset}, data at {data_offset}, file of {len} bytes"
            );
            return Err(ParseError::at(12, detail));
        }
        let metadata = metadata_offset as usize..(metadata_offset + metadata_size) as usize;

        let index = &file[..data_offset as usize];
        let mut cursor = Cursor::at(index, index_offset as usize);
        // The smallest entry: name length, dtype, dimension count, offset, size.
        let n_tensors = cursor.count(n_tensors, limits.tensors, 2 + 1 + 1 + 8 + 8, "tensors")?;
        let mut names = HashSet::with_capacity(n_tensors);
        let mut tensors = Vec::with_capacity(n_tensors);
        for _ in 0..n_tensors {
            let at = cursor.pos();
            let tensor = entry(&mut cursor, data_offset, len)?;
            if !names.insert(tensor.name.clone()) {
                return Err(ParseError::at(at, format!("tensor {:?} appears twice", tensor.name)));
            }
            tensors.push(tensor);
        }
        gguf_no_overlap(tensors.iter().map(|t| (t.name.as_str(), &t.range)))?;

        let data_end = tensors.iter().map(|t| t.range.end).max().unwrap_or(data_offset as usize);
        let tensor_checksums = checksums(file, data_end, n_tensors);
        let footer_checksum = (file.len() >= data_end + 4)
            .then(|| u32::from_le_bytes(file[file.len() - 4..].try_into().expect("four bytes")));
        Ok(Self { magic, version, flags, metadata, tensors, tensor_checksums, footer_checksum })
    }
}

fn check_flags(flags: u16) -> Result<(), ParseError> {
    if let Some((_, what)) = flag::UNSUPPORTED.iter().find(|(bit, _)| flags & bit != 0) {
        return Err(ParseError::unsupported(format!("an APR file with {what} (flags {flags:#06x})")));
    }
    if flags & flag::LAYOUT_COLUMN_MAJOR != 0 {
        return Err(ParseError::unsupported(format!("an APR file with column-major tensors (flags {flags:#06x})")));
    }
    Ok(())
}

fn entry(cursor: &mut Cursor<'_>, data_offset: u64, file_len: u64) -> Result<TensorInfo, ParseError> {
    let at = cursor.pos();
    let name_bytes = u64::from(cursor.u16("name length")?);
    let name = cursor.utf8(name_bytes, u64::from(u16::MAX), "tensor name")?.to_owned();
    let code = u32::from(cursor.u8("dtype code")?);
    // No other numbering than ggml's, and ours of what ggml lacks, is accepted: the size check below would refuse most wrong readings, and a
    // wrong reading that fits is worse than an error.
    let dtype = DType::from_id(code).map_err(|e| ParseError {
        offset_bytes: Some(at),
        ..ParseError::unsupported(format!("tensor {name:?}: {e}"))
    })?;
    let n_dims = usize::from(cursor.u8("dimension count")?);
    if n_dims > MAX_DIMS {
        return Err(ParseError::at(at, format!("tensor {name:?} has {n_dims} dimensions, APR allows {MAX_DIMS}")));
    }
    let dims = (0..n_dims).map(|_| cursor.u64("dimension")).collect::<Result<Vec<_>, _>>()?;
    let shape = Shape::new(&dims).map_err(|e| ParseError::at(at, format!("tensor {name:?}: {e}")))?;
    let offset = cursor.u64("tensor offset")?;
    let size = cursor.u64("tensor size")?;
    let needed = Tensor::size_bytes(&name, dtype, &shape).map_err(|e| ParseError::at(at, e.to_string()))?;
    if size != needed as u64 {
        let detail = format!("tensor {name:?} states {size} bytes of data, {dtype} {shape} needs {needed}");
        return Err(ParseError::at(at, detail));
    }
    if !offset.is_multiple_of(ALIGNMENT) {
        let detail = format!("tensor {name:?} starts at data offset {offset}, not a multiple of {ALIGNMENT}");
        return Err(ParseError::at(at, detail));
    }
    let start = data_offset.checked_add(offset);
    let end = start.and_then(|start| start.checked_add(size));
    match (start, end) {
        (Some(start), Some(end)) if end <= file_len => {
            Ok(TensorInfo { name, shape, dtype, range: start as usize..end as usize })
        }
        _ => {
            let detail = format!(
                "tensor {name:?} data exceeds file size: {size} bytes at data offset {offset} of a file of {file_len} bytes"
            );
            Err(ParseError::at(at, detail))
        }
    }
}

/// The checksum table that this project's writer puts behind the data: magic, then one `u32` per tensor.
fn checksums(file: &[u8], data_end: usize, n_tensors: usize) -> Option<Vec<u32>> {
    let start = data_end.next_multiple_of(ALIGNMENT as usize);
    let end = start + CHECKSUM_MAGIC.len() + 4 * n_tensors;
    let table = file.get(start..end)?.strip_prefix(CHECKSUM_MAGIC)?;
    Some(table.chunks_exact(4).map(|c| u32::from_le_bytes(c.try_into().expect("four bytes"))).collect())
}
