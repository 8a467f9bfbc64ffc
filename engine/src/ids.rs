//! Numbers that name things on disk. Given by the writer alone, never used twice, never derived from a name.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A database and one of its retention policies. Zero is never given.
    NamespaceId(u32)
);
id!(
    /// A measurement of one namespace; unique in the store. Zero is never given.
    MeasurementId(u32)
);
id!(
    /// A measurement with one tag set; unique in the store. Zero is never given.
    SeriesId(u32)
);
id!(
    /// A field of one measurement; unique in the store. A field dropped and written again gets a new one.
    FieldId(u32)
);
id!(
    /// A sealed segment file; unique in the store.
    SegmentId(u64)
);
id!(
    /// A catalog file; unique in the store.
    CatalogFileId(u64)
);
id!(
    /// One use of a log file. A recycled file gets a new one, so old bytes never match.
    LogId(u64)
);
id!(
    /// Place of a record in the one commit order of the store. Rises by one; the first record has 1.
    Seq(u64)
);

/// Random identity of a store, in the header of each of its files.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct StoreId(pub [u8; 16]);

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreId({self})")
    }
}

/// The next number of each kind that was never given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextIds {
    /// See [`NamespaceId`].
    pub namespace: u32,
    /// See [`MeasurementId`].
    pub measurement: u32,
    /// See [`FieldId`].
    pub field: u32,
    /// See [`SeriesId`].
    pub series: u32,
}

impl Default for NextIds {
    fn default() -> Self {
        Self { namespace: 1, measurement: 1, field: 1, series: 1 }
    }
}

impl NextIds {
    /// The larger of each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            namespace: self.namespace.max(other.namespace),
            measurement: self.measurement.max(other.measurement),
            field: self.field.max(other.field),
            series: self.series.max(other.series),
        }
    }
}
