//! Blocks of 256 integers with a scale per group.

use super::{Sink, Stored, f16_at};
use crate::lanes::{LANES, Lanes};

pub(crate) struct Q2K;
pub(crate) struct Q3K;
pub(crate) struct Q4K;
pub(crate) struct Q5K;
pub(crate) struct Q6K;

impl Stored for Q2K {
    const ELEMENTS: usize = 256;
    const BYTES: usize = 84;
    const STEP: usize = 128;
    const STREAMS: usize = 4;
    /// Scales and mins of the sixteen groups.
    type Scales<V: Lanes> = [[f32; LANES]; 2];

    #[inline(always)]
    unsafe fn scales<V: Lanes>(block: *const u8) -> [[f32; LANES]; 2] {
        // SAFETY: by the caller; the arrays hold sixteen elements.
        unsafe {
            let packed = block.cast::<u128>().read_unaligned();
            let nibbles = [packed & NIBBLES, packed >> 4 & NIBBLES];
            let (d, dmin) = (f16_at::<V>(block, 80), f16_at::<V>(block, 82));
            [times::<V>(nibbles[0], 0, d), times::<V>(nibbles[1], 0, dmin)]
        }
    }

    #[inline(always)]
    unsafe fn unpack<V: Lanes, S: Sink<V>>(block: *const u8, scales: &[[f32; LANES]; 2], step: usize, sink: &mut S) {
        // SAFETY: by the caller.
        unsafe {
            let qs = block.add(16 + 32 * step);
            let qs = [V::ints_from_u8(qs), V::ints_from_u8(qs.add(16))];
            for quarter in 0..4 {
                for i in 0..2 {
                    let group = 8 * step + 2 * quarter + i;
                    let table = V::affine4(V::splat_at(&scales[0][group]), V::splat_at(&scales[1][group]));
                    let low = V::shift_right(qs[i], 2 * quarter as u32);
                    sink.take(32 * quarter + 16 * i, V::apply_affine4(table, low));
                }
            }
        }
    }
}

/// The low four bits of each of sixteen bytes.
const NIBBLES: u128 = u128::from_ne_bytes([15; 16]);

/// `factor * (byte - centre)` for each of sixteen bytes.
///
/// # Safety
/// `V` is available.
#[inline(always)]
unsafe fn times<V: Lanes>(bytes: u128, centre: i32, factor: f32) -> [f32; LANES] {
    // SAFETY: by the caller; both arrays hold sixteen elements.
    unsafe {
        let bytes = bytes.to_le_bytes();
        let mut scales = [0.0; LANES];
        let ints = V::sub_ints(V::ints_from_u8(bytes.as_ptr()), V::ints(centre));
        V::from_ints(ints).mul(V::splat(factor)).store(scales.as_mut_ptr());
        scales
    }
}

impl Stored for Q3K {
    const ELEMENTS: usize = 256;
    const BYTES: usize = 110;
    const STEP: usize = 128;
    const STREAMS: usize = 4;
    type Scales<V: Lanes> = [f32; LANES];

    #[inline(always)]
    unsafe fn scales<V: Lanes>(block: *const u8) -> [f32; LANES] {
        // SAFETY: by the caller.
        unsafe {
            let low = u128::from(block.add(96).cast::<u64>().read_unaligned());
            let high = u128::from(block.add(104).cast::<u32>().read_unaligned());
            let low = (low | low << 60) & NIBBLES;
            // Bits 0-1 of four bytes become bits 4-5 of the first four, and so on.
            let high = (high << 4 | high << 34 | high << 64 | high << 94) & (NIBBLES & NIBBLES >> 2) << 4;
            times::<V>(low | high, 32, f16_at::<V>(block, 108))
        }
    }

    #[inline(always)]
    unsafe fn unpack<V: Lanes, S: Sink<V>>(block: *const u8, scales: &[f32; LANES], step: usize, sink: &mut S) {
        // SAFETY: by the caller.
        unsafe {
            let third = [V::ints_from_u8(block), V::ints_from_u8(block.add(16))];
            let qs = block.add(32 + 32 * step);
            let qs = [V::ints_from_u8(qs), V::ints_from_u8(qs.add(16))];
            for quarter in 0..4 {
                for i in 0..2 {
                    let table = V::centred8(V::splat_at(&scales[8 * step + 2 * quarter + i]));
                    let low = V::shift_right(qs[i], 2 * quarter as u32);
                    let bit = (4 * step + quarter) as u32;
                    sink.take(32 * quarter + 16 * i, V::apply_centred8(table, low, third[i], bit));
                }
            }
        }
    }
}

/// `[d * sc[0], …, d * sc[7], dmin * m[0], …, dmin * m[7]]` of a Q4_K or Q5_K block.
///
/// # Safety
/// `V` is available and `block` points to a block.
#[inline(always)]
unsafe fn scales_and_mins<V: Lanes>(block: *const u8) -> [f32; LANES] {
    // SAFETY: by the caller; the arrays hold sixteen elements.
    unsafe {
        let factors = V::halves_f16(block);
        let mut scales = [0.0; LANES];
        V::from_ints(V::six_bit_scales(block.add(4))).mul(factors).store(scales.as_mut_ptr());
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
            let table = V::affine16(V::splat_at(&scales[2 * step]), V::splat_at(&scales[8 + 2 * step]));
            sink.take(0, V::apply_affine16(table, first));
            sink.take(16, V::apply_affine16(table, second));
            let table = V::affine16(V::splat_at(&scales[2 * step + 1]), V::splat_at(&scales[9 + 2 * step]));
            sink.take(32, V::apply_affine16(table, V::shift_right(first, 4)));
            sink.take(48, V::apply_affine16(table, V::shift_right(second, 4)));
        }
    }
}

impl Stored for Q5K {
    const ELEMENTS: usize = 256;
    const BYTES: usize = 176;
    const STEP: usize = 64;
    const STREAMS: usize = 4;
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
                let table = V::affine32(V::splat_at(&scales[group]), V::splat_at(&scales[8 + group]));
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
    const STREAMS: usize = 4;
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
            let mut q = [0; 128];
            V::six_bits(block.add(64 * step), block.add(128 + 32 * step), &mut q);
            for (group, q) in q.chunks_exact(LANES).enumerate() {
                let q = V::from_ints(V::ints_from_i8_at(q.as_ptr()));
                sink.take(LANES * group, q.mul(V::splat_at(&scales[8 * step + group])));
            }
        }
    }
}
