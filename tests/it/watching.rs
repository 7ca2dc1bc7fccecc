//! The dashboard and the alert rules ask for what the node tells.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::layers::sources;
use crate::node::root;

/// Names after `prelim_` in a text, with what a histogram is asked by.
fn metrics(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for part in text.split("prelim_").skip(1) {
        let name: String =
            part.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
        found.insert(format!("prelim_{}", name.trim_end_matches("_bucket")));
    }
    found
}

/// Labels between braces and in `by (…)` that a text uses, but those of Prometheus itself.
fn labels(text: &str) -> BTreeSet<String> {
    let words = |part: &str| -> Vec<String> {
        part.split(',').map(|word| word.trim().to_owned()).collect()
    };
    let grouped = text.split("by (").skip(1).filter_map(|part| part.split(')').next());
    let told = text.split("{{").skip(1).filter_map(|part| part.split("}}").next());
    let told = told.filter_map(|part| part.trim().strip_prefix("$labels.").or(Some(part.trim())));
    let all = grouped.flat_map(words).chain(told.map(str::to_owned));
    let known = ["le", "instance", ""];
    all.filter(|word| !word.starts_with('$') && !known.contains(&word.as_str())).collect()
}

const COOKIES: [&str; 4] = ["prelim_language", "prelim_left", "prelim_login", "prelim_session"];

/// Names that begin with `prelim_` and stand between quotes by themselves.
fn quoted(text: &str) -> BTreeSet<String> {
    let is_name = |word: &&str| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let words = text.split("\"prelim_").skip(1).filter_map(|rest| rest.split('"').next());
    words
        .filter(is_name)
        .filter(|word| !word.is_empty())
        .map(|word| format!("prelim_{word}"))
        .collect()
}

#[test]
fn dashboard_and_rules_ask_for_metrics_and_labels_that_there_are() {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    let (meanings, code): (Vec<_>, Vec<_>) =
        files.iter().partition(|file| file.ends_with("telemetry/meanings.rs"));
    let text = |files: Vec<&PathBuf>| -> String {
        files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect()
    };
    let (meanings, code) = (quoted(&text(meanings)), text(code));
    let set = &quoted(&code) - &COOKIES.map(str::to_owned).into();
    assert_eq!(meanings, set, "each metric has its meaning");
    let read =
        |name: &str| std::fs::read_to_string(root().join("config/watching").join(name)).unwrap();
    let mut asked: BTreeMap<&str, String> = BTreeMap::new();
    for name in ["grafana-dashboard.json", "prometheus-rules.yml"] {
        asked.insert(name, read(name));
    }
    let dashboard: serde_json::Value =
        serde_json::from_str(&asked["grafana-dashboard.json"]).unwrap();
    assert!(dashboard["panels"].as_array().unwrap().len() > 15);
    for (name, text) in &asked {
        let names = metrics(text);
        assert!(names.len() > 12, "{name} was not read: {names:?}");
        for metric in names {
            assert!(code.contains(&format!("\"{metric}\"")), "{name}: nobody sets {metric}");
        }
        for label in labels(text) {
            let is_set = code.contains(&format!("\"{label}\" =>"))
                || code.contains(&format!("(\"{label}\", "));
            assert!(is_set, "{name}: no metric has the label {label}");
        }
    }
}
