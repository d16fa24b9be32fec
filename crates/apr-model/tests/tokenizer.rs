//! One canonical tokenizer, whichever format it was read from; checked against the files that llama.cpp's converter and
//! the tokenizers and sentencepiece libraries wrote.

mod common;

use apr_model::{
    GgufTokenizer, HfTokenizerFiles, PRE_TOKENIZERS, SpacePrefix, Texts, TokenKind, TokenizerError, TokenizerModel,
    TokenizerSpec,
};
use common::{HfDirectory, MODELS, gguf_tokenizer, ggufs, repo};
use proptest::prelude::*;

fn assert_equal(a: &TokenizerSpec, b: &TokenizerSpec, what: &str) {
    assert_eq!(a.differences(b), Vec::<String>::new(), "{what}");
    assert_eq!(a, b, "{what}");
}

#[test]
fn a_transformers_directory_and_its_gguf_files_give_one_spec() {
    for model in MODELS {
        let spec = HfDirectory::open(model).spec();
        for path in ggufs(model) {
            let read = TokenizerSpec::from_gguf(gguf_tokenizer(&path)).unwrap();
            assert_equal(&spec, &read, &path.display().to_string());
        }
    }
}

#[test]
fn the_facts_of_tiny_qwen2_are_those_of_its_configs() {
    let spec = HfDirectory::open("tiny-qwen2").spec();
    assert_eq!(spec.vocab.n_tokens(), 2043, "2038 base tokens and 5 added ones");
    assert_eq!(spec.vocab.get(2040), Some(("<|im_end|>", TokenKind::Control)));
    assert_eq!(spec.vocab.get(2041), Some(("<tool_call>", TokenKind::UserDefined)));
    assert_eq!(spec.vocab.get(2043), None, "the embedding has 2048 rows; the last 5 are not tokens");
    let special = &spec.special;
    assert_eq!((special.bos, special.eos, special.unk, special.pad), (None, Some(2040), None, Some(2038)));
    assert_eq!((special.add_bos, special.add_eos, &special.stop[..]), (false, false, &[2038, 2040][..]));
}

#[test]
fn the_facts_of_nano_llama_are_those_of_its_configs() {
    let spec = HfDirectory::open("nano-llama").spec();
    assert_eq!(spec.vocab.get(0), Some(("<unk>", TokenKind::Unknown)));
    assert_eq!(spec.vocab.get(1), Some(("<s>", TokenKind::Control)));
    assert_eq!(spec.vocab.get(12), Some(("<0x09>", TokenKind::Byte)));
    let special = &spec.special;
    assert_eq!((special.bos, special.eos, special.unk, special.pad), (Some(1), Some(2), Some(0), None));
    assert_eq!((special.add_bos, special.add_eos, &special.stop[..]), (true, false, &[2][..]));
    let TokenizerModel::SentencePiece { scores, space_prefix } = &spec.model else { panic!("{:?}", spec.model) };
    assert_eq!(*space_prefix, SpacePrefix::Always);
    assert_eq!((scores[0], scores[12], scores[511]), (0.0, 0.0, -252.0));
}

#[test]
fn what_to_gguf_gives_is_what_llama_cpp_wrote() {
    for model in MODELS {
        let original = gguf_tokenizer(&ggufs(model)[0]);
        let rows = original.tokens.len() as u32;
        let written = HfDirectory::open(model).spec().to_gguf(rows);
        let mut expect = GgufTokenizer { stop_ids: written.stop_ids.clone(), ..original };
        if *model == "nano-llama" {
            // Ours says that <unk> is the unknown token; llama.cpp's converter calls every added token a control token.
            expect.token_types.as_mut().unwrap()[0] = TokenKind::Unknown as i32;
        }
        assert_eq!(written, expect, "{model}");
    }
}

#[test]
fn a_spec_survives_every_format() {
    for model in MODELS {
        let spec = HfDirectory::open(model).spec();
        for rows in [0, spec.vocab.n_tokens(), spec.vocab.n_tokens() + 7] {
            let read = TokenizerSpec::from_gguf(spec.to_gguf(rows)).unwrap();
            assert_equal(&spec, &read, &format!("{model} through GGUF with {rows} rows"));
        }
        for with_scores in [false, true] {
            let read = HfDirectory::written(&spec, with_scores).spec();
            assert_equal(&spec, &read, &format!("{model} through JSON, tokenizer.model {with_scores}"));
        }
    }
}

#[test]
fn scores_follow_from_merges_where_tokenizer_model_is_absent() {
    let spec = HfDirectory::open("nano-llama").spec();
    assert_equal(&spec, &HfDirectory::open("nano-llama").without("tokenizer.model").spec(), "from the merges");
    assert_equal(&spec, &HfDirectory::open("nano-llama").without("tokenizer.json").spec(), "from the scores");
}

#[test]
fn the_merges_of_a_sentencepiece_model_follow_from_its_scores() {
    let dir = HfDirectory::open("nano-llama");
    let merges = |json: &str| -> Vec<String> {
        let json: serde_json::Value = serde_json::from_str(json).unwrap();
        let merge = |merge: &serde_json::Value| match merge.as_array() {
            Some(pair) => format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()),
            None => merge.as_str().unwrap().to_owned(),
        };
        json["model"]["merges"].as_array().unwrap().iter().map(merge).collect()
    };
    assert_eq!(merges(&dir.spec().to_tokenizer_json()), merges(dir.text("tokenizer.json")));
}

#[test]
fn the_real_qwen2_vocabulary_is_read() {
    let fields = gguf_tokenizer(&repo("fixtures/vocab/ggml-vocab-qwen2.gguf"));
    assert_eq!(fields.tokens.len(), 151_936);
    let spec = TokenizerSpec::from_gguf(fields).unwrap();
    assert_eq!(spec.vocab.n_tokens(), 151_646, "the rows [PAD151646] to [PAD151935] are not tokens");
    assert_eq!(spec.special.stop, [151_643, 151_645], "<|endoftext|> and <|im_end|>");
    assert_equal(&spec, &TokenizerSpec::from_gguf(spec.to_gguf(151_936)).unwrap(), "through GGUF");
    assert_equal(&spec, &HfDirectory::written(&spec, false).spec(), "through JSON");
}

/// A byte-level tokenizer of a few tokens.
fn small_gguf() -> GgufTokenizer {
    GgufTokenizer {
        model: "gpt2".to_owned(),
        pre: Some("qwen2".to_owned()),
        tokens: Texts::from_iter(["a", "b", "ab", "<|im_end|>"]),
        token_types: Some(vec![1, 1, 1, 3]),
        merges: Some(Texts::from_iter(["a b"])),
        eos: Some(3),
        ..GgufTokenizer::default()
    }
}

fn set_token(fields: &mut GgufTokenizer, id: usize, text: &str) {
    fields.tokens = fields.tokens.iter().enumerate().map(|(i, old)| if i == id { text } else { old }).collect();
}

/// A SentencePiece tokenizer of a few tokens.
fn small_sentencepiece() -> GgufTokenizer {
    GgufTokenizer {
        model: "llama".to_owned(),
        tokens: Texts::from_iter(["<unk>", "<s>", "</s>", "<0x0A>", "▁a", "▁", "a"]),
        scores: Some(vec![0.0, 0.0, 0.0, 0.0, -0.0, -1.0, -2.0]),
        token_types: Some(vec![2, 3, 3, 6, 1, 1, 1]),
        bos: Some(1),
        eos: Some(2),
        ..GgufTokenizer::default()
    }
}

#[test]
fn gguf_keys_that_contradict_each_other_are_rejected() {
    let check = |change: fn(&mut GgufTokenizer), expect: &str| {
        for mut fields in [small_gguf(), small_sentencepiece()] {
            change(&mut fields);
            let error = TokenizerSpec::from_gguf(fields).unwrap_err().to_string();
            assert!(error.contains(expect), "{error:?} says {expect:?}");
        }
    };
    TokenizerSpec::from_gguf(small_gguf()).unwrap();
    TokenizerSpec::from_gguf(small_sentencepiece()).unwrap();
    check(|f| f.model = "rwkv".to_owned(), "tokenizer.ggml.model is \"rwkv\", expected gpt2 or llama");
    check(|f| f.tokens.truncate(0), "tokenizer.ggml.tokens is missing");
    check(|f| f.token_types = Some(vec![1; 3]), "tokenizer.ggml.token_type has 3 entries");
    check(|f| f.token_types.as_mut().unwrap()[1] = 9, "tokenizer.ggml.token_type is 9 at token 1");
    check(|f| f.token_types.as_mut().unwrap()[0] = 6, "its type is byte");
    check(|f| f.eos = Some(99), "eos token id is 99");
    check(|f| f.pad = Some(u32::MAX), "pad token id is 4294967295");
    check(|f| f.eot = Some(99), "stop token id is 99");
    check(|f| f.stop_ids = Some(vec![0, 7]), "stop token id is 7");
    let repeat = |f: &mut GgufTokenizer| {
        let first = f.tokens[0].to_owned();
        set_token(f, 1, &first);
    };
    check(repeat, "token 0 has the same text");
    check(|f| set_token(f, 0, ""), "its text has 0 bytes");
    check(|f| set_token(f, 0, &"x".repeat(3000)), "its text has 3000 bytes");
}

#[test]
fn gguf_keys_of_one_algorithm_are_checked() {
    let check = |mut fields: GgufTokenizer, change: fn(&mut GgufTokenizer), expect: &str| {
        change(&mut fields);
        let error = TokenizerSpec::from_gguf(fields).unwrap_err().to_string();
        assert!(error.contains(expect), "{error:?} says {expect:?}");
    };
    check(small_gguf(), |f| f.pre = None, "tokenizer.ggml.pre is missing");
    check(small_gguf(), |f| f.pre = Some("qwen9".to_owned()), "\"qwen9\", expected one of qwen2, llama-bpe, gpt-2");
    check(small_gguf(), |f| f.merges = None, "tokenizer.ggml.merges is missing");
    check(small_gguf(), |f| f.merges = Some(Texts::from_iter(["ab"])), "merge 0 \"ab\": expected two pieces");
    check(small_gguf(), |f| f.merges = Some(Texts::from_iter(["a b c"])), "expected two pieces");
    check(small_gguf(), |f| f.merges = Some(Texts::from_iter(["b a"])), "both pieces and their union must be tokens");
    check(small_sentencepiece(), |f| f.scores = None, "tokenizer.ggml.scores is missing");
    check(small_sentencepiece(), |f| f.scores = Some(vec![0.0]), "tokenizer.ggml.scores has 1 entries");
    check(small_sentencepiece(), |f| f.scores.as_mut().unwrap()[4] = f32::NAN, "its score is NaN");
    check(small_sentencepiece(), |f| f.space_prefix = Some("last".to_owned()), "apr.space_prefix is \"last\"");
}

#[test]
fn spellings_of_the_same_fact_give_one_spec() {
    let expect = TokenizerSpec::from_gguf(small_sentencepiece()).unwrap();
    assert_eq!(expect.special.unk, Some(0), "the only token of kind unknown");
    assert!(expect.special.add_bos, "default of a SentencePiece model");
    let changes: [fn(&mut GgufTokenizer); 6] = [
        |f| (f.unk, f.token_types) = (Some(0), Some(vec![3, 3, 3, 6, 1, 1, 1])),
        |f| f.token_types = Some(vec![2, 3, 3, 1, 1, 1, 1]),
        |f| f.scores.as_mut().unwrap()[..4].fill(-1000.0),
        |f| f.stop_ids = Some(vec![2, 2]),
        |f| f.add_space_prefix = Some(true),
        |f| {
            f.tokens.push("[PAD7]");
            f.token_types.as_mut().unwrap().push(5);
            f.scores.as_mut().unwrap().push(-10000.0);
        },
    ];
    for change in changes {
        let mut fields = small_sentencepiece();
        change(&mut fields);
        assert_equal(&expect, &TokenizerSpec::from_gguf(fields).unwrap(), "another spelling");
    }
}

#[test]
fn every_pre_tokenizer_survives_every_format() {
    for pre in PRE_TOKENIZERS {
        for (add_bos, add_eos) in [(false, false), (true, false), (false, true), (true, true)] {
            let fields = GgufTokenizer {
                pre: Some(pre.gguf.to_owned()),
                bos: Some(2),
                add_bos: Some(add_bos),
                add_eos: Some(add_eos),
                ..small_gguf()
            };
            let spec = TokenizerSpec::from_gguf(fields).unwrap();
            assert_eq!((spec.special.add_bos, spec.special.add_eos), (add_bos, add_eos));
            assert_equal(&spec, &TokenizerSpec::from_gguf(spec.to_gguf(9)).unwrap(), pre.gguf);
            assert_equal(&spec, &HfDirectory::written(&spec, false).spec(), pre.gguf);
            // The post-processor says the same where tokenizer_config.json says nothing.
            let config = r#"{"bos_token": "ab", "eos_token": "<|im_end|>"}"#;
            let written = HfDirectory::written(&spec, false).with("tokenizer_config.json", config);
            assert_equal(&spec, &written.spec(), pre.gguf);
        }
        let silent = GgufTokenizer { pre: Some(pre.gguf.to_owned()), bos: Some(2), ..small_gguf() };
        assert_eq!(TokenizerSpec::from_gguf(silent).unwrap().special.add_bos, pre.adds_bos, "{}", pre.gguf);
    }
}

#[test]
fn every_space_prefix_survives_every_format() {
    for space_prefix in
        [SpacePrefix::Never, SpacePrefix::Always, SpacePrefix::MetaspaceFirst, SpacePrefix::MetaspaceAlways]
    {
        let mut spec = TokenizerSpec::from_gguf(small_sentencepiece()).unwrap();
        let TokenizerModel::SentencePiece { space_prefix: field, .. } = &mut spec.model else { unreachable!() };
        *field = space_prefix;
        assert_equal(&spec, &TokenizerSpec::from_gguf(spec.to_gguf(9)).unwrap(), "GGUF");
        assert_equal(&spec, &HfDirectory::written(&spec, false).spec(), "tokenizer.json");
        assert_equal(&spec, &HfDirectory::written(&spec, true).spec(), "tokenizer.json and tokenizer.model");
    }
}

#[test]
fn scores_that_merges_cannot_carry_survive_in_tokenizer_model() {
    let mut fields = small_sentencepiece();
    fields.scores = Some(vec![0.0, 0.0, 0.0, 0.0, -7.25, -9.5, -9.5]);
    let spec = TokenizerSpec::from_gguf(fields).unwrap();
    assert_equal(&spec, &HfDirectory::written(&spec, true).spec(), "with tokenizer.model");
    let without = HfDirectory::written(&spec, false).spec();
    assert_eq!(spec.differences(&without), ["score of token 4 is -7.25 against 0"], "the loss is reported");
}

#[test]
fn ids_without_a_token_survive_as_unused_rows() {
    let mut fields = small_gguf();
    fields.tokens = ["a", "b", "[PAD2]", "ab", "<|im_end|>"].into_iter().collect();
    fields.token_types = Some(vec![1, 1, 5, 1, 3]);
    fields.eos = Some(4);
    let spec = TokenizerSpec::from_gguf(fields).unwrap();
    assert_eq!(spec.vocab.get(2), Some(("[PAD2]", TokenKind::Unused)));
    assert!(!spec.to_tokenizer_json().contains("PAD"));
    assert_equal(&spec, &HfDirectory::written(&spec, false).spec(), "tokenizer.json");
    assert_equal(&spec, &TokenizerSpec::from_gguf(spec.to_gguf(9)).unwrap(), "GGUF");
}

/// Changes one place of a model's tokenizer.json and says what the reader answers.
fn after(model: &str, from: &str, to: &str) -> String {
    let dir = HfDirectory::open(model);
    let json = dir.text("tokenizer.json");
    assert!(json.contains(from), "{model}: {from}");
    let json = json.replacen(from, to, 1);
    match TokenizerSpec::from_hf(&dir.with("tokenizer.json", json).files()) {
        Ok(_) => "read".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn an_unknown_pre_tokenizer_is_quoted_with_the_known_names() {
    let error = after("nano-qwen2", r"\\p{N}| ?", r"\\p{N}{1,2}| ?");
    assert!(error.contains(r"\\p{N}{1,2}| ?"), "{error}");
    assert!(error.contains("expected one of qwen2, llama-bpe, gpt-2"), "{error}");
    let error = after("nano-qwen2", "\"NFC\"", "\"NFKC\"");
    assert!(error.contains("normalizer is [{\"type\":\"NFKC\"}], expected none or NFC"), "{error}");
}

#[test]
fn what_no_format_can_state_is_rejected() {
    for (model, from, to, expect) in [
        ("nano-qwen2", "\"rstrip\": false", "\"rstrip\": true", "rstrip of token 500"),
        ("nano-qwen2", "\"type\": \"BPE\"", "\"type\": \"WordPiece\"", "model.type is WordPiece, expected BPE"),
        ("nano-qwen2", "\"end_of_word_suffix\": null", "\"end_of_word_suffix\": \"@\"", "end_of_word_suffix"),
        ("nano-qwen2", "\"end_of_word_suffix\": null", "\"end_of_word_suffix\": \"\"", "read"),
        ("nano-qwen2", "\"!\": 0", "\"!\": 1", "has the same id"),
        ("nano-qwen2", "\"!\": 0", "\"!\": 4000000000", "ids without large gaps"),
        ("nano-qwen2", "\"id\": 500", "\"id\": 499", "has"),
        ("nano-llama", "\"byte_fallback\": true", "\"byte_fallback\": false", "byte_fallback"),
        ("nano-llama", "\"prepend\": \"▁\"", "\"prepend\": \"_\"", "Prepend and Replace"),
        ("nano-llama", "TemplateProcessing", "RobertaProcessing", "RobertaProcessing"),
    ] {
        let found = after(model, from, to);
        assert!(found.contains(expect), "{from} to {to}: {found:?} says {expect:?}");
    }
}

#[test]
fn merges_that_scores_cannot_express_are_rejected() {
    let dir = || HfDirectory::open("nano-llama").without("tokenizer.model");
    let mut json: serde_json::Value = serde_json::from_str(dir().text("tokenizer.json")).unwrap();
    let merges = json["model"]["merges"].as_array_mut().unwrap();
    let removed = merges.pop().unwrap();
    let error = TokenizerSpec::from_hf(&dir().with("tokenizer.json", json.to_string()).files()).unwrap_err();
    assert!(error.to_string().contains(&format!("without the merge {}", removed[0])), "{error}");
}

#[test]
fn files_that_contradict_each_other_are_rejected() {
    let dir = HfDirectory::open("nano-llama");
    let json = dir.text("tokenizer.json").replace("\"▁t\"", "\"▁T\"");
    let error = TokenizerSpec::from_hf(&dir.with("tokenizer.json", json).files()).unwrap_err();
    assert!(error.to_string().contains("in tokenizer.model and"), "{error}");
    let dir = HfDirectory::open("nano-qwen2");
    let config = dir.text("tokenizer_config.json").replace("\"eos_token\": \"<|im_end|>\"", "\"eos_token\": \"<end>\"");
    let error = TokenizerSpec::from_hf(&dir.with("tokenizer_config.json", config).files()).unwrap_err();
    assert!(error.to_string().contains("eos_token is \"<end>\", expected the text of a token"), "{error}");
    let none = TokenizerSpec::from_hf(&HfTokenizerFiles::default()).unwrap_err();
    assert!(matches!(none, TokenizerError::Missing { what: "tokenizer.json", .. }), "{none}");
}

#[test]
fn special_ids_have_one_order_of_sources() {
    let base = || HfDirectory::open("nano-qwen2").without("tokenizer_config.json").without("generation_config.json");
    let eos = |dir: HfDirectory| (dir.spec().special.eos, dir.spec().special.stop);
    assert_eq!(eos(base().with("config.json", r#"{"eos_token_id": [501, 500]}"#)), (Some(501), vec![500, 501]));
    assert_eq!(eos(base().with("config.json", r#"{"eos_token_id": -1}"#)), (None, vec![]));
    let map = r#"{"eos_token": {"content": "<|im_end|>"}}"#;
    let dir = base().with("config.json", r#"{"eos_token_id": 500}"#).with("special_tokens_map.json", map);
    assert_eq!(eos(dir), (Some(502), vec![500, 502]));
    let wrong = base().with("config.json", r#"{"eos_token_id": "two"}"#);
    let error = TokenizerSpec::from_hf(&wrong.files()).unwrap_err().to_string();
    assert_eq!(error, "config.json: eos_token_id is \"two\", expected a token id or a list of them");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn random_files_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "config.json", "tokenizer.model"] {
            let _ = TokenizerSpec::from_hf(&HfDirectory::open("nano-llama").with(name, bytes.clone()).files());
        }
        let files = HfTokenizerFiles { tokenizer_model: Some(&bytes), ..HfTokenizerFiles::default() };
        let _ = TokenizerSpec::from_hf(&files);
    }

    #[test]
    fn damaged_files_never_panic(place in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        for name in ["tokenizer.json", "tokenizer.model", "tokenizer_config.json"] {
            let dir = HfDirectory::open("nano-llama");
            let files = dir.files();
            let original = if name == "tokenizer.model" { files.tokenizer_model.unwrap() } else { dir.text(name).as_bytes() };
            let mut bytes = original.to_vec();
            let place = place.index(bytes.len());
            if cut { bytes.truncate(place) } else { bytes[place] = byte }
            if let Ok(spec) = TokenizerSpec::from_hf(&HfDirectory::open("nano-llama").with(name, bytes).files()) {
                spec.to_gguf(600);
                spec.to_tokenizer_json();
            }
        }
    }

    #[test]
    fn random_keys_never_panic_and_survive_when_accepted(
        is_llama in any::<bool>(),
        tokens in prop::collection::vec("[ab▁<>]{0,3}|\\[PAD[0-9]\\]|<0x0[0-9A]>|</s>", 0..10),
        types in prop::option::of(prop::collection::vec(1i32..7, 0..10)),
        scores in prop::collection::vec(prop_oneof![Just(-0.0f32), Just(-1.0), any::<f32>()], 0..10),
        merges in prop::collection::vec("[ab]{0,2} [ab]{0,2}", 0..4),
        ids in prop::collection::vec(prop::option::of(0u32..12), 5),
        add in any::<Option<bool>>(),
        same_length in any::<bool>(),
    ) {
        let n = tokens.len();
        let resized = |mut types: Vec<i32>| { if same_length { types.resize(n, 1); } types };
        let mut scores = scores;
        if same_length { scores.resize(n, -3.0); }
        let fields = GgufTokenizer {
            model: if is_llama { "llama" } else { "gpt2" }.to_owned(),
            pre: Some("gpt-2".to_owned()),
            tokens: tokens.into_iter().collect(),
            scores: Some(scores),
            token_types: types.map(resized),
            merges: Some(merges.into_iter().collect()),
            bos: ids[0], eos: ids[1], unk: ids[2], pad: ids[3], eot: ids[4],
            add_bos: add, add_eos: add, add_space_prefix: add,
            stop_ids: None,
            space_prefix: None,
        };
        if let Ok(spec) = TokenizerSpec::from_gguf(fields) {
            let again = TokenizerSpec::from_gguf(spec.to_gguf(20)).unwrap();
            prop_assert_eq!(spec.differences(&again), Vec::<String>::new());
            // Byte-level JSON has no way to say that a token with a text of its own is unused.
            let own_text = |(text, kind): (&str, &TokenKind)| *kind == TokenKind::Unused && !text.starts_with("[PAD");
            if is_llama || !spec.vocab.texts.iter().zip(&spec.vocab.kinds).any(own_text) {
                let read = TokenizerSpec::from_hf(&HfDirectory::written(&spec, true).files()).unwrap();
                prop_assert_eq!(spec.differences(&read), Vec::<String>::new());
            }
        }
    }
}
