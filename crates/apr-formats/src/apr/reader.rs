//! From an APR file to a checkpoint.

use super::Header;
use super::metadata::{Metadata, ROPE_INTERLEAVED};
use crate::origin::{Container, Span};
use crate::summary::{Summary, TensorSummary};
use crate::{Limits, OpenError, ParseError, Source, unknown};
use apr_model::{Checkpoint, Format, Relayout, Spec, Tensor, Tensors};
use std::sync::Arc;

/// Name of the file in a recipe: whatever it is called, the recipe, and so the target, is the same.
const FILE_NAME: &str = "model.apr";

/// Reads the one file of `source`.
pub(crate) fn read(source: &Source, limits: &Limits) -> Result<Checkpoint, OpenError> {
    let file = &source.files[0];
    parse(source, limits).map_err(|e| e.in_file(&source.path.with_file_name(&file.name), Format::Apr))
}

fn parse(source: &Source, limits: &Limits) -> Result<Checkpoint, ParseError> {
    let file = &source.files[0];
    let header = Header::parse(&file.bytes, limits)?;
    let text = &file.bytes[header.metadata.clone()];
    let mut metadata = Metadata::parse(text)?;
    let spec = metadata.spec()?;
    let mut notes = Vec::new();
    let tokenizer = match &spec {
        Spec::Known(_) => metadata.tokenizer()?,
        Spec::Unknown(_) => unknown::if_understood(metadata.tokenizer(), &mut notes),
    };
    let interleaved = metadata.rope_type == Some(ROPE_INTERLEAVED);

    let mut tensors = Tensors::default();
    let mut spans = Vec::with_capacity(header.tensors.len());
    for info in &header.tensors {
        let data = file.bytes.slice(info.range.clone()).expect("header checked: the range lies in the file");
        let role = spec.role_of_hf_name(&info.name);
        // Files that state `rope_type` 0 keep the row order of llama.cpp's `llama` type.
        let relayout = match spec.known().filter(|_| interleaved) {
            Some(spec) => crate::interleaved(role, &info.shape, spec.head_dim),
            None => Relayout::Identity,
        };
        let tensor = Tensor::new(info.name.clone(), role, info.dtype, info.shape.clone(), data, relayout)
            .map_err(|e| ParseError::at(info.range.start as u64, e.to_string()))?;
        tensors.push(tensor).map_err(|twice| ParseError::new(format!("tensor {:?} appears twice", twice.name)))?;
        spans.push(Span { range: info.range.clone(), name: info.name.clone(), dtype: info.dtype, relayout });
    }
    let capsule = metadata
        .capsule
        .as_deref()
        .and_then(|capsule| Metadata::locate_capsule(text, capsule))
        .map(|range| header.metadata.start + range.start..header.metadata.start + range.end);
    let container =
        Container { name: FILE_NAME.to_owned(), bytes: file.bytes.clone(), capsule: capsule.clone(), tensors: spans };
    Ok(Checkpoint {
        spec,
        tensors,
        tokenizer: tokenizer.map(Arc::new),
        chat_template: metadata.chat_template.take(),
        origin: container.into_origin(Format::Apr, source.is_dir),
        capsule: capsule.and_then(|range| file.bytes.slice(range)),
        notes,
    })
}

/// What the container holds.
pub(crate) fn summary(source: &Source, limits: &Limits) -> Result<Summary, OpenError> {
    let file = &source.files[0];
    let path = source.path.with_file_name(&file.name);
    let in_file = |e: ParseError| e.in_file(&path, Format::Apr);
    let header = Header::parse(&file.bytes, limits).map_err(in_file)?;
    let metadata: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&file.bytes[header.metadata])
        .map_err(|e| in_file(ParseError::new(format!("metadata: {e}"))))?;
    let shown = |value: serde_json::Value| match value {
        serde_json::Value::Array(list) if list.len() > 16 => format!("array of {}", list.len()),
        serde_json::Value::String(text) if text.len() > 80 => format!("string of {} bytes", text.len()),
        other => other.to_string(),
    };
    Ok(Summary {
        version: format!("{}.{}", header.version.0, header.version.1),
        metadata: metadata.into_iter().map(|(key, value)| (key, shown(value))).collect(),
        tensors: header
            .tensors
            .into_iter()
            .map(|t| TensorSummary {
                file: file.name.clone(),
                stored_name: t.name.clone(),
                name: t.name,
                dtype: t.dtype,
                shape: t.shape,
                range: t.range,
            })
            .collect(),
    })
}
