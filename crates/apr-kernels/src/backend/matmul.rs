//! Products with weight matrices.

use super::by_lane::{MIN_COLS, MIN_TOKENS};
use super::{Backend, CALL, TASK, with_scratch};
use crate::matrix::Matrix;
use crate::pool::Disjoint;
use crate::set::Strip;
use std::ops::Range;

/// Bytes of weights that a task of a matrix-vector product reads at least, so that handing out tasks costs little.
const MIN_TASK_BYTES: usize = 32 << 10;
/// The most it reads, so that threads finish at nearly the same time.
const MAX_TASK_BYTES: usize = 256 << 10;
/// Rows that a matrix-vector task takes a multiple of: the most streams that kernels run side by side.
const ROWS_SIDE_BY_SIDE: usize = 8;

/// The most rows that a task of a matrix-matrix product takes. Unpacked to [`DEPTH`], they fill a part of the
/// second-level cache.
const PANEL_ROWS: usize = 64;
/// The most values of a row that are unpacked at a time: a tile's tokens this deep fill half of the first-level cache. A
/// multiple of every block and of 16.
const DEPTH: usize = 1024;

/// The most tokens whose weights take longer to arrive from memory than to be used. Rows then go by single tiles, each row
/// of a tile out of a stream of its own, which the processor sees coming while the tile before is at work; beyond, panels
/// of neighbouring rows are faster, because a strip of tokens stays for many tiles.
const MAX_STREAMED_TOKENS: usize = 32;
/// Rows of a task whose rows are streamed, if there are enough: few tasks for a small matrix, long streams for a large one.
const STREAMED_ROWS: Range<usize> = 32..128;

/// One of several products with the same vectors: `y[t, r] = dot(w[r], x[t])`.
#[derive(Debug)]
pub struct Product<'a> {
    /// The weights, `[rows, cols]`.
    pub w: Matrix<'a>,
    /// The results, `[n, rows]`.
    pub y: &'a mut [f32],
}

impl Backend {
    /// `y[t, r] = dot(w[r], x[t])` for `n` tokens: `x` is `[n, cols]`, `y` is `[n, rows]`.
    ///
    /// # Panics
    /// If the lengths contradict each other.
    pub fn matmul(&self, w: &Matrix<'_>, x: &[f32], y: &mut [f32]) {
        self.matmul_each(x, &mut [Product { w: *w, y }]);
    }

    /// Several products with the same `x`, `[n, cols]`, as one piece of work: it is packed once, and threads wait for
    /// each other once.
    ///
    /// # Panics
    /// If the lengths contradict each other, or matrices have different numbers of columns.
    pub fn matmul_each(&self, x: &[f32], products: &mut [Product<'_>]) {
        let Some(cols) = products.first().map(|product| product.w.cols()) else { return };
        let n = x.len().checked_div(cols);
        for Product { w, y } in &mut *products {
            assert_eq!(w.cols(), cols, "matrices for the same vectors");
            match n {
                Some(n) if w.rows() > 0 => {
                    assert_eq!(x.len(), n * cols, "x is [n, {cols}]");
                    assert_eq!(y.len(), n * w.rows(), "y is [{n}, {}]", w.rows());
                }
                // A dimension of zero leaves `n` open in one of the lengths, and every sum empty.
                _ => {
                    assert!(if w.rows() == 0 { y.is_empty() } else { x.is_empty() }, "{} × {cols} matrix", w.rows());
                    y.fill(0.0);
                }
            }
        }
        match n {
            None | Some(0) => {}
            Some(1) => self.matvec_each(x, products),
            Some(n) if n >= MIN_TOKENS && cols >= MIN_COLS => self.matmul_by_lane(n, x, products),
            Some(n) => self.matmul_by_panels(n, x, products),
        }
    }

    fn matvec_each(&self, x: &[f32], products: &mut [Product<'_>]) {
        let total_bytes: usize = products.iter().map(|product| product.w.n_bytes()).sum();
        let task_bytes = (total_bytes / (8 * self.n_threads())).clamp(MIN_TASK_BYTES, MAX_TASK_BYTES);
        let tasks = TaskList::new(products, |w| {
            task_bytes.div_ceil(w.row_range(0, 1).len().max(1)).next_multiple_of(ROWS_SIDE_BY_SIDE)
        });
        // Every row reads all of `x`, which is worth a copy that starts at a cache line.
        with_scratch(&CALL, x.len(), |aligned| {
            aligned.copy_from_slice(x);
            let x = &*aligned;
            self.pool.run(tasks.len(), &|i| {
                let (w, y, first_row, n_rows) = tasks.get(i);
                // SAFETY: tasks have different rows, and each runs once.
                let y = unsafe { y.part(first_row..first_row + n_rows) };
                // SAFETY: holding the set proves its instructions; the matrix has whole rows of `x.len()` weights.
                unsafe { (self.set.matvec)(w.dtype(), w.row_range(first_row, n_rows), x, y) }
            });
        });
    }

    /// Some rows are a task, and a panel or several. A panel is unpacked a depth at a time, interleaved by groups of sixteen,
    /// and tiles of tokens pass over it. Where rows take more than one depth there are fewer than [`MIN_TOKENS`], whose running
    /// sums stay in the second-level cache.
    fn matmul_by_panels(&self, n: usize, x: &[f32], products: &mut [Product<'_>]) {
        let cols = x.len() / n;
        let padded_cols = cols.next_multiple_of(16);
        let n_rows: usize = products.iter().map(|product| product.w.rows()).sum();
        let tile_rows = self.set.tile_rows;
        let is_streamed = n <= MAX_STREAMED_TOKENS;
        let task_rows = if is_streamed {
            n_rows.div_ceil(8 * self.n_threads()).clamp(STREAMED_ROWS.start, STREAMED_ROWS.end)
        } else {
            n_rows.div_ceil(2 * self.n_threads()).min(PANEL_ROWS)
        };
        let tasks = TaskList::new(products, |_| task_rows.next_multiple_of(tile_rows));
        with_scratch(&CALL, n * padded_cols, |packed| {
            self.pack(n, x, cols, padded_cols, packed);
            let packed = &*packed;
            self.pool.run(tasks.len(), &|i| {
                let (w, y, first, n_rows) = tasks.get(i);
                // SAFETY: tasks have different rows, and each runs once.
                let panel = |rows: PanelRows| unsafe { self.panel(n, packed, padded_cols, w, rows, y.start()) };
                let stream_rows = if is_streamed { n_rows / tile_rows } else { 0 };
                for i in 0..stream_rows {
                    panel(PanelRows { first: first + i, count: tile_rows, stride: stream_rows });
                }
                let n_done = stream_rows * tile_rows;
                if n_done < n_rows {
                    panel(PanelRows { first: first + n_done, count: n_rows - n_done, stride: 1 });
                }
            });
        });
    }

    /// The products of some rows with all tokens: row `r` of token `t` goes to `y[t * w.rows() + r]`.
    ///
    /// # Safety
    /// `y` is valid for these writes, and nobody else reads or writes there.
    unsafe fn panel(&self, n: usize, packed: &[f32], padded_cols: usize, w: &Matrix<'_>, rows: PanelRows, y: *mut f32) {
        let (tile_rows, max_tokens) = (self.set.tile_rows, self.set.tile_tokens);
        let padded_rows = rows.count.next_multiple_of(tile_rows);
        let depth_at_once = slice_depth(padded_cols);
        // Sums that end in the first slice need no memory.
        let strip_sums = if depth_at_once < padded_cols { padded_rows * max_tokens * 16 } else { 0 };
        with_scratch(&TASK, padded_rows * depth_at_once + n.div_ceil(max_tokens) * strip_sums, |scratch| {
            let (panel, sums) = scratch.split_at_mut(padded_rows * depth_at_once);
            for start in (0..padded_cols).step_by(depth_at_once) {
                let depth = depth_at_once.min(padded_cols - start);
                let panel = &mut panel[..padded_rows * depth];
                self.unpack(w, rows, start, depth, panel);
                for (i, token) in (0..n).step_by(max_tokens).enumerate() {
                    let n_tokens = max_tokens.min(n - token);
                    let strip = Strip {
                        w: panel,
                        x: &packed[n * start + token * depth..][..n_tokens * depth],
                        n_rows: rows.count,
                        n_tokens,
                        max_tokens,
                        is_first: start == 0,
                        is_last: start + depth == padded_cols,
                        sums: &mut sums[i * strip_sums..][..strip_sums],
                        y: y.wrapping_add(token * w.rows() + rows.first),
                        y_stride: w.rows(),
                        row_stride: rows.stride,
                    };
                    // SAFETY: holding the set proves its instructions; the slices were cut to the strip.
                    unsafe { (self.set.strip)(strip) }
                }
            }
        });
    }

    /// Unpacks columns `start..start + depth` of some rows into `panel`: for each tile of rows `[depth / 16, tile_rows, 16]`,
    /// with zeros beyond the last column and the last row.
    fn unpack(&self, w: &Matrix<'_>, rows: PanelRows, start: usize, depth: usize, panel: &mut [f32]) {
        let tile_rows = self.set.tile_rows;
        let n_cols = depth.min(w.cols() - start);
        for (first, tile) in (0..).step_by(tile_rows).zip(panel.chunks_exact_mut(tile_rows * depth)) {
            if first + tile_rows > rows.count {
                tile.fill(0.0);
            }
            for i in first..rows.count.min(first + tile_rows) {
                let stored = w.part_of_row(rows.first + i * rows.stride, start, n_cols);
                // SAFETY: holding the set proves its instructions; `stored` is `n_cols` weights, whose groups fit between
                // the row's first and the tile's end.
                unsafe { (self.set.unpack)(w.dtype(), stored, n_cols, &mut tile[(i - first) * 16..], tile_rows) }
            }
        }
    }

    /// Copies `x`, `[n, cols]`, into slices of [`slice_depth`] columns, each by tiles of tokens: a tile is
    /// `[depth / 16, n_tokens, 16]`, with zeros beyond `cols`.
    fn pack(&self, n: usize, x: &[f32], cols: usize, padded_cols: usize, packed: &mut [f32]) {
        let tile_tokens = self.set.tile_tokens;
        let depth_at_once = slice_depth(padded_cols);
        let packed = Disjoint::new(packed);
        self.pool.run(n.div_ceil(tile_tokens), &|i| {
            let first = i * tile_tokens;
            let n_tokens = tile_tokens.min(n - first);
            for start in (0..padded_cols).step_by(depth_at_once) {
                let depth = depth_at_once.min(padded_cols - start);
                let at = n * start + first * depth;
                // SAFETY: tiles do not overlap, and each task writes its own.
                let tile = unsafe { packed.part(at..at + n_tokens * depth) };
                for (t, token) in x[first * cols..].chunks_exact(cols).take(n_tokens).enumerate() {
                    let values = &token[start..cols.min(start + depth)];
                    let groups = tile.chunks_exact_mut(n_tokens * 16).map(|group| &mut group[t * 16..][..16]);
                    for (values, group) in values.chunks(16).zip(groups) {
                        let (copied, padding) = group.split_at_mut(values.len());
                        copied.copy_from_slice(values);
                        padding.fill(0.0);
                    }
                }
            }
        });
    }
}

/// Rows `first`, `first + stride`, … of a matrix, `count` of them.
#[derive(Clone, Copy)]
struct PanelRows {
    first: usize,
    count: usize,
    stride: usize,
}

/// How deep the slices of a dot product of `padded_cols` are: equal ones, of whole blocks.
fn slice_depth(padded_cols: usize) -> usize {
    if padded_cols <= DEPTH {
        return padded_cols;
    }
    padded_cols.div_ceil(padded_cols.div_ceil(DEPTH)).next_multiple_of(256)
}

/// Rows of several matrices, cut into tasks.
pub(super) struct TaskList<'a> {
    parts: Vec<Part<'a>>,
}

/// The tasks of one matrix.
struct Part<'a> {
    w: Matrix<'a>,
    y: Disjoint<'a, f32>,
    first_task: usize,
    n_tasks: usize,
    rows_per_task: usize,
}

impl<'a> TaskList<'a> {
    pub(super) fn new(products: &'a mut [Product<'_>], rows_per_task: impl Fn(&Matrix<'_>) -> usize) -> Self {
        let mut first_task = 0;
        let parts = products.iter_mut().filter(|product| product.w.rows() > 0).map(|Product { w, y }| {
            let rows_per_task = rows_per_task(w);
            let n_tasks = w.rows().div_ceil(rows_per_task);
            let part = Part { w: *w, y: Disjoint::new(y), first_task, n_tasks, rows_per_task };
            first_task += n_tasks;
            part
        });
        Self { parts: parts.collect() }
    }

    pub(super) fn len(&self) -> usize {
        self.parts.last().map_or(0, |part| part.first_task + part.n_tasks)
    }

    /// Matrix, results, first row and number of rows of a task.
    pub(super) fn get(&self, task: usize) -> (&Matrix<'a>, &Disjoint<'a, f32>, usize, usize) {
        let part = self.parts.iter().rfind(|part| part.first_task <= task).expect("tasks are counted from zero");
        let first_row = (task - part.first_task) * part.rows_per_task;
        (&part.w, &part.y, first_row, part.rows_per_task.min(part.w.rows() - first_row))
    }
}
