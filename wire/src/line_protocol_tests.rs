//! The grammar's corners as a table, and a comparison with a slow transcription of the original parser.

use super::*;
use proptest::prelude::*;

const RECEIVED: Timestamp = Timestamp(1_772_359_200_123_000_000);

/// A point as text: `measurement|tag=v|...|field=value ...|time`.
#[derive(Default)]
struct Recorder(Vec<String>);

impl LineSink for Recorder {
    fn point(
        &mut self,
        _raw_key: &[u8],
        parse_key: impl FnOnce() -> Result<(String, TagSet), Refusal>,
        at: At,
        fields: &[Field<'_>],
    ) -> Result<(), Refusal> {
        let (measurement, tags) = parse_key()?;
        let mut text = format!("{}:{measurement}", at.line);
        tags.iter().for_each(|(key, value)| text += &format!("|{key}={value}"));
        for (name, value) in fields {
            let value = match value {
                Value::Float(v) => format!("{v:?}"),
                Value::Integer(v) => format!("{v}i"),
                Value::Unsigned(v) => format!("{v}u"),
                Value::Boolean(v) => format!("{v}"),
                Value::Text(v) => format!("{v:?}"),
            };
            text += &format!(" {name}={value}");
        }
        self.0.push(format!("{text} @{}", at.time.0));
        Ok(())
    }

    fn repeated_line(&mut self, _rest: &[u8], _number: u32, _options: &LineOptions) -> Option<usize> {
        None
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(String::len).sum()
    }
}

fn options(precision: Precision) -> LineOptions {
    LineOptions { precision, receive_time: RECEIVED, max_line_bytes: 1 << 20, max_batch_bytes: 64 << 20 }
}

fn parse(body: impl AsRef<[u8]>) -> (Vec<String>, LineErrors) {
    let mut points = Recorder::default();
    let errors = parse_body(&mut points, body.as_ref(), &options(Precision::Nanoseconds)).unwrap();
    (points.0, errors)
}

fn good(body: &str, expected: &[&str]) {
    let (points, errors) = parse(body);
    assert_eq!(errors, LineErrors::default(), "{body:?}");
    assert_eq!(points, expected, "{body:?}");
}

fn bad(line: &str, reason: &str) {
    let (points, errors) = parse(line);
    assert_eq!(points, [""; 0], "{line:?}");
    assert_eq!(errors.text, format!("unable to parse '{line}': {reason}"));
}

#[test]
fn points_in_every_form() {
    good("power v=1 5", &["0:power v=1.0 @5"]);
    good("power,b=2,a=1 v=1,w=2 5\n", &["0:power|a=1|b=2 v=1.0 w=2.0 @5"]);
    good("  power   v=1    5  ", &["0:power v=1.0 @5"]);
    good("a v=1 1\r\nb v=2 2\r\n", &["0:a v=1.0 @1", "1:b v=2.0 @2"]);
    good("# comment\n\n \t \na v=1 1", &["3:a v=1.0 @1"]);
    good("a v=-5i -7", &["0:a v=-5i @-7"]);
    good("a v=1", &["0:a v=1.0 @1772359200123000000"]);
    good("a v=1.,w=.5,x=-1,y=1e3,z=1.5E-7 1", &["0:a v=1.0 w=0.5 x=-1.0 y=1000.0 z=1.5e-7 @1"]);
    good(
        "a v=9223372036854775807i,w=18446744073709551615u,x=-0 1",
        &["0:a v=9223372036854775807i w=18446744073709551615u x=-0.0 @1"],
    );
    for word in ["t", "T", "true", "True", "TRUE"] {
        good(&format!("a v={word} 1"), &["0:a v=true @1"]);
    }
    for word in ["f", "F", "false", "False", "FALSE"] {
        good(&format!("a v={word} 1"), &["0:a v=false @1"]);
    }
    good("a v=\"x\" 1", &["0:a v=\"x\" @1"]);
    good("a v=\"\" 1", &["0:a v=\"\" @1"]);
    good("a v=1,v=2i 1", &["0:a v=1.0 v=2i @1"]);
    good("=x v=1 1", &["0:=x v=1.0 @1"]);
    good("a,b=\u{fc}\u{1f600} \u{fc}=\"\u{fc}\" 1", &["0:a|b=\u{fc}\u{1f600} \u{fc}=\"\u{fc}\" @1"]);
    good("", &[]);
    good("\n", &[]);
}

#[test]
fn escapes_and_quotes() {
    good(
        r"my\ house\,1,a\,b\=c\ d=e\,f\=g\ h x\,y\=z\ w=1 5",
        &["0:my house,1|a,b=c d=e,f=g h x,y=z w=1.0 @5"],
    );
    good(r#"a v="say \"hi\" \\ \n, = x" 5"#, &[r#"0:a v="say \"hi\" \\ \\n, = x" @5"#]);
    good("a v=\"two\nlines\" 5\nb v=1 6", &["0:a v=\"two\\nlines\" @5", "1:b v=1.0 @6"]);
    good("a \"v\"=1 5", &["0:a \"v\"=1.0 @5"]);
    good(r"a\b,c\d=e\f g\h=1 5", &[r"0:a\b|c\d=e\f g\h=1.0 @5"]);
    good("a,t=\"x v=1 5", &["0:a|t=\"x v=1.0 @5"]);
    good("a,t=\"x v=1 5\nb v=1 6", &["0:a|t=\"x v=1.0 @5", "1:b v=1.0 @6"]);
    bad(r"a,b=c\ v=1 5", "invalid tag format");
    bad("a v=\"open 5", "unbalanced quotes");
    bad("a v=\"x\"y 5", "invalid field format");
}

#[test]
fn refusals_in_the_words_clients_know() {
    bad(",a=b v=1", "missing measurement");
    bad("power", "missing fields");
    bad("power,a=b", "missing fields");
    bad("power,a=b ", "missing fields");
    bad("power,d= v=1", "missing tag value");
    bad("power,=x v=1", "missing tag key");
    bad("power, v=1", "missing tag key");
    bad("power,a v=1", "missing tag value");
    bad("power,a=1,a=2 v=1", "duplicate tags");
    bad("power v", "invalid field format");
    bad("power v=", "missing field value");
    bad("power v=1,", "invalid field format");
    bad("power v=1,w", "invalid field format");
    bad("power =1", "missing field key");
    bad("power v=1,=2", "missing field key");
    for value in
        ["NaN", "nan", "-", "-Inf", "0x1F", "1i2", "1.5i", "1e2i", "-1u", "1.2.3", "1-2", ".", "1_000", "--1"]
    {
        bad(&format!("power v={value} 1"), "invalid number");
    }
    for value in ["1e", "1e400", "-1e999", "1e5e5", "-e5"] {
        bad(&format!("power v={value} 1"), "invalid float");
    }
    for value in ["+1", "Inf", "+Inf", "tRUE", "yes", "trueish", "''"] {
        bad(&format!("power v={value} 1"), "invalid boolean");
    }
    bad(
        "power v=9223372036854775808i",
        "unable to parse integer 9223372036854775808: strconv.ParseInt: parsing \"9223372036854775808\": value out of range",
    );
    bad(
        "power v=18446744073709551616u",
        "unable to parse unsigned 18446744073709551616: strconv.ParseUint: parsing \"18446744073709551616\": value out of range",
    );
    bad("power v=1 1.5", "bad timestamp");
    bad("power v=1 soon", "bad timestamp");
    bad("power v=1 -", "strconv.ParseInt: parsing \"-\": invalid syntax");
    bad(
        "power v=1 99999999999999999999",
        "strconv.ParseInt: parsing \"99999999999999999999\": value out of range",
    );
    bad("power v=1 9223372036854775807", "time outside range -9223372036854775807 - 9223372036854775806");
    bad("power v=1 5 6", "point is invalid");
}

#[test]
fn the_name_time_is_no_tag_and_no_only_field() {
    good("a time=1,v=2 5", &["0:a v=2.0 @5"]);
    let (points, errors) = parse("a time=1 5\na,time=x v=1 5\nb v=1 5");
    assert_eq!(points, ["2:b v=1.0 @5"]);
    assert_eq!((errors.unparsed, errors.refused_points), (0, 2));
    let reason = "invalid field name: input field \"time\" on measurement \"a\" is invalid";
    assert_eq!(errors.refused.as_deref(), Some(reason));
    let (_, errors) = parse("a,time=x v=1 5");
    let reason = "invalid tag key: input tag \"time\" on measurement \"a\" is invalid";
    assert_eq!(errors.refused.as_deref(), Some(reason));
}

#[test]
fn precisions_scale_and_overflow() {
    let at = |precision, line: &str| {
        let mut points = Recorder::default();
        let errors = parse_body(&mut points, line.as_bytes(), &options(precision)).unwrap();
        points.0.pop().ok_or(errors.text)
    };
    assert_eq!(at(Precision::Seconds, "a v=1 1772359200"), Ok("0:a v=1.0 @1772359200000000000".into()));
    assert_eq!(at(Precision::Hours, "a v=1 -1"), Ok("0:a v=1.0 @-3600000000000".into()));
    assert!(at(Precision::Seconds, "a v=1 1772359200000").unwrap_err().contains("time outside range"));
    assert_eq!(Precision::influx1("\u{b5}"), Some(Precision::Microseconds));
    assert_eq!(Precision::influx1("minutes"), None);
    assert_eq!(Precision::influx2("m"), None);
}

#[test]
fn good_lines_stay_when_others_are_refused() {
    let (points, errors) = parse("a v=1 1\nb v= 2\nc v=3 3\nd");
    assert_eq!(points, ["0:a v=1.0 @1", "2:c v=3.0 @3"]);
    assert_eq!(
        errors.text,
        "unable to parse 'b v= 2': missing field value\nunable to parse 'd': missing fields"
    );
}

#[test]
fn bytes_that_are_no_text_cost_only_their_line() {
    let (points, errors) = parse(b"a v=1 1\nb,t=\xff v=2 2\nc v=3 3");
    assert_eq!(points, ["0:a v=1.0 @1", "2:c v=3.0 @3"]);
    assert_eq!(errors.text, "unable to parse 'b,t=\u{fffd} v=2 2': invalid UTF-8");
}

#[test]
fn limits_are_kept_and_a_body_of_rubbish_gives_a_short_answer() {
    let long = format!("a v=1 1\nb,t={} v=1 1\nc v=1 1", "x".repeat(2 << 20));
    let (points, errors) = parse(&long);
    assert_eq!(points.len(), 2);
    assert!(errors.text.ends_with("...': line longer than 1048576 bytes") && errors.text.len() < 1200);
    let (_, errors) = parse("rubbish\n".repeat(100_000));
    assert_eq!(errors.unparsed, 100_000);
    assert!(errors.text.ends_with("\n... and 99900 more lines") && errors.text.len() < 20_000);
    let key = "k".repeat(MAX_KEY_LEN_BYTES + 1);
    let too_long = format!("max key length exceeded: {} > {MAX_KEY_LEN_BYTES}", MAX_KEY_LEN_BYTES + 1);
    for line in
        [format!("{key} v=1"), format!("a,{key}=b v=1"), format!("a,b={key} v=1"), format!("a {key}=1")]
    {
        assert!(parse(&line).1.text.ends_with(&too_long), "{}", &line[..20]);
    }
    let text = "s".repeat(MAX_STRING_LEN_BYTES + 1);
    assert!(parse(format!("a v=\"{text}\"")).1.text.contains("string of 65537 bytes is longer than 65536"));
    let tags: String = (0..=MAX_TAGS_PER_POINT).map(|i| format!(",t{i}=v")).collect();
    assert!(parse(format!("a{tags} v=1")).1.text.ends_with("more than 256 tags"));
    let fields: Vec<String> = (0..=MAX_FIELDS_PER_POINT).map(|i| format!("f{i}=1")).collect();
    assert!(parse(format!("a {}", fields.join(","))).1.text.ends_with("more than 4096 fields"));
}

#[test]
fn a_refused_line_leaves_no_series_in_the_batch() {
    let mut batch = WriteBatch::new("db", None);
    let errors = parse_into(&mut batch, b"a,t=1 v= 1\nb v=1 x", &options(Precision::Nanoseconds)).unwrap();
    assert_eq!((errors.unparsed, batch.points(), batch.bytes()), (2, 0, 0));
    let good = b"a,t=1 v=1,w=2i 1\na,t=1 v=2 2";
    let errors = parse_into(&mut batch, good, &options(Precision::Nanoseconds)).unwrap();
    assert!(errors.is_empty());
    assert_eq!((batch.points(), batch.values()), (2, 3));
}

#[test]
fn a_body_of_names_is_given_up_before_they_fill_the_memory() {
    let series: String = (0..20_000).map(|n| format!("a,b={n} v=1\n")).collect();
    let fields: String = (0..20_000).map(|n| format!("a f{n}=1\n")).collect();
    for body in [series, fields] {
        let mut batch = WriteBatch::new("db", None);
        let options = LineOptions { max_batch_bytes: 1 << 20, ..options(Precision::Nanoseconds) };
        assert_eq!(parse_into(&mut batch, body.as_bytes(), &options), Err(BatchFull));
        assert!(batch.points() < 10_000, "{} points in a MiB, each with a name of its own", batch.points());
    }
}

/// A batch that takes every line the long way.
struct LineByLine(WriteBatch);

impl LineSink for LineByLine {
    fn point(
        &mut self,
        raw_key: &[u8],
        parse_key: impl FnOnce() -> Result<(String, TagSet), Refusal>,
        at: At,
        fields: &[Field<'_>],
    ) -> Result<(), Refusal> {
        LineSink::point(&mut self.0, raw_key, parse_key, at, fields)
    }

    fn repeated_line(&mut self, _rest: &[u8], _number: u32, _options: &LineOptions) -> Option<usize> {
        None
    }

    fn bytes(&self) -> usize {
        WriteBatch::bytes(&self.0)
    }
}

/// Points of a body by line, and how many of its lines were read as repeated ones. Both ways of reading must agree on
/// everything.
fn both_ways(body: &[u8], options: &LineOptions) -> (Vec<(u32, wattlog_model::Point)>, u32) {
    struct Counting(WriteBatch, u32);
    impl LineSink for Counting {
        fn point(
            &mut self,
            raw_key: &[u8],
            parse_key: impl FnOnce() -> Result<(String, TagSet), Refusal>,
            at: At,
            fields: &[Field<'_>],
        ) -> Result<(), Refusal> {
            LineSink::point(&mut self.0, raw_key, parse_key, at, fields)
        }

        fn repeated_line(&mut self, rest: &[u8], number: u32, options: &LineOptions) -> Option<usize> {
            let taken = LineSink::repeated_line(&mut self.0, rest, number, options);
            self.1 += u32::from(taken.is_some());
            taken
        }

        fn bytes(&self) -> usize {
            WriteBatch::bytes(&self.0)
        }
    }
    let mut slow = LineByLine(WriteBatch::new("db", None));
    let mut fast = Counting(WriteBatch::new("db", None), 0);
    let errors = parse_body(&mut slow, body, options);
    assert_eq!(parse_body(&mut fast, body, options), errors, "{:?}", String::from_utf8_lossy(body));
    let (slow, Counting(fast, repeated)) = (slow.0, fast);
    let sorted = |batch: &WriteBatch| {
        let mut points = batch.to_points();
        points.iter_mut().for_each(|(_, point)| point.fields.sort_by(|a, b| a.0.cmp(&b.0)));
        points
    };
    // As text, so that -0.0 differs from 0.0.
    let (slow_points, fast_points) = (sorted(&slow), sorted(&fast));
    assert_eq!(format!("{fast_points:?}"), format!("{slow_points:?}"), "{:?}", String::from_utf8_lossy(body));
    let figures = |batch: &WriteBatch| (batch.points(), batch.values(), batch.bytes());
    assert_eq!(figures(&fast), figures(&slow), "{:?}", String::from_utf8_lossy(body));
    (fast_points, repeated)
}

#[test]
fn repeated_lines_are_read_as_the_first_one() {
    let nanoseconds = options(Precision::Nanoseconds);
    // Body, points, and how many lines are expected to be read as repeated ones.
    let cases: [(&str, usize, u32); 22] = [
        ("a,t=1 v=1 1\na,t=1 v=2 2\na,t=1 v=-0 3\r\na,t=1 v=4.25", 4, 3),
        ("a,t=1 v=1 1\na,t=2 v=1 1\na,t=1 v=2 2\na,t=2 v=2 2\na,t=2 v=3 3\na,t=1 v=3 3\n", 6, 4),
        ("a v=1,w=2 1\na w=3,v=4 2\na v=5 3\na w=6,v=7 4\n", 4, 2),
        ("a v=1,w=2 1\na v=3 2\na v=4 3\n", 3, 2),
        ("a v=1i,w=t,x=\"y\",z=9u 1\na v=2i,w=false,x=\"\",z=8u 2\na v=-3i,w=T,x=\"y\",z=7u 3\n", 3, 2),
        ("a x=\"1\n2\" 1\na x=\"3\n4, 5=6\" 2\n", 2, 1),
        ("a x=\"1\" 1\na x=\"say \\\"2\\\"\" 2\n", 2, 0),
        ("a v=1 1\na v=2i 2\na v=3 3\n", 3, 0),
        ("a v=1 1\na v=2,v=3 2\na v=3,w=4,v=5 3\n", 3, 0),
        ("a v=1 1\na v=1e3 2\na v=123456789.123 3\na v=1.7976931348623157e308 4\n", 4, 3),
        ("a v=1 1\na v=NaN 2\na v=1e999 2\na v=1.2.3 2\na v= 2\na v 2\na v=, 2\na v=1, 2\n", 1, 0),
        ("a v=1 1\na v=2 x\na v=2 1.5\na v=2 - \na v=2 99999999999999999999\na v=2 5 6\na v=2x 3\n", 1, 0),
        ("a v=1 1\na  v=2 2\na v=2  2\na v=2 2 \n a v=2 2\n", 5, 0),
        ("a v=1 1\n\n# a v=2 2\na v=3 3\n\ra v=4 4\n", 3, 1),
        ("a b\\ c=1 1\na b c=2 2\na b\\ c=3 3\n", 2, 0),
        ("a\\ b v=1 1\na\\ b v=2 2\na v=3 3\n", 3, 1),
        ("a,t=\"x v=1 1\na,t=\"x v=2 2\n", 2, 1),
        ("a time=1,v=1 1\na time=2,v=2 2\na v=3 3\n", 3, 1),
        ("a vv=1,v=2 1\na v=3,vv=4 2\na vvv=5 3\n", 3, 1),
        ("a v=1 1\na v=9223372036854775808 -9223372036854775807\na v=2 9223372036854775807\n", 2, 1),
        ("a v=1 1\na v=1\ta v=1 2\na v=\u{fc} 3\n\u{fc} v=1 4\n\u{fc} v=2 5\n", 3, 1),
        ("a v=1i 1\na v=12i2 2\na v=1.5i 2\na v=ii 2\na v=9223372036854775808i 2\na v=-7i 3\n", 2, 1),
    ];
    for (body, points, repeated) in cases {
        let (taken, count) = both_ways(body.as_bytes(), &nanoseconds);
        assert_eq!((taken.len(), count), (points, repeated), "{body:?}");
    }
    let seconds = options(Precision::Seconds);
    let (points, repeated) = both_ways(b"a v=1 1\na v=2 2\na v=3 99999999999999\n", &seconds);
    assert_eq!((points[1].1.time, points.len(), repeated), (Some(Timestamp(2_000_000_000)), 2, 1));
}

#[test]
fn repeated_lines_keep_the_limits() {
    let short = LineOptions { max_line_bytes: 12, ..options(Precision::Nanoseconds) };
    let (points, repeated) = both_ways(b"a v=1 1\na v=2 123456\na v=2 1234567\na v=3 3\n", &short);
    assert_eq!((points.len(), repeated), (3, 2));
    let text = "s".repeat(MAX_STRING_LEN_BYTES + 1);
    let (points, _) =
        both_ways(format!("a v=\"s\" 1\na v=\"{text}\" 2\n").as_bytes(), &options(Precision::Nanoseconds));
    assert_eq!(points.len(), 1);
    let fields =
        |range: std::ops::Range<usize>| range.map(|i| format!("f{i}=1")).collect::<Vec<_>>().join(",");
    let most = MAX_FIELDS_PER_POINT;
    let body = format!(
        "a {} 1\na {} 2\na {} 3\na {} 4\n",
        fields(0..most),
        fields(most - 1..most + 1),
        fields(0..most + 1),
        fields(0..most)
    );
    let (points, _) = both_ways(body.as_bytes(), &options(Precision::Nanoseconds));
    assert_eq!(points.len(), 3, "the line with a field too many is refused");
    let full = LineOptions { max_batch_bytes: 2000, ..options(Precision::Nanoseconds) };
    let body: String = (0..100).map(|i| format!("a v={i} {i}\n")).collect();
    let mut batch = WriteBatch::new("db", None);
    assert_eq!(parse_into(&mut batch, body.as_bytes(), &full), Err(BatchFull));
}

fn any_line() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec!["a", "b,t=1", "b,t=2", "c\\ d,t=x\\=y", "e,t=\"q", "", ",", "f,t="]);
    let name = prop::sample::select(vec!["v", "vv", "w", "time", "x\\,y", "\"q\"", "", "v=v"]);
    let value = prop::sample::select(vec![
        "1",
        "-2.5",
        "123456.789",
        "7i",
        "-8i",
        "9u",
        "t",
        "false",
        "\"\"",
        "\"te xt\"",
        "\"a\\\"b\"",
        "\"l\nf\"",
        "1e5",
        "0.30000000000000004",
        "NaN",
        "-",
        "12345678",
        "\"",
        "",
        "1i2",
    ]);
    let time = prop::sample::select(vec![
        " 1",
        " 1780772000000000000",
        " -5",
        "",
        "  7",
        " 8 ",
        " x",
        " 99999999999999999999",
        " 1 2",
    ]);
    let end = prop::sample::select(vec!["\n", "\n", "\n", "\r\n", "\n\n", "", "\n#c\n"]);
    let fields = prop::collection::vec((name, value), 1..4);
    (key, fields, time, end).prop_map(|(key, fields, time, end)| {
        let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("{key} {}{time}{end}", fields.join(","))
    })
}

proptest! {
    #[test]
    fn both_ways_of_reading_agree(
        lines in prop::collection::vec(any_line(), 1..40),
        hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let mut body = lines.concat().into_bytes();
        for (at, byte) in hits {
            let at = at.index(body.len());
            body[at] = byte;
        }
        both_ways(&body, &options(Precision::Nanoseconds));
    }
}

/// The parser of InfluxDB 1.x (models/points.go), transcribed byte loop by byte loop, as far as its verdicts matter
/// here: which lines are taken, and why others are not.
mod original {
    use super::Cow;

    pub(crate) type Verdict = Result<(), Cow<'static, str>>;

    pub(crate) fn scan_line(buf: &[u8], start: usize) -> usize {
        let (mut i, mut quoted, mut fields, mut equals, mut commas) = (start, false, false, 0, 0);
        while i < buf.len() {
            if buf[i] == b'\\' && i + 2 < buf.len() {
                i += 2;
                continue;
            }
            if buf[i] == b' ' {
                fields = true;
            }
            if fields {
                if !quoted && buf[i] == b'=' {
                    equals += 1;
                    i += 1;
                    continue;
                } else if !quoted && buf[i] == b',' {
                    commas += 1;
                    i += 1;
                    continue;
                } else if buf[i] == b'"' && equals > commas {
                    i += 1;
                    quoted = !quoted;
                    continue;
                }
            }
            if buf[i] == b'\n' && !quoted {
                break;
            }
            i += 1;
        }
        i
    }

    pub(crate) fn parse_point(buf: &[u8]) -> Verdict {
        let i = scan_key(buf)?;
        let i = scan_fields(buf, i)?;
        scan_time(buf, i)
    }

    fn scan_key(buf: &[u8]) -> Result<usize, Cow<'static, str>> {
        if buf.first().is_none_or(|byte| *byte == b',') {
            return Err("missing measurement".into());
        }
        let mut i = 0;
        loop {
            i += 1;
            if i >= buf.len() {
                return Err("missing fields".into());
            }
            if buf[i - 1] == b'\\' {
                continue;
            }
            if buf[i] == b',' {
                break;
            }
            if buf[i] == b' ' {
                return Ok(i);
            }
        }
        let mut keys: Vec<Vec<u8>> = Vec::new();
        loop {
            i += 1;
            let start = i;
            if i >= buf.len() || buf[i] == b' ' || buf[i] == b',' || buf[i] == b'=' {
                return Err("missing tag key".into());
            }
            loop {
                i += 1;
                if i >= buf.len() || ((buf[i] == b' ' || buf[i] == b',') && buf[i - 1] != b'\\') {
                    return Err("missing tag value".into());
                }
                if buf[i] == b'=' && buf[i - 1] != b'\\' {
                    break;
                }
            }
            keys.push(unescaped(&buf[start..i]));
            i += 1;
            if i >= buf.len() || buf[i] == b',' || buf[i] == b' ' {
                return Err("missing tag value".into());
            }
            loop {
                i += 1;
                if i >= buf.len() {
                    return Err("missing fields".into());
                }
                if buf[i] == b'=' && buf[i - 1] != b'\\' {
                    return Err("invalid tag format".into());
                }
                if buf[i] == b',' && buf[i - 1] != b'\\' {
                    break;
                }
                if buf[i] == b' ' && buf[i - 1] != b'\\' {
                    keys.sort();
                    if keys.windows(2).any(|pair| pair[0] == pair[1]) {
                        return Err("duplicate tags".into());
                    }
                    return Ok(i);
                }
            }
        }
    }

    fn unescaped(key: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut i = 0;
        while i < key.len() {
            if key[i] == b'\\' && matches!(key.get(i + 1), Some(b',' | b' ' | b'=')) {
                i += 1;
            }
            out.push(key[i]);
            i += 1;
        }
        out
    }

    fn scan_fields(buf: &[u8], from: usize) -> Result<usize, Cow<'static, str>> {
        let mut i = from;
        while matches!(buf.get(i), Some(b' ' | b'\t' | 0)) {
            i += 1;
        }
        let start = i;
        let (mut quoted, mut equals, mut commas) = (false, 0, 0);
        while i < buf.len() {
            if buf[i] == b'\\' && i + 1 < buf.len() {
                i += 2;
                continue;
            }
            if buf[i] == b'"' && equals > commas {
                quoted = !quoted;
                i += 1;
                continue;
            }
            if buf[i] == b'=' && !quoted {
                equals += 1;
                if buf[i - 1] == b' ' && buf[i - 2] != b'\\' {
                    return Err("missing field key".into());
                }
                if buf[i - 1] == b',' && buf[i - 2] != b'\\' {
                    return Err("missing field key".into());
                }
                match buf.get(i + 1) {
                    None | Some(b',' | b' ') => return Err("missing field value".into()),
                    Some(b'0'..=b'9' | b'.' | b'-' | b'N' | b'n') => {
                        i = scan_number(buf, i + 1)?;
                        continue;
                    }
                    Some(b'"') => {}
                    Some(_) => {
                        i = scan_boolean(buf, i + 1)?;
                        continue;
                    }
                }
            }
            if buf[i] == b',' && !quoted {
                commas += 1;
            }
            if buf[i] == b' ' && !quoted {
                break;
            }
            i += 1;
        }
        if quoted {
            return Err("unbalanced quotes".into());
        }
        if i == start {
            return Err("missing fields".into());
        }
        if equals == 0 || commas != equals - 1 {
            return Err("invalid field format".into());
        }
        Ok(i)
    }

    fn scan_number(buf: &[u8], start: usize) -> Result<usize, Cow<'static, str>> {
        const INVALID: Cow<'static, str> = Cow::Borrowed("invalid number");
        let mut i = start;
        let (mut int, mut unsigned, mut decimal, mut scientific) = (false, false, false, false);
        if buf[i] == b'-' {
            i += 1;
            if i == buf.len() {
                return Err(INVALID);
            }
        }
        while i < buf.len() && buf[i] != b',' && buf[i] != b' ' {
            if i > start && !(int || unsigned) && (buf[i] == b'i' || buf[i] == b'u') {
                if buf[i] == b'i' {
                    int = true;
                } else {
                    unsigned = true;
                }
                i += 1;
                continue;
            }
            if buf[i] == b'.' {
                if decimal {
                    return Err(INVALID);
                }
                decimal = true;
            }
            if i > start && (buf[i] == b'e' || buf[i] == b'E') {
                scientific = true;
                i += 1;
                continue;
            }
            if (buf[i] == b'+' || buf[i] == b'-') && (buf[i - 1] == b'e' || buf[i - 1] == b'E') {
                i += 1;
                continue;
            }
            if !buf[i].is_ascii_digit() && buf[i] != b'.' {
                return Err(INVALID);
            }
            i += 1;
        }
        if (int || unsigned) && (decimal || scientific) {
            return Err(INVALID);
        }
        let marks = usize::from(int || unsigned) + usize::from(decimal) + usize::from(buf[start] == b'-');
        if i - start == marks {
            return Err(INVALID);
        }
        let text = std::str::from_utf8(&buf[start..i]).unwrap();
        if int || unsigned {
            if buf[i - 1] != b'i' && buf[i - 1] != b'u' || unsigned && buf[start] == b'-' {
                return Err(INVALID);
            }
            let digits = &text[..text.len() - 1];
            if int && digits.parse::<i64>().is_err() {
                return Err(format!("unable to parse integer {digits}: strconv.ParseInt: parsing \"{digits}\": value out of range").into());
            }
            if unsigned && digits.parse::<u64>().is_err() {
                return Err(format!("unable to parse unsigned {digits}: strconv.ParseUint: parsing \"{digits}\": value out of range").into());
            }
        } else if !text.parse::<f64>().is_ok_and(f64::is_finite) {
            return Err("invalid float".into());
        }
        Ok(i)
    }

    fn scan_boolean(buf: &[u8], start: usize) -> Result<usize, Cow<'static, str>> {
        let mut i = start;
        while i < buf.len() && buf[i] != b',' && buf[i] != b' ' {
            i += 1;
        }
        let words = ["t", "T", "f", "F", "true", "True", "TRUE", "false", "False", "FALSE"];
        if words.iter().any(|word| word.as_bytes() == &buf[start..i]) {
            Ok(i)
        } else {
            Err("invalid boolean".into())
        }
    }

    fn scan_time(buf: &[u8], from: usize) -> Verdict {
        let mut i = from;
        while matches!(buf.get(i), Some(b' ' | b'\t' | 0)) {
            i += 1;
        }
        let start = i;
        while i < buf.len() && buf[i] != b' ' {
            if !(i == start && buf[i] == b'-' || buf[i].is_ascii_digit()) {
                return Err("bad timestamp".into());
            }
            i += 1;
        }
        let text = std::str::from_utf8(&buf[start..i]).unwrap();
        if text.is_empty() {
            return Ok(());
        }
        if text == "-" {
            return Err("strconv.ParseInt: parsing \"-\": invalid syntax".into());
        }
        match text.parse::<i64>() {
            Err(_) => return Err(format!("strconv.ParseInt: parsing \"{text}\": value out of range").into()),
            Ok(i64::MAX | i64::MIN) => {
                return Err("time outside range -9223372036854775807 - 9223372036854775806".into());
            }
            Ok(_) => {}
        }
        if buf[i..].iter().any(|byte| *byte != b' ') { Err("point is invalid".into()) } else { Ok(()) }
    }
}

/// Lines like real ones, with damage: the pieces of the grammar in mostly sensible order.
fn line_like() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-c]{1,2}", 3 => Just("=".to_owned()), 3 => Just(",".to_owned()), 3 => Just(" ".to_owned()),
        1 => Just("\\".to_owned()), 1 => Just("\"".to_owned()), 1 => Just("\n".to_owned()), 1 => Just("\\ ".to_owned()),
        2 => "-?[0-9]{1,3}(\\.[0-9]{0,2})?(e[+-]?[0-9]{1,3})?[iu]?", 1 => Just("true".to_owned()),
        1 => Just("\u{fc}".to_owned()), 1 => Just("\t".to_owned()),
    ];
    let field = prop_oneof![
        "[a-c]{1,2}=-?[0-9]{1,4}(\\.[0-9]{1,3})?[iu]?",
        "[a-c]=(t|false|tRUE)",
        "[a-c]=\"[a-c ,=\\\\\"\n]{0,6}\"",
    ];
    let whole = (
        "[a-c]{1,2}(\\\\[ ,])?",
        prop::collection::vec("[a-c]{1,2}=[a-c\\\\]{1,3}", 0..3),
        prop::collection::vec(field, 1..4),
        "( -?[0-9]{0,20})?",
    )
        .prop_map(|(name, tags, fields, time)| {
            let tags: String = tags.iter().map(|tag| format!(",{tag}")).collect();
            format!("{name}{tags} {}{time}", fields.join(","))
        });
    prop_oneof![prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat()), whole]
}

/// Where the verdicts may differ on purpose. We name the first fault of a line, the original sometimes a later one; and
/// we refuse text behind a closing quote, and a field without a name behind a tab.
fn differs_on_purpose(line: &str, ours: &original::Verdict, theirs: &original::Verdict) -> bool {
    match ours {
        Err(reason) if reason == "invalid field format" => theirs.is_err() || line.contains('"'),
        Err(reason) if reason == "missing field key" => theirs.is_err() || line.contains('\t'),
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn verdicts_are_those_of_the_original(line in line_like()) {
        let body = line.as_bytes();
        let end = original::scan_line(body, 0);
        prop_assert_eq!(line_end(body, 0), end, "end of {:?}", line);
        let text = line[..end].trim_start_matches([' ', '\t', '\0']);
        if text.is_empty() || text.starts_with('#') {
            return Ok(());
        }
        let theirs = original::parse_point(text.as_bytes());
        let mut sink = Recorder::default();
        let mut fields = Vec::new();
        let ours = match parse_line(&mut sink, text, 0, &options(Precision::Nanoseconds), &mut fields) {
            Ok(()) => Ok(()),
            Err(Refusal::Unparsed(reason)) => Err(reason),
            Err(Refusal::NotAllowed(reason)) => panic!("{reason}"),
        };
        if !differs_on_purpose(text, &ours, &theirs) {
            prop_assert_eq!(ours, theirs, "{:?}", text);
        }
    }

    #[test]
    fn any_bytes_are_taken_or_refused(body in prop::collection::vec(any::<u8>(), 0..200), seed in line_like()) {
        let mut mixed = seed.into_bytes();
        mixed.extend_from_slice(&body);
        let mut batch = WriteBatch::new("db", None);
        let errors = parse_into(&mut batch, &mixed, &options(Precision::Nanoseconds)).unwrap();
        let lines = mixed.iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
        prop_assert!(batch.points() + errors.unparsed + errors.refused_points <= lines);
    }

    #[test]
    fn written_points_read_back(
        name in "[!\"$-+\\--\\[\\]-~\u{fc}][ -\\[\\]-~\u{fc}]{0,7}", key in "[ -\\[\\]-~]{1,5}",
        value in "[ -\\[\\]-~]{1,5}", text in "[ -~\n\u{fc}]{0,12}",
        number in any::<i64>(), time in Timestamp::MIN.0..=Timestamp::MAX.0,
    ) {
        // Names hold no backslash: one before a border cannot be written in this protocol. None begins with `#`, which
        // would be a comment, or with a blank or a comma.
        let escape = |text: &str, specials: &str| -> String {
            text.chars().flat_map(|c| specials.contains(c).then_some('\\').into_iter().chain([c])).collect()
        };
        let line = format!(
            "{},{}={} {}={}i,text=\"{}\" {time}",
            escape(&name, ", "), escape(&key, ",= "), escape(&value, ",= "), escape(&key, ",= "), number,
            escape(&text, "\"\\"),
        );
        let expected = format!("0:{name}|{key}={value} {key}={number}i text={text:?} @{time}");
        let (points, errors) = parse(&line);
        prop_assert_eq!(errors.text, "", "{}", line);
        prop_assert_eq!(points, [expected]);
    }
}
