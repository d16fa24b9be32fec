//! Products with a weight matrix, lane by lane of [`dot`](super::sums::dot).

use super::sums::{LANES, tree};
use crate::by_lane::{LANE_AT, LANE_GAP, LaneStrip};

/// Rows of a tile.
pub(crate) const LANE_TILE_ROWS: usize = 16;
/// The most tokens of a strip.
pub(crate) const LANE_TILE_TOKENS: usize = 12;

/// Sixteen rows by columns: value `16 g + LANE_AT[p]` of row `r` goes to `dst[p * lane_stride + g * width + r]`.
///
/// # Safety
/// `src` is sixteen rows of `n_groups` groups of sixteen, each row `stride` values after the one before; `dst` is valid
/// in each of these places.
pub(crate) unsafe fn lane_major(
    src: *const f32,
    stride: usize,
    n_groups: usize,
    dst: *mut f32,
    lane_stride: usize,
    width: usize,
) {
    for (p, lane) in LANE_AT.into_iter().enumerate() {
        for g in 0..n_groups {
            for r in 0..LANES {
                // SAFETY: by the caller.
                unsafe { *dst.add(p * lane_stride + g * width + r) = *src.add(r * stride + g * LANES + lane) }
            }
        }
    }
}

/// The dot product of every pair of a row and a token, whose values come lane by lane.
///
/// # Safety
/// `y` has room for the results.
pub(crate) unsafe fn lane_strip(strip: LaneStrip<'_>) {
    let n_groups = strip.x.len() / (LANES * strip.n_tokens);
    for row in 0..strip.n_rows {
        let (tile, r) = (row / LANE_TILE_ROWS, row % LANE_TILE_ROWS);
        let lane_values = n_groups * LANE_TILE_ROWS + LANE_GAP;
        for t in 0..strip.n_tokens {
            let mut sums = [0.0f32; LANES];
            for (p, lane) in LANE_AT.into_iter().enumerate() {
                let w = &strip.w[(tile * LANES + p) * lane_values..];
                let x = &strip.x[p * n_groups * strip.n_tokens..];
                for g in 0..n_groups {
                    sums[lane] = w[g * LANE_TILE_ROWS + r].mul_add(x[g * strip.n_tokens + t], sums[lane]);
                }
            }
            // SAFETY: by the caller.
            unsafe { *strip.y.add(t * strip.y_stride + row) = tree(sums) }
        }
    }
}
