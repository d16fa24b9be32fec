//! `apr inspect` and `apr rosetta inspect`.

use crate::args::Inspect;
use crate::error::CommandError;
use crate::{model, output};
use apr_formats::{Limits, capsule_contents, summarize};
use apr_model::{TokenKind, TokenizerModel, TokenizerSpec};
use apr_report::{CapsuleEntry, DTypeShare, ExitCode, FileEntry, InspectReport, Report, TokenizerSummary};
use std::collections::BTreeMap;
use std::fmt::Write;

pub(super) fn run(args: &Inspect, json: bool) -> Result<ExitCode, CommandError> {
    let (source, checkpoint) = model::open(&args.model)?;
    let summary = summarize(&source, &Limits::default())?;
    let mut dtypes = BTreeMap::<String, DTypeShare>::new();
    for tensor in &summary.tensors {
        let share = dtypes.entry(tensor.dtype.name().to_owned()).or_default();
        share.tensors += 1;
        share.bytes += tensor.range.len() as u64;
    }
    let mut spec = BTreeMap::new();
    if let Some(known) = checkpoint.spec.known() {
        spec.extend(known.counts().map(|(key, value)| (key.to_owned(), serde_json::json!(value))));
        spec.insert("rope_theta".to_owned(), serde_json::json!(known.rope_theta));
        spec.insert("rms_norm_eps".to_owned(), serde_json::json!(known.norm_eps));
        if !known.variation.is_plain() {
            spec.insert("variation".to_owned(), serde_json::json!(known.variation));
        }
    }
    let mut notes: Vec<String> = checkpoint.notes.iter().map(ToString::to_string).collect();
    notes.extend(checkpoint.spec.unknown().map(|architecture| architecture.finding().to_string()));
    let capsule = capsule_contents(&checkpoint, &Limits::default()).unwrap_or_else(|error| {
        notes.push(format!("capsule: {error}"));
        Vec::new()
    });
    let report = InspectReport {
        schema: InspectReport::SCHEMA.to_owned(),
        path: args.model.display().to_string(),
        format: source.format.name().to_owned(),
        files: model::file_entries(&source),
        file_bytes: source.len_bytes(),
        architecture: checkpoint.spec.architecture().to_owned(),
        spec,
        n_tensors: checkpoint.tensors.len() as u64,
        n_parameters: checkpoint.n_parameters(),
        dtypes,
        tokenizer: checkpoint.tokenizer.as_deref().map(tokenizer),
        chat_template: checkpoint.chat_templates.default.is_some(),
        chat_templates: checkpoint.chat_templates.iter().map(|(name, _)| name.to_owned()).collect(),
        capsule: capsule
            .into_iter()
            .map(|(format, files)| CapsuleEntry {
                format: format.name().to_owned(),
                files: files.into_iter().map(|(name, bytes)| FileEntry { name, bytes }).collect(),
            })
            .collect(),
        metadata_keys: summary.metadata.iter().map(|(key, _)| key.clone()).collect(),
        tensors: (json || args.tensors).then(|| model::tensor_entries(&summary, None)),
        notes,
    };
    output::print(json, &report, |report| text(report, &summary.version, &summary.metadata));
    Ok(ExitCode::Ok)
}

fn tokenizer(spec: &TokenizerSpec) -> TokenizerSummary {
    let (kind, pre) = match &spec.model {
        TokenizerModel::ByteLevelBpe { pre, .. } => ("byte_level_bpe", Some(pre.gguf.to_owned())),
        TokenizerModel::SentencePiece { .. } => ("sentence_piece", None),
    };
    let tokens = spec.vocab.texts.iter().zip(&spec.vocab.kinds).enumerate();
    TokenizerSummary {
        kind: kind.to_owned(),
        n_tokens: u64::from(spec.vocab.n_tokens()),
        pre,
        bos: spec.special.bos,
        eos: spec.special.eos,
        stop: spec.special.stop.clone(),
        special: tokens
            .filter(|(_, (_, kind))| **kind == TokenKind::Control)
            .map(|(id, (text, _))| (id as u32, text.to_owned()))
            .collect(),
    }
}

fn text(report: &InspectReport, version: &str, metadata: &[(String, String)]) -> String {
    let mut out = String::new();
    let mut line = |key: &str, value: &str| writeln!(out, "{key:<14}{value}").expect("writing to a string");
    line("model", &report.path);
    line("format", format!("{} {version}", report.format).trim());
    line("size", &format!("{} in {} file(s)", output::bytes(report.file_bytes), report.files.len()));
    line("architecture", &report.architecture);
    line("parameters", &format!("{} in {} tensors", report.n_parameters, report.n_tensors));
    for (dtype, share) in &report.dtypes {
        line("", &format!("{dtype:<5} {:>4} tensors  {}", share.tensors, output::bytes(share.bytes)));
    }
    for (key, value) in &report.spec {
        line(if key == "head_dim" { "spec" } else { "" }, &format!("{key} {value}"));
    }
    match &report.tokenizer {
        None => line("tokenizer", "none"),
        Some(t) => {
            let pre = t.pre.as_deref().map(|pre| format!(", pre-tokenizer {pre}")).unwrap_or_default();
            line("tokenizer", &format!("{}, {} tokens{pre}, ends at {:?}", t.kind, t.n_tokens, t.stop));
        }
    }
    let templates = match report.chat_templates.as_slice() {
        [] => "none".to_owned(),
        [_] if report.chat_template => "yes".to_owned(),
        names => names.join(", "),
    };
    line("chat template", &templates);
    for entry in &report.capsule {
        let files: Vec<_> = entry.files.iter().map(|f| f.name.as_str()).collect();
        line("capsule", &format!("was {}: {}", entry.format, files.join(", ")));
    }
    for note in &report.notes {
        line("note", note);
    }
    if !metadata.is_empty() {
        out.push_str("metadata\n");
        for (key, value) in metadata {
            writeln!(out, "  {key} = {value}").expect("writing to a string");
        }
    }
    if let Some(tensors) = &report.tensors {
        let rows = tensors.iter().map(|t| {
            vec![t.name.clone(), t.dtype.clone(), format!("{:?}", t.shape), t.offset.to_string(), t.bytes.to_string()]
        });
        out.push_str(&output::table(&["tensor", "dtype", "shape", "offset", "bytes"], rows));
    }
    out
}
