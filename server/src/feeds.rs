//! What the server asks of whoever fetches prices, rates and weather and hears a broker. The root joins the two.

use wattlog_model::Timestamp;

/// How one feed is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FeedStatus {
    /// As in `pse/rce-pln`.
    pub name: String,
    /// `prices`, `rates` or `weather`.
    pub kind: &'static str,
    /// When it was asked last; none if never.
    pub last_attempt: Option<Timestamp>,
    /// When an answer was stored last, also one without news.
    pub last_success: Option<Timestamp>,
    /// When it is asked next.
    pub next_attempt: Option<Timestamp>,
    /// Looks begun.
    pub looks: u64,
    /// Requests sent.
    pub requests: u64,
    /// Looks that brought nothing.
    pub failed_looks: u64,
    /// Those of them since the last success.
    pub failures_in_a_row: u64,
    /// Points stored.
    pub stored: u64,
    /// Points that the store rejected for good.
    pub rejected: u64,
    /// Rows of answers that could not be used.
    pub refused_rows: u64,
    /// Values that could not be used, of rows that were stored without them.
    pub refused_values: u64,
    /// Why the last look failed; without secrets.
    pub last_error: Option<String>,
    /// What is to be known of the values.
    pub note: Option<String>,
}

/// How the messages of a broker are doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BrokerStatus {
    /// As configured.
    pub address: String,
    /// What is subscribed to.
    pub topics: Vec<String>,
    /// Whether there is a connection.
    pub is_connected: bool,
    /// Connections made.
    pub connections: u64,
    /// Messages that came, repeated ones too.
    pub messages: u64,
    /// When the last one came.
    pub last_message: Option<Timestamp>,
    /// Messages acknowledged.
    pub acknowledged: u64,
    /// Points stored.
    pub stored: u64,
    /// What gave no point, by reason: a small closed set of words.
    pub refused: Vec<(&'static str, u64)>,
    /// Why the last connection ended or could not be made; none while there is one.
    pub last_error: Option<String>,
    /// What was wrong with the last message that gave no value.
    pub last_unusable: Option<String>,
}

/// Gives the status of feeds and broker; called once per request, must not block.
pub trait FeedStatusProvider: Send + Sync {
    /// One entry per configured feed.
    fn feeds(&self) -> Vec<FeedStatus>;
    /// None if no broker is configured.
    fn broker(&self) -> Option<BrokerStatus>;
}

/// For a server without a collector.
impl FeedStatusProvider for () {
    fn feeds(&self) -> Vec<FeedStatus> {
        Vec::new()
    }

    fn broker(&self) -> Option<BrokerStatus> {
        None
    }
}
