use super::*;
use crate::analysis::config::Gateway;
use crate::analysis::profile;
use crate::analysis::strategy::Strategy;
use crate::analysis::testing;
use crate::domain::uid::SopClassUid;

const SC: &str = "1.2.840.10008.5.1.4.1.1.7";
const OWN: &str = "1.2.840.10008.5.1.4.1.1.1";

/// modality, SOP class, body part, view, study description, series description, protocol
type Header = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
);

fn study((modality, class, part, view, text, series, protocol): Header) -> Study {
    let mut study = testing::study(modality, part, view, text);
    for instance in &mut study.instances {
        instance.sop_class_uid = SopClassUid::parse(class).unwrap();
        instance.series_description = series.into();
        instance.protocol_name = protocol.into();
    }
    study
}

fn name(plan: &Plan) -> &str {
    match plan {
        Plan::Read { profile, .. } => &profile.name,
        Plan::Hold { .. } => "held",
        Plan::Review { .. } => "review",
    }
}

#[test]
fn headers_choose_the_profile() {
    let profiles = profile::load(None).unwrap();
    let rows: [(Header, &str); 99] = [
        // The studies of the sample data (SOURCES.md).
        (("CR", OWN, "CHEST", "PA", "THORAX", "", ""), "chest_xray"),
        (("DX", OWN, "CHEST", "AP", "Medium Soft Tissue 20-55 lb", "Thorax LAT", ""), "chest_xray"),
        (("CT", OWN, "HEAD", "", "HEAD", "", ""), "ct_head"),
        (
            (
                "CT",
                OWN,
                "",
                "",
                "CT ABD AND PELVIS WITH IV CONT",
                "CHEST 2.5 MM/ABD.PEL 2.5MM",
                "5.2 CHEST/ABD/PEL (FEET FIRST)",
            ),
            "ct_abdomen",
        ),
        (
            (
                "CT",
                OWN,
                "",
                "",
                "CT CHEST PULMONARY ANGIO WITH IV CON",
                "CHEST 1.25 MM",
                "5.10 PE>200 LBS/ 91 KG",
            ),
            "ct_chest",
        ),
        (
            ("CT", OWN, "CHEST", "", "CT CHEST WO IV CONT", "Body 5.0", "Chest HCT 5mm  -C"),
            "ct_chest",
        ),
        (
            (
                "CT",
                OWN,
                "",
                "",
                "CT ABD AND PELVIS WO IV CONT",
                "STANDARD 2.5MM",
                "3.11 TRAUMA CHEST/ABD/PEL (NON CONTRAST) T-L SP PELVIS",
            ),
            "ct_abdomen",
        ),
        (
            ("CT", OWN, "", "", "CT CHEST WO IV CONT", "5 MM STANDARD", "5.1 CHEST ROUTINE"),
            "ct_chest",
        ),
        (
            (
                "MR",
                OWN,
                "BRAIN",
                "",
                "",
                "Axial EPI-FMRI (Interleaved I to S)",
                "DCM2NIIX regression test",
            ),
            "mr_head",
        ),
        (
            (
                "MR",
                OWN,
                "PROSTATE",
                "",
                "PELVIS W/O CONT",
                "Apparent Diffusion Coefficient (mm?/s)",
                "PRO DCE W_T1 MAPPING AN/",
            ),
            "mr_pelvis",
        ),
        (
            (
                "MR",
                OWN,
                "ABDOMEN",
                "",
                "abdomen^liver",
                "marked lesion<MPR Collection>",
                "t1_vibe_fs_tra_bh_dyn",
            ),
            "mr_abdomen",
        ),
        (
            ("RG", SC, "BREAST", "MLO", "Malignant mass with micro-calcifications", "", ""),
            "mammography",
        ),
        (("OT", SC, "", "", "Fundoscopy", "", ""), "fundus"),
        (("US", OWN, "", "", "US KIDNEY", "US KIDNEY", "Free Form"), "us_abdomen"),
        (("US", OWN, "", "", "", "", ""), "ultrasound"),
        (("OT", SC, "", "", "Barretts Esophagus", "", ""), "general"),
        (("OT", SC, "", "", "Prepyloric Ulcer", "", ""), "general"),
        (("NM", SC, "WHOLE BODY", "", "Whole Body Bone", "", "Whole Body Bone"), "scintigraphy"),
        (("CT", SC, "", "", "", "", ""), "general"),
        (("XA", SC, "", "", "", "", ""), "angiography"),
        (("CT", OWN, "", "", "e+1", "", ""), "general"),
        (
            ("CR", OWN, "EXTREMITY", "AP", "Non-ossifying fibroma of distal tibia", "", ""),
            "bone_xray",
        ),
        (("OT", SC, "", "", "", "", ""), "general"),
        (("", SC, "", "", "", "", ""), "general"),
        // X-ray of the chest, also as Secondary Capture.
        (("OT", SC, "CHEST", "PA", "", "", ""), "chest_xray"),
        (("SC", SC, "CHEST", "", "", "", ""), "chest_xray"),
        (("OT", SC, "", "", "CHEST X-RAY PA", "", ""), "chest_xray"),
        (("OT", SC, "", "AP", "", "Portable chest", ""), "chest_xray"),
        (("RG", SC, "CHEST", "PA", "", "", ""), "chest_xray"),
        (("CR", SC, "", "", "XR CHEST 2 VIEWS", "", ""), "chest_xray"),
        (("DX", OWN, "", "", "Thorax a.p. liegend", "", ""), "chest_xray"),
        (("DX", OWN, "", "", "흉부 X선 후전면", "", ""), "chest_xray"),
        (("DX", OWN, "", "", "X quang tim phổi thẳng", "", ""), "chest_xray"),
        (("DX", OWN, "", "", "Chụp Xquang ngực thẳng", "", ""), "chest_xray"),
        (("DX", OWN, "", "", "胸部正位片", "", ""), "chest_xray"),
        (("CR", OWN, "", "", "", "CXR", ""), "chest_xray"),
        (("CR", OWN, "chest", "", "", "", ""), "chest_xray"),
        (("DX", OWN, "LUNG", "", "", "", ""), "chest_xray"),
        (("OT", SC, "CHEST", "", "CT chest key images", "", ""), "general"),
        // Bones.
        (("DX", OWN, "HAND", "", "", "", ""), "bone_xray"),
        (("DX", OWN, "", "", "XR WRIST 3 VIEWS LEFT", "", ""), "bone_xray"),
        (("CR", OWN, "TSPINE", "LAT", "Thoracic spine", "", ""), "bone_xray"),
        (("DX", OWN, "", "", "Chest and ribs", "", ""), "bone_xray"),
        (("DX", OWN, "RIB", "", "XR RIBS", "", ""), "bone_xray"),
        (("DX", OWN, "", "", "무릎 AP", "", ""), "bone_xray"),
        (("DX", OWN, "", "", "Xquang cổ tay", "", ""), "bone_xray"),
        (("DX", OWN, "", "", "右膝正侧位", "", ""), "bone_xray"),
        (("OT", SC, "HAND", "PA", "", "", ""), "bone_xray"),
        (("OT", SC, "", "", "x-ray knee", "", ""), "bone_xray"),
        (("DX", OWN, "ABDOMEN", "AP", "", "", ""), "general"),
        (("DX", OWN, "", "", "", "", ""), "general"),
        (("DX", OWN, "", "", "Orchestra", "", ""), "general"),
        // CT.
        (("CT", OWN, "", "", "CT BRAIN W/O", "", ""), "ct_head"),
        (("CT", OWN, "", "", "뇌 CT", "", ""), "ct_head"),
        (("CT", OWN, "", "", "CT sọ não", "", ""), "ct_head"),
        (("CT", OWN, "", "", "头颅CT平扫", "", ""), "ct_head"),
        (("CT", OWN, "SKULL", "", "", "", ""), "ct_head"),
        (("CT", OWN, "", "", "Head and neck CTA", "", ""), "general"),
        (("CT", OWN, "NECK", "", "", "", ""), "general"),
        (("CT", OWN, "", "", "HRCT", "", ""), "ct_chest"),
        (("CT", OWN, "", "", "흉부CT", "", ""), "ct_chest"),
        (("CT", OWN, "", "", "CT ngực", "", ""), "ct_chest"),
        (("CT", OWN, "", "", "胸部CT", "", ""), "ct_chest"),
        (("CT", OWN, "CHEST", "", "CT ABDOMEN", "", ""), "ct_chest"),
        (("CT", OWN, "", "", "CT CHEST ABDOMEN PELVIS", "", ""), "ct_chest"),
        (("CT", OWN, "ABDOMEN", "", "", "", ""), "ct_abdomen"),
        (("CT", OWN, "", "", "KUB", "", ""), "ct_abdomen"),
        (("CT", OWN, "", "", "복부 CT", "", ""), "ct_abdomen"),
        (("CT", OWN, "", "", "CT ổ bụng", "", ""), "ct_abdomen"),
        (("CT", OWN, "", "", "上腹部增强", "", ""), "ct_abdomen"),
        (("CT", OWN, "", "", "", "", "ABDOMEN ROUTINE"), "ct_abdomen"),
        // The others.
        (("MRI", OWN, "", "", "knee", "", ""), "mr_joint"),
        (("MG", OWN, "", "", "", "", ""), "mammography"),
        (("CR", OWN, "BREAST", "CC", "", "", ""), "mammography"),
        (("SC", SC, "BREAST", "MLO", "", "", ""), "mammography"),
        (("OP", OWN, "", "", "", "", ""), "fundus"),
        (("OT", SC, "", "", "안저 촬영", "", ""), "fundus"),
        (("ES", OWN, "", "", "", "", ""), "general"),
        // By region and kind of picture.
        (("MR", OWN, "BREAST", "", "", "", ""), "mr_breast"),
        (("MR", OWN, "", "", "유방 MRI", "", ""), "mr_breast"),
        (("MR", OWN, "", "", "Cộng hưởng từ vú", "", ""), "mr_breast"),
        (("MR", OWN, "", "", "乳腺MRI平扫+增强", "", ""), "mr_breast"),
        (("MR", OWN, "HEART", "", "", "cine SAX", ""), "mr_heart"),
        (("MR", OWN, "", "", "심장 MRI", "", ""), "mr_heart"),
        (("MR", OWN, "", "", "MRI tim", "", ""), "mr_heart"),
        (("MR", OWN, "", "", "心脏MRI", "", ""), "mr_heart"),
        (("MR", OWN, "BRAIN", "", "", "PC flow cardiac gated", ""), "mr_head"),
        (("PT", OWN, "WHOLEBODY", "", "", "", ""), "pet"),
        (("PT", OWN, "", "", "PET/CT Whole Body FDG", "AC", ""), "pet_ct"),
        (("CT", OWN, "CHEST", "", "PET^1_PETCT_WholeBody", "CT WB 3.0", ""), "pet_ct"),
        (("PT", OWN, "", "", "전신 양전자단층촬영", "", ""), "pet_ct"),
        (("PT", OWN, "", "", "全身正电子显像", "", ""), "pet_ct"),
        (("CT", OWN, "HEAD", "", "CT petrous bone", "", ""), "ct_head"),
        (("NM", OWN, "", "", "Bone scan", "", ""), "scintigraphy"),
        (("XA", OWN, "HEART", "", "Coronary angiography", "", ""), "angiography"),
        (("RF", OWN, "ABDOMEN", "", "Barium enema", "", ""), "fluoroscopy"),
        (("RF", OWN, "CHEST", "", "Esophagram", "", ""), "fluoroscopy"),
        (("IO", OWN, "", "", "", "", ""), "dental"),
        (("PX", OWN, "JAW", "", "Panoramic", "", ""), "dental"),
    ];
    for (header, expected) in rows {
        let plan = plan(&study(header), &profiles, &Config::default());
        assert_eq!(name(&plan), expected, "{header:?}: {plan:?}");
        if let Plan::Read { route, .. } = &plan {
            assert_eq!(*route, Route::Local, "the default asks nobody outside");
        }
    }
}

#[test]
fn what_is_not_an_image_is_held_with_its_reason() {
    let profiles = profile::load(None).unwrap();
    let held = |study: &Study| match plan(study, &profiles, &Config::default()) {
        Plan::Hold { reason } => reason,
        other => panic!("{other:?}"),
    };
    for modality in ["SR", "PR", "KO", "SEG", "RTSTRUCT", "RTPLAN", "REG", "DOC"] {
        for has_pixels in [false, true] {
            let mut study = study((modality, OWN, "", "", "", "", ""));
            study.instances.iter_mut().for_each(|i| i.has_pixels = has_pixels);
            assert!(held(&study).contains("not an image"), "{modality}");
        }
    }
    let mut localizer = study(("CT", OWN, "CHEST", "", "", "", ""));
    for instance in &mut localizer.instances {
        instance.image_type = ["ORIGINAL", "PRIMARY", "LOCALIZER"].map(String::from).to_vec();
    }
    assert!(held(&localizer).contains("localizer"));
    assert!(held(&study(("MR", OWN, "KNEE", "", "", "3-plane loc", ""))).contains("localizer"));
    assert!(held(&study(("CT", OWN, "", "", "CT HEAD", "Topogram 0.6", ""))).contains("localizer"));
    assert!(held(&study(("CT", SC, "", "", "CT HEAD", "Dose Report", ""))).contains("dose"));
    assert!(held(&study(("CT", SC, "", "", "CT HEAD", "Patient Protocol", ""))).contains("dose"));
    let mut saved = study(("CT", OWN, "HEAD", "", "", "", ""));
    saved.instances.iter_mut().for_each(|i| {
        i.image_type = vec!["DERIVED".into(), "SECONDARY".into(), "SCREEN SAVE".into()]
    });
    assert!(held(&saved).contains("saved screen"));
    for text in ["Daily QA", "ACR Phantom", "QUALITY_CONTROL water", "팬텀 검사", "体模"] {
        assert!(held(&study(("CT", OWN, "HEAD", "", text, "", ""))).contains("phantom"), "{text}");
    }
    let mut named = study(("CT", OWN, "HEAD", "", "", "", ""));
    named.patient.name = crate::domain::study::PersonName::parse("PHANTOM^Water");
    assert!(held(&named).contains("phantom"));
    named.patient.name = crate::domain::study::PersonName::parse("QA^Test");
    assert!(
        matches!(plan(&named, &profiles, &Config::default()), Plan::Read { .. }),
        "a person with a birth date"
    );
    named.patient.birth_date.clear();
    named.patient.sex.clear();
    assert!(held(&named).contains("phantom"));
}

#[test]
fn a_real_patient_is_not_taken_for_a_phantom_or_a_localizer() {
    let profiles = profile::load(None).unwrap();
    for text in ["Phantom limb pain", "phantom tumor?", "Aqaba", "Equality", "local anaesthesia"] {
        let plan =
            plan(&study(("DX", OWN, "FOOT", "", text, "", "")), &profiles, &Config::default());
        assert_eq!(name(&plan), "bone_xray", "{text}");
    }
    let mut one_odd = study(("CT", OWN, "HEAD", "", "", "", ""));
    one_odd.instances[0].series_description = "QA".into();
    assert_eq!(name(&plan(&one_odd, &profiles, &Config::default())), "ct_head");
    // A localizer and a real series: the series is read, the localizer is left out with its reason.
    let mut both = study(("CT", OWN, "HEAD", "", "", "", ""));
    both.instances[0].image_type = vec!["ORIGINAL".into(), "PRIMARY".into(), "LOCALIZER".into()];
    assert_eq!(name(&plan(&both, &profiles, &Config::default())), "ct_head");
    let (kept, excluded) = readable(&both);
    assert_eq!((kept.instances.len(), excluded.len()), (1, 1));
    assert_eq!(excluded[0].reason, "localizer");
}

#[test]
fn a_study_that_cannot_be_parsed_is_for_a_person() {
    let profiles = profile::load(None).unwrap();
    let mut broken = study(("SR", OWN, "", "", "", "", ""));
    broken.unreadable.push(Excluded {
        sop_instance_uid: broken.instances[0].sop_instance_uid.clone(),
        reason: "truncated".into(),
    });
    assert_eq!(name(&plan(&broken, &profiles, &Config::default())), "review");
    broken.instances.clear();
    assert_eq!(name(&plan(&broken, &profiles, &Config::default())), "review");
}

#[test]
fn a_conflict_of_headers_is_told() {
    let profiles = profile::load(None).unwrap();
    let plan_of = |header| plan(&study(header), &profiles, &Config::default());
    let Plan::Read { notes, .. } = plan_of(("CT", OWN, "CHEST", "", "CT ABDOMEN", "", "")) else {
        panic!()
    };
    assert!(notes.iter().any(|note| note.contains("CT of the abdomen")), "{notes:?}");
    let Plan::Read { notes, .. } = plan_of(("CR", OWN, "CHEST", "PA", "THORAX", "", "")) else {
        panic!()
    };
    assert_eq!(notes, Vec::<String>::new());
}

#[test]
fn only_images_of_the_profile_are_pictured() {
    let profiles = profile::load(None).unwrap();
    let mut mixed = study(("CR", OWN, "CHEST", "PA", "", "", ""));
    mixed.instances[1].modality = "US".into();
    mixed.instances[1].body_part_examined = "ABDOMEN".into();
    let Plan::Read { profile, notes, .. } = plan(&mixed, &profiles, &Config::default()) else {
        panic!()
    };
    assert_eq!(
        (profile.name.as_str(), profile.pictures.modalities.as_slice()),
        ("chest_xray", &["CR".to_owned()][..])
    );
    assert!(notes.iter().any(|note| note.contains("1 of 2")), "{notes:?}");
}

#[test]
fn a_gateway_is_asked_only_about_what_it_may_see() {
    let profiles = profile::load(None).unwrap();
    let gateway =
        Gateway { modalities_allowed: vec!["CR".into(), "DX".into()], ..Gateway::default() };
    let mut config = Config { provider: "house".into(), ..Config::default() };
    config.gateways.insert("house".into(), gateway);
    let route = |header| match plan(&study(header), &profiles, &config) {
        Plan::Read { route, .. } => route,
        other => panic!("{other:?}"),
    };
    let strategy = Box::new(Strategy::default());
    let house = Route::Gateway { name: "house".into(), then: Vec::new(), strategy };
    assert_eq!(route(("CR", OWN, "CHEST", "PA", "", "", "")), house);
    assert_eq!(route(("OT", SC, "CHEST", "PA", "", "", "")), house, "an X-ray sent as OT");
    assert!(matches!(route(("CT", OWN, "HEAD", "", "", "", "")), Route::Nobody { .. }));
    config.gateways.clear();
    let Plan::Read { route, .. } =
        plan(&study(("CR", OWN, "CHEST", "PA", "", "", "")), &profiles, &config)
    else {
        panic!()
    };
    assert!(
        matches!(route, Route::Nobody { .. }),
        "a gateway that is not there is not the local model"
    );
}

#[test]
fn a_gateway_is_asked_only_where_it_may_be() {
    let profiles = profile::load(None).unwrap();
    let gateway = |region: &str, inside_the_building| Gateway {
        region: region.into(),
        inside_the_building,
        ..Gateway::default()
    };
    let fallback = ["eu", "us", "nowhere", "house"].map(String::from).to_vec();
    let mut config = Config { fallback, ..Config::default() };
    config.gateways.insert("eu".into(), gateway(" EU ", false));
    config.gateways.insert("us".into(), gateway("us", false));
    config.gateways.insert("nowhere".into(), gateway("", false));
    config.gateways.insert("house".into(), gateway("", true));
    let others = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect());
    for (allowed, provider, then) in [
        (vec![], "us", others(&["eu", "nowhere", "house"])),
        (vec!["eu"], "us", None),
        (vec!["eu"], "nowhere", None),
        (vec!["eu"], "eu", others(&["house"])),
        (vec!["eu", "us"], "us", others(&["eu", "house"])),
        (vec!["eu"], "house", others(&[])),
    ] {
        config.regions_allowed = allowed.iter().map(|&one: &&str| one.to_owned()).collect();
        config.provider = provider.into();
        let found = plan(&study(("CR", OWN, "CHEST", "PA", "", "", "")), &profiles, &config);
        let found: Option<Vec<String>> = match found {
            Plan::Read { route: Route::Gateway { then, .. }, .. } => Some(then),
            Plan::Read { route: Route::Nobody { reason }, .. } => {
                assert!(reason.contains("region"), "{reason}");
                None
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(found, then, "{provider} where {allowed:?} is allowed");
    }
}

#[test]
fn those_that_stand_in_may_see_it_and_are_not_further_out() {
    let profiles = profile::load(None).unwrap();
    let gateway = |inside, modalities: &[&str]| Gateway {
        inside_the_building: inside,
        modalities_allowed: modalities.iter().map(|&m| m.to_owned()).collect(),
        ..Gateway::default()
    };
    let mut config = Config {
        provider: "house".into(),
        fallback: ["house", "ct", "cloud", "cellar", "gone"].map(String::from).to_vec(),
        ..Config::default()
    };
    for (name, one) in [
        ("house", gateway(true, &[])),
        ("ct", gateway(true, &["CT"])),
        ("cloud", gateway(false, &[])),
        ("cellar", gateway(true, &["CR", "CT"])),
    ] {
        config.gateways.insert(name.into(), one);
    }
    for (provider, modality, stand_in) in [
        ("house", "CR", vec!["cellar"]),
        ("house", "CT", vec!["ct", "cellar"]),
        ("cloud", "CR", vec!["house", "cellar"]),
    ] {
        config.provider = provider.into();
        let study = study((modality, OWN, "CHEST", "PA", "", "", ""));
        let Plan::Read { route: Route::Gateway { name, then, .. }, .. } =
            plan(&study, &profiles, &config)
        else {
            panic!("{provider} {modality}")
        };
        assert_eq!((name.as_str(), then), (provider, stand_in.iter().map(|&n| n.into()).collect()));
    }
}

#[test]
fn a_strategy_asks_those_around_the_reader_who_may_see_it() {
    let profiles = profile::load(None).unwrap();
    let mut config = Config { strategy: "chest".into(), ..Config::default() };
    let strategy = Strategy {
        screen: "cheap".into(),
        read: "strong".into(),
        third: "cloud".into(),
        panel: vec!["cheap".into(), "cloud".into()],
        ..Strategy::default()
    };
    config.strategies.insert("chest".into(), strategy);
    for (name, modality, inside) in
        [("cheap", "CR", true), ("strong", "", true), ("cloud", "", false)]
    {
        let modalities_allowed = [modality].map(String::from).to_vec();
        let modalities_allowed = if modality.is_empty() { Vec::new() } else { modalities_allowed };
        let inside_the_building = inside;
        let gateway = Gateway { modalities_allowed, inside_the_building, ..Gateway::default() };
        config.gateways.insert(name.into(), gateway);
    }
    let mut stations = |modality, strategy: &str| {
        config.strategy = strategy.into();
        if strategy == "single" {
            config.provider = "strong".into();
        }
        let study = study((modality, OWN, "CHEST", "PA", "", "", ""));
        match plan(&study, &profiles, &config) {
            Plan::Read { route: Route::Gateway { name, strategy, .. }, .. } => {
                (name, strategy.screen, strategy.third + &strategy.panel.join(","))
            }
            other => panic!("{other:?}"),
        }
    };
    let words = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
    assert_eq!(stations("CR", "chest"), words("strong", "cheap", "cheap"), "cloud is further out");
    assert_eq!(stations("CT", "chest"), words("strong", "", ""), "cheap may not see it");
    assert_eq!(stations("CR", "single"), words("strong", "", ""));
}
