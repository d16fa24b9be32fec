//! The functions that a model applies to single numbers.

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Nonlinearity {
    /// `x / (1 + e^-x)`, also called swish.
    Silu,
    /// `x * Φ(x)` with the normal distribution's Φ: the one with the error function.
    Gelu,
    /// `x / 2 * (1 + tanh(√(2/π) * (x + 0.044715 x³)))`.
    GeluTanh,
    /// `1 / (1 + e^-x)`.
    Sigmoid,
}

impl Nonlinearity {
    /// Every function.
    pub const ALL: [Self; 4] = [Self::Silu, Self::Gelu, Self::GeluTanh, Self::Sigmoid];
}
