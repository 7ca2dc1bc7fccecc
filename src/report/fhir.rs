//! The report as a FHIR R4 transaction bundle. Always preliminary, labelled as asserted by software
//! (AIAST). Everything is put under an identifier of its own or made only where it is missing, so
//! that the same bundle again changes nothing, and a revision takes the place of the one before.

mod task;
mod values;

use base64::Engine as _;
use jiff::civil;
use jiff::tz::TimeZone;
use serde_json::Value;
use serde_json::json;

use crate::domain::assessment::Assessment;
use crate::domain::assessment::Outcome;
use crate::domain::code::Code;
use crate::domain::finding::Finding;
use crate::domain::finding::Presence;
use crate::domain::uid;
use crate::domain::urgency::Urgency;
use crate::report::ReportInput;
use crate::report::content::Content;
use crate::report::content::content;
use crate::report::fhir::values::TERMINOLOGY;
use crate::report::fhir::values::absent;
use crate::report::fhir::values::coding;
use crate::report::fhir::values::concept;
use crate::report::fhir::values::date;
use crate::report::fhir::values::dicom_uid;
use crate::report::fhir::values::human_name;
use crate::report::fhir::values::instant;
use crate::report::fhir::values::label;
use crate::report::fhir::values::quantity;
use crate::report::fhir::values::system;
use crate::report::fhir::values::token;
use crate::report::fhir::values::typed;
use crate::report::fhir::values::uid_token;
use crate::report::names;
use crate::report::oru::filler_number;
use crate::report::plain;
use crate::report::words::Language;

/// What a bundle carries beside the report's input.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// What was looked at; `None`: "… unspecified body region" of the modality.
    pub procedure: Option<&'a Code>,
    pub pdf: Option<&'a [u8]>,
    /// The readings before this one: what they found and this one does not is withdrawn.
    pub previous: &'a [Assessment],
    /// Whether a patient whom the server does not know is made; else it is named by ID alone.
    pub makes_patient: bool,
    /// URIs of who gives Patient IDs and accession numbers; may be empty.
    pub patient_system: &'a str,
    pub accession_system: &'a str,
    /// Begins the number of the report.
    pub filler_prefix: &'a str,
    /// Seconds within which somebody has to acknowledge what is critical.
    pub critical_wait_s: u64,
}

/// The bundle as JSON.
pub fn fhir(input: &ReportInput<'_>, options: &Options<'_>) -> Value {
    let zone = input.site.zone().unwrap_or(TimeZone::UTC);
    let of = |a| Writer { a, options, zone: &zone, language: input.language };
    let writer = of(input.assessment);
    let mut entries = Vec::new();
    entries.extend(writer.patient());
    entries.extend([writer.device(), writer.imaging_study()]);
    let own = writer.findings();
    let mut told: Vec<String> = Vec::new();
    for (finding, tracking_uid) in &own {
        entries.push(writer.observation(finding, tracking_uid, "preliminary"));
        told.push(tracking_uid.clone());
    }
    for previous in options.previous {
        for (finding, tracking_uid) in of(previous).findings() {
            if !told.contains(&tracking_uid) {
                entries.push(writer.observation(finding, &tracking_uid, "entered-in-error"));
                told.push(tracking_uid);
            }
        }
    }
    let content = content(input);
    entries.extend(writer.not_completed(&content));
    entries.push(writer.report(&content, &own));
    entries.push(writer.provenance());
    entries.extend(writer.task());
    json!({"resourceType": "Bundle", "type": "transaction", "entry": entries})
}

/// Name of the entry that says that there is no answer.
const OUTCOME: &str = "outcome";

/// Of a DiagnosticReport: preliminary is what has results, partial what is in doubt, registered
/// what has none.
fn status(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Read => "preliminary",
        Outcome::NeedsReview { .. } => "partial",
        Outcome::NotCovered { .. } | Outcome::MeasuredOnly { .. } | Outcome::Held { .. } => {
            "registered"
        }
    }
}

struct Writer<'a> {
    a: &'a Assessment,
    options: &'a Options<'a>,
    zone: &'a TimeZone,
    language: Language,
}

impl<'a> Writer<'a> {
    /// What was looked at, each with the UID under which the server knows it.
    fn findings(&self) -> Vec<(&'a Finding, String)> {
        let read = self.a.rules_out();
        let mut all: Vec<(&Finding, String)> = Vec::new();
        // What was not read is never absent.
        let said = |finding: &&Finding| read || finding.presence != Presence::Absent;
        for finding in self.a.findings.iter().filter(said) {
            let known = all.iter().any(|(_, uid)| *uid == finding.tracking_uid);
            let tracking_uid = match known {
                false => finding.tracking_uid.clone(),
                true => uid::derived(&["tracking", &finding.tracking_uid, &finding.id]),
            };
            all.push((finding, tracking_uid));
        }
        all
    }

    fn number(&self) -> String {
        filler_number(self.a, self.options.filler_prefix)
    }

    /// A made-up name within the bundle, the same at each try.
    fn full_url(&self, of: &str) -> String {
        let what = [self.a.study.study_uid.as_str(), &self.a.algorithm.device_uid, of].join("\0");
        let hash = blake3::hash(what.as_bytes()).to_hex();
        // Version 8, RFC 9562: a hash of our own.
        let parts = [&hash[..8], &hash[8..12], &hash[13..16], &hash[17..20], &hash[20..32]];
        format!("urn:uuid:{}-{}-8{}-8{}-{}", parts[0], parts[1], parts[2], parts[3], parts[4])
    }

    fn subject(&self) -> Value {
        let patient = &self.a.study.patient;
        match (plain::line(&patient.id), self.makes_patient()) {
            (id, _) if id.is_empty() => json!({"type": "Patient", "display": "not identified"}),
            (_, true) => json!({"reference": self.full_url("patient")}),
            (id, false) => json!({"type": "Patient", "identifier": self.patient_id(&id)}),
        }
    }

    fn makes_patient(&self) -> bool {
        self.options.makes_patient && !self.options.patient_system.is_empty()
    }

    fn patient_id(&self, id: &str) -> Value {
        let mut identifier = typed("MR", id, self.options.patient_system);
        let issuer = plain::line(&self.a.study.patient.issuer_of_id);
        if !issuer.is_empty() {
            identifier["assigner"] = json!({"display": issuer});
        }
        identifier
    }

    fn patient(&self) -> Option<Value> {
        let patient = &self.a.study.patient;
        let id = plain::line(&patient.id);
        if !self.makes_patient() || id.is_empty() {
            return None;
        }
        let mut resource = json!({"resourceType": "Patient", "identifier": [self.patient_id(&id)]});
        let groups = [&patient.name.alphabetic, &patient.name.ideographic, &patient.name.phonetic];
        let names: Vec<Value> = groups.into_iter().filter_map(|group| human_name(group)).collect();
        if !names.is_empty() {
            resource["name"] = names.into();
        }
        if let Some(born) = date(&patient.birth_date) {
            resource["birthDate"] = born.to_string().into();
        }
        let gender = match patient.sex.trim() {
            "M" => Some("male"),
            "F" => Some("female"),
            "O" => Some("other"),
            _ => None,
        };
        if let Some(gender) = gender {
            resource["gender"] = gender.into();
        }
        let query = format!("identifier={}", token(self.options.patient_system, &id));
        Some(self.made("patient", resource, &query))
    }

    /// An entry that is made only where the server has none.
    fn made(&self, name: &str, resource: Value, if_none: &str) -> Value {
        let kind = resource["resourceType"].as_str().unwrap_or_default().to_owned();
        let request = json!({"method": "POST", "url": kind, "ifNoneExist": if_none});
        json!({"fullUrl": self.full_url(name), "resource": resource, "request": request})
    }

    /// An entry that takes the place of the one with the same identifier.
    fn put(&self, name: &str, resource: Value, identifier: &str) -> Value {
        let kind = resource["resourceType"].as_str().unwrap_or_default().to_owned();
        let request = json!({"method": "PUT", "url": format!("{kind}?identifier={identifier}")});
        json!({"fullUrl": self.full_url(name), "resource": resource, "request": request})
    }

    fn device(&self) -> Value {
        let algorithm = &self.a.algorithm;
        let named = |text: &str, or: &str| match plain::line(text) {
            text if text.is_empty() => or.to_owned(),
            text => text,
        };
        let resource = json!({
            "resourceType": "Device",
            "identifier": [dicom_uid(&algorithm.device_uid)],
            "status": "active",
            "manufacturer": named(&algorithm.manufacturer, "unknown"),
            "deviceName": [{"name": named(&algorithm.name, "unknown"), "type": "model-name"}],
            "version": [{"value": named(&algorithm.version, "unknown")}],
        });
        self.made("device", resource, &format!("identifier={}", uid_token(&algorithm.device_uid)))
    }

    fn imaging_study(&self) -> Value {
        let study = &self.a.study;
        let uid = study.study_uid.as_str();
        let mut identifiers = vec![dicom_uid(uid)];
        let accession = plain::line(study.accession_number());
        if !accession.is_empty() {
            identifiers.push(typed("ACSN", &accession, self.options.accession_system));
        }
        let mut resource = json!({
            "resourceType": "ImagingStudy",
            "identifier": identifiers,
            "status": "available",
            "subject": self.subject(),
        });
        let modalities = study.modalities();
        let coding = |modality: &String| coding(&Code::new(modality, "DCM", ""));
        if !modalities.is_empty() {
            resource["modality"] = modalities.iter().map(coding).collect();
        }
        if let Some(started) = self.study_time() {
            resource["started"] = started.into();
        }
        let description = plain::line(&study.attributes.study_description);
        if !description.is_empty() {
            resource["description"] = description.into();
        }
        self.made("study", resource, &format!("identifier={}", uid_token(uid)))
    }

    /// Local time of the images, as exact as they are.
    fn study_time(&self) -> Option<String> {
        let attributes = &self.a.study.attributes;
        let day = date(&attributes.study_date)?;
        let time: String = attributes.study_time.trim().chars().filter(|c| *c != ':').collect();
        let time = time.get(..6).and_then(|time| civil::Time::strptime("%H%M%S", time).ok());
        let Some(time) = time else { return Some(day.to_string()) };
        let at = day.to_datetime(time).to_zoned(self.zone.clone()).ok()?;
        Some(instant(at.timestamp(), self.zone))
    }

    fn observation(&self, finding: &Finding, tracking_uid: &str, status: &str) -> Value {
        let named = names::finding(&finding.key, &finding.concept.meaning, self.language);
        let what = concept(&finding.concept, &plain::line(&named.text));
        let (code, value) = match finding.presence {
            Presence::Present => (self.finding_code(), what),
            // A reader that shows the value alone must not show what is not there.
            Presence::Absent | Presence::Undetermined => {
                (what, concept(&absent(finding.presence), ""))
            }
        };
        let mut category = vec![json!({"coding": [
            {"system": format!("{TERMINOLOGY}/observation-category"), "code": "imaging"}
        ]})];
        category.extend(finding.urgency.category().map(|code| concept(&code, "")));
        let mut resource = json!({
            "resourceType": "Observation",
            "meta": {"security": [label()]},
            "identifier": [dicom_uid(tracking_uid)],
            "status": status,
            "category": category,
            "code": code,
            "subject": self.subject(),
            "issued": instant(self.a.finished_at, self.zone),
            "valueCodeableConcept": value,
            "device": {"reference": self.full_url("device")},
            "derivedFrom": [{"reference": self.full_url("study")}],
        });
        if let Some(at) = self.study_time() {
            resource["effectiveDateTime"] = at.into();
        }
        let interpretation = match (finding.presence, finding.urgency) {
            (Presence::Present, Urgency::Critical) => Some("AA"),
            (Presence::Present, _) => Some("A"),
            (Presence::Absent, _) => Some("NEG"),
            (Presence::Undetermined, _) => None,
        };
        if let Some(code) = interpretation {
            let system = format!("{TERMINOLOGY}/v3-ObservationInterpretation");
            resource["interpretation"] = json!([{"coding": [{"system": system, "code": code}]}]);
        }
        if let Some(site) = self.body_site(finding) {
            resource["bodySite"] = site;
        }
        let components = components(finding);
        if !components.is_empty() {
            resource["component"] = components.into();
        }
        let said = plain::paragraph(&finding.description);
        if !said.is_empty() {
            resource["note"] = json!([{"text": said}]);
        }
        self.put(&format!("finding/{tracking_uid}"), resource, &uid_token(tracking_uid))
    }

    /// That there is no answer, and why: an observation without a value, so that a receiver that
    /// looks at results alone does not take the empty list for one. A later revision that was read
    /// takes it back.
    fn not_completed(&self, content: &Content) -> Option<Value> {
        let why = match &self.a.outcome {
            Outcome::Read => None,
            Outcome::NeedsReview { .. } => Some("temp-unknown"),
            Outcome::NotCovered { .. } | Outcome::MeasuredOnly { .. } | Outcome::Held { .. } => {
                Some("not-performed")
            }
        };
        let before = |a: &Assessment| !a.outcome.is_read();
        if why.is_none() && !self.options.previous.iter().any(before) {
            return None;
        }
        let tracking_uid =
            uid::derived(&[OUTCOME, self.a.study.study_uid.as_str(), &self.number()]);
        let mut resource = json!({
            "resourceType": "Observation",
            "meta": {"security": [label()]},
            "identifier": [dicom_uid(&tracking_uid)],
            "status": if why.is_some() { "preliminary" } else { "entered-in-error" },
            "category": [{"coding": [
                {"system": format!("{TERMINOLOGY}/observation-category"), "code": "imaging"}
            ]}],
            "code": self.finding_code(),
            "subject": self.subject(),
            "issued": instant(self.a.finished_at, self.zone),
            "device": {"reference": self.full_url("device")},
            "derivedFrom": [{"reference": self.full_url("study")}],
        });
        resource["dataAbsentReason"] = json!({
            "coding": [{
                "system": format!("{TERMINOLOGY}/data-absent-reason"),
                "code": why.unwrap_or("not-applicable"),
            }],
            "text": content.status.title,
        });
        Some(self.put(OUTCOME, resource, &uid_token(&tracking_uid)))
    }

    fn finding_code(&self) -> Value {
        concept(&Code::new("59776-5", "LN", "Procedure findings"), "")
    }

    /// The site with its side in words; the code of the side is a component.
    fn body_site(&self, finding: &Finding) -> Option<Value> {
        let site = finding.site.as_ref().map(|site| names::site(site, self.language).text);
        let side = finding.laterality.map(|side| side.code().meaning.to_lowercase());
        let location = Some(finding.location.clone()).filter(|location| !location.is_empty());
        let words: Vec<String> = site.into_iter().chain(side).chain(location).collect();
        if words.is_empty() {
            return None;
        }
        let words = plain::line(&words.join(", "));
        Some(match &finding.site {
            Some(site) => concept(site, &words),
            None => json!({"text": words}),
        })
    }

    fn report(&self, content: &Content, findings: &[(&Finding, String)]) -> Value {
        let a = self.a;
        let asked = a.study.order().and_then(|order| order.procedure.as_ref());
        let procedure = self.options.procedure.or(asked).cloned();
        let procedure = procedure.unwrap_or_else(|| a.study.unspecified_procedure());
        let number = self.number();
        let mut words = vec![content.w.preliminary_line.to_owned()];
        words.extend(content.impression.iter().cloned());
        let mut resource = json!({
            "resourceType": "DiagnosticReport",
            "meta": {"security": [label()]},
            "language": content.lang,
            "identifier": [
                {"use": "official", "system": system(), "value": number},
                dicom_uid(&a.artefact_uid("sr")),
            ],
            "status": status(&a.outcome),
            "category": [{"coding": [{"system": format!("{TERMINOLOGY}/v2-0074"), "code": "RAD"}]}],
            "code": concept(&procedure, &plain::line(&a.examination)),
            "subject": self.subject(),
            "issued": instant(a.finished_at, self.zone),
            "imagingStudy": [{"reference": self.full_url("study")}],
            "conclusion": words.join("\n"),
        });
        if let Some(at) = self.study_time() {
            resource["effectiveDateTime"] = at.into();
        }
        let reference = |(_, uid): &(&Finding, String)| json!({"reference": self.full_url(&format!("finding/{uid}"))});
        let mut results: Vec<Value> = findings.iter().map(reference).collect();
        if !a.outcome.is_read() {
            results.push(json!({"reference": self.full_url(OUTCOME)}));
        }
        if !results.is_empty() {
            resource["result"] = results.into();
        }
        let found: Vec<Value> = a.present().map(|f| concept(&f.concept, "")).collect();
        if !found.is_empty() {
            resource["conclusionCode"] = found.into();
        }
        let placer = a.study.order().map(|order| plain::line(&order.placer_number));
        if let Some(placer) = placer.filter(|number| !number.is_empty()) {
            let based_on =
                json!({"type": "ServiceRequest", "identifier": typed("PLAC", &placer, "")});
            resource["basedOn"] = json!([based_on]);
        }
        if let Some(pdf) = self.options.pdf {
            resource["presentedForm"] = json!([{
                "contentType": "application/pdf",
                "language": content.lang,
                "data": base64::engine::general_purpose::STANDARD.encode(pdf),
                "title": format!("{}, {}", content.w.title, content.w.preliminary),
                "creation": instant(a.finished_at, self.zone),
            }]);
        }
        self.put("report", resource, &token(&system(), &number))
    }

    /// It has no identifier in R4: a tag of its own tells whether the server has it.
    fn provenance(&self) -> Value {
        let what = [self.a.artefact_uid("sr"), self.a.finished_at.to_string()].join("\0");
        let tag = blake3::hash(what.as_bytes()).to_hex()[..32].to_owned();
        let author = json!({"coding": [
            {"system": format!("{TERMINOLOGY}/provenance-participant-type"), "code": "author"}
        ]});
        let resource = json!({
            "resourceType": "Provenance",
            "meta": {"tag": [{"system": system(), "code": tag}]},
            "target": [{"reference": self.full_url("report")}],
            "recorded": instant(self.a.finished_at, self.zone),
            "agent": [{"type": author, "who": {"reference": self.full_url("device")}}],
            "entity": [{"role": "source", "what": {"reference": self.full_url("study")}}],
        });
        self.made("provenance", resource, &format!("_tag={}", token(&system(), &tag)))
    }
}

fn components(finding: &Finding) -> Vec<Value> {
    let mut all = Vec::new();
    let dcm = |value, meaning| Code::new(value, "DCM", meaning);
    let sct = |value, meaning| Code::new(value, "SCT", meaning);
    if let Some(side) = finding.laterality {
        let code = concept(&sct("272741003", "Laterality"), "");
        all.push(json!({"code": code, "valueCodeableConcept": concept(&side.code(), "")}));
    }
    if let Some(grade) = finding.severity.filter(|_| finding.presence == Presence::Present) {
        let code = concept(&sct("246112005", "Severity"), "");
        all.push(json!({"code": code, "valueCodeableConcept": concept(&grade.code(), "")}));
    }
    if finding.presence != Presence::Present {
        return all;
    }
    if let Some(sure) = finding.probability.filter(|p| (0.0..=1.0).contains(p)) {
        let code = concept(&dcm("111012", "Certainty of Finding"), "");
        let percent = (sure * 1000.0).round() / 10.0;
        all.push(json!({"code": code, "valueQuantity": quantity(percent, "%")}));
    }
    for measured in finding.measurements.iter().filter(|m| m.value.is_finite()) {
        let unit = if measured.unit.is_empty() { "1" } else { &measured.unit };
        let code = concept(&measured.concept, "");
        all.push(json!({"code": code, "valueQuantity": quantity(measured.value, unit)}));
    }
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::process::Command;
    use std::process::Output;

    use super::*;
    use crate::domain::sample;
    use crate::report::sample::site;
    use crate::sr::samples;

    fn of(assessment: &Assessment, language: Language, options: &Options<'_>) -> Value {
        let site = site();
        let input =
            ReportInput { assessment, language, pictures: &[], communications: &[], site: &site };
        fhir(&input, options)
    }

    fn creating<'a>() -> Options<'a> {
        Options {
            pdf: Some(b"%PDF-1.4 not really"),
            makes_patient: true,
            patient_system: "urn:oid:1.2.3",
            ..Options::default()
        }
    }

    /// What fhir.resources (Python) and fhir (npm) find.
    fn check(folder: &Path, bundles: &BTreeMap<String, Value>) -> [Output; 2] {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
        let peers = repository.join("tests/peers");
        let mut python = Command::new(repository.join(".venv/bin/python"));
        python.arg(peers.join("check_fhir.py"));
        let mut node = Command::new("node");
        node.env("NODE_PATH", repository.join("target/npm/node_modules"));
        node.arg(peers.join("check_fhir.cjs"));
        for (name, bundle) in bundles {
            let file = folder.join(format!("{name}.json"));
            std::fs::write(&file, bundle.to_string()).unwrap();
            python.arg(&file);
            node.arg(file);
        }
        [python, node].map(|mut check| check.output().unwrap())
    }

    /// Both on every sample, with and without a patient of its own.
    #[test]
    fn a_validator_finds_no_error_in_our_bundles() {
        let folder = tempfile::tempdir().unwrap();
        let mut bundles = BTreeMap::new();
        for sample in samples::all() {
            let (name, a) = (sample.name, &sample.assessment);
            for (mode, options) in [("reference", Options::default()), ("create", creating())] {
                bundles.insert(format!("{name}-{mode}"), of(a, Language::Ko, &options));
            }
        }
        let before = [sample::positive_chest()];
        let options = Options { previous: &before, ..Options::default() };
        let gone = Assessment { revision: 2, findings: vec![], ..sample::positive_chest() };
        bundles.insert("withdrawn".into(), of(&gone, Language::En, &options));
        let critical = Assessment { urgency: Some(Urgency::Critical), ..sample::positive_chest() };
        bundles.insert("critical".into(), of(&critical, Language::En, &creating()));
        let before = [critical];
        let options = Options { previous: &before, ..Options::default() };
        let routine = Assessment { urgency: Some(Urgency::Routine), revision: 2, ..gone };
        bundles.insert("cancelled".into(), of(&routine, Language::En, &options));
        let mut nameless = sample::positive_chest();
        nameless.study.patient = Default::default();
        nameless.study.attributes = Default::default();
        bundles.insert("nameless".into(), of(&nameless, Language::En, &creating()));
        for checked in check(folder.path(), &bundles) {
            let said = String::from_utf8_lossy(&checked.stdout);
            let errors = String::from_utf8_lossy(&checked.stderr);
            assert!(checked.status.success(), "{said}{errors}");
        }
    }

    /// The check itself: each fault is seen.
    #[test]
    fn the_validator_sees_faults() {
        let folder = tempfile::tempdir().unwrap();
        let good = of(&sample::positive_chest(), Language::En, &creating());
        type Fault = fn(&mut Value);
        let faults: [(&str, Fault); 7] = [
            ("field", |b| b["entry"][2]["resource"]["colour"] = "red".into()),
            ("status", |b| b["entry"][3]["resource"]["status"] = "final".into()),
            ("code", |b| drop(b["entry"][3]["resource"].as_object_mut().unwrap().remove("code"))),
            ("label", |b| b["entry"][3]["resource"]["meta"] = json!({"security": []})),
            ("condition", |b| b["entry"][3]["request"]["url"] = "Observation".into()),
            ("reference", |b| b["entry"][1]["fullUrl"] = "urn:uuid:0".into()),
            ("date", |b| b["entry"][0]["resource"]["birthDate"] = "20200114".into()),
        ];
        for (name, fault) in faults {
            let mut bad = good.clone();
            fault(&mut bad);
            let [python, node] = check(folder.path(), &BTreeMap::from([(name.to_owned(), bad)]));
            assert!(!python.status.success(), "{name} was not seen");
            let is_of_both = ["field", "code"].contains(&name);
            assert!(!is_of_both || !node.status.success(), "{name} was not seen by npm's");
        }
    }

    fn resources<'a>(bundle: &'a Value, kind: &str) -> Vec<&'a Value> {
        let entries = bundle["entry"].as_array().unwrap().iter();
        let all = entries.map(|entry| &entry["resource"]);
        all.filter(|resource| resource["resourceType"] == kind).collect()
    }

    #[test]
    fn a_bundle_carries_the_same_findings_as_the_record_and_nobody_unasked() {
        let a = sample::positive_chest();
        let bundle = of(&a, Language::Ko, &Options::default());
        let observations = resources(&bundle, "Observation");
        assert_eq!(observations.len(), a.findings.len());
        for (finding, observation) in a.findings.iter().zip(observations) {
            let part =
                |key: &str| observation[key]["coding"][0]["code"].as_str().unwrap().to_owned();
            let (code, value) = (part("code"), part("valueCodeableConcept"));
            match finding.presence {
                Presence::Present => {
                    assert_eq!((code.as_str(), value), ("59776-5", finding.concept.value.clone()));
                    let side = &finding.laterality.unwrap().code().value;
                    assert!(observation["component"].to_string().contains(side), "{observation:#}");
                }
                Presence::Absent | Presence::Undetermined => {
                    assert_eq!((code, value.as_str()), (finding.concept.value.clone(), "2667000"));
                    assert_eq!(observation["interpretation"][0]["coding"][0]["code"], "NEG");
                }
            }
        }
        assert!(resources(&bundle, "Patient").is_empty());
        let text = bundle.to_string();
        assert!(!text.contains("Gildong") && !text.contains("20200114"), "only the ID is told");
        assert_eq!(
            resources(&bundle, "DiagnosticReport")[0]["effectiveDateTime"],
            "2026-03-02T10:14:00+00:00"
        );
        assert_eq!(bundle, of(&a, Language::Ko, &Options::default()), "the same again");
    }

    #[test]
    fn a_revision_takes_the_place_of_the_report_and_withdraws_what_is_gone() {
        let first = sample::positive_chest();
        let mut second = Assessment { revision: 2, ..first.clone() };
        second.findings.remove(0);
        let before = [first.clone()];
        let one = of(&first, Language::En, &Options::default());
        let two = of(&second, Language::En, &Options { previous: &before, ..Options::default() });
        let put = |bundle: &Value| {
            let entries = bundle["entry"].as_array().unwrap();
            let is = |e: &&Value| e["resource"]["resourceType"] == "DiagnosticReport";
            entries.iter().find(is).unwrap()["request"]["url"].clone()
        };
        assert_eq!(put(&one), put(&two));
        let gone: Vec<&Value> = resources(&two, "Observation")
            .into_iter()
            .filter(|one| one["status"] == "entered-in-error")
            .collect();
        let [gone] = gone[..] else { panic!("one is withdrawn") };
        let uid = format!("urn:oid:{}", first.findings[0].tracking_uid);
        assert_eq!(gone["identifier"][0]["value"], uid.as_str());
        let named = resources(&two, "DiagnosticReport")[0]["result"].as_array().unwrap().len();
        assert_eq!(named, second.findings.len());
    }

    #[test]
    fn a_study_that_was_not_read_denies_nothing() {
        let mut a = sample::needs_review();
        a.findings = samples::negative().findings;
        let bundle = of(&a, Language::En, &Options::default());
        let [only] = resources(&bundle, "Observation")[..] else { panic!("one") };
        assert!(only.get("valueCodeableConcept").is_none());
        assert_eq!(only["dataAbsentReason"]["coding"][0]["code"], "temp-unknown");
    }
}
