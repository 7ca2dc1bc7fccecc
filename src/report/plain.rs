//! Text from outside made safe to print, and dates and numbers as people write them.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::civil::Time;
use jiff::tz::TimeZone;

use crate::domain::study::PersonName;
use crate::report::words::Language;
use crate::report::words::Words;
use crate::report::words::fill;

/// Characters of one value in a header, a cell or a list.
const LINE_MAX: usize = 200;
/// Characters of a free text: a paragraph of a model or of an order.
const TEXT_MAX: usize = 4000;

/// One line: control characters are visible as U+FFFD, line ends and tabs are spaces, what
/// changes the direction of reading or cannot be seen is gone. Cut at 200 characters.
pub fn line(raw: &str) -> String {
    let text = safe(raw, LINE_MAX).replace('\n', " ");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// As [`line`], but keeps line ends (at most one empty line in a row). Cut at 4,000 characters.
pub fn paragraph(raw: &str) -> String {
    let text = safe(raw, TEXT_MAX);
    let mut lines: Vec<String> = Vec::new();
    for one in text.lines() {
        let one = one.split_whitespace().collect::<Vec<_>>().join(" ");
        if !(one.is_empty() && lines.last().is_none_or(String::is_empty)) {
            lines.push(one);
        }
    }
    lines.join("\n").trim_end().to_owned()
}

fn safe(raw: &str, max: usize) -> String {
    let raw = raw.trim();
    let mut text: String = raw.chars().take(max).filter_map(visible).collect();
    if raw.chars().nth(max).is_some() {
        text.push('…');
    }
    text
}

/// The character to print for one from outside, or none.
fn visible(character: char) -> Option<char> {
    match character {
        '\n' | '\u{2028}' | '\u{2029}' | '\u{85}' => Some('\n'),
        '\t' | '\r' => Some(' '),
        // Direction marks, embeddings, overrides, isolates; zero-width and tag characters.
        '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{202a}'..='\u{202e}' => None,
        '\u{2060}'..='\u{206f}' | '\u{200b}' | '\u{feff}' | '\u{ad}' | '\u{fff9}'..='\u{fffb}' => {
            None
        }
        '\u{e0000}'..='\u{e0fff}' => None,
        other if other.is_control() => Some(char::REPLACEMENT_CHARACTER),
        other => Some(other),
    }
}

/// "Family, Given (ideographic, phonetic)": all component groups, so that nobody is mixed up.
pub fn person(name: &PersonName) -> String {
    let western = PersonName { alphabetic: name.alphabetic.clone(), ..PersonName::default() };
    let native: Vec<String> = [&name.ideographic, &name.phonetic]
        .iter()
        .map(|group| line(&group.replace('^', " ")))
        .filter(|group| !group.is_empty())
        .collect();
    match (line(&western.display()), native.join(", ")) {
        (western, native) if native.is_empty() => western,
        (western, native) if western.is_empty() => native,
        (western, native) => format!("{western} ({native})"),
    }
}

/// A DA value (`YYYYMMDD`, old form `YYYY.MM.DD`) in the language's usual form; what is no
/// date is shown as it is.
pub fn date(value: &str, language: Language) -> String {
    let digits: String = value.trim().chars().filter(|c| *c != '.' && *c != '-').collect();
    match Date::strptime("%Y%m%d", &digits) {
        Ok(date) => written_date(date, language),
        Err(_) => line(value),
    }
}

fn written_date(date: Date, language: Language) -> String {
    let (year, month, day) = (date.year(), date.month(), date.day());
    match language {
        Language::En => date.strftime("%-d %b %Y").to_string(),
        Language::Ko => format!("{year}년 {month}월 {day}일"),
        Language::Vi => format!("{day:02}/{month:02}/{year}"),
        Language::Zh => format!("{year}年{month}月{day}日"),
    }
}

/// A TM value (`HHMMSS.FFFFFF`, shorter forms, old form `HH:MM:SS`) as `HH:MM`; empty when it
/// says nothing.
pub fn time(value: &str) -> String {
    let digits: String = value.trim().chars().filter(|c| *c != ':').collect();
    let whole = digits.split('.').next().unwrap_or_default();
    let number = |range: std::ops::Range<usize>| whole.get(range).and_then(|s| s.parse().ok());
    match (number(0..2), number(2..4).or((whole.len() == 2).then_some(0))) {
        (Some(hour), Some(minute)) if Time::new(hour, minute, 0, 0).is_ok() => {
            format!("{hour:02}:{minute:02}")
        }
        _ => line(value),
    }
}

/// Study date and time in one.
pub fn date_time(da: &str, tm: &str, language: Language) -> String {
    let parts = [date(da, language), time(tm)];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

/// A moment in the site's time zone, with its distance to UTC.
pub fn moment(at: Timestamp, zone: &TimeZone, language: Language) -> String {
    let local = at.to_zoned(zone.clone());
    let seconds = local.offset().seconds();
    let distance = match seconds {
        0 => "UTC".to_owned(),
        s => format!(
            "UTC{}{:02}:{:02}",
            if s < 0 { '-' } else { '+' },
            s.abs() / 3600,
            s.abs() / 60 % 60
        ),
    };
    format!("{}, {} ({distance})", written_date(local.date(), language), local.strftime("%H:%M:%S"))
}

/// An age in years as people say it: years, below two years months, below two months days.
pub fn age(years: f64, words: &Words) -> String {
    let (months, days) = (years * 12.0, years * 365.25);
    let (text, number) = if years >= 2.0 {
        (words.years, years + 0.001)
    } else if months >= 2.0 {
        (words.months, months + 0.01)
    } else {
        (words.days, days + 0.1)
    };
    fill(text, &[("n", &format!("{:.0}", number.floor()))])
}

/// A number without needless digits: 41.3, 120, 0.04.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return "?".into();
    }
    let digits = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 1.0 => 1,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// A UCUM code as it is printed.
pub fn unit(ucum: &str) -> String {
    match ucum {
        "1" => String::new(),
        "[hnsf'U]" => "HU".into(),
        "Cel" => "°C".into(),
        "deg" => "°".into(),
        "um" => "µm".into(),
        "mm2" => "mm²".into(),
        "cm2" => "cm²".into(),
        "mm3" => "mm³".into(),
        "cm3" => "cm³".into(),
        annotation if annotation.starts_with('{') && annotation.ends_with('}') => {
            line(annotation.trim_matches(['{', '}']))
        }
        other => line(other),
    }
}

/// Value and unit with a space between.
pub fn quantity(value: &str, ucum: &str) -> String {
    line(&format!("{} {}", line(value), unit(ucum)))
}

/// Whole numbers as ranges: `1-3, 7`. At most `max` ranges, the rest as `…`.
pub fn ranges(mut numbers: Vec<i32>, max: usize) -> String {
    numbers.sort_unstable();
    numbers.dedup();
    let mut found: Vec<(i32, i32)> = Vec::new();
    for number in numbers {
        match found.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(number) => *last = number,
            _ => found.push((number, number)),
        }
    }
    let written = found.iter().take(max).map(|(from, to)| match from == to {
        true => from.to_string(),
        false => format!("{from}-{to}"),
    });
    let text = written.collect::<Vec<_>>().join(", ");
    if found.len() > max { text + ", …" } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_act() {
        assert_eq!(line("a\u{1b}[31mb\0"), "a\u{fffd}[31mb\u{fffd}");
        assert_eq!(line(" two\r\nlines\there "), "two lines here");
        assert_eq!(line("evil\u{202e}gpj.exe\u{2066}\u{200b}\u{feff}"), "evilgpj.exe");
        assert_eq!(line(&"x".repeat(60_000)).chars().count(), 201);
        assert_eq!(paragraph("a\n\n\n\nb\r\nc \u{7}"), "a\n\nb\nc \u{fffd}");
        assert_eq!(paragraph(&"x".repeat(60_000)).chars().count(), 4001);
        assert_eq!(line("홍길동 Nguyễn 王小东"), "홍길동 Nguyễn 王小东");
    }

    #[test]
    fn a_name_shows_all_its_groups() {
        let name = PersonName::parse("Hong^Gildong=洪^吉洞=홍^길동");
        assert_eq!(person(&name), "Hong, Gildong (洪 吉洞, 홍 길동)");
        assert_eq!(person(&PersonName::parse("=洪^吉洞")), "洪 吉洞");
        assert_eq!(person(&PersonName::parse("Doe^Jane^M^Dr.")), "Doe, Jane M Dr.");
        assert_eq!(person(&PersonName::default()), "");
    }

    #[test]
    fn dates_and_times_are_written_as_people_write_them() {
        let all = |da| Language::ALL.map(|language| date(da, language));
        assert_eq!(all("20260302"), ["2 Mar 2026", "2026년 3월 2일", "02/03/2026", "2026年3月2日"]);
        assert_eq!(date("2026.03.02", Language::En), "2 Mar 2026");
        assert_eq!(date("20261399", Language::En), "20261399");
        assert_eq!(date("", Language::En), "");
        for (tm, written) in
            [("101400.5", "10:14"), ("1014", "10:14"), ("10", "10:00"), ("10:14:00", "10:14")]
        {
            assert_eq!(time(tm), written, "{tm}");
        }
        for odd in ["", "991400", "x", "1", "é0é0"] {
            assert_eq!(time(odd), odd);
        }
        assert_eq!(date_time("20260302", "", Language::En), "2 Mar 2026");
        assert_eq!(date_time("20260302", "101400", Language::Vi), "02/03/2026, 10:14");
        let at: Timestamp = "2026-03-02T10:15:30Z".parse().unwrap();
        assert_eq!(moment(at, &TimeZone::UTC, Language::En), "2 Mar 2026, 10:15:30 (UTC)");
        let seoul = TimeZone::fixed(jiff::tz::offset(9));
        assert_eq!(moment(at, &seoul, Language::Ko), "2026년 3월 2일, 19:15:30 (UTC+09:00)");
    }

    #[test]
    fn numbers_are_written_as_people_write_them() {
        assert_eq!(
            [41.3, 120.4, 0.04, 7.0, -12.44].map(number),
            ["41.3", "120", "0.04", "7", "-12.4"]
        );
        assert_eq!(quantity("-12.4", "[hnsf'U]"), "-12.4 HU");
        assert_eq!(quantity("28", "1"), "28");
        assert_eq!(ranges(vec![3, 1, 2, 7, 7], 4), "1-3, 7");
        assert_eq!(ranges(vec![1, 3, 5], 2), "1, 3, …");
        let en = Words::of(Language::En);
        assert_eq!(
            [4.0, 6.05, 1.5, 0.1].map(|years| age(years, &en)),
            ["4 years", "6 years", "18 months", "36 days"]
        );
    }
}
