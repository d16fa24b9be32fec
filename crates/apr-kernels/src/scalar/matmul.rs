//! Products with a weight matrix.

use apr_tensor::{DType, codec};

use super::sums::{LANES, accumulate, dot, tree};

/// `y[r] = dot(row r, x)`. `rows` holds `y.len()` rows of `x.len()` weights.
pub(crate) fn matvec(dtype: DType, rows: &[u8], x: &[f32], y: &mut [f32]) {
    let mut w = vec![0.0; x.len()];
    let row_bytes = rows.len() / y.len();
    for (r, y) in y.iter_mut().enumerate() {
        codec::decode(dtype, &rows[r * row_bytes..][..row_bytes], &mut w);
        *y = dot(&w, x);
    }
}

/// Continues the running sums of every pair of a row of `w`, `[n_rows, depth]`, and a token of `x`, `[n, depth]`:
/// `sums` is `[n, n_rows, 16]`. A dot product may so be cut along its length, at multiples of 16.
pub(crate) fn tile(w: &[f32], x: &[f32], depth: usize, sums: &mut [f32]) {
    let n_rows = w.len() / depth;
    for (x, sums) in x.chunks(depth).zip(sums.chunks_mut(n_rows * LANES)) {
        for (w, sums) in w.chunks(depth).zip(sums.as_chunks_mut().0) {
            accumulate(sums, w, x);
        }
    }
}

/// Ends dot products: `y[i]` is the tree over `sums[i]`, `[y.len(), 16]`.
pub(crate) fn reduce(sums: &[f32], y: &mut [f32]) {
    for (sums, y) in sums.as_chunks().0.iter().zip(y) {
        *y = tree(*sums);
    }
}
