//! Blocks taken apart, for people: fields, integer codes, and the scale of each group.

use super::q_grid::{self, u16_at, u32_at};
use super::q_k::{q3_k_scale, scale_and_min, two_bits};
use super::q_small::digit;
use super::q_table::{FP4, IQ4, mxfp4_scale, nvfp4_scale};
use super::{decode, f16_at};
use crate::DType;
use std::ops::Range;

/// A block taken apart.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockParts {
    /// What its bytes are, in order; they cover the block.
    pub fields: Vec<BlockField>,
    /// Elements that share a scale, in order; none where each element is a number of its own.
    pub groups: Vec<BlockGroup>,
    /// The values; none of a dtype that is not decoded.
    pub values: Vec<f32>,
}

/// Bytes of a block with one name.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockField {
    /// The name that ggml gives them.
    pub name: &'static str,
    /// Where they lie in the block.
    pub range: Range<usize>,
    /// The number that they are, where they are one.
    pub number: Option<f32>,
}

/// Elements that share a scale: each value is `scale * code + offset`, the same 32 bits as decoding gives.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockGroup {
    /// What the codes are multiplied with.
    pub scale: f32,
    /// What is added: a minimum, mostly negative.
    pub offset: f32,
    /// A whole number per element: a centred quant, a number of a table, or eight times an IQ1 number.
    pub codes: Vec<i32>,
}

/// Names and lengths of a block's fields. `d`, `dmin`, `m` and `s` are binary16, `d` of Q8_K is binary32.
fn fields(dtype: DType) -> &'static [(&'static str, usize)] {
    match dtype {
        DType::Q4_0 | DType::IQ4NL | DType::Q1_0 | DType::Q2_0 => &[("d", 2), ("qs", 16)],
        DType::Q4_1 => &[("d", 2), ("m", 2), ("qs", 16)],
        DType::Q5_0 => &[("d", 2), ("qh", 4), ("qs", 16)],
        DType::Q5_1 => &[("d", 2), ("m", 2), ("qh", 4), ("qs", 16)],
        DType::Q8_0 => &[("d", 2), ("qs", 32)],
        DType::Q8_1 => &[("d", 2), ("s", 2), ("qs", 32)],
        DType::Q8K => &[("d", 4), ("qs", 256), ("bsums", 32)],
        DType::Q2K => &[("scales", 16), ("qs", 64), ("d", 2), ("dmin", 2)],
        DType::Q3K => &[("hmask", 32), ("qs", 64), ("scales", 12), ("d", 2)],
        DType::Q4K => &[("d", 2), ("dmin", 2), ("scales", 12), ("qs", 128)],
        DType::Q5K => &[("d", 2), ("dmin", 2), ("scales", 12), ("qh", 32), ("qs", 128)],
        DType::Q6K => &[("ql", 128), ("qh", 64), ("scales", 16), ("d", 2)],
        DType::IQ4XS => &[("d", 2), ("scales_h", 2), ("scales_l", 4), ("qs", 128)],
        DType::IQ1S => &[("d", 2), ("qs", 32), ("qh", 16)],
        DType::IQ1M => &[("qs", 32), ("qh", 16), ("scales", 8)],
        DType::IQ2XXS => &[("d", 2), ("qs", 64)],
        DType::IQ2XS => &[("d", 2), ("qs", 64), ("scales", 8)],
        DType::IQ2S => &[("d", 2), ("qs", 32), ("signs", 32), ("qh", 8), ("scales", 8)],
        DType::IQ3XXS => &[("d", 2), ("qs", 64), ("scales_and_signs", 32)],
        DType::IQ3S => &[("d", 2), ("qs", 64), ("qh", 8), ("signs", 32), ("scales", 4)],
        DType::TQ1_0 => &[("qs", 48), ("qh", 4), ("d", 2)],
        DType::TQ2_0 => &[("qs", 64), ("d", 2)],
        DType::MXFP4 => &[("e", 1), ("qs", 16)],
        DType::NVFP4 => &[("d", 4), ("qs", 32)],
        // One number per element.
        _ => &[],
    }
}

/// Takes apart one block, or one number of a dtype that has no blocks.
///
/// # Panics
/// If `block` is not as long as a block of `dtype`.
pub fn parts(dtype: DType, block: &[u8]) -> BlockParts {
    let mut values = Vec::new();
    if dtype.decodes() {
        values.resize(dtype.info().block_elements, 0.0);
        decode(dtype, block, &mut values);
    }
    let mut start = 0;
    let field = |&(name, n_bytes): &(&'static str, usize)| {
        let range = start..start + n_bytes;
        let number = match name {
            "d" | "dmin" | "m" | "s" if n_bytes == 2 => Some(f16_at(block, start)),
            "d" if dtype == DType::Q8K => Some(f32_at(block, start)),
            "e" => Some(mxfp4_scale(block[start])),
            _ => None,
        };
        start += n_bytes;
        BlockField { name, range, number }
    };
    let mut fields: Vec<_> = fields(dtype).iter().map(field).collect();
    if fields.is_empty() {
        fields.push(BlockField { name: "value", range: 0..block.len(), number: values.first().copied() });
    }
    BlockParts { fields, groups: groups(dtype, block), values }
}

fn groups(dtype: DType, block: &[u8]) -> Vec<BlockGroup> {
    let group = |scale: f32, offset: f32, codes: Vec<i32>| BlockGroup { scale, offset, codes };
    let one = |scale: f32, codes: Vec<i32>| vec![group(scale, 0.0, codes)];
    let d = |offset: usize| f16_at(block, offset);
    match dtype {
        DType::Q4_0 => one(d(0), nibbles(&block[2..], |q| q - 8)),
        DType::Q4_1 => vec![group(d(0), d(2), nibbles(&block[4..], |q| q))],
        DType::Q5_0 => one(d(0), fifth(&block[6..], &block[2..6], |q| q - 16)),
        DType::Q5_1 => vec![group(d(0), d(2), fifth(&block[8..], &block[4..8], |q| q))],
        DType::Q8_0 => one(d(0), bytes(&block[2..])),
        DType::Q8_1 => one(d(0), bytes(&block[4..])),
        DType::Q8K => one(f32_at(block, 0), bytes(&block[4..260])),
        DType::Q2K => {
            let of = |g: usize| {
                let (scale, min) = (d(80) * f32::from(block[g] & 15), d(82) * f32::from(block[g] >> 4));
                group(scale, -min, two_bits(&block[16..80], g).map(i32::from).collect())
            };
            (0..16).map(of).collect()
        }
        DType::Q3K => {
            let of = |g: usize| {
                // The bit of `hmask` that is unset subtracts four.
                let third = block[g % 2 * 16..][..16].iter().map(|byte| i32::from(byte >> (g / 2) & 1));
                let codes = two_bits(&block[32..96], g).zip(third).map(|(q, bit)| i32::from(q) + 4 * bit - 4);
                group(d(108) * q3_k_scale(&block[96..108], g), 0.0, codes.collect())
            };
            (0..16).map(of).collect()
        }
        DType::Q4K | DType::Q5K => {
            let (qh, qs) = block[16..].split_at(if dtype == DType::Q4K { 0 } else { 32 });
            let of = |g: usize| {
                let (scale, min) = scale_and_min(&block[4..16], g);
                let code = |(i, byte): (usize, &u8)| {
                    let fifth = qh.get(i).map_or(0, |bits| bits >> g & 1);
                    i32::from(byte >> (g % 2 * 4) & 15) + 16 * i32::from(fifth)
                };
                let codes = qs[g / 2 * 32..][..32].iter().enumerate().map(code);
                group(d(0) * scale, -(d(2) * min), codes.collect())
            };
            (0..8).map(of).collect()
        }
        DType::Q6K => {
            let of = |g: usize| {
                let (half, quarter, start) = (g / 8, g % 8 / 2, g % 2 * 16);
                let low = &block[half * 64 + quarter % 2 * 32 + start..][..16];
                let high = &block[128 + half * 32 + start..][..16];
                let codes = low.iter().zip(high).map(|(low, high)| {
                    i32::from(low >> (quarter / 2 * 4) & 15) + 16 * i32::from(high >> (quarter * 2) & 3) - 32
                });
                group(d(208) * f32::from(block[192 + g] as i8), 0.0, codes.collect())
            };
            (0..16).map(of).collect()
        }
        DType::IQ4NL => one(d(0), nibbles(&block[2..], |q| i32::from(IQ4[q as usize]))),
        DType::IQ4XS => {
            let of = |g: usize| {
                let low = block[4 + g / 2] >> (g % 2 * 4) & 15;
                let high = (u16_at(block, 2) >> (2 * g) & 3) as u8;
                let codes = nibbles(&block[8 + 16 * g..][..16], |q| i32::from(IQ4[q as usize]));
                group(d(0) * f32::from((low | high << 4) as i8 - 32), 0.0, codes)
            };
            (0..8).map(of).collect()
        }
        DType::MXFP4 => one(mxfp4_scale(block[0]), nibbles(&block[1..], |q| i32::from(FP4[q as usize]))),
        DType::NVFP4 => {
            let codes = |g: usize| nibbles(&block[4 + 8 * g..][..8], |q| i32::from(FP4[q as usize]));
            (0..4).map(|g| group(nvfp4_scale(block[g]), 0.0, codes(g))).collect()
        }
        DType::Q1_0 => one(d(0), (0..128).map(|i| 2 * i32::from(block[2 + i / 8] >> (i % 8) & 1) - 1).collect()),
        DType::Q2_0 => one(d(0), (0..64).map(|i| i32::from(block[2 + i / 4] >> (i % 4 * 2) & 3) - 1).collect()),
        DType::TQ1_0 => {
            let runs = [(0..32, 5), (32..48, 5), (48..52, 4)];
            let digits = runs.into_iter().flat_map(|(run, n)| {
                (0..n).flat_map(move |n| block[run.clone()].iter().map(move |&byte| i32::from(digit(byte, n)) - 1))
            });
            one(d(52), digits.collect())
        }
        DType::TQ2_0 => {
            let code = |i: usize| i32::from(block[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3) - 1;
            one(d(64), (0..256).map(code).collect())
        }
        DType::IQ1S | DType::IQ1M | DType::IQ2XXS | DType::IQ2XS | DType::IQ2S | DType::IQ3XXS | DType::IQ3S => {
            grid_groups(dtype, block)
        }
        _ => Vec::new(),
    }
}

/// The binary32 number at `block[offset..offset + 4]`.
fn f32_at(block: &[u8], offset: usize) -> f32 {
    f32::from_bits(u32_at(block, offset))
}

/// Signed bytes.
fn bytes(bytes: &[u8]) -> Vec<i32> {
    bytes.iter().map(|&q| i32::from(q as i8)).collect()
}

/// Low nibbles of the bytes, then high ones.
fn nibbles(bytes: &[u8], code: impl Fn(i32) -> i32) -> Vec<i32> {
    let low = bytes.iter().map(|byte| byte & 15);
    low.chain(bytes.iter().map(|byte| byte >> 4)).map(|q| code(i32::from(q))).collect()
}

/// [`nibbles`] with a fifth bit each, the first element's the lowest.
fn fifth(bytes: &[u8], bits: &[u8], code: impl Fn(i32) -> i32) -> Vec<i32> {
    let with_bit = |(i, q): (usize, i32)| code(q + 16 * i32::from(bits[i / 8] >> (i % 8) & 1));
    nibbles(bytes, |q| q).into_iter().enumerate().map(with_bit).collect()
}

/// Groups of the dtypes whose codes are points of a grid. Their numbers come from decoding the block as if `d` were one:
/// then no scale is zero, and dividing by it gives whole numbers.
fn grid_groups(dtype: DType, block: &[u8]) -> Vec<BlockGroup> {
    let nibble = |start: usize, g: usize| q_grid::nibble(&block[start..], g);
    let n_per_group = match dtype {
        DType::IQ2XS | DType::IQ2S | DType::IQ1M => 16,
        _ => 32,
    };
    let scale = |g: usize| match dtype {
        DType::IQ2XXS => 0.25 * (0.5 + (u32_at(block, 6 + 8 * g) >> 28) as f32),
        DType::IQ2XS => 0.25 * (0.5 + nibble(66, g)),
        DType::IQ2S => 0.25 * (0.5 + nibble(74, g)),
        DType::IQ3XXS => 0.5 * (0.5 + (u32_at(block, 66 + 4 * g) >> 28) as f32),
        DType::IQ3S => 1.0 + 2.0 * nibble(106, g),
        // An eighth, because the numbers of IQ1 are multiples of that.
        DType::IQ1S => 0.125 * (1.0 + 2.0 * f32::from(u16_at(block, 34 + 2 * g) >> 12 & 7)),
        _ => 0.125 * (1.0 + 2.0 * f32::from(u16_at(block, 48 + g / 4 * 2) >> (g % 4 * 3) & 7)),
    };
    let d = match dtype {
        DType::IQ1M => q_grid::iq1_m_scale(block),
        _ => f16_at(block, 0),
    };
    let mut unit = block.to_vec();
    const ONE: [u8; 2] = 0x3c00u16.to_le_bytes();
    match dtype {
        // A nibble in each of four numbers, the lowest one first.
        DType::IQ1M => (0..4).for_each(|i| unit[49 + 2 * i] = unit[49 + 2 * i] & 15 | [0x00, 0x00, 0xc0, 0x30][i]),
        _ => unit[..2].copy_from_slice(&ONE),
    }
    let mut numbers = vec![0.0; 256];
    decode(dtype, &unit, &mut numbers);
    let of = |(g, numbers): (usize, &[f32])| BlockGroup {
        scale: d * scale(g),
        offset: 0.0,
        codes: numbers.iter().map(|number| (number / scale(g)) as i32).collect(),
    };
    numbers.chunks_exact(n_per_group).enumerate().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DTYPES;

    /// Blocks of every bit pattern: 64 per dtype, from a generator whose high bytes are taken.
    fn blocks(n_bytes: usize) -> impl Iterator<Item = Vec<u8>> {
        let mut state = 1u64;
        let byte = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        let mut byte = byte;
        (0..64).map(move |_| (0..n_bytes).map(|_| byte()).collect())
    }

    #[test]
    fn fields_cover_a_block() {
        for row in DTYPES {
            let parts = parts(row.dtype, &vec![0; row.block_bytes]);
            let ends: Vec<_> = parts.fields.iter().map(|field| field.range.end).collect();
            let starts: Vec<_> = parts.fields.iter().map(|field| field.range.start).collect();
            assert_eq!((starts[0], ends.last()), (0, Some(&row.block_bytes)), "{}", row.name);
            assert_eq!(starts[1..], ends[..ends.len() - 1], "{}", row.name);
        }
    }

    #[test]
    fn scale_times_code_plus_offset_is_the_decoded_value() {
        for row in DTYPES.iter().filter(|row| row.dtype.is_quantized()) {
            for block in blocks(row.block_bytes) {
                let parts = parts(row.dtype, &block);
                let of = |group: &BlockGroup| {
                    let (scale, offset) = (group.scale, group.offset);
                    group.codes.iter().map(move |&code| scale * code as f32 + offset).collect::<Vec<_>>()
                };
                let found: Vec<f32> = parts.groups.iter().flat_map(of).collect();
                assert_eq!(found.len(), row.block_elements, "{}", row.name);
                for (i, (found, value)) in found.iter().zip(&parts.values).enumerate() {
                    assert!(found == value || found.is_nan() && value.is_nan(), "{} {i}: {found} {value}", row.name);
                }
            }
        }
    }
}
