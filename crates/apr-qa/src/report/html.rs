//! One HTML page: no scripts from elsewhere, no images, readable without a network.

use super::{duration, summaries};
use crate::score::Score;
use apr_report::{CommandRecord, Evidence, EvidenceFile};
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, context};

const PAGE: &str = include_str!("page.html.jinja");

/// The run as a self-contained page.
pub fn html(file: &EvidenceFile, score: &Score) -> String {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.add_filter("duration", |ms: f64| duration(ms));
    environment.add_template("page", PAGE).expect("the page's template is valid; tested");
    let page = environment.get_template("page").expect("added above");
    let gates: Vec<Value> = summaries(file)
        .into_iter()
        .map(|summary| {
            let passed = summary.counts.get(&apr_report::OutcomeKind::Corroborated).copied().unwrap_or(0);
            context! {
                id => summary.gate.id,
                title => summary.gate.title,
                condition => summary.gate.condition,
                severity => summary.gate.severity.to_string(),
                class => class(summary.worst),
                worst => summary.worst.to_string(),
                passed,
                total => summary.scenarios.len(),
                scenarios => summary.scenarios.iter().map(|entry| scenario(file, entry)).collect::<Vec<_>>(),
            }
        })
        .collect();
    let counts: Vec<Value> =
        score.counts.iter().map(|(kind, n)| context! { name => kind.to_string(), class => class(*kind), n }).collect();
    page.render(context! {
        file => Value::from(Serde(file)),
        n_commands => file.commands.len(),
        status => score.status.to_string(),
        status_class => score.status.to_string().to_lowercase(),
        points => score.score,
        grade => score.grade,
        rate => score.rate.map(|rate| format!("{:.1} %", rate * 100.0)),
        lower => score.wilson_lower.map(|rate| format!("{:.1} %", rate * 100.0)),
        rubric => score.rubric,
        total => score.total,
        blockers => score.blockers.clone(),
        counts,
        gates,
    })
    .expect("the template uses only what it is given; tested")
}

fn scenario(file: &EvidenceFile, entry: &Evidence) -> Value {
    let figures: Vec<(String, String)> = entry.outcome.measurement().map_or_else(Vec::new, |measurement| {
        let mut rows = vec![
            ("unit".to_owned(), measurement.unit().to_string()),
            ("compared".to_owned(), measurement.compared().to_string()),
            ("different".to_owned(), measurement.different().to_string()),
            (measurement.reference().what.clone(), measurement.reference().value.clone()),
            (measurement.candidate().what.clone(), measurement.candidate().value.clone()),
        ];
        rows.extend(measurement.figures().iter().map(|(name, value)| (name.clone(), value.to_string())));
        rows
    });
    let commands: Vec<Value> = entry.commands.iter().map(|&index| command(&file.commands[index])).collect();
    context! {
        name => entry.scenario.clone(),
        class => class(entry.outcome.kind()),
        outcome => entry.outcome.kind().to_string(),
        reason => entry.outcome.reason(),
        elapsed_ms => entry.elapsed_ms,
        figures,
        commands,
        artefacts => Value::from(Serde(&entry.artefacts)),
    }
}

fn command(record: &CommandRecord) -> Value {
    let ended = match (record.timed_out, record.exit_code, record.signal) {
        (true, ..) => "killed at its limit".to_owned(),
        (_, Some(code), _) => format!("exit {code}"),
        (_, None, signal) => format!("signal {}", signal.unwrap_or(0)),
    };
    context! {
        line => record.argv.join(" "),
        ended,
        wall_ms => record.wall_ms,
        peak => record.peak_rss_bytes.map(|bytes| format!("{:.1} MB", bytes as f64 / 1e6)),
    }
}

fn class(kind: apr_report::OutcomeKind) -> &'static str {
    use apr_report::OutcomeKind;
    match kind {
        OutcomeKind::Corroborated => "good",
        OutcomeKind::Skipped | OutcomeKind::NotMeasured => "open",
        OutcomeKind::Falsified | OutcomeKind::Crashed | OutcomeKind::TimedOut => "bad",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::score;
    use crate::testing::evidence_file;
    use apr_report::{Outcome, Tier};

    #[test]
    fn the_page_is_complete_escaped_and_self_contained() {
        let file = evidence_file(Tier::Mvp, 18, &vec![Outcome::falsified("<script>alert(1)</script>"); 13]);
        let page = html(&file, &score(&file));
        for part in [
            "BLOCKED",
            "405",
            "F-A1-001",
            "scenario 30",
            "a &lt;cpu&gt; &amp; more",
            "&lt;script&gt;",
            "prefers-color-scheme",
        ] {
            assert!(page.contains(part), "{part} is missing");
        }
        assert!(!page.contains("<script"), "text of a model must stay text");
        assert!(!page.contains("http://") && !page.contains("https://"), "nothing is loaded from elsewhere");
        assert_eq!(page, html(&file, &score(&file)));
    }

    #[test]
    fn a_page_without_evidence_shows_no_number() {
        let file = evidence_file(Tier::Full, 0, &[]);
        let page = html(&file, &score(&file));
        assert!(page.contains("PENDING") && page.contains("no score"));
    }
}
