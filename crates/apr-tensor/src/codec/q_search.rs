//! Encoding by search: the 256-element blocks Q2_K to Q6_K and IQ4_XS, IQ4_NL, and the 32-element blocks with importance.
//!
//! Layouts are those that the decoders of `q_k`, `q_table` and `q_legacy` describe; this is the way back.

use std::array::from_fn;

use super::EncodeError;
use super::q_legacy::{index_of_extreme, push_fifth_bits, push_nibbles};
use super::search::{
    Block, Iq4Levels, Signed, Singles, TooLarge, Unsigned, fit_affine_block, fit_scaled_block, fit_singles,
};
use crate::DType;

/// Values, and their importance where it differs.
type Chunk<'a> = (&'a [f32], Option<&'a [f32]>);

/// Appends the blocks of a chunk.
type EncodeChunk = fn(Chunk<'_>, &mut Vec<u8>) -> Result<(), TooLarge>;

/// Encodes `src`, whole blocks, with the importance of its columns: `importance` is as long as a row, of whole blocks too.
pub(super) fn encode(
    dtype: DType,
    src: &[f32],
    importance: Option<&[f32]>,
    dst: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let block_elements = dtype.info().block_elements;
    let (encode_chunk, blocks_at_once): (EncodeChunk, usize) = match dtype {
        DType::Q2K => (q2_k, 1),
        DType::Q3K => (q3_k, 1),
        DType::Q4K => (q4_k, 1),
        DType::Q5K => (q5_k, 1),
        DType::Q6K => (q6_k, 1),
        DType::IQ4XS => (iq4_xs, 1),
        DType::IQ4NL => (iq4_nl, 4),
        DType::Q4_0 => (q4_0, 4),
        DType::Q4_1 => (q4_1, 4),
        DType::Q5_0 => (q5_0, 4),
        DType::Q5_1 => (q5_1, 4),
        _ => return Err(EncodeError::NotImplemented { dtype }),
    };
    let columns = importance.map_or(src.len(), <[f32]>::len).max(1);
    let chunk = block_elements * blocks_at_once;
    for (row_idx, row) in src.chunks(columns).enumerate() {
        for (chunk_idx, values) in row.chunks(chunk).enumerate() {
            let start = chunk_idx * chunk;
            let weights = importance.map(|weights| &weights[start..start + values.len()]);
            encode_chunk((values, weights), dst).map_err(|TooLarge| {
                let in_chunk = index_of_extreme(values);
                EncodeError::ScaleOverflow {
                    dtype,
                    index: row_idx * columns + start + in_chunk,
                    value: values[in_chunk],
                }
            })?;
        }
    }
    Ok(())
}

/// Two-bit codes: each half of 128 elements has 32 bytes; 32 elements at a time take the next two bits of them.
fn push_two_bits(codes: &[u8; 256], dst: &mut Vec<u8>) {
    for half in codes.as_chunks::<128>().0 {
        dst.extend(
            (0..32).map(|i| (0..4).fold(0, |byte, quarter| byte | (half[quarter * 32 + i] & 3) << (2 * quarter))),
        );
    }
}

/// Groups 2i and 2i + 1, of 32, are the low and high nibbles of the same 32 bytes.
fn push_nibbles_of_pairs(codes: &[u8; 256], dst: &mut Vec<u8>) {
    for pair in codes.as_chunks::<64>().0 {
        dst.extend((0..32).map(|i| pair[i] & 15 | (pair[i + 32] & 15) << 4));
    }
}

/// Bit `i` of byte `l` of the 32 is bit `bit` of element `32 i + l`.
fn push_bit_planes(codes: &[u8; 256], bit: u8, dst: &mut Vec<u8>) {
    dst.extend((0..32).map(|l| (0..8).fold(0, |byte, i| byte | (codes[32 * i + l] >> bit & 1) << i)));
}

/// The 12 bytes of eight 6-bit scales and mins: the low six bits of bytes `g` and `g + 4` for the first four groups; for
/// the others a nibble each of byte `g + 4`, and the two bits left over in the first eight.
fn packed_scales_and_mins(scale: impl Fn(usize) -> u8, min: impl Fn(usize) -> u8) -> [u8; 12] {
    from_fn(|i| match i {
        0..4 => scale(i) | scale(i + 4) >> 4 << 6,
        4..8 => min(i - 4) | min(i) >> 4 << 6,
        _ => scale(i - 4) & 15 | (min(i - 4) & 15) << 4,
    })
}

fn q2_k((values, importance): Chunk<'_>, dst: &mut Vec<u8>) -> Result<(), TooLarge> {
    type Codes = Unsigned<3>;
    let block = fit_affine_block::<Codes, 16, 4>(&Block::new(values, importance), 15.0)?;
    dst.extend((0..16).map(|g| block.scale(g) | block.min(g) << 4));
    push_two_bits(&block.codes::<Codes>(), dst);
    dst.extend(block.d.to_le_bytes());
    dst.extend(block.dmin.to_le_bytes());
    Ok(())
}

fn q3_k((values, importance): Chunk<'_>, dst: &mut Vec<u8>) -> Result<(), TooLarge> {
    type Codes = Signed<4>;
    let block = fit_scaled_block::<Codes, 16, 4>(&Block::new(values, importance), 32.0)?;
    let codes = block.codes::<Codes>();
    push_bit_planes(&codes, 2, dst);
    push_two_bits(&codes, dst);
    let scale = |g: usize| (block.scale(g) + 32) as u8;
    dst.extend((0..8).map(|i| scale(i) & 15 | (scale(i + 8) & 15) << 4));
    dst.extend((0..4).map(|i| (0..4).fold(0, |byte, part| byte | scale(4 * part + i) >> 4 << (2 * part))));
    dst.extend(block.d.to_le_bytes());
    Ok(())
}

fn q4_k((values, importance): Chunk<'_>, dst: &mut Vec<u8>) -> Result<(), TooLarge> {
    type Codes = Unsigned<15>;
    let block = fit_affine_block::<Codes, 32, 2>(&Block::new(values, importance), 63.0)?;
    dst.extend(block.d.to_le_bytes());
    dst.extend(block.dmin.to_le_bytes());
    dst.extend(packed_scales_and_mins(|g| block.scale(g), |g| block.min(g)));
    push_nibbles_of_pairs(&block.codes::<Codes>(), dst);
    Ok(())
}

fn q5_k((values, importance): Chunk<'_>, dst: &mut Vec<u8>) -> Result<(), TooLarge> {
    type Codes = Unsigned<31>;
    let block = fit_affine_block::<Codes, 32, 2>(&Block::new(values, importance), 63.0)?;
    let codes = block.codes::<Codes>();
    dst.extend(block.d.to_le_bytes());
    dst.extend(block.dmin.to_le_bytes());
    dst.extend(packed_scales_and_mins(|g| block.scale(g), |g| block.min(g)));
    push_bit_planes(&codes, 4, dst);
    push_nibbles_of_pairs(&codes, dst);
    Ok(())
}

fn q6_k((values, importance): Chunk<'_>, dst: &mut Vec<u8>) -> Result<(), TooLarge> {
    type Codes = Signed<32>;
    let block = fit_scaled_block::<Codes, 16, 4>(&Block::new(values, importance), 128.0)?;
    let codes = block.codes::<Codes>();
    // Each half of 128 elements has 64 bytes of nibbles: of its first and second, third and fourth 32.
    for half in codes.as_chunks::<128>().0 {
        dst.extend((0..64).map(|i| half[i] & 15 | (half[i + 64] & 15) << 4));
    }
    push_two_bits(&codes.map(|code| code >> 4), dst);
    dst.extend((0..16).map(|g| block.scale(g) as u8));
    dst.extend(block.d.to_le_bytes());
    Ok(())
}

fn iq4_xs((values, importance): Chunk<'_>, dst: &mut Vec<u8>) -> Result<(), TooLarge> {
    let block = fit_scaled_block::<Iq4Levels, 32, 2>(&Block::new(values, importance), 32.0)?;
    let scale = |g: usize| (block.scale(g) + 32) as u8;
    dst.extend(block.d.to_le_bytes());
    dst.extend((0..8).fold(0u16, |bits, g| bits | u16::from(scale(g) >> 4) << (2 * g)).to_le_bytes());
    dst.extend((0..4).map(|i| scale(2 * i) & 15 | (scale(2 * i + 1) & 15) << 4));
    for codes in block.codes::<Iq4Levels>().as_chunks::<32>().0 {
        push_nibbles(codes, dst);
    }
    Ok(())
}

fn iq4_nl(chunk: Chunk<'_>, dst: &mut Vec<u8>) -> Result<(), TooLarge> {
    for block in fit_singles::<Iq4Levels, 32>(&Singles::new(chunk.0, chunk.1), chunk.0.len() / 32, false)? {
        dst.extend(block.d.to_le_bytes());
        push_nibbles(&block.codes, dst);
    }
    Ok(())
}

fn q4_0((values, importance): Chunk<'_>, dst: &mut Vec<u8>) -> Result<(), TooLarge> {
    for block in fit_singles::<Signed<8>, 32>(&Singles::new(values, importance), values.len() / 32, false)? {
        dst.extend(block.d.to_le_bytes());
        push_nibbles(&block.codes, dst);
    }
    Ok(())
}

fn q5_0((values, importance): Chunk<'_>, dst: &mut Vec<u8>) -> Result<(), TooLarge> {
    for block in fit_singles::<Signed<16>, 32>(&Singles::new(values, importance), values.len() / 32, false)? {
        dst.extend(block.d.to_le_bytes());
        push_fifth_bits(&block.codes, dst);
        push_nibbles(&block.codes, dst);
    }
    Ok(())
}

fn q4_1((values, importance): Chunk<'_>, dst: &mut Vec<u8>) -> Result<(), TooLarge> {
    for block in fit_singles::<Unsigned<15>, 32>(&Singles::new(values, importance), values.len() / 32, true)? {
        dst.extend(block.d.to_le_bytes());
        dst.extend(block.m.to_le_bytes());
        push_nibbles(&block.codes, dst);
    }
    Ok(())
}

fn q5_1((values, importance): Chunk<'_>, dst: &mut Vec<u8>) -> Result<(), TooLarge> {
    for block in fit_singles::<Unsigned<31>, 32>(&Singles::new(values, importance), values.len() / 32, true)? {
        dst.extend(block.d.to_le_bytes());
        dst.extend(block.m.to_le_bytes());
        push_fifth_bits(&block.codes, dst);
        push_nibbles(&block.codes, dst);
    }
    Ok(())
}
