//! A weight that stays mapped, and the projection it makes.

use crate::ModelError;
use apr_kernels::{Backend, Matrix, MatrixError, Product};
use apr_model::{Relayout, Tensor};
use apr_tensor::{Bytes, DType, codec};
use std::ops::Range;

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

    /// Rows `rows` of the tensor as a matrix of its own, which shares the tensor's bytes.
    pub(crate) fn rows(tensor: &Tensor, rows: Range<usize>) -> Result<Self, ModelError> {
        let whole = Self::new(tensor)?;
        if tensor.relayout != Relayout::Identity || rows.end > whole.n_rows {
            return Err(ModelError::Cut { name: tensor.name.clone(), n_rows: whole.n_rows, rows });
        }
        let row_bytes = whole.data.len() / whole.n_rows;
        let data = whole.data.slice(rows.start * row_bytes..rows.end * row_bytes).expect("these rows exist");
        Ok(Self { n_rows: rows.len(), data, ..whole })
    }

    /// Values of an output.
    pub(crate) fn n_rows(&self) -> usize {
        self.n_rows
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

    /// The bytes in parts of `n_bytes`, the last one shorter.
    pub(crate) fn parts(&self, n_bytes: usize) -> impl Iterator<Item = Bytes> {
        let end = self.data.len();
        let part = move |start| self.data.slice(start..end.min(start + n_bytes)).expect("these bytes exist");
        (0..end).step_by(n_bytes).map(part)
    }

    /// Decodes canonical row `row` into `dst` of `n_columns` values.
    pub(crate) fn decode_row(&self, row: usize, dst: &mut [f32]) {
        let n = self.data.len() / self.n_rows;
        let stored = self.relayout.stored_row(row);
        codec::decode(self.dtype, &self.data[stored * n..(stored + 1) * n], dst);
    }

    /// `y = x * Wᵀ`: from `[n, n_columns]` to `[n, n_rows]` in canonical row order. `stored_row` is scratch.
    pub(crate) fn project(&self, backend: &Backend, x: &[f32], y: &mut [f32], stored_row: &mut Vec<f32>) {
        backend.matmul(&self.matrix(), x, y);
        self.reorder(y, stored_row);
    }

    fn matrix(&self) -> Matrix<'_> {
        Matrix::new(self.dtype, self.n_rows, self.n_columns, &self.data).expect("Weight::new made this matrix")
    }

    /// Moves outputs into canonical row order.
    ///
    /// Rows are multiplied as they are stored and the outputs moved afterwards: each output is one dot product
    /// whatever its place, so the bits are those of a file in canonical order and no weight is copied.
    fn reorder(&self, y: &mut [f32], stored_row: &mut Vec<f32>) {
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
    /// Values of an output.
    pub(crate) fn n_rows(&self) -> usize {
        self.weight.n_rows()
    }

    /// `y = x * Wᵀ + b`, shapes as in [`Weight::project`].
    pub(crate) fn project(&self, backend: &Backend, x: &[f32], y: &mut [f32], stored_row: &mut Vec<f32>) {
        project_each(backend, x, [(self, y)], stored_row);
    }
}

/// Several projections of the same `x`, as one piece of work for the kernels.
pub(crate) fn project_each<const N: usize>(
    backend: &Backend,
    x: &[f32],
    mut projections: [(&Linear, &mut [f32]); N],
    stored_row: &mut Vec<f32>,
) {
    let mut products = projections.each_mut().map(|(linear, y)| Product { w: linear.weight.matrix(), y });
    backend.matmul_each(x, &mut products);
    for (linear, y) in projections {
        linear.weight.reorder(y, stored_row);
        if let Some(bias) = &linear.bias {
            backend.add_bias(y, bias);
        }
    }
}

/// The tensor `[a, b]` as `[b, a]`, in the same dtype: the one copy of a weight that the engine makes, unless that is how
/// it is stored.
///
/// GPT-2 stores its matrices as `[inputs, outputs]`. A dot product reads the weights of one output in a row, so they are
/// turned once, when the model is loaded. Values are moved, not changed; blocks of a quantised dtype can't be.
pub(crate) fn transposed(tensor: &Tensor) -> Result<Tensor, ModelError> {
    if tensor.relayout == Relayout::Transposed {
        let shape = tensor.relayout.stored_shape(&tensor.shape);
        return Ok(Tensor { shape, relayout: Relayout::Identity, ..tensor.clone() });
    }
    let (n_rows, n_columns) = (tensor.shape.n_rows(), tensor.shape.row_elements());
    let block = tensor.dtype.info();
    if block.block_elements != 1 || tensor.relayout != Relayout::Identity {
        return Err(ModelError::Transposed { name: tensor.name.clone(), dtype: tensor.dtype });
    }
    let n = block.block_bytes;
    let mut turned = vec![0; tensor.data.len()];
    for row in 0..n_rows {
        for column in 0..n_columns {
            let (from, to) = ((row * n_columns + column) * n, (column * n_rows + row) * n);
            turned[to..to + n].copy_from_slice(&tensor.data[from..from + n]);
        }
    }
    let shape = Relayout::Transposed.stored_shape(&tensor.shape);
    Ok(Tensor { shape, data: Bytes::from(turned), ..tensor.clone() })
}

/// Decodes a one-dimensional tensor (a gain or a bias) into canonical order.
pub(crate) fn decode_vector(tensor: &Tensor) -> Result<Vec<f32>, ModelError> {
    if !tensor.dtype.holds_weights() {
        let source = MatrixError::NoWeights { dtype: tensor.dtype };
        return Err(ModelError::Matrix { name: tensor.name.clone(), source });
    }
    let mut values = vec![0.0; tensor.shape.n_elements()];
    check_relayout(tensor, values.len())?;
    codec::decode(tensor.dtype, &tensor.data, &mut values);
    if tensor.relayout.moves_rows() {
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
        Relayout::PlusOne | Relayout::Transposed => {
            Err(ModelError::Stored { name: tensor.name.clone(), relayout: tensor.relayout })
        }
        Relayout::RotaryInterleaved { head_dim } => {
            if head_dim > 0 && head_dim.is_multiple_of(2) && n_rows.is_multiple_of(head_dim) {
                Ok(())
            } else {
                Err(ModelError::Relayout { name: tensor.name.clone(), n_rows, head_dim })
            }
        }
    }
}
