//! From a path to the first logits, in a process that runs already.

use super::passes::{millis, random_ids};
use super::statistics::spread;
use super::{passes, unless_interrupted};
use crate::error::CommandError;
use crate::model;
use apr_engine::{Model, Session, SessionOptions};
use apr_kernels::{Backend, KernelSet};
use apr_report::LoadParts;
use std::path::Path;
use std::time::Instant;

/// One load.
pub(crate) struct Load {
    open_ms: f64,
    plan_ms: f64,
    first_prefill_ms: f64,
    warm_prefill_ms: f64,
}

impl Load {
    /// From opening to the first logits.
    pub(crate) fn total_ms(&self) -> f64 {
        self.open_ms + self.plan_ms + self.first_prefill_ms
    }

    /// Opens the model anew, makes everything that a first answer needs, and feeds it a prompt of `n_prompt` tokens.
    pub(crate) fn measure(
        path: &Path,
        set: &'static KernelSet,
        n_threads: usize,
        options: SessionOptions,
        seed: u64,
        n_prompt: usize,
    ) -> Result<Self, CommandError> {
        unless_interrupted()?;
        let start = Instant::now();
        let (_source, checkpoint) = model::open(path)?;
        let open_ms = millis(start.elapsed());

        let start = Instant::now();
        let model = Model::new(&checkpoint, Backend::new(set, n_threads))?;
        let mut session = Session::new(&model, options)?;
        let plan_ms = millis(start.elapsed());

        let ids = random_ids(seed, n_prompt, model.spec().vocab_size);
        let [first, warm] = [(); 2].map(|()| passes::prefill(&mut session, &ids, 0, 1));
        let (first_prefill_ms, warm_prefill_ms) = (first?[0].ms(), warm?[0].ms());
        Ok(Self { open_ms, plan_ms, first_prefill_ms, warm_prefill_ms })
    }
}

/// The parts of several loads; `None` without one.
pub(crate) fn parts(loads: &[Load]) -> Option<LoadParts> {
    let part = |of: fn(&Load) -> f64| spread(&loads.iter().map(of).collect::<Vec<_>>());
    let warm_prefill_ms = part(|load| load.warm_prefill_ms)?;
    Some(LoadParts {
        open_ms: part(|load| load.open_ms)?,
        plan_ms: part(|load| load.plan_ms)?,
        first_prefill_ms: part(|load| load.first_prefill_ms)?,
        over_warm_prefill: part(Load::total_ms)?.median / warm_prefill_ms.median,
        warm_prefill_ms,
    })
}
