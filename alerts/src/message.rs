//! Texts for people: what happened, since when, against which threshold, what to look at.
//!
//! Times are those of the clock at home, with its offset, so that a message read elsewhere is clear too.

use crate::definition::Definition;
use jiff::tz::TimeZone;
use wattlog_analytics::alert::{
    Condition, Input, PhaseName, PriceFigure, QualityFigure, StorageFigure, Transition,
};
use wattlog_ledger::schema::AlertRule;
use wattlog_model::Timestamp;

/// A title of one line, and a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) title: String,
    pub(crate) text: String,
}

/// What a transition says.
pub(crate) fn of_transition(
    rule: &AlertRule,
    definition: &Definition,
    transition: &Transition,
    unit: Option<&str>,
    zone: &TimeZone,
) -> Message {
    let unit = unit_of(definition, unit);
    let since = local(transition.episode, zone);
    let at = local(transition.time, zone);
    let condition = condition(definition, &unit);
    let lasted = span(transition.time.0.saturating_sub(transition.episode.0));
    let mut text = match transition.to {
        PhaseName::Pending => {
            format!("{condition} since {since}; it fires if that lasts {}.", span(definition.hold_ns))
        }
        PhaseName::Firing if definition.hold_ns > 0 => {
            format!("{condition} since {since}, for {} now.", span(definition.hold_ns))
        }
        PhaseName::Firing => format!("{condition} since {since}."),
        PhaseName::Resolved => format!("Over at {at}, after {lasted}: {condition} since {since}."),
        PhaseName::Ok => format!("Over at {at}, before it fired: {condition} since {since}."),
    };
    if let (Some(value), false) = (transition.value, matches!(definition.condition, Condition::Absent { .. }))
    {
        text.push_str(&format!(" Value: {}{}.", number(value), per_hour(definition, &unit)));
    }
    text.push_str(&format!(" Look at: {}.", what(definition)));
    if !rule.note.trim().is_empty() {
        text.push_str(&format!(" {}", rule.note.trim()));
    }
    Message { title: title(&rule.name, transition.to), text: storable(&text) }
}

/// Without control characters but line breaks, and no longer than people read: names and notes come from outside, and an event that
/// cannot be stored would never be told.
fn storable(text: &str) -> String {
    const MAX_CHARS: usize = 4_000;
    let plain = |c: char| if c.is_control() && c != '\n' { ' ' } else { c };
    text.chars().map(plain).take(MAX_CHARS).collect()
}

/// What is said when an episode ends because the rule does.
pub(crate) fn of_end(rule_name: &str, episode: Timestamp, reason: &str, zone: &TimeZone) -> Message {
    Message {
        title: title(rule_name, PhaseName::Resolved),
        text: format!(
            "Over because {reason}; it was true since {}. Nothing is known of the condition itself.",
            local(episode, zone)
        ),
    }
}

fn title(name: &str, to: PhaseName) -> String {
    match to {
        PhaseName::Pending => format!("{name}: pending"),
        PhaseName::Firing => format!("{name}: firing"),
        PhaseName::Resolved => format!("{name}: resolved"),
        PhaseName::Ok => format!("{name}: no longer pending"),
    }
}

/// The instant on the clock of `zone`.
pub(crate) fn local(at: Timestamp, zone: &TimeZone) -> String {
    // Every i64 of nanoseconds is an instant of jiff.
    let instant = jiff::Timestamp::from_nanosecond(i128::from(at.0)).unwrap_or_default();
    jiff::ZonedDateTime::new(instant, zone.clone()).strftime("%Y-%m-%d %H:%M:%S (%:z)").to_string()
}

fn condition(definition: &Definition, unit: &str) -> String {
    let what = subject(&definition.input);
    match definition.condition {
        Condition::Above { fire, .. } => format!("{what} is at or above {}{unit}", number(fire)),
        Condition::Below { fire, .. } => format!("{what} is at or below {}{unit}", number(fire)),
        Condition::Absent { longer_than_ns } => {
            format!("{what} has had no value for longer than {}", span(longer_than_ns))
        }
        Condition::Rising { fire, over_ns, .. } => {
            format!("{what} rises by at least {}{unit} an hour over {}", number(fire), span(over_ns))
        }
        Condition::Falling { fire, over_ns, .. } => {
            format!("{what} falls by at least {}{unit} an hour over {}", number(fire), span(over_ns))
        }
    }
}

fn subject(input: &Input) -> String {
    match input {
        Input::Field { field, .. } => field.clone(),
        Input::Quality { field, figure, .. } => {
            let figure = match figure {
                QualityFigure::Completeness => "completeness",
                QualityFigure::Accuracy => "accuracy",
                QualityFigure::Score => "quality",
            };
            format!("the {figure} of {field}")
        }
        Input::Storage { figure: StorageFigure::FreeBytes } => {
            "free room on the disk of the store".to_owned()
        }
        Input::Storage { figure: StorageFigure::FreeShare } => {
            "free share of the disk of the store".to_owned()
        }
        Input::Storage { figure: StorageFigure::StoreBytes } => "size of the store".to_owned(),
        Input::Price { figure: PriceFigure::Total } => "price of energy from the grid".to_owned(),
        Input::Price { figure: PriceFigure::Market } => "market price".to_owned(),
        Input::Price { figure: PriceFigure::Export } => "price of energy to the grid".to_owned(),
    }
}

fn what(definition: &Definition) -> String {
    match &definition.input {
        Input::Field { measurement, tags, field } | Input::Quality { measurement, tags, field, .. } => {
            let tags: String = tags.iter().map(|(key, value)| format!(", {key}={value}")).collect();
            format!("measurement {measurement}{tags}, field {field}")
        }
        Input::Storage { .. } => "the data folder (wattlog health)".to_owned(),
        Input::Price { .. } => "the prices of today".to_owned(),
    }
}

/// The unit with a space before it; empty if there is none.
fn unit_of(definition: &Definition, unit: Option<&str>) -> String {
    let known = match definition.input {
        Input::Field { .. } => unit.unwrap_or(""),
        Input::Storage { figure: StorageFigure::FreeBytes | StorageFigure::StoreBytes } => "B",
        Input::Price { .. } => "PLN/kWh",
        Input::Storage { .. } | Input::Quality { .. } => "",
    };
    if known.is_empty() { String::new() } else { format!(" {known}") }
}

fn per_hour(definition: &Definition, unit: &str) -> String {
    match definition.condition {
        Condition::Rising { .. } | Condition::Falling { .. } => format!("{unit} an hour"),
        _ => unit.to_owned(),
    }
}

/// Six digits, without the zeros at the end.
fn number(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let whole_digits = value.abs().log10().floor().clamp(-30.0, 30.0) as i32 + 1;
    let decimals = (6 - whole_digits).clamp(0, 20) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// As in `2 d 3 h`: the two largest units that are not 0.
fn span(ns: i64) -> String {
    let seconds = ns.max(0) / 1_000_000_000;
    let units = [("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)];
    let mut left = seconds;
    let mut parts = Vec::new();
    for (name, size) in units {
        let count = left / size;
        left %= size;
        if count > 0 {
            parts.push(format!("{count} {name}"));
        }
    }
    parts.truncate(2);
    if parts.is_empty() { "0 s".to_owned() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use wattlog_ledger::schema::Severity;

    fn warsaw() -> TimeZone {
        jiff::tz::TimeZoneDatabase::bundled().get("Europe/Warsaw").unwrap()
    }

    fn said(definition: serde_json::Value, to: PhaseName, value: Option<f64>, unit: Option<&str>) -> Message {
        let rule = AlertRule {
            name: "Battery low".to_owned(),
            severity: Severity::Warning,
            enabled: true,
            definition: definition.clone(),
            channels: Vec::new(),
            note: "Charge it.".to_owned(),
        };
        let start = Timestamp(1_774_746_000_000_000_000); // 2026-03-29T01:00:00Z, the change to summer time
        let time = Timestamp(start.0 + 3_720_000_000_000);
        let transition = Transition { rule: "1-1".to_owned(), episode: start, to, time, value };
        of_transition(&rule, &Definition::read(&definition).unwrap(), &transition, unit, &warsaw())
    }

    #[test]
    fn a_message_tells_value_threshold_since_when_and_what_to_look_at() {
        let input = json!({"field": {"measurement": "energy_data", "tags": {"device_id": "roof"}, "field": "battery_soc"}});
        let soc = json!({"input": input, "condition": {"below": {"fire": 10, "clear": 15}}, "hold_ns": 300_000_000_000_i64});
        let firing = said(soc.clone(), PhaseName::Firing, Some(9.5), Some("%"));
        assert_eq!(firing.title, "Battery low: firing");
        assert_eq!(
            firing.text,
            "battery_soc is at or below 10 % since 2026-03-29 03:00:00 (+02:00), for 5 min now. Value: 9.5 %. \
             Look at: measurement energy_data, device_id=roof, field battery_soc. Charge it."
        );
        let over = said(soc, PhaseName::Resolved, Some(15.25), Some("%"));
        assert!(
            over.text.starts_with("Over at 2026-03-29 04:02:00 (+02:00), after 1 h 2 min: "),
            "{}",
            over.text
        );
        let absent =
            json!({"input": input, "condition": {"absent": {"longer_than_ns": 600_000_000_000_i64}}});
        let absent = said(absent, PhaseName::Firing, Some(3.0), None);
        assert!(
            absent.text.starts_with("battery_soc has had no value for longer than 10 min since"),
            "{}",
            absent.text
        );
        assert!(!absent.text.contains("Value"), "{}", absent.text);
        let rising = json!({"input": input, "condition": {"rising": {"fire": 20, "clear": 10, "over_ns": 3_600_000_000_000_i64}}});
        let rising = said(rising, PhaseName::Firing, Some(1.0 / 3.0), Some("%"));
        assert!(
            rising.text.contains("rises by at least 20 % an hour over 1 h")
                && rising.text.contains("Value: 0.333333 % an hour"),
            "{}",
            rising.text
        );
    }

    #[test]
    fn whatever_a_rule_is_called_its_message_can_be_stored() {
        let field = "a\0b\u{7}".repeat(3_000);
        let hostile = json!({"input": {"field": {"measurement": "m\0", "field": field}}, "condition": {"above": {"fire": 1, "clear": 1}}});
        let said = said(hostile, PhaseName::Firing, Some(1.0), Some("\0")).text;
        assert_eq!(said.chars().count(), 4_000);
        assert!(!said.contains(char::is_control));
    }

    #[test]
    fn numbers_have_six_digits() {
        for (value, text) in [
            (0.0, "0"),
            (12_345_678.9, "12345679"),
            (1234.5678, "1234.57"),
            (-0.5, "-0.5"),
            (1e-9, "0.000000001"),
            (1e300, format!("{:.0}", 1e300).as_str()),
            (100.0, "100"),
        ] {
            assert_eq!(number(value), text);
        }
        assert_eq!((span(0), span(93_784_000_000_000)), ("0 s".to_owned(), "1 d 2 h".to_owned()));
    }
}
