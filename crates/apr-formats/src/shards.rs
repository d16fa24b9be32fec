//! A model spread over the files of a directory: their names, which tensors stand in which, and the index that says so.
//!
//! Sources: `split_torch_state_dict_into_shards` of huggingface_hub and the index that Transformers writes; for APR, the
//! manifest of the existing tool, whose `weight_map` is the same.

use crate::ParseError;
use crate::json_entries::Entries;
use crate::plan::Recode;
use apr_model::Format;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

/// How the files of a model are called that is a directory.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) format: Format,
    /// The one file of a model that is not split.
    pub(crate) single: &'static str,
    /// The file that says which tensors stand in which.
    pub(crate) index: &'static str,
}

/// Transformers'.
pub(crate) const SAFETENSORS: Layout =
    Layout { format: Format::SafeTensors, single: "model.safetensors", index: "model.safetensors.index.json" };
/// The existing tool's, which leaves the name of its manifest open.
pub(crate) const APR: Layout = Layout { format: Format::Apr, single: "model.apr", index: "model.apr.index.json" };

/// In the order in which a directory is searched for them.
pub(crate) const LAYOUTS: [&Layout; 2] = [&SAFETENSORS, &APR];

impl Layout {
    /// None where a model of the format is no directory.
    pub(crate) fn of(format: Format) -> Option<&'static Self> {
        LAYOUTS.into_iter().find(|layout| layout.format == format)
    }

    fn extension(&self) -> &'static str {
        self.single.strip_prefix("model").expect("both names of the table start so")
    }

    /// Whether a file of a split model may have this name: nothing else may be read or written in its place.
    pub(crate) fn is_shard_name(&self, name: &str) -> bool {
        name.ends_with(self.extension()) && !name.starts_with('.') && !name.contains(['/', '\\', '\0'])
    }

    /// Name of a file, from zero, among several.
    pub(crate) fn shard_name(&self, index: usize, n_files: usize) -> String {
        format!("model-{:05}-of-{n_files:05}{}", index + 1, self.extension())
    }

    /// The files that an index names, in order of their names.
    pub(crate) fn shards_of(&self, index: &[u8]) -> Result<Vec<String>, ParseError> {
        let mut names: Vec<String> = weight_map(index)?.into_values().collect();
        names.sort();
        names.dedup();
        match names.iter().find(|name| !self.is_shard_name(name)) {
            Some(name) => {
                let extension = self.extension();
                Err(ParseError::new(format!("index names the shard {name:?}, expected a name in {extension}")))
            }
            None => Ok(names),
        }
    }
}

/// Deals tensors out in their order: a file ends before the tensor that would make it larger than `most_bytes`, and one
/// that is larger by itself has a file of its own.
pub(crate) fn deal(tensors: impl Iterator<Item = Recode>, most_bytes: u64) -> Vec<Vec<Recode>> {
    let mut shards = Vec::new();
    let (mut open, mut open_bytes) = (Vec::new(), 0u64);
    for tensor in tensors {
        let len = tensor.len_bytes as u64;
        if len > most_bytes {
            shards.push(vec![tensor]);
            continue;
        }
        if open_bytes + len > most_bytes {
            shards.push(std::mem::take(&mut open));
            open_bytes = 0;
        }
        open_bytes += len;
        open.push(tensor);
    }
    if !open.is_empty() {
        shards.push(open);
    }
    shards
}

/// Tensor → file, as an index states it.
pub(crate) fn placed<'a>(layout: &Layout, shards: &'a [Vec<Recode>]) -> BTreeMap<&'a str, String> {
    let of = |(index, shard): (usize, &'a Vec<Recode>)| {
        let file = layout.shard_name(index, shards.len());
        shard.iter().map(move |recode| (recode.name.as_str(), file.clone()))
    };
    shards.iter().enumerate().flat_map(of).collect()
}

/// Tensor → file, as an index says.
pub(crate) fn weight_map(index: &[u8]) -> Result<HashMap<String, String>, ParseError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: Entries,
    }
    let index: Index = serde_json::from_slice(index).map_err(|e| ParseError::new(format!("index: {e}")))?;
    let Entries(entries) = index.weight_map;
    let mut map = HashMap::with_capacity(entries.len());
    for (tensor, shard) in entries {
        let Value::String(shard) = shard else {
            return Err(ParseError::new(format!("index: tensor {tensor:?} is in {shard}, expected a file name")));
        };
        if map.insert(tensor.clone(), shard).is_some() {
            return Err(ParseError::new(format!("index: it names tensor {tensor:?} twice")));
        }
    }
    Ok(map)
}

/// The index and the shards must tell the same story. Both map a tensor to its file.
pub(crate) fn consistent(index: &HashMap<String, String>, found: &HashMap<String, String>) -> Result<(), ParseError> {
    let mut names: Vec<_> = index.keys().chain(found.keys()).collect();
    names.sort();
    for name in names {
        match (index.get(name), found.get(name)) {
            (Some(a), Some(b)) if a == b => {}
            (Some(a), Some(b)) => {
                return Err(ParseError::new(format!("the index puts tensor {name:?} in {a}, it is in {b}")));
            }
            (Some(a), None) => {
                return Err(ParseError::new(format!("the index names tensor {name:?}, {a} does not have it")));
            }
            (None, other) => {
                let shard = other.map_or("a shard", String::as_str);
                return Err(ParseError::new(format!("{shard} has tensor {name:?}, which the index does not name")));
            }
        }
    }
    Ok(())
}
