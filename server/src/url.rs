//! Parts of a request's URL, refused in our own words if they cannot be read.

use crate::error::ApiError;
use crate::wire::query_string;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, RawQuery};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use wattlog_wire::shortened;

/// Texts between the slashes of the path, decoded.
#[derive(Debug)]
pub(crate) struct PathParts<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for PathParts<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path: Result<Path<T>, PathRejection> = Path::from_request_parts(parts, state).await;
        path.map(|Path(parts)| Self(parts)).map_err(|rejection| ApiError::bad_request(rejection.body_text()))
    }
}

/// Parameters of the query part, in order.
#[derive(Debug)]
pub(crate) struct QueryPairs(pub(crate) Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for QueryPairs {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        // Cannot fail: a query part is text or absent.
        let query = RawQuery::from_request_parts(parts, state).await.map_or(None, |RawQuery(query)| query);
        query_string::pairs(query.as_deref().unwrap_or_default()).map(Self).map_err(ApiError::bad_request)
    }
}

impl QueryPairs {
    /// Takes out the last parameter of that name, as the servers do whose clients send them twice.
    pub(crate) fn last(&mut self, name: &str) -> Option<String> {
        let value = self.0.iter().rposition(|(n, _)| n == name).map(|at| self.0.swap_remove(at).1);
        value.filter(|value| !value.is_empty())
    }

    /// The parameters of a route that takes only `names`, each at most once; an empty value counts as none.
    ///
    /// # Errors
    /// 400 that names what is unknown or stands twice.
    pub(crate) fn only<const N: usize>(self, names: [&str; N]) -> Result<[Option<String>; N], ApiError> {
        let mut values: [Option<String>; N] = [const { None }; N];
        for (name, value) in self.0 {
            let Some(at) = names.iter().position(|known| *known == name) else {
                let (name, takes) = (shortened(&name), names.join(", "));
                return Err(ApiError::bad_request(format!(
                    "unknown parameter {name:?}: this route takes {takes}"
                )));
            };
            if values[at].replace(value).is_some() {
                return Err(ApiError::bad_request(format!("parameter {name:?} stands more than once")));
            }
        }
        Ok(values.map(|value| value.filter(|text| !text.is_empty())))
    }
}
