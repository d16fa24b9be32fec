//! What is written: files as pieces, and for each tensor how its stored form is reached.

use crate::WriteError;
use crate::recoding::{Asked, Recoding};
use apr_model::{Checkpoint, Format, Relayout, Spec, Tensor};
use apr_tensor::{ByteOrder, Bytes, DType};
use std::collections::HashMap;
use std::sync::Arc;

/// One file to write.
pub(crate) struct OutFile {
    pub(crate) name: String,
    pub(crate) pieces: Vec<OutPiece>,
}

/// A run of bytes of a file to write.
pub(crate) enum OutPiece {
    Literal(Bytes),
    Zeros(u64),
    Tensor(Recode),
    /// CRC32 of each tensor written so far, as little-endian `u32`s in the order written.
    TensorChecksums,
    /// CRC32 of everything before it, as a little-endian `u32`.
    FileChecksum,
}

/// How a tensor's stored form follows from the checkpoint's.
#[derive(Clone, Debug)]
pub(crate) struct Recode {
    /// Canonical name.
    pub(crate) name: String,
    /// Dtype to store.
    pub(crate) dtype: DType,
    /// Row order to store.
    pub(crate) relayout: Relayout,
    /// Byte order to store.
    pub(crate) byte_order: ByteOrder,
    /// Stored size.
    pub(crate) len_bytes: usize,
    /// The dtype that its rows don't fill the blocks of, where it was asked for.
    pub(crate) wanted: DType,
    /// Whether a value that changes is an error (or is measured and reported).
    pub(crate) exact: bool,
    /// Whether a value that is not finite is an error, before and after.
    pub(crate) finite: bool,
    /// How much the error of each column counts.
    pub(crate) importance: Option<Arc<[f32]>>,
}

impl Recode {
    fn new(tensor: &Tensor, asked: Asked, relayout: Relayout) -> Option<Self> {
        let Asked { dtype, wanted, exact, finite, importance } = asked;
        // A recipe from a capsule may ask for anything.
        if !relayout.fits(&tensor.shape) {
            return None;
        }
        let len_bytes = Tensor::size_bytes(&tensor.name, dtype, &relayout.stored_shape(&tensor.shape)).ok()?;
        let is_vector = tensor.shape.dims().len() == 1;
        let either = |holds: fn(Relayout) -> bool| holds(relayout) || holds(tensor.relayout);
        let has_blocks = dtype.is_quantized() || tensor.dtype.is_quantized();
        let moves_elements = is_vector && either(Relayout::moves_rows);
        let counts_from_one = either(|relayout| relayout == Relayout::PlusOne);
        // Blocks that are turned are other blocks.
        let turns = (relayout == Relayout::Transposed) != (tensor.relayout == Relayout::Transposed);
        if has_blocks && (moves_elements || counts_from_one || (turns && exact)) {
            return None;
        }
        // What is carried keeps its dtype: decoding it may round, and nothing asks for its values.
        let is_carried = !(tensor.dtype.holds_weights() && dtype.holds_weights());
        if is_carried && (dtype != tensor.dtype || counts_from_one) {
            return None;
        }
        let byte_order = ByteOrder::Little;
        let name = tensor.name.clone();
        Some(Self { name, dtype, relayout, byte_order, len_bytes, wanted, exact, finite, importance })
    }

    /// A form that must hold the same values as `tensor`; `None` where rows don't fill the blocks of `dtype`.
    pub(crate) fn exact(tensor: &Tensor, dtype: DType, relayout: Relayout) -> Option<Self> {
        Self::new(tensor, Asked::exactly(dtype), relayout)
    }

    /// The same form in another byte order; `None` where the dtype has no such blocks.
    pub(crate) fn in_order(self, byte_order: ByteOrder) -> Option<Self> {
        let defined = byte_order == ByteOrder::Little || self.dtype.has_big_endian_blocks();
        defined.then_some(Self { byte_order, ..self })
    }

    /// Whether the stored bytes are the checkpoint's bytes.
    pub(crate) fn is_verbatim(&self, tensor: &Tensor) -> bool {
        self.dtype == tensor.dtype && self.relayout == tensor.relayout && self.byte_order == ByteOrder::Little
    }
}

/// The tensors of a fresh target, in the order they are written.
pub(crate) struct Plan {
    pub(crate) tensors: Vec<Recode>,
    /// `general.file_type` of GGUF, where it was asked for.
    pub(crate) gguf_file_type: Option<u32>,
}

impl Plan {
    /// Decides the stored form of every tensor in a target of `format`.
    pub(crate) fn new(
        checkpoint: &Checkpoint,
        format: Format,
        recoding: Option<&Recoding>,
    ) -> Result<Self, WriteError> {
        let tensors = checkpoint.tensors.iter().map(|tensor| {
            if format == Format::Gguf && tensor.dtype.ggml_id().is_none() {
                let detail = format!("{format} has no {}; SafeTensors and APR carry it", tensor.dtype);
                return Err(WriteError::Tensor { name: tensor.name.clone(), detail });
            }
            let relayout = relayout(tensor, format, &checkpoint.spec);
            let asked = match recoding {
                // Blocks lie along the rows that the target stores.
                Some(recoding) => {
                    let stored = Tensor { shape: relayout.stored_shape(&tensor.shape), ..tensor.clone() };
                    recoding.for_tensor(&stored, format, checkpoint)?
                }
                None => Asked::exactly(lossless_dtype(tensor, format)),
            };
            let dtype = asked.dtype;
            Recode::new(tensor, asked, relayout).ok_or_else(|| {
                let (from, shape) = (tensor.dtype, &tensor.shape);
                let turns = (relayout == Relayout::Transposed) != (tensor.relayout == Relayout::Transposed);
                let detail = match turns && from == dtype {
                    true => format!(
                        "{from} {shape}: {format} stores its columns as rows, along which blocks would be other blocks; \
                         --dtype f16 decodes them"
                    ),
                    false => format!("{from} {shape} can't be stored as {dtype} in the row order of {format}"),
                };
                WriteError::Tensor { name: tensor.name.clone(), detail }
            })
        });
        let gguf_file_type = recoding.and_then(Recoding::gguf_file_type);
        let mut plan = Self { tensors: tensors.collect::<Result<_, _>>()?, gguf_file_type };
        match format {
            Format::SafeTensors => widest_first(&mut plan.tensors),
            Format::Apr => plan.tensors.sort_by(|a, b| a.name.cmp(&b.name)),
            Format::Gguf => {}
        }
        Ok(plan)
    }

    /// Its tensors in the order of the checkpoint.
    pub(crate) fn in_model_order(&self, checkpoint: &Checkpoint) -> impl Iterator<Item = Recode> {
        let by_name: HashMap<&str, &Recode> = self.tensors.iter().map(|r| (r.name.as_str(), r)).collect();
        checkpoint.tensors.iter().filter_map(move |tensor| by_name.get(tensor.name.as_str()).copied().cloned())
    }

    /// The dtype that holds most bytes.
    pub(crate) fn main_dtype(&self) -> Option<DType> {
        let mut bytes_of = HashMap::<DType, usize>::new();
        for recode in &self.tensors {
            *bytes_of.entry(recode.dtype).or_default() += recode.len_bytes;
        }
        bytes_of.into_iter().max_by_key(|&(dtype, bytes)| (bytes, dtype)).map(|(dtype, _)| dtype)
    }
}

/// The order in a SafeTensors file: the reference library aligns tensors so.
pub(crate) fn widest_first(tensors: &mut [Recode]) {
    tensors.sort_by_key(|recode| std::cmp::Reverse(element_bytes(recode.dtype)));
}

fn element_bytes(dtype: DType) -> usize {
    if dtype.info().block_elements > 1 { 1 } else { dtype.info().block_bytes }
}

/// llama.cpp wants norms and biases in F32; every other dtype stays as it is, and so does what is carried.
pub(crate) fn lossless_dtype(tensor: &Tensor, format: Format) -> DType {
    match (format, tensor.role) {
        (Format::Gguf, Some(role)) if role.gguf_wants_f32() && tensor.dtype.holds_weights() => DType::F32,
        _ => tensor.dtype,
    }
}

/// Row order in a target: interleaved where llama.cpp's converter permutes, canonical elsewhere.
fn relayout(tensor: &Tensor, format: Format, spec: &Spec) -> Relayout {
    match format {
        Format::Gguf => crate::gguf_relayout(tensor.role, &tensor.shape, spec),
        Format::SafeTensors | Format::Apr => Relayout::Identity,
    }
}
