//! Containers built byte by byte, so that each rule can be broken on its own.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A GGUF value with its type id.
pub(crate) fn u32_value(n: u32) -> Vec<u8> {
    [4u32.to_le_bytes(), n.to_le_bytes()].concat()
}

pub(crate) fn str_value(text: &str) -> Vec<u8> {
    [&8u32.to_le_bytes(), text_bytes(text).as_slice()].concat()
}

pub(crate) fn f32_value(x: f32) -> Vec<u8> {
    [6u32.to_le_bytes(), x.to_le_bytes()].concat()
}

/// An array of elements of type `kind`, each given as its bytes.
pub(crate) fn array_value(kind: u32, items: &[Vec<u8>]) -> Vec<u8> {
    [9u32.to_le_bytes().as_slice(), &kind.to_le_bytes(), &(items.len() as u64).to_le_bytes(), &items.concat()].concat()
}

pub(crate) fn text_bytes(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

/// A tensor description: name, ggml id, row-major dimensions, offset in the data.
pub(crate) type Info<'a> = (&'a str, u32, &'a [u64], u64);

/// A GGUF file.
pub(crate) fn gguf(pairs: &[(&str, Vec<u8>)], tensors: &[Info<'_>], data_bytes: usize) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((pairs.len() as u64).to_le_bytes());
    for (key, value) in pairs {
        out.extend(text_bytes(key));
        out.extend(value);
    }
    for (name, id, dims, offset) in tensors {
        out.extend(text_bytes(name));
        out.extend((dims.len() as u32).to_le_bytes());
        dims.iter().rev().for_each(|d| out.extend(d.to_le_bytes()));
        out.extend(id.to_le_bytes());
        out.extend(offset.to_le_bytes());
    }
    out.resize(out.len().next_multiple_of(32) + data_bytes, 0);
    out
}

/// The pairs that a model of two layers needs.
pub(crate) fn model_pairs(arch: &str) -> Vec<(String, Vec<u8>)> {
    let key = |suffix: &str| format!("{arch}.{suffix}");
    vec![
        ("general.architecture".to_owned(), str_value(arch)),
        (key("block_count"), u32_value(1)),
        (key("context_length"), u32_value(64)),
        (key("embedding_length"), u32_value(32)),
        (key("feed_forward_length"), u32_value(32)),
        (key("attention.head_count"), u32_value(2)),
        (key("vocab_size"), u32_value(4)),
        (key("attention.layer_norm_rms_epsilon"), f32_value(1e-6)),
    ]
}

/// A GGUF model without tokenizer.
pub(crate) fn gguf_model(arch: &str, tensors: &[Info<'_>], data_bytes: usize) -> Vec<u8> {
    let pairs = model_pairs(arch);
    let pairs: Vec<_> = pairs.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
    gguf(&pairs, tensors, data_bytes)
}

/// An APR file: metadata text, tensors, bytes of data.
pub(crate) fn apr(metadata: &str, tensors: &[Info<'_>], data_bytes: usize) -> Vec<u8> {
    let mut index = Vec::new();
    for (name, id, dims, offset) in tensors {
        index.extend((name.len() as u16).to_le_bytes());
        index.extend(name.as_bytes());
        index.extend([*id as u8, dims.len() as u8]);
        dims.iter().for_each(|d| index.extend(d.to_le_bytes()));
        index.extend(offset.to_le_bytes());
        // Every dtype used here is F32.
        index.extend((dims.iter().product::<u64>().wrapping_mul(4)).to_le_bytes());
    }
    let index_offset = (64 + metadata.len()).next_multiple_of(64);
    let data_offset = (index_offset + index.len()).next_multiple_of(64);
    let mut out = b"APR\0\x02\0".to_vec();
    out.extend(0x0400u16.to_le_bytes());
    out.extend((tensors.len() as u32).to_le_bytes());
    out.extend(64u64.to_le_bytes());
    out.extend((metadata.len() as u32).to_le_bytes());
    out.extend((index_offset as u64).to_le_bytes());
    out.extend((data_offset as u64).to_le_bytes());
    out.resize(64, 0);
    out.extend(metadata.as_bytes());
    out.resize(index_offset, 0);
    out.extend(index);
    out.resize(data_offset + data_bytes, 0);
    seal_apr(&mut out);
    let footer = crc32(&[&out]);
    out.extend(footer.to_le_bytes());
    out
}

/// The metadata of a one-layer model.
pub(crate) const APR_METADATA: &str = r#"{"model_type":"qwen2","architecture":"qwen2","hidden_size":32,"num_layers":1,"num_heads":2,"vocab_size":4,"intermediate_size":32,"max_position_embeddings":64,"rope_theta":10000.0,"rms_norm_eps":1e-6}"#;

/// Puts the header's checksum right, so that what lies behind it is looked at.
pub(crate) fn seal_apr(file: &mut [u8]) {
    if file.len() >= 64 {
        let crc = crc32(&[&file[..40], &file[44..64]]);
        file[40..44].copy_from_slice(&crc.to_le_bytes());
    }
}

/// CRC-32 of IEEE 802.3, bit by bit: not the implementation under test.
pub(crate) fn crc32(parts: &[&[u8]]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in parts.iter().flat_map(|part| part.iter()) {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

/// A SafeTensors file with this header text.
pub(crate) fn safetensors(header: &str, data_bytes: usize) -> Vec<u8> {
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header.as_bytes());
    out.resize(out.len() + data_bytes, 0);
    out
}

/// Random numbers with a fixed seed.
pub(crate) struct Random(ChaCha8Rng);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.0.next_u64() % n as u64) as usize
    }

    pub(crate) fn bytes(&mut self, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n];
        self.0.fill_bytes(&mut bytes);
        bytes
    }
}
