//! One feed at work: asks what is due, reads the answer, hands the news to the store, and notes how it went.
//!
//! Promise: a day counts as whole only after its rows were stored; nothing a service says ends the loop, and no look
//! takes more than [`MAX_PAGES`] requests, each bounded in time and bytes.
//!
//! Not here: when a feed is due (`agenda`), bytes (`fetch`), formats (`pse`, `entsoe` and the others).

use super::agenda::{Agenda, Ask, Fill, Rhythm, Terms};
use super::day;
use super::fetch::{FetchError, Fetched, Fetcher, Problem, Validators};
use super::known::{Deposit, Known, NotStored};
use super::nbp::{RateOfDay, Rates};
use super::rows::{ParseError, Row};
use super::seen::Seen;
use super::service::Service;
use crate::config::FeedsConfig;
use crate::seed;
use crate::status::{FeedStatus, StatusHandle};
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use reqwest::Url;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use wattlog_model::{Clock, FieldValue, Point, Timestamp};

/// What all feeds of a collector share.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) deposit: Arc<dyn Deposit>,
    pub(crate) known: Arc<dyn Known>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rates: Arc<Rates>,
    pub(crate) status: StatusHandle,
    pub(crate) seed: u64,
}

pub(crate) struct Runner {
    index: usize,
    service: Service,
    zone: TimeZone,
    is_converted: bool,
    agenda: Agenda,
    fetcher: Fetcher,
    /// By address; only of answers whose rows are stored.
    validators: HashMap<String, Validators>,
    seen: Seen,
    is_learned: bool,
    around: Surroundings,
}

/// Why a look brought nothing.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("GET {url}: the answer cannot be used: {error}")]
    Parse { url: String, error: ParseError },
    #[error("GET {url}: {reason}")]
    Paging { url: String, reason: String },
    #[error(transparent)]
    NotStored(#[from] NotStored),
}

/// What an answer says of rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rated {
    Anew,
    /// The same as the last answer to this question, which had rates.
    AsBefore,
    Nothing,
}

/// All pages of an answer.
struct Answer {
    rows: Vec<Row>,
    refused: u64,
    refused_values: u64,
    first_refusal: Option<String>,
    /// Address and proof of an answer of one page.
    proof: Option<(String, Validators)>,
}

impl Runner {
    pub(crate) fn new(index: usize, service: Service, config: &FeedsConfig, around: Surroundings) -> Self {
        let zone = TimeZone::get(&config.zone).expect("the configuration's check refuses other zones");
        let terms = Terms {
            zone: zone.clone(),
            backfill_days: config.backfill_days.into(),
            recheck_days: config.recheck_days.into(),
            tries: config.tries,
            rest: config.rest.0,
        };
        let seed = around.seed ^ seed::of_text(&service.name);
        Self {
            index,
            zone,
            is_converted: config.nbp.is_some(),
            agenda: Agenda::new(service.rhythm(), terms, seed),
            fetcher: Fetcher::new(config.timeout.0, service.base(), service.secret()),
            validators: HashMap::new(),
            seen: Seen::default(),
            is_learned: false,
            service,
            around,
        }
    }

    /// Does what is due now, at most one look, and tells when the next is due.
    pub(crate) async fn step(&mut self) -> Timestamp {
        let now = self.around.clock.wall();
        if !self.is_learned
            && let Err(reason) = self.learn(now).await
        {
            let text = format!("it is not known what the store has: {reason}");
            self.note(|status| status.last_error = Some(text));
            return self.tell_due(Timestamp(now.0.saturating_add(ASK_STORE_AGAIN_NS)));
        }
        if let Some(ask) = self.agenda.ask(now) {
            self.note(|status| {
                status.looks += 1;
                status.last_attempt = Some(now);
            });
            match self.look(ask, now).await {
                Ok(stored) => self.succeeded(now, stored),
                Err(error) => self.failed(ask, now, &error),
            }
        }
        let now = self.around.clock.wall();
        let due = self.agenda.next_due(now);
        self.tell_due(due)
    }

    /// Asks the store once which days are there.
    async fn learn(&mut self, now: Timestamp) -> Result<(), String> {
        let wanted = self.agenda.wanted(now);
        let (Some(first), Some(last)) =
            (day::bounds(wanted.first, &self.zone), day::bounds(wanted.last, &self.zone))
        else {
            return Err("the clock is outside the years that points may have".to_owned());
        };
        let by_days = matches!(self.service.rhythm(), Rhythm::Days { .. });
        if by_days || self.service.fills_gaps() {
            let field = self.service.last_field(self.is_converted);
            let range = first.start..last.end;
            let (measurement, tags) = (self.service.measurement, &self.service.tags);
            let times = self.around.known.times(measurement, tags, field, range).await?;
            let mut times: Vec<i64> = times.into_iter().map(|time| time.0).collect();
            times.sort_unstable();
            times.dedup();
            if by_days {
                let (zone, length_ns) = (&self.zone, self.service.period_ns());
                self.agenda
                    .learn(now, |date| day::is_filled(date, zone, inside(&times, date, zone), length_ns));
            } else {
                self.agenda.learn_from(first_day_with_a_gap(wanted, now, &times, &self.zone));
            }
        }
        self.is_learned = true;
        Ok(())
    }

    /// Fetches, stores, and enters into the agenda which days are whole. Tells how many points are new.
    async fn look(&mut self, ask: Ask, now: Timestamp) -> Result<u64, LookError> {
        let Some(answer) = self.fetch(ask, now).await? else {
            if self.service.is_rates() {
                self.learn_rates(&[], ask, now, Rated::AsBefore);
            }
            self.agenda.heard(ask, now, |_| Fill::Open);
            return Ok(0);
        };
        let rows = self.select(answer.rows, ask);
        if self.service.is_rates() {
            self.learn_rates(&rows, ask, now, if rows.is_empty() { Rated::Nothing } else { Rated::Anew });
        }
        let rows: Vec<(Row, Fill)> = rows.into_iter().map(|row| self.finish(row)).collect();
        let (mut stored, mut rejected) = (0, 0);
        let news: Vec<&(Row, Fill)> = rows.iter().filter(|(row, _)| self.seen.is_news(row)).collect();
        for parcel in news.chunks(PARCEL_POINTS) {
            let points = parcel.iter().map(|(row, _)| self.point(row)).collect();
            let refused = self.around.deposit.deposit(points).await?;
            rejected += refused;
            stored += (parcel.len() as u64).saturating_sub(refused);
        }
        for (row, fill) in &rows {
            self.seen.stored(row, *fill);
        }
        let (zone, length_ns, seen) = (&self.zone, self.service.period_ns(), &self.seen);
        self.agenda.heard(ask, now, |date| {
            let has = |fill: &Fill| {
                let starts = day::bounds(date, zone).map(|bounds| seen.filled(bounds, *fill));
                day::is_filled(date, zone, &starts.unwrap_or_default(), length_ns)
            };
            [Fill::All, Fill::InTime].into_iter().find(has).unwrap_or(Fill::Open)
        });
        if let Some((url, proof)) = answer.proof {
            if self.validators.len() >= MAX_VALIDATORS {
                self.validators.clear();
            }
            self.validators.insert(url, proof);
        }
        self.seen.forget_before(Timestamp(now.0.saturating_sub(REMEMBERED_DAYS * Timestamp::DAY_NS)));
        self.note(|status| {
            status.rejected += rejected;
            status.refused_rows += answer.refused;
            status.refused_values += answer.refused_values;
        });
        if let Some(reason) = answer.first_refusal {
            let (feed, rows, values) = (&self.service.name, answer.refused, answer.refused_values);
            tracing::warn!(
                feed,
                rows,
                values,
                reason,
                "some rows or values of an answer cannot be used, the others are stored"
            );
        }
        Ok(stored)
    }

    /// All pages; none if nothing has changed.
    async fn fetch(&self, ask: Ask, now: Timestamp) -> Result<Option<Answer>, LookError> {
        let mut answer =
            Answer { rows: Vec::new(), refused: 0, refused_values: 0, first_refusal: None, proof: None };
        let (mut url, mut visited) = (self.service.request(ask, now), HashSet::new());
        let mut len = 0;
        loop {
            let shown = self.fetcher.show(&url);
            self.note(|status| status.requests += 1);
            let is_first = visited.is_empty();
            let known = self.validators.get(url.as_str()).filter(|_| is_first);
            let (status, body, proof) = match self.fetcher.get(&url, known, now).await? {
                Fetched::Unchanged => return Ok(None),
                Fetched::Body { status, body, validators } => (status, body, validators),
            };
            len += body.len();
            if len > MAX_LOOK_BYTES {
                let reason = format!("all pages together are longer than {MAX_LOOK_BYTES} bytes");
                return Err(LookError::Paging { url: shown, reason });
            }
            let parsed = self.service.parse(status, &body).map_err(|error| {
                let error = ParseError(self.fetcher.hide(&error.to_string()));
                LookError::Parse { url: shown.clone(), error }
            })?;
            answer.rows.extend(parsed.rows);
            answer.refused += parsed.refused;
            answer.refused_values += parsed.refused_values;
            answer.first_refusal = answer.first_refusal.or(parsed.first_refusal);
            let Some(next) = parsed.next else {
                // Converted prices change with the rate, which the service knows nothing of.
                let is_provable = is_first && !answer.rows.is_empty() && !self.service.is_in_eur();
                answer.proof = proof.filter(|_| is_provable).map(|proof| (url.to_string(), proof));
                return Ok(Some(answer));
            };
            visited.insert(url.to_string());
            let next = next_page(&url, &next, &visited);
            url =
                next.map_err(|reason| LookError::Paging { url: shown, reason: self.fetcher.hide(&reason) })?;
        }
    }

    /// One row for each time, the last published; only days that were asked for.
    fn select(&self, rows: Vec<Row>, ask: Ask) -> Vec<Row> {
        let bounds = |date| day::bounds(date, &self.zone);
        let range = match (self.service.rhythm(), bounds(ask.first), bounds(ask.last)) {
            (Rhythm::Days { .. }, Some(first), Some(last)) => first.start..last.end,
            _ => Timestamp::MIN..Timestamp::MAX,
        };
        let mut last: BTreeMap<Timestamp, Row> = BTreeMap::new();
        for row in rows.into_iter().filter(|row| range.contains(&row.time)) {
            let is_older = last.get(&row.time).is_some_and(|known| row.published < known.published);
            if !is_older {
                last.insert(row.time, row);
            }
        }
        last.into_values().collect()
    }

    fn learn_rates(&self, rows: &[Row], ask: Ask, now: Timestamp, rated: Rated) {
        let rate = |row: &Row| match row.fields.first() {
            Some((_, FieldValue::Float(rate))) => Some((day::local(row.time, &self.zone).date(), *rate)),
            _ => None,
        };
        // One without a rate tells nothing: each look goes back over days that have one.
        let settled = (rated != Rated::Nothing).then(|| settled(day::local(now, &self.zone), ask.last));
        self.around.rates.learn(rows.iter().filter_map(rate), settled);
    }

    /// Converts a price in EUR, and tells how much of what is to come the row has.
    fn finish(&self, mut row: Row) -> (Row, Fill) {
        let has = |row: &Row, name: &str| row.fields.iter().any(|(field, _)| *field == name);
        let eur =
            row.fields.iter().find(|(field, _)| *field == "market_price_eur").map(|(_, value)| value.clone());
        let (true, true, Some(FieldValue::Float(eur))) = (self.service.is_in_eur(), self.is_converted, eur)
        else {
            let (main, last) =
                (self.service.main_field(self.is_converted), self.service.last_field(self.is_converted));
            let is_in_pln = self.service.is_in_eur() && has(&row, "market_price");
            let fill = match () {
                () if has(&row, last) || is_in_pln => Fill::All,
                () if has(&row, main) => Fill::InTime,
                () => Fill::Open,
            };
            return (row, fill);
        };
        let date = day::local(row.time, &self.zone).date();
        let Some(rate) = self.around.rates.for_day(date) else {
            self.tell(Some(format!("no rate of exchange for {date} yet: price in EUR only")));
            return (row, Fill::Open);
        };
        self.note_age(date, rate);
        let pln = (eur * rate.pln_per_eur * 1e9).round() / 1e9;
        row.fields.push(("market_price", FieldValue::Float(pln)));
        row.fields.push(("exchange_rate", FieldValue::Float(rate.pln_per_eur)));
        (row, if rate.is_final { Fill::All } else { Fill::Open })
    }

    fn note_age(&self, date: Date, rate: RateOfDay) {
        let age = date.since(rate.date).map_or(0, |span| span.get_days());
        let old = || format!("prices of {date} are converted with the rate of {}, {age} days old", rate.date);
        self.tell((age > USUAL_AGE_DAYS).then(old));
    }

    /// Notes what is to be known of the values; once in the log.
    fn tell(&self, note: Option<String>) {
        self.note(|status| {
            if status.note != note {
                if let Some(note) = &note {
                    tracing::info!(feed = self.service.name, note, "to be known of prices");
                }
                status.note = note;
            }
        });
    }

    fn point(&self, row: &Row) -> Point {
        let fields = row.fields.iter().map(|(field, value)| ((*field).to_owned(), value.clone())).collect();
        Point {
            measurement: self.service.measurement.to_owned(),
            tags: self.service.tags.clone(),
            time: Some(row.time),
            fields,
        }
    }

    fn succeeded(&self, now: Timestamp, stored: u64) {
        let feed = &self.service.name;
        self.note(|status| {
            if status.consecutive_failures > 0 {
                tracing::info!(feed, failures = status.consecutive_failures, "the service answers again");
            }
            status.consecutive_failures = 0;
            status.last_success = Some(now);
            status.last_error = None;
            status.stored += stored;
        });
    }

    fn failed(&mut self, ask: Ask, now: Timestamp, error: &LookError) {
        let rests = match error {
            LookError::Fetch(FetchError { problem: Problem::TooLong, .. })
            | LookError::Parse { .. }
            | LookError::Paging { .. } => self.agenda.unusable(ask, now),
            LookError::Fetch(FetchError { problem: Problem::Status { retry_after, .. }, .. }) => {
                self.agenda.failed(now, *retry_after)
            }
            LookError::Fetch(_) | LookError::NotStored(_) => self.agenda.failed(now, None),
        };
        let (feed, text) = (&self.service.name, error.to_string());
        if rests {
            tracing::warn!(
                feed,
                error = text,
                tries = self.agenda.failures(),
                "a service gives nothing, asked again"
            );
        } else {
            tracing::debug!(feed, error = text, "no answer that can be used, tried again");
        }
        self.note(|status| {
            status.failed_looks += 1;
            status.consecutive_failures += 1;
            status.last_error = Some(text);
        });
    }

    fn tell_due(&self, due: Timestamp) -> Timestamp {
        self.note(|status| status.next_due = Some(due));
        due
    }

    fn note(&self, change: impl FnOnce(&mut FeedStatus)) {
        self.around.status.feed(self.index, change);
    }
}

/// The last day whose table is known for certain after an answer about days up to `last`.
fn settled(local: DateTime, last: Date) -> Date {
    // Before the table of today is out, yesterday's is the last that is certain.
    let is_out = local.time() >= RATES_ARE_OUT;
    let certain = if is_out { local.date() } else { local.date().yesterday().unwrap_or(local.date()) };
    certain.min(last)
}

/// Times that lie within a local day.
fn inside<'t>(times: &'t [i64], date: Date, zone: &TimeZone) -> &'t [i64] {
    let Some(bounds) = day::bounds(date, zone) else { return &[] };
    let at = |time: Timestamp| times.partition_point(|known| *known < time.0);
    &times[at(bounds.start)..at(bounds.end)]
}

/// The first local day before `now` of which an hour is missing; the last wanted day if none is.
fn first_day_with_a_gap(wanted: Ask, now: Timestamp, times: &[i64], zone: &TimeZone) -> Date {
    let mut date = wanted.first;
    while date < wanted.last {
        let bounds = day::bounds(date, zone);
        let is_filled = bounds.is_some_and(|bounds| {
            let hours = (bounds.start.0..bounds.end.0.min(now.0)).step_by(super::rows::HOUR_NS as usize);
            hours.into_iter().all(|hour| times.binary_search(&hour).is_ok())
        });
        let Ok(next) = date.tomorrow() else { break };
        if !is_filled {
            break;
        }
        date = next;
    }
    date
}

/// The next page: our own address with the query that the service gives. PSE's links name `http://` or the host behind its
/// proxy, and a service that was broken into could name any: of a link nothing but its query is taken.
fn next_page(url: &Url, next: &str, visited: &HashSet<String>) -> Result<Url, String> {
    let told =
        url.join(next).map_err(|error| format!("the address of the next page cannot be read: {error}"))?;
    let query = told.query().filter(|query| !query.is_empty());
    let query = query.ok_or("the address of the next page has no query, which would tell the page")?;
    let mut page = url.clone();
    page.set_query(Some(query));
    if visited.contains(page.as_str()) {
        return Err("the pages go in a circle".to_owned());
    }
    if visited.len() >= MAX_PAGES {
        return Err(format!("more than {MAX_PAGES} pages"));
    }
    Ok(page)
}

/// Most requests of one look: a week of quarters has seven pages.
const MAX_PAGES: usize = 50;
const MAX_LOOK_BYTES: usize = 8 * 1024 * 1024;
/// Most points handed over at once.
const PARCEL_POINTS: usize = 500;
const MAX_VALIDATORS: usize = 64;
/// Rows that are compared with what comes again.
const REMEMBERED_DAYS: i64 = 20;
const ASK_STORE_AGAIN_NS: i64 = 30_000_000_000;
/// Local time at which the table of the day is published for certain.
const RATES_ARE_OUT: jiff::civil::Time = jiff::civil::Time::constant(12, 30, 0, 0);
/// A weekend with a holiday on either side.
const USUAL_AGE_DAYS: i32 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn of_a_link_to_the_next_page_only_the_query_is_taken() {
        let url = Url::parse("https://api.example:8443/api/rce-pln?$first=100").unwrap();
        let page = |next: &str| next_page(&url, next, &HashSet::new()).map(|page| page.to_string());
        let expected = "https://api.example:8443/api/rce-pln?$after=abc%3D";
        for link in [
            "https://api.example:8443/api/rce-pln?$after=abc%3D",
            "http://api.example/api/rce-pln?$after=abc%3D",
            "http://v2-internal:80/other/path?$after=abc%3D#top",
            "https://user:secret@elsewhere/?$after=abc%3D",
            "//elsewhere/api?$after=abc%3D",
            "/api/rce-pln?$after=abc%3D",
            "?$after=abc%3D",
        ] {
            assert_eq!(page(link).as_deref(), Ok(expected), "{link}");
        }
        for link in ["https://api.example:8443/api/rce-pln", "?", "http://[", "mailto:somebody"] {
            assert!(page(link).is_err(), "{link}: {:?}", page(link));
        }
        let visited = HashSet::from([expected.to_owned()]);
        assert!(next_page(&url, "http://elsewhere/?$after=abc%3D", &visited).unwrap_err().contains("circle"));
        let many = (0..MAX_PAGES).map(|page| page.to_string()).collect();
        assert!(next_page(&url, "?$after=1", &many).unwrap_err().contains("more than"));
    }

    #[test]
    fn an_answer_settles_the_rates_of_its_own_days_alone() {
        // The first of several requests of a long backfill settled today: prices were converted with an old rate for good.
        let (morning, noon) = (date(2026, 3, 28).at(12, 0, 0, 0), date(2026, 3, 28).at(12, 30, 0, 0));
        assert_eq!(settled(morning, date(2026, 3, 28)), date(2026, 3, 27));
        assert_eq!(settled(noon, date(2026, 3, 28)), date(2026, 3, 28));
        assert_eq!(settled(noon, date(2025, 12, 24)), date(2025, 12, 24));
    }
}
