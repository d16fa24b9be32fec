//! The shapes of attention and the cache it reads.

/// Head counts and size of an attention layer, and how it scores positions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionShape {
    /// Query heads; a multiple of `n_kv_heads`.
    pub n_heads: usize,
    /// Key and value heads; query head `h` reads kv head `h / (n_heads / n_kv_heads)`.
    pub n_kv_heads: usize,
    /// Values per head.
    pub head_dim: usize,
    /// What `dot(q, k)` is multiplied by; `1 / sqrt(head_dim)` in most models.
    pub scale: f32,
    /// Where it is `c`, a scaled score `s` becomes `c * tanh(s / c)`.
    pub softcap: Option<f32>,
    /// Where it is `w`, the token at position `p` sees positions `p - w + 1..=p`; otherwise all up to its own.
    pub window: Option<usize>,
}

impl AttentionShape {
    /// Plain attention: scale `1 / sqrt(head_dim)`, no cap, no window.
    pub fn plain(n_heads: usize, n_kv_heads: usize, head_dim: usize) -> Self {
        Self { n_heads, n_kv_heads, head_dim, scale: 1.0 / (head_dim as f32).sqrt(), softcap: None, window: None }
    }
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
