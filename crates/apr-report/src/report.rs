//! What every report has in common: a schema name with a version.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A JSON document that one command prints.
pub trait Report: Serialize + DeserializeOwned {
    /// Name and version of the schema, the value of the report's `schema` field (`apr.inspect/1`).
    const SCHEMA: &'static str;
}

/// Why text is not the report that was expected.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Not JSON, or JSON without the fields of the report.
    #[error("{schema} report expected: {source}")]
    Json {
        /// The schema expected.
        schema: &'static str,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// JSON of another kind, or another version.
    #[error("{expected} report expected, found {found}")]
    Schema {
        /// The schema expected.
        expected: &'static str,
        /// The value of `schema`, or what is there instead.
        found: String,
    },
}

/// Reads a report and checks that it names the expected schema.
pub fn from_json<T: Report>(text: &str) -> Result<T, ReportError> {
    let json = |source| ReportError::Json { schema: T::SCHEMA, source };
    let value: serde_json::Value = serde_json::from_str(text).map_err(json)?;
    match value.get("schema") {
        Some(serde_json::Value::String(schema)) if schema == T::SCHEMA => serde_json::from_value(value).map_err(json),
        found => Err(ReportError::Schema {
            expected: T::SCHEMA,
            found: found.map_or_else(|| "no schema field".to_owned(), ToString::to_string),
        }),
    }
}

/// Implements [`Report`] for types with a `schema: String` field.
macro_rules! schemas {
    ($($report:ty = $schema:literal),+ $(,)?) => {
        $(impl $crate::Report for $report {
            const SCHEMA: &'static str = $schema;
        })+
    };
}

schemas! {
    crate::ErrorReport = "apr.error/1",
    crate::Capabilities = "apr.capabilities/1",
    crate::InspectReport = "apr.inspect/1",
    crate::TensorsReport = "apr.tensors/1",
    crate::TreeReport = "apr.tree/1",
    crate::HexReport = "apr.hex/1",
    crate::ValidateReport = "apr.validate/1",
    crate::ValidateStatsReport = "apr.validate-stats/1",
    crate::ConvertReport = "apr.convert/1",
    crate::ChainReport = "apr.chain/1",
    crate::PullReport = "apr.pull/1",
    crate::ListReport = "apr.list/1",
    crate::RmReport = "apr.rm/1",
    crate::QuantizeReport = "apr.quantize/1",
    crate::VerifyReport = "apr.verify/1",
    crate::CompareInferenceReport = "apr.compare-inference/1",
    crate::DiffTensorsReport = "apr.diff-tensors/1",
    crate::FingerprintReport = "apr.fingerprint/1",
    crate::RunReport = "apr.run/1",
    crate::ChatTurnReport = "apr.chat-turn/1",
    crate::Conversation = "apr.conversation/1",
    crate::EditReport = "apr.edit/1",
    crate::TokenizeReport = "apr.tokenize/1",
    crate::EmbedReport = "apr.embed/1",
    crate::BenchReport = "apr.bench/1",
    crate::ProfileReport = "apr.profile/1",
    crate::ProfileCiReport = "apr.profile-ci/1",
    crate::ProfileCompareReport = "apr.profile-compare/1",
    crate::EvalReport = "apr.eval/1",
    crate::EvidenceFile = "apr-qa.evidence/1",
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorReport, ExitCode, VerifyReport};

    #[test]
    fn a_report_of_another_kind_is_refused_by_name() {
        let text = serde_json::to_string(&ErrorReport::new(ExitCode::NotFound, "no such file")).unwrap();
        assert!(from_json::<ErrorReport>(&text).is_ok());
        let error = from_json::<VerifyReport>(&text).unwrap_err().to_string();
        assert_eq!(error, r#"apr.verify/1 report expected, found "apr.error/1""#);
        assert!(from_json::<VerifyReport>("{}").unwrap_err().to_string().ends_with("no schema field"));
        assert!(from_json::<VerifyReport>("").is_err());
    }
}
