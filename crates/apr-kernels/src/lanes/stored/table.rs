//! Four-bit codes that stand for sixteen uneven numbers.

use apr_tensor::codec::{FP4, IQ4, mxfp4_scale};

use super::{Sink, Stored, splat_first_f16};
use crate::lanes::{LANES, Lanes};

pub(crate) struct Iq4Nl;
pub(crate) struct Iq4Xs;
pub(crate) struct Mxfp4;

const fn numbers(table: [i8; 16]) -> [f32; 16] {
    let mut numbers = [0.0; 16];
    let mut i = 0;
    while i < 16 {
        numbers[i] = table[i] as f32;
        i += 1;
    }
    numbers
}

const IQ4_NUMBERS: [f32; 16] = numbers(IQ4);
const FP4_NUMBERS: [f32; 16] = numbers(FP4);

impl Stored for Iq4Nl {
    const ELEMENTS: usize = 32;
    const BYTES: usize = 18;
    type Scales<V: Lanes> = V::Values16;

    #[inline(always)]
    unsafe fn scales<V: Lanes>(block: *const u8) -> V::Values16 {
        // SAFETY: by the caller.
        unsafe { V::values16(&IQ4_NUMBERS, splat_first_f16::<V>(block)) }
    }

    #[inline(always)]
    unsafe fn unpack<V: Lanes, S: Sink<V>>(block: *const u8, table: &V::Values16, _: usize, sink: &mut S) {
        // SAFETY: by the caller.
        unsafe {
            let nibbles = V::ints_from_u8(block.add(2));
            sink.take(0, V::apply_values16(*table, nibbles));
            sink.take(16, V::apply_values16(*table, V::shift_right(nibbles, 4)));
        }
    }
}

impl Stored for Mxfp4 {
    const ELEMENTS: usize = 32;
    const BYTES: usize = 17;
    type Scales<V: Lanes> = V::Values16;

    #[inline(always)]
    unsafe fn scales<V: Lanes>(block: *const u8) -> V::Values16 {
        // SAFETY: by the caller.
        unsafe { V::values16(&FP4_NUMBERS, V::splat(mxfp4_scale(*block))) }
    }

    #[inline(always)]
    unsafe fn unpack<V: Lanes, S: Sink<V>>(block: *const u8, table: &V::Values16, _: usize, sink: &mut S) {
        // SAFETY: by the caller.
        unsafe {
            let nibbles = V::ints_from_u8(block.add(1));
            sink.take(0, V::apply_values16(*table, nibbles));
            sink.take(16, V::apply_values16(*table, V::shift_right(nibbles, 4)));
        }
    }
}

impl Stored for Iq4Xs {
    const ELEMENTS: usize = 256;
    const BYTES: usize = 136;
    const STEP: usize = 32;
    /// Of the eight groups; the other lanes have none.
    type Scales<V: Lanes> = [f32; LANES];

    #[inline(always)]
    unsafe fn scales<V: Lanes>(block: *const u8) -> [f32; LANES] {
        // SAFETY: by the caller; the arrays hold sixteen elements.
        unsafe {
            let low = block.add(4).cast::<u32>().read_unaligned();
            let high = block.add(2).cast::<u16>().read_unaligned();
            let bytes = [spread::<4>(low), 0].map(|low| low | spread::<2>(u32::from(high)) << 4);
            let ints = V::sub_ints(V::ints_from_u8(bytes.as_ptr().cast()), V::ints(32));
            let mut scales = [0.0; LANES];
            V::from_ints(ints).mul(splat_first_f16::<V>(block)).store(scales.as_mut_ptr());
            scales
        }
    }

    #[inline(always)]
    unsafe fn unpack<V: Lanes, S: Sink<V>>(block: *const u8, scales: &[f32; LANES], step: usize, sink: &mut S) {
        // SAFETY: by the caller.
        unsafe {
            let table = V::values16(&IQ4_NUMBERS, V::splat_at(&scales[step]));
            let nibbles = V::ints_from_u8(block.add(8 + 16 * step));
            sink.take(0, V::apply_values16(table, nibbles));
            sink.take(16, V::apply_values16(table, V::shift_right(nibbles, 4)));
        }
    }
}

/// Eight fields of `BITS` bits, one in each byte of the result.
#[inline(always)]
fn spread<const BITS: u32>(fields: u32) -> u64 {
    let field = (1 << BITS) - 1;
    let mut fields = u64::from(fields);
    for n_fields in [4, 2, 1] {
        // Halves of what is still together move apart: from `n_fields * BITS` to `n_fields` bytes.
        fields |= fields << (n_fields * (8 - BITS));
        let kept = (1u64 << (n_fields * BITS)) - 1;
        let mut mask = 0;
        for at in (0..8).step_by(n_fields as usize) {
            mask |= kept << (8 * at);
        }
        fields &= mask;
    }
    debug_assert_eq!(fields & !(0x0101_0101_0101_0101 * field), 0);
    fields
}
