//! Totals of a period: the balance, and how much of the energy was one's own.

use super::Flows;
use serde::{Deserialize, Serialize};

/// Six totals of a period in kWh, none negative; `None` is not known.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeriodEnergy {
    /// Produced by PV.
    pub pv_kwh: Option<f64>,
    /// Into the battery.
    pub charge_kwh: Option<f64>,
    /// Out of the battery.
    pub discharge_kwh: Option<f64>,
    /// Bought.
    pub import_kwh: Option<f64>,
    /// Sold.
    pub export_kwh: Option<f64>,
    /// Used by the house.
    pub consumption_kwh: Option<f64>,
}

/// A share with both its parts, so that shares of days can be joined to that of a month.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// kWh that count.
    pub part_kwh: f64,
    /// kWh in all, more than 0.
    pub whole_kwh: f64,
    /// `part / whole`.
    pub share: f64,
}

impl Share {
    /// None unless both are finite and the whole is more than 0.
    fn of(part_kwh: f64, whole_kwh: f64) -> Option<Self> {
        let share = part_kwh / whole_kwh;
        (whole_kwh > 0.0 && share.is_finite()).then_some(Self { part_kwh, whole_kwh, share })
    }
}

impl PeriodEnergy {
    /// PV + discharge - charge + import - export - consumption, in kWh: 0 if all is measured well. Losses of the inverter
    /// make it positive. None if a total is missing; a house without a battery gives 0 for both of its totals.
    pub fn balance_error_kwh(&self) -> Option<f64> {
        let given = self.pv_kwh? + self.discharge_kwh? + self.import_kwh?;
        Some(given - self.charge_kwh? - self.export_kwh? - self.consumption_kwh?)
    }

    /// Self-consumption: the share of PV energy that was not sold, (PV - export) / PV. None without PV.
    ///
    /// True only as far as the battery sells nothing: what it sells counts against PV here (and may make the share
    /// negative). [`Flows::self_consumption`] tells both apart.
    ///
    /// # Source
    /// R. Luthander et al., Photovoltaic self-consumption in buildings: a review, Applied Energy 142 (2015), section 2.
    pub fn self_consumption(&self) -> Option<Share> {
        let pv = self.pv_kwh?;
        Share::of(pv - self.export_kwh?, pv)
    }

    /// Self-sufficiency: the share of consumption that was not bought, 1 - import / consumption. None without consumption.
    ///
    /// True only as far as the battery is not charged from the grid: what it buys counts against the house here (and may
    /// make the share negative). [`Flows::self_sufficiency`] tells both apart.
    ///
    /// # Source
    /// As for [`PeriodEnergy::self_consumption`].
    pub fn self_sufficiency(&self) -> Option<Share> {
        let consumption = self.consumption_kwh?;
        Share::of(consumption - self.import_kwh?, consumption)
    }
}

impl Flows {
    /// Self-consumption by flows: PV to house and battery, over all of PV that went somewhere. None without PV.
    pub fn self_consumption(&self) -> Option<Share> {
        let own = self.pv_to_house + self.pv_to_battery;
        Share::of(own, own + self.pv_to_grid)
    }

    /// Self-sufficiency by flows: what the house got from PV and battery, over all it got. None if it got nothing.
    /// Energy that the battery had bought counts as its own: a battery does not say where its charge came from.
    pub fn self_sufficiency(&self) -> Option<Share> {
        let house = self.house();
        Share::of(house - self.grid_to_house, house)
    }
}

/// One of the six totals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// [`PeriodEnergy::pv_kwh`].
    Pv,
    /// [`PeriodEnergy::charge_kwh`].
    Charge,
    /// [`PeriodEnergy::discharge_kwh`].
    Discharge,
    /// [`PeriodEnergy::import_kwh`].
    Import,
    /// [`PeriodEnergy::export_kwh`].
    Export,
    /// [`PeriodEnergy::consumption_kwh`].
    Consumption,
}

/// Where a total was taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// Increase of a lifetime counter.
    Counter,
    /// Integral of power.
    Integral,
    /// Neither is there.
    Missing,
}

/// Totals of a period, each from the better source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeriodSources {
    /// The totals.
    pub energy: PeriodEnergy,
    /// Where each came from, in the order of [`PeriodEnergy`]'s fields.
    pub from: [(Quantity, Choice); 6],
    /// Quantities whose counter and integral differ by more than the tolerance: (which, counter kWh, integral kWh).
    pub disagree: Vec<(Quantity, f64, f64)>,
}

/// Takes each total from the lifetime counter where there is one (it counts on while nobody polls), else from the
/// integral. Both there and further apart than `tolerance_kwh` and than `tolerance_share` of the counter: told, and the
/// counter stands. A total that is negative or no finite number counts as missing.
pub fn choose(
    counters: &PeriodEnergy,
    integrals: &PeriodEnergy,
    tolerance_kwh: f64,
    tolerance_share: f64,
) -> PeriodSources {
    let mut disagree = Vec::new();
    let mut pick = |quantity, counter: Option<f64>, integral: Option<f64>| {
        let sound = |kwh: &f64| kwh.is_finite() && *kwh >= 0.0;
        let (counter, integral) = (counter.filter(sound), integral.filter(sound));
        if let (Some(counter), Some(integral)) = (counter, integral) {
            let apart = (counter - integral).abs();
            if apart > tolerance_kwh && apart > tolerance_share * counter {
                disagree.push((quantity, counter, integral));
            }
        }
        let choice = match (counter, integral) {
            (Some(_), _) => Choice::Counter,
            (None, Some(_)) => Choice::Integral,
            (None, None) => Choice::Missing,
        };
        (counter.or(integral), (quantity, choice))
    };
    let (pv_kwh, pv) = pick(Quantity::Pv, counters.pv_kwh, integrals.pv_kwh);
    let (charge_kwh, charge) = pick(Quantity::Charge, counters.charge_kwh, integrals.charge_kwh);
    let (discharge_kwh, discharge) =
        pick(Quantity::Discharge, counters.discharge_kwh, integrals.discharge_kwh);
    let (import_kwh, import) = pick(Quantity::Import, counters.import_kwh, integrals.import_kwh);
    let (export_kwh, export) = pick(Quantity::Export, counters.export_kwh, integrals.export_kwh);
    let (consumption_kwh, consumption) =
        pick(Quantity::Consumption, counters.consumption_kwh, integrals.consumption_kwh);
    let energy = PeriodEnergy { pv_kwh, charge_kwh, discharge_kwh, import_kwh, export_kwh, consumption_kwh };
    PeriodSources { energy, from: [pv, charge, discharge, import, export, consumption], disagree }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day() -> PeriodEnergy {
        PeriodEnergy {
            pv_kwh: Some(20.0),
            charge_kwh: Some(6.0),
            discharge_kwh: Some(5.0),
            import_kwh: Some(3.0),
            export_kwh: Some(8.0),
            consumption_kwh: Some(13.5),
        }
    }

    #[test]
    fn shares_and_the_error_of_the_balance() {
        let day = day();
        assert_eq!(day.balance_error_kwh(), Some(0.5));
        assert_eq!(day.self_consumption().unwrap().share, 0.6);
        let sufficiency = day.self_sufficiency().unwrap();
        assert_eq!((sufficiency.part_kwh, sufficiency.whole_kwh), (10.5, 13.5));
    }

    #[test]
    fn nothing_is_taken_as_zero() {
        let missing = PeriodEnergy { import_kwh: None, ..day() };
        assert_eq!(missing.balance_error_kwh(), None);
        assert_eq!(missing.self_sufficiency(), None);
        assert!(missing.self_consumption().is_some());
        let dark = PeriodEnergy { pv_kwh: Some(0.0), export_kwh: Some(0.0), ..day() };
        assert_eq!(dark.self_consumption(), None);
        let away = PeriodEnergy { consumption_kwh: Some(0.0), ..day() };
        assert_eq!(away.self_sufficiency(), None);
        assert_eq!(Flows::default().self_sufficiency(), None);
        assert_eq!(Flows::default().self_consumption(), None);
        let odd = PeriodEnergy { pv_kwh: Some(f64::INFINITY), ..day() };
        assert_eq!(odd.self_consumption(), None);
    }

    #[test]
    fn flows_tell_a_battery_that_trades_apart() {
        // PV 10: house 4, battery 6. Battery sells 5. The night's 3 come from the grid, 2 more go into the battery.
        let flows = Flows {
            pv_to_house: 4.0,
            pv_to_battery: 6.0,
            battery_to_grid: 5.0,
            grid_to_house: 3.0,
            grid_to_battery: 2.0,
            ..Flows::default()
        };
        assert_eq!(flows.self_consumption().unwrap().share, 1.0);
        assert_eq!(flows.self_sufficiency().unwrap().share, 4.0 / 7.0);
        let totals = PeriodEnergy {
            pv_kwh: Some(10.0),
            export_kwh: Some(5.0),
            import_kwh: Some(5.0),
            consumption_kwh: Some(7.0),
            ..PeriodEnergy::default()
        };
        assert_eq!(totals.self_consumption().unwrap().share, 0.5);
    }

    #[test]
    fn counters_stand_before_integrals_and_a_difference_is_told() {
        let counters = PeriodEnergy { consumption_kwh: None, import_kwh: Some(f64::NAN), ..day() };
        let integrals = PeriodEnergy {
            pv_kwh: Some(15.0),
            charge_kwh: Some(6.02),
            import_kwh: Some(2.9),
            consumption_kwh: Some(13.0),
            ..PeriodEnergy::default()
        };
        let chosen = choose(&counters, &integrals, 0.1, 0.02);
        assert_eq!(chosen.disagree, [(Quantity::Pv, 20.0, 15.0)]);
        assert_eq!(chosen.energy.pv_kwh, Some(20.0));
        assert_eq!(chosen.energy.import_kwh, Some(2.9));
        assert_eq!(chosen.energy.consumption_kwh, Some(13.0));
        let from: Vec<Choice> = chosen.from.iter().map(|(_, choice)| *choice).collect();
        use Choice::{Counter, Integral};
        assert_eq!(from, [Counter, Counter, Counter, Integral, Counter, Integral]);
        // Over the tolerance in kWh alone, or in share alone: no difference worth a word.
        let near = PeriodEnergy { pv_kwh: Some(19.7), ..PeriodEnergy::default() };
        assert_eq!(choose(&day(), &near, 0.1, 0.02).disagree, []);
        let small = PeriodEnergy { import_kwh: Some(2.92), ..PeriodEnergy::default() };
        assert_eq!(choose(&day(), &small, 0.1, 0.02).disagree, []);
        let endless = PeriodEnergy { pv_kwh: Some(f64::INFINITY), export_kwh: Some(-1.0), ..day() };
        let chosen = choose(&endless, &PeriodEnergy::default(), 0.1, 0.02).energy;
        assert_eq!((chosen.pv_kwh, chosen.export_kwh), (None, None));
        let none = choose(&PeriodEnergy::default(), &PeriodEnergy::default(), 0.1, 0.02);
        assert!(none.from.iter().all(|(_, choice)| *choice == Choice::Missing));
    }
}
