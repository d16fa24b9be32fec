//! A weight that stays mapped, and the projection it makes.

use crate::ModelError;
use apr_kernels::{Backend, Matrix};
use apr_model::{Relayout, Tensor};
use apr_tensor::{Bytes, DType, codec};

/// A matrix in its stored dtype and its stored row order, `[n_rows, n_columns]`.
pub(crate) struct Weight {
    dtype: DType,
    n_rows: usize,
    n_columns: usize,
    relayout: Relayout,
    data: Bytes,
}

impl Weight {
    /// Takes a share of the tensor's bytes, once they are known to make a matrix.
    pub(crate) fn new(tensor: &Tensor) -> Result<Self, ModelError> {
        let (n_rows, n_columns) = (tensor.shape.n_rows(), tensor.shape.row_elements());
        check_relayout(tensor, n_rows)?;
        Matrix::new(tensor.dtype, n_rows, n_columns, &tensor.data)
            .map_err(|source| ModelError::Matrix { name: tensor.name.clone(), source })?;
        Ok(Self { dtype: tensor.dtype, n_rows, n_columns, relayout: tensor.relayout, data: tensor.data.clone() })
    }

    /// Bytes read when the whole matrix is used once.
    pub(crate) fn n_bytes(&self) -> usize {
        self.data.len()
    }

    /// Values of the matrix: the multiply-adds of its product with one vector.
    pub(crate) fn n_values(&self) -> usize {
        self.n_rows * self.n_columns
    }

    /// The bytes as they are stored.
    pub(crate) fn stored(&self) -> &[u8] {
        &self.data
    }

    /// Decodes canonical row `row` into `dst` of `n_columns` values.
    pub(crate) fn decode_row(&self, row: usize, dst: &mut [f32]) {
        let n = self.data.len() / self.n_rows;
        let stored = self.relayout.stored_row(row);
        codec::decode(self.dtype, &self.data[stored * n..(stored + 1) * n], dst);
    }

    /// `y = x * Wᵀ`: from `[n, n_columns]` to `[n, n_rows]` in canonical row order. `stored_row` is scratch.
    ///
    /// Rows are multiplied as they are stored and the outputs moved afterwards: each output is one dot product
    /// whatever its place, so the bits are those of a file in canonical order and no weight is copied.
    pub(crate) fn project(&self, backend: &Backend, x: &[f32], y: &mut [f32], stored_row: &mut Vec<f32>) {
        let matrix =
            Matrix::new(self.dtype, self.n_rows, self.n_columns, &self.data).expect("Weight::new made this matrix");
        backend.matmul(&matrix, x, y);
        if self.relayout != Relayout::Identity {
            for row in y.chunks_exact_mut(self.n_rows) {
                to_canonical(self.relayout, row, stored_row);
            }
        }
    }
}

/// A projection: a matrix and, in architectures that have one, a bias.
pub(crate) struct Linear {
    pub(crate) weight: Weight,
    /// In canonical order, `[n_rows]`.
    pub(crate) bias: Option<Vec<f32>>,
}

impl Linear {
    /// `y = x * Wᵀ + b`, shapes as in [`Weight::project`].
    pub(crate) fn project(&self, backend: &Backend, x: &[f32], y: &mut [f32], stored_row: &mut Vec<f32>) {
        self.weight.project(backend, x, y, stored_row);
        if let Some(bias) = &self.bias {
            backend.add_bias(y, bias);
        }
    }
}

/// Decodes a one-dimensional tensor (a gain or a bias) into canonical order.
pub(crate) fn decode_vector(tensor: &Tensor) -> Result<Vec<f32>, ModelError> {
    let mut values = vec![0.0; tensor.shape.n_elements()];
    check_relayout(tensor, values.len())?;
    codec::decode(tensor.dtype, &tensor.data, &mut values);
    if tensor.relayout != Relayout::Identity {
        to_canonical(tensor.relayout, &mut values, &mut Vec::new());
    }
    Ok(values)
}

/// Moves the elements of `values` from stored to canonical order.
fn to_canonical(relayout: Relayout, values: &mut [f32], stored: &mut Vec<f32>) {
    stored.clear();
    stored.extend_from_slice(values);
    for (row, value) in values.iter_mut().enumerate() {
        *value = stored[relayout.stored_row(row)];
    }
}

/// A relayout moves rows within whole heads of even width, or it would not be a permutation.
fn check_relayout(tensor: &Tensor, n_rows: usize) -> Result<(), ModelError> {
    match tensor.relayout {
        Relayout::Identity => Ok(()),
        Relayout::RotaryInterleaved { head_dim } => {
            if head_dim > 0 && head_dim.is_multiple_of(2) && n_rows.is_multiple_of(head_dim) {
                Ok(())
            } else {
                Err(ModelError::Relayout { name: tensor.name.clone(), n_rows, head_dim })
            }
        }
    }
}
