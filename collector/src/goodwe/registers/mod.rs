//! What each register means, as data: address, coding, unit, kind, "no data" rule, limit, and the name we give it.
//!
//! Promise: nothing about a register is said anywhere else; decoding, storing, the simulator and the API's field
//! list all read these tables. Tables are sorted by address and lie inside their block (a test holds that).
//! Sources: the vendor's Modbus documents as collected by public projects, and real captures; see `et` and `dt`.

mod dt;
mod et;
mod labels;

pub use labels::{bit_labels, label};

use crate::config::{BlockName, Family};
use wattlog_model::FieldKind;

/// How a value lies in its words. Words are big-endian, the high word first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// One word, unsigned.
    U16,
    /// One word, two's complement.
    I16,
    /// Two words, unsigned.
    U32,
    /// Two words, two's complement.
    I32,
    /// Four words, unsigned.
    U64,
    /// Two words, IEEE 754 binary32; rounded to a whole number, the meter's own resolution (1 Wh).
    F32,
    /// The high byte of one word.
    ByteHigh,
    /// The low byte of one word.
    ByteLow,
    /// Three words: year - 2000, month, day, hour, minute, second, a byte each.
    Clock,
}

impl Coding {
    /// Words that a value takes.
    pub const fn words(self) -> usize {
        match self {
            Self::U16 | Self::I16 | Self::ByteHigh | Self::ByteLow => 1,
            Self::U32 | Self::I32 | Self::F32 => 2,
            Self::Clock => 3,
            Self::U64 => 4,
        }
    }
}

/// When a value means that the device has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoData {
    /// All ones.
    AllOnes,
    /// All ones or 32767: temperatures.
    Temperature,
    /// All ones or nothing at all: lifetime totals of a meter, which some firmware leaves at 0.
    AllOnesOrZero,
    /// All ones is the honest number -1, unless the register at this address (one that cannot be all ones in earnest)
    /// has no data either: signed powers and currents.
    AllOnesIfAlso(u16),
}

/// What a value can be on a working device. Breaking it makes the value missing, with a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// No limit is known.
    Free,
    /// Between these, in the field's unit.
    Between(i32, i32),
    /// At most 1.5 times what the inverter is rated for, either sign.
    InverterPower,
    /// Power at the grid connection: as [`Limit::InverterPower`], but never below what a house connection carries.
    SupplyPower,
    /// A lifetime total: never falls, never grows faster than the supply power allows.
    Total,
    /// A total of the day: may start again, never grows faster than the supply power allows.
    DayTotal,
}

/// Where a field ends up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Stored always.
    Essential,
    /// Stored with `fields: all`.
    Extra,
    /// Decoded, but only as a part of another field.
    Part,
}

/// Type of the stored value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    /// A measured quantity.
    Float,
    /// A code, a count or a set of bits.
    Integer,
}

/// One value of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register {
    /// Address of its first word.
    pub address: u16,
    /// How it is coded.
    pub coding: Coding,
    /// Value = raw / divisor.
    pub divisor: u16,
    /// Our name for it.
    pub field: &'static str,
    /// Unit after the division; empty for codes.
    pub unit: &'static str,
    /// Behaviour between points.
    pub kind: FieldKind,
    /// Type when stored.
    pub number: Number,
    /// When it means "no data".
    pub no_data: NoData,
    /// What it can be.
    pub limit: Limit,
    /// Where it ends up.
    pub used: Use,
    /// What it is, for people.
    pub about: &'static str,
}

impl Register {
    const fn new(
        address: u16,
        coding: Coding,
        divisor: u16,
        field: &'static str,
        unit: &'static str,
    ) -> Self {
        Self {
            address,
            coding,
            divisor,
            field,
            unit,
            kind: FieldKind::Linear,
            number: Number::Float,
            no_data: NoData::AllOnes,
            limit: Limit::Free,
            used: Use::Extra,
            about: "",
        }
    }

    const fn volts(address: u16, field: &'static str) -> Self {
        Self::new(address, Coding::U16, 10, field, "V").limit(Limit::Between(0, 1_200))
    }

    const fn amps(address: u16, field: &'static str) -> Self {
        Self::new(address, Coding::U16, 10, field, "A").limit(Limit::Between(0, 1_000))
    }

    const fn hertz(address: u16, field: &'static str) -> Self {
        Self::new(address, Coding::I16, 100, field, "Hz").limit(Limit::Between(0, 100))
    }

    const fn celsius(address: u16, field: &'static str) -> Self {
        let mut register = Self::new(address, Coding::I16, 10, field, "C").limit(Limit::Between(-40, 120));
        register.no_data = NoData::Temperature;
        register
    }

    /// A signed power, current or factor, whose -1 is honest unless `anchor` has no data.
    const fn signed(
        address: u16,
        coding: Coding,
        divisor: u16,
        field: &'static str,
        unit: &'static str,
        anchor: u16,
    ) -> Self {
        let mut register = Self::new(address, coding, divisor, field, unit);
        register.no_data = NoData::AllOnesIfAlso(anchor);
        register
    }

    /// A signed power in W.
    const fn watts(address: u16, coding: Coding, field: &'static str, anchor: u16) -> Self {
        Self::signed(address, coding, 1, field, "W", anchor).limit(Limit::SupplyPower)
    }

    const fn percent(address: u16, field: &'static str) -> Self {
        Self::new(address, Coding::U16, 1, field, "%").limit(Limit::Between(0, 100))
    }

    /// A code, a count or bits.
    const fn code(address: u16, coding: Coding, field: &'static str) -> Self {
        let mut register = Self::new(address, coding, 1, field, "");
        register.kind = FieldKind::Step;
        register.number = Number::Integer;
        register
    }

    const fn energy(address: u16, coding: Coding, divisor: u16, field: &'static str, limit: Limit) -> Self {
        let mut register = Self::new(address, coding, divisor, field, "kWh").limit(limit);
        register.kind = FieldKind::Counter;
        register
    }

    /// A lifetime total in kWh that not every meter counts.
    const fn meter_total(address: u16, coding: Coding, divisor: u16, field: &'static str) -> Self {
        let mut register = Self::energy(address, coding, divisor, field, Limit::Total);
        register.no_data = NoData::AllOnesOrZero;
        register
    }

    const fn limit(mut self, limit: Limit) -> Self {
        self.limit = limit;
        self
    }

    const fn step(mut self) -> Self {
        self.kind = FieldKind::Step;
        self
    }

    const fn counter(mut self) -> Self {
        self.kind = FieldKind::Counter;
        self
    }

    /// Seconds of a clock that nobody sets: it moves smoothly.
    const fn unit_of_clock(mut self) -> Self {
        self.unit = "s";
        self.kind = FieldKind::Linear;
        self
    }

    const fn essential(mut self) -> Self {
        self.used = Use::Essential;
        self
    }

    const fn part(mut self) -> Self {
        self.used = Use::Part;
        self
    }

    const fn about(mut self, text: &'static str) -> Self {
        self.about = text;
        self
    }
}

/// A field that is calculated from others; see `super::derive` for how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Derived {
    /// Our name for it.
    pub field: &'static str,
    /// Unit; empty for bits.
    pub unit: &'static str,
    /// Behaviour between points.
    pub kind: FieldKind,
    /// Where it ends up.
    pub used: Use,
    /// What it is, for people.
    pub about: &'static str,
}

impl Derived {
    const fn essential(
        field: &'static str,
        unit: &'static str,
        kind: FieldKind,
        about: &'static str,
    ) -> Self {
        Self { field, unit, kind, used: Use::Essential, about }
    }

    const fn extra(field: &'static str, unit: &'static str, kind: FieldKind, about: &'static str) -> Self {
        Self { field, unit, kind, used: Use::Extra, about }
    }
}

/// Registers read with one request.
#[derive(Debug, Clone, Copy)]
pub struct Block {
    /// Its name in the configuration.
    pub name: BlockName,
    /// First address.
    pub start: u16,
    /// Counts to ask for, in words, the longest form first; a refusal means the next.
    pub forms: &'static [u16],
    /// What lies in it, by rising address.
    pub registers: &'static [Register],
}

/// Blocks of a family in the order of reading.
pub const fn blocks(family: Family) -> &'static [Block] {
    match family {
        Family::Et => et::BLOCKS,
        Family::Dt => dt::BLOCKS,
    }
}

/// One block of a family.
pub fn block(family: Family, name: BlockName) -> Option<&'static Block> {
    blocks(family).iter().find(|block| block.name == name)
}

/// Fields that are calculated for a family.
pub const fn derived(family: Family) -> &'static [Derived] {
    match family {
        Family::Et => et::DERIVED,
        Family::Dt => dt::DERIVED,
    }
}

/// Where the device tells who it is; offsets in words from `start`.
#[derive(Debug, Clone, Copy)]
pub struct InfoLayout {
    /// First address.
    pub start: u16,
    /// Words to ask for.
    pub count: u16,
    /// Version of the register map, rated power in W and kind of AC connection, if they are told.
    pub head: Option<usize>,
    /// 16 characters.
    pub serial: usize,
    /// 10 characters.
    pub model: usize,
    /// Versions of the first and second signal processor and of the ARM processor, then their build numbers.
    pub versions: Versions,
    /// Two texts of 12 characters, firmware and ARM firmware, if they are told.
    pub texts: Option<usize>,
}

/// Offsets of version numbers.
#[derive(Debug, Clone, Copy)]
pub struct Versions {
    /// First signal processor.
    pub dsp1: usize,
    /// Second signal processor.
    pub dsp2: usize,
    /// Build of the signal processors' program.
    pub dsp_build: usize,
    /// ARM processor.
    pub arm: usize,
    /// Build of the ARM processor's program.
    pub arm_build: usize,
}

/// The identity block of a family.
pub const fn info_layout(family: Family) -> InfoLayout {
    match family {
        Family::Et => et::INFO,
        Family::Dt => dt::INFO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn tables_are_sorted_and_lie_inside_their_blocks() {
        for family in [Family::Et, Family::Dt] {
            for block in blocks(family) {
                assert!(block.forms.windows(2).all(|pair| pair[0] > pair[1]), "{:?}", block.name);
                let end = usize::from(block.start) + usize::from(block.forms[0]);
                for register in block.registers {
                    let last = usize::from(register.address) + register.coding.words();
                    assert!(register.address >= block.start && last <= end, "{}", register.field);
                }
                assert!(block.registers.is_sorted_by_key(|register| register.address), "{:?}", block.name);
            }
        }
    }

    #[test]
    fn one_field_has_one_meaning_in_both_families() {
        let mut seen: HashMap<&str, (&str, FieldKind, Number)> = HashMap::new();
        for family in [Family::Et, Family::Dt] {
            let mut names = Vec::new();
            for register in blocks(family).iter().flat_map(|block| block.registers) {
                assert!(!register.about.is_empty(), "{} says nothing about itself", register.field);
                names.push(register.field);
                let meaning = (register.unit, register.kind, register.number);
                assert_eq!(*seen.entry(register.field).or_insert(meaning), meaning, "{}", register.field);
            }
            names.extend(derived(family).iter().map(|derived| derived.field));
            names.sort_unstable();
            let twice: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).collect();
            assert!(twice.is_empty(), "{twice:?}");
        }
    }

    #[test]
    fn every_anchor_is_a_register_of_the_same_block() {
        for block in [Family::Et, Family::Dt].into_iter().flat_map(blocks) {
            for register in block.registers {
                if let NoData::AllOnesIfAlso(anchor) = register.no_data {
                    let found = block.registers.iter().find(|other| other.address == anchor);
                    let certain = found.is_some_and(|other| other.no_data == NoData::AllOnes);
                    assert!(certain, "{} leans on {anchor}", register.field);
                }
            }
        }
    }
}
