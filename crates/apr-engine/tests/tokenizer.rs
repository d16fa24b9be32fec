//! Ids and texts are those of Transformers, SentencePiece and llama.cpp, whichever format the tokenizer was read from.

#[path = "../../apr-model/tests/common/mod.rs"]
mod common;

use apr_engine::{TextStream, Tokenizer};
use apr_model::{SpacePrefix, TokenKind, TokenizerModel, TokenizerSpec};
use common::{HfDirectory, MODELS, gguf_tokenizer, ggufs, repo};
use serde_json::Value;

fn golden(model: &str) -> Value {
    serde_json::from_slice(&std::fs::read(repo("models").join(model).join("golden.json")).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// The same tokenizer on each of the ways it can come.
fn sources(model: &str) -> Vec<(&'static str, TokenizerSpec)> {
    let spec = HfDirectory::open(model).spec();
    let gguf = TokenizerSpec::from_gguf(gguf_tokenizer(&ggufs(model)[0])).unwrap();
    vec![
        ("our GGUF", TokenizerSpec::from_gguf(spec.to_gguf(4096)).unwrap()),
        ("our JSON", HfDirectory::written(&spec, false).spec()),
        ("llama.cpp's GGUF", gguf),
        ("Transformers", spec),
    ]
}

#[test]
fn ids_and_texts_are_those_of_the_goldens() {
    for model in MODELS {
        // The goldens of nano-llama are SentencePiece's, which shows no control tokens and begins with <s>.
        let is_llama = *model == "nano-llama";
        let golden = golden(model);
        let cases = golden["tokenizer_cases"].as_array().unwrap();
        assert!(cases.len() >= 40, "{model}");
        for (source, spec) in sources(model) {
            let tokenizer = Tokenizer::new(spec.clone()).unwrap();
            for case in cases {
                let text = case["text"].as_str().unwrap();
                let expect = ids(&case["ids"]);
                let encoded = tokenizer.encode(text, is_llama).unwrap();
                assert_eq!(encoded, expect, "{model} from {source}: {text:?}");
                let decoded = tokenizer.decode(&expect, is_llama);
                assert_eq!(decoded, case["decoded"].as_str().unwrap(), "{model} from {source}: {text:?}");
                let pieces: Vec<&str> = expect.iter().map(|&id| tokenizer.token_text(id).unwrap()).collect();
                assert_eq!(Value::from(pieces), case["pieces"], "{model} from {source}: {text:?}");
            }
        }
    }
}

#[test]
fn ids_and_texts_of_prompts_are_those_of_the_goldens() {
    for model in MODELS {
        let is_llama = *model == "nano-llama";
        let golden = golden(model);
        let tokenizer = Tokenizer::new(HfDirectory::open(model).spec()).unwrap();
        for case in golden["prompts"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            assert_eq!(tokenizer.encode(text, is_llama).unwrap(), ids(&case["ids"]), "{model}: {text:?}");
            let greedy = ids(&case["greedy_ids"]);
            assert_eq!(tokenizer.decode(&greedy, is_llama), case["greedy_text"].as_str().unwrap(), "{model}: {text:?}");
        }
        for case in golden["chat_template_cases"].as_array().into_iter().flatten() {
            let text = case["expected"].as_str().unwrap();
            assert_eq!(tokenizer.encode(text, false).unwrap(), ids(&case["ids"]), "{model}: {text:?}");
        }
    }
}

#[test]
fn gh_189_special_tokens_are_atomic() {
    let special = [("<|im_start|>", 2039), ("<|im_end|>", 2040), ("<|endoftext|>", 2038), ("<tool_call>", 2041)];
    for (source, spec) in sources("tiny-qwen2") {
        let tokenizer = Tokenizer::new(spec.clone()).unwrap();
        for (text, id) in special {
            assert_eq!(tokenizer.encode(text, false).unwrap(), [id], "{source}");
            let inside = tokenizer.encode(&format!("a{text}b {text}"), false).unwrap();
            assert_eq!(inside.iter().filter(|&&i| i == id).count(), 2, "{source}: {text} inside other text");
            assert_eq!(tokenizer.decode(&inside, false), format!("a{text}b {text}"), "{source}");
            let is_shown = text == "<tool_call>";
            assert_eq!(tokenizer.decode(&[id], true), if is_shown { text } else { "" }, "{source}");
        }
    }
    for (source, spec) in sources("nano-llama") {
        let tokenizer = Tokenizer::new(spec.clone()).unwrap();
        let ids = tokenizer.encode("a</s>a<s>", true).unwrap();
        assert_eq!([ids[0], ids[2], ids[4]], [1, 2, 1], "{source}: {ids:?}");
        assert_eq!(ids.len(), 5, "{source}: {ids:?}");
    }
}

#[test]
fn llama_cpp_gives_the_same_ids_with_the_real_qwen2_vocabulary() {
    let spec = TokenizerSpec::from_gguf(gguf_tokenizer(&repo("fixtures/vocab/ggml-vocab-qwen2.gguf"))).unwrap();
    let tokenizer = Tokenizer::new(spec.clone()).unwrap();
    let read = |name: &str| std::fs::read_to_string(repo("fixtures/vocab").join(name)).unwrap();
    let (texts, lines) = (read("ggml-vocab-qwen2.gguf.inp"), read("ggml-vocab-qwen2.gguf.out"));
    let mut texts: Vec<&str> = texts.split("\n__ggml_vocab_test__\n").collect();
    assert_eq!(texts.pop(), Some(""), "every text ends with the separator");
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(texts.len(), lines.len());
    assert!(texts.len() > 40);
    let mut different = Vec::new();
    for (text, line) in texts.into_iter().zip(lines) {
        let expect: Vec<u32> = line.split_whitespace().map(|id| id.parse().unwrap()).collect();
        let found = tokenizer.encode(text, false).unwrap();
        if found != expect {
            different.push((text, found, expect));
        }
    }
    assert_eq!(different, []);
}

/// A generator of numbers; the constants are those of Knuth's MMIX.
fn next(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize
}

/// Texts of random pieces of the vocabulary and random characters, some of which no token has.
fn random_texts(spec: &TokenizerSpec, n_texts: usize) -> Vec<String> {
    let mut state = 7;
    let characters: Vec<char> = "aeiou nrst,.'0123\n\t  ÀßçñŁжтшקא中文字𝄞👍\u{301}\u{ad}\u{a0}".chars().collect();
    let mut piece = || match next(&mut state) % 3 {
        0 => spec.vocab.texts[next(&mut state) % spec.vocab.texts.len()].replace(['Ġ', '▁'], " ").replace('Ċ', "\n"),
        1 => (0..next(&mut state) % 12).map(|_| characters[next(&mut state) % characters.len()]).collect(),
        _ => " the capital of France is".to_owned(),
    };
    (0..n_texts).map(|n| (0..n % 9).map(|_| piece()).collect()).collect()
}

#[test]
fn the_tokenizers_library_gives_the_same_ids() {
    let qwen2 = TokenizerSpec::from_gguf(gguf_tokenizer(&repo("fixtures/vocab/ggml-vocab-qwen2.gguf"))).unwrap();
    let mut specs: Vec<TokenizerSpec> = MODELS.iter().map(|model| HfDirectory::open(model).spec()).collect();
    // The same model where a word that is a token is not merged, and where text has begin and end tokens.
    let mut whole_words = specs[1].clone();
    let TokenizerModel::ByteLevelBpe { pre, .. } = &mut whole_words.model else { panic!("byte-level BPE") };
    *pre = apr_model::PRE_TOKENIZERS.iter().find(|pre| pre.ignore_merges).unwrap();
    whole_words.special.bos = Some(5);
    (whole_words.special.add_bos, whole_words.special.add_eos) = (true, whole_words.special.eos.is_some());
    // A SentencePiece model without the bytes has an unknown token.
    let mut no_bytes = specs[0].clone();
    let is_byte = |&kind: &TokenKind| kind == TokenKind::Byte;
    let first = no_bytes.vocab.kinds.iter().position(is_byte).expect("nano-llama has byte tokens");
    no_bytes.vocab.kinds[first] = TokenKind::Normal;
    let others = |(id, text): (usize, &str)| if id == first { "<nil>".to_owned() } else { text.to_owned() };
    no_bytes.vocab.texts = no_bytes.vocab.texts.iter().enumerate().map(others).collect();
    specs.extend([whole_words, no_bytes, qwen2]);
    for spec in specs {
        let theirs: tokenizers::Tokenizer = spec.to_tokenizer_json().parse().unwrap();
        let ours = Tokenizer::new(spec.clone()).unwrap();
        for text in random_texts(&spec, 400) {
            for add_special in [false, true] {
                let expect = theirs.encode(text.as_str(), add_special).unwrap();
                assert_eq!(ours.encode(&text, add_special).unwrap(), expect.get_ids(), "{text:?}");
            }
        }
    }
}

#[test]
fn a_stream_gives_the_text_of_decode_at_every_cut() {
    for model in MODELS {
        let tokenizer = Tokenizer::new(HfDirectory::open(model).spec()).unwrap();
        for case in golden(model)["tokenizer_cases"].as_array().unwrap() {
            for skip_special in [false, true] {
                let all = ids(&case["ids"]);
                for end in 0..=all.len() {
                    let mut stream = TextStream::new(&tokenizer, skip_special);
                    let pieces: Vec<String> = all[..end].iter().map(|&id| stream.push(&tokenizer, id)).collect();
                    let shown = pieces.concat();
                    let whole = tokenizer.decode(&all, skip_special);
                    assert!(whole.starts_with(&shown), "{model}: {shown:?} is a begin of {whole:?}");
                    let finished = shown + &stream.finish();
                    assert_eq!(finished, tokenizer.decode(&all[..end], skip_special), "{model}");
                }
            }
        }
    }
}

#[test]
fn a_continuing_stream_keeps_the_leading_space() {
    let tokenizer = Tokenizer::new(HfDirectory::open("nano-llama").spec()).unwrap();
    let ids = tokenizer.encode("time", false).unwrap();
    assert_eq!(tokenizer.decode(&ids, false), "time");
    let mut stream = TextStream::continuing(false);
    assert_eq!(ids.iter().map(|&id| stream.push(&tokenizer, id)).collect::<String>(), " time");
}

#[test]
fn every_byte_of_a_byte_level_vocabulary_is_one_token() {
    let tokenizer = Tokenizer::new(HfDirectory::open("tiny-qwen2").spec()).unwrap();
    let mut bytes: Vec<u8> = (0..256).flat_map(|id| tokenizer.token_bytes(id).unwrap().into_owned()).collect();
    bytes.sort_unstable();
    assert_eq!(bytes, (0..=255).collect::<Vec<u8>>(), "the first 256 tokens are the bytes");
    assert_eq!(tokenizer.token_bytes(2047), None, "a row of the embedding without a token");
    assert_eq!(tokenizer.decode(&[2047, u32::MAX], false), "");
    assert_eq!(tokenizer.n_tokens(), 2043);
}

#[test]
fn space_prefixes_act_as_their_names_say() {
    let first_pieces = |space_prefix, text: &str| {
        let mut spec = HfDirectory::open("nano-llama").spec();
        let TokenizerModel::SentencePiece { space_prefix: field, .. } = &mut spec.model else { unreachable!() };
        *field = space_prefix;
        let tokenizer = Tokenizer::new(spec.clone()).unwrap();
        let ids = tokenizer.encode(text, false).unwrap();
        assert_eq!(tokenizer.decode(&ids, false).trim_start(), text.trim_start(), "{space_prefix:?}");
        ids.iter().map(|&id| tokenizer.token_text(id).unwrap().to_owned()).collect::<Vec<String>>().join(" ")
    };
    for (space_prefix, plain, spaced, segments) in [
        (SpacePrefix::Never, "a", "▁a", "a </s> a"),
        (SpacePrefix::Always, "▁a", "▁ ▁a", "▁a </s> ▁a"),
        (SpacePrefix::MetaspaceFirst, "▁a", "▁a", "▁a </s> a"),
        (SpacePrefix::MetaspaceAlways, "▁a", "▁a", "▁a </s> ▁a"),
    ] {
        assert_eq!(first_pieces(space_prefix, "a"), plain, "{space_prefix:?}");
        assert_eq!(first_pieces(space_prefix, " a"), spaced, "{space_prefix:?}");
        let mut spec = HfDirectory::open("nano-llama").spec();
        let TokenizerModel::SentencePiece { space_prefix: field, .. } = &mut spec.model else { unreachable!() };
        *field = space_prefix;
        let tokenizer = Tokenizer::new(spec.clone()).unwrap();
        let pieces: Vec<String> = tokenizer
            .encode("a</s>a", false)
            .unwrap()
            .iter()
            .map(|&id| tokenizer.token_text(id).unwrap().to_owned())
            .collect();
        assert_eq!(pieces.join(" "), segments, "{space_prefix:?}");
    }
}
