//! Products of matrices with long rows and of very many tokens, lane by lane of the definition.

use std::ops::Range;

use super::matmul::{Product, TaskList};
use super::{Backend, CALL, TASK, with_scratch};
use crate::by_lane::{LANE_GAP, LaneStrip};
use crate::matrix::Matrix;
use crate::pool::Disjoint;

/// From how many columns on going lane by lane is worth while: rows that are shorter than this are unpacked at once for
/// tiles of whole registers, whose sums then need no memory either.
pub(super) const MIN_COLS: usize = 1025;
/// From how many tokens on it makes up for transposing the weights. So many also split into strips of `lane_tile_tokens`,
/// at most twelve, or one fewer.
pub(super) const MIN_TOKENS: usize = 12 * 11;

/// The most rows that a task takes.
const PANEL_ROWS: usize = 64;
/// The most values that they have, so that the unpacked rows stay in the second-level cache while the tokens pass by;
/// long rows go at least by one tile.
const PANEL_VALUES: usize = 320 << 10;
/// Rows that are unpacked side by side before they are transposed.
const ROWS_AT_ONCE: usize = 16;
/// The most columns of them: a multiple of every block, and they fill a part of the first-level cache.
const COLS_AT_ONCE: usize = 256;
/// From one of these rows to the next: 64 bytes more, so that rows do not compete for the same places in a cache.
const ROW_STRIDE: usize = COLS_AT_ONCE + 16;

impl Backend {
    /// Panels of rows are tasks. A task unpacks its rows once and lets strips of tokens pass over them.
    pub(super) fn matmul_by_lane(&self, n: usize, x: &[f32], products: &mut [Product<'_>]) {
        let cols = x.len() / n;
        let padded_cols = cols.next_multiple_of(16);
        let tile_rows = self.set.lane_tile_rows;
        let n_rows: usize = products.iter().map(|product| product.w.rows()).sum();
        let panel_rows = n_rows.div_ceil(2 * self.n_threads()).next_multiple_of(tile_rows).min(PANEL_ROWS);
        let panel_rows = panel_rows.min(PANEL_VALUES / padded_cols / tile_rows * tile_rows).max(tile_rows);
        let tasks = TaskList::new(products, |_| panel_rows);
        with_scratch(&CALL, n * padded_cols, |packed| {
            self.pack_by_lane(n, x, padded_cols, packed);
            let packed = &*packed;
            self.pool.run(tasks.len(), &|i| {
                let (w, y, first_row, n_rows) = tasks.get(i);
                // SAFETY: tasks have different rows, and each runs once.
                unsafe { self.panel_by_lane(n, packed, w, first_row, n_rows, y.start().add(first_row)) }
            });
        });
    }

    /// The products of rows `first_row..first_row + n_rows` with all tokens: token `t`'s go to `y` and on, from
    /// `t * w.rows()`.
    ///
    /// # Safety
    /// `y` is valid for these writes, and nobody else reads or writes there.
    unsafe fn panel_by_lane(
        &self,
        n: usize,
        packed: &[f32],
        w: &Matrix<'_>,
        first_row: usize,
        n_rows: usize,
        y: *mut f32,
    ) {
        let padded_cols = packed.len() / n;
        let n_values = n_rows.div_ceil(self.set.lane_tile_rows) * self.lane_tile_values(padded_cols);
        with_scratch(&TASK, n_values + ROWS_AT_ONCE * ROW_STRIDE, |scratch| {
            let (panel, rows) = scratch.split_at_mut(n_values);
            self.unpack_by_lane(w, first_row, n_rows, padded_cols, panel, rows);
            for tokens in self.lane_strips(n) {
                let strip = LaneStrip {
                    w: panel,
                    x: &packed[tokens.start * padded_cols..tokens.end * padded_cols],
                    n_rows,
                    n_tokens: tokens.len(),
                    y: y.wrapping_add(tokens.start * w.rows()),
                    y_stride: w.rows(),
                };
                // SAFETY: holding the set proves its instructions; the slices were cut to the strip.
                unsafe { (self.set.lane_strip)(strip) }
            }
        });
    }

    /// Values of an unpacked tile of rows.
    fn lane_tile_values(&self, padded_cols: usize) -> usize {
        self.set.lane_tile_rows * padded_cols + 16 * LANE_GAP
    }

    /// `n` tokens in strips of nearly equal length.
    fn lane_strips(&self, n: usize) -> impl Iterator<Item = Range<usize>> {
        let n_strips = n.div_ceil(self.set.lane_tile_tokens);
        (0..n_strips).map(move |i| i * n / n_strips..(i + 1) * n / n_strips)
    }

    /// Unpacks consecutive rows into `panel` as a [`LaneStrip`] takes them, with zeros beyond the last column and the last
    /// row. In between, a few of them lie in `rows`.
    fn unpack_by_lane(
        &self,
        w: &Matrix<'_>,
        first_row: usize,
        n_rows: usize,
        padded_cols: usize,
        panel: &mut [f32],
        rows: &mut [f32],
    ) {
        let tile_rows = self.set.lane_tile_rows;
        let tile_values = self.lane_tile_values(padded_cols);
        for first in (0..n_rows.next_multiple_of(tile_rows)).step_by(ROWS_AT_ONCE) {
            let tile = &mut panel[first / tile_rows * tile_values..][..tile_values];
            for start in (0..w.cols()).step_by(COLS_AT_ONCE) {
                let n_cols = COLS_AT_ONCE.min(w.cols() - start);
                for (row, values) in (first..).zip(rows.chunks_exact_mut(ROW_STRIDE)) {
                    if row >= n_rows {
                        values.fill(0.0);
                        continue;
                    }
                    let stored = w.part_of_row(first_row + row, start, n_cols);
                    // SAFETY: holding the set proves its instructions; `stored` is `n_cols` weights, which `values` holds.
                    unsafe { (self.set.unpack)(w.dtype(), stored, n_cols, values, 1) }
                }
                let at = start / 16 * tile_rows + first % tile_rows;
                // SAFETY: holding the set proves its instructions; `rows` has sixteen rows of `n_cols`, padded, and the tile
                // has them from group `start / 16` and row `first % tile_rows` of each lane.
                unsafe {
                    (self.set.lane_major)(
                        rows.as_ptr(),
                        ROW_STRIDE,
                        n_cols.div_ceil(16),
                        tile[at..].as_mut_ptr(),
                        tile_values / 16,
                        tile_rows,
                    );
                }
            }
        }
    }

    /// Copies `x`, `[n, cols]`, strip by strip as a [`LaneStrip`] takes it, with zeros beyond `cols`.
    fn pack_by_lane(&self, n: usize, x: &[f32], padded_cols: usize, packed: &mut [f32]) {
        let cols = x.len() / n;
        let strips: Vec<_> = self.lane_strips(n).collect();
        let packed = Disjoint::new(packed);
        self.pool.run(strips.len(), &|i| {
            let tokens = strips[i].clone();
            // SAFETY: strips do not overlap, and each task writes its own.
            let strip = unsafe { packed.part(tokens.start * padded_cols..tokens.end * padded_cols) };
            let n_tokens = tokens.len();
            let x = &x[tokens.start * cols..];
            if x.len() >= ROWS_AT_ONCE * cols && cols == padded_cols {
                self.pack_strip(x, n_tokens, strip);
            } else {
                with_scratch(&TASK, ROWS_AT_ONCE * padded_cols, |rows| {
                    for (token, row) in x.chunks_exact(cols).zip(rows.chunks_exact_mut(padded_cols)).take(n_tokens) {
                        row[..cols].copy_from_slice(token);
                        row[cols..].fill(0.0);
                    }
                    self.pack_strip(rows, n_tokens, strip);
                });
            }
        });
    }

    /// Transposes the first `n_tokens` of at least sixteen rows into `strip`.
    fn pack_strip(&self, rows: &[f32], n_tokens: usize, strip: &mut [f32]) {
        let cols = strip.len() / n_tokens;
        let n_groups = cols / 16;
        // Sixteen values are written for a group's tokens. Those beyond are overwritten by the next groups, so the last
        // groups, where they would reach into another lane, are written elsewhere.
        let n_direct = (n_groups + 1).saturating_sub(ROWS_AT_ONCE.div_ceil(n_tokens));
        assert!(rows.len() >= ROWS_AT_ONCE * cols && n_tokens <= ROWS_AT_ONCE, "rows to transpose");
        // SAFETY: holding the set proves its instructions; there are sixteen rows, and `strip` has room as just said.
        unsafe {
            (self.set.lane_major)(rows.as_ptr(), cols, n_direct, strip.as_mut_ptr(), n_groups * n_tokens, n_tokens);
        }
        for g in n_direct..n_groups {
            let mut columns = [0.0; 16 * ROWS_AT_ONCE];
            // SAFETY: as above, for one group.
            unsafe {
                let rows = rows.as_ptr().add(g * 16);
                (self.set.lane_major)(rows, cols, 1, columns.as_mut_ptr(), ROWS_AT_ONCE, ROWS_AT_ONCE);
            }
            for (lane, column) in strip.chunks_exact_mut(n_groups * n_tokens).zip(columns.chunks_exact(ROWS_AT_ONCE)) {
                lane[g * n_tokens..][..n_tokens].copy_from_slice(&column[..n_tokens]);
            }
        }
    }
}
