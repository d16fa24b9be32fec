//! Where two tensors hold different values, and what the difference looks like.

use crate::{Cause, Relayout, Tensor};
use apr_tensor::{Bytes, codec};
use std::ops::Range;

/// Values decoded at a time.
const CHUNK_VALUES: usize = 1 << 20;
/// Larger tensors are compared, but their difference is not searched for a pattern: that holds both in memory.
const MAX_PATTERN_VALUES: usize = 1 << 26;

/// The decoded values of two tensors of one shape, compared as 32-bit patterns.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueDifference {
    /// Values compared.
    pub n_compared: u64,
    /// Values whose bits differ.
    pub n_different: u64,
    /// Largest absolute difference; `None` where one is not finite.
    pub max_abs: Option<f64>,
    /// Canonical index, row-major, and both values of the first difference.
    pub first: Option<(u64, f32, f32)>,
    /// Where the difference has a cause that is known.
    pub cause: Option<Cause>,
}

/// Decodes canonical rows `rows` of a tensor, in order, plus `offset`.
fn decode_rows(tensor: &Tensor, rows: Range<usize>, offset: f32, out: &mut Vec<f32>) {
    let columns = tensor.canonical_columns();
    out.resize(rows.len() * columns, 0.0);
    if tensor.relayout == Relayout::Transposed {
        decode_columns(tensor, rows, out);
    } else {
        for (row, values) in rows.zip(out.chunks_exact_mut(columns.max(1))) {
            codec::decode(tensor.dtype, tensor.canonical_row(row), values);
        }
    }
    let offset = offset - tensor.relayout.offset();
    if offset != 0.0 {
        out.iter_mut().for_each(|value| *value += offset);
    }
}

/// [`decode_rows`] where they are stored columns.
fn decode_columns(tensor: &Tensor, rows: Range<usize>, out: &mut [f32]) {
    let (n_rows, n_columns) = (tensor.canonical_rows(), tensor.canonical_columns());
    let n = tensor.dtype.bytes_for(n_rows).expect("stored rows are whole blocks");
    let mut values = vec![0.0; n_rows];
    for (column, stored) in tensor.data.chunks_exact(n.max(1)).enumerate() {
        codec::decode(tensor.dtype, stored, &mut values);
        for (index, &value) in values[rows.clone()].iter().enumerate() {
            out[index * n_columns + column] = value;
        }
    }
}

/// Calls `sink` with the decoded values of a tensor in canonical order, a chunk at a time.
pub fn for_each_chunk(tensor: &Tensor, mut sink: impl FnMut(&[f32])) {
    let columns = tensor.canonical_columns();
    let n_rows = tensor.canonical_rows();
    let step = (CHUNK_VALUES / columns.max(1)).max(1);
    let mut values = Vec::new();
    for start in (0..n_rows).step_by(step) {
        decode_rows(tensor, start..n_rows.min(start + step), 0.0, &mut values);
        sink(&values);
    }
    tensor.data.release();
}

/// Compares two tensors of the same shape value by value.
///
/// Gains of which one counts from one are compared as what computes, one plus the canonical value.
///
/// # Panics
/// If the shapes differ.
pub fn compare_values(a: &Tensor, b: &Tensor) -> ValueDifference {
    assert_eq!(a.shape, b.shape, "values are compared between tensors of one shape");
    let n_compared = a.shape.n_elements() as u64;
    let mut found = ValueDifference { n_compared, n_different: 0, max_abs: Some(0.0), first: None, cause: None };
    if a.dtype == b.dtype && a.relayout == b.relayout && same_bytes(&a.data, &b.data) {
        return found;
    }
    let columns = a.canonical_columns();
    let n_rows = a.canonical_rows();
    let step = (CHUNK_VALUES / columns.max(1)).max(1);
    let offset = a.relayout.offset().max(b.relayout.offset());
    let (mut x, mut y) = (Vec::new(), Vec::new());
    for start in (0..n_rows).step_by(step) {
        let rows = start..n_rows.min(start + step);
        decode_rows(a, rows.clone(), offset, &mut x);
        decode_rows(b, rows, offset, &mut y);
        for (i, (&p, &q)) in x.iter().zip(&y).enumerate() {
            if p.to_bits() == q.to_bits() {
                continue;
            }
            found.n_different += 1;
            found.first.get_or_insert(((start * columns + i) as u64, p, q));
            let d = (f64::from(p) - f64::from(q)).abs();
            found.max_abs = found.max_abs.filter(|_| d.is_finite()).map(|max| max.max(d));
        }
    }
    a.data.release();
    b.data.release();
    if found.n_different > 0 && a.shape.n_elements() <= MAX_PATTERN_VALUES {
        found.cause = Cause::between(a, b);
    }
    found
}

/// Compares in pieces, giving pages back as it goes.
fn same_bytes(a: &Bytes, b: &Bytes) -> bool {
    const CHUNK_BYTES: usize = 8 << 20;
    a.len() == b.len()
        && (0..a.len()).step_by(CHUNK_BYTES).all(|start| {
            let range = start..a.len().min(start + CHUNK_BYTES);
            let (x, y) = (a.slice(range.clone()).expect("inside"), b.slice(range).expect("same length"));
            let same = *x == *y;
            x.release();
            y.release();
            same
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Relayout;
    use apr_tensor::{DType, Shape};

    fn tensor(values: &[f32], dims: &[u64]) -> Tensor {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Tensor::new("t".into(), None, DType::F32, Shape::new(dims).unwrap(), bytes.into(), Relayout::Identity).unwrap()
    }

    #[test]
    fn equal_bits_compare_equal_and_signed_zeros_do_not() {
        let a = tensor(&[0.0, 1.0], &[2]);
        assert_eq!(compare_values(&a, &a).n_different, 0);
        assert_eq!(compare_values(&a, &tensor(&[-0.0, 1.0], &[2])).n_different, 1);
    }
}
