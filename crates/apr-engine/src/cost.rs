//! What a pass must do at least: the bytes that its stages read and the multiply-adds that they compute.
//!
//! Exact counts from the plan, nothing measured. Multiply-adds are those of products and of attention; the few operations
//! per value of norms, rotations, activations and additions are left out. Bytes are those of weights and of the cache;
//! activations stay in the processor's caches and are left out.

use crate::plan::LayerPlan;
use crate::weight::{Linear, Weight};
use crate::{CacheDType, Model, Stage};
use std::ops::{Add, Range};

/// Bytes and multiply-adds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Bytes that have to be read from memory or its caches.
    pub n_bytes: u64,
    /// Multiply-adds in binary32; each is two floating-point operations.
    pub n_multiply_adds: u64,
}

impl Add for Work {
    type Output = Work;

    fn add(self, other: Work) -> Work {
        Work { n_bytes: self.n_bytes + other.n_bytes, n_multiply_adds: self.n_multiply_adds + other.n_multiply_adds }
    }
}

impl std::iter::Sum for Work {
    fn sum<I: Iterator<Item = Work>>(iter: I) -> Work {
        iter.fold(Work::default(), Add::add)
    }
}

/// The work of one stage of the pass, in one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageCost {
    /// The stage whose values it computes.
    pub stage: Stage,
    /// The layer, for stages inside one.
    pub layer: Option<u32>,
    /// Bytes of weights that a chunk of tokens reads once, however many tokens it has.
    pub n_weight_bytes: u64,
    /// Bytes of weights that each token reads for itself.
    pub n_weight_bytes_per_token: u64,
    /// Multiply-adds of each token.
    pub n_multiply_adds_per_token: u64,
    /// Multiply-adds of each token for each position that it sees, its own included.
    pub n_multiply_adds_per_position: u64,
    /// Cached numbers of each position seen.
    pub n_cached_per_position: u64,
}

impl StageCost {
    fn new(stage: Stage, layer: Option<u32>) -> Self {
        Self {
            stage,
            layer,
            n_weight_bytes: 0,
            n_weight_bytes_per_token: 0,
            n_multiply_adds_per_token: 0,
            n_multiply_adds_per_position: 0,
            n_cached_per_position: 0,
        }
    }

    /// A gain that multiplies values one by one.
    fn vector(stage: Stage, layer: Option<u32>, gain: &[f32]) -> Self {
        Self { n_weight_bytes: size_of_val(gain) as u64, ..Self::new(stage, layer) }
    }

    fn matrix(stage: Stage, layer: Option<u32>, weight: &Weight) -> Self {
        Self {
            n_weight_bytes: weight.n_bytes() as u64,
            n_multiply_adds_per_token: weight.n_values() as u64,
            ..Self::new(stage, layer)
        }
    }

    fn linear(stage: Stage, layer: Option<u32>, linear: &Linear) -> Self {
        let mut cost = Self::matrix(stage, layer, &linear.weight);
        cost.n_weight_bytes += linear.bias.as_ref().map_or(0, |bias| size_of_val(bias.as_slice()) as u64);
        cost
    }

    /// The work of the tokens at `positions`, which pass together as one chunk: weights and cache are read once for all.
    pub fn chunk(&self, positions: Range<usize>, cache: CacheDType) -> Work {
        let n_tokens = positions.len() as u64;
        if n_tokens == 0 {
            return Work::default();
        }
        // Token p sees p + 1 positions.
        let n_seen: u64 = positions.clone().map(|position| position as u64 + 1).sum();
        let n_cached = positions.end as u64 * self.n_cached_per_position;
        Work {
            n_bytes: self.n_weight_bytes
                + n_tokens * self.n_weight_bytes_per_token
                + n_cached * cache.element_bytes() as u64,
            n_multiply_adds: n_tokens * self.n_multiply_adds_per_token + n_seen * self.n_multiply_adds_per_position,
        }
    }

    /// The work of a prompt at `positions` that passes in chunks of `n_chunk` tokens, with logits after its last token.
    pub fn prompt(&self, positions: Range<usize>, n_chunk: usize, cache: CacheDType) -> Work {
        if matches!(self.stage, Stage::OutputNorm | Stage::Logits) {
            return self.chunk(positions.end.saturating_sub(1).max(positions.start)..positions.end, cache);
        }
        let starts = positions.clone().step_by(n_chunk.max(1));
        starts.map(|start| self.chunk(start..positions.end.min(start + n_chunk.max(1)), cache)).sum()
    }
}

impl Model {
    /// The work of every stage, in the order of the pass. Stages without weights, products or attention are in it too.
    pub fn costs(&self) -> Vec<StageCost> {
        let plan = &self.plan;
        let embedding_row = (plan.embed.n_bytes() / self.spec.vocab_size as usize) as u64;
        let embed = StageCost { n_weight_bytes_per_token: embedding_row, ..StageCost::new(Stage::Embed, None) };
        let layers = (0..).zip(&plan.layers).flat_map(|(index, layer)| self.layer_costs(index, layer));
        let head = [
            StageCost::vector(Stage::OutputNorm, None, &plan.output_norm),
            StageCost::matrix(Stage::Logits, None, plan.head()),
        ];
        std::iter::once(embed).chain(layers).chain(head).collect()
    }

    fn layer_costs(&self, index: u32, layer: &LayerPlan) -> Vec<StageCost> {
        // Named one by one, so that a new part of a layer can't be left out of the account.
        let LayerPlan { attn_norm, q, k, v, q_norm, k_norm, attn_out, mlp_norm, gate, up, down } = layer;
        let index = Some(index);
        let shape = &self.plan.shape;
        let vector = |stage, gain: &[f32]| StageCost::vector(stage, index, gain);
        let linear = |stage, weight| StageCost::linear(stage, index, weight);
        let attention = StageCost {
            // A score and a weighted value for each head and position.
            n_multiply_adds_per_position: (2 * shape.n_heads * shape.head_dim) as u64,
            n_cached_per_position: (2 * shape.n_kv_heads * shape.head_dim) as u64,
            ..StageCost::new(Stage::Attention, index)
        };
        let per_head = [(Stage::QueryNorm, q_norm), (Stage::KeyNorm, k_norm)];
        let mut costs = vec![
            vector(Stage::AttnNorm, attn_norm),
            linear(Stage::Query, q),
            linear(Stage::Key, k),
            linear(Stage::Value, v),
        ];
        costs.extend(per_head.into_iter().filter_map(|(stage, gain)| Some(vector(stage, gain.as_ref()?))));
        costs.extend([
            StageCost::new(Stage::QueryRope, index),
            StageCost::new(Stage::KeyRope, index),
            attention,
            linear(Stage::AttnOut, attn_out),
            StageCost::new(Stage::AttnResidual, index),
            vector(Stage::MlpNorm, mlp_norm),
            linear(Stage::Gate, gate),
            linear(Stage::Up, up),
            StageCost::new(Stage::GatedUp, index),
            linear(Stage::Down, down),
            StageCost::new(Stage::LayerOut, index),
        ]);
        costs
    }

    /// The work of decoding the token at `position`: every weight once, and the cache of all positions up to it.
    pub fn decode_work(&self, position: usize, cache: CacheDType) -> Work {
        self.prompt_work(position..position + 1, 1, cache)
    }

    /// The work of a prompt at `positions` that passes in chunks of `n_chunk` tokens, with logits after its last token.
    pub fn prompt_work(&self, positions: Range<usize>, n_chunk: usize, cache: CacheDType) -> Work {
        self.costs().iter().map(|cost| cost.prompt(positions.clone(), n_chunk, cache)).sum()
    }

    /// The stored bytes of every matrix that a token is multiplied with, in the order of the pass.
    pub fn weight_bytes(&self) -> Vec<&[u8]> {
        let matrices = self.plan.layers.iter().flat_map(|layer| {
            [&layer.q, &layer.k, &layer.v, &layer.attn_out, &layer.gate, &layer.up, &layer.down]
                .map(|linear| linear.weight.stored())
        });
        matrices.chain([self.plan.head().stored()]).collect()
    }
}
