//! What a tensor of a GGUF file is in a checkpoint: one tensor, stored as llama.cpp's converter does, or the experts of a
//! layer in one stack.

use super::TensorInfo;
use crate::ParseError;
use apr_model::{Architecture, LayerRole, NormKind, Part, Relayout, Spec, Tensor, TensorRole};
use apr_tensor::{ByteOrder, Bytes, DType, Shape, little_endian};
use std::ops::Range;

/// Most experts in a stack: far above any model.
const MAX_STACKED: usize = 1 << 16;

/// A tensor of a checkpoint as it lies in the file.
pub(super) struct Member {
    role: Option<TensorRole>,
    /// Canonical name.
    pub(super) name: String,
    dtype: DType,
    shape: Shape,
    pub(super) range: Range<usize>,
}

/// The tensors of a checkpoint that a stored tensor is; itself where the architecture is unknown.
pub(super) fn members(info: &TensorInfo<'_>, arch: Option<&Architecture>) -> Result<Vec<Member>, ParseError> {
    let role = arch.and_then(|arch| TensorRole::from_gguf_name(info.name, arch));
    let member = |role: Option<TensorRole>, shape: Shape, range: Range<usize>| {
        let name = role.zip(arch).map_or_else(|| info.name.to_owned(), |(role, arch)| role.hf_name(arch));
        Member { role, name, dtype: info.dtype, shape, range }
    };
    let dims: Vec<u64> = info.shape.dims().iter().map(|&dim| dim as u64).collect();
    let shape_of = |dims: &[u64]| Shape::new(dims).expect("a part of a shape, or one more dimension of one row");
    let Some(first) = role.filter(|role| role.expert().is_some()) else {
        // A matrix of one row is a vector in files of some versions.
        let is_row = matches!(role, Some(TensorRole::Layer(_, LayerRole::SharedRouter, Part::Weight)));
        let shape = if is_row && dims.len() == 1 { shape_of(&[1, dims[0]]) } else { info.shape.clone() };
        return Ok(vec![member(role, shape, info.range.clone())]);
    };
    let n = info.shape.dims().first().copied().unwrap_or(0);
    if dims.len() < 2 || n == 0 || n > MAX_STACKED || !info.range.len().is_multiple_of(n) {
        let detail = format!("tensor {:?} has shape {}, expected the experts of a layer", info.name, info.shape);
        return Err(ParseError::at(info.range.start as u64, detail));
    }
    let (len, start) = (info.range.len() / n, info.range.start);
    let of = |expert: usize| {
        let range = start + expert * len..start + (expert + 1) * len;
        member(Some(first.of_expert(expert as u32)), shape_of(&dims[1..]), range)
    };
    Ok((0..n).map(of).collect())
}

impl Member {
    /// The tensor, with its bytes in `file`, whose numbers are in `order`.
    pub(super) fn tensor(&self, spec: &Spec, file: &Bytes, order: ByteOrder) -> Result<Tensor, ParseError> {
        let stored = file.slice(self.range.clone()).expect("header checked: the range lies in the file");
        let data = match order {
            ByteOrder::Little => stored,
            ByteOrder::Big if self.dtype.has_big_endian_blocks() => little_endian(self.dtype, stored),
            ByteOrder::Big => {
                let detail = "in a big-endian file: ggml does not say in which order the bytes of its blocks are";
                let detail = format!("tensor {:?} of dtype {} {detail}", self.name, self.dtype);
                return Err(ParseError::unsupported(detail));
            }
        };
        let relayout = relayout(self.role, &self.shape, spec);
        Tensor::new(self.name.clone(), self.role, self.dtype, relayout.stored_shape(&self.shape), data, relayout)
            .map_err(|e| ParseError::at(self.range.start as u64, e.to_string()))
    }

    /// Its shape in a checkpoint.
    pub(super) fn canonical_shape(&self, arch: Option<&Architecture>) -> Shape {
        if arch.is_some_and(|arch| is_transposed(self.role, &self.shape, arch)) {
            Relayout::Transposed.stored_shape(&self.shape)
        } else {
            self.shape.clone()
        }
    }
}

fn is_transposed(role: Option<TensorRole>, shape: &Shape, arch: &Architecture) -> bool {
    arch.transposed && shape.dims().len() == 2 && matches!(role, Some(TensorRole::Layer(_, _, Part::Weight)))
}

/// What llama.cpp's converter makes of a tensor for some architectures.
pub(crate) fn relayout(role: Option<TensorRole>, shape: &Shape, spec: &Spec) -> Relayout {
    let Some(spec) = spec.known() else { return Relayout::Identity };
    let arch = spec.arch;
    match role {
        Some(role) if arch.norm == NormKind::RmsPlusOne && role.is_gain() => Relayout::PlusOne,
        _ if is_transposed(role, shape, arch) => Relayout::Transposed,
        _ if arch.gguf.permutes_qk => interleaved(role, shape, spec.head_dim),
        _ => Relayout::Identity,
    }
}

/// Interleaved rows where the tensor is q or k. One whose rows are not whole heads is left as it is; the structure
/// check reports its shape.
pub(crate) fn interleaved(role: Option<TensorRole>, shape: &Shape, head_dim: u32) -> Relayout {
    let relayout = Relayout::RotaryInterleaved { head_dim: head_dim as usize };
    match role {
        Some(TensorRole::Layer(_, LayerRole::AttnQ | LayerRole::AttnK, Part::Weight | Part::Bias))
            if relayout.fits(shape) =>
        {
            relayout
        }
        _ => Relayout::Identity,
    }
}
