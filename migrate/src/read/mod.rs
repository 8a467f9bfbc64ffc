//! From the bytes of one file to records.
//!
//! Promise: every value of the file becomes a record, a duplicate, a repair or a refusal with its place; none is passed
//! over in silence. A file that cannot be read at all is one refusal. The order of a file is kept.

mod decision;
mod draft;
mod prices;
mod reading;
mod session;
mod state;
mod summary;

use crate::context::{Context, Hold, Intake, Out};
use crate::error::Error;
use crate::json::{Fault, Item, Items, NotFinite, has_byte_order_mark};
use crate::limits::Limits;
use crate::record::{Kind, Origin, Purpose, Span};
use crate::report::{Place, Position, Rule};
use crate::shape::{Name, Shape, day_in_name, of_name, of_object};
use crate::time::Order;
use crate::tree::{FileKind, FoundFile, Tree};
pub(crate) use draft::{Object, Quantity, rfc3339, text};
pub(crate) use reading::Found;
use serde_json::Value;
use session::Extent;
use std::collections::HashMap;

/// Orders of the times in one file, one for each sequence in it.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    readings: Order,
    decisions: Order,
    tracked: Order,
    states: state::StateOrder,
    prices: prices::PriceOrder,
}

/// Reads one file of a tree and hands its records on; the report of `context` tells what became of them.
///
/// A JSON file is held in memory while it is read (at most [`crate::Limits::json_file_bytes`]) and read without a pause for
/// other tasks, milliseconds for the usual file. A store is copied first and read in pieces.
///
/// # Errors
/// If `out` takes no more, or a store cannot be copied. Damage in the file is a refusal and no error.
pub async fn read_file(
    file: &FoundFile,
    context: &mut Context,
    out: &mut (dyn Out + Send),
) -> Result<(), Error> {
    if file.kind == FileKind::Store {
        return crate::store::read(file, context, out).await;
    }
    let limit = context.options.limits.json_file_bytes;
    let mut intake = Intake::new(context, out, file.name.clone(), Hold::Whole);
    match crate::files::read_text(&file.path, limit) {
        Ok(text) => {
            read_text(&text.bytes, &mut intake)?;
            if let Some(reason) = text.broken {
                let position = at_byte(&intake, text.bytes.len());
                intake.refuse(None, position, reason)?;
            }
        }
        Err(reason) => {
            let position = at_byte(&intake, 0);
            intake.refuse(None, position, reason)?;
        }
    }
    intake.finish()
}

/// The serial number of the inverter, from the first nested reading that names one; `None` if no file does.
///
/// Flat records and the store name no device. Given as [`crate::Options::device`] this makes them readings of the same one.
/// Looks into at most 20 files of each name: single readings first, since they are short, then dumps, then states.
pub fn find_device(tree: &Tree, limits: &Limits) -> Option<String> {
    let of_prefix = |prefix: &'static str| {
        let json = tree.files.iter().filter(|file| file.kind == FileKind::Json);
        json.filter(move |file| file.file_name().starts_with(prefix)).take(LOOKED_INTO)
    };
    let prefixes = ["current_data_", "historical_data_", "coordinator_state_"];
    prefixes.into_iter().flat_map(of_prefix).find_map(|file| {
        let text = crate::files::read_text(&file.path, limits.json_file_bytes).ok()?;
        Items::new(&text.bytes).find_map(|item| {
            let Item::Value { value: Value::Object(object), .. } = item else { return None };
            let inside = object.get("current_data").and_then(Value::as_object);
            reading::serial(inside.unwrap_or(&object)).ok().flatten()
        })
    })
}

/// Files of one name in which a serial number is looked for.
const LOOKED_INTO: usize = 20;

fn at_byte(intake: &Intake<'_>, offset: usize) -> Position {
    Position { file: intake.file(), record: 0, place: Place::Text { offset: offset as u64, line: 1 } }
}

/// Reads the text of a JSON file.
pub(crate) fn read_text(text: &[u8], intake: &mut Intake<'_>) -> Result<(), Error> {
    let file = intake.file();
    let file_name = file.rsplit('/').next().unwrap_or_default().to_owned();
    let mut reader =
        Reader { name: of_name(&file_name), file_name, orders: Orders::default(), foreign_told: false };
    if has_byte_order_mark(text) {
        intake.file_repair(Rule::ByteOrderMark);
    }
    for (record, item) in Items::new(text).enumerate() {
        let position = |place: crate::json::Place| Position {
            file: file.clone(),
            record: record as u64,
            place: Place::Text { offset: place.offset as u64, line: place.line },
        };
        match item {
            Item::Value { value: Value::Object(object), not_finite, place } => {
                let origin = Origin::Other;
                let found = Found { object: &object, position: position(place), origin, not_finite };
                reader.object(found, None, intake)?;
            }
            Item::Value { value: Value::Array(elements), not_finite, place }
                if elements.iter().any(Value::is_object) =>
            {
                // A list in a list: what damage makes of the end of one file behind the start of another.
                let mut marks = marks_of_elements(&not_finite, "");
                for (index, element) in elements.iter().enumerate() {
                    let position = Position { record: index as u64, ..position(place) };
                    let Some(object) = element.as_object() else {
                        let reason = format!("{}, and no record", draft::shortened(element));
                        intake.refuse(None, position, reason)?;
                        continue;
                    };
                    let not_finite = marks.remove(&index).unwrap_or_default();
                    reader.object(
                        Found { object, position, origin: Origin::Other, not_finite },
                        None,
                        intake,
                    )?;
                }
            }
            Item::Value { value: Value::Array(pair), place, .. } => {
                prices::market_price(&pair, position(place), &mut reader.orders.prices, intake)?;
            }
            Item::Value { value, place, .. } => {
                let reason = format!("{}, and no record", draft::shortened(&value));
                intake.refuse(None, position(place), reason)?;
            }
            Item::Cut { members, not_finite, place, fault } => {
                let origin = Origin::Other;
                let found = Found { object: &members, position: position(place), origin, not_finite };
                reader.object(found, Some(fault), intake)?;
            }
            Item::Fault(fault) => intake.refuse(None, position(fault.place), fault.reason)?,
        }
    }
    Ok(())
}

struct Reader {
    name: Name,
    file_name: String,
    orders: Orders,
    foreign_told: bool,
}

impl Reader {
    /// Takes an object; with a fault it is only the beginning of one.
    fn object(&mut self, found: Found<'_>, cut: Option<Fault>, intake: &mut Intake<'_>) -> Result<(), Error> {
        let shape = match (of_object(found.object, self.name), &cut) {
            (Ok(shape), None) => shape,
            (Ok(shape), Some(fault)) => {
                let place = Place::Text { offset: fault.place.offset as u64, line: fault.place.line };
                let position = Position { place, ..found.position.clone() };
                intake.refuse(None, position, format!("{} in a {}", fault.reason, shape.name()))?;
                if !shape.is_container() {
                    return Ok(());
                }
                shape
            }
            (Err(_), Some(fault)) => return intake.refuse(None, found.position, fault.reason.clone()),
            (Err(reason), None) if self.name == Name::Foreign => {
                // One sentence is enough for a file of somebody else.
                let told = std::mem::replace(&mut self.foreign_told, true);
                let reason = format!("not a file of the optimiser: {reason}");
                return if told { Ok(()) } else { intake.refuse(None, found.position, reason) };
            }
            (Err(reason), None) => return intake.refuse(None, found.position, reason),
        };
        intake.shape(shape.name());
        let extent = if cut.is_some() { Extent::Cut } else { Extent::Whole };
        match shape {
            Shape::Nested => reading::nested(found.of(Origin::Nested), &mut self.orders.readings, intake),
            Shape::Flat => reading::flat(found.of(Origin::Flat), &mut self.orders.readings, intake),
            Shape::Wrapped => self.wrapped(&found, intake),
            Shape::Decision => {
                decision::decision(found.of(Origin::Decision), &mut self.orders.decisions, intake)
            }
            Shape::ChargingSession => session::session(found.of(Origin::Session), Purpose::Charging, intake),
            Shape::SellingSession => session::session(found.of(Origin::Session), Purpose::Selling, intake),
            Shape::State => state::state(found.of(Origin::State), &mut self.orders.states, intake),
            Shape::DailyPlan => session::plan(found, extent, intake),
            Shape::Tracker => self.tracker(&found, intake),
            Shape::PriceSchedule => prices::schedule(found, intake),
            Shape::PvForecast => prices::pv_forecast(found, intake),
            Shape::DailyStats => summary::daily_stats(found, day_in_name(&self.file_name), intake),
            Shape::DailySnapshot => summary::snapshot(found, Span::Day, intake),
            Shape::MonthlySnapshot => summary::snapshot(found, Span::Month, intake),
            Shape::SocDrops => summary::soc_drops(found, intake),
            Shape::Cache | Shape::SensorList | Shape::SellingSummary => Ok(()),
        }
    }

    fn wrapped(&mut self, found: &Found<'_>, intake: &mut Intake<'_>) -> Result<(), Error> {
        let elements =
            found.object.get("data").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let mut marks = marks_of_elements(&found.not_finite, "data/");
        for (index, element) in elements.iter().enumerate() {
            let inner = inner(found, index, Origin::Flat, &mut marks);
            let Some(object) = element.as_object() else {
                intake.refuse(
                    Some(Kind::Reading),
                    inner.position,
                    "a reading that is no object".to_owned(),
                )?;
                continue;
            };
            let inner = Found { object, ..inner };
            match of_object(object, self.name) {
                Ok(Shape::Nested) => {
                    reading::nested(
                        Found { origin: Origin::Nested, ..inner },
                        &mut self.orders.readings,
                        intake,
                    )?;
                }
                _ => reading::flat(inner, &mut self.orders.readings, intake)?,
            }
        }
        Ok(())
    }

    fn tracker(&mut self, found: &Found<'_>, intake: &mut Intake<'_>) -> Result<(), Error> {
        let elements =
            found.object.get("sessions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let mut marks = marks_of_elements(&found.not_finite, "sessions/");
        for (index, element) in elements.iter().enumerate() {
            let inner = inner(found, index, Origin::Tracker, &mut marks);
            let Some(object) = element.as_object() else {
                intake.refuse(
                    Some(Kind::Session),
                    inner.position,
                    "a session that is no object".to_owned(),
                )?;
                continue;
            };
            session::tracked(Found { object, ..inner }, &mut self.orders.tracked, intake)?;
        }
        Ok(())
    }
}

/// The frame of an element of a list in `found`: its number, the place of the whole, and its own numbers that were none,
/// which are taken out of `marks`.
pub(crate) fn inner<'a>(found: &Found<'a>, index: usize, origin: Origin, marks: &mut Marks) -> Found<'a> {
    Found {
        object: found.object,
        position: Position { record: index as u64, ..found.position.clone() },
        origin,
        not_finite: marks.remove(&index).unwrap_or_default(),
    }
}

/// Marks of the elements of one list, by the element's number, with paths from the element.
pub(crate) type Marks = HashMap<usize, Vec<NotFinite>>;

/// Sorts the marks below `list` (a path that ends in `/`, or nothing) by element. Once for the list: a list may hold
/// hundreds of thousands of elements, each with its mark.
pub(crate) fn marks_of_elements(marks: &[NotFinite], list: &str) -> Marks {
    let mut of_elements = Marks::new();
    for mark in marks {
        let Some((index, path)) = mark.path.strip_prefix(list).and_then(|path| path.split_once('/')) else {
            continue;
        };
        let Ok(index) = index.parse() else { continue };
        let mark = NotFinite { path: path.to_owned(), token: mark.token.clone() };
        of_elements.entry(index).or_default().push(mark);
    }
    of_elements
}

/// Marks under a path, with paths from there.
pub(crate) fn marks_below(marks: &[NotFinite], path: &str) -> Vec<NotFinite> {
    let below = |mark: &NotFinite| {
        let path = mark.path.strip_prefix(path)?.strip_prefix('/')?;
        Some(NotFinite { path: path.to_owned(), token: mark.token.clone() })
    };
    marks.iter().filter_map(below).collect()
}

/// Reads rows of the store with the builders of the files.
pub(crate) fn store_row(
    kind: Kind,
    found: Found<'_>,
    orders: &mut Orders,
    intake: &mut Intake<'_>,
) -> Result<(), Error> {
    match kind {
        Kind::Reading => reading::flat(found, &mut orders.readings, intake),
        Kind::Decision => decision::decision(found, &mut orders.decisions, intake),
        Kind::SystemState => state::state(found, &mut orders.states, intake),
        _ => Ok(()),
    }
}

/// A session of the store's two tables.
pub(crate) fn store_session(
    found: Found<'_>,
    purpose: Purpose,
    intake: &mut Intake<'_>,
) -> Result<(), Error> {
    session::session(found, purpose, intake)
}
