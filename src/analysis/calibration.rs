//! What a model's probabilities mean: measured on a site's own cases, one table for each gateway
//! and finding.

use std::collections::BTreeMap;

/// By key of the finding: points (said, meant), joined by straight lines. What isotonic regression
/// gives is such a table; a Platt curve is one of some ten points.
pub type Calibration = BTreeMap<String, Vec<[f64; 2]>>;

/// The probability that is meant; as it was said where there is no table for the finding.
pub fn calibrated(calibration: &Calibration, key: &str, said: f64) -> f64 {
    let Some(points) = calibration.get(key) else { return said };
    let after = points.partition_point(|[x, _]| *x < said);
    let [(x0, y0), (x1, y1)] = match (after.checked_sub(1).map(|at| points[at]), points.get(after))
    {
        (Some([x0, y0]), Some([x1, y1])) => [(x0, y0), (*x1, *y1)],
        // Beyond the ends it is as at the ends.
        (Some([_, y]), None) => return y,
        (None, Some([_, y])) => return *y,
        (None, None) => return said,
    };
    y0 + (y1 - y0) * (said - x0) / (x1 - x0)
}

/// Adds one line for each table that cannot work.
pub fn check(calibration: &Calibration, at: &str, problems: &mut Vec<String>) {
    for (key, points) in calibration {
        let at = format!("{at}.{key}");
        if crate::analysis::codes::find(key).is_none() {
            problems.push(format!("{at}: no key of the table of finding codes"));
        }
        let inside = points.iter().flatten().all(|value| (0.0..=1.0).contains(value));
        let rising =
            points.windows(2).all(|pair| pair[0][0] < pair[1][0] && pair[0][1] <= pair[1][1]);
        if points.len() < 2 || points.len() > 100 || !inside || !rising {
            problems.push(format!(
                "{at} = {points:?}: use 2 to 100 points [said, meant] from 0 to 1, said rising, meant not falling; a finding would grow less likely the surer the model is"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(points: &[[f64; 2]]) -> Calibration {
        [("nodule".to_owned(), points.to_vec())].into()
    }

    #[test]
    fn between_two_points_it_is_a_straight_line_and_beyond_them_level() {
        let bold = table(&[[0.1, 0.0], [0.5, 0.2], [0.9, 0.8]]);
        for (said, meant) in
            [(0.0, 0.0), (0.1, 0.0), (0.3, 0.1), (0.5, 0.2), (0.7, 0.5), (0.9, 0.8), (1.0, 0.8)]
        {
            let found = calibrated(&bold, "nodule", said);
            assert!((found - meant).abs() < 1e-9, "{said}: {found}");
        }
        assert_eq!(calibrated(&bold, "mass", 0.3), 0.3);
        assert_eq!(calibrated(&table(&[]), "nodule", 0.3), 0.3);
    }

    #[test]
    fn a_table_that_falls_or_leaves_its_range_is_refused() {
        let problems = |calibration: &Calibration| {
            let mut problems = Vec::new();
            check(calibration, "x", &mut problems);
            problems.len()
        };
        assert_eq!(problems(&table(&[[0.0, 0.0], [0.5, 0.5], [1.0, 0.5]])), 0);
        for points in [
            &[[0.0, 0.0]][..],
            &[[0.0, 0.5], [1.0, 0.4]],
            &[[0.5, 0.1], [0.5, 0.2]],
            &[[0.0, 0.0], [1.0, 1.1]],
            &[[0.0, f64::NAN], [1.0, 1.0]],
        ] {
            assert_eq!(problems(&table(points)), 1, "{points:?}");
        }
        assert_eq!(problems(&[("unicorn".to_owned(), vec![[0.0, 0.0], [1.0, 1.0]])].into()), 1);
    }
}
