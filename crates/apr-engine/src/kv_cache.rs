//! Keys and values of the positions seen so far.

use apr_kernels::{Backend, KvLayout, KvView};
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

/// The cache of one session: keys and values of each layer, as [`KvLayout`] says.
pub(crate) struct KvCache {
    dtype: CacheDType,
    layers: Vec<LayerCache>,
    layout: KvLayout,
    /// Most positions it will be asked to hold.
    limit: usize,
    /// Keys or values on their way into an f16 cache.
    rounded: Vec<u16>,
}

/// Whole blocks of positions, of which the first `n_positions` hold something.
struct LayerCache {
    values: Values,
    n_positions: usize,
}

enum Values {
    F32 { k: Vec<f32>, v: Vec<f32> },
    F16 { k: Vec<u16>, v: Vec<u16> },
}

impl KvCache {
    /// An empty cache; allocates nothing.
    pub(crate) fn new(dtype: CacheDType, n_layers: usize, layout: KvLayout, limit: usize) -> Self {
        let values = || match dtype {
            CacheDType::F32 => Values::F32 { k: Vec::new(), v: Vec::new() },
            CacheDType::F16 => Values::F16 { k: Vec::new(), v: Vec::new() },
        };
        let layers = (0..n_layers).map(|_| LayerCache { values: values(), n_positions: 0 }).collect();
        Self { dtype, layers, layout, limit, rounded: Vec::new() }
    }

    /// Adds the keys and values of further positions to a layer, `[n, n_kv_heads, head_dim]` each.
    pub(crate) fn append(&mut self, backend: &Backend, layer: usize, k: &[f32], v: &[f32]) {
        let (layout, limit) = (self.layout, self.limit);
        let LayerCache { values, n_positions } = &mut self.layers[layer];
        let first = *n_positions;
        *n_positions += k.len() / (layout.n_kv_heads * layout.head_dim);
        let (needed, most) = (layout.len(*n_positions), layout.len(limit));
        match values {
            Values::F32 { k: keys, v: values } => {
                grow(keys, needed, most);
                layout.store_keys(keys, first, k);
                grow(values, needed, most);
                layout.store_values(values, first, v);
            }
            Values::F16 { k: keys, v: values } => {
                self.rounded.resize(k.len(), 0);
                grow(keys, needed, most);
                backend.store_kv_f16(k, &mut self.rounded);
                layout.store_keys(keys, first, &self.rounded);
                grow(values, needed, most);
                backend.store_kv_f16(v, &mut self.rounded);
                layout.store_values(values, first, &self.rounded);
            }
        }
    }

    /// All positions of a layer.
    pub(crate) fn view(&self, layer: usize) -> KvView<'_> {
        match &self.layers[layer].values {
            Values::F32 { k, v } => KvView::F32 { k, v },
            Values::F16 { k, v } => KvView::F16 { k, v },
        }
    }

    /// Forgets all but the first `n_positions`.
    pub(crate) fn truncate(&mut self, n_positions: usize) {
        for layer in &mut self.layers {
            layer.n_positions = layer.n_positions.min(n_positions);
        }
    }

    /// Storage dtype.
    pub(crate) fn dtype(&self) -> CacheDType {
        self.dtype
    }

    /// Bytes allocated for keys and values.
    pub(crate) fn n_bytes(&self) -> usize {
        let elements = self.layers.iter().map(|layer| match &layer.values {
            Values::F32 { k, v } => k.capacity() + v.capacity(),
            Values::F16 { k, v } => k.capacity() + v.capacity(),
        });
        elements.sum::<usize>() * self.dtype.element_bytes()
    }
}

/// Makes a cache `needed` elements long: with room for half as much again, so that growing is rare, but no more than `most`.
fn grow<T: Copy + Default>(cache: &mut Vec<T>, needed: usize, most: usize) {
    if needed > cache.capacity() {
        cache.reserve_exact((needed + cache.len() / 2).min(most).max(needed) - cache.len());
    }
    if needed > cache.len() {
        cache.resize(needed, T::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use apr_kernels::KernelSet;

    fn scalar() -> Backend {
        Backend::new(KernelSet::available()[0], 1)
    }

    #[test]
    fn storage_grows_by_blocks_and_stops_at_the_limit() {
        let layout = KvLayout { n_kv_heads: 2, head_dim: 2 };
        let mut cache = KvCache::new(CacheDType::F16, 1, layout, 1000);
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
        assert_eq!(positions, [256, 640, 1024], "whole blocks, and half as much again");
    }

    #[test]
    fn positions_after_a_truncation_take_the_place_of_the_forgotten() {
        let layout = KvLayout { n_kv_heads: 1, head_dim: 2 };
        let mut cache = KvCache::new(CacheDType::F32, 1, layout, 1000);
        let backend = scalar();
        cache.append(&backend, 0, &[1.0, 2.0, 3.0, 4.0], &[0.0; 4]);
        cache.truncate(1);
        cache.append(&backend, 0, &[5.0, 6.0], &[0.0; 2]);
        let KvView::F32 { k, .. } = cache.view(0) else { panic!("asked for f32") };
        // Sixteen positions for each dimension.
        assert_eq!((k[..2].to_vec(), k[16..18].to_vec()), (vec![1.0, 5.0], vec![2.0, 6.0]));
    }

    #[test]
    fn f16_rounds_to_nearest_even() {
        let mut cache = KvCache::new(CacheDType::F16, 1, KvLayout { n_kv_heads: 1, head_dim: 3 }, 8);
        // Halfway between 1 and the next f16, halfway between that and the one after, and past the largest f16.
        cache.append(&scalar(), 0, &[0.0; 3], &[1.0 + 1.0 / 2048.0, 1.0 + 3.0 / 2048.0, 70000.0]);
        let KvView::F16 { v, .. } = cache.view(0) else { panic!("asked for f16") };
        assert_eq!(v[..3], [0x3C00, 0x3C02, 0x7C00]);
    }
}
