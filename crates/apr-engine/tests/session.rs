//! What a model and a session refuse, and that a refused call changes nothing.

mod support;

use apr_engine::{Model, ModelError, Session, SessionError, SessionOptions};
use apr_model::{Checkpoint, Relayout, Tensor};
use apr_tensor::{Bytes, DType, Shape};
use support::{backend, checkpoint, map_tensors};

fn nano() -> Model {
    Model::new(&checkpoint("nano-llama"), backend()).unwrap()
}

fn limited(model: &Model, limit: usize) -> Session<'_> {
    Session::new(model, SessionOptions { context_limit: Some(limit), ..SessionOptions::default() }).unwrap()
}

#[test]
fn models_and_sessions_move_between_threads() {
    fn send<T: Send>() {}
    fn sync<T: Sync>() {}
    send::<Model>();
    sync::<Model>();
    send::<Session<'_>>();
}

#[test]
fn context_overflow_names_limit_and_length() {
    let model = nano();
    let check = |session: &mut Session<'_>, n: usize, expect: &str| {
        let before = session.tokens().to_vec();
        assert_eq!(session.prefill(&vec![7; n]).unwrap_err().to_string(), expect);
        assert_eq!(session.tokens(), before, "a refused call changes nothing");
    };
    let mut session = Session::new(&model, SessionOptions::default()).unwrap();
    check(&mut session, 2100, "prompt of 2100 tokens exceeds the model's context of 2048 tokens; shorten the prompt");
    session.prefill(&[7; 5]).unwrap();
    check(
        &mut session,
        2044,
        "prompt of 2044 tokens + 5 tokens already in the context exceeds the model's context of 2048 tokens; \
         shorten the prompt",
    );
    check(
        &mut limited(&model, 16),
        17,
        "prompt of 17 tokens exceeds the session's limit of 16 tokens; shorten the prompt or raise the limit \
         (the model's context is 2048 tokens)",
    );
}

#[test]
fn a_context_can_be_filled_to_its_last_position() {
    let model = nano();
    let mut session = limited(&model, 3);
    session.prefill(&[1, 2]).unwrap();
    session.decode(3).unwrap();
    assert!(matches!(session.decode(4), Err(SessionError::ContextOverflow { new: 1, held: 3, limit: 3, .. })));
    session.truncate(2);
    session.decode(4).unwrap();
    assert_eq!(session.tokens(), [1, 2, 4]);
}

#[test]
fn context_limits_outside_the_models_are_refused() {
    let model = nano();
    for asked in [0, 2049] {
        let options = SessionOptions { context_limit: Some(asked), ..SessionOptions::default() };
        let error = Session::new(&model, options).err().unwrap();
        assert_eq!(error, SessionError::ContextLimit { asked, context_length: 2048 });
    }
}

#[test]
fn ids_without_an_embedding_are_refused() {
    let model = nano();
    let mut session = limited(&model, 100);
    session.prefill(&[1]).unwrap();
    let error = session.prefill(&[5, 512]).unwrap_err();
    assert_eq!(error, SessionError::UnknownToken { id: 512, position: 2, vocab_size: 512 });
    assert_eq!(session.tokens(), [1]);
    session.prefill(&[511]).unwrap();
    assert_eq!(session.prefill(&[]).unwrap_err(), SessionError::EmptyPrompt);
}

/// The checkpoint with one value of an f32 copy of tensor `name` replaced.
fn poisoned(checkpoint: &Checkpoint, name: &str, index: usize, value: f32) -> Checkpoint {
    map_tensors(checkpoint, |tensor| {
        let mut tensor = support::widened(tensor);
        if tensor.name == name {
            let mut data = tensor.data.to_vec();
            data[index * 4..index * 4 + 4].copy_from_slice(&value.to_le_bytes());
            tensor.data = Bytes::from(data);
        }
        Some(tensor)
    })
}

#[test]
fn logits_that_are_not_numbers_are_an_error_that_names_the_position() {
    let good = checkpoint("nano-llama");
    // A poisoned embedding row shows where its token is; the position names it although no logits were asked for there.
    let bad_token = poisoned(&good, "model.embed_tokens.weight", 9 * 64 + 3, f32::NAN);
    let model = Model::new(&bad_token, backend()).unwrap();
    let mut session = limited(&model, 100);
    session.prefill(&[1, 2, 3]).unwrap();
    let mut positions = Vec::new();
    let error = session.prefill_each(&[4, 9, 5], |position, _| positions.push(position)).unwrap_err();
    assert!(error.to_string().starts_with("inference failed: the logit of token 0 at position 4 is NaN"), "{error}");
    assert_eq!((positions, session.tokens()), (vec![3], &[1, 2, 3][..]));
    let after = session.prefill(&[4, 5]).unwrap().to_vec();
    let expected = limited(&Model::new(&good, backend()).unwrap(), 100).prefill(&[1, 2, 3, 4, 5]).unwrap().to_vec();
    assert_eq!(after, expected, "a failed call leaves nothing behind");

    for (name, index, value) in [
        ("lm_head.weight", 70 * 64, f32::INFINITY),
        ("model.norm.weight", 0, f32::NAN),
        ("model.layers.1.mlp.down_proj.weight", 0, f32::NAN),
    ] {
        let model = Model::new(&poisoned(&good, name, index, value), backend()).unwrap();
        let error = limited(&model, 100).prefill(&[1, 2, 3]).unwrap_err();
        assert!(matches!(error, SessionError::NotFinite { position: 2, .. }), "{name}: {error}");
    }
}

fn refusal(checkpoint: &Checkpoint) -> String {
    match Model::new(checkpoint, backend()) {
        Ok(_) => panic!("expected a refusal"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn missing_and_misshapen_tensors_are_listed_by_name() {
    let good = checkpoint("nano-qwen2");
    let bad = map_tensors(&good, |tensor| match tensor.name.as_str() {
        "model.layers.1.self_attn.k_proj.bias" | "model.norm.weight" => None,
        "model.layers.0.mlp.up_proj.weight" => {
            Some(Tensor { shape: Shape::new(&[64, 160]).unwrap(), ..tensor.clone() })
        }
        _ => Some(tensor.clone()),
    });
    assert_eq!(
        refusal(&bad),
        "3 of the model's tensors don't fit its hyper-parameters: \
         model.layers.0.mlp.up_proj.weight: shape [64, 160], expected [160, 64] (transposed); \
         model.layers.1.self_attn.k_proj.bias: absent, expected [32] (missing-tensor); \
         model.norm.weight: absent, expected [64] (missing-tensor)"
    );
    let mut no_layers = good.clone();
    no_layers.spec.known_mut().unwrap().n_layers = 0;
    assert!(matches!(Model::new(&no_layers, backend()), Err(ModelError::Spec(_))));
}

#[test]
fn tensors_that_would_have_to_be_ignored_are_refused() {
    let mut extra = checkpoint("nano-qwen2");
    let name = "model.layers.0.self_attn.o_proj.bias".to_owned();
    let (role, shape) = (extra.spec.role_of_hf_name(&name), Shape::new(&[64]).unwrap());
    let bias = Tensor::new(name, role, DType::F32, shape, Bytes::from(vec![0; 256]), Relayout::Identity).unwrap();
    extra.tensors.push(bias).unwrap();
    assert!(refusal(&extra).contains("model.layers.0.self_attn.o_proj.bias: present, but a qwen2 model"));

    let mut shortened = checkpoint("nano-qwen3");
    shortened.spec.known_mut().unwrap().n_layers = 1;
    assert!(refusal(&shortened).contains("model.layers.1."), "a layer too many");
}

#[test]
fn row_orders_that_are_no_permutation_are_refused() {
    for head_dim in [0, 3, 24] {
        let bad = map_tensors(&checkpoint("nano-llama"), |tensor| {
            let q = tensor.name == "model.layers.1.self_attn.q_proj.weight";
            let relayout = if q { Relayout::RotaryInterleaved { head_dim } } else { Relayout::Identity };
            Some(Tensor { relayout, ..tensor.clone() })
        });
        let expect = format!(
            "tensor model.layers.1.self_attn.q_proj.weight: 64 rows stored for interleaved rotary pairs, \
             expected whole heads of {head_dim} rows, an even number"
        );
        assert_eq!(refusal(&bad), expect);
    }
}
