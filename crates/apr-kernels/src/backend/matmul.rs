//! Products with a weight matrix.

use super::{Backend, CALL, TASK, with_scratch};
use crate::matrix::Matrix;

/// Bytes of weights that a task of a matrix-vector product reads at least, so that handing out tasks costs little.
const MATVEC_TASK_BYTES: usize = 64 << 10;
/// The most rows that a task of a matrix-matrix product takes.
const PANEL_ROWS: usize = 32;
/// The most tokens that meet a panel at a time, so that their running sums stay in the second-level cache.
const PANEL_TOKENS: usize = 96;
/// Values of a row that are unpacked at a time: a tile of tokens this deep fills a good part of the first-level cache,
/// a panel of rows of the second-level one. A multiple of every block and of 16.
const DEPTH: usize = 512;

impl Backend {
    /// `y[t, r] = dot(w[r], x[t])` for `n` tokens: `x` is `[n, cols]`, `y` is `[n, rows]`.
    ///
    /// # Panics
    /// If the lengths contradict each other.
    pub fn matmul(&self, w: &Matrix<'_>, x: &[f32], y: &mut [f32]) {
        let (rows, cols) = (w.rows(), w.cols());
        if rows == 0 || cols == 0 {
            // A dimension of zero leaves `n` open in one of the lengths, and every sum empty.
            assert!(if rows == 0 { y.is_empty() } else { x.is_empty() }, "{rows} × {cols} matrix");
            return y.fill(0.0);
        }
        let n = x.len() / cols;
        assert_eq!(x.len(), n * cols, "x is [n, {cols}]");
        assert_eq!(y.len(), n * rows, "y is [{n}, {rows}]");
        match n {
            0 => {}
            1 => self.matvec(w, x, y),
            _ => self.matmul_by_panels(w, x, y),
        }
    }

    fn matvec(&self, w: &Matrix<'_>, x: &[f32], y: &mut [f32]) {
        let row_bytes = w.row_range(0, 1).len();
        let enough_work = MATVEC_TASK_BYTES.div_ceil(row_bytes);
        let rows_per_task = w.rows().div_ceil(4 * self.n_threads()).max(enough_work).next_multiple_of(4);
        // Every row reads all of `x`, which is worth a copy that starts at a cache line.
        with_scratch(&CALL, x.len(), |aligned| {
            aligned.copy_from_slice(x);
            let x = &*aligned;
            self.pool.for_each_chunk(y, rows_per_task, |i, y| {
                let rows = w.row_range(i * rows_per_task, y.len());
                // SAFETY: holding the set proves its instructions; the matrix has whole rows of `x.len()` weights.
                unsafe { (self.set.matvec)(w.dtype(), rows, x, y) }
            });
        });
    }

    /// Panels of rows are tasks. A task unpacks its rows a depth at a time and lets the tokens continue their running
    /// sums with them, so a weight is unpacked once for [`PANEL_TOKENS`] tokens.
    fn matmul_by_panels(&self, w: &Matrix<'_>, x: &[f32], y: &mut [f32]) {
        let (rows, cols) = (w.rows(), w.cols());
        let n = x.len() / cols;
        let padded_cols = cols.next_multiple_of(16);
        let panel_rows = rows.div_ceil(self.n_threads()).next_multiple_of(4).min(PANEL_ROWS);
        with_scratch(&CALL, n * padded_cols, |slices| {
            pack(x, cols, padded_cols, slices);
            let slices = &*slices;
            self.pool.for_each_column_block(y, rows, panel_rows, |first_row, mut y| {
                let (n_rows, n_at_once) = (y.len(), n.min(PANEL_TOKENS));
                with_scratch(&TASK, n_rows * (DEPTH + 16 * n_at_once), |scratch| {
                    let (panel, sums) = scratch.split_at_mut(n_rows * DEPTH);
                    for first_token in (0..n).step_by(n_at_once) {
                        let tokens = first_token..n.min(first_token + n_at_once);
                        let sums = &mut sums[..tokens.len() * n_rows * 16];
                        sums.fill(0.0);
                        for start in (0..padded_cols).step_by(DEPTH) {
                            let depth = DEPTH.min(padded_cols - start);
                            let panel = &mut panel[..n_rows * depth];
                            self.unpack(w, first_row, start, depth, panel);
                            let slice = &slices[n * start..][tokens.start * depth..tokens.end * depth];
                            // SAFETY: holding the set proves its instructions; all lengths were cut to `n_rows` rows
                            // and `tokens.len()` tokens of `depth`.
                            unsafe { (self.set.tile)(panel, slice, depth, sums) }
                        }
                        for (token, sums) in tokens.zip(sums.chunks_exact(n_rows * 16)) {
                            // SAFETY: as above; there are sixteen sums for each row.
                            unsafe { (self.set.reduce)(sums, y.row_mut(token)) }
                        }
                    }
                });
            });
        });
    }

    /// Unpacks columns `start..start + depth` of consecutive rows into `panel`, `[n_rows, depth]`, with zeros beyond the
    /// last column.
    fn unpack(&self, w: &Matrix<'_>, first_row: usize, start: usize, depth: usize, panel: &mut [f32]) {
        let n_cols = depth.min(w.cols() - start);
        for (r, unpacked) in panel.chunks_exact_mut(depth).enumerate() {
            let (values, padding) = unpacked.split_at_mut(n_cols);
            padding.fill(0.0);
            let stored = w.part_of_row(first_row + r, start, n_cols);
            // SAFETY: holding the set proves its instructions; `stored` is `n_cols` weights.
            unsafe { (self.set.unpack)(w.dtype(), stored, values) }
        }
    }
}

/// Copies `x`, `[n, cols]`, into slices of [`DEPTH`] columns: each is `[n, depth]`, the last with zeros beyond `cols`.
fn pack(x: &[f32], cols: usize, padded_cols: usize, slices: &mut [f32]) {
    let n = x.len() / cols;
    for start in (0..padded_cols).step_by(DEPTH) {
        let depth = DEPTH.min(padded_cols - start);
        let n_cols = depth.min(cols - start);
        for (token, packed) in x.chunks_exact(cols).zip(slices[n * start..][..n * depth].chunks_exact_mut(depth)) {
            let (values, padding) = packed.split_at_mut(n_cols);
            values.copy_from_slice(&token[start..][..n_cols]);
            padding.fill(0.0);
        }
    }
}
