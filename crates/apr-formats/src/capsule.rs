//! The capsule: how a source that became another format travels with the copy, so that the way back gives the same
//! files.
//!
//! A capsule is a list of layers, newest first; each is the [`Origin`] of one conversion with the BLAKE3 of each
//! file. Its binary form is [`MAGIC`], then per layer a little-endian `u32` length and that many
//! bytes of DEFLATE. A layer unpacks to a `u32` length, that many bytes of JSON, and the literals it refers to, in
//! order. In a model file it stands as base64 text. A layer's recipe says where the source carried its own capsule;
//! that one is the rest of the list, which is why older layers are kept byte for byte.

use crate::Limits;
use crate::gguf::ShardName;
use crate::shards::{APR, Layout, SAFETENSORS};
use crate::source::is_companion;
use apr_model::{Format, Origin, OriginFile, Piece, Relayout};
use apr_tensor::{ByteOrder, Bytes, DType};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::io::{Read, Write};

const MAGIC: &[u8; 8] = b"APRCAPS1";
/// Longest description of a layer, far above that of any model.
const MAX_DESCRIPTION_BYTES: usize = 32 << 20;

/// One conversion's source.
#[derive(Debug)]
pub(crate) struct Layer {
    /// BLAKE3 of each file of `origin`.
    pub(crate) digests: Vec<[u8; 32]>,
    pub(crate) origin: Origin,
    /// The older layers, packed.
    older: Bytes,
}

impl Layer {
    /// Text of the capsule that the source itself carried; empty where it had none.
    pub(crate) fn inner(&self) -> Vec<u8> {
        if self.older.is_empty() {
            return Vec::new();
        }
        BASE64.encode([MAGIC.as_slice(), &self.older].concat()).into_bytes()
    }
}

#[derive(Serialize, Deserialize)]
struct WireLayer {
    format: Format,
    /// Absent in a layer of a little-endian source.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    big_endian: bool,
    identity: String,
    is_dir: bool,
    files: Vec<WireFile>,
}

#[derive(Serialize, Deserialize)]
struct WireFile {
    name: String,
    len: u64,
    blake3: String,
    pieces: Vec<WirePiece>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WirePiece {
    /// The next `n` literal bytes.
    Literal(u64),
    Zeros(u64),
    Capsule,
    /// Name, ggml dtype id, and how it is stored.
    Tensor(String, u32, Option<WireRelayout>),
    /// Name, ggml dtype id, and how many of the literal bytes it is.
    Kept(String, u32, u64),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum WireRelayout {
    /// Rows are interleaved, in heads of this size.
    Heads(u64),
    Other(WireOther),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WireOther {
    Transposed,
    PlusOne,
}

impl WireRelayout {
    fn of(relayout: Relayout) -> Option<Self> {
        match relayout {
            Relayout::Identity => None,
            Relayout::RotaryInterleaved { head_dim } => Some(Self::Heads(head_dim as u64)),
            Relayout::Transposed => Some(Self::Other(WireOther::Transposed)),
            Relayout::PlusOne => Some(Self::Other(WireOther::PlusOne)),
        }
    }

    /// None for heads that are not of an even size.
    fn relayout(self) -> Option<Relayout> {
        match self {
            Self::Heads(n) => {
                let head_dim = usize::try_from(n).ok().filter(|&n| n >= 2 && n % 2 == 0)?;
                Some(Relayout::RotaryInterleaved { head_dim })
            }
            Self::Other(WireOther::Transposed) => Some(Relayout::Transposed),
            Self::Other(WireOther::PlusOne) => Some(Relayout::PlusOne),
        }
    }
}

/// Puts `layer` in front of the capsule that the source carried (base64 text, may be empty).
///
/// `digests` gives the BLAKE3 of each file; it is called while the literals are being packed.
pub(crate) fn push(digests: impl FnOnce() -> Vec<[u8; 32]>, origin: &Origin, inner: &[u8]) -> Result<String, String> {
    let (literals, digests) = std::thread::scope(|scope| {
        let packing = scope.spawn(|| packed_literals(origin));
        let digests = digests();
        (packing.join().expect("packing does not panic"), digests)
    });
    let files = origin.files.iter().zip(&digests).map(|(file, digest)| WireFile {
        name: file.name.clone(),
        len: file.len,
        blake3: hex(digest),
        pieces: file
            .pieces
            .iter()
            .map(|piece| match piece {
                Piece::Literal(bytes) => WirePiece::Literal(bytes.len() as u64),
                Piece::Zeros(n) => WirePiece::Zeros(*n),
                Piece::Capsule => WirePiece::Capsule,
                Piece::Tensor { name, dtype, relayout } => {
                    WirePiece::Tensor(name.clone(), dtype.info().id, WireRelayout::of(*relayout))
                }
                Piece::Kept { name, dtype, bytes } => {
                    WirePiece::Kept(name.clone(), dtype.info().id, bytes.len() as u64)
                }
            })
            .collect(),
    });
    let wire = WireLayer {
        format: origin.format,
        big_endian: origin.byte_order == ByteOrder::Big,
        identity: hex(&origin.identity.ok_or("the source was opened without its identity")?),
        is_dir: origin.is_dir,
        files: files.collect(),
    };
    let json = serde_json::to_vec(&wire).map_err(|e| e.to_string())?;
    let mut description = encoder();
    let written = description
        .write_all(&(json.len() as u32).to_le_bytes())
        .and_then(|()| description.write_all(&json))
        // After a flush the blocks so far are whole and none is the last: those of the literals go on from there.
        .and_then(|()| description.flush())
        .and(literals);
    let literals = written.map_err(|e| e.to_string())?;
    let packed = [description.get_ref().as_slice(), &literals].concat();
    let mut binary = MAGIC.to_vec();
    binary.extend((packed.len() as u32).to_le_bytes());
    binary.extend(packed);
    if !inner.is_empty() {
        binary.extend(&binary_of(inner)?[MAGIC.len()..]);
    }
    Ok(BASE64.encode(binary))
}

fn packed_literals(origin: &Origin) -> std::io::Result<Vec<u8>> {
    let mut encoder = encoder();
    for piece in origin.files.iter().flat_map(|file| &file.pieces) {
        if let Piece::Literal(bytes) | Piece::Kept { bytes, .. } = piece {
            encoder.write_all(bytes)?;
        }
    }
    encoder.finish()
}

/// The usual level 6 would take longer over the tokenizer of a 1 GB model than copying its weights does, to make the
/// file 0.05 % smaller.
fn encoder() -> DeflateEncoder<Vec<u8>> {
    DeflateEncoder::new(Vec::new(), Compression::new(2))
}

/// The layers of a capsule, newest first.
pub(crate) fn layers(text: &[u8], limits: &Limits) -> Result<Vec<Layer>, String> {
    let binary = Bytes::from(binary_of(text)?);
    let mut layers = Vec::new();
    let mut pos = MAGIC.len();
    let mut budget = limits.capsule_bytes;
    while pos < binary.len() {
        let (len, after) = split_u32(&binary[pos..]).ok_or("capsule ends inside a layer")?;
        let packed = after.get(..len).ok_or("capsule ends inside a layer")?;
        pos += 4 + len;
        let older = binary.slice(pos..binary.len()).expect("get found the layer inside");
        layers.push(unpack(packed, older, &mut budget)?);
    }
    Ok(layers)
}

fn binary_of(text: &[u8]) -> Result<Vec<u8>, String> {
    let binary = BASE64.decode(text).map_err(|e| format!("capsule is not base64: {e}"))?;
    if !binary.starts_with(MAGIC) {
        return Err("capsule does not start with its magic".to_owned());
    }
    Ok(binary)
}

fn split_u32(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*head) as usize, rest))
}

fn unpack(packed: &[u8], older: Bytes, budget: &mut u64) -> Result<Layer, String> {
    let mut plain = Vec::new();
    let mut decoder = flate2::read::DeflateDecoder::new(packed).take(*budget + 1);
    decoder.read_to_end(&mut plain).map_err(|e| format!("capsule does not unpack: {e}"))?;
    *budget = budget.checked_sub(plain.len() as u64).ok_or("capsule unpacks to more than is accepted")?;
    let plain = Bytes::from(plain);
    let (json_len, rest) = split_u32(&plain).ok_or("capsule layer is empty")?;
    // Described pieces take more memory than their text.
    if json_len > MAX_DESCRIPTION_BYTES {
        return Err(format!("capsule layer with a description of {json_len} bytes"));
    }
    let json = rest.get(..json_len).ok_or("capsule layer ends inside its description")?;
    let wire: WireLayer = serde_json::from_slice(json).map_err(|e| format!("capsule layer: {e}"))?;
    let mut pos = 4 + json_len;
    let mut digests = Vec::new();
    let mut files = Vec::new();
    check_names(wire.format, &wire.files)?;
    for file in wire.files {
        digests.push(unhex(&file.blake3).ok_or("capsule holds a digest that is not 32 hex bytes")?);
        let mut pieces = Vec::with_capacity(file.pieces.len());
        let mut literal = |n: u64| {
            let end = usize::try_from(n).ok().and_then(|n| pos.checked_add(n));
            let literal = end.and_then(|end| plain.slice(pos..end)).ok_or("capsule literal is cut off")?;
            pos += literal.len();
            Ok::<_, String>(literal)
        };
        let dtype_of = |name: &str, id: u32| DType::from_id(id).map_err(|e| format!("capsule tensor {name:?}: {e}"));
        for piece in file.pieces {
            pieces.push(match piece {
                WirePiece::Literal(n) => Piece::Literal(literal(n)?),
                WirePiece::Kept(name, id, n) => Piece::Kept { dtype: dtype_of(&name, id)?, bytes: literal(n)?, name },
                WirePiece::Zeros(n) => Piece::Zeros(n),
                WirePiece::Capsule => Piece::Capsule,
                WirePiece::Tensor(name, id, relayout) => {
                    let dtype = dtype_of(&name, id)?;
                    let relayout = match relayout.map(WireRelayout::relayout) {
                        None => Relayout::Identity,
                        Some(Some(relayout)) => relayout,
                        Some(None) => return Err(format!("capsule tensor {name:?} has an odd head size")),
                    };
                    Piece::Tensor { name, dtype, relayout }
                }
            });
        }
        files.push(OriginFile { name: file.name, len: file.len, pieces });
    }
    let identity = unhex(&wire.identity).ok_or("capsule holds an identity that is not 32 hex bytes")?;
    let byte_order = if wire.big_endian { ByteOrder::Big } else { ByteOrder::Little };
    let origin = Origin { format: wire.format, byte_order, identity: Some(identity), files, is_dir: wire.is_dir };
    Ok(Layer { digests, origin, older })
}

/// A capsule comes with a file from anywhere and names files to write: only those that a model of the format has.
fn check_names(format: Format, files: &[WireFile]) -> Result<(), String> {
    let main = files.first().ok_or("capsule layer without files")?.name.as_str();
    let main_is_plain = !main.is_empty() && !main.starts_with('.') && !main.contains(['/', '\\', '\0']);
    let shards = ShardName::parse(main).filter(|first| first.index == 0 && first.n_files == files.len());
    let is_shard_of = |layout: &Layout, name: &str| main == layout.index && layout.is_shard_name(name);
    let may_follow = |index: usize, name: &str| match format {
        Format::SafeTensors => is_companion(name) || is_shard_of(&SAFETENSORS, name),
        Format::Gguf => shards.as_ref().is_some_and(|first| first.sibling(index) == name),
        Format::Apr => is_shard_of(&APR, name),
    };
    let mut seen = HashSet::new();
    for (index, file) in files.iter().enumerate() {
        let allowed = if index == 0 { main_is_plain } else { may_follow(index, &file.name) };
        if !allowed || !seen.insert(&file.name) {
            let place = index + 1;
            return Err(format!(
                "capsule names {:?} as file {place} of a {format} model, which has no such",
                file.name
            ));
        }
    }
    Ok(())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(name: &str, identity: u8) -> Origin {
        let pieces = vec![
            Piece::Literal(b"header".to_vec().into()),
            Piece::Capsule,
            Piece::Tensor {
                name: "w".into(),
                dtype: DType::Q4K,
                relayout: Relayout::RotaryInterleaved { head_dim: 8 },
            },
            Piece::Zeros(70),
        ];
        Origin {
            format: Format::Gguf,
            byte_order: if identity == 3 { ByteOrder::Big } else { ByteOrder::Little },
            identity: Some([identity; 32]),
            files: vec![OriginFile { name: name.into(), len: 220, pieces }],
            is_dir: false,
        }
    }

    #[test]
    fn layers_come_back_newest_first_and_older_ones_byte_for_byte() {
        let old = push(|| vec![[2; 32]], &origin("old", 1), b"").unwrap();
        let both = push(|| vec![[4; 32]], &origin("new", 3), old.as_bytes()).unwrap();
        let layers = layers(both.as_bytes(), &Limits::default()).unwrap();
        assert_eq!(layers.len(), 2);
        assert_eq!((layers[0].origin.identity, layers[1].digests[0]), (Some([3; 32]), [2; 32]));
        assert_eq!(layers[0].inner(), old.as_bytes());
        assert_eq!(layers[1].inner(), b"");
        assert_eq!(format!("{:?}", layers[0].origin), format!("{:?}", origin("new", 3)));
    }

    #[test]
    fn damage_is_an_error_and_names_stay_in_their_directory() {
        let text = push(|| vec![[2; 32]], &origin("x", 1), b"").unwrap();
        for cut in (0..text.len()).step_by(7) {
            assert!(layers(&text.as_bytes()[..cut], &Limits::default()).is_err(), "cut at {cut}");
        }
        for name in ["../x", "/etc/passwd", "a/b", "", ".bashrc", "..", "x\0"] {
            let escape = push(|| vec![[2; 32]], &origin(name, 1), b"").unwrap();
            let error = layers(escape.as_bytes(), &Limits::default()).unwrap_err();
            assert!(error.contains(&format!("{name:?}")), "{error}");
        }
        // Templates lie one directory deeper, and no further.
        for (second, is_sound) in [
            ("additional_chat_templates/rag.jinja", true),
            ("additional_chat_templates/../rag.jinja", false),
            ("additional_chat_templates/.rag.jinja", false),
            ("additional_chat_templates/rag", false),
            ("additional_chat_templates//rag.jinja", false),
        ] {
            let mut origin = Origin { format: Format::SafeTensors, ..origin("model.safetensors", 1) };
            origin.files.push(OriginFile { name: second.into(), len: 0, pieces: Vec::new() });
            let text = push(|| vec![[2; 32]; 2], &origin, b"").unwrap();
            assert_eq!(layers(text.as_bytes(), &Limits::default()).is_ok(), is_sound, "{second}");
        }
        // Of a split model only its other files, in order.
        for (second, is_sound) in [
            ("a-00002-of-00002.gguf", true),
            ("a-00001-of-00002.gguf", false),
            ("b-00002-of-00002.gguf", false),
            ("a-00002-of-00003.gguf", false),
            ("/etc/passwd", false),
            ("config.json", false),
        ] {
            let mut origin = origin("a-00001-of-00002.gguf", 1);
            origin.files.push(OriginFile { name: second.into(), len: 0, pieces: Vec::new() });
            let text = push(|| vec![[2; 32]; 2], &origin, b"").unwrap();
            assert_eq!(layers(text.as_bytes(), &Limits::default()).is_ok(), is_sound, "{second}");
        }
        let small = Limits { capsule_bytes: 10, ..Limits::default() };
        assert!(layers(text.as_bytes(), &small).unwrap_err().contains("more than is accepted"));
    }
}
