//! STOW-RS (PS3.18 10.5): DICOM objects to an archive over HTTP, and the look whether it has them by
//! QIDO-RS (10.6).

use std::path::Path;

use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

use crate::deliver::DeliverError;
use crate::deliver::Delivered;
use crate::deliver::http;
use crate::deliver::http::Answer;
use crate::deliver::http::Endpoint;
use crate::deliver::object::Object;
use crate::deliver::object::read;
use crate::deliver::pacs;
use crate::deliver::pacs::Artefact;
use crate::deliver::pacs::Proven;
use crate::outgoing::route::Route;
use crate::outgoing::server::Server;
use crate::outgoing::server::Who;

/// No DICOM object holds it: it is random.
const BOUNDARY: &str = "prelim-7f3c91d2a85e4b06b1c4e9d3f0a2c857";
const FAILED_SOP_SEQUENCE: &str = "00081198";
const REFERENCED_SOP_SEQUENCE: &str = "00081199";
const REFERENCED_SOP_INSTANCE_UID: &str = "00081155";
const SOP_INSTANCE_UID: &str = "00080018";
const FAILURE_REASON: &str = "00081197";
const JSON: &str = "application/dicom+json";
const STUDIES: &str = "/studies";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Base URL; `/studies` is added.
    pub url: String,
    #[serde(default = "pacs::default_artefacts")]
    pub artefacts: Vec<Artefact>,
    /// What shows that it keeps an object.
    #[serde(default)]
    pub proof: Proof,
    #[serde(flatten)]
    pub route: Route,
    #[serde(flatten)]
    pub who: Who,
    /// Seconds for one answer.
    #[serde(default = "default_timeout_s")]
    pub timeout_s: u64,
}

/// What shows that an archive keeps what it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// It is found by QIDO-RS; where the archive offers no search, its answer counts.
    #[default]
    Auto,
    /// QIDO-RS; an archive that refuses it is shown to a person.
    Find,
    /// The answer to the storing.
    Status,
}

fn default_timeout_s() -> u64 {
    60
}

impl Config {
    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        self.endpoint().check(at, problems);
        self.server().check_token_url(at, problems);
        if self.artefacts.is_empty() {
            let why = "a destination that gets nothing is a mistake";
            problems.push(format!("{at}.artefacts = []: name at least one, e.g. \"sr\"; {why}"));
        }
    }

    pub fn server(&self) -> Server<'_> {
        Server { route: &self.route, who: &self.who }
    }

    /// Some write the URL with the resource that is added here.
    fn endpoint(&self) -> Endpoint<'_> {
        let (base, query) = self.url.split_once('?').unwrap_or((&self.url, ""));
        let base = base.trim_end_matches('/');
        let is_whole = !query.is_empty() || !base.ends_with(STUDIES);
        Endpoint {
            url: if is_whole { &self.url } else { base.trim_end_matches(STUDIES) },
            server: self.server(),
            timeout_s: self.timeout_s,
        }
    }
}

/// Asks for one study (QIDO-RS); a server that has none, or does not search, is reached all the same.
pub async fn reach(config: &Config) -> Result<String, DeliverError> {
    let asked = config.endpoint().get("/studies?limit=1", "application/dicom+json").await?;
    match asked.status {
        200 | 204 => Ok("a DICOMweb server, which can be searched".to_owned()),
        404 | 405 | 501 => Ok("it answers, and cannot be searched".to_owned()),
        _ => Err(asked.refused("to QIDO-RS")),
    }
}

/// One try to store one file. A second one is harmless: the object keeps its SOP Instance UID.
///
/// # Errors
/// As the archive says of the object (Failure Reason), else of the request.
pub async fn deliver(config: &Config, file: &Path) -> Result<Delivered, DeliverError> {
    let object = read(file).await?;
    let own = Object::of(&object)?.reference.1;
    let mut body = format!("--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n").into_bytes();
    body.extend_from_slice(&object);
    body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
    let content_type =
        format!("multipart/related; type=\"application/dicom\"; boundary={BOUNDARY}");
    let request = http::Request {
        path: "/studies",
        content_type: &content_type,
        accept: JSON,
        headers: Vec::new(),
        body,
    };
    let answer = config.endpoint().post(request).await?;
    outcome(&answer, &Word::of(&answer.body, own.as_str()))
}

/// What the Store Instances Response (PS3.18 10.5.3) says of one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    /// It is named in Referenced SOP Sequence.
    Stored,
    /// It is named in Failed SOP Sequence, with its Failure Reason where there is one.
    Failed(Option<u64>),
    /// There is no answer but the status.
    Nothing,
    /// What came does not name the instance: of another, or a page of a proxy.
    Other,
}

impl Word {
    fn of(answer: &[u8], sop_instance_uid: &str) -> Word {
        let answer = answer.trim_ascii();
        if answer.is_empty() {
            return Word::Nothing;
        }
        let Ok(answer) = serde_json::from_slice::<Value>(answer) else {
            return Word::of_xml(&String::from_utf8_lossy(answer), sop_instance_uid);
        };
        // Some send a list with one data set.
        let answer = answer.get(0).unwrap_or(&answer);
        let items = |tag: &str| answer[tag]["Value"].as_array().map_or(&[][..], Vec::as_slice);
        let named = |item: &Value, or: bool| {
            let uid = item[REFERENCED_SOP_INSTANCE_UID]["Value"][0].as_str();
            uid.map_or(or, |uid| uid == sop_instance_uid)
        };
        // One was sent: a failure that names none is its own.
        let failed = items(FAILED_SOP_SEQUENCE).iter().find(|item| named(item, true));
        match (failed, items(REFERENCED_SOP_SEQUENCE).iter().any(|item| named(item, false))) {
            (Some(failed), _) => Word::Failed(failed[FAILURE_REASON]["Value"][0].as_u64()),
            (None, true) => Word::Stored,
            (None, false) => Word::Other,
        }
    }

    /// The Native DICOM Model (PS3.19 A.1), which some send whatever they are asked for: as much of
    /// it as one instance needs.
    fn of_xml(answer: &str, sop_instance_uid: &str) -> Word {
        let has = |tag: &str| answer.contains(&format!("tag=\"{tag}\""));
        let names_it = answer.contains(&format!(">{sop_instance_uid}<"));
        match (has(FAILED_SOP_SEQUENCE), has(REFERENCED_SOP_SEQUENCE) && names_it) {
            (true, _) => Word::Failed(None),
            (false, true) => Word::Stored,
            (false, false) => Word::Other,
        }
    }
}

/// The archive's word on the instance counts before that on the request.
fn outcome(answer: &Answer, word: &Word) -> Result<Delivered, DeliverError> {
    let status = answer.status;
    match (status, word) {
        (200 | 202 | 409, Word::Failed(Some(reason))) => {
            pacs::outcome(u16::try_from(*reason).unwrap_or(0xC000), "")
        }
        (200 | 202 | 409, Word::Failed(None)) => {
            Err(http::refused(409, "the archive says that it failed, and not why"))
        }
        // 202: stored with a warning.
        (200 | 202, Word::Stored) | (200, Word::Nothing) => {
            Ok(Delivered { detail: format!("HTTP {status}") })
        }
        (200..=299, _) => {
            Err(DeliverError::deferred(format!("HTTP {status}, but no word of this instance")))
        }
        (_, _) => Err(answer.refused("")),
    }
}

/// Asks whether the archive keeps the object of a file.
pub async fn prove(config: &Config, file: &Path) -> Result<Proven, DeliverError> {
    let Object { study_uid, reference, .. } = Object::of(&read(file).await?)?;
    let (endpoint, how) = (config.endpoint(), "QIDO-RS");
    let own = reference.1.as_str();
    let path = format!("/studies/{study_uid}/instances?SOPInstanceUID={own}");
    let answer = endpoint.get(&path, JSON).await?;
    let found: Option<Value> = serde_json::from_slice(&answer.body).ok();
    match (answer.status, found.as_ref().and_then(Value::as_array)) {
        (200, Some(found)) => {
            let is_own = |one: &Value| one[SOP_INSTANCE_UID]["Value"][0] == own;
            Ok(if found.iter().any(is_own) {
                Proven::Yes { how: "found by QIDO-RS" }
            } else {
                Proven::No { how }
            })
        }
        (204, _) => Ok(Proven::No { how }),
        // There is no such study, or no search: what is asked of all studies tells them apart.
        (404, _) => {
            let all = format!("/studies?StudyInstanceUID={study_uid}");
            let of_all = endpoint.get(&all, JSON).await?;
            match of_all.status {
                status if is_busy(status) => Err(of_all.refused("to QIDO-RS")),
                200 | 204 => Ok(Proven::No { how }),
                _ if config.proof == Proof::Find => Ok(Proven::No { how }),
                _ => Ok(Proven::NotOffered),
            }
        }
        (status, _) if is_busy(status) || status == 401 => Err(answer.refused("to QIDO-RS")),
        _ if config.proof != Proof::Find => Ok(Proven::NotOffered),
        (200, None) => Err(DeliverError::deferred("HTTP 200, but no list")),
        (status, _) => Err(DeliverError::Refused { answer: http::answer(status, "to QIDO-RS") }),
    }
}

/// Not 501: that one has no search.
fn is_busy(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502..=599)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::json;
    use tokio::io::AsyncReadExt as _;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::domain::sample;

    const OWN: &str = "1.2.3.4";

    #[test]
    fn the_archives_word_on_the_instance_counts_before_that_on_the_request() {
        let item = |uid: &str| json!({"00081155": {"vr": "UI", "Value": [uid]}});
        let stored = |uid: &str| json!({"00081199": {"vr": "SQ", "Value": [item(uid)]}});
        let failed = |uid: &str, reason: u16| {
            let mut item = item(uid);
            item["00081197"] = json!({"vr": "US", "Value": [reason]});
            json!({"00081198": {"vr": "SQ", "Value": [item]}})
        };
        let unsaid = json!({"00081198": {"vr": "SQ", "Value": [{}]}});
        let both = json!({"00081199": stored(OWN)["00081199"], "00081198": failed("9", 0xA700)["00081198"]});
        let xml = |tag: &str, uid: &str| {
            format!(
                "<NativeDicomModel><DicomAttribute tag=\"{tag}\" vr=\"SQ\"><Item number=\"1\"><Value>{uid}</Value>"
            )
        };
        let (done, again, never) = (None, Some(true), Some(false));
        for (status, answer, expected) in [
            (200, stored(OWN).to_string(), done),
            (200, String::new(), done),
            (202, stored(OWN).to_string(), done),
            (202, json!([stored(OWN)]).to_string(), done),
            (200, both.to_string(), done),
            (200, stored("9").to_string(), again),
            (200, json!({}).to_string(), again),
            (200, "<html>sign in</html>".into(), again),
            (202, String::new(), again),
            (204, String::new(), again),
            (202, failed(OWN, 0xA700).to_string(), again),
            (409, failed(OWN, 0xA700).to_string(), again),
            (409, failed(OWN, 0x0110).to_string(), again),
            (409, failed(OWN, 0x0111).to_string(), done),
            (409, failed(OWN, 0x0122).to_string(), never),
            (200, failed(OWN, 0xC000).to_string(), never),
            (409, unsaid.to_string(), never),
            (409, String::new(), never),
            (415, String::new(), never),
            (401, String::new(), never),
            (503, String::new(), again),
            (200, xml("00081199", OWN), done),
            (200, xml("00081199", "9"), again),
            (202, xml("00081198", OWN), never),
        ] {
            let word = Word::of(answer.as_bytes(), OWN);
            let with = Answer { status, body: Vec::new(), wait: None, may_be_renewed: false };
            let said = outcome(&with, &word).map_err(|error| error.is_transient()).err();
            assert_eq!(said, expected, "{status} {answer} {word:?}");
        }
    }

    /// An archive that answers its requests with these statuses and bodies, one connection each.
    async fn archive(answers: Vec<(u16, String)>) -> (String, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let task = TaskTracker::new().spawn(async move {
            let mut asked = String::new();
            for (status, body) in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                asked += String::from_utf8_lossy(&head).lines().next().unwrap_or_default();
                let length = body.len();
                let close = format!("Connection: close\r\nContent-Length: {length}\r\n\r\n{body}");
                stream
                    .write_all(format!("HTTP/1.1 {status} X\r\n{close}").as_bytes())
                    .await
                    .unwrap();
            }
            asked
        });
        (url, task)
    }

    /// The table of answers to the look: there, not there, nothing that would show it, later.
    #[tokio::test]
    async fn what_is_found_is_there_and_a_missing_study_is_no_missing_search() {
        let here = tempfile::tempdir().unwrap();
        let (file, own) = sample_object(here.path());
        let found = |uid: &str| json!([{"00080018": {"vr": "UI", "Value": [uid]}}]).to_string();
        let (yes, no) = (Ok("Yes"), Ok("No"));
        for (answers, auto, find) in [
            (vec![(200, found(&own))], yes, yes),
            (vec![(200, found("1.2.9"))], no, no),
            (vec![(200, "[]".to_owned())], no, no),
            (vec![(204, String::new())], no, no),
            (vec![(404, String::new()), (204, String::new())], no, no),
            (vec![(404, String::new()), (200, "[]".to_owned())], no, no),
            (vec![(404, String::new()), (404, String::new())], Ok("NotOffered"), no),
            (vec![(404, String::new()), (503, String::new())], Err(true), Err(true)),
            (vec![(501, String::new())], Ok("NotOffered"), Err(false)),
            (vec![(403, String::new())], Ok("NotOffered"), Err(false)),
            (vec![(200, "<html>".to_owned())], Ok("NotOffered"), Err(true)),
            (vec![(503, String::new())], Err(true), Err(true)),
        ] {
            for (proof, expected) in [(Proof::Auto, auto), (Proof::Find, find)] {
                let (url, task) = archive(answers.clone()).await;
                let config: Config = toml::from_str(&format!("url = \"{url}\"")).unwrap();
                let said = prove(&Config { proof, ..config }, &file).await;
                let shown = said.map(|proven| format!("{proven:?}"));
                let shown = shown.as_ref().map(|said| said.split(' ').next().unwrap());
                let shown = shown.map_err(|error| error.is_transient());
                assert_eq!(shown, expected, "{proof:?} {answers:?}");
                let asked = task.await.unwrap();
                assert!(asked.contains(&format!("SOPInstanceUID={own} ")), "{asked}");
            }
        }
    }

    fn sample_object(folder: &Path) -> (PathBuf, String) {
        use dicom_core::VR;
        use dicom_dictionary_std::tags;
        use dicom_dictionary_std::uids;
        let own = sample::positive_chest().artefact_uid("sr");
        let mut object = dicom_object::InMemDicomObject::new_empty();
        object.put_str(tags::SOP_CLASS_UID, VR::UI, uids::COMPREHENSIVE3_DSR_STORAGE);
        object.put_str(tags::SOP_INSTANCE_UID, VR::UI, own.as_str());
        object.put_str(tags::STUDY_INSTANCE_UID, VR::UI, "1.2.3");
        object.put_str(tags::SERIES_INSTANCE_UID, VR::UI, "1.2.3.4");
        let meta = dicom_object::FileMetaTableBuilder::new();
        let meta = meta.transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN);
        let file = folder.join("sr.dcm");
        object.with_meta(meta).unwrap().write_to_file(&file).unwrap();
        (file, own)
    }
}
