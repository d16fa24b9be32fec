//! Products with a weight matrix.

use apr_tensor::{DType, codec};

use super::sums::{LANES, accumulate, dot, tree};
use crate::set::Strip;

/// `y[r] = dot(row r, x)`. `rows` holds `y.len()` rows of `x.len()` weights.
pub(crate) fn matvec(dtype: DType, rows: &[u8], x: &[f32], y: &mut [f32]) {
    let mut w = vec![0.0; x.len()];
    let row_bytes = rows.len() / y.len();
    for (r, y) in y.iter_mut().enumerate() {
        codec::decode(dtype, &rows[r * row_bytes..][..row_bytes], &mut w);
        *y = dot(&w, x);
    }
}

/// Rows of a tile.
pub(crate) const TILE_ROWS: usize = 4;
/// The most tokens of a strip.
pub(crate) const TILE_TOKENS: usize = 6;

/// Decodes the `n` weights of `src` by groups of sixteen, the last one padded with zeros; group `g` goes to
/// `dst[g * stride * 16..][..16]`.
pub(crate) fn unpack(dtype: DType, src: &[u8], n: usize, dst: &mut [f32], stride: usize) {
    let mut w = vec![0.0; n];
    codec::decode(dtype, src, &mut w);
    for (w, dst) in w.chunks(LANES).zip(dst.chunks_mut(stride * LANES)) {
        dst[..w.len()].copy_from_slice(w);
        dst[w.len()..LANES].fill(0.0);
    }
}

/// Continues the running sums of every pair of a row and a token, group by group, and ends them with the tree where the
/// dot products end. A dot product may so be cut along its length, at multiples of 16.
///
/// # Safety
/// Where the strip is the last, `y` has room for its results.
pub(crate) unsafe fn strip(strip: Strip<'_>) {
    let (w, x) = (strip.w.as_chunks::<LANES>().0, strip.x.as_chunks::<LANES>().0);
    let sums = strip.sums.as_chunks_mut::<LANES>().0;
    let n_groups = x.len() / strip.n_tokens;
    for row in 0..strip.n_rows {
        let (tile, r) = (row / TILE_ROWS, row % TILE_ROWS);
        let w = &w[tile * n_groups * TILE_ROWS..][..n_groups * TILE_ROWS];
        for t in 0..strip.n_tokens {
            let at = (tile * TILE_TOKENS + t) * TILE_ROWS + r;
            let mut pair = if strip.is_first { [0.0; LANES] } else { sums[at] };
            for (w, x) in w.chunks(TILE_ROWS).zip(x.chunks(strip.n_tokens)) {
                accumulate(&mut pair, &w[r], &x[t]);
            }
            if strip.is_last {
                // SAFETY: by the caller.
                unsafe { *strip.y.add(t * strip.y_stride + row * strip.row_stride) = tree(pair) }
            } else {
                sums[at] = pair;
            }
        }
    }
}
