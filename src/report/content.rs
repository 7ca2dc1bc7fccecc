//! What a report says, before it has a form: an assessment in the words of one language.
//!
//! Sections in the order of the ACR parameter on communication; the rules P1 to P6 on what a
//! preliminary report must and must not say are kept here, once for all three forms.

mod findings;
mod images;
#[cfg(test)]
mod tests;

use jiff::tz::TimeZone;
use serde::Serialize;

use crate::domain::assessment::Assessment;
use crate::domain::assessment::Outcome;
use crate::domain::finding::Presence;
use crate::domain::looked::Compared;
use crate::domain::looked::Named;
use crate::domain::order::Sought;
use crate::domain::urgency::Urgency;
use crate::report::ReportInput;
use crate::report::names;
use crate::report::plain;
use crate::report::words::Language;
use crate::report::words::Words;
use crate::report::words::fill;

pub use images::media_type;

/// Rows of one table; what is beyond is counted, not printed.
const ROWS_MAX: usize = 400;
/// Pictures in a report.
const PICTURES_MAX: usize = 4;

#[derive(Debug, Clone, Serialize)]
pub struct Content {
    pub lang: &'static str,
    pub w: Words,
    pub facility: String,
    /// `data:` URI of the site's logo, or empty; only for HTML.
    pub logo: String,
    pub revision: String,
    /// In the header of each page.
    pub header: Header,
    pub identity: Vec<Field>,
    pub status: Status,
    pub urgency: Badge,
    pub clinical: String,
    pub materials: Vec<Field>,
    pub left_out: Vec<LeftOut>,
    pub comparison: String,
    /// Said in place of findings: none above threshold, not looked for, no result. Or empty.
    pub findings_note: &'static str,
    pub findings: Vec<FindingView>,
    pub undetermined: Vec<FindingView>,
    pub absent: Vec<FindingView>,
    pub more_findings: String,
    /// Names in the language of the report; empty when nothing was looked for.
    pub looked_for: String,
    /// What stands there when it is empty.
    pub looked_for_none: &'static str,
    /// True when the report holds free text that is not in its language.
    pub as_given: bool,
    pub pictures: Vec<PictureView>,
    pub limitations: Vec<String>,
    pub impression: Vec<String>,
    pub recommendations: Vec<String>,
    pub communications: Vec<CommunicationView>,
    pub measurements: Vec<MeasurementGroup>,
    pub notice: &'static str,
    pub about: Vec<Field>,
    /// Software and version, in the footer of each page.
    pub footer: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct Header {
    pub patient: String,
    pub patient_id: String,
    pub born: String,
    pub sex: String,
    pub examination: String,
    pub study_time: String,
    pub accession: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct Field {
    pub label: String,
    pub value: String,
}

/// How the reading ended; the three kinds look different.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// `read`, `not_covered` (also by the site's word or by rule) or `needs_review`.
    pub kind: &'static str,
    /// For a list of such studies.
    pub name: &'static str,
    /// The headline: of what needs review with its reason.
    pub title: String,
    pub line: String,
    pub reason: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct Badge {
    /// `critical`, `urgent`, `significant`, `routine` or `not_assessed`.
    pub key: &'static str,
    pub label: &'static str,
    pub line: &'static str,
}

#[derive(Debug, Clone, Serialize)]
pub struct LeftOut {
    pub title: &'static str,
    pub images: String,
    pub reason: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct FindingView {
    pub id: String,
    pub name: String,
    /// The English name in brackets when the name is another, or a note that it is English.
    pub aside: String,
    /// Site, side, severity.
    pub place: String,
    pub certainty: String,
    pub urgency: Badge,
    pub code: String,
    pub images: Vec<String>,
    /// False when `images` only says that there is none.
    pub has_images: bool,
    pub description: String,
    pub measured: String,
    pub differential: String,
    pub recommendation: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct PictureView {
    pub title: &'static str,
    pub caption: String,
    pub alt: String,
    pub width: f64,
    pub height: f64,
    /// In picture pixels.
    pub stroke: f64,
    pub font: f64,
    pub regions: Vec<RegionView>,
    /// `data:` URI; only for HTML.
    pub data: String,
    /// Place in the input's pictures.
    #[serde(skip)]
    pub index: usize,
}

/// A rectangle in picture pixels with its label.
#[derive(Debug, Clone, Serialize)]
pub struct RegionView {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
    pub label: String,
    pub text: String,
    /// Where the label's box stands: above the rectangle, or inside at the upper edge.
    pub label_x: f64,
    pub label_y: f64,
    pub label_width: f64,
    pub label_height: f64,
    pub baseline: f64,
}

#[derive(Debug, Clone, Serialize)]
pub struct CommunicationView {
    pub time: String,
    pub what: String,
    pub to: String,
    pub by: String,
    pub how: String,
    pub acknowledged: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct MeasurementGroup {
    pub title: String,
    pub rows: Vec<MeasurementRow>,
}

#[derive(Debug, Clone, Serialize)]
pub struct MeasurementRow {
    pub name: String,
    pub value: String,
    pub source: String,
}

/// The content of a report. Reads only its arguments.
pub fn content(input: &ReportInput<'_>) -> Content {
    let words = Words::of(input.language);
    let zone = input.site.zone().unwrap_or(TimeZone::UTC);
    Writer { input, a: input.assessment, w: words, language: input.language, zone }.write()
}

struct Writer<'a> {
    input: &'a ReportInput<'a>,
    a: &'a Assessment,
    w: Words,
    language: Language,
    zone: TimeZone,
}

impl Writer<'_> {
    fn write(&self) -> Content {
        let with = |presence| {
            let of_kind = self.a.findings.iter().filter(move |f| f.presence == presence);
            of_kind.take(ROWS_MAX).map(|finding| self.finding(finding)).collect::<Vec<_>>()
        };
        let (findings, undetermined, absent) =
            (with(Presence::Present), with(Presence::Undetermined), with(Presence::Absent));
        let shown = findings.len() + undetermined.len() + absent.len();
        let recommendations = self.recommendations();
        let looked_for = self.looked_for();
        Content {
            lang: self.language.tag(),
            facility: self.facility(),
            logo: String::new(),
            revision: match self.a.revision {
                0 | 1 => String::new(),
                n => fill(self.w.revision, &[("n", &n.to_string())]),
            },
            header: self.header(),
            identity: self.identity(),
            status: self.status(findings.len()),
            urgency: self.study_urgency(),
            clinical: self.clinical(),
            materials: self.materials(),
            left_out: self.left_out(),
            comparison: self.comparison(),
            findings_note: self.findings_note(findings.is_empty()),
            impression: self.impression(&findings, &undetermined),
            more_findings: self.more(self.a.findings.len().saturating_sub(shown)),
            as_given: self.has_free_text(),
            pictures: self.pictures(),
            limitations: self.limitations(),
            communications: self.communications(),
            measurements: self.measurements(),
            notice: match self.a.algorithm.measures_only {
                true => self.w.measures_notice,
                false => self.w.ai_notice,
            },
            about: self.about(),
            footer: plain::line(&self.a.algorithm.label()),
            w: match self.a.rules_out() {
                true => self.w.clone(),
                false => Words { absent: self.w.not_seen, ..self.w.clone() },
            },
            findings,
            undetermined,
            absent,
            looked_for,
            looked_for_none: self.looked_for_none(),
            recommendations,
        }
    }

    fn clinical(&self) -> String {
        let sought = match &self.a.study.order {
            Sought::Nowhere | Sought::Found { .. } => "",
            Sought::NotFound => self.w.order_none,
            Sought::OtherPatient => self.w.order_other,
        };
        let told = match plain::paragraph(&self.a.clinical_information) {
            text if text.is_empty() => self.w.clinical_none.to_owned(),
            text => text,
        };
        [told.as_str(), sought].join(" ").trim_end().to_owned()
    }

    fn given(&self, value: String) -> String {
        if value.is_empty() { self.w.not_given.into() } else { value }
    }

    fn field(&self, label: &str, value: String) -> Field {
        Field { label: label.into(), value: self.given(value) }
    }

    fn facility(&self) -> String {
        match plain::line(&self.input.site.facility) {
            own if own.is_empty() => plain::line(&self.a.study.attributes.institution_name),
            own => own,
        }
    }

    fn header(&self) -> Header {
        let (patient, study) = (&self.a.study.patient, &self.a.study.attributes);
        let age = self.a.study.age_years().map(|years| plain::age(years, &self.w));
        let born = match (plain::date(&patient.birth_date, self.language), age) {
            (born, Some(age)) if !born.is_empty() => format!("{born} ({age})"),
            (none, Some(age)) => format!("{} ({age})", self.given(none)),
            (born, None) => born,
        };
        Header {
            patient: self.given(plain::person(&patient.name)),
            patient_id: self.given(plain::line(&patient.id)),
            born: self.given(born),
            sex: self.sex(),
            examination: self.given(plain::line(&self.a.examination)),
            study_time: self.given(plain::date_time(
                &study.study_date,
                &study.study_time,
                self.language,
            )),
            accession: self.given(plain::line(self.a.study.accession_number())),
        }
    }

    fn sex(&self) -> String {
        match self.a.study.patient.sex.trim() {
            "M" => self.w.male.into(),
            "F" => self.w.female.into(),
            "O" => self.w.other_sex.into(),
            other => self.given(plain::line(other)),
        }
    }

    fn identity(&self) -> Vec<Field> {
        let (patient, study, w) = (&self.a.study.patient, &self.a.study.attributes, &self.w);
        let header = self.header();
        let id = match plain::line(&patient.issuer_of_id) {
            issuer if issuer.is_empty() => header.patient_id,
            issuer => format!("{} ({issuer})", header.patient_id),
        };
        let age = self.a.study.age_years().map(|years| plain::age(years, w)).unwrap_or_default();
        let mut fields = vec![
            self.field(w.patient, header.patient),
            self.field(w.examination, header.examination),
            self.field(w.patient_id, id),
            self.field(w.study_description, plain::line(&study.study_description)),
            self.field(w.born, plain::date(&patient.birth_date, self.language)),
            self.field(w.study_time, header.study_time),
            self.field(w.age, age),
            self.field(w.accession, header.accession),
            self.field(w.sex, header.sex),
            self.field(w.referring, plain::person(self.a.study.requester())),
        ];
        let institution = plain::line(&study.institution_name);
        if !institution.is_empty() && institution != self.facility() {
            fields.push(self.field(w.institution, institution));
        }
        fields
    }

    fn status(&self, present: usize) -> Status {
        let w = &self.w;
        match &self.a.outcome {
            Outcome::Read => Status {
                kind: "read",
                name: w.read_title,
                title: w.read_title.into(),
                line: self.read_in_one_line(present),
                reason: String::new(),
            },
            Outcome::NotCovered { reason } => self.unread(w.not_covered_title, reason),
            Outcome::MeasuredOnly { reason } => self.unread(w.measured_only_title, reason),
            Outcome::Held { reason } => self.unread(w.held_title, reason),
            Outcome::NeedsReview { reason, disputed } => Status {
                kind: "needs_review",
                name: w.needs_review_title,
                title: fill(w.needs_review_because, &[("reason", &plain::line(reason))]),
                line: match present == 0 && disputed.is_empty() {
                    true => w.needs_review_line.into(),
                    false => w.needs_review_doubt.into(),
                },
                reason: plain::line(reason),
            },
        }
    }

    /// How much was found; where only some of the examination's questions were asked, which.
    fn read_in_one_line(&self, present: usize) -> String {
        let w = &self.w;
        let found = fill(w.findings_count, &[("n", &present.to_string())]);
        match self.a.unasked.is_empty() {
            true => found,
            false => {
                let asked = self.looked_for();
                format!("{found}. {}: {asked}. {}", w.looked_for, w.looked_for_only)
            }
        }
    }

    /// What nobody read: the same box in each case, under its own name.
    fn unread(&self, title: &'static str, reason: &str) -> Status {
        let line = self.w.not_covered_line.into();
        Status {
            kind: "not_covered",
            name: title,
            title: title.into(),
            line,
            reason: plain::line(reason),
        }
    }

    /// A study that was not assessed has no "routine" urgency: that would be a lower priority.
    fn study_urgency(&self) -> Badge {
        match self.a.urgency {
            Some(urgency) => self.badge(urgency),
            None => Badge {
                key: "not_assessed",
                label: self.w.not_assessed,
                line: self.w.not_assessed_line,
            },
        }
    }

    fn badge(&self, urgency: Urgency) -> Badge {
        let w = &self.w;
        let (label, line) = match urgency {
            Urgency::Critical => (w.critical, w.critical_line),
            Urgency::Urgent => (w.urgent, w.urgent_line),
            Urgency::Significant => (w.significant, w.significant_line),
            Urgency::Routine => (w.routine, w.routine_line),
        };
        Badge { key: urgency.as_str(), label, line }
    }

    fn recommendations(&self) -> Vec<String> {
        match plain::paragraph(&self.a.recommendation) {
            text if text.is_empty() => vec![self.w.recommendation_none.into()],
            text => vec![text],
        }
    }

    fn has_free_text(&self) -> bool {
        let texts = [&self.a.impression, &self.a.recommendation];
        let in_findings = self.a.findings.iter().any(|f| !f.description.is_empty());
        self.language != Language::En
            && (in_findings
                || !self.a.measurements.is_empty()
                || !self.a.warnings.is_empty()
                || texts.iter().any(|text| !text.is_empty()))
    }

    fn limitations(&self) -> Vec<String> {
        let mut lines = self.looked_at();
        lines.extend(self.a.limitations().into_iter().take(60).map(plain::paragraph));
        lines.retain(|line| !line.is_empty());
        if lines.is_empty() {
            lines.push(self.w.limitations_none.into());
        }
        lines
    }

    /// With which earlier readings this one was compared, and what came of it.
    fn comparison(&self) -> String {
        let w = &self.w;
        let names = |all: &[Named]| {
            let name = |one: &Named| names::finding(&one.key, &one.title, self.language);
            let titles = all.iter().map(|one| match self.language {
                Language::En => plain::line(&one.title),
                Language::Ko | Language::Vi | Language::Zh => match name(one) {
                    // The side stands in the title alone.
                    known if known.translated => {
                        plain::line(&format!("{} ({})", known.text, one.title))
                    }
                    own => plain::line(&own.text),
                },
            });
            titles.collect::<Vec<_>>().join("; ")
        };
        let said = |words: &str, all: &[Named]| match all.is_empty() {
            true => None,
            false => Some(fill(words, &[("names", &names(all))])),
        };
        let one = |compared: &Compared| {
            let date = self.given(plain::date(&compared.date, self.language));
            let examination = plain::line(&compared.examination);
            let before = match compared.findings.is_empty() {
                true => w.comparison_nothing.to_owned(),
                false => names(&compared.findings),
            };
            let values = [("examination", &*examination), ("date", &*date), ("names", &*before)];
            let mut lines = vec![fill(w.comparison_with, &values)];
            match &compared.change {
                None => lines.push(w.comparison_not_made.to_owned()),
                Some(change) => lines.extend(
                    [
                        said(w.comparison_new, &change.new),
                        said(w.comparison_same, &change.unchanged),
                        said(w.comparison_gone, &change.gone),
                        said(w.comparison_open, &change.open),
                    ]
                    .into_iter()
                    .flatten(),
                ),
            }
            lines.join(" ")
        };
        match self.a.compared.is_empty() {
            true => w.comparison_none.to_owned(),
            false => self.a.compared.iter().map(one).collect::<Vec<_>>().join("\n"),
        }
    }

    /// How much was looked at, where it was not all.
    fn looked_at(&self) -> Vec<String> {
        let number = |n: Option<i32>| n.map_or_else(|| "–".to_owned(), |n| n.to_string());
        let looked_at = &self.a.looked_at;
        let part = looked_at.iter().filter(|one| one.is_part() && one.shown > 0);
        let mut lines: Vec<String> = part
            .map(|one| {
                let (n, m) = (one.shown.to_string(), one.of.to_string());
                let values = [("n", &*n), ("m", &*m), ("s", &*number(one.series_number))];
                fill(self.w.looked_at_part, &values)
            })
            .collect();
        let seen = looked_at.iter().filter(|one| one.shown > 0).count();
        if seen < looked_at.len() {
            let (n, m) = (seen.to_string(), looked_at.len().to_string());
            lines.push(fill(self.w.looked_at_series, &[("n", &n), ("m", &m)]));
        }
        lines
    }

    fn communications(&self) -> Vec<CommunicationView> {
        let moment = |at| plain::moment(at, &self.zone, self.language);
        let one = |c: &crate::report::Communication| CommunicationView {
            time: moment(c.at),
            what: plain::line(&c.what),
            to: plain::line(&c.to),
            by: plain::line(&c.by),
            how: plain::line(&c.how),
            acknowledged: match c.acknowledged_at {
                None => self.w.not_acknowledged.into(),
                Some(at) => {
                    let by = plain::line(&c.acknowledged_by);
                    plain::line(&format!("{} {by}", moment(at)))
                }
            },
        };
        self.input.communications.iter().take(ROWS_MAX).map(one).collect()
    }

    fn measurements(&self) -> Vec<MeasurementGroup> {
        let w = &self.w;
        let mut groups: Vec<(&str, MeasurementGroup)> = Vec::new();
        for m in self.a.measurements.iter().take(ROWS_MAX) {
            let row = MeasurementRow {
                name: plain::line(&m.name),
                value: plain::quantity(&m.value, &m.unit),
                source: plain::line(&m.source),
            };
            match groups.iter_mut().find(|(key, _)| *key == m.group) {
                Some((_, group)) => group.rows.push(row),
                None => {
                    let title = match m.group.as_str() {
                        "technique" => w.technique.to_owned(),
                        "geometry" => w.geometry.to_owned(),
                        "completeness" => w.completeness.to_owned(),
                        "intensity" => w.intensity.to_owned(),
                        other => plain::line(other),
                    };
                    groups.push((&m.group, MeasurementGroup { title, rows: vec![row] }));
                }
            }
        }
        groups.into_iter().map(|(_, group)| group).collect()
    }

    fn about(&self) -> Vec<Field> {
        let (w, a, algorithm) = (&self.w, self.a, &self.a.algorithm);
        let regulatory = match plain::paragraph(&self.input.site.regulatory_notice) {
            text if text.is_empty() => w.regulatory_default.to_owned(),
            text => text,
        };
        let provider = match algorithm.provider.as_str() {
            "local" => w.provider_local.to_owned(),
            other => plain::line(other),
        };
        let profile = plain::line(&format!("{} {}", a.profile, a.profile_version));
        let mut fields = vec![
            self.field(w.regulatory, regulatory),
            self.field(w.algorithm, plain::line(&algorithm.name)),
            self.field(w.version, plain::line(&algorithm.version)),
            self.field(w.manufacturer, plain::line(&algorithm.manufacturer)),
            self.field(w.provider, provider),
            self.field(w.profile, profile),
            self.field(w.analysis_time, plain::moment(a.started_at, &self.zone, self.language)),
        ];
        if !algorithm.parameters.is_empty() {
            fields.push(self.field(w.parameters, list(&algorithm.parameters)));
        }
        fields.push(self.field(w.device_uid, plain::line(&algorithm.device_uid)));
        fields.push(self.field(w.study_uid, a.study.study_uid.to_string()));
        fields
    }

    fn more(&self, n: usize) -> String {
        if n == 0 { String::new() } else { fill(self.w.more, &[("n", &n.to_string())]) }
    }
}

fn list(items: &[String]) -> String {
    let items = items.iter().take(40).map(|item| plain::line(item));
    items.filter(|item| !item.is_empty()).collect::<Vec<_>>().join("; ")
}
