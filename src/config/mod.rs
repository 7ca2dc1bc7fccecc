//! The settings of all rooms in one place: defaults, then the file, then `PRELIM_SECTION__KEY`
//! in the environment, then `--set section.key=value`. A later one wins.
//!
//! Every room owns its section (its `Config`: serde, `Default`, `check`); a new room is one line
//! in [`Settings`]. Secrets do not stand in the file: keys that end in `_file` name the file that
//! holds one.

mod check;
mod effective;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use figment::Figment;
use figment::Profile;
use figment::Provider as _;
use figment::providers::Format as _;
use figment::providers::Serialized;
use figment::providers::Toml;
use figment::value::Dict;
use figment::value::Value;
use serde::Deserialize;
use serde::Serialize;

use crate::config::check::Layer;

macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident: $config:ty,)*) => {
        /// Every section of the settings file.
        #[derive(Debug, Clone, Default, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Settings {
            $($(#[$doc])* pub $name: $config,)*
            /// Where what is set comes from, by `section.key`.
            #[serde(skip)]
            pub origins: BTreeMap<String, String>,
        }

        impl Settings {
            /// One line for each value that cannot work.
            fn check(&self) -> Vec<String> {
                let mut problems = Vec::new();
                $(self.$name.check(stringify!($name), &mut problems);)*
                self.check_ways_of_alerts(&mut problems);
                problems
            }
        }
    };
}

settings! {
    /// Who may send, and how much at once.
    dicom: crate::dicom::config::Config,
    /// The web page, the API and who may see them.
    http: crate::web::Config,
    /// The data folder.
    store: crate::store::Config,
    /// When a study is complete.
    assemble: crate::assemble::Config,
    /// Where requesters of storage commitments are told.
    commitment: crate::dicom::storage_commitment::Config,
    /// Who may send HL7 messages.
    hl7: crate::pipeline::hearing::Config,
    /// Where the order of a study is.
    orders: crate::orders::Config,
    /// The processes in which bytes from outside are parsed.
    worker: crate::worker::Config,
    /// How many steps at once, how often again.
    pipeline: crate::pipeline::Config,
    /// Who reads.
    analysis: crate::analysis::Config,
    /// What may leave the building.
    deid: crate::deid::Config,
    /// What reports look like.
    report: crate::report::Config,
    /// Where results go.
    deliver: crate::deliver::Config,
    /// Who is told.
    alert: crate::alert::Config,
    /// Who is told of what was done.
    audit: crate::pipeline::audit::Config,
    /// One trace for each study, to a collector.
    traces: crate::pipeline::traces::Config,
    /// Log lines.
    telemetry: crate::telemetry::Config,
}

impl Settings {
    /// What `alert` names, `deliver` has to have.
    fn check_ways_of_alerts(&self, problems: &mut Vec<String>) {
        for (list, hook) in self.alert.webhooks() {
            if !self.deliver.webhook.contains_key(hook) {
                problems.push(format!(
                    "alert.recipients.{list}.webhooks: {hook:?} is none of [deliver.webhook]; nobody hears"
                ));
            }
        }
        let by_mail = self.alert.recipients.iter().find(|(_, list)| !list.emails.is_empty());
        if let Some((list, _)) = by_mail.filter(|_| !self.deliver.email.is_set()) {
            problems.push(format!(
                "alert.recipients.{list}.emails: [deliver.email] names no mail server; nobody hears"
            ));
        }
    }
}

/// Where settings come from, the weakest first.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sources<'a> {
    pub file: Option<&'a Path>,
    /// Whether `PRELIM_SECTION__KEY` variables count.
    pub environment: bool,
    /// `section.key=value` each.
    pub set: &'a [String],
}

/// One thing that is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file, the environment variable or the option it came from; empty for a default.
    pub source: String,
    /// `section.key`, or empty when the whole source is meant.
    pub key: String,
    /// What was found, what is allowed, what would go wrong.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source.is_empty() {
            true => f.write_str(&self.message),
            false => write!(f, "{}: {}", self.source, self.message),
        }
    }
}

/// Everything that is wrong with the settings, at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the settings cannot be used:{}", list(.problems))]
pub struct ConfigError {
    pub problems: Vec<Problem>,
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("\n  - {problem}")).collect()
}

/// Size from which on a settings file is not read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Gathers the settings.
///
/// # Errors
/// [`ConfigError`] with every problem found: unknown keys, values of the wrong kind, values that
/// the rooms refuse.
pub fn load(sources: &Sources<'_>) -> Result<Settings, ConfigError> {
    let mut problems = Vec::new();
    let mut layers = Vec::new();
    if let Some(file) = sources.file {
        layers.extend(read_file(file, &mut problems));
    }
    if sources.environment {
        for (name, value) in std::env::vars_os() {
            let (Some(name), Some(value)) = (name.to_str(), value.to_str()) else { continue };
            let Some(key) = name.strip_prefix(PREFIX) else { continue };
            let key = key.to_ascii_lowercase().replace("__", ".");
            layers.extend(assignment(name.to_owned(), &key, value, &mut problems));
        }
    }
    for set in sources.set {
        match set.split_once('=') {
            Some((key, value)) => {
                let name = format!("--set {}", key.trim());
                layers.extend(assignment(name, key.trim(), value.trim(), &mut problems));
            }
            None => problems.push(Problem {
                source: format!("--set {set}"),
                key: String::new(),
                message: "is not section.key=value, e.g. --set http.requests_max=32".into(),
            }),
        }
    }
    let mut settings = check::unite(&mut layers, &mut problems);
    settings.origins = effective::origins(&layers);
    match problems.is_empty() {
        true => Ok(settings),
        false => Err(ConfigError { problems }),
    }
}

const PREFIX: &str = "PRELIM_";

fn read_file(file: &Path, problems: &mut Vec<Problem>) -> Option<Layer> {
    let source = file.display().to_string();
    let mut fail = |message: String| {
        problems.push(Problem { source: source.clone(), key: String::new(), message });
        None
    };
    match std::fs::metadata(file) {
        Ok(meta) if meta.len() > FILE_BYTES_MAX => {
            return fail(format!("has {} bytes, which is no settings file", meta.len()));
        }
        Ok(_) => {}
        Err(error) => return fail(format!("cannot be read: {error}")),
    }
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => return fail(format!("cannot be read: {error}")),
    };
    match parse_toml(&text) {
        Ok(dict) => Some(Layer { source, dict, text: None }),
        Err(message) => fail(message),
    }
}

fn parse_toml(text: &str) -> Result<Dict, String> {
    let data = Toml::string(text).data().map_err(|error| error.to_string())?;
    Ok(data
        .into_iter()
        .find(|(name, _)| *name == Profile::Default)
        .map(|(_, dict)| dict)
        .unwrap_or_default())
}

/// `value` as TOML when it is one value of it, else as text.
fn assignment(
    source: String,
    key: &str,
    value: &str,
    problems: &mut Vec<Problem>,
) -> Option<Layer> {
    let parts: Vec<&str> = key.split('.').collect();
    let (last, above) = parts.split_last()?;
    if above.is_empty() || parts.iter().any(|part| part.is_empty()) {
        // A variable of the shell that only looks like ours is not ours: a key has a section.
        if source.starts_with("--set") {
            let message = "a key stands in a section: section.key=value".into();
            problems.push(Problem { source, key: key.into(), message });
        }
        return None;
    }
    let parsed = match parse_toml(&format!("value = {value}")) {
        Ok(mut dict) if dict.len() == 1 => dict.remove("value"),
        Ok(_) | Err(_) => None,
    };
    let mut dict = Dict::new();
    dict.insert((*last).to_owned(), parsed.unwrap_or_else(|| Value::from(value)));
    for part in above.iter().rev() {
        dict = Dict::from([((*part).to_owned(), Value::from(dict))]);
    }
    Some(Layer { source, dict, text: Some(value.to_owned()) })
}

fn figment(layers: &[Layer]) -> Figment {
    let start = Figment::from(Serialized::defaults(Settings::default()));
    layers.iter().fold(start, |all, layer| all.merge(layer.clone()))
}

#[cfg(test)]
mod tests {
    use serde_json::Value as Json;

    use super::*;

    fn problems(file: &str, set: &[&str]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("prelim.toml");
        std::fs::write(&path, file).unwrap();
        let set: Vec<String> = set.iter().map(|set| (*set).to_owned()).collect();
        match load(&Sources { file: Some(&path), environment: false, set: &set }) {
            Ok(_) => Vec::new(),
            Err(error) => {
                let short = |problem: &Problem| {
                    problem.to_string().replace(&format!("{}", path.display()), "FILE")
                };
                error.problems.iter().map(short).collect()
            }
        }
    }

    #[test]
    fn every_problem_is_named_at_once_with_its_source() {
        let found = problems(
            "[http]\nrequests_max = 'many'\nupload_bytes_maxx = 5\nconnections_max = 0\n\
             [htpp]\nlisten = '127.0.0.1:1'\n[telemetry]\nfilter = 'prelim=loud'\n",
            &["http.uploads_max=0", "nonsense", "http.session_hours=[1]"],
        );
        let all = found.join("\n");
        for expected in [
            "--set nonsense: is not section.key=value",
            "FILE: unknown key http.upload_bytes_maxx; did you mean upload_bytes_max?",
            "FILE: unknown section [htpp]; did you mean [http]?",
            "FILE: http.requests_max: invalid type: found string \"many\"",
            "--set http.session_hours: http.session_hours: invalid type",
            "FILE: http.connections_max = 0: use ",
            "--set http.uploads_max: http.uploads_max = 0: use ",
            "FILE: telemetry.filter = \"prelim=loud\"",
        ] {
            assert!(all.contains(expected), "no '{expected}' in\n{all}");
        }
        assert_eq!(found.len(), 8, "{all}");
    }

    #[test]
    fn a_file_that_is_no_toml_names_the_line() {
        let found = problems("[http]\nlisten = \n", &[]);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("FILE: ") && found[0].contains("line 2"), "{found:?}");
        let missing =
            Sources { file: Some(Path::new("/nowhere/prelim.toml")), ..Default::default() };
        let error = load(&missing).unwrap_err();
        assert!(error.to_string().contains("/nowhere/prelim.toml: cannot be read"), "{error}");
    }

    #[test]
    fn a_later_source_wins() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("prelim.toml");
        std::fs::write(&path, "[http]\nrequests_max = 7\nuploads_max = 3\n").unwrap();
        let set = ["http.requests_max=8".to_owned(), "http.listen=127.0.0.1:81".to_owned()];
        let settings = load(&Sources { file: Some(&path), environment: false, set: &set }).unwrap();
        assert_eq!(settings.http.requests_max, 8);
        assert_eq!(settings.http.uploads_max, 3);
        assert_eq!(settings.http.listen.port(), 81);
    }

    #[test]
    fn a_number_is_text_where_text_is_wanted() {
        let set = ["telemetry.filter=0".to_owned()];
        let settings = load(&Sources { file: None, environment: false, set: &set }).unwrap();
        assert_eq!(settings.telemetry.filter, "0");
    }

    /// `config/example.toml` says every key at its default; one that has none stands as a comment.
    #[test]
    fn the_example_holds_every_key_at_its_default() {
        let text = include_str!("../../config/example.toml");
        let given = serde_json::to_value(parse_toml(text).unwrap()).unwrap();
        let defaults = serde_json::to_value(Settings::default()).unwrap();
        let mut wrong = Vec::new();
        compare("", &defaults, &given, text, &mut wrong);
        assert!(wrong.is_empty(), "config/example.toml:\n{}", wrong.join("\n"));
        assert_eq!(problems(text, &[]), Vec::<String>::new());
    }

    fn compare(at: &str, default: &Json, given: &Json, text: &str, wrong: &mut Vec<String>) {
        match (default, given) {
            (Json::Object(fields), Json::Object(found)) => {
                for (name, default) in fields {
                    let key = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                    let bare =
                        default.is_null() || default.as_object().is_some_and(|o| o.is_empty());
                    match found.get(name) {
                        Some(given) => compare(&key, default, given, text, wrong),
                        None if bare && text.contains(&format!("\n# {name} =")) => {}
                        None if bare && text.contains(&format!("\n# [{key}.")) => {}
                        None if bare => {
                            wrong.push(format!("{key} is missing; write '# {name} = …'"))
                        }
                        None => wrong.push(format!("{key} is missing; its default is {default}")),
                    }
                }
            }
            (Json::Number(a), Json::Number(b)) if a.as_f64() == b.as_f64() => {}
            (default, given) if default == given => {}
            (default, given) => wrong.push(format!("{at} = {given}, but the default is {default}")),
        }
    }
}
