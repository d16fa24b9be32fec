//! The forward pass against Transformers in float32: logits, every layer, greedy tokens, perplexity.

mod support;

use apr_engine::{Activation, GenerateOptions, Model, SamplerSpec, Session, SessionOptions, Stage, generate};
use std::collections::HashMap;
use std::ops::ControlFlow;
use support::{Golden, MODELS, argmax, backend, checkpoint, max_difference};

/// Largest |Δlogit| between float32 implementations that add in different orders.
const LOGIT_TOLERANCE: f32 = 1e-3;

fn model(name: &str) -> Model {
    Model::new(&checkpoint(name), backend()).unwrap()
}

fn session(model: &Model) -> Session<'_> {
    Session::new(model, SessionOptions::default()).unwrap()
}

#[test]
fn logits_after_every_prompt_are_those_of_transformers() {
    for name in MODELS {
        let (model, golden) = (model(name), Golden::load(name));
        let mut worst: f32 = 0.0;
        for prompt in &golden.prompts {
            let expected = golden.values(&format!("logits/{}", prompt.id));
            let mut session = session(&model);
            let logits = session.prefill(&prompt.ids).unwrap();
            worst = worst.max(max_difference(logits, expected));
            assert_eq!(argmax(logits), argmax(expected), "{name} {}", prompt.id);
            for &(id, logit) in &prompt.top5 {
                assert!((f64::from(logits[id as usize]) - logit).abs() <= 1e-3, "{name} {} token {id}", prompt.id);
            }
        }
        println!("{name}: {} prompts, max |Δlogit| {worst:e}", golden.prompts.len());
        assert!(!golden.prompts.is_empty() && worst <= LOGIT_TOLERANCE, "{name}: {worst}");
    }
}

#[test]
fn logits_at_every_position_are_those_of_transformers() {
    for name in MODELS {
        let (model, golden) = (model(name), Golden::load(name));
        let expected = golden.values(&format!("logits_all/{}", golden.layer_prompt));
        let ids = &golden.prompt(&golden.layer_prompt).ids;
        let logits = session(&model).forward_all(ids).unwrap();
        let worst = max_difference(&logits, expected);
        let vocab = model.spec().vocab_size as usize;
        for (position, (ours, theirs)) in logits.chunks(vocab).zip(expected.chunks(vocab)).enumerate() {
            assert_eq!(argmax(ours), argmax(theirs), "{name} position {position}");
        }
        println!("{name}: {} positions, max |Δlogit| {worst:e}", ids.len());
        assert!(worst <= LOGIT_TOLERANCE, "{name}: {worst}");
    }
}

#[test]
fn greedy_tokens_are_those_of_transformers_up_to_the_first_close_call() {
    for name in MODELS {
        let (model, golden) = (model(name), Golden::load(name));
        let (mut n_compared, mut n_whole) = (0, 0);
        for prompt in &golden.prompts {
            // Below this margin, two float32 implementations may rightly choose differently.
            let close = prompt.greedy_margins.iter().position(|&margin| margin < 0.01);
            let n = close.unwrap_or(prompt.greedy_ids.len());
            let options = GenerateOptions { max_tokens: n, sampler: SamplerSpec::default(), stop_ids: Vec::new() };
            let generation =
                generate(&mut session(&model), &prompt.ids, &options, |_| ControlFlow::Continue(())).unwrap();
            assert_eq!(generation.tokens, prompt.greedy_ids[..n], "{name} {}", prompt.id);
            n_compared += n;
            n_whole += usize::from(close.is_none());
        }
        println!("{name}: {n_compared} greedy tokens equal, {n_whole} of {} prompts whole", golden.prompts.len());
        assert!(n_whole > 0 && n_compared > 0, "{name}");
    }
}

#[test]
fn perplexity_of_every_prompt_is_that_of_transformers() {
    for name in MODELS {
        let (model, golden) = (model(name), Golden::load(name));
        let (mut worst, mut n_compared) = (0.0f64, 0);
        for prompt in golden.prompts.iter().filter(|prompt| prompt.mean_nll.is_finite() && prompt.ids.len() > 1) {
            let mut nll = 0.0;
            let observe = |position: usize, logits: &[f32]| {
                let Some(&next) = prompt.ids.get(position + 1) else { return };
                let highest = f64::from(logits[argmax(logits)]);
                let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - highest).exp()).sum();
                nll += sum.ln() + highest - f64::from(logits[next as usize]);
            };
            session(&model).prefill_each(&prompt.ids, observe).unwrap();
            worst = worst.max((nll / (prompt.ids.len() - 1) as f64 - prompt.mean_nll).abs());
            n_compared += 1;
        }
        println!("{name}: {n_compared} prompts, max |Δ mean nll| {worst:e}");
        assert!(n_compared > 0 && worst <= 1e-4, "{name}: {worst}");
    }
}

/// The module of Transformers whose output a stage is; stages between modules have none.
fn module(stage: Stage, layer: Option<u32>) -> Option<String> {
    let within = match stage {
        Stage::Embed => return Some("act/model.embed_tokens".to_owned()),
        Stage::OutputNorm => return Some("act/model.norm".to_owned()),
        Stage::AttnNorm => ".input_layernorm",
        Stage::Query => ".self_attn.q_proj",
        Stage::Key => ".self_attn.k_proj",
        Stage::Value => ".self_attn.v_proj",
        Stage::QueryNorm => ".self_attn.q_norm",
        Stage::KeyNorm => ".self_attn.k_norm",
        Stage::AttnOut => ".self_attn.o_proj",
        Stage::MlpNorm => ".post_attention_layernorm",
        Stage::Gate => ".mlp.gate_proj",
        Stage::Up => ".mlp.up_proj",
        Stage::Down => ".mlp.down_proj",
        Stage::LayerOut => "",
        Stage::QueryRope
        | Stage::KeyRope
        | Stage::Attention
        | Stage::AttnPostNorm
        | Stage::AttnResidual
        | Stage::Router
        | Stage::GatedUp
        | Stage::MlpPostNorm
        | Stage::Logits => return None,
    };
    Some(format!("act/model.layers.{}{within}", layer?))
}

#[test]
fn every_module_gives_the_activations_of_transformers() {
    for name in MODELS {
        let (model, golden) = (model(name), Golden::load(name));
        let mut seen = HashMap::<(Stage, Option<u32>), Vec<f32>>::new();
        let mut record = |activation: &Activation<'_>| {
            assert_eq!(activation.rows().count(), activation.n_tokens);
            assert_eq!(activation.rows().next().unwrap().0, activation.first_position);
            seen.entry((activation.stage, activation.layer)).or_default().extend_from_slice(activation.values);
        };
        // An observer sees rows in order, whatever the chunks.
        let options = SessionOptions { chunk_tokens: 7.try_into().unwrap(), ..SessionOptions::default() };
        let mut session = Session::new(&model, options).unwrap();
        session.observe(&mut record);
        session.forward_all(&golden.prompt(&golden.layer_prompt).ids).unwrap();
        drop(session);

        let n_layers = model.spec().n_layers;
        let mut worst: f32 = 0.0;
        let mut n_compared = 0;
        let mut compare = |golden_name: &str, stage, layer| {
            let ours = &seen[&(stage, layer)];
            let difference = max_difference(ours, golden.values(golden_name));
            assert!(difference <= 1e-3, "{name} {golden_name}: {difference}");
            worst = worst.max(difference);
            n_compared += 1;
        };
        compare("hidden/0", Stage::Embed, None);
        for layer in 1..n_layers {
            compare(&format!("hidden/{layer}"), Stage::LayerOut, Some(layer - 1));
        }
        compare(&format!("hidden/{n_layers}"), Stage::OutputNorm, None);
        if name.starts_with("nano") {
            let mut modules = std::collections::HashSet::new();
            for &(stage, layer) in seen.keys() {
                if let Some(module) = module(stage, layer) {
                    compare(&module, stage, layer);
                    modules.insert(module);
                }
            }
            // `self_attn` and `mlp` are their last projection under another name.
            let missed = golden.names().filter(|name| {
                name.starts_with("act/")
                    && !name.ends_with(".self_attn")
                    && !name.ends_with(".mlp")
                    && !modules.contains(*name)
            });
            assert_eq!(missed.collect::<Vec<_>>(), Vec::<&str>::new(), "{name}: modules without a stage");
        }
        println!("{name}: {n_compared} activations, max |Δ| {worst:e}");
    }
}
