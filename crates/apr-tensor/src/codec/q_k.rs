//! Q2_K to Q6_K and Q8_K: blocks of 256 integers, in all but the last with a scale per group.
//!
//! | dtype | bytes of a block | value of an element of group `g` |
//! |---|---|---|
//! | Q2_K | `scales` 16, `qs` 64, `d` 2, `dmin` 2 | `d * sc[g] * q - dmin * m[g]`, groups of 16 |
//! | Q3_K | `hmask` 32, `qs` 64, `scales` 12, `d` 2 | `d * (sc[g] - 32) * (q - 4)`, groups of 16 |
//! | Q4_K | `d` 2, `dmin` 2, `scales` 12, `qs` 128 | `d * sc[g] * q - dmin * m[g]`, groups of 32 |
//! | Q5_K | `d` 2, `dmin` 2, `scales` 12, `qh` 32, `qs` 128 | the same with five bits |
//! | Q6_K | `ql` 128, `qh` 64, `scales` 16, `d` 2 | `d * sc[g] * (q - 32)`, groups of 16 |
//! | Q8_K | `d` 4, `qs` 256, `bsums` 32 | `d * q`; the sums of each 16 `q` save a product its own |
//!
//! `d * sc * q` has at most 11 + 7 + 5 significant bits and is exact in binary32, so the only rounding is that of the
//! subtraction, and a fused multiply-subtract gives the same value. Q3_K and Q6_K round nothing. `d` of Q8_K is binary32, and
//! its product is rounded.

use super::f16_at;

const BLOCK: usize = 256;

/// The 6-bit scale and min of group `g`, 0 ≤ g < 8, from the 12 packed bytes of Q4_K and Q5_K: the first four groups
/// use the low six bits of bytes `g` and `g + 4`; the others a nibble of byte `g + 4` and the two bits left over.
pub(super) fn scale_and_min(packed: &[u8], g: usize) -> (f32, f32) {
    let (scale, min) = if g < 4 {
        (packed[g] & 63, packed[g + 4] & 63)
    } else {
        (packed[g + 4] & 15 | packed[g - 4] >> 6 << 4, packed[g + 4] >> 4 | packed[g] >> 6 << 4)
    };
    (f32::from(scale), f32::from(min))
}

/// The two low bits of the elements of group `g`, 0 ≤ g < 16, in Q2_K and Q3_K: each half of 128 elements has 32 bytes.
/// Within it, 32 elements at a time: bits 0-1 of all bytes, then bits 2-3, 4-5, 6-7.
pub(super) fn two_bits(qs: &[u8], g: usize) -> impl Iterator<Item = u8> {
    let (half, quarter, start) = (g / 8, g % 8 / 2, g % 2 * 16);
    qs[half * 32 + start..][..16].iter().map(move |byte| byte >> (2 * quarter) & 3)
}

pub(super) fn decode_q2_k(src: &[u8], dst: &mut [f32]) {
    for (block, values) in src.as_chunks::<84>().0.iter().zip(dst.as_chunks_mut::<BLOCK>().0) {
        let (scales, qs, d, dmin) = (&block[..16], &block[16..80], f16_at(block, 80), f16_at(block, 82));
        for (g, group) in values.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let (scale, min) = (d * f32::from(scales[g] & 15), dmin * f32::from(scales[g] >> 4));
            for (value, q) in group.iter_mut().zip(two_bits(qs, g)) {
                *value = scale * f32::from(q) - min;
            }
        }
    }
}

/// The 6-bit scale of group `g`, 0 ≤ g < 16, from the 12 packed bytes of Q3_K: low four bits in the nibbles of the first
/// eight bytes, low nibbles first; the other two in the last four, bits 0-1 of all bytes first.
pub(super) fn q3_k_scale(packed: &[u8], g: usize) -> f32 {
    let low = packed[g % 8] >> (g / 8 * 4) & 15;
    let high = packed[8 + g % 4] >> (g / 4 * 2) & 3;
    f32::from((low | high << 4) as i8 - 32)
}

pub(super) fn decode_q3_k(src: &[u8], dst: &mut [f32]) {
    for (block, values) in src.as_chunks::<110>().0.iter().zip(dst.as_chunks_mut::<BLOCK>().0) {
        let (hmask, qs, packed, d) = (&block[..32], &block[32..96], &block[96..108], f16_at(block, 108));
        for (g, group) in values.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let scale = d * q3_k_scale(packed, g);
            // Bit i of byte l of `hmask` is the third bit of element 32 i + l.
            let third = hmask[g % 2 * 16..][..16].iter().map(|byte| byte >> (g / 2) & 1);
            for ((value, low), third) in group.iter_mut().zip(two_bits(qs, g)).zip(third) {
                *value = scale * f32::from((low | third << 2) as i8 - 4);
            }
        }
    }
}

pub(super) fn decode_q4_k(src: &[u8], dst: &mut [f32]) {
    for (block, values) in src.as_chunks::<144>().0.iter().zip(dst.as_chunks_mut::<BLOCK>().0) {
        let (d, dmin, packed, qs) = (f16_at(block, 0), f16_at(block, 2), &block[4..16], &block[16..]);
        for (g, group) in values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (scale, min) = scale_and_min(packed, g);
            let (scale, min) = (d * scale, dmin * min);
            // Groups 2i and 2i + 1 are the low and high nibbles of the same 32 bytes.
            let nibbles = &qs[g / 2 * 32..][..32];
            for (value, byte) in group.iter_mut().zip(nibbles) {
                *value = scale * f32::from(byte >> (g % 2 * 4) & 15) - min;
            }
        }
    }
}

pub(super) fn decode_q5_k(src: &[u8], dst: &mut [f32]) {
    for (block, values) in src.as_chunks::<176>().0.iter().zip(dst.as_chunks_mut::<BLOCK>().0) {
        let (d, dmin, packed) = (f16_at(block, 0), f16_at(block, 2), &block[4..16]);
        let (qh, qs) = block[16..].split_at(32);
        for (g, group) in values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (scale, min) = scale_and_min(packed, g);
            let (scale, min) = (d * scale, dmin * min);
            let nibbles = &qs[g / 2 * 32..][..32];
            // Bit g of byte l of `qh` is the fifth bit of element l of group g.
            for ((value, byte), fifth) in group.iter_mut().zip(nibbles).zip(qh) {
                *value = scale * f32::from(byte >> (g % 2 * 4) & 15 | (fifth >> g & 1) << 4) - min;
            }
        }
    }
}

pub(super) fn decode_q6_k(src: &[u8], dst: &mut [f32]) {
    for (block, values) in src.as_chunks::<210>().0.iter().zip(dst.as_chunks_mut::<BLOCK>().0) {
        let d = f16_at(block, 208);
        for (g, group) in values.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let scale = d * f32::from(block[192 + g] as i8);
            // Each half of 128 elements has 64 bytes of nibbles and 32 bytes of upper bits. Within it, 32 elements at a
            // time: low nibbles of bytes 0..32, of 32..64, then the high ones; upper bits 0-1, 2-3, 4-5, 6-7.
            let (half, quarter, start) = (g / 8, g % 8 / 2, g % 2 * 16);
            let ql = &block[half * 64 + quarter % 2 * 32 + start..][..16];
            let qh = &block[128 + half * 32 + start..][..16];
            for ((value, low), high) in group.iter_mut().zip(ql).zip(qh) {
                let q = low >> (quarter / 2 * 4) & 15 | (high >> (quarter * 2) & 3) << 4;
                *value = scale * f32::from(q as i8 - 32);
            }
        }
    }
}

pub(super) fn decode_q8_k(src: &[u8], dst: &mut [f32]) {
    for (block, values) in src.as_chunks::<292>().0.iter().zip(dst.as_chunks_mut::<BLOCK>().0) {
        let d = f32::from_le_bytes([block[0], block[1], block[2], block[3]]);
        for (value, byte) in values.iter_mut().zip(&block[4..260]) {
            *value = d * f32::from(*byte as i8);
        }
    }
}
