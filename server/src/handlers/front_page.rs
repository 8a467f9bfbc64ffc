//! `/`: a plain page for a person, until the dashboard comes. No script, nothing fetched, every name escaped.

use crate::error::ApiError;
use crate::state::ServerState;
use crate::wire::answer::{TimeFormat, cell};
use crate::wire::energy_data::MEASUREMENT;
use crate::wire::time::rfc3339;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Response, header};
use std::fmt::Write as _;
use wattlog_engine::query::{QueryError, QueryRequest, QueryResult, ResultValues, Shape};
use wattlog_engine::{Engine, StorageInfo};
use wattlog_model::Timestamp;

const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;\
    color-scheme:light dark}table{border-collapse:collapse;margin:.5rem 0 1.5rem}\
    th,td{text-align:left;padding:.15rem 1rem .15rem 0;border-bottom:1px solid #8884}td.n{text-align:right}";
/// Series shown; a page is for reading.
const SHOWN_SERIES: usize = 20;
const LINKS: [(&str, &str); 8] = [
    ("api/v1/query?measurement=energy_data&start=-1h", "the last hour of energy_data"),
    (
        "api/v1/query?measurement=energy_data&start=-24h&every=15m&fn=mean&format=csv",
        "a day in quarters of an hour, CSV",
    ),
    ("api/v1/last?measurement=energy_data", "newest values"),
    ("api/v1/measurements", "measurements"),
    ("api/v1/storage", "storage"),
    ("api/v1/devices", "devices"),
    ("metrics", "metrics"),
    ("openapi.json", "all routes (OpenAPI)"),
];

/// A page with newest values, storage figures and links.
#[utoipa::path(get, path = "/", tag = "status",
    responses((status = 200, description = "HTML", content_type = "text/html", body = String)))]
pub(crate) async fn front_page(State(state): State<ServerState>) -> Result<Response<Body>, ApiError> {
    let (_, condition) = state.condition();
    let mut page = String::with_capacity(8192);
    let version = escape(&state.shared.build.version);
    // Writing to a string cannot fail.
    let _ = write!(
        page,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>wattlog</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body>\
         <h1>wattlog</h1><p>Version {version}, {}.</p>",
        escape(&condition)
    );
    if state.shared.store.opened().is_some() {
        let database = state.shared.options.default_database.clone();
        let body = state.read(move |engine, control| Ok(figures(engine, control, &database))).await?;
        page.push_str(&body);
    }
    page.push_str("<h2>Ask</h2><ul>");
    for (target, name) in LINKS {
        let _ = write!(page, "<li><a href=\"{}\">{name}</a></li>", escape(target));
    }
    page.push_str("</ul></body></html>\n");
    let mut response = Response::new(Body::from(page));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok(response)
}

fn figures(engine: &Engine, control: &wattlog_engine::query::QueryControl, database: &str) -> String {
    let mut request = QueryRequest::raw(database, MEASUREMENT, Timestamp::MIN, Timestamp(i64::MAX));
    request.shape = Shape::Last;
    let mut page = String::new();
    match engine.query(&request, control) {
        Ok(result) => newest(&mut page, &result),
        Err(QueryError::DatabaseNotFound(_)) => newest(&mut page, &QueryResult::default()),
        Err(error) => {
            let _ = write!(page, "<p>{}</p>", escape(&error.to_string()));
        }
    }
    sizes(&mut page, &engine.storage());
    page
}

fn newest(page: &mut String, result: &QueryResult) {
    page.push_str("<h2>Newest values</h2>");
    if result.series.is_empty() {
        page.push_str("<p>No energy_data yet.</p>");
    }
    for series in result.series.iter().take(SHOWN_SERIES) {
        let tags: Vec<String> = series.tags.iter().map(|(key, value)| format!("{key} {value}")).collect();
        let time = match series.columns.first().map(|column| &column.values) {
            Some(ResultValues::Time(times)) => {
                times.first().copied().flatten().map(rfc3339).unwrap_or_default()
            }
            _ => String::new(),
        };
        let _ = write!(page, "<h3>{}</h3><p>{time}</p><table>", escape(&tags.join(", ")));
        for column in series.columns.iter().skip(1).filter(|column| column.field.is_some()) {
            let mut value = Vec::new();
            if matches!(column.values, ResultValues::Time(_))
                || !cell(&mut value, &column.values, 0, &TimeFormat::Rfc3339)
            {
                continue;
            }
            let value = escape(&String::from_utf8_lossy(&value));
            let unit = column.unit.as_ref().map(|unit| escape(unit.as_str())).unwrap_or_default();
            let name = escape(&column.name);
            let _ = write!(page, "<tr><th>{name}</th><td class=\"n\">{value}</td><td>{unit}</td></tr>");
        }
        page.push_str("</table>");
    }
    if result.series.len() > SHOWN_SERIES {
        let _ = write!(page, "<p>... and {} more series.</p>", result.series.len() - SHOWN_SERIES);
    }
}

fn sizes(page: &mut String, info: &StorageInfo) {
    let rows = [
        ("series", info.series),
        ("points", info.points),
        ("values", info.values),
        ("segments", info.segments),
        ("segment bytes", info.data_bytes + info.time_bytes + info.meta_bytes),
        ("log bytes", info.wal_bytes),
    ];
    page.push_str("<h2>Storage</h2><table>");
    for (name, count) in rows {
        let _ = write!(page, "<tr><th>{name}</th><td class=\"n\">{count}</td></tr>");
    }
    page.push_str("</table>");
}

/// Makes a text harmless in HTML and in quoted attributes.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
