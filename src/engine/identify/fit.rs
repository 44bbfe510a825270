//! A logistic of two numbers, fitted by Newton's method around coefficients that are known beforehand.

/// Intercept and slopes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Fitted([f64; 3]);

/// What holds where there is nothing to fit: between what photos of the same scene in other crops and colours ask for (-6.9, 1.8,
/// 0.45) and photos of the same kind of thing (-1.6, 0.8, 0.27), fitted over galleries of `OpenAI` ViT-B/32's vectors of 128
/// COCO photos, three crops of each.
pub(super) const PRIOR: Fitted = Fitted([-4.0, 1.2, 0.35]);
/// How far the coefficients go from there: standard deviations.
const FREEDOM: [f64; 3] = [1.5, 0.5, 0.2];
/// Steps of Newton's method; it has settled long before.
const STEPS: usize = 30;

/// One question with its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Query {
    /// What the answer hangs on.
    pub(super) x: [f64; 2],
    /// The best label was right.
    pub(super) right: bool,
    /// How much it counts.
    pub(super) weight: f64,
}

impl Fitted {
    /// Probability of being right.
    pub(super) fn probability(&self, x: [f64; 2]) -> f64 {
        let sum: f64 = row(x).iter().zip(&self.0).map(|(x, coefficient)| x * coefficient).sum();
        1.0 / (1.0 + (-sum).exp())
    }
}

fn row(x: [f64; 2]) -> [f64; 3] {
    [1.0, x[0], x[1]]
}

/// The most probable coefficients.
pub(super) fn fit(queries: &[Query]) -> Fitted {
    let mut at = PRIOR;
    for _ in 0..STEPS {
        let mut slope: [f64; 3] = std::array::from_fn(|n| (at.0[n] - PRIOR.0[n]) / FREEDOM[n].powi(2));
        let mut bend: [[f64; 3]; 3] =
            std::array::from_fn(|n| std::array::from_fn(|m| if n == m { FREEDOM[n].powi(-2) } else { 0.0 }));
        for query in queries {
            let (probability, x) = (at.probability(query.x), row(query.x));
            let miss = query.weight * (probability - f64::from(u8::from(query.right)));
            let steepness = query.weight * probability * (1.0 - probability);
            for n in 0..3 {
                slope[n] += miss * x[n];
                for m in 0..3 {
                    bend[n][m] += steepness * x[n] * x[m];
                }
            }
        }
        let step = solve(bend, slope);
        // A long step could overshoot where the curve is flat.
        let length = step.iter().map(|x| x * x).sum::<f64>().sqrt();
        let share = if length > 1.0 { 1.0 / length } else { 1.0 };
        at.0.iter_mut().zip(step).for_each(|(coefficient, step)| *coefficient -= share * step);
    }
    at
}

/// The solution of a system of three equations whose matrix is positive definite, so that no pivot is zero.
fn solve(mut a: [[f64; 3]; 3], mut b: [f64; 3]) -> [f64; 3] {
    for n in 0..3 {
        for m in n + 1..3 {
            let (factor, above) = (a[m][n] / a[n][n], a[n]);
            a[m].iter_mut().zip(above).for_each(|(number, above)| *number -= factor * above);
            b[m] -= factor * b[n];
        }
    }
    for n in (0..3).rev() {
        for m in n + 1..3 {
            b[n] -= a[n][m] * b[m];
        }
        b[n] /= a[n][n];
    }
    b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_equations_are_solved() {
        let a = [[4.0, 1.0, 0.5], [1.0, 3.0, 0.25], [0.5, 0.25, 2.0]];
        let x = solve(a, [1.0, 2.0, 3.0]);
        for (row, b) in a.iter().zip([1.0, 2.0, 3.0]) {
            assert!((row.iter().zip(&x).map(|(a, x)| a * x).sum::<f64>() - b).abs() < 1e-12);
        }
    }

    #[test]
    fn without_questions_the_prior_holds_and_with_many_it_moves() {
        assert_eq!(fit(&[]), PRIOR);
        // Right from 1 on.
        let query = |n: i32| Query { x: [f64::from(n) / 10.0, 0.0], right: n > 10, weight: 1.0 };
        let many: Vec<Query> = (-40..60).map(query).collect();
        let fitted = fit(&many);
        assert!(fitted.probability([1.0, 0.0]) > 0.2 && fitted.probability([1.0, 0.0]) < 0.6, "{fitted:?}");
        assert!(fitted.probability([4.0, 0.0]) > 0.95 && fitted.probability([-1.0, 0.0]) < 0.05, "{fitted:?}");
        assert!(PRIOR.probability([1.0, 0.0]) < 0.1);
    }
}
