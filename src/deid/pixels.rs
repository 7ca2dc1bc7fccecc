//! Burned-in text (PS3.15 E.3.1). Fails closed: the attribute Burned In Annotation is often
//! missing where text is, so kinds of images decide (`US1_UNCR` of the WG04 samples shows a
//! hospital and numbers and has no such attribute).

use crate::deid::Config;
use crate::deid::Policy;
use crate::deid::config::Inside;
use crate::deid::config::Unsure;
use crate::deid::text;
use crate::domain::picture::Masks;
use crate::domain::picture::PixelRule;
use crate::domain::study::Excluded;
use crate::domain::study::Instance;

/// What of a study's pixels may be shown to a gateway.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Leaving {
    /// Whether it is for one outside the building.
    pub outside: bool,
    pub masks: Masks,
    /// Not shown, and why. The rest of the study is.
    pub left_out: Vec<Excluded>,
    /// Why nothing of it is shown.
    pub held: Option<String>,
    /// Whether nothing is shown, either, when it is unsure of some of the text.
    pub hold_unsure: bool,
    /// Images that may show text and are shown as they are.
    pub as_they_are: u32,
}

const RADIOGRAPHS: [&str; 4] = ["CR", "DX", "MG", "IO"];
/// Modalities whose own slices rarely carry burned-in text, unless something says so.
const PLAIN: [&str; 3] = ["CT", "MR", "PT"];
const ULTRASOUND: [&str; 2] = ["US", "IVUS"];
const PHOTOGRAPHS: [&str; 6] = ["XC", "ES", "OP", "OPT", "GM", "SM"];

/// What may be shown inside the building: all of it, but text that speaks to a model.
pub fn staying<'a>(instances: impl IntoIterator<Item = &'a Instance>, config: &Config) -> Leaving {
    let mut staying = begin(config);
    if config.burned_in_text.inside == Inside::MaskInstructions {
        let shown = instances.into_iter().filter(|instance| instance.has_pixels);
        let rules = shown.map(|one| (one.sop_instance_uid.clone(), PixelRule::Instructions));
        staying.masks.rules.extend(rules);
    }
    staying
}

fn begin(config: &Config) -> Leaving {
    let (text_percent_max, edge_max_px) = (config.text_percent_max, text::EDGE_MAX);
    let masks = Masks { text_percent_max, edge_max_px, ..Masks::default() };
    Leaving { masks, ..Leaving::default() }
}

/// Decides on each instance by its kind what may be shown outside the building.
pub fn leaving<'a>(instances: impl IntoIterator<Item = &'a Instance>, config: &Config) -> Leaving {
    let hold_unsure = config.burned_in_text.unsure == Unsure::Hold;
    let mut leaving = Leaving { outside: true, hold_unsure, ..begin(config) };
    for instance in instances.into_iter().filter(|instance| instance.has_pixels) {
        let (policy, why) = policy(instance, config);
        let sop_instance_uid = instance.sop_instance_uid.clone();
        match (policy, why) {
            (Policy::Send, None) => {}
            (Policy::Send, Some(_)) => leaving.as_they_are += 1,
            (Policy::Mask, _) => {
                let is_ultrasound = ULTRASOUND.contains(&modality(instance).as_str());
                let rule = match is_ultrasound && has_regions(instance) {
                    true => PixelRule::TextAndOutsideRegions,
                    false => PixelRule::Text,
                };
                leaving.masks.rules.insert(sop_instance_uid, rule);
            }
            (Policy::LeaveOut, why) => {
                let why = why.unwrap_or_else(|| "the configuration says so".into());
                let reason = format!("not sent out, it may show a name: {why}");
                leaving.left_out.push(Excluded { sop_instance_uid, reason });
            }
            (Policy::Hold, why) => {
                let why = why.unwrap_or_else(|| "the configuration says so".into());
                let reason = format!("pictures may show a name and are not sent out: {why}");
                leaving.held.get_or_insert(reason);
            }
        }
    }
    match leaving.held {
        Some(why) => Leaving { outside: true, held: Some(why), ..Leaving::default() },
        None => leaving,
    }
}

/// The strictest policy of the kinds that an instance is of, and why it may carry text.
fn policy(instance: &Instance, config: &Config) -> (Policy, Option<String>) {
    let by_kind = &config.burned_in_text;
    let modality = modality(instance);
    // The header's own word is not repeated: it may be anything.
    let known = || match crate::domain::context::modality(&modality) {
        Some(known) => format!("modality {known}"),
        None => "an unknown modality".into(),
    };
    let own = match modality.as_str() {
        modality if RADIOGRAPHS.contains(&modality) => (by_kind.radiograph, None),
        modality if PLAIN.contains(&modality) => (by_kind.plain, None),
        modality if ULTRASOUND.contains(&modality) => (by_kind.ultrasound, Some(known())),
        modality if PHOTOGRAPHS.contains(&modality) => (by_kind.photograph, Some(known())),
        _ => (by_kind.other, Some(known())),
    };
    let stated =
        instance.burned_in_annotation.trim().eq_ignore_ascii_case("YES").then(|| {
            (by_kind.stated, Some("the header says so (Burned In Annotation)".to_owned()))
        });
    let captured = captured(instance).map(|why| (by_kind.capture, Some(why.to_owned())));
    let all = [Some(own), captured, stated].into_iter().flatten();
    // The last of equals: what the header says itself is the better reason.
    all.max_by_key(|(policy, _)| *policy).unwrap_or((Policy::Hold, None))
}

fn modality(instance: &Instance) -> String {
    instance.modality.trim().to_uppercase()
}

/// Why an instance is no original image of its modality.
fn captured(instance: &Instance) -> Option<&'static str> {
    let class = instance.sop_class_uid.as_str();
    let is_screen = |value: &String| {
        let value = value.to_uppercase();
        value.contains("SCREEN") || value.contains("DOSE")
    };
    if !instance.conversion_type.trim().is_empty() {
        return Some("a scanned or converted picture (Conversion Type)");
    }
    if class == SECONDARY_CAPTURE || class.starts_with("1.2.840.10008.5.1.4.1.1.7.") {
        return Some("Secondary Capture");
    }
    instance.image_type.iter().any(is_screen).then_some("a saved screen")
}

const SECONDARY_CAPTURE: &str = "1.2.840.10008.5.1.4.1.1.7";

fn has_regions(instance: &Instance) -> bool {
    let is_area = |[x0, y0, x1, y1]: &[u32; 4]| x1 > x0 && y1 > y0;
    !instance.ultrasound_regions.is_empty() && instance.ultrasound_regions.iter().all(is_area)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deid::config::BurnedInText;
    use crate::domain::uid::SopInstanceUid;

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

    const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
    const SC: &str = SECONDARY_CAPTURE;
    const MASK: Option<PixelRule> = Some(PixelRule::Text);
    const REGIONS: Option<PixelRule> = Some(PixelRule::TextAndOutsideRegions);

    #[test]
    fn what_may_show_a_name_is_masked() {
        let region = [[0, 10, 100, 90]];
        // modality, SOP class, Conversion Type, Burned In Annotation, regions; the rule, if any
        type Row<'a> = (&'a str, &'a str, &'a str, &'a str, &'a [[u32; 4]], Option<PixelRule>);
        let rows: [Row; 21] = [
            ("CT", CT, "", "", &[], MASK),
            ("MR", CT, "", "NO", &[], MASK),
            ("CR", CT, "", "NO", &[], MASK),
            ("MG", CT, "", "", &[], MASK),
            ("US", CT, "", "", &region, REGIONS),
            ("US", CT, "", "YES", &region, REGIONS),
            ("US", SC, "", "", &region, REGIONS),
            ("US", CT, "", "", &[], MASK),
            ("US", CT, "", "NO", &[], MASK),
            ("US", CT, "", "", &[[5, 5, 5, 9]], MASK),
            ("CT", CT, "", "YES", &region, MASK),
            ("CT", SC, "", "", &[], MASK),
            ("CR", CT, "DF", "NO", &[], MASK),
            ("OT", CT, "", "NO", &[], MASK),
            ("SC", SC, "", "NO", &[], MASK),
            ("XC", CT, "", "", &[], MASK),
            ("ES", CT, "", "", &[], MASK),
            ("OP", CT, "", "", &[], MASK),
            ("RF", CT, "", "", &[], MASK),
            ("XA", CT, "", "", &[], MASK),
            ("", CT, "", "", &[], MASK),
        ];
        for (modality, class, conversion, burned, regions, expected) in rows {
            let one = instance(modality, class, conversion, burned, regions);
            let found = leaving([&one], &Config::default());
            let rule = found.masks.rules.get(&one.sop_instance_uid).copied();
            assert_eq!(rule, expected, "{modality} {class} {conversion} {burned}: {found:?}");
            assert_eq!((found.held, found.left_out.len(), found.as_they_are), (None, 0, 0));
        }
    }

    /// Each kind has its own policy, and the strictest of those that fit counts.
    #[test]
    fn a_site_says_what_is_done_with_each_kind() {
        use Policy::*;
        let (radiograph, plain, ultrasound, capture) = (Hold, Send, Mask, LeaveOut);
        let (photograph, other, stated) = (Send, LeaveOut, Hold);
        let config = Config {
            burned_in_text: BurnedInText {
                radiograph,
                plain,
                ultrasound,
                capture,
                photograph,
                other,
                stated,
                ..BurnedInText::default()
            },
            ..Config::default()
        };
        for (modality, class, burned, expected) in [
            ("CT", CT, "", Send),
            ("DX", CT, "", Hold),
            ("CT", CT, "YES", Hold),
            ("CT", SC, "", LeaveOut),
            ("CT", SC, "YES", Hold),
            ("US", CT, "", Mask),
            ("US", SC, "", LeaveOut),
            ("XC", CT, "", Send),
            ("XC", SC, "", LeaveOut),
            ("NM", CT, "", LeaveOut),
        ] {
            let one = instance(modality, class, "", burned, &[]);
            let found = policy(&one, &config).0;
            assert_eq!(found, expected, "{modality} {class} {burned}");
        }
        let photo = leaving([&instance("XC", CT, "", "", &[])], &config);
        assert_eq!((photo.as_they_are, photo.masks.rules.len()), (1, 0), "sent, and said so");
    }

    #[test]
    fn one_risky_instance_leaves_the_others_as_they_are() {
        let clean = instance("CT", CT, "", "", &[]);
        let mut screen = instance("CT", SC, "", "", &[]);
        screen.sop_instance_uid = SopInstanceUid::parse("1.2.4").unwrap();
        let mut config = Config::default();
        config.burned_in_text.plain = Policy::Send;
        let masked = leaving([&clean, &screen], &config);
        assert_eq!(masked.masks.rules.len(), 1);
        assert_eq!(masked.masks.rules.get(&screen.sop_instance_uid), MASK.as_ref());
        config.burned_in_text.capture = Policy::LeaveOut;
        let left = leaving([&clean, &screen], &config);
        assert_eq!((left.left_out.len(), left.held), (1, None));
        assert_eq!(left.left_out[0].sop_instance_uid, screen.sop_instance_uid);
        config.burned_in_text.capture = Policy::Hold;
        let held = leaving([&clean, &screen], &config).held.unwrap();
        assert!(held.ends_with("Secondary Capture"), "{held}");
        config.burned_in_text.other = Policy::Hold;
        let name = instance("DOE^JANE", "1.2.3", "", "", &[]);
        let reason = leaving([&name], &config).held.unwrap();
        assert!(!reason.contains("DOE"), "{reason}");
    }
}
