//! What a pass must do at least: the bytes that its stages read and the multiply-adds that they compute.
//!
//! Exact counts from the plan, nothing measured. Multiply-adds are those of products and of attention; the few operations
//! per value of norms, rotations, activations and additions are left out. Bytes are those of weights and of the cache;
//! activations stay in the processor's caches and are left out.

use crate::feed_forward::{Experts, FeedForward, Mlp};
use crate::norm::Norm;
use crate::plan::{LayerPlan, MlpInput};
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
    /// Whether a prompt's last token is the only one it is computed for.
    pub is_for_last_token: bool,
    /// Most positions that a token sees, where the layer has a window.
    pub window: Option<usize>,
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
            is_for_last_token: false,
            window: None,
        }
    }

    /// Vectors that meet values one by one.
    fn norm(stage: Stage, layer: Option<u32>, norm: &Norm) -> Self {
        Self { n_weight_bytes: norm.n_bytes() as u64, ..Self::new(stage, layer) }
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
        // Token p sees p + 1 positions, or as many of them as the window has.
        let seen = |position: usize| (position + 1).min(self.window.unwrap_or(usize::MAX)) as u64;
        let n_seen: u64 = positions.clone().map(seen).sum();
        let n_cached = (positions.len() as u64 - 1 + seen(positions.start)) * self.n_cached_per_position;
        Work {
            n_bytes: self.n_weight_bytes
                + n_tokens * self.n_weight_bytes_per_token
                + n_cached * cache.element_bytes() as u64,
            n_multiply_adds: n_tokens * self.n_multiply_adds_per_token + n_seen * self.n_multiply_adds_per_position,
        }
    }

    /// The same stage in a session with an observer, which is shown all tokens of all layers.
    pub fn observed(self) -> Self {
        Self { is_for_last_token: self.is_for_last_token && self.layer.is_none(), ..self }
    }

    /// The work of a prompt at `positions` that passes in chunks of `n_chunk` tokens, with logits after its last token.
    pub fn prompt(&self, positions: Range<usize>, n_chunk: usize, cache: CacheDType) -> Work {
        if self.is_for_last_token {
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
            StageCost::norm(Stage::OutputNorm, None, &plan.output_norm),
            StageCost::matrix(Stage::Logits, None, plan.head()),
        ];
        let last = self.spec.n_layers - 1;
        let all = std::iter::once(embed).chain(layers).chain(head);
        // The last layer's keys and values are for all tokens of a prompt, what comes after them only for the last.
        let for_all = [Stage::AttnNorm, Stage::Key, Stage::Value, Stage::KeyNorm, Stage::KeyRope];
        all.map(|cost| {
            let is_late = cost.layer.is_none_or(|layer| layer == last) && cost.stage != Stage::Embed;
            StageCost { is_for_last_token: is_late && !for_all.contains(&cost.stage), ..cost }
        })
        .collect()
    }

    fn layer_costs(&self, index: u32, layer: &LayerPlan) -> Vec<StageCost> {
        // Named one by one, so that a new part of a layer can't be left out of the account.
        let LayerPlan {
            attn_norm,
            q,
            k,
            v,
            q_norm,
            k_norm,
            rope,
            shape,
            attn_out,
            attn_post_norm,
            mlp_input,
            mlp,
            mlp_post_norm,
        } = layer;
        let index = Some(index);
        let nothing = |stage| StageCost::new(stage, index);
        let norm = |stage, norm: &Option<Norm>| Some(StageCost::norm(stage, index, norm.as_ref()?));
        let linear = |stage, weight| Some(StageCost::linear(stage, index, weight));
        let attention = StageCost {
            // A score and a weighted value for each head and position.
            n_multiply_adds_per_position: (2 * shape.n_heads * shape.head_dim) as u64,
            n_cached_per_position: (2 * shape.n_kv_heads * shape.head_dim) as u64,
            window: shape.window,
            ..nothing(Stage::Attention)
        };
        let before = [
            norm(Stage::AttnNorm, attn_norm),
            linear(Stage::Query, q),
            linear(Stage::Key, k),
            linear(Stage::Value, v),
            norm(Stage::QueryNorm, q_norm),
            norm(Stage::KeyNorm, k_norm),
            rope.map(|_| nothing(Stage::QueryRope)),
            rope.map(|_| nothing(Stage::KeyRope)),
            Some(attention),
            linear(Stage::AttnOut, attn_out),
            norm(Stage::AttnPostNorm, attn_post_norm),
            Some(nothing(Stage::AttnResidual)),
            match mlp_input {
                MlpInput::Normed(mlp_norm) => Some(StageCost::norm(Stage::MlpNorm, index, mlp_norm)),
                MlpInput::Residual | MlpInput::AttentionInput => None,
            },
        ];
        let block = match mlp {
            FeedForward::Dense(mlp) => {
                let Mlp { gate, up, down, activation: _ } = &**mlp;
                vec![
                    gate.as_ref().and_then(|gate| linear(Stage::Gate, gate)),
                    linear(Stage::Up, up),
                    Some(nothing(Stage::GatedUp)),
                    linear(Stage::Down, down),
                ]
            }
            FeedForward::Experts(experts) => {
                vec![linear(Stage::Router, &experts.router), Some(experts_cost(index, experts))]
            }
        };
        let after = [norm(Stage::MlpPostNorm, mlp_post_norm), Some(nothing(Stage::LayerOut))];
        before.into_iter().chain(block).chain(after).flatten().collect()
    }

    /// The work of decoding the token at `position`: every weight once, and the cache of all positions up to it.
    pub fn decode_work(&self, position: usize, cache: CacheDType) -> Work {
        self.prompt_work(position..position + 1, 1, cache)
    }

    /// The work of a prompt at `positions` that passes in chunks of `n_chunk` tokens, with logits after its last token.
    pub fn prompt_work(&self, positions: Range<usize>, n_chunk: usize, cache: CacheDType) -> Work {
        self.costs().iter().map(|cost| cost.prompt(positions.clone(), n_chunk, cache)).sum()
    }

    /// The stored bytes of every matrix that a token is multiplied with, in the order of the pass; of experts, the first
    /// ones, as many as a token uses.
    pub fn weight_bytes(&self) -> Vec<&[u8]> {
        self.matrices().into_iter().map(Weight::stored).collect()
    }

    /// The matrices of [`Model::weight_bytes`].
    pub(crate) fn matrices(&self) -> Vec<&Weight> {
        let matrices = self.plan.layers.iter().flat_map(|layer| {
            let attention = [&layer.q, &layer.k, &layer.v, &layer.attn_out];
            let block = match &layer.mlp {
                FeedForward::Dense(mlp) => mlp.linears(),
                FeedForward::Experts(experts) => std::iter::once(&experts.router).chain(used(experts)).collect(),
            };
            attention.into_iter().chain(block).map(|linear| &linear.weight)
        });
        matrices.chain([self.plan.head()]).collect()
    }
}

/// The matrices of as many experts as a token uses, and of the shared one.
fn used(experts: &Experts) -> Vec<&Linear> {
    let chosen = experts.experts.iter().take(experts.n_used).flat_map(Mlp::linears);
    let shared = experts.shared.iter().flat_map(|(router, mlp)| std::iter::once(router).chain(mlp.linears()));
    chosen.chain(shared).collect()
}

/// The work of the experts: at least as many are read as one token uses.
fn experts_cost(layer: Option<u32>, experts: &Experts) -> StageCost {
    let costs = || used(experts).into_iter().map(|linear| StageCost::linear(Stage::Down, layer, linear));
    StageCost {
        n_weight_bytes: costs().map(|cost| cost.n_weight_bytes).sum(),
        n_multiply_adds_per_token: costs().map(|cost| cost.n_multiply_adds_per_token).sum(),
        ..StageCost::new(Stage::Down, layer)
    }
}
