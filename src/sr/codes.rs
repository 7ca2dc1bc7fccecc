//! Codes of PS3.16 that more than one object uses.

use crate::domain::code::Code;
use crate::domain::finding::Finding;

/// 0 to 100 with one decimal; nothing for what is no number.
pub fn percent(probability: Option<f64>) -> Option<f64> {
    let probability = probability.filter(|p| p.is_finite())?;
    Some((probability.clamp(0.0, 1.0) * 1000.0).round() / 10.0)
}

/// PS3.16 CID 29, and CID 33 for the rest.
pub fn modality(modality: &str) -> Code {
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

pub fn comment() -> Code {
    dcm("121106", "Comment")
}

pub fn millimetre() -> Code {
    Code::new("mm", "UCUM", "mm")
}

pub fn dcm(value: &str, meaning: &str) -> Code {
    Code::new(value, "DCM", meaning)
}

pub fn sct(value: &str, meaning: &str) -> Code {
    Code::new(value, "SCT", meaning)
}

pub fn side(finding: &Finding) -> String {
    let side = finding.laterality.map(|side| side.code().meaning.to_lowercase());
    side.map(|side| format!(", {side}")).unwrap_or_default()
}
