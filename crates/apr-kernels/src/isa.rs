//! Instruction sets by name.

use std::fmt;
use std::str::FromStr;

/// The instruction set a [`KernelSet`](crate::KernelSet) is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Portable code: the definition of every operation.
    Scalar,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ and VL.
    Avx512,
}

impl Isa {
    /// Every instruction set, from the definition to the widest.
    pub const ALL: [Self; 3] = [Self::Scalar, Self::Avx2, Self::Avx512];

    /// Name used by `APR_ISA` and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Isa {
    type Err = IsaError;

    fn from_str(name: &str) -> Result<Self, IsaError> {
        Self::ALL.into_iter().find(|isa| isa.name() == name).ok_or_else(|| IsaError::Unknown { found: name.to_owned() })
    }
}

/// Why the instruction set asked for by `APR_ISA` cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IsaError {
    /// No instruction set has this name.
    #[error("APR_ISA is {found:?}; expected scalar, avx2 or avx512, or no APR_ISA for the best one")]
    Unknown {
        /// The value found.
        found: String,
    },
    /// This machine lacks it.
    #[error("APR_ISA asks for {wanted}, which this machine lacks; available: {available}")]
    Unavailable {
        /// The instruction set asked for.
        wanted: Isa,
        /// The names of those that this machine has.
        available: String,
    },
}
