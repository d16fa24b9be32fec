//! The layout of a fresh APR model.

use super::manifest::{self, Place};
use super::metadata::Metadata;
use super::{ALIGNMENT, CHECKSUM_MAGIC, HEADER_BYTES, flag};
use crate::plan::{OutFile, OutPiece, Plan, Recode};
use crate::shards::{self, APR};
use crate::{Limits, WriteError};
use apr_model::Checkpoint;
use std::path::Path;

/// Plans the files of an APR target: one, or with `shard_bytes` several of at most as many bytes of tensors, behind their
/// manifest. `path` is for errors.
pub(crate) fn layout(
    checkpoint: &Checkpoint,
    plan: &Plan,
    capsule: Option<&str>,
    name: String,
    shard_bytes: Option<u64>,
    path: &Path,
) -> Result<Vec<OutFile>, WriteError> {
    let cannot = |detail: String| WriteError::Cannot { path: path.to_owned(), detail };
    let mut metadata = Metadata::of(checkpoint, plan.main_dtype(), capsule);
    let dealt = match shard_bytes {
        None => Vec::new(),
        // Neighbours in the model share a file; within a file they stand by name.
        Some(most_bytes) => shards::deal(plan.in_model_order(checkpoint), most_bytes),
    };
    let has_vocab = if checkpoint.tokenizer.is_some() { flag::HAS_VOCAB } else { 0 };
    if dealt.len() < 2 {
        let text = text_of(&metadata, capsule).map_err(cannot)?;
        let pieces = one_file(checkpoint, &plan.tensors, text, has_vocab).map_err(cannot)?;
        return Ok(vec![OutFile { name, pieces }]);
    }

    let (n_files, total_bytes) = (dealt.len(), manifest::tensor_bytes(&dealt));
    let mut files = Vec::with_capacity(n_files);
    for (index, shard) in dealt.iter().enumerate() {
        let place = Some(Place::new(index, n_files, total_bytes));
        // The first file says everything of the model, the others of which model they are.
        if index > 0 {
            metadata = metadata.of_later_file();
        }
        metadata.sharding = place;
        let text = text_of(&metadata, capsule.filter(|_| index == 0)).map_err(cannot)?;
        let flags = flag::SHARDED | if index == 0 { has_vocab } else { 0 };
        let mut by_name = shard.clone();
        by_name.sort_by(|a, b| a.name.cmp(&b.name));
        let pieces = one_file(checkpoint, &by_name, text, flags).map_err(cannot)?;
        files.push(OutFile { name: APR.shard_name(index, n_files), pieces });
    }
    let file_bytes: Vec<u64> = files.iter().map(len_bytes).collect();
    let manifest = vec![OutPiece::Literal(manifest::text(&dealt, &file_bytes).into())];
    files.insert(0, OutFile { name: APR.index.to_owned(), pieces: manifest });
    Ok(files)
}

/// Length of a file, with its checksums.
fn len_bytes(file: &OutFile) -> u64 {
    let n_tensors = file.pieces.iter().filter(|piece| matches!(piece, OutPiece::Tensor(_))).count() as u64;
    let of = |piece: &OutPiece| match piece {
        OutPiece::TensorChecksums => 4 * n_tensors,
        OutPiece::FileChecksum => 4,
        other => other.len_bytes(),
    };
    file.pieces.iter().map(of).sum()
}

fn text_of(metadata: &Metadata, capsule: Option<&str>) -> Result<Vec<u8>, String> {
    let text = metadata.to_text();
    let cap = Limits::default().apr_metadata_bytes;
    if text.len() as u64 > cap {
        let capsule_bytes = capsule.map_or(0, str::len);
        return Err(format!(
            "APR allows {cap} bytes of metadata, this model needs {} (its capsule {capsule_bytes} of them; \
             --no-capsule leaves that out and gives up the way back to the same file)",
            text.len()
        ));
    }
    Ok(text)
}

fn one_file(
    checkpoint: &Checkpoint,
    tensors: &[Recode],
    metadata: Vec<u8>,
    flags: u16,
) -> Result<Vec<OutPiece>, String> {
    let mut index = Vec::new();
    let mut data = Vec::new();
    let mut offset = 0u64;
    for recode in tensors {
        let tensor = checkpoint.tensors.get(&recode.name).expect("plan lists tensors of the checkpoint");
        let name_len = u16::try_from(recode.name.len())
            .map_err(|_| format!("tensor name of {} bytes, APR allows {}", recode.name.len(), u16::MAX))?;
        let id = recode.dtype.info().id;
        index.extend(name_len.to_le_bytes());
        index.extend(recode.name.as_bytes());
        index.push(u8::try_from(id).expect("every id fits in a byte; the table test shows it"));
        index.push(tensor.shape.dims().len() as u8);
        for &dim in tensor.shape.dims() {
            index.extend((dim as u64).to_le_bytes());
        }
        index.extend(offset.to_le_bytes());
        index.extend((recode.len_bytes as u64).to_le_bytes());
        let end = offset + recode.len_bytes as u64;
        let next = end.next_multiple_of(ALIGNMENT);
        data.push(OutPiece::Tensor(recode.clone()));
        data.push(OutPiece::Zeros(next - end));
        offset = next;
    }

    let index_offset = (HEADER_BYTES + metadata.len()).next_multiple_of(ALIGNMENT as usize);
    let data_offset = (index_offset + index.len()).next_multiple_of(ALIGNMENT as usize);
    let mut flags = flags | flag::LAYOUT_ROW_MAJOR;
    if tensors.iter().any(|recode| recode.dtype.is_quantized()) {
        flags |= flag::QUANTIZED;
    }
    let mut header = Vec::with_capacity(data_offset);
    header.extend(b"APR\0");
    header.extend([2, 0]);
    header.extend(flags.to_le_bytes());
    header.extend((tensors.len() as u32).to_le_bytes());
    header.extend((HEADER_BYTES as u64).to_le_bytes());
    header.extend((metadata.len() as u32).to_le_bytes());
    header.extend((index_offset as u64).to_le_bytes());
    header.extend((data_offset as u64).to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&header);
    crc.update(&[0; 20]);
    header.extend(crc.finalize().to_le_bytes());
    header.extend([0; 20]);
    header.extend(metadata);
    header.resize(index_offset, 0);
    header.extend(index);
    header.resize(data_offset, 0);

    let mut pieces = vec![OutPiece::Literal(header.into())];
    pieces.extend(data);
    pieces.push(OutPiece::Literal(CHECKSUM_MAGIC.to_vec().into()));
    pieces.push(OutPiece::TensorChecksums);
    pieces.push(OutPiece::FileChecksum);
    Ok(pieces)
}
