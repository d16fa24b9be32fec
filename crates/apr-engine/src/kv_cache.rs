//! Keys and values of the positions seen so far.

use apr_kernels::{Backend, KvView};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How the cache stores keys and values. Part of the numerics: a report names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheDType {
    /// As computed.
    #[default]
    F32,
    /// Rounded to nearest even: half the memory, other logits.
    F16,
}

impl CacheDType {
    /// Name in reports and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            CacheDType::F32 => "f32",
            CacheDType::F16 => "f16",
        }
    }

    /// The dtype with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [CacheDType::F32, CacheDType::F16].into_iter().find(|dtype| dtype.name().eq_ignore_ascii_case(name))
    }

    /// Bytes of one number.
    pub(crate) fn element_bytes(self) -> usize {
        match self {
            CacheDType::F32 => 4,
            CacheDType::F16 => 2,
        }
    }
}

impl fmt::Display for CacheDType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Positions by which the storage grows at least, so that a short prompt does not pay for a long context.
const GROWTH_POSITIONS: usize = 256;

/// The cache of one session: per layer `[n_positions, n_kv_heads, head_dim]` keys and values.
pub(crate) struct KvCache {
    dtype: CacheDType,
    layers: Vec<LayerCache>,
    /// Elements of one position: `n_kv_heads * head_dim`.
    width: usize,
    /// Most positions it will be asked to hold.
    limit: usize,
}

enum LayerCache {
    F32 { k: Vec<f32>, v: Vec<f32> },
    F16 { k: Vec<u16>, v: Vec<u16> },
}

impl KvCache {
    /// An empty cache; allocates nothing.
    pub(crate) fn new(dtype: CacheDType, n_layers: usize, width: usize, limit: usize) -> Self {
        let layer = || match dtype {
            CacheDType::F32 => LayerCache::F32 { k: Vec::new(), v: Vec::new() },
            CacheDType::F16 => LayerCache::F16 { k: Vec::new(), v: Vec::new() },
        };
        Self { dtype, layers: (0..n_layers).map(|_| layer()).collect(), width, limit }
    }

    /// Adds the keys and values of further positions to a layer, `[n, width]` each.
    pub(crate) fn append(&mut self, backend: &Backend, layer: usize, k: &[f32], v: &[f32]) {
        let (width, limit) = (self.width, self.limit);
        match &mut self.layers[layer] {
            LayerCache::F32 { k: keys, v: values } => {
                for (cache, new) in [(keys, k), (values, v)] {
                    grow(cache, new.len(), width, limit);
                    cache.extend_from_slice(new);
                }
            }
            LayerCache::F16 { k: keys, v: values } => {
                for (cache, new) in [(keys, k), (values, v)] {
                    grow(cache, new.len(), width, limit);
                    let held = cache.len();
                    cache.resize(held + new.len(), 0);
                    backend.store_kv_f16(new, &mut cache[held..]);
                }
            }
        }
    }

    /// All positions of a layer.
    pub(crate) fn view(&self, layer: usize) -> KvView<'_> {
        match &self.layers[layer] {
            LayerCache::F32 { k, v } => KvView::F32 { k, v },
            LayerCache::F16 { k, v } => KvView::F16 { k, v },
        }
    }

    /// Forgets all but the first `n_positions`.
    pub(crate) fn truncate(&mut self, n_positions: usize) {
        let n = n_positions * self.width;
        for layer in &mut self.layers {
            match layer {
                LayerCache::F32 { k, v } => [k, v].map(|cache| cache.truncate(n)),
                LayerCache::F16 { k, v } => [k, v].map(|cache| cache.truncate(n)),
            };
        }
    }

    /// Storage dtype.
    pub(crate) fn dtype(&self) -> CacheDType {
        self.dtype
    }

    /// Bytes allocated for keys and values.
    pub(crate) fn n_bytes(&self) -> usize {
        let elements = self.layers.iter().map(|layer| match layer {
            LayerCache::F32 { k, v } => k.capacity() + v.capacity(),
            LayerCache::F16 { k, v } => k.capacity() + v.capacity(),
        });
        elements.sum::<usize>() * self.dtype.element_bytes()
    }
}

/// Makes room for `n_new` elements: whole steps, at least half as much again, at most the limit.
fn grow<T>(cache: &mut Vec<T>, n_new: usize, width: usize, limit: usize) {
    let needed = cache.len() + n_new;
    if needed <= cache.capacity() {
        return;
    }
    let positions = needed.max(cache.len() + cache.len() / 2).div_ceil(width);
    let target = positions.next_multiple_of(GROWTH_POSITIONS).min(limit) * width;
    cache.reserve_exact(target.max(needed) - cache.len());
}

#[cfg(test)]
mod tests {
    use super::*;
    use apr_kernels::KernelSet;

    fn scalar() -> Backend {
        Backend::new(KernelSet::available()[0], 1)
    }

    #[test]
    fn storage_grows_in_steps_and_stops_at_the_limit() {
        let mut cache = KvCache::new(CacheDType::F16, 1, 4, 1000);
        assert_eq!(cache.n_bytes(), 0);
        let mut seen = Vec::new();
        let backend = scalar();
        for _ in 0..1000 {
            cache.append(&backend, 0, &[1.0; 4], &[2.0; 4]);
            if seen.last() != Some(&cache.n_bytes()) {
                seen.push(cache.n_bytes());
            }
        }
        let positions: Vec<_> = seen.iter().map(|bytes| bytes / (2 * 2 * 4)).collect();
        assert_eq!(positions, [256, 512, 768, 1000]);
    }

    #[test]
    fn f16_rounds_to_nearest_even() {
        let mut cache = KvCache::new(CacheDType::F16, 1, 3, 8);
        // Halfway between 1 and the next f16, halfway between that and the one after, and past the largest f16.
        cache.append(&scalar(), 0, &[1.0 + 1.0 / 2048.0, 1.0 + 3.0 / 2048.0, 70000.0], &[0.0; 3]);
        let KvView::F16 { k, .. } = cache.view(0) else { panic!("asked for f16") };
        assert_eq!(k, [0x3C00, 0x3C02, 0x7C00]);
    }
}
