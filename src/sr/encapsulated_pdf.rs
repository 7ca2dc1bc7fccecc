//! The report for people as an Encapsulated PDF (PS3.3 A.45.1), for archives and viewers that
//! show no structured report.

use dicom_core::DataElement;
use dicom_core::PrimitiveValue;
use dicom_core::VR;
use dicom_dictionary_std::tags;
use dicom_dictionary_std::uids;

use crate::domain::assessment::Assessment;
use crate::domain::code::Code;
use crate::sr::Equipment;
use crate::sr::SrError;
use crate::sr::content_item::code;
use crate::sr::content_item::reference;
use crate::sr::content_item::sequence;
use crate::sr::header;
use crate::sr::text;

const KIND: header::Kind = header::Kind {
    kind: "pdf",
    sop_class_uid: uids::ENCAPSULATED_PDF_STORAGE,
    modality: "DOC",
    series_number: 9002,
    title: "AI report",
};

/// The PDF with the header of its study.
///
/// Its SOP Instance UID also depends on the pages: they tell who was told by then.
///
/// - `source_sr`: SOP Instance UID of the structured report (88.34) with the same content.
///
/// # Errors
/// [`SrError::NotPdf`] and [`SrError::TooLarge`]: an archive shows what we call a PDF as one.
pub fn encapsulated_pdf(
    a: &Assessment,
    node: &Equipment,
    pdf: &[u8],
    source_sr: Option<&str>,
) -> Result<Vec<u8>, SrError> {
    if !pdf.starts_with(b"%PDF-") {
        return Err(SrError::NotPdf);
    }
    let length = u32::try_from(pdf.len()).ok().filter(|&n| n < u32::MAX - 2);
    let length = length.ok_or(SrError::TooLarge { size_bytes: pdf.len() })?;
    let mut object = header::common(a, node, &KIND);

    let pages = blake3::hash(pdf).to_hex();
    let uid = a.artefact_uid(&format!("{} {pages}", KIND.kind));
    object.put_str(tags::SOP_INSTANCE_UID, VR::UI, uid);
    object.put_str(tags::CONVERSION_TYPE, VR::CS, "WSD");
    // The pages name the patient.
    object.put_str(tags::BURNED_IN_ANNOTATION, VR::CS, "YES");
    // Acquisition DateTime is Type 2: a report has none.
    object.put(DataElement::empty(tags::ACQUISITION_DATE_TIME, VR::DT));
    let title = format!("PRELIMINARY report by software, unverified: {}", a.examination);
    object.put_str(tags::DOCUMENT_TITLE, VR::ST, text::long(&title, 1024));
    let concept = Code::new("18748-4", "LN", "Diagnostic Imaging Report");
    object.put(sequence(tags::CONCEPT_NAME_CODE_SEQUENCE, vec![code(&concept)]));
    object.put_str(tags::VERIFICATION_FLAG, VR::CS, "UNVERIFIED");
    if let Some(uid) = source_sr {
        let source = reference(uids::COMPREHENSIVE3_DSR_STORAGE, uid);
        object.put(sequence(tags::SOURCE_INSTANCE_SEQUENCE, vec![source]));
    }
    object.put_str(tags::MIME_TYPE_OF_ENCAPSULATED_DOCUMENT, VR::LO, "application/pdf");
    let mut document = pdf.to_vec();
    document.resize(pdf.len() + pdf.len() % 2, 0);
    object.put(DataElement::new(
        tags::ENCAPSULATED_DOCUMENT,
        VR::OB,
        PrimitiveValue::from(document),
    ));
    let length = PrimitiveValue::from(length);
    object.put(DataElement::new(tags::ENCAPSULATED_DOCUMENT_LENGTH, VR::UL, length));
    header::part_10(object)
}
