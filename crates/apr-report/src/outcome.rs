//! The outcome of a scenario. A pass cannot be written down without the measurement it rests on.

use crate::{Measurement, MeasurementError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What became of a scenario.
///
/// `Corroborated` holds an [`Agreement`], which only an agreeing [`Measurement`] can become; reading an outcome from a
/// file takes the same way, so an empty or disagreeing pass in a file is an error.
///
/// ```
/// use apr_report::{Measurement, Outcome, OutcomeKind, Side, Unit};
/// let side = |n| Side::new("model", n, "digest");
/// let equal = Outcome::judge(Measurement::new(Unit::Bytes, side(9), side(9), 9, 0));
/// assert_eq!(equal.kind(), OutcomeKind::Corroborated);
/// let nothing = Outcome::judge(Measurement::new(Unit::Bytes, side(0), side(0), 0, 0));
/// assert_eq!(nothing.kind(), OutcomeKind::NotMeasured);
/// ```
///
/// There is no other way to a pass:
/// ```compile_fail
/// let pass = apr_report::Agreement { measurement: todo!() };
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Outcome {
    /// The gate looked at something and it was as it should be.
    Corroborated(Agreement),
    /// The gate looked at something and it was not as it should be.
    Falsified(Disagreement),
    /// A process that the gate needs was ended by a signal.
    Crashed {
        /// The signal's number.
        signal: i32,
        /// What was running.
        reason: String,
    },
    /// A process that the gate needs ran past its limit and was killed.
    TimedOut {
        /// The limit in milliseconds.
        limit_ms: u64,
        /// What was running.
        reason: String,
    },
    /// Not run, on purpose; stays in the denominator.
    Skipped {
        /// Why.
        reason: String,
    },
    /// Nothing could be compared; stays in the denominator and never counts as passed.
    NotMeasured {
        /// Why.
        reason: String,
    },
}

/// A measurement whose sides agree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "AgreementWire")]
#[schemars(!try_from)]
pub struct Agreement {
    /// What agrees: nothing in it differs.
    #[schemars(extend("properties" = {"different": {"const": 0}}))]
    measurement: Box<Measurement>,
}

#[derive(Deserialize)]
struct AgreementWire {
    measurement: Box<Measurement>,
}

impl TryFrom<AgreementWire> for Agreement {
    type Error = MeasurementError;

    fn try_from(wire: AgreementWire) -> Result<Self, MeasurementError> {
        match wire.measurement.disagreement() {
            None => Ok(Agreement { measurement: wire.measurement }),
            Some(why) => Err(MeasurementError::Disagrees(why)),
        }
    }
}

impl Agreement {
    /// The measurement.
    pub fn measurement(&self) -> &Measurement {
        &self.measurement
    }
}

/// Why a gate rejects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Disagreement {
    /// What was found and what was expected.
    pub reason: String,
    /// The measurement, where the failure is one (a command that refused to run has none).
    pub measurement: Option<Box<Measurement>>,
}

/// The outcome without its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeKind {
    /// See [`Outcome::Corroborated`].
    Corroborated,
    /// See [`Outcome::Falsified`].
    Falsified,
    /// See [`Outcome::Crashed`].
    Crashed,
    /// See [`Outcome::TimedOut`].
    TimedOut,
    /// See [`Outcome::Skipped`].
    Skipped,
    /// See [`Outcome::NotMeasured`].
    NotMeasured,
}

impl OutcomeKind {
    /// Every kind, in the order reports list them.
    pub const ALL: [OutcomeKind; 6] = [
        OutcomeKind::Corroborated,
        OutcomeKind::Falsified,
        OutcomeKind::Crashed,
        OutcomeKind::TimedOut,
        OutcomeKind::Skipped,
        OutcomeKind::NotMeasured,
    ];

    /// Whether the gate rejected what it was shown.
    pub fn is_failure(self) -> bool {
        matches!(self, OutcomeKind::Falsified | OutcomeKind::Crashed | OutcomeKind::TimedOut)
    }
}

impl fmt::Display for OutcomeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            OutcomeKind::Corroborated => "corroborated",
            OutcomeKind::Falsified => "falsified",
            OutcomeKind::Crashed => "crashed",
            OutcomeKind::TimedOut => "timed out",
            OutcomeKind::Skipped => "skipped",
            OutcomeKind::NotMeasured => "not measured",
        })
    }
}

impl Outcome {
    /// The outcome that a comparison demands: agreeing sides corroborate, differing sides falsify, and a comparison
    /// that did not take place measures nothing.
    pub fn judge(measurement: Result<Measurement, MeasurementError>) -> Self {
        match measurement {
            Err(error) => Outcome::NotMeasured { reason: error.to_string() },
            Ok(measurement) => match measurement.disagreement() {
                None => Outcome::Corroborated(Agreement { measurement: Box::new(measurement) }),
                Some(reason) => Outcome::Falsified(Disagreement { reason, measurement: Some(Box::new(measurement)) }),
            },
        }
    }

    /// A rejection without a measurement.
    pub fn falsified(reason: impl Into<String>) -> Self {
        Outcome::Falsified(Disagreement { reason: reason.into(), measurement: None })
    }

    /// Nothing could be compared.
    pub fn not_measured(reason: impl Into<String>) -> Self {
        Outcome::NotMeasured { reason: reason.into() }
    }

    /// A falsification with more to say; other outcomes stay as they are.
    #[must_use]
    pub fn because(mut self, more: &str) -> Self {
        if let Outcome::Falsified(disagreement) = &mut self
            && !more.is_empty()
        {
            disagreement.reason = format!("{}; {more}", disagreement.reason);
        }
        self
    }

    /// The outcome without its contents.
    pub fn kind(&self) -> OutcomeKind {
        match self {
            Outcome::Corroborated(_) => OutcomeKind::Corroborated,
            Outcome::Falsified(_) => OutcomeKind::Falsified,
            Outcome::Crashed { .. } => OutcomeKind::Crashed,
            Outcome::TimedOut { .. } => OutcomeKind::TimedOut,
            Outcome::Skipped { .. } => OutcomeKind::Skipped,
            Outcome::NotMeasured { .. } => OutcomeKind::NotMeasured,
        }
    }

    /// The measurement, where one took place.
    pub fn measurement(&self) -> Option<&Measurement> {
        match self {
            Outcome::Corroborated(agreement) => Some(&agreement.measurement),
            Outcome::Falsified(disagreement) => disagreement.measurement.as_deref(),
            _ => None,
        }
    }

    /// Why the outcome is not a pass; for a pass, what was compared.
    pub fn reason(&self) -> String {
        match self {
            Outcome::Corroborated(Agreement { measurement: m }) => {
                let differing = if m.compared() == 1 { "agrees" } else { "agree" };
                format!("{} {} {differing}: {} and {}", m.compared(), m.unit(), m.reference().what, m.candidate().what)
            }
            Outcome::Falsified(disagreement) => disagreement.reason.clone(),
            Outcome::Crashed { signal, reason } => format!("ended by signal {signal}: {reason}"),
            Outcome::TimedOut { limit_ms, reason } => format!("killed after {limit_ms} ms: {reason}"),
            Outcome::Skipped { reason } | Outcome::NotMeasured { reason } => reason.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Side, Unit};
    use serde_json::{Value, json};

    fn pass() -> Value {
        let side = Side::new("model", 7, "digest");
        serde_json::to_value(Outcome::judge(Measurement::new(Unit::Logits, side.clone(), side, 7, 0))).unwrap()
    }

    #[test]
    fn outcomes_survive_a_file() {
        let side = Side::new("model", 7, "digest");
        let outcomes = [
            Outcome::judge(Measurement::new(Unit::Bytes, side.clone(), side.clone(), 7, 0)),
            Outcome::judge(Measurement::new(Unit::Bytes, side.clone(), side, 7, 2)),
            Outcome::falsified("exit status 4"),
            Outcome::Crashed { signal: 11, reason: "apr run".into() },
            Outcome::TimedOut { limit_ms: 10, reason: "apr run".into() },
            Outcome::Skipped { reason: "no GPU".into() },
            Outcome::not_measured("no answer"),
        ];
        for outcome in outcomes {
            let text = serde_json::to_string(&outcome).unwrap();
            assert_eq!(serde_json::from_str::<Outcome>(&text).unwrap(), outcome, "{text}");
        }
    }

    /// Each change turns a genuine pass into one that claims more than was measured.
    #[test]
    fn forged_passes_are_refused() {
        assert!(serde_json::from_value::<Outcome>(pass()).is_ok());
        let forge = |change: fn(&mut Value)| {
            let mut value = pass();
            change(&mut value);
            serde_json::from_value::<Outcome>(value).unwrap_err().to_string()
        };
        assert!(forge(|v| v["measurement"]["compared"] = json!(0)).contains("nothing was compared"));
        assert!(forge(|v| v["measurement"]["candidate"]["items"] = json!(0)).contains("nothing was compared"));
        assert!(forge(|v| v["measurement"]["different"] = json!(1)).contains("a pass was claimed although"));
        assert!(forge(|v| v["measurement"]["different"] = json!(8)).contains("8 of 7"));
        assert!(forge(|v| v["measurement"]["candidate"]["value"] = json!("other")).contains("a pass was claimed"));
        assert!(forge(|v| v["measurement"]["figures"]["max_abs"] = Value::Null).contains("null"));
        assert!(forge(|v| drop(v.as_object_mut().unwrap().remove("measurement"))).contains("measurement"));
        assert!(serde_json::from_value::<Outcome>(json!({"verdict": "corroborated"})).is_err());
        assert!(serde_json::from_value::<Outcome>(json!({"verdict": "passed"})).is_err());
    }
}
