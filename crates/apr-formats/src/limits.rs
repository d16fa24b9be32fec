//! How much a file may ask for before it is believed.

/// Caps on what a header may state. The defaults are far above any published model.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most tensors.
    pub tensors: u64,
    /// Most metadata pairs.
    pub metadata_pairs: u64,
    /// Longest key or tensor name, in bytes.
    pub name_bytes: u64,
    /// Longest string value, in bytes (a capsule is one).
    pub string_bytes: u64,
    /// Most elements of a metadata array.
    pub array_elements: u64,
    /// Longest SafeTensors header, in bytes (the reference library's limit).
    pub safetensors_header_bytes: u64,
    /// Longest APR metadata section, in bytes (the existing tool's limit).
    pub apr_metadata_bytes: u64,
    /// Most bytes that a capsule may unpack to.
    pub capsule_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            tensors: 1 << 17,
            metadata_pairs: 1 << 16,
            name_bytes: 1 << 16,
            string_bytes: 64 << 20,
            array_elements: 1 << 24,
            safetensors_header_bytes: 100_000_000,
            apr_metadata_bytes: 16 << 20,
            capsule_bytes: 512 << 20,
        }
    }
}
