//! Who did what: the ledger's deeds on a page.

use axum::Extension;
use axum::extract::Query;
use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde::Serialize;

use crate::domain::uid::StudyUid;
use crate::store::AuditQuery;
use crate::store::AuditRow;
use crate::web::Shared;
use crate::web::Web;
use crate::web::access::Viewer;
use crate::web::local;
use crate::web::page;
use crate::web::page::Frame;
use crate::web::page::Moment;
use crate::web::problem::Failure;
use crate::web::query;
use crate::web::query::Choice;

const ROWS: usize = 100;
const DEEDS: [&str; 5] = ["looked", "login", "changed", "sent", "answered"];

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Wanted {
    who: String,
    deed: String,
    study: String,
    from: String,
    to: String,
    /// Place of the last row of the page before.
    before: String,
}

#[derive(Serialize)]
struct Page {
    frame: Frame,
    wanted: Wanted,
    deeds: Vec<Choice>,
    rows: Vec<Row>,
    first: Option<String>,
    next: Option<String>,
}

#[derive(Serialize)]
struct Row {
    at: Moment,
    deed: String,
    by: String,
    what: String,
    study_uid: Option<StudyUid>,
}

/// Midnight at which a day begins, `days` later.
fn day(text: &str, days: i32) -> Option<Timestamp> {
    let date = text.parse::<Date>().ok()?.saturating_add(jiff::Span::new().days(days));
    Some(date.to_zoned(TimeZone::system()).ok()?.timestamp())
}

impl Wanted {
    fn query(&self) -> AuditQuery {
        let given = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        AuditQuery {
            since: day(&self.from, 0),
            until: day(&self.to, 1),
            who: given(&self.who),
            study: StudyUid::parse(self.study.trim()).ok(),
            deed: serde_json::from_value(serde_json::json!(self.deed)).ok(),
            before: self.before.parse().ok(),
            limit: ROWS,
        }
    }

    fn href(&self, before: &str) -> String {
        let fields = [
            ("who", self.who.as_str()),
            ("deed", &self.deed),
            ("study", &self.study),
            ("from", &self.from),
            ("to", &self.to),
            ("before", before),
        ];
        query::href("/audit", &fields)
    }
}

pub async fn show(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Failure> {
    web.audit.look(None, local::AUDIT_LOG, &viewer).await;
    let page = web.read(move |web| page_of(web, wanted)).await?;
    web.pages.render("audit", &page)
}

fn page_of(web: &Shared, wanted: Wanted) -> Result<Page, Failure> {
    let now = web.node.clock.now();
    let found = web.node.store.audit(&wanted.query())?;
    let row = |row: AuditRow| Row {
        at: page::moment(row.at, now),
        deed: row.deed.as_str().to_owned(),
        by: row.by,
        what: row.what,
        study_uid: row.study_uid,
    };
    Ok(Page {
        frame: Frame::new(web, "audit", "audit"),
        deeds: query::words("deed", DEEDS.map(str::to_owned), &wanted.deed),
        rows: found.rows.into_iter().map(row).collect(),
        first: (!wanted.before.is_empty()).then(|| wanted.href("")),
        next: found.next.map(|place| wanted.href(&place.to_string())),
        wanted,
    })
}
