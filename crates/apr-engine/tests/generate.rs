//! Generation: how it ends, what it reports, and that seeded sampling is a function of its seed.

mod support;

use apr_engine::{
    Constraint, ConstraintError, FinishReason, GenerateError, GenerateOptions, Generation, Hooks, LogitsHasher, Model,
    Sampler, SamplerSpec, Session, SessionError, SessionOptions, TokenSet, generate, generate_with,
};
use std::cell::Cell;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use support::{Golden, backend, backends, checkpoint};

fn options(max_tokens: usize, sampler: SamplerSpec, stop_ids: &[u32]) -> GenerateOptions {
    GenerateOptions { max_tokens, sampler, stop_ids: stop_ids.to_vec() }
}

const GREEDY: SamplerSpec =
    SamplerSpec { repeat_penalty: 1.0, repeat_last_n: 64, temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 0 };

fn run(session: &mut Session<'_>, ids: &[u32], options: &GenerateOptions) -> Generation {
    generate(session, ids, options, |_| ControlFlow::Continue(())).unwrap()
}

#[test]
fn generation_ends_at_a_stop_id_a_length_a_full_context_or_on_request() {
    let golden = Golden::load("tiny-qwen2");
    let prompt = golden.prompt("chat00");
    let model = Model::new(&checkpoint("tiny-qwen2"), backend()).unwrap();
    let session =
        |context_limit| Session::new(&model, SessionOptions { context_limit, ..SessionOptions::default() }).unwrap();
    // "2 + 2 equals 4." and the end of the turn.
    let (answer, end) = prompt.greedy_ids.split_at(8);

    let stop = run(&mut session(None), &prompt.ids, &options(32, GREEDY, &[end[0]]));
    assert_eq!((stop.finish_reason, stop.stop_id, &stop.tokens[..]), (FinishReason::Stop, Some(end[0]), answer));

    let length = run(&mut session(None), &prompt.ids, &options(3, GREEDY, &[end[0]]));
    assert_eq!((length.finish_reason, length.stop_id, &length.tokens[..]), (FinishReason::Length, None, &answer[..3]));
    assert_eq!((length.timings.n_prefilled, length.timings.n_decoded), (prompt.ids.len(), 2));

    let n = prompt.ids.len();
    let full = run(&mut session(Some(n + 2)), &prompt.ids, &options(32, GREEDY, &[end[0]]));
    assert_eq!((full.finish_reason, &full.tokens[..]), (FinishReason::Context, &answer[..3]));

    let mut events = Vec::new();
    let cancelled = generate(&mut session(None), &prompt.ids, &options(32, GREEDY, &[end[0]]), |event| {
        events.push((event.index, event.id));
        if event.index == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let cancelled = cancelled.unwrap();
    assert_eq!((cancelled.finish_reason, &cancelled.tokens[..]), (FinishReason::Cancelled, &answer[..5]));
    assert_eq!(events, answer[..5].iter().copied().enumerate().collect::<Vec<_>>());

    let none = run(&mut session(None), &prompt.ids, &options(0, GREEDY, &[]));
    assert_eq!((none.finish_reason, none.tokens.len(), none.digest), (FinishReason::Length, 0, None));
}

#[test]
fn digest_covers_the_logits_of_every_step_including_the_stop() {
    let golden = Golden::load("nano-qwen2");
    let prompt = golden.prompt("chat00");
    let model = Model::new(&checkpoint("nano-qwen2"), backend()).unwrap();
    let mut session = Session::new(&model, SessionOptions::default()).unwrap();
    let stop = prompt.greedy_ids[8];
    let generation = run(&mut session, &prompt.ids, &options(32, GREEDY, &[stop]));

    let mut again = Session::new(&model, SessionOptions::default()).unwrap();
    let mut hasher = LogitsHasher::default();
    hasher.update(again.prefill(&prompt.ids).unwrap());
    for &id in &generation.tokens {
        hasher.update(again.decode(id).unwrap());
    }
    assert_eq!(generation.stop_id, Some(stop));
    assert_eq!(generation.digest, Some(hasher.digest()));
}

#[test]
fn a_session_that_holds_the_beginning_of_the_prompt_gives_the_same_generation() {
    let golden = Golden::load("nano-qwen3");
    let prompt = golden.prompt("chat00");
    let model = Model::new(&checkpoint("nano-qwen3"), backend()).unwrap();
    let mut session = Session::new(&model, SessionOptions::default()).unwrap();
    let options = options(16, GREEDY, &[]);
    let first = run(&mut session, &prompt.ids, &options);
    let second = run(&mut session, &prompt.ids, &options);
    assert_eq!((first.timings.n_reused, second.timings.n_reused), (0, prompt.ids.len() - 1));
    assert_eq!((&second.tokens, second.digest), (&first.tokens, first.digest));
}

#[test]
fn prompts_that_do_not_fit_and_bad_parameters_are_errors() {
    let model = Model::new(&checkpoint("nano-llama"), backend()).unwrap();
    let mut session = Session::new(&model, SessionOptions::default()).unwrap();
    let mut fails = |ids: &[u32], sampler| {
        generate(&mut session, ids, &options(4, sampler, &[]), |_| ControlFlow::Continue(())).unwrap_err()
    };
    assert_eq!(fails(&[], GREEDY), GenerateError::Session(SessionError::EmptyPrompt));
    let error = fails(&[5; 2100], GREEDY).to_string();
    assert_eq!(error, "prompt of 2100 tokens exceeds the model's context of 2048 tokens; shorten the prompt");
    let error = fails(&[5], SamplerSpec { top_p: 1.5, ..GREEDY }).to_string();
    assert_eq!(error, "top_p is 1.5, expected greater than 0 and at most 1");
}

const DRAWN: SamplerSpec = SamplerSpec { temperature: 1.3, top_p: 0.95, seed: 299_792_458, ..GREEDY };

#[test]
fn seeded_sampling_is_the_same_on_every_instruction_set_and_thread_count() {
    let checkpoint = checkpoint("nano-llama");
    let golden = Golden::load("nano-llama");
    let ids = &golden.prompt("raw00").ids;
    let specs = [
        DRAWN,
        SamplerSpec { top_k: 40, min_p: 0.02, ..DRAWN },
        SamplerSpec { repeat_penalty: 1.3, repeat_last_n: 16, top_p: 1.0, ..DRAWN },
    ];
    for spec in specs {
        let mut expected = None;
        for (isa, n_threads, backend) in backends() {
            let model = Model::new(&checkpoint, backend).unwrap();
            let mut session = Session::new(&model, SessionOptions::default()).unwrap();
            let generation = run(&mut session, ids, &options(48, spec, &[]));
            let found = (generation.tokens, generation.digest);
            assert_eq!(found.0.len(), 48);
            let expected = expected.get_or_insert_with(|| found.clone());
            assert_eq!(&found, expected, "{spec:?} {isa:?} {n_threads} threads");
        }
    }
}

#[test]
fn another_seed_gives_other_tokens_and_one_candidate_is_greedy() {
    let model = Model::new(&checkpoint("nano-llama"), backend()).unwrap();
    let golden = Golden::load("nano-llama");
    let ids = &golden.prompt("raw00").ids;
    let tokens = |spec| {
        let mut session = Session::new(&model, SessionOptions::default()).unwrap();
        run(&mut session, ids, &options(32, spec, &[])).tokens
    };
    let mut drawn: Vec<_> = (0..8).map(|seed| tokens(SamplerSpec { seed, ..DRAWN })).collect();
    drawn.sort();
    drawn.dedup();
    assert_eq!(drawn.len(), 8);
    let greedy = tokens(GREEDY);
    for spec in [
        SamplerSpec { top_k: 1, ..DRAWN },
        SamplerSpec { top_p: 1e-6, ..DRAWN },
        SamplerSpec { min_p: 1.0, top_p: 1.0, ..DRAWN },
        SamplerSpec { temperature: f32::MIN_POSITIVE, ..DRAWN },
    ] {
        assert_eq!(tokens(spec), greedy, "{spec:?}");
    }
}

#[test]
fn ties_go_to_the_lowest_id() {
    let mut sampler = Sampler::new(GREEDY).unwrap();
    let mut logits = vec![-1.0; 300];
    for id in [41, 42, 299] {
        logits[id] = 2.5;
    }
    for (isa, n_threads, backend) in backends() {
        assert_eq!(sampler.sample(&backend, &logits, &[]), 41, "{isa:?} {n_threads}");
    }
}

#[test]
fn tokens_are_drawn_as_often_as_their_probability_says() {
    // Probabilities 1/2, 1/4, 1/8, 1/8 at temperature 2: the logits are twice their logarithms.
    let p = [0.125f32, 0.5, 0.125, 0.25];
    let logits = p.map(|p| 2.0 * p.ln());
    let check = |spec: SamplerSpec, expected: [f64; 4]| {
        let (mut sampler, backend) = (Sampler::new(spec).unwrap(), backend());
        const N: usize = 40_000;
        let mut counts = [0usize; 4];
        for _ in 0..N {
            counts[sampler.sample(&backend, &logits, &[]) as usize] += 1;
        }
        for (count, expected) in counts.into_iter().zip(expected) {
            // Five standard deviations of a binomial count.
            let deviation = (N as f64 * expected * (1.0 - expected)).sqrt();
            let off = (count as f64 - N as f64 * expected).abs();
            assert!(off <= 5.0 * deviation, "{spec:?}: {counts:?}, expected shares {expected:?}");
        }
    };
    let spec = SamplerSpec { temperature: 2.0, seed: 7, ..GREEDY };
    check(spec, [0.125, 0.5, 0.125, 0.25]);
    check(SamplerSpec { top_k: 2, ..spec }, [0.0, 2.0 / 3.0, 0.0, 1.0 / 3.0]);
    // The tie at 1/8 goes to the lower id.
    check(SamplerSpec { top_k: 3, ..spec }, [1.0 / 7.0, 4.0 / 7.0, 0.0, 2.0 / 7.0]);
    check(SamplerSpec { top_p: 0.6, ..spec }, [0.0, 2.0 / 3.0, 0.0, 1.0 / 3.0]);
    check(SamplerSpec { min_p: 0.3, ..spec }, [0.0, 2.0 / 3.0, 0.0, 1.0 / 3.0]);
    check(SamplerSpec { temperature: 1.0, ..spec }, [1.0, 16.0, 1.0, 4.0].map(|share| share / 22.0));
}

/// Allows the same ids at each step, and nothing after `n_steps`.
struct Only {
    set: TokenSet,
    n_steps: usize,
    accepted: Vec<u32>,
}

impl Constraint for Only {
    fn allowed(&mut self) -> Result<Option<TokenSet>, ConstraintError> {
        Ok((self.accepted.len() < self.n_steps).then(|| self.set.clone()))
    }

    fn accept(&mut self, id: u32) -> Result<(), ConstraintError> {
        self.accepted.push(id);
        Ok(())
    }
}

#[test]
fn a_constraint_decides_which_tokens_there_are_and_when_the_text_is_complete() {
    let model = Model::new(&checkpoint("nano-llama"), backend()).unwrap();
    let golden = Golden::load("nano-llama");
    let ids = &golden.prompt("raw00").ids;
    let run_only = |set: TokenSet, sampler| {
        let mut session = Session::new(&model, SessionOptions::default()).unwrap();
        let mut only = Only { set, n_steps: 6, accepted: Vec::new() };
        let hooks = Hooks { constraint: Some(&mut only), ..Hooks::default() };
        let generation =
            generate_with(&mut session, ids, &options(32, sampler, &[7]), hooks, |_| ControlFlow::Continue(()));
        (generation, only.accepted)
    };
    let some = || [40u32, 41, 300, 99_999].into_iter().collect::<TokenSet>();
    for sampler in [GREEDY, DRAWN, SamplerSpec { top_k: 2, repeat_penalty: 1.5, ..DRAWN }] {
        let (generation, accepted) = run_only(some(), sampler);
        let generation = generation.unwrap();
        assert_eq!((generation.finish_reason, &generation.tokens), (FinishReason::Complete, &accepted));
        assert_eq!(accepted.len(), 6);
        assert!(accepted.iter().all(|id| [40, 41, 300].contains(id)), "{accepted:?}");

        // Where every token is allowed, nothing changes.
        let (free, _) = run_only((0..512).collect(), sampler);
        let mut session = Session::new(&model, SessionOptions::default()).unwrap();
        let unconstrained = run(&mut session, ids, &options(6, sampler, &[7]));
        let free = free.unwrap();
        assert_eq!((free.tokens, free.digest), (unconstrained.tokens, unconstrained.digest), "{sampler:?}");

        let (stopped, accepted) = run_only([7].into_iter().collect(), sampler);
        let stopped = stopped.unwrap();
        assert_eq!((stopped.finish_reason, stopped.stop_id, accepted.len()), (FinishReason::Stop, Some(7), 0));

        let (none, _) = run_only(TokenSet::default(), sampler);
        assert_eq!(none, Err(GenerateError::Constraint(ConstraintError::NoToken { n_tokens: 0 })));
    }
    // Of the logits after this prompt, the highest among the allowed ones is taken.
    let mut session = Session::new(&model, SessionOptions::default()).unwrap();
    let logits = session.prefill(ids).unwrap();
    let best = [40, 41, 300].into_iter().max_by(|&a: &u32, &b| logits[a as usize].total_cmp(&logits[b as usize]));
    assert_eq!(run_only(some(), GREEDY).1.first().copied(), best);
}

#[test]
fn a_cancelled_prompt_is_kept_as_far_as_it_went() {
    let model = Model::new(&checkpoint("nano-qwen2"), backend()).unwrap();
    let golden = Golden::load("nano-qwen2");
    let ids = &golden.prompt("chat00").ids;
    let chunk_tokens = NonZeroUsize::new(8).unwrap();
    let mut session = Session::new(&model, SessionOptions { chunk_tokens, ..SessionOptions::default() }).unwrap();
    let asked = Cell::new(0);
    let cancelled = || {
        asked.set(asked.get() + 1);
        asked.get() == 2
    };
    let hooks = Hooks { cancelled: Some(&cancelled), ..Hooks::default() };
    let options = options(8, GREEDY, &[]);
    let partial = generate_with(&mut session, ids, &options, hooks, |_| unreachable!("there is no token")).unwrap();
    assert_eq!((partial.finish_reason, partial.timings.n_prefilled), (FinishReason::Cancelled, 16));
    assert_eq!((partial.digest, session.tokens()), (None, &ids[..16]));
    let whole = run(&mut session, ids, &options);
    assert_eq!((whole.timings.n_reused, &whole.tokens[..]), (16, &golden.prompt("chat00").greedy_ids[..8]));
}
