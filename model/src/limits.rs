//! Bounds that every edge enforces, with their units. A point that passes them fits every format of the engine.

/// Longest measurement name, tag key, tag value or field key, in bytes.
pub const MAX_KEY_LEN_BYTES: usize = 64 * 1024 - 1;
/// Longest string value, in bytes.
pub const MAX_STRING_LEN_BYTES: usize = 64 * 1024;
/// Most tags on one point.
pub const MAX_TAGS_PER_POINT: usize = 256;
/// Most fields on one point.
pub const MAX_FIELDS_PER_POINT: usize = 4096;
