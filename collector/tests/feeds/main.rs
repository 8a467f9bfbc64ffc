//! Feeds and messages: recorded shapes, months with both clock changes through every fault, hostile bytes, a broker.

mod collecting;
mod hostile;
mod messages;
mod month;
mod paging;
mod shapes;
mod store;
