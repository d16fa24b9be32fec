//! Seeded inputs for tests and timings.

use apr_tensor::{DType, codec};

/// A small generator (xorshift64*): the same numbers on every machine.
pub(crate) struct Seeded(u64);

impl Seeded {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Uniform in -1..1.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// `n` numbers in -`scale`..`scale`.
    pub(crate) fn values(&mut self, n: usize, scale: f32) -> Vec<f32> {
        (0..n).map(|_| self.unit() * scale).collect()
    }

    /// `n_elements` stored weights: integers of every value, scales around 0.01.
    pub(crate) fn weights(&mut self, dtype: DType, n_elements: usize) -> Vec<u8> {
        if !dtype.is_quantized() {
            let mut bytes = Vec::new();
            codec::encode(dtype, &self.values(n_elements, 1.0), &mut bytes).expect("floats encode");
            return bytes;
        }
        let n_bytes = dtype.bytes_for(n_elements).expect("whole blocks");
        let mut bytes: Vec<u8> = (0..n_bytes.div_ceil(8)).flat_map(|_| self.bits().to_le_bytes()).collect();
        bytes.truncate(n_bytes);
        for block in bytes.chunks_mut(dtype.info().block_bytes) {
            for i in 0..n_scales(dtype) {
                set_scale(dtype, block, i, half::f16::from_f32(self.unit() * 0.02).to_bits());
            }
        }
        bytes
    }
}

/// Where the scales and minima of a block are.
enum Scales {
    /// f16 numbers at these offsets.
    F16(&'static [usize]),
    /// One, a nibble in each of four 16-bit words, as IQ1_M has it.
    Scattered,
    /// Bytes that are exponents (MXFP4) or E4M3 numbers (NVFP4).
    Bytes(std::ops::Range<usize>),
}

fn scales(dtype: DType) -> Scales {
    Scales::F16(match dtype {
        DType::F32 => &[],
        DType::IQ1M => return Scales::Scattered,
        DType::MXFP4 => return Scales::Bytes(0..1),
        DType::NVFP4 => return Scales::Bytes(0..4),
        DType::Q4_1 | DType::Q5_1 | DType::Q4K | DType::Q5K => &[0, 2],
        DType::Q2K => &[80, 82],
        DType::Q3K => &[108],
        DType::Q6K => &[208],
        DType::TQ1_0 => &[52],
        DType::TQ2_0 => &[64],
        _ => &[0],
    })
}

/// How many scales and minima a block has beside its integers.
pub(crate) fn n_scales(dtype: DType) -> usize {
    match scales(dtype) {
        Scales::F16(offsets) => offsets.len(),
        Scales::Scattered => 1,
        Scales::Bytes(range) => range.len(),
    }
}

/// Sets the `i`-th of them to an f16 number, or to its upper byte where scales are bytes.
pub(crate) fn set_scale(dtype: DType, block: &mut [u8], i: usize, f16_bits: u16) {
    match scales(dtype) {
        Scales::F16(offsets) => block[offsets[i]..][..2].copy_from_slice(&f16_bits.to_le_bytes()),
        Scales::Scattered => {
            for word in 0..4 {
                let byte = &mut block[49 + 2 * word];
                *byte = *byte & 15 | ((f16_bits >> (4 * word) & 15) as u8) << 4;
            }
        }
        Scales::Bytes(range) => block[range][i] = (f16_bits >> 8) as u8,
    }
}
