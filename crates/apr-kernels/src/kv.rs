//! The shapes of attention and the cache it reads.

use std::ops::Range;

use crate::scalar::CHUNK;

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

/// Where a cache keeps the heads of a position: `[n_blocks, n_kv_heads, 256, head_dim]`.
///
/// A head's values of 256 consecutive positions are adjacent, so that attention, which goes through one head after the
/// other, reads memory in order, and a cache grows without moving what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvLayout {
    /// Key and value heads.
    pub n_kv_heads: usize,
    /// Values per head.
    pub head_dim: usize,
}

impl KvLayout {
    /// Values of keys, or of values, that a cache of `n_positions` positions holds: whole blocks.
    pub fn len(self, n_positions: usize) -> usize {
        n_positions.div_ceil(CHUNK) * self.block_len()
    }

    /// Index of the first value of a head in a position.
    pub fn offset(self, position: usize, kv_head: usize) -> usize {
        let (block, row) = (position / CHUNK, position % CHUNK);
        block * self.block_len() + (kv_head * CHUNK + row) * self.head_dim
    }

    fn block_len(self) -> usize {
        CHUNK * self.n_kv_heads * self.head_dim
    }
}

/// Cached keys and values of one layer, each as [`KvLayout`] says.
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

/// One kv head of a [`KvView`].
#[derive(Clone, Copy)]
pub(crate) struct KvHead<'a> {
    pub(crate) view: KvView<'a>,
    pub(crate) layout: KvLayout,
    pub(crate) kv_head: usize,
}

/// The query heads of a few consecutive tokens that share a kv head.
///
/// Query `i` is head `i % group` of token `i / group`. Its scores are a row whose position 0 is a multiple of
/// [`CHUNK`](crate::scalar::CHUNK) in the context.
#[derive(Clone, Copy)]
pub(crate) struct QueryBlock<'a> {
    pub(crate) shape: &'a AttentionShape,
    pub(crate) head: KvHead<'a>,
    /// Position in the context of the first token.
    pub(crate) first_pos: usize,
    pub(crate) n_tokens: usize,
    /// Query heads of a token.
    pub(crate) group: usize,
    /// The queries of the first token, `[group, head_dim]`.
    pub(crate) q: *const f32,
    /// Their results, likewise.
    pub(crate) out: *mut f32,
    /// Values from one token's queries to the next one's, and from results to results.
    pub(crate) token_stride: usize,
    /// Room for the scores, `[n_tokens * group, scores_stride]`.
    pub(crate) scores: *mut f32,
    /// At least the number of positions that the last token sees, from the first chunk that the first token sees.
    pub(crate) scores_stride: usize,
}

impl QueryBlock<'_> {
    pub(crate) fn n_queries(&self) -> usize {
        self.n_tokens * self.group
    }

    /// Positions of the context that a query sees.
    pub(crate) fn seen(&self, query: usize) -> Range<usize> {
        let end = self.first_pos + query / self.group + 1;
        self.shape.window.map_or(0, |window| end.saturating_sub(window))..end
    }

    /// Positions from the first chunk of which a query sees some.
    pub(crate) fn row(&self, query: usize) -> Range<usize> {
        let seen = self.seen(query);
        seen.start / CHUNK * CHUNK..seen.end
    }

    fn first_row_start(&self) -> usize {
        self.row(0).start
    }

    pub(crate) fn q_of(&self, query: usize) -> *const f32 {
        self.q.wrapping_add(self.offset(query))
    }

    pub(crate) fn out_of(&self, query: usize) -> *mut f32 {
        self.out.wrapping_add(self.offset(query))
    }

    fn offset(&self, query: usize) -> usize {
        query / self.group * self.token_stride + query % self.group * self.shape.head_dim
    }

    /// Where a query's score of position 0 would be, if its row had one.
    pub(crate) fn position_0_of(&self, query: usize) -> *mut f32 {
        self.scores.wrapping_add(query * self.scores_stride).wrapping_sub(self.first_row_start())
    }

    /// The start of a query's [`row`](Self::row).
    pub(crate) fn scores_of(&self, query: usize) -> *mut f32 {
        self.position_0_of(query).wrapping_add(self.row(query).start)
    }
}
