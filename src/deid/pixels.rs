//! Burned-in text (PS3.15 E.3.1). Fails closed: the attribute Burned In Annotation is often
//! missing where text is, so kinds of images decide (`US1_UNCR` of the WG04 samples shows a
//! hospital and numbers and has no such attribute).

use crate::domain::picture::PixelRule;
use crate::domain::study::Instance;

/// Where pictures go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// They stay inside: the local model, the report, a gateway that is `inside_the_building`.
    Inside,
    Outside,
}

/// Why pictures may not go out, for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Held {
    pub reason: String,
}

/// Modalities whose own objects carry no burned-in text, unless something says so.
const CLEAN: [&str; 7] = ["CR", "DX", "CT", "MR", "MG", "PT", "IO"];

/// Which pixels of these instances may be shown to a model at `to`.
///
/// # Errors
/// [`Held`] when one of them may show text that cannot be cut away.
pub fn pixels<'a>(
    instances: impl IntoIterator<Item = &'a Instance>,
    to: Destination,
) -> Result<PixelRule, Held> {
    if to == Destination::Inside {
        return Ok(PixelRule::Keep);
    }
    let (mut clean, mut cut) = (false, false);
    for instance in instances.into_iter().filter(|instance| instance.has_pixels) {
        match risk(instance) {
            None => clean = true,
            Some(_) if instance.modality.trim() == "US" && has_regions(instance) => cut = true,
            Some(why) => {
                return Err(Held {
                    reason: format!("pictures may show a name and are not sent out: {why}"),
                });
            }
        }
    }
    match (clean, cut) {
        (true, true) => Err(Held {
            reason: "ultrasound and other images in one study cannot be cut by one rule".into(),
        }),
        (false, true) => Ok(PixelRule::OnlyUltrasoundRegions),
        (_, false) => Ok(PixelRule::Keep),
    }
}

/// Why an instance may carry burned-in text.
fn risk(instance: &Instance) -> Option<String> {
    let modality = instance.modality.trim().to_uppercase();
    let class = instance.sop_class_uid.as_str();
    let says = |why: &str| Some(why.to_owned());
    if instance.burned_in_annotation.trim().eq_ignore_ascii_case("YES") {
        return says("the header says so (Burned In Annotation)");
    }
    if !instance.conversion_type.trim().is_empty() {
        return says("a scanned or converted picture (Conversion Type)");
    }
    if class == SECONDARY_CAPTURE || class.starts_with("1.2.840.10008.5.1.4.1.1.7.") {
        return says("Secondary Capture");
    }
    let screen = instance.image_type.iter().any(|value| {
        let value = value.trim().to_uppercase();
        value.contains("SCREEN") || value.contains("DOSE")
    });
    if screen {
        return says("a saved screen");
    }
    match CLEAN.contains(&modality.as_str()) {
        true => None,
        // The header's own word is not repeated: it may be anything.
        false => Some(match crate::domain::context::modality(&modality) {
            Some(known) => format!("modality {known}"),
            None => "an unknown modality".into(),
        }),
    }
}

const SECONDARY_CAPTURE: &str = "1.2.840.10008.5.1.4.1.1.7";

fn has_regions(instance: &Instance) -> bool {
    let is_area = |[x0, y0, x1, y1]: &[u32; 4]| x1 > x0 && y1 > y0;
    !instance.ultrasound_regions.is_empty() && instance.ultrasound_regions.iter().all(is_area)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(
        modality: &str,
        class: &str,
        conversion: &str,
        burned: &str,
        regions: &[[u32; 4]],
    ) -> Instance {
        serde_json::from_value(serde_json::json!({
            "sop_instance_uid": "1.2.3", "sop_class_uid": class, "series_uid": "1.2",
            "transfer_syntax_uid": "1.2.840.10008.1.2.1", "object": "o", "modality": modality,
            "series_description": "", "protocol_name": "", "body_part_examined": "", "view_position": "",
            "laterality": "", "patient_orientation": [], "image_type": ["ORIGINAL", "PRIMARY"],
            "conversion_type": conversion, "burned_in_annotation": burned, "manufacturer": "",
            "manufacturer_model_name": "", "station_name": "", "acquired_date": "", "acquired_time": "",
            "rows": 9, "columns": 9, "number_of_frames": 1, "samples_per_pixel": 1, "bits_allocated": 8,
            "bits_stored": 8, "pixel_representation": 0, "photometric_interpretation": "MONOCHROME2",
            "has_pixels": true, "window_center": [], "window_width": [], "frame_of_reference_uid": "",
            "lossy_image_compression": "", "ultrasound_regions": regions,
        }))
        .unwrap()
    }

    #[test]
    fn what_may_show_a_name_is_not_sent_out() {
        const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
        const SC: &str = SECONDARY_CAPTURE;
        let region = [[0, 10, 100, 90]];
        // modality, SOP class, Conversion Type, Burned In Annotation, regions; the rule, if any
        type Row<'a> = (&'a str, &'a str, &'a str, &'a str, &'a [[u32; 4]], Option<PixelRule>);
        let rows: [Row; 19] = [
            ("CT", CT, "", "", &[], Some(PixelRule::Keep)),
            ("CR", CT, "", "NO", &[], Some(PixelRule::Keep)),
            ("MG", CT, "", "", &[], Some(PixelRule::Keep)),
            ("US", CT, "", "", &region, Some(PixelRule::OnlyUltrasoundRegions)),
            ("US", CT, "", "YES", &region, Some(PixelRule::OnlyUltrasoundRegions)),
            ("US", CT, "", "", &[], None),
            ("US", CT, "", "NO", &[], None),
            ("US", CT, "", "", &[[5, 5, 5, 9]], None),
            ("CT", CT, "", "YES", &[], None),
            ("CT", SC, "", "", &[], None),
            ("CR", CT, "DF", "NO", &[], None),
            ("OT", CT, "", "NO", &[], None),
            ("SC", SC, "", "NO", &[], None),
            ("XC", CT, "", "", &[], None),
            ("ES", CT, "", "", &[], None),
            ("OP", CT, "", "", &[], None),
            ("RF", CT, "", "", &[], None),
            ("XA", CT, "", "", &[], None),
            ("", CT, "", "", &[], None),
        ];
        for (modality, class, conversion, burned, regions, expected) in rows {
            let one = instance(modality, class, conversion, burned, regions);
            let found = pixels([&one], Destination::Outside);
            assert_eq!(
                found.clone().ok(),
                expected,
                "{modality} {class} {conversion} {burned}: {found:?}"
            );
            assert_eq!(pixels([&one], Destination::Inside), Ok(PixelRule::Keep));
        }
    }

    #[test]
    fn one_risky_instance_holds_the_study() {
        let clean = instance("CT", "1.2.840.10008.5.1.4.1.1.2", "", "", &[]);
        let screen = instance("CT", SECONDARY_CAPTURE, "", "", &[]);
        let cine = instance("US", "1.2.840.10008.5.1.4.1.1.3.1", "", "", &[[0, 0, 5, 5]]);
        assert!(pixels([&clean, &screen], Destination::Outside).is_err());
        assert!(pixels([&clean, &cine], Destination::Outside).is_err());
        let name = instance("DOE^JANE", "1.2.3", "", "", &[]);
        let reason = pixels([&name], Destination::Outside).unwrap_err().reason;
        assert!(!reason.contains("DOE"), "{reason}");
    }
}
