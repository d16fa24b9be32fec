//! The layout of a fresh SafeTensors model: weights, and the files that Transformers wants beside them.

use super::header::Packed;
use super::{CAPSULE_KEY, METADATA_KEY, PACKED_KEY, config};
use crate::plan::{OutFile, OutPiece, Plan, Recode, widest_first};
use crate::shards::{self, SAFETENSORS};
use crate::{Limits, WriteError};
use apr_model::{Checkpoint, OriginFile, Piece};
use serde_json::{Map, Value, json};
use std::path::Path;

/// Plans the files of a SafeTensors target: the weights first, then the companions. With `shard_bytes`, weights that are
/// larger stand in several files of at most as many bytes of tensors, behind their index.
///
/// `companions` are files of an earlier Transformers directory of the same model; they are taken as they are, except the
/// config.json of a known architecture, which states the dtype. `path` is for errors.
pub(crate) fn layout(
    checkpoint: &Checkpoint,
    plan: &Plan,
    capsule: Option<&str>,
    name: String,
    companions: &[OriginFile],
    shard_bytes: Option<u64>,
    path: &Path,
) -> Result<Vec<OutFile>, WriteError> {
    let cannot = |detail| WriteError::Cannot { path: path.to_owned(), detail };
    let mut files = weights(checkpoint, plan, capsule, name, shard_bytes).map_err(cannot)?;
    let mut push = |name: &str, content: Vec<u8>| {
        if !files.iter().any(|file| file.name == name) {
            files.push(OutFile { name: name.to_owned(), pieces: vec![OutPiece::Literal(content.into())] });
        }
    };
    // The one of an unknown architecture is not understood, so it can't be written anew.
    let is_known = checkpoint.spec.known().is_some();
    for file in companions.iter().filter(|file| file.name != "config.json" || !is_known) {
        if let [Piece::Literal(bytes)] = file.pieces.as_slice() {
            push(&file.name, bytes.to_vec());
        }
    }
    push("config.json", config::write(checkpoint, plan.main_dtype()).into_bytes());
    let templates = &checkpoint.chat_templates;
    if let Some(tokenizer) = &checkpoint.tokenizer {
        let context_length = checkpoint.spec.known().map(|spec| spec.context_length);
        push("generation_config.json", tokenizer.to_generation_config_json().into_bytes());
        push("tokenizer.json", tokenizer.to_tokenizer_json().into_bytes());
        push("tokenizer_config.json", tokenizer.to_tokenizer_config_json(templates, context_length).into_bytes());
        if let Some(model) = tokenizer.to_sentencepiece_model() {
            push("tokenizer.model", model);
        }
    }
    if let (None, Some(value)) = (&checkpoint.tokenizer, templates.to_hf()) {
        push("tokenizer_config.json", format!("{:#}\n", json!({"chat_template": value})).into_bytes());
    }
    Ok(files)
}

fn weights(
    checkpoint: &Checkpoint,
    plan: &Plan,
    capsule: Option<&str>,
    name: String,
    shard_bytes: Option<u64>,
) -> Result<Vec<OutFile>, String> {
    let mut dealt = match shard_bytes {
        None => Vec::new(),
        // Neighbours in the model share a file; within a file the widest elements come first.
        Some(most_bytes) => shards::deal(plan.in_model_order(checkpoint), most_bytes),
    };
    if dealt.len() < 2 {
        return Ok(vec![OutFile { name, pieces: one_file(checkpoint, &plan.tensors, capsule)? }]);
    }
    let index = index_text(&dealt).into_bytes();
    let mut files = vec![OutFile { name: SAFETENSORS.index.to_owned(), pieces: vec![OutPiece::Literal(index.into())] }];
    let n_files = dealt.len();
    for (index, shard) in dealt.iter_mut().enumerate() {
        widest_first(shard);
        let pieces = one_file(checkpoint, shard, capsule.filter(|_| index == 0))?;
        files.push(OutFile { name: SAFETENSORS.shard_name(index, n_files), pieces });
    }
    Ok(files)
}

/// The text of the index.
fn index_text(dealt: &[Vec<Recode>]) -> String {
    let total_size: u64 = dealt.iter().flatten().map(|recode| recode.len_bytes as u64).sum();
    let weight_map = shards::placed(&SAFETENSORS, dealt);
    let index = json!({"metadata": {"total_size": total_size}, "weight_map": weight_map});
    serde_json::to_string_pretty(&index).expect("a JSON value prints") + "\n"
}

fn one_file(checkpoint: &Checkpoint, tensors: &[Recode], capsule: Option<&str>) -> Result<Vec<OutPiece>, String> {
    let mut metadata = Map::new();
    metadata.insert("format".into(), json!("pt"));
    let packed: Map<String, Value> = tensors
        .iter()
        .filter(|recode| recode.dtype.info().safetensors_name.is_none())
        .map(|recode| {
            let tensor = checkpoint.tensors.get(&recode.name).expect("plan lists tensors of the checkpoint");
            let shape = tensor.shape.dims().iter().map(|&d| d as u64).collect();
            (recode.name.clone(), json!(Packed { dtype: recode.dtype.name().to_owned(), shape }))
        })
        .collect();
    if !packed.is_empty() {
        metadata.insert(PACKED_KEY.into(), Value::Object(packed).to_string().into());
    }
    if let Some(text) = capsule {
        metadata.insert(CAPSULE_KEY.into(), text.into());
    }

    let mut header = Map::new();
    header.insert(METADATA_KEY.into(), Value::Object(metadata));
    let mut data = Vec::new();
    let mut offset = 0;
    for recode in tensors {
        let tensor = checkpoint.tensors.get(&recode.name).expect("plan lists tensors of the checkpoint");
        if recode.name == METADATA_KEY {
            return Err(format!("a tensor is called {METADATA_KEY:?}, which SafeTensors keeps for itself"));
        }
        let (dtype, shape) = match recode.dtype.info().safetensors_name {
            Some(name) => (name, tensor.shape.dims().to_vec()),
            None => {
                let mut dims = tensor.shape.dims().to_vec();
                let row_bytes = recode.len_bytes / tensor.shape.n_rows().max(1);
                *dims.last_mut().expect("a quantised tensor has rows") = row_bytes;
                ("U8", dims)
            }
        };
        let end = offset + recode.len_bytes;
        header.insert(recode.name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": [offset, end]}));
        data.push(OutPiece::Tensor(recode.clone()));
        offset = end;
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    // The data starts at a multiple of eight, as the reference library writes it.
    text.resize(text.len().next_multiple_of(8), b' ');
    let cap = Limits::default().safetensors_header_bytes;
    if text.len() as u64 > cap {
        let (n, capsule_bytes) = (text.len(), capsule.map_or(0, str::len));
        return Err(format!(
            "a header of {n} bytes ({capsule_bytes} of them its capsule, which --no-capsule leaves out), SafeTensors \
             allows {cap}"
        ));
    }
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text);
    let mut pieces = vec![OutPiece::Literal(bytes.into())];
    pieces.extend(data);
    Ok(pieces)
}
