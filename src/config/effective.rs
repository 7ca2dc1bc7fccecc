//! What is in force, value by value, and where it comes from.

use std::collections::BTreeMap;

use figment::value::Dict;
use figment::value::Value;
use serde_json::Value as Json;

use crate::config::Settings;
use crate::config::check::Layer;
use crate::web::Setting;

/// Names under which a secret could stand although it belongs in a file.
const SECRET: [&str; 5] = ["key", "token", "password", "secret", "passphrase"];

/// By `section.key`; of two that set a value, the later one.
pub fn origins(layers: &[Layer]) -> BTreeMap<String, String> {
    let mut origins = BTreeMap::new();
    for layer in layers {
        note(&layer.dict, "", &layer.source, &mut origins);
    }
    origins
}

fn note(dict: &Dict, at: &str, source: &str, origins: &mut BTreeMap<String, String>) {
    for (name, value) in dict {
        let key = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
        match value {
            Value::Dict(_, below) => note(below, &key, source, origins),
            _ => {
                origins.insert(key, source.to_owned());
            }
        }
    }
}

impl Settings {
    /// Every value, in the order of the sections' names; secrets masked.
    pub fn effective(&self) -> Vec<Setting> {
        let mut settings = Vec::new();
        let all = serde_json::to_value(self).unwrap_or_default();
        self.list(&all, "", false, &mut settings);
        settings
    }

    fn list(&self, value: &Json, key: &str, secret: bool, settings: &mut Vec<Setting>) {
        if let Json::Object(fields) = value
            && !fields.is_empty()
        {
            for (name, below) in fields {
                let at = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                let last = name.split('_').next_back().unwrap_or_default();
                // Header values of webhooks carry tokens.
                let secret = secret || SECRET.contains(&last) || last == "headers";
                self.list(below, &at, secret, settings);
            }
            return;
        }
        let is_set = !matches!(value, Json::Null) && *value != Json::String(String::new());
        settings.push(Setting {
            value: if secret && is_set { "***".to_owned() } else { value.to_string() },
            source: self.origins.get(key).cloned().unwrap_or_default(),
            key: key.to_owned(),
        });
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Sources;

    #[test]
    fn each_value_names_its_source_and_no_secret_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("prelim.toml");
        std::fs::write(&file, "[http]\nrequests_max = 5\nuploads_max = 2\n").unwrap();
        let set = ["http.uploads_max=3".to_owned()];
        let sources = Sources { file: Some(&file), environment: false, set: &set };
        let settings = crate::config::load(&sources).unwrap();
        let all = settings.effective();
        let find = |key: &str| all.iter().find(|setting| setting.key == key).unwrap();
        assert_eq!(find("http.requests_max").source, file.display().to_string());
        let uploads = find("http.uploads_max");
        assert_eq!(
            (uploads.value.as_str(), uploads.source.as_str()),
            ("3", "--set http.uploads_max")
        );
        assert_eq!(find("http.session_hours").source, "");
        let mut shown = Vec::new();
        let secret = serde_json::json!({ "a": { "api_key": "sk-1", "headers": { "X": "y" }, "key_file": "f" } });
        settings.list(&secret, "", false, &mut shown);
        let shown: Vec<&str> = shown.iter().map(|setting| setting.value.as_str()).collect();
        assert_eq!(shown, ["***", "***", "\"f\""]);
    }
}
