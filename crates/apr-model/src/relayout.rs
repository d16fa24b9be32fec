//! The real differences between what formats store of one tensor: the row order of q and k, matrices with inputs and
//! outputs exchanged, and gains that count from zero or from one.

use apr_tensor::Shape;

/// How what a file stores relates to the canonical tensor (that of Transformers).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Relayout {
    /// Stored is canonical.
    Identity,
    /// Stored for interleaved rotary pairs: within each head of `head_dim` rows, stored row `2i + j` is canonical
    /// row `i + j * head_dim / 2`. llama.cpp's converter does this to q and k of its `llama` type.
    RotaryInterleaved {
        /// Rows of one head.
        head_dim: usize,
    },
    /// Stored columns are canonical rows. llama.cpp's converter does this to the matrices of GPT-2, which Transformers
    /// stores as `[inputs, outputs]`.
    Transposed,
    /// Stored values are one plus canonical values, rounded to the stored dtype. llama.cpp's converter does this to the
    /// norms of Gemma, which Transformers adds one to when it computes.
    PlusOne,
}

impl Relayout {
    /// Whether a canonical tensor of this shape can be stored so.
    pub fn fits(self, shape: &Shape) -> bool {
        let rows = if shape.dims().len() == 1 { shape.n_elements() } else { shape.n_rows() };
        match self {
            Relayout::Identity | Relayout::PlusOne => true,
            Relayout::RotaryInterleaved { head_dim } => rows.is_multiple_of(head_dim),
            Relayout::Transposed => shape.dims().len() == 2,
        }
    }

    /// Whether rows stand in another order.
    pub fn moves_rows(self) -> bool {
        matches!(self, Relayout::RotaryInterleaved { .. })
    }

    /// The stored shape of a tensor whose canonical shape is `shape`, and the other way about.
    pub fn stored_shape(self, shape: &Shape) -> Shape {
        match self {
            Relayout::Transposed => {
                let dims: Vec<u64> = shape.dims().iter().rev().map(|&dim| dim as u64).collect();
                Shape::new(&dims).expect("the same dimensions")
            }
            _ => shape.clone(),
        }
    }

    /// What is added to canonical values before they are stored.
    pub fn offset(self) -> f32 {
        if self == Relayout::PlusOne { 1.0 } else { 0.0 }
    }

    /// The canonical row that stored row `row` holds, where rows are stored whole.
    pub fn canonical_row(self, row: usize) -> usize {
        match self {
            Relayout::RotaryInterleaved { head_dim } => {
                let (head, within) = (row / head_dim, row % head_dim);
                head * head_dim + within / 2 + (within % 2) * (head_dim / 2)
            }
            _ => row,
        }
    }

    /// The stored row that holds canonical row `row`, where rows are stored whole.
    pub fn stored_row(self, row: usize) -> usize {
        match self {
            Relayout::RotaryInterleaved { head_dim } => {
                let (head, within) = (row / head_dim, row % head_dim);
                let half = head_dim / 2;
                head * head_dim + 2 * (within % half) + within / half
            }
            _ => row,
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
