//! Answers of ENTSO-E: day-ahead prices (document A44), XML.
//!
//! Curve type A03 leaves out points that equal the one before: they are filled in up to the end of the interval. Where
//! a 15-minute and a 60-minute series tell the same time, the finer one counts; of two auctions the first.

use super::rows::{HOUR_NS, ParseError, Parsed, QUARTER_NS, Row, beginning, per_kwh, timestamp};
use serde::Deserialize;
use std::collections::BTreeMap;
use wattlog_model::{FieldValue, Timestamp};

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "TimeSeries", default)]
    series: Vec<TimeSeries>,
}

#[derive(Deserialize)]
struct TimeSeries {
    #[serde(rename = "classificationSequence_AttributeInstanceComponent.position", default)]
    sequence: u32,
    #[serde(rename = "currency_Unit.name")]
    currency: String,
    #[serde(rename = "price_Measure_Unit.name")]
    unit: String,
    #[serde(rename = "curveType", default)]
    curve: Option<String>,
    #[serde(rename = "Period", default)]
    periods: Vec<Period>,
}

#[derive(Deserialize)]
struct Period {
    #[serde(rename = "timeInterval")]
    interval: Bounds,
    resolution: String,
    #[serde(rename = "Point", default)]
    points: Vec<Point>,
}

#[derive(Deserialize)]
struct Bounds {
    start: String,
    end: String,
}

#[derive(Deserialize)]
struct Point {
    position: i64,
    #[serde(rename = "price.amount")]
    price: f64,
}

#[derive(Deserialize)]
struct Acknowledgement {
    #[serde(rename = "Reason", default)]
    reasons: Vec<Reason>,
}

#[derive(Deserialize)]
struct Reason {
    #[serde(default)]
    code: String,
    #[serde(default)]
    text: String,
}

/// Reads a document; `market_price_eur` in EUR/kWh, or `market_price` in PLN/kWh where the market has that currency.
///
/// An acknowledgement that says "no matching data" is an answer without rows.
/// # Errors
/// If the bytes are no such document, it is an acknowledgement with another reason, currency or unit are others, or it
/// comes to more than [`MAX_ROWS`] rows.
pub fn parse(body: &[u8]) -> Result<Parsed, ParseError> {
    let text = std::str::from_utf8(body).map_err(|_| ParseError("no valid UTF-8".to_owned()))?;
    if text.contains("<Acknowledgement_MarketDocument") {
        return acknowledgement(text);
    }
    if !text.contains("<Publication_MarketDocument") {
        return Err(ParseError(format!("no market document; it begins with {:?}", beginning(body))));
    }
    let document: Document = quick_xml::de::from_str(text)
        .map_err(|error| ParseError(format!("no valid market document: {error}")))?;
    let mut pieces = Vec::new();
    for series in &document.series {
        let field = match (series.currency.as_str(), series.unit.as_str()) {
            ("EUR", "MWH") => "market_price_eur",
            ("PLN", "MWH") => "market_price",
            (currency, unit) => {
                return Err(ParseError(format!(
                    "prices are in {currency} per {unit}, not EUR or PLN per MWH"
                )));
            }
        };
        let fills = series.curve.as_deref().is_none_or(|curve| curve == "A03");
        for period in &series.periods {
            let length_ns = match period.resolution.as_str() {
                "PT15M" => QUARTER_NS,
                "PT60M" | "PT1H" => HOUR_NS,
                other => return Err(ParseError(format!("the resolution is {other:?}, not PT15M or PT60M"))),
            };
            pieces.push((length_ns, series.sequence, field, fills, period));
        }
    }
    // Stable, so that of equals the first in the document counts.
    pieces.sort_by_key(|(length_ns, sequence, ..)| (*length_ns, *sequence));
    let mut taken: BTreeMap<i64, Row> = BTreeMap::new();
    let mut told = 0;
    for (length_ns, _, field, fills, period) in pieces {
        let prices = expand(period, length_ns, fills)?;
        told += prices.len();
        if told > MAX_TOLD {
            return Err(ParseError(format!("more than {MAX_TOLD} periods in all series of one document")));
        }
        for (start, price) in prices {
            let is_told = taken.range(start..start.saturating_add(length_ns)).next().is_some();
            if is_told {
                continue;
            }
            if taken.len() >= MAX_ROWS {
                return Err(ParseError(format!("more than {MAX_ROWS} periods in one document")));
            }
            let fields = vec![(field, FieldValue::Float(price))];
            taken.insert(start, Row { time: Timestamp(start), length_ns, published: None, fields });
        }
    }
    Ok(Parsed { rows: taken.into_values().collect(), ..Parsed::default() })
}

/// Starts and prices per kWh of one interval.
fn expand(period: &Period, length_ns: i64, fills: bool) -> Result<Vec<(i64, f64)>, ParseError> {
    let bound = |text: &str| {
        let told = text.trim().parse::<jiff::Timestamp>().ok().and_then(timestamp);
        told.ok_or_else(|| ParseError(format!("{:?} is no time", beginning(text.as_bytes()))))
    };
    let (start, end) = (bound(&period.interval.start)?.0, bound(&period.interval.end)?.0);
    let count = end.saturating_sub(start) / length_ns;
    let is_whole = end > start && start % length_ns == 0 && end % length_ns == 0 && count <= MAX_ROWS as i64;
    if !is_whole {
        let Bounds { start, end } = &period.interval;
        let text =
            format!("the interval {:?} to {:?}", beginning(start.as_bytes()), beginning(end.as_bytes()));
        return Err(ParseError(format!("{text} is no row of {} periods", period.resolution)));
    }
    let mut prices: BTreeMap<i64, f64> = BTreeMap::new();
    for point in &period.points {
        let fits = (1..=count).contains(&point.position);
        let Some(price) = per_kwh(point.price).filter(|_| fits) else {
            let Point { position, price } = point;
            return Err(ParseError(format!("position {position} of {count} with price {price}")));
        };
        if prices.insert(point.position, price).is_some() {
            return Err(ParseError(format!("position {} stands twice", point.position)));
        }
    }
    let mut out = Vec::new();
    let mut told = prices.iter().peekable();
    while let Some((position, price)) = told.next() {
        let next = told.peek().map_or(count + 1, |(next, _)| **next);
        let last = if fills { next } else { position + 1 };
        out.extend((*position..last).map(|position| (start + (position - 1) * length_ns, *price)));
    }
    Ok(out)
}

fn acknowledgement(text: &str) -> Result<Parsed, ParseError> {
    let document: Acknowledgement = quick_xml::de::from_str(text)
        .map_err(|error| ParseError(format!("no valid acknowledgement: {error}")))?;
    let told = document.reasons.first().map(|reason| (reason.code.as_str(), reason.text.as_str()));
    match told {
        Some((_, reason)) if reason.starts_with("No matching data") => Ok(Parsed::default()),
        Some((code, reason)) => {
            let reason: String = reason.chars().take(200).collect();
            Err(ParseError(format!("ENTSO-E refuses, reason {code:?}: {reason}")))
        }
        None => Err(ParseError("ENTSO-E refuses and gives no reason".to_owned())),
    }
}

/// Most rows of one document: a year of quarters and a month.
pub const MAX_ROWS: usize = 38_000;
/// The same before the finer series and the first auction are chosen: two of each.
const MAX_TOLD: usize = 4 * MAX_ROWS;

#[cfg(test)]
mod tests {
    use super::*;

    fn series(resolution: &str, sequence: u32, points: &[(u32, f64)]) -> String {
        let points: String = points
            .iter()
            .map(|(position, price)| {
                format!("<Point><position>{position}</position><price.amount>{price}</price.amount></Point>")
            })
            .collect();
        format!(
            "<TimeSeries><mRID>1</mRID>\
             <classificationSequence_AttributeInstanceComponent.position>{sequence}</classificationSequence_AttributeInstanceComponent.position>\
             <currency_Unit.name>EUR</currency_Unit.name><price_Measure_Unit.name>MWH</price_Measure_Unit.name>\
             <curveType>A03</curveType><Period><timeInterval><start>2026-03-28T23:00Z</start><end>2026-03-29T01:00Z</end></timeInterval>\
             <resolution>{resolution}</resolution>{points}</Period></TimeSeries>"
        )
    }

    fn document(series: &[String]) -> Vec<u8> {
        format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><Publication_MarketDocument xmlns=\"urn:x\"><mRID>a</mRID>{}</Publication_MarketDocument>",
            series.concat()
        )
        .into_bytes()
    }

    #[test]
    fn points_left_out_are_filled_to_the_end_and_the_finer_series_counts() {
        let body = document(&[
            series("PT60M", 1, &[(1, 50.0), (2, 60.0)]),
            series("PT15M", 2, &[(1, 99.0)]),
            series("PT15M", 1, &[(1, 10.0), (3, -5.0), (4, 7.25)]),
        ]);
        let rows = parse(&body).unwrap().rows;
        let start = 1_774_738_800_000_000_000;
        let told: Vec<(i64, f64)> = rows
            .iter()
            .map(|row| {
                let FieldValue::Float(price) = row.fields[0].1 else { panic!("a price") };
                ((row.time.0 - start) / QUARTER_NS, price)
            })
            .collect();
        let expected =
            [0.01, 0.01, -0.005, 0.00725, 0.00725, 0.00725, 0.00725, 0.00725].into_iter().enumerate();
        assert_eq!(told, expected.map(|(i, price)| (i as i64, price)).collect::<Vec<_>>());
    }

    #[test]
    fn series_that_tell_the_same_year_over_and_over_are_refused() {
        // A short document of many filled years took minutes.
        let year = |points| series("PT15M", 1, points).replace("2026-03-29T01:00Z", "2027-03-28T23:00Z");
        let one = year(&[(1, 1.0)]);
        assert_eq!(parse(&document(&vec![one.clone(); 4])).unwrap().rows.len(), 365 * 96);
        let error = parse(&document(&vec![one; 5])).unwrap_err().to_string();
        assert!(error.contains("in all series"), "{error}");
    }

    #[test]
    fn no_data_is_an_answer_and_other_refusals_are_errors() {
        let body = |text: &str| {
            format!(
                "<Acknowledgement_MarketDocument xmlns=\"u\"><mRID>1</mRID><Reason><code>999</code><text>{text}</text></Reason></Acknowledgement_MarketDocument>"
            )
        };
        assert_eq!(parse(body("No matching data found for x").as_bytes()), Ok(Parsed::default()));
        let error = parse(body("Too many requests").as_bytes()).unwrap_err().to_string();
        assert!(error.contains("999") && error.contains("Too many requests"), "{error}");
        for points in [&[(0, 1.0)][..], &[(9, 1.0)], &[(1, 1.0), (1, 2.0)], &[(1, 1e9)]] {
            assert!(parse(&document(&[series("PT15M", 1, points)])).is_err(), "{points:?}");
        }
        assert!(parse(&document(&[series("P1Y", 1, &[])])).is_err());
    }
}
