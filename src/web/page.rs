//! What the pages share: templates, their frame, words for states and times.

use std::sync::LazyLock;

use axum::http::Method;
use axum::response::Html;
use axum::response::IntoResponse as _;
use axum::response::Response;
use handlebars::Handlebars;
use handlebars::handlebars_helper;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rust_embed::RustEmbed;
use serde::Serialize;

use crate::domain::priority::Priority;
use crate::domain::urgency::Urgency;
use crate::report::Language;
use crate::store::AlertRow;
use crate::store::event::StudyState;
use crate::web::Shared;
use crate::web::access::rights::Right;
use crate::web::access::rights::right_for;
use crate::web::problem::Failure;
use crate::web::status;
use crate::web::words;
use crate::web::words::Phrase;

#[derive(RustEmbed)]
#[folder = "templates/web"]
struct Templates;

/// Templates escape what they show; a field that is missing is an error, not an empty place.
/// One set for each language, in the order of [`words::LANGUAGES`].
pub struct Pages(LazyLock<[Handlebars<'static>; 4]>);

/// Head and foot of every page.
#[derive(Debug, Default, Serialize)]
pub struct Frame {
    /// Key of the page's title, or the title.
    pub title: String,
    /// Which of [`TABS`] it is, or empty.
    pub tab: &'static str,
    /// Those that who asks may see.
    pub tabs: Vec<&'static Tab>,
    /// For the `lang` attribute (BCP 47).
    pub lang: &'static str,
    pub languages: Vec<LanguagePart>,
    /// Path and query of this page.
    pub path: String,
    /// Whether there is someone to log out.
    pub login: bool,
    /// What an operator should know now.
    pub alarms: Vec<String>,
    /// Dead letters.
    pub dead: usize,
    /// Where changes are told, and what is shown now; empty for pages that stand still.
    pub events: String,
    pub version: String,
    pub made_at: Moment,
    pub program: &'static str,
}

#[derive(Debug, Serialize)]
pub struct Tab {
    pub key: &'static str,
    pub href: &'static str,
}

impl Tab {
    fn is_for(&self, rights: &[Right]) -> bool {
        right_for(&Method::GET, self.href).is_none_or(|right| rights.contains(&right))
    }
}

const fn tab(key: &'static str, href: &'static str) -> Tab {
    Tab { key, href }
}

/// In the head of every page.
const TABS: &[Tab] = &[
    tab("worklist", "/"),
    tab("queue", "/queue"),
    tab("sources", "/sources"),
    tab("analysis", "/analysis"),
    tab("rules", "/rules"),
    tab("audit", "/audit"),
    tab("accounts", "/accounts"),
    tab("settings", "/settings"),
];

#[derive(Debug, Serialize)]
pub struct LanguagePart {
    key: &'static str,
    name: &'static str,
    /// Two letters.
    short: &'static str,
    chosen: bool,
}

impl Frame {
    pub fn new(web: &Shared, title: &str, tab: &'static str) -> Frame {
        Frame {
            tab,
            tabs: TABS.iter().filter(|tab| tab.is_for(&words::asked().rights)).collect(),
            languages: words::LANGUAGES
                .iter()
                .map(|(language, name)| LanguagePart {
                    key: language.as_str(),
                    name,
                    short: language.pick(["EN", "한", "VI", "中"]),
                    chosen: *language == words::asked().language,
                })
                .collect(),
            path: words::asked().path,
            login: web.access.has_login(),
            alarms: status::look(web).reasons().to_vec(),
            dead: web.node.store.job_counts().dead,
            made_at: moment(web.node.clock.now(), web.node.clock.now()),
            ..Frame::bare(title)
        }
    }

    /// Without what is for those alone who are known here.
    pub fn bare(title: &str) -> Frame {
        let lang = words::asked().language.tag();
        Frame { title: title.to_owned(), lang, program: PROGRAM, ..Frame::default() }
    }
}

const PROGRAM: &str = concat!("Prelim ", env!("CARGO_PKG_VERSION"));

handlebars_helper!(may: |right: str| words::may(right));

impl Pages {
    /// The templates are parsed when the first page is asked for: a node that starts has to answer
    /// scanners first.
    pub fn new() -> Pages {
        Pages(LazyLock::new(|| words::LANGUAGES.map(|(language, _)| Pages::in_language(language))))
    }

    fn in_language(language: Language) -> Handlebars<'static> {
        let mut templates = Handlebars::new();
        templates.set_strict_mode(true);
        templates.register_helper("t", Box::new(words::Helping(language)));
        templates.register_helper("may", Box::new(may));
        templates.register_helper("finding", Box::new(words::Naming(language)));
        for file in Templates::iter() {
            let Some(name) = file.strip_suffix(".hbs") else { continue };
            let source = Templates::get(&file).expect("a name that it listed");
            let source = String::from_utf8_lossy(&source.data).into_owned();
            let known = templates.register_template_string(name, source);
            known.unwrap_or_else(|error| panic!("templates/web/{file}, built in: {error}"));
        }
        templates
    }

    pub fn render(&self, template: &str, page: &impl Serialize) -> Result<Response, Failure> {
        Ok(Html(self.text(template, page)?).into_response())
    }

    fn text(&self, template: &str, page: &impl Serialize) -> Result<String, Failure> {
        let [en, ko, vi, zh] = &*self.0;
        let templates = words::asked().language.pick([en, ko, vi, zh]);
        templates.render(template, page).map_err(|error| {
            // Where in the template; not what was to be shown.
            let (line, column) = (error.line_no, error.column_no);
            tracing::error!(template, ?line, ?column, "a page could not be made");
            Failure::internal("The page could not be made.")
        })
    }

    pub fn failure(&self, failure: &Failure) -> Html<String> {
        #[derive(Serialize)]
        struct Page<'a> {
            frame: Frame,
            status: u16,
            detail: &'a Phrase,
        }
        let status = failure.status.as_u16();
        let title = Phrase::new(format!("failure.{status}")).here();
        let page = Page { frame: Frame::bare(&title), status, detail: &failure.detail };
        Html(self.text("failure", &page).unwrap_or_default())
    }
}

/// Of a metric: methods of one's own invention are one.
pub fn method_label(method: &Method) -> String {
    match *method {
        Method::GET | Method::HEAD | Method::POST => method.as_str().to_owned(),
        _ => "other".to_owned(),
    }
}

/// A time in the node's time zone and how long ago it was.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Moment {
    pub iso: String,
    pub text: String,
    pub ago: Phrase,
}

pub fn moment(at: Timestamp, now: Timestamp) -> Moment {
    let local = at.to_zoned(TimeZone::system());
    Moment {
        iso: at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        text: local.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        ago: ago(now.duration_since(at).as_secs()),
    }
}

fn ago(seconds: i64) -> Phrase {
    match seconds {
        ..60 => Phrase::new("ago.now"),
        60..7200 => Phrase::new("ago.minutes").with("n", seconds / 60),
        7200..172_800 => Phrase::new("ago.hours").with("n", seconds / 3600),
        _ => Phrase::new("ago.days").with("n", seconds / 86_400),
    }
}

/// A size for people.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} kB", bytes / 1_000),
        1_000_000..1_000_000_000 => format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10),
        _ => format!("{}.{} GB", bytes / 1_000_000_000, bytes / 100_000_000 % 10),
    }
}

/// What a row or a study says first: never by colour alone, so a word and an icon of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Level {
    /// CSS class, icon and, in `level`, the word.
    pub key: &'static str,
    /// Place in the worklist, the lowest first.
    #[serde(skip)]
    pub rank: u8,
}

const fn level_of(key: &'static str, rank: u8) -> Level {
    Level { key, rank }
}

/// A study that was not assessed is never shown as routine.
pub fn level(state: StudyState, outcome: Option<&str>, urgency: Option<Urgency>) -> Level {
    let read = outcome == Some("read");
    match (urgency, state) {
        (Some(Urgency::Critical), _) => level_of("critical", 0),
        (_, StudyState::NeedsReview) => level_of("review", 1),
        _ if outcome == Some("needs_review") => level_of("review", 1),
        (_, StudyState::Failed) => level_of("failed", 1),
        (Some(Urgency::Urgent), _) => level_of("urgent", 1),
        (Some(Urgency::Significant), _) => level_of("significant", 2),
        (_, StudyState::Held) => level_of("held", 3),
        _ if matches!(outcome, Some("not_covered" | "measured_only")) => level_of("unassessed", 3),
        (Some(Urgency::Routine), _) if read => level_of("routine", 3),
        // Its reader knows only some of what such an examination is looked through for.
        (None, _) if read => level_of("unassessed", 3),
        (Some(Urgency::Routine) | None, _) => level_of("pending", 3),
    }
}

/// Of a study beside its alerts: one that nobody has answered keeps its place, whatever a later reading
/// says.
pub fn level_with<'a>(study: Level, unanswered: impl IntoIterator<Item = &'a AlertRow>) -> Level {
    unanswered.into_iter().map(|row| alert_level(row.urgency)).fold(study, first)
}

/// The one that comes first in the worklist.
pub fn first(one: Level, other: Level) -> Level {
    if other.rank < one.rank { other } else { one }
}

/// Of an alert: who has to look at a study that could not be read is not told that it is routine.
pub fn alert_level(urgency: Option<Urgency>) -> Level {
    urgency.map_or(level_of("review", 1), urgency_level)
}

pub fn urgency_level(urgency: Urgency) -> Level {
    match urgency {
        Urgency::Critical => level_of("critical", 0),
        Urgency::Urgent => level_of("urgent", 1),
        Urgency::Significant => level_of("significant", 2),
        Urgency::Routine => level_of("routine", 3),
    }
}

/// How soon a study is wanted, where that is sooner than usual; else empty.
pub fn sooner(priority: Priority) -> &'static str {
    match priority {
        Priority::Stat | Priority::Urgent => priority.as_str(),
        Priority::Routine => "",
    }
}

/// `20240131` as `2024-01-31`; anything else as it is.
pub fn date(da: &str) -> String {
    match da.len() == 8 && da.bytes().all(|b| b.is_ascii_digit()) {
        true => format!("{}-{}-{}", &da[..4], &da[4..6], &da[6..]),
        false => da.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_assessed_is_not_routine() {
        let routine = Some(Urgency::Routine);
        assert_eq!(level(StudyState::Delivered, Some("read"), routine).key, "routine");
        for (state, outcome, key) in [
            (StudyState::Delivered, Some("not_covered"), "unassessed"),
            (StudyState::Delivered, Some("needs_review"), "review"),
            (StudyState::NeedsReview, None, "review"),
            (StudyState::Failed, None, "failed"),
            (StudyState::Receiving, None, "pending"),
            (StudyState::Held, None, "held"),
        ] {
            assert_eq!(level(state, outcome, routine).key, key, "{state:?} {outcome:?}");
        }
        let of_one_question = level(StudyState::Delivered, Some("read"), None);
        assert_eq!(of_one_question.key, "unassessed", "its reader knows one finding of many");
        let critical = level(StudyState::Receiving, Some("read"), Some(Urgency::Critical));
        assert_eq!((critical.key, critical.rank), ("critical", 0));
    }

    #[test]
    fn every_template_is_read() {
        let pages = Pages::new();
        for name in [
            "worklist", "study", "queue", "sources", "login", "account", "answer", "failure",
            "top", "bottom",
        ] {
            assert!(pages.0[3].has_template(name), "{name}");
        }
    }

    #[test]
    fn times_and_sizes_are_for_people() {
        let minutes = Phrase::new("ago.minutes").with("n", 119);
        assert_eq!((ago(-5), ago(7199)), (Phrase::new("ago.now"), minutes));
        assert_eq!(ago(7200), Phrase::new("ago.hours").with("n", 2));
        assert_eq!((size(999), size(1_250_000)), ("999 B".into(), "1.2 MB".into()));
        assert_eq!((date("20240131"), date("2024")), ("2024-01-31".into(), "2024".into()));
    }
}
