//! Pages of records: what is asked for, and how they are answered.

use crate::answer::AnswerWriter;
use crate::asked::told;
use crate::budget::Peer;
use crate::error::ApiError;
use crate::state::ServerState;
use crate::url::QueryPairs;
use crate::wire::records::{csv_head, csv_record, named_columns};
use crate::wire::time::parse_query_time;
use axum::body::Body;
use axum::http::{HeaderValue, Response};
use wattlog_ledger::{Listing, Order, Page, Record};
use wattlog_model::Timestamp;
use wattlog_wire::shortened;

/// What a listing is asked for.
#[derive(Debug)]
pub(in crate::handlers) struct Asked {
    pub(in crate::handlers) listing: Listing,
    pub(in crate::handlers) is_csv: bool,
}

impl Asked {
    /// The parameters of a listing; what is none of them is a field that records are filtered by, one of `fields`.
    ///
    /// # Errors
    /// 400 that names the parameter.
    pub(in crate::handlers) fn parse<R: Record>(
        query: QueryPairs,
        fields: &[&str],
        now: Timestamp,
    ) -> Result<Self, ApiError> {
        let mut listing = Listing { order: Order::NewestFirst, ..Listing::all() };
        let mut is_csv = false;
        let mut seen: Vec<String> = Vec::new();
        for (name, value) in query.0 {
            if seen.contains(&name) {
                return Err(ApiError::bad_request(format!(
                    "parameter {:?} stands more than once",
                    shortened(&name)
                )));
            }
            let wrong = |takes: &str| ApiError::bad_request(format!("{name}={}: {takes}", shortened(&value)));
            match name.as_str() {
                "start" => {
                    listing.time.start = parse_query_time(&value, now).map_err(ApiError::bad_request)?;
                }
                "end" => {
                    listing.time.end = parse_query_time(&value, now).map_err(ApiError::bad_request)?;
                }
                "after" => {
                    let cursor =
                        value.parse().map_err(|_| wrong("the `next` of the page before is expected"))?;
                    listing.after = Some(cursor);
                }
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=Listing::MAX_LIMIT).contains(limit));
                    listing.limit = limit.ok_or_else(|| wrong("1 to 10000 are expected"))?;
                }
                "order" => {
                    listing.order = match value.as_str() {
                        "asc" => Order::OldestFirst,
                        "desc" => Order::NewestFirst,
                        _ => return Err(wrong("asc or desc is expected")),
                    };
                }
                "format" => {
                    is_csv = match value.as_str() {
                        "json" => false,
                        "csv" => true,
                        _ => return Err(wrong("json or csv is expected")),
                    };
                }
                _ if !fields.contains(&name.as_str()) => {
                    return Err(ApiError::bad_request(format!(
                        "unknown parameter {:?}: this route takes start, end, order, limit, after, format and the fields {}",
                        shortened(&name),
                        fields.join(", ")
                    )));
                }
                _ => {
                    listing.filters.push(R::filter(&name, &value).map_err(|invalid| wrong(&invalid.reason))?);
                }
            }
            seen.push(name);
        }
        Ok(Self { listing, is_csv })
    }
}

/// A page as JSON or CSV.
pub(in crate::handlers) fn answer<R: Record>(
    state: &ServerState,
    peer: Peer,
    page: &Page<R>,
    is_csv: bool,
) -> Result<Response<Body>, ApiError> {
    let mut out = AnswerWriter::new(state, peer);
    if is_csv {
        let columns = named_columns::<R>();
        out.text(csv_head(&columns))?;
        for stored in &page.records {
            out.text(csv_record(&columns, stored).map_err(ApiError::internal)?)?;
        }
    } else {
        out.text("{")?;
        members(&mut out, page)?;
        out.text("}")?;
    }
    let mut response = told(out.finish()?, is_csv);
    let next = page.next.filter(|_| is_csv).and_then(|next| HeaderValue::try_from(next.to_string()).ok());
    if let Some(next) = next {
        response.headers_mut().insert("x-wattlog-next", next);
    }
    Ok(response)
}

/// `"next":...,"records":[...]`.
pub(in crate::handlers) fn members<R: Record>(
    out: &mut AnswerWriter,
    page: &Page<R>,
) -> Result<(), ApiError> {
    out.text("\"next\":")?;
    out.json(&page.next.map(|next| next.to_string()))?;
    out.text(",\"records\":")?;
    out.json(&page.records)
}
