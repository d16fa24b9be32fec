//! Where two tensors hold different values, and what the difference looks like.

use crate::{Cause, Relayout, Tensor};
use apr_tensor::Bytes;
use apr_tensor::codec::{self, Number};
use std::borrow::Cow;
use std::ops::Range;

/// Values decoded at a time.
const CHUNK_VALUES: usize = 1 << 20;
/// Larger tensors are compared, but their difference is not searched for a pattern: that holds both in memory.
const MAX_PATTERN_VALUES: usize = 1 << 26;

/// The decoded values of two tensors of one shape, compared as 32-bit patterns; or, where decoding rounds, what is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueDifference {
    /// Values compared.
    pub n_compared: u64,
    /// Values whose bits differ.
    pub n_different: u64,
    /// Largest absolute difference; `None` where one is not finite.
    pub max_abs: Option<f64>,
    /// Canonical index, row-major, and both values of the first difference, in digits that tell them apart.
    pub first: Option<(u64, String, String)>,
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

/// Calls `sink` with the decoded values of a tensor in canonical order, a chunk at a time; never for a dtype whose values
/// are not decoded.
pub fn for_each_chunk(tensor: &Tensor, mut sink: impl FnMut(&[f32])) {
    if !tensor.dtype.decodes() {
        return;
    }
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

/// The stored elements of a tensor in canonical order, for dtypes with one element per block.
pub(crate) fn canonical_elements(tensor: &Tensor) -> Cow<'_, [u8]> {
    match tensor.relayout {
        Relayout::Identity | Relayout::PlusOne => Cow::Borrowed(&tensor.data),
        Relayout::RotaryInterleaved { .. } => {
            (0..tensor.canonical_rows()).flat_map(|row| tensor.canonical_row(row)).copied().collect()
        }
        Relayout::Transposed => {
            let (n_rows, n) = (tensor.canonical_rows(), tensor.dtype.info().block_bytes);
            let element = |row: usize, column: usize| &tensor.data[(column * n_rows + row) * n..][..n];
            let columns = 0..tensor.canonical_columns();
            (0..n_rows).flat_map(|row| columns.clone().flat_map(move |column| element(row, column))).copied().collect()
        }
    }
}

/// Every value of a tensor as it is stored, or every block of an opaque one.
fn numbers(tensor: &Tensor) -> Vec<Number> {
    let dtype = tensor.dtype;
    if !dtype.decodes_exactly() {
        let elements = canonical_elements(tensor);
        return elements.chunks_exact(dtype.info().block_bytes).map(|bytes| codec::number(dtype, bytes)).collect();
    }
    let mut numbers = Vec::with_capacity(tensor.shape.n_elements());
    for_each_chunk(tensor, |values| numbers.extend(values.iter().map(|&value| Number::Float(value.into()))));
    numbers
}

/// [`compare_values`] where values don't decode exactly: two that differ must not look the same. Elements smaller than a
/// byte are compared as many together as fill whole bytes; opaque ones are no values of another dtype.
fn compare_numbers(a: &Tensor, b: &Tensor) -> ValueDifference {
    let n_compared = a.shape.n_elements() as u64;
    let mut found = ValueDifference { n_compared, n_different: 0, max_abs: Some(0.0), first: None, cause: None };
    let opaque = [a, b].into_iter().find(|tensor| !tensor.dtype.decodes());
    let block = opaque.map_or(1, |tensor| tensor.dtype.info().block_elements) as u64;
    if opaque.is_some() && a.dtype != b.dtype {
        let first = (n_compared > 0).then(|| (0, a.dtype.to_string(), b.dtype.to_string()));
        return ValueDifference { n_different: n_compared, max_abs: None, first, ..found };
    }
    for (i, (p, q)) in numbers(a).into_iter().zip(numbers(b)).enumerate() {
        if !p.is_same(q) {
            found.n_different += block;
            found.first.get_or_insert_with(|| (i as u64 * block, p.to_string(), q.to_string()));
            let d = p.distance(q);
            found.max_abs = found.max_abs.filter(|_| d.is_finite()).map(|max| max.max(d));
        }
    }
    found
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
    if !(a.dtype.decodes_exactly() && b.dtype.decodes_exactly()) {
        return compare_numbers(a, b);
    }
    let columns = a.canonical_columns();
    let n_rows = a.canonical_rows();
    // A vector whose elements are re-ordered counts them as rows, another one is a row: then each is taken whole.
    let is_one_chunk = columns != b.canonical_columns();
    let step = if is_one_chunk { n_rows.max(1) } else { (CHUNK_VALUES / columns.max(1)).max(1) };
    let offset = a.relayout.offset().max(b.relayout.offset());
    let (mut x, mut y) = (Vec::new(), Vec::new());
    for start in (0..n_rows).step_by(step) {
        let rows = start..n_rows.min(start + step);
        let rows_of_b = if is_one_chunk { 0..b.canonical_rows() } else { rows.clone() };
        decode_rows(a, rows, offset, &mut x);
        decode_rows(b, rows_of_b, offset, &mut y);
        for (i, (&p, &q)) in x.iter().zip(&y).enumerate() {
            if p.to_bits() == q.to_bits() {
                continue;
            }
            found.n_different += 1;
            found.first.get_or_insert_with(|| ((start * columns + i) as u64, p.to_string(), q.to_string()));
            let d = (f64::from(p) - f64::from(q)).abs();
            found.max_abs = found.max_abs.filter(|_| d.is_finite()).map(|max| max.max(d));
        }
    }
    a.data.release();
    b.data.release();
    let are_weights = a.dtype.holds_weights() && b.dtype.holds_weights();
    if found.n_different > 0 && are_weights && a.shape.n_elements() <= MAX_PATTERN_VALUES {
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
    use crate::{Relayout, TensorFingerprint};
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

    fn of(dtype: DType, elements: &[u8], dims: &[u64], relayout: Relayout) -> Tensor {
        Tensor::new("t".into(), None, dtype, Shape::new(dims).unwrap(), elements.to_vec().into(), relayout).unwrap()
    }

    fn wide(values: &[i64], relayout: Relayout) -> Tensor {
        of(DType::I64, &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>(), &[2, 2], relayout)
    }

    /// Both are 2^53 + 2 as binary32 and as binary64.
    #[test]
    fn integers_that_round_to_one_number_are_different() {
        let (a, b) = (
            wide(&[1, 9_007_199_254_740_993, 3, 4], Relayout::Identity),
            wide(&[1, 9_007_199_254_740_994, 3, 4], Relayout::Identity),
        );
        let found = compare_values(&a, &b);
        assert_eq!((found.n_compared, found.n_different, found.max_abs), (4, 1, Some(1.0)));
        assert_eq!(found.first, Some((1, "9007199254740993".into(), "9007199254740994".into())));
        assert_ne!(TensorFingerprint::of(&a).digest, TensorFingerprint::of(&b).digest);
    }

    #[test]
    fn opaque_elements_are_their_bytes() {
        let f6 = |bytes: [u8; 6]| of(DType::F6E2M3, &bytes, &[2, 4], Relayout::Identity);
        let (a, b) = (f6([1, 2, 3, 4, 5, 6]), f6([1, 2, 3, 4, 255, 6]));
        assert_eq!(compare_values(&a, &a.clone()).n_different, 0);
        let found = compare_values(&a, &b);
        assert_eq!((found.n_compared, found.n_different, found.max_abs), (8, 4, None));
        assert_eq!(found.first, Some((4, "F6_E2M3 0x060504".into(), "F6_E2M3 0x06ff04".into())));
        assert_ne!(TensorFingerprint::of(&a).digest, TensorFingerprint::of(&b).digest);
        // Finite numbers that binary32 does not have.
        let wide = of(DType::F64, &[1e300f64, -5e-324].map(f64::to_le_bytes).concat(), &[2], Relayout::Identity);
        let stats = TensorFingerprint::of(&wide).stats;
        assert_eq!((stats.n, stats.n_inf, stats.n_zero, stats.min, stats.max), (2, 0, 0, Some(-5e-324), Some(1e300)));
        assert_eq!(TensorFingerprint::of(&a).stats.n, 0, "nothing is known of its values");
        let other = of(DType::F6E3M2, &a.data, &[2, 4], Relayout::Identity);
        assert_eq!(compare_values(&a, &other).n_different, 8, "the same bytes are other numbers");
        assert_eq!(compare_values(&tensor(&[0.0; 8], &[2, 4]), &a).n_different, 8);
    }

    #[test]
    fn numbers_of_two_dtypes_are_the_same_where_they_are_equal() {
        let doubles =
            |values: [f64; 4]| of(DType::F64, &values.map(f64::to_le_bytes).concat(), &[2, 2], Relayout::Identity);
        let exact = doubles([1.0, 2.5, -0.0, f64::INFINITY]);
        let single = tensor(&[1.0, 2.5, -0.0, f32::INFINITY], &[2, 2]);
        assert_eq!(compare_values(&exact, &single).n_different, 0);
        assert_eq!(compare_values(&single, &doubles([1.0, 2.5 + 1e-9, -0.0, f64::INFINITY])).n_different, 1);
        assert_eq!(
            compare_values(&wide(&[1, 2, 3, -4], Relayout::Identity), &doubles([1.0, 2.0, 3.0, -4.0])).n_different,
            0
        );
    }

    /// The bias of q in a llama-type GGUF against that of Transformers: rows of one element against one row.
    #[test]
    fn a_vector_in_another_order_is_compared_element_by_element() {
        let vector = |values: &[f32], relayout| {
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            of(DType::F32, &bytes, &[8], relayout)
        };
        let rotary = Relayout::RotaryInterleaved { head_dim: 8 };
        let plain = vector(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], Relayout::Identity);
        let stored = vector(&[0.0, 4.0, 1.0, 5.0, 2.0, 6.0, 3.0, 7.0], rotary);
        let changed = vector(&[0.0, 4.0, 1.0, 5.0, 2.5, 6.0, 3.0, 7.0], rotary);
        for (a, b, first) in [(&plain, &changed, ("2", "2.5")), (&changed, &plain, ("2.5", "2"))] {
            assert_eq!(compare_values(&plain, &stored).n_different + compare_values(&stored, &plain).n_different, 0);
            let found = compare_values(a, b);
            assert_eq!((found.n_different, found.max_abs), (1, Some(0.5)));
            assert_eq!(found.first, Some((2, first.0.to_owned(), first.1.to_owned())));
        }
    }

    #[test]
    fn carried_numbers_are_compared_and_hashed_in_canonical_order() {
        let plain = wide(&[1, 2, 3, 4], Relayout::Identity);
        for (relayout, stored) in
            [(Relayout::Transposed, [1, 3, 2, 4]), (Relayout::RotaryInterleaved { head_dim: 2 }, [1, 2, 3, 4])]
        {
            let other = wide(&stored, relayout);
            assert_eq!(compare_values(&plain, &other).n_different, 0, "{relayout:?}");
            assert_eq!(TensorFingerprint::of(&plain).digest, TensorFingerprint::of(&other).digest, "{relayout:?}");
        }
    }
}
