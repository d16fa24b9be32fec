//! A weight matrix as it is stored.

use apr_tensor::DType;

/// `rows × cols` weights, row-major, in any dtype that holds weights, borrowed from wherever they are stored.
///
/// The byte count was checked against dtype and shape, so a kernel may walk the rows without further checks.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    dtype: DType,
    rows: usize,
    cols: usize,
    row_bytes: usize,
    data: &'a [u8],
}

/// Why some bytes are not a matrix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MatrixError {
    /// Its dtype holds something other than weights.
    #[error("{dtype} holds no weights: no kernel computes with it")]
    NoWeights {
        /// Dtype of the matrix.
        dtype: DType,
    },
    /// A row does not consist of whole blocks.
    #[error("rows of {cols} columns, but {dtype} needs a multiple of {block_elements}")]
    PartialBlock {
        /// Dtype of the matrix.
        dtype: DType,
        /// Length of a row.
        cols: usize,
        /// Elements of a block.
        block_elements: usize,
    },
    /// The size in bytes does not fit in the address space.
    #[error("the size of {rows} × {cols} {dtype} values overflows")]
    Overflow {
        /// Dtype of the matrix.
        dtype: DType,
        /// Number of rows.
        rows: usize,
        /// Length of a row.
        cols: usize,
    },
    /// There are too few or too many bytes.
    #[error("{found} bytes, but {rows} × {cols} {dtype} values take {expected}")]
    WrongSize {
        /// Dtype of the matrix.
        dtype: DType,
        /// Number of rows.
        rows: usize,
        /// Length of a row.
        cols: usize,
        /// Bytes given.
        found: usize,
        /// Bytes needed.
        expected: usize,
    },
}

impl<'a> Matrix<'a> {
    /// Views `data` as `rows` rows of `cols` values of `dtype`.
    pub fn new(dtype: DType, rows: usize, cols: usize, data: &'a [u8]) -> Result<Self, MatrixError> {
        if !dtype.holds_weights() {
            return Err(MatrixError::NoWeights { dtype });
        }
        let block_elements = dtype.info().block_elements;
        if !cols.is_multiple_of(block_elements) {
            return Err(MatrixError::PartialBlock { dtype, cols, block_elements });
        }
        let overflow = MatrixError::Overflow { dtype, rows, cols };
        let row_bytes = dtype.bytes_for(cols).ok_or_else(|| overflow.clone())?;
        let expected = row_bytes.checked_mul(rows).ok_or(overflow)?;
        if data.len() != expected {
            return Err(MatrixError::WrongSize { dtype, rows, cols, found: data.len(), expected });
        }
        Ok(Self { dtype, rows, cols, row_bytes, data })
    }

    /// How the weights are stored.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Number of rows: the length of a product with one vector.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Length of a row: the length of the vector it multiplies.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes of all weights.
    pub(crate) fn n_bytes(&self) -> usize {
        self.data.len()
    }

    /// The bytes of `n_rows` rows from `first_row`.
    pub(crate) fn row_range(&self, first_row: usize, n_rows: usize) -> &'a [u8] {
        &self.data[first_row * self.row_bytes..][..n_rows * self.row_bytes]
    }

    /// The bytes of `n_cols` weights of a row from `first_col`, both whole blocks.
    pub(crate) fn part_of_row(&self, row: usize, first_col: usize, n_cols: usize) -> &'a [u8] {
        let bytes = |cols: usize| self.dtype.bytes_for(cols).expect("the caller cuts rows at whole blocks");
        &self.row_range(row, 1)[bytes(first_col)..][..bytes(n_cols)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_do_not_match_are_errors() {
        assert!(Matrix::new(DType::Q8_0, 2, 32, &[0; 68]).is_ok());
        assert!(matches!(Matrix::new(DType::Q8_0, 2, 32, &[0; 67]), Err(MatrixError::WrongSize { expected: 68, .. })));
        assert!(matches!(Matrix::new(DType::Q8_0, 2, 33, &[0; 68]), Err(MatrixError::PartialBlock { .. })));
        assert!(matches!(Matrix::new(DType::I32, 1, 1, &[0; 4]), Err(MatrixError::NoWeights { .. })));
        assert!(matches!(Matrix::new(DType::Q8K, 1, 256, &[0; 292]), Err(MatrixError::NoWeights { .. })));
        assert!(matches!(Matrix::new(DType::F32, usize::MAX, 4, &[]), Err(MatrixError::Overflow { .. })));
        assert!(matches!(Matrix::new(DType::F32, 1, usize::MAX, &[]), Err(MatrixError::Overflow { .. })));
    }
}
