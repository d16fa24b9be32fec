//! From an APR file to a checkpoint.

use super::metadata::{Metadata, ROPE_INTERLEAVED};
use super::{Header, manifest, weights};
use crate::origin::{Container, Span, whole_file};
use crate::summary::{Summary, TensorSummary};
use crate::{Limits, OpenError, ParseError, Source, SourceFile, unknown};
use apr_model::{Checkpoint, Finding, Format, Origin, Relayout, Spec, Tensor, Tensors};
use apr_tensor::ByteOrder;
use std::sync::Arc;

/// Name of a file that is the whole model in a recipe: whatever it is called, the recipe, and so the target, is the same.
const FILE_NAME: &str = "model.apr";

/// Reads the files of `source`.
pub(crate) fn read(source: &Source, limits: &Limits) -> Result<Checkpoint, OpenError> {
    let files: Vec<_> = weights(source).collect();
    let (headers, mut notes) = headers(source, &files, limits)?;
    let in_file = |number: usize, e: ParseError| in_file(source, files[number], e);
    let text = &files[0].bytes[headers[0].metadata.clone()];
    let mut metadata = Metadata::parse(text).map_err(|e| in_file(0, e))?;
    let spec = metadata.spec().map_err(|e| in_file(0, e))?;
    let tokenizer = match &spec {
        Spec::Known(_) => metadata.tokenizer().map_err(|e| in_file(0, e))?,
        Spec::Unknown(_) => unknown::if_understood(metadata.tokenizer(), &mut notes),
    };
    let chat_templates = metadata.chat_templates().map_err(|e| in_file(0, e))?;
    let interleaved = metadata.rope_type == Some(ROPE_INTERLEAVED);
    let capsule = metadata
        .capsule
        .as_deref()
        .and_then(|capsule| Metadata::locate_capsule(text, capsule))
        .map(|range| headers[0].metadata.start + range.start..headers[0].metadata.start + range.end);

    let mut tensors = Tensors::default();
    let mut recipes: Vec<_> =
        manifest::of(source).map(|file| whole_file(&file.name, &file.bytes)).into_iter().collect();
    let is_split = !recipes.is_empty();
    for (number, (file, header)) in files.iter().zip(&headers).enumerate() {
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
                .map_err(|e| in_file(number, ParseError::at(info.range.start as u64, e.to_string())))?;
            tensors
                .push(tensor)
                .map_err(|twice| in_file(number, ParseError::new(format!("tensor {:?} appears twice", twice.name))))?;
            spans.push(Span { range: info.range.clone(), name: info.name.clone(), dtype: info.dtype, relayout });
        }
        let name = if is_split { file.name.clone() } else { FILE_NAME.to_owned() };
        // The recipe has one capsule; in a later file it would be an ordinary key.
        let capsule = capsule.clone().filter(|_| number == 0);
        recipes.push(Container { name, bytes: file.bytes.clone(), capsule, tensors: spans }.into_file());
    }
    let (format, byte_order, is_dir) = (Format::Apr, ByteOrder::Little, source.is_dir);
    Ok(Checkpoint {
        spec,
        tensors,
        tokenizer: tokenizer.map(Arc::new),
        chat_templates,
        origin: Origin { format, byte_order, identity: None, files: recipes, is_dir },
        capsule: capsule.and_then(|range| files[0].bytes.slice(range)),
        notes,
    })
}

fn in_file(source: &Source, file: &SourceFile, error: ParseError) -> OpenError {
    error.in_file(&source.path.with_file_name(&file.name), Format::Apr)
}

/// The headers of the files of one model, which agree on being that, and what is odd about it.
fn headers(source: &Source, files: &[&SourceFile], limits: &Limits) -> Result<(Vec<Header>, Vec<Finding>), OpenError> {
    let parse = |file: &&SourceFile| Header::parse(&file.bytes, limits).map_err(|e| in_file(source, file, e));
    let headers: Vec<_> = files.iter().map(parse).collect::<Result<_, _>>()?;
    let Some(manifest) = manifest::of(source) else {
        let [file] = files else {
            return Err(OpenError::unsupported(&source.path, "several APR files and no manifest that names them"));
        };
        if manifest::is_one_of_several(&file.bytes) {
            let detail = "one of several files of a model, without the manifest that names them";
            return Err(in_file(source, file, ParseError::unsupported(detail)));
        }
        return Ok((headers, Vec::new()));
    };
    let place = |(file, header): (&&SourceFile, &Header)| {
        manifest::place(&file.bytes[header.metadata.clone()]).map_err(|e| in_file(source, file, e))
    };
    let places: Vec<_> = files.iter().zip(&headers).map(place).collect::<Result<_, _>>()?;
    let notes = manifest::check(manifest, files, &headers, &places)
        .map_err(|(number, e)| in_file(source, number.map_or(manifest, |number| files[number]), e))?;
    Ok((headers, notes))
}

/// What the container holds.
pub(crate) fn summary(source: &Source, limits: &Limits) -> Result<Summary, OpenError> {
    let files: Vec<_> = weights(source).collect();
    let (headers, _) = headers(source, &files, limits)?;
    let first = &headers[0];
    let metadata: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&files[0].bytes[first.metadata.clone()])
            .map_err(|e| in_file(source, files[0], ParseError::new(format!("metadata: {e}"))))?;
    let shown = |value: serde_json::Value| match value {
        serde_json::Value::Array(list) if list.len() > 16 => format!("array of {}", list.len()),
        serde_json::Value::String(text) if text.len() > 80 => format!("string of {} bytes", text.len()),
        other => other.to_string(),
    };
    let version = format!("{}.{}", first.version.0, first.version.1);
    let of_file = |(file, header): (&&SourceFile, Header)| {
        let file = file.name.clone();
        header.tensors.into_iter().map(move |t| TensorSummary {
            file: file.clone(),
            stored_name: t.name.clone(),
            name: t.name,
            dtype: t.dtype,
            shape: t.shape,
            range: t.range,
        })
    };
    Ok(Summary {
        version,
        metadata: metadata.into_iter().map(|(key, value)| (key, shown(value))).collect(),
        tensors: files.iter().zip(headers).flat_map(of_file).collect(),
    })
}
