//! Services of prices, rates and weather that are not there: a real HTTP server that answers for any day in the shapes
//! of PSE, ENTSO-E, Energy-Charts, NBP, Open-Meteo and IMGW, and fails in every way to order.
//!
//! Nothing here is a shortcut for the feeds: they ask through the operating system's sockets. Time is that of the clock
//! that is handed in, so that a month may pass in seconds.

mod answers;
mod http;
mod market;

pub use market::{Market, Weather};

use crate::config::{
    EnergyChartsConfig, EntsoeConfig, FeedsConfig, ImgwConfig, NbpConfig, OpenMeteoConfig, PseConfig,
    PseProduct, Secret,
};
use answers::Calendar;
use http::{Answer, Body, Request};
use jiff::civil::Date;
use parking_lot::Mutex;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wattlog_model::{Clock, Timestamp};

/// What can be wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedFault {
    /// HTTP 429 with a `Retry-After` of two minutes.
    TooManyRequests,
    /// HTTP 500.
    ServerError,
    /// The body ends in the middle, with a matching length.
    Truncated,
    /// A page for people, with status 200.
    Html,
    /// The body comes a byte at a time.
    SlowBody,
    /// The body never ends.
    EndlessBody,
    /// The connection is closed without an answer.
    HangUp,
    /// PSE: the next page is the same one.
    PagesInCircle,
    /// PSE: the next page is on another host, with a query that asks for nothing.
    PagesElsewhere,
    /// PSE: the address of the next page is missing.
    PagesCutOff,
    /// PSE: rows published earlier, with other values, follow those that hold.
    OldRows,
}

impl FeedFault {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::TooManyRequests,
        Self::ServerError,
        Self::Truncated,
        Self::Html,
        Self::SlowBody,
        Self::EndlessBody,
        Self::HangUp,
        Self::PagesInCircle,
        Self::PagesElsewhere,
        Self::PagesCutOff,
        Self::OldRows,
    ];
}

/// The services behind one address.
#[derive(Debug)]
pub struct FeedServer {
    listener: TcpListener,
    control: FeedControl,
}

/// Changes what the services say while they run; clone freely.
#[derive(Debug, Clone)]
pub struct FeedControl {
    market: Market,
    clock: Arc<dyn Clock>,
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    calendar: Calendar,
    faults: Vec<FeedFault>,
    /// Every so many requests has a fault; 0: none.
    every: u64,
    is_out: bool,
    requests: u64,
    faulty: u64,
    targets: Vec<String>,
}

/// The token that the simulated ENTSO-E wants.
pub const TOKEN: &str = "simulated-token-1234";

impl FeedServer {
    /// Opens the socket; port 0 takes a free one.
    ///
    /// # Errors
    /// As the operating system says when the address cannot be had.
    pub async fn bind(address: SocketAddr, market: Market, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let state = State {
            calendar: Calendar::default(),
            faults: Vec::new(),
            every: 0,
            is_out: false,
            requests: 0,
            faulty: 0,
            targets: Vec::new(),
        };
        Ok(Self {
            listener,
            control: FeedControl { market, clock, address, state: Arc::new(Mutex::new(state)) },
        })
    }

    /// What changes it while it runs.
    pub fn control(&self) -> FeedControl {
        self.control.clone()
    }

    /// Answers until `shutdown`.
    ///
    /// # Errors
    /// If the socket fails for good.
    pub async fn run(self, shutdown: CancellationToken) -> io::Result<()> {
        let mut connections = JoinSet::new();
        loop {
            let Some(accepted) = shutdown.run_until_cancelled(self.listener.accept()).await else {
                return Ok(());
            };
            let (stream, _) = accepted?;
            while connections.try_join_next().is_some() {}
            let control = self.control.clone();
            connections.spawn(async move { http::serve(stream, |request| control.answer(request)).await });
        }
    }
}

impl FeedControl {
    /// A configuration that has every feed on, here.
    pub fn config(&self) -> FeedsConfig {
        let url = |path: &str| format!("http://{}/{path}", self.address);
        FeedsConfig {
            zone: self.market.zone().iana_name().unwrap_or("UTC").to_owned(),
            pse: Some(PseConfig {
                url: url("api/"),
                products: vec![
                    PseProduct::CsdacPln,
                    PseProduct::RcePln,
                    PseProduct::EnergyPrices,
                    PseProduct::Pdgsz,
                ],
            }),
            entsoe: Some(EntsoeConfig {
                token: Secret::new(TOKEN),
                area: "10YPL-AREA-----S".to_owned(),
                url: url("entsoe"),
            }),
            energy_charts: Some(EnergyChartsConfig { area: "PL".to_owned(), url: url("price") }),
            nbp: Some(NbpConfig { url: url("nbp/") }),
            open_meteo: Some(OpenMeteoConfig {
                latitude: 50.1,
                longitude: 19.7,
                location: "home".to_owned(),
                interval: crate::config::Interval::from_secs(3_600),
                forecast_days: 2,
                url: url("v1/forecast"),
            }),
            imgw: Some(ImgwConfig {
                station: "12566".to_owned(),
                location: "home".to_owned(),
                interval: crate::config::Interval::from_secs(1_800),
                url: url("synop/"),
            }),
            ..FeedsConfig::default()
        }
    }

    /// Faults in turn, one in every so many requests; 0: none.
    pub fn set_faults(&self, faults: &[FeedFault], every: u64) {
        let mut state = self.state.lock();
        state.faults = faults.to_vec();
        state.every = every;
    }

    /// Every request gets HTTP 503, or none does.
    pub fn set_out(&self, is_out: bool) {
        self.state.lock().is_out = is_out;
    }

    /// A day is published so many hours late.
    pub fn publish_late(&self, day: Date, hours: i64) {
        self.state.lock().calendar.late_hours.insert(day, hours);
    }

    /// A day is published anew, with other values.
    pub fn republish(&self, day: Date) {
        *self.state.lock().calendar.revisions.entry(day).or_default() += 1;
    }

    /// How often a day was published anew.
    pub fn revision(&self, day: Date) -> u32 {
        self.state.lock().calendar.revision(day)
    }

    /// Requests until now, and how many of them got a fault.
    pub fn requests(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.requests, state.faulty)
    }

    /// What was asked lately, oldest first; forgets it.
    pub fn take_targets(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().targets)
    }

    fn answer(&self, request: &Request) -> Answer {
        let mut state = self.state.lock();
        state.requests += 1;
        if state.targets.len() < MOST_TARGETS {
            state.targets.push(request.target.clone());
        }
        if state.is_out {
            state.faulty += 1;
            return Answer::text(503, "out of order");
        }
        let number = state.requests;
        let is_faulty = state.every > 0 && number.is_multiple_of(state.every) && !state.faults.is_empty();
        let fault = is_faulty.then(|| state.faults[(number / state.every) as usize % state.faults.len()]);
        state.faulty += u64::from(is_faulty);
        let calendar = state.calendar.clone();
        drop(state);
        match fault {
            Some(FeedFault::TooManyRequests) => {
                Answer { headers: vec![("Retry-After", "120".to_owned())], ..Answer::text(429, "slower") }
            }
            Some(FeedFault::ServerError) => Answer::text(500, "a fault"),
            Some(FeedFault::Html) => {
                Answer::text(200, "<!DOCTYPE html><html><body>Maintenance</body></html>")
            }
            Some(FeedFault::HangUp) => Answer { body: Body::None, ..Answer::text(200, "") },
            Some(FeedFault::EndlessBody) => Answer { body: Body::Endless, ..Answer::text(200, "") },
            fault => {
                let mut answer = self.told(request, &calendar, fault);
                if let Body::Whole(body) = &mut answer.body {
                    match fault {
                        Some(FeedFault::Truncated) => body.truncate(body.len() / 2),
                        Some(FeedFault::SlowBody) => answer.body = Body::Slow(std::mem::take(body)),
                        _ => {}
                    }
                }
                answer
            }
        }
    }

    fn told(&self, request: &Request, calendar: &Calendar, fault: Option<FeedFault>) -> Answer {
        let (market, now) = (&self.market, self.clock.wall());
        let segments: Vec<&str> = request.path.split('/').filter(|segment| !segment.is_empty()).collect();
        match segments.as_slice() {
            ["api", product] => self.pse(request, product, calendar, fault),
            ["entsoe"] if request.query("securityToken").as_deref() != Some(TOKEN) => {
                Answer::text(401, "no token")
            }
            ["entsoe"] => {
                let minute = |key: &str| {
                    let civil = jiff::civil::DateTime::strptime("%Y%m%d%H%M", request.query(key)?).ok()?;
                    let at = jiff::tz::TimeZone::UTC.to_timestamp(civil).ok()?;
                    Some(market.zone().to_datetime(at).date())
                };
                let (Some(start), Some(end)) = (minute("periodStart"), minute("periodEnd")) else {
                    return Answer::text(400, "no period");
                };
                let days = days(start, end.yesterday().unwrap_or(end));
                Answer::text(200, &answers::entsoe(market, calendar, &days, now))
            }
            ["price"] => match (request.date("start"), request.date("end")) {
                (Some(first), Some(last)) => {
                    Answer::json(&answers::energy_charts(market, calendar, &days(first, last), now))
                }
                _ => Answer::text(404, "no days"),
            },
            ["nbp", "exchangerates", "rates", "a", "eur", first, last] => match (first.parse(), last.parse())
            {
                (Ok(first), Ok(last)) if days(first, last).len() <= 93 => {
                    let told = answers::nbp(market, &days(first, last), now);
                    told.map_or_else(|| Answer::text(404, "404 NotFound"), |told| Answer::json(&told))
                }
                _ => Answer::text(400, "400 BadRequest"),
            },
            ["v1", "forecast"] => {
                let count = |key: &str| request.query(key).and_then(|text| text.parse::<i64>().ok());
                let unix = request.query("timeformat").as_deref() == Some("unixtime");
                match (count("past_days"), count("forecast_days"), unix) {
                    (Some(past @ 0..=92), Some(forecast @ 1..=16), true) => {
                        Answer::json(&answers::open_meteo(market, now, past, forecast))
                    }
                    _ => Answer::text(400, "{\"error\":true}"),
                }
            }
            ["synop", "id", "12566"] => Answer::json(&answers::imgw(market, now)),
            _ => Answer::text(404, "nothing here"),
        }
        .with_etag(request)
    }

    /// Pages of 100 rows.
    fn pse(&self, request: &Request, product: &str, calendar: &Calendar, fault: Option<FeedFault>) -> Answer {
        let all = [PseProduct::CsdacPln, PseProduct::RcePln, PseProduct::EnergyPrices, PseProduct::Pdgsz];
        let product = all.into_iter().find(|known| known.name() == product);
        let filter = request.query("$filter").unwrap_or_default();
        let dates: Vec<Date> =
            filter.split('\'').skip(1).step_by(2).filter_map(|text| text.parse().ok()).collect();
        let (Some(product), Some(first), Some(last)) = (product, dates.first(), dates.last()) else {
            return Answer::text(400, "{\"error\":\"unknown parameter\"}");
        };
        let has_old_rows = fault == Some(FeedFault::OldRows);
        let now = self.clock.wall();
        let rows = answers::pse(&self.market, calendar, product, &days(*first, *last), now, has_old_rows);
        let from = request.query("$after").and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
        let page: Vec<_> = rows.iter().skip(from).take(PAGE_ROWS).cloned().collect();
        let mut body = serde_json::json!({ "value": page });
        let base = request.target.split("&$after").next().unwrap_or_default();
        let next = match fault {
            Some(FeedFault::PagesInCircle) => Some(format!("http://{}{}", self.address, request.target)),
            Some(FeedFault::PagesElsewhere) => Some("http://192.0.2.1/api/rce-pln?$after=1".to_owned()),
            Some(FeedFault::PagesCutOff) => None,
            _ if rows.len() > from + PAGE_ROWS => {
                Some(format!("http://{}{base}&$after={}", self.address, from + PAGE_ROWS))
            }
            _ => None,
        };
        if let Some(next) = next {
            body["nextLink"] = next.into();
        }
        Answer::json(&body)
    }
}

fn days(first: Date, last: Date) -> Vec<Date> {
    let mut days = vec![first];
    while let Some(next) = days.last().and_then(|day| day.tomorrow().ok()).filter(|next| *next <= last) {
        if days.len() >= MOST_DAYS {
            break;
        }
        days.push(next);
    }
    days
}

/// Rows of a page of PSE.
const PAGE_ROWS: usize = 100;
/// Most days of one answer, and most requests kept for tests.
const MOST_DAYS: usize = 400;
const MOST_TARGETS: usize = 10_000;

/// First instant of a local day, for tests that count from it.
pub fn midnight(day: Date, market: &Market) -> Timestamp {
    crate::feeds::local_day(day, market.zone()).start
}
