//! The plan: a checkpoint resolved once into the steps of one forward pass.

use crate::weight::{Linear, Weight, decode_vector};
use apr_kernels::{AttentionShape, Backend, MatrixError};
use apr_model::{Checkpoint, Finding, LayerRole, ModelSpec, Part, Severity, SpecError, TensorRole};
use std::collections::HashSet;

/// A checkpoint ready to run: every architecture difference is resolved, every tensor is there with its shape.
///
/// Matrices stay mapped in their stored dtype; norms and biases are decoded once. Any number of sessions share one
/// model.
pub struct Model {
    pub(crate) spec: ModelSpec,
    pub(crate) backend: Backend,
    pub(crate) plan: Plan,
}

/// Why a checkpoint can't run.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
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
    pub(crate) layers: Vec<LayerPlan>,
    pub(crate) output_norm: Vec<f32>,
    /// `None` where the head is the embedding.
    pub(crate) head: Option<Weight>,
    pub(crate) shape: AttentionShape,
}

/// The tensors of one layer.
pub(crate) struct LayerPlan {
    pub(crate) attn_norm: Vec<f32>,
    pub(crate) q: Linear,
    pub(crate) k: Linear,
    pub(crate) v: Linear,
    pub(crate) q_norm: Option<Vec<f32>>,
    pub(crate) k_norm: Option<Vec<f32>>,
    pub(crate) attn_out: Linear,
    pub(crate) mlp_norm: Vec<f32>,
    pub(crate) gate: Linear,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
}

impl Model {
    /// Resolves a checkpoint. O(number of tensors): matrices are not read.
    pub fn new(checkpoint: &Checkpoint, backend: Backend) -> Result<Self, ModelError> {
        checkpoint.spec.validate()?;
        let problems = problems(checkpoint);
        if !problems.is_empty() {
            return Err(ModelError::Structure(problems));
        }
        let plan = Plan::new(checkpoint)?;
        Ok(Self { spec: checkpoint.spec.clone(), backend, plan })
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

/// Everything that keeps the tensors from being exactly those of the pass.
///
/// A tensor that the architecture doesn't use (a bias on the output projection, a layer too many, rotary factors that no
/// table knows) would change the logits of another implementation; leaving it out silently would be a wrong answer.
/// The one exception is the rotary frequency table that old Transformers files keep: it follows from `rope_theta`.
fn problems(checkpoint: &Checkpoint) -> Vec<Finding> {
    let spec = &checkpoint.spec;
    let used: HashSet<_> = TensorRole::all(spec).into_iter().map(|(role, _)| role).collect();
    let unused = checkpoint.tensors.iter().filter(|tensor| {
        !tensor.role.is_some_and(|role| used.contains(&role)) && !tensor.name.ends_with(".rotary_emb.inv_freq")
    });
    let unused = unused.map(|tensor| {
        let detail = format!("present, but a {} model of {} layers doesn't use it", spec.arch.id, spec.n_layers);
        Finding::error("unused-tensor", &tensor.name, detail)
    });
    checkpoint.structure().into_iter().filter(|finding| finding.severity == Severity::Error).chain(unused).collect()
}

impl Plan {
    fn new(checkpoint: &Checkpoint) -> Result<Self, ModelError> {
        let tensors = &checkpoint.tensors;
        let spec = &checkpoint.spec;
        let weight = |role: TensorRole| Weight::new(tensors.role(role).expect("problems() found it"));
        let vector = |role: TensorRole| tensors.role(role).map(decode_vector).transpose();
        let gain = |role: TensorRole| Ok::<_, ModelError>(vector(role)?.expect("problems() found it"));
        let layer = |index: u32| {
            let role = |role, part| TensorRole::Layer(index, role, part);
            let linear = |name| {
                let bias = vector(role(name, Part::Bias))?;
                Ok::<_, ModelError>(Linear { weight: weight(role(name, Part::Weight))?, bias })
            };
            Ok::<_, ModelError>(LayerPlan {
                attn_norm: gain(role(LayerRole::AttnNorm, Part::Weight))?,
                q: linear(LayerRole::AttnQ)?,
                k: linear(LayerRole::AttnK)?,
                v: linear(LayerRole::AttnV)?,
                q_norm: vector(role(LayerRole::AttnQNorm, Part::Weight))?,
                k_norm: vector(role(LayerRole::AttnKNorm, Part::Weight))?,
                attn_out: linear(LayerRole::AttnOut)?,
                mlp_norm: gain(role(LayerRole::MlpNorm, Part::Weight))?,
                gate: linear(LayerRole::MlpGate)?,
                up: linear(LayerRole::MlpUp)?,
                down: linear(LayerRole::MlpDown)?,
            })
        };
        Ok(Plan {
            embed: weight(TensorRole::TokenEmbed)?,
            layers: (0..spec.n_layers).map(layer).collect::<Result<_, _>>()?,
            output_norm: gain(TensorRole::OutputNorm)?,
            head: tensors.role(TensorRole::OutputHead).map(Weight::new).transpose()?,
            shape: AttentionShape::plain(spec.n_heads as usize, spec.n_kv_heads as usize, spec.head_dim as usize),
        })
    }

    /// The matrix that makes logits.
    pub(crate) fn head(&self) -> &Weight {
        self.head.as_ref().unwrap_or(&self.embed)
    }
}
