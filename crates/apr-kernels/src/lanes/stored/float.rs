//! Floats: one number per weight, sixteen at a time.

use super::{Sink, Stored};
use crate::lanes::{LANES, Lanes};

pub(crate) struct F32;
pub(crate) struct F16;
pub(crate) struct Bf16;

impl Stored for F32 {
    const ELEMENTS: usize = LANES;
    const BYTES: usize = 4 * LANES;
    type Scales<V: Lanes> = ();

    #[inline(always)]
    unsafe fn scales<V: Lanes>(_: *const u8) {}

    #[inline(always)]
    unsafe fn unpack<V: Lanes, S: Sink<V>>(block: *const u8, (): &(), _: usize, sink: &mut S) {
        // SAFETY: by the caller.
        unsafe { sink.take(0, V::load(block.cast())) }
    }
}

impl Stored for F16 {
    const ELEMENTS: usize = LANES;
    const BYTES: usize = 2 * LANES;
    type Scales<V: Lanes> = ();

    #[inline(always)]
    unsafe fn scales<V: Lanes>(_: *const u8) {}

    #[inline(always)]
    unsafe fn unpack<V: Lanes, S: Sink<V>>(block: *const u8, (): &(), _: usize, sink: &mut S) {
        // SAFETY: by the caller.
        unsafe { sink.take(0, V::load_f16(block.cast())) }
    }
}

impl Stored for Bf16 {
    const ELEMENTS: usize = LANES;
    const BYTES: usize = 2 * LANES;
    type Scales<V: Lanes> = ();

    #[inline(always)]
    unsafe fn scales<V: Lanes>(_: *const u8) {}

    #[inline(always)]
    unsafe fn unpack<V: Lanes, S: Sink<V>>(block: *const u8, (): &(), _: usize, sink: &mut S) {
        // SAFETY: by the caller.
        unsafe { sink.take(0, V::load_bf16(block.cast())) }
    }
}
