//! The same GGUF model in another number of files: metadata as it was stored, every key of it, in its order.

use super::container::{Container, Entry, Pairs};
use super::members::members;
use super::{CAPSULE_KEY, Header, rope, split};
use crate::Limits;
use crate::plan::{OutFile, OutPiece, Recode};
use apr_model::{Checkpoint, OriginFile, Piece};
use apr_tensor::Bytes;
use std::ops::Range;

/// Plans the files of a checkpoint read from GGUF anew: one called `name`, or several of at most `shard_bytes` of
/// tensors. `capsule` is that of the target.
pub(crate) fn repack(
    checkpoint: &Checkpoint,
    capsule: Option<&str>,
    name: String,
    shard_bytes: Option<u64>,
) -> Result<Vec<OutFile>, String> {
    let limits = Limits::default();
    let mut whole: Option<(u32, u64, Pairs)> = None;
    let mut tensors = Vec::new();
    for file in &checkpoint.origin.files {
        let start = start(file, checkpoint.capsule.as_deref().unwrap_or_default());
        let header = Header::parse_start(&start, file.len, &limits).map_err(|e| e.detail)?;
        for info in &header.tensors {
            let (name, dims, dtype) = (info.name.to_owned(), info.shape.dims().to_vec(), info.dtype);
            if rope::is_derived(info.name, &checkpoint.spec) {
                let bytes = literal(checkpoint, file, info.range.clone());
                let bytes = bytes.ok_or_else(|| format!("tensor {name} is gone"))?;
                tensors.push(Entry { name, dims, dtype, data: vec![OutPiece::Literal(bytes)] });
                continue;
            }
            let mut data = Vec::new();
            for member in members(info, checkpoint.spec.arch()).map_err(|e| e.detail)? {
                let name = member.name;
                let tensor = checkpoint.tensors.get(&name).ok_or_else(|| format!("tensor {name} is gone"))?;
                let recode = Recode::exact(tensor, tensor.dtype, tensor.relayout);
                let recode = recode.and_then(|recode| recode.in_order(header.byte_order));
                let recode = recode.ok_or_else(|| format!("tensor {name} can't be {} again", tensor.dtype))?;
                data.push(OutPiece::Tensor(recode));
            }
            tensors.push(Entry { name, dims, dtype, data });
        }
        // Later files have no metadata of their own.
        whole.get_or_insert_with(|| (header.version, header.alignment, Pairs::of(&header, &start)));
    }
    let (version, alignment, mut pairs) = whole.ok_or("the recipe has no files")?;
    split::KEYS.iter().chain([&CAPSULE_KEY]).for_each(|key| pairs.remove(key));
    if let Some(text) = capsule {
        pairs.string(CAPSULE_KEY, text);
    }
    Container { version, alignment, pairs, tensors }.into_files(name, shard_bytes)
}

/// Bytes of a file that are no tensor's.
fn literal(checkpoint: &Checkpoint, file: &OriginFile, range: Range<usize>) -> Option<Bytes> {
    let mut start = 0;
    for piece in &file.pieces {
        let len = match piece {
            Piece::Literal(bytes) | Piece::Kept { bytes, .. } => bytes.len(),
            Piece::Zeros(n) => *n as usize,
            Piece::Capsule => checkpoint.capsule.as_deref().map_or(0, <[u8]>::len),
            Piece::Tensor { name, .. } => checkpoint.tensors.get(name)?.data.len(),
        };
        if let Piece::Literal(bytes) = piece
            && range.start >= start
            && range.end <= start + len
        {
            return bytes.slice(range.start - start..range.end - start);
        }
        start += len;
    }
    None
}

/// A file up to its first tensor: at least its header.
fn start(file: &OriginFile, inner: &[u8]) -> Vec<u8> {
    let mut start = Vec::new();
    for piece in &file.pieces {
        match piece {
            Piece::Literal(bytes) => start.extend_from_slice(bytes),
            Piece::Zeros(n) => start.resize(start.len() + *n as usize, 0),
            Piece::Capsule => start.extend_from_slice(inner),
            Piece::Tensor { .. } | Piece::Kept { .. } => break,
        }
    }
    start
}
