//! Functions over results as text: `derivative(1h),moving_average(5)`.

use super::time::parse_span;
use crate::text::shortened;
use wattlog_engine::query::{HistogramEdges, Step};

/// Slope per second, unless another time is named.
const DEFAULT_UNIT_NS: i64 = 1_000_000_000;

/// Reads a comma list of steps.
///
/// # Errors
/// The step that is none, and what would be one.
pub fn parse_steps(text: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let (mut depth, mut start) = (0_usize, 0);
    for (at, c) in text.char_indices().chain([(text.len(), ',')]) {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 || at == text.len() => {
                steps.push(step(text[start..at].trim())?);
                start = at + 1;
            }
            _ => {}
        }
        if steps.len() > Step::MAX_STEPS {
            return Err(format!("at most {} steps follow each other", Step::MAX_STEPS));
        }
    }
    Ok(steps)
}

fn step(text: &str) -> Result<Step, String> {
    let bad = || format!("{:?} is no function over results: {KNOWN}", shortened(text));
    let (word, arguments) = match text.split_once('(') {
        None => (text, None),
        Some((word, rest)) => (word.trim_end(), Some(rest.strip_suffix(')').ok_or_else(bad)?.trim())),
    };
    let count = || arguments.and_then(|text| text.parse::<u32>().ok()).ok_or_else(bad);
    let none = |step: Step| if arguments.is_none() { Ok(step) } else { Err(bad()) };
    let unit_ns = || match arguments {
        None => Ok(DEFAULT_UNIT_NS),
        Some(text) => parse_span(text).map_err(|error| format!("{word}: {error}")),
    };
    match word {
        "derivative" => Ok(Step::Derivative { unit_ns: unit_ns()?, non_negative: false }),
        "non_negative_derivative" => Ok(Step::Derivative { unit_ns: unit_ns()?, non_negative: true }),
        "difference" => none(Step::Difference { non_negative: false }),
        "non_negative_difference" => none(Step::Difference { non_negative: true }),
        "cumulative_sum" => none(Step::CumulativeSum),
        "moving_average" => count().map(Step::MovingAverage),
        "top" => count().map(Step::Top),
        "bottom" => count().map(Step::Bottom),
        "histogram" => {
            let arguments = arguments.ok_or_else(bad)?;
            if !arguments.contains(',') {
                return count().map(|bins| Step::Histogram(HistogramEdges::Equal(bins)));
            }
            let edges = arguments.split(',').map(|text| text.trim().parse::<f64>().ok());
            edges
                .collect::<Option<Vec<f64>>>()
                .map(HistogramEdges::Given)
                .map(Step::Histogram)
                .ok_or_else(bad)
        }
        _ => Err(bad()),
    }
}

const KNOWN: &str = "use derivative(1h), non_negative_derivative(1h), difference, non_negative_difference, cumulative_sum, \
                     moving_average(5), top(3), bottom(3), histogram(10) or histogram(0,10,50)";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn steps_follow_each_other() {
        assert_eq!(
            parse_steps(
                "derivative, non_negative_derivative(1h) ,cumulative_sum,moving_average(5),top(3),bottom( 2 )"
            ),
            Ok(vec![
                Step::Derivative { unit_ns: 1_000_000_000, non_negative: false },
                Step::Derivative { unit_ns: 3_600_000_000_000, non_negative: true },
                Step::CumulativeSum,
                Step::MovingAverage(5),
                Step::Top(3),
                Step::Bottom(2),
            ])
        );
        let histogram = |text: &str| parse_steps(text).map(|mut steps| steps.pop());
        assert_eq!(
            histogram("difference,histogram(12)"),
            Ok(Some(Step::Histogram(HistogramEdges::Equal(12))))
        );
        let edges = HistogramEdges::Given(vec![-1.0, 0.5, 1e3]);
        assert_eq!(histogram("histogram(-1, 0.5, 1e3)"), Ok(Some(Step::Histogram(edges))));
    }

    #[test]
    fn what_is_no_step_is_told() {
        for text in [
            "",
            "derivate",
            "top",
            "top()",
            "top(-1)",
            "top(3",
            "difference(1)",
            "histogram(a,b)",
            "derivative(1)",
            "top(1),,top(1)",
        ] {
            assert!(parse_steps(text).is_err(), "{text}");
        }
        let many = ["difference"; Step::MAX_STEPS + 1].join(",");
        assert!(parse_steps(&many).unwrap_err().contains("at most 8"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,60}", likely in "(top|derivative|histogram|,|\\(|\\)|[0-9.]){0,12}") {
            let _ = parse_steps(&text);
            let _ = parse_steps(&likely);
        }
    }
}
