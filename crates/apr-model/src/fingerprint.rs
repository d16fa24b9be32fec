//! What a model is, in 32 bytes: the same in every container, and in every dtype that holds the same values.

use crate::compare::canonical_elements;
use crate::identity::Fields;
use crate::{Checkpoint, Tensor, TensorStats, for_each_chunk};
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The values of one tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TensorFingerprint {
    /// BLAKE3 of the decoded values as little-endian binary32, row by row in canonical order; where they don't decode
    /// exactly, of the dtype's name and what is stored.
    pub digest: [u8; 32],
    /// What the values look like.
    pub stats: TensorStats,
}

impl TensorFingerprint {
    /// Reads every value of a tensor.
    pub fn of(tensor: &Tensor) -> Self {
        let mut hasher = blake3::Hasher::new();
        if !tensor.dtype.decodes_exactly() {
            hasher.update(tensor.dtype.name().as_bytes()).update(&canonical_elements(tensor));
            return Self { digest: *hasher.finalize().as_bytes(), stats: TensorStats::of(tensor) };
        }
        let mut stats = TensorStats::default();
        let mut bytes = Vec::new();
        for_each_chunk(tensor, |values| {
            bytes.clear();
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            hasher.update(&bytes);
            stats.add(values);
        });
        Self { digest: *hasher.finalize().as_bytes(), stats }
    }
}

/// What a model is.
#[derive(Clone, Debug, PartialEq)]
pub struct Fingerprint {
    /// BLAKE3 of [`Checkpoint::identity`] and every tensor's name and digest, by name.
    pub digest: [u8; 32],
    /// Everything but the values: [`Checkpoint::identity`].
    pub identity: [u8; 32],
    /// One for each tensor, in the order of [`Checkpoint::tensors`].
    pub tensors: Vec<TensorFingerprint>,
}

impl Fingerprint {
    /// Reads every value of a model, on `n_threads` threads. `advance` is told the bytes of each tensor that was read, and
    /// may end the work, which gives `None`.
    pub fn of(
        checkpoint: &Checkpoint,
        n_threads: NonZeroUsize,
        advance: impl Fn(u64) -> ControlFlow<()> + Sync,
    ) -> Option<Self> {
        let tensors: Vec<&Tensor> = checkpoint.tensors.iter().collect();
        let next = AtomicUsize::new(0);
        let work = || {
            let mut found = Vec::new();
            while let Some((index, tensor)) =
                Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|index| Some((index, *tensors.get(index)?)))
            {
                found.push((index, TensorFingerprint::of(tensor)));
                if advance(tensor.data.len() as u64).is_break() {
                    next.store(tensors.len(), Ordering::Relaxed);
                    return None;
                }
            }
            Some(found)
        };
        let found: Option<Vec<_>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (1..n_threads.get()).map(|_| scope.spawn(work)).collect();
            let mine = work();
            let others =
                threads.into_iter().map(|thread| thread.join().unwrap_or_else(|e| std::panic::resume_unwind(e)));
            others.chain([mine]).collect()
        });
        let mut found: Vec<_> = found?.into_iter().flatten().collect();
        found.sort_by_key(|(index, _)| *index);
        let identity = checkpoint.identity();
        let mut fields = Fields::default();
        fields.field("identity", &identity);
        let mut by_name: Vec<_> = found.iter().map(|(index, found)| (&tensors[*index].name, found)).collect();
        by_name.sort_by_key(|(name, _)| *name);
        for (name, found) in by_name {
            fields.field(name, &found.digest);
        }
        let tensors = found.into_iter().map(|(_, found)| found).collect();
        Some(Self { digest: fields.digest(), identity, tensors })
    }
}
