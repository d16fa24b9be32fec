//! Dtypes without lanes of their own: the codec decodes a block, the lanes load its values.
//!
//! Decoding is the definition's own and takes one weight at a time, so these products are bound by it and not by memory.
//! What follows is the same as for every other dtype, and so are the bits.

use apr_tensor::{DType, codec};

use super::{Sink, Stored};
use crate::lanes::{LANES, Lanes};

/// The most weights in a block.
const MAX_ELEMENTS: usize = 256;

macro_rules! by_codec {
    ($($name:ident: $dtype:ident,)*) => {
        $(
            pub(crate) struct $name;

            impl Stored for $name {
                const ELEMENTS: usize = DType::$dtype.info().block_elements;
                const BYTES: usize = DType::$dtype.info().block_bytes;
                /// The decoded weights.
                type Scales<V: Lanes> = [f32; MAX_ELEMENTS];

                #[inline(always)]
                unsafe fn scales<V: Lanes>(block: *const u8) -> [f32; MAX_ELEMENTS] {
                    let mut weights = [0.0; MAX_ELEMENTS];
                    // SAFETY: by the caller.
                    let block = unsafe { std::slice::from_raw_parts(block, Self::BYTES) };
                    codec::decode(DType::$dtype, block, &mut weights[..Self::ELEMENTS]);
                    weights
                }

                #[inline(always)]
                unsafe fn unpack<V: Lanes, S: Sink<V>>(
                    _: *const u8,
                    weights: &[f32; MAX_ELEMENTS],
                    _: usize,
                    sink: &mut S,
                ) {
                    for (i, sixteen) in weights[..Self::ELEMENTS].as_chunks::<LANES>().0.iter().enumerate() {
                        // SAFETY: by the caller; there are sixteen weights.
                        unsafe { sink.take(LANES * i, V::load(sixteen.as_ptr())) }
                    }
                }
            }
        )*
    };
}

by_codec! {
    Iq1S: IQ1S,
    Iq1M: IQ1M,
    Iq2Xxs: IQ2XXS,
    Iq2Xs: IQ2XS,
    Iq2S: IQ2S,
    Iq3Xxs: IQ3XXS,
    Iq3S: IQ3S,
    Tq1_0: TQ1_0,
    Tq2_0: TQ2_0,
    Nvfp4: NVFP4,
    Q1_0: Q1_0,
    Q2_0: Q2_0,
}
