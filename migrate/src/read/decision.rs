//! Decisions about charging and selling, with the repair of prices, costs and units.
//!
//! Promise: a repaired number is proven by the numbers beside it; what cannot be proven is missing, or as it was written
//! and believed. Every key that has no field of its own stays in `rest`.
//!
//! Evidence
//! 1. Price: [`true_price`]. The price of the cheapest hour is judged with what that hour adds. From 2026-01-02 on prices
//!    were right, but on a box that was updated later: there a price must be beyond what any market had.
//! 2. Cost: energy x stored price / 1000 shows the division too many (until about 2025-11-19); energy x stored price, where that
//!    price was 1000 times too large, shows a cost that followed it. Before 2025-11-19 a cost below 0.003 PLN/kWh shows the
//!    division as well, since nothing was that cheap, and one from 0.05 PLN/kWh on shows that there was none.
//! 3. Saving: 0.40 PLN/kWh x energy - stored cost.
//! 4. Kilowatts: decisions about charging with a tariff zone, or from 2026-01-06 on with a small number that has a
//!    fraction, hold powers in kW; a number above 30 is W all the same. Those about selling stayed in W. From 2026-01-06 on
//!    `house_consumption` of charging was reckoned from keys that do not exist and is always 0.0.

use super::draft::{Draft, Object, Quantity, rest, text, truth};
use super::reading::Found;
use crate::context::Intake;
use crate::record::{Body, Decision, Kind, Purpose};
use crate::report::Rule;
use crate::tariff::{Division, Tariff, rounded, true_price};
use crate::time::{Order, Resolved};
use jiff::civil::{Date, DateTime, date};
use serde_json::Value;
use std::sync::Arc;

/// Costs were no longer divided twice.
const COST_REPAIRED: Date = date(2025, 11, 19);
/// The day after prices were repaired; boxes were updated then or later.
const PRICE_REPAIRED: Date = date(2026, 1, 2);
/// Powers came in kilowatts.
const KILOWATTS_FROM: Date = date(2026, 1, 6);
/// No inverter of a home gives more kilowatts.
const LARGEST_KW: f64 = 30.0;
/// What savings were held against.
const REFERENCE_PLN_KWH: f64 = 0.40;
/// No total price was as low: selling component and distribution alone are 0.16.
const SMALLEST_PLN_KWH: f64 = 0.003;
/// Divided by 1000 this would have been a price of 50 PLN/kWh: the cost was not divided.
const CREDIBLE_PLN_KWH: f64 = 0.05;

const TAKEN: &[&str] = &[
    "timestamp",
    "action",
    "decision",
    "source",
    "charging_source",
    "reason",
    "reasoning",
    "priority",
    "confidence",
    "duration",
    "duration_hours",
    "estimated_duration_hours",
    "energy_kwh",
    "energy_sold_kwh",
    "estimated_cost_pln",
    "estimated_savings_pln",
    "expected_revenue_pln",
    "current_price",
    "current_price_pln",
    "cheapest_price",
    "cheapest_hour",
    "battery_soc",
    "pv_power",
    "house_consumption",
    "consumption",
    "selling_power_w",
    "tariff_zone",
    "execution_success",
    "execution_error",
    "decision_type",
    "type",
    "parameters",
];

/// Takes a decision; `parameters`, where the record has them, are read as its own keys.
pub(crate) fn decision(
    found: Found<'_>,
    order: &mut Order,
    intake: &mut Intake<'_>,
) -> Result<(), crate::Error> {
    let mut draft = found.draft();
    let zone = intake.context.options.zone.clone();
    let resolved = match draft.time(found.object, "timestamp", &zone, order) {
        Ok(resolved) => resolved,
        Err(reason) => return intake.refuse(Some(Kind::Decision), found.position, reason),
    };
    let merged;
    let object = match found.object.get("parameters").and_then(Value::as_object) {
        None => found.object,
        Some(parameters) => {
            let mut all = parameters.clone();
            all.extend(found.object.iter().map(|(key, value)| (key.clone(), value.clone())));
            merged = all;
            &merged
        }
    };
    let tariff = intake.context.options.tariff.clone();
    let decision = read(object, resolved, &tariff, &mut draft);
    let about = match decision.about {
        Purpose::Charging => "charging",
        Purpose::Selling => "selling",
    };
    let key = format!("decision/{about}/{}", resolved.at.0);
    intake.record(key, found.position, found.origin, draft.repairs, Body::Decision(Box::new(decision)))
}

fn read(object: &Object, resolved: Resolved, tariff: &Arc<dyn Tariff>, draft: &mut Draft) -> Decision {
    let number = |draft: &mut Draft, keys: &[&str], field: &str, quantity| {
        keys.iter().find_map(|key| draft.number(object, key, field, quantity))
    };
    let stored = price(draft, object, &["current_price", "current_price_pln"], "price_pln_kwh");
    let price_now = repaired_price(draft, stored, "price_pln_kwh", resolved.local, tariff);
    let cheapest_hour = draft.count(object, "cheapest_hour", "cheapest_hour").filter(|hour| *hour < 24);
    let cheapest = draft.number(object, "cheapest_price", "cheapest_price_pln_kwh", Quantity::PlnPerKwh);
    let cheapest = match cheapest_hour {
        None => cheapest,
        Some(hour) => {
            let local = resolved.local.date().at(hour as i8, 0, 0, 0);
            repaired_price(draft, cheapest, "cheapest_price_pln_kwh", local, tariff)
        }
    };
    let energy_kwh = number(draft, &["energy_kwh", "energy_sold_kwh"], "energy_kwh", Quantity::DayKwh);
    let written = Written {
        day: resolved.local.date(),
        energy_kwh,
        stored_price: stored,
        true_price: price_now,
        cost: number(draft, &["estimated_cost_pln"], "estimated_cost_pln", Quantity::Pln),
        savings: number(draft, &["estimated_savings_pln"], "estimated_savings_pln", Quantity::Pln),
    };
    let (cost, savings) = written.repaired(draft);
    let about = purpose(object);
    let pv_power_w = number(draft, &["pv_power"], "pv_power_w", Quantity::Watt);
    let consumption_w = number(draft, &["house_consumption", "consumption"], "consumption_w", Quantity::Watt);
    let (pv_power_w, consumption_w) = match about {
        Purpose::Selling => (pv_power_w, consumption_w),
        Purpose::Charging => {
            let zone = text(object, "tariff_zone").is_some();
            charging_powers(draft, pv_power_w, consumption_w, zone, resolved.local.date())
        }
    };
    Decision {
        at: resolved.at,
        about,
        action: text(object, "action"),
        choice: text(object, "decision"),
        source: text(object, "source").or_else(|| text(object, "charging_source")),
        reason: text(object, "reason").or_else(|| text(object, "reasoning")),
        priority: text(object, "priority"),
        confidence: draft.confidence(object, "confidence"),
        duration_h: number(
            draft,
            &["duration", "duration_hours", "estimated_duration_hours"],
            "duration_h",
            Quantity::Hours,
        ),
        energy_kwh,
        estimated_cost_pln: cost,
        estimated_savings_pln: savings,
        expected_revenue_pln: number(draft, &["expected_revenue_pln"], "expected_revenue_pln", Quantity::Pln),
        price_pln_kwh: price_now,
        cheapest_price_pln_kwh: cheapest,
        cheapest_hour: cheapest_hour.map(|hour| hour as u8),
        battery_soc: number(draft, &["battery_soc"], "battery_soc", Quantity::Percent),
        pv_power_w,
        consumption_w,
        selling_power_w: number(draft, &["selling_power_w"], "selling_power_w", Quantity::Watt),
        tariff_zone: text(object, "tariff_zone"),
        executed: truth(object, "execution_success"),
        execution_error: text(object, "execution_error"),
        rest: rest(object, TAKEN),
    }
}

/// Selling decisions lack a `decision_type` in files and, since December 2025, in the store.
fn purpose(object: &Object) -> Purpose {
    let is = |key: &str, words: &[&str]| text(object, key).is_some_and(|text| words.contains(&text.as_str()));
    let selling = is("decision_type", &["battery_selling", "selling"])
        || is("type", &["selling", "battery_selling"])
        || is("action", &["battery_selling"])
        || (!is("decision_type", &["charging"])
            && ["expected_revenue_pln", "selling_power_w", "current_price_pln"]
                .iter()
                .any(|key| object.contains_key(*key)));
    if selling { Purpose::Selling } else { Purpose::Charging }
}

/// A total price; 0 was written where it was not known.
fn price(draft: &mut Draft, object: &Object, keys: &[&str], field: &str) -> Option<f64> {
    let price = keys.iter().find_map(|key| draft.number(object, key, field, Quantity::PlnPerKwh))?;
    if price == 0.0 {
        draft.repair(Rule::FalseZero, field, Value::from(price), Value::Null);
        return None;
    }
    Some(price)
}

fn repaired_price(
    draft: &mut Draft,
    stored: Option<f64>,
    field: &str,
    local: DateTime,
    tariff: &Arc<dyn Tariff>,
) -> Option<f64> {
    let stored = stored?;
    let division = if local.date() < PRICE_REPAIRED { Division::Missing } else { Division::Doubtful };
    let Some(price) = true_price(stored, tariff.added_pln_kwh(local), division) else { return Some(stored) };
    draft.repair(Rule::PriceScale, field, Value::from(stored), Value::from(price));
    Some(price)
}

/// PV power and consumption of a decision about charging, in W (evidence 4).
fn charging_powers(
    draft: &mut Draft,
    pv: Option<f64>,
    consumption: Option<f64>,
    has_zone: bool,
    day: Date,
) -> (Option<f64>, Option<f64>) {
    let late = day >= KILOWATTS_FROM;
    let fraction = [pv, consumption]
        .into_iter()
        .flatten()
        .any(|power| power.fract() != 0.0 && power.abs() <= LARGEST_KW);
    let kilowatts = has_zone || (late && fraction);
    let pv = if kilowatts { from_kilowatts(draft, "pv_power_w", pv) } else { pv };
    let consumption = match consumption {
        Some(power) if power == 0.0 && (has_zone || late) => {
            draft.repair(Rule::FalseZero, "consumption_w", Value::from(power), Value::Null);
            None
        }
        power if kilowatts => from_kilowatts(draft, "consumption_w", power),
        power => power,
    };
    (pv, consumption)
}

fn from_kilowatts(draft: &mut Draft, field: &str, power: Option<f64>) -> Option<f64> {
    let power = power?;
    if power == 0.0 || power.abs() > LARGEST_KW {
        return Some(power);
    }
    let watts = rounded(power * 1000.0);
    match Quantity::Watt.judge(watts) {
        Ok(watts) => {
            draft.repair(Rule::KilowattsAsWatts, field, Value::from(power), Value::from(watts));
            Some(watts)
        }
        Err(rule) => {
            draft.repair(rule, field, Value::from(power), Value::Null);
            None
        }
    }
}

/// The numbers that explain each other.
struct Written {
    day: Date,
    energy_kwh: Option<f64>,
    stored_price: Option<f64>,
    true_price: Option<f64>,
    cost: Option<f64>,
    savings: Option<f64>,
}

impl Written {
    /// Cost and saving as they should be.
    fn repaired(&self, draft: &mut Draft) -> (Option<f64>, Option<f64>) {
        let Some(stored_cost) = self.cost.filter(|cost| *cost != 0.0) else {
            return (self.cost, self.savings);
        };
        let Some((rule, cost)) = self.cost_repair(stored_cost) else { return (self.cost, self.savings) };
        let as_value = |amount: Option<f64>| amount.map_or(Value::Null, Value::from);
        draft.repair(rule, "estimated_cost_pln", Value::from(stored_cost), as_value(cost));
        let Some(stored_savings) = self.savings.filter(|savings| *savings != 0.0) else {
            return (cost, self.savings);
        };
        let reference = self.energy_kwh.map(|energy| REFERENCE_PLN_KWH * energy);
        let explained =
            reference.is_some_and(|reference| close(stored_savings, reference - stored_cost, 1e-4));
        let savings = match (explained, reference, cost) {
            (true, Some(reference), Some(cost)) => Some(rounded(reference - cost)),
            _ => None,
        };
        let rule = if savings.is_some() { Rule::SavingsOfWrongCost } else { Rule::CostUnexplained };
        draft.repair(rule, "estimated_savings_pln", Value::from(stored_savings), as_value(savings));
        (cost, savings)
    }

    /// `None` if the cost stands.
    fn cost_repair(&self, stored_cost: f64) -> Option<(Rule, Option<f64>)> {
        let divided_twice = self.day < COST_REPAIRED;
        if let (Some(energy), Some(stored), Some(price)) =
            (self.energy_kwh, self.stored_price, self.true_price)
        {
            let tolerance = |amount: f64| 1e-5_f64.max(0.002 * amount.abs());
            let followed = energy * stored;
            if close(stored_cost, followed / 1000.0, tolerance(followed / 1000.0)) {
                return Some((Rule::CostScale, Some(rounded(energy * price))));
            }
            if close(stored_cost, followed, tolerance(followed)) {
                return (stored != price).then(|| (Rule::CostOfWrongPrice, Some(rounded(energy * price))));
            }
        }
        if !divided_twice {
            return None;
        }
        match self.energy_kwh.filter(|energy| *energy > 0.0).map(|energy| (stored_cost / energy).abs()) {
            Some(per_kwh) if per_kwh < SMALLEST_PLN_KWH => {
                Some((Rule::CostScale, Some(rounded(stored_cost * 1000.0))))
            }
            Some(per_kwh) if per_kwh >= CREDIBLE_PLN_KWH => None,
            _ => Some((Rule::CostUnexplained, None)),
        }
    }
}

fn close(a: f64, b: f64, tolerance: f64) -> bool {
    (a - b).abs() <= tolerance
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tariff::G12;
    use crate::time::parse;
    use jiff::tz::TimeZone;
    use serde_json::json;

    fn decide(written: Value) -> (Decision, Vec<Rule>) {
        let object = written.as_object().unwrap();
        let zone = TimeZone::get("Europe/Warsaw").unwrap();
        let at = parse(object["timestamp"].as_str().unwrap()).unwrap();
        let resolved = crate::time::resolve(at, &zone, &mut Order::default()).unwrap();
        let mut draft = Draft::default();
        let tariff: Arc<dyn Tariff> = Arc::new(G12::default());
        let decision = read(object, resolved, &tariff, &mut draft);
        (decision, draft.repairs.iter().map(|repair| repair.rule).collect())
    }

    #[test]
    fn a_cost_divided_twice_is_energy_times_price() {
        let (decision, rules) = decide(json!({
            "timestamp": "2025-09-17T12:38:09", "action": "charge", "energy_kwh": 5.0, "current_price": 0.53632,
            "estimated_cost_pln": 0.00268, "estimated_savings_pln": 1.99732
        }));
        assert_eq!(decision.estimated_cost_pln, Some(2.6816));
        assert_eq!(decision.estimated_savings_pln, Some(-0.6816));
        assert_eq!(rules, [Rule::CostScale, Rule::SavingsOfWrongCost]);
    }

    #[test]
    fn the_division_is_known_by_its_numbers_on_a_box_that_was_updated_late() {
        let (decision, rules) = decide(json!({
            "timestamp": "2025-12-12T02:01:16", "energy_kwh": 2.5, "current_price": 0.4161, "estimated_cost_pln": 0.00104
        }));
        assert_eq!((decision.estimated_cost_pln, rules), (Some(1.04025), vec![Rule::CostScale]));
    }

    #[test]
    fn a_cost_without_a_price_is_judged_by_its_size_or_missing() {
        let charge = |cost: f64, energy: Value| {
            let (decision, rules) = decide(json!({
                "timestamp": "2025-10-02T02:00:00", "energy_kwh": energy, "estimated_cost_pln": cost
            }));
            (decision.estimated_cost_pln, rules)
        };
        assert_eq!(charge(0.0021, json!(5.0)), (Some(2.1), vec![Rule::CostScale]));
        assert_eq!(charge(2.1, json!(5.0)), (Some(2.1), vec![]));
        assert_eq!(charge(0.1, json!(5.0)), (None, vec![Rule::CostUnexplained]));
        assert_eq!(charge(0.0021, json!(null)), (None, vec![Rule::CostUnexplained]));
        assert_eq!(charge(0.0, json!(0)), (Some(0.0), vec![]));
    }

    #[test]
    fn a_cost_that_followed_a_wrong_price_follows_the_right_one() {
        let (decision, rules) = decide(json!({
            "timestamp": "2025-12-20T02:00:00", "energy_kwh": 2.0, "current_price": 5.4541, "estimated_cost_pln": 10.9082,
            "estimated_savings_pln": 0
        }));
        assert_eq!((decision.price_pln_kwh, decision.estimated_cost_pln), (Some(0.16939), Some(0.33878)));
        assert_eq!(rules, [Rule::PriceScale, Rule::CostOfWrongPrice]);
        let (decision, rules) = decide(json!({
            "timestamp": "2025-12-12T02:01:16", "energy_kwh": 2.5, "current_price": 0.4161, "estimated_cost_pln": 1.04
        }));
        assert_eq!((decision.estimated_cost_pln, rules.as_slice()), (Some(1.04), &[][..]));
    }

    #[test]
    fn a_price_of_a_box_that_was_updated_late_is_known_by_its_numbers() {
        // The date alone cut the repair off: 5.45 PLN/kWh stayed as the price of a cheap night.
        let price = |stored: f64, day: &str| {
            let (decision, rules) =
                decide(json!({"timestamp": format!("{day}T02:31:00"), "current_price": stored}));
            (decision.price_pln_kwh, rules)
        };
        let scaled = |price| (Some(price), vec![Rule::PriceScale]);
        assert_eq!(price(5.4541, "2026-01-01"), scaled(0.16939));
        assert_eq!(price(5.4541, "2026-01-02"), scaled(0.16939));
        assert_eq!(price(-1.8259, "2026-01-20"), scaled(0.16211));
        // -500 PLN/MWh, which before that day would have been -500 PLN/kWh.
        assert_eq!(price(-0.3359, "2026-01-20"), (Some(-0.3359), vec![]));
        assert_eq!(price(-0.3359, "2025-12-20"), scaled(0.1636));
        let (decision, rules) = decide(json!({
            "timestamp": "2026-01-20T02:00:00", "energy_kwh": 2.0, "current_price": 5.4541, "estimated_cost_pln": 10.9082
        }));
        assert_eq!((decision.price_pln_kwh, decision.estimated_cost_pln), (Some(0.16939), Some(0.33878)));
        assert_eq!(rules, [Rule::PriceScale, Rule::CostOfWrongPrice]);
    }

    #[test]
    fn the_cheapest_price_is_judged_by_its_own_hour() {
        let (decision, rules) = decide(json!({
            "timestamp": "2025-11-13T12:00:00", "current_price": 0.9, "cheapest_price": -5.5459, "cheapest_hour": 3
        }));
        assert_eq!(decision.cheapest_price_pln_kwh, Some(0.15839));
        assert_eq!(rules, [Rule::PriceScale]);
    }

    #[test]
    fn kilowatts_become_watts_and_their_zero_consumption_is_missing() {
        let (decision, rules) = decide(json!({
            "timestamp": "2026-01-07T12:00:00", "pv_power": 2.345, "house_consumption": 0.0, "tariff_zone": "T1",
            "current_price": 0
        }));
        assert_eq!(
            (decision.pv_power_w, decision.consumption_w, decision.price_pln_kwh),
            (Some(2345.0), None, None)
        );
        assert_eq!(rules, [Rule::FalseZero, Rule::KilowattsAsWatts, Rule::FalseZero]);
        // Whatever the day says, no home has 2345 kW.
        let (decision, rules) =
            decide(json!({"timestamp": "2026-01-07T12:00:00", "pv_power": 2345, "tariff_zone": "T1"}));
        assert_eq!((decision.pv_power_w, rules.len()), (Some(2345.0), 0));
        let (decision, rules) =
            decide(json!({"timestamp": "2026-01-04T12:00:00", "pv_power": 2345, "house_consumption": 0}));
        assert_eq!((decision.pv_power_w, decision.consumption_w), (Some(2345.0), Some(0.0)));
        assert!(rules.is_empty());
    }

    #[test]
    fn powers_of_selling_stayed_in_watts() {
        let (decision, rules) = decide(json!({
            "timestamp": "2026-01-10T17:05:00", "action": "battery_selling", "pv_power": 42, "house_consumption": 610
        }));
        assert_eq!((decision.pv_power_w, decision.consumption_w), (Some(42.0), Some(610.0)));
        assert!(rules.is_empty(), "{rules:?}");
        let (decision, rules) = decide(json!({
            "timestamp": "2026-01-10T17:05:00", "action": "battery_selling", "pv_power": 12.5,
            "house_consumption": 0, "tariff_zone": "T1"
        }));
        assert_eq!((decision.pv_power_w, decision.consumption_w), (Some(12.5), Some(0.0)));
        assert!(rules.is_empty(), "{rules:?}");
    }

    #[test]
    fn kilowatts_need_evidence() {
        let powers = |day: &str, pv: f64, zone: Option<&str>| {
            let (decision, _) = decide(json!({
                "timestamp": format!("{day}T12:00:00"), "action": "wait", "pv_power": pv,
                "house_consumption": 610, "tariff_zone": zone
            }));
            (decision.pv_power_w, decision.consumption_w)
        };
        assert_eq!(powers("2026-01-10", 12.0, None), (Some(12.0), Some(610.0)));
        assert_eq!(powers("2026-01-10", 1.25, None), (Some(1250.0), Some(610.0)));
        assert_eq!(powers("2026-01-10", 12.0, Some("T2")), (Some(12_000.0), Some(610.0)));
        assert_eq!(powers("2026-01-10", 30.5, Some("T2")), (Some(30.5), Some(610.0)));
        assert_eq!(powers("2026-01-05", 1.25, None), (Some(1.25), Some(610.0)));
    }

    #[test]
    fn selling_is_known_by_any_of_its_marks() {
        for marks in [
            json!({"decision_type": "battery_selling"}),
            json!({"type": "selling"}),
            json!({"action": "battery_selling"}),
            json!({"expected_revenue_pln": 1.0}),
        ] {
            let mut object = marks.as_object().unwrap().clone();
            object.insert("timestamp".to_owned(), json!("2025-11-13T05:00:00"));
            assert_eq!(decide(Value::Object(object)).0.about, Purpose::Selling, "{marks}");
        }
        let (decision, _) = decide(json!({
            "timestamp": "2025-11-13T05:00:00", "decision_type": "charging", "expected_revenue_pln": 0
        }));
        assert_eq!(decision.about, Purpose::Charging);
    }
}
