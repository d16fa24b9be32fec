//! Writing a source again: matching a recipe with the checkpoint it is to be filled from.

use crate::kept;
use crate::plan::{OutFile, OutPiece, Recode};
use apr_model::{Checkpoint, Origin, OriginFile, Piece};
use apr_tensor::{ByteOrder, Bytes, swap_blocks};
use std::collections::HashSet;

/// Most zero bytes that one recipe may ask for: padding is short, and a hostile capsule must not fill a disk.
const MAX_ZEROS: u64 = 64 << 20;

/// A recipe that fits the checkpoint, or why it does not.
///
/// `capsule` is the text of the capsule that the source carried.
pub(crate) fn files(checkpoint: &Checkpoint, origin: &Origin, capsule: Bytes) -> Result<Vec<OutFile>, String> {
    let mut used = HashSet::new();
    let mut zeros = 0u64;
    let mut capsules = 0;
    let mut files = Vec::with_capacity(origin.files.len());
    for file in &origin.files {
        let mut len = 0u64;
        let mut pieces = Vec::with_capacity(file.pieces.len());
        for piece in &file.pieces {
            let (piece, n) = match piece {
                Piece::Literal(bytes) => (OutPiece::Literal(bytes.clone()), bytes.len() as u64),
                Piece::Zeros(n) => {
                    zeros = zeros.saturating_add(*n);
                    (OutPiece::Zeros(*n), *n)
                }
                Piece::Capsule => (OutPiece::Literal(capsule.clone()), capsule.len() as u64),
                Piece::Tensor { name, dtype, relayout } => {
                    let tensor = checkpoint.tensors.get(name).ok_or_else(|| format!("tensor {name} is gone"))?;
                    // A recipe comes from a file: it must not make a large one out of a small one.
                    if !used.insert(name) {
                        return Err(format!("the recipe uses tensor {name} twice"));
                    }
                    let changed = tensor.dtype != *dtype;
                    let recode = Recode::exact(tensor, *dtype, *relayout)
                        .filter(|_| !changed || !(tensor.dtype.is_quantized() || dtype.is_quantized()))
                        .and_then(|recode| recode.in_order(origin.byte_order))
                        .ok_or_else(|| format!("tensor {name} was {dtype} and is {} now", tensor.dtype))?;
                    let n = recode.len_bytes as u64;
                    (OutPiece::Tensor(recode), n)
                }
                Piece::Kept { name, dtype, bytes } => {
                    let tensor = checkpoint.tensors.get(name).ok_or_else(|| format!("tensor {name} is gone"))?;
                    if !used.insert(name) {
                        return Err(format!("the recipe uses tensor {name} twice"));
                    }
                    if !kept::is_still(&checkpoint.spec, tensor, *dtype, bytes) {
                        return Err(format!("tensor {name} has other gains now"));
                    }
                    (OutPiece::Literal(bytes.clone()), bytes.len() as u64)
                }
            };
            len = len.checked_add(n).ok_or("the recipe's lengths overflow")?;
            pieces.push(piece);
        }
        capsules += file.pieces.iter().filter(|piece| matches!(piece, Piece::Capsule)).count();
        if capsules > 1 {
            return Err("the recipe uses its capsule twice".to_owned());
        }
        if zeros > MAX_ZEROS {
            return Err(format!("the recipe asks for {zeros} zero bytes"));
        }
        if len != file.len {
            return Err(format!("{} would have {len} bytes, the original has {}", file.name, file.len));
        }
        files.push(OutFile { name: file.name.clone(), pieces });
    }
    if let Some(added) = checkpoint.tensors.iter().find(|tensor| !used.contains(&tensor.name)) {
        return Err(format!("tensor {} is new", added.name));
    }
    Ok(files)
}

/// BLAKE3 of each file of a source, from the bytes it was read from.
pub(crate) fn digests(checkpoint: &Checkpoint, origin: &Origin) -> Vec<[u8; 32]> {
    origin.files.iter().map(|file| digest(checkpoint, file, origin.byte_order)).collect()
}

fn digest(checkpoint: &Checkpoint, file: &OriginFile, byte_order: ByteOrder) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for piece in &file.pieces {
        match piece {
            Piece::Literal(bytes) => {
                hasher.update(bytes);
            }
            Piece::Zeros(n) => {
                const CHUNK: [u8; 1 << 12] = [0; 1 << 12];
                for start in (0..*n).step_by(CHUNK.len()) {
                    hasher.update(&CHUNK[..(*n - start).min(CHUNK.len() as u64) as usize]);
                }
            }
            Piece::Kept { bytes, .. } => {
                hasher.update(bytes);
            }
            Piece::Capsule => {
                hasher.update(checkpoint.capsule.as_deref().unwrap_or_default());
            }
            Piece::Tensor { name, dtype, .. } => {
                let data = &checkpoint.tensors.get(name).expect("the reader made the recipe from these tensors").data;
                // Large, because the threads wait for each other at its end.
                const CHUNK_BYTES: usize = 32 << 20;
                let block_bytes = dtype.info().block_bytes;
                let chunk_bytes = CHUNK_BYTES / block_bytes * block_bytes;
                for start in (0..data.len()).step_by(chunk_bytes) {
                    let chunk = data.slice(start..data.len().min(start + chunk_bytes)).expect("inside the tensor");
                    match byte_order {
                        ByteOrder::Little => hasher.update_rayon(&chunk),
                        ByteOrder::Big => {
                            let mut stored = chunk.to_vec();
                            swap_blocks(*dtype, &mut stored);
                            hasher.update_rayon(&stored)
                        }
                    };
                    chunk.release();
                }
            }
        }
    }
    *hasher.finalize().as_bytes()
}
