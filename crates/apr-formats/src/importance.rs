//! Importance matrices: how much the columns of each matrix matter, as llama.cpp's `llama-imatrix` measures it.
//!
//! A column's importance is the mean square of the input that it is multiplied with. Two file formats, told apart by their
//! content: GGUF with a pair of tensors per matrix (`NAME.in_sum2`, the sums of squares, and `NAME.counts`), and the older
//! list of entries of a name, a count of calls and means multiplied with it. Names are those of GGUF; a stack of experts
//! has one row of columns per expert.

use crate::cursor::Cursor;
use crate::gguf::{Header, Value};
use crate::{Limits, OpenError, ParseError, WriteError, mmap};
use apr_model::{Checkpoint, Format, LayerRole, ModelSpec, Part, Tensor, TensorRole};
use apr_tensor::{DType, codec};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// The importance of the columns of a model's matrices.
#[derive(Clone, Debug)]
pub struct Importance {
    /// By GGUF name; finite, not negative.
    entries: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    values: Vec<f32>,
    /// Matrices of a stack, which `values` lists one after the other; one where it is no stack.
    n_matrices: usize,
}

impl Importance {
    /// Reads an importance matrix of either format.
    pub fn read(path: &Path, limits: &Limits) -> Result<Self, OpenError> {
        let bytes = mmap::map(path).map_err(|error| OpenError::io(path, error))?;
        let entries = if bytes.starts_with(b"GGUF") {
            Self::parse_gguf(&bytes, limits).map_err(|error| error.in_file(path, Format::Gguf))?
        } else {
            Self::parse_list(&bytes, limits).map_err(|error| {
                OpenError::not_a_model(path, format!("not an importance matrix in either format: {}", error.detail))
            })?
        };
        let wrong = |entry: &Entry| entry.values.iter().any(|value| !(value.is_finite() && *value >= 0.0));
        if let Some((name, _)) = entries.iter().find(|(_, entry)| wrong(entry)) {
            let detail = format!("the importance of {name} has a value that is negative or not finite");
            return Err(OpenError::not_a_model(path, detail));
        }
        Ok(Self { entries })
    }

    fn parse_gguf(file: &[u8], limits: &Limits) -> Result<BTreeMap<String, Entry>, ParseError> {
        let header = Header::parse(file, limits)?;
        if header.get("general.type") != Some(&Value::Str("imatrix")) {
            return Err(ParseError::new("general.type is not \"imatrix\": this is no importance matrix"));
        }
        let mut entries = BTreeMap::new();
        let numbers = |name: &str| -> Result<(Vec<f32>, usize), ParseError> {
            let info = header.tensors.iter().find(|info| info.name == name);
            let info = info.ok_or_else(|| ParseError::new(format!("there is no tensor {name}")))?;
            if info.dtype != DType::F32 {
                return Err(ParseError::new(format!("{name} is {}, expected F32", info.dtype)));
            }
            let mut values = vec![0.0; info.shape.n_elements()];
            codec::decode(DType::F32, &file[info.range.clone()], &mut values);
            Ok((values, info.shape.row_elements()))
        };
        for info in &header.tensors {
            let Some(name) = info.name.strip_suffix(".in_sum2") else { continue };
            let (mut values, columns) = numbers(info.name)?;
            let (counts, _) = numbers(&format!("{name}.counts"))?;
            if columns == 0 || values.len() != columns * counts.len() {
                let (n, m) = (counts.len(), values.len());
                return Err(ParseError::new(format!("{name} has {n} counts for {m} sums in rows of {columns}")));
            }
            for (row, count) in values.chunks_mut(columns).zip(&counts) {
                // An expert that was never used: nothing is known, and every column counts alike.
                row.iter_mut().for_each(|value| *value = if *count > 0.0 { *value / count } else { 1.0 });
            }
            entries.insert(name.to_owned(), Entry { values, n_matrices: counts.len() });
        }
        Ok(entries)
    }

    fn parse_list(file: &[u8], limits: &Limits) -> Result<BTreeMap<String, Entry>, ParseError> {
        let mut cursor = Cursor::new(file);
        let mut entries = BTreeMap::new();
        // A name's length, a count of calls and a count of values.
        let n = u64::from(cursor.u32("number of entries")?);
        let n = cursor.count(n, limits.tensors, 12, "entries")?;
        for _ in 0..n {
            let len = u64::from(cursor.u32("length of a name")?);
            let name = cursor.utf8(len, limits.name_bytes, "name")?.to_owned();
            let n_calls = cursor.u32("number of calls")?;
            let n_values = u64::from(cursor.u32("number of values")?);
            let n_values = cursor.count(n_values, limits.array_elements, 4, "values")?;
            let mut values = vec![0.0; n_values];
            codec::decode(DType::F32, cursor.take(4 * n_values as u64, "values")?, &mut values);
            if n_calls > 0 {
                values.iter_mut().for_each(|value| *value /= n_calls as f32);
            }
            if entries.insert(name.clone(), Entry { values, n_matrices: 1 }).is_some() {
                return Err(ParseError::new(format!("two entries are called {name}")));
            }
        }
        Ok(entries)
    }

    /// Number of matrices it is about.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it is about none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Holds the names against those of a model: one that no tensor has belongs to another model.
    pub fn check(&self, checkpoint: &Checkpoint) -> Result<(), String> {
        let Some(spec) = checkpoint.spec.known() else {
            return Err(WriteError::unknown(&checkpoint.spec).to_string());
        };
        let arch = spec.arch;
        if arch.transposed {
            return Err(format!("{} stores its matrices transposed: columns are not their inputs", arch.title));
        }
        let known: HashSet<_> = checkpoint.tensors.iter().map(|tensor| key(tensor, spec).0).collect();
        // A tied model's head is measured under the head's name.
        let stranger = self.entries.keys().find(|name| !known.contains(*name) && *name != "output.weight");
        match stranger {
            Some(name) => Err(format!("it is about a tensor {name}, which this model does not have")),
            None => Ok(()),
        }
    }

    /// The importance of a tensor's columns; none for the embedding and the head, where it is rarely measured.
    pub(crate) fn of(&self, tensor: &Tensor, spec: &ModelSpec) -> Result<Option<Arc<[f32]>>, String> {
        let (name, expert) = key(tensor, spec);
        let Some(entry) = self.entries.get(&name) else {
            return match tensor.role {
                Some(TensorRole::TokenEmbed | TensorRole::OutputHead) => Ok(None),
                _ => Err("the importance matrix has no entry for it".to_owned()),
            };
        };
        let columns = tensor.shape.row_elements();
        let experts = spec.variation.experts.as_ref().map_or(1, |experts| experts.n_experts as usize);
        let n_matrices = if expert.is_some() { experts } else { 1 };
        if entry.values.len() != columns * n_matrices || ![1, n_matrices].contains(&entry.n_matrices) {
            let found = entry.values.len();
            return Err(format!("the importance matrix has {found} values for {n_matrices} × {columns} columns"));
        }
        let start = expert.unwrap_or(0) as usize * columns;
        Ok(Some(entry.values[start..start + columns].into()))
    }
}

/// The name of a tensor's entry, and the number of its expert in a stack.
fn key(tensor: &Tensor, spec: &ModelSpec) -> (String, Option<u32>) {
    let stack = |layer: u32, what: &str| format!("blk.{layer}.ffn_{what}_exps.weight");
    match tensor.role {
        Some(TensorRole::Layer(layer, LayerRole::ExpertGate(expert), Part::Weight)) => {
            (stack(layer, "gate"), Some(expert))
        }
        Some(TensorRole::Layer(layer, LayerRole::ExpertUp(expert), Part::Weight)) => (stack(layer, "up"), Some(expert)),
        Some(TensorRole::Layer(layer, LayerRole::ExpertDown(expert), Part::Weight)) => {
            (stack(layer, "down"), Some(expert))
        }
        Some(role) => (role.gguf_name(spec.arch), None),
        None => (tensor.name.clone(), None),
    }
}
