//! What a report says, before it has a form: an assessment in the words of one language.
//!
//! Sections in the order of the ACR parameter on communication; the rules P1 to P6 on what a
//! preliminary report must and must not say are kept here, once for all three forms.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use serde::Serialize;

use crate::domain::assessment::Assessment;
use crate::domain::assessment::Outcome;
use crate::domain::finding::Finding;
use crate::domain::finding::Laterality;
use crate::domain::finding::Presence;
use crate::domain::finding::Severity;
use crate::domain::picture::ImageRef;
use crate::domain::picture::PictureRef;
use crate::domain::study::Excluded;
use crate::domain::study::Instance;
use crate::domain::uid::SopInstanceUid;
use crate::domain::urgency::Urgency;
use crate::report::ReportInput;
use crate::report::names;
use crate::report::plain;
use crate::report::words::Language;
use crate::report::words::Words;
use crate::report::words::fill;

/// Rows of one table; what is beyond is counted, not printed.
const ROWS_MAX: usize = 400;
/// Pictures in a report.
const PICTURES_MAX: usize = 4;

#[derive(Debug, Clone, Serialize)]
pub struct Content {
    pub lang: &'static str,
    pub w: Words,
    pub facility: String,
    pub revision: String,
    /// In the header of each page.
    pub header: Header,
    pub identity: Vec<Field>,
    pub status: Status,
    pub urgency: Badge,
    pub clinical: String,
    pub materials: Vec<Field>,
    pub left_out: Vec<LeftOut>,
    pub comparison: &'static str,
    /// Said in place of findings: none above threshold, not looked for, no result. Or empty.
    pub findings_note: &'static str,
    pub findings: Vec<FindingView>,
    pub undetermined: Vec<FindingView>,
    pub absent: Vec<FindingView>,
    pub more_findings: String,
    /// Names in the language of the report; empty when nothing was looked for.
    pub looked_for: String,
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
    /// `read`, `not_covered` or `needs_review`.
    pub kind: &'static str,
    pub title: &'static str,
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
            revision: match self.a.revision {
                0 | 1 => String::new(),
                n => fill(self.w.revision, &[("n", &n.to_string())]),
            },
            header: self.header(),
            identity: self.identity(),
            status: self.status(findings.len()),
            urgency: self.study_urgency(),
            clinical: match plain::paragraph(&self.a.clinical_information) {
                text if text.is_empty() => self.w.clinical_none.into(),
                text => text,
            },
            materials: self.materials(),
            left_out: self.left_out(),
            comparison: self.w.comparison_none,
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
            footer: plain::line(&format!("{} {}", self.a.algorithm.name, self.a.algorithm.version)),
            w: self.w.clone(),
            findings,
            undetermined,
            absent,
            looked_for,
            recommendations,
        }
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
            (_, Some(age)) => age,
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
            accession: self.given(plain::line(&study.accession_number)),
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
            self.field(w.referring, plain::person(&study.referring_physician_name)),
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
                title: w.read_title,
                line: fill(w.findings_count, &[("n", &present.to_string())]),
                reason: String::new(),
            },
            Outcome::NotCovered { reason } => Status {
                kind: "not_covered",
                title: w.not_covered_title,
                line: w.not_covered_line.into(),
                reason: plain::line(reason),
            },
            Outcome::NeedsReview { reason } => Status {
                kind: "needs_review",
                title: w.needs_review_title,
                line: w.needs_review_line.into(),
                reason: plain::line(reason),
            },
        }
    }

    /// A study that was not read has no "routine" urgency: that would be a lower priority.
    fn study_urgency(&self) -> Badge {
        let read = match &self.a.outcome {
            Outcome::Read => true,
            Outcome::NotCovered { .. } | Outcome::NeedsReview { .. } => false,
        };
        match read || self.a.urgency > Urgency::Routine {
            true => self.badge(self.a.urgency),
            false => Badge {
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

    fn materials(&self) -> Vec<Field> {
        let (w, study) = (&self.w, &self.a.study);
        let series: std::collections::BTreeSet<_> =
            study.instances.iter().map(|i| &i.series_uid).collect();
        let modalities: Vec<String> = study.modalities().iter().map(|m| plain::line(m)).collect();
        let received = fill(
            w.received_line,
            &[
                ("instances", &(study.instances.len() + study.unreadable.len()).to_string()),
                ("series", &series.len().to_string()),
                ("modalities", &self.given(modalities.join(", "))),
            ],
        );
        let shown: Vec<&ImageRef> = self.a.pictures.iter().map(|picture| &picture.image).collect();
        let not_excluded = shown.iter().filter(|image| {
            !self.a.excluded.iter().any(|out| out.sop_instance_uid == image.sop_instance_uid)
        });
        let label = match &self.a.outcome {
            Outcome::Read => w.analysed,
            Outcome::NotCovered { .. } | Outcome::NeedsReview { .. } => w.pictured,
        };
        let images = self.images(not_excluded.map(|image| &image.sop_instance_uid));
        let images = if images.is_empty() { w.no_image.to_owned() } else { images };
        vec![self.field(w.received, received), self.field(label, images)]
    }

    fn left_out(&self) -> Vec<LeftOut> {
        let mut rows = Vec::new();
        for (title, excluded) in
            [(self.w.excluded, &self.a.excluded), (self.w.unreadable, &self.a.study.unreadable)]
        {
            let mut by_reason: BTreeMap<&str, Vec<&Excluded>> = BTreeMap::new();
            for one in excluded {
                by_reason.entry(&one.reason).or_default().push(one);
            }
            for (reason, those) in by_reason.into_iter().take(ROWS_MAX) {
                let images = self.images(those.iter().map(|one| &one.sop_instance_uid));
                rows.push(LeftOut { title, images, reason: self.given(plain::line(reason)) });
            }
        }
        rows
    }

    /// "series 1, instance 1; series 3, instance 1-28": instances by their numbers, those
    /// without one counted.
    fn images<'b>(&self, uids: impl Iterator<Item = &'b SopInstanceUid>) -> String {
        let mut by_series: BTreeMap<Option<i32>, Vec<i32>> = BTreeMap::new();
        let mut unnumbered = 0;
        let mut seen = std::collections::BTreeSet::new();
        for uid in uids.filter(|uid| seen.insert(*uid)) {
            match self.instance(uid).map(|i| (i.series_number, i.instance_number)) {
                Some((series, Some(number))) => by_series.entry(series).or_default().push(number),
                Some((_, None)) | None => unnumbered += 1,
            }
        }
        let mut parts: Vec<String> = by_series
            .into_iter()
            .take(24)
            .map(|(series, numbers)| {
                let numbers = fill(self.w.instance, &[("n", &plain::ranges(numbers, 12))]);
                format!("{}, {numbers}", self.series(series))
            })
            .collect();
        if unnumbered > 0 {
            let n = unnumbered.to_string();
            parts.push(format!("{} {}", fill(self.w.instance, &[("n", &n)]), self.w.unnumbered));
        }
        parts.join("; ")
    }

    fn series(&self, number: Option<i32>) -> String {
        let number = number.map_or_else(|| self.w.unnumbered.to_owned(), |n| n.to_string());
        fill(self.w.series, &[("n", &number)])
    }

    fn instance(&self, uid: &SopInstanceUid) -> Option<&Instance> {
        self.a.study.instances.iter().find(|instance| instance.sop_instance_uid == *uid)
    }

    /// P5: series, instance and frame; the UID when the study does not have it.
    fn image(&self, image: &ImageRef) -> String {
        let Some(instance) = self.instance(&image.sop_instance_uid) else {
            return format!("SOP Instance UID {}", image.sop_instance_uid);
        };
        let number = instance.instance_number.map(|n| n.to_string());
        let mut text = match number {
            Some(n) => format!(
                "{}, {}",
                self.series(instance.series_number),
                fill(self.w.instance, &[("n", &n)])
            ),
            None => format!(
                "{}, SOP Instance UID {}",
                self.series(instance.series_number),
                image.sop_instance_uid
            ),
        };
        if let Some(frame) = image.frame {
            text += &format!(", {}", fill(self.w.frame, &[("n", &frame.to_string())]));
        }
        text
    }

    fn aside(&self, name: &names::Name) -> String {
        match (&name.english, name.translated) {
            (Some(english), _) => plain::line(english),
            (None, true) => String::new(),
            (None, false) => self.w.english.into(),
        }
    }

    fn finding(&self, finding: &Finding) -> FindingView {
        let name = names::finding(&finding.key, &finding.concept.meaning, self.language);
        let images: Vec<String> = finding.evidence.iter().map(|image| self.image(image)).collect();
        FindingView {
            id: plain::line(&finding.id),
            name: self.given(plain::line(&name.text)),
            aside: self.aside(&name),
            place: self.place(finding),
            certainty: finding.probability.map(plain::percent).unwrap_or_else(|| "–".into()),
            urgency: self.badge(finding.urgency),
            code: plain::line(&format!("{} {}", finding.concept.scheme, finding.concept.value)),
            has_images: !images.is_empty(),
            images: match images.len() {
                0 => vec![self.w.no_image_given.into()],
                n if n > 6 => {
                    let more = self.more(n - 6);
                    images.into_iter().take(6).chain([more]).collect()
                }
                _ => images,
            },
            description: plain::paragraph(&finding.description),
            measured: self.measured(finding),
            differential: list(&finding.differential),
            recommendation: plain::paragraph(&finding.recommendation),
        }
    }

    /// Side in full words (P5), after the site.
    fn place(&self, finding: &Finding) -> String {
        let w = &self.w;
        let site =
            finding.site.as_ref().map(|code| plain::line(&names::site(code, self.language).text));
        let side = finding.laterality.map(|side| match side {
            Laterality::Right => w.right,
            Laterality::Left => w.left,
            Laterality::Bilateral => w.bilateral,
            Laterality::Unilateral => w.unilateral,
        });
        let severity = finding.severity.map(|severity| match severity {
            Severity::Mild => w.mild,
            Severity::Moderate => w.moderate,
            Severity::Severe => w.severe,
        });
        let parts = [site, side.map(str::to_owned), severity.map(str::to_owned)];
        parts.into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
    }

    fn measured(&self, finding: &Finding) -> String {
        let one = |m: &crate::domain::finding::Measurement| {
            let name = match m.concept.value.as_str() {
                "81827009" => self.w.diameter.to_owned(),
                _ => plain::line(&m.concept.meaning),
            };
            format!("{name} {}", plain::quantity(&plain::number(m.value), &m.unit))
        };
        finding.measurements.iter().take(20).map(one).collect::<Vec<_>>().join("; ")
    }

    /// P6: what stands where findings would stand.
    fn findings_note(&self, none_present: bool) -> &'static str {
        match &self.a.outcome {
            Outcome::Read if none_present => self.w.no_finding,
            Outcome::Read => "",
            Outcome::NotCovered { .. } => self.w.not_looked,
            Outcome::NeedsReview { .. } => self.w.no_result,
        }
    }

    fn looked_for(&self) -> String {
        let name = |english: &String| {
            let name = names::finding(english, english, self.language);
            plain::line(&name.text)
        };
        let names: Vec<String> = self.a.looked_for.iter().take(ROWS_MAX).map(name).collect();
        names.join(", ")
    }

    /// The algorithm's own words stand behind what the structured findings say. For a study
    /// without a present finding they are left out when they call it normal (P6).
    fn impression(&self, present: &[FindingView], undetermined: &[FindingView]) -> Vec<String> {
        let own = plain::paragraph(&self.a.impression);
        let mut lines = Vec::new();
        match &self.a.outcome {
            Outcome::NotCovered { .. } => return vec![format!("{}.", self.w.not_covered_title)],
            Outcome::NeedsReview { .. } => {
                lines.push(format!("{}.", self.w.needs_review_title));
                return lines;
            }
            Outcome::Read if present.is_empty() => {
                lines.push(self.w.no_finding.to_owned());
                if !own.is_empty() && !calls_it_normal(&own) && own != self.w.no_finding {
                    lines.push(own);
                }
            }
            Outcome::Read => {
                if self.language != Language::En || own.is_empty() {
                    lines.extend(present.iter().take(20).map(in_one_line));
                }
                if !own.is_empty() {
                    lines.push(own);
                }
            }
        }
        if !undetermined.is_empty() {
            let names: Vec<String> = undetermined.iter().map(in_one_line).collect();
            lines.push(format!("{}: {}", self.w.undetermined, names.join("; ")));
        }
        lines
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
        let quality = self.a.quality.iter().map(|flag| &flag.text);
        let said = self.a.warnings.iter().chain(quality).chain(&self.a.study.inconsistencies);
        let mut lines: Vec<String> = said.take(60).map(|text| plain::paragraph(text)).collect();
        lines.retain(|line| !line.is_empty());
        if lines.is_empty() {
            lines.push(self.w.limitations_none.into());
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

    /// The key picture, then others that carry a region of a present finding, one for each image.
    fn pictures(&self) -> Vec<PictureView> {
        let given = self.input.pictures;
        let key = given.iter().position(|(p, _)| Some(p.number) == self.a.key_picture);
        let mut chosen: Vec<usize> = key.into_iter().collect();
        for (index, (reference, _)) in given.iter().enumerate() {
            let new = !chosen.iter().any(|&c| same_image(&given[c].0.image, &reference.image));
            if new && !self.regions(reference).is_empty() {
                chosen.push(index);
            }
        }
        let usable = chosen.into_iter().filter(|&index| {
            let (reference, bytes) = &given[index];
            media_type(bytes).is_some() && reference.width_px > 0 && reference.height_px > 0
        });
        usable.take(PICTURES_MAX).map(|index| self.picture(index, Some(index) == key)).collect()
    }

    fn picture(&self, index: usize, is_key: bool) -> PictureView {
        let reference = &self.input.pictures[index].0;
        let (width, height) = (f64::from(reference.width_px), f64::from(reference.height_px));
        let regions = self.regions(reference);
        let title = match &self.a.outcome {
            Outcome::Read if is_key => self.w.key_image,
            Outcome::Read => self.w.further_image,
            Outcome::NotCovered { .. } | Outcome::NeedsReview { .. } => self.w.unread_image,
        };
        let mut caption = self.image(&reference.image);
        if !["default", ""].contains(&reference.window.as_str()) {
            caption += &format!(", {} {}", self.w.window, plain::line(&reference.window));
        }
        let texts: Vec<String> = regions.iter().map(|region| region.text.clone()).collect();
        PictureView {
            title,
            alt: format!("{title}: {caption}. {}", texts.join("; ")),
            caption,
            width,
            height,
            stroke: rounded(width.max(height) / 320.0),
            font: rounded(width.max(height) / 34.0),
            regions,
            data: String::new(),
            index,
        }
    }

    fn regions(&self, reference: &PictureRef) -> Vec<RegionView> {
        let scale = |px: u32, source: u32| f64::from(px) / f64::from(source.max(1));
        let (sx, sy) = (
            scale(reference.width_px, reference.source_columns),
            scale(reference.height_px, reference.source_rows),
        );
        let (width, height) = (f64::from(reference.width_px), f64::from(reference.height_px));
        let font = width.max(height) / 34.0;
        let mut views = Vec::new();
        for finding in self.a.present() {
            let here = finding.regions.iter().filter(|r| same_image(&r.image, &reference.image));
            for region in here.take(20) {
                let edges = [region.x0 * sx, region.y0 * sy, region.x1 * sx, region.y1 * sy];
                if edges.iter().any(|edge| !edge.is_finite()) {
                    continue;
                }
                let (x0, x1) = (edges[0].min(edges[2]), edges[0].max(edges[2]));
                let (y0, y1) = (edges[1].min(edges[3]), edges[1].max(edges[3]));
                let (x0, x1) = (x0.clamp(0.0, width), x1.clamp(0.0, width));
                let (y0, y1) = (y0.clamp(0.0, height), y1.clamp(0.0, height));
                if x1 - x0 < 1.0 || y1 - y0 < 1.0 {
                    continue;
                }
                let label = plain::line(&finding.id);
                let label_width = font * (0.62 * label.chars().count() as f64 + 0.7);
                let label_height = font * 1.3;
                let label_y = if y0 >= label_height { y0 - label_height } else { y0 };
                let label_x = x0.min(width - label_width).max(0.0);
                views.push(RegionView {
                    x: rounded(x0),
                    y: rounded(y0),
                    width: rounded(x1 - x0),
                    height: rounded(y1 - y0),
                    text: format!("{label} {}", in_one_line(&self.finding(finding))),
                    label,
                    label_x: rounded(label_x),
                    label_y: rounded(label_y),
                    label_width: rounded(label_width),
                    label_height: rounded(label_height),
                    baseline: rounded(label_y + font),
                });
            }
        }
        views
    }
}

/// Name, place and certainty of a finding.
fn in_one_line(finding: &FindingView) -> String {
    let mut text = finding.name.clone();
    if !finding.place.is_empty() {
        text += &format!(", {}", finding.place);
    }
    if finding.certainty != "–" {
        text += &format!(", {}", finding.certainty);
    }
    text
}

fn list(items: &[String]) -> String {
    let items = items.iter().take(40).map(|item| plain::line(item));
    items.filter(|item| !item.is_empty()).collect::<Vec<_>>().join("; ")
}

/// A frame number that is not given is frame 1.
fn same_image(a: &ImageRef, b: &ImageRef) -> bool {
    a.sop_instance_uid == b.sop_instance_uid && a.frame.unwrap_or(1) == b.frame.unwrap_or(1)
}

fn calls_it_normal(text: &str) -> bool {
    let text = text.to_lowercase().replace("abnormal", "");
    ["normal", "unremarkable", "healthy", "정상", "bình thường", "正常"]
        .iter()
        .any(|word| text.contains(word))
}

fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// What the bytes of a picture are, by their first bytes.
pub fn media_type(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::sample::needs_review;
    use crate::domain::sample::not_covered_ct;
    use crate::domain::sample::positive_chest;
    use crate::report::sample;

    fn of(assessment: &Assessment, language: Language) -> Content {
        let pictures = sample::pictures(assessment);
        let site = sample::site();
        let communications = &[];
        content(&ReportInput {
            assessment,
            language,
            pictures: &pictures,
            communications,
            site: &site,
        })
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
        assert_eq!(content.urgency.key, "urgent");
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
}
