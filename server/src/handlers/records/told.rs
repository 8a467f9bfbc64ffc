//! Bodies of record routes: any JSON, or a record as clients tell it, with or without what an answer had beside its fields.

use super::actor;
use crate::body;
use crate::budget::Peer;
use crate::error::ApiError;
use crate::state::ServerState;
use axum::extract::Request;
use axum::http::HeaderMap;
use serde::de::{DeserializeOwned, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use std::fmt;
use wattlog_ledger::{Actor, Expected, Record};

/// Largest record in a body: the longest text of a field, and what is around it.
const MAX_RECORD_BYTES: usize = wattlog_ledger::Value::MAX_TEXT_BYTES + (64 << 10);

/// A record as it was told.
#[derive(Debug)]
pub(super) struct ToldRecord<R> {
    pub(super) record: R,
    /// Number and version of the answer that it was made of, if it has them.
    id: Option<i64>,
    version: Option<i64>,
}

impl<R> ToldRecord<R> {
    /// The record, if it does not say that it is another one, or another version, than the request says.
    ///
    /// # Errors
    /// 400 that names the member.
    pub(super) fn of(self, id: i64, expected: Expected) -> Result<R, ApiError> {
        if let Some(told) = self.id.filter(|told| *told != id) {
            let message = format!("id: the body is record {told}, the path says {id}");
            return Err(ApiError::bad_request(message).with("field", "id"));
        }
        if let (Some(told), Expected::Version(seen)) = (self.version, expected)
            && told != seen
        {
            let message = format!("version: the body has {told}, If-Match says {seen}");
            return Err(ApiError::bad_request(message).with("field", "version"));
        }
        Ok(self.record)
    }
}

/// The JSON of a body, who sent it, and the headers.
pub(in crate::handlers) async fn receive<T: DeserializeOwned + Send + 'static>(
    state: &ServerState,
    request: Request,
) -> Result<(T, Actor, HeaderMap), ApiError> {
    received(state, request, |bytes| serde_json::from_slice(bytes)).await
}

/// A record, who sent it, and the headers.
pub(super) async fn receive_record<R: Record>(
    state: &ServerState,
    request: Request,
) -> Result<(ToldRecord<R>, Actor, HeaderMap), ApiError> {
    received(state, request, read_record).await
}

async fn received<T: Send + 'static>(
    state: &ServerState,
    request: Request,
    read: impl FnOnce(&[u8]) -> serde_json::Result<T> + Send + 'static,
) -> Result<(T, Actor, HeaderMap), ApiError> {
    let (head, body) = request.into_parts();
    let actor = actor(Peer::of(&head.extensions));
    let received = body::receive(state, &head, body).await?;
    // As JSON in memory a body takes up to a hundred times its size, so few are read at a time, and none that is large.
    let _turn = state.record_turn().await?;
    let read = tokio::task::spawn_blocking(move || {
        let plain = received.unpack()?;
        if plain.bytes.len() > MAX_RECORD_BYTES {
            let message = format!("a record of {} bytes, at most {MAX_RECORD_BYTES}", plain.bytes.len());
            return Err(ApiError::too_large("record", message));
        }
        read(&plain.bytes)
            .map_err(|error| ApiError::bad_request(format!("the body is not what is expected: {error}")))
    });
    let told = read.await.map_err(|error| ApiError::internal(error.to_string()))??;
    Ok((told, actor, head.headers))
}

fn read_record<R: Record>(bytes: &[u8]) -> serde_json::Result<ToldRecord<R>> {
    let Members(mut members) = serde_json::from_slice(bytes)?;
    let mut number = |name: &str| match members.remove(name) {
        Some(value) => Option::<i64>::deserialize(value)
            .map_err(|error| serde_json::Error::custom(format_args!("{name}: {error}"))),
        None => Ok(None),
    };
    let (id, version) = (number("id")?, number("version")?);
    // Who made and changed it, and when, is not for a client to say.
    members.remove("created");
    members.remove("updated");
    Ok(ToldRecord { record: R::deserialize(Value::Object(members))?, id, version })
}

/// Members of an object, each once.
struct Members(Map<String, Value>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a record as a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Map::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if members.contains_key(&name) {
                        return Err(A::Error::custom(format_args!("duplicate field `{name}`")));
                    }
                    members.insert(name, value);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Each)
    }
}
