//! DICOM objects made of an assessment: structured reports, the PDF in its wrapper, key images,
//! presentation states, segmentations, key object selections.
//! Pure functions: the same assessment gives the same bytes, so that a second run changes nothing.

mod codes;
mod communication;
mod content_item;
mod encapsulated_pdf;
mod evaluations;
mod header;
mod key_image;
mod key_objects;
mod presentation_state;
mod references;
mod segmentation;
mod structured_report;
mod text;
mod text_tree;
mod tree;

#[cfg(test)]
mod cross_object;
#[cfg(test)]
mod peers;
#[cfg(test)]
pub mod samples;

pub use communication::communication;
pub use encapsulated_pdf::encapsulated_pdf;
pub use key_image::key_image;
pub use key_objects::key_objects;
pub use presentation_state::Shown;
pub use presentation_state::presentation_states;
pub use references::Document;
pub use segmentation::segmentations;
pub use structured_report::structured_report;

use dicom_dictionary_std::uids;
use jiff::tz::TimeZone;

use crate::domain::code::Code;
use crate::domain::profile::Profile;

/// The node that writes the objects: General Equipment. The algorithm is named beside it, in
/// Contributing Equipment and as the observer.
#[derive(Debug, Clone, PartialEq)]
pub struct Equipment {
    pub manufacturer: String,
    pub model_name: String,
    /// Device Serial Number, Type 1: anything that tells this node from another.
    pub serial_number: String,
    pub software_version: String,
    /// Empty: the source's own Institution Name.
    pub institution_name: String,
    pub station_name: String,
    /// Dates and times in DICOM objects are local times of the site.
    pub time_zone: TimeZone,
}

impl Default for Equipment {
    fn default() -> Equipment {
        Equipment {
            manufacturer: "Prelim".into(),
            model_name: "Prelim DICOM node".into(),
            serial_number: "PRELIM".into(),
            software_version: env!("CARGO_PKG_VERSION").into(),
            institution_name: String::new(),
            station_name: String::new(),
            time_zone: TimeZone::UTC,
        }
    }
}

/// Storage SOP class of the structured report. The first three hold the same tree: it has no 3D
/// coordinates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SrClass {
    /// 1.2.840.10008.5.1.4.1.1.88.34, which IHE AIR asks for.
    #[default]
    Comprehensive3d,
    /// 1.2.840.10008.5.1.4.1.1.88.33, for archives that refuse the other.
    Comprehensive,
    /// 1.2.840.10008.5.1.4.1.1.88.22, for those that refuse both.
    Enhanced,
    /// 1.2.840.10008.5.1.4.1.1.88.11: text and references to images only.
    BasicText,
}

impl SrClass {
    #[cfg(test)]
    pub const ALL: [SrClass; 4] =
        [SrClass::Comprehensive3d, SrClass::Comprehensive, SrClass::Enhanced, SrClass::BasicText];

    /// Kind of the artefact, as in [`artefact_uid`](crate::domain::assessment::Assessment::artefact_uid).
    pub fn kind(self) -> &'static str {
        match self {
            SrClass::Comprehensive3d => "sr",
            SrClass::Comprehensive => "sr-comprehensive",
            SrClass::Enhanced => "sr-enhanced",
            SrClass::BasicText => "sr-text",
        }
    }

    fn uid(self) -> &'static str {
        match self {
            SrClass::Comprehensive3d => uids::COMPREHENSIVE3_DSR_STORAGE,
            SrClass::Comprehensive => uids::COMPREHENSIVE_SR_STORAGE,
            SrClass::Enhanced => uids::ENHANCED_SR_STORAGE,
            SrClass::BasicText => uids::BASIC_TEXT_SR_STORAGE,
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct SrOptions {
    /// The imaging procedure that was analysed. `None`: "… unspecified body region" of the modality.
    pub procedure: Option<Code>,
    /// The reports of the reading that was current before. A report replaces the one of its own
    /// class: an archive that refuses a class does not have that report.
    pub replaces: Vec<Document>,
    pub class: SrClass,
}

impl SrOptions {
    pub fn new(profile: Option<&Profile>, replaces: Vec<Document>) -> SrOptions {
        let procedure = profile
            .filter(|profile| !profile.procedure_code.is_empty())
            .map(|profile| Code::new(&profile.procedure_code, "LN", &profile.procedure_meaning));
        SrOptions { procedure, replaces, class: SrClass::default() }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SrError {
    /// A finding that rests on another study's image is a mix-up: better no report than that one.
    #[error("finding {finding} names an image that is not in the study")]
    ForeignImage { finding: String },
    #[error("the document to wrap is not a PDF")]
    NotPdf,
    #[error("the document to wrap has {size_bytes} bytes: more than a DICOM value holds")]
    TooLarge { size_bytes: usize },
    #[error("the DICOM object cannot be written: {cause}")]
    Write { cause: String },
}
