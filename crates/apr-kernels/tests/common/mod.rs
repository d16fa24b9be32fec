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

/// Where the f16 numbers of a block are.
fn f16_offsets(dtype: DType) -> &'static [usize] {
    match dtype {
        DType::F32 => &[],
        DType::F16 | DType::BF16 => &[0],
        DType::Q4_0 | DType::Q5_0 | DType::Q8_0 | DType::IQ4NL | DType::IQ4XS => &[0],
        DType::Q4_1 | DType::Q5_1 | DType::Q4K | DType::Q5K => &[0, 2],
        DType::Q2K => &[80, 82],
        DType::Q3K => &[108],
        DType::Q6K => &[208],
    }
}

/// How many scales and minima a block has beside its integers.
pub(crate) fn n_scales(dtype: DType) -> usize {
    f16_offsets(dtype).len()
}

/// Sets the `i`-th of them.
pub(crate) fn set_scale(dtype: DType, block: &mut [u8], i: usize, f16_bits: u16) {
    let offset = f16_offsets(dtype)[i];
    block[offset..offset + 2].copy_from_slice(&f16_bits.to_le_bytes());
}
