//! An HTTP server that answers as a script says and remembers what it took.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

/// What is done with one request.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// This status, and `Retry-After` if there is one.
    Answer(u16, Option<&'static str>),
    /// 200, after a fifth of a second.
    Late,
    /// Nothing, for ever.
    Hang,
    /// The whole body is read, then the connection ends.
    Drop,
}

/// One request.
#[derive(Debug, Clone)]
pub struct Taken {
    pub headers: HeaderMap,
    pub bytes: Bytes,
    pub body: Value,
    pub act: Act,
}

impl Taken {
    pub fn key(&self) -> String {
        self.headers["idempotency-key"].to_str().unwrap().to_owned()
    }

    pub fn is_acknowledged(&self) -> bool {
        matches!(self.act, Act::Answer(200..=299, _) | Act::Late)
    }
}

#[derive(Debug, Default)]
struct Script {
    acts: Mutex<VecDeque<Act>>,
    taken: Mutex<Vec<Taken>>,
}

/// Runs until the test ends.
#[derive(Debug, Clone)]
pub struct Server {
    pub address: SocketAddr,
    script: Arc<Script>,
}

impl Server {
    /// Does `acts` in turn, then answers 200.
    pub async fn start(acts: Vec<Act>) -> Self {
        let script = Arc::new(Script { acts: Mutex::new(acts.into()), ..Script::default() });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(take).with_state(script.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, script }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    pub fn then(&self, acts: impl IntoIterator<Item = Act>) {
        self.script.acts.lock().unwrap().extend(acts);
    }

    /// (key, whether it was acknowledged) of each request.
    pub fn keys(&self) -> Vec<(String, bool)> {
        self.taken().iter().map(|taken| (taken.key(), taken.is_acknowledged())).collect()
    }

    pub fn taken(&self) -> Vec<Taken> {
        self.script.taken.lock().unwrap().clone()
    }
}

async fn take(State(script): State<Arc<Script>>, headers: HeaderMap, bytes: Bytes) -> Response {
    let act = script.acts.lock().unwrap().pop_front().unwrap_or(Act::Answer(200, None));
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    script.taken.lock().unwrap().push(Taken { headers, bytes, body, act: act.clone() });
    match act {
        Act::Answer(status, after) => {
            let mut response = (StatusCode::from_u16(status).unwrap(), "{\"id\":\"m1\"}").into_response();
            if let Some(after) = after {
                response.headers_mut().insert("retry-after", after.parse().unwrap());
            }
            response
        }
        Act::Late => {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            StatusCode::OK.into_response()
        }
        Act::Hang => std::future::pending().await,
        // The server ends a connection whose handler panics; what it prints is no failure of the test.
        Act::Drop => {
            std::panic::resume_unwind(Box::new("the connection is dropped"));
        }
    }
}
