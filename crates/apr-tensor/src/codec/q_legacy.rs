//! Q4_0, Q5_0 and Q8_0: blocks of 32 integers with one f16 scale `d`.
//!
//! | dtype | bytes of a block | value |
//! |---|---|---|
//! | Q4_0 | `d` 2, `qs` 16 | `(q - 8) * d` |
//! | Q5_0 | `d` 2, `qh` 4, `qs` 16 | `(q - 16) * d` |
//! | Q8_0 | `d` 2, `qs` 32 | `q * d` |
//!
//! Byte `j` of a 16-byte `qs` holds element `j` in its low and element `j + 16` in its high nibble; bit `i` of `qh` is
//! the fifth bit of element `i`. Every product is exact in binary32 (at most 11 + 8 significant bits).

use half::f16;

use super::{EncodeError, f16_to_f32};
use crate::DType;

const BLOCK: usize = 32;

fn f16_at(block: &[u8], offset: usize) -> f32 {
    f16_to_f32(u16::from_le_bytes([block[offset], block[offset + 1]]))
}

pub(super) fn decode_q4_0(src: &[u8], dst: &mut [f32]) {
    for (block, values) in src.as_chunks::<18>().0.iter().zip(dst.as_chunks_mut::<BLOCK>().0) {
        let d = f16_at(block, 0);
        for (j, byte) in block[2..].iter().enumerate() {
            values[j] = f32::from((byte & 15) as i8 - 8) * d;
            values[j + 16] = f32::from((byte >> 4) as i8 - 8) * d;
        }
    }
}

pub(super) fn decode_q5_0(src: &[u8], dst: &mut [f32]) {
    for (block, values) in src.as_chunks::<22>().0.iter().zip(dst.as_chunks_mut::<BLOCK>().0) {
        let d = f16_at(block, 0);
        let fifth_bits = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
        let fifth = |i: usize| ((fifth_bits >> i & 1) << 4) as i8;
        for (j, byte) in block[6..].iter().enumerate() {
            values[j] = f32::from(((byte & 15) as i8 | fifth(j)) - 16) * d;
            values[j + 16] = f32::from(((byte >> 4) as i8 | fifth(j + 16)) - 16) * d;
        }
    }
}

pub(super) fn decode_q8_0(src: &[u8], dst: &mut [f32]) {
    for (block, values) in src.as_chunks::<34>().0.iter().zip(dst.as_chunks_mut::<BLOCK>().0) {
        let d = f16_at(block, 0);
        for (byte, value) in block[2..].iter().zip(values) {
            *value = f32::from(*byte as i8) * d;
        }
    }
}

/// Encodes block after block with `quantize`, which appends the integers for the given inverse scale.
pub(super) fn encode(
    dtype: DType,
    src: &[f32],
    dst: &mut Vec<u8>,
    quantize: fn(&[f32; BLOCK], &mut Vec<u8>) -> f32,
) -> Result<(), EncodeError> {
    for (block_idx, values) in src.as_chunks::<BLOCK>().0.iter().enumerate() {
        let scale_at = dst.len();
        dst.extend([0, 0]);
        let d = f16::from_f32(quantize(values, dst));
        if d.is_infinite() {
            let in_block = index_of_extreme(values);
            let (index, value) = (block_idx * BLOCK + in_block, values[in_block]);
            return Err(EncodeError::ScaleOverflow { dtype, index, value });
        }
        dst[scale_at..scale_at + 2].copy_from_slice(&d.to_le_bytes());
    }
    Ok(())
}

/// Position of the value of largest magnitude, the first one among equals.
fn index_of_extreme(values: &[f32; BLOCK]) -> usize {
    (1..BLOCK).fold(0, |best, i| if values[i].abs() > values[best].abs() { i } else { best })
}

/// `1 / d`, or zero where the block has no scale or one too small to have a finite inverse.
fn inverse(d: f32) -> f32 {
    let inverse = 1.0 / d;
    if inverse.is_finite() { inverse } else { 0.0 }
}

/// Appends the integers of a Q4_0 block and returns its scale.
pub(super) fn q4_0_block(values: &[f32; BLOCK], dst: &mut Vec<u8>) -> f32 {
    // The extreme value becomes -8, the one code that has no positive counterpart.
    let d = values[index_of_extreme(values)] / -8.0;
    let inverse = inverse(d);
    let code = |value: f32| ((value * inverse + 8.5) as u8).min(15);
    dst.extend((0..16).map(|j| code(values[j]) | code(values[j + 16]) << 4));
    d
}

/// Appends the fifth bits and integers of a Q5_0 block and returns its scale.
pub(super) fn q5_0_block(values: &[f32; BLOCK], dst: &mut Vec<u8>) -> f32 {
    let d = values[index_of_extreme(values)] / -16.0;
    let inverse = inverse(d);
    let codes = values.map(|value| ((value * inverse + 16.5) as u8).min(31));
    let fifth_bits = (0..BLOCK).fold(0u32, |bits, i| bits | u32::from(codes[i] >> 4) << i);
    dst.extend(fifth_bits.to_le_bytes());
    dst.extend((0..16).map(|j| codes[j] & 15 | (codes[j + 16] & 15) << 4));
    d
}

/// Appends the integers of a Q8_0 block and returns its scale.
pub(super) fn q8_0_block(values: &[f32; BLOCK], dst: &mut Vec<u8>) -> f32 {
    let d = values[index_of_extreme(values)].abs() / 127.0;
    let inverse = inverse(d);
    dst.extend(values.map(|value| (value * inverse).round() as i8 as u8));
    d
}
