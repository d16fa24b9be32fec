//! IQ4_NL and IQ4_XS: four-bit codes that stand for sixteen uneven numbers.
//!
//! | dtype | bytes of a block | value of an element of group `g` |
//! |---|---|---|
//! | IQ4_NL | `d` 2, `qs` 16 | `d * IQ4[q]`, one group of 32 |
//! | IQ4_XS | `d` 2, `scales_h` 2, `scales_l` 4, `qs` 128 | `d * (sc[g] - 32) * IQ4[q]`, groups of 32 |
//!
//! Byte `j` of a group's 16 bytes holds its element `j` in the low and element `j + 16` in the high nibble. A product has
//! at most 11 + 6 + 7 significant bits and is exact in binary32.

use super::f16_at;

/// The numbers of the IQ4 types. Source: `kvalues_iq4nl` of ggml, `IQ4_NL.kvalues` of gguf-py.
pub const IQ4: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

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
