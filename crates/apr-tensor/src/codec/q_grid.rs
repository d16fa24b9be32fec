//! IQ1, IQ2 and IQ3: blocks of 256 whose codes are points of a grid, eight or four numbers at a time.
//!
//! | dtype | bytes of a block | scale of a group | numbers |
//! |---|---|---|---|
//! | IQ2_XXS | `d` 2, 8 × (`qs` 4, signs and scale 4) | `d * (0.5 + s) * 0.25`, groups of 32 | 8, 25, 43 with signs |
//! | IQ2_XS | `d` 2, `qs` 32 × 2 with signs, `scales` 8 | `d * (0.5 + s) * 0.25`, groups of 16 | the same |
//! | IQ2_S | `d` 2, `qs` 32, `signs` 32, `qh` 8, `scales` 8 | `d * (0.5 + s) * 0.25`, groups of 16 | the same |
//! | IQ3_XXS | `d` 2, `qs` 64, signs and scales 32 | `d * (0.5 + s) * 0.5`, groups of 32 | 4, 12, … 52, 62 with signs |
//! | IQ3_S | `d` 2, `qs` 64, `qh` 8, `signs` 32, `scales` 4 | `d * (1 + 2 * s)`, groups of 32 | 1, 3, … 15 with signs |
//! | IQ1_S | `d` 2, `qs` 32, `qh` 8 × 2 | `d * (1 + 2 * s)`, groups of 32 | -1, 0, 1, all ± 0.125 |
//! | IQ1_M | `qs` 32, `qh` 16, `scales` 4 × 2 with `d` | `d * (1 + 2 * s)`, groups of 16 | the same |
//!
//! A value is scale × number. It has at most 11 + 5 + 6 significant bits and is exact in binary32, as is every step.

use super::{f16_at, grids};
use crate::codec::f16_to_f32;

const BLOCK: usize = 256;
/// What the codes of the IQ2 grids stand for.
const IQ2: [f32; 3] = [8.0, 25.0, 43.0];
/// What the codes of the IQ3_XXS grid stand for.
const IQ3_XXS: [f32; 8] = [4.0, 12.0, 20.0, 28.0, 36.0, 44.0, 52.0, 62.0];
/// What the codes of the IQ3_S grid stand for.
const IQ3_S: [f32; 8] = [1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 15.0];

pub(super) fn u16_at(block: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes([block[offset], block[offset + 1]])
}

pub(super) fn u32_at(block: &[u8], offset: usize) -> u32 {
    u32::from(u16_at(block, offset)) | u32::from(u16_at(block, offset + 2)) << 16
}

/// Nibble `i` of packed bytes, low ones first.
pub(super) fn nibble(packed: &[u8], i: usize) -> f32 {
    f32::from(packed[i / 2] >> (i % 2 * 4) & 15)
}

/// Eight sign bits from seven: an even number of values is negative.
fn signs_of(seven: u32) -> u8 {
    let seven = (seven & 127) as u8;
    seven | ((seven.count_ones() & 1) as u8) << 7
}

/// Two-bit code `j` of a point.
fn two_bits(point: u16, j: usize) -> usize {
    usize::from(point >> (2 * j) & 3)
}

/// Scales numbers and gives them the signs of `signs`, the first in the lowest bit.
fn signed(values: &mut [f32], scale: f32, signs: u8, number: impl Fn(usize) -> f32) {
    for (j, value) in values.iter_mut().enumerate() {
        let sign = if signs >> j & 1 == 0 { 1.0 } else { -1.0 };
        *value = scale * number(j) * sign;
    }
}

pub(super) fn decode_iq2_xxs(src: &[u8], dst: &mut [f32]) {
    for (block, values) in src.as_chunks::<66>().0.iter().zip(dst.as_chunks_mut::<BLOCK>().0) {
        let d = f16_at(block, 0);
        for (group, values) in block[2..].as_chunks::<8>().0.iter().zip(values.as_chunks_mut::<32>().0) {
            let signs_and_scale = u32_at(group, 4);
            let scale = d * (0.5 + (signs_and_scale >> 28) as f32) * 0.25;
            for (i, values) in values.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                let point = grids::IQ2_XXS[usize::from(group[i])];
                let signs = signs_of(signs_and_scale >> (7 * i));
                signed(values, scale, signs, |j| IQ2[two_bits(point, j)]);
            }
        }
    }
}

pub(super) fn decode_iq2_xs(src: &[u8], dst: &mut [f32]) {
    for (block, values) in src.as_chunks::<74>().0.iter().zip(dst.as_chunks_mut::<BLOCK>().0) {
        let (d, scales) = (f16_at(block, 0), &block[66..]);
        for (i, values) in values.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            // Nine bits of index, seven of signs.
            let code = u16_at(block, 2 + 2 * i);
            let point = grids::IQ2_XS[usize::from(code & 511)];
            let scale = d * (0.5 + nibble(scales, i / 2)) * 0.25;
            signed(values, scale, signs_of(u32::from(code >> 9)), |j| IQ2[two_bits(point, j)]);
        }
    }
}

pub(super) fn decode_iq2_s(src: &[u8], dst: &mut [f32]) {
    for (block, values) in src.as_chunks::<82>().0.iter().zip(dst.as_chunks_mut::<BLOCK>().0) {
        let (d, qs, signs) = (f16_at(block, 0), &block[2..34], &block[34..66]);
        let (qh, scales) = (&block[66..74], &block[74..]);
        for (i, values) in values.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let high = usize::from(qh[i / 4] >> (i % 4 * 2) & 3);
            let point = grids::IQ2_S[usize::from(qs[i]) | high << 8];
            let scale = d * (0.5 + nibble(scales, i / 2)) * 0.25;
            signed(values, scale, signs[i], |j| IQ2[two_bits(point, j)]);
        }
    }
}

pub(super) fn decode_iq3_xxs(src: &[u8], dst: &mut [f32]) {
    for (block, values) in src.as_chunks::<98>().0.iter().zip(dst.as_chunks_mut::<BLOCK>().0) {
        let (d, qs) = (f16_at(block, 0), &block[2..66]);
        for (i, values) in values.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let signs_and_scale = u32_at(block, 66 + i / 4 * 4);
            let scale = d * (0.5 + (signs_and_scale >> 28) as f32) * 0.5;
            let points = [2 * i, 2 * i + 1].map(|at| grids::IQ3_XXS[usize::from(qs[at])]);
            let signs = signs_of(signs_and_scale >> (i % 4 * 7));
            signed(values, scale, signs, |j| IQ3_XXS[usize::from(points[j / 4] >> (j % 4 * 4) & 7)]);
        }
    }
}

pub(super) fn decode_iq3_s(src: &[u8], dst: &mut [f32]) {
    for (block, values) in src.as_chunks::<110>().0.iter().zip(dst.as_chunks_mut::<BLOCK>().0) {
        let (d, qs, qh) = (f16_at(block, 0), &block[2..66], &block[66..74]);
        let (signs, scales) = (&block[74..106], &block[106..]);
        for (i, values) in values.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let points = [2 * i, 2 * i + 1].map(|at| {
                let ninth = usize::from(qh[at / 8] >> (at % 8) & 1);
                grids::IQ3_S[usize::from(qs[at]) | ninth << 8]
            });
            let scale = d * (1.0 + 2.0 * nibble(scales, i / 4));
            signed(values, scale, signs[i], |j| IQ3_S[usize::from(points[j / 4] >> (j % 4 * 4) & 7)]);
        }
    }
}

/// Decodes eight values of an IQ1 type: `low` and the low three bits of `high` are the index of a point, whose numbers
/// are all shifted one way.
fn decode_iq1(values: &mut [f32; 8], scale: f32, low: u8, high: u16, shifted_down: bool) {
    let point = grids::IQ1_S[usize::from(low) | usize::from(high & 7) << 8];
    let shift = if shifted_down { -0.125 } else { 0.125 };
    for (j, value) in values.iter_mut().enumerate() {
        *value = scale * (two_bits(point, j) as f32 - 1.0 + shift);
    }
}

pub(super) fn decode_iq1_s(src: &[u8], dst: &mut [f32]) {
    for (block, values) in src.as_chunks::<50>().0.iter().zip(dst.as_chunks_mut::<BLOCK>().0) {
        let (d, qs) = (f16_at(block, 0), &block[2..34]);
        for (i, values) in values.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            // Four times three bits of an index, three of the scale, one for the direction.
            let qh = u16_at(block, 34 + i / 4 * 2);
            let scale = d * f32::from(2 * (qh >> 12 & 7) + 1);
            decode_iq1(values, scale, qs[i], qh >> (i % 4 * 3), qh >> 15 == 1);
        }
    }
}

/// `d` of an IQ1_M block: the upper nibbles of its four `scales`, the last one's the highest.
pub(super) fn iq1_m_scale(block: &[u8]) -> f32 {
    f16_to_f32([54, 52, 50, 48].iter().fold(0, |bits, &at| bits << 4 | u16_at(block, at) >> 12))
}

pub(super) fn decode_iq1_m(src: &[u8], dst: &mut [f32]) {
    for (block, values) in src.as_chunks::<56>().0.iter().zip(dst.as_chunks_mut::<BLOCK>().0) {
        let (qs, qh) = (&block[..32], &block[32..48]);
        // Four times three bits of scale each.
        let scales = [48, 50, 52, 54].map(|at| u16_at(block, at));
        let d = iq1_m_scale(block);
        for (i, values) in values.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let scale = d * f32::from(2 * (scales[i / 8] >> (i / 2 % 4 * 3) & 7) + 1);
            let high = u16::from(qh[i / 2] >> (i % 2 * 4));
            decode_iq1(values, scale, qs[i], high, high >> 3 & 1 == 1);
        }
    }
}
