//! From a GGUF file to a checkpoint.

use super::keys::Keys;
use super::members::members;
use super::split::{self, ShardName};
use super::templates;
use super::{Array, CAPSULE_KEY, FAMILY_KEY, Header, NO_TOKENIZER, STOP_IDS_KEY, TensorInfo, Value, rope, variation};
use crate::origin::{Container, Span};
use crate::summary::{Summary, TensorSummary};
use crate::{Limits, OpenError, ParseError, Source, SourceFile, unknown};
use apr_model::{
    Architecture, ChatTemplates, Checkpoint, Finding, Format, GgufTokenizer, ModelSpec, Origin, Spec, Tensors, Texts,
    TokenizerSpec, UnknownArchitecture, architecture_by_gguf,
};
use apr_tensor::{ByteOrder, Shape};
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

/// Names of the files in a recipe: whatever they are called, the recipe, and so the target, is the same.
const FILE_NAME: &str = "model.gguf";
const FILE_PREFIX: &str = "model";

/// Reads the file of `source`, or the files where the model is split.
pub(crate) fn read(source: &Source, limits: &Limits) -> Result<Checkpoint, OpenError> {
    let files = split::files(source);
    let mut headers = headers(source, &files, limits)?;
    let in_file = |index: usize, e: ParseError| in_file(source, files[index], e);
    // Readers take the rows of the embedding for the vocabulary where a key does not state it; any file may have it.
    let embedding = headers.iter().flat_map(|header| &header.tensors).find(|t| t.name == "token_embd.weight");
    let embedding_rows = embedding.and_then(|t| u32::try_from(*t.shape.dims().first()?).ok());
    let names = headers.iter().flat_map(|header| &header.tensors).map(|t| t.name).collect();
    let mut notes = split::notes(&files, &headers);
    let factors = files.iter().zip(&headers).find_map(|(file, header)| rope::stored_factors(header, &file.bytes));
    let of_model = metadata(&mut headers[0], &names, embedding_rows, factors.as_deref(), &mut notes);
    let (spec, tokenizer, chat_templates) = of_model.map_err(|e| in_file(0, e))?;

    let mut tensors = Tensors::default();
    notes.extend(templates::notes(&Keys(&headers[0]), &chat_templates));
    let mut recipes = Vec::with_capacity(files.len());
    let names = ShardName { prefix: FILE_PREFIX.to_owned(), index: 0, n_files: files.len() };
    for (index, (file, header)) in files.iter().zip(&headers).enumerate() {
        let mut spans = Vec::with_capacity(header.tensors.len());
        for info in &header.tensors {
            if rope::is_derived(info.name, &spec) {
                let detail = "follows from the rotary scaling, and is no tensor of the model";
                notes.push(Finding::note("derived-tensor", info.name, detail));
                continue;
            }
            for member in members(info, spec.arch()).map_err(|e| in_file(index, e))? {
                let tensor = member.tensor(&spec, &file.bytes, header.byte_order).map_err(|e| in_file(index, e))?;
                let (name, dtype, relayout) = (tensor.name.clone(), tensor.dtype, tensor.relayout);
                spans.push(Span { range: member.range, name, dtype, relayout });
                if let Err(twice) = tensors.push(tensor) {
                    let detail = format!("two tensors are {:?} under their canonical name", twice.name);
                    return Err(in_file(index, ParseError::at(info.range.start as u64, detail)));
                }
            }
        }
        let last = header.tensors.iter().map(|t| t.range.end).max();
        if let Some(extra) = last.map(|end| file.bytes.len() - end).filter(|&n| n as u64 >= header.alignment) {
            notes.push(Finding::note("trailing-bytes", &file.name, format!("{extra} bytes after the last tensor")));
        }
        let name = if files.len() == 1 { FILE_NAME.to_owned() } else { names.sibling(index) };
        // The recipe has one capsule; in a later file it would be an ordinary key.
        let capsule = capsule_range(header).filter(|_| index == 0);
        recipes.push(Container { name, bytes: file.bytes.clone(), capsule, tensors: spans }.into_file());
        // What was needed of the header is copied by now; a vocabulary takes megabytes of it.
        if let Some(header_bytes) = file.bytes.slice(0..header.data_offset as usize) {
            header_bytes.release();
        }
    }
    let byte_order = headers[0].byte_order;
    if byte_order == ByteOrder::Big {
        let detail = "every number is swapped when it is read, so that weights take memory";
        notes.push(Finding::note("big-endian", &files[0].name, detail));
    }
    Ok(Checkpoint {
        spec,
        tensors,
        tokenizer: tokenizer.map(Arc::new),
        chat_templates,
        origin: Origin { format: Format::Gguf, byte_order, identity: None, files: recipes, is_dir: source.is_dir },
        capsule: capsule_range(&headers[0]).and_then(|range| files[0].bytes.slice(range)),
        notes,
    })
}

fn in_file(source: &Source, file: &SourceFile, error: ParseError) -> OpenError {
    error.in_file(&source.path.with_file_name(&file.name), Format::Gguf)
}

/// The headers of the files of one model, which agree on being that.
fn headers<'a>(source: &Source, files: &[&'a SourceFile], limits: &Limits) -> Result<Vec<Header<'a>>, OpenError> {
    let parse = |file: &&'a SourceFile| Header::parse(&file.bytes, limits).map_err(|e| in_file(source, file, e));
    let headers: Vec<_> = files.iter().map(parse).collect::<Result<_, _>>()?;
    split::check(files, &headers).map_err(|(index, e)| in_file(source, files[index], e))?;
    Ok(headers)
}

/// What the metadata says of the model.
fn metadata(
    header: &mut Header<'_>,
    names: &HashSet<&str>,
    embedding_rows: Option<u32>,
    rope_factors: Option<&[f32]>,
    notes: &mut Vec<Finding>,
) -> Result<(Spec, Option<TokenizerSpec>, ChatTemplates), ParseError> {
    let architecture = architecture(&Keys(header))?;
    let tokenizer = tokenizer(header);
    let keys = Keys(header);
    let chat_templates = templates::read(&keys)?;
    Ok(match architecture {
        Ok(arch) => {
            let tokenizer = tokenizer?;
            let mut spec = spec(&keys, arch, names, embedding_rows, tokenizer.as_ref())?;
            spec.variation.rope_scaling = rope::read(&keys, &spec, rope_factors)?;
            spec.validate().map_err(|e| ParseError::new(e.to_string()))?;
            (Spec::Known(spec), tokenizer, chat_templates)
        }
        Err(unknown) => (Spec::Unknown(unknown), unknown::if_understood(tokenizer, notes), chat_templates),
    })
}

/// The row that a file's keys name, or the architecture that no row is for.
fn architecture(keys: &Keys<'_, '_>) -> Result<Result<&'static Architecture, UnknownArchitecture>, ParseError> {
    let id = keys.string("general.architecture")?;
    let id = id.ok_or_else(|| ParseError::new("metadata key \"general.architecture\" is missing"))?;
    if let Some(text) = keys.string(UnknownArchitecture::KEY)? {
        return unknown::architecture(text).map(Err);
    }
    let family = keys.string(FAMILY_KEY)?;
    match (architecture_by_gguf(id, family), family) {
        (Some(arch), _) => Ok(Ok(arch)),
        (None, Some(family)) => {
            Err(ParseError::unsupported(format!("family {family:?} of architecture {id:?} ({FAMILY_KEY})")))
        }
        (None, None) => Ok(Err(UnknownArchitecture { name: id.to_owned(), format: Format::Gguf })),
    }
}

/// Where the text of the capsule lies in the file.
fn capsule_range(header: &Header<'_>) -> Option<Range<usize>> {
    let index = header.pairs.iter().position(|(key, value)| *key == CAPSULE_KEY && matches!(value, Value::Str(_)))?;
    let range = &header.value_ranges[index];
    // A string value is a length of eight bytes, then the text.
    Some(range.start + 8..range.end)
}

fn spec(
    keys: &Keys<'_, '_>,
    arch: &'static Architecture,
    names: &HashSet<&str>,
    embedding_rows: Option<u32>,
    tokenizer: Option<&TokenizerSpec>,
) -> Result<ModelSpec, ParseError> {
    let key = |suffix: &str| format!("{}.{suffix}", arch.gguf_id());
    let hidden_size = keys.required_count(&key("embedding_length"))?;
    let n_heads = keys.required_count(&key("attention.head_count"))?;
    let head_dim = match keys.count(&key("attention.key_length"))? {
        Some(n) => n,
        None if n_heads > 0 && hidden_size.is_multiple_of(n_heads) => hidden_size / n_heads,
        None => {
            let detail = format!("{hidden_size} hidden units don't divide into {n_heads} heads");
            return Err(ParseError::new(detail));
        }
    };
    let value_length = key("attention.value_length");
    if let Some(found) = keys.count(&value_length)?.filter(|&n| n != head_dim) {
        let detail = format!("{value_length} is {found}, this version needs it to equal the head size {head_dim}");
        return Err(ParseError::unsupported(detail));
    }
    let n_layers = keys.required_count(&key("block_count"))?;
    let vocab_size = match keys.count(&key("vocab_size"))? {
        Some(n) => n,
        None => match embedding_rows.or_else(|| tokenizer.map(|t| t.vocab.texts.len() as u32)) {
            Some(n) => n,
            None => {
                return Err(ParseError::new(format!(
                    "neither {} nor an embedding states the vocabulary",
                    key("vocab_size")
                )));
            }
        },
    };
    let spec = ModelSpec {
        arch,
        name: keys.string("general.name")?.map(str::to_owned),
        n_layers,
        hidden_size,
        n_heads,
        n_kv_heads: keys.count(&key("attention.head_count_kv"))?.unwrap_or(n_heads),
        head_dim,
        ffn_size: keys.required_count(&key("feed_forward_length"))?,
        vocab_size,
        context_length: keys.required_count(&key("context_length"))?,
        rope_theta: keys.float(&key("rope.freq_base"))?.unwrap_or(10_000.0),
        norm_eps: keys.required_float(&key(variation::norm_eps(arch)))?,
        variation: variation::read(
            keys,
            arch,
            &variation::Counts { n_layers, head_dim, hidden_size, n_heads },
            |index| names.contains(format!("blk.{index}.ffn_gate_inp.weight").as_str()),
        )?,
    };
    Ok(spec)
}

/// The tokenizer; its long lists are taken out of the header.
fn tokenizer(header: &mut Header<'_>) -> Result<Option<TokenizerSpec>, ParseError> {
    let model = Keys(header).string("tokenizer.ggml.model")?.filter(|model| *model != NO_TOKENIZER);
    let Some(model) = model else { return Ok(None) };
    let mut texts = |key: &str| -> Result<Option<Texts>, ParseError> {
        Ok(if Keys(header).has_strings(key)? { header.take_texts(key) } else { None })
    };
    let (tokens, merges) = (texts("tokenizer.ggml.tokens")?, texts("tokenizer.ggml.merges")?);
    let keys = Keys(header);
    let id = |name: &str| keys.count(&format!("tokenizer.ggml.{name}_token_id"));
    let ints = |key: &str| -> Result<Option<Vec<i64>>, ParseError> { Ok(keys.ints(key)?.map(<[i64]>::to_vec)) };
    let token_types = ints("tokenizer.ggml.token_type")?
        .map(|list| list.into_iter().map(i32::try_from).collect::<Result<Vec<_>, _>>())
        .transpose()
        .map_err(|_| ParseError::new("tokenizer.ggml.token_type holds a number outside 32 bits"))?;
    let stop_ids = ints(STOP_IDS_KEY)?
        .map(|list| list.into_iter().map(u32::try_from).collect::<Result<Vec<_>, _>>())
        .transpose()
        .map_err(|_| ParseError::new(format!("{STOP_IDS_KEY} holds a number that is no token id")))?;
    let fields = GgufTokenizer {
        model: model.to_owned(),
        pre: keys.string("tokenizer.ggml.pre")?.map(str::to_owned),
        tokens: tokens.ok_or_else(|| ParseError::new("metadata key \"tokenizer.ggml.tokens\" is missing"))?,
        scores: keys.floats("tokenizer.ggml.scores")?,
        token_types,
        merges,
        bos: id("bos")?,
        eos: id("eos")?,
        unk: id("unknown")?,
        pad: id("padding")?,
        eot: id("eot")?,
        add_bos: keys.boolean("tokenizer.ggml.add_bos_token")?,
        add_eos: keys.boolean("tokenizer.ggml.add_eos_token")?,
        add_space_prefix: keys.boolean("tokenizer.ggml.add_space_prefix")?,
        stop_ids,
        space_prefix: keys.string("apr.space_prefix")?.map(str::to_owned),
    };
    TokenizerSpec::from_gguf(fields).map(Some).map_err(|e| ParseError::new(format!("tokenizer: {e}")))
}

/// What the container holds, without asking whether it is a model that can be used.
pub(crate) fn summary(source: &Source, limits: &Limits) -> Result<Summary, OpenError> {
    let files = split::files(source);
    let headers = headers(source, &files, limits)?;
    let first = &headers[0];
    let metadata = first.pairs.iter().map(|(key, value)| ((*key).to_owned(), shown(value))).collect();
    // Stacks that are none keep their own names.
    let arch = architecture(&Keys(first)).ok().and_then(Result::ok);
    let of = |file: &SourceFile, info: &TensorInfo<'_>| {
        let summary = |name: String, shape: Shape, range| {
            let (file, stored_name) = (file.name.clone(), info.name.to_owned());
            TensorSummary { file, stored_name, name, dtype: info.dtype, shape, range }
        };
        match members(info, arch) {
            Ok(members) => {
                members.into_iter().map(|m| summary(m.name.clone(), m.canonical_shape(arch), m.range)).collect()
            }
            Err(_) => vec![summary(info.name.to_owned(), info.shape.clone(), info.range.clone())],
        }
    };
    let infos = files.iter().zip(&headers).flat_map(|(file, header)| header.tensors.iter().map(move |t| (file, t)));
    let tensors = infos.flat_map(|(file, info)| of(file, info)).collect();
    let order = if first.byte_order == ByteOrder::Big { ", big-endian" } else { "" };
    Ok(Summary { version: format!("v{}{order}", first.version), metadata, tensors })
}

/// A metadata value for people: long ones as their kind and length.
pub(super) fn shown(value: &Value<'_>) -> String {
    const LONGEST: usize = 80;
    match value {
        Value::Str(text) if text.len() <= LONGEST => format!("{text:?}"),
        Value::Str(text) => format!("string of {} bytes", text.len()),
        Value::Array(array) => match array {
            Array::Int(list) if list.len() <= 16 => format!("{list:?}"),
            Array::U64(list) if list.len() <= 16 => format!("{list:?}"),
            Array::Float(list) if list.len() <= 16 => format!("{list:?}"),
            other => format!("array of {}", other.len()),
        },
        Value::U8(n) => n.to_string(),
        Value::I8(n) => n.to_string(),
        Value::U16(n) => n.to_string(),
        Value::I16(n) => n.to_string(),
        Value::U32(n) => n.to_string(),
        Value::I32(n) => n.to_string(),
        Value::U64(n) => n.to_string(),
        Value::I64(n) => n.to_string(),
        Value::F32(x) => x.to_string(),
        Value::F64(x) => x.to_string(),
        Value::Bool(b) => b.to_string(),
    }
}
