//! Blocks of 32 integers with one scale, and perhaps a minimum.

use super::{Sink, Stored, f16_at, splat_first_f16};
use crate::lanes::Lanes;

pub(crate) struct Q4_0;
pub(crate) struct Q4_1;
pub(crate) struct Q5_0;
pub(crate) struct Q5_1;
pub(crate) struct Q8_0;

impl Stored for Q4_0 {
    const ELEMENTS: usize = 32;
    const BYTES: usize = 18;
    type Scales<V: Lanes> = V::Table16;

    #[inline(always)]
    unsafe fn scales<V: Lanes>(block: *const u8) -> V::Table16 {
        // SAFETY: by the caller.
        unsafe { V::centred16(splat_first_f16::<V>(block)) }
    }

    #[inline(always)]
    unsafe fn unpack<V: Lanes, S: Sink<V>>(block: *const u8, table: &V::Table16, _: usize, sink: &mut S) {
        // SAFETY: by the caller.
        unsafe {
            let nibbles = V::ints_from_u8(block.add(2));
            sink.take(0, V::apply_centred16(*table, nibbles));
            sink.take(16, V::apply_centred16(*table, V::shift_right(nibbles, 4)));
        }
    }
}

impl Stored for Q4_1 {
    const ELEMENTS: usize = 32;
    const BYTES: usize = 20;
    type Scales<V: Lanes> = V::Table16;

    #[inline(always)]
    unsafe fn scales<V: Lanes>(block: *const u8) -> V::Table16 {
        // SAFETY: by the caller.
        unsafe { V::affine16(splat_first_f16::<V>(block), V::splat(-f16_at::<V>(block, 2))) }
    }

    #[inline(always)]
    unsafe fn unpack<V: Lanes, S: Sink<V>>(block: *const u8, table: &V::Table16, _: usize, sink: &mut S) {
        // SAFETY: by the caller.
        unsafe {
            let nibbles = V::ints_from_u8(block.add(4));
            sink.take(0, V::apply_affine16(*table, nibbles));
            sink.take(16, V::apply_affine16(*table, V::shift_right(nibbles, 4)));
        }
    }
}

impl Stored for Q5_0 {
    const ELEMENTS: usize = 32;
    const BYTES: usize = 22;
    const STREAMS: usize = 4;
    type Scales<V: Lanes> = V::Table32;

    #[inline(always)]
    unsafe fn scales<V: Lanes>(block: *const u8) -> V::Table32 {
        // SAFETY: by the caller.
        unsafe { V::centred32(splat_first_f16::<V>(block)) }
    }

    #[inline(always)]
    unsafe fn unpack<V: Lanes, S: Sink<V>>(block: *const u8, table: &V::Table32, _: usize, sink: &mut S) {
        // SAFETY: by the caller.
        unsafe {
            let nibbles = V::ints_from_u8(block.add(6));
            let fifth = block.add(2).cast::<u32>().read_unaligned();
            sink.take(0, V::apply_centred32::<0>(*table, nibbles, fifth));
            sink.take(16, V::apply_centred32::<1>(*table, V::shift_right(nibbles, 4), fifth));
        }
    }
}

impl Stored for Q5_1 {
    const ELEMENTS: usize = 32;
    const BYTES: usize = 24;
    const STREAMS: usize = 4;
    type Scales<V: Lanes> = V::Table32;

    #[inline(always)]
    unsafe fn scales<V: Lanes>(block: *const u8) -> V::Table32 {
        // SAFETY: by the caller.
        unsafe { V::affine32(splat_first_f16::<V>(block), V::splat(-f16_at::<V>(block, 2))) }
    }

    #[inline(always)]
    unsafe fn unpack<V: Lanes, S: Sink<V>>(block: *const u8, table: &V::Table32, _: usize, sink: &mut S) {
        // SAFETY: by the caller.
        unsafe {
            let nibbles = V::ints_from_u8(block.add(8));
            let fifth = block.add(4).cast::<u32>().read_unaligned();
            sink.take(0, V::apply_affine32_bits::<0>(*table, nibbles, fifth));
            sink.take(16, V::apply_affine32_bits::<1>(*table, V::shift_right(nibbles, 4), fifth));
        }
    }
}

impl Stored for Q8_0 {
    const ELEMENTS: usize = 32;
    const BYTES: usize = 34;
    type Scales<V: Lanes> = V;

    #[inline(always)]
    unsafe fn scales<V: Lanes>(block: *const u8) -> V {
        // SAFETY: by the caller.
        unsafe { splat_first_f16::<V>(block) }
    }

    #[inline(always)]
    unsafe fn unpack<V: Lanes, S: Sink<V>>(block: *const u8, d: &V, _: usize, sink: &mut S) {
        // SAFETY: by the caller.
        unsafe {
            sink.take(0, V::from_ints(V::ints_from_i8(block.add(2))).mul(*d));
            sink.take(16, V::from_ints(V::ints_from_i8(block.add(18))).mul(*d));
        }
    }
}
