//! Sets of rows: a bit for each.

/// Some of a collection's rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowSet {
    words: Vec<u64>,
}

impl RowSet {
    /// None of `rows` rows.
    pub fn none(rows: usize) -> Self {
        Self { words: vec![0; rows.div_ceil(64)] }
    }

    /// Adds a row; one beyond the collection is passed over.
    pub fn insert(&mut self, row: usize) {
        if let Some(word) = self.words.get_mut(row / 64) {
            *word |= 1 << (row % 64);
        }
    }

    /// Whether a row is in it.
    pub fn contains(&self, row: usize) -> bool {
        self.words.get(row / 64).is_some_and(|word| word >> (row % 64) & 1 == 1)
    }

    /// Number of rows in it.
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether no row is in it.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// The rows, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.iter_from(0)
    }

    /// Those from a row on, ascending.
    pub fn iter_from(&self, first: usize) -> impl Iterator<Item = usize> + '_ {
        let words = self.words.iter().enumerate().skip(first / 64);
        let all = words.flat_map(|(at, word)| {
            // Each step takes the lowest bit away.
            let left = std::iter::successors(Some(*word), |left| Some(left & left.wrapping_sub(1)));
            left.take_while(|left| *left != 0).map(move |left| at * 64 + left.trailing_zeros() as usize)
        });
        all.skip_while(move |row| *row < first)
    }
}

impl FromIterator<usize> for RowSet {
    fn from_iter<T: IntoIterator<Item = usize>>(rows: T) -> Self {
        let mut set = Self::default();
        for row in rows {
            set.words.resize(set.words.len().max(row / 64 + 1), 0);
            set.insert(row);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_in_it_once_added() {
        let rows = [0, 63, 64, 200];
        let set: RowSet = rows.into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), rows);
        assert!(set.len() == 4 && !set.contains(1) && !set.contains(100_000));
        let mut none = RowSet::none(65);
        assert!(none.is_empty());
        none.insert(64);
        none.insert(1_000);
        assert_eq!(none.iter().collect::<Vec<_>>(), [64]);
    }
}
