//! A model of a family, as wide as the blocks of every dtype need, with its matrices in any dtype.

use super::{Result, refusal};
use apr_formats::{Limits, Target, WriteOptions, open, write};
use apr_model::{Checkpoint, Format, LayerRole, Relayout, Tensor, TensorRole, Tensors};
use apr_tensor::{Bytes, DType, DTypeClass};
use half::{bf16, f16};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::{Map, Value, json};
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

/// Width of the model: whole blocks of every dtype.
const HIDDEN: u64 = 256;
/// What of a config.json grows with the width.
const WIDTHS: [&str; 7] = [
    "hidden_size",
    "n_embd",
    "n_inner",
    "intermediate_size",
    "moe_intermediate_size",
    "shared_expert_intermediate_size",
    "head_dim",
];

/// A wide model, and the bytes that its tensors are made of.
pub(super) struct Subject {
    checkpoint: Checkpoint,
    /// For any dtype whose blocks may be any bytes.
    noise: Bytes,
}

impl Subject {
    /// The model of the family in the Transformers directory `family`.
    pub(super) fn new(family: &Path) -> Result<Self> {
        let narrow = open(family, &Limits::default())?;
        let work = tempfile::tempdir()?;
        let mut config: Value = serde_json::from_slice(&fs::read(family.join("config.json"))?)?;
        let hidden = config["hidden_size"].as_u64().or_else(|| config["n_embd"].as_u64());
        let factor = HIDDEN / hidden.ok_or("config.json states no width")?;
        for key in WIDTHS {
            if let Some(width) = config[key].as_u64() {
                config[key] = json!(width * factor);
            }
        }
        fs::write(work.path().join("config.json"), config.to_string())?;
        let mut header = Map::new();
        let mut end = 0;
        for tensor in &narrow.tensors {
            let shape = wide(tensor, factor as usize);
            let start = end;
            end += 2 * shape.iter().product::<usize>();
            header.insert(tensor.name.clone(), json!({"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}));
        }
        let header = Value::Object(header).to_string();
        let mut file = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
        file.resize(file.len() + end, 0);
        fs::write(work.path().join("model.safetensors"), file)?;
        // Its map outlives the directory.
        let checkpoint = open(work.path(), &Limits::default())?;
        if let Some(finding) = checkpoint.structure().first() {
            return Err(format!("{} made wide: {}: {}", family.display(), finding.subject, finding.detail).into());
        }
        let longest = checkpoint.tensors.iter().map(|tensor| tensor.shape.n_elements()).max().unwrap_or_default();
        let mut noise = vec![0; 8 * longest];
        ChaCha8Rng::seed_from_u64(0).fill_bytes(&mut noise);
        Ok(Self { checkpoint, noise: noise.into() })
    }

    /// Writes the model with its matrices in `dtype`, as a file of this format alone; or says why the format can't have it.
    pub(super) fn write(&self, dtype: DType, format: Format, path: &Path) -> Result<std::result::Result<(), String>> {
        let options = WriteOptions { capsule: false, ..WriteOptions::default() };
        let target = Target { path: path.to_owned(), format };
        let attempt = |stored: fn(&Tensor) -> Relayout| -> Result<_> {
            let checkpoint = self.with(dtype, stored)?;
            Ok(write(&checkpoint, &target, &options, &mut |_, _| ControlFlow::Continue(())))
        };
        let first = attempt(|_| Relayout::Identity)?;
        let Err(why) = first else { return Ok(Ok(())) };
        // Blocks can't be turned, but a file of this format may have been quantised as it stands.
        match attempt(turned)? {
            Ok(_)
                if format == Format::Gguf
                    && self.checkpoint.tensors.iter().any(|t| turned(t) != Relayout::Identity) =>
            {
                Ok(Ok(()))
            }
            _ => Ok(Err(refusal(why)?)),
        }
    }

    fn with(&self, dtype: DType, stored: fn(&Tensor) -> Relayout) -> Result<Checkpoint> {
        let mut tensors = Tensors::default();
        for tensor in &self.checkpoint.tensors {
            let (is_vector, role) = (tensor.shape.dims().len() < 2, tensor.role);
            let relayout = stored(tensor);
            let keeps = is_vector || role.is_some_and(TensorRole::gguf_wants_f32);
            let fits = |dtype| Tensor::size_bytes(&tensor.name, dtype, &relayout.stored_shape(&tensor.shape));
            let dtype = if keeps || fits(dtype).is_err() { DType::BF16 } else { dtype };
            let (name, shape) = (tensor.name.clone(), tensor.shape.clone());
            let data = self.data(dtype, fits(dtype)?);
            let pushed = tensors.push(Tensor::new(name, role, dtype, shape, data, relayout)?);
            pushed.map_err(|twice| format!("{} twice", twice.name))?;
        }
        Ok(Checkpoint { tensors, ..self.checkpoint.clone() })
    }

    /// Finite numbers for dtypes that are computed with one by one, anything for blocks and for what is carried.
    fn data(&self, dtype: DType, n_bytes: usize) -> Bytes {
        let numbers = self.noise.iter().map(|&byte| f32::from(byte) / 64.0 - 2.0);
        match (dtype, dtype.info().class) {
            (DType::F32, _) => numbers.flat_map(f32::to_le_bytes).take(n_bytes).collect::<Vec<_>>().into(),
            (DType::F16, _) => {
                numbers.flat_map(|x| f16::from_f32(x).to_le_bytes()).take(n_bytes).collect::<Vec<_>>().into()
            }
            (DType::BF16, _) => {
                numbers.flat_map(|x| bf16::from_f32(x).to_le_bytes()).take(n_bytes).collect::<Vec<_>>().into()
            }
            (_, DTypeClass::Float) => unreachable!("the floats of the table of dtypes are those above"),
            _ => self.noise.slice(0..n_bytes).expect("as long as eight bytes for each element"),
        }
    }
}

/// Matrices of which GGUF turns inputs and outputs.
fn turned(tensor: &Tensor) -> Relayout {
    let is_matrix_of_layer = matches!(tensor.role, Some(TensorRole::Layer(_, role, _)) if role != LayerRole::Router);
    if is_matrix_of_layer && tensor.shape.dims().len() == 2 { Relayout::Transposed } else { Relayout::Identity }
}

/// A tensor's dimensions in the wide model: rows that are tokens, positions or experts stay as many.
fn wide(tensor: &Tensor, factor: usize) -> Vec<usize> {
    let counts_rows = matches!(
        tensor.role,
        Some(
            TensorRole::TokenEmbed
                | TensorRole::PositionEmbed
                | TensorRole::OutputHead
                | TensorRole::Layer(_, LayerRole::Router | LayerRole::SharedRouter, _)
        )
    );
    let dims = tensor.shape.dims().iter().enumerate();
    dims.map(|(axis, &dim)| if axis == 0 && counts_rows { dim } else { dim * factor }).collect()
}
