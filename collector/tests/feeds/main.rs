//! Feeds and messages: recorded shapes, documents by hand, months with both clock changes through every fault, hostile bytes, a broker.

mod collecting;
mod documents;
mod hostile;
mod messages;
mod month;
mod paging;
mod shapes;
mod store;
