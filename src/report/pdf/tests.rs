//! The PDF as poppler-utils reads it.

use super::*;
use crate::domain::assessment::Assessment;
use crate::domain::sample::needs_review;
use crate::domain::sample::not_covered_ct;
use crate::domain::sample::positive_chest;
use crate::report::Config;
use crate::report::Language;
use crate::report::sample;

fn file(assessment: &Assessment, language: Language) -> Vec<u8> {
    let pictures = sample::pictures(assessment);
    let site = sample::site();
    let communications = &[];
    pdf(&ReportInput { assessment, language, pictures: &pictures, communications, site: &site })
        .unwrap()
}

/// What a program of poppler-utils says about a PDF.
fn poppler(program: &str, options: &[&str], pdf: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pdf).unwrap();
    let mut command = std::process::Command::new(program);
    command.args(options).arg(file.path());
    if program == "pdftotext" {
        command.arg("-");
    }
    let output = command.output().expect("install poppler-utils");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn pages(pdf: &[u8]) -> Vec<String> {
    let text = poppler("pdftotext", &["-layout"], pdf);
    text.split('\u{c}').filter(|page| !page.trim().is_empty()).map(str::to_owned).collect()
}

/// All white space of any kind is one space: line breaks of the layout do not matter.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Forty findings, with a description each.
fn long() -> Assessment {
    let mut assessment = positive_chest();
    let one = assessment.findings[0].clone();
    for n in 3..=40 {
        let mut finding = one.clone();
        finding.id = format!("F{n}");
        finding.regions.clear();
        finding.description = format!("Sentence {n} about what was seen there. ").repeat(4);
        assessment.findings.insert(n - 1, finding);
    }
    assessment
}

/// PDF/A-2u, which holds all of 2b: what it claims, its colours, its fonts. With a logo and pictures.
#[test]
fn the_file_is_made_for_the_archive() {
    let folder = tempfile::tempdir().unwrap();
    let logo = crate::domain::sample::picture_png(120, 40);
    std::fs::write(folder.path().join("logo.png"), logo).unwrap();
    let assessment = positive_chest();
    let pictures = sample::pictures(&assessment);
    let with_logo = Config { templates_dir: folder.path().into(), ..sample::site() };
    for language in Language::ALL {
        let of = |site| {
            let communications = &[];
            pdf(&ReportInput {
                assessment: &assessment,
                language,
                pictures: &pictures,
                communications,
                site,
            })
            .unwrap()
        };
        let bytes = of(&with_logo);
        let metadata = poppler("pdfinfo", &["-meta"], &bytes);
        assert!(metadata.contains("<pdfaid:part>2</pdfaid:part>"), "{metadata}");
        assert!(metadata.contains("<pdfaid:conformance>U</pdfaid:conformance>"), "{metadata}");
        let fonts = poppler("pdffonts", &[], &bytes);
        for font in fonts.lines().skip(2) {
            let words: Vec<&str> = font.split_whitespace().collect();
            let [.., embedded, subset, unicode, _, _] = words[..] else { panic!("{font}") };
            assert_eq!((embedded, subset, unicode), ("yes", "yes", "yes"), "{font}");
        }
        assert!(fonts.lines().count() > 2);
        let images = |bytes| poppler("pdfimages", &["-list"], bytes).lines().count();
        assert!(images(&bytes) > images(&of(&sample::site())), "the logo");
        let text = String::from_utf8_lossy(&bytes);
        assert!(
            text.contains("/OutputIntents") && text.contains("/S /GTS_PDFA1")
                || text.contains("GTS_PDFA1")
        );
        assert!(!text.contains("/JavaScript") && !text.contains("/Encrypt"));
    }
}

#[test]
fn each_page_names_hospital_patient_and_study_and_says_preliminary() {
    for language in Language::ALL {
        let bytes = file(&long(), language);
        let pages = pages(&bytes);
        assert!(pages.len() >= 5, "{language:?}: {} pages", pages.len());
        let words = crate::report::words::Words::of(language);
        for (number, page) in pages.iter().enumerate() {
            let page_of = fill(
                words.page_of,
                &[("page", &(number + 1).to_string()), ("pages", &pages.len().to_string())],
            );
            for fact in [
                "Sample University Hospital",
                "PRELIMINARY",
                "Hong, Gildong (洪 吉洞, 홍 길동)",
                "MRN-0042",
                "ACC-2026-0817",
                words.preliminary_line,
                &page_of,
            ] {
                assert!(flat(page).contains(&flat(fact)), "{language:?} {number} {fact}\n{page}");
            }
        }
        let all = flat(&pages.join(" "));
        for n in 3..=40 {
            assert!(all.contains(&format!("Sentence {n} about what")), "{language:?} {n}");
        }
        let heads = pages.iter().filter(|page| page.contains(words.certainty)).count();
        assert!(heads >= 3, "{language:?}: the table's header stands on each of its pages");
    }
}

#[test]
fn fonts_are_embedded_subsets_with_unicode() {
    for language in Language::ALL {
        let bytes = file(&positive_chest(), language);
        assert!(bytes.len() < 150_000, "{language:?}: {} bytes", bytes.len());
        let fonts = poppler("pdffonts", &[], &bytes);
        let rows: Vec<&str> = fonts.lines().skip(2).collect();
        assert!(rows.len() >= 2, "{fonts}");
        for row in rows {
            assert!(row.contains("NotoSansCJK") && row.contains("yes yes yes"), "{fonts}");
        }
        let info = poppler("pdfinfo", &[], &bytes);
        assert!(info.contains("595.28 x 841.89 pts (A4)"), "{info}");
    }
}

/// P7: the three forms carry the same findings.
#[test]
fn html_text_and_pdf_say_the_same() {
    for language in Language::ALL {
        for assessment in [positive_chest(), not_covered_ct(), needs_review()] {
            let pictures = sample::pictures(&assessment);
            let site = sample::site();
            let input = ReportInput {
                assessment: &assessment,
                language,
                pictures: &pictures,
                communications: &[],
                site: &site,
            };
            let content = content(&input);
            let forms = [
                flat(&crate::report::html(&input).unwrap().replace("&#x27;", "'")),
                flat(&crate::report::text(&input).unwrap()),
                flat(&pages(&pdf(&input).unwrap()).join(" ")),
            ];
            let mut facts = vec![
                content.status.title.to_owned(),
                content.urgency.label.to_owned(),
                content.header.patient.clone(),
                content.w.measurements.to_owned(),
            ];
            for finding in content.findings.iter().chain(&content.absent) {
                facts.extend([finding.name.clone(), finding.certainty.clone()]);
            }
            facts.extend(content.findings.iter().map(|finding| finding.place.clone()));
            for row in content.measurements.iter().flat_map(|group| &group.rows) {
                facts.extend([row.name.clone(), row.value.clone()]);
            }
            for fact in facts {
                for (form, name) in forms.iter().zip(["HTML", "text", "PDF"]) {
                    assert!(form.contains(&flat(&fact)), "{language:?} {name} lacks {fact}");
                }
            }
        }
    }
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    assert!(file(&positive_chest(), Language::Ko) == file(&positive_chest(), Language::Ko));
}

/// A name that fills pages, characters that no font has, a description longer than a page.
#[test]
fn no_text_breaks_the_layout() {
    let mut assessment = positive_chest();
    let name = "\u{e000}\u{1f9e0}\u{10ffff}قباني ไทย \u{202e}".to_owned() + &"N".repeat(60_000);
    assessment.study.patient.name.alphabetic = name;
    assessment.study.patient.id = "9".repeat(64);
    assessment.findings[0].description = "A long sentence that goes on. ".repeat(200);
    assessment.findings[1].description = "x".repeat(4000);
    assessment.warnings = vec!["w".repeat(4000); 3];
    assessment.algorithm.name = "m".repeat(300);
    for language in Language::ALL {
        let pages = pages(&file(&assessment, language));
        assert!((4..20).contains(&pages.len()), "{language:?}: {} pages", pages.len());
        let whole = pages.join(" ");
        assert_eq!(whole.matches("sentence").count(), 4000 / 30, "{language:?}");
    }
}

#[test]
fn a_broken_picture_is_left_out() {
    let assessment = positive_chest();
    let mut pictures = sample::pictures(&assessment);
    let site = sample::site();
    let mut make = |bytes: &[u8]| {
        pictures[0].1 = bytes.to_vec();
        let input = ReportInput {
            assessment: &assessment,
            language: Language::En,
            pictures: &pictures,
            communications: &[],
            site: &site,
        };
        let text = flat(&pages(&pdf(&input).unwrap()).join(" "));
        text.contains("Key image")
    };
    let whole = crate::domain::sample::picture_png(64, 64);
    assert!(make(&whole));
    for broken in [&whole[..whole.len() / 2], b"\xff\xd8\xff\xe0", b"\x89PNG", b"", b"GIF89a"] {
        assert!(!make(broken));
    }
}

/// `PRELIM_LOOK=folder cargo test report::pdf::tests::look -- --ignored`: writes every
/// outcome in every language and form, to be looked at, with time and size.
#[test]
#[ignore = "writes files for people"]
#[expect(clippy::disallowed_methods, reason = "a test for people, told where to write")]
fn look() {
    let folder = std::path::PathBuf::from(std::env::var("PRELIM_LOOK").unwrap());
    std::fs::create_dir_all(&folder).unwrap();
    let outcomes = [
        ("positive", positive_chest()),
        ("not-covered", not_covered_ct()),
        ("needs-review", needs_review()),
        ("long", long()),
    ];
    for language in Language::ALL {
        for (name, assessment) in &outcomes {
            let pictures = sample::pictures(assessment);
            let site = sample::site();
            let communications = &[];
            let pictures = &pictures;
            let input = ReportInput { assessment, language, pictures, communications, site: &site };
            let start = std::time::Instant::now();
            let bytes = pdf(&input).unwrap();
            println!("{name} {language:?}: {:?}, {} bytes", start.elapsed(), bytes.len());
            let file = |end| folder.join(format!("{name}-{}.{end}", language.as_str()));
            std::fs::write(file("pdf"), bytes).unwrap();
            std::fs::write(file("html"), crate::report::html(&input).unwrap()).unwrap();
            std::fs::write(file("txt"), crate::report::text(&input).unwrap()).unwrap();
        }
    }
}
