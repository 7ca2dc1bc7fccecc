//! DICOM objects made of an assessment: the structured report and the PDF in its wrapper.
//! Pure functions: the same assessment gives the same bytes, so that a second run changes nothing.

mod content_item;
mod encapsulated_pdf;
mod header;
mod measurement_report;
mod text;
mod tree;

#[cfg(test)]
mod cross_object;
#[cfg(test)]
mod peers;
#[cfg(test)]
mod samples;

pub use encapsulated_pdf::encapsulated_pdf;
pub use measurement_report::measurement_report;

use jiff::tz::TimeZone;

use crate::domain::assessment::Assessment;
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

/// Storage SOP class of the structured report. The tree is the same: it has no 3D coordinates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SrClass {
    /// 1.2.840.10008.5.1.4.1.1.88.34, which IHE AIR asks for.
    #[default]
    Comprehensive3d,
    /// 1.2.840.10008.5.1.4.1.1.88.33, for archives that refuse the other.
    Comprehensive,
}

impl SrClass {
    /// Kind of the artefact, as in [`Assessment::artefact_uid`].
    fn kind(self) -> &'static str {
        match self {
            SrClass::Comprehensive3d => "sr",
            SrClass::Comprehensive => "sr-comprehensive",
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct SrOptions {
    /// The imaging procedure that was analysed. `None`: "… unspecified body region" of the modality.
    pub procedure: Option<Code>,
    /// The report that this one replaces; for revision 2 and later.
    pub predecessor: Option<Predecessor>,
    pub class: SrClass,
}

impl SrOptions {
    /// Procedure from the profile; predecessor from the assessment that was current before.
    pub fn new(profile: Option<&Profile>, previous: Option<&Assessment>) -> SrOptions {
        let procedure = profile
            .filter(|profile| !profile.procedure_code.is_empty())
            .map(|profile| Code::new(&profile.procedure_code, "LN", &profile.procedure_meaning));
        SrOptions {
            procedure,
            predecessor: previous.map(Predecessor::of),
            class: SrClass::default(),
        }
    }
}

/// The reports of an earlier reading of the same study. A report replaces the one of its own
/// class: an archive that refuses the other class does not have the other report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Predecessor {
    comprehensive_3d: Named,
    comprehensive: Named,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Named {
    series_uid: String,
    sop_instance_uid: String,
}

impl Predecessor {
    pub fn of(previous: &Assessment) -> Predecessor {
        let named = |class: SrClass| Named {
            series_uid: header::series_uid(previous, class.kind()),
            sop_instance_uid: previous.artefact_uid(class.kind()),
        };
        Predecessor {
            comprehensive_3d: named(SrClass::Comprehensive3d),
            comprehensive: named(SrClass::Comprehensive),
        }
    }

    fn named(&self, class: SrClass) -> &Named {
        match class {
            SrClass::Comprehensive3d => &self.comprehensive_3d,
            SrClass::Comprehensive => &self.comprehensive,
        }
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
