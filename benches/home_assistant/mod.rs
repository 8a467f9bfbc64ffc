//! What Home Assistant's InfluxDB integration writes about a home: one row per state change, many fields, few in each row.
//!
//! An entity has the tags `domain` and `entity_id`. Its row carries `value` where the state is a number, `state` where it is a word,
//! both where the word is on or off, and the attributes of the change: numbers under their own names, texts under names that end
//! in `_str`. `friendly_name_str` is in every row. The measurement is the entity id, or, where the owner left the default as it is,
//! the unit, which many entities share.
//!
//! Each entity is a sequence of its own, from its number alone: whoever asks can make again what was written.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use wattlog_engine::WriteBatch;
use wattlog_model::{TagSet, Timestamp};

pub(crate) const DATABASE: &str = "home_assistant";
/// 2026-06-01, a Monday.
pub(crate) const START_S: i64 = 1_780_272_000;
const SECOND_US: u64 = 1_000_000;
/// Most attributes in a row beside the state and the name.
const MOST_ATTRIBUTES: usize = 6;
/// Units that are measurements when entities share them.
const UNITS: usize = 20;
/// Different texts of an attribute.
const TEXTS: usize = 4;

const VALUE: usize = 0;
const STATE: usize = 1;
const FRIENDLY_NAME: usize = 2;
/// Half of the attributes of a row are among these.
const FREQUENT: [&str; 8] = [
    "battery_level",
    "linkquality",
    "voltage",
    "supported_features",
    "device_class_str",
    "icon_str",
    "state_class_str",
    "last_triggered_str",
];
const FIRST_FREQUENT: usize = FRIENDLY_NAME + 1;
/// The one text that is another each time.
const LAST_TRIGGERED: usize = FIRST_FREQUENT + FREQUENT.len() - 1;
/// The other half takes turns among these.
const FIRST_RARE: usize = FIRST_FREQUENT + FREQUENT.len();

/// What the measurement of an entity is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    /// Its id: as many measurements as entities.
    ByEntity,
    /// Its unit: few measurements of many series.
    ByUnit,
}

/// A home of so many entities, whose measurements have so many fields.
#[derive(Debug)]
pub(crate) struct House {
    pub(crate) entities: usize,
    naming: Naming,
    fields: Vec<String>,
    /// Of every attribute, its texts.
    texts: Vec<[String; TEXTS]>,
    tags: Vec<TagSet>,
    ids: Vec<String>,
}

impl House {
    pub(crate) fn new(entities: usize, fields: usize, naming: Naming) -> Self {
        assert!(fields > FIRST_RARE, "{fields} fields");
        let fixed = ["value", "state", "friendly_name_str"].into_iter().chain(FREQUENT).map(str::to_owned);
        let rare = (FIRST_RARE..fields)
            .map(|i| if is_text(i) { format!("attribute_{i:03}_str") } else { format!("attribute_{i:03}") });
        let fields: Vec<String> = fixed.chain(rare).collect();
        let texts = |name: &String| {
            std::array::from_fn(|text| format!("{}: case {text}", name.trim_end_matches("_str")))
        };
        let ids: Vec<String> =
            (0..entities).map(|i| format!("{}.room_{:02}_{i:04}", domain(i), i % 17)).collect();
        let tags = ids.iter().enumerate().map(|(i, id)| {
            let entity = id.split_once('.').expect("a domain before the dot").1;
            TagSet::new([("domain", domain(i)), ("entity_id", entity)]).expect("valid tags")
        });
        let tags = tags.collect();
        Self { entities, naming, texts: fields.iter().map(texts).collect(), fields, tags, ids }
    }

    pub(crate) fn measurement(&self, entity: usize) -> String {
        match self.naming {
            Naming::ByEntity => self.ids[entity].clone(),
            Naming::ByUnit => format!("unit_{:02}", entity * UNITS / self.entities),
        }
    }

    /// All measurements, each once.
    pub(crate) fn measurements(&self) -> Vec<String> {
        let mut all: Vec<String> = (0..self.entities).map(|entity| self.measurement(entity)).collect();
        all.dedup();
        all
    }

    /// Fields that a measurement has if it has entities of all kinds.
    pub(crate) fn fields(&self) -> usize {
        self.fields.len()
    }

    pub(crate) fn tags(&self, entity: usize) -> &TagSet {
        &self.tags[entity]
    }

    /// An entity that is a number and changes every half a minute or so.
    pub(crate) fn busy_entity(&self) -> usize {
        let busy = |entity: &usize| Kind::of(*entity) == Kind::Number && period_us(*entity) == BUSY_US;
        (self.entities / 2..self.entities).find(busy).expect("there are enough entities")
    }

    fn write(&self, batch: &mut WriteBatch, entity: usize, change: &Change, line: u32) {
        let slot = batch.series(&self.measurement(entity), &self.tags[entity]);
        let mut row = batch.row(slot, change.time(), line);
        if let Some(value) = change.value {
            row.float(&self.fields[VALUE], value);
        }
        if let Some(state) = change.state {
            row.string(&self.fields[STATE], state);
        }
        row.string(&self.fields[FRIENDLY_NAME], &self.ids[entity]);
        for &(field, number) in change.attributes() {
            let name = &self.fields[field];
            if field == LAST_TRIGGERED {
                row.string(name, &format!("2026-06-01T00:00:00+00:00/{}", change.time_us));
            } else if is_text(field) {
                row.string(name, &self.texts[field][number as usize % TEXTS]);
            } else {
                row.float(name, f64::from(number) / 10.0);
            }
        }
    }
}

/// All changes of a house, the earliest first.
#[derive(Debug)]
pub(crate) struct Changes<'a> {
    house: &'a House,
    entities: Vec<Entity>,
    /// The next change of each entity.
    next: BinaryHeap<Reverse<(u64, usize)>>,
}

impl<'a> Changes<'a> {
    pub(crate) fn of(house: &'a House) -> Self {
        let fields = house.fields.len();
        let entities: Vec<Entity> = (0..house.entities).map(|number| Entity::new(number, fields)).collect();
        let next = entities.iter().map(|entity| Reverse((entity.next_us, entity.number))).collect();
        Self { house, entities, next }
    }

    /// A body of the changes that come before `end_s` seconds from the start.
    pub(crate) fn until(&mut self, end_s: u64) -> WriteBatch {
        let mut batch = WriteBatch::new(DATABASE, None);
        let mut line = 0;
        while let Some(&Reverse((time, number))) = self.next.peek()
            && time < end_s * SECOND_US
        {
            self.next.pop();
            line += 1;
            let entity = &mut self.entities[number];
            let change = entity.change();
            self.next.push(Reverse((entity.next_us, number)));
            self.house.write(&mut batch, number, &change, line);
        }
        batch
    }
}

/// One row.
#[derive(Debug)]
pub(crate) struct Change {
    time_us: u64,
    pub(crate) value: Option<f64>,
    state: Option<&'static str>,
    /// Field and number, as many as `attribute_count`.
    attributes: [(usize, u32); MOST_ATTRIBUTES],
    attribute_count: usize,
}

impl Change {
    pub(crate) fn time(&self) -> Timestamp {
        Timestamp(START_S * 1_000_000_000 + self.time_us as i64 * 1000)
    }

    /// Values in the row.
    pub(crate) fn values(&self) -> u64 {
        let own = usize::from(self.value.is_some()) + usize::from(self.state.is_some()) + 1;
        (own + self.attribute_count) as u64
    }

    fn attributes(&self) -> &[(usize, u32)] {
        &self.attributes[..self.attribute_count]
    }

    fn add(&mut self, field: usize, number: u32) {
        if !self.attributes().iter().any(|(known, _)| *known == field) {
            self.attributes[self.attribute_count] = (field, number);
            self.attribute_count += 1;
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    Switch,
    Word,
}

impl Kind {
    fn of(entity: usize) -> Self {
        match entity % 10 {
            0..7 => Self::Number,
            7 | 8 => Self::Switch,
            _ => Self::Word,
        }
    }
}

/// The changes of one entity, made from its number.
#[derive(Debug)]
pub(crate) struct Entity {
    number: usize,
    fields: usize,
    /// Time of the next change, from the start.
    next_us: u64,
    random: u64,
    turn: u32,
    /// Rare attributes so far.
    rare: usize,
    /// Tenths.
    level: i32,
}

impl Entity {
    pub(crate) fn new(number: usize, fields: usize) -> Self {
        let mut this =
            Self { number, fields, next_us: 0, random: number as u64, turn: 0, rare: 0, level: 200 };
        this.next_us = this.below(period_us(number));
        this
    }

    /// Those of an entity of `house` in its first `seconds`.
    pub(crate) fn changes(house: &House, number: usize, seconds: u64) -> impl Iterator<Item = Change> {
        let mut entity = Self::new(number, house.fields.len());
        std::iter::from_fn(move || (entity.next_us < seconds * SECOND_US).then(|| entity.change()))
    }

    fn change(&mut self) -> Change {
        let time_us = self.next_us;
        let period = period_us(self.number);
        self.next_us += period / 2 + 1 + self.below(period);
        self.turn += 1;
        self.level += self.below(11) as i32 - 5;
        let is_on = self.turn.is_multiple_of(2);
        let (value, state) = match Kind::of(self.number) {
            Kind::Number => (Some(f64::from(self.level) / 10.0), None),
            Kind::Switch => (Some(f64::from(u8::from(is_on))), Some(if is_on { "on" } else { "off" })),
            Kind::Word => (None, Some(["idle", "heating", "cooling", "unavailable"][self.below(4) as usize])),
        };
        let attributes = [(0, 0); MOST_ATTRIBUTES];
        let mut change = Change { time_us, value, state, attributes, attribute_count: 0 };
        // A switch has two values already: rows of 3 to 8 values.
        let most = MOST_ATTRIBUTES - usize::from(value.is_some() && state.is_some());
        for _ in 0..=self.below(most as u64) {
            let field = if self.below(2) == 0 {
                FIRST_FREQUENT + self.below(FREQUENT.len() as u64) as usize
            } else {
                // A step without a common factor: all fields come up, neighbours do not follow each other.
                self.rare += 1;
                FIRST_RARE + (self.rare * 89 + self.number) % (self.fields - FIRST_RARE)
            };
            // Attributes change now and then.
            let number = (self.number * 7 + field * 13) as u32 % 1000 + self.turn / 64;
            change.add(field, number);
        }
        change
    }

    /// A number below `end`; splitmix64.
    fn below(&mut self, end: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

const BUSY_US: u64 = 30 * SECOND_US;

/// Mean time between two changes: one entity in twenty changes twice a minute, a fifth every five minutes, the others twice an
/// hour.
fn period_us(entity: usize) -> u64 {
    match entity % 20 {
        0 => BUSY_US,
        1..5 => 300 * SECOND_US,
        _ => 1800 * SECOND_US,
    }
}

fn domain(entity: usize) -> &'static str {
    match Kind::of(entity) {
        Kind::Number => "sensor",
        Kind::Switch => "switch",
        Kind::Word => "climate",
    }
}

/// Of the frequent attributes those named so, of the rare ones every second.
fn is_text(field: usize) -> bool {
    if field < FIRST_RARE {
        field != VALUE && !(FIRST_FREQUENT..FIRST_FREQUENT + 4).contains(&field)
    } else {
        field % 2 == 1
    }
}
