//! The report as a message: for people by e-mail, for programs as an event. It names the patient
//! only as far as it is asked to.

use serde_json::Value;
use serde_json::json;

use crate::domain::assessment::Assessment;
use crate::domain::identity::Identity;
use crate::domain::identity::Shown;
use crate::domain::message;
use crate::domain::message::Message;
use crate::domain::urgency::Urgency;
use crate::report::ReportInput;
use crate::report::content::Content;
use crate::report::content::FindingView;
use crate::report::content::content;
use crate::report::plain;

/// What is up to the destination.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub shown: Shown,
    /// Where the study is opened; none where nobody can reach the node, or none is wanted.
    pub study_url: Option<String>,
    /// Result files that a program can fetch: name and URL.
    pub files: Vec<(String, String)>,
    /// Of the message, and of the one that began the thread: see [`Message`].
    pub id: String,
    pub thread: Option<String>,
}

/// To nobody yet, and without attachments. The same input gives the same message.
pub fn notice(input: &ReportInput<'_>, options: &Options) -> Message {
    let content = content(input);
    let writer = Writer {
        a: input.assessment,
        content: &content,
        options,
        identity: Identity::of(&input.assessment.study),
    };
    let text = writer.text();
    Message {
        to: Vec::new(),
        subject: writer.subject(),
        html: message::html(&text, content.lang),
        text,
        picture: None,
        attachments: Vec::new(),
        id: options.id.clone(),
        date: input.assessment.finished_at,
        thread: options.thread.clone(),
        urgent: input.assessment.urgency >= Some(Urgency::Urgent),
        json: writer.event().to_string(),
    }
}

struct Writer<'a> {
    a: &'a Assessment,
    content: &'a Content,
    options: &'a Options,
    identity: Identity,
}

impl Writer<'_> {
    /// Text that a model, a header or an order gave, without what names the patient.
    fn say(&self, text: &str) -> String {
        match self.options.shown {
            Shown::None | Shown::Numbers => self.identity.mask(text).0,
            Shown::Full => text.to_owned(),
        }
    }

    /// Never with a name: subjects stand in the logs of every server on the way.
    fn subject(&self) -> String {
        let Content { w, status, .. } = self.content;
        let names: Vec<String> = self.content.findings.iter().map(|f| self.name(f)).collect();
        let what = match (names.is_empty(), status.kind) {
            (false, _) => names.join("; "),
            (true, "read") => status.line.clone(),
            (true, _) => status.name.to_owned(),
        };
        let what = format!("{}: {what}", self.content.header.examination);
        let mut words = vec![format!("[Prelim PRELIMINARY] {}", self.identity.mask(&what).0)];
        words.extend(Some(self.content.revision.clone()).filter(|revision| !revision.is_empty()));
        let accession = plain::line(self.a.study.accession_number());
        if self.options.shown != Shown::None && !accession.is_empty() {
            words.push(format!("{} {accession}", w.accession));
        }
        words.join(", ")
    }

    fn name(&self, finding: &FindingView) -> String {
        let parts = [finding.name.as_str(), &finding.place];
        let said = parts.into_iter().filter(|part| !part.is_empty());
        self.say(&said.collect::<Vec<_>>().join(", "))
    }

    fn text(&self) -> String {
        let Content { w, status, urgency, .. } = self.content;
        let mut lines = vec![w.title.to_owned()];
        if !self.content.revision.is_empty() {
            lines.push(format!("{}. {}", self.content.revision, w.revision_note));
        }
        lines.extend([w.preliminary_line.to_owned(), String::new()]);
        lines.push(format!("{}. {}", status.title, status.line));
        if status.kind == "not_covered" {
            lines.push(format!("{}: {}", w.reason, self.say(&status.reason)));
        }
        for (label, value) in self.shown() {
            lines.push(format!("{label}: {value}"));
        }
        let examination = self.say(&self.content.header.examination);
        lines.push(format!("{}: {examination}", w.examination));
        lines.push(format!("{}: {}. {}", w.urgency, urgency.label, urgency.line));
        lines.extend([String::new(), w.findings.to_uppercase()]);
        if !self.content.findings_note.is_empty() {
            lines.push(self.content.findings_note.to_owned());
        }
        for (n, finding) in self.content.findings.iter().enumerate() {
            lines.push(format!("{}. {}", n + 1, self.name(finding)));
            lines.push(format!("   {}: {}", w.certainty, self.say(&finding.certainty)));
            lines.push(format!("   {}: {}", w.urgency, finding.urgency.label));
        }
        let impression = self.content.impression.as_slice();
        let recommendations = self.content.recommendations.as_slice();
        for (title, said) in [(w.impression, impression), (w.recommendations, recommendations)] {
            lines.extend([String::new(), title.to_uppercase()]);
            lines.extend(said.iter().map(|line| self.say(line)));
        }
        lines.push(String::new());
        lines.push(match &self.options.study_url {
            Some(url) => format!("{}: {url}", w.title),
            None => format!("Study Instance UID: {}", self.a.study.study_uid),
        });
        lines.extend([self.content.footer.clone(), self.content.notice.to_owned()]);
        lines.join("\n") + "\n"
    }

    /// What names the patient and was asked for, with its label.
    fn shown(&self) -> Vec<(&'static str, &str)> {
        let Content { w, header, .. } = self.content;
        let numbers = [(w.patient_id, &*header.patient_id), (w.accession, &*header.accession)];
        let person =
            [(w.patient, &*header.patient), (w.born, &*header.born), (w.sex, &*header.sex)];
        match self.options.shown {
            Shown::None => Vec::new(),
            Shown::Numbers => numbers.to_vec(),
            Shown::Full => [&person[..], &numbers].concat(),
        }
    }

    fn event(&self) -> Value {
        let a = self.a;
        let findings: Vec<Value> = a
            .present()
            .map(|finding| {
                json!({
                    "key": finding.key,
                    "name": self.say(&finding.title()),
                    "location": self.say(&finding.location),
                    "code": {"value": finding.concept.value, "scheme": finding.concept.scheme},
                    "urgency": finding.urgency,
                    "probability": finding.probability.filter(|p| p.is_finite()),
                })
            })
            .collect();
        let files: Vec<Value> = self
            .options
            .files
            .iter()
            .map(|(file, url)| json!({"file": file, "url": url}))
            .collect();
        let disputed: Vec<String> =
            a.outcome.disputed().iter().map(|one| self.say(&one.in_words())).collect();
        let mut data = json!({
            "study_uid": a.study.study_uid,
            "revision": a.revision,
            "status": "preliminary",
            "outcome": a.outcome.as_str(),
            "reason": self.say(&self.content.status.reason),
            "urgency": a.urgency,
            "examination": self.say(&self.content.header.examination),
            "modalities": a.study.modalities(),
            "findings": findings,
            "looked_for": a.looked_for,
            "disputed": disputed,
            "impression": self.content.impression.iter().map(|l| self.say(l)).collect::<Vec<_>>(),
            "report_url": self.options.study_url,
            "files": files,
            "found_at": a.finished_at,
            "model": self.content.footer,
            "notice": "Preliminary and unverified: software output, not a diagnosis.",
        });
        let (patient, number) = (&a.study.patient, plain::line(a.study.accession_number()));
        if self.options.shown != Shown::None {
            data["accession_number"] = number.into();
            data["patient"] = json!({"id": plain::line(&patient.id)});
        }
        if self.options.shown == Shown::Full {
            data["patient"]["name"] = plain::person(&patient.name).into();
            data["patient"]["birth_date"] = plain::line(&patient.birth_date).into();
            data["patient"]["sex"] = plain::line(&patient.sex).into();
        }
        json!({"type": "report.preliminary", "timestamp": a.finished_at, "data": data})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::sample;
    use crate::report::Language;
    use crate::report::sample::site;
    use crate::report::words::Words;

    fn of(a: &Assessment, shown: Shown, language: Language) -> Message {
        let site = site();
        let input = ReportInput {
            assessment: a,
            language,
            pictures: &[],
            communications: &[],
            site: &site,
        };
        let study_url = Some("https://node.example/studies/1.2.3".to_owned());
        notice(&input, &Options { shown, study_url, ..Options::default() })
    }

    /// The model repeats a name, the examination is named after the patient: neither leaves.
    #[test]
    fn a_message_names_the_patient_as_far_as_it_is_asked_to() {
        let mut a = sample::positive_chest();
        let (id, accession) = (a.study.patient.id.clone(), a.study.accession_number().to_owned());
        a.impression = format!("{} Seen in Hong Gildong, {id}, {accession}.", a.impression);
        a.examination = "Chest of Hong".into();
        let born = a.study.patient.birth_date.clone();
        for (shown, numbers, name) in
            [(Shown::None, false, false), (Shown::Numbers, true, false), (Shown::Full, true, true)]
        {
            let message = of(&a, shown, Language::En);
            for part in [&message.text, &message.html, &message.json] {
                assert_eq!(part.contains(&id), numbers, "{shown:?} {part}");
                assert_eq!(part.contains(&accession), numbers, "{shown:?} {part}");
                assert_eq!(part.contains("Hong"), name, "{shown:?} {part}");
                assert!(part.contains("https://node.example/studies/1.2.3"), "{part}");
            }
            assert_eq!(message.json.contains(&born), name, "{shown:?}");
            assert_eq!(message.subject.contains(&accession), numbers, "{}", message.subject);
            assert!(!message.subject.contains("Hong"), "{}", message.subject);
            assert_eq!(of(&a, shown, Language::En), message, "the same again");
        }
    }

    #[test]
    fn what_was_not_read_is_neither_normal_nor_of_low_urgency() {
        for (a, outcome) in
            [(sample::not_covered_ct(), "not_covered"), (sample::needs_review(), "needs_review")]
        {
            for language in Language::ALL {
                let message = of(&a, Shown::None, language);
                let event: Value = serde_json::from_str(&message.json).unwrap();
                assert_eq!(event["data"]["outcome"], outcome);
                assert!(event["data"]["urgency"].is_null(), "{event:#}");
                assert!(!event["data"]["reason"].as_str().unwrap().is_empty());
                let w = Words::of(language);
                let (title, headline) = match outcome {
                    "not_covered" => (w.not_covered_title, w.not_covered_title),
                    _ => (w.needs_review_title, w.needs_review_because),
                };
                let headline = headline.split('{').next().unwrap();
                assert!(message.subject.contains(title) && message.text.contains(headline));
            }
        }
    }

    #[test]
    fn an_event_carries_the_findings_of_the_record() {
        let a = sample::positive_chest();
        let event: Value = serde_json::from_str(&of(&a, Shown::None, Language::Ko).json).unwrap();
        let said = event["data"]["findings"].as_array().unwrap();
        assert_eq!(said.len(), a.present().count());
        for (said, finding) in said.iter().zip(a.present()) {
            assert_eq!(said["code"]["value"], finding.concept.value.as_str());
            assert_eq!(said["urgency"], finding.urgency.as_str());
        }
        assert_eq!(event["type"], "report.preliminary");
    }
}
