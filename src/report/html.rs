//! The HTML report: one file with everything in it, no script, nothing loaded from elsewhere.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use handlebars::Handlebars;

use crate::report::ReportError;
use crate::report::ReportInput;
use crate::report::content::content;
use crate::report::content::media_type;
use crate::report::site;
use crate::report::templates;

/// A self-contained page: inline style, pictures as `data:` URIs with their regions as SVG,
/// light and dark, printable, and a Content-Security-Policy of its own that allows nothing else.
/// Who serves it has to allow inline style and `data:` pictures, nothing more.
///
/// # Errors
/// A site's own template that cannot be read or names what does not exist.
pub fn html(input: &ReportInput<'_>) -> Result<String, ReportError> {
    let mut content = content(input);
    for picture in &mut content.pictures {
        let bytes = &input.pictures[picture.index].1;
        let media_type = media_type(bytes).unwrap_or("application/octet-stream");
        picture.data = format!("data:{media_type};base64,{}", STANDARD.encode(bytes));
    }
    let uri = |bytes: Vec<u8>| {
        let media_type = media_type(&bytes).unwrap_or("application/octet-stream");
        format!("data:{media_type};base64,{}", STANDARD.encode(bytes))
    };
    content.logo = site::logo(input.site).map(uri).unwrap_or_default();
    let state = content.w.preliminary;
    templates::render(templates::HTML, input.site, Handlebars::new(), &content, state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::assessment::Assessment;
    use crate::domain::sample::needs_review;
    use crate::domain::sample::not_covered_ct;
    use crate::domain::sample::positive_chest;
    use crate::domain::study::PersonName;
    use crate::report::Config;
    use crate::report::Language;
    use crate::report::sample;

    fn page(assessment: &Assessment, language: Language) -> String {
        let pictures = sample::pictures(assessment);
        let site = sample::site();
        let communications = &[];
        html(&ReportInput {
            assessment,
            language,
            pictures: &pictures,
            communications,
            site: &site,
        })
        .unwrap()
    }

    #[test]
    fn sections_stand_in_the_order_of_the_practice_parameter() {
        let page = page(&positive_chest(), Language::En);
        let sections = [
            "Clinical information",
            "Procedure and materials",
            "Comparison",
            "Findings",
            "Limitations",
            "Impression",
            "Recommendations",
            "Communication of critical results",
            "Measurements (not findings)",
            "About this report",
        ];
        let places: Vec<_> = sections
            .iter()
            .map(|title| {
                page.find(&format!("<h2>{title}</h2>")).unwrap_or_else(|| panic!("{title}"))
            })
            .collect();
        assert!(places.is_sorted(), "{places:?}");
        for fact in [
            "Hong, Gildong (洪 吉洞, 홍 길동)",
            "MRN-0042 (HOSPITAL)",
            "PRELIMINARY",
            "pleura, left, severe",
            "93%",
            "series 1, instance 1",
            "chest-xray-pneumonia-paediatric",
            "Research use only. Not a medical device.",
            "data:image/png;base64,",
            "class=\"region\"",
            "None recorded when this report was made.",
        ] {
            assert!(page.contains(fact), "{fact}");
        }
    }

    #[test]
    fn each_outcome_has_its_own_box_in_every_language() {
        let outcomes = [
            (positive_chest(), "box read"),
            (not_covered_ct(), "box not_covered"),
            (needs_review(), "box needs_review"),
        ];
        for language in Language::ALL {
            for (assessment, class) in &outcomes {
                let page = page(assessment, language);
                assert!(page.contains(class), "{language:?} {class}");
                assert!(page.contains(&format!("<html lang=\"{}\">", language.tag())));
                assert!(page.contains("PRELIMINARY"));
            }
        }
    }

    #[test]
    fn what_comes_from_outside_cannot_become_markup() {
        let mut assessment = positive_chest();
        let evil = "<script>alert(1)</script>\"'`{{w.title}}\u{202e}\u{0}";
        assessment.study.patient.name = PersonName::parse(evil);
        assessment.study.patient.id = evil.into();
        assessment.findings[0].description = evil.into();
        assessment.findings[0].concept.meaning = evil.into();
        assessment.impression = evil.into();
        assessment.warnings = vec![evil.into()];
        assessment.algorithm.name = evil.into();
        assessment.clinical_information = evil.into();
        assessment.findings[0].key = "own".into();
        let page = page(&assessment, Language::En);
        assert!(!page.contains("<script"), "no markup from outside");
        assert!(!page.contains('\u{202e}') && !page.contains('\0'));
        assert!(page.contains("&lt;script&gt;"));
        assert!(page.contains("{{w.title}}"), "a template in a value is not rendered");
    }

    #[test]
    fn a_site_can_bring_its_own_template_and_learns_of_its_mistakes() {
        let folder = tempfile::tempdir().unwrap();
        let assessment = positive_chest();
        let site = Config { templates_dir: folder.path().into(), ..sample::site() };
        let render = || {
            let input = ReportInput {
                assessment: &assessment,
                language: Language::En,
                pictures: &[],
                communications: &[],
                site: &site,
            };
            html(&input)
        };
        assert!(
            render().unwrap().contains("<h1>Preliminary report</h1>"),
            "no file: the built-in one"
        );
        let file = folder.path().join("report.html.hbs");
        std::fs::write(&file, "Own: {{header.patient_id}} {{w.preliminary}}").unwrap();
        assert_eq!(render().unwrap(), "Own: MRN-0042 PRELIMINARY");
        std::fs::write(&file, "{{header.pateint}}").unwrap();
        let error = render().unwrap_err();
        assert!(matches!(error, ReportError::Template { .. }), "{error}");
    }

    #[test]
    fn the_same_input_gives_the_same_bytes() {
        assert_eq!(page(&positive_chest(), Language::Vi), page(&positive_chest(), Language::Vi));
    }
}
