//! The content tree of TID 1500 in the layout that viewers turn into regions: for each finding a
//! TID 1410 group without numbers for each region, then a TID 1501 group with the certainty and
//! the same tracking UID (a NUM in a 1410 group keeps OHIF from showing its region).

use std::collections::BTreeSet;
use std::collections::HashMap;

use crate::domain::assessment::Assessment;
use crate::domain::assessment::Outcome;
use crate::domain::code::Code;
use crate::domain::finding::Finding;
use crate::domain::finding::Laterality;
use crate::domain::finding::Presence;
use crate::domain::finding::Region;
use crate::domain::finding::Severity;
use crate::domain::picture::ImageRef;
use crate::domain::study::Instance;
use crate::domain::study::Study;
use crate::sr::SrError;
use crate::sr::content_item::Item;
use crate::sr::content_item::Relationship::HasAcqContext;
use crate::sr::content_item::Relationship::HasConceptMod;
use crate::sr::content_item::Relationship::HasObsContext;
use crate::sr::content_item::Relationship::SelectedFrom;
use crate::sr::content_item::SourceImage;
use crate::sr::content_item::Value;
use crate::sr::header::Identity;
use crate::sr::header::LOCAL_SCHEME;
use crate::sr::text;

/// A tree that no one can open helps no one: a series of thousands is represented by these many.
const LIBRARY_IMAGES_MAX: usize = 200;
const SOURCES_PER_FINDING_MAX: usize = 50;

/// The whole tree. `procedure`: what was analysed, else "unspecified body region" of the modality.
pub fn report(a: &Assessment, procedure: Option<&Code>) -> Result<Item, SrError> {
    let images = Images::of(&a.study);
    let identity = Identity::of(&a.algorithm);
    let language = Code::new("en-US", "RFC5646", "English (United States)");
    let device = dcm("121007", "Device");
    let procedure = procedure.cloned().unwrap_or_else(|| unspecified_procedure(&a.study));
    let mut root = Item::template(dcm("126000", "Imaging Measurement Report"), "1500")
        .with(
            HasConceptMod,
            Item::code(dcm("121049", "Language of Content Item and Descendants"), language),
        )
        .with(HasObsContext, Item::code(dcm("121005", "Observer Type"), device))
        .with(HasObsContext, Item::uid(dcm("121012", "Device Observer UID"), &identity.device_uid))
        .with(HasObsContext, Item::text(dcm("121013", "Device Observer Name"), &identity.name[..]))
        .with(
            HasObsContext,
            Item::text(dcm("121014", "Device Observer Manufacturer"), &identity.manufacturer[..]),
        )
        .with(
            HasObsContext,
            Item::text(dcm("121015", "Device Observer Model Name"), &identity.name[..]),
        )
        .with(HasConceptMod, Item::code(dcm("121058", "Procedure reported"), procedure));
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

/// The study's instances by SOP Instance UID.
struct Images<'a>(HashMap<&'a str, &'a Instance>);

impl<'a> Images<'a> {
    fn of(study: &'a Study) -> Images<'a> {
        Images(study.instances.iter().map(|i| (i.sop_instance_uid.as_str(), i)).collect())
    }

    fn get(&self, image: &ImageRef, finding: &Finding) -> Result<&'a Instance, SrError> {
        let found = self.0.get(image.sop_instance_uid.as_str()).copied();
        found.ok_or_else(|| SrError::ForeignImage { finding: finding.id.clone() })
    }
}

/// With the frame where the instance has several; else the reference means the whole instance.
fn source(instance: &Instance, frame: Option<u32>) -> SourceImage {
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
    let described_above = !groups.is_empty();
    groups.push(certainty_group(finding, identity, sources, described_above));
    Ok(groups)
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
        finding.laterality.map(|side| Item::code(sct("272741003", "Laterality"), laterality(side)));
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
        group = group.contains(Item::code(sct("246112005", "Severity"), severity(grade)));
    }
    if let Some(category) = finding.urgency.category() {
        group = group.contains(Item::code(dcm("111005", "Assessment Category"), category));
    }
    group
}

/// The report-level Qualitative Evaluations: how the reading ended, what it comes to, what is
/// absent, what limits it. CODE and TEXT only.
fn evaluations(a: &Assessment) -> Vec<Item> {
    let mut items = summary(a);
    if let Some(category) = a.urgency.category() {
        items.push(Item::code(dcm("111005", "Assessment Category"), category));
    }
    let mut say = |name: Code, text: String| {
        if !text.trim().is_empty() {
            items.push(Item::text(name, text));
        }
    };
    match &a.outcome {
        Outcome::Read => {}
        Outcome::NotCovered { reason } => say(
            comment(),
            format!(
                "Not read: no model of this node covers this study ({reason}). No finding was \
                 looked for, so nothing is said about whether there is one."
            ),
        ),
        Outcome::NeedsReview { reason } => say(
            comment(),
            format!(
                "Needs review by a person: the reading did not end ({reason}). Nothing that is \
                 missing here counts as absent."
            ),
        ),
    }
    say(dcm("121073", "Impression"), a.impression.clone());
    say(dcm("121075", "Recommendation"), a.recommendation.clone());
    items.extend(a.present().filter_map(in_words));
    match &a.outcome {
        Outcome::Read => {
            items.extend(negatives(a));
            if !a.looked_for.is_empty() {
                let text = format!("Looked for: {}. Nothing else.", a.looked_for.join(", "));
                items.push(Item::text(comment(), text));
            }
        }
        // What was not read is never absent.
        Outcome::NotCovered { .. } | Outcome::NeedsReview { .. } => {}
    }
    items.extend(limits(a));
    items.extend(a.measurements.iter().map(measurement));
    items.push(Item::text(comment(), notice(a)));
    items
}

/// "No finding", "not looked for" and "failed" are never the same (PS3.16 CID 6047, CID 6042).
fn summary(a: &Assessment) -> Vec<Item> {
    let processing = dcm("111017", "CAD Processing and Findings Summary");
    let of_all = dcm("111065", "Summary of Analyses");
    let found = a.present().next().is_some();
    let open = a.findings.iter().any(|f| f.presence == Presence::Undetermined);
    let partly = open || !a.study.unreadable.is_empty();
    let ended = match (partly, found) {
        (false, true) => dcm("111242", "All algorithms succeeded; with findings"),
        (false, false) => dcm("111241", "All algorithms succeeded; without findings"),
        (true, true) => dcm("111244", "Not all algorithms succeeded; with findings"),
        (true, false) => dcm("111243", "Not all algorithms succeeded; without findings"),
    };
    match &a.outcome {
        Outcome::Read => vec![Item::code(processing, ended)],
        // All of CID 6047 says "with" or "without findings": neither is true of what nobody read.
        Outcome::NotCovered { .. } => {
            vec![Item::code(of_all, dcm("111225", "Not Attempted"))]
        }
        Outcome::NeedsReview { .. } => {
            let ended = match found {
                true => dcm("111244", "Not all algorithms succeeded; with findings"),
                false => dcm("111245", "No algorithms succeeded; without findings"),
            };
            vec![Item::code(processing, ended), Item::code(of_all, dcm("111224", "Failed"))]
        }
    }
}

/// A negative is (finding) = Absent: a reader that shows the first item of a group must not show
/// a pneumothorax that is not there.
fn negatives(a: &Assessment) -> Vec<Item> {
    let present: Vec<&Code> = a.present().map(|finding| &finding.concept).collect();
    let mut said: Vec<(&Code, Presence)> = Vec::new();
    let mut items = Vec::new();
    for finding in &a.findings {
        let value = match finding.presence {
            Presence::Present => continue,
            Presence::Absent => sct("272519000", "Absent"),
            Presence::Undetermined => sct("373068000", "Undetermined"),
        };
        let pair = (&finding.concept, finding.presence);
        // The same thing on the other side is present: a code without a side would deny that.
        let is_denial = present.contains(&&finding.concept);
        if !is_denial && !said.contains(&pair) {
            said.push(pair);
            items.push(Item::code(finding.concept.clone(), value.clone()));
        }
        if is_denial || finding.presence == Presence::Undetermined {
            let side = side(finding);
            let sure = percent(finding.probability).map(|p| format!(", probability {p} %"));
            let sure = sure.filter(|_| finding.presence == Presence::Undetermined);
            let text = format!(
                "{}{side}: {}{}. {}",
                finding.concept.meaning,
                value.meaning.to_lowercase(),
                sure.unwrap_or_default(),
                finding.description
            );
            items.push(Item::text(comment(), text));
        }
    }
    items
}

/// What the model said of a finding. It stands here and not in its group, which takes codes and
/// numbers only.
fn in_words(finding: &Finding) -> Option<Item> {
    let mut said = Vec::new();
    if !finding.description.trim().is_empty() {
        said.push(finding.description.trim().to_owned());
    }
    if !finding.differential.is_empty() {
        said.push(format!("Differential: {}.", finding.differential.join("; ")));
    }
    if !finding.recommendation.trim().is_empty() {
        said.push(format!("Recommendation: {}", finding.recommendation.trim()));
    }
    let title = format!("{} {}{}", finding.id, finding.concept.meaning, side(finding));
    (!said.is_empty()).then(|| Item::text(comment(), format!("{title}: {}", said.join(" "))))
}

fn side(finding: &Finding) -> String {
    let side = finding.laterality.map(|side| laterality(side).meaning.to_lowercase());
    side.map(|side| format!(", {side}")).unwrap_or_default()
}

/// What a reader should know about the images and the guards.
fn limits(a: &Assessment) -> Vec<Item> {
    let mut texts: Vec<String> = Vec::new();
    let mut say = |about: &str, what: &str| match text::long(what, 2000) {
        what if what.is_empty() => {}
        what => texts.push(format!("{about}: {what}")),
    };
    a.warnings.iter().for_each(|warning| say("Note", warning));
    a.quality.iter().for_each(|flag| say("Image quality", &flag.text));
    a.study.inconsistencies.iter().for_each(|what| say("Note", what));
    let mut reasons: Vec<(&str, usize)> = Vec::new();
    for excluded in a.excluded.iter().chain(&a.study.unreadable) {
        match reasons.iter_mut().find(|(reason, _)| *reason == excluded.reason) {
            Some((_, instances)) => *instances += 1,
            None => reasons.push((&excluded.reason, 1)),
        }
    }
    let not_read = |(reason, n): (&str, usize)| format!("Not looked at: {n} instance(s): {reason}");
    texts.extend(reasons.into_iter().take(20).map(not_read));
    texts.into_iter().map(|text| Item::text(comment(), text)).collect()
}

/// The name itself says that it is no finding.
fn measurement(of: &crate::domain::assessment::StudyMeasurement) -> Item {
    let group = match of.group.as_str() {
        "" => "other",
        group => group,
    };
    let meaning = format!("Measurement, not a finding: {group}");
    let unit = if of.unit.is_empty() { String::new() } else { format!(" {}", of.unit) };
    let source = if of.source.is_empty() { String::new() } else { format!(" ({})", of.source) };
    let name = Code::new(&format!("M-{}", short(group)), LOCAL_SCHEME, &meaning);
    Item::text(name, format!("{}: {}{unit}{source}", of.name, of.value))
}

/// A code value of at most 16 characters with its prefix.
fn short(word: &str) -> String {
    let kept = word.chars().filter(char::is_ascii_alphanumeric).take(14);
    kept.collect::<String>().to_ascii_uppercase()
}

fn notice(a: &Assessment) -> String {
    let what = match a.algorithm.measures_only {
        true => "Automatically generated by software that only measures: no finding was looked for",
        false => "Automatically generated by an AI algorithm",
    };
    format!(
        "{what}. Preliminary and unverified: not a diagnosis. Must be reviewed by a qualified \
         physician."
    )
}

/// A rectangle as a closed polyline inside the image; `None` when nothing of it is.
fn rectangle(region: &Region, instance: &Instance) -> Option<Vec<[f32; 2]>> {
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

/// 0 to 100 with one decimal; nothing for what is no number.
fn percent(probability: Option<f64>) -> Option<f64> {
    let probability = probability.filter(|p| p.is_finite())?;
    Some((probability.clamp(0.0, 1.0) * 1000.0).round() / 10.0)
}

fn laterality(side: Laterality) -> Code {
    match side {
        Laterality::Right => sct("24028007", "Right"),
        Laterality::Left => sct("7771000", "Left"),
        Laterality::Bilateral => sct("51440002", "Bilateral"),
        Laterality::Unilateral => sct("66459002", "Unilateral"),
    }
}

fn severity(grade: Severity) -> Code {
    match grade {
        Severity::Mild => sct("255604002", "Mild"),
        Severity::Moderate => sct("6736007", "Moderate"),
        Severity::Severe => sct("24484000", "Severe"),
    }
}

/// PS3.16 CID 29, and CID 33 for the rest.
fn modality(modality: &str) -> Code {
    let meaning = match modality {
        "CR" => "Computed Radiography",
        "CT" => "Computed Tomography",
        "DX" => "Digital Radiography",
        "ES" => "Endoscopy",
        "IO" => "Intra-oral Radiography",
        "MG" => "Mammography",
        "MR" => "Magnetic Resonance",
        "NM" => "Nuclear Medicine",
        "OP" => "Ophthalmic Photography",
        "PT" => "Positron emission tomography",
        "PX" => "Panoramic X-Ray",
        "RF" => "Radiofluoroscopy",
        "RG" => "Radiographic imaging",
        "US" => "Ultrasound",
        "XA" => "X-Ray Angiography",
        "XC" => "External-camera Photography",
        _ => return dcm("OT", "Other"),
    };
    dcm(modality, meaning)
}

/// PS3.16 CID 100, which is extensible: ultrasound and the rest are not in it.
fn unspecified_procedure(study: &Study) -> Code {
    let modalities = study.modalities();
    let (value, meaning) = match modalities.first().map(String::as_str).unwrap_or_default() {
        "CR" | "DX" | "RG" | "RF" | "XA" | "IO" | "PX" => ("43468-8", "XR unspecified body region"),
        "CT" => ("25045-6", "CT unspecified body region"),
        "MR" => ("25056-3", "MRI unspecified body region"),
        "NM" => ("49118-3", "NM unspecified body region"),
        "PT" => ("44136-0", "PET unspecified body region"),
        _ => return sct("363679005", "Imaging procedure"),
    };
    Code::new(value, "LN", meaning)
}

fn comment() -> Code {
    dcm("121106", "Comment")
}

fn millimetre() -> Code {
    Code::new("mm", "UCUM", "mm")
}

fn dcm(value: &str, meaning: &str) -> Code {
    Code::new(value, "DCM", meaning)
}

fn sct(value: &str, meaning: &str) -> Code {
    Code::new(value, "SCT", meaning)
}
