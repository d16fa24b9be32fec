//! IQ4_NL, IQ4_XS, MXFP4 and NVFP4: four-bit codes that stand for sixteen uneven numbers.
//!
//! | dtype | bytes of a block | value of an element of group `g` |
//! |---|---|---|
//! | IQ4_NL | `d` 2, `qs` 16 | `d * IQ4[q]`, one group of 32 |
//! | IQ4_XS | `d` 2, `scales_h` 2, `scales_l` 4, `qs` 128 | `d * (sc[g] - 32) * IQ4[q]`, groups of 32 |
//! | MXFP4 | `e` 1, `qs` 16 | `2^(e - 128) * FP4[q]`, one group of 32 |
//! | NVFP4 | `d` 4, `qs` 32 | `e4m3(d[g]) / 2 * FP4[q]`, four groups of 16 |
//!
//! The low nibbles of a group's bytes are its first half, the high nibbles its second. A product has at most
//! 11 + 6 + 7 significant bits and is exact in binary32, but for the largest MXFP4 scales, where it may be infinite.

use super::f16_at;

/// The numbers of the IQ4 types. Source: `kvalues_iq4nl` of ggml, `IQ4_NL.kvalues` of gguf-py.
pub const IQ4: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// The numbers of FP4 (E2M1), doubled, as ggml has them: its negative zero is zero. Source: OCP Microscaling Formats 1.0;
/// `kvalues_mxfp4` of ggml.
pub const FP4: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// The scale of an MXFP4 block, halved because [`FP4`] is doubled: `2^(e - 128)`, subnormal for the two smallest. The
/// specification has a NaN for `e` = 255, ggml has not.
#[inline]
pub fn mxfp4_scale(e: u8) -> f32 {
    f32::from_bits(if e < 2 { 0x0020_0000 << e } else { u32::from(e - 1) << 23 })
}

/// The scale of an NVFP4 group, halved because [`FP4`] is doubled: an E4M3 number without sign, where ggml takes 0x7f, the
/// format's NaN, for zero and does not look at the sign bit of others.
pub(super) fn nvfp4_scale(bits: u8) -> f32 {
    if bits == 0x7f {
        return 0.0;
    }
    let (exponent, mantissa) = (u32::from(bits >> 3 & 15), f32::from(bits & 7));
    // The smallest step is 2^-9.
    let power = |n: u32| f32::from_bits((n + 127 - 10) << 23);
    if exponent == 0 { mantissa * power(0) } else { (8.0 + mantissa) * power(exponent - 1) }
}

/// Decodes a group whose low nibbles come first.
fn decode_group(scale: f32, table: &[i8; 16], qs: &[u8], values: &mut [f32]) {
    let (first, second) = values.split_at_mut(qs.len());
    for ((byte, low), high) in qs.iter().zip(first).zip(second) {
        *low = scale * f32::from(table[usize::from(byte & 15)]);
        *high = scale * f32::from(table[usize::from(byte >> 4)]);
    }
}

pub(super) fn decode_iq4_nl(src: &[u8], dst: &mut [f32]) {
    for (block, values) in src.as_chunks::<18>().0.iter().zip(dst.as_chunks_mut::<32>().0) {
        decode_group(f16_at(block, 0), &IQ4, &block[2..], values);
    }
}

pub(super) fn decode_iq4_xs(src: &[u8], dst: &mut [f32]) {
    for (block, values) in src.as_chunks::<136>().0.iter().zip(dst.as_chunks_mut::<256>().0) {
        let (d, scales_h, scales_l) = (f16_at(block, 0), u16::from_le_bytes([block[2], block[3]]), &block[4..8]);
        let groups = block[8..].as_chunks::<16>().0.iter().zip(values.as_chunks_mut::<32>().0);
        for (g, (qs, values)) in groups.enumerate() {
            // Six bits: a nibble, low ones first, and two bits of `scales_h`.
            let low = scales_l[g / 2] >> (g % 2 * 4) & 15;
            let high = (scales_h >> (2 * g) & 3) as u8;
            let scale = d * f32::from((low | high << 4) as i8 - 32);
            decode_group(scale, &IQ4, qs, values);
        }
    }
}

pub(super) fn decode_mxfp4(src: &[u8], dst: &mut [f32]) {
    for (block, values) in src.as_chunks::<17>().0.iter().zip(dst.as_chunks_mut::<32>().0) {
        decode_group(mxfp4_scale(block[0]), &FP4, &block[1..], values);
    }
}

pub(super) fn decode_nvfp4(src: &[u8], dst: &mut [f32]) {
    for (block, values) in src.as_chunks::<36>().0.iter().zip(dst.as_chunks_mut::<64>().0) {
        let (scales, qs) = block.split_at(4);
        let groups = qs.as_chunks::<8>().0.iter().zip(values.as_chunks_mut::<16>().0);
        for (scale, (qs, values)) in scales.iter().zip(groups) {
            decode_group(nvfp4_scale(*scale), &FP4, qs, values);
        }
    }
}
