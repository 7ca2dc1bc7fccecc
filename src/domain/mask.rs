//! Which pixels of an image belong to a finding.

use serde::Deserialize;
use serde::Serialize;

use crate::domain::picture::ImageRef;

/// A mask on a picture that shows one frame in full, in runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mask {
    pub image: ImageRef,
    /// Of the picture, in its pixels.
    pub width_px: u32,
    pub height_px: u32,
    /// Lengths of runs, row by row from the top-left pixel: outside, inside, outside, …
    pub counts: Vec<u32>,
}

impl Mask {
    /// Whether the runs fill the picture and something is inside.
    pub fn is_whole(&self) -> bool {
        let sum =
            |counts: &mut dyn Iterator<Item = &u32>| counts.map(|n| u64::from(*n)).sum::<u64>();
        let pixels = u64::from(self.width_px) * u64::from(self.height_px);
        sum(&mut self.counts.iter()) == pixels
            && sum(&mut self.counts.iter().skip(1).step_by(2)) > 0
    }

    /// Runs of what is inside: first pixel and length.
    fn inside(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut at = 0_u64;
        self.counts.iter().enumerate().filter_map(move |(nth, count)| {
            let (from, count) = (at, u64::from(*count));
            at += count;
            (nth % 2 == 1 && count > 0).then_some((from, count))
        })
    }

    /// The smallest rectangle around it in fractions of the picture: x0, y0, x1, y1. `None` where it
    /// is not whole.
    pub fn bounds(&self) -> Option<[f64; 4]> {
        if !self.is_whole() {
            return None;
        }
        let width = u64::from(self.width_px);
        let (mut x0, mut y0, mut x1, mut y1) = (width, u64::MAX, 0, 0);
        for (from, count) in self.inside() {
            let last = from + count - 1;
            (y0, y1) = (y0.min(from / width), y1.max(last / width));
            if from / width == last / width {
                (x0, x1) = (x0.min(from % width), x1.max(last % width));
            } else {
                // It goes on in the next row: from edge to edge.
                (x0, x1) = (0, width - 1);
            }
        }
        let (width, height) = (f64::from(self.width_px), f64::from(self.height_px));
        let edge = |pixel: u64, of: f64| pixel as f64 / of;
        Some([edge(x0, width), edge(y0, height), edge(x1 + 1, width), edge(y1 + 1, height)])
    }

    /// Row by row, one for each pixel of the frame: that of the picture under its centre.
    pub fn on_frame(&self, columns: u32, rows: u32) -> Vec<bool> {
        let width = self.width_px as usize;
        let mut picture = vec![false; width * self.height_px as usize];
        for (from, count) in self.inside() {
            let (from, to) = (from as usize, (from + count) as usize);
            if let Some(run) = picture.get_mut(from..to) {
                run.fill(true);
            }
        }
        let under = |n: u32, of: u32, pixels: u32| {
            let centre = (u64::from(n) * 2 + 1) * u64::from(pixels) / (u64::from(of.max(1)) * 2);
            usize::try_from(centre).unwrap_or(usize::MAX)
        };
        let row = |y: u32| {
            let start = under(y, rows, self.height_px) * width;
            let picture = &picture;
            (0..columns).map(move |x| {
                picture.get(start + under(x, columns, self.width_px)).copied().unwrap_or_default()
            })
        };
        (0..rows).flat_map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::sample;

    fn mask(width_px: u32, height_px: u32, counts: &[u32]) -> Mask {
        let image = sample::positive_chest().findings[0].evidence[0].clone();
        Mask { image, width_px, height_px, counts: counts.to_vec() }
    }

    #[test]
    fn a_mask_fills_its_picture_and_has_an_inside() {
        for (counts, whole, bounds) in [
            (&[5, 2, 9][..], true, Some([0.25, 0.25, 0.75, 0.5])),
            (&[0, 16], true, Some([0.0, 0.0, 1.0, 1.0])),
            (&[3, 2, 11], true, Some([0.0, 0.0, 1.0, 0.5])),
            (&[16], false, None),
            (&[5, 2, 8], false, None),
            (&[5, 2, 10], false, None),
            (&[16, 0], false, None),
            (&[u32::MAX, u32::MAX], false, None),
        ] {
            let mask = mask(4, 4, counts);
            assert_eq!((mask.is_whole(), mask.bounds()), (whole, bounds), "{counts:?}");
        }
    }

    #[test]
    fn a_mask_on_a_smaller_picture_covers_the_same_part_of_the_frame() {
        let on_frame = mask(2, 2, &[1, 1, 2]).on_frame(4, 4);
        let expected = [0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0].map(|n| n == 1);
        assert_eq!(on_frame, expected);
        assert_eq!(mask(4, 4, &[5, 2, 9]).on_frame(2, 2).iter().filter(|on| **on).count(), 1);
    }
}
