//! Where a finding is: pictures, regions, sizes.

use crate::analysis::answer::AnsweredBox;
use crate::analysis::answer::AnsweredFinding;
use crate::analysis::judge::Judge;
use crate::analysis::nodule;
use crate::analysis::size;
use crate::domain::finding::Measurement;
use crate::domain::finding::Presence;
use crate::domain::finding::Region;
use crate::domain::mask::Mask;
use crate::domain::picture::ImageRef;
use crate::domain::picture::PictureRef;
use crate::domain::study::Instance;

impl Judge<'_> {
    /// Regions in pixels of their instances, masks on their pictures, and the images that the finding
    /// rests on. A mask has a region around it where the model gave none on that image.
    pub(super) fn place(
        &mut self,
        answered: &AnsweredFinding,
        name: &str,
        presence: Presence,
    ) -> (Vec<Region>, Vec<Mask>, Vec<ImageRef>) {
        let mut regions: Vec<Region> = Vec::new();
        let mut masks = Vec::new();
        let mut evidence: Vec<ImageRef> = Vec::new();
        let mut unknown = false;
        let boxed = answered.boxes.iter().map(|b| b.picture);
        let drawn = answered.masks.iter().map(|mask| mask.picture);
        for number in answered.pictures.iter().copied().chain(boxed).chain(drawn) {
            match self.picture(number) {
                Some(picture) if !evidence.contains(&picture.image) => {
                    evidence.push(picture.image.clone())
                }
                Some(_) => {}
                None => unknown = true,
            }
        }
        for b in &answered.boxes {
            let Some(picture) = self.picture(b.picture) else { continue };
            match region(b, picture) {
                Some(region) if presence != Presence::Absent => regions.push(region),
                Some(_) => {}
                None => self.warn(format!("{name}: a box without an area was left out")),
            }
        }
        for answered in &answered.masks {
            let Some(picture) = self.picture(answered.picture) else { continue };
            let (width_px, height_px) = (picture.width_px, picture.height_px);
            let (image, counts) = (picture.image.clone(), answered.counts.clone());
            let mask = Mask { image, width_px, height_px, counts };
            match mask.bounds() {
                Some(bounds) if presence != Presence::Absent => {
                    let has_one = regions.iter().any(|region| region.image.is_same(&mask.image));
                    regions.extend(around(bounds, picture).filter(|_| !has_one));
                    masks.push(mask);
                }
                Some(_) => {}
                None => {
                    self.warn(format!("{name}: a mask that does not fit its picture was left out"))
                }
            }
        }
        if unknown {
            self.warn(format!("{name}: the model cites a picture that it was not shown"));
        }
        if evidence.is_empty() && presence == Presence::Present {
            // It rests on all that was shown: the report says so.
            for picture in self.pictures {
                if !evidence.contains(&picture.image) {
                    evidence.push(picture.image.clone());
                }
            }
            if self.pictures.len() > 1 {
                self.warn(format!("{name}: the model did not say on which picture; all are given"));
            }
        }
        (regions, masks, evidence)
    }

    fn picture(&self, number: u32) -> Option<&PictureRef> {
        self.pictures.iter().find(|picture| picture.number == number)
    }

    /// Sizes. A model cannot measure millimetres: what it gives is dropped. Where it gave a size, or
    /// the finding is a nodule, the largest of its boxes is measured by the header's spacing.
    pub(super) fn measurements(
        &mut self,
        answered: &AnsweredFinding,
        name: &str,
        regions: &[Region],
    ) -> Vec<Measurement> {
        let is_length = |unit: &str| matches!(unit.trim().to_lowercase().as_str(), "mm" | "cm");
        let is_nodule = nodule::is_nodule(&answered.key);
        let wants_size = is_nodule || answered.measurements.iter().any(|m| is_length(&m.unit));
        let sizes = regions.iter().filter_map(|region| {
            let of = |i: &&Instance| i.sop_instance_uid == region.image.sop_instance_uid;
            size::of(region, self.study.instances.iter().find(of)?)
        });
        let largest = sizes.max_by(|a, b| a.diameter_mm().total_cmp(&b.diameter_mm()));
        match largest.filter(|_| wants_size) {
            Some(size) => {
                let mut line = format!(
                    "{name}: the size is computed from the model's box and the spacing in the header"
                );
                if size.at_detector {
                    line.push_str("; it holds at the detector, the patient's own is smaller");
                }
                self.warn(line);
                size::measurements(&size, is_nodule)
            }
            None if answered.measurements.is_empty() => Vec::new(),
            None => {
                self.warn(format!(
                    "{name}: the model's own estimate of a measurement was left out, it cannot be checked"
                ));
                Vec::new()
            }
        }
    }
}

/// A box in pixels of the instance. `None` when less than a pixel is left of it.
fn region(b: &AnsweredBox, picture: &PictureRef) -> Option<Region> {
    around([b.x0, b.y0, b.x1, b.y1], picture)
}

/// The same of fractions of the picture: x0, y0, x1, y1.
fn around([x0, y0, x1, y1]: [f64; 4], picture: &PictureRef) -> Option<Region> {
    let (columns, rows) = (f64::from(picture.source_columns), f64::from(picture.source_rows));
    let scale = |fraction: f64, size: f64| (fraction * size).clamp(0.0, size);
    let (x0, x1) = (scale(x0, columns), scale(x1, columns));
    let (y0, y1) = (scale(y0, rows), scale(y1, rows));
    let has_area = x1 - x0 >= 1.0 && y1 - y0 >= 1.0;
    has_area.then(|| Region { image: picture.image.clone(), x0, y0, x1, y1 })
}
