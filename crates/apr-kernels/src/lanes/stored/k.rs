//! Blocks of 256 integers with a scale per group.

use super::{Sink, Stored, f16_at};
use crate::lanes::{LANES, Lanes};

pub(crate) struct Q4K;
pub(crate) struct Q5K;
pub(crate) struct Q6K;

/// `[d * sc[0], …, d * sc[7], dmin * m[0], …, dmin * m[7]]` of a Q4_K or Q5_K block.
///
/// # Safety
/// `V` is available and `block` points to a block.
#[inline(always)]
unsafe fn scales_and_mins<V: Lanes>(block: *const u8) -> [f32; LANES] {
    // SAFETY: by the caller; the arrays hold sixteen elements.
    unsafe {
        let word = |i: usize| block.add(4 + 4 * i).cast::<u32>().read_unaligned();
        let (low_scales, low_mins, rest) = (word(0), word(1), word(2));
        // Four 6-bit numbers at a time, one per byte.
        let packed = [
            low_scales & 0x3f3f_3f3f,
            rest & 0x0f0f_0f0f | (low_scales >> 6 & 0x0303_0303) << 4,
            low_mins & 0x3f3f_3f3f,
            rest >> 4 & 0x0f0f_0f0f | (low_mins >> 6 & 0x0303_0303) << 4,
        ];
        let factors = V::splat_halves(f16_at::<V>(block, 0), f16_at::<V>(block, 2));
        let mut scales = [0.0; LANES];
        V::from_ints(V::ints_from_u8(packed.as_ptr().cast())).mul(factors).store(scales.as_mut_ptr());
        scales
    }
}

impl Stored for Q4K {
    const ELEMENTS: usize = 256;
    const BYTES: usize = 144;
    const STEP: usize = 64;
    type Scales<V: Lanes> = [f32; LANES];

    #[inline(always)]
    unsafe fn scales<V: Lanes>(block: *const u8) -> [f32; LANES] {
        // SAFETY: by the caller.
        unsafe { scales_and_mins::<V>(block) }
    }

    #[inline(always)]
    unsafe fn unpack<V: Lanes, S: Sink<V>>(block: *const u8, scales: &[f32; LANES], step: usize, sink: &mut S) {
        // SAFETY: by the caller.
        unsafe {
            let nibbles = block.add(16 + 32 * step);
            let (first, second) = (V::ints_from_u8(nibbles), V::ints_from_u8(nibbles.add(16)));
            let table = V::affine16(scales[2 * step], scales[8 + 2 * step]);
            sink.take(0, V::apply_affine16(table, first));
            sink.take(16, V::apply_affine16(table, second));
            let table = V::affine16(scales[2 * step + 1], scales[9 + 2 * step]);
            sink.take(32, V::apply_affine16(table, V::shift_right(first, 4)));
            sink.take(48, V::apply_affine16(table, V::shift_right(second, 4)));
        }
    }
}

impl Stored for Q5K {
    const ELEMENTS: usize = 256;
    const BYTES: usize = 176;
    const STEP: usize = 64;
    type Scales<V: Lanes> = [f32; LANES];

    #[inline(always)]
    unsafe fn scales<V: Lanes>(block: *const u8) -> [f32; LANES] {
        // SAFETY: by the caller.
        unsafe { scales_and_mins::<V>(block) }
    }

    #[inline(always)]
    unsafe fn unpack<V: Lanes, S: Sink<V>>(block: *const u8, scales: &[f32; LANES], step: usize, sink: &mut S) {
        // SAFETY: by the caller.
        unsafe {
            let fifth_bits = [V::ints_from_u8(block.add(16)), V::ints_from_u8(block.add(32))];
            let nibbles = block.add(48 + 32 * step);
            let nibbles = [V::ints_from_u8(nibbles), V::ints_from_u8(nibbles.add(16))];
            for high in 0..2 {
                let group = 2 * step + high;
                let table = V::affine32(scales[group], scales[8 + group]);
                for i in 0..2 {
                    let low = V::shift_right(nibbles[i], 4 * high as u32);
                    sink.take(32 * high + 16 * i, V::apply_affine32(table, low, fifth_bits[i], group as u32));
                }
            }
        }
    }
}

impl Stored for Q6K {
    const ELEMENTS: usize = 256;
    const BYTES: usize = 210;
    const STEP: usize = 128;
    type Scales<V: Lanes> = [f32; LANES];

    #[inline(always)]
    unsafe fn scales<V: Lanes>(block: *const u8) -> [f32; LANES] {
        // SAFETY: by the caller; the array holds sixteen elements.
        unsafe {
            let mut scales = [0.0; LANES];
            let d = V::splat(f16_at::<V>(block, 208));
            V::from_ints(V::ints_from_i8(block.add(192))).mul(d).store(scales.as_mut_ptr());
            scales
        }
    }

    #[inline(always)]
    unsafe fn unpack<V: Lanes, S: Sink<V>>(block: *const u8, scales: &[f32; LANES], step: usize, sink: &mut S) {
        // SAFETY: by the caller.
        unsafe {
            let (low, high) = (block.add(64 * step), block.add(128 + 32 * step));
            let low = [0, 16, 32, 48].map(|offset| low.add(offset));
            let low =
                [V::ints_from_u8(low[0]), V::ints_from_u8(low[1]), V::ints_from_u8(low[2]), V::ints_from_u8(low[3])];
            let high = [V::ints_from_u8(high), V::ints_from_u8(high.add(16))];
            for quarter in 0..4 {
                for i in 0..2 {
                    let nibbles = V::shift_right(low[quarter % 2 * 2 + i], 4 * (quarter / 2) as u32);
                    let q = V::six_bits(nibbles, V::shift_right(high[i], 2 * quarter as u32));
                    sink.take(32 * quarter + 16 * i, q.mul(V::splat(scales[8 * step + 2 * quarter + i])));
                }
            }
        }
    }
}
