//! Two years of every tariff against a table that another program wrote by other means (`tariff_table.py`).

use std::process::Command;
use wattlog_analytics::tariff::{BUILTIN_NAMES, Kompas, KompasHour, MarketPrices, builtin};
use wattlog_analytics::zone;
use wattlog_model::Timestamp;

const SECOND: i64 = 1_000_000_000;

/// Columns of the table; none, with a word on the terminal, if there is no Python that knows time zones.
fn table() -> Option<Vec<[i64; 8]>> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tariff_table.py");
    let knows =
        Command::new("python3").args(["-c", "import zoneinfo; zoneinfo.ZoneInfo('Europe/Warsaw')"]).output();
    if !knows.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no python3 with zoneinfo and a tz database, so the tariffs have no second table");
        return None;
    }
    let output = Command::new("python3").arg(script).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let row = |line: &str| -> [i64; 8] {
        let numbers: Vec<i64> = line.split(' ').map(|word| word.parse().unwrap()).collect();
        numbers.try_into().unwrap()
    };
    Some(text.lines().map(row).collect())
}

#[test]
fn every_quarter_of_two_years_costs_what_the_second_table_says() {
    let Some(rows) = table() else { return };
    assert_eq!(rows.len(), 2 * 365 * 96, "two years, each with a day of 23 and one of 25 hours");
    let warsaw = zone("Europe/Warsaw").unwrap();
    let time = |row: &[i64; 8]| Timestamp(row[0] * SECOND);
    let range = time(&rows[0])..Timestamp(time(rows.last().unwrap()).0 + 900 * SECOND);
    let mut hours: Vec<KompasHour> = Vec::new();
    for row in rows.iter().filter(|row| row[0] % 3600 == 0) {
        hours.extend(Kompas::from_code(row[6] as u8).map(|code| KompasHour { start: time(row), code }));
    }
    let market: Vec<(Timestamp, f64)> =
        rows.iter().enumerate().map(|(i, row)| (time(row), ((i * 37) % 1500) as f64 - 200.0)).collect();

    for (column, name) in [1, 2, 3, 4, 5, 7].into_iter().zip(BUILTIN_NAMES) {
        let tariff = builtin(name).unwrap();
        let pieces = tariff.pieces(range.clone(), &warsaw, &hours).unwrap();
        let prices = MarketPrices { points: &market, max_age_ns: 900 * SECOND };
        let totals = tariff.total_prices(prices, range.clone(), &warsaw, &hours).unwrap();
        assert_eq!(totals.len(), market.len(), "{name}: a market price for each quarter, all different");
        let mut at = 0;
        for (row, total) in rows.iter().zip(&totals) {
            let expected = row[column] as f64 / 10_000.0;
            let code = Kompas::from_code(row[6] as u8);
            let single = tariff.distribution(time(row), &warsaw, code);
            assert!((single.pln_kwh - expected).abs() < 1e-12, "{name} at {}: {single:?}", row[0]);
            while pieces[at].end <= time(row) {
                at += 1;
            }
            assert_eq!(pieces[at].distribution, single, "{name} at {}", row[0]);
            assert_eq!((total.start, total.end.0), (time(row), time(row).0 + 900 * SECOND));
            let sum = total.market_pln_mwh / 1000.0 + 0.0892 + expected;
            assert!((total.total_pln_kwh - sum).abs() < 1e-12);
            assert_eq!(total.assumed, name == "g14dynamic" && row[6] == 4);
        }
    }
}
