//! From a SafeTensors file, sharded or not, and its companions to a checkpoint.

use super::header::total_size;
use super::names::Names;
use super::{Header, config, templates};
use crate::origin::{Container, Span, whole_file};
use crate::shards::{SAFETENSORS, consistent, weight_map};
use crate::summary::{Summary, TensorSummary};
use crate::{Limits, OpenError, ParseError, Source, SourceFile, unknown};
use apr_model::{
    Checkpoint, Finding, Format, HfTokenizerFiles, Origin, Relayout, Spec, Tensor, TensorRole, Tensors, TokenizerSpec,
};
use apr_tensor::ByteOrder;
use std::collections::HashMap;
use std::sync::Arc;

/// Reads the files of `source`.
pub(crate) fn read(source: &Source, limits: &Limits) -> Result<Checkpoint, OpenError> {
    let in_source = |e: ParseError| e.in_file(&source.path, Format::SafeTensors);
    let Some(config_text) = source.companion("config.json") else {
        let detail = "a SafeTensors file holds no hyper-parameters and no config.json lies beside it; \
                      name the model's directory, put its config.json beside the file, or convert it with \
                      `apr rosetta convert --config CONFIG`";
        return Err(OpenError::unsupported(&source.path, detail));
    };
    let config = config::parse(config_text).map_err(in_source)?;

    let headers = headers(source, limits)?;
    let names = Names::new(&config.spec, stored_names(&headers));
    let total_bytes: u64 = headers.iter().flat_map(|header| &header.tensors).map(|info| info.range.len() as u64).sum();
    let mut headers = headers.iter();
    let mut tensors = Tensors::default();
    let mut tables = Vec::new();
    let mut files = Vec::new();
    let mut capsule = None;
    let index = source.companion(SAFETENSORS.index).map(weight_map).transpose().map_err(in_source)?;
    let mut shard_of = HashMap::new();
    for file in &source.files {
        if !is_weights(file) {
            files.push(whole_file(&file.name, &file.bytes));
            continue;
        }
        let path = source.path.with_file_name(&file.name);
        let header = headers.next().expect("every file of weights has a header");
        let mut spans = Vec::with_capacity(header.tensors.len());
        for info in &header.tensors {
            shard_of.insert(info.name.clone(), file.name.clone());
            let data = file.bytes.slice(info.range.clone()).expect("header checked: the range lies in the file");
            if names.is_table(info, &data) {
                tables.push(info.name.as_str());
                continue;
            }
            let (name, role) = names.canonical(&info.name);
            spans.push(Span {
                range: info.range.clone(),
                name: name.clone(),
                dtype: info.dtype,
                relayout: Relayout::Identity,
            });
            let tensor = Tensor::new(name, role, info.dtype, info.shape.clone(), data, Relayout::Identity)
                .map_err(|e| ParseError::new(e.to_string()).in_file(&path, Format::SafeTensors))?;
            if let Err(twice) = tensors.push(tensor) {
                let detail = format!("tensor {:?} is in two shards", twice.name);
                return Err(ParseError::new(detail).in_file(&path, Format::SafeTensors));
            }
        }
        // The recipe has one capsule; in a second one it would be an ordinary key.
        let range = header.capsule.clone().filter(|_| capsule.is_none());
        if let Some(range) = &range {
            capsule = file.bytes.slice(range.clone());
        }
        let container =
            Container { name: file.name.clone(), bytes: file.bytes.clone(), capsule: range, tensors: spans };
        files.push(container.into_file());
    }
    if let Some(index) = index {
        consistent(&index, &shard_of).map_err(in_source)?;
    }
    if config.tied == Some(false) && tensors.role(TensorRole::OutputHead).is_none() {
        let detail = "config.json says that the head is not tied to the embedding, but lm_head.weight is missing";
        return Err(in_source(ParseError::new(detail)));
    }

    let chat_templates = templates::read(source).map_err(in_source)?;
    let left_behind = source.left_behind.iter();
    let mut notes: Vec<_> = left_behind
        .map(|name| Finding::note("not-part-of-the-model", name, "lies in the directory and is not carried along"))
        .collect();
    notes.extend(tables.iter().map(|name| {
        let detail = "the causal mask, which follows from the hyper-parameters, and is no tensor of the model";
        Finding::note("derived-tensor", *name, detail)
    }));
    let tokenizer = match &config.spec {
        Spec::Known(_) => tokenizer(source).map_err(in_source)?,
        Spec::Unknown(_) => unknown::if_understood(tokenizer(source), &mut notes),
    };
    // Transformers reads this number and makes no use of it, so that files with a wrong one are about.
    let stated = source.companion(SAFETENSORS.index).map(total_size).transpose().map_err(in_source)?.flatten();
    if let Some(stated) = stated.filter(|&stated| stated != total_bytes) {
        let detail = format!("total_size is {stated}, the tensors have {total_bytes} bytes");
        notes.push(Finding::note("index-total-size", SAFETENSORS.index, detail));
    }
    Ok(Checkpoint {
        spec: config.spec,
        tensors,
        tokenizer: tokenizer.map(Arc::new),
        chat_templates,
        notes,
        origin: Origin {
            format: Format::SafeTensors,
            byte_order: ByteOrder::Little,
            identity: None,
            files,
            is_dir: source.is_dir,
        },
        capsule,
    })
}

/// The headers of the files of weights, in their order.
fn headers(source: &Source, limits: &Limits) -> Result<Vec<Header>, OpenError> {
    let parse = |file: &SourceFile| {
        let path = source.path.with_file_name(&file.name);
        Header::parse(&file.bytes, limits).map_err(|e| e.in_file(&path, Format::SafeTensors))
    };
    source.files.iter().filter(|file| is_weights(file)).map(parse).collect()
}

fn stored_names(headers: &[Header]) -> impl Iterator<Item = &str> + Clone {
    headers.iter().flat_map(|header| &header.tensors).map(|info| info.name.as_str())
}

fn is_weights(file: &SourceFile) -> bool {
    file.name != SAFETENSORS.index && !crate::source::is_companion(&file.name)
}

fn tokenizer(source: &Source) -> Result<Option<TokenizerSpec>, ParseError> {
    let files = HfTokenizerFiles {
        tokenizer_json: source.companion("tokenizer.json"),
        tokenizer_config: source.companion("tokenizer_config.json"),
        generation_config: source.companion("generation_config.json"),
        config: source.companion("config.json"),
        special_tokens_map: source.companion("special_tokens_map.json"),
        tokenizer_model: source.companion("tokenizer.model"),
    };
    if files.tokenizer_json.is_none() {
        return Ok(None);
    }
    TokenizerSpec::from_hf(&files).map(Some).map_err(|e| ParseError::new(format!("tokenizer: {e}")))
}

/// What the containers hold.
pub(crate) fn summary(source: &Source, limits: &Limits) -> Result<Summary, OpenError> {
    let mut summary = Summary { version: String::new(), metadata: Vec::new(), tensors: Vec::new() };
    let headers = headers(source, limits)?;
    // A file whose config says nothing, or is not there, is listed under the names that it has.
    let spec = source.companion("config.json").and_then(|text| Some(config::parse(text).ok()?.spec));
    let names = spec.as_ref().map(|spec| Names::new(spec, stored_names(&headers)));
    let names = names.as_ref();
    for (file, header) in source.files.iter().filter(|file| is_weights(file)).zip(&headers) {
        summary.metadata.extend(header.metadata.iter().cloned());
        summary.tensors.extend(header.tensors.iter().map(|t| TensorSummary {
            file: file.name.clone(),
            stored_name: t.name.clone(),
            name: names.map_or_else(|| t.name.clone(), |names| names.canonical(&t.name).0),
            dtype: t.dtype,
            shape: t.shape.clone(),
            range: t.range.clone(),
        }));
    }
    Ok(summary)
}
