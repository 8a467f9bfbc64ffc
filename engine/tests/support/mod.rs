//! What the suites on the simulated disk share: a small vocabulary of points, random histories of a store, and the rule
//! that says which contents a store may have after a power cut.
#![allow(dead_code, reason = "each suite uses its part")]

pub(crate) mod content;
pub(crate) mod history;
pub(crate) mod run;
pub(crate) mod seeds;
pub(crate) mod trial;
pub(crate) mod verdict;
