//! Alerts from values to channels: what is found, what is told, and what no crash repeats or loses.

mod channels;
mod delivering;
mod evaluating;
mod forgetting;
mod restarts;
mod support;
