//! Rotary scaling in GGUF: the factors that llama.cpp reads, and what its files can't say.

mod common;

use apr_formats::gguf::Header;
use apr_formats::{Limits, OpenError, Target, WriteOptions, Written, open, open_source, write};
use apr_model::{Checkpoint, Format, RopeScaling, TensorRole};
use common::bytes::{f32_value, gguf, model_pairs, str_value, u32_value};
use common::{content, no_progress};
use std::path::{Path, PathBuf};

const FACTORS: &str = "rope_freqs.weight";

/// The factors that are neither 1 nor the last one, as bits, and what stands before them.
type Mixed<'a> = (usize, &'a [u32]);

/// What llama.cpp's converter writes for Llama 3.1 (8, 1, 4, 8192; base 500000; heads of 128).
const OF_8B: Mixed<'_> = (29, &[0x3f9a_8ed5, 0x3fc6_d64a, 0x4001_af1d, 0x402c_732e, 0x406b_cace, 0x40a8_3c06]);
/// The same for Llama 3.2 (32, 1, 4, 8192; base 500000; heads of 64).
const OF_1B: Mixed<'_> = (15, &[0x3fd3_5ec2, 0x4052_b46f, 0x411a_aaee]);
/// The same for the fixture (8, 1, 4, 16; base 10000; heads of 8).
const OF_FIXTURE: Mixed<'_> = (0, &[0x3fde_3353]);

fn factors(n: usize, factor: f32, (start, mixed): Mixed<'_>) -> Vec<f32> {
    let of = |pair: usize| match pair.checked_sub(start) {
        None => 1.0,
        Some(i) => mixed.get(i).map_or(factor, |&bits| f32::from_bits(bits)),
    };
    (0..n).map(of).collect()
}

fn llama3(factor: f64, context: u32) -> RopeScaling {
    let (low_freq_factor, high_freq_factor) = (1.0, 4.0);
    RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings: context }
}

fn family(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/families").join(name)
}

fn opened(path: &Path) -> Checkpoint {
    open(path, &Limits::default()).unwrap_or_else(|error| panic!("{error}"))
}

fn scaling(checkpoint: &Checkpoint) -> RopeScaling {
    checkpoint.spec.known().unwrap().variation.rope_scaling
}

fn convert(checkpoint: &Checkpoint, to: &Path, format: Format, options: &WriteOptions) -> Written {
    let target = Target { path: to.to_owned(), format };
    write(checkpoint, &target, options, &mut no_progress()).unwrap_or_else(|error| panic!("{error}"))
}

fn plain() -> WriteOptions {
    WriteOptions { capsule: false, ..WriteOptions::default() }
}

/// The factors of a file, which stand before its other tensors.
fn stored(path: &Path) -> Option<Vec<f32>> {
    let bytes = std::fs::read(path).unwrap();
    let header = Header::parse(&bytes, &Limits::default()).unwrap();
    let info = header.tensors.first().filter(|info| info.name == FACTORS)?;
    Some(bytes[info.range.clone()].as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

/// A llama file with these factors and these keys besides.
fn llama(architecture: &str, head_dim: u32, factors: &[f32], more: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut pairs = model_pairs(architecture);
    let key = |suffix: &str| format!("{architecture}.{suffix}");
    pairs.push((key("attention.key_length"), u32_value(head_dim)));
    pairs.push((key("attention.value_length"), u32_value(head_dim)));
    pairs.push((key("rope.freq_base"), f32_value(5e5)));
    pairs.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    let pairs: Vec<_> = pairs.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
    let dims = [factors.len() as u64];
    let mut file = gguf(&pairs, &[(FACTORS, 0, &dims, 0)], factors.len() * 4);
    let start = file.len() - factors.len() * 4;
    file.truncate(start);
    file.extend(factors.iter().flat_map(|factor| factor.to_le_bytes()));
    file
}

fn read(file: &[u8]) -> Result<Checkpoint, OpenError> {
    common::in_memory("model.gguf", file).and_then(|source| open_source(&source, &Limits::default()))
}

#[test]
fn factors_are_those_of_llama_cpps_converter() {
    let work = tempfile::tempdir().unwrap();
    let at = |name: &str| work.path().join(name);
    let written = convert(&opened(&family("llama-llama3")), &at("fixture.gguf"), Format::Gguf, &plain());
    assert_eq!(written.elsewhere, [""; 0], "llama.cpp computes the same");
    assert_eq!(stored(&at("fixture.gguf")).as_deref(), Some(&factors(4, 8.0, OF_FIXTURE)[..]));
    for (head_dim, factor, mixed) in [(128, 8.0, OF_8B), (64, 32.0, OF_1B)] {
        let expected = factors(head_dim / 2, factor, mixed);
        // A file of llama.cpp's: it has the factors alone, and they tell the scaling.
        let file = llama("llama", head_dim as u32, &expected, &[]);
        let checkpoint = read(&file).unwrap();
        assert_eq!(scaling(&checkpoint), llama3(factor.into(), 8192));
        assert!(checkpoint.tensors.is_empty(), "what follows from the scaling is no tensor of the model");
        assert_eq!(checkpoint.notes[0].code, "derived-tensor");
        let name = |what: &str| at(&format!("{head_dim}{what}"));
        convert(&checkpoint, &name("a.apr"), Format::Apr, &plain());
        convert(&opened(&name("a.apr")), &name("b.gguf"), Format::Gguf, &plain());
        assert_eq!(stored(&name("b.gguf")), Some(expected), "of {head_dim}");
        // And the way back gives the file, by a directory whose config states the scaling.
        convert(&checkpoint, &name("dir"), Format::SafeTensors, &WriteOptions::default());
        let config = String::from_utf8(std::fs::read(name("dir").join("config.json")).unwrap()).unwrap();
        assert!(config.contains("\"original_max_position_embeddings\": 8192"), "{config}");
        let back = convert(&opened(&name("dir")), &name("back.gguf"), Format::Gguf, &WriteOptions::default());
        assert_eq!(back.restored, Ok(()));
        assert!(std::fs::read(name("back.gguf")).unwrap() == file);
    }
}

/// Too few mixed factors, other ones, or an architecture for which llama.cpp reads none: they stay what they are.
#[test]
fn factors_that_tell_no_scaling_are_a_tensor_of_the_model() {
    let of_8b = factors(64, 8.0, OF_8B);
    let mut other = of_8b.clone();
    other[30] *= 1.00001;
    for (factors, head_dim) in [(&factors(4, 8.0, OF_FIXTURE)[..], 8), (&other, 128), (&of_8b[1..], 126), (&of_8b, 64)]
    {
        let checkpoint = read(&llama("llama", head_dim, factors, &[])).unwrap();
        assert_eq!(scaling(&checkpoint), RopeScaling::None);
        let tensor = checkpoint.tensors.role(TensorRole::RopeFactors).unwrap();
        assert_eq!(tensor.name, FACTORS);
        let expected = head_dim as usize / 2 == factors.len();
        assert_eq!(
            !checkpoint.structure().iter().any(|finding| finding.subject == FACTORS && finding.code == "shape"),
            expected
        );
        let work = tempfile::tempdir().unwrap();
        let written = convert(&checkpoint, &work.path().join("m"), Format::SafeTensors, &plain());
        assert!(written.elsewhere[0].contains("Transformers has no place for rope_freqs.weight"), "{written:?}");
        let again = opened(&work.path().join("m"));
        assert!(again.tensors.role(TensorRole::RopeFactors).unwrap().data[..] == tensor.data[..]);
    }
    let qwen2 = read(&llama("qwen2", 128, &of_8b, &[])).unwrap();
    assert_eq!((scaling(&qwen2), qwen2.tensors.get(FACTORS).unwrap().role), (RopeScaling::None, None));
}

/// Neither the key of this project nor the factors count where they disagree.
#[test]
fn a_file_that_contradicts_itself_is_refused() {
    let of_8b = factors(64, 8.0, OF_8B);
    let own = |text: &str| ("apr.rope_scaling", str_value(text));
    let llama3 = r#"{"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":8192}"#;
    let check = |factors: &[f32], more: &[(&str, Vec<u8>)], expect: &str| {
        let found = match read(&llama("llama", 128, factors, more)) {
            Ok(checkpoint) => format!("{:?}", scaling(&checkpoint)),
            Err(error) => error.to_string(),
        };
        assert!(found.contains(expect), "{found} should say {expect}");
    };
    check(&of_8b, &[own(llama3)], "Llama3 { factor: 8.0");
    let mut other = of_8b.clone();
    other[30] = f32::from_bits(other[30].to_bits() + 1);
    check(&other, &[own(llama3)], "does not hold the factors of apr.rope_scaling");
    check(&of_8b[1..], &[own(llama3)], "does not hold the factors of apr.rope_scaling");
    check(&of_8b, &[own(r#"{"rope_type":"longrope"}"#)], "apr.rope_scaling: unknown variant");
    let linear = [("llama.rope.scaling.type", str_value("linear")), ("llama.rope.scaling.factor", f32_value(2.0))];
    check(&of_8b, &[&linear[..], &[own(llama3)]].concat(), "state different scalings");
    check(
        &of_8b,
        &[&linear[..], &[own(r#"{"rope_type":"linear","factor":2.0000000001}"#)]].concat(),
        "factor: 2.0000000001",
    );
    check(&of_8b, &[own(r#"{"rope_type":"dynamic","factor":0.5}"#)], "rope_scaling is");
}

/// Every scaling comes back through GGUF with the hyper-parameters alone, and what llama.cpp makes of it is said.
#[test]
fn what_llama_cpp_does_not_hear_is_said() {
    let yarn = |attention_factor| RopeScaling::Yarn {
        factor: 4.0,
        beta_fast: 32.0,
        beta_slow: 1.0,
        original_max_position_embeddings: 16,
        attention_factor,
        truncate: true,
    };
    for (family_name, scaled, said) in [
        ("llama", yarn(None), None),
        ("llama", yarn(Some(1.5)), Some("takes the nearest")),
        ("llama", RopeScaling::Linear { factor: 2.0 }, None),
        ("llama", RopeScaling::Linear { factor: 0.1 }, Some("takes the nearest")),
        ("llama", RopeScaling::Dynamic { factor: 2.0 }, Some("past 64 positions")),
        ("granite", llama3(8.0, 16), None),
        ("qwen2", llama3(8.0, 16), Some("no llama3 rotary scaling of Qwen2 models")),
        ("smollm3", llama3(8.0, 16), Some("no llama3 rotary scaling of SmolLM3 models")),
    ] {
        let work = tempfile::tempdir().unwrap();
        let path = work.path().join("m.gguf");
        let mut checkpoint = opened(&family(family_name));
        let spec = checkpoint.spec.known_mut().unwrap();
        (spec.variation.rope_scaling, spec.context_length) = (scaled, 64);
        spec.validate().unwrap();
        let written = convert(&checkpoint, &path, Format::Gguf, &plain());
        assert_eq!(written.elsewhere.len(), usize::from(said.is_some()), "{family_name}: {written:?}");
        assert!(written.elsewhere.iter().zip(said).all(|(text, said)| text.contains(said)), "{written:?}");
        assert_eq!(scaling(&opened(&path)), scaled, "{family_name}");
        assert_eq!(stored(&path).is_some(), family_name == "granite");
    }
}

/// Files of another size keep the factors of the source, not those that would be computed again.
#[test]
fn split_files_keep_the_factors() {
    let mut of_8b = factors(64, 8.0, OF_8B);
    of_8b[30] = f32::from_bits(of_8b[30].to_bits() + 1);
    let work = tempfile::tempdir().unwrap();
    let at = |name: &str| work.path().join(name);
    std::fs::write(at("m.gguf"), llama("llama", 128, &of_8b, &[])).unwrap();
    let source = opened(&at("m.gguf"));
    assert_eq!(scaling(&source), llama3(8.0, 8192), "another order of rounding");
    let options = WriteOptions { shard_bytes: Some(100), ..plain() };
    convert(&source, &at("s.gguf"), Format::Gguf, &options);
    let stored = stored(&at("s.gguf")).unwrap();
    assert_eq!(stored, of_8b);
}

#[test]
fn scaled_models_come_back_through_gguf() {
    for name in ["llama-llama3", "llama-dynamic"] {
        let work = tempfile::tempdir().unwrap();
        let at = |name: &str| work.path().join(name);
        let source = opened(&family(name));
        convert(&source, &at("m.gguf"), Format::Gguf, &WriteOptions::default());
        convert(&opened(&at("m.gguf")), &at("m.apr"), Format::Apr, &WriteOptions::default());
        for from in ["m.gguf", "m.apr"] {
            let back = convert(
                &opened(&at(from)),
                &at(&format!("from-{from}")),
                Format::SafeTensors,
                &WriteOptions::default(),
            );
            assert_eq!(back.restored, Ok(()), "{name}");
            assert_eq!(content(&family(name)), content(&at(&format!("from-{from}"))), "{name}");
        }
    }
}
