//! A norm with its gain, as the plan resolves it.

use crate::ModelError;
use crate::weight::decode_vector;
use apr_kernels::Backend;
use apr_model::{NormKind, Relayout, Tensor};

/// A norm of rows as wide as its gain.
pub(crate) struct Norm {
    gain: Vec<f32>,
    /// For LayerNorm, zeros where the model has none; `None` for RMS norm.
    bias: Option<Vec<f32>>,
    eps: f32,
}

impl Norm {
    /// The norm of an architecture with stored values.
    pub(crate) fn new(kind: NormKind, gain: &Tensor, bias: Option<&Tensor>, eps: f32) -> Result<Self, ModelError> {
        let counts_from_zero = kind == NormKind::RmsPlusOne && gain.relayout != Relayout::PlusOne;
        let counts_from_one = kind == NormKind::RmsPlusOne && !counts_from_zero;
        let relayout = if counts_from_one { Relayout::Identity } else { gain.relayout };
        let mut gain = decode_vector(&Tensor { relayout, ..gain.clone() })?;
        if counts_from_zero {
            gain.iter_mut().for_each(|gain| *gain += 1.0);
        }
        let bias = match (kind, bias) {
            (NormKind::Layer, Some(bias)) => Some(decode_vector(bias)?),
            (NormKind::Layer, None) => Some(vec![0.0; gain.len()]),
            (NormKind::Rms | NormKind::RmsPlusOne, _) => None,
        };
        Ok(Self { gain, bias, eps })
    }

    /// `y = norm(x)`, row by row.
    pub(crate) fn apply(&self, backend: &Backend, x: &[f32], y: &mut [f32]) {
        match &self.bias {
            Some(bias) => backend.layer_norm(x, &self.gain, bias, self.eps, y),
            None => backend.rms_norm(x, &self.gain, self.eps, y),
        }
    }

    /// `x = norm(x)`; `scratch` is at least as long.
    pub(crate) fn apply_in_place(&self, backend: &Backend, x: &mut [f32], scratch: &mut [f32]) {
        let y = &mut scratch[..x.len()];
        self.apply(backend, x, y);
        x.copy_from_slice(y);
    }

    /// Bytes of its vectors.
    pub(crate) fn n_bytes(&self) -> usize {
        size_of_val(self.gain.as_slice()) + self.bias.as_ref().map_or(0, |bias| size_of_val(bias.as_slice()))
    }
}
