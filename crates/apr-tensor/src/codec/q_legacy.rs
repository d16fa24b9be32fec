//! Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and Q8_1: blocks of 32 integers with one f16 scale `d` and, for two of them, a minimum `m`.
//!
//! | dtype | bytes of a block | value |
//! |---|---|---|
//! | Q4_0 | `d` 2, `qs` 16 | `(q - 8) * d` |
//! | Q4_1 | `d` 2, `m` 2, `qs` 16 | `d * q + m` |
//! | Q5_0 | `d` 2, `qh` 4, `qs` 16 | `(q - 16) * d` |
//! | Q5_1 | `d` 2, `m` 2, `qh` 4, `qs` 16 | `d * q + m` |
//! | Q8_0 | `d` 2, `qs` 32 | `q * d` |
//! | Q8_1 | `d` 2, `s` 2, `qs` 32 | `q * d`; `s`, `d` times the sum of all `q`, saves a product its own sum |
//!
//! Byte `j` of a 16-byte `qs` holds element `j` in its low and element `j + 16` in its high nibble; bit `i` of `qh` is
//! the fifth bit of element `i`. Every product is exact in binary32 (at most 11 + 8 significant bits), so the only
//! rounding is that of the addition, and a fused multiply-add gives the same value.

use half::f16;

use super::search::TooLarge;
use super::{EncodeError, f16_at};
use crate::DType;

const BLOCK: usize = 32;

pub(super) fn decode_q4_0(src: &[u8], dst: &mut [f32]) {
    for (block, values) in src.as_chunks::<18>().0.iter().zip(dst.as_chunks_mut::<BLOCK>().0) {
        let d = f16_at(block, 0);
        for (j, byte) in block[2..].iter().enumerate() {
            values[j] = f32::from((byte & 15) as i8 - 8) * d;
            values[j + 16] = f32::from((byte >> 4) as i8 - 8) * d;
        }
    }
}

pub(super) fn decode_q4_1(src: &[u8], dst: &mut [f32]) {
    for (block, values) in src.as_chunks::<20>().0.iter().zip(dst.as_chunks_mut::<BLOCK>().0) {
        let (d, m) = (f16_at(block, 0), f16_at(block, 2));
        for (j, byte) in block[4..].iter().enumerate() {
            values[j] = d * f32::from(byte & 15) + m;
            values[j + 16] = d * f32::from(byte >> 4) + m;
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

pub(super) fn decode_q5_1(src: &[u8], dst: &mut [f32]) {
    for (block, values) in src.as_chunks::<24>().0.iter().zip(dst.as_chunks_mut::<BLOCK>().0) {
        let (d, m) = (f16_at(block, 0), f16_at(block, 2));
        let fifth_bits = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
        let fifth = |i: usize| ((fifth_bits >> i & 1) << 4) as u8;
        for (j, byte) in block[8..].iter().enumerate() {
            values[j] = d * f32::from(byte & 15 | fifth(j)) + m;
            values[j + 16] = d * f32::from(byte >> 4 | fifth(j + 16)) + m;
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

pub(super) fn decode_q8_1(src: &[u8], dst: &mut [f32]) {
    for (block, values) in src.as_chunks::<36>().0.iter().zip(dst.as_chunks_mut::<BLOCK>().0) {
        let d = f16_at(block, 0);
        for (value, byte) in values.iter_mut().zip(&block[4..]) {
            *value = f32::from(*byte as i8) * d;
        }
    }
}

/// Encodes block after block with `quantize`, which appends a block or says which of its values is too large.
pub(super) fn encode(
    dtype: DType,
    src: &[f32],
    dst: &mut Vec<u8>,
    quantize: fn(&[f32; BLOCK], &mut Vec<u8>) -> Result<(), TooLarge>,
) -> Result<(), EncodeError> {
    for (block_idx, values) in src.as_chunks::<BLOCK>().0.iter().enumerate() {
        quantize(values, dst).map_err(|TooLarge| {
            let in_block = index_of_extreme(values);
            EncodeError::ScaleOverflow { dtype, index: block_idx * BLOCK + in_block, value: values[in_block] }
        })?;
    }
    Ok(())
}

fn push_f16(value: f32, dst: &mut Vec<u8>) -> Result<(), TooLarge> {
    let value = f16::from_f32(value);
    if value.is_infinite() {
        return Err(TooLarge);
    }
    dst.extend(value.to_le_bytes());
    Ok(())
}

/// Position of the value of largest magnitude, the first one among equals.
pub(super) fn index_of_extreme(values: &[f32]) -> usize {
    // Magnitudes of finite numbers are ordered as their bits are.
    let magnitude = |value: &f32| (value.to_bits() & 0x7fff_ffff) as i32;
    let largest = values.iter().map(magnitude).fold(0, i32::max);
    values.iter().position(|value| magnitude(value) == largest).unwrap_or(0)
}

/// The nearest integer, halves away from zero, as `f32::round`, which is a call per value without SSE 4.1.
fn round(value: f32) -> i32 {
    let truncated = value as i32;
    let rest = value - truncated as f32;
    truncated + i32::from(rest >= 0.5) - i32::from(rest <= -0.5)
}

/// `1 / d`, or zero where the block has no scale or one too small to have a finite inverse.
fn inverse(d: f32) -> f32 {
    let inverse = 1.0 / d;
    if inverse.is_finite() { inverse } else { 0.0 }
}

/// Appends the low four bits of each code.
pub(super) fn push_nibbles(codes: &[u8; BLOCK], dst: &mut Vec<u8>) {
    dst.extend((0..16).map(|j| codes[j] & 15 | (codes[j + 16] & 15) << 4));
}

/// Appends the fifth bit of each code.
pub(super) fn push_fifth_bits(codes: &[u8; BLOCK], dst: &mut Vec<u8>) {
    let fifth_bits = (0..BLOCK).fold(0u32, |bits, i| bits | u32::from(codes[i] >> 4) << i);
    dst.extend(fifth_bits.to_le_bytes());
}

pub(super) fn q4_0_block(values: &[f32; BLOCK], dst: &mut Vec<u8>) -> Result<(), TooLarge> {
    // The extreme value becomes -8, the one code that has no positive counterpart.
    let d = values[index_of_extreme(values)] / -8.0;
    let inverse = inverse(d);
    push_f16(d, dst)?;
    push_nibbles(&values.map(|value| ((value * inverse + 8.5) as i32).min(15) as u8), dst);
    Ok(())
}

pub(super) fn q5_0_block(values: &[f32; BLOCK], dst: &mut Vec<u8>) -> Result<(), TooLarge> {
    let d = values[index_of_extreme(values)] / -16.0;
    let inverse = inverse(d);
    let codes = values.map(|value| ((value * inverse + 16.5) as i32).min(31) as u8);
    push_f16(d, dst)?;
    push_fifth_bits(&codes, dst);
    push_nibbles(&codes, dst);
    Ok(())
}

/// The codes `0..=largest` of values between the block's minimum and maximum; appends `d` and `m`.
fn affine_codes(values: &[f32; BLOCK], largest: u8, dst: &mut Vec<u8>) -> Result<[u8; BLOCK], TooLarge> {
    // The first one among equals, which decides the sign of a zero.
    let min = values.iter().fold(f32::MAX, |min, &value| if value < min { value } else { min });
    let max = values.iter().fold(f32::MIN, |max, &value| if value > max { value } else { max });
    let d = (max - min) / f32::from(largest);
    let inverse = inverse(d);
    push_f16(d, dst)?;
    push_f16(min, dst)?;
    Ok(values.map(|value| (((value - min) * inverse + 0.5) as i32).min(i32::from(largest)) as u8))
}

pub(super) fn q4_1_block(values: &[f32; BLOCK], dst: &mut Vec<u8>) -> Result<(), TooLarge> {
    let codes = affine_codes(values, 15, dst)?;
    push_nibbles(&codes, dst);
    Ok(())
}

pub(super) fn q5_1_block(values: &[f32; BLOCK], dst: &mut Vec<u8>) -> Result<(), TooLarge> {
    let codes = affine_codes(values, 31, dst)?;
    push_fifth_bits(&codes, dst);
    push_nibbles(&codes, dst);
    Ok(())
}

pub(super) fn q8_0_block(values: &[f32; BLOCK], dst: &mut Vec<u8>) -> Result<(), TooLarge> {
    let d = values[index_of_extreme(values)].abs() / 127.0;
    let inverse = inverse(d);
    push_f16(d, dst)?;
    dst.extend(values.map(|value| round(value * inverse) as i8 as u8));
    Ok(())
}
