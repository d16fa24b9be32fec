//! The plan: a checkpoint resolved once into the steps of one forward pass.

use crate::feed_forward::{Experts, FeedForward, Mlp};
use crate::norm::Norm;
use crate::weight::{Linear, Weight, decode_vector, transposed};
use apr_kernels::{AttentionShape, Backend, MatrixError, Nonlinearity, RopeTable};
use apr_model::{
    ARCHITECTURES, Activation, AttnScale, Checkpoint, Finding, LayerRole, MlpKind, ModelSpec, Part, Positions,
    Relayout, RopeScaling, Severity, Spec, SpecError, Tensor, TensorRole, Tensors,
};
use apr_tensor::DType;
use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Once;

/// A checkpoint ready to run: every architecture difference is resolved, every tensor is there with its shape.
///
/// Matrices stay mapped in their stored dtype; norms and biases are decoded once. Any number of sessions share one
/// model.
pub struct Model {
    pub(crate) spec: ModelSpec,
    pub(crate) backend: Backend,
    pub(crate) plan: Plan,
    /// Whether the matrices' pages were brought in.
    brought_in: Once,
}

/// Why a checkpoint can't run.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// No row of the architecture table is for it.
    #[error("architecture {0:?}; this version runs {known}", known = known())]
    UnknownArchitecture(String),
    /// The hyper-parameters describe no model.
    #[error("hyper-parameters: {0}")]
    Spec(#[from] SpecError),
    /// Tensors are absent, misshapen, or would have to be ignored. Never empty.
    #[error("{} of the model's tensors don't fit its hyper-parameters: {}", .0.len(), list(.0))]
    Structure(Vec<Finding>),
    /// The stored row order is no permutation of the tensor's rows.
    #[error(
        "tensor {name}: {n_rows} rows stored for interleaved rotary pairs, expected whole heads of {head_dim} rows, an even number"
    )]
    Relayout {
        /// The tensor.
        name: String,
        /// Its rows.
        n_rows: usize,
        /// Rows of one head, as the reader stated.
        head_dim: usize,
    },
    /// It is stored in a way that its place in the model does not have.
    #[error("tensor {name}: stored as {relayout:?}, which its place in the model does not have")]
    Stored {
        /// The tensor.
        name: String,
        /// How it is stored.
        relayout: Relayout,
    },
    /// Rows of it make matrices of their own, and they don't stand together.
    #[error("tensor {name}: rows {rows:?} of {n_rows} can't be taken, expected rows in the model's own order")]
    Cut {
        /// The tensor.
        name: String,
        /// Its rows.
        n_rows: usize,
        /// The rows asked for.
        rows: Range<usize>,
    },
    /// It is stored transposed, in blocks.
    #[error("tensor {name}: {dtype} blocks run across outputs, expected F32, F16 or BF16 for a transposed matrix")]
    Transposed {
        /// The tensor.
        name: String,
        /// Its dtype.
        dtype: DType,
    },
    /// The kernels don't take the tensor.
    #[error("tensor {name}: {source}")]
    Matrix {
        /// The tensor.
        name: String,
        /// Why not.
        source: MatrixError,
    },
}

/// As many findings as a person reads, and how many more there are.
fn list(findings: &[Finding]) -> String {
    const SHOWN: usize = 5;
    let mut text = findings.iter().take(SHOWN).map(Finding::to_string).collect::<Vec<_>>().join("; ");
    if findings.len() > SHOWN {
        text.push_str(&format!("; and {} more", findings.len() - SHOWN));
    }
    text
}

/// The tensors of one forward pass, in its order.
pub(crate) struct Plan {
    pub(crate) embed: Weight,
    /// Rows that are added to embeddings by position.
    pub(crate) position_embed: Option<Weight>,
    /// What embeddings are multiplied by.
    pub(crate) embed_scale: Option<f32>,
    pub(crate) layers: Vec<LayerPlan>,
    /// What the output of a block is multiplied by before it is added.
    pub(crate) residual_scale: Option<f32>,
    pub(crate) output_norm: Norm,
    /// `None` where the head is the embedding.
    pub(crate) head: Option<Weight>,
    /// What logits are multiplied by.
    pub(crate) logit_scale: Option<f32>,
    pub(crate) logit_softcap: Option<f32>,
    /// The rotary embeddings that layers name by index.
    pub(crate) ropes: Vec<Rope>,
}

/// What makes a table of rotary angles.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rope {
    pub(crate) head_dim: usize,
    pub(crate) rotary_dim: usize,
    pub(crate) theta: f32,
    pub(crate) scaling: apr_kernels::RopeScaling,
    /// What the frequencies are divided by besides, for each pair.
    pub(crate) divisors: Option<Vec<f32>>,
}

impl Rope {
    pub(crate) fn table(&self) -> RopeTable {
        let table = RopeTable::new(self.head_dim, self.rotary_dim, self.theta, self.scaling);
        match &self.divisors {
            Some(divisors) => table.divided_by(divisors),
            None => table,
        }
    }
}

/// The tensors of one layer.
pub(crate) struct LayerPlan {
    /// Without one, attention reads the residual stream itself.
    pub(crate) attn_norm: Option<Norm>,
    pub(crate) q: Linear,
    pub(crate) k: Linear,
    pub(crate) v: Linear,
    pub(crate) q_norm: Option<Norm>,
    pub(crate) k_norm: Option<Norm>,
    /// Which of [`Plan::ropes`] turns queries and keys.
    pub(crate) rope: Option<usize>,
    pub(crate) shape: AttentionShape,
    pub(crate) attn_out: Linear,
    pub(crate) attn_post_norm: Option<Norm>,
    pub(crate) mlp_input: MlpInput,
    pub(crate) mlp: FeedForward,
    pub(crate) mlp_post_norm: Option<Norm>,
}

/// What the feed-forward block reads.
pub(crate) enum MlpInput {
    /// The residual stream after attention, normed.
    Normed(Norm),
    /// The residual stream after attention.
    Residual,
    /// What attention read.
    AttentionInput,
}

impl Model {
    /// Resolves a checkpoint. O(number of tensors): matrices are not read, except those stored transposed.
    pub fn new(checkpoint: &Checkpoint, backend: Backend) -> Result<Self, ModelError> {
        let spec = match &checkpoint.spec {
            Spec::Known(spec) => spec,
            Spec::Unknown(architecture) => return Err(ModelError::UnknownArchitecture(architecture.name.clone())),
        };
        spec.validate()?;
        let problems = problems(checkpoint, spec);
        if !problems.is_empty() {
            return Err(ModelError::Structure(problems));
        }
        let plan = Resolver { spec, tensors: &checkpoint.tensors }.plan()?;
        Ok(Self { spec: spec.clone(), backend, plan, brought_in: Once::new() })
    }

    /// Brings the pages of the matrices in, the first time. Otherwise each thread stops at every few of them during the
    /// first pass, and what it asks for ahead is not heard where no page is there yet.
    pub(crate) fn bring_in(&self) {
        /// Short enough for threads to end together, long enough for a call to the system to cost nothing.
        const PART_BYTES: usize = 8 << 20;
        self.brought_in.call_once(|| {
            let parts: Vec<_> = self.matrices().into_iter().flat_map(|matrix| matrix.parts(PART_BYTES)).collect();
            self.backend.share(parts.len(), |i| parts[i].prefetch());
        });
    }

    /// Hyper-parameters.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// The kernels and threads it runs on.
    pub fn backend(&self) -> &Backend {
        &self.backend
    }
}

fn known() -> String {
    ARCHITECTURES.iter().map(|row| row.id).collect::<Vec<_>>().join(", ")
}

/// Everything that keeps the tensors from being exactly those of the pass.
///
/// A tensor that the architecture doesn't use (a bias on the output projection, a layer too many, rotary factors that no
/// table knows) would change the logits of another implementation; leaving it out silently would be a wrong answer.
/// The exceptions are tables that old Transformers files keep and that follow from the hyper-parameters: rotary
/// frequencies, and the causal mask of GPT-2.
fn problems(checkpoint: &Checkpoint, spec: &ModelSpec) -> Vec<Finding> {
    const TABLES: [&str; 3] = [".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias"];
    let used: HashSet<_> = TensorRole::all(spec).into_iter().map(|(role, _)| role).collect();
    let unused = checkpoint.tensors.iter().filter(|tensor| {
        !tensor.role.is_some_and(|role| used.contains(&role))
            && !TABLES.iter().any(|suffix| tensor.name.ends_with(suffix))
    });
    let unused = unused.map(|tensor| {
        let detail = format!("present, but a {} model of {} layers doesn't use it", spec.arch.id, spec.n_layers);
        Finding::error("unused-tensor", &tensor.name, detail)
    });
    checkpoint.structure().into_iter().filter(|finding| finding.severity == Severity::Error).chain(unused).collect()
}

/// Makes the plan: the one place where the fields of an architecture's row are read.
struct Resolver<'c> {
    spec: &'c ModelSpec,
    tensors: &'c Tensors,
}

impl<'c> Resolver<'c> {
    fn plan(&self) -> Result<Plan, ModelError> {
        let (spec, arch, variation) = (self.spec, self.spec.arch, &self.spec.variation);
        let (ropes, rope_of) = self.ropes()?;
        let layers = (0..spec.n_layers).zip(rope_of).map(|(index, rope)| self.layer(index, rope));
        let bias = self.tensors.role(TensorRole::OutputNormBias);
        Ok(Plan {
            embed: Weight::new(self.tensor(TensorRole::TokenEmbed))?,
            position_embed: self.tensors.role(TensorRole::PositionEmbed).map(Weight::new).transpose()?,
            embed_scale: if arch.root_embed_scale {
                Some((spec.hidden_size as f32).sqrt())
            } else {
                variation.embed_scale
            },
            layers: layers.collect::<Result<_, _>>()?,
            residual_scale: variation.residual_scale,
            output_norm: Norm::new(arch.norm, self.tensor(TensorRole::OutputNorm), bias, spec.norm_eps)?,
            head: self.tensors.role(TensorRole::OutputHead).map(Weight::new).transpose()?,
            logit_scale: variation.logit_divisor.map(|divisor| 1.0 / divisor),
            logit_softcap: variation.logit_softcap,
            ropes,
        })
    }

    /// The rotary embeddings of the model, and which of them each layer has.
    fn ropes(&self) -> Result<(Vec<Rope>, Vec<Option<usize>>), ModelError> {
        let (spec, variation) = (self.spec, &self.spec.variation);
        let common = Rope {
            head_dim: spec.head_dim as usize,
            rotary_dim: spec.rotary_dim() as usize,
            theta: spec.rope_theta,
            scaling: scaling(variation.rope_scaling, spec.context_length),
            divisors: self.tensors.role(TensorRole::RopeFactors).map(decode_vector).transpose()?,
        };
        let apart = variation.window_rope_theta.map(|theta| Rope {
            theta,
            scaling: apr_kernels::RopeScaling::None,
            divisors: None,
            ..common
        });
        let ropes = std::iter::once(common).chain(apart).collect();
        let of = |layer: u32| {
            let turns = spec.arch.positions == Positions::Rotary && !variation.unrotated_layers.contains(&layer);
            let apart = variation.window_rope_theta.is_some() && spec.window(layer).is_some();
            turns.then_some(usize::from(apart))
        };
        let of_layers = (0..spec.n_layers).map(of).collect();
        Ok((ropes, of_layers))
    }

    fn layer(&self, index: u32, rope: Option<usize>) -> Result<LayerPlan, ModelError> {
        let (spec, arch) = (self.spec, self.spec.arch);
        let (q_rows, kv_rows) = ((spec.n_heads * spec.head_dim) as usize, (spec.n_kv_heads * spec.head_dim) as usize);
        let [q, k, v] = if arch.fused_qkv {
            let (k_start, v_start) = (q_rows, q_rows + kv_rows);
            self.rows_of(index, LayerRole::AttnQkv, [0..k_start, k_start..v_start, v_start..v_start + kv_rows])?
        } else {
            let linear = |role| self.linear(index, role);
            [linear(LayerRole::AttnQ)?, linear(LayerRole::AttnK)?, linear(LayerRole::AttnV)?]
        };
        let norm = |role| self.norm(index, role);
        let attn_norm = norm(LayerRole::AttnNorm)?;
        let mlp_input = match norm(LayerRole::MlpNorm)? {
            Some(norm) => MlpInput::Normed(norm),
            None if spec.variation.parallel_residual => MlpInput::AttentionInput,
            None => MlpInput::Residual,
        };
        Ok(LayerPlan {
            attn_norm,
            q,
            k,
            v,
            q_norm: norm(LayerRole::AttnQNorm)?,
            k_norm: norm(LayerRole::AttnKNorm)?,
            rope,
            shape: self.attention(index),
            attn_out: self.linear(index, LayerRole::AttnOut)?,
            attn_post_norm: norm(LayerRole::AttnPostNorm)?,
            mlp_input,
            mlp: self.feed_forward(index)?,
            mlp_post_norm: norm(LayerRole::MlpPostNorm)?,
        })
    }

    fn attention(&self, index: u32) -> AttentionShape {
        let spec = self.spec;
        let plain = AttentionShape::plain(spec.n_heads as usize, spec.n_kv_heads as usize, spec.head_dim as usize);
        AttentionShape {
            scale: match spec.variation.attn_scale {
                AttnScale::Plain => plain.scale,
                AttnScale::InverseRoot(of) => 1.0 / of.sqrt(),
                AttnScale::Factor(factor) => factor,
            },
            softcap: spec.variation.attn_softcap,
            window: spec.window(index).map(|window| window as usize),
            ..plain
        }
    }

    fn feed_forward(&self, index: u32) -> Result<FeedForward, ModelError> {
        let (spec, arch) = (self.spec, self.spec.arch);
        let activation = match arch.activation {
            Activation::Silu => Nonlinearity::Silu,
            Activation::GeluTanh => Nonlinearity::GeluTanh,
        };
        let gated = |gate, up, down| {
            let (gate, up) = (Some(self.linear(index, gate)?), self.linear(index, up)?);
            Ok::<_, ModelError>(Mlp { gate, up, down: self.linear(index, down)?, activation })
        };
        if let Some(experts) = spec.experts(index) {
            let expert = |e| gated(LayerRole::ExpertGate(e), LayerRole::ExpertUp(e), LayerRole::ExpertDown(e));
            let shared = (experts.shared_ffn_size > 0).then(|| {
                let mlp = gated(LayerRole::SharedGate, LayerRole::SharedUp, LayerRole::SharedDown)?;
                Ok::<_, ModelError>((self.linear(index, LayerRole::SharedRouter)?, mlp))
            });
            return Ok(FeedForward::Experts(Box::new(Experts {
                router: self.linear(index, LayerRole::Router)?,
                experts: (0..experts.n_experts).map(expert).collect::<Result<_, _>>()?,
                n_used: experts.n_used as usize,
                normalise: experts.normalise,
                shared: shared.transpose()?,
            })));
        }
        let down = || self.linear(index, LayerRole::MlpDown);
        let mlp = match arch.mlp {
            MlpKind::Gated => gated(LayerRole::MlpGate, LayerRole::MlpUp, LayerRole::MlpDown)?,
            MlpKind::GatedFused => {
                let ffn = spec.ffn_size as usize;
                let [gate, up] = self.rows_of(index, LayerRole::MlpGateUp, [0..ffn, ffn..2 * ffn])?;
                Mlp { gate: Some(gate), up, down: down()?, activation }
            }
            MlpKind::Plain => Mlp { gate: None, up: self.linear(index, LayerRole::MlpUp)?, down: down()?, activation },
        };
        Ok(FeedForward::Dense(Box::new(mlp)))
    }

    fn tensor(&self, role: TensorRole) -> &'c Tensor {
        self.tensors.role(role).expect("problems() found it")
    }

    fn norm(&self, index: u32, role: LayerRole) -> Result<Option<Norm>, ModelError> {
        let part = |part| self.tensors.role(TensorRole::Layer(index, role, part));
        let kind = self.spec.arch.norm;
        part(Part::Weight).map(|gain| Norm::new(kind, gain, part(Part::Bias), self.spec.norm_eps)).transpose()
    }

    /// The matrix of a projection, with a row for each output.
    fn matrix(&self, index: u32, role: LayerRole) -> Result<Cow<'c, Tensor>, ModelError> {
        let tensor = self.tensor(TensorRole::Layer(index, role, Part::Weight));
        if self.spec.arch.transposed { transposed(tensor).map(Cow::Owned) } else { Ok(Cow::Borrowed(tensor)) }
    }

    fn bias(&self, index: u32, role: LayerRole) -> Result<Option<Vec<f32>>, ModelError> {
        self.tensors.role(TensorRole::Layer(index, role, Part::Bias)).map(decode_vector).transpose()
    }

    fn linear(&self, index: u32, role: LayerRole) -> Result<Linear, ModelError> {
        let weight = Weight::new(self.matrix(index, role)?.as_ref())?;
        Ok(Linear { weight, bias: self.bias(index, role)? })
    }

    /// Projections whose matrices are rows of one.
    fn rows_of<const N: usize>(
        &self,
        index: u32,
        role: LayerRole,
        rows: [Range<usize>; N],
    ) -> Result<[Linear; N], ModelError> {
        let (matrix, bias) = (self.matrix(index, role)?, self.bias(index, role)?);
        let linear = |rows: Range<usize>| {
            let bias = bias.as_ref().map(|bias| bias[rows.clone()].to_vec());
            Ok::<_, ModelError>(Linear { weight: Weight::rows(&matrix, rows)?, bias })
        };
        let cut = rows.into_iter().map(linear).collect::<Result<Vec<_>, _>>()?;
        Ok(cut.try_into().unwrap_or_else(|_| unreachable!("as many as asked for")))
    }
}

/// The kernels' words for a model's rotary scaling.
fn scaling(scaling: RopeScaling, context_length: u32) -> apr_kernels::RopeScaling {
    match scaling {
        RopeScaling::None => apr_kernels::RopeScaling::None,
        RopeScaling::Linear { factor } => apr_kernels::RopeScaling::Linear { factor },
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
            apr_kernels::RopeScaling::Llama3 {
                factor,
                low: low_freq_factor,
                high: high_freq_factor,
                original_context: original_max_position_embeddings,
            }
        }
        RopeScaling::Yarn {
            factor,
            beta_fast,
            beta_slow,
            original_max_position_embeddings,
            attention_factor,
            truncate,
        } => apr_kernels::RopeScaling::Yarn {
            factor,
            beta_fast,
            beta_slow,
            original_context: original_max_position_embeddings,
            attention_factor,
            truncate,
        },
        RopeScaling::Dynamic { factor } => apr_kernels::RopeScaling::Dynamic { factor, context: context_length },
    }
}

impl Plan {
    /// The matrix that makes logits.
    pub(crate) fn head(&self) -> &Weight {
        self.head.as_ref().unwrap_or(&self.embed)
    }
}
