//! Memory that requests share: bodies on their way in, answers on their way out.
//!
//! Promise: what all charges of a budget hold together never passes its limit, and what those of one address hold never
//! passes that address's share, so that one client cannot take the room of all.
//!
//! Invariant: a charge counts exactly what it was last set to, until it is dropped.

use crate::error::ApiError;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

/// See the module.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: Bound,
    share: Bound,
    held: Mutex<Held>,
}

/// A limit and its name in the configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound {
    pub(crate) name: &'static str,
    pub(crate) bytes: u64,
}

#[derive(Debug, Default)]
struct Held {
    all: u64,
    by_address: HashMap<IpAddr, u64>,
}

/// What one body or answer holds; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Arc<Budget>,
    address: IpAddr,
    bytes: u64,
}

impl Budget {
    pub(crate) fn new(limit: Bound, share: Bound) -> Arc<Self> {
        Arc::new(Self { limit, share, held: Mutex::default() })
    }

    /// A charge of nothing yet, for a client at `peer`.
    pub(crate) fn charge(self: &Arc<Self>, peer: Peer) -> Charge {
        Charge { budget: self.clone(), address: peer.0, bytes: 0 }
    }

    #[cfg(test)]
    pub(crate) fn held(&self) -> u64 {
        self.held.lock().all
    }
}

/// When a client may come back to a server whose memory is taken.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Charge {
    /// Holds `bytes` more.
    ///
    /// # Errors
    /// 503 with the name of the limit that is reached; the charge is then as before.
    pub(crate) fn add(&mut self, bytes: usize) -> Result<(), ApiError> {
        self.set(self.bytes.saturating_add(bytes as u64))
    }

    /// Holds `bytes` in all.
    ///
    /// # Errors
    /// As [`Charge::add`]; holding less always works.
    pub(crate) fn set(&mut self, bytes: u64) -> Result<(), ApiError> {
        let Budget { limit, share, .. } = &*self.budget;
        let mut held = self.budget.held.lock();
        let all = held.all - self.bytes + bytes;
        let own = held.by_address.get(&self.address).copied().unwrap_or(0) - self.bytes + bytes;
        if bytes > self.bytes {
            let reached = [(all, limit), (own, share)].into_iter().find(|(held, bound)| *held > bound.bytes);
            if let Some((_, bound)) = reached {
                let message = format!("server.limits.{} is reached, try again", bound.name);
                return Err(ApiError::unavailable(message, RETRY_AFTER).at_limit(bound.name));
            }
        }
        held.all = all;
        if own == 0 {
            held.by_address.remove(&self.address);
        } else {
            held.by_address.insert(self.address, own);
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        // Less than before is never refused.
        let _ = self.set(0);
    }
}

/// Address of the client that a request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer(pub(crate) IpAddr);

impl Peer {
    pub(crate) fn of(extensions: &axum::http::Extensions) -> Self {
        extensions.get().copied().unwrap_or(Self(IpAddr::V4(Ipv4Addr::UNSPECIFIED)))
    }
}

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.extensions))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(last: u8) -> Peer {
        Peer(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)))
    }

    #[test]
    fn one_address_cannot_take_the_room_of_all() {
        let budget = Budget::new(Bound { name: "all", bytes: 100 }, Bound { name: "share", bytes: 60 });
        let mut first = budget.charge(peer(1));
        let mut second = budget.charge(peer(1));
        first.add(40).unwrap();
        assert_eq!(second.add(30).unwrap_err().limit, Some("share"));
        second.add(20).unwrap();
        let mut other = budget.charge(peer(2));
        assert_eq!(other.add(41).unwrap_err().limit, Some("all"));
        other.add(40).unwrap();
        drop(first);
        assert_eq!(budget.held(), 60);
        second.set(5).unwrap();
        assert_eq!(budget.held(), 45);
        drop((second, other));
        assert_eq!(budget.held(), 0);
        assert!(budget.held.lock().by_address.is_empty());
    }
}
