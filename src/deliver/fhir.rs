//! FHIR R4 transaction bundles to a server.

use std::path::Path;

use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

use crate::deliver::DeliverError;
use crate::deliver::Delivered;
use crate::deliver::http;
use crate::deliver::http::Answer;
use crate::deliver::http::Endpoint;
use crate::deliver::peer_words;
use crate::outgoing::route::Route;
use crate::outgoing::server::Server;
use crate::outgoing::server::Who;

/// Identifiers that are shorter are words of every message.
const IDENTITY_CHARS_MIN: usize = 3;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Base URL, e.g. `https://fhir.hospital.example/r4`.
    pub url: String,
    #[serde(default)]
    pub patient: Patient,
    #[serde(flatten)]
    pub route: Route,
    #[serde(flatten)]
    pub who: Who,
    /// Seconds for one answer.
    #[serde(default = "default_timeout_s")]
    pub timeout_s: u64,
}

fn default_timeout_s() -> u64 {
    60
}

/// How a bundle names the patient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Patient {
    /// By Patient ID alone; nobody is made.
    #[default]
    Reference,
    /// A resource that is made where the server has none with this ID.
    Create,
}

impl Patient {
    /// The bundle, in the result folder.
    pub fn file(self) -> &'static str {
        match self {
            Patient::Reference => "report.fhir.json",
            Patient::Create => "report.fhir-patient.json",
        }
    }
}

impl Config {
    /// Adds one line to `problems` for each value that cannot work.
    ///
    /// - `patient_system`: who gives Patient IDs; needed to find a patient.
    pub fn check(&self, at: &str, patient_system: &str, problems: &mut Vec<String>) {
        self.endpoint().check(at, problems);
        if self.patient == Patient::Create && patient_system.is_empty() {
            let why = "a patient would be taken for another with the same number";
            problems.push(format!(
                "{at}.patient = \"create\": set deliver.identifiers.patient too; {why}"
            ));
        }
    }

    pub fn server(&self) -> Server<'_> {
        Server { route: &self.route, who: &self.who }
    }

    fn endpoint(&self) -> Endpoint<'_> {
        Endpoint { url: &self.url, server: self.server(), timeout_s: self.timeout_s }
    }
}

/// Asks for the server's capabilities (FHIR R4 3.2.0.6).
pub async fn reach(config: &Config) -> Result<String, DeliverError> {
    let answer = config.endpoint().get("/metadata", "application/fhir+json").await?;
    let about: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    match (answer.status, about["resourceType"].as_str()) {
        (200, Some("CapabilityStatement")) => {
            let version = about["fhirVersion"].as_str().unwrap_or("of no named version");
            Ok(format!("a FHIR server, {}", peer_words(version)))
        }
        (200, _) => Err(http::refused(200, "no CapabilityStatement: is the URL its base?")),
        _ => Err(answer.refused(&String::from_utf8_lossy(&answer.body))),
    }
}

/// One try to send one bundle. A second one changes nothing: see `report::fhir`.
///
/// # Errors
/// 4xx is permanent, except 408, 425 and 429; all else may pass. The server's words are told without
/// what names the patient.
pub async fn deliver(config: &Config, file: &Path) -> Result<Delivered, DeliverError> {
    let unread = |source| DeliverError::File { what: "the result cannot be read", source };
    let body = tokio::fs::read(file).await.map_err(unread)?;
    let request = http::Request {
        path: "",
        content_type: "application/fhir+json; fhirVersion=4.0",
        accept: "application/fhir+json",
        headers: Vec::new(),
        body: body.clone(),
    };
    let answered = config.endpoint().post(request).await?;
    let answer: Value = serde_json::from_slice(&answered.body).unwrap_or_default();
    let bundle = answer["resourceType"] == "Bundle";
    let status = answered.status;
    let sent = || serde_json::from_slice::<Value>(&body).unwrap_or_default();
    match (status, failed(&answer)) {
        (200..=299, Some((code, words))) if bundle => {
            let of_entry = Answer { status: code, ..answered };
            Err(of_entry.refused(&without_identity(format!("an entry: {words}"), &sent())))
        }
        (200..=299, None) if bundle => {
            Ok(Delivered { detail: format!("HTTP {status} {}", entries(&answer)) })
        }
        // A page of a proxy, or another service: nobody says that it has it.
        (200..=299, _) => {
            Err(DeliverError::deferred(format!("HTTP {status}, but no transaction response")))
        }
        _ => Err(answered.refused(&without_identity(words(&answer), &sent()))),
    }
}

/// The first entry of a response that was not taken, though the whole is called a success: its status
/// and what the server says of it.
fn failed(answer: &Value) -> Option<(u16, String)> {
    let all = answer["entry"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().find_map(|one| {
        let response = &one["response"];
        let code = response["status"].as_str()?.split(' ').next()?.parse::<u16>().ok()?;
        (code >= 400).then(|| (code, words(&response["outcome"])))
    })
}

/// How many resources were made, changed or there already.
fn entries(answer: &Value) -> String {
    let all = answer["entry"].as_array().map(Vec::as_slice).unwrap_or_default();
    let count = |code: &str| {
        let is =
            |one: &&Value| one["response"]["status"].as_str().is_some_and(|s| s.starts_with(code));
        all.iter().filter(is).count()
    };
    format!("{} made, {} there", count("201"), count("200"))
}

/// What an OperationOutcome says.
fn words(answer: &Value) -> String {
    let issues = answer["issue"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of = |issue: &Value| {
        let parts = [&issue["code"], &issue["details"]["text"], &issue["diagnostics"]];
        let words: Vec<&str> = parts.into_iter().filter_map(Value::as_str).collect();
        words.join(" ")
    };
    issues.iter().take(3).map(of).collect::<Vec<_>>().join("; ")
}

/// Servers repeat what they could not use.
fn without_identity(words: String, sent: &Value) -> String {
    let mut identity = Vec::new();
    for entry in sent["entry"].as_array().into_iter().flatten() {
        let resource = &entry["resource"];
        if resource["resourceType"] == "Patient" {
            strings(resource, &mut identity);
        }
        for key in ["subject", "identifier", "basedOn"] {
            strings(&resource[key], &mut identity);
        }
    }
    identity.retain(|value| value.chars().count() >= IDENTITY_CHARS_MIN);
    identity.sort_by_key(|value| std::cmp::Reverse(value.len()));
    identity.into_iter().fold(words, |words, value| words.replace(value, "[removed]"))
}

/// Values, not names: systems, codes and references say nothing of a person.
fn strings<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => found.push(text),
        Value::Array(all) => all.iter().for_each(|one| strings(one, found)),
        Value::Object(fields) => {
            let quiet = ["system", "code", "type", "resourceType", "reference", "use", "gender"];
            let told = fields.iter().filter(|(key, _)| !quiet.contains(&key.as_str()));
            told.for_each(|(_, one)| strings(one, found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_servers_words_do_not_name_the_patient() {
        let sent = json!({"entry": [
            {"resource": {"resourceType": "Patient", "name": [{"family": "Zyxwv", "text": "Zyxwv, Q"}],
                "birthDate": "1980-01-02", "gender": "male"}},
            {"resource": {"resourceType": "ImagingStudy",
                "subject": {"identifier": {"system": "urn:x", "value": "PID-9"}},
                "identifier": [{"value": "ACC-7"}]}},
        ]});
        let answer = json!({"resourceType": "OperationOutcome", "issue": [
            {"severity": "error", "code": "processing",
             "diagnostics": "no match for Patient?identifier=urn:x|PID-9 (Zyxwv, 1980-01-02), ACC-7, male"}
        ]});
        let said = without_identity(words(&answer), &sent);
        assert_eq!(
            said,
            "processing no match for Patient?identifier=urn:x|[removed] ([removed], [removed]), [removed], male"
        );
        assert_eq!(words(&json!("<html>")), "");
    }

    #[test]
    fn settings_that_cannot_work_are_named() {
        let config: Config =
            toml::from_str("url = \"https://fhir.example/r4\"\npatient = \"create\"").unwrap();
        let mut problems = Vec::new();
        config.check("deliver.fhir.a", "urn:oid:1.2.3", &mut problems);
        assert_eq!(problems, [""; 0]);
        config.check("deliver.fhir.a", "", &mut problems);
        let plain = Config {
            url: "http://8.8.8.8/".into(),
            who: Who { token_file: Some("/none".into()), ..Who::default() },
            ..config
        };
        plain.check("deliver.fhir.b", "urn:x", &mut problems);
        assert_eq!(problems.len(), 3, "{problems:#?}");
    }
}
