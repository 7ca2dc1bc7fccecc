//! The stack of original images that the viewer of the page scrolls through, and what lies on them.

use std::collections::HashMap;

use serde::Serialize;

use crate::domain::assessment::Assessment;
use crate::domain::finding::Presence;
use crate::domain::picture::ImageRef;
use crate::domain::study::Instance;
use crate::domain::study::Study;

/// Images of one viewer: what is behind them is counted.
const IMAGES_MAX: usize = 3000;

#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Stack {
    pub series: Vec<Series>,
    pub left_out: usize,
}

#[derive(Debug, PartialEq, Serialize)]
pub struct Series {
    uid: String,
    label: String,
    /// Windows to choose from: name, center, width.
    windows: Vec<(&'static str, f64, f64)>,
    images: Vec<Image>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Image {
    sop: String,
    /// From 1 when the instance has several frames, else 0.
    frame: u32,
    columns: u32,
    rows: u32,
    /// As the object says: center, width. None where it says nothing: the node then finds one in the
    /// values, and says which with the picture.
    window: Option<(f64, f64)>,
    /// Whether it can be windowed: grey, not colour.
    is_grey: bool,
    marks: Vec<Mark>,
}

/// A region of a finding in pixels of the image; none: the finding rests on the image as a whole.
#[derive(Debug, PartialEq, Serialize)]
struct Mark {
    finding: String,
    name: String,
    key: &'static str,
    region: Option<[f64; 4]>,
}

/// Center and width in HU, as radiologists have them at hand.
const CT: [(&str, f64, f64); 6] = [
    ("soft tissue", 40.0, 400.0),
    ("lung", -600.0, 1500.0),
    ("bone", 400.0, 1800.0),
    ("brain", 40.0, 80.0),
    ("stroke", 32.0, 8.0),
    ("subdural", 75.0, 215.0),
];

/// The images of a study with pixels; with what was found in them, once it was read.
pub fn stack(study: &Study, assessment: Option<&Assessment>) -> Stack {
    let mut marks = marks(assessment);
    let mut stack = Stack::default();
    let mut count = 0;
    for instance in study.instances.iter().filter(|instance| instance.has_pixels) {
        let frames = instance.number_of_frames.max(1);
        for number in 1..=frames {
            count += 1;
            if count > IMAGES_MAX {
                stack.left_out += 1;
                continue;
            }
            let frame = if frames > 1 { number } else { 0 };
            let key = (instance.sop_instance_uid.as_str().to_owned(), number);
            let image = image(instance, frame, marks.remove(&key).unwrap_or_default());
            let uid = instance.series_uid.as_str();
            match stack.series.iter_mut().find(|series| series.uid == uid) {
                Some(series) => series.images.push(image),
                None => stack.series.push(Series {
                    uid: uid.to_owned(),
                    label: label(instance),
                    windows: match instance.modality.as_str() {
                        "CT" => CT.to_vec(),
                        _ => Vec::new(),
                    },
                    images: vec![image],
                }),
            }
        }
    }
    stack
}

/// By instance and frame from 1.
fn marks(assessment: Option<&Assessment>) -> HashMap<(String, u32), Vec<Mark>> {
    let mut marks: HashMap<(String, u32), Vec<Mark>> = HashMap::new();
    let findings = assessment.map_or(&[][..], |assessment| &assessment.findings);
    for finding in findings.iter().filter(|finding| finding.presence != Presence::Absent) {
        let mark = |region| Mark {
            finding: finding.id.clone(),
            name: finding.concept.meaning.clone(),
            key: finding.urgency.as_str(),
            region,
        };
        let at = |image: &ImageRef| {
            (image.sop_instance_uid.as_str().to_owned(), image.frame.unwrap_or(1))
        };
        for region in &finding.regions {
            let corners = [
                region.x0.min(region.x1),
                region.y0.min(region.y1),
                region.x0.max(region.x1),
                region.y0.max(region.y1),
            ];
            marks.entry(at(&region.image)).or_default().push(mark(Some(corners)));
        }
        let has_region =
            |image: &&ImageRef| finding.regions.iter().any(|region| region.image.is_same(image));
        for image in finding.evidence.iter().filter(|image| !has_region(image)) {
            marks.entry(at(image)).or_default().push(mark(None));
        }
    }
    marks
}

fn image(instance: &Instance, frame: u32, marks: Vec<Mark>) -> Image {
    let window = instance.window_center.first().zip(instance.window_width.first());
    let is_grey = instance.samples_per_pixel == 1;
    Image {
        sop: instance.sop_instance_uid.to_string(),
        frame,
        columns: instance.columns,
        rows: instance.rows,
        window: window.map(|(c, w)| (*c, *w)).filter(|(_, w)| is_grey && *w >= 1.0),
        is_grey,
        marks,
    }
}

fn label(instance: &Instance) -> String {
    let number = instance.series_number.map(|number| number.to_string()).unwrap_or_default();
    let parts =
        [&number, &instance.modality, &instance.series_description, &instance.view_position];
    let parts: Vec<&str> = parts.into_iter().map(|p| p.trim()).filter(|p| !p.is_empty()).collect();
    parts.join(" · ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::sample;

    #[test]
    fn regions_lie_on_their_image_and_a_finding_without_one_on_what_it_rests_on() {
        let assessment = sample::positive_chest();
        let stack = stack(&assessment.study, Some(&assessment));
        let images: Vec<&Image> = stack.series.iter().flat_map(|series| &series.images).collect();
        let pixels = assessment.study.instances.iter().filter(|i| i.has_pixels);
        assert_eq!(images.len(), pixels.map(|i| i.number_of_frames.max(1) as usize).sum::<usize>());
        for finding in assessment.findings.iter().filter(|f| f.presence != Presence::Absent) {
            for region in &finding.regions {
                let sop = region.image.sop_instance_uid.as_str();
                let image = images.iter().find(|image| image.sop == sop).unwrap();
                let mark = image.marks.iter().find(|mark| mark.finding == finding.id).unwrap();
                let [x0, y0, x1, y1] = mark.region.unwrap();
                assert!(x0 <= x1 && y0 <= y1 && x1 <= f64::from(image.columns));
            }
        }
        let marked: usize = images.iter().map(|image| image.marks.len()).sum();
        assert!(marked > 0);
        let nothing = super::stack(&assessment.study, None);
        assert!(nothing.series.iter().all(|s| s.images.iter().all(|image| image.marks.is_empty())));
    }
}
