//! A digest of the logits: what two runs compare to know that they computed the same.

use std::fmt;

/// BLAKE3 over the logits of a run: for each step in order, each logit as four little-endian bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogitsDigest(pub [u8; 32]);

impl fmt::Display for LogitsDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for LogitsDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogitsDigest({self})")
    }
}

/// Collects the logits of a run, step by step.
#[derive(Default)]
pub struct LogitsHasher(blake3::Hasher);

impl LogitsHasher {
    /// Adds the logits of one step.
    pub fn update(&mut self, logits: &[f32]) {
        let mut buffer = [0u8; 64 << 10];
        for part in logits.chunks(buffer.len() / 4) {
            for (bytes, logit) in buffer.chunks_exact_mut(4).zip(part) {
                bytes.copy_from_slice(&logit.to_le_bytes());
            }
            self.0.update(&buffer[..part.len() * 4]);
        }
    }

    /// The digest of everything added so far.
    pub fn digest(&self) -> LogitsDigest {
        LogitsDigest(*self.0.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_is_of_the_little_endian_bytes_of_all_steps() {
        let logits: Vec<f32> = (0..3000).map(|i| i as f32 * 0.25 - 100.0).collect();
        let bytes: Vec<u8> = logits.iter().flat_map(|x| x.to_le_bytes()).collect();
        let mut hasher = LogitsHasher::default();
        hasher.update(&logits[..1000]);
        hasher.update(&logits[1000..]);
        assert_eq!(hasher.digest().0, *blake3::hash(&bytes).as_bytes());
        assert_eq!(hasher.digest().to_string(), blake3::hash(&bytes).to_hex().as_str());
    }
}
