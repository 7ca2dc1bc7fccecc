//! Pictures at another size, as those who train networks make them: weighted means of all source
//! pixels below an output pixel, not rounded.

use serde::Deserialize;
use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resampling {
    /// A triangle, widened when the picture shrinks: Pillow's BILINEAR, PyTorch's with antialias.
    #[default]
    Bilinear,
    /// The mean of what the output pixel covers, with fractions at its border: OpenCV's INTER_AREA.
    Area,
}

/// One plane of a picture at `size` (width, height), row by row.
///
/// - `values`: `columns * rows` long, neither 0.
pub fn resample(
    values: &[u8],
    (columns, rows): (usize, usize),
    (width, height): (usize, usize),
    how: Resampling,
) -> Vec<f64> {
    let across = along_rows(values, columns, &weights(columns, width, how));
    let mut out = Vec::with_capacity(width * height);
    for (first, weights) in weights(rows, height, how) {
        for column in 0..width {
            let values = weights.iter().enumerate();
            out.push(values.map(|(j, w)| across[(first + j) * width + column] * w).sum());
        }
    }
    out
}

/// With mean 0 and a standard deviation near 1.
///
/// - `epsilon`: added to the standard deviation, in the unit of the values.
pub fn standardised(values: &[f64], epsilon: f64) -> impl Iterator<Item = f64> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
    values.iter().map(move |v| (v - mean) / (variance.sqrt() + epsilon))
}

fn along_rows(values: &[u8], columns: usize, weights: &[(usize, Vec<f64>)]) -> Vec<f64> {
    let mut out = Vec::with_capacity(values.len() / columns * weights.len());
    for row in values.chunks_exact(columns) {
        for (first, weights) in weights {
            let values = row[*first..].iter().zip(weights);
            out.push(values.map(|(v, w)| f64::from(*v) * w).sum());
        }
    }
    out
}

/// For each output pixel along an axis of `source` pixels: first source pixel and the weights.
fn weights(source: usize, target: usize, how: Resampling) -> Vec<(usize, Vec<f64>)> {
    let scale = source as f64 / target as f64;
    let of_pixel = |i: usize| {
        let (first, mut weights) = match how {
            Resampling::Area => {
                let (start, end) = (i as f64 * scale, (i + 1) as f64 * scale);
                let (first, last) = (start as usize, (end.ceil() as usize).min(source));
                let covered = |j: usize| (end.min((j + 1) as f64) - start.max(j as f64)).max(0.0);
                (first, (first..last).map(covered).collect::<Vec<f64>>())
            }
            Resampling::Bilinear => {
                let reach = scale.max(1.0);
                let middle = (i as f64 + 0.5) * scale;
                let first = (middle - reach + 0.5).max(0.0) as usize;
                let last = ((middle + reach + 0.5) as usize).min(source);
                let height = |j: usize| 1.0 - ((j as f64 + 0.5 - middle) / reach).abs();
                (first, (first..last).map(|j| height(j).max(0.0)).collect())
            }
        };
        let sum: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|w| *w /= sum);
        (first, weights)
    };
    (0..target).map(of_pixel).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_pixel_is_the_mean_of_what_lies_below_it() {
        let area = |values: &[u8], width| {
            resample(values, (values.len(), 1), (width, 1), Resampling::Area)
        };
        assert_eq!(area(&[0, 100, 200, 20], 2), [50.0, 110.0]);
        // One and a half pixels each.
        let thirds = area(&[30, 60, 90], 2);
        assert!((thirds[0] - 40.0).abs() < 1e-9 && (thirds[1] - 80.0).abs() < 1e-9, "{thirds:?}");
        assert_eq!(area(&[7, 9], 4), [7.0, 7.0, 9.0, 9.0]);
    }

    /// The numbers of Pillow 13: `Image.fromarray(x, "F").resize(…, BILINEAR)`.
    #[test]
    fn bilinear_is_as_in_pillow() {
        let line: Vec<u8> = vec![0, 10, 40, 90, 160, 250];
        let bilinear = |width| resample(&line, (6, 1), (width, 1), Resampling::Bilinear);
        for (width, expected) in [
            (3, [10.0, 70.0, 188.571_427].as_slice()),
            (4, &[3.75, 35.555_556, 107.777_779, 216.25]),
            (9, &[0.0, 5.0, 15.0, 35.0, 65.0, 101.666_664, 148.333_328, 205.0, 250.0]),
        ] {
            let found = bilinear(width);
            let apart = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(apart < 1e-3, "{width}: {found:?}");
        }
    }
}
