//! The one in-memory form of a model.

use crate::{ChatTemplates, Finding, Origin, Presence, Relayout, Spec, TensorRole, TokenizerSpec};
use apr_tensor::{Bytes, DType, Shape};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// A model file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// ggml's GGUF.
    Gguf,
    /// Hugging Face SafeTensors, with the files of a Transformers directory.
    SafeTensors,
    /// APR version 2.
    Apr,
}

impl Format {
    /// Every format, in the order reports list them.
    pub const ALL: [Format; 3] = [Format::Gguf, Format::SafeTensors, Format::Apr];

    /// Lower-case name, also the usual file extension.
    pub fn name(self) -> &'static str {
        match self {
            Format::Gguf => "gguf",
            Format::SafeTensors => "safetensors",
            Format::Apr => "apr",
        }
    }

    /// The letter used in gate ids (`F-CONV-G-A`).
    pub fn letter(self) -> char {
        match self {
            Format::Gguf => 'G',
            Format::SafeTensors => 'S',
            Format::Apr => 'A',
        }
    }

    /// The format with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|f| f.name().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Format::Gguf => "GGUF",
            Format::SafeTensors => "SafeTensors",
            Format::Apr => "APR",
        })
    }
}

/// One tensor: a name, an encoding, and bytes that stay where they are.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Canonical name (Transformers spelling), or the file's own name where no table knows it.
    pub name: String,
    /// What it is for, where the name is known.
    pub role: Option<TensorRole>,
    /// Stored dtype.
    pub dtype: DType,
    /// Row-major canonical shape.
    pub shape: Shape,
    /// Stored bytes; their length is what dtype and stored shape demand.
    pub data: Bytes,
    /// How what is stored relates to the canonical tensor.
    pub relayout: Relayout,
}

/// Why bytes are not a tensor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// A row does not fill whole blocks.
    #[error("tensor {name}: rows of {columns} elements, {dtype} needs a multiple of {block}")]
    PartialBlock {
        /// The tensor.
        name: String,
        /// Its dtype.
        dtype: DType,
        /// Elements of a row.
        columns: usize,
        /// Elements of a block.
        block: usize,
    },
    /// Its elements, smaller than a byte, don't fill whole bytes.
    #[error(
        "tensor {name}: {n_elements} elements of {dtype} fill no whole number of bytes, a multiple of {block} does"
    )]
    PartialByte {
        /// The tensor.
        name: String,
        /// Its dtype.
        dtype: DType,
        /// Its elements.
        n_elements: usize,
        /// Elements that fill whole bytes.
        block: usize,
    },
    /// More bytes than there are addresses.
    #[error("tensor {name}: {dtype} {shape} takes more bytes than can be addressed")]
    TooLarge {
        /// The tensor.
        name: String,
        /// Its dtype.
        dtype: DType,
        /// Its shape.
        shape: Shape,
    },
    /// Its rows can't be in the order stated.
    #[error("tensor {name}: {shape} can't be stored as {relayout:?}")]
    Relayout {
        /// The tensor.
        name: String,
        /// The order stated.
        relayout: Relayout,
        /// Its canonical shape.
        shape: Shape,
    },
    /// The data has another length than dtype and shape demand.
    #[error("tensor {name}: {found} bytes of data, {dtype} {shape} needs {expected}")]
    Size {
        /// The tensor.
        name: String,
        /// Its dtype.
        dtype: DType,
        /// Its shape.
        shape: Shape,
        /// Bytes found.
        found: usize,
        /// Bytes needed.
        expected: usize,
    },
}

impl Tensor {
    /// Bytes that a tensor of this dtype and shape takes, or why there is no such tensor.
    pub fn size_bytes(name: &str, dtype: DType, shape: &Shape) -> Result<usize, TensorError> {
        let (columns, block) = (shape.row_elements(), dtype.info().block_elements);
        let n_elements = shape.n_elements();
        let name_of = || name.to_owned();
        if !dtype.decodes() && !n_elements.is_multiple_of(block) {
            return Err(TensorError::PartialByte { name: name_of(), dtype, n_elements, block });
        }
        // A row of small elements may end within a byte.
        if dtype.decodes() && !columns.is_multiple_of(block) {
            return Err(TensorError::PartialBlock { name: name_of(), dtype, columns, block });
        }
        let too_large = || TensorError::TooLarge { name: name.to_owned(), dtype, shape: shape.clone() };
        dtype.bytes_for(shape.n_elements()).ok_or_else(too_large)
    }

    /// A tensor whose data has the right length.
    pub fn new(
        name: String,
        role: Option<TensorRole>,
        dtype: DType,
        shape: Shape,
        data: Bytes,
        relayout: Relayout,
    ) -> Result<Self, TensorError> {
        if !relayout.fits(&shape) {
            return Err(TensorError::Relayout { name, relayout, shape });
        }
        let expected = Self::size_bytes(&name, dtype, &relayout.stored_shape(&shape))?;
        if data.len() != expected {
            return Err(TensorError::Size { name, dtype, shape, found: data.len(), expected });
        }
        let tensor = Self { name, role, dtype, shape, data, relayout };
        let block = dtype.info().block_elements;
        let columns = tensor.canonical_columns();
        let moves = tensor.relayout.moves_rows() || tensor.relayout == Relayout::Transposed;
        if tensor.moves_elements() && block > 1 || moves && !dtype.decodes() && !columns.is_multiple_of(block) {
            return Err(TensorError::PartialBlock { name: tensor.name, dtype, columns, block });
        }
        Ok(tensor)
    }

    /// Rows that a relayout may move: those of a matrix, or the elements of a re-ordered vector.
    pub fn canonical_rows(&self) -> usize {
        if self.moves_elements() { self.shape.n_elements() } else { self.shape.n_rows() }
    }

    /// Elements of each of the [`canonical_rows`](Self::canonical_rows).
    pub fn canonical_columns(&self) -> usize {
        if self.moves_elements() { 1 } else { self.shape.row_elements() }
    }

    /// Stored bytes of canonical row `row`.
    ///
    /// # Panics
    /// For a transposed tensor, of which no canonical row stands together.
    pub fn canonical_row(&self, row: usize) -> &[u8] {
        assert!(self.relayout != Relayout::Transposed, "tensor {}: canonical rows are stored columns", self.name);
        let columns = self.canonical_columns();
        let n = self.dtype.bytes_for(columns).expect("rows are whole blocks; vectors that move are floats");
        let stored = self.relayout.stored_row(row);
        &self.data[stored * n..(stored + 1) * n]
    }

    fn moves_elements(&self) -> bool {
        self.shape.dims().len() == 1 && self.relayout.moves_rows()
    }
}

/// The tensors of a checkpoint, in file order, with unique names.
#[derive(Clone, Debug, Default)]
pub struct Tensors {
    list: Vec<Tensor>,
    by_name: HashMap<String, usize>,
    by_role: HashMap<TensorRole, usize>,
}

impl Tensors {
    /// Adds a tensor; gives it back where the name is taken.
    pub fn push(&mut self, tensor: Tensor) -> Result<(), Box<Tensor>> {
        if self.by_name.contains_key(&tensor.name) {
            return Err(Box::new(tensor));
        }
        self.by_name.insert(tensor.name.clone(), self.list.len());
        if let Some(role) = tensor.role {
            self.by_role.entry(role).or_insert(self.list.len());
        }
        self.list.push(tensor);
        Ok(())
    }

    /// The tensor with this canonical name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.by_name.get(name).map(|&index| &self.list[index])
    }

    /// The tensor with this role.
    pub fn role(&self, role: TensorRole) -> Option<&Tensor> {
        self.by_role.get(&role).map(|&index| &self.list[index])
    }

    /// Tensors in file order.
    pub fn iter(&self) -> std::slice::Iter<'_, Tensor> {
        self.list.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl<'a> IntoIterator for &'a Tensors {
    type Item = &'a Tensor;
    type IntoIter = std::slice::Iter<'a, Tensor>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// A model, whatever file it came from.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Architecture and hyper-parameters.
    pub spec: Spec,
    /// Tensors under canonical names; under their own where the architecture is unknown.
    pub tensors: Tensors,
    /// Tokenizer, where the source has one.
    pub tokenizer: Option<Arc<TokenizerSpec>>,
    /// Jinja chat templates; none where the source has none.
    pub chat_templates: ChatTemplates,
    /// How to write the source again.
    pub origin: Origin,
    /// Text of the capsule that the source carries: older origins, for `apr-formats` to decode when it needs them.
    pub capsule: Option<Bytes>,
    /// What the reader noticed and a user may want to know.
    pub notes: Vec<Finding>,
}

impl Checkpoint {
    /// Total number of elements.
    pub fn n_parameters(&self) -> u64 {
        self.tensors.iter().map(|t| t.shape.n_elements() as u64).sum()
    }

    /// Whether the head is the embedding.
    pub fn is_tied(&self) -> bool {
        self.tensors.role(TensorRole::OutputHead).is_none()
    }

    /// The dtype that holds most bytes: what people call the file's quantisation.
    pub fn main_dtype(&self) -> Option<DType> {
        let mut bytes_of = HashMap::<DType, usize>::new();
        for tensor in &self.tensors {
            *bytes_of.entry(tensor.dtype).or_default() += tensor.data.len();
        }
        bytes_of.into_iter().max_by_key(|&(dtype, bytes)| (bytes, dtype)).map(|(dtype, _)| dtype)
    }

    /// Checks that the tensors are those that the hyper-parameters demand, with their shapes. Of an unknown architecture it
    /// says that nothing was checked.
    pub fn structure(&self) -> Vec<Finding> {
        let spec = match &self.spec {
            Spec::Known(spec) => spec,
            Spec::Unknown(architecture) => return vec![architecture.finding()],
        };
        let mut findings = Vec::new();
        for (role, presence) in TensorRole::all(spec) {
            let name = role.hf_name(spec.arch);
            let expected = role.expected_shape(spec);
            match self.tensors.role(role) {
                None if presence == Presence::Required => {
                    findings.push(Finding::error("missing-tensor", name, format!("absent, expected {expected:?}")));
                }
                Some(tensor) => {
                    let found: Vec<u64> = tensor.shape.dims().iter().map(|&d| d as u64).collect();
                    if found != expected {
                        let transposed = found.iter().rev().eq(expected.iter());
                        let code = if transposed { "transposed" } else { "shape" };
                        findings.push(Finding::error(code, name, format!("shape {found:?}, expected {expected:?}")));
                    }
                }
                None => {}
            }
        }
        let known: std::collections::HashSet<_> = TensorRole::all(spec).into_iter().map(|(role, _)| role).collect();
        for tensor in &self.tensors {
            if !tensor.role.is_some_and(|role| known.contains(&role)) {
                let detail = format!("not part of a {} model of {} layers", spec.arch.id, spec.n_layers);
                findings.push(Finding::note("unknown-tensor", &tensor.name, detail));
            }
        }
        findings
    }
}
