//! `apr capabilities`: what this build can do on this machine.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What this build can do on this machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Capabilities {
    /// `apr.capabilities/1`.
    pub schema: String,
    /// Version of `apr`.
    pub version: String,
    /// Commands, with their subcommands spelt out (`rosetta convert`).
    pub commands: Vec<String>,
    /// Formats that can be read and written, lower-case names.
    pub formats: Vec<String>,
    /// Dtypes, in table order.
    pub dtypes: Vec<DTypeRow>,
    /// Architectures, in table order.
    pub architectures: Vec<ArchitectureRow>,
    /// Names of the numerics offered; the first is the default.
    pub numerics: Vec<String>,
    /// Instruction sets usable on this machine (`scalar`, `avx2`, …); the first is the one used.
    pub isa: Vec<String>,
    /// Threads used by default.
    pub threads: usize,
    /// Devices that can run a model, the CPU included.
    pub devices: Vec<Device>,
}

/// One dtype.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DTypeRow {
    /// ggml's name.
    pub name: String,
    /// ggml's type id, or a number of our own from 160 on.
    pub id: u32,
    /// Whether values can be read.
    pub decode: bool,
    /// Whether values can be written.
    pub encode: bool,
    /// Whether a model whose weights have it can be run. A tensor of another dtype is carried from file to file.
    pub computes: bool,
}

/// One architecture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ArchitectureRow {
    /// `model_type` of Transformers, `general.architecture` of GGUF.
    pub id: String,
    /// Class names of Transformers.
    pub transformers_classes: Vec<String>,
}

/// A device that can run a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Device {
    /// `cpu` or `gpu`.
    pub backend: String,
    /// What the device calls itself.
    pub name: String,
    /// Memory in bytes, where known.
    pub memory_bytes: Option<u64>,
}

impl Capabilities {
    /// Whether a device of this backend is there.
    pub fn has_backend(&self, backend: &str) -> bool {
        self.devices.iter().any(|device| device.backend == backend)
    }
}
