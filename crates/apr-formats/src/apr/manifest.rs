//! An APR model over several files: what each says of its place, and the manifest that names them all.
//!
//! Source: the existing tool's `sharding` metadata and its manifest. Each file is whole by itself, with checksums of its
//! own; the first one holds the metadata of the model.

use super::{Header, flag};
use crate::plan::Recode;
use crate::shards::{self, APR};
use crate::{ParseError, Source, SourceFile};
use apr_model::Finding;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};

/// What is written; later ones with the same first digit are read.
const VERSION: &str = "1.0";
/// How the files are called, in the syntax of the existing tool's formatter.
const PATTERN: &str = "model-{:05}-of-{:05}.apr";

/// A file's place among several, in its metadata.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) shard_count: u64,
    /// From zero.
    pub(super) shard_index: u64,
    /// Bytes of all tensors of the model.
    total_size: u64,
    pattern: String,
}

impl Place {
    pub(super) fn new(index: usize, n_files: usize, total_bytes: u64) -> Self {
        let (shard_count, shard_index) = (n_files as u64, index as u64);
        Self { shard_count, shard_index, total_size: total_bytes, pattern: PATTERN.to_owned() }
    }
}

#[derive(Serialize, Deserialize)]
struct Manifest<'a> {
    version: String,
    shard_count: u64,
    /// Bytes of all tensors.
    total_size: u64,
    tensor_count: u64,
    shards: Vec<Shard>,
    #[serde(skip_deserializing)]
    weight_map: BTreeMap<&'a str, String>,
}

#[derive(Serialize, Deserialize)]
struct Shard {
    filename: String,
    index: u64,
    /// Bytes of the file.
    size: u64,
    /// Names of its tensors; a reader also takes their number.
    tensors: Value,
}

/// The manifest's text, for files of these lengths.
pub(super) fn text(dealt: &[Vec<Recode>], file_bytes: &[u64]) -> Vec<u8> {
    let shard = |(index, (tensors, &size)): (usize, (&Vec<Recode>, &u64))| Shard {
        filename: APR.shard_name(index, dealt.len()),
        index: index as u64,
        size,
        tensors: tensors.iter().map(|recode| Value::from(recode.name.as_str())).collect(),
    };
    let manifest = Manifest {
        version: VERSION.to_owned(),
        shard_count: dealt.len() as u64,
        total_size: tensor_bytes(dealt),
        tensor_count: dealt.iter().map(Vec::len).sum::<usize>() as u64,
        shards: dealt.iter().zip(file_bytes).enumerate().map(shard).collect(),
        weight_map: shards::placed(&APR, dealt),
    };
    let mut text = serde_json::to_vec_pretty(&manifest).expect("names and numbers print");
    text.push(b'\n');
    text
}

/// Bytes of all tensors.
pub(super) fn tensor_bytes(dealt: &[Vec<Recode>]) -> u64 {
    dealt.iter().flatten().map(|recode| recode.len_bytes as u64).sum()
}

/// The manifest of a source, where it has one.
pub(super) fn of(source: &Source) -> Option<&SourceFile> {
    source.files.iter().find(|file| file.name == APR.index)
}

/// The files of a source that hold tensors, the one with the model's metadata first.
pub(crate) fn weights(source: &Source) -> impl Iterator<Item = &SourceFile> {
    let n_files = if of(source).is_some() { source.files.len() } else { 1 };
    source.files.iter().filter(|file| file.name != APR.index).take(n_files)
}

/// Whether these are the first bytes of a file that is one of several.
pub(crate) fn is_one_of_several(file: &[u8]) -> bool {
    file.get(6..8).is_some_and(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]) & flag::SHARDED != 0)
}

/// Checks that the manifest and the files, with what each says of its place, are of one model. Gives what is odd and
/// harmless; an error of a file comes with its number.
pub(super) fn check(
    manifest: &SourceFile,
    files: &[&SourceFile],
    headers: &[Header],
    places: &[Option<Place>],
) -> Result<Vec<Finding>, (Option<usize>, ParseError)> {
    let wrong = |detail: String| Err((None, ParseError::new(detail)));
    let parsed: Manifest<'_> =
        serde_json::from_slice(&manifest.bytes).map_err(|e| (None, ParseError::new(format!("manifest: {e}"))))?;
    if parsed.version.split('.').next() != VERSION.split('.').next() {
        let detail = format!("version {:?} of the manifest; 1 is read", parsed.version);
        return Err((None, ParseError::unsupported(detail)));
    }
    let stated: HashMap<_, _> = parsed.shards.iter().map(|shard| (shard.filename.as_str(), shard)).collect();
    if parsed.shard_count != files.len() as u64 || parsed.shards.len() != files.len() || stated.len() != files.len() {
        let (count, n, used) = (parsed.shard_count, parsed.shards.len(), files.len());
        return wrong(format!("shard_count is {count}, shards lists {n} files, and weight_map uses {used}"));
    }
    let mut found = HashMap::new();
    for (number, ((file, header), place)) in files.iter().zip(headers).zip(places).enumerate() {
        let Some(shard) = stated.get(file.name.as_str()) else {
            return wrong(format!("shards does not list {}, which weight_map uses", file.name));
        };
        if shard.index != number as u64 {
            return wrong(format!("{} has index {}, by its name it is {number}", file.name, shard.index));
        }
        if shard.size != file.bytes.len() as u64 {
            let detail = format!("{} bytes, the manifest says {}", file.bytes.len(), shard.size);
            return Err((Some(number), ParseError::new(detail)));
        }
        if header.flags & flag::SHARDED == 0 {
            let detail = format!("its flags {:#06x} say that it is a model by itself", header.flags);
            return Err((Some(number), ParseError::at(6, detail)));
        }
        if let Some(place) =
            place.as_ref().filter(|p| (p.shard_index, p.shard_count) != (number as u64, parsed.shard_count))
        {
            let (index, count) = (place.shard_index, place.shard_count);
            let detail = format!("it says that it is file {index} of {count}, counted from 0; it stands as {number}");
            return Err((Some(number), ParseError::new(detail)));
        }
        let is_listed = match &shard.tensors {
            Value::Array(names) => {
                let names: HashSet<_> = names.iter().filter_map(Value::as_str).collect();
                names.len() == header.tensors.len() && header.tensors.iter().all(|t| names.contains(t.name.as_str()))
            }
            count => count.as_u64() == Some(header.tensors.len() as u64),
        };
        if !is_listed {
            return wrong(format!("shards lists other tensors than those of {}", file.name));
        }
        found.extend(header.tensors.iter().map(|tensor| (tensor.name.clone(), file.name.clone())));
    }
    let n_tensors = headers.iter().map(|header| header.tensors.len()).sum::<usize>();
    if parsed.tensor_count != n_tensors as u64 {
        return wrong(format!("tensor_count is {}, the files have {n_tensors}", parsed.tensor_count));
    }
    shards::weight_map(&manifest.bytes)
        .and_then(|map| shards::consistent(&map, &found))
        .map_err(|error| (None, error))?;
    let bytes: usize = headers.iter().flat_map(|header| &header.tensors).map(|tensor| tensor.range.len()).sum();
    let detail = format!("total_size is {}, the tensors have {bytes} bytes", parsed.total_size);
    let is_odd = parsed.total_size != bytes as u64;
    Ok(is_odd.then(|| Finding::note("index-total-size", APR.index, detail)).into_iter().collect())
}

/// What a file's metadata says of its place.
pub(super) fn place(metadata: &[u8]) -> Result<Option<Place>, ParseError> {
    let metadata: Value = serde_json::from_slice(metadata)
        .map_err(|e| ParseError::at(super::HEADER_BYTES as u64, format!("metadata: {e}")))?;
    let Some(place) = metadata.get("sharding").filter(|place| !place.is_null()) else { return Ok(None) };
    Place::deserialize(place).map(Some).map_err(|e| ParseError::new(format!("metadata key \"sharding\": {e}")))
}
