//! Where two tensors hold different values, and what the difference looks like.

use crate::Tensor;
use apr_tensor::{Bytes, codec};

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
    /// What the difference looks like, where it has a known pattern.
    pub cause: Option<String>,
}

/// Decodes canonical rows `rows` of a tensor, in order.
fn decode_rows(tensor: &Tensor, rows: std::ops::Range<usize>, out: &mut Vec<f32>) {
    let columns = tensor.canonical_columns();
    out.resize(rows.len() * columns, 0.0);
    for (row, values) in rows.zip(out.chunks_exact_mut(columns.max(1))) {
        codec::decode(tensor.dtype, tensor.canonical_row(row), values);
    }
}

/// Calls `sink` with the decoded values of a tensor in canonical order, a chunk at a time.
pub fn for_each_chunk(tensor: &Tensor, mut sink: impl FnMut(&[f32])) {
    let columns = tensor.canonical_columns();
    let n_rows = tensor.canonical_rows();
    let step = (CHUNK_VALUES / columns.max(1)).max(1);
    let mut values = Vec::new();
    for start in (0..n_rows).step_by(step) {
        decode_rows(tensor, start..n_rows.min(start + step), &mut values);
        sink(&values);
    }
    tensor.data.release();
}

/// Compares two tensors of the same shape value by value.
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
    let (mut x, mut y) = (Vec::new(), Vec::new());
    for start in (0..n_rows).step_by(step) {
        let rows = start..n_rows.min(start + step);
        decode_rows(a, rows.clone(), &mut x);
        decode_rows(b, rows, &mut y);
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
        found.cause = pattern(a, b, &found);
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

/// Names what happened, from most to least specific.
fn pattern(a: &Tensor, b: &Tensor, found: &ValueDifference) -> Option<String> {
    let all = |tensor: &Tensor| {
        let mut values = Vec::new();
        for_each_chunk(tensor, |chunk| values.extend_from_slice(chunk));
        values
    };
    let (x, y) = (all(a), all(b));
    let nan = |values: &[f32]| values.iter().filter(|v| v.is_nan()).count();
    match (nan(&x), nan(&y)) {
        (0, 0) => {}
        (m, n) if m != n => return Some(format!("NaN: {m} values against {n}")),
        _ => {}
    }
    for (values, which) in [(&x, "first"), (&y, "second")] {
        if values.iter().all(|&v| v == 0.0) {
            return Some(format!("all zero in the {which} file: not loaded or not written"));
        }
    }
    if let (1, Some((_, p, q))) = (found.n_different, found.first) {
        let bits = p.to_bits() ^ q.to_bits();
        if a.dtype == b.dtype && bits.count_ones() == 1 {
            return Some(format!("one bit of one value differs (bit {} of binary32)", bits.trailing_zeros()));
        }
    }
    let (rows, columns) = (a.canonical_rows(), a.canonical_columns());
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    let (x, y) = (bits(&x), bits(&y));
    if rows > 1 && columns > 1 && (0..rows * columns).all(|i| y[i] == x[(i % rows) * columns + i / rows]) {
        return Some("transposed: the data is stored column by column".to_owned());
    }
    if let Some(text) = permuted_rows(&x, &y, rows, columns) {
        return Some(text);
    }
    for shift in [1usize, 2, 4, 8, 16, 32, 64, 128, 256] {
        if shift < x.len() / 2 && x[shift..] == y[..y.len() - shift] {
            return Some(format!("shifted: the second file's data begins {shift} values late (a wrong offset)"));
        }
        if shift < x.len() / 2 && y[shift..] == x[..x.len() - shift] {
            return Some(format!("shifted: the second file's data begins {shift} values early (a wrong offset)"));
        }
    }
    (a.dtype != b.dtype).then(|| format!("encoded anew: {} against {}", a.dtype, b.dtype))
}

/// Whether the second tensor has the rows of the first in another order.
fn permuted_rows(x: &[u32], y: &[u32], rows: usize, columns: usize) -> Option<String> {
    if rows < 2 || columns < 1 {
        return None;
    }
    for head_dim in [16usize, 32, 64, 80, 96, 128, 256].into_iter().filter(|&d| rows.is_multiple_of(d)) {
        let rotary = crate::Relayout::RotaryInterleaved { head_dim };
        let row = |v: &[u32], r: usize| v[r * columns..(r + 1) * columns].to_vec();
        if (0..rows)
            .all(|r| row(y, r) == row(x, rotary.canonical_row(r)) || row(x, r) == row(y, rotary.canonical_row(r)))
        {
            return Some(format!("rows permuted between rotary conventions (heads of {head_dim} rows)"));
        }
    }
    let sorted = |v: &[u32]| {
        let mut list: Vec<_> = v.chunks_exact(columns).map(<[u32]>::to_vec).collect();
        list.sort();
        list
    };
    (sorted(x) == sorted(y)).then(|| "the same rows in another order".to_owned())
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

    fn check(change: impl FnOnce(&mut Vec<f32>), expect: &str) {
        let values: Vec<f32> = (0..64 * 6).map(|i| (i as f32).sin()).collect();
        let mut changed = values.clone();
        change(&mut changed);
        let found = compare_values(&tensor(&values, &[64, 6]), &tensor(&changed, &[64, 6]));
        assert!(found.n_different > 0);
        let cause = found.cause.unwrap_or_default();
        assert!(cause.contains(expect), "{cause:?} should say {expect:?}");
    }

    #[test]
    fn known_patterns_are_named() {
        check(|v| v.fill(0.0), "all zero in the second file");
        check(|v| v[7] = f32::NAN, "NaN: 0 values against 1");
        check(|v| v[7] = f32::from_bits(v[7].to_bits() ^ (1 << 9)), "bit 9");
        check(|v| *v = (0..384).map(|i| v[(i % 64) * 6 + i / 64]).collect(), "transposed");
        check(|v| v.rotate_left(6), "the same rows in another order");
        check(|v| v.copy_within(8.., 0), "begins 8 values late");
        let rotary = Relayout::RotaryInterleaved { head_dim: 16 };
        check(
            |v| *v = (0..64).flat_map(|r| v[rotary.canonical_row(r) * 6..][..6].to_vec()).collect(),
            "rotary conventions (heads of 16 rows)",
        );
    }

    #[test]
    fn equal_bits_compare_equal_and_signed_zeros_do_not() {
        let a = tensor(&[0.0, 1.0], &[2]);
        assert_eq!(compare_values(&a, &a).n_different, 0);
        assert_eq!(compare_values(&a, &tensor(&[-0.0, 1.0], &[2])).n_different, 1);
    }
}
