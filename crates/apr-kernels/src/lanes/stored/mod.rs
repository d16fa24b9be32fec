//! Stored weights, turned into lanes: one file per family. Layouts and values: `apr_tensor::codec`.

mod by_codec;
mod float;
mod k;
mod legacy;
mod table;

pub(crate) use by_codec::{Iq1M, Iq1S, Iq2S, Iq2Xs, Iq2Xxs, Iq3S, Iq3Xxs, Nvfp4, Q1_0, Q2_0, Tq1_0, Tq2_0};
pub(crate) use float::{Bf16, F16, F32};
pub(crate) use k::{Q2K, Q3K, Q4K, Q5K, Q6K};
pub(crate) use legacy::{Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
pub(crate) use table::{Iq4Nl, Iq4Xs, Mxfp4};

use super::Lanes;

/// Takes weights in ascending order, sixteen at a time.
pub(crate) trait Sink<V: Lanes> {
    /// `w` holds the weights from `offset` on, counted from the start of the step.
    ///
    /// # Safety
    /// `V` is available, and the step lies within what the sink was made for.
    unsafe fn take(&mut self, offset: usize, w: V);
}

/// How a dtype stores its weights: blocks, each unpacked in a few steps after its scales.
pub(crate) trait Stored {
    /// Weights of a block. The floats, which have none, are taken sixteen at a time.
    const ELEMENTS: usize;
    /// Bytes of a block.
    const BYTES: usize;
    /// Weights unpacked by one step.
    const STEP: usize = Self::ELEMENTS;
    /// Rows whose product with a vector is computed side by side: eight, or four where more would not fit the registers.
    const STREAMS: usize = 8;
    /// What the steps of a block have in common.
    type Scales<V: Lanes>: Copy;

    /// # Safety
    /// `V` is available and `block` points to a block.
    unsafe fn scales<V: Lanes>(block: *const u8) -> Self::Scales<V>;

    /// Unpacks weights `step * STEP..(step + 1) * STEP` of a block.
    ///
    /// # Safety
    /// As [`Self::scales`], which made `scales`, and as [`Sink::take`].
    unsafe fn unpack<V: Lanes, S: Sink<V>>(block: *const u8, scales: &Self::Scales<V>, step: usize, sink: &mut S);
}

/// The binary16 number at the start of a block.
///
/// # Safety
/// `V` is available and eight bytes can be read there.
#[inline(always)]
unsafe fn first_f16<V: Lanes>(block: *const u8) -> f32 {
    // SAFETY: by the caller.
    unsafe { V::f16_of_eight(block) }
}

/// That number in every lane. It goes through memory, since spreading it from a register costs an operation.
///
/// # Safety
/// As [`first_f16`].
#[inline(always)]
unsafe fn splat_first_f16<V: Lanes>(block: *const u8) -> V {
    // SAFETY: by the caller; the number is there to be read.
    unsafe { V::splat_at(&first_f16::<V>(block)) }
}

/// The binary16 number at `block + offset`.
///
/// # Safety
/// `V` is available and two bytes can be read there.
#[inline(always)]
unsafe fn f16_at<V: Lanes>(block: *const u8, offset: usize) -> f32 {
    // SAFETY: by the caller.
    unsafe { V::f16(block.add(offset).cast::<u16>().read_unaligned()) }
}
