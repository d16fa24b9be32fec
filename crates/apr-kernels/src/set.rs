//! The tables of kernels and the choice among them.

use apr_tensor::{DType, codec};

use crate::isa::{Isa, IsaError};
use crate::kv::{AttentionShape, KvHead};
use crate::nonlinearity::Nonlinearity;
use crate::scalar;

/// The kernels of one instruction set.
///
/// A reference to a set can be had only from [`available`](Self::available) and [`detect`](Self::detect), which hand
/// out what this machine can run: holding one is the proof that its functions may be called. The lengths that a
/// function relies on are stated here and checked by [`Backend`](crate::Backend).
pub struct KernelSet {
    pub(crate) isa: Isa,
    /// `(dtype, rows, x, y)`: `y[r] = dot(row r, x)`; `rows` is `y.len()` ≥ 1 rows of `x.len()` weights.
    pub(crate) matvec: unsafe fn(DType, &[u8], &[f32], &mut [f32]),
    /// `(dtype, src, dst)`: the decoded values; `src` is `dst.len()` weights.
    pub(crate) unpack: unsafe fn(DType, &[u8], &mut [f32]),
    /// `(w, x, depth, sums)`: continues `sums[t, r]`, sixteen each, by `w[r]` and `x[t]`; `w` is `[n_rows, depth]`, `x`
    /// is `[n, depth]`, `sums` is `[n, n_rows, 16]`; `depth` ≥ 1 is a multiple of 16.
    pub(crate) tile: unsafe fn(&[f32], &[f32], usize, &mut [f32]),
    /// `(sums, y)`: the tree over each sixteen sums; `sums` is `[y.len(), 16]`.
    pub(crate) reduce: unsafe fn(&[f32], &mut [f32]),
    /// `(x, gain, eps, y)` of one row, all of the same length.
    pub(crate) rms_norm: unsafe fn(&[f32], &[f32], f32, &mut [f32]),
    /// `(x, gain, bias, eps, y)` of one row, all of the same length.
    pub(crate) layer_norm: LayerNorm,
    /// `(head, cos, sin)`: `cos` and `sin` are half as long as `head`.
    pub(crate) rope: unsafe fn(&mut [f32], &[f32], &[f32]),
    /// One row, in place.
    pub(crate) softmax: unsafe fn(&mut [f32]),
    /// Every value of the slice.
    pub(crate) apply: unsafe fn(Nonlinearity, &mut [f32]),
    /// `(f, gate, up)`: gate and up have the same length.
    pub(crate) gate: unsafe fn(Nonlinearity, &mut [f32], &[f32]),
    /// `(x, cap)`
    pub(crate) softcap: unsafe fn(&mut [f32], f32),
    /// `(x, factor)`
    pub(crate) scale: unsafe fn(&mut [f32], f32),
    /// `(x, y)` of the same length.
    pub(crate) add: unsafe fn(&mut [f32], &[f32]),
    /// `(x, y, factor)`: x and y have the same length.
    pub(crate) add_scaled: unsafe fn(&mut [f32], &[f32], f32),
    /// `(q, head, shape, n_hidden, scores, out)`: `head` holds `scores.len()` positions of `q.len() == out.len()` values,
    /// of which the first `n_hidden`, fewer than a chunk and than all, are not seen.
    pub(crate) attend: Attend,
    /// `(x, bits)` of the same length.
    pub(crate) store_f16: unsafe fn(&[f32], &mut [u16]),
    /// `(data, sum)`: adds the 32-bit words of `data`, whole ones, to `sum`, wrapping.
    pub(crate) read_words: unsafe fn(&[u8], &mut u32),
    /// `(n_steps, sums)`: `sum = fma(sum, 1, 1)` so many times; `sums.len()` is a multiple of
    /// 24 * 16.
    pub(crate) count_up: unsafe fn(usize, &mut [f32]),
}

type LayerNorm = unsafe fn(&[f32], &[f32], &[f32], f32, &mut [f32]);
type Attend = unsafe fn(&[f32], KvHead<'_>, &AttentionShape, usize, &mut [f32], &mut [f32]);

static SCALAR: KernelSet = KernelSet {
    isa: Isa::Scalar,
    matvec: scalar::matvec,
    unpack: codec::decode,
    tile: scalar::tile,
    reduce: scalar::reduce,
    rms_norm: scalar::rms_norm,
    layer_norm: scalar::layer_norm,
    rope: scalar::rope,
    softmax: scalar::softmax,
    apply: scalar::apply,
    gate: scalar::gate,
    softcap: scalar::softcap,
    scale: scalar::scale,
    add: scalar::add,
    add_scaled: scalar::add_scaled,
    attend: scalar::attend,
    store_f16: scalar::store_f16,
    read_words: scalar::read_words,
    count_up: scalar::count_up,
};

impl KernelSet {
    /// The sets this machine can run, the definition first and the fastest last.
    pub fn available() -> Vec<&'static Self> {
        let scalar: &'static Self = &SCALAR;
        #[cfg(target_arch = "x86_64")]
        let faster = crate::x86::available();
        #[cfg(not(target_arch = "x86_64"))]
        let faster = Vec::new();
        std::iter::once(scalar).chain(faster).collect()
    }

    /// The fastest set this machine can run, or the one that the environment variable `APR_ISA` names.
    pub fn detect() -> Result<&'static Self, IsaError> {
        match std::env::var_os("APR_ISA") {
            Some(name) => Self::named(&name.to_string_lossy()),
            None => Ok(Self::available().pop().expect("the scalar set is always available")),
        }
    }

    fn named(name: &str) -> Result<&'static Self, IsaError> {
        let wanted: Isa = name.parse()?;
        let sets = Self::available();
        sets.iter().copied().find(|set| set.isa == wanted).ok_or_else(|| IsaError::Unavailable {
            wanted,
            available: sets.iter().map(|set| set.isa.name()).collect::<Vec<_>>().join(" "),
        })
    }

    /// The instruction set of these kernels.
    pub fn isa(&self) -> Isa {
        self.isa
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_found_by_name_or_the_error_says_what_is_there() {
        assert_eq!(KernelSet::named("scalar").map(KernelSet::isa), Ok(Isa::Scalar));
        assert_eq!(KernelSet::named("sse9").map(KernelSet::isa), Err(IsaError::Unknown { found: "sse9".into() }));
        for isa in Isa::ALL {
            let has = KernelSet::available().iter().any(|set| set.isa == isa);
            match KernelSet::named(isa.name()) {
                Ok(set) => assert!(has && set.isa == isa),
                Err(error) => assert!(!has && matches!(error, IsaError::Unavailable { wanted, .. } if wanted == isa)),
            }
        }
    }
}
