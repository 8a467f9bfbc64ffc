use super::super::decode::decode_into;
use super::*;
use proptest::prelude::*;
use wattlog_model::FieldKind;

/// Readings of these registers; `None` is "no data".
fn readings(family: Family, values: &[(u16, Option<f64>)]) -> Vec<Reading> {
    let reading = |(address, value): &(u16, Option<f64>)| {
        let registers = registers::blocks(family).iter().flat_map(|block| block.registers);
        let register = registers.into_iter().find(|register| register.address == *address).unwrap();
        let value = value.map(|number| match register.number {
            registers::Number::Float => FieldValue::Float(number),
            registers::Number::Integer => FieldValue::Integer(number as i64),
        });
        Reading { register, value }
    };
    values.iter().map(reading).collect()
}

fn check(family: Family, values: &[(u16, Option<f64>)], expected: &[(&str, Option<f64>)]) {
    let mut assembler = Assembler::new(family, FieldChoice::All);
    assembler.set_second_battery(SecondBattery::Absent);
    check_with(&mut assembler, values, expected);
}

fn check_with(assembler: &mut Assembler, values: &[(u16, Option<f64>)], expected: &[(&str, Option<f64>)]) {
    let fields = assembler.fields(&mut readings(assembler.family, values), Timestamp(0));
    for (name, wanted) in expected {
        let found = fields.iter().find(|(field, _)| field == name).map(|(_, value)| match value {
            FieldValue::Float(number) => *number,
            FieldValue::Integer(number) => *number as f64,
            other => panic!("{other:?}"),
        });
        assert_eq!(found, *wanted, "{name} of {values:?}");
    }
}

const HYBRID: [(u16, Option<f64>); 5] = [
    (35105, Some(1_695.0)),
    (35109, Some(1_761.0)),
    (35113, None),
    (35140, Some(-3.0)),
    (35182, Some(-2_512.0)),
];

fn hybrid(others: &[(u16, Option<f64>)]) -> Vec<(u16, Option<f64>)> {
    let kept = HYBRID.iter().filter(|(address, _)| others.iter().all(|(other, _)| other != address));
    kept.copied().chain(others.iter().copied()).collect()
}

#[test]
fn the_balance_of_a_hybrid() {
    let expected = [("pv_power", Some(3_456.0)), ("grid_power", Some(-3.0)), ("consumption", Some(947.0))];
    check(Family::Et, &hybrid(&[]), &expected);
    // The meter's own reading of a moment later does not disturb the balance.
    check(Family::Et, &hybrid(&[(36025, Some(-110.0))]), &expected);
}

#[test]
fn nothing_is_calculated_from_what_is_not_there() {
    for (others, pv, grid, consumption) in [
        (vec![(35105, None), (35109, None)], None, Some(-3.0), None),
        (vec![(35140, None)], Some(3_456.0), None, None),
        (vec![(35140, None), (36025, Some(-110.0))], Some(3_456.0), Some(-110.0), Some(1_054.0)),
        (vec![(35182, None)], Some(3_456.0), Some(-3.0), None),
        // A string that cannot be true makes the sum unknown, not smaller.
        (vec![(35109, Some(4e9))], None, Some(-3.0), None),
    ] {
        let expected = [("pv_power", pv), ("grid_power", grid), ("consumption", consumption)];
        check(Family::Et, &hybrid(&others), &expected);
    }
}

#[test]
fn a_power_that_wraps_is_told_by_the_meter_or_not_at_all() {
    for (active, meter, grid) in [
        (25_536.0, Some(-40_000.0), Some(-40_000.0)),
        (25_536.0, Some(25_400.0), Some(25_536.0)),
        // The meter, read a moment earlier, had not reached the border yet.
        (32_600.0, Some(-32_500.0), Some(-32_936.0)),
        // An import of 40 kW was stored as an export of 25.5 kW when the meter's block was lost.
        (25_536.0, None, None),
        (-25_536.0, None, None),
        (20_000.0, None, Some(20_000.0)),
    ] {
        let values = hybrid(&[(35140, Some(active)), (36025, meter)]);
        let consumption = grid.map(|grid| 944.0 - grid);
        check(Family::Et, &values, &[("grid_power", grid), ("consumption", consumption)]);
    }
}

#[test]
fn pv_power_is_what_came_with_the_battery_unless_there_are_more_strings() {
    let mut assembler = Assembler::new(Family::Et, FieldChoice::All);
    let values = |others: &[(u16, Option<f64>)]| hybrid(&[&[(35266, Some(0.0))], others].concat());
    for (others, pv) in [
        (vec![(35301, Some(3_400.0)), (35303, Some(4.0))], Some(3_456.0)),
        (vec![(35301, Some(9_000.0)), (35303, Some(8.0))], Some(9_000.0)),
        // Strings 5 to 8 were not told this time.
        (vec![], None),
    ] {
        let expected = [("pv_power", pv), ("consumption", pv.map(|pv| pv - 2_512.0 + 3.0))];
        check_with(&mut assembler, &values(&others), &expected);
    }
}

#[test]
fn an_inverter_without_battery_has_no_battery_fields_and_a_balance_all_the_same() {
    let values = hybrid(&[(35180, Some(0.0)), (35181, Some(0.0)), (35182, Some(0.0)), (35184, Some(0.0))]);
    let expected = [
        ("battery_power", None),
        ("battery_voltage", None),
        ("battery_mode", Some(0.0)),
        ("consumption", Some(3_459.0)),
    ];
    check(Family::Et, &values, &expected);
}

#[test]
fn without_a_second_battery_that_may_be_there_no_consumption_is_told() {
    let consumption = |second_battery: SecondBattery, others: &[(u16, Option<f64>)]| {
        let mut assembler = Assembler::new(Family::Et, FieldChoice::All);
        assembler.set_second_battery(second_battery);
        let fields = assembler.fields(&mut readings(Family::Et, &hybrid(others)), Timestamp(0));
        fields.into_iter().find(|(name, _)| name == "consumption").map(|(_, value)| value)
    };
    let told = |watts: f64| Some(FieldValue::Float(watts));
    for (others, if_possible, if_absent) in [
        // Not read: it timed out, is not configured, or the device did not say who it is.
        (vec![], None, told(947.0)),
        (vec![(35264, Some(500.0))], told(1_447.0), told(1_447.0)),
        (vec![(35264, None)], None, told(947.0)),
        (vec![(35264, Some(0.0)), (35266, Some(0.0))], told(947.0), told(947.0)),
        // 4 GW.
        (vec![(35264, Some(4e9))], None, None),
    ] {
        assert_eq!(consumption(SecondBattery::Possible, &others), if_possible, "{others:?}");
        assert_eq!(consumption(SecondBattery::Absent, &others), if_absent, "{others:?}");
    }
}

#[test]
fn a_meter_that_does_not_answer_its_inverter_tells_nothing() {
    let values = hybrid(&[(36004, Some(0.0)), (36025, Some(0.0)), (36015, Some(12.0))]);
    let expected = [
        ("meter_power", None),
        ("grid_export_energy_total", None),
        ("meter_comm_status", Some(0.0)),
        // The inverter knows this one from the meter too.
        ("grid_power", None),
        ("consumption", None),
        ("pv_power", Some(3_456.0)),
    ];
    check(Family::Et, &values, &expected);
}

#[test]
fn a_second_meter_that_is_not_there_tells_nothing() {
    let values = |comm: Option<f64>| [(36045, Some(0.0)), (36047, Some(7.5)), (36051, comm)];
    for (comm, power) in [(Some(0.0), None), (None, None), (Some(1.0), Some(0.0))] {
        let energy = power.map(|_| 7.5);
        let expected =
            [("meter2_power", power), ("meter2_export_energy_total", energy), ("meter2_comm_status", comm)];
        check(Family::Et, &values(comm), &expected);
    }
}

#[test]
fn totals_of_the_meter_prefer_the_long_form_and_bits_join_two_words() {
    let long = [(36015, Some(16_777.3)), (36104, Some(16_777.31)), (36017, Some(5.0)), (36120, None)];
    let expected = [("grid_export_energy_total", Some(16_777.31)), ("grid_import_energy_total", Some(5.0))];
    check(Family::Et, &long, &expected);
    let bits = [(37006, Some(3.0)), (37012, Some(1.0)), (37010, Some(1.0)), (37013, None)];
    let expected =
        [("battery_error_bits", Some(65_539.0)), ("battery_warning_bits", None), ("battery_error_low", None)];
    check(Family::Et, &bits, &expected);
}

#[test]
fn a_grid_only_inverter_multiplies_volts_and_amps() {
    let values = [
        (30103, Some(400.6)),
        (30104, Some(6.9)),
        (30105, Some(364.0)),
        (30106, None),
        (30107, None),
        (30108, None),
        (30127, Some(5_914.0)),
        (30195, Some(4_000.0)),
        (30209, Some(1.0)),
    ];
    let expected = [
        ("pv1_power", Some(2_764.0)),
        ("pv2_power", None),
        ("pv3_power", None),
        // Half of a string is known: the sum is not.
        ("pv_power", None),
        ("grid_power", Some(4_000.0)),
        ("consumption", Some(1_914.0)),
    ];
    check(Family::Dt, &values, &expected);
    let mut silent = values;
    silent[8].1 = Some(2.0);
    check(Family::Dt, &silent, &[("grid_power", None), ("consumption", None), ("meter_power", None)]);
}

#[test]
fn every_field_that_is_stored_says_its_unit_and_kind() {
    for family in [Family::Et, Family::Dt] {
        let meanings = fields(family);
        let pv = meanings.iter().find(|meaning| meaning.field == "pv_power").unwrap();
        assert_eq!((pv.unit.as_ref().unwrap().as_str(), pv.kind), ("W", FieldKind::Linear));
        let words = [0x0102_u16; 125];
        let mut readings = Vec::new();
        for block in registers::blocks(family) {
            decode_into(block, &words, &mut readings);
        }
        let stored = Assembler::new(family, FieldChoice::All).fields(&mut readings, Timestamp(0));
        for (name, _) in stored {
            assert!(meanings.iter().any(|meaning| meaning.field == name), "{name}");
        }
    }
}

proptest! {
    #[test]
    fn any_words_give_finite_fields_of_different_names(
        words in proptest::collection::vec(any::<u16>(), 0..126),
        rated in proptest::option::of(0_u32..100_000),
    ) {
        for family in [Family::Et, Family::Dt] {
            let mut assembler = Assembler::new(family, FieldChoice::All);
            assembler.set_rated_power(rated);
            let mut readings = Vec::new();
            for block in registers::blocks(family) {
            decode_into(block, &words, &mut readings);
        }
            let fields = assembler.fields(&mut readings, Timestamp(0));
            let mut names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
            names.sort_unstable();
            prop_assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
            for (name, value) in &fields {
                if let FieldValue::Float(number) = value {
                    prop_assert!(number.is_finite(), "{} {}", name, number);
                }
            }
        }
    }
}
