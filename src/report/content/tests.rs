//! What a report must and must not say.

use super::*;
use crate::domain::sample::needs_review;
use crate::domain::sample::not_covered_ct;
use crate::domain::sample::positive_chest;
use crate::domain::study::Excluded;
use crate::domain::study::Instance;
use crate::domain::uid::SopInstanceUid;
use crate::report::sample;

fn of(assessment: &Assessment, language: Language) -> Content {
    let pictures = sample::pictures(assessment);
    let site = sample::site();
    let communications = &[];
    content(&ReportInput { assessment, language, pictures: &pictures, communications, site: &site })
}

#[test]
fn a_finding_says_what_where_which_side_how_sure_and_on_which_image() {
    let content = of(&positive_chest(), Language::En);
    let first = &content.findings[0];
    assert_eq!(first.name, "Pneumothorax");
    assert_eq!(first.place, "pleura, left, severe");
    assert_eq!(first.certainty, "93%");
    assert_eq!(first.images, ["series 1, instance 1"]);
    assert_eq!(first.measured, "Diameter 41.3 mm");
    assert_eq!(first.urgency.label, "Critical");
    assert_eq!((content.findings.len(), content.absent.len()), (2, 1));
    let korean = of(&positive_chest(), Language::Ko);
    assert_eq!(korean.findings[0].name, "기흉");
    assert_eq!(korean.findings[0].aside, "Pneumothorax");
    assert_eq!(korean.findings[0].place, "흉막, 왼쪽, 중증");
    assert_eq!(korean.impression[0], "기흉, 흉막, 왼쪽, 중증, 93%");
}

#[test]
fn a_negative_is_never_called_normal() {
    let mut assessment = positive_chest();
    assessment.findings.retain(|finding| finding.presence == Presence::Absent);
    for own in ["Normal chest radiograph.", "Lungs unremarkable.", "정상 소견", ""] {
        assessment.impression = own.into();
        let content = of(&assessment, Language::En);
        assert_eq!(content.impression, [Words::of(Language::En).no_finding], "{own}");
        assert_eq!(content.findings_note, Words::of(Language::En).no_finding);
        assert_eq!(content.looked_for, "Pneumothorax, Consolidation of lung, Pleural effusion");
    }
    assessment.impression = "Abnormal heart contour cannot be excluded.".into();
    assert_eq!(of(&assessment, Language::En).impression.len(), 2);
}

#[test]
fn not_covered_and_needs_review_are_states_of_their_own() {
    let content = of(&not_covered_ct(), Language::En);
    assert_eq!(content.status.kind, "not_covered");
    assert_eq!(content.urgency.key, "not_assessed", "never a lower priority");
    assert_eq!(content.findings_note, "Nothing was looked for.");
    assert_eq!(content.impression, ["No local model covers this study."]);
    assert_eq!(content.materials[1].label, "Images pictured, not read");
    assert_eq!(content.measurements[2].rows[0].value, "-998.0 HU");
    let content = of(&needs_review(), Language::En);
    assert_eq!(content.status.kind, "needs_review");
    assert_eq!(content.urgency.key, "not_assessed");
    assert!(
        content.status.title.starts_with("A person must look, because the answer of the model")
    );
    assert!(content.status.reason.contains("could not be read"));
}

#[test]
fn excluded_instances_are_grouped_by_reason_and_listed_by_number() {
    let mut assessment = not_covered_ct();
    let out = |i: &Instance, reason: &str| Excluded {
        sop_instance_uid: i.sop_instance_uid.clone(),
        reason: reason.into(),
    };
    let instances = assessment.study.instances.clone();
    assessment.excluded = instances[..3].iter().map(|i| out(i, "beyond the budget")).collect();
    assessment.excluded.push(out(&instances[8], "beyond the budget"));
    assessment.study.unreadable = vec![Excluded {
        sop_instance_uid: SopInstanceUid::parse("1.2.3").unwrap(),
        reason: "not a data set".into(),
    }];
    let content = of(&assessment, Language::En);
    assert_eq!(content.left_out[0].images, "series 3, instance 1-3, 9");
    assert_eq!(content.left_out[1].images, "instance 1 without number");
    assert_eq!(content.materials[0].value, "29 instances in 1 series (CT)");
}

#[test]
fn regions_come_out_in_picture_pixels_and_stay_inside() {
    let mut assessment = positive_chest();
    assessment.findings[1].regions[0].x1 = 99_999.0;
    assessment.findings[1].regions[0].y0 = f64::NAN;
    let content = of(&assessment, Language::En);
    let [picture] = &content.pictures[..] else { panic!("only the key picture has regions") };
    let [region] = &picture.regions[..] else { panic!("the region with NaN is left out") };
    let scale = 1024.0 / 2500.0;
    assert!((region.x - 1240.0 * scale).abs() < 0.1, "{region:?}");
    assert!((region.height - 800.0 * scale).abs() < 0.1, "{region:?}");
    assert!(picture.alt.contains("F1 Pneumothorax, pleura, left, severe, 93%"));
}

#[test]
fn everything_has_a_limit() {
    let mut assessment = positive_chest();
    let one = assessment.findings[0].clone();
    assessment.findings = vec![one; 1000];
    assessment.study.patient.name.alphabetic = "N".repeat(60_000);
    let content = of(&assessment, Language::En);
    assert_eq!(content.findings.len(), ROWS_MAX);
    assert_eq!(content.more_findings, "and 600 more");
    assert!(content.header.patient.chars().count() <= 260);
}
