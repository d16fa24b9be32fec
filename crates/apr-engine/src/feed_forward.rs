//! The feed-forward block of a layer: one for every token, or experts of which each token uses some.

use crate::Stage;
use crate::weight::{Linear, project_each};
use apr_kernels::{Backend, Nonlinearity};

/// What follows attention in a layer.
pub(crate) enum FeedForward {
    /// One block.
    Dense(Box<Mlp>),
    /// A choice among blocks.
    Experts(Box<Experts>),
}

/// `down(f(gate(x)) * up(x))`, or `down(f(up(x)))` without a gate.
pub(crate) struct Mlp {
    pub(crate) gate: Option<Linear>,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
    pub(crate) activation: Nonlinearity,
}

/// Blocks of which each token uses the `n_used` that its router scores highest.
///
/// The weight of an expert is its share in the softmax over all scores, divided by the sum of the used ones where
/// `normalise` says so (from the highest on); of equal shares the lower expert is used. A token's output is the sum of
/// its experts' outputs times their weights by ascending expert, with fused multiply-adds from zero, then of the shared
/// expert's. Tokens that use an expert pass it together, each by the same dot products as alone, so that the rest of the
/// batch can't change a bit.
pub(crate) struct Experts {
    pub(crate) router: Linear,
    pub(crate) experts: Vec<Mlp>,
    pub(crate) n_used: usize,
    pub(crate) normalise: bool,
    /// An expert that every token uses, times the sigmoid of its score.
    pub(crate) shared: Option<(Linear, Mlp)>,
}

/// Memory of the block for one chunk of tokens.
#[derive(Default)]
pub(crate) struct Scratch {
    /// `[n, ffn]` each.
    gate: Vec<f32>,
    up: Vec<f32>,
    /// `[n, n_experts]`
    scores: Vec<f32>,
    /// Tokens that use an expert, and what it makes of them, `[n, hidden]` each.
    gathered: Vec<f32>,
    made: Vec<f32>,
    stored_row: Vec<f32>,
}

/// The first `len` values of `buffer`, which grows where it is shorter.
fn sized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

impl FeedForward {
    /// `out = block(x)` for `n` tokens, `[n, hidden]` both.
    pub(crate) fn run(
        &self,
        backend: &Backend,
        x: &[f32],
        out: &mut [f32],
        n: usize,
        scratch: &mut Scratch,
        mut show: impl FnMut(Stage, &[f32]),
    ) {
        match self {
            FeedForward::Dense(mlp) => {
                let Scratch { gate, up, stored_row, .. } = scratch;
                mlp.run(backend, x, out, n, (gate, up, stored_row), &mut show);
            }
            FeedForward::Experts(experts) => experts.run(backend, x, out, n, scratch, &mut show),
        }
        show(Stage::Down, out);
    }
}

type MlpScratch<'a> = (&'a mut Vec<f32>, &'a mut Vec<f32>, &'a mut Vec<f32>);

impl Mlp {
    /// Its projections, in the order of the pass.
    pub(crate) fn linears(&self) -> Vec<&Linear> {
        self.gate.iter().chain([&self.up, &self.down]).collect()
    }

    fn run(
        &self,
        backend: &Backend,
        x: &[f32],
        out: &mut [f32],
        n: usize,
        (inner, up, stored_row): MlpScratch<'_>,
        show: &mut impl FnMut(Stage, &[f32]),
    ) {
        let inner = sized(inner, n * self.up.n_rows());
        match &self.gate {
            Some(gate) => {
                let up = sized(up, inner.len());
                project_each(backend, x, [(gate, &mut *inner), (&self.up, &mut *up)], stored_row);
                show(Stage::Gate, inner);
                show(Stage::Up, up);
                backend.gate(self.activation, inner, up);
            }
            None => {
                self.up.project(backend, x, inner, stored_row);
                show(Stage::Up, inner);
                backend.apply(self.activation, inner);
            }
        }
        show(Stage::GatedUp, inner);
        // The product rearranges its input, which takes as much memory as `up`.
        backend.with_buffer(up, || self.down.project(backend, inner, out, stored_row));
    }
}

impl Experts {
    fn run(
        &self,
        backend: &Backend,
        x: &[f32],
        out: &mut [f32],
        n: usize,
        scratch: &mut Scratch,
        show: &mut impl FnMut(Stage, &[f32]),
    ) {
        let hidden = x.len() / n;
        let n_experts = self.experts.len();
        let Scratch { gate, up, scores, gathered, made, stored_row } = scratch;
        let scores = sized(scores, n * n_experts);
        self.router.project(backend, x, scores, stored_row);
        show(Stage::Router, scores);
        let mut users = vec![Vec::new(); n_experts];
        for (token, scores) in scores.chunks_exact_mut(n_experts).enumerate() {
            backend.softmax(scores);
            for (expert, weight) in self.choose(scores) {
                users[expert].push((token, weight));
            }
        }

        out.fill(0.0);
        let gathered = sized(gathered, n * hidden);
        let made = sized(made, n * hidden);
        for (expert, users) in self.experts.iter().zip(&users).filter(|(_, users)| !users.is_empty()) {
            let n_users = users.len();
            let (gathered, made) = (&mut gathered[..n_users * hidden], &mut made[..n_users * hidden]);
            for ((token, _), row) in users.iter().zip(gathered.chunks_exact_mut(hidden)) {
                row.copy_from_slice(&x[token * hidden..][..hidden]);
            }
            expert.run(backend, gathered, made, n_users, (&mut *gate, &mut *up, &mut *stored_row), &mut |_, _| ());
            for ((token, weight), row) in users.iter().zip(made.chunks_exact(hidden)) {
                backend.add_scaled(&mut out[token * hidden..][..hidden], row, *weight);
            }
        }
        if let Some((router, mlp)) = &self.shared {
            mlp.run(backend, x, made, n, (&mut *gate, &mut *up, &mut *stored_row), &mut |_, _| ());
            let weights = &mut scores[..n];
            router.project(backend, x, weights, stored_row);
            backend.apply(Nonlinearity::Sigmoid, weights);
            for ((row, weight), out) in made.chunks_exact(hidden).zip(weights).zip(out.chunks_exact_mut(hidden)) {
                backend.add_scaled(out, row, *weight);
            }
        }
    }

    /// The experts of a token and their weights, from its shares of all experts.
    fn choose(&self, shares: &[f32]) -> Vec<(usize, f32)> {
        let mut ranked: Vec<(usize, f32)> = shares.iter().copied().enumerate().collect();
        // Stable, so the lower of equals stays first; a NaN makes the output NaN wherever it stands.
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        ranked.truncate(self.n_used);
        if self.normalise {
            let sum = ranked.iter().fold(0.0, |sum, (_, share)| sum + share);
            ranked.iter_mut().for_each(|(_, share)| *share /= sum);
        }
        ranked
    }
}
