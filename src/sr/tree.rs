//! The content tree of TID 1500 in the layout that viewers turn into regions: for each finding a
//! TID 1410 group without numbers for each region, then a TID 1501 group with the certainty and
//! the same tracking UID (a NUM in a 1410 group keeps OHIF from showing its region).

use std::collections::BTreeSet;
use std::collections::HashMap;

use crate::domain::assessment::Assessment;
use crate::domain::code::Code;
use crate::domain::finding::Finding;
use crate::domain::finding::Region;
use crate::domain::picture::ImageRef;
use crate::domain::study::Instance;
use crate::domain::study::Study;
use crate::sr::SrError;
use crate::sr::codes::dcm;
use crate::sr::codes::millimetre;
use crate::sr::codes::modality;
use crate::sr::codes::percent;
use crate::sr::codes::sct;
use crate::sr::content_item::Item;
use crate::sr::content_item::Relationship::HasAcqContext;
use crate::sr::content_item::Relationship::HasConceptMod;
use crate::sr::content_item::Relationship::HasObsContext;
use crate::sr::content_item::Relationship::SelectedFrom;
use crate::sr::content_item::SourceImage;
use crate::sr::content_item::Value;
use crate::sr::evaluations::evaluations;
use crate::sr::header::Identity;

/// A tree that no one can open helps no one: a series of thousands is represented by these many.
const LIBRARY_IMAGES_MAX: usize = 200;
const SOURCES_PER_FINDING_MAX: usize = 50;

/// The whole tree. `procedure`: what was analysed, else "unspecified body region" of the modality.
pub fn report(a: &Assessment, procedure: Option<&Code>) -> Result<Item, SrError> {
    let images = Images::of(&a.study);
    let identity = Identity::of(&a.algorithm);
    let root = Item::template(dcm("126000", "Imaging Measurement Report"), "1500");
    let mut root = about(root, a, &identity, procedure);
    if let Some(library) = image_library(a, &images) {
        root = root.contains(library);
    }
    let mut groups = Vec::new();
    for finding in a.present() {
        groups.extend(finding_groups(finding, a, &identity, &images)?);
    }
    if !groups.is_empty() {
        let measurements = Item::container(dcm("126010", "Imaging Measurements"));
        root = root.contains(measurements.contains_all(groups));
    }
    let qualitative = Code::new("C0034375", "UMLS", "Qualitative Evaluations");
    Ok(root.contains(Item::container(qualitative).contains_all(evaluations(a))))
}

/// Language, observer and procedure reported, which stand first in a report.
pub fn about(root: Item, a: &Assessment, identity: &Identity, procedure: Option<&Code>) -> Item {
    let language = Code::new("en-US", "RFC5646", "English (United States)");
    let language = Item::code(dcm("121049", "Language of Content Item and Descendants"), language);
    let procedure = procedure.cloned().unwrap_or_else(|| a.study.unspecified_procedure());
    let procedure = Item::code(dcm("121058", "Procedure reported"), procedure);
    observed(root.with(HasConceptMod, language), identity).with(HasConceptMod, procedure)
}

/// TID 1004: the algorithm is the observer, not the node (IHE AIR).
pub fn observed(root: Item, identity: &Identity) -> Item {
    let text = |value: &str, meaning: &str, said: &str| Item::text(dcm(value, meaning), said);
    let observer = [
        Item::code(dcm("121005", "Observer Type"), dcm("121007", "Device")),
        Item::uid(dcm("121012", "Device Observer UID"), &identity.device_uid),
        text("121013", "Device Observer Name", &identity.name),
        text("121014", "Device Observer Manufacturer", &identity.manufacturer),
        text("121015", "Device Observer Model Name", &identity.name),
    ];
    observer.into_iter().fold(root, |root, item| root.with(HasObsContext, item))
}

/// The study's instances by SOP Instance UID.
pub struct Images<'a>(HashMap<&'a str, &'a Instance>);

impl<'a> Images<'a> {
    pub fn of(study: &'a Study) -> Images<'a> {
        Images(study.instances.iter().map(|i| (i.sop_instance_uid.as_str(), i)).collect())
    }

    pub fn get(&self, image: &ImageRef, finding: &Finding) -> Result<&'a Instance, SrError> {
        let found = self.0.get(image.sop_instance_uid.as_str()).copied();
        found.ok_or_else(|| SrError::ForeignImage { finding: finding.id.clone() })
    }
}

/// With the frame where the instance has several; else the reference means the whole instance.
pub fn source(instance: &Instance, frame: Option<u32>) -> SourceImage {
    SourceImage {
        sop_class_uid: instance.sop_class_uid.as_str().to_owned(),
        sop_instance_uid: instance.sop_instance_uid.as_str().to_owned(),
        frame: frame
            .filter(|&n| n >= 1 && n <= instance.number_of_frames)
            .filter(|_| instance.number_of_frames > 1),
    }
}

/// TID 1600: the images that were looked at, else those of the study.
fn image_library(a: &Assessment, images: &Images) -> Option<Item> {
    let shown = a.pictures.iter().map(|picture| &picture.image);
    let named = a
        .findings
        .iter()
        .flat_map(|f| f.evidence.iter().chain(f.regions.iter().map(|region| &region.image)));
    let looked_at: BTreeSet<&str> =
        shown.chain(named).map(|image| image.sop_instance_uid.as_str()).collect();
    let mut chosen: Vec<&Instance> =
        looked_at.iter().filter_map(|uid| images.0.get(uid).copied()).collect();
    if chosen.is_empty() {
        chosen = a.study.instances.iter().filter(|instance| instance.has_pixels).collect();
    }
    if chosen.is_empty() {
        return None;
    }
    let step = chosen.len().div_ceil(LIBRARY_IMAGES_MAX);
    let entries = chosen.into_iter().step_by(step).map(library_entry);
    let group = Item::container(dcm("126200", "Image Library Group")).contains_all(entries);
    Some(Item::container(dcm("111028", "Image Library")).contains(group))
}

/// TID 1602 with 1603 (radiography) or 1604 (cross-sectional), as far as the header says it.
fn library_entry(instance: &Instance) -> Item {
    let pixels = Code::new("{pixels}", "UCUM", "Pixels");
    let mut about = vec![Item::code(dcm("121139", "Modality"), modality(&instance.modality))];
    if !instance.frame_of_reference_uid.is_empty() {
        let name = dcm("112227", "Frame of Reference UID");
        about.push(Item::uid(name, &instance.frame_of_reference_uid));
    }
    let rows = f64::from(instance.rows);
    about.push(Item::num(dcm("110910", "Pixel Data Rows"), rows, pixels.clone()));
    let columns = f64::from(instance.columns);
    about.push(Item::num(dcm("110911", "Pixel Data Columns"), columns, pixels));
    match is_cross_sectional(instance) {
        true => about.extend(cross_sectional(instance)),
        false => about.extend(radiography(instance)),
    }
    let image = Item::image(sct("260753009", "Source"), source(instance, None));
    about.into_iter().fold(image, |image, item| image.with(HasAcqContext, item))
}

fn is_cross_sectional(instance: &Instance) -> bool {
    ["CT", "MR", "PT"].contains(&instance.modality.as_str())
}

fn radiography(instance: &Instance) -> Vec<Item> {
    let mut items = Vec::new();
    if let [row, column] = &instance.patient_orientation[..] {
        items.push(Item::text(dcm("111044", "Patient Orientation Row"), row.as_str()));
        items.push(Item::text(dcm("111043", "Patient Orientation Column"), column.as_str()));
    }
    items.extend(spacing(instance.imager_pixel_spacing_mm));
    items
}

fn cross_sectional(instance: &Instance) -> Vec<Item> {
    let mut items = spacing(instance.pixel_spacing_mm);
    if let Some(thickness) = instance.slice_thickness_mm.filter(|mm| mm.is_finite()) {
        items.push(Item::num(dcm("112225", "Slice Thickness"), thickness, millimetre()));
    }
    if let Some(position) = instance.image_position_mm.filter(|p| p.iter().all(|v| v.is_finite())) {
        let axes = [("110901", "X"), ("110902", "Y"), ("110903", "Z")];
        items.extend(axes.iter().zip(position).map(|((value, axis), mm)| {
            Item::num(dcm(value, &format!("Image Position (Patient) {axis}")), mm, millimetre())
        }));
    }
    let orientation = instance.image_orientation.filter(|o| o.iter().all(|v| v.is_finite()));
    if let Some(cosines) = orientation {
        let axes = ["Row X", "Row Y", "Row Z", "Column X", "Column Y", "Column Z"];
        items.extend(axes.iter().zip(cosines).enumerate().map(|(n, (axis, cosine))| {
            let name =
                dcm(&(110904 + n).to_string(), &format!("Image Orientation (Patient) {axis}"));
            Item::num(name, cosine, Code::new("{-1:1}", "UCUM", "{-1:1}"))
        }));
    }
    items
}

/// Only what is present and above zero: some devices send `0.000\0.000`.
fn spacing(row_and_column_mm: Option<[f64; 2]>) -> Vec<Item> {
    let Some([row, column]) = row_and_column_mm.filter(|s| s.iter().all(|&mm| mm > 0.0)) else {
        return Vec::new();
    };
    vec![
        Item::num(dcm("111026", "Horizontal Pixel Spacing"), column, millimetre()),
        Item::num(dcm("111066", "Vertical Pixel Spacing"), row, millimetre()),
    ]
}

/// All groups of one finding that is present. They share its tracking UID.
fn finding_groups(
    finding: &Finding,
    a: &Assessment,
    identity: &Identity,
    images: &Images,
) -> Result<Vec<Item>, SrError> {
    let mut groups = Vec::new();
    for region in &finding.regions {
        let instance = images.get(&region.image, finding)?;
        if let Some(points) = rectangle(region, instance) {
            groups.push(region_group(
                finding,
                identity,
                points,
                source(instance, region.image.frame),
            ));
        }
    }
    let sources = sources(finding, a, images)?;
    let described_above = !groups.is_empty();
    groups.push(certainty_group(finding, identity, sources, described_above));
    Ok(groups)
}

/// The images that a finding rests on, each once.
pub fn sources(
    finding: &Finding,
    a: &Assessment,
    images: &Images,
) -> Result<Vec<SourceImage>, SrError> {
    let mut sources = Vec::new();
    let regions = finding.regions.iter().map(|region| &region.image);
    for image in finding.evidence.iter().chain(regions) {
        let source = source(images.get(image, finding)?, image.frame);
        if !sources.contains(&source) {
            sources.push(source);
        }
    }
    if sources.is_empty() {
        // A finding that is present has evidence; if it has none, it rests on all that was shown.
        let shown = a.pictures.iter().map(|picture| &picture.image);
        let known =
            |i: &ImageRef| Some(source(images.0.get(i.sop_instance_uid.as_str())?, i.frame));
        sources.extend(shown.filter_map(known));
    }
    sources.truncate(SOURCES_PER_FINDING_MAX);
    Ok(sources)
}

/// TID 1410: where it is.
fn region_group(
    finding: &Finding,
    identity: &Identity,
    points: Vec<[f32; 2]>,
    source: SourceImage,
) -> Item {
    let group = described(algorithm(sited(begun("1410", finding), finding), identity), finding);
    let purpose = dcm("130400", "Geometric purpose of region");
    let image = Item::image(sct("260753009", "Source"), source);
    let region = Item::new(dcm("111030", "Image Region"), Value::Polyline(points));
    group
        .contains(Item::code(purpose, sct("75958009", "Bounded by")))
        .contains(region.with(SelectedFrom, image))
}

/// TID 1501: how sure, how large, on which images.
fn certainty_group(
    finding: &Finding,
    identity: &Identity,
    sources: Vec<SourceImage>,
    described_above: bool,
) -> Item {
    let mut group = begun("1501", finding);
    if !described_above {
        group = sited(group, finding);
    }
    group = algorithm(group, identity);
    if let Some(percent) = percent(finding.probability) {
        let name = dcm("111012", "Certainty of Finding");
        group = group.contains(Item::num(name, percent, Code::new("%", "UCUM", "%")));
    }
    for measured in finding.measurements.iter().filter(|m| m.value.is_finite()) {
        let unit = match measured.unit.as_str() {
            "" => Code::new("1", "UCUM", "no units"),
            unit => Code::new(unit, "UCUM", unit),
        };
        group = group.contains(Item::num(measured.concept.clone(), measured.value, unit));
    }
    if !described_above {
        group = described(group, finding);
    }
    let measured_on = dcm("121112", "Source of Measurement");
    group.contains_all(sources.into_iter().map(|image| Item::image(measured_on.clone(), image)))
}

fn begun(template: &'static str, finding: &Finding) -> Item {
    let tracking_uid = dcm("112040", "Tracking Unique Identifier");
    Item::template(dcm("125007", "Measurement Group"), template)
        .with(HasObsContext, Item::text(dcm("112039", "Tracking Identifier"), &finding.id[..]))
        .with(HasObsContext, Item::uid(tracking_uid, &finding.tracking_uid))
        .contains(Item::code(dcm("121071", "Finding"), finding.concept.clone()))
}

fn sited(group: Item, finding: &Finding) -> Item {
    let side =
        finding.laterality.map(|side| Item::code(sct("272741003", "Laterality"), side.code()));
    match (&finding.site, side) {
        (Some(site), side) => {
            let site = Item::code(sct("363698007", "Finding Site"), site.clone());
            group.with(HasConceptMod, side.into_iter().fold(site, |s, i| s.with(HasConceptMod, i)))
        }
        // Without a site that it could modify, the side is an evaluation of its own.
        (None, Some(side)) => group.contains(side),
        (None, None) => group,
    }
}

/// TID 4019, the same values as in Contributing Equipment.
fn algorithm(group: Item, of: &Identity) -> Item {
    let family = dcm("123110", "Artificial Intelligence");
    let mut group = group
        .with(HasConceptMod, Item::text(dcm("111001", "Algorithm Name"), &of.name[..]))
        .with(HasConceptMod, Item::text(dcm("111003", "Algorithm Version"), &of.version[..]))
        .with(
            HasConceptMod,
            Item::text(dcm("122405", "Algorithm Manufacturer"), &of.manufacturer[..]),
        );
    for parameter in &of.parameters {
        let name = dcm("111002", "Algorithm Parameters");
        group = group.with(HasConceptMod, Item::text(name, &parameter[..]));
    }
    group.with(HasConceptMod, Item::code(dcm("111000", "Algorithm Family"), family))
}

fn described(group: Item, finding: &Finding) -> Item {
    let presence = Item::code(sct("705057003", "Presence"), sct("52101004", "Present"));
    let mut group = group.contains(presence);
    if let Some(grade) = finding.severity {
        group = group.contains(Item::code(sct("246112005", "Severity"), grade.code()));
    }
    if let Some(category) = finding.urgency.category() {
        group = group.contains(Item::code(dcm("111005", "Assessment Category"), category));
    }
    group
}

/// A rectangle as a closed polyline inside the image; `None` when nothing of it is.
pub fn rectangle(region: &Region, instance: &Instance) -> Option<Vec<[f32; 2]>> {
    let all = [region.x0, region.y0, region.x1, region.y1];
    if all.iter().any(|v| !v.is_finite()) {
        return None;
    }
    let inside = |value: f64, size: u32| value.clamp(0.0, f64::from(size)) as f32;
    let (left, right) = (region.x0.min(region.x1), region.x0.max(region.x1));
    let (top, bottom) = (region.y0.min(region.y1), region.y0.max(region.y1));
    let (left, right) = (inside(left, instance.columns), inside(right, instance.columns));
    let (top, bottom) = (inside(top, instance.rows), inside(bottom, instance.rows));
    let corners = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]];
    (left < right && top < bottom).then(|| corners.to_vec())
}
