//! What a verdict is built from: two sides, and how many items of them were compared.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// What was counted. Numbers of different units are never added or compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Bytes of files: equal or not.
    Bytes,
    /// Decoded values of tensors.
    TensorValues,
    /// Logits of a forward pass.
    Logits,
    /// Generated tokens and the text they spell.
    Text,
    /// Statements with one right answer: a shape, a name, a hyper-parameter, how a process ended. These are no
    /// difference between two models and therefore belong to none of the four units above.
    Facts,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Unit::Bytes => "bytes",
            Unit::TensorValues => "tensor values",
            Unit::Logits => "logits",
            Unit::Text => "text",
            Unit::Facts => "facts",
        })
    }
}

/// One side of a comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Side {
    /// What it is (`source.gguf`, `expected answer`).
    pub what: String,
    /// How many items this side has; at least one in every measurement.
    #[schemars(range(min = 1))]
    pub items: u64,
    /// The value itself where it is short, else a digest of all items.
    pub value: String,
}

impl Side {
    /// A side.
    pub fn new(what: impl Into<String>, items: u64, value: impl Into<String>) -> Self {
        Side { what: what.into(), items, value: value.into() }
    }
}

/// A comparison that took place: non-empty, two-sided, finite.
///
/// The fields are private because these three properties are what a pass rests on; [`Measurement::new`] and
/// deserialisation are the only ways in, and both check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Wire")]
#[schemars(!try_from)]
pub struct Measurement {
    unit: Unit,
    reference: Side,
    candidate: Side,
    /// Items compared.
    #[schemars(range(min = 1))]
    compared: u64,
    /// Items that differ.
    different: u64,
    /// Further figures (`max_abs`, `kl_max`), all finite.
    figures: BTreeMap<String, f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    unit: Unit,
    reference: Side,
    candidate: Side,
    compared: u64,
    different: u64,
    figures: BTreeMap<String, f64>,
}

/// Why numbers are not a measurement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MeasurementError {
    /// Nothing was compared.
    #[error("nothing was compared ({reference}: {reference_items} items, {candidate}: {candidate_items} items)")]
    Empty {
        /// The reference side.
        reference: String,
        /// Its items.
        reference_items: u64,
        /// The candidate side.
        candidate: String,
        /// Its items.
        candidate_items: u64,
    },
    /// More items differ or were compared than there are.
    #[error("{different} of {compared} compared items differ, with {available} items available")]
    Count {
        /// Items said to differ.
        different: u64,
        /// Items said to be compared.
        compared: u64,
        /// Items of the longer side.
        available: u64,
    },
    /// A figure is NaN or infinite.
    #[error("figure {name} is {value}, a finite number is needed")]
    NotFinite {
        /// Name of the figure.
        name: String,
        /// Its value as text.
        value: String,
    },
    /// A pass was claimed for a measurement that shows a difference.
    #[error("a pass was claimed although {0}")]
    Disagrees(String),
}

impl TryFrom<Wire> for Measurement {
    type Error = MeasurementError;

    fn try_from(wire: Wire) -> Result<Self, MeasurementError> {
        Measurement {
            unit: wire.unit,
            reference: wire.reference,
            candidate: wire.candidate,
            compared: wire.compared,
            different: wire.different,
            figures: wire.figures,
        }
        .checked()
    }
}

impl Measurement {
    /// A comparison of `compared` items, of which `different` differ.
    pub fn new(
        unit: Unit,
        reference: Side,
        candidate: Side,
        compared: u64,
        different: u64,
    ) -> Result<Self, MeasurementError> {
        Measurement { unit, reference, candidate, compared, different, figures: BTreeMap::new() }.checked()
    }

    /// Adds a figure.
    pub fn with_figure(mut self, name: &str, value: f64) -> Result<Self, MeasurementError> {
        self.figures.insert(name.to_owned(), value);
        self.checked()
    }

    fn checked(self) -> Result<Self, MeasurementError> {
        let (reference, candidate) = (&self.reference, &self.candidate);
        if self.compared == 0 || reference.items == 0 || candidate.items == 0 {
            return Err(MeasurementError::Empty {
                reference: reference.what.clone(),
                reference_items: reference.items,
                candidate: candidate.what.clone(),
                candidate_items: candidate.items,
            });
        }
        let available = reference.items.max(candidate.items);
        if self.different > self.compared || self.compared > available {
            let (different, compared) = (self.different, self.compared);
            return Err(MeasurementError::Count { different, compared, available });
        }
        if let Some((name, value)) = self.figures.iter().find(|(_, value)| !value.is_finite()) {
            return Err(MeasurementError::NotFinite { name: name.clone(), value: value.to_string() });
        }
        Ok(self)
    }

    /// Why the sides do not agree, or `None` where they do.
    ///
    /// Texts agree when the judge found no difference: an expected answer and a sentence have different lengths. In
    /// every other unit both sides must have been compared completely, and their values must be the same text.
    pub fn disagreement(&self) -> Option<String> {
        let (reference, candidate) = (&self.reference, &self.candidate);
        if self.different > 0 {
            return Some(format!("{} of {} {} differ", self.different, self.compared, self.unit));
        }
        if self.unit == Unit::Text {
            return None;
        }
        if reference.items != candidate.items || self.compared != reference.items {
            return Some(format!(
                "{} has {} items, {} has {}, {} were compared",
                reference.what, reference.items, candidate.what, candidate.items, self.compared
            ));
        }
        (reference.value != candidate.value)
            .then(|| format!("{} is {}, {} is {}", reference.what, reference.value, candidate.what, candidate.value))
    }

    /// What was counted.
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// What was expected.
    pub fn reference(&self) -> &Side {
        &self.reference
    }

    /// What was found.
    pub fn candidate(&self) -> &Side {
        &self.candidate
    }

    /// Items compared, at least one.
    pub fn compared(&self) -> u64 {
        self.compared
    }

    /// Items that differ.
    pub fn different(&self) -> u64 {
        self.different
    }

    /// Further figures by name, all finite.
    pub fn figures(&self) -> &BTreeMap<String, f64> {
        &self.figures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(items: u64) -> Side {
        Side::new("side", items, "v")
    }

    #[test]
    fn nothing_compared_is_no_measurement() {
        for (reference, candidate, compared) in [(0, 0, 0), (0, 5, 5), (5, 0, 5), (5, 5, 0)] {
            let error = Measurement::new(Unit::Text, side(reference), side(candidate), compared, 0).unwrap_err();
            assert!(matches!(error, MeasurementError::Empty { .. }), "{reference} {candidate} {compared}");
        }
    }

    #[test]
    fn counts_must_fit_the_sides() {
        assert!(matches!(
            Measurement::new(Unit::Logits, side(2), side(2), 3, 0),
            Err(MeasurementError::Count { available: 2, .. })
        ));
        assert!(matches!(Measurement::new(Unit::Logits, side(2), side(2), 2, 3), Err(MeasurementError::Count { .. })));
    }

    #[test]
    fn figures_must_be_finite() {
        let measurement = Measurement::new(Unit::Logits, side(2), side(2), 2, 0).unwrap();
        assert!(measurement.clone().with_figure("max_abs", 0.0).is_ok());
        assert!(matches!(measurement.with_figure("max_abs", f64::NAN), Err(MeasurementError::NotFinite { .. })));
    }

    #[test]
    fn agreement_needs_all_items_and_equal_values() {
        let of = |unit, reference, candidate, compared, different| {
            Measurement::new(unit, reference, candidate, compared, different).unwrap().disagreement()
        };
        assert_eq!(of(Unit::Bytes, side(3), side(3), 3, 0), None);
        assert!(of(Unit::Bytes, side(3), side(4), 3, 0).is_some(), "a longer file is a difference");
        assert!(of(Unit::TensorValues, side(3), side(3), 2, 0).is_some(), "a partial comparison does not agree");
        assert!(of(Unit::Bytes, side(3), Side::new("b", 3, "w"), 3, 0).is_some(), "digests must be equal");
        assert!(of(Unit::Logits, side(3), side(3), 3, 1).is_some());
        assert_eq!(of(Unit::Text, side(1), Side::new("answer", 8, "2 + 2 equals 4."), 1, 0), None);
    }
}
