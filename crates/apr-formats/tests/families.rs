//! Models of every family come back through every format that can hold them, and are refused by name elsewhere.

mod common;

use apr_formats::{Limits, Target, WriteOptions, Written, open, write};
use apr_model::{ARCHITECTURES, Checkpoint, Format, LayerRole, Part, TensorRole, Window};
use common::bytes::{array_value, gguf, model_pairs, u32_value};
use common::{content, in_memory, no_progress};
use std::path::{Path, PathBuf};

fn models() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/families");
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut models: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    models.sort();
    assert!(models.len() >= ARCHITECTURES.len());
    models
}

fn convert(from: &Path, to: &Path, format: Format, capsule: bool) -> Result<Written, String> {
    let checkpoint = open(from, &Limits::default()).map_err(|error| error.to_string())?;
    let target = Target { path: to.to_owned(), format };
    let options = WriteOptions { capsule, ..WriteOptions::default() };
    write(&checkpoint, &target, &options, &mut no_progress()).map_err(|error| error.to_string())
}

#[test]
fn every_family_comes_back_through_apr() {
    for source in models() {
        let work = tempfile::tempdir().unwrap();
        let (apr, back) = (work.path().join("m.apr"), work.path().join("back"));
        convert(&source, &apr, Format::Apr, true).unwrap();
        let restored = convert(&apr, &back, Format::SafeTensors, true).unwrap().restored;
        assert_eq!(restored, Ok(()), "{}", source.display());
        assert_eq!(content(&source), content(&back), "{}", source.display());
    }
}

/// A file without a recipe states the same model under this project's own config.json.
#[test]
fn hyper_parameters_survive_without_a_capsule() {
    for source in models() {
        let work = tempfile::tempdir().unwrap();
        let (apr, back) = (work.path().join("m.apr"), work.path().join("back"));
        convert(&source, &apr, Format::Apr, false).unwrap();
        convert(&apr, &back, Format::SafeTensors, false).unwrap();
        let spec = |path: &Path| open(path, &Limits::default()).unwrap().spec;
        assert_eq!(spec(&apr), spec(&source), "{}", source.display());
        assert_eq!(spec(&back), spec(&source), "{}", source.display());
    }
}

#[test]
fn every_family_comes_back_through_gguf() {
    for source in models() {
        let name = source.file_name().unwrap().to_str().unwrap();
        let work = tempfile::tempdir().unwrap();
        let at = |name: &str| work.path().join(name);
        let checkpoint = open(&source, &Limits::default()).unwrap();
        convert(&source, &at("m.gguf"), Format::Gguf, true).unwrap_or_else(|error| panic!("{name}: {error}"));
        let gguf = open(&at("m.gguf"), &Limits::default()).unwrap();
        assert_eq!(gguf.spec, checkpoint.spec, "{name}");
        assert_eq!(gguf.structure(), [], "{name}");
        let restored = convert(&at("m.gguf"), &at("back"), Format::SafeTensors, true).unwrap().restored;
        assert_eq!(restored, Ok(()), "{name}");
        assert_eq!(content(&source), content(&at("back")), "{name}");

        // The GGUF file too is a source that comes back, and says the same without any recipe.
        for (format, between) in [(Format::Apr, "m.apr"), (Format::SafeTensors, "m")] {
            convert(&source, &at("plain.gguf"), Format::Gguf, false).unwrap();
            convert(&at("plain.gguf"), &at(between), format, true).unwrap();
            let restored = convert(&at(between), &at("again.gguf"), Format::Gguf, true).unwrap().restored;
            assert_eq!(restored, Ok(()), "{name} through {format}");
            let bytes = |file: &str| std::fs::read(at(file)).unwrap();
            assert!(bytes("plain.gguf") == bytes("again.gguf"), "{name} through {format}");
            let spec = open(&at(between), &Limits::default()).unwrap().spec;
            assert_eq!(spec, checkpoint.spec, "{name} as {format}");
            std::fs::remove_file(at("plain.gguf")).unwrap();
            std::fs::remove_file(at("again.gguf")).unwrap();
        }
    }
}

/// A file of llama.cpp's converter says no more than llama; the family and its window are this project's own keys.
#[test]
fn a_mistral_model_is_a_llama_file_that_names_its_family() {
    let source = models().into_iter().find(|path| path.ends_with("mistral")).unwrap();
    let work = tempfile::tempdir().unwrap();
    let gguf = work.path().join("m.gguf");
    let written = convert(&source, &gguf, Format::Gguf, false).unwrap();
    assert!(written.elsewhere[0].contains("sliding window of Mistral models: past 6 positions"), "{written:?}");
    let bytes = std::fs::read(&gguf).unwrap();
    let changed = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        let mut bytes = bytes.clone();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        std::fs::write(&gguf, bytes).unwrap();
        open(&gguf, &Limits::default()).map_err(|error| error.to_string())
    };
    let error = changed("apr.family", "apr.famili").unwrap_err();
    assert!(error.contains("llama.attention.sliding_window in a llama model"), "{error}");
    let error = changed("mistral", "starcod").unwrap_err();
    assert!(error.contains("family \"starcod\" of architecture \"llama\""), "{error}");
    let error = changed(
        "general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0llama",
        "general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0qwen3",
    );
    let error = error.unwrap_err();
    assert!(error.contains("family \"mistral\" of architecture \"qwen3\""), "{error}");
}

/// Which layers have the window is stated where the family does not say it, and a window that none has is refused.
#[test]
fn the_layers_of_a_window_are_stated_or_refused() {
    let source = |name: &str| models().into_iter().find(|path| path.ends_with(name)).unwrap();
    for (name, layers, is_ignored) in [
        ("qwen2-window", vec![0], true),
        ("qwen2-window", vec![1, 2], true),
        ("mistral", vec![1], true),
        ("gemma2", vec![0, 1], false),
    ] {
        let work = tempfile::tempdir().unwrap();
        let target = Target { path: work.path().join("m.gguf"), format: Format::Gguf };
        let mut checkpoint = open(&source(name), &Limits::default()).unwrap();
        checkpoint.spec.known_mut().unwrap().variation.window.as_mut().unwrap().layers.clone_from(&layers);
        let written = write(&checkpoint, &target, &WriteOptions::default(), &mut no_progress()).unwrap();
        let said = written.elsewhere.concat();
        assert_eq!(said.contains("llama.cpp ignores the sliding window"), is_ignored, "{name}: {said}");
        let window = |checkpoint: &Checkpoint| checkpoint.spec.known().unwrap().variation.window.clone();
        assert_eq!(window(&open(&target.path, &Limits::default()).unwrap()), window(&checkpoint), "{name} {layers:?}");
    }
    let work = tempfile::tempdir().unwrap();
    let target = Target { path: work.path().join("m.gguf"), format: Format::Gguf };
    let mut llama = open(&source("llama"), &Limits::default()).unwrap();
    llama.spec.known_mut().unwrap().variation.window = Some(Window { size: 4, layers: vec![0] });
    let error = write(&llama, &target, &WriteOptions::default(), &mut no_progress()).unwrap_err().to_string();
    assert!(error.contains("GGUF has no key for the sliding window of a llama model"), "{error}");

    let check = |pattern: Option<Vec<u8>>, expect: &str| {
        let mut pairs = model_pairs("qwen3");
        pairs.push(("qwen3.attention.sliding_window".to_owned(), u32_value(4)));
        pairs.extend(pattern.map(|pattern| ("qwen3.attention.sliding_window_pattern".to_owned(), pattern)));
        let pairs: Vec<_> = pairs.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        let source = in_memory("model.gguf", &gguf(&pairs, &[], 0)).unwrap();
        let error = apr_formats::open_source(&source, &Limits::default()).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    };
    check(None, "in a qwen3 model without a list qwen3.attention.sliding_window_pattern");
    check(Some(u32_value(2)), "without a list");
    let list = |n: usize| array_value(4, &vec![1u32.to_le_bytes().to_vec(); n]);
    check(Some(list(3)), "lists 3 layers of 1");
}

/// A copy of a model with the first values of a tensor changed.
fn with_values(source: &Path, to: &Path, tensor: &str, values: &[u16]) {
    std::fs::create_dir(to).unwrap();
    std::fs::copy(source.join("config.json"), to.join("config.json")).unwrap();
    let mut file = std::fs::read(source.join("model.safetensors")).unwrap();
    let data_start = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&file[8..data_start]).unwrap();
    assert_eq!(header[tensor]["dtype"], "BF16");
    let start = data_start + header[tensor]["data_offsets"][0].as_u64().unwrap() as usize;
    for (value, bytes) in values.iter().zip(file[start..].chunks_exact_mut(2)) {
        bytes.copy_from_slice(&value.to_le_bytes());
    }
    std::fs::write(to.join("model.safetensors"), file).unwrap();
}

/// 2⁻³⁰ and minus zero are not what is left of one plus them; the recipe keeps them, for as long as the gains are these.
#[test]
fn gains_that_one_plus_them_loses_come_back_too() {
    let gemma = models().into_iter().find(|path| path.ends_with("gemma")).unwrap();
    let name = "model.layers.1.input_layernorm.weight";
    for values in [[0x3080, 0x3f80], [0x8000, 0x3f80], [0x0001, 0x3f80]] {
        let work = tempfile::tempdir().unwrap();
        let at = |name: &str| work.path().join(name);
        with_values(&gemma, &at("source"), name, &values);
        convert(&at("source"), &at("m.gguf"), Format::Gguf, true).unwrap();
        convert(&at("m.gguf"), &at("m.apr"), Format::Apr, true).unwrap();
        for (from, to) in [("m.gguf", "back"), ("m.apr", "further")] {
            assert_eq!(convert(&at(from), &at(to), Format::SafeTensors, true).unwrap().restored, Ok(()), "{values:x?}");
            assert_eq!(content(&at("source")), content(&at(to)), "{values:x?}");
        }

        let gguf = open(&at("m.gguf"), &Limits::default()).unwrap();
        let before: Vec<u8> = gguf.tensors.get(name).unwrap().data[..8].to_vec();
        assert_eq!(before[4..], 2.0f32.to_le_bytes());
        let mut file = std::fs::read(at("m.gguf")).unwrap();
        let place = file.windows(8).rposition(|window| window == before).unwrap();
        file[place + 4..place + 8].copy_from_slice(&3.0f32.to_le_bytes());
        std::fs::write(at("m.gguf"), &file).unwrap();
        let reason = convert(&at("m.gguf"), &at("changed"), Format::SafeTensors, true).unwrap().restored.unwrap_err();
        assert_eq!(reason, format!("tensor {name} has other gains now"), "{values:x?}");
    }
}

/// A gain that is not one plus any binary32 number has no place in another format: that is an error, not a rounding.
#[test]
fn gains_that_nothing_gives_are_refused() {
    let gemma = models().into_iter().find(|path| path.ends_with("gemma")).unwrap();
    let work = tempfile::tempdir().unwrap();
    let at = |name: &str| work.path().join(name);
    let name = "model.layers.1.input_layernorm.weight";
    with_values(&gemma, &at("source"), name, &[0x3080, 0x3f80]);
    convert(&at("source"), &at("m.gguf"), Format::Gguf, false).unwrap();
    let mut file = std::fs::read(at("m.gguf")).unwrap();
    let pair = [1.0f32.to_le_bytes(), 2.0f32.to_le_bytes()].concat();
    let place = file.windows(8).rposition(|window| window == pair).unwrap();
    file[place..place + 4].copy_from_slice(&0.1f32.to_le_bytes());
    std::fs::write(at("m.gguf"), &file).unwrap();
    for format in [Format::SafeTensors, Format::Apr] {
        let error = convert(&at("m.gguf"), &at("out"), format, true).unwrap_err();
        assert!(error.contains(&format!("tensor {name} holds gains")), "{error}");
        assert!(!at("out").exists());
    }
}

/// GGUF has one tensor for the experts of a layer, in the order of their numbers whatever the order of the source.
#[test]
fn experts_are_stacked_by_number() {
    for name in ["qwen2-moe", "qwen3-moe"] {
        let source = models().into_iter().find(|path| path.ends_with(name)).unwrap();
        let work = tempfile::tempdir().unwrap();
        let gguf = work.path().join("m.gguf");
        convert(&source, &gguf, Format::Gguf, false).unwrap();
        let bytes = std::fs::read(&gguf).unwrap();
        let header = apr_formats::gguf::Header::parse(&bytes, &Limits::default()).unwrap();
        let stack = header.tensors.iter().find(|tensor| tensor.name == "blk.0.ffn_down_exps.weight").unwrap();
        assert_eq!(stack.shape.dims(), [6, 16, 24], "{name}");
        let checkpoint = open(&source, &Limits::default()).unwrap();
        let expert = |expert| TensorRole::Layer(0, LayerRole::ExpertDown(expert), Part::Weight);
        let expected: Vec<u8> =
            (0..6).flat_map(|index| checkpoint.tensors.role(expert(index)).unwrap().data.to_vec()).collect();
        assert!(bytes[stack.range.clone()] == expected, "{name}");
        assert!(!header.tensors.iter().any(|tensor| tensor.name.contains("experts")), "{name}");
    }
}

#[test]
fn a_stack_that_is_none_is_refused() {
    let check = |dims: &[u64], expect: &str| {
        let mut pairs = model_pairs("qwen3moe");
        for (key, n) in [("expert_count", 2), ("expert_used_count", 1), ("expert_feed_forward_length", 8)] {
            pairs.push((format!("qwen3moe.{key}"), u32_value(n)));
        }
        let pairs: Vec<_> = pairs.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        let n_bytes = dims.iter().product::<u64>() as usize * 4;
        let router = ("blk.0.ffn_gate_inp.weight", 0, [2, 32].as_slice(), 0);
        let file = gguf(&pairs, &[router, ("blk.0.ffn_up_exps.weight", 0, dims, 256)], 256 + n_bytes);
        let source = in_memory("model.gguf", &file).unwrap();
        let summary = apr_formats::summarize(&source, &Limits::default()).unwrap();
        match apr_formats::open_source(&source, &Limits::default()) {
            Err(error) => {
                assert!(error.to_string().contains(expect), "{error}");
                assert_eq!(summary.tensors.len(), 2, "it is listed as it stands there");
            }
            Ok(checkpoint) => {
                assert_eq!(checkpoint.tensors.len(), summary.tensors.len());
                let findings = checkpoint.structure();
                let found = findings.iter().any(|finding| finding.to_string().contains(expect));
                assert!(found, "{findings:?} should say {expect:?}");
            }
        }
    };
    let none = "expected the experts of a layer";
    check(&[64], none);
    check(&[0, 8, 32], none);
    check(&[1 << 17, 1, 1], none);
    check(&[2, 8, 16], "up_proj.weight: shape [8, 16], expected [8, 32]");
    check(&[1, 8, 32], "model.layers.0.mlp.experts.1.up_proj.weight: absent");
    check(&[3, 8, 32], "model.layers.0.mlp.experts.2.up_proj.weight: not part of a qwen3moe model");
}
