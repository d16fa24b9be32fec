//! The layout of a fresh APR file.

use super::metadata::Metadata;
use super::{ALIGNMENT, CHECKSUM_MAGIC, HEADER_BYTES, flag};
use crate::plan::{OutFile, OutPiece, Plan};
use crate::{Limits, WriteError};
use apr_model::Checkpoint;
use std::path::Path;

/// Plans the one file of an APR target. `path` is for errors.
pub(crate) fn layout(
    checkpoint: &Checkpoint,
    plan: &Plan,
    capsule: Option<&str>,
    name: String,
    path: &Path,
) -> Result<OutFile, WriteError> {
    let cannot = |detail: String| WriteError::Cannot { path: path.to_owned(), detail };
    let metadata = Metadata::of(checkpoint, plan.main_dtype(), capsule).to_text();
    let cap = Limits::default().apr_metadata_bytes;
    if metadata.len() as u64 > cap {
        let capsule_bytes = capsule.map_or(0, str::len);
        return Err(cannot(format!(
            "APR allows {cap} bytes of metadata, this model needs {} (its capsule {capsule_bytes} of them; \
             --no-capsule leaves that out and gives up the way back to the same file)",
            metadata.len()
        )));
    }

    let mut index = Vec::new();
    let mut data = Vec::new();
    let mut offset = 0u64;
    for recode in &plan.tensors {
        let tensor = checkpoint.tensors.get(&recode.name).expect("plan lists tensors of the checkpoint");
        let name_len = u16::try_from(recode.name.len())
            .map_err(|_| cannot(format!("tensor name of {} bytes, APR allows {}", recode.name.len(), u16::MAX)))?;
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
    let mut flags = flag::LAYOUT_ROW_MAJOR;
    if plan.tensors.iter().any(|recode| recode.dtype.is_quantized()) {
        flags |= flag::QUANTIZED;
    }
    if checkpoint.tokenizer.is_some() {
        flags |= flag::HAS_VOCAB;
    }
    let mut header = Vec::with_capacity(data_offset);
    header.extend(b"APR\0");
    header.extend([2, 0]);
    header.extend(flags.to_le_bytes());
    header.extend((plan.tensors.len() as u32).to_le_bytes());
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
    Ok(OutFile { name, pieces })
}
