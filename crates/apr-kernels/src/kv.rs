//! The shapes of attention and the cache it reads.

use std::ops::Range;

use crate::scalar::{CHUNK, LANES};

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

/// Where a cache keeps the heads of a position: keys `[n_blocks, n_kv_heads, 16, head_dim, 16]`, values `[n_blocks,
/// n_kv_heads, 256, head_dim]`.
///
/// A head's values of 256 consecutive positions are adjacent, so that attention, which goes through one head after the
/// other, reads memory in order, and a cache grows without moving what it holds. The keys of sixteen positions lie
/// dimension by dimension, so that sixteen scores are one register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvLayout {
    /// Key and value heads.
    pub n_kv_heads: usize,
    /// Values per head.
    pub head_dim: usize,
}

impl KvLayout {
    /// Numbers of keys, or of values, that a cache of `n_positions` positions holds: whole blocks.
    pub fn len(self, n_positions: usize) -> usize {
        n_positions.div_ceil(CHUNK) * CHUNK * self.n_kv_heads * self.head_dim
    }

    /// Index in the keys of the first number of a head in a position; the others follow at distances of 16.
    pub fn key_offset(self, position: usize, kv_head: usize) -> usize {
        let row = position % CHUNK;
        self.chunk_offset(position / CHUNK, kv_head) + row / LANES * LANES * self.head_dim + row % LANES
    }

    /// Index in the values of the first number of a head in a position; the others follow.
    pub fn value_offset(self, position: usize, kv_head: usize) -> usize {
        self.chunk_offset(position / CHUNK, kv_head) + position % CHUNK * self.head_dim
    }

    /// Index, in keys and in values, of the first number of a head in a block of positions.
    pub(crate) fn chunk_offset(self, block: usize, kv_head: usize) -> usize {
        (block * self.n_kv_heads + kv_head) * CHUNK * self.head_dim
    }

    /// Puts the keys of consecutive positions from `first`, `[n, n_kv_heads, head_dim]`, where they belong.
    ///
    /// # Panics
    /// If the cache does not hold these positions.
    pub fn store_keys<T: Copy>(self, cache: &mut [T], first: usize, keys: &[T]) {
        self.for_each_head(first, keys, |position, kv_head, key| {
            let column = cache[self.key_offset(position, kv_head)..].iter_mut().step_by(LANES);
            for (cached, number) in column.zip(key) {
                *cached = *number;
            }
        });
    }

    /// Puts the values of consecutive positions from `first`, `[n, n_kv_heads, head_dim]`, where they belong.
    ///
    /// # Panics
    /// If the cache does not hold these positions.
    pub fn store_values<T: Copy>(self, cache: &mut [T], first: usize, values: &[T]) {
        self.for_each_head(first, values, |position, kv_head, value| {
            cache[self.value_offset(position, kv_head)..][..value.len()].copy_from_slice(value);
        });
    }

    fn for_each_head<T>(self, first: usize, rows: &[T], mut put: impl FnMut(usize, usize, &[T])) {
        for (position, heads) in (first..).zip(rows.chunks_exact(self.n_kv_heads * self.head_dim)) {
            for (kv_head, numbers) in heads.chunks_exact(self.head_dim).enumerate() {
                put(position, kv_head, numbers);
            }
        }
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
/// Query `i` is head `i % group` of token `i / group`.
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
    /// What the chunks leave.
    pub(crate) parts: Parts,
}

impl QueryBlock<'_> {
    pub(crate) fn n_queries(&self) -> usize {
        self.n_tokens * self.group
    }

    /// Positions of the context that a query sees: at least its own.
    pub(crate) fn seen(&self, query: usize) -> Range<usize> {
        let end = self.first_pos + query / self.group + 1;
        self.shape.window.map_or(0, |window| end.saturating_sub(window))..end
    }

    /// Positions of a chunk that a query sees, counted from the chunk's first; an empty range where it sees none.
    pub(crate) fn seen_of_chunk(&self, query: usize, chunk: usize) -> Range<usize> {
        let (seen, start) = (self.seen(query), chunk * CHUNK);
        let end = seen.end.saturating_sub(start).min(CHUNK);
        seen.start.saturating_sub(start).min(end)..end
    }

    /// [`seen_of_chunk`](Self::seen_of_chunk), rounded to whole groups of sixteen.
    pub(crate) fn groups_of_chunk(&self, query: usize, chunk: usize) -> Range<usize> {
        let seen = self.seen_of_chunk(query, chunk);
        seen.start / LANES * LANES..seen.end.next_multiple_of(LANES)
    }

    /// Chunks of the context of which a query sees some positions.
    pub(crate) fn chunks(&self, query: usize) -> Range<usize> {
        let seen = self.seen(query);
        seen.start / CHUNK..seen.end.div_ceil(CHUNK)
    }

    /// Chunks of the context of which any query sees some positions.
    pub(crate) fn all_chunks(&self) -> Range<usize> {
        self.chunks(0).start..self.chunks(self.n_queries() - 1).end
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
}

/// What each chunk of positions leaves of each query of a block, until they are joined: the largest score, the sum of
/// the weights and the weighted sum of values.
#[derive(Clone, Copy)]
pub(crate) struct Parts {
    /// Room for [`len`](Self::len) numbers.
    pub(crate) start: *mut f32,
    pub(crate) first_chunk: usize,
    pub(crate) n_queries: usize,
    pub(crate) head_dim: usize,
}

impl Parts {
    /// Numbers that some chunks leave.
    pub(crate) fn len(n_chunks: usize, n_queries: usize, head_dim: usize) -> usize {
        n_chunks * (2 * n_queries.next_multiple_of(LANES) + n_queries * head_dim)
    }

    /// The largest score that a query gives in a chunk; those of further queries follow, with room for whole groups of
    /// sixteen.
    pub(crate) fn max(&self, query: usize, chunk: usize) -> *mut f32 {
        self.of_chunk(chunk).wrapping_add(query)
    }

    /// The sum of a query's weights in a chunk; those of further queries follow, as above.
    pub(crate) fn sum(&self, query: usize, chunk: usize) -> *mut f32 {
        self.of_chunk(chunk).wrapping_add(self.n_queries.next_multiple_of(LANES) + query)
    }

    /// A query's weighted sum of a chunk's values, `[head_dim]`; those of further queries follow.
    pub(crate) fn mixed(&self, query: usize, chunk: usize) -> *mut f32 {
        self.of_chunk(chunk).wrapping_add(2 * self.n_queries.next_multiple_of(LANES) + query * self.head_dim)
    }

    fn of_chunk(&self, chunk: usize) -> *mut f32 {
        self.start.wrapping_add(Self::len(chunk - self.first_chunk, self.n_queries, self.head_dim))
    }
}
