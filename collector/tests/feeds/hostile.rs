//! No bytes make a parser panic or take more than it was given.

use jiff::tz::TimeZone;
use proptest::prelude::*;
use wattlog_collector::config::{MqttConfig, PseProduct};
use wattlog_collector::feeds::{energy_charts, entsoe, nbp, pse, weather};
use wattlog_collector::mqtt::{Mapping, Message};
use wattlog_model::Timestamp;

/// Small valid answers, to be damaged.
const VALID: [&str; 7] = [
    r#"{"value":[{"dtime_utc":"2026-03-29 01:00:00","rce_pln":-12.5,"csdac_pln":1,"usage_fcst":2,"is_active":true,"publication_ts_utc":"2026-03-28 12:30:17.561000"}],"nextLink":"x"}"#,
    r#"<Publication_MarketDocument xmlns="u"><TimeSeries><currency_Unit.name>EUR</currency_Unit.name><price_Measure_Unit.name>MWH</price_Measure_Unit.name><curveType>A03</curveType><Period><timeInterval><start>2026-03-28T23:00Z</start><end>2026-03-29T22:00Z</end></timeInterval><resolution>PT15M</resolution><Point><position>1</position><price.amount>3.5</price.amount></Point></Period></TimeSeries></Publication_MarketDocument>"#,
    "<Acknowledgement_MarketDocument><Reason><code>999</code><text>No matching data found</text></Reason></Acknowledgement_MarketDocument>",
    r#"{"unix_seconds":[3600,4500],"price":[1.5,-2],"unit":"EUR / MWh"}"#,
    r#"{"code":"EUR","rates":[{"effectiveDate":"2026-03-27","mid":4.2689}]}"#,
    r#"{"utc_offset_seconds":0,"hourly_units":{"time":"unixtime","temperature_2m":"°C"},"hourly":{"time":[3600],"temperature_2m":[1.5]}}"#,
    r#"{"data_pomiaru":"2025-12-02","godzina_pomiaru":"6","temperatura":"-0.6"}"#,
];

fn mapping() -> Mapping {
    let config: MqttConfig = serde_json::from_str(
        r#"{"url":"mqtt://b","topics":[{"topic":"a/+","measurement":"m","tags":{"id":"{1}"},"time":{"path":"rates.0.mid","format":"unix"},
            "fields":[{"field":"p","path":"value.0.rce_pln"},{"field":"t","path":"code","type":"text"},{"field":"n","path":"rates.0.mid","type":"integer"}]},
            {"topic":"b/\u0023","measurement":"m","fields":[{"field":"p"},{"field":"q","type":"boolean"}]}]}"#,
    )
    .unwrap();
    Mapping::new(&config)
}

fn parse_as_everything(body: &[u8]) {
    let warsaw = TimeZone::get("Europe/Warsaw").unwrap();
    for product in [PseProduct::CsdacPln, PseProduct::RcePln, PseProduct::EnergyPrices, PseProduct::Pdgsz] {
        let _ = pse::parse(product, body);
    }
    if let Ok(parsed) = entsoe::parse(body) {
        assert!(parsed.rows.len() <= entsoe::MAX_ROWS);
        assert!(parsed.rows.windows(2).all(|pair| pair[0].time < pair[1].time));
    }
    let _ = energy_charts::parse(body);
    let _ = nbp::parse(body, &warsaw);
    let _ = weather::parse_open_meteo(body);
    let _ = weather::parse_imgw(body);
    let mapping = mapping();
    for topic in ["a/x", "b/y", "a/", ""] {
        for is_retained in [false, true] {
            let _ = mapping.point(Message { topic, payload: body, is_retained, arrived: Timestamp(0) });
        }
    }
}

#[test]
fn the_undamaged_ones_are_read() {
    let read = [
        pse::parse(PseProduct::RcePln, VALID[0].as_bytes()).unwrap().rows.len(),
        entsoe::parse(VALID[1].as_bytes()).unwrap().rows.len(),
        entsoe::parse(VALID[2].as_bytes()).unwrap().rows.len(),
        energy_charts::parse(VALID[3].as_bytes()).unwrap().rows.len(),
        nbp::parse(VALID[4].as_bytes(), &TimeZone::UTC).unwrap().rows.len(),
        weather::parse_open_meteo(VALID[5].as_bytes()).unwrap().rows.len(),
        weather::parse_imgw(VALID[6].as_bytes()).unwrap().rows.len(),
    ];
    assert_eq!(read, [1, 92, 0, 2, 1, 1, 1]);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..400)) {
        parse_as_everything(&body);
    }

    #[test]
    fn damaged_answers_are_read_or_refused(
        which in 0..VALID.len(),
        edits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>(), 0..4_u8), 1..6),
    ) {
        let mut body = VALID[which].as_bytes().to_vec();
        for (place, byte, what) in edits {
            if body.is_empty() { break; }
            let place = place.index(body.len());
            match what {
                0 => body[place] = byte,
                1 => body.insert(place, byte),
                2 => { body.remove(place); }
                // Digits make other numbers and dates.
                _ => body[place] = b'0' + byte % 10,
            }
        }
        parse_as_everything(&body);
    }

    #[test]
    fn numbers_of_any_size_are_read_or_refused(number in "-?[0-9]{1,30}(e[0-9]{1,4})?") {
        for valid in VALID {
            for old in ["2026", "12.5", "3600", "4500", "4.2689", "92", "3.5", "-0.6", ">1<"] {
                let new = if old == ">1<" { format!(">{number}<") } else { number.clone() };
                parse_as_everything(valid.replace(old, &new).as_bytes());
            }
        }
    }
}
