//! What no validator sees: the objects read back and compared with the assessment, the source and
//! each other.

use std::collections::BTreeSet;

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use crate::domain::assessment::Assessment;
use crate::domain::finding::Presence;
use crate::domain::key_image::KeyImage;
use crate::domain::sample;
use crate::sr::Document;
use crate::sr::Equipment;
use crate::sr::Shown;
use crate::sr::SrClass;
use crate::sr::SrError;
use crate::sr::SrOptions;
use crate::sr::encapsulated_pdf;
use crate::sr::key_image;
use crate::sr::key_objects;
use crate::sr::presentation_states;
use crate::sr::samples;
use crate::sr::structured_report;
use crate::sr::text;

/// A content item, flat: its place, what it is, what it says.
#[derive(Debug, Clone)]
struct Read {
    /// Code values of the items above.
    path: Vec<String>,
    relationship: String,
    value_type: String,
    name: String,
    /// Code value, text, number or UID.
    value: String,
    object: InMemDicomObject,
}

fn string(object: &InMemDicomObject, tag: Tag) -> String {
    let value = object.get(tag).map(|element| element.to_str().unwrap().into_owned());
    value.unwrap_or_default().trim_end_matches(['\0', ' ']).to_owned()
}

fn items(object: &InMemDicomObject, tag: Tag) -> &[InMemDicomObject] {
    object.get(tag).and_then(|element| element.items()).unwrap_or_default()
}

fn code(object: &InMemDicomObject, tag: Tag) -> String {
    let first = items(object, tag).first();
    first
        .map(|item| string(item, tags::CODE_VALUE) + &string(item, tags::LONG_CODE_VALUE))
        .unwrap_or_default()
}

fn read(bytes: &[u8]) -> InMemDicomObject {
    dicom_object::from_reader(bytes).unwrap().into_inner()
}

fn tree(object: &InMemDicomObject) -> Vec<Read> {
    fn walk(object: &InMemDicomObject, path: &[String], found: &mut Vec<Read>) {
        let value_type = string(object, tags::VALUE_TYPE);
        let name = code(object, tags::CONCEPT_NAME_CODE_SEQUENCE);
        let value = match value_type.as_str() {
            "CODE" => code(object, tags::CONCEPT_CODE_SEQUENCE),
            "TEXT" => string(object, tags::TEXT_VALUE),
            "UIDREF" => string(object, tags::UID),
            "NUM" => string(&items(object, tags::MEASURED_VALUE_SEQUENCE)[0], tags::NUMERIC_VALUE),
            _ => String::new(),
        };
        let relationship = string(object, tags::RELATIONSHIP_TYPE);
        let path_here = path.to_vec();
        let below: Vec<String> = path.iter().chain([&name]).cloned().collect();
        let object_here = object.clone();
        found.push(Read {
            path: path_here,
            relationship,
            value_type,
            name,
            value,
            object: object_here,
        });
        items(object, tags::CONTENT_SEQUENCE).iter().for_each(|item| walk(item, &below, found));
    }
    let mut found = Vec::new();
    walk(object, &[], &mut found);
    found
}

fn report(a: &Assessment, options: &SrOptions) -> InMemDicomObject {
    read(&structured_report(a, &Equipment::default(), options).unwrap())
}

fn wrapped(a: &Assessment) -> InMemDicomObject {
    let uid = a.artefact_uid("sr");
    read(&encapsulated_pdf(a, &Equipment::default(), b"%PDF-1.4 odd", Some(&uid)).unwrap())
}

/// Measurement groups with their template.
fn groups(object: &InMemDicomObject) -> Vec<(String, Vec<Read>)> {
    let is_group = |item: &&Read| item.name == "125007";
    let template = |item: &Read| {
        string(&items(&item.object, tags::CONTENT_TEMPLATE_SEQUENCE)[0], tags::TEMPLATE_IDENTIFIER)
    };
    tree(object).iter().filter(is_group).map(|item| (template(item), tree(&item.object))).collect()
}

fn values(tree: &[Read], name: &str) -> Vec<String> {
    tree.iter().filter(|item| item.name == name).map(|item| item.value.clone()).collect()
}

/// Key images, presentation states and the key object selection.
fn others(a: &Assessment) -> Vec<InMemDicomObject> {
    let node = Equipment::default();
    let images = samples::marked(a);
    let drawn = samples::drawn(a);
    let key = |(nth, image)| key_image(a, &node, image, &drawn, nth + 1).unwrap();
    let mut all: Vec<Vec<u8>> = images.iter().enumerate().map(key).collect();
    all.extend(presentation_states(a, &node, &samples::shown(a)).unwrap());
    all.extend(key_objects(a, &node).unwrap());
    all.iter().map(|bytes| read(bytes)).collect()
}

/// All objects that a data set names by SOP Instance UID, wherever it does.
fn named(object: &InMemDicomObject) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for element in object.iter() {
        if element.header().tag == tags::REFERENCED_SOP_INSTANCE_UID {
            found.insert(string(object, tags::REFERENCED_SOP_INSTANCE_UID));
        }
        element.items().unwrap_or_default().iter().for_each(|item| found.extend(named(item)));
    }
    found
}

#[test]
fn what_points_at_images_points_at_those_of_present_findings() {
    for sample in samples::all() {
        let a = &sample.assessment;
        let (patient, study) = (&a.study.patient, &a.study.attributes);
        let objects = others(a);
        let has_findings = a.present().next().is_some();
        assert_eq!(!objects.is_empty(), has_findings, "{}", sample.name);
        let mut rest: BTreeSet<String> = BTreeSet::new();
        for finding in a.present() {
            let regions = finding.regions.iter().map(|region| &region.image);
            let images = finding.evidence.iter().chain(regions);
            rest.extend(images.map(|image| image.sop_instance_uid.as_str().to_owned()));
        }
        // A finding without evidence rests on what was shown.
        rest.extend(a.pictures.iter().map(|p| p.image.sop_instance_uid.as_str().to_owned()));
        let mut uids = BTreeSet::new();
        for object in &objects {
            let kind = string(object, tags::SERIES_DESCRIPTION);
            assert!(kind.ends_with("(PRELIMINARY)"), "{kind}");
            assert!(uids.insert(string(object, tags::SOP_INSTANCE_UID)), "{kind}");
            assert_eq!(string(object, tags::PATIENT_NAME), patient.name.to_dicom());
            assert_eq!(string(object, tags::PATIENT_ID), text::identity(&patient.id));
            assert_eq!(string(object, tags::STUDY_INSTANCE_UID), a.study.study_uid.as_str());
            assert_eq!(string(object, tags::ACCESSION_NUMBER), study.accession_number);
            let equipment = &items(object, tags::CONTRIBUTING_EQUIPMENT_SEQUENCE)[0];
            assert_eq!(string(equipment, tags::DEVICE_UID), a.algorithm.device_uid);
            let named = named(object);
            assert!(!named.is_empty() && named.is_subset(&rest), "{kind}: {named:?}");
        }
    }
}

#[test]
fn a_key_image_says_what_it_was_made_of_and_cannot_be_measured_on() {
    let a = samples::ultrasound();
    let images = samples::marked(&a);
    assert_eq!(images.len(), 2, "two frames of one clip");
    let of = |image, drawn: &KeyImage| {
        read(&key_image(&a, &Equipment::default(), image, drawn, 2).unwrap())
    };
    let drawn = samples::drawn(&a);
    let object = of(&images[1], &drawn);
    let source = &items(&object, tags::SOURCE_IMAGE_SEQUENCE)[0];
    assert_eq!(code(source, tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE), "121322");
    assert_eq!(string(source, tags::REFERENCED_FRAME_NUMBER), "30");
    for (tag, value) in [
        (tags::IMAGE_TYPE, "DERIVED\\SECONDARY"),
        (tags::CONVERSION_TYPE, "WSD"),
        (tags::PHOTOMETRIC_INTERPRETATION, "RGB"),
        (tags::LOSSY_IMAGE_COMPRESSION, "01"),
        (tags::LOSSY_IMAGE_COMPRESSION_RATIO, "12.5"),
        (tags::PIXEL_ASPECT_RATIO, "8000\\10000"),
        (tags::INSTANCE_NUMBER, "2"),
    ] {
        assert_eq!(string(&object, tag), value, "{tag}");
    }
    for absent in [tags::PIXEL_SPACING, tags::IMAGER_PIXEL_SPACING, tags::BURNED_IN_ANNOTATION] {
        assert!(object.get(absent).is_none(), "{absent}: devices write into ultrasound pixels");
    }
    let pixels = object.element(tags::PIXEL_DATA).unwrap().to_bytes().unwrap();
    assert_eq!(pixels.len(), (33 * 21 * 3_usize).next_multiple_of(2));
    let mut other = drawn.clone();
    other.pixels[0] ^= 1;
    let uid = |object: &InMemDicomObject| string(object, tags::SOP_INSTANCE_UID);
    assert_ne!(uid(&object), uid(&of(&images[1], &other)), "other pixels, another name");
    assert_ne!(uid(&object), uid(&of(&images[0], &drawn)));
    let chest = sample::positive_chest();
    let image = &samples::marked(&chest)[0];
    let made = key_image(&chest, &Equipment::default(), image, &samples::drawn(&chest), 1).unwrap();
    assert_eq!(string(&read(&made), tags::BURNED_IN_ANNOTATION), "NO");
}

#[test]
fn pixels_that_are_higher_than_wide_are_so_in_each_derived_object() {
    for (spacing, imager, stated, said) in [
        (None, Some([0.4, 0.2]), None, Some("10000\\5000")),
        (Some([0.2, 0.4]), Some([0.4, 0.2]), Some([1.0, 3.0]), Some("5000\\10000")),
        (None, None, Some([4.0, 3.0]), Some("10000\\7500")),
        (Some([0.2, 0.2]), None, Some([4.0, 3.0]), None),
        (None, None, None, None),
    ] {
        let mut a = sample::positive_chest();
        for instance in &mut a.study.instances {
            (instance.pixel_spacing_mm, instance.imager_pixel_spacing_mm) = (spacing, imager);
        }
        let drawn = KeyImage { aspect: stated, ..samples::drawn(&a) };
        let made = key_image(&a, &Equipment::default(), &samples::marked(&a)[0], &drawn, 1);
        let object = read(&made.unwrap());
        let ratio = object.get(tags::PIXEL_ASPECT_RATIO).is_some();
        let ratio = ratio.then(|| string(&object, tags::PIXEL_ASPECT_RATIO));
        assert_eq!(ratio.as_deref(), said, "{spacing:?} {imager:?} {stated:?}");
        let mut shown = samples::shown(&a);
        shown.iter_mut().for_each(|one| one.aspect = stated);
        for state in presentation_states(&a, &Equipment::default(), &shown).unwrap() {
            let state = read(&state);
            let area = &items(&state, tags::DISPLAYED_AREA_SELECTION_SEQUENCE)[0];
            let ratio = string(area, tags::PRESENTATION_PIXEL_ASPECT_RATIO);
            assert_eq!(ratio, said.unwrap_or("1\\1"), "{spacing:?} {imager:?} {stated:?}");
        }
    }
}

#[test]
fn a_presentation_state_shows_grey_levels_as_the_key_image_and_each_region() {
    let a = sample::positive_chest();
    let state = |shown: &[Shown]| presentation_states(&a, &Equipment::default(), shown).unwrap();
    let shown = samples::shown(&a);
    let states = state(&shown);
    assert_eq!(states.len(), 1);
    let object = read(&states[0]);
    assert_eq!(string(&object, tags::RESCALE_INTERCEPT), "-1024");
    assert_eq!(string(&object, tags::PRESENTATION_LUT_SHAPE), "INVERSE");
    let voi = &items(&object, tags::SOFTCOPY_VOILUT_SEQUENCE)[0];
    let lut = &items(voi, tags::VOILUT_SEQUENCE)[0];
    let descriptor = lut.element(tags::LUT_DESCRIPTOR).unwrap().to_multi_int::<i32>().unwrap();
    assert_eq!(descriptor, [400, -5, 16]);
    let annotation = &items(&object, tags::GRAPHIC_ANNOTATION_SEQUENCE)[0];
    let graphics = items(annotation, tags::GRAPHIC_OBJECT_SEQUENCE);
    assert_eq!(graphics.len(), 2, "one for each region");
    let points = graphics[0].element(tags::GRAPHIC_DATA).unwrap().to_multi_float32().unwrap();
    assert_eq!(points[..4], [1240.0, 380.0, 1760.0, 380.0]);
    let texts = items(annotation, tags::TEXT_OBJECT_SEQUENCE);
    let said: Vec<String> = texts.iter().map(|t| string(t, tags::UNFORMATTED_TEXT_VALUE)).collect();
    assert!(said[0].starts_with("AI, PRELIMINARY, "), "{said:?}");
    assert_eq!(said[1], "F1 Pneumothorax, left, 93%");
    // Another way from stored values to grey levels is another state.
    let mut b = a.clone();
    let lateral = sample::image_of(&b.study.instances[1]);
    b.findings[1].regions[0].image = lateral.clone();
    let mut two = shown.clone();
    two.push(Shown { image: lateral, ..shown[0].clone() });
    let of_both =
        |shown: &[Shown]| presentation_states(&b, &Equipment::default(), shown).unwrap().len();
    assert_eq!(of_both(&two), 1);
    two[1].grey.rescale = None;
    assert_eq!(of_both(&two), 2);
    assert_eq!(state(&[]).len(), 0);
}

#[test]
fn every_object_is_filed_with_its_study() {
    for sample in samples::all() {
        let a = &sample.assessment;
        let (patient, study) = (&a.study.patient, &a.study.attributes);
        let sr = report(a, &sample.options);
        let pdf = wrapped(a);
        for object in [&sr, &pdf] {
            let expected = [
                (tags::STUDY_INSTANCE_UID, a.study.study_uid.as_str().to_owned()),
                (tags::PATIENT_NAME, patient.name.to_dicom()),
                (tags::PATIENT_ID, text::identity(&patient.id)),
                (tags::ISSUER_OF_PATIENT_ID, patient.issuer_of_id.clone()),
                (tags::PATIENT_BIRTH_DATE, patient.birth_date.clone()),
                (tags::PATIENT_SEX, patient.sex.clone()),
                (tags::PATIENT_AGE, patient.age.clone()),
                (tags::STUDY_ID, study.study_id.clone()),
                (tags::STUDY_DATE, study.study_date.clone()),
                (tags::STUDY_TIME, study.study_time.clone()),
                (tags::ACCESSION_NUMBER, study.accession_number.clone()),
                (tags::REFERRING_PHYSICIAN_NAME, study.referring_physician_name.to_dicom()),
                (tags::STUDY_DESCRIPTION, study.study_description.clone()),
                (tags::VERIFICATION_FLAG, "UNVERIFIED".to_owned()),
            ];
            for (tag, value) in expected {
                assert_eq!(string(object, tag), value, "{tag} of {}", sample.name);
            }
            let own = string(object, tags::SERIES_INSTANCE_UID);
            assert!(a.study.instances.iter().all(|instance| instance.series_uid.as_str() != own));
            assert!(string(object, tags::SERIES_NUMBER).parse::<u32>().unwrap() >= 9000);
            assert!(string(object, tags::SERIES_DESCRIPTION).ends_with("(PRELIMINARY)"));
        }
        assert_ne!(string(&sr, tags::SERIES_INSTANCE_UID), string(&pdf, tags::SERIES_INSTANCE_UID));
        assert_eq!(string(&sr, tags::PRELIMINARY_FLAG), "PRELIMINARY");
        let complete = if a.outcome.is_read() { "COMPLETE" } else { "PARTIAL" };
        assert_eq!(string(&sr, tags::COMPLETION_FLAG), complete);
        let named: BTreeSet<String> =
            items(&sr, tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE)
                .iter()
                .flat_map(|study| items(study, tags::REFERENCED_SERIES_SEQUENCE))
                .flat_map(|series| items(series, tags::REFERENCED_SOP_SEQUENCE))
                .map(|instance| string(instance, tags::REFERENCED_SOP_INSTANCE_UID))
                .collect();
        let all = a.study.instances.iter().map(|i| i.sop_instance_uid.as_str().to_owned());
        assert_eq!(named, all.collect(), "evidence of {}", sample.name);
    }
}

#[test]
fn text_outside_ascii_comes_with_its_character_set() {
    let korean = report(&sample::positive_chest(), &SrOptions::default());
    assert_eq!(string(&korean, tags::SPECIFIC_CHARACTER_SET), "ISO_IR 192");
    let mut a = samples::negative();
    a.study.attributes.referring_physician_name = Default::default();
    let plain = report(&a, &SrOptions::default());
    assert!(plain.get(tags::SPECIFIC_CHARACTER_SET).is_none());
}

#[test]
fn the_algorithm_is_the_same_wherever_it_stands() {
    for sample in samples::all() {
        let sr = report(&sample.assessment, &sample.options);
        let tree = tree(&sr);
        let equipment = &items(&sr, tags::CONTRIBUTING_EQUIPMENT_SEQUENCE)[0];
        assert_eq!(code(equipment, tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE), "109102");
        let same = |tag: Tag, names: &[&str]| {
            let value = string(equipment, tag);
            assert!(!value.is_empty(), "{tag}");
            for found in names.iter().flat_map(|name| values(&tree, name)) {
                assert_eq!(found, value, "{tag} of {}", sample.name);
            }
        };
        same(tags::MANUFACTURER, &["121014", "122405"]);
        same(tags::MANUFACTURER_MODEL_NAME, &["121013", "121015", "111001"]);
        same(tags::SOFTWARE_VERSIONS, &["111003"]);
        same(tags::DEVICE_UID, &["121012"]);
        assert_eq!(values(&tree, "121012").len(), 1, "one observer");
        let in_pdf = wrapped(&sample.assessment);
        let in_pdf = &items(&in_pdf, tags::CONTRIBUTING_EQUIPMENT_SEQUENCE)[0];
        assert_eq!(string(in_pdf, tags::DEVICE_UID), string(equipment, tags::DEVICE_UID));
    }
}

#[test]
fn every_finding_is_tracked_inside_its_image_and_between_0_and_100_percent() {
    for sample in samples::all() {
        let a = &sample.assessment;
        let sr = report(a, &sample.options);
        let groups = groups(&sr);
        for (template, group) in &groups {
            let id = &values(group, "112039")[0];
            let finding = a.findings.iter().find(|finding| finding.id == *id).unwrap();
            assert_eq!(finding.presence, Presence::Present, "{id} of {}", sample.name);
            assert_eq!(values(group, "112040"), [finding.tracking_uid.as_str()]);
            assert_eq!(values(group, "121071").len(), 1);
            assert_eq!(values(group, "111003").len(), 1, "its algorithm");
            let certainty = values(group, "111012");
            match template.as_str() {
                "1410" => assert!(group.iter().all(|item| item.value_type != "NUM"), "OHIF"),
                "1501" => assert!(certainty.len() <= 1),
                other => panic!("template {other}"),
            }
            for percent in certainty {
                assert!((0.0..=100.0).contains(&percent.parse::<f64>().unwrap()), "{percent}");
            }
        }
        for finding in a.present() {
            let of = |template: &str| {
                let is = |g: &&(String, Vec<Read>)| {
                    g.0 == template && values(&g.1, "112039")[0] == finding.id
                };
                groups.iter().filter(is).count()
            };
            assert_eq!(of("1501"), 1, "{} of {}", finding.id, sample.name);
            let shown =
                if sample.name == "hostile" { of("1410").min(2) } else { finding.regions.len() };
            assert_eq!(of("1410"), shown, "{} of {}", finding.id, sample.name);
        }
        let all = tree(&sr);
        let mut regions = 0;
        for region in all.iter().filter(|item| item.value_type == "SCOORD") {
            let image = &items(
                &items(&region.object, tags::CONTENT_SEQUENCE)[0],
                tags::REFERENCED_SOP_SEQUENCE,
            )[0];
            let uid = string(image, tags::REFERENCED_SOP_INSTANCE_UID);
            let instance =
                a.study.instances.iter().find(|i| i.sop_instance_uid.as_str() == uid).unwrap();
            let points =
                region.object.element(tags::GRAPHIC_DATA).unwrap().to_multi_float32().unwrap();
            assert_eq!(points.len(), 10, "a closed rectangle");
            assert_eq!(points[..2], points[8..]);
            for point in points.chunks(2) {
                assert!((0.0..=instance.columns as f32).contains(&point[0]), "{point:?}");
                assert!((0.0..=instance.rows as f32).contains(&point[1]), "{point:?}");
            }
            let frame = string(image, tags::REFERENCED_FRAME_NUMBER);
            assert_eq!(frame.is_empty(), instance.number_of_frames == 1, "{frame}");
            regions += 1;
        }
        let expected = [("positive", 2), ("ultrasound", 2), ("hostile", 2), ("negative", 0)];
        for (name, number) in expected {
            assert!(sample.name != name || regions == number, "{regions} regions in {name}");
        }
    }
}

#[test]
fn the_document_says_what_it_is_and_of_what() {
    for sample in samples::all() {
        let sr = report(&sample.assessment, &sample.options);
        let tree = tree(&sr);
        assert_eq!(tree[0].name, "126000", "title");
        assert_eq!(values(&tree, "121058").len(), 1, "procedure reported");
        let library = tree.iter().filter(|item| item.path.contains(&"111028".into()));
        let images = library.filter(|item| item.value_type == "IMAGE").count();
        assert!(images >= 1, "image library of {}", sample.name);
        let notice =
            values(&tree, "121106").into_iter().rfind(|text| text.contains("not a diagnosis"));
        assert!(notice.is_some(), "notice of {}", sample.name);
        for item in tree.iter().filter(|item| item.path.contains(&"C0034375".into())) {
            assert!(["CODE", "TEXT"].contains(&item.value_type.as_str()), "no NUM at the root");
            assert_eq!(item.relationship, "CONTAINS");
        }
    }
}

/// "No finding", "not looked for" and "failed" differ, and only what was read is ever absent.
#[test]
fn the_summary_tells_nothing_found_from_not_looked_for_and_from_failed() {
    let cases = [
        (sample::positive_chest(), &["111242"][..], &[][..], 1),
        (samples::negative(), &["111241"], &[], 3),
        (samples::partly_read(), &["111243"], &[], 2),
        (samples::ultrasound(), &["111244"], &[], 0),
        (sample::not_covered_ct(), &[], &["111225"], 0),
        (sample::needs_review(), &[], &["111224"], 0),
    ];
    for (a, processing, analyses, absent) in cases {
        let sr = report(&a, &SrOptions::default());
        let tree = tree(&sr);
        assert_eq!(values(&tree, "111017"), processing, "{:?}", a.outcome);
        assert_eq!(values(&tree, "111065"), analyses, "{:?}", a.outcome);
        let negatives = tree.iter().filter(|item| item.value == "272519000");
        assert_eq!(negatives.count(), absent, "{:?}", a.outcome);
    }
    let mut failed = sample::needs_review();
    failed.findings = samples::negative().findings;
    failed.settle();
    let tree = tree(&report(&failed, &SrOptions::default()));
    assert!(tree.iter().all(|item| item.value != "272519000"), "not read, so not absent");
}

#[test]
fn measurements_are_named_as_no_finding() {
    let sr = report(&sample::not_covered_ct(), &SrOptions::default());
    let local = tree(&sr).into_iter().filter(|item| item.name.starts_with("M-"));
    let meanings: Vec<String> = local
        .map(|item| {
            assert_eq!(item.value_type, "TEXT");
            string(&items(&item.object, tags::CONCEPT_NAME_CODE_SEQUENCE)[0], tags::CODE_MEANING)
        })
        .collect();
    assert_eq!(meanings.len(), 4);
    assert!(meanings.iter().all(|meaning| meaning.starts_with("Measurement, not a finding")));
}

/// Hydronephrosis on the right, none on the left: a code without a side would deny the right one.
#[test]
fn an_absent_side_does_not_deny_the_other() {
    let sr = report(&samples::ultrasound(), &SrOptions::default());
    let tree = tree(&sr);
    assert!(tree.iter().all(|item| item.name != "43064006"), "no (hydronephrosis) = absent");
    let texts = values(&tree, "121106");
    assert!(texts.iter().any(|text| text.starts_with("Hydronephrosis, left: absent")), "{texts:?}");
    assert_eq!(values(&tree, "389026000"), ["373068000"], "undetermined is said as a code");
}

#[test]
fn a_correction_names_what_it_replaces_and_the_same_reading_is_the_same_object() {
    let first = sample::positive_chest();
    let second = Assessment { revision: 2, ..first.clone() };
    let node = Equipment::default();
    let before = |class| {
        let options = SrOptions { class, ..SrOptions::default() };
        Document::read(&structured_report(&first, &node, &options).unwrap()).unwrap()
    };
    let options = SrOptions::new(None, SrClass::ALL.map(before).to_vec());
    let bytes = structured_report(&second, &node, &options).unwrap();
    assert_eq!(bytes, structured_report(&second, &node, &options).unwrap());
    for class in SrClass::ALL {
        let of = |options: &SrOptions| SrOptions { class, ..options.clone() };
        let (one, two) =
            (report(&first, &of(&SrOptions::default())), report(&second, &of(&options)));
        replaces(&one, &two);
    }
}

fn replaces(one: &InMemDicomObject, two: &InMemDicomObject) {
    assert!(one.get(tags::PREDECESSOR_DOCUMENTS_SEQUENCE).is_none());
    let study = &items(two, tags::PREDECESSOR_DOCUMENTS_SEQUENCE)[0];
    let series = &items(study, tags::REFERENCED_SERIES_SEQUENCE)[0];
    let instance = &items(series, tags::REFERENCED_SOP_SEQUENCE)[0];
    let same = |tag: Tag, of: &InMemDicomObject, named: Tag| {
        assert_eq!(string(one, tag), string(of, named));
    };
    same(tags::SERIES_INSTANCE_UID, series, tags::SERIES_INSTANCE_UID);
    same(tags::SOP_INSTANCE_UID, instance, tags::REFERENCED_SOP_INSTANCE_UID);
    same(tags::SOP_CLASS_UID, instance, tags::REFERENCED_SOP_CLASS_UID);
    assert_ne!(string(one, tags::SOP_INSTANCE_UID), string(two, tags::SOP_INSTANCE_UID));
}

#[test]
fn a_finding_on_another_studys_image_makes_no_report() {
    let mut a = sample::positive_chest();
    let foreign = sample::instance("1.2.999", "1.2.840.10008.5.1.4.1.1.1", "CR", 9, 1, 10, 10);
    a.findings[1].evidence.push(sample::image_of(&foreign));
    let error = structured_report(&a, &Equipment::default(), &SrOptions::default()).unwrap_err();
    assert!(matches!(&error, SrError::ForeignImage { finding } if finding == "F2"), "{error}");
}

#[test]
fn the_wrapped_pdf_is_whole_and_names_its_source() {
    let a = sample::positive_chest();
    let object = wrapped(&a);
    let document = object.element(tags::ENCAPSULATED_DOCUMENT).unwrap().to_bytes().unwrap();
    let length: u32 = object.element(tags::ENCAPSULATED_DOCUMENT_LENGTH).unwrap().to_int().unwrap();
    assert_eq!(&document[..length as usize], b"%PDF-1.4 odd");
    assert!(document.len().is_multiple_of(2));
    let source = &items(&object, tags::SOURCE_INSTANCE_SEQUENCE)[0];
    let sr = report(&a, &SrOptions::default());
    let uid = string(source, tags::REFERENCED_SOP_INSTANCE_UID);
    assert_eq!(uid, string(&sr, tags::SOP_INSTANCE_UID));
    assert_eq!(string(&object, tags::BURNED_IN_ANNOTATION), "YES");
}
