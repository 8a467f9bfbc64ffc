//! Parameters of the query routes: a URL's query part in, a request of the engine out.
//!
//! Promise: every parameter is understood or refused by its name; nothing is guessed.

use super::answer::{AnswerFormat, TimeFormat};
use super::condition::parse_condition;
use super::drawing::{GRID_BUCKETS, grid};
use super::expression::parse_expression;
use super::query_string::pairs;
use super::steps::parse_steps;
use super::time::{parse_every, parse_query_time, parse_signed_span, parse_span};
use crate::text::shortened;
use wattlog_engine::DeleteRequest;
use wattlog_engine::query::{
    Aggregate, Computed, Fill, GroupBy, OnDamage, Order, OutputUnit, PriceSource, QueryRequest, Shape,
    TagFilter, TagPredicate, Zone,
};
use wattlog_model::Timestamp;

/// What was asked and how it is to be answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameters {
    /// For the engine.
    pub request: QueryRequest,
    /// How times are written.
    pub time_format: TimeFormat,
    /// How the answer is written.
    pub format: AnswerFormat,
    /// Whether it is to be drawn, so that it will be asked for again: it gets an entity tag.
    pub is_drawn: bool,
    /// Tell what would be read instead of reading it.
    pub explain: bool,
    /// What an export does about rows that cannot be read.
    pub on_damage: OnDamage,
}

/// Which route asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// `/api/v1/query`.
    Query,
    /// `/api/v1/last`: newest values, no range and no functions.
    Last,
    /// `/api/v1/export`: rows as they are, oldest first, all of a range.
    Export,
}

const EXPORT_ONLY: &[&str] = &["start", "end", "group_by", "damaged"];

const QUERY_ONLY: &[&str] = &[
    "start",
    "end",
    "every",
    "offset",
    "fill",
    "gap",
    "unit",
    "fn",
    "then",
    "price.field",
    "price.measurement",
    "price.max_age",
    "pixels",
    "shape",
    "buckets",
    "group_by",
    "order",
    "limit",
    "explain",
];

/// Reads the parameters. `now` is the time of the request; buckets are those of `home_zone` unless another is named.
pub fn parse(
    query: &str,
    route: Route,
    default_database: &str,
    home_zone: &Zone,
    now: Timestamp,
) -> Result<Parameters, String> {
    let mut single: Vec<(String, String)> = Vec::new();
    let mut tags: Vec<TagFilter> = Vec::new();
    let mut price_tags: Vec<TagFilter> = Vec::new();
    let (mut expressions, mut names) = (Vec::new(), Vec::new());
    for (name, value) in pairs(query)? {
        if let Some(key) = name.strip_prefix("tag.") {
            add_filter(&mut tags, key, value)?;
            continue;
        }
        if let Some(key) = name.strip_prefix("price.tag.").filter(|_| route == Route::Query) {
            add_filter(&mut price_tags, key, value)?;
            continue;
        }
        // These may stand several times: the first name is that of the first expression.
        match &*name {
            "expr" => {
                expressions.push(value);
                continue;
            }
            "as" => {
                names.push(value);
                continue;
            }
            _ => {}
        }
        let known = matches!(
            &*name,
            "db" | "rp" | "measurement" | "fields" | "where" | "tz" | "time_format" | "format"
        ) || match route {
            Route::Query => QUERY_ONLY.contains(&&*name),
            Route::Export => EXPORT_ONLY.contains(&&*name),
            Route::Last => false,
        };
        if !known {
            return Err(format!(
                "unknown parameter {:?}; docs/api.md lists what this route takes",
                shortened(&name)
            ));
        }
        if single.iter().any(|(n, _)| *n == name) {
            return Err(format!("parameter {name:?} stands more than once"));
        }
        single.push((name, value));
    }
    let get = |name: &str| {
        single.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    };
    let measurement = get("measurement").ok_or("parameter \"measurement\" is required")?.to_owned();
    let (start, end) = match route {
        Route::Query | Route::Export => {
            let time = |name: &str| {
                get(name).map(|text| parse_query_time(text, now).map_err(|e| format!("{name}: {e}")))
            };
            let start = time("start").ok_or("parameter \"start\" is required, for one start=-24h")??;
            (start, time("end").unwrap_or(Ok(now))?)
        }
        Route::Last => (Timestamp::MIN, Timestamp(i64::MAX)),
    };
    let zone = match get("tz") {
        None => None,
        Some(name) => Some(Zone::named(name).ok_or_else(|| {
            format!("tz: {:?} is no IANA time zone: write one like Europe/Warsaw", shortened(name))
        })?),
    };
    let bucket_zone = zone.as_ref().unwrap_or(home_zone);
    let drawn = drawn(&get, start, end, bucket_zone)?;
    let is_drawn = drawn.is_some();
    let (mut shape, start, end) = match (drawn, route) {
        (Some(drawn), _) => drawn,
        (None, Route::Query | Route::Export) => (shape(&get, bucket_zone)?, start, end),
        (None, Route::Last) => (Shape::Last, start, end),
    };
    let price = price(&get, &measurement, price_tags)?;
    match &mut shape {
        Shape::Aggregate(aggregate) => aggregate.price = price,
        _ if price.is_some() => return Err("price.field needs fn=cost or fn=priced".to_owned()),
        _ => {}
    }
    let request = QueryRequest {
        database: get("db").unwrap_or(default_database).to_owned(),
        retention_policy: get("rp").map(str::to_owned),
        measurement,
        fields: get("fields").map(list).transpose()?,
        computed: computed(expressions, names)?,
        start,
        end,
        tags,
        condition: get("where")
            .map(|text| parse_condition(text).map_err(|e| format!("where: {e}")))
            .transpose()?,
        shape,
        steps: match get("then") {
            None => Vec::new(),
            Some(text) => parse_steps(text).map_err(|e| format!("then: {e}"))?,
        },
        group_by: match get("group_by") {
            None => GroupBy::Default,
            Some("*") => GroupBy::All,
            Some(keys) => GroupBy::Keys(list(keys)?),
        },
        order: match get("order") {
            None | Some("asc") => Order::Ascending,
            Some("desc") => Order::Descending,
            Some(other) => return Err(format!("order: {:?} is neither asc nor desc", shortened(other))),
        },
        limit: get("limit").map(limit).transpose()?,
    };
    let time_format = match get("time_format") {
        None | Some("ms") => TimeFormat::Milliseconds,
        Some("ns") => TimeFormat::Nanoseconds,
        Some("rfc3339") => zone.map_or(TimeFormat::Rfc3339, TimeFormat::Local),
        Some(other) => return Err(format!("time_format: {:?} is none of ms, ns, rfc3339", shortened(other))),
    };
    let format = match get("format") {
        Some("csv") => AnswerFormat::Csv,
        None if route == Route::Export => AnswerFormat::Csv,
        Some("ndjson") => AnswerFormat::Ndjson,
        None | Some("json") => AnswerFormat::Json,
        Some(other) => return Err(format!("format: {:?} is none of json, csv, ndjson", shortened(other))),
    };
    let explain = match get("explain") {
        None | Some("0") => false,
        Some("1") => true,
        Some(other) => return Err(format!("explain: {:?} is neither 0 nor 1", shortened(other))),
    };
    let on_damage = match get("damaged") {
        None | Some("stop") => OnDamage::Stop,
        Some("skip") => OnDamage::LeaveOut,
        Some(other) => return Err(format!("damaged: {:?} is neither stop nor skip", shortened(other))),
    };
    Ok(Parameters { request, time_format, format, is_drawn, explain, on_damage })
}

/// The price series, if its field is named.
fn price<'a>(
    get: &impl Fn(&str) -> Option<&'a str>,
    measurement: &str,
    tags: Vec<TagFilter>,
) -> Result<Option<PriceSource>, String> {
    let Some(field) = get("price.field") else {
        let other = ["price.measurement", "price.max_age"].into_iter().find(|name| get(name).is_some());
        return match other.or((!tags.is_empty()).then_some("price.tag")) {
            Some(name) => Err(format!("{name} needs price.field")),
            None => Ok(None),
        };
    };
    let max_age_ns =
        get("price.max_age").map(|text| parse_span(text).map_err(|e| format!("price.max_age: {e}")));
    Ok(Some(PriceSource {
        measurement: get("price.measurement").unwrap_or(measurement).to_owned(),
        field: field.to_owned(),
        tags,
        max_age_ns: max_age_ns.transpose()?.unwrap_or(PriceSource::DEFAULT_MAX_AGE_NS),
    }))
}

/// Computed columns; one without a name is named by its expression.
fn computed(expressions: Vec<String>, names: Vec<String>) -> Result<Vec<Computed>, String> {
    if names.len() > expressions.len() {
        return Err("as: each name belongs to an expr, there are more names".to_owned());
    }
    let names = names.into_iter().map(Some).chain(std::iter::repeat(None));
    let parsed = expressions.into_iter().zip(names).map(|(text, name)| {
        let expression = parse_expression(&text).map_err(|e| format!("expr: {e}"))?;
        Ok(Computed { name: name.filter(|name| !name.is_empty()).unwrap_or(text), expression })
    });
    parsed.collect()
}

const DELETE_TAKES: &[&str] = &["db", "rp", "measurement", "fields", "start", "end"];

/// Reads the parameters of a delete. Its range is never guessed: both ends must be named.
pub fn parse_delete(query: &str, default_database: &str, now: Timestamp) -> Result<DeleteRequest, String> {
    let mut single: Vec<(String, String)> = Vec::new();
    let mut tags: Vec<TagFilter> = Vec::new();
    for (name, value) in pairs(query)? {
        if let Some(key) = name.strip_prefix("tag.") {
            add_filter(&mut tags, key, value)?;
        } else if !DELETE_TAKES.contains(&&*name) {
            let takes = DELETE_TAKES.join(", ");
            return Err(format!(
                "unknown parameter {:?}: this route takes {takes}, tag.KEY",
                shortened(&name)
            ));
        } else if single.iter().any(|(n, _)| *n == name) {
            return Err(format!("parameter {name:?} stands more than once"));
        } else {
            single.push((name, value));
        }
    }
    let get = |name: &str| {
        single.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    };
    let time = |name: &str| {
        let text = get(name).ok_or_else(|| format!("parameter {name:?} is required"))?;
        parse_query_time(text, now).map_err(|e| format!("{name}: {e}"))
    };
    let measurement = get("measurement").ok_or("parameter \"measurement\" is required")?;
    if let Some((name, _)) = single.iter().find(|(_, value)| value.is_empty()) {
        // Left empty by mistake, "fields" would mean all of them.
        return Err(format!("parameter {name:?} is empty: leave it out or name something"));
    }
    Ok(DeleteRequest {
        database: get("db").unwrap_or(default_database).to_owned(),
        retention_policy: get("rp").map(str::to_owned),
        measurement: Some(measurement.to_owned()),
        fields: get("fields").map(list).transpose()?,
        tags,
        start: time("start")?,
        end: time("end")?,
    })
}

/// No drawing is wider.
const MAX_PIXELS: u32 = 100_000;

/// The shape and the range of what is asked for to be drawn.
fn drawn<'a>(
    get: &impl Fn(&str) -> Option<&'a str>,
    start: Timestamp,
    end: Timestamp,
    zone: &Zone,
) -> Result<Option<(Shape, Timestamp, Timestamp)>, String> {
    let pixels = get("pixels").map(|text| {
        let number = text.parse::<u32>().ok().filter(|n| (1..=MAX_PIXELS).contains(n));
        number
            .ok_or_else(|| format!("pixels: {:?} is no whole number from 1 to {MAX_PIXELS}", shortened(text)))
    });
    let name = match (pixels.is_some(), get("shape")) {
        (false, None) => {
            return match get("buckets") {
                Some(_) => Err("buckets needs shape=grid; the length of buckets is every".to_owned()),
                None => Ok(None),
            };
        }
        (true, None) => "pixels",
        (false, Some("grid")) => "shape=grid",
        (true, Some(_)) => return Err("pixels and shape exclude each other".to_owned()),
        (false, Some(other)) => return Err(format!("shape: {:?} is not grid", shortened(other))),
    };
    let own = ["every", "offset", "fill", "fn", "gap", "unit", "then", "price.field"]
        .into_iter()
        .find(|name| get(name).is_some());
    if let Some(own) = own {
        return Err(format!("{name} and {own} exclude each other: {name} chooses by itself"));
    }
    if let Some(pixels) = pixels {
        return match get("buckets") {
            Some(_) => Err("buckets needs shape=grid".to_owned()),
            None => Ok(Some((Shape::Pixels(pixels?), start, end))),
        };
    }
    let buckets = get("buckets").ok_or("shape=grid needs buckets: the most rows that are wanted")?;
    let most = buckets.parse::<u32>().ok().filter(|most| GRID_BUCKETS.contains(most)).ok_or_else(|| {
        let (least, most) = (GRID_BUCKETS.start(), GRID_BUCKETS.end());
        format!("buckets: {:?} is no whole number from {least} to {most}", shortened(buckets))
    })?;
    let grid = grid(start, end, most, zone);
    grid.map(Some).ok_or_else(|| "shape=grid: the range is empty, or too long for so few buckets".to_owned())
}

fn shape<'a>(get: &impl Fn(&str) -> Option<&'a str>, zone: &Zone) -> Result<Shape, String> {
    let parsed = |name: &str, parse: fn(&str) -> Result<i64, String>| {
        get(name).map(|text| parse(text).map_err(|e| format!("{name}: {e}"))).transpose()
    };
    let every = get("every").map(|text| parse_every(text).map_err(|e| format!("every: {e}"))).transpose()?;
    let offset = parsed("offset", parse_signed_span)?;
    let fill = get("fill").map(fill).transpose()?;
    let gap = parsed("gap", parse_span)?;
    let unit = get("unit").map(unit).transpose()?;
    if every.is_none() && (offset.is_some() || fill.is_some()) {
        let name = if offset.is_some() { "offset" } else { "fill" };
        return Err(format!("{name} needs every: without it there is one bucket, the whole range"));
    }
    let functions = get("fn");
    let Some(functions) = functions else {
        if let Some(name) = ["gap", "unit"].into_iter().find(|name| get(name).is_some()) {
            return Err(format!("{name} needs fn: it speaks of integrals, rates and coverage"));
        }
        return match every {
            None => Ok(Shape::Raw),
            Some(_) => Err("every needs fn: name at least one function, as in fn=mean".to_owned()),
        };
    };
    let mut parsed = Vec::new();
    for name in list(functions)? {
        let function =
            name.parse().map_err(|e: wattlog_engine::query::UnknownFunction| format!("fn: {e}"))?;
        if !parsed.contains(&function) {
            parsed.push(function);
        }
    }
    Ok(Shape::Aggregate(Aggregate {
        functions: parsed,
        every,
        offset_ns: offset.unwrap_or(0),
        zone: zone.clone(),
        fill: fill.unwrap_or_default(),
        max_gap_ns: gap.unwrap_or(Aggregate::DEFAULT_MAX_GAP_NS),
        unit: unit.unwrap_or_default(),
        price: None,
    }))
}

fn unit(text: &str) -> Result<OutputUnit, String> {
    Ok(match text {
        "s" => OutputUnit::Second,
        "m" => OutputUnit::Minute,
        "h" => OutputUnit::Hour,
        "d" => OutputUnit::Day,
        "Wh" => OutputUnit::WattHour,
        "kWh" => OutputUnit::KilowattHour,
        "MWh" => OutputUnit::MegawattHour,
        other => return Err(format!("unit: {:?} is none of s, m, h, d, Wh, kWh, MWh", shortened(other))),
    })
}

fn fill(text: &str) -> Result<Fill, String> {
    Ok(match text {
        "none" => Fill::None,
        "null" => Fill::Null,
        "previous" => Fill::Previous,
        "linear" => Fill::Linear,
        number => match number.parse::<f64>().ok().filter(|number| number.is_finite()) {
            Some(number) => Fill::Number(number),
            None => {
                return Err(format!(
                    "fill: {:?} is none of none, null, previous, linear and no number",
                    shortened(text)
                ));
            }
        },
    })
}

/// A comma list; blanks around the names do not count, empty names are refused.
fn list(text: &str) -> Result<Vec<String>, String> {
    let mut names: Vec<String> = Vec::new();
    for name in text.split(',').map(str::trim) {
        if name.is_empty() {
            return Err(format!("{:?} has an empty name in its list", shortened(text)));
        }
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

fn limit(text: &str) -> Result<usize, String> {
    let number = text.parse::<usize>().ok().filter(|n| *n > 0);
    number.ok_or_else(|| format!("limit: {:?} is no whole number above zero", shortened(text)))
}

/// `VALUE` and `=VALUE` are "one of", `!VALUE` "none of", `~REGEX` and `!~REGEX` match or do not. Values of one key join.
/// Takes a condition on a tag as `tag.KEY` writes it; several of one key that ask for a value mean any of them.
pub fn add_filter(filters: &mut Vec<TagFilter>, key: &str, value: String) -> Result<(), String> {
    if key.is_empty() {
        return Err("a tag filter is written tag.KEY=VALUE".to_owned());
    }
    let predicate = if let Some(regex) = value.strip_prefix("!~") {
        TagPredicate::NotMatches(regex.to_owned())
    } else if let Some(regex) = value.strip_prefix('~') {
        TagPredicate::Matches(regex.to_owned())
    } else if let Some(other) = value.strip_prefix('!') {
        TagPredicate::NotIn(vec![other.to_owned()])
    } else {
        let plain = value.strip_prefix('=').unwrap_or(&value);
        TagPredicate::In(vec![plain.to_owned()])
    };
    for filter in filters.iter_mut().filter(|filter| filter.key == key) {
        match (&mut filter.predicate, &predicate) {
            (TagPredicate::In(known), TagPredicate::In(new))
            | (TagPredicate::NotIn(known), TagPredicate::NotIn(new)) => {
                known.extend_from_slice(new);
                return Ok(());
            }
            _ => {}
        }
    }
    filters.push(TagFilter { key: key.to_owned(), predicate });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;
    use wattlog_engine::query::{Every, Function};

    const NOW: Timestamp = Timestamp(1_772_359_200_000_000_000);

    fn parse(query: &str) -> Result<Parameters, String> {
        super::parse(query, Route::Query, "wattlog", &Zone::UTC, NOW)
    }

    #[test]
    fn the_least_and_the_most() {
        let least = parse("measurement=m&start=-24h").unwrap();
        let expected = QueryRequest::raw("wattlog", "m", Timestamp(NOW.0 - Timestamp::DAY_NS), NOW);
        assert_eq!(least.request, expected);
        assert_eq!((least.time_format, least.format), (TimeFormat::Milliseconds, AnswerFormat::Json));
        let most = parse(
            "db=d&rp=r&measurement=energy%20data&fields=a,%20b&start=0s&end=now&tag.device_id=x&tag.device_id=y\
             &tag.site=!z&tag.site=~%5Es&tag.site=!~q&every=15m&fn=mean,max,mean&group_by=*&order=desc&limit=5\
             &time_format=rfc3339&format=csv",
        )
        .unwrap();
        let filter = |key: &str, predicate| TagFilter { key: key.into(), predicate };
        assert_eq!(
            most.request.tags,
            [
                filter("device_id", TagPredicate::In(vec!["x".into(), "y".into()])),
                filter("site", TagPredicate::NotIn(vec!["z".into()])),
                filter("site", TagPredicate::Matches("^s".into())),
                filter("site", TagPredicate::NotMatches("q".into())),
            ]
        );
        let functions = vec![Function::Mean, Function::Max];
        assert_eq!(most.request.shape, Shape::aggregate(functions, Some(Duration::from_secs(900))));
        assert_eq!(most.request.fields, Some(vec!["a".into(), "b".into()]));
        assert_eq!((most.request.group_by, most.request.limit), (GroupBy::All, Some(5)));
        assert_eq!(most.request.measurement, "energy data");
    }

    #[test]
    fn buckets_are_those_of_the_home_zone_unless_another_is_named() {
        let warsaw = Zone::named("Europe/Warsaw").unwrap();
        let zone_of = |tz: &str| {
            let query =
                format!("measurement=m&start=-7d&every=1mo&offset=-6h&fn=sum&time_format=rfc3339{tz}");
            let parsed = super::parse(&query, Route::Query, "w", &warsaw, NOW).unwrap();
            let Shape::Aggregate(aggregate) = parsed.request.shape else {
                panic!("functions were asked for")
            };
            assert_eq!((aggregate.every, aggregate.offset_ns), (Some(Every::Months(1)), -21_600_000_000_000));
            (aggregate.zone, parsed.time_format)
        };
        // Times are written in UTC unless a zone is asked for by name.
        assert_eq!(zone_of(""), (warsaw.clone(), TimeFormat::Rfc3339));
        let kolkata = Zone::named("Asia/Kolkata").unwrap();
        assert_eq!(zone_of("&tz=asia/kolkata"), (kolkata.clone(), TimeFormat::Local(kolkata)));
    }

    #[test]
    fn fills_are_words_or_numbers() {
        let filled = |text: &str| {
            let parsed = parse(&format!("measurement=m&start=-1h&every=1m&fn=mean&fill={text}")).unwrap();
            let Shape::Aggregate(aggregate) = parsed.request.shape else {
                panic!("functions were asked for")
            };
            aggregate.fill
        };
        assert_eq!(filled("none"), Fill::None);
        assert_eq!(filled("null"), Fill::Null);
        assert_eq!(filled("previous"), Fill::Previous);
        assert_eq!(filled("linear"), Fill::Linear);
        assert_eq!(filled("-1.5"), Fill::Number(-1.5));
    }

    #[test]
    fn functions_have_names_that_columns_bear() {
        let named = |text: &str| {
            let parsed = parse(&format!("measurement=m&start=-1h&unit=kWh&gap=5m&fn={text}")).unwrap();
            let Shape::Aggregate(aggregate) = parsed.request.shape else {
                panic!("functions were asked for")
            };
            assert_eq!((aggregate.max_gap_ns, aggregate.unit), (300_000_000_000, OutputUnit::KilowattHour));
            aggregate.functions.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        };
        let all = Function::ALL.map(|function| function.to_string()).join(",");
        assert_eq!(named(&all), all);
        assert_eq!(
            named("quantile(0.95),p95,p99.9,p0,p100,quantile(0.123456)"),
            "p95,p99.9,p0,p100,p12.3456"
        );
        for text in
            ["p", "p-1", "p100.1", "p1.23456", "quantile()", "quantile(1.5)", "quantile(0.5", "pp5", "p1e1"]
        {
            assert!(parse(&format!("measurement=m&start=-1h&fn={text}")).is_err(), "{text}");
        }
    }

    #[test]
    fn a_value_that_looks_like_an_operator_is_written_with_an_equals_sign() {
        let tags = parse("measurement=m&start=now&tag.k==~x&tag.k===y").unwrap().request.tags;
        assert_eq!(tags[0].predicate, TagPredicate::In(vec!["~x".into(), "=y".into()]));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (query, text) in [
            ("start=-1h", "\"measurement\" is required"),
            ("measurement=m", "\"start\" is required"),
            ("measurement=m&start=yesterday", "start: \"yesterday\" is no time"),
            ("measurement=m&start=-1h&end=later", "end: \"later\" is no time"),
            ("measurement=m&start=-1h&filed=x", "unknown parameter \"filed\""),
            ("measurement=m&start=-1h&start=-2h", "\"start\" stands more than once"),
            ("measurement=m&start=-1h&every=15m", "every needs fn"),
            ("measurement=m&start=-1h&every=quarter&fn=mean", "every: \"quarter\" is no length"),
            ("measurement=m&start=-1h&offset=1h&fn=mean", "offset needs every"),
            ("measurement=m&start=-1h&gap=1h", "gap needs fn"),
            ("measurement=m&start=-1h&unit=kWh&fn=integral&gap=0s", "gap: \"0s\" is no span"),
            ("measurement=m&start=-1h&unit=J&fn=integral", "unit: \"J\" is none of"),
            ("measurement=m&start=-1h&fn=p101", "unknown function \"p101\""),
            ("measurement=m&start=-1h&fn=quantile(0.1234567)", "unknown function"),
            ("measurement=m&start=-1h&fill=0&fn=mean", "fill needs every"),
            ("measurement=m&start=-1h&every=1h&fill=inf&fn=mean", "fill: \"inf\" is none of"),
            ("measurement=m&start=-1h&every=1h&fill=zero&fn=mean", "fill: \"zero\" is none of"),
            ("measurement=m&start=-1h&every=1d&offset=noon&fn=mean", "offset: \"noon\" is no span"),
            ("measurement=m&start=-1h&tz=Mars/Olympus", "tz: \"Mars/Olympus\" is no IANA time zone"),
            ("measurement=m&start=-1h&fn=average", "unknown function \"average\""),
            ("measurement=m&start=-1h&fields=a,,b", "empty name"),
            ("measurement=m&start=-1h&limit=0", "limit: \"0\""),
            ("measurement=m&start=-1h&order=up", "order: \"up\""),
            ("measurement=m&start=-1h&expr=a-", "expr: at character 3: a field, a number or ( expected"),
            ("measurement=m&start=-1h&expr=a&as=b&as=c", "as: each name belongs to an expr"),
            ("measurement=m&start=-1h&price.field=p", "price.field needs fn=cost"),
            ("measurement=m&start=-1h&fn=cost&price.measurement=p", "price.measurement needs price.field"),
            ("measurement=m&start=-1h&fn=cost&price.tag.k=p", "price.tag needs price.field"),
            ("measurement=m&start=-1h&fn=cost&price.field=p&price.max_age=x", "price.max_age: "),
            ("measurement=m&start=-1h&then=top", "then: \"top\" is no function over results"),
            ("measurement=m&start=-1h&explain=yes", "explain: \"yes\""),
            ("measurement=m&start=-1h&format=xml", "format: \"xml\""),
            ("measurement=m&start=-1h&tag.=x", "tag.KEY=VALUE"),
            ("measurement=m&start=-1h&pixels=0", "pixels: \"0\""),
            ("measurement=m&start=-1h&pixels=9&fn=mean", "pixels and fn exclude"),
            ("measurement=m&start=-1h&pixels=9&shape=grid", "pixels and shape exclude"),
            ("measurement=m&start=-1h&buckets=9", "buckets needs shape=grid"),
            ("measurement=m&start=-1h&shape=grid", "needs buckets"),
            ("measurement=m&start=-1h&shape=tile", "shape: \"tile\" is not grid"),
            ("measurement=m&start=-1h&shape=grid&buckets=3", "from 4 to 10000"),
            ("measurement=m&start=-1h&shape=grid&buckets=9&every=1h", "shape=grid and every exclude"),
            ("measurement=m&start=-1h&where=soc%3C", "where: at character 5: a value expected"),
        ] {
            let error = parse(query).unwrap_err();
            assert!(error.contains(text), "{query}: {error}");
        }
        let error = super::parse("measurement=m&start=-1h", Route::Last, "w", &Zone::UTC, NOW).unwrap_err();
        assert!(error.contains("unknown parameter \"start\""));
    }

    #[test]
    fn expressions_are_named_in_their_order() {
        let names = |query: &str| {
            let computed = parse(&format!("measurement=m&start=-1h&{query}")).unwrap().request.computed;
            computed.into_iter().map(|column| column.name).collect::<Vec<_>>()
        };
        assert_eq!(names("expr=a-b&as=c&as=d&expr=a*2"), ["c", "d"]);
        assert_eq!(names("expr=a+-+b&expr=2*a"), ["a - b", "2*a"]);
    }

    proptest! {
        #[test]
        fn any_query_text_is_taken_or_refused(query in "[ -~]{0,80}", tail in "(measurement=[a-z%0-9&=.+-]{0,30})?") {
            let _ = parse(&format!("{tail}&{query}"));
            let _ = super::parse(&query, Route::Last, "w", &Zone::UTC, NOW);
        }
    }
}
