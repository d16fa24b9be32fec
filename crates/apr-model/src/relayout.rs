//! The one real re-arrangement between formats: the row order of q and k.

/// How the rows stored in a file relate to canonical rows (the half-split order of Transformers).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Relayout {
    /// Stored rows are canonical rows.
    Identity,
    /// Stored for interleaved rotary pairs: within each head of `head_dim` rows, stored row `2i + j` is canonical
    /// row `i + j * head_dim / 2`. llama.cpp's converter does this to q and k of its `llama` type.
    RotaryInterleaved {
        /// Rows of one head.
        head_dim: usize,
    },
}

impl Relayout {
    /// Whether `rows` rows can be in this order: they must be whole heads.
    pub fn fits(self, rows: usize) -> bool {
        match self {
            Relayout::Identity => true,
            Relayout::RotaryInterleaved { head_dim } => rows.is_multiple_of(head_dim),
        }
    }

    /// The canonical row that stored row `row` holds.
    pub fn canonical_row(self, row: usize) -> usize {
        match self {
            Relayout::Identity => row,
            Relayout::RotaryInterleaved { head_dim } => {
                let (head, within) = (row / head_dim, row % head_dim);
                head * head_dim + within / 2 + (within % 2) * (head_dim / 2)
            }
        }
    }

    /// The stored row that holds canonical row `row`.
    pub fn stored_row(self, row: usize) -> usize {
        match self {
            Relayout::Identity => row,
            Relayout::RotaryInterleaved { head_dim } => {
                let (head, within) = (row / head_dim, row % head_dim);
                let half = head_dim / 2;
                head * head_dim + 2 * (within % half) + within / half
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_and_canonical_rows_are_inverse() {
        let relayout = Relayout::RotaryInterleaved { head_dim: 8 };
        for row in 0..24 {
            assert_eq!(relayout.canonical_row(relayout.stored_row(row)), row);
        }
        assert_eq!((0..8).map(|r| relayout.canonical_row(r)).collect::<Vec<_>>(), [0, 4, 1, 5, 2, 6, 3, 7]);
    }
}
