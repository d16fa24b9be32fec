//! measure: how long candle takes for what `apr bench` is timed with.
//!
//! ```text
//! measure MODEL.gguf THREADS N_PROMPT N_GEN REPETITIONS
//! ```
//!
//! The twin of `../measure.cpp`: it loads the model once, warms up, and times inside the process. Prompts of N_PROMPT
//! random tokens in an empty context, and N_GEN random tokens one by one from an empty context, REPETITIONS times each.
//! It prints one JSON object with the milliseconds of each repetition.
//!
//! CPU only, with candle's own model of Qwen2 in GGUF, its defaults, and the processor's own instructions
//! (`RUSTFLAGS="-C target-cpu=native"`, as candle's repository builds it).

use std::fs::File;
use std::io::BufReader;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Instant;

use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Result, Tensor};
use candle_transformers::models::quantized_qwen2::ModelWeights;

const USAGE: &str = "usage: measure MODEL.gguf THREADS N_PROMPT N_GEN REPETITIONS";
const N_GEN_WARM_UP: usize = 8;

/// Ids below the size of a vocabulary, the same ones in each run.
struct Random {
    state: u64,
    vocabulary: u64,
}

impl Random {
    fn id(&mut self) -> u32 {
        // Knuth's multiplier for 64 bits; the high bits are the random ones.
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        u32::try_from((self.state >> 33) % self.vocabulary).expect("ids have 32 bits")
    }

    /// A batch of one row with `n` tokens.
    fn tokens(&mut self, n: usize) -> Result<Tensor> {
        let ids: Vec<u32> = (0..n).map(|_| self.id()).collect();
        Tensor::new(ids, &Device::Cpu)?.unsqueeze(0)
    }
}

struct Samples {
    prefill_ms: Vec<f64>,
    decode_ms: Vec<f64>,
}

fn elapsed_ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

fn measure(path: &str, n_prompt: usize, n_gen: usize, n_repetitions: usize) -> Result<Samples> {
    let mut file = BufReader::new(File::open(path)?);
    let content = Content::read(&mut file)?;
    let vocabulary = content.tensor_infos["token_embd.weight"].shape.dims()[0] as u64;
    let mut model = ModelWeights::from_gguf(content, &mut file, &Device::Cpu)?;
    let mut random = Random { state: 1, vocabulary };
    let mut samples = Samples { prefill_ms: Vec::new(), decode_ms: Vec::new() };
    let warm_up_and_repetitions = || (0..=n_repetitions).map(|i| i == 0);

    if n_prompt > 0 {
        for warms_up in warm_up_and_repetitions() {
            model.clear_kv_cache();
            let prompt = random.tokens(n_prompt)?;
            let start = Instant::now();
            model.forward(&prompt, 0)?;
            if !warms_up {
                samples.prefill_ms.push(elapsed_ms(start));
            }
        }
    }
    if n_gen > 0 {
        for warms_up in warm_up_and_repetitions() {
            model.clear_kv_cache();
            let n = if warms_up { n_gen.min(N_GEN_WARM_UP) } else { n_gen };
            let start = Instant::now();
            for position in 0..n {
                model.forward(&random.tokens(1)?, position)?;
            }
            if !warms_up {
                samples.decode_ms.push(elapsed_ms(start));
            }
        }
    }
    Ok(samples)
}

/// One whole decimal number from `low` on.
fn number(text: &str, low: usize, what: &str) -> std::result::Result<usize, String> {
    match usize::from_str(text) {
        Ok(value) if value >= low => Ok(value),
        _ => Err(format!("bad {what}: '{text}'")),
    }
}

fn list(samples_ms: &[f64]) -> String {
    let samples: Vec<String> = samples_ms.iter().map(|ms| format!("{ms:.3}")).collect();
    format!("[{}]", samples.join(", "))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, threads, n_prompt, n_gen, n_repetitions] = &arguments[..] else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let numbers = number(threads, 1, "number of threads").and_then(|threads| {
        Ok((
            threads,
            number(n_prompt, 0, "length of the prompt")?,
            number(n_gen, 0, "number of tokens")?,
            number(n_repetitions, 1, "number of repetitions")?,
        ))
    });
    let (threads, n_prompt, n_gen, n_repetitions) = match numbers {
        Ok(numbers) => numbers,
        Err(why) => {
            eprintln!("measure: {why}");
            return ExitCode::from(2);
        }
    };
    // SAFETY: no other thread is running yet. It is the one way to tell every pool of candle and gemm.
    unsafe { std::env::set_var("RAYON_NUM_THREADS", threads.to_string()) };
    candle_core::utils::init_global_threadpool();

    match measure(path, n_prompt, n_gen, n_repetitions) {
        Ok(samples) => {
            println!("{{\"prefill_ms\": {}, \"decode_ms\": {}}}", list(&samples.prefill_ms), list(&samples.decode_ms));
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("measure: {path}: {why}");
            ExitCode::FAILURE
        }
    }
}
