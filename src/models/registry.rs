//! The table of known models.

/// One model of the table.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The name that `--model` takes.
    pub name: &'static str,
    /// Repository on the hub, `owner/name`.
    pub hub_id: &'static str,
}

/// All entries, smallest first within a family.
pub fn entries() -> &'static [Entry] {
    &[]
}
