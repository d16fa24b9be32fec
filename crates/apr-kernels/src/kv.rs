//! The shapes of attention and the cache it reads.

/// Head counts and size of an attention layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Query heads; a multiple of `n_kv_heads`.
    pub n_heads: usize,
    /// Key and value heads; query head `h` reads kv head `h / (n_heads / n_kv_heads)`.
    pub n_kv_heads: usize,
    /// Values per head.
    pub head_dim: usize,
}

/// Cached keys and values of one layer, each `[n_positions, n_kv_heads, head_dim]`.
#[derive(Clone, Copy, Debug)]
pub enum KvView<'a> {
    /// Stored as computed.
    F32 {
        /// Keys.
        k: &'a [f32],
        /// Values.
        v: &'a [f32],
    },
    /// Rounded to binary16, as bit patterns; see [`Backend::store_kv_f16`](crate::Backend::store_kv_f16).
    F16 {
        /// Keys.
        k: &'a [u16],
        /// Values.
        v: &'a [u16],
    },
}

impl KvView<'_> {
    /// Number of values in keys and in values.
    pub(crate) fn lens(&self) -> (usize, usize) {
        match self {
            Self::F32 { k, v } => (k.len(), v.len()),
            Self::F16 { k, v } => (k.len(), v.len()),
        }
    }
}

/// One kv head of a [`KvView`]: where its values lie in each position.
#[derive(Clone, Copy)]
pub(crate) struct KvHead<'a> {
    pub(crate) view: KvView<'a>,
    /// Values from one position to the next.
    pub(crate) stride: usize,
    /// Where the head starts within a position.
    pub(crate) offset: usize,
}
