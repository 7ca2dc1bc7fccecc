//! The text report: 78 columns, for mail, terminals and HL7.

use handlebars::Context;
use handlebars::Handlebars;
use handlebars::Helper;
use handlebars::HelperDef;
use handlebars::HelperResult;
use handlebars::Output;
use handlebars::PathAndJson;
use handlebars::RenderContext;
use handlebars::RenderErrorReason;

use crate::report::ReportError;
use crate::report::ReportInput;
use crate::report::content::content;
use crate::report::templates;

const COLUMNS: usize = 78;
/// Where the values of fields begin.
const VALUE_AT: usize = 26;

/// The report as plain text. East Asian characters count two columns. Helpers of the template:
/// `wrap indent text`, `field label value`, `item text right`, `bullet text`, `heading text`,
/// `finding id name aside`, `sides left right`, `rule character`.
///
/// # Errors
/// A site's own template that cannot be read or names what does not exist.
pub fn text(input: &ReportInput<'_>) -> Result<String, ReportError> {
    let mut registry = Handlebars::new();
    registry.register_escape_fn(handlebars::no_escape);
    let strings = [
        ("field", field as fn(&[&str]) -> String),
        ("item", item),
        ("bullet", bullet),
        ("heading", heading),
        ("finding", finding),
        ("sides", sides),
        ("rule", rule),
    ];
    for (name, write) in strings {
        registry.register_helper(name, Box::new(OfStrings(write)));
    }
    registry.register_helper("wrap", Box::new(Wrap));
    let content = content(input);
    let state = content.w.preliminary;
    let rendered = templates::render(templates::TEXT, input.site, registry, &content, state)?;
    let mut text = String::with_capacity(rendered.len());
    let mut empty = 1;
    for line in rendered.lines().map(str::trim_end) {
        empty = if line.is_empty() { empty + 1 } else { 0 };
        if empty < 2 {
            text.push_str(line);
            text.push('\n');
        }
    }
    Ok(text)
}

/// A helper that makes lines of its string arguments.
struct OfStrings(fn(&[&str]) -> String);

impl HelperDef for OfStrings {
    fn call<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let mut strings: Vec<&str> = Vec::new();
        for param in helper.params() {
            strings.push(param.value().as_str().ok_or_else(|| no_text(helper, param))?);
        }
        out.write(&(self.0)(&strings))?;
        Ok(())
    }
}

fn no_text(helper: &Helper<'_>, param: &PathAndJson<'_>) -> RenderErrorReason {
    let name = param.relative_path().map_or("an argument", String::as_str);
    RenderErrorReason::Other(format!("{} {name}: there is no such text", helper.name()))
}

/// `wrap indent text`.
struct Wrap;

impl HelperDef for Wrap {
    fn call<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let missing = |place| RenderErrorReason::ParamNotFoundForIndex("wrap", place);
        let indent = helper.param(0).and_then(|p| p.value().as_u64()).ok_or_else(|| missing(0))?;
        let text = helper.param(1).ok_or_else(|| missing(1))?;
        let text = text.value().as_str().ok_or_else(|| no_text(helper, text))?;
        let indent = usize::try_from(indent).unwrap_or(0).min(20);
        out.write(&indented(text, indent, indent))?;
        Ok(())
    }
}

fn field(arguments: &[&str]) -> String {
    let [label, value] = arguments else { return String::new() };
    let label = format!("  {label}: ");
    let gap = VALUE_AT.saturating_sub(width(&label));
    match gap {
        0 => format!("{}\n{}", label.trim_end(), indented(value, VALUE_AT, VALUE_AT)),
        _ => format!(
            "{label}{}{}",
            " ".repeat(gap),
            indented(value, VALUE_AT, VALUE_AT).trim_start()
        ),
    }
}

/// A text with a short value at the right edge.
fn item(arguments: &[&str]) -> String {
    let [text, right] = arguments else { return String::new() };
    let room = COLUMNS.saturating_sub(width(right) + 6).max(20);
    let mut lines = wrapped(text, room);
    let last = lines.pop().unwrap_or_default();
    let gap = COLUMNS.saturating_sub(4 + width(&last) + width(right)).max(1);
    lines.push(format!("{last}{}{right}", " ".repeat(gap)));
    lines.iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

fn bullet(arguments: &[&str]) -> String {
    let [text] = arguments else { return String::new() };
    format!("  - {}", indented(text, 4, 4).trim_start())
}

fn heading(arguments: &[&str]) -> String {
    let [text] = arguments else { return String::new() };
    format!("{text}\n{}", "-".repeat(width(text).min(COLUMNS)))
}

fn finding(arguments: &[&str]) -> String {
    let [id, name, aside] = arguments else { return String::new() };
    let aside = if aside.is_empty() { String::new() } else { format!(" ({aside})") };
    indented(&format!("{id}. {name}{aside}"), 2, 5)
}

fn sides(arguments: &[&str]) -> String {
    let [left, right] = arguments else { return String::new() };
    let gap = COLUMNS.saturating_sub(width(left) + width(right));
    match gap {
        0 | 1 => format!("{}\n{right}", indented(left, 0, 0)),
        _ => format!("{left}{}{right}", " ".repeat(gap)),
    }
}

fn rule(arguments: &[&str]) -> String {
    arguments.first().unwrap_or(&"-").repeat(COLUMNS)
}

/// Lines of at most 78 columns, the first indented by `first`, the others by `next`.
fn indented(text: &str, first: usize, next: usize) -> String {
    let lines = wrapped(text, COLUMNS - first.max(next));
    let line = |(n, line): (usize, &String)| match n {
        0 => " ".repeat(first) + line,
        _ => " ".repeat(next) + line,
    };
    lines.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")
}

/// Breaks at spaces, between East Asian characters, and inside words that are too long.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in pieces(paragraph) {
            if width(&line) + width(word.trim_end()) > columns && !line.is_empty() {
                lines.push(line.trim_end().to_owned());
                line.clear();
            }
            for character in word.chars() {
                if width(&line) + columns_of(character) > columns && character != ' ' {
                    lines.push(std::mem::take(&mut line));
                }
                line.push(character);
            }
        }
        lines.push(line.trim_end().to_owned());
    }
    if lines.is_empty() {
        lines.push(String::new());
    }
    lines
}

/// What must stay together: a word with the space behind it, or one Chinese character with the
/// punctuation behind it. Korean is broken at its spaces.
fn pieces(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut previous = ' ';
    for (at, character) in text.char_indices() {
        let after_space = previous == ' ' && character != ' ';
        let han = |c: char| {
            ('\u{2e80}'..='\u{9fff}').contains(&c) && !('\u{3000}'..='\u{303f}').contains(&c)
        };
        if at > start && (after_space || (han(previous) && han(character))) {
            found.push(&text[start..at]);
            start = at;
        }
        previous = character;
    }
    if start < text.len() {
        found.push(&text[start..]);
    }
    found
}

fn width(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

/// Columns of a character in a terminal (after Unicode Standard Annex 11).
fn columns_of(character: char) -> usize {
    match character {
        '\u{300}'..='\u{36f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::assessment::Assessment;
    use crate::domain::sample::needs_review;
    use crate::domain::sample::not_covered_ct;
    use crate::domain::sample::positive_chest;
    use crate::report::Communication;
    use crate::report::Language;
    use crate::report::sample;

    fn report(assessment: &Assessment, language: Language) -> String {
        let site = sample::site();
        let (pictures, communications) = (&[], &[]);
        text(&ReportInput { assessment, language, pictures, communications, site: &site }).unwrap()
    }

    #[test]
    fn no_line_is_wider_than_78_columns() {
        for language in Language::ALL {
            for mut assessment in [positive_chest(), not_covered_ct(), needs_review()] {
                assessment.impression =
                    "Ein sehr langer Satz ohne Ende ".repeat(20) + &"x".repeat(200);
                assessment.clinical_information = "환자는 발열과 기침이 있습니다 王小东".repeat(10);
                assessment.study.attributes.study_description = "界".repeat(90);
                for line in report(&assessment, language).lines() {
                    assert!(width(line) <= COLUMNS, "{language:?} {} {line}", width(line));
                }
            }
        }
    }

    #[test]
    fn the_text_of_the_positive_study_is_as_written_here() {
        let text = report(&positive_chest(), Language::En);
        let start = text.find("Findings\n").unwrap();
        let end = text.find("Limitations\n").unwrap();
        let expected = "\
Findings
--------
  F1. Pneumothorax
     pleura, left, severe
     Large left pneumothorax with displacement of the mediastinum.
  Certainty:              93%
  Urgency:                Critical
  Image:                  series 1, instance 1
  Measured:               Diameter 41.3 mm
  Differential:           Bulla; Skin fold
  Recommendations:        Immediate clinical assessment.

  F2. Consolidation of lung
     lung, right, mild
     Patchy consolidation in the right lower zone.
  Certainty:              71%
  Urgency:                Significant
  Image:                  series 1, instance 1
  Differential:           Pneumonia; Aspiration
  Recommendations:        Follow-up radiograph after treatment.

    Looked for, below threshold                        Probability of presence
    Pleural effusion                                                        4%

  What was looked for
    Pneumothorax, Consolidation of lung, Pleural effusion
    Nothing else was looked for.

";
        assert_eq!(&text[start..end], expected);
    }

    #[test]
    fn nothing_is_escaped_and_nothing_acts() {
        let mut assessment = positive_chest();
        assessment.impression = "a < b & \"c\" {{w.title}} \u{1b}[2J".into();
        let text = report(&assessment, Language::En);
        assert!(text.contains("a < b & \"c\" {{w.title}} \u{fffd}[2J"), "{text}");
    }

    #[test]
    fn communications_are_listed_with_time_person_and_way() {
        let assessment = positive_chest();
        let communications = [Communication {
            at: assessment.finished_at,
            what: "Pneumothorax".into(),
            to: "Dr. Lee".into(),
            by: "Prelim".into(),
            how: "e-mail".into(),
            acknowledged_at: None,
            acknowledged_by: String::new(),
        }];
        let site = sample::site();
        let input = ReportInput {
            assessment: &assessment,
            language: Language::En,
            pictures: &[],
            communications: &communications,
            site: &site,
        };
        let text = text(&input).unwrap();
        for line in ["To:                     Dr. Lee", "Acknowledged:           not yet"] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(!text.contains("None recorded"));
    }

    #[test]
    fn words_break_at_spaces_and_chinese_between_characters() {
        assert_eq!(wrapped("aa bb cc", 5), ["aa bb", "cc"]);
        assert_eq!(wrapped("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(wrapped("没有超过阈值", 6), ["没有超", "过阈值"]);
        assert_eq!(wrapped("기준 이상인 것이", 9), ["기준", "이상인", "것이"]);
        assert_eq!(wrapped("a\n\nb", 9), ["a", "", "b"]);
    }
}
