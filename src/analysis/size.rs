//! Sizes in mm: from a box and the geometry of its image, never from a model's word.

use crate::analysis::codes;
use crate::domain::code::Code;
use crate::domain::finding::Measurement;
use crate::domain::finding::Region;
use crate::domain::study::Instance;

/// Spacings that differ by a smaller share are one.
const SAME_SPACING: f64 = 0.01;

/// The box of a finding, measured along rows and columns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Size {
    pub long_mm: f64,
    pub short_mm: f64,
    /// A projection measured where the detector is: what lies nearer to the tube is smaller.
    pub at_detector: bool,
}

impl Size {
    /// Mean of long and short axis in whole mm, as the Fleischner Society measures nodules.
    pub fn diameter_mm(&self) -> f64 {
        ((self.long_mm + self.short_mm) / 2.0).round()
    }
}

/// `None` when the header does not say how far pixels are apart.
pub fn of(region: &Region, instance: &Instance) -> Option<Size> {
    // The first is between rows, so along y.
    let ([along_y, along_x], at_detector) = spacing(instance)?;
    let (wide, high) = ((region.x1 - region.x0) * along_x, (region.y1 - region.y0) * along_y);
    let good = wide.is_finite() && high.is_finite() && wide > 0.0 && high > 0.0;
    good.then(|| Size { long_mm: wide.max(high), short_mm: wide.min(high), at_detector })
}

/// Distances of pixels, and whether only at the detector (PS3.3 10.7.1.3, C.8.11.3.1.4): Pixel
/// Spacing is calibrated when it says so or differs from Imager Pixel Spacing.
fn spacing(instance: &Instance) -> Option<([f64; 2], bool)> {
    let projection =
        matches!(instance.modality.as_str(), "CR" | "DX" | "MG" | "RG" | "XA" | "RF" | "IO" | "PX");
    match (instance.pixel_spacing_mm, instance.imager_pixel_spacing_mm) {
        (Some(pixel), _) if !projection => Some((pixel, false)),
        (Some(pixel), imager) => {
            let differs = imager.is_some_and(|imager| {
                pixel.iter().zip(imager).any(|(p, i)| (p / i - 1.0).abs() > SAME_SPACING)
            });
            let stated = !instance.pixel_spacing_calibration.is_empty();
            Some((pixel, !(stated || differs)))
        }
        (None, Some(imager)) => Some((imager, true)),
        (None, None) => None,
    }
}

/// Long and short axis as measurements, and the diameter of a nodule.
pub fn measurements(size: &Size, is_nodule: bool) -> Vec<Measurement> {
    let concept = |code: &str, meaning: &str| match size.at_detector {
        true => codes::local_concept(&format!("{meaning} at the detector, magnified")),
        false => Code::new(code, "SCT", meaning),
    };
    let mm = |concept, value| Measurement { concept, value, unit: "mm".into() };
    let tenth = |value: f64| (value * 10.0).round() / 10.0;
    let mut all = vec![
        mm(concept("103339001", "Long axis"), tenth(size.long_mm)),
        mm(concept("103340004", "Short axis"), tenth(size.short_mm)),
    ];
    if is_nodule {
        all.insert(0, mm(concept("81827009", "Diameter"), size.diameter_mm()));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::testing;
    use crate::domain::picture::ImageRef;

    /// Modality, Pixel Spacing, Imager Pixel Spacing, Pixel Spacing Calibration Type; then long and
    /// short axis of a box of 40 columns and 10 rows, and whether they are the detector's.
    #[test]
    fn millimetres_come_from_the_header_and_say_where_they_hold() {
        type Pair = Option<[f64; 2]>;
        type Row<'a> = (&'a str, Pair, Pair, &'a str, Option<(f64, f64, bool)>);
        let table: [Row<'_>; 9] = [
            ("CT", Some([0.5, 0.5]), None, "", Some((20.0, 5.0, false))),
            // Rows 2 mm apart, columns 0.25 mm.
            ("MR", Some([2.0, 0.25]), None, "", Some((20.0, 10.0, false))),
            ("CT", None, None, "", None),
            ("DX", None, Some([0.2, 0.2]), "", Some((8.0, 2.0, true))),
            ("DX", Some([0.2, 0.2]), Some([0.2, 0.2]), "", Some((8.0, 2.0, true))),
            ("DX", Some([0.2, 0.2]), None, "", Some((8.0, 2.0, true))),
            ("DX", Some([0.2, 0.2]), Some([0.2, 0.2]), "FIDUCIAL", Some((8.0, 2.0, false))),
            ("DX", Some([0.1, 0.1]), Some([0.2, 0.2]), "", Some((4.0, 1.0, false))),
            ("DX", Some([0.2, 0.2]), None, "GEOMETRY", Some((8.0, 2.0, false))),
        ];
        let study = testing::study("CT", "CHEST", "", "");
        for (modality, pixel, imager, calibration, expected) in table {
            let instance = Instance {
                modality: modality.into(),
                pixel_spacing_mm: pixel,
                imager_pixel_spacing_mm: imager,
                pixel_spacing_calibration: calibration.into(),
                ..study.instances[0].clone()
            };
            let image = ImageRef {
                sop_class_uid: instance.sop_class_uid.clone(),
                sop_instance_uid: instance.sop_instance_uid.clone(),
                series_uid: instance.series_uid.clone(),
                frame: None,
            };
            let region = Region { image, x0: 100.0, y0: 50.0, x1: 140.0, y1: 60.0 };
            let found = of(&region, &instance).map(|s| (s.long_mm, s.short_mm, s.at_detector));
            assert_eq!(found, expected, "{modality} {pixel:?} {imager:?} {calibration}");
        }
        let size = |long_mm, short_mm| Size { long_mm, short_mm, at_detector: false };
        assert_eq!(size(6.4, 4.5).diameter_mm(), 5.0);
        assert_eq!(size(6.5, 4.5).diameter_mm(), 6.0);
        let magnified = measurements(&Size { at_detector: true, ..size(9.0, 7.0) }, true);
        assert!(
            magnified.iter().all(|m| m.concept.meaning.ends_with("at the detector, magnified"))
        );
    }
}
