//! Tensor shapes: a dimension list whose product is known to fit.

use std::fmt;

/// Most dimensions a tensor may have (APR's limit; GGUF allows four).
pub const MAX_DIMS: usize = 8;

/// Dimensions in row-major order, slowest first: a linear weight is `[out, in]`, whatever the file lists.
///
/// The product of the dimensions is checked once, here, so [`Shape::n_elements`] cannot overflow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: Vec<usize>,
    n_elements: usize,
}

/// Why a list of dimensions is not a shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// More than [`MAX_DIMS`] dimensions.
    #[error("{found} dimensions, at most {MAX_DIMS} are supported")]
    TooManyDims {
        /// How many there were.
        found: usize,
    },
    /// The element count does not fit in the address space.
    #[error("element count of {dims:?} overflows")]
    Overflow {
        /// The offending dimensions.
        dims: Vec<u64>,
    },
}

impl Shape {
    /// Checks and stores row-major dimensions. No dimensions means one element.
    pub fn new(dims: &[u64]) -> Result<Self, ShapeError> {
        if dims.len() > MAX_DIMS {
            return Err(ShapeError::TooManyDims { found: dims.len() });
        }
        let overflow = || ShapeError::Overflow { dims: dims.to_vec() };
        let sizes = dims.iter().map(|&d| usize::try_from(d)).collect::<Result<Vec<_>, _>>().map_err(|_| overflow())?;
        // A zero dimension must not hide an overflow of the others from code that multiplies a prefix.
        sizes.iter().filter(|&&d| d != 0).try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(overflow)?;
        let n_elements = sizes.iter().product();
        Ok(Self { dims: sizes, n_elements })
    }

    /// Dimensions, slowest first.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Product of the dimensions.
    pub fn n_elements(&self) -> usize {
        self.n_elements
    }

    /// Length of the fastest dimension: the row that blocks may not cross.
    pub fn row_elements(&self) -> usize {
        self.dims.last().copied().unwrap_or(1)
    }

    /// Number of rows: the product of all but the last dimension.
    pub fn n_rows(&self) -> usize {
        self.dims.split_last().map_or(1, |(_, slower)| slower.iter().product())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.dims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn product_is_checked_even_beside_a_zero() {
        assert_eq!(Shape::new(&[2, 3]).unwrap().n_elements(), 6);
        assert_eq!(Shape::new(&[]).unwrap().n_elements(), 1);
        assert!(matches!(Shape::new(&[1 << 40, 1 << 40]), Err(ShapeError::Overflow { .. })));
        assert!(matches!(Shape::new(&[0, 1 << 40, 1 << 40]), Err(ShapeError::Overflow { .. })));
        assert!(matches!(Shape::new(&[1; 9]), Err(ShapeError::TooManyDims { found: 9 })));
    }

    #[test]
    fn rows_follow_the_last_dimension() {
        let shape = Shape::new(&[4, 5, 6]).unwrap();
        assert_eq!((shape.n_rows(), shape.row_elements()), (20, 6));
    }
}
