//! Byte order: which bytes of a block belong to one number.
//!
//! Everything in this project is little-endian. Only a GGUF file may be big-endian, and its blocks become little-endian
//! as they are read and big-endian again on the way back: swapping twice gives the same bytes.

use crate::{Bytes, DType, Storage};
use std::sync::OnceLock;

/// The order of the bytes of a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ByteOrder {
    /// The first byte is the lowest.
    #[default]
    Little,
    /// The first byte is the highest.
    Big,
}

/// Numbers of one width that follow each other in a block.
struct Run {
    offset: usize,
    width: usize,
    n: usize,
}

const fn run(offset: usize, width: usize, n: usize) -> Run {
    Run { offset, width, n }
}

/// The numbers of more than one byte in a block; None where a big-endian block is not well defined.
///
/// Source: the fields that ggml's `ggml-common.h` declares, and for Q1_0, Q4_0, Q8_0, Q4_K, Q6_K, TQ2_0, MXFP4 and NVFP4
/// also gguf-py's `gguf_convert_endian`. In the dtypes without an answer ggml declares bytes, or numbers of two, and reads
/// wider ones from them in the order of its machine, so a converter and a machine would disagree.
const fn numbers(dtype: DType) -> Option<&'static [Run]> {
    Some(match dtype {
        DType::F32 => const { &[run(0, 4, 1)] },
        DType::F16 | DType::BF16 => const { &[run(0, 2, 1)] },
        DType::Q4_0 | DType::Q8_0 | DType::IQ4NL | DType::Q1_0 | DType::Q2_0 => const { &[run(0, 2, 1)] },
        DType::IQ2S | DType::IQ3S => const { &[run(0, 2, 1)] },
        // Scale and minimum, or scale and high bits of the scales.
        DType::Q4_1 | DType::Q4K | DType::Q5K | DType::IQ4XS => const { &[run(0, 2, 2)] },
        DType::Q2K => const { &[run(80, 2, 2)] },
        DType::Q3K => const { &[run(108, 2, 1)] },
        DType::Q6K => const { &[run(208, 2, 1)] },
        DType::TQ1_0 => const { &[run(52, 2, 1)] },
        DType::TQ2_0 => const { &[run(64, 2, 1)] },
        // The scale, and 16 bits for each grid point or for the rest of each group.
        DType::IQ2XS => const { &[run(0, 2, 33)] },
        DType::IQ1S => const { &[run(0, 2, 1), run(34, 2, 8)] },
        // Bytes only.
        DType::MXFP4 | DType::NVFP4 | DType::I8 => const { &[] },
        DType::I16 => const { &[run(0, 2, 1)] },
        DType::I32 => const { &[run(0, 4, 1)] },
        DType::I64 | DType::F64 => const { &[run(0, 8, 1)] },
        DType::Q8_1 => const { &[run(0, 2, 2)] },
        // The scale; then, behind the integers, their sums.
        DType::Q8K => const { &[run(0, 4, 1), run(260, 2, 16)] },
        DType::Q5_0 | DType::Q5_1 | DType::IQ2XXS | DType::IQ3XXS | DType::IQ1M => return None,
        // Not in GGUF.
        _ => return None,
    })
}

impl DType {
    /// Whether a big-endian block of this dtype is well defined.
    pub fn has_big_endian_blocks(self) -> bool {
        numbers(self).is_some()
    }
}

/// Swaps the bytes of every number in whole blocks of `dtype`, to the other order.
///
/// # Panics
/// If the blocks are not whole, or a big-endian block of this dtype is not well defined.
pub fn swap_blocks(dtype: DType, bytes: &mut [u8]) {
    let runs = numbers(dtype).expect("the reader asked whether the blocks are well defined");
    let block_bytes = dtype.info().block_bytes;
    assert!(bytes.len().is_multiple_of(block_bytes), "whole blocks");
    for block in bytes.chunks_exact_mut(block_bytes) {
        for Run { offset, width, n } in runs {
            block[*offset..offset + width * n].chunks_exact_mut(*width).for_each(<[u8]>::reverse);
        }
    }
}

/// The little-endian form of big-endian blocks, made when it is first read.
///
/// # Panics
/// As [`swap_blocks`], once they are read.
pub fn little_endian(dtype: DType, stored: Bytes) -> Bytes {
    Bytes::new(Swapped { dtype, stored, swapped: OnceLock::new() })
}

struct Swapped {
    dtype: DType,
    stored: Bytes,
    swapped: OnceLock<Vec<u8>>,
}

impl Storage for Swapped {
    fn as_bytes(&self) -> &[u8] {
        self.swapped.get_or_init(|| {
            let mut bytes = self.stored.to_vec();
            self.stored.release();
            swap_blocks(self.dtype, &mut bytes);
            bytes
        })
    }

    fn len(&self) -> usize {
        self.stored.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DTYPES;

    #[test]
    fn swapping_twice_changes_nothing_and_once_changes_the_numbers_alone() {
        let mut defined = 0;
        for row in DTYPES.iter().filter(|row| row.dtype.has_big_endian_blocks()) {
            let before: Vec<u8> = (0..2 * row.block_bytes).map(|i| (i * 37 % 251) as u8).collect();
            let mut bytes = before.clone();
            swap_blocks(row.dtype, &mut bytes);
            let mut sorted = [before.clone(), bytes.clone()];
            sorted.iter_mut().for_each(|bytes| bytes.sort_unstable());
            assert_eq!(sorted[0], sorted[1], "{}: bytes move, none changes", row.name);
            swap_blocks(row.dtype, &mut bytes);
            assert_eq!(bytes, before, "{}", row.name);
            defined += 1;
        }
        assert_eq!(defined, DTYPES.iter().filter(|row| row.dtype.ggml_id().is_some()).count() - 5);
    }

    #[test]
    fn a_number_reads_the_same_in_either_order() {
        let stored = [1.5f32, -2.0e-9, f32::NAN].map(f32::to_be_bytes).concat();
        let little = little_endian(DType::F32, Bytes::from(stored));
        assert_eq!(little.len(), 12);
        assert_eq!(*little, [1.5f32, -2.0e-9, f32::NAN].map(f32::to_le_bytes).concat());
        assert_eq!(*little.slice(4..8).unwrap(), (-2.0e-9f32).to_le_bytes());
    }
}
