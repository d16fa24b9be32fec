//! What is written can be read again: models that a format can't hold are refused before anything is written.

mod common;

use apr_formats::{Limits, Target, WriteError, WriteOptions, Written, check_integrity, open, open_source, write};
use apr_model::{Checkpoint, Format};
use common::bytes::{APR_METADATA, apr, gguf, gguf_model, model_pairs, safetensors, str_value};
use common::{in_memory, no_progress};
use std::path::Path;

fn model(bytes: &[u8]) -> Checkpoint {
    open_source(&in_memory("model.safetensors", bytes).unwrap(), &Limits::default()).unwrap()
}

fn put(checkpoint: &Checkpoint, path: &Path, format: Format, capsule: bool) -> Result<Written, WriteError> {
    let target = Target { path: path.to_owned(), format };
    let options = WriteOptions { capsule, ..WriteOptions::default() };
    write(checkpoint, &target, &options, &mut no_progress())
}

/// Every other format refuses the model with `expect` in the message, or holds it and gives it back.
fn check(bytes: &[u8], refuses: &[(Format, &str)]) {
    let checkpoint = model(bytes);
    let work = tempfile::tempdir().unwrap();
    for format in Format::ALL.into_iter().filter(|&f| f != checkpoint.origin.format) {
        let expect = refuses.iter().find(|(refusing, _)| *refusing == format).map(|(_, expect)| *expect);
        for capsule in [true, false] {
            let path = work.path().join(format!("{format}-{capsule}"));
            let written = put(&checkpoint, &path, format, capsule);
            if let Some(expect) = expect {
                let error = written.unwrap_err().to_string();
                assert!(error.contains(expect), "{format}: {error:?} should say {expect:?}");
                assert!(!path.exists());
                continue;
            }
            written.unwrap();
            let copy = open(&path, &Limits::default()).unwrap();
            assert_eq!(copy.identity(), checkpoint.identity(), "{format}");
            assert_eq!(copy.chat_templates, checkpoint.chat_templates, "{format}");
            check_integrity(&apr_formats::Source::locate(&path).unwrap(), &Limits::default()).unwrap();
            if capsule {
                let back = work.path().join(format!("back-{format}"));
                assert_eq!(put(&copy, &back, checkpoint.origin.format, true).unwrap().restored, Ok(()), "{format}");
                let main = if back.is_dir() { back.join("model.safetensors") } else { back };
                assert!(std::fs::read(main).unwrap() == bytes, "{format}");
            }
        }
    }
}

#[test]
fn shapes_that_gguf_does_not_have_are_refused() {
    check(
        &apr(APR_METADATA, &[("x", 0, &[1, 2, 1, 2, 1], 0)], 64),
        &[(Format::Gguf, "has 5 dimensions, GGUF allows 4")],
    );
    check(&apr(APR_METADATA, &[("x", 0, &[1, 2, 1, 2], 0)], 64), &[]);
    check(&apr(APR_METADATA, &[("x", 0, &[], 0)], 64), &[]);
}

#[test]
fn names_that_mean_another_tensor_in_the_target_are_refused() {
    let other = [(Format::Gguf, "means another tensor")];
    check(&apr(APR_METADATA, &[("blk.0.attn_q.weight", 0, &[4, 2], 0)], 64), &other);
    let q = "model.layers.0.self_attn.q_proj.weight";
    let both = [(q, 0, [4, 2].as_slice(), 0), ("blk.0.attn_q.weight", 0, [4, 2].as_slice(), 64)];
    check(&apr(APR_METADATA, &both, 128), &other);
    check(&gguf_model("qwen2", &[("__metadata__", 0, &[4], 0)], 32), &[(Format::SafeTensors, "keeps for itself")]);
    let long = "x".repeat(1 << 16);
    let too_long = gguf_model("qwen2", &[(&long, 0, &[4], 0)], 32);
    check(&too_long, &[(Format::Apr, "tensor name of 65536 bytes, APR allows 65535")]);
}

/// Rows of q and k change their order between the rotary conventions: a vector moves its elements, a block can't.
#[test]
fn biases_of_any_shape_and_dtype_come_back_or_are_refused() {
    let llama = APR_METADATA.replace("qwen2", "llama");
    for dims in [&[16u64] as &[u64], &[32], &[7], &[4, 16], &[16, 4], &[2, 8, 3], &[0], &[]] {
        for name in ["model.layers.0.self_attn.q_proj.bias", "model.layers.0.self_attn.k_proj.weight"] {
            let n = (dims.iter().product::<u64>() as usize * 4).next_multiple_of(64);
            check(&apr(&llama, &[(name, 0, dims, 0)], n), &[]);
        }
    }
    let name = "model.layers.0.self_attn.q_proj.bias";
    let packed = format!(r#"{{\"{name}\":{{\"dtype\":\"Q8_0\",\"shape\":[32]}}}}"#);
    let header = format!(
        r#"{{"__metadata__":{{"apr.packed":"{packed}"}},"{name}":{{"dtype":"U8","shape":[34],"data_offsets":[0,34]}}}}"#
    );
    let mut checkpoint = model(&safetensors(&header, 34));
    checkpoint.spec.known_mut().unwrap().arch = apr_model::architecture_by_id("llama").unwrap();
    let work = tempfile::tempdir().unwrap();
    let error = put(&checkpoint, &work.path().join("x.gguf"), Format::Gguf, false).unwrap_err().to_string();
    assert!(error.contains("Q8_0 [32] can't be stored as F32 in the row order of GGUF"), "{error}");
}

#[test]
fn a_tensor_without_bytes_may_stand_inside_another_one() {
    let header = r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"b":{"dtype":"F32","shape":[0],"data_offsets":[8,8]}}"#;
    check(&safetensors(header, 16), &[]);
    let inside = [("a", 0, [32].as_slice(), 0), ("b", 0, [0u64].as_slice(), 64)];
    check(&gguf_model("qwen2", &inside, 128), &[]);
    check(&apr(APR_METADATA, &inside, 128), &[]);
}

#[test]
fn a_template_without_a_tokenizer_is_not_lost() {
    let base = model_pairs("qwen2");
    let mut pairs: Vec<_> = base.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
    pairs.push(("tokenizer.chat_template", str_value("{{ messages }}")));
    let bytes = gguf(&pairs, &[], 0);
    assert!(model(&bytes).chat_templates.default.is_some());
    check(&bytes, &[]);
    pairs.push(("tokenizer.chat_template.a/b", str_value("{{ 1 }}")));
    let bytes = gguf(&pairs, &[], 0);
    assert_eq!(model(&bytes).chat_templates.get("a/b"), Some("{{ 1 }}"));
    check(&bytes, &[]);
}

#[test]
fn a_vocabulary_that_is_not_the_rows_of_the_embedding_is_not_lost() {
    check(&apr(APR_METADATA, &[], 0), &[]);
    check(&apr(APR_METADATA, &[("model.embed_tokens.weight", 0, &[3, 2], 0)], 64), &[]);
    check(&apr(APR_METADATA, &[("model.embed_tokens.weight", 0, &[], 0)], 64), &[]);
}
