//! `apr bench`: loading, prompts and generation, timed beside what this machine can do at best.

use super::bench_output;
use super::generation::{cpu_name, detect_error, summary};
use crate::args::{Bench, BenchOutput};
use crate::error::CommandError;
use crate::measure::Stopped;
use crate::measure::load::{Load, parts};
use crate::measure::passes::{self, Timed, random_ids, total_ms};
use crate::measure::rooflines::{provenance, rooflines};
use crate::measure::statistics::spread;
use crate::{interrupt, model, output};
use apr_engine::{Model, Session, SessionOptions, Work};
use apr_kernels::{Backend, KernelSet};
use apr_report::{BenchPhase, BenchReport, BenchTest, ExitCode, ModelSummary, Report, Rooflines, Spread};
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::Path;

/// Tokens that warm decoding up: every token does the same work.
const WARMUP_TOKENS: usize = 8;

pub(super) fn run(args: &Bench, json: bool) -> Result<ExitCode, CommandError> {
    let output = match (json, args.output) {
        (true, BenchOutput::Csv | BenchOutput::Md) => {
            let message = "--json and another output were asked for at once";
            return Err(CommandError::new(ExitCode::Usage, message).hint("leave out --json, or -o"));
        }
        (true, _) => BenchOutput::Json,
        (false, output) => output,
    };
    let detected = Backend::detect().map_err(detect_error)?;
    let threads = match args.threads.as_slice() {
        [] => vec![detected.n_threads()],
        given => given.iter().copied().map(NonZeroUsize::get).collect(),
    };
    let set = KernelSet::detect().map_err(detect_error)?;
    let mut report = BenchReport {
        schema: BenchReport::SCHEMA.to_owned(),
        provenance: provenance(&detected, cpu_name()),
        repetitions: args.repetitions.get() as u64,
        seed: args.seed,
        interrupted: false,
        models: Vec::new(),
        tests: Vec::new(),
    };
    for path in &args.models {
        for (i, &n_threads) in threads.iter().enumerate() {
            let (source, checkpoint) = model::open(path)?;
            let summary = summary(path, &source, &checkpoint);
            let model = Model::new(&checkpoint, Backend::new(set, n_threads))?;
            let bench = ModelBench { args, path, summary: &summary, set, model: &model, before: rooflines(&model) };
            report.tests.extend(bench.run()?);
            if i == 0 {
                report.models.push(summary);
            }
        }
    }
    if report.tests.is_empty() {
        return Err(CommandError::new(ExitCode::Usage, "every test has a length of 0: there is nothing to measure"));
    }
    report.interrupted = interrupt::asked().is_break();
    match output {
        BenchOutput::Text => output::print_text(&bench_output::text(&report)),
        BenchOutput::Json => output::print_json(&report),
        BenchOutput::Csv => output::print_text(&bench_output::csv(&report)),
        BenchOutput::Md => output::print_text(&bench_output::markdown(&report)),
    }
    let measured = report.tests.iter().all(|test| test.absent.is_none());
    Ok(match (report.interrupted, measured) {
        (true, _) => ExitCode::Interrupted,
        (false, true) => ExitCode::Ok,
        (false, false) => ExitCode::Failed,
    })
}

/// The tests of one model with one number of threads.
struct ModelBench<'a> {
    args: &'a Bench,
    path: &'a Path,
    summary: &'a ModelSummary,
    set: &'static KernelSet,
    model: &'a Model,
    /// The rooflines before the tests.
    before: Rooflines,
}

impl ModelBench<'_> {
    fn run(&self) -> Result<Vec<BenchTest>, CommandError> {
        let mut tests = Vec::new();
        if self.args.load_prompt > 0 {
            tests.push(self.load());
        }
        for &depth in &self.args.depth {
            // The context is filled once for all tests that start from it.
            let mut session = Session::new(self.model, self.options())?;
            let filled = self.fill(&mut session, depth);
            for (phase, lengths) in [(BenchPhase::Prefill, &self.args.n_prompt), (BenchPhase::Decode, &self.args.n_gen)]
            {
                for &n_tokens in lengths.iter().filter(|&&n| n > 0) {
                    let test = self.empty(phase, n_tokens, depth);
                    let samples = match &filled {
                        Ok(()) => self.passes(&mut session, phase, n_tokens).map_err(why),
                        Err(reason) => Err(reason.clone()),
                    };
                    tests.push(self.finished(test, samples));
                }
            }
        }
        let rooflines = match interrupt::asked() {
            ControlFlow::Continue(()) if !tests.is_empty() => self.before.clone().best(rooflines(self.model)),
            _ => self.before.clone(),
        };
        Ok(tests.into_iter().map(|test| self.beside(rooflines.clone(), test)).collect())
    }

    fn options(&self) -> SessionOptions {
        SessionOptions { cache_dtype: self.args.kv_cache.dtype(), ..SessionOptions::default() }
    }

    fn ids(&self, n: usize) -> Vec<u32> {
        random_ids(self.args.seed, n, self.model.spec().vocab_size)
    }

    fn fill(&self, session: &mut Session<'_>, depth: usize) -> Result<(), String> {
        if depth == 0 {
            return Ok(());
        }
        passes::feed(session, &self.ids(depth)).map_err(why)
    }

    fn passes(&self, session: &mut Session<'_>, phase: BenchPhase, n_tokens: usize) -> Result<Vec<f64>, Stopped> {
        let (ids, n_passes) = (self.ids(n_tokens), self.args.repetitions.get());
        match phase {
            BenchPhase::Load | BenchPhase::Prefill => {
                Ok(passes::prefill(session, &ids, 1, n_passes)?.iter().map(Timed::ms).collect())
            }
            BenchPhase::Decode => {
                passes::decode(session, &ids[..n_tokens.min(WARMUP_TOKENS)], 1, 0)?;
                Ok(passes::decode(session, &ids, 0, n_passes)?.iter().map(|tokens| total_ms(tokens)).collect())
            }
        }
    }

    fn load(&self) -> BenchTest {
        let test = self.empty(BenchPhase::Load, self.args.load_prompt, 0);
        let mut loads = Vec::new();
        // One load before the others brings the file into memory.
        for repetition in 0..=self.args.repetitions.get() {
            if interrupt::asked().is_break() {
                if loads.is_empty() {
                    return BenchTest { absent: Some("interrupted".to_owned()), ..test };
                }
                break;
            }
            let n_threads = self.model.backend().n_threads();
            let load =
                Load::measure(self.path, self.set, n_threads, self.options(), self.args.seed, self.args.load_prompt);
            match load {
                Ok(load) if repetition > 0 => loads.push(load),
                Ok(_) => {}
                Err(error) => return BenchTest { absent: Some(error.message), ..test },
            }
        }
        let samples_ms: Vec<_> = loads.iter().map(Load::total_ms).collect();
        BenchTest { elapsed_ms: spread(&samples_ms), samples_ms, load: parts(&loads), ..test }
    }

    /// The test before it has run.
    fn empty(&self, phase: BenchPhase, n_tokens: usize, depth: usize) -> BenchTest {
        let name = match phase {
            BenchPhase::Load => "load".to_owned(),
            BenchPhase::Prefill => format!("pp{n_tokens}"),
            BenchPhase::Decode => format!("tg{n_tokens}"),
        };
        BenchTest {
            model: self.summary.path.clone(),
            main_dtype: self.summary.main_dtype.clone(),
            threads: self.model.backend().n_threads(),
            kv_cache: self.args.kv_cache.dtype().name().to_owned(),
            test: if depth > 0 { format!("{name} @ d{depth}") } else { name },
            phase,
            n_tokens: n_tokens as u64,
            depth: depth as u64,
            samples_ms: Vec::new(),
            elapsed_ms: None,
            tokens_per_second: None,
            roofline: None,
            rooflines: self.before.clone(),
            load: None,
            absent: None,
        }
    }

    /// The test with its samples, or with the reason why there are none.
    fn finished(&self, test: BenchTest, samples: Result<Vec<f64>, String>) -> BenchTest {
        let samples_ms = match samples {
            Ok(samples) => samples,
            Err(reason) => return BenchTest { absent: Some(reason), ..test },
        };
        let elapsed = spread(&samples_ms);
        let rate = |ms: f64| test.n_tokens as f64 / (ms / 1e3);
        BenchTest {
            elapsed_ms: elapsed,
            // The longest time is the lowest rate.
            tokens_per_second: elapsed.map(|ms| Spread {
                median: rate(ms.median),
                min: rate(ms.max),
                max: rate(ms.min),
            }),
            samples_ms,
            ..test
        }
    }

    /// The test with its share of these rooflines; loading has none.
    fn beside(&self, rooflines: Rooflines, test: BenchTest) -> BenchTest {
        let elapsed = test.elapsed_ms.filter(|_| test.phase != BenchPhase::Load);
        let roofline = elapsed.and_then(|ms| {
            let work = self.work(&test);
            rooflines.share(work.n_bytes, work.n_multiply_adds, ms.median)
        });
        BenchTest { roofline, rooflines, ..test }
    }

    fn work(&self, test: &BenchTest) -> Work {
        let options = self.options();
        let positions = test.depth as usize..(test.depth + test.n_tokens) as usize;
        match test.phase {
            BenchPhase::Load | BenchPhase::Prefill => {
                self.model.prompt_work(positions, options.chunk_tokens.get(), options.cache_dtype)
            }
            BenchPhase::Decode => positions.map(|p| self.model.decode_work(p, options.cache_dtype)).sum(),
        }
    }
}

fn why(stopped: Stopped) -> String {
    match stopped {
        Stopped::Session(error) => error.to_string(),
        Stopped::Interrupted => "interrupted".to_owned(),
    }
}
