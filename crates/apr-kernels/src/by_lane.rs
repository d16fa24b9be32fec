//! How rows and tokens lie in memory for products that go through them lane by lane.

/// The dot products of a panel of rows with a few tokens: lane by lane of the definition, and within a lane by ascending
/// columns.
///
/// Rows go by tiles of the set's `lane_tile_rows`; the last tile may have fewer, and its `w` is filled up with zeros.
pub(crate) struct LaneStrip<'a> {
    /// Unpacked weights: for each tile of rows the sixteen lanes in the order of [`LANE_AT`], each
    /// `[n_groups, lane_tile_rows]` and [`LANE_GAP`] more values.
    pub(crate) w: &'a [f32],
    /// `[16, n_groups, n_tokens]`, lanes in the same order; `n_groups` is not zero.
    pub(crate) x: &'a [f32],
    /// Rows that have results.
    pub(crate) n_rows: usize,
    /// The set's `lane_tile_tokens`, or one fewer.
    pub(crate) n_tokens: usize,
    /// Where the result of token 0 and row 0 goes; rows are adjacent.
    pub(crate) y: *mut f32,
    /// Values from one token's result to the next one's.
    pub(crate) y_stride: usize,
}

/// Lanes in the order in which they are summed up, so that the tree adds neighbours: first pairs, then pairs of pairs, and
/// so on.
pub(crate) const LANE_AT: [usize; 16] = [0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15];

/// Unused values after each lane of a tile. Lanes are written side by side, and without a gap those of some lengths would
/// compete for the same places in a cache.
pub(crate) const LANE_GAP: usize = 16;
