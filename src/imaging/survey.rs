//! A look at every slice of a series before some are chosen: how much of the body is on it, and how
//! large the largest spot is that a simple rule points at. No finding: it decides what a model is
//! shown, beside slices that are taken evenly, and says nothing about what is there.
//!
//! Two rules, both for CT, by what a slice itself shows:
//! - inside a closed skull: tissue denser than the rest of the brain (fresh blood, and also
//!   calcification, contrast, a tumour). Not found: an infarct, old blood, a thin layer along the
//!   bone, anything where the skull is open (base, face) and on the topmost slices.
//! - inside the lungs: rounded dense spots of 4 to 30 mm that lung surrounds (a nodule, and also a
//!   vessel seen end on). Not found: ground glass, what touches pleura, hilum or diaphragm.

use crate::imaging::decode::Colour;
use crate::imaging::decode::Frame;
use crate::imaging::decode::Image;
use crate::imaging::window::Transform;

/// What one slice shows.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Look {
    /// More where more of the body is on the slice; to be compared within one series only. CT: the
    /// share of pixels denser than fat. Others: the mean value.
    pub body: f64,
    /// Area of the largest spot that the rules point at.
    pub spot_mm2: f64,
}

/// Edge of a cell of the coarse grid that the rules work on: fine enough for a nodule of 4 mm, and
/// coarse enough for the noise of a thin slice.
const LUNG_CELL_MM: f64 = 1.4;
const HEAD_CELL_MM: f64 = 2.0;
const BODY_MIN_HU: f32 = -300.0;

const BONE_MIN_HU: f32 = 180.0;
/// Gaps of the skull up to twice this are closed.
const SKULL_GAP_MM: f64 = 8.0;
/// Beside bone a cell holds part of it and looks dense.
const BONE_RIM_MM: f64 = 4.0;
/// Less brain than this: the base, or the top where the skull is cut at a slant.
const BRAIN_MIN_MM2: f64 = 2000.0;
const BLOOD_HU: [f32; 2] = [50.0, 95.0];
/// The noise of an old scanner reaches 60; a bleeding of 9 mm has 64.
const BLOOD_MIN_MM2: f64 = 60.0;
/// Above the middle value of the brain on the same slice: beam hardening lifts all of it.
const BLOOD_OVER_BRAIN_HU: f32 = 15.0;

const LUNG_MAX_HU: f32 = -400.0;
const LUNG_MIN_MM2: f64 = 1000.0;
const SPOT_MM: [f64; 2] = [4.0, 30.0];
/// Longer side of a spot's rectangle by the shorter; share of the rectangle that it fills (a disc:
/// 0.79).
const SPOT_LONGER_MAX: f64 = 1.6;
const SPOT_FILLS_MIN: f64 = 0.55;

/// Looks at one frame.
///
/// - `spacing_mm`: between rows, between columns; without it there is no spot.
pub fn look(image: &Image, frame: &Frame, number: u32, spacing_mm: Option<[f64; 2]>) -> Look {
    let transform = Transform::of(image, number);
    let is_ct = image.data.fields().plain(dicom_dictionary_std::tags::MODALITY) == "CT";
    if matches!(frame.colour, Colour::Rgb | Colour::Palette) || !(is_ct && transform.has_modality) {
        let values = crate::imaging::window::sample(&frame.values, &transform);
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let sum: f64 = values.iter().map(|value| value - least).sum();
        return Look { body: sum / values.len().max(1) as f64, spot_mm2: 0.0 };
    }
    let hu = |at: usize| match frame.values.get(at) {
        stored if stored.is_finite() && !transform.is_padding(stored) => {
            transform.modality.apply(stored) as f32
        }
        _ => -1000.0,
    };
    let fine: Vec<f32> = (0..frame.rows * frame.columns).map(hu).collect();
    look_at_hu(&fine, frame.columns, spacing_mm)
}

fn look_at_hu(fine: &[f32], columns: usize, spacing_mm: Option<[f64; 2]>) -> Look {
    let Some([row_mm, column_mm]) = spacing_mm else {
        let body = fine.iter().filter(|hu| **hu > BODY_MIN_HU).count();
        return Look { body: body as f64 / fine.len().max(1) as f64, spot_mm2: 0.0 };
    };
    let mm = (row_mm * column_mm).sqrt();
    let grid = |cell_mm: f64| Grid::pooled(fine, columns, mm, (cell_mm / mm).round() as usize);
    let head = grid(HEAD_CELL_MM);
    let body = head.values.iter().filter(|hu| **hu > BODY_MIN_HU).count();
    let spot_mm2 = head.dense_in_brain().unwrap_or_else(|| grid(LUNG_CELL_MM).spot_in_lung());
    Look { body: body as f64 / head.values.len().max(1) as f64, spot_mm2 }
}

/// Values in rows, e.g. a slice in coarse cells.
pub struct Grid {
    width: usize,
    pub values: Vec<f32>,
    cell_mm: f64,
}

/// Cells that touch each other at a side.
pub struct Part {
    pub cells: Vec<usize>,
    touches_edge: bool,
}

impl Grid {
    /// Pixels as they are.
    pub fn of(values: Vec<f32>, width: usize) -> Grid {
        Grid { width, values, cell_mm: 1.0 }
    }

    /// Means of `by` x `by` pixels.
    fn pooled(fine: &[f32], columns: usize, pixel_mm: f64, by: usize) -> Grid {
        let by = by.clamp(1, columns.max(1));
        let (width, height) = (columns / by, fine.len() / columns.max(1) / by);
        let mut values = vec![0.0; width * height];
        for (y, line) in fine.chunks_exact(columns).take(height * by).enumerate() {
            for (x, hu) in line[..width * by].iter().enumerate() {
                values[y / by * width + x / by] += hu;
            }
        }
        let count = (by * by) as f32;
        values.iter_mut().for_each(|sum| *sum /= count);
        Grid { width, values, cell_mm: pixel_mm * by as f64 }
    }

    fn mm2(&self, cells: usize) -> f64 {
        cells as f64 * self.cell_mm * self.cell_mm
    }

    pub fn marked(&self, is: impl Fn(f32) -> bool) -> Vec<bool> {
        self.values.iter().map(|value| is(*value)).collect()
    }

    /// Cells at a side of this one.
    pub fn beside(&self, at: usize) -> impl Iterator<Item = usize> + use<> {
        let (width, len) = (self.width, self.values.len());
        let column = at % width;
        [
            (column > 0).then(|| at - 1),
            (column + 1 < width).then_some(at + 1),
            at.checked_sub(width),
            Some(at + width).filter(|below| *below < len),
        ]
        .into_iter()
        .flatten()
    }

    fn grown(&self, marked: &[bool], mm: f64) -> Vec<bool> {
        let mut now = marked.to_vec();
        for _ in 0..(mm / self.cell_mm).round().max(1.0) as usize {
            let before = now.clone();
            for (at, cell) in now.iter_mut().enumerate() {
                *cell = before[at] || self.beside(at).any(|other| before[other]);
            }
        }
        now
    }

    pub fn is_at_edge(&self, at: usize) -> bool {
        let column = at % self.width;
        let at_side = column == 0 || column + 1 == self.width;
        at_side || at < self.width || at + self.width >= self.values.len()
    }

    pub fn parts(&self, marked: &[bool]) -> Vec<Part> {
        let (mut left, mut parts) = (marked.to_vec(), Vec::new());
        for start in 0..marked.len() {
            if !std::mem::take(&mut left[start]) {
                continue;
            }
            let (mut cells, mut next, mut touches_edge) = (vec![start], 0, false);
            while let Some(at) = cells.get(next).copied() {
                next += 1;
                touches_edge |= self.is_at_edge(at);
                cells.extend(self.beside(at).filter(|other| std::mem::take(&mut left[*other])));
            }
            parts.push(Part { cells, touches_edge });
        }
        parts
    }

    pub fn of_cells<'c>(&self, cells: impl IntoIterator<Item = &'c usize>) -> Vec<bool> {
        let mut marked = vec![false; self.values.len()];
        cells.into_iter().for_each(|at| marked[*at] = true);
        marked
    }

    /// The largest dense spot inside the skull. `None` where no skull encloses a brain.
    fn dense_in_brain(&self) -> Option<f64> {
        let bone = self.marked(|hu| hu > BONE_MIN_HU);
        let open: Vec<bool> =
            self.grown(&bone, SKULL_GAP_MM).iter().map(|closed| !closed).collect();
        let parts = self.parts(&open);
        let around = parts.iter().filter(|part| part.touches_edge).flat_map(|part| &part.cells);
        let outside = self.grown(&self.of_cells(around), SKULL_GAP_MM);
        let inside: Vec<bool> = outside.iter().zip(&bone).map(|(o, b)| !o && !b).collect();
        let brain = self.parts(&inside).into_iter().max_by_key(|part| part.cells.len())?;
        let beyond: Vec<bool> = self.of_cells(&brain.cells).iter().map(|cell| !cell).collect();
        let rim = self.grown(&beyond, BONE_RIM_MM);
        let mut values: Vec<f32> =
            brain.cells.iter().filter(|at| !rim[**at]).map(|at| self.values[*at]).collect();
        if self.mm2(values.len()) < BRAIN_MIN_MM2 {
            return None;
        }
        values.sort_by(f32::total_cmp);
        let middle = values[values.len() / 2];
        // Lungs lie inside a closed ring of ribs, spine and arms now and then.
        if !(0.0..=BLOOD_HU[1]).contains(&middle) {
            return None;
        }
        let least = BLOOD_HU[0].max(middle + BLOOD_OVER_BRAIN_HU);
        let dense = |at: usize| (least..=BLOOD_HU[1]).contains(&self.values[at]) && !rim[at];
        let dense: Vec<bool> = (0..self.values.len()).map(dense).collect();
        let largest = self.parts(&dense).into_iter().map(|part| self.mm2(part.cells.len()));
        Some(largest.filter(|mm2| *mm2 >= BLOOD_MIN_MM2).fold(0.0, f64::max))
    }

    /// The largest rounded spot that lung surrounds.
    fn spot_in_lung(&self) -> f64 {
        let air = self.parts(&self.marked(|hu| hu < LUNG_MAX_HU));
        let is_lung =
            |part: &&Part| !part.touches_edge && self.mm2(part.cells.len()) >= LUNG_MIN_MM2;
        let lung = self.of_cells(air.iter().filter(is_lung).flat_map(|part| &part.cells));
        if !lung.contains(&true) {
            return 0.0;
        }
        let rest: Vec<bool> = lung.iter().map(|cell| !cell).collect();
        let spots = self.parts(&rest);
        let round = spots.iter().filter(|part| !part.touches_edge && self.is_round(&part.cells));
        round.map(|part| self.mm2(part.cells.len())).fold(0.0, f64::max)
    }

    fn is_round(&self, cells: &[usize]) -> bool {
        let span = |of: &dyn Fn(usize) -> usize| {
            let (mut low, mut high) = (usize::MAX, 0);
            cells.iter().for_each(|at| (low, high) = (low.min(of(*at)), high.max(of(*at))));
            (high - low + 1) as f64
        };
        let (wide, high) = (span(&|at| at % self.width), span(&|at| at / self.width));
        let diameter = 2.0 * (self.mm2(cells.len()) / std::f64::consts::PI).sqrt();
        (SPOT_MM[0]..=SPOT_MM[1]).contains(&diameter)
            && wide.max(high) / wide.min(high) <= SPOT_LONGER_MAX
            && cells.len() as f64 / (wide * high) >= SPOT_FILLS_MIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDGE: usize = 300;

    /// Discs (x, y, radius in mm, HU) over each other in air, one pixel a millimetre.
    fn slice(discs: &[(f64, f64, f64, f32)]) -> Look {
        let hu = |at: usize| {
            let (x, y) = ((at % EDGE) as f64, (at / EDGE) as f64);
            let inside = |d: &&(f64, f64, f64, f32)| (x - d.0).hypot(y - d.1) < d.2;
            discs.iter().rev().find(inside).map_or(-1000.0, |disc| disc.3)
        };
        let fine: Vec<f32> = (0..EDGE * EDGE).map(hu).collect();
        look_at_hu(&fine, EDGE, Some([1.0, 1.0]))
    }

    const SKULL: [(f64, f64, f64, f32); 3] =
        [(150.0, 150.0, 90.0, 40.0), (150.0, 150.0, 84.0, 1000.0), (150.0, 150.0, 78.0, 32.0)];

    fn head(more: &[(f64, f64, f64, f32)]) -> f64 {
        slice(&[&SKULL, more].concat()).spot_mm2
    }

    #[test]
    fn fresh_blood_inside_the_skull_is_pointed_at() {
        assert_eq!(head(&[]), 0.0);
        let bled = head(&[(170.0, 140.0, 7.0, 65.0)]);
        assert!((120.0..=180.0).contains(&bled), "a disc of 154 mm2 measures {bled}");
        assert_eq!(head(&[(170.0, 140.0, 7.0, 45.0)]), 0.0, "not dense enough");
        assert_eq!(head(&[(170.0, 140.0, 7.0, 400.0)]), 0.0, "calcium, not blood");
        assert_eq!(head(&[(150.0, 70.0, 12.0, 32.0), (170.0, 140.0, 7.0, 45.0)]), 0.0);
        // The bone is open over 12 mm, as at a suture or a burr hole: still inside.
        let open = head(&[(150.0, 69.0, 6.0, 40.0), (170.0, 140.0, 7.0, 65.0)]);
        assert!(open > 120.0, "{open}");
        assert_eq!(slice(&[(150.0, 150.0, 90.0, 32.0), (170.0, 140.0, 7.0, 65.0)]).spot_mm2, 0.0);
    }

    #[test]
    fn a_rounded_spot_that_lung_surrounds_is_pointed_at() {
        let chest = [
            (150.0, 150.0, 130.0, 40.0),
            (90.0, 150.0, 45.0, -850.0),
            (210.0, 150.0, 45.0, -850.0),
        ];
        let with = |spot| slice(&[&chest[..], &[spot]].concat()).spot_mm2;
        assert_eq!(slice(&chest).spot_mm2, 0.0);
        let nodule = with((90.0, 150.0, 5.0, 30.0));
        assert!((60.0..=95.0).contains(&nodule), "a disc of 79 mm2 measures {nodule}");
        assert_eq!(with((90.0, 150.0, 1.5, 30.0)), 0.0, "too small");
        assert_eq!(with((90.0, 150.0, 18.0, 30.0)), 0.0, "no nodule any more");
        assert_eq!(with((90.0, 106.0, 5.0, 30.0)), 0.0, "at the pleura: not told from the wall");
        assert_eq!(with((90.0, 150.0, 5.0, -650.0)), 0.0, "ground glass");
    }

    #[test]
    fn air_holds_no_body() {
        assert_eq!(slice(&[]).body, 0.0);
        let table = slice(&[(150.0, 290.0, 20.0, 100.0)]).body;
        let trunk = slice(&[(150.0, 150.0, 120.0, 40.0)]).body;
        assert!(table < 0.15 * trunk, "{table} of {trunk}");
    }
}
