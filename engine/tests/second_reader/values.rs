//! Values of columns, of the kinds for which the format has a form of its own.

use crate::dice::Dice;
use wattlog_model::FieldValue;

/// How the values of a field behave. One variant for each reason to choose a codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Constant,
    Decimal,
    DecimalWithExceptions,
    Held,
    Single,
    Double,
    DoubleInRuns,
    Bits,
    Zeros,
    Counter,
    Walk,
    Thousands,
    FarApart,
    Random,
    Flag,
    LongFlag,
    SteadyFlag,
    Word,
    Sentence,
    LongText,
    AnyText,
}

pub const FLOATS: [Shape; 9] = [
    Shape::Constant,
    Shape::Decimal,
    Shape::DecimalWithExceptions,
    Shape::Held,
    Shape::Single,
    Shape::Double,
    Shape::DoubleInRuns,
    Shape::Bits,
    Shape::Zeros,
];
pub const INTEGERS: [Shape; 7] = [
    Shape::Constant,
    Shape::Counter,
    Shape::Walk,
    Shape::Held,
    Shape::Thousands,
    Shape::FarApart,
    Shape::Random,
];
pub const BOOLEANS: [Shape; 3] = [Shape::Flag, Shape::LongFlag, Shape::SteadyFlag];
pub const STRINGS: [Shape; 4] = [Shape::Word, Shape::Sentence, Shape::LongText, Shape::AnyText];

/// The type of a field and how its values behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Float(Shape),
    Integer(Shape),
    Unsigned(Shape),
    Boolean(Shape),
    String(Shape),
}

impl Kind {
    pub fn random(dice: &mut Dice) -> Self {
        match dice.below(10) {
            0..4 => Self::Float(*dice.pick(&FLOATS)),
            4..6 => Self::Integer(*dice.pick(&INTEGERS)),
            6 => Self::Unsigned(*dice.pick(&INTEGERS)),
            7 => Self::Boolean(*dice.pick(&BOOLEANS)),
            _ => Self::String(*dice.pick(&STRINGS)),
        }
    }
}

/// A field's values one after another.
#[derive(Debug)]
pub struct Source {
    kind: Kind,
    at: i64,
    decimals: i32,
    count: u64,
    hold: u64,
}

impl Source {
    pub fn new(kind: Kind, dice: &mut Dice) -> Self {
        Self { kind, at: dice.between(-5000, 50_000), decimals: dice.below(10) as i32, count: 0, hold: 0 }
    }

    pub fn next(&mut self, dice: &mut Dice) -> FieldValue {
        self.count += 1;
        match self.kind {
            Kind::Float(shape) => FieldValue::Float(self.float(shape, dice)),
            Kind::Integer(shape) => FieldValue::Integer(self.integer(shape, dice)),
            // Around both ends of the range: what is negative as an integer stands near the upper one.
            Kind::Unsigned(shape) => FieldValue::Unsigned(self.integer(shape, dice) as u64),
            Kind::Boolean(shape) => FieldValue::Boolean(self.boolean(shape, dice)),
            Kind::String(shape) => FieldValue::String(self.text(shape, dice).into()),
        }
    }

    fn float(&mut self, shape: Shape, dice: &mut Dice) -> f64 {
        let decimal = |at: i64, decimals: i32| at as f64 / 10f64.powi(decimals);
        match shape {
            Shape::Constant => decimal(self.at, self.decimals),
            Shape::DecimalWithExceptions if dice.chance(4) => {
                *dice.pick(&[-0.0, 1.0 / 3.0, f64::MAX, f64::MIN_POSITIVE, 5e-324, 9007199254740993.0, 1e300])
            }
            Shape::Decimal | Shape::DecimalWithExceptions => {
                self.at += dice.between(-9, 9);
                decimal(self.at, self.decimals)
            }
            Shape::Held => {
                self.hold(dice, 500);
                decimal(self.at, 4)
            }
            Shape::Single => {
                self.at += dice.between(-300, 300);
                f64::from(self.at as f32 / 997.0)
            }
            Shape::Double => {
                self.at += dice.between(-3, 3);
                self.at as f64 / 3.0
            }
            Shape::DoubleInRuns => {
                self.hold(dice, 3);
                self.at as f64 * 0.1 / 3.0
            }
            Shape::Bits => loop {
                let value = f64::from_bits(dice.next());
                if value.is_finite() {
                    break value;
                }
            },
            _ => *dice.pick(&[0.0, -0.0, 1.0, -1.0, 0.5, 1e9, -1e-9]),
        }
    }

    fn integer(&mut self, shape: Shape, dice: &mut Dice) -> i64 {
        match shape {
            Shape::Constant => self.at,
            Shape::Counter => {
                self.at += if dice.chance(3) { dice.between(2, 4000) } else { 7 };
                self.at
            }
            Shape::Walk => {
                self.at += dice.between(-20, 20);
                if dice.chance(1) {
                    self.at += 100_000;
                }
                self.at
            }
            Shape::Held => {
                self.hold(dice, 1000);
                self.at
            }
            Shape::Thousands => dice.between(-400, 400) * 1000,
            Shape::FarApart => *dice.pick(&[-5, 1, 1_000_000_007, i64::MAX, i64::MIN, 77]),
            _ => dice.next() as i64,
        }
    }

    fn boolean(&mut self, shape: Shape, dice: &mut Dice) -> bool {
        match shape {
            Shape::Flag => dice.chance(50),
            Shape::LongFlag => {
                self.hold(dice, 1);
                self.at % 2 == 0
            }
            _ => self.at % 2 == 0,
        }
    }

    fn text(&mut self, shape: Shape, dice: &mut Dice) -> String {
        match shape {
            Shape::Word => {
                (*dice.pick(&["eco", "backup", "off", "", "na sieci", "żółć", "a \"b\"\\\n\t\u{1}"]))
                    .to_owned()
            }
            Shape::Sentence => format!("event {} at {:04x}", self.count, dice.next() as u16),
            Shape::LongText => {
                let part = format!("inverter {} says that all is well; ", dice.below(4));
                let repeats = if dice.below(400) == 0 { 1500 } else { dice.below(30) };
                part.repeat(repeats as usize)
            }
            _ => {
                let signs = dice.below(24);
                (0..signs).filter_map(|_| char::from_u32(dice.below(0x3000) as u32 + 1)).collect()
            }
        }
    }

    /// Moves on once in about forty values, by up to `step`.
    fn hold(&mut self, dice: &mut Dice, step: i64) {
        if self.hold == 0 {
            self.hold = dice.below(80) + 1;
            self.at += if step == 1 { 1 } else { dice.between(-step, step) };
        }
        self.hold -= 1;
    }
}

/// Which rows have a value of a field.
#[derive(Debug, Clone, Copy)]
pub enum Presence {
    All,
    Every(u64),
    Stretch,
    Share(u64),
    Rare,
}

impl Presence {
    pub fn random(dice: &mut Dice) -> Self {
        match dice.below(8) {
            0..4 => Self::All,
            4 => Self::Every(2 + dice.below(4)),
            5 => Self::Stretch,
            6 => Self::Share(30 + dice.below(60)),
            _ => Self::Rare,
        }
    }

    pub fn is_there(self, row: u64, rows: u64, dice: &mut Dice) -> bool {
        match self {
            Self::All => true,
            Self::Every(n) => row.is_multiple_of(n),
            Self::Stretch => row >= rows / 4 && row < rows / 2,
            Self::Share(percent) => dice.chance(percent),
            Self::Rare => dice.below(100) == 0,
        }
    }
}
