//! A tensor's rows in the order that a target stores them.

use crate::plan::Recode;
use apr_model::{Relayout, Tensor};
use apr_tensor::{DType, codec};
use std::borrow::Cow;
use std::ops::Range;

/// A tensor as rows that can be re-ordered: a vector whose elements are re-ordered has rows of one.
pub(crate) struct Rows<'a> {
    tensor: &'a Tensor,
    order: Relayout,
    /// Whether columns of the one are rows of the other.
    turns: bool,
    pub(crate) n: usize,
    pub(crate) columns: usize,
    /// What is added to a value on its way.
    pub(crate) offset: f32,
}

/// Some rows of a target, with the values that the source has.
pub(crate) struct Portion<'a> {
    bytes: Cow<'a, [u8]>,
    pub(crate) dtype: DType,
    row_bytes: usize,
    /// The stored row of the source that a row of the target is, or its place among the turned ones.
    source: Box<dyn Fn(usize) -> usize + 'a>,
}

impl<'a> Rows<'a> {
    pub(crate) fn of(tensor: &'a Tensor, recode: &Recode) -> Self {
        let (from, to) = (tensor.relayout, recode.relayout);
        let stored = to.stored_shape(&tensor.shape);
        let moves_elements = tensor.shape.dims().len() == 1 && (from.moves_rows() || to.moves_rows());
        let (n, columns) =
            if moves_elements { (stored.n_elements(), 1) } else { (stored.n_rows(), stored.row_elements()) };
        let turns = (from == Relayout::Transposed) != (to == Relayout::Transposed);
        Self { tensor, order: to, turns, n, columns, offset: to.offset() - from.offset() }
    }

    /// Rows `range` of the target. Turned blocks are decoded; every other value keeps its bytes.
    pub(crate) fn portion(&self, range: Range<usize>) -> Portion<'a> {
        let (from, to) = (self.tensor.relayout, self.order);
        let (bytes, dtype): (Cow<'a, [u8]>, _) = match (self.turns, self.tensor.dtype.is_quantized()) {
            (false, _) => (Cow::Borrowed(&*self.tensor.data), self.tensor.dtype),
            (true, false) => {
                (turned(&self.tensor.data, self.n, self.element_bytes(), &range).into(), self.tensor.dtype)
            }
            (true, true) => (self.turned_blocks(&range).into(), DType::F32),
        };
        let row_bytes = dtype.bytes_for(self.columns).expect("rows are whole blocks");
        let source: Box<dyn Fn(usize) -> usize> = if self.turns {
            Box::new(move |row| row - range.start)
        } else {
            Box::new(move |row| from.stored_row(to.canonical_row(row)))
        };
        Portion { bytes, dtype, row_bytes, source }
    }

    fn element_bytes(&self) -> usize {
        self.tensor.dtype.info().block_bytes
    }

    fn turned_blocks(&self, range: &Range<usize>) -> Vec<u8> {
        let mut out = vec![0; range.len() * self.columns * 4];
        let mut values = vec![0.0; self.n];
        let source_bytes = self.tensor.dtype.bytes_for(self.n).expect("rows of the source are whole blocks");
        for (column, row) in self.tensor.data.chunks_exact(source_bytes).enumerate() {
            codec::decode(self.tensor.dtype, row, &mut values);
            for (index, value) in values[range.clone()].iter().enumerate() {
                out[(index * self.columns + column) * 4..][..4].copy_from_slice(&value.to_le_bytes());
            }
        }
        out
    }
}

/// Columns `range` of a matrix of `n_columns`, as rows; elements have `n` bytes.
fn turned(matrix: &[u8], n_columns: usize, n: usize, range: &Range<usize>) -> Vec<u8> {
    let n_rows = matrix.len() / (n_columns * n).max(1);
    let mut out = vec![0; range.len() * n_rows * n];
    for (row, elements) in matrix.chunks_exact((n_columns * n).max(1)).enumerate() {
        let elements = elements[range.start * n..range.end * n].chunks_exact(n);
        for (index, element) in elements.enumerate() {
            out[(index * n_rows + row) * n..][..n].copy_from_slice(element);
        }
    }
    out
}

impl Portion<'_> {
    /// Row `row` of the target.
    pub(crate) fn row(&self, row: usize) -> &[u8] {
        &self.bytes[(self.source)(row) * self.row_bytes..][..self.row_bytes]
    }
}
