//! Gains that would not come back from one plus themselves, and so travel in the capsule.
//!
//! `w + 1` in binary32 is the gain that computes, so a target that stores it holds the same model. It gives `w` back
//! unless `w` has bits below those of a number near one: a bfloat16 has none above 2⁻¹⁶ in magnitude. Zero may lose its
//! sign.

use crate::plan::Plan;
use apr_model::{Checkpoint, NormKind, Origin, OriginFile, Piece, Relayout, Spec, Tensor, TensorRole};
use apr_tensor::{Bytes, DType, DTypeClass, codec};

/// The recipe of a source that is about to be written as `plan` says: what `plan` does not keep is kept in it.
pub(crate) fn recipe(checkpoint: &Checkpoint, plan: &Plan) -> Origin {
    let origin = &checkpoint.origin;
    let lost = |name: &str| {
        let recode = plan.tensors.iter().find(|recode| recode.name == name && recode.relayout == Relayout::PlusOne)?;
        let tensor = checkpoint.tensors.get(&recode.name)?;
        (tensor.relayout != Relayout::PlusOne && !comes_back(tensor)).then_some(tensor)
    };
    // Few families have such gains at all, and no list of tensors is searched for the others.
    if !plan.tensors.iter().any(|recode| recode.relayout == Relayout::PlusOne) {
        return origin.clone();
    }
    let kept = |piece: &Piece| match piece {
        Piece::Tensor { name, dtype, relayout: Relayout::Identity } => match lost(name) {
            Some(tensor) => Piece::Kept { name: name.clone(), dtype: *dtype, bytes: tensor.data.clone() },
            None => piece.clone(),
        },
        _ => piece.clone(),
    };
    let file = |file: &OriginFile| OriginFile { pieces: file.pieces.iter().map(kept).collect(), ..file.clone() };
    Origin { files: origin.files.iter().map(file).collect(), ..origin.clone() }
}

/// Whether every value is one plus itself, less one, in its own dtype.
fn comes_back(tensor: &Tensor) -> bool {
    let mut values = vec![0.0; tensor.shape.n_elements()];
    codec::decode(tensor.dtype, &tensor.data, &mut values);
    values.iter_mut().for_each(|value| *value = (*value + 1.0) - 1.0);
    let mut back = Vec::with_capacity(tensor.data.len());
    codec::encode(tensor.dtype, &values, &mut back).is_ok() && back == *tensor.data
}

/// Whether `bytes` of `dtype`, which count from zero, are the gains that `tensor` holds.
pub(crate) fn is_still(spec: &Spec, tensor: &Tensor, dtype: DType, bytes: &Bytes) -> bool {
    let is_gain = spec.arch().is_some_and(|arch| arch.norm == NormKind::RmsPlusOne)
        && tensor.role.is_some_and(TensorRole::is_gain);
    let is_float = |dtype: DType| dtype.info().class == DTypeClass::Float;
    if !is_gain || !is_float(dtype) || !is_float(tensor.dtype) {
        return false;
    }
    let (name, shape) = (tensor.name.clone(), tensor.shape.clone());
    let kept = Tensor::new(name, tensor.role, dtype, shape, bytes.clone(), Relayout::Identity);
    kept.is_ok_and(|kept| gains(&kept) == gains(tensor))
}

fn gains(tensor: &Tensor) -> Vec<f32> {
    let mut values = vec![0.0; tensor.shape.n_elements()];
    codec::decode(tensor.dtype, &tensor.data, &mut values);
    values.iter_mut().for_each(|value| *value += 1.0 - tensor.relayout.offset());
    values
}
