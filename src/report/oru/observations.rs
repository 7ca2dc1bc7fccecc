//! The OBX segments: codes and numbers of each finding, then the words of the report.

use base64::Engine as _;
use jiff::tz::TimeZone;

use crate::domain::assessment::Assessment;
use crate::domain::code::Code;
use crate::domain::finding::Finding;
use crate::domain::finding::Presence;
use crate::domain::picture::ImageRef;
use crate::domain::urgency::Urgency;
use crate::hl7::write;
use crate::hl7::write::composite;
use crate::report::ReportInput;
use crate::report::content::Content;
use crate::report::content::FindingView;
use crate::report::content::content;
use crate::report::names;
use crate::report::oru::at;
use crate::report::oru::coded;
use crate::report::oru::name;
use crate::report::plain;
use crate::report::words::Language;

/// The OBX segments, numbered as they come.
pub struct Observations<'a> {
    a: &'a Assessment,
    language: Language,
    /// OBX-18 and OBX-19.
    algorithm: String,
    analysed: String,
    count: usize,
    text: String,
}

/// One observation: OBX-2 to OBX-8 and OBX-14.
#[derive(Default)]
struct Observation<'a> {
    kind: &'static str,
    what: Option<&'a Code>,
    local: Option<(&'a str, &'a str)>,
    group: usize,
    /// As it is written.
    value: String,
    /// UCUM.
    unit: &'a str,
    flag: &'static str,
    image: Option<&'a ImageRef>,
}

impl Observations<'_> {
    pub fn of(input: &ReportInput<'_>, zone: &TimeZone, pdf: Option<&[u8]>) -> String {
        let a = input.assessment;
        let name = name(&a.algorithm.label());
        let mut all = Observations {
            a,
            language: input.language,
            algorithm: composite(&[&name, "", &a.algorithm.device_uid, "ISO"]),
            analysed: write::moment(a.finished_at, zone),
            count: 0,
            text: String::new(),
        };
        let content = content(input);
        all.study();
        for (nth, finding) in a.findings.iter().enumerate() {
            all.finding(finding, nth + 1);
        }
        all.report(&content);
        all.software(&content);
        if let Some(pdf) = pdf {
            let data = base64::engine::general_purpose::STANDARD.encode(pdf);
            let document = Code::new("18748-4", "LN", "Diagnostic imaging report");
            // Base64 has no character that would have to be escaped.
            let value = format!("AIRAD^AP^PDF^Base64^{data}");
            all.put(Observation {
                kind: "ED",
                what: Some(&document),
                value,
                ..Observation::default()
            });
        }
        all.text
    }

    fn put(&mut self, one: Observation<'_>) {
        let Some(what) = one.what else { return };
        self.count += 1;
        let study = &self.a.study;
        let of_image = one.image.and_then(|image| {
            study.instances.iter().find(|i| i.sop_instance_uid == image.sop_instance_uid)
        });
        let when = match of_image.map(|i| at(&i.acquired_date, &i.acquired_time)) {
            Some(when) if !when.is_empty() => when,
            Some(_) | None => at(&study.attributes.study_date, &study.attributes.study_time),
        };
        let group = if one.group == 0 { String::new() } else { one.group.to_string() };
        let unit = if one.unit.is_empty() {
            String::new()
        } else {
            composite(&[one.unit, one.unit, "UCUM"])
        };
        self.text += &write::segment(
            "OBX",
            &[
                (1, self.count.to_string()),
                (2, one.kind.into()),
                (3, coded(what, one.local)),
                (4, group),
                (5, one.value),
                (6, unit),
                (8, one.flag.into()),
                (11, "P".into()),
                (14, when),
                (18, self.algorithm.clone()),
                (19, self.analysed.clone()),
            ],
        );
    }

    /// A text in OBX-5; one without words is left out.
    fn say(&mut self, what: &Code, group: usize, words: &str) {
        if !words.trim().is_empty() {
            let value = write::text(words);
            self.put(Observation {
                kind: "TX",
                what: Some(what),
                group,
                value,
                ..Observation::default()
            });
        }
    }

    fn code(&mut self, what: &Code, group: usize, value: &Code) {
        let value = coded(value, None);
        self.put(Observation {
            kind: "CE",
            what: Some(what),
            group,
            value,
            ..Observation::default()
        });
    }

    fn study(&mut self) {
        let uid = self.a.study.study_uid.to_string();
        for (kind, what, value) in [
            ("ST", dcm("110180", "Study Instance UID"), uid.clone()),
            ("HD", dcm("113014", "DICOM Study"), composite(&["", &uid, "ISO"])),
        ] {
            self.put(Observation { kind, what: Some(&what), value, ..Observation::default() });
        }
    }

    /// What is there as finding, site and numbers; what is not as the finding itself, absent: a
    /// reader that shows the first value of a group must not show what is not there.
    fn finding(&mut self, finding: &Finding, group: usize) {
        let read = self.a.rules_out();
        let named = names::finding(&finding.key, &finding.concept.meaning, self.language);
        let local = (self.language != Language::En && named.translated)
            .then_some((finding.key.as_str(), named.text.as_str()));
        let image = finding.evidence.first();
        match finding.presence {
            Presence::Present => {}
            // What was not read is never absent.
            Presence::Absent if !read => return,
            // The same thing on the other side is present: a code would deny that.
            Presence::Absent | Presence::Undetermined
                if self.a.present().any(|other| other.concept == finding.concept) =>
            {
                let said = finding.presence.code().meaning.to_lowercase();
                let words = format!("{}: {said}. {}", finding.title(), finding.description);
                return self.say(&dcm("121106", "Comment"), group, &words);
            }
            Presence::Absent | Presence::Undetermined => {
                let flag = if finding.presence == Presence::Absent { "N" } else { "" };
                let (what, value) = (Some(&finding.concept), coded(&finding.presence.code(), None));
                self.put(Observation {
                    kind: "CE",
                    what,
                    local,
                    group,
                    value,
                    flag,
                    image,
                    unit: "",
                });
                if let Some(side) = finding.laterality {
                    self.code(&sct("272741003", "Laterality"), group, &side.code());
                }
                return;
            }
        }
        let flag = if finding.urgency == Urgency::Critical { "AA" } else { "A" };
        let (what, value) = (dcm("121071", "Finding"), coded(&finding.concept, local));
        let what = Some(&what);
        self.put(Observation {
            kind: "CE",
            what,
            group,
            value,
            flag,
            image,
            ..Observation::default()
        });
        if let Some(site) = &finding.site {
            self.code(&sct("363698007", "Finding Site"), group, site);
        }
        if let Some(side) = finding.laterality {
            self.code(&sct("272741003", "Laterality"), group, &side.code());
        }
        if let Some(grade) = finding.severity {
            self.code(&sct("246112005", "Severity"), group, &grade.code());
        }
        if let Some(category) = finding.urgency.category() {
            self.code(&dcm("111005", "Assessment Category"), group, &category);
        }
        if let Some(sure) = finding.probability.filter(|p| (0.0..=1.0).contains(p)) {
            let percent = (sure * 1000.0).round() / 10.0;
            self.number(&dcm("111012", "Certainty of Finding"), group, percent, "%");
        }
        for measured in finding.measurements.iter().filter(|m| m.value.is_finite()) {
            let unit = if measured.unit.is_empty() { "1" } else { &measured.unit };
            self.number(&measured.concept, group, measured.value, unit);
        }
        self.say(&dcm("112039", "Tracking Identifier"), group, &plain::line(&finding.id));
        let uid = Observation {
            kind: "ST",
            what: Some(&dcm("112040", "Tracking Unique Identifier")),
            group,
            value: write::text(&finding.tracking_uid),
            ..Observation::default()
        };
        self.put(uid);
    }

    fn number(&mut self, what: &Code, group: usize, value: f64, unit: &str) {
        let value = format!("{value}");
        let what = Some(what);
        self.put(Observation { kind: "NM", what, group, value, unit, ..Observation::default() });
    }

    /// The words of the report.
    fn report(&mut self, content: &Content) {
        for (what, value) in self.a.summary() {
            self.code(&what, 0, &value);
        }
        if let Some(category) = self.a.urgency.and_then(Urgency::category) {
            self.code(&dcm("111005", "Assessment Category"), 0, &category);
        }
        let clinical = match self.a.clinical_information.trim() {
            "" => String::new(),
            _ => content.clinical.clone(),
        };
        self.say(&Code::new("55752-0", "LN", "Clinical information"), 0, &clinical);
        self.say(&Code::new("59776-5", "LN", "Procedure findings"), 0, &findings(content));
        let measured = content.measurements.iter().flat_map(|group| {
            group.rows.iter().map(move |row| {
                format!("{}: {} {} ({})", group.title, row.name, row.value, row.source)
            })
        });
        let measured: Vec<String> = measured.collect();
        self.say(
            &Code::new("M", Code::LOCAL, "Measurements, not findings"),
            0,
            &measured.join("\n"),
        );
        let limits = content.limitations.join("\n");
        self.say(&Code::new("LIMITS", Code::LOCAL, "Limitations"), 0, &limits);
        // Some receivers show nothing but this.
        let mut words = vec![content.w.preliminary_line.to_owned()];
        words.extend(content.impression.iter().cloned());
        let words = words.join("\n");
        self.say(&Code::new("19005-8", "LN", "Radiology Imaging study [Impression]"), 0, &words);
        let words = content.recommendations.join("\n");
        let what = Code::new("18783-1", "LN", "Radiology Study recommendation");
        self.say(&what, 0, &words);
    }

    /// Which software this is, and that it is software.
    fn software(&mut self, content: &Content) {
        let algorithm = &self.a.algorithm;
        for (what, said) in [
            (dcm("111001", "Algorithm Name"), &algorithm.name),
            (dcm("111003", "Algorithm Version"), &algorithm.version),
            (dcm("122405", "Algorithm Manufacturer"), &algorithm.manufacturer),
        ] {
            self.say(&what, 0, &plain::line(said));
        }
        let regulatory =
            content.about.first().map(|field| field.value.as_str()).unwrap_or_default();
        let revision = if content.revision.is_empty() {
            String::new()
        } else {
            format!("{}: {}\n", content.revision, content.w.revision_note)
        };
        let notice =
            format!("{}\n{revision}{}\n{regulatory}", content.w.preliminary_line, content.notice);
        self.say(&dcm("121106", "Comment"), 0, &notice);
    }
}

/// The findings section as lines.
fn findings(content: &Content) -> String {
    let mut lines = vec![content.status.title.clone(), content.status.line.clone()];
    lines.extend([content.status.reason.clone(), content.findings_note.to_owned()]);
    let line = |finding: &FindingView| {
        let mut line = format!("{}. {}", finding.id, finding.name);
        for more in [&finding.place, &finding.certainty] {
            if !more.is_empty() && more != "–" {
                line += &format!(", {more}");
            }
        }
        for more in [&finding.description, &finding.measured, &finding.images.join(", ")] {
            if !more.is_empty() {
                line += &format!("; {more}");
            }
        }
        line
    };
    lines.extend(content.findings.iter().map(line));
    if !content.undetermined.is_empty() {
        lines.push(format!("{}:", content.w.undetermined));
        lines.extend(content.undetermined.iter().map(line));
    }
    lines.push(content.more_findings.clone());
    if !content.comparison.is_empty() {
        lines.push(format!("{}: {}", content.w.comparison, content.comparison));
    }
    if !content.looked_for.is_empty() {
        lines.push(format!("{}: {}", content.w.looked_for, content.looked_for));
    }
    lines.retain(|line| !line.is_empty());
    lines.join("\n")
}

fn dcm(value: &str, meaning: &str) -> Code {
    Code::new(value, "DCM", meaning)
}

fn sct(value: &str, meaning: &str) -> Code {
    Code::new(value, "SCT", meaning)
}
