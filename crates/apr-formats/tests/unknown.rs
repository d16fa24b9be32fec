//! Models of an architecture that no table knows: carried as they are, guessed about in nothing, and given back.

mod common;

use apr_formats::{DTypeRequest, Limits, Recoding, Target, WriteError, WriteOptions, Written, open, summarize, write};
use apr_formats::{Source, gguf};
use apr_model::{Checkpoint, Format, Spec, UnknownArchitecture};
use apr_tensor::DType;
use common::bytes::{array_value, gguf, str_value, text_bytes, u32_value};
use common::{content, no_progress, unknown};
use std::path::Path;

fn opened(path: &Path) -> Checkpoint {
    open(path, &Limits::default()).unwrap_or_else(|error| panic!("{error}"))
}

fn convert(from: &Path, to: &Path, format: Format, options: &WriteOptions) -> Written {
    common::convert(from, to, format, options).unwrap_or_else(|error| panic!("{}: {error}", to.display()))
}

/// Every way of two and of three steps that ends where it began.
fn ways(from: Format) -> Vec<Vec<Format>> {
    let others = || Format::ALL.into_iter().filter(move |&format| format != from);
    let longer =
        others().flat_map(|via| others().filter(move |&then| then != via).map(move |then| vec![via, then, from]));
    others().map(|via| vec![via, from]).chain(longer).collect()
}

#[test]
fn every_container_gives_the_same_tensors_and_the_way_back_the_same_files() {
    for from in Format::ALL {
        let work = tempfile::tempdir().unwrap();
        let source = unknown(from, work.path());
        let before = opened(&source);
        let expected = if from == Format::SafeTensors { "FerreForCausalLM" } else { "ferre" };
        let expected = UnknownArchitecture { name: expected.to_owned(), format: from };
        assert_eq!(before.spec, Spec::Unknown(expected));
        assert_eq!(before.structure(), [before.spec.unknown().unwrap().finding()]);
        for (i, way) in ways(from).into_iter().enumerate() {
            let mut current = source.clone();
            let mut restored = Err(String::new());
            for (step, &format) in way.iter().enumerate() {
                let next = work.path().join(format!("{i}-{step}"));
                let written = convert(&current, &next, format, &WriteOptions::default());
                assert!(written.steps.is_empty() && written.lossy.is_empty(), "{from} along {way:?}");
                restored = written.restored;
                let after = opened(&next);
                assert_eq!(after.spec, before.spec, "{from} along {way:?}");
                assert_eq!(after.identity(), before.identity(), "{from} along {way:?}");
                assert_eq!(after.tensors.len(), before.tensors.len());
                for tensor in &before.tensors {
                    let other = after.tensors.get(&tensor.name).unwrap();
                    assert_eq!((other.role, other.dtype, &other.shape), (None, tensor.dtype, &tensor.shape));
                    assert!(other.data[..] == tensor.data[..], "{from} along {way:?}: {}", tensor.name);
                }
                current = next;
            }
            assert_eq!(restored, Ok(()), "{from} along {way:?}");
            let files = |path: &Path| content(path).into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>();
            assert!(files(&source) == files(&current), "{from} along {way:?}");
        }
    }
}

/// A name that is no architecture's in the other format would be a guess.
#[test]
fn a_fresh_file_states_no_more_than_is_known() {
    let work = tempfile::tempdir().unwrap();
    let at = |name: &str| work.path().join(name);
    let source = unknown(Format::Gguf, work.path());
    convert(&source, &at("dir"), Format::SafeTensors, &WriteOptions::default());
    let config: serde_json::Value = serde_json::from_slice(&std::fs::read(at("dir/config.json")).unwrap()).unwrap();
    assert_eq!(config, serde_json::json!({"apr.architecture": "gguf:ferre"}));
    let names = |path: &Path| -> Vec<_> {
        let summary = summarize(&Source::locate(path).unwrap(), &Limits::default()).unwrap();
        summary.tensors.into_iter().map(|tensor| (tensor.stored_name, tensor.name)).collect()
    };
    assert!(names(&at("dir")).contains(&("blk.0.attn_q.weight".to_owned(), "blk.0.attn_q.weight".to_owned())));

    let source = unknown(Format::SafeTensors, work.path());
    let plain = WriteOptions { capsule: false, ..WriteOptions::default() };
    convert(&source, &at("m.gguf"), Format::Gguf, &plain);
    let bytes = std::fs::read(at("m.gguf")).unwrap();
    let header = gguf::Header::parse(&bytes, &Limits::default()).unwrap();
    let of_model: Vec<_> = header.pairs.iter().filter(|(key, _)| !key.starts_with("tokenizer.")).collect();
    let expected = [
        ("general.architecture", gguf::Value::Str("unknown")),
        ("apr.architecture", gguf::Value::Str("safetensors:FerreForCausalLM")),
        ("apr.stop_token_ids", header.get("apr.stop_token_ids").unwrap().clone()),
    ];
    assert_eq!(of_model.len(), expected.len(), "{of_model:?}");
    for (key, value) in &expected {
        assert_eq!(format!("{:?}", header.get(key)), format!("{:?}", Some(value)));
    }
    assert!(names(&at("m.gguf")).iter().any(|(stored, _)| stored == "model.layers.0.self_attn.q_proj.weight"));
    convert(&source, &at("m.apr"), Format::Apr, &plain);
    assert_eq!(opened(&at("m.apr")).spec, opened(&source).spec);
}

/// The mutants: a file whose data, names or shapes changed on the way is not taken for the one that was converted.
#[test]
fn what_was_changed_on_the_way_is_not_given_back() {
    for (from, via) in
        [(Format::Gguf, Format::Apr), (Format::Gguf, Format::SafeTensors), (Format::SafeTensors, Format::Gguf)]
    {
        let work = tempfile::tempdir().unwrap();
        let at = |name: &str| work.path().join(name);
        let source = unknown(from, work.path());
        convert(&source, &at("there"), via, &WriteOptions::default());
        let back = |checkpoint: &Checkpoint, name: &str| {
            let target = Target { path: at(name), format: from };
            write(checkpoint, &target, &WriteOptions::default(), &mut no_progress()).unwrap().restored
        };
        let there = opened(&at("there"));
        assert_eq!(back(&there, "same"), Ok(()));

        let changed = |change: fn(&mut apr_model::Tensor)| {
            let mut tensors = apr_model::Tensors::default();
            for (i, tensor) in there.tensors.iter().enumerate() {
                let mut tensor = tensor.clone();
                if i == 3 {
                    change(&mut tensor);
                }
                tensors.push(tensor).unwrap();
            }
            Checkpoint { tensors, ..there.clone() }
        };
        let flipped = changed(|tensor| {
            let mut data = tensor.data.to_vec();
            data[7] ^= 1;
            tensor.data = data.into();
        });
        let reason = back(&flipped, "flipped").unwrap_err();
        assert!(reason.contains("the data changed since it was converted"), "{from} by {via}: {reason}");
        let renamed = changed(|tensor| tensor.name.push('x'));
        let reason = back(&renamed, "renamed").unwrap_err();
        assert!(reason.contains("changed since"), "{from} by {via}: {reason}");
        let mut other = there.clone();
        other.spec = Spec::Unknown(UnknownArchitecture { name: "mink".to_owned(), format: from });
        assert!(back(&other, "other").is_err(), "{from} by {via}");
    }
}

#[test]
fn another_dtype_is_refused_by_the_name_of_the_architecture() {
    let work = tempfile::tempdir().unwrap();
    let source = unknown(Format::SafeTensors, work.path());
    let recoding = Some(Recoding::DType(DTypeRequest::new(DType::F16).unwrap()));
    let options = WriteOptions { recoding, ..WriteOptions::default() };
    for format in Format::ALL {
        let error = common::convert(&source, &work.path().join("x"), format, &options).unwrap_err();
        assert!(matches!(&error, WriteError::UnknownArchitecture { name } if name == "FerreForCausalLM"), "{error}");
    }
}

/// A split model, and a tokenizer of which nothing is understood.
#[test]
fn what_is_not_understood_stays_in_the_recipe() {
    let work = tempfile::tempdir().unwrap();
    let at = |name: &str| work.path().join(name);
    let source = unknown(Format::Gguf, work.path());
    let split = WriteOptions { shard_bytes: Some(50_000), ..WriteOptions::default() };
    let written = convert(&source, &at("s.gguf"), Format::Gguf, &split);
    let first = written.files[0].path.clone();
    assert!(written.files.len() > 2);
    convert(&first, &at("dir"), Format::SafeTensors, &WriteOptions::default());
    let again = at(&format!("again-00001-of-{:05}.gguf", written.files.len()));
    assert_eq!(convert(&at("dir"), &again, Format::Gguf, &WriteOptions::default()).restored, Ok(()));
    assert!(std::fs::read(&first).unwrap() == std::fs::read(&again).unwrap());
    let shards = WriteOptions { shard_bytes: Some(50_000), ..WriteOptions::default() };
    assert!(convert(&source, &at("shards"), Format::SafeTensors, &shards).files.len() > 3);
    assert_eq!(convert(&at("shards"), &at("b.gguf"), Format::Gguf, &WriteOptions::default()).restored, Ok(()));

    let pairs = [
        ("general.architecture", str_value("ferre")),
        ("ferre.block_count", u32_value(1)),
        ("tokenizer.ggml.model", str_value("abacus")),
        ("tokenizer.ggml.tokens", array_value(8, &[text_bytes("a"), text_bytes("b")])),
        ("tokenizer.chat_template", str_value("{{ messages }}")),
    ];
    std::fs::write(at("t.gguf"), gguf(&pairs, &[("w", 0, &[4, 16], 0)], 256)).unwrap();
    let checkpoint = opened(&at("t.gguf"));
    assert!(checkpoint.tokenizer.is_none());
    assert!(
        checkpoint.notes.iter().any(|note| note.code == "tokenizer-not-understood" && note.detail.contains("abacus"))
    );
    for (format, name) in [(Format::Apr, "t.apr"), (Format::SafeTensors, "t-dir")] {
        convert(&at("t.gguf"), &at(name), format, &WriteOptions::default());
        assert_eq!(opened(&at(name)).chat_templates.default.as_deref(), Some("{{ messages }}"));
        let back = at(&format!("{name}.gguf"));
        assert_eq!(convert(&at(name), &back, Format::Gguf, &WriteOptions::default()).restored, Ok(()));
        assert!(std::fs::read(&back).unwrap() == std::fs::read(at("t.gguf")).unwrap());
    }
}
