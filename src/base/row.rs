//! Rows on disk: what is kept beside the feed.

/// Where a row belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// What the server is: few rows.
    Meta,
    /// Registered names.
    Names,
    /// Sessions, and what is owed.
    Sessions,
}

impl Table {
    /// All of them, in the order in which their rows are found.
    pub const ALL: [Table; 3] = [Table::Meta, Table::Names, Table::Sessions];
}

/// A row's table, its key, and its value; without one the row goes.
pub type Row = (Table, Box<[u8]>, Option<Box<[u8]>>);
