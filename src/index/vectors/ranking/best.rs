//! The best of many, one after the other.

/// Keeps the best of what is pushed; amortised, a few comparisons for each.
pub(super) struct Best {
    count: usize,
    /// What is not above it is not among the best.
    pub(super) threshold: f32,
    /// Standings and rows, in no order; at most twice as many as wanted before [`Best::shrink`].
    pub(super) kept: Vec<(f32, usize)>,
}

impl Best {
    pub(super) fn new(count: usize) -> Self {
        Self { count, threshold: f32::NEG_INFINITY, kept: Vec::new() }
    }

    pub(super) fn push(&mut self, standing: f32, row: usize) {
        self.kept.push((standing, row));
        if self.kept.len() >= self.count.saturating_mul(2).max(64) {
            self.shrink();
        }
    }

    pub(super) fn shrink(&mut self) {
        if self.kept.len() > self.count {
            let order = |a: &(f32, usize), b: &(f32, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
            let (_, worst, _) = self.kept.select_nth_unstable_by(self.count - 1, order);
            // Of equal standings those of the first rows are kept, and rows come in order.
            self.threshold = worst.0;
            self.kept.truncate(self.count);
        }
    }
}
