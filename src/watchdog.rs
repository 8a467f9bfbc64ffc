//! The service manager's watchdog hears from us only while the two things that matter answer: the HTTP loop and the
//! writer of the log.

use crate::client::Client;
use crate::notify;
use crate::serve::Appliance;
use std::time::Duration;
use tokio::task::JoinHandle;
use wattlog_engine::Engine;

/// Pings at a third of the wanted interval, so that one slow answer is no death; none if nobody watches.
pub(crate) fn start(appliance: &Appliance) -> Option<JoinHandle<()>> {
    let every = notify::watchdog_interval()? / 3;
    let (engine, url) = (appliance.engine.clone(), format!("http://{}", appliance.reachable_address()));
    Some(tokio::spawn(async move {
        let mut ticks = tokio::time::interval(every);
        loop {
            ticks.tick().await;
            match probe(&engine, &url, every).await {
                Ok(()) => notify::alive(),
                Err(silent) => tracing::warn!(silent, "no sign of life to the service manager"),
            }
        }
    }))
}

/// The part that does not answer within `patience`.
async fn probe(engine: &Engine, url: &str, patience: Duration) -> Result<(), &'static str> {
    let http = async { Client::new(url, patience)?.get("/ping").await };
    let reply = http.await.map_err(|_| "http")?;
    if !reply.is_success() {
        return Err("http");
    }
    let engine = engine.clone();
    let writer = tokio::task::spawn_blocking(move || engine.ping(patience));
    if writer.await.unwrap_or(false) { Ok(()) } else { Err("writer") }
}
