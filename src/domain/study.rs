//! Studies, series and instances as their headers describe them.

use serde::Deserialize;
use serde::Serialize;

use crate::domain::code::Code;
use crate::domain::order::Order;
use crate::domain::order::Sought;
use crate::domain::origin::Made;
use crate::domain::uid::SeriesUid;
use crate::domain::uid::SopClassUid;
use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::StudyUid;
use crate::domain::uid::TransferSyntaxUid;

/// A person name, decoded to Unicode: the component groups of VR PN (PS3.5 6.2.1), each with
/// its `^` separators.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PersonName {
    pub alphabetic: String,
    pub ideographic: String,
    pub phonetic: String,
}

impl PersonName {
    /// Splits the decoded text of a PN value at `=`.
    pub fn parse(text: &str) -> PersonName {
        let mut groups = text.split('=').map(|group| group.trim_end().to_owned());
        let mut next = || groups.next().unwrap_or_default();
        PersonName { alphabetic: next(), ideographic: next(), phonetic: next() }
    }

    /// Whether letters of it could not be decoded.
    pub fn is_damaged(&self) -> bool {
        [&self.alphabetic, &self.ideographic, &self.phonetic].iter().any(|g| g.contains('\u{fffd}'))
    }

    /// The value as it stands in a data set, trailing empty groups left out.
    pub fn to_dicom(&self) -> String {
        let all = [&self.alphabetic, &self.ideographic, &self.phonetic].map(String::as_str);
        all.join("=").trim_end_matches('=').to_owned()
    }

    /// For people: "Family, Given" and the ideographic form in brackets.
    pub fn display(&self) -> String {
        let plain = |group: &str| {
            let parts: Vec<&str> =
                group.split('^').map(str::trim).filter(|part| !part.is_empty()).collect();
            match parts.split_first() {
                Some((family, rest)) if !rest.is_empty() => format!("{family}, {}", rest.join(" ")),
                Some((family, _)) => (*family).to_owned(),
                None => String::new(),
            }
        };
        let native = |group: &str| group.replace('^', " ").trim().to_owned();
        match (plain(&self.alphabetic), native(&self.ideographic)) {
            (name, native) if native.is_empty() => name,
            (name, native) if name.is_empty() => native,
            (name, native) => format!("{name} ({native})"),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.alphabetic.is_empty() && self.ideographic.is_empty() && self.phonetic.is_empty()
    }
}

/// The patient of a study, values as decoded text in DICOM's own forms.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Patient {
    /// Patient ID (0010,0020).
    pub id: String,
    /// Issuer of Patient ID (0010,0021).
    pub issuer_of_id: String,
    pub name: PersonName,
    /// Patient's Birth Date (0010,0030), DA `YYYYMMDD` or empty.
    pub birth_date: String,
    /// Patient's Sex (0010,0040): M, F, O or empty.
    pub sex: String,
    /// Patient's Age (0010,1010), AS such as `004Y`, or empty.
    pub age: String,
}

/// Study-level attributes (PS3.3 C.7.2.1), values as decoded text in DICOM's own forms.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StudyAttributes {
    pub study_id: String,
    /// DA `YYYYMMDD` or empty.
    pub study_date: String,
    /// TM `HHMMSS.FFFFFF` or empty.
    pub study_time: String,
    pub accession_number: String,
    pub referring_physician_name: PersonName,
    pub study_description: String,
    pub institution_name: String,
    /// Reason for the Requested Procedure (0040,1002), else Reason for Study (0032,1030).
    pub reason_for_request: String,
    /// Requested Procedure Description (0032,1060).
    pub requested_procedure: String,
    /// Admitting Diagnoses Description (0008,1080).
    pub admitting_diagnoses: String,
    /// Current Patient Location (0038,0300).
    pub patient_location: String,
    /// Requested Procedure Priority (0040,1003), else the retired Study Priority ID (0032,000C).
    #[serde(default)]
    pub requested_priority: String,
}

/// What one instance says of itself. Missing text is empty, missing numbers are `None`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    pub sop_instance_uid: SopInstanceUid,
    pub sop_class_uid: SopClassUid,
    pub series_uid: SeriesUid,
    pub transfer_syntax_uid: TransferSyntaxUid,
    /// Path of the Part 10 file, relative to the data folder.
    pub object: String,
    pub modality: String,
    pub series_number: Option<i32>,
    pub series_description: String,
    pub protocol_name: String,
    pub body_part_examined: String,
    pub view_position: String,
    /// Image Laterality (0020,0062), else Laterality (0020,0060): R, L, B, U or empty.
    pub laterality: String,
    /// Patient Orientation (0020,0020): row and column direction, or empty.
    pub patient_orientation: Vec<String>,
    pub instance_number: Option<i32>,
    pub image_type: Vec<String>,
    pub conversion_type: String,
    pub burned_in_annotation: String,
    pub manufacturer: String,
    pub manufacturer_model_name: String,
    pub station_name: String,
    /// Acquisition (else Content, else Series) Date and Time, DICOM forms.
    pub acquired_date: String,
    pub acquired_time: String,
    pub rows: u32,
    pub columns: u32,
    pub number_of_frames: u32,
    pub samples_per_pixel: u32,
    pub bits_allocated: u32,
    pub bits_stored: u32,
    pub pixel_representation: u32,
    pub photometric_interpretation: String,
    /// True when Pixel Data (or its float forms) is present.
    pub has_pixels: bool,
    /// Row spacing, column spacing. Only when present and above zero.
    pub pixel_spacing_mm: Option<[f64; 2]>,
    pub imager_pixel_spacing_mm: Option<[f64; 2]>,
    /// Pixel Spacing Calibration Type (0028,0A02): GEOMETRY, FIDUCIAL or empty.
    #[serde(default)]
    pub pixel_spacing_calibration: String,
    pub slice_thickness_mm: Option<f64>,
    pub spacing_between_slices_mm: Option<f64>,
    pub image_position_mm: Option<[f64; 3]>,
    pub image_orientation: Option<[f64; 6]>,
    pub gantry_tilt_degrees: Option<f64>,
    pub frame_of_reference_uid: String,
    pub kvp: Option<f64>,
    pub exposure_mas: Option<f64>,
    pub exposure_index: Option<f64>,
    pub rescale_slope: Option<f64>,
    pub rescale_intercept: Option<f64>,
    pub window_center: Vec<f64>,
    pub window_width: Vec<f64>,
    pub lossy_image_compression: String,
    /// Regions of Sequence of Ultrasound Regions (0018,6011): x0, y0, x1, y1 in pixels.
    pub ultrasound_regions: Vec<[u32; 4]>,
}

impl Instance {
    /// Height and width of a pixel, in any unit: from Pixel Spacing, else Imager Pixel Spacing
    /// (PS3.3 10.7.1.3), else as Pixel Aspect Ratio says (PS3.3 C.7.6.3.1.7). `None`: nothing is said.
    ///
    /// - `stated`: Pixel Aspect Ratio, which counts where no spacing is known.
    pub fn pixel_aspect(&self, stated: Option<[f64; 2]>) -> Option<[f64; 2]> {
        self.pixel_spacing_mm.or(self.imager_pixel_spacing_mm).or(stated)
    }
}

/// One parsed header: the instance and what it says of its study and patient.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inspected {
    pub study_uid: StudyUid,
    pub patient: Patient,
    pub attributes: StudyAttributes,
    pub instance: Instance,
    #[serde(default)]
    pub made: Made,
}

/// An instance that is in the study and cannot be read by this software, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excluded {
    pub sop_instance_uid: SopInstanceUid,
    pub reason: String,
}

/// A study as its instances describe it: what every later stage works on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Study {
    pub study_uid: StudyUid,
    pub patient: Patient,
    pub attributes: StudyAttributes,
    /// Ordered by series number, series UID, instance number, SOP Instance UID.
    pub instances: Vec<Instance>,
    /// Instances whose header could not be parsed.
    pub unreadable: Vec<Excluded>,
    /// What the headers contradict each other in, as sentences without identifiers.
    pub inconsistencies: Vec<String>,
    #[serde(default)]
    pub order: Sought,
}

impl Study {
    /// Puts parsed headers together. The first instance gives patient and study attributes;
    /// a later one fills what is empty, and a contradiction becomes a note.
    pub fn gather(study_uid: StudyUid, parsed: Vec<Inspected>, unreadable: Vec<Excluded>) -> Study {
        let mut study = Study {
            study_uid,
            patient: Patient::default(),
            attributes: StudyAttributes::default(),
            instances: Vec::new(),
            unreadable,
            inconsistencies: Vec::new(),
            order: Sought::default(),
        };
        let mut differing: std::collections::BTreeSet<&str> = Default::default();
        let mut merge = |name: &'static str, kept: &mut String, other: String| {
            if kept.is_empty() {
                *kept = other;
            } else if !other.is_empty() && *kept != other {
                differing.insert(name);
            }
        };
        for Inspected { patient, attributes, instance, .. } in parsed {
            let (to, a) = (&mut study.patient, &mut study.attributes);
            merge("Patient ID", &mut to.id, patient.id);
            merge("Issuer of Patient ID", &mut to.issuer_of_id, patient.issuer_of_id);
            merge("Patient's Birth Date", &mut to.birth_date, patient.birth_date);
            merge("Patient's Sex", &mut to.sex, patient.sex);
            merge("Patient's Age", &mut to.age, patient.age);
            if to.name.is_empty() {
                to.name = patient.name;
            } else if !patient.name.is_empty() && to.name != patient.name {
                merge("Patient's Name", &mut "a".to_owned(), "b".to_owned());
            }
            merge("Study ID", &mut a.study_id, attributes.study_id);
            merge("Study Date", &mut a.study_date, attributes.study_date);
            merge("Study Time", &mut a.study_time, attributes.study_time);
            merge("Accession Number", &mut a.accession_number, attributes.accession_number);
            merge("Study Description", &mut a.study_description, attributes.study_description);
            merge("Institution Name", &mut a.institution_name, attributes.institution_name);
            // Free text of the order: the first counts, another wording is no contradiction.
            for (to, from) in [
                (&mut a.reason_for_request, attributes.reason_for_request),
                (&mut a.requested_procedure, attributes.requested_procedure),
                (&mut a.admitting_diagnoses, attributes.admitting_diagnoses),
                (&mut a.patient_location, attributes.patient_location),
                (&mut a.requested_priority, attributes.requested_priority),
            ] {
                if to.is_empty() {
                    *to = from;
                }
            }
            if a.referring_physician_name.is_empty() {
                a.referring_physician_name = attributes.referring_physician_name;
            }
            study.instances.push(instance);
        }
        study.inconsistencies =
            differing.iter().map(|name| format!("the instances differ in {name}")).collect();
        if study.has_two_ages() {
            study
                .inconsistencies
                .push("Patient's Age and Patient's Birth Date do not agree".into());
        }
        study.instances.sort_by(|a, b| {
            let key = |i: &Instance| {
                (i.series_number.unwrap_or(i32::MAX), i.series_uid.clone(), i.instance_number)
            };
            key(a).cmp(&key(b)).then_with(|| a.sop_instance_uid.cmp(&b.sop_instance_uid))
        });
        study
    }

    /// Modalities of the instances with pixels first, without repeats, in order of appearance.
    pub fn modalities(&self) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        let with_pixels = self.instances.iter().filter(|i| i.has_pixels);
        for instance in with_pixels.chain(self.instances.iter().filter(|i| !i.has_pixels)) {
            if !instance.modality.is_empty() && !found.contains(&instance.modality) {
                found.push(instance.modality.clone());
            }
        }
        found
    }

    pub fn order(&self) -> Option<&Order> {
        match &self.order {
            Sought::Found { order } => Some(order),
            Sought::Nowhere | Sought::NotFound | Sought::OtherPatient => None,
        }
    }

    /// Where the patient is: as the order says, else the images. Empty when neither does.
    pub fn patient_location(&self) -> &str {
        match self.order().map(|order| order.location.trim()).filter(|place| !place.is_empty()) {
            Some(place) => place,
            None => self.attributes.patient_location.trim(),
        }
    }

    /// Of the images, else of the order; the images' own attributes stay as they are.
    pub fn accession_number(&self) -> &str {
        match (self.attributes.accession_number.trim(), self.order()) {
            ("", Some(order)) => &order.accession_number,
            (own, _) => own,
        }
    }

    /// Who asked for it: of the order, else Referring Physician's Name of the images.
    pub fn requester(&self) -> &PersonName {
        let ordering = self.order().map(|order| &order.ordering_physician);
        ordering
            .filter(|name| !name.is_empty())
            .unwrap_or(&self.attributes.referring_physician_name)
    }

    /// The procedure that was looked at, where nobody named one (PS3.16 CID 100, which is
    /// extensible: ultrasound and the rest are not in it).
    pub fn unspecified_procedure(&self) -> Code {
        let modalities = self.modalities();
        let (value, meaning) = match modalities.first().map(String::as_str).unwrap_or_default() {
            "CR" | "DX" | "RG" | "RF" | "XA" | "IO" | "PX" => {
                ("43468-8", "XR unspecified body region")
            }
            "CT" => ("25045-6", "CT unspecified body region"),
            "MR" => ("25056-3", "MRI unspecified body region"),
            "NM" => ("49118-3", "NM unspecified body region"),
            "PT" => ("44136-0", "PET unspecified body region"),
            _ => return Code::new("363679005", "SCT", "Imaging procedure"),
        };
        Code::new(value, "LN", meaning)
    }

    /// Whether Patient's Age and birth date make two ages of more than a year between them: of one
    /// of them, nobody knows which, the patient is another.
    fn has_two_ages(&self) -> bool {
        let born = years_between(&self.patient.birth_date, &self.attributes.study_date);
        matches!((age_of(&self.patient.age), born), (Some(said), Some(born)) if (said - born).abs() > 1.0)
    }

    /// Age in years at the study: from Patient's Age, else from birth and study dates.
    /// `None` when neither says; a birth date after the study says nothing.
    pub fn age_years(&self) -> Option<f64> {
        age_of(&self.patient.age)
            .or_else(|| years_between(&self.patient.birth_date, &self.attributes.study_date))
    }
}

/// VR AS (PS3.5 6.2): `nnnD`, `nnnW`, `nnnM`, `nnnY`, to years.
fn age_of(text: &str) -> Option<f64> {
    let text = text.trim();
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: f64 = number.parse::<u32>().ok()?.into();
    match unit {
        "D" => Some(number / 365.25),
        "W" => Some(number * 7.0 / 365.25),
        "M" => Some(number / 12.0),
        "Y" => Some(number),
        _ => None,
    }
}

fn years_between(birth: &str, study: &str) -> Option<f64> {
    let date = |text: &str| jiff::civil::Date::strptime("%Y%m%d", text.trim()).ok();
    let days = (date(study)? - date(birth)?).get_days();
    (days >= 0).then_some(f64::from(days) / 365.25)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_comes_from_its_field_else_from_the_dates() {
        for (text, years) in [("004Y", 4.0), ("018M", 1.5), ("000D", 0.0)] {
            assert_eq!(age_of(text), Some(years), "{text}");
        }
        for text in ["", "Y", "4 years", "-04Y", "004", "é"] {
            assert_eq!(age_of(text), None, "{text}");
        }
        assert!((years_between("20200101", "20240101").unwrap() - 4.0).abs() < 0.01);
        assert_eq!(years_between("20240101", "20200101"), None);
    }

    #[test]
    fn a_person_name_keeps_its_component_groups() {
        let name = PersonName::parse("Hong^Gildong=洪^吉洞=홍^길동");
        assert_eq!(name.display(), "Hong, Gildong (洪 吉洞)");
        assert_eq!(name.to_dicom(), "Hong^Gildong=洪^吉洞=홍^길동");
        assert_eq!(PersonName::parse("Doe^Jane").to_dicom(), "Doe^Jane");
    }
    #[test]
    fn a_name_with_letters_that_could_not_be_decoded_is_known() {
        assert!(PersonName::parse("Doe^J\u{fffd}").is_damaged());
        assert!(PersonName::parse("Hong=\u{fffd}").is_damaged());
        assert!(!PersonName::parse("Müller^Jane=张伟").is_damaged());
    }
}
