//! F32, F16 and BF16: one IEEE-like number per element.

use half::{bf16, f16};

/// The value of a binary16 bit pattern. Exact for every number; a signalling NaN is made quiet, as hardware does.
#[inline]
pub fn f16_to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let magnitude = u32::from(bits & 0x7fff) << 13;
    // The exponent field now sits in binary32's place but counts from 15 instead of 127; multiplying by 2^112 corrects
    // it, and normalises binary16's subnormals on the way.
    let rebiased = (f32::from_bits(magnitude) * f32::from_bits(0x7780_0000)).to_bits();
    let nan_or_infinity = magnitude | 0x7f80_0000 | if bits & 0x03ff != 0 { 0x0040_0000 } else { 0 };
    f32::from_bits(sign | if bits & 0x7c00 == 0x7c00 { nan_or_infinity } else { rebiased })
}

pub(super) fn decode_f32(src: &[u8], dst: &mut [f32]) {
    for (bytes, value) in src.as_chunks::<4>().0.iter().zip(dst) {
        *value = f32::from_le_bytes(*bytes);
    }
}

pub(super) fn decode_f16(src: &[u8], dst: &mut [f32]) {
    for (bytes, value) in src.as_chunks::<2>().0.iter().zip(dst) {
        *value = f16_to_f32(u16::from_le_bytes(*bytes));
    }
}

pub(super) fn decode_bf16(src: &[u8], dst: &mut [f32]) {
    for (bytes, value) in src.as_chunks::<2>().0.iter().zip(dst) {
        *value = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
    }
}

pub(super) fn encode_f32(src: &[f32], dst: &mut Vec<u8>) {
    dst.extend(src.iter().flat_map(|value| value.to_le_bytes()));
}

pub(super) fn encode_f16(src: &[f32], dst: &mut Vec<u8>) {
    dst.extend(src.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()));
}

pub(super) fn encode_bf16(src: &[f32], dst: &mut Vec<u8>) {
    dst.extend(src.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_f16_pattern_decodes_as_the_half_crate_says() {
        for bits in 0..=u16::MAX {
            assert_eq!(f16_to_f32(bits).to_bits(), f16::from_bits(bits).to_f32().to_bits(), "{bits:#06x}");
        }
    }
}
