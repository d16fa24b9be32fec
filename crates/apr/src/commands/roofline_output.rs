//! Shares of a roofline, for people.

use apr_report::RooflineShare;

/// Stands under a table with a share that is none.
const NOTE: &str = "above: faster than the roofline that the probe found, so there is no share; the probe saw less of the \
                    machine than the run did, because of another process beside it or of a nearer cache";

/// Per cent and what binds, or that the work was above it.
pub(super) fn cell(share: Option<RooflineShare>) -> String {
    share.map_or_else(
        || "-".to_owned(),
        |share| match share.exceeds {
            true => format!("above {}", share.bound.name()),
            false => format!("{:.1} {}", share.percent, share.bound.name()),
        },
    )
}

/// The same as the end of a sentence, with a comma before it; nothing without a share.
pub(super) fn clause(share: Option<RooflineShare>) -> String {
    share.map_or_else(String::new, |share| match share.exceeds {
        true => format!(", above the {} roofline", share.bound.name()),
        false => format!(", {:.1} % of the {} roofline", share.percent, share.bound.name()),
    })
}

/// What `above` means, where one of the shares says it.
pub(super) fn note(shares: impl IntoIterator<Item = Option<RooflineShare>>) -> Option<&'static str> {
    shares.into_iter().flatten().any(|share| share.exceeds).then_some(NOTE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use apr_report::{Figure, Rooflines};

    #[test]
    fn more_than_all_is_no_share() {
        let rooflines = Rooflines {
            threads: 1,
            read_bytes_per_second: Figure::of(20e9),
            read_from: "the model's weights".to_owned(),
            multiply_adds_per_second: Figure::of(100e9),
        };
        let half = rooflines.share(0, 50_000_000_000, 1e3);
        let all = rooflines.share(20_000_000_000, 0, 1e3);
        let more = rooflines.share(0, 175_000_000_000, 1e3);
        assert_eq!([None, half, all, more].map(cell), ["-", "50.0 FMA", "100.0 bytes", "above FMA"]);
        let clauses =
            ["", ", 50.0 % of the FMA roofline", ", 100.0 % of the bytes roofline", ", above the FMA roofline"];
        assert_eq!([None, half, all, more].map(clause), clauses);
        assert_eq!((note([None, half, all]), note([half, more])), (None, Some(NOTE)));
    }
}
