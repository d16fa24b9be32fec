//! The time between the stages of a pass, seen by an observer.

use super::passes::Timed;
use apr_engine::{Activation, Observer, Stage};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Notes when each stage is done. It costs one look at the clock per stage; reports say how much that is.
#[derive(Default)]
pub(crate) struct StageClock {
    marks: Vec<Mark>,
}

#[derive(Clone, Copy)]
struct Mark {
    stage: Stage,
    layer: Option<u32>,
    done: Instant,
}

impl Observer for StageClock {
    fn observe(&mut self, activation: &Activation<'_>) {
        self.marks.push(Mark { stage: activation.stage, layer: activation.layer, done: Instant::now() });
    }
}

/// Where the time of some calls went.
#[derive(Debug, Default)]
pub(crate) struct Attribution {
    /// The time of each stage: from the end of the stage before it, or from the beginning of the call.
    pub(crate) stages: HashMap<(Stage, Option<u32>), Duration>,
    /// From the end of the last stage to the end of the call.
    pub(crate) unattributed: Duration,
}

impl StageClock {
    /// Where the time of `calls`, which come in the order of time, went. Marks outside them are those of warm-ups.
    pub(crate) fn attribute(&self, calls: impl IntoIterator<Item = Timed>) -> Attribution {
        let mut attribution = Attribution::default();
        let mut marks = self.marks.iter().peekable();
        for call in calls {
            let end = call.start + call.elapsed;
            let mut from = call.start;
            while let Some(mark) = marks.next_if(|mark| mark.done <= end) {
                if mark.done >= call.start {
                    *attribution.stages.entry((mark.stage, mark.layer)).or_default() += mark.done - from;
                    from = mark.done;
                }
            }
            attribution.unattributed += end - from;
        }
        attribution
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_rest_are_the_whole() {
        let zero = Instant::now();
        let at = |ms: u64| zero + Duration::from_millis(ms);
        let mark = |stage, layer, ms| Mark { stage, layer, done: at(ms) };
        let clock = StageClock {
            marks: vec![
                mark(Stage::Embed, None, 5),
                mark(Stage::Embed, None, 12),
                mark(Stage::Query, Some(0), 20),
                mark(Stage::Logits, None, 29),
                mark(Stage::Embed, None, 41),
                mark(Stage::Query, Some(0), 44),
            ],
        };
        let call = |from: u64, ms: u64| Timed { start: at(from), elapsed: Duration::from_millis(ms) };
        // The first mark lies before the calls, as those of a warm-up do.
        let found = clock.attribute([call(10, 20), call(40, 5)]);
        let ms = |stage, layer| found.stages[&(stage, layer)].as_millis();
        assert_eq!((ms(Stage::Embed, None), ms(Stage::Query, Some(0)), ms(Stage::Logits, None)), (2 + 1, 8 + 3, 9));
        assert_eq!(found.unattributed.as_millis(), 1 + 1);
        assert_eq!(found.stages.values().sum::<Duration>() + found.unattributed, Duration::from_millis(25));
        assert_eq!(StageClock::default().attribute([call(0, 7)]).unattributed, Duration::from_millis(7));
    }
}
