use super::*;
use serde_json::json;

fn values(text: &str) -> (Vec<Value>, Vec<String>) {
    let (mut values, mut faults) = (Vec::new(), Vec::new());
    for item in Items::new(text.as_bytes()) {
        match item {
            Item::Value { value, .. } => values.push(value),
            Item::Cut { members, fault, .. } => {
                faults.push(format!("{}: {}", Value::Object(members), fault.reason));
            }
            Item::Fault(fault) => faults.push(format!("line {}: {}", fault.place.line, fault.reason)),
        }
    }
    (values, faults)
}

#[test]
fn lists_lines_and_objects_in_a_row_give_their_values() {
    for text in [
        "[{\"a\":1},{\"a\":2}]",
        "{\"a\":1}\n{\"a\":2}\n",
        "{\n \"a\": 1\n}{\n \"a\": 2\n}",
        "\u{FEFF}{\"a\":1}\r\n{\"a\":2}\r\n",
    ] {
        assert_eq!(values(text), (vec![json!({"a": 1}), json!({"a": 2})], vec![]), "{text:?}");
    }
    assert_eq!(values("[[\"t\", 0.3]]").0, [json!(["t", 0.3])]);
    assert_eq!(values(" \n"), (vec![], vec![]));
}

#[test]
fn numbers_that_are_none_become_null_and_are_named() {
    let text = r#"{"a": NaN, "b": [1, -Infinity], "c": {"d": 1e999}, "e": "NaN"}"#;
    let Some(Item::Value { value, not_finite, .. }) = Items::new(text.as_bytes()).next() else {
        panic!("no value")
    };
    assert_eq!(value, json!({"a": null, "b": [1, null], "c": {"d": null}, "e": "NaN"}));
    let told: Vec<(&str, &str)> = not_finite.iter().map(|n| (n.path.as_str(), n.token.as_str())).collect();
    assert_eq!(told, [("a", "NaN"), ("b/1", "-Infinity"), ("c/d", "1e999")]);
}

#[test]
fn a_cut_list_keeps_its_whole_elements() {
    let (whole, faults) = values("[\n  {\n    \"a\": 1\n  },\n  {\n    \"a\": 2");
    assert_eq!(whole, [json!({"a": 1})]);
    assert_eq!(faults, ["line 6: the file ends inside a value: it was cut off"]);
    assert_eq!(values("[\n  {\"a\": 1},").1, ["line 2: the list has no end: the file was cut off"]);
}

#[test]
fn a_cut_object_keeps_whole_members_and_the_whole_elements_of_its_last_list() {
    let (whole, faults) = values("{\"n\": 2, \"m\": {\"x\": 1}, \"data\": [{\"a\": 1}, {\"a\": ");
    assert_eq!(whole, [] as [Value; 0]);
    assert_eq!(
        faults,
        ["{\"data\":[{\"a\":1}],\"m\":{\"x\":1},\"n\":2}: the file ends inside a value: it was cut off"]
    );
    // A number at the very end may have had more digits.
    assert!(values("{\"n\": 2, \"m\": 1").1[0].starts_with("{\"n\":2}"));
}

#[test]
fn a_torn_line_costs_itself_alone() {
    for torn in [
        "{\"a\": 2, \"b\": \"wa\n",
        "{\"a\": 2, \"b\":\n",
        "{\"a\": 2, \"b\": [\n",
        "\u{0}\u{0}\u{0}\n",
        "}\n",
        "nan\n",
        "{\"a\" 2}\n",
    ] {
        let (whole, faults) = values(&format!("{{\"a\": 1}}\n{torn}{{\"a\": 3}}\n"));
        assert_eq!(whole, [json!({"a": 1}), json!({"a": 3})], "{torn:?}");
        assert_eq!(faults.len(), 1, "{torn:?}: {faults:?}");
    }
    let pretty = "[\n  {\n    \"a\": 1\n  },\n  {\n    \"a\": @\n  },\n  {\n    \"a\": 3\n  }\n]";
    assert_eq!(
        values(pretty),
        (vec![json!({"a": 1}), json!({"a": 3})], vec!["line 6: `@` where a value should start".to_owned()])
    );
}

#[test]
fn damage_in_a_list_of_any_indentation_ends_at_its_next_record_and_not_inside_the_damaged_one() {
    let record = |body: &str| format!("    {{\n        {body}\n    }}");
    let inner =
        "\"s\": [\n            {\n                \"x\": 1\n            }\n        ],\n        \"b\": @";
    let text = format!("[\n{},\n{},\n{}\n]", record("\"a\": 1"), record(inner), record("\"a\": 3"));
    assert_eq!(values(&text).0, [json!({"a": 1}), json!({"a": 3})], "{text}");
}

#[test]
fn a_record_appended_behind_a_torn_one_on_its_line_is_read() {
    // The writer was killed, and its successor appended without looking.
    let record = "{\"timestamp\": 3}";
    for torn in [
        "{\"timestamp\": 1, \"b\": \"wa",
        "{\"timestamp\": 1, \"b\": ",
        "{\"timestamp\": 1, ",
        "{\"time",
        "{",
    ] {
        for end in ["", "\n", "\n{\"timestamp\": 4}\n"] {
            let (whole, faults) = values(&format!("{{\"timestamp\": 0}}\n{torn}{record}{end}"));
            let expected = if end.len() > 1 { vec![0, 3, 4] } else { vec![0, 3] };
            let got: Vec<i64> = whole.iter().map(|value| value["timestamp"].as_i64().unwrap()).collect();
            assert_eq!((got, faults.len()), (expected, 1), "{torn:?} {end:?}: {faults:?}");
        }
    }
}

#[test]
fn hostile_depth_and_endless_damage_end() {
    let deep = "[".repeat(100_000);
    let (whole, faults) = values(&deep);
    assert!(whole.is_empty() && faults[0].contains("nested deeper than 32"), "{faults:?}");
    let (whole, faults) = values(&"@\n{\"a\" 1}\n".repeat(5_000));
    assert!(whole.is_empty());
    assert_eq!(faults.len(), MAX_FAULTS + 1);
}

#[test]
fn a_file_that_is_one_line_takes_time_in_proportion_to_its_length() {
    // Looking back to the start of the line for each of its values took minutes for 20 MB.
    let text = format!("[{}1]", "1,".repeat(2_000_000));
    assert_eq!(Items::new(text.as_bytes()).count(), 2_000_001);
}

#[test]
fn every_cut_keeps_the_whole_records_before_it() {
    let lines = "{\"a\": 1, \"t\": \"x\\\"y\"}\n{\"a\": 2}\n{\"a\": [1, 2]}\n";
    for end in 0..=lines.len() {
        let whole = values(&lines[..end]).0.len();
        let ended = lines[..end].matches("}\n").count() + usize::from(lines[..end].ends_with('}'));
        assert_eq!(whole, ended, "{:?}", &lines[..end]);
    }
}
