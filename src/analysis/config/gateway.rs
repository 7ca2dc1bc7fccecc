//! `[analysis.gateways.NAME]`: who reads.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use crate::analysis::calibration;
use crate::analysis::calibration::Calibration;
use crate::analysis::config::Leaves;
use crate::analysis::provider::command;
use crate::analysis::provider::keys::Key;
use crate::analysis::provider::keys::Rotation;
use crate::analysis::provider::onnx::manifest::Manifest;
use crate::analysis::provider::shape::Preset;
use crate::domain::secret::Secret;
use crate::outgoing::route::Route;
use crate::outgoing::server::Server;
use crate::outgoing::server::Who;

/// Who reads: an OpenAI-compatible endpoint, or a model or program of the site on this machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gateway {
    pub kind: Kind,
    /// Of an ONNX model: graph and `manifest.json`.
    pub folder: PathBuf,
    /// Whole path of a program that reads.
    pub program: PathBuf,
    pub arguments: Vec<String>,
    /// Address space of the program, and each file that it writes.
    pub memory_mb_max: u64,
    /// Its answer.
    pub output_bytes_max: u64,
    /// Base URL, e.g. `https://gateway.example/v1`; `/chat/completions` is added.
    pub url: String,
    pub model: String,
    /// Who made the model, for report and SR.
    pub manufacturer: String,
    /// File that holds the bearer key and nothing else. Empty: `api_key`, or no key.
    pub api_key_file: PathBuf,
    /// The key itself, from the environment.
    pub api_key: Secret,
    /// Several keys in turn, in place of these two.
    pub keys: Vec<Key>,
    pub rotation: Rotation,
    pub response_format: ResponseFormat,
    pub max_tokens: u32,
    /// Habits of the server that it is.
    pub preset: Preset,
    /// Header that holds the key as it is. Empty: as the preset has it, else `Authorization: Bearer`.
    pub key_header: String,
    /// Added to the body of each request, over what stands there.
    pub body: serde_json::Map<String, serde_json::Value>,
    /// Left out of it.
    pub body_without: Vec<String>,
    /// Given another name in it.
    pub body_rename: BTreeMap<String, String>,
    /// Seconds for one call; 0: as the profile says.
    pub timeout_s: u64,
    pub connect_timeout_s: u64,
    /// True when the pictures stay inside: burned-in text is then not masked.
    pub inside_the_building: bool,
    /// Where it is, for `regions_allowed` and for the record of what left.
    pub region: String,
    /// Modalities that this model may be asked about, e.g. `["CR", "DX"]`. Empty: all.
    pub modalities_allowed: Vec<String>,
    #[serde(flatten)]
    pub route: Route,
    #[serde(flatten)]
    pub who: Who,
    /// Pictures in one request; more are put together on sheets. 0: no limit.
    pub pictures_max: u32,
    /// Whole request; more is not sent.
    pub request_bytes_max: usize,
    pub limits: Limits,
    /// What its probabilities mean, by key of the finding.
    pub calibration: Calibration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    #[default]
    Openai,
    Onnx,
    Command,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Kind::Openai => "openai",
            Kind::Onnx => "onnx",
            Kind::Command => "command",
        }
    }

    /// Whether a reader of this kind has such a key.
    fn has(self, key: &str) -> bool {
        /// Of readers on this machine; a gateway has all the others.
        const HERE: [&str; 5] =
            ["folder", "program", "arguments", "memory_mb_max", "output_bytes_max"];
        const ALL: [&str; 5] = ["kind", "timeout_s", "modalities_allowed", "limits", "calibration"];
        match self {
            Kind::Openai => !HERE.contains(&key),
            Kind::Onnx => ALL.contains(&key) || key == "folder",
            Kind::Command => {
                ALL.contains(&key)
                    || ["model", "manufacturer", "pictures_max"].contains(&key)
                    || (HERE.contains(&key) && key != "folder")
            }
        }
    }
}

/// How much one gateway is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Calls on their way at the same time; more wait.
    pub calls_at_once: usize,
    /// 0: no limit.
    pub calls_per_minute: u32,
    /// Failed calls in a row after which it rests.
    pub failures_max: u32,
    /// Seconds of the first rest; each failed trial after it doubles the next, up to 10 minutes.
    pub rest_s: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { calls_at_once: 4, calls_per_minute: 0, failures_max: 5, rest_s: 30 }
    }
}

/// How the schema is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResponseFormat {
    /// `response_format` with the schema, strict.
    #[default]
    JsonSchema,
    /// `response_format` JSON; the schema stands in the prompt.
    JsonObject,
    /// No `response_format`; the schema stands in the prompt.
    None,
}

impl Default for Gateway {
    fn default() -> Gateway {
        Gateway {
            kind: Kind::default(),
            folder: PathBuf::new(),
            program: PathBuf::new(),
            arguments: Vec::new(),
            memory_mb_max: 4096,
            output_bytes_max: 1_000_000,
            url: String::new(),
            model: String::new(),
            manufacturer: String::new(),
            api_key_file: PathBuf::new(),
            api_key: Secret::default(),
            keys: Vec::new(),
            rotation: Rotation::default(),
            response_format: ResponseFormat::default(),
            max_tokens: 8000,
            preset: Preset::default(),
            key_header: String::new(),
            body: serde_json::Map::new(),
            body_without: Vec::new(),
            body_rename: BTreeMap::new(),
            timeout_s: 0,
            connect_timeout_s: 10,
            inside_the_building: false,
            region: String::new(),
            modalities_allowed: Vec::new(),
            route: Route::default(),
            who: Who::default(),
            pictures_max: 0,
            request_bytes_max: 40_000_000,
            limits: Limits::default(),
            calibration: Calibration::new(),
        }
    }
}

impl Gateway {
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        self.check_kind(at, problems);
        match self.kind {
            Kind::Openai => self.check_endpoint(at, problems),
            Kind::Onnx => {
                if let Err(lines) = Manifest::open(&self.folder) {
                    problems.extend(lines.iter().map(|line| format!("{at}.folder: {line}")));
                }
            }
            Kind::Command => self.check_program(at, problems),
        }
        if self.timeout_s > 3600 {
            problems.push(format!(
                "{at}.timeout_s = {}: use 0 (as the profile says) to 3600",
                self.timeout_s
            ));
        }
        let Limits { calls_at_once, calls_per_minute, failures_max, rest_s } = self.limits;
        for (key, found, (from, to), usual) in [
            ("calls_at_once", calls_at_once as u64, (1, 1000), 4),
            ("calls_per_minute", u64::from(calls_per_minute), (0, 60_000), 0),
            ("failures_max", u64::from(failures_max), (1, 1000), 5),
            ("rest_s", rest_s, (1, 600), 30),
        ] {
            if !(from..=to).contains(&found) {
                problems.push(format!(
                    "{at}.limits.{key} = {found}: use {from} to {to} (default {usual})"
                ));
            }
        }
        calibration::check(&self.calibration, &format!("{at}.calibration"), problems);
    }

    pub fn server(&self) -> Server<'_> {
        Server { route: &self.route, who: &self.who }
    }

    /// Keys that say something to another kind of reader only.
    fn check_kind(&self, at: &str, problems: &mut Vec<String>) {
        let fields = |gateway: &Gateway| match serde_json::to_value(gateway) {
            Ok(serde_json::Value::Object(fields)) => fields,
            Ok(_) | Err(_) => serde_json::Map::new(),
        };
        let (found, usual) = (fields(self), fields(&Gateway::default()));
        let kind = self.kind;
        let known = || usual.keys().map(String::as_str).filter(|key| kind.has(key));
        for (key, value) in &found {
            if usual.get(key) != Some(value) && !kind.has(key) {
                let why = match key.as_str() {
                    "inside_the_building" => "it is always inside the building",
                    "model" | "manufacturer" => "the manifest names it",
                    _ => "it means nothing here",
                };
                problems.push(format!(
                    "{at}.{key}: leave it out for kind = \"{}\", {why}; its keys are {}",
                    kind.as_str(),
                    known().collect::<Vec<_>>().join(", ")
                ));
            }
        }
    }

    fn check_program(&self, at: &str, problems: &mut Vec<String>) {
        if let Err(why) = command::can_be_run(&self.program) {
            problems.push(format!("{at}.program: {why}"));
        }
        if self.model.trim().is_empty() {
            problems.push(format!(
                "{at}.model is empty: name the program's model as reports are to name it"
            ));
        }
        for (key, found, (from, to), usual) in [
            ("memory_mb_max", self.memory_mb_max, (256, 1_000_000), 4096),
            ("output_bytes_max", self.output_bytes_max, (1000, 1 << 24), 1_000_000),
        ] {
            if !(from..=to).contains(&found) {
                problems
                    .push(format!("{at}.{key} = {found}: use {from} to {to} (default {usual})"));
            }
        }
    }

    fn check_endpoint(&self, at: &str, problems: &mut Vec<String>) {
        if let Err(why) = self.endpoint() {
            problems.push(format!("{at}.url: {why}"));
        }
        if self.model.trim().is_empty() {
            problems.push(format!("{at}.model is empty: name the model as the gateway knows it"));
        }
        if !self.api_key_file.as_os_str().is_empty() {
            match std::fs::metadata(&self.api_key_file) {
                Ok(_) if !self.api_key.is_empty() => {
                    problems.push(format!("{at}: give api_key_file or api_key, not both"));
                }
                Ok(_) => {}
                Err(error) => {
                    let file = self.api_key_file.display();
                    problems.push(format!(
                        "{at}.api_key_file = {file}: {error}; every call would be refused"
                    ));
                }
            }
        }
        self.check_keys(at, problems);
        if !(256..=200_000).contains(&self.max_tokens) {
            problems.push(format!(
                "{at}.max_tokens = {}: use 256 to 200000 (default 8000); a shorter answer is cut and unreadable",
                self.max_tokens
            ));
        }
        if !(1..=120).contains(&self.connect_timeout_s) {
            problems.push(format!(
                "{at}.connect_timeout_s = {}: use 1 to 120 (default 10)",
                self.connect_timeout_s
            ));
        }
        if self.request_bytes_max < 100_000 {
            problems.push(format!(
                "{at}.request_bytes_max = {}: use at least 100000",
                self.request_bytes_max
            ));
        }
        self.server().check(at, problems);
        self.server().check_token_url(at, problems);
        if !self.key_header.is_empty()
            && reqwest::header::HeaderName::from_bytes(self.key_header.as_bytes()).is_err()
        {
            problems.push(format!("{at}.key_header = {:?}: no name of a header", self.key_header));
        }
        let whole = ["messages", "stream"];
        let changed = self.body.keys().chain(&self.body_without).chain(self.body_rename.keys());
        for key in changed.filter(|key| whole.contains(&key.as_str())) {
            problems
                .push(format!("{at}: {key} of the body is the request itself; leave it as it is"));
        }
    }

    fn check_keys(&self, at: &str, problems: &mut Vec<String>) {
        let has_one = !self.api_key_file.as_os_str().is_empty() || !self.api_key.is_empty();
        if has_one && !self.keys.is_empty() {
            problems.push(format!("{at}: give keys, or api_key_file, or api_key, not several"));
        }
        for (nth, key) in self.keys.iter().enumerate() {
            key.check(&format!("{at}.keys[{nth}]"), problems);
            if self.keys[..nth].iter().any(|other| other.name == key.name) {
                problems.push(format!("{at}.keys[{nth}].name = {:?} stands twice", key.name));
            }
        }
        let Rotation { hours, calls } = self.rotation;
        if !(1..=8760).contains(&hours) {
            problems.push(format!("{at}.rotation.hours = {hours}: use 1 to 8760 (default 12)"));
        }
        if calls == 0 {
            problems.push(format!("{at}.rotation.calls = 0: use at least 1 (default 5000)"));
        }
    }

    /// Whether what it is shown stays inside the building.
    pub fn is_inside(&self) -> bool {
        self.inside_the_building || self.kind != Kind::Openai
    }

    /// Where it is asked.
    ///
    /// # Errors
    /// As [`Self::endpoint`].
    pub fn host(&self) -> Result<String, String> {
        match self.kind {
            Kind::Openai => Ok(self.endpoint()?.host_str().unwrap_or_default().to_owned()),
            Kind::Onnx | Kind::Command => Ok("this machine".to_owned()),
        }
    }

    /// Where it says which models it has.
    ///
    /// # Errors
    /// As [`Self::endpoint`].
    pub fn models(&self) -> Result<reqwest::Url, String> {
        let mut url = self.endpoint()?;
        let path = url.path().trim_end_matches("chat/completions").to_owned() + "models";
        url.set_path(&path);
        Ok(url)
    }

    /// Whether it may be asked about pictures of this modality.
    pub fn may_see(&self, modality: &str) -> bool {
        let allowed = &self.modalities_allowed;
        allowed.is_empty() || allowed.iter().any(|one| one.eq_ignore_ascii_case(modality))
    }

    /// Whether it may be told what others wrote freely.
    pub fn may_be_told(&self, free_text: Leaves) -> bool {
        match free_text {
            Leaves::Never => false,
            Leaves::Inside => self.is_inside(),
            Leaves::Always => true,
        }
    }

    /// What goes to `other` stays inside, what goes here leaves.
    pub fn is_further_out_than(&self, other: &Gateway) -> bool {
        other.is_inside() && !self.is_inside()
    }

    /// The URL that is called.
    ///
    /// # Errors
    /// In words, without user or key: not http(s), credentials in it, plain to a public address,
    /// a link-local address.
    pub fn endpoint(&self) -> Result<reqwest::Url, String> {
        const PATH: &str = "/chat/completions";
        let whole = self.server().url(&self.url, "")?;
        match whole.path().trim_end_matches('/').ends_with(PATH) {
            true => Ok(whole),
            false => self.server().url(&self.url, PATH),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway(url: &str) -> Gateway {
        Gateway { url: url.into(), model: "m".into(), ..Gateway::default() }
    }

    #[test]
    fn an_endpoint_is_https_or_inside() {
        for good in [
            "https://api.example/v1",
            "http://127.0.0.1:8000/v1/",
            "http://10.1.2.3",
            "http://[::1]:1",
            "http://gateway:8000/v1",
            "http://192.168.0.9/v1",
            "http://[fd00::1]/v1",
        ] {
            let url = gateway(good).endpoint().unwrap_or_else(|why| panic!("{good}: {why}"));
            assert!(
                url.path().ends_with("/chat/completions") && !url.path().contains("//"),
                "{url}"
            );
        }
        for bad in [
            "",
            "ftp://x",
            "http://8.8.8.8/v1",
            "https://key@api.example",
            "http://169.254.169.254/v1",
            "https://169.254.1.1",
            "file:///etc/passwd",
            "https://0.0.0.0/",
            "http://[fe80::1]/",
            "http://[::ffff:8.8.8.8]/",
        ] {
            assert!(gateway(bad).endpoint().is_err(), "{bad}");
        }
        let plain = Gateway {
            route: Route { allow_plain: true, ..Route::default() },
            ..gateway("http://8.8.8.8/v1")
        };
        assert!(plain.endpoint().is_ok());
    }
}
