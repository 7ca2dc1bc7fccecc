//! What a received object is, before anything else: an image to read, or something that stands
//! beside the images.
//!
//! Other software sends its results into the studies that are read here, archives send ours back,
//! doctors their reports. None of them is a picture for a reader, and none opens a reading.

use serde::Deserialize;
use serde::Serialize;

/// What an object is to this node.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[schema(as = ObjectOrigin)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Of the acquisition: read.
    Image,
    /// What this software wrote, come back.
    Ours,
    /// A doctor's word: compared with the readings.
    Report,
    /// Result of other software or equipment: shown to people, never to a reader.
    Derived,
    /// What a reader answered to an order.
    Answer,
    /// Of a reader that nobody asked.
    Unasked,
}

impl Origin {
    /// What a person can say that an object is.
    pub const BY_PERSON: [Origin; 4] =
        [Origin::Image, Origin::Derived, Origin::Report, Origin::Ours];

    /// Lowercase English word, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Origin::Image => "image",
            Origin::Ours => "ours",
            Origin::Report => "report",
            Origin::Derived => "derived",
            Origin::Answer => "answer",
            Origin::Unasked => "unasked",
        }
    }
}

impl std::str::FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Origin, String> {
        let known = Origin::BY_PERSON.into_iter().find(|origin| origin.as_str() == text);
        known.ok_or_else(|| "use image, derived, report or ours".to_owned())
    }
}

/// Why an object has its origin.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "why")]
pub enum Why {
    /// Image Type ORIGINAL, of an image class.
    Acquired,
    /// Made from others, by the equipment that acquired the study.
    SameEquipment,
    /// Nothing in the study was acquired otherwise.
    NothingElse,
    /// It cannot be parsed, so a person has to look.
    NotParsed,
    OurArtefact {
        revision: u32,
        file: String,
    },
    /// Its equipment is this software.
    OurDevice,
    /// A structured report that a person has verified.
    Verified,
    /// A structured report whose observer is a person.
    PersonObserver,
    /// From a source that the settings name as a reporting system.
    ReportingSystem,
    /// A report of a person that names another patient than the images.
    OtherPatient,
    /// A report, measurement, segmentation or the like that no person stands for.
    Result,
    /// It holds no picture.
    NoPicture,
    /// A capture in a study that has images of its own.
    Capture,
    /// It names the images that it was made from.
    MadeFromOthers,
    /// Not ORIGINAL, and of other equipment than the images.
    OtherEquipment,
    /// Somebody said so.
    Person {
        reason: String,
    },
}

impl Why {
    /// Of the table of words.
    pub fn key(&self) -> &'static str {
        match self {
            Why::Acquired => "why.acquired",
            Why::SameEquipment => "why.same_equipment",
            Why::NothingElse => "why.nothing_else",
            Why::NotParsed => "why.not_parsed",
            Why::OurArtefact { .. } => "why.our_artefact",
            Why::OurDevice => "why.our_device",
            Why::Verified => "why.verified",
            Why::PersonObserver => "why.person_observer",
            Why::ReportingSystem => "why.reporting_system",
            Why::OtherPatient => "why.other_patient",
            Why::Result => "why.result",
            Why::NoPicture => "why.no_picture",
            Why::Capture => "why.capture",
            Why::MadeFromOthers => "why.made_from_others",
            Why::OtherEquipment => "why.other_equipment",
            Why::Person { .. } => "why.person",
        }
    }

    /// In English, for history, API and command line.
    pub fn text(&self) -> String {
        let plain = match self {
            Why::Acquired => "an image as it was acquired",
            Why::SameEquipment => "made by the equipment that acquired the study",
            Why::NothingElse => "nothing else in the study was acquired",
            Why::NotParsed => "it cannot be parsed: a person has to look",
            Why::OurArtefact { revision, file } => {
                return format!("it is {file} of revision {revision}");
            }
            Why::OurDevice => "its equipment is this software",
            Why::Verified => "a structured report that a person has verified",
            Why::PersonObserver => "a structured report whose observer is a person",
            Why::ReportingSystem => "from a reporting system of the settings",
            Why::OtherPatient => "a report that names another patient than the images",
            Why::Result => "a result that no person stands for",
            Why::NoPicture => "it holds no picture",
            Why::Capture => "a capture beside the images of the acquisition",
            Why::MadeFromOthers => "it names the images that it was made from",
            Why::OtherEquipment => "made by other equipment than the images",
            Why::Person { reason } if reason.is_empty() => "a person says so",
            Why::Person { reason } => return format!("a person says so: {reason}"),
        };
        plain.to_owned()
    }
}

/// Who made an object (PS3.3 C.7.5.1). Empty where it does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Maker {
    pub manufacturer: String,
    pub model_name: String,
    pub serial_number: String,
    /// Device UID (0018,1002).
    pub device_uid: String,
}

impl Maker {
    /// Whether both are the same equipment as far as they say: the same manufacturer, and neither
    /// model nor serial number differ.
    fn may_be(&self, other: &Maker) -> bool {
        let same = |of: fn(&Maker) -> &str| plain(of(self)) == plain(of(other));
        let open =
            |of: fn(&Maker) -> &str| of(self).trim().is_empty() || of(other).trim().is_empty();
        same(|m| &m.manufacturer)
            && (open(|m| &m.model_name) || same(|m| &m.model_name))
            && (open(|m| &m.serial_number) || same(|m| &m.serial_number))
    }

    /// Whether both say that they are the same device.
    fn is(&self, other: &Maker) -> bool {
        let said = |of: fn(&Maker) -> &str| {
            !of(self).trim().is_empty() && plain(of(self)) == plain(of(other))
        };
        said(|m| &m.manufacturer)
            && said(|m| &m.model_name)
            && plain(&self.serial_number) == plain(&other.serial_number)
    }
}

fn plain(text: &str) -> String {
    text.trim().to_lowercase()
}

/// How an object says that it was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Made {
    pub sop_class_uid: String,
    pub has_pixels: bool,
    /// Image Type (0008,0008).
    pub image_type: Vec<String>,
    pub by: Maker,
    /// Contributing Equipment Sequence (0018,A001).
    pub contributing: Vec<Maker>,
    /// Source Image Sequence (0008,2112) names other images than its own predecessor.
    pub is_from_others: bool,
    /// Verification Flag (0040,A493) VERIFIED.
    pub is_verified: bool,
    /// A content item says that a person observed (PS3.16 TID 1002, TID 1003).
    pub has_person_observer: bool,
}

const STORAGE: &str = "1.2.840.10008.5.1.4.1.1.";

/// Storage SOP classes of images as a modality acquires them (PS3.4 B.5), below [`STORAGE`].
const ACQUISITION: [&str; 38] = [
    "1", "1.1", "1.1.1", "1.2", "1.2.1", "1.3", "1.3.1", "2", "2.1", "2.2", "3", "3.1", "4", "4.1",
    "4.3", "4.4", "5", "6", "6.1", "6.2", "6.3", "12.1", "12.1.1", "12.2", "12.2.1", "13.1.1",
    "13.1.2", "13.1.3", "20", "77.1.1", "77.1.2", "77.1.4", "77.1.5.1", "77.1.5.2", "128", "128.1",
    "130", "481.1",
];
/// Of results that have pixels all the same: Parametric Map, Segmentation, Label Map Segmentation,
/// RT Dose.
const RESULTS_WITH_PIXELS: [&str; 4] = ["30", "66.4", "66.7", "481.2"];

fn below_storage(sop_class_uid: &str) -> &str {
    sop_class_uid.strip_prefix(STORAGE).unwrap_or_default()
}

/// Whether images as they were acquired have this SOP class.
pub fn is_acquisition_class(sop_class_uid: &str) -> bool {
    ACQUISITION.contains(&below_storage(sop_class_uid))
}

/// Whether an object is an image whatever else its study holds: of an image class, and by its own
/// word not made from another image. What a receiver can tell without a parser.
pub fn is_original(sop_class_uid: &str, image_type: &str) -> bool {
    let mut values = image_type.split('\\').map(str::trim);
    is_acquisition_class(sop_class_uid)
        && values.next() == Some("ORIGINAL")
        && values.next() != Some("SECONDARY")
}

/// Whether objects of this SOP class have pictures that can be shown.
pub fn may_have_pixels(sop_class_uid: &str) -> bool {
    let class = below_storage(sop_class_uid);
    let without = ["88.", "11.", "104.", "9.", "66.1", "66.2", "66.3", "66.5"];
    !without.iter().any(|group| class.starts_with(group))
}

impl Made {
    fn below_storage(&self) -> &str {
        below_storage(&self.sop_class_uid)
    }

    /// Secondary Capture, single and multi-frame.
    fn is_capture(&self) -> bool {
        let class = self.below_storage();
        class == "7" || class.starts_with("7.")
    }

    fn is_structured_report(&self) -> bool {
        let class = self.below_storage();
        // Key Object Selection has a number of theirs and is none; nor are dose reports and
        // procedure logs, which no doctor writes.
        let other = ["88.40", "88.59", "88.67", "88.68", "88.76"];
        class.starts_with("88.") && !other.contains(&class)
    }

    fn is_document(&self) -> bool {
        self.is_structured_report() || self.below_storage().starts_with("104.")
    }

    fn is_result(&self) -> bool {
        let class = self.below_storage();
        self.is_document()
            || RESULTS_WITH_PIXELS.contains(&class)
            || ["88.", "11.", "66."].iter().any(|group| class.starts_with(group))
    }

    fn type_value(&self, nth: usize) -> &str {
        self.image_type.get(nth).map_or("", |value| value.trim())
    }

    fn is_original(&self) -> bool {
        is_original(&self.sop_class_uid, &self.image_type.join("\\"))
    }

    /// Whether it can be an image of the study.
    pub fn is_picture(&self) -> bool {
        self.has_pixels && !self.is_result()
    }

    /// Made in the examination itself: radiographs for presentation are DERIVED\PRIMARY.
    fn is_primary(&self) -> bool {
        self.type_value(1) != "SECONDARY" && (self.image_type.len() != 1 || self.is_original())
    }
}

/// The equipment that acquired a study: of its original images; where there are none, of those made
/// in the examination itself, those before that name no source; else of any image. Captures acquire
/// nothing. Empty: nothing was acquired.
pub fn acquired_by<'a>(study: impl Iterator<Item = &'a Made> + Clone) -> Vec<Maker> {
    let pictures = study.filter(|made| made.is_picture() && !made.is_capture());
    let tiers: [fn(&Made) -> bool; 4] = [
        Made::is_original,
        |made| made.is_primary() && !made.is_from_others,
        Made::is_primary,
        |_| true,
    ];
    for tier in tiers {
        let mut found: Vec<Maker> = Vec::new();
        for made in pictures.clone().filter(|made| tier(made)) {
            if !found.contains(&made.by) {
                found.push(made.by.clone());
            }
        }
        if !found.is_empty() {
            return found;
        }
    }
    Vec::new()
}

/// What is known of an object beside its header.
#[derive(Debug, Clone, Default)]
pub struct Known<'a> {
    /// Of the ledger: the artefact that has its SOP Instance UID.
    pub artefact: Option<(u32, &'a str)>,
    /// As this node writes itself.
    pub device: Maker,
    /// Device UIDs of the algorithms that read the study.
    pub algorithms: &'a [String],
    /// Its source is named as a reporting system.
    pub is_of_reporting_system: bool,
    /// It names another patient than the images of its study.
    pub is_of_other_patient: bool,
    /// See [`acquired_by`].
    pub acquired_by: &'a [Maker],
}

impl Known<'_> {
    /// A doctor's word on another patient says nothing of this one.
    fn report(&self, why: Why) -> (Origin, Why) {
        match self.is_of_other_patient {
            true => (Origin::Derived, Why::OtherPatient),
            false => (Origin::Report, why),
        }
    }
}

/// What an object is, by what its header says and what is known of its study.
///
/// A person's verification counts before the equipment: a doctor may verify a report that we
/// drafted.
pub fn decide(made: &Made, known: &Known<'_>) -> (Origin, Why) {
    if let Some((revision, file)) = known.artefact {
        return (Origin::Ours, Why::OurArtefact { revision, file: file.to_owned() });
    }
    if made.is_structured_report() && made.is_verified {
        return known.report(Why::Verified);
    }
    if is_ours(made, known) {
        return (Origin::Ours, Why::OurDevice);
    }
    if made.is_structured_report() && made.has_person_observer {
        return known.report(Why::PersonObserver);
    }
    if made.is_document() && known.is_of_reporting_system {
        return known.report(Why::ReportingSystem);
    }
    if made.is_result() {
        return (Origin::Derived, Why::Result);
    }
    if !made.has_pixels {
        return (Origin::Derived, Why::NoPicture);
    }
    if made.is_original() {
        return (Origin::Image, Why::Acquired);
    }
    match (made.is_capture(), known.acquired_by) {
        (true, []) if made.is_from_others => (Origin::Derived, Why::MadeFromOthers),
        (_, []) => (Origin::Image, Why::NothingElse),
        // Software that draws on an image often keeps the image's equipment in its header.
        (true, makers) => {
            let of_device = makers.iter().any(|maker| made.by.is(maker));
            match of_device && made.type_value(0) == "ORIGINAL" && !made.is_from_others {
                true => (Origin::Image, Why::SameEquipment),
                false => (Origin::Derived, Why::Capture),
            }
        }
        (false, makers) => match makers.iter().any(|maker| made.by.may_be(maker)) {
            true => (Origin::Image, Why::SameEquipment),
            false => (Origin::Derived, Why::OtherEquipment),
        },
    }
}

fn is_ours(made: &Made, known: &Known<'_>) -> bool {
    let named = |uid: &String| !uid.is_empty() && known.algorithms.contains(uid);
    made.by.is(&known.device)
        || made.contributing.iter().any(|maker| maker.is(&known.device) || named(&maker.device_uid))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
    const DX: &str = "1.2.840.10008.5.1.4.1.1.1.1";
    const SC: &str = "1.2.840.10008.5.1.4.1.1.7";
    const SR: &str = "1.2.840.10008.5.1.4.1.1.88.33";

    fn maker(manufacturer: &str, model_name: &str, serial_number: &str) -> Maker {
        let text = str::to_owned;
        Maker {
            manufacturer: text(manufacturer),
            model_name: text(model_name),
            serial_number: text(serial_number),
            device_uid: String::new(),
        }
    }

    fn scanner() -> Maker {
        maker("ACME", "Scan 3", "77")
    }

    fn vendor() -> Maker {
        maker("Vendor AI", "Boxes", "1")
    }

    fn node() -> Maker {
        maker("Prelim", "Prelim DICOM node", "PRELIM")
    }

    fn image(class: &str, image_type: &str, by: Maker) -> Made {
        Made {
            sop_class_uid: class.to_owned(),
            has_pixels: true,
            image_type: image_type
                .split('\\')
                .filter(|v| !v.is_empty())
                .map(str::to_owned)
                .collect(),
            by,
            ..Made::default()
        }
    }

    fn document(class: &str, by: Maker) -> Made {
        Made { has_pixels: false, ..image(class, "", by) }
    }

    /// What each object is in a study of these others.
    fn decided(made: &Made, others: &[Made], reporting: bool) -> (Origin, Why) {
        let study = others.iter().chain([made]);
        let acquired_by = acquired_by(study);
        let known = Known {
            device: node(),
            algorithms: &["2.25.5".to_owned()],
            is_of_reporting_system: reporting,
            acquired_by: &acquired_by,
            ..Known::default()
        };
        decide(made, &known)
    }

    #[test]
    fn a_report_that_names_another_patient_is_no_word_on_this_one() {
        let verified = Made { is_verified: true, ..document(SR, vendor()) };
        let observed = Made { has_person_observer: true, ..document(SR, vendor()) };
        for (made, is_of_reporting_system) in
            [(verified, false), (observed, false), (document(SR, vendor()), true)]
        {
            let decided = |is_of_other_patient| {
                let device = node();
                decide(
                    &made,
                    &Known {
                        device,
                        is_of_reporting_system,
                        is_of_other_patient,
                        ..Known::default()
                    },
                )
            };
            assert_eq!(decided(false).0, Origin::Report);
            assert_eq!(decided(true), (Origin::Derived, Why::OtherPatient));
        }
    }

    #[test]
    fn results_of_others_are_no_images_and_what_the_scanner_made_is() {
        use Origin::*;
        let ct = [image(CT, r"ORIGINAL\PRIMARY\AXIAL", scanner())];
        let dx = [image(DX, r"DERIVED\PRIMARY", scanner())];
        let from = |made: Made| Made { is_from_others: true, ..made };
        let nobody = Maker::default;
        let sr = || document(SR, vendor());
        let class = |last: &str| format!("{STORAGE}{last}");
        #[rustfmt::skip]
        let cases: Vec<(&str, Made, &[Made], Origin)> = vec![
            ("a slice", image(CT, r"ORIGINAL\PRIMARY\AXIAL", scanner()), &ct, Image),
            ("a slice of a second scanner", image(CT, r"ORIGINAL\PRIMARY", vendor()), &ct, Image),
            ("a localizer", image(CT, r"ORIGINAL\PRIMARY\LOCALIZER", scanner()), &ct, Image),
            ("a reformat by the scanner", image(CT, r"DERIVED\SECONDARY\MPR", scanner()), &ct, Image),
            ("one that names no model", image(CT, r"DERIVED\SECONDARY\MPR", maker("acme ", "", "")), &ct, Image),
            ("a reformat by a workstation", image(CT, r"DERIVED\SECONDARY\MPR", maker("ACME", "Station", "9")), &ct, Derived),
            ("another software's boxes on a slice", image(CT, r"DERIVED\SECONDARY", vendor()), &ct, Derived),
            ("the same without a manufacturer", image(CT, r"DERIVED\SECONDARY", nobody()), &ct, Derived),
            ("a capture by other software", image(SC, r"DERIVED\SECONDARY", vendor()), &ct, Derived),
            ("a capture that calls itself original", image(SC, r"ORIGINAL\PRIMARY", vendor()), &ct, Derived),
            ("a capture with the scanner's header", image(SC, r"DERIVED\SECONDARY", scanner()), &ct, Derived),
            ("a dose page of the scanner", image(SC, r"DERIVED\SECONDARY\SCREEN SAVE", scanner()), &ct, Derived),
            ("a capture that names nobody", image(SC, "", nobody()), &ct, Derived),
            ("a cine that an ultrasound sends as capture", image(&class("7.2"), r"ORIGINAL\PRIMARY", scanner()), &ct, Image),
            ("a film for presentation", image(DX, r"DERIVED\PRIMARY", scanner()), &dx, Image),
            ("a film of another device", image(DX, r"DERIVED\PRIMARY", maker("Other", "Wall", "2")), &dx, Image),
            ("boxes on a film, said to be primary", from(image(DX, r"DERIVED\PRIMARY", vendor())), &dx, Derived),
            ("a capture beside a film", image(SC, r"DERIVED\SECONDARY", vendor()), &dx, Derived),
            ("a photographed film alone", image(SC, "", nobody()), &[], Image),
            ("a scanned film alone", image(SC, r"DERIVED\SECONDARY", maker("Scanner", "", "")), &[], Image),
            ("ultrasound that is all captures", image(&class("7.4"), r"DERIVED\PRIMARY", scanner()), &[], Image),
            ("a capture alone that names its sources", from(image(SC, r"DERIVED\SECONDARY", vendor())), &[], Derived),
            ("reformats alone", from(image(CT, r"DERIVED\SECONDARY\MPR", scanner())), &[], Image),
            ("a film without Image Type", image(DX, "", nobody()), &[], Image),
            ("an unverified report", sr(), &ct, Derived),
            ("a verified report", Made { is_verified: true, ..sr() }, &ct, Report),
            ("a person's report", Made { has_person_observer: true, ..sr() }, &ct, Report),
            ("a dose report", document(&class("88.67"), scanner()), &ct, Derived),
            ("key objects", document(&class("88.59"), scanner()), &ct, Derived),
            ("key objects that a person chose", Made { has_person_observer: true, ..document(&class("88.59"), scanner()) }, &ct, Derived),
            ("a segmentation", image(&class("66.4"), r"DERIVED\PRIMARY", scanner()), &ct, Derived),
            ("a dose distribution", image(&class("481.2"), "", scanner()), &ct, Derived),
            ("a presentation state", document(&class("11.1"), vendor()), &ct, Derived),
            ("a PDF", document(&class("104.1"), vendor()), &ct, Derived),
            ("an ECG", document(&class("9.1.1"), vendor()), &[], Derived),
            ("our report, without the ledger", document(SR, node()), &ct, Ours),
            ("our key image, alone", image(SC, r"DERIVED\SECONDARY", node()), &[], Ours),
            ("our report that a doctor verified", Made { is_verified: true, ..document(SR, node()) }, &ct, Report),
            ("one whose algorithm is ours", Made { contributing: vec![Maker { device_uid: "2.25.5".into(), ..vendor() }], ..sr() }, &ct, Ours),
            ("one that another algorithm wrote", Made { contributing: vec![Maker { device_uid: "2.25.6".into(), ..vendor() }], ..sr() }, &ct, Derived),
        ];
        for (what, made, others, origin) in cases {
            let (found, why) = decided(&made, others, false);
            assert_eq!(found, origin, "{what}: {why:?}");
            assert!(!why.text().is_empty());
        }
    }

    #[test]
    fn a_source_that_is_a_reporting_system_sends_reports_and_no_others_do() {
        let ct = [image(CT, r"ORIGINAL\PRIMARY", scanner())];
        for class in [SR, "1.2.840.10008.5.1.4.1.1.104.1"] {
            let report = document(class, vendor());
            assert_eq!(decided(&report, &ct, true).0, Origin::Report);
            assert_eq!(decided(&report, &ct, false).0, Origin::Derived);
        }
        let capture = image(SC, r"DERIVED\SECONDARY", vendor());
        assert_eq!(decided(&capture, &ct, true).0, Origin::Derived);
    }

    #[test]
    fn what_the_ledger_names_is_ours_whatever_it_says_of_itself() {
        let known = Known { artefact: Some((2, "key-image-01.dcm")), ..Known::default() };
        let made = image(CT, r"ORIGINAL\PRIMARY", scanner());
        let (origin, why) = decide(&made, &known);
        assert_eq!(origin, Origin::Ours);
        assert_eq!(why.text(), "it is key-image-01.dcm of revision 2");
    }

    #[test]
    fn a_receiver_takes_for_an_image_only_what_is_one_in_every_study() {
        for (class, image_type, is_one) in [
            (CT, r"ORIGINAL\PRIMARY\AXIAL", true),
            (CT, "ORIGINAL", true),
            (CT, r"DERIVED\SECONDARY", false),
            (CT, r"ORIGINAL\SECONDARY", false),
            (CT, "", false),
            (SC, r"ORIGINAL\PRIMARY", false),
            (SR, "", false),
        ] {
            assert_eq!(is_original(class, image_type), is_one, "{class} {image_type}");
        }
    }
}
