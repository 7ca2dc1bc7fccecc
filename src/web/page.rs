//! What the pages share: templates, their frame, words for states and times.

use std::sync::LazyLock;

use axum::http::Method;
use axum::response::Html;
use axum::response::IntoResponse as _;
use axum::response::Response;
use handlebars::Handlebars;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rust_embed::RustEmbed;
use serde::Serialize;

use crate::domain::urgency::Urgency;
use crate::store::DeliveryState;
use crate::store::event::StudyState;
use crate::web::Shared;
use crate::web::problem::Failure;
use crate::web::status;

#[derive(RustEmbed)]
#[folder = "templates/web"]
struct Templates;

/// Templates escape what they show; a field that is missing is an error, not an empty place.
pub struct Pages(LazyLock<Handlebars<'static>>);

/// Head and foot of every page.
#[derive(Debug, Default, Serialize)]
pub struct Frame {
    pub title: String,
    /// `worklist`, `queue`, `sources` or empty.
    pub tab: &'static str,
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

impl Frame {
    pub fn new(web: &Shared, title: &str, tab: &'static str) -> Frame {
        Frame {
            title: title.to_owned(),
            tab,
            login: web.access.has_login(),
            alarms: status::look(web).reasons().to_vec(),
            dead: web.node.store.job_counts().dead,
            made_at: moment(web.node.clock.now(), web.node.clock.now()),
            program: PROGRAM,
            ..Frame::default()
        }
    }

    pub fn bare(title: &str) -> Frame {
        Frame { title: title.to_owned(), program: PROGRAM, ..Frame::default() }
    }
}

const PROGRAM: &str = concat!("Prelim ", env!("CARGO_PKG_VERSION"));

impl Pages {
    /// The templates are parsed when the first page is asked for: a node that starts has to answer
    /// scanners first.
    pub fn new() -> Pages {
        Pages(LazyLock::new(|| {
            let mut templates = Handlebars::new();
            templates.set_strict_mode(true);
            for file in Templates::iter() {
                let Some(name) = file.strip_suffix(".hbs") else { continue };
                let source = Templates::get(&file).expect("a name that it listed");
                let source = String::from_utf8_lossy(&source.data).into_owned();
                let known = templates.register_template_string(name, source);
                known.unwrap_or_else(|error| panic!("templates/web/{file}, built in: {error}"));
            }
            templates
        }))
    }

    pub fn render(&self, template: &str, page: &impl Serialize) -> Result<Response, Failure> {
        Ok(Html(self.text(template, page)?).into_response())
    }

    fn text(&self, template: &str, page: &impl Serialize) -> Result<String, Failure> {
        self.0.render(template, page).map_err(|error| {
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
            detail: &'a str,
        }
        let title = failure.status.canonical_reason().unwrap_or("Error");
        let status = failure.status.as_u16();
        let page = Page { frame: Frame::bare(title), status, detail: &failure.detail };
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
    pub ago: String,
}

pub fn moment(at: Timestamp, now: Timestamp) -> Moment {
    let local = at.to_zoned(TimeZone::system());
    Moment {
        iso: at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        text: local.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        ago: ago(now.duration_since(at).as_secs()),
    }
}

fn ago(seconds: i64) -> String {
    match seconds {
        ..60 => "just now".into(),
        60..7200 => format!("{} min ago", seconds / 60),
        7200..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
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
    /// CSS class and icon.
    pub key: &'static str,
    pub word: &'static str,
    /// Place in the worklist, the lowest first.
    #[serde(skip)]
    pub rank: u8,
}

const fn level_of(key: &'static str, word: &'static str, rank: u8) -> Level {
    Level { key, word, rank }
}

/// A study that was not assessed is never shown as routine.
pub fn level(state: StudyState, outcome: Option<&str>, urgency: Option<Urgency>) -> Level {
    let read = outcome == Some("read");
    match (urgency, state) {
        (Some(Urgency::Critical), _) => level_of("critical", "Critical", 0),
        (_, StudyState::NeedsReview) => level_of("review", "Needs review", 1),
        _ if outcome == Some("needs_review") => level_of("review", "Needs review", 1),
        (_, StudyState::Failed) => level_of("failed", "Failed", 1),
        (Some(Urgency::Urgent), _) => level_of("urgent", "Urgent", 1),
        (Some(Urgency::Significant), _) => level_of("significant", "Significant", 2),
        (_, StudyState::Held) => level_of("held", "Held back", 3),
        _ if outcome == Some("not_covered") => level_of("unassessed", "Not assessed", 3),
        (Some(Urgency::Routine), _) if read => level_of("routine", "Routine", 3),
        (Some(Urgency::Routine) | None, _) => level_of("pending", "In progress", 3),
    }
}

pub fn urgency_level(urgency: Urgency) -> Level {
    match urgency {
        Urgency::Critical => level_of("critical", "Critical", 0),
        Urgency::Urgent => level_of("urgent", "Urgent", 1),
        Urgency::Significant => level_of("significant", "Significant", 2),
        Urgency::Routine => level_of("routine", "Routine", 3),
    }
}

pub fn state_word(state: StudyState) -> &'static str {
    match state {
        StudyState::Receiving => "Receiving",
        StudyState::Ready => "Waiting to be read",
        StudyState::Analysing => "Being read",
        StudyState::Judged => "Read",
        StudyState::Composed => "Report written",
        StudyState::Delivered => "Delivered",
        StudyState::Held => "Held back",
        StudyState::NeedsReview => "Needs review",
        StudyState::Failed => "Failed",
        StudyState::Superseded => "Superseded",
    }
}

pub fn delivery_word(state: DeliveryState) -> &'static str {
    match state {
        DeliveryState::Queued => "On its way",
        DeliveryState::Unproven => "Taken, not proven yet",
        DeliveryState::Done => "Done",
        DeliveryState::Dead => "Given up",
        DeliveryState::Dropped => "Not needed any more",
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
            assert!(pages.0.has_template(name), "{name}");
        }
    }

    #[test]
    fn times_and_sizes_are_for_people() {
        assert_eq!(ago(-5), "just now");
        assert_eq!((ago(61), ago(7200)), ("1 min ago".into(), "2 h ago".into()));
        assert_eq!((size(999), size(1_250_000)), ("999 B".into(), "1.2 MB".into()));
        assert_eq!((date("20240131"), date("2024")), ("2024-01-31".into(), "2024".into()));
    }
}
