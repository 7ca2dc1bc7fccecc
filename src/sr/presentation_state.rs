//! Regions as graphics over the images themselves: Grayscale Softcopy Presentation State (PS3.3
//! A.33.1). Not for colour, which has a class of its own that hardly any viewer shows.

use std::collections::BTreeMap;

use dicom_core::DataElement;
use dicom_core::PrimitiveValue;
use dicom_core::VR;
use dicom_dictionary_std::tags;
use dicom_dictionary_std::uids;
use dicom_object::InMemDicomObject;

use crate::domain::assessment::Assessment;
use crate::domain::key_image::GreyPath;
use crate::domain::key_image::Voi;
use crate::domain::picture::ImageRef;
use crate::domain::study::Instance;
use crate::sr::Equipment;
use crate::sr::SrError;
use crate::sr::content_item::sequence;
use crate::sr::header;
use crate::sr::header::Identity;
use crate::sr::text;
use crate::sr::tree;

const KIND: header::Kind = header::Kind {
    kind: "gsps",
    sop_class_uid: uids::GRAYSCALE_SOFTCOPY_PRESENTATION_STATE_STORAGE,
    modality: "PR",
    series_number: 9004,
    title: "AI regions",
};

const LAYER: &str = "AI";

/// An image and how its grey levels are made.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    pub image: ImageRef,
    pub grey: GreyPath,
    /// Height and width of a pixel where they differ.
    pub aspect: Option<[f64; 2]>,
}

/// A shown image with its instance and its outlines.
struct Page<'a> {
    shown: &'a Shown,
    instance: &'a Instance,
    marks: Vec<(String, Vec<[f32; 2]>)>,
}

/// The regions of present findings on these images. A state transforms stored values in one way
/// for all its images (PS3.3 C.11.1), so there is one for each way, nearly always one in all.
///
/// # Errors
/// [`SrError::ForeignImage`] if the study does not have an image.
pub fn presentation_states(
    a: &Assessment,
    node: &Equipment,
    shown: &[Shown],
) -> Result<Vec<Vec<u8>>, SrError> {
    let images = tree::Images::of(&a.study);
    let mut states: Vec<Vec<Page<'_>>> = Vec::new();
    for one in shown {
        let mut marks = Vec::new();
        let mut instance = None;
        for finding in a.present() {
            for region in finding.regions.iter().filter(|r| r.image.is_same(&one.image)) {
                let of = images.get(&region.image, finding)?;
                instance = Some(of);
                marks.extend(tree::rectangle(region, of).map(|points| (finding.label(), points)));
            }
        }
        let Some(instance) = instance.filter(|_| !marks.is_empty()) else { continue };
        let page = Page { shown: one, instance, marks };
        let way = |grey: &GreyPath| (grey.rescale, grey.is_inverse);
        match states.iter_mut().find(|pages| way(&pages[0].shown.grey) == way(&one.grey)) {
            Some(pages) => pages.push(page),
            None => states.push(vec![page]),
        }
    }
    let states = states.iter().enumerate();
    states.map(|(nth, pages)| header::part_10(state(a, node, pages, nth + 1))).collect()
}

fn state(a: &Assessment, node: &Equipment, pages: &[Page<'_>], nth: usize) -> InMemDicomObject {
    let mut object = header::common(a, node, &KIND);
    let uid = a.artefact_uid(&format!("{} {nth}", KIND.kind));
    object.put_str(tags::SOP_INSTANCE_UID, VR::UI, uid);
    object.put_str(tags::INSTANCE_NUMBER, VR::IS, nth.to_string());
    header::put_body(&mut object, a);
    // It has a creation time of its own instead (PS3.3 C.11.10).
    object.remove_element(tags::CONTENT_DATE);
    object.remove_element(tags::CONTENT_TIME);
    let (date, time) = header::date_and_time(a.finished_at, &node.time_zone);
    object.put_str(tags::PRESENTATION_CREATION_DATE, VR::DA, date);
    object.put_str(tags::PRESENTATION_CREATION_TIME, VR::TM, time);
    object.put_str(tags::CONTENT_LABEL, VR::CS, "AI_PRELIMINARY");
    let identity = Identity::of(&a.algorithm);
    let what = format!("Regions of {} {}, unverified", identity.name, identity.version);
    object.put_str(tags::CONTENT_DESCRIPTION, VR::LO, text::lo(&what, "Regions"));
    object.put_str(tags::CONTENT_CREATOR_NAME, VR::PN, "");
    let banner = format!("AI, PRELIMINARY, {} {}", identity.name, identity.version);

    let mut by_series: BTreeMap<&str, Vec<InMemDicomObject>> = BTreeMap::new();
    for page in pages {
        by_series.entry(page.instance.series_uid.as_str()).or_default().push(page.reference());
    }
    let series = by_series.into_iter().map(|(uid, images)| {
        let mut item = InMemDicomObject::new_empty();
        item.put_str(tags::SERIES_INSTANCE_UID, VR::UI, uid);
        item.put(sequence(tags::REFERENCED_IMAGE_SEQUENCE, images));
        item
    });
    object.put(sequence(tags::REFERENCED_SERIES_SEQUENCE, series.collect()));
    let of_each = |make: &dyn Fn(&Page<'_>) -> InMemDicomObject| pages.iter().map(make).collect();
    let areas = of_each(&|page| page.displayed_area());
    object.put(sequence(tags::DISPLAYED_AREA_SELECTION_SEQUENCE, areas));
    let annotations = of_each(&|page| page.annotation(&banner));
    object.put(sequence(tags::GRAPHIC_ANNOTATION_SEQUENCE, annotations));
    object.put(sequence(tags::SOFTCOPY_VOILUT_SEQUENCE, of_each(&|page| page.voi())));
    let mut layer = InMemDicomObject::new_empty();
    layer.put_str(tags::GRAPHIC_LAYER, VR::CS, LAYER);
    layer.put_str(tags::GRAPHIC_LAYER_ORDER, VR::IS, "1");
    layer.put_str(tags::GRAPHIC_LAYER_DESCRIPTION, VR::LO, "Findings by AI, PRELIMINARY");
    object.put(sequence(tags::GRAPHIC_LAYER_SEQUENCE, vec![layer]));
    if let Some(first) = pages.first() {
        put_grey(&mut object, first);
    }
    object
}

/// Modality LUT and Presentation LUT, the same for all images of the state.
fn put_grey(object: &mut InMemDicomObject, page: &Page<'_>) {
    let GreyPath { rescale, is_inverse, .. } = &page.shown.grey;
    if let Some([slope, intercept]) = rescale {
        object.put_str(tags::RESCALE_INTERCEPT, VR::DS, text::decimal(*intercept));
        object.put_str(tags::RESCALE_SLOPE, VR::DS, text::decimal(*slope));
        let unit = if page.instance.modality == "CT" { "HU" } else { "US" };
        object.put_str(tags::RESCALE_TYPE, VR::LO, unit);
    }
    let shape = if *is_inverse { "INVERSE" } else { "IDENTITY" };
    object.put_str(tags::PRESENTATION_LUT_SHAPE, VR::CS, shape);
}

impl Page<'_> {
    fn reference(&self) -> InMemDicomObject {
        tree::source(self.instance, self.shown.image.frame.or(Some(1))).reference()
    }

    fn of_this_image(&self) -> InMemDicomObject {
        let mut item = InMemDicomObject::new_empty();
        item.put(sequence(tags::REFERENCED_IMAGE_SEQUENCE, vec![self.reference()]));
        item
    }

    fn displayed_area(&self) -> InMemDicomObject {
        let mut item = self.of_this_image();
        let corner = |x: u32, y: u32| {
            let both = [i32::try_from(x).unwrap_or(i32::MAX), i32::try_from(y).unwrap_or(i32::MAX)];
            PrimitiveValue::I32(both.into_iter().collect())
        };
        let (columns, rows) = (self.instance.columns, self.instance.rows);
        let corners = [
            (tags::DISPLAYED_AREA_TOP_LEFT_HAND_CORNER, corner(1, 1)),
            (tags::DISPLAYED_AREA_BOTTOM_RIGHT_HAND_CORNER, corner(columns, rows)),
        ];
        for (tag, value) in corners {
            item.put(DataElement::new(tag, VR::SL, value));
        }
        item.put_str(tags::PRESENTATION_SIZE_MODE, VR::CS, "SCALE TO FIT");
        let aspect = self.instance.pixel_aspect(self.shown.aspect);
        let [vertical, horizontal] = aspect.unwrap_or([1.0, 1.0]);
        let most = vertical.max(horizontal);
        let part = |edge: f64| match vertical == horizontal {
            true => "1".to_owned(),
            false => format!("{:.0}", edge / most * 10_000.0),
        };
        let ratio = PrimitiveValue::Strs([part(vertical), part(horizontal)].into_iter().collect());
        item.put(DataElement::new(tags::PRESENTATION_PIXEL_ASPECT_RATIO, VR::IS, ratio));
        item
    }

    fn annotation(&self, banner: &str) -> InMemDicomObject {
        let mut item = self.of_this_image();
        item.put_str(tags::GRAPHIC_LAYER, VR::CS, LAYER);
        let (width, height) = (self.instance.columns as f32, self.instance.rows as f32);
        let line = width.max(height) / 32.0;
        let mut texts = vec![text_box(banner, [0.0, 0.0, width, line])];
        let mut graphics = Vec::new();
        for (label, points) in &self.marks {
            let [x, y] = points[0];
            let top = if y >= line { y - line } else { y };
            let room = line * 0.62 * label.chars().count() as f32;
            let left = x.min(width - room).max(0.0);
            texts.push(text_box(label, [left, top, (left + room).min(width), top + line]));
            graphics.push(polyline(points));
        }
        item.put(sequence(tags::TEXT_OBJECT_SEQUENCE, texts));
        item.put(sequence(tags::GRAPHIC_OBJECT_SEQUENCE, graphics));
        item
    }

    fn voi(&self) -> InMemDicomObject {
        let mut item = self.of_this_image();
        let (center, width, function) = match &self.shown.grey.voi {
            Voi::Linear { center, width } => (center, width, "LINEAR"),
            Voi::Sigmoid { center, width } => (center, width, "SIGMOID"),
            Voi::Table { first, entries } => {
                item.put(sequence(tags::VOILUT_SEQUENCE, vec![table(*first, entries)]));
                return item;
            }
        };
        item.put_str(tags::WINDOW_CENTER, VR::DS, text::decimal(*center));
        item.put_str(tags::WINDOW_WIDTH, VR::DS, text::decimal(*width));
        item.put_str(tags::VOILUT_FUNCTION, VR::CS, function);
        item
    }
}

/// LUT Descriptor and LUT Data (PS3.3 C.11.2.1.1); 65,536 entries are written as 0.
fn table(first: i32, entries: &[u16]) -> InMemDicomObject {
    let mut item = InMemDicomObject::new_empty();
    let count = entries.len() as u16;
    let descriptor = match first < 0 {
        true => {
            let first = first.max(i32::from(i16::MIN)) as i16;
            let three = [count as i16, first, 16];
            DataElement::new(
                tags::LUT_DESCRIPTOR,
                VR::SS,
                PrimitiveValue::I16(three.into_iter().collect()),
            )
        }
        false => {
            let three = [count, u16::try_from(first).unwrap_or(u16::MAX), 16];
            DataElement::new(
                tags::LUT_DESCRIPTOR,
                VR::US,
                PrimitiveValue::U16(three.into_iter().collect()),
            )
        }
    };
    item.put(descriptor);
    let data = PrimitiveValue::U16(entries.iter().copied().collect());
    item.put(DataElement::new(tags::LUT_DATA, VR::OW, data));
    item
}

fn text_box(said: &str, [x0, y0, x1, y1]: [f32; 4]) -> InMemDicomObject {
    let mut item = InMemDicomObject::new_empty();
    item.put_str(tags::BOUNDING_BOX_ANNOTATION_UNITS, VR::CS, "PIXEL");
    item.put_str(tags::UNFORMATTED_TEXT_VALUE, VR::ST, text::long(said, 1024));
    for (tag, corner) in [
        (tags::BOUNDING_BOX_TOP_LEFT_HAND_CORNER, [x0, y0]),
        (tags::BOUNDING_BOX_BOTTOM_RIGHT_HAND_CORNER, [x1, y1]),
    ] {
        let corner = PrimitiveValue::F32(corner.into_iter().collect());
        item.put(DataElement::new(tag, VR::FL, corner));
    }
    item.put_str(tags::BOUNDING_BOX_TEXT_HORIZONTAL_JUSTIFICATION, VR::CS, "LEFT");
    item
}

fn polyline(points: &[[f32; 2]]) -> InMemDicomObject {
    let mut item = InMemDicomObject::new_empty();
    item.put_str(tags::GRAPHIC_ANNOTATION_UNITS, VR::CS, "PIXEL");
    let mut number = |tag, value: usize| {
        item.put(DataElement::new(tag, VR::US, PrimitiveValue::from(value as u16)));
    };
    number(tags::GRAPHIC_DIMENSIONS, 2);
    number(tags::NUMBER_OF_GRAPHIC_POINTS, points.len());
    let data = PrimitiveValue::F32(points.iter().flatten().copied().collect());
    item.put(DataElement::new(tags::GRAPHIC_DATA, VR::FL, data));
    item.put_str(tags::GRAPHIC_TYPE, VR::CS, "POLYLINE");
    item.put_str(tags::GRAPHIC_FILLED, VR::CS, "N");
    item
}
