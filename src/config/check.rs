//! Finds everything that is wrong with the settings, not only the first.

use figment::Metadata;
use figment::Profile;
use figment::Provider;
use figment::error::Kind;
use figment::value::Dict;
use figment::value::Map;
use figment::value::Value;
use serde_json::Value as Json;

use crate::config::Problem;
use crate::config::Settings;

/// Problems after which no more are looked for.
const PROBLEMS_MAX: usize = 100;

/// One source of settings.
#[derive(Debug, Clone)]
pub struct Layer {
    pub source: String,
    pub dict: Dict,
    /// The value as it was written, for sources with one value and no types.
    pub text: Option<String>,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.source.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.dict.clone())]))
    }
}

/// Lays the sources over the defaults. What cannot be used is taken out and named in `problems`,
/// so that the rest is looked at too.
pub fn unite(layers: &mut [Layer], problems: &mut Vec<Problem>) -> Settings {
    let known = serde_json::to_value(Settings::default()).unwrap_or_default();
    for layer in layers.iter_mut() {
        let source = layer.source.clone();
        drop_unknown(&source, "", &known, &mut layer.dict, problems);
    }
    let original = layers.to_vec();
    let mut taken_out: Vec<(Vec<String>, String)> = Vec::new();
    while problems.len() < PROBLEMS_MAX {
        let error = match crate::config::figment(layers).extract::<Settings>() {
            Ok(settings) => {
                problems.extend(settings.check().into_iter().map(|line| refused(&original, line)));
                return settings;
            }
            Err(error) => error,
        };
        let mut path = error.path.clone();
        let mut report = true;
        match &error.kind {
            Kind::UnknownField(name, _) if path.last() != Some(name) => path.push(name.clone()),
            // What we took out of a list's entry ourselves is not missing.
            Kind::MissingField(name) => {
                report = !taken_out.iter().any(|(at, key)| *at == path && key == name);
            }
            Kind::InvalidType(_, expected)
                if expected.contains("string") && as_text(layers, &path) =>
            {
                continue;
            }
            _ => {}
        }
        let source = take_out(layers, &path);
        if report {
            let key = path.join(".");
            let message = format!("{key}: {}", describe(&error.kind, &path));
            problems.push(Problem { source: source.clone().unwrap_or_default(), key, message });
        }
        if source.is_none() {
            break;
        }
        if let Some((last, above)) = path.split_last() {
            taken_out.push((above.to_vec(), last.clone()));
        }
    }
    Settings::default()
}

/// Does not repeat what stands under a key that might hold a secret.
fn describe(kind: &Kind, path: &[String]) -> String {
    let name = path.last().map(String::as_str).unwrap_or_default();
    let words = ["key", "token", "password", "secret"];
    let secret = words.iter().any(|word| name.split('_').next_back() == Some(word));
    match kind {
        Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) if secret => {
            format!("not what is expected here: {expected}")
        }
        Kind::UnknownField(name, expected) => match nearest(name, expected.iter().copied()) {
            Some(near) => format!("unknown key; did you mean {near}?"),
            None => format!("unknown key; known here: {}", expected.join(", ")),
        },
        Kind::UnknownVariant(found, expected) => {
            format!("'{found}' is not known; use one of {}", expected.join(", "))
        }
        other => other.to_string(),
    }
}

/// A room's own word on a value: `section.key = value: …` or `section.key: …`.
fn refused(layers: &[Layer], line: String) -> Problem {
    let end = line.find([' ', ':']).unwrap_or(line.len());
    let key = line[..end].to_owned();
    let path: Vec<String> = key.split(['.', '[']).map(|part| part.replace(']', "")).collect();
    let source = layers.iter().rev().find(|layer| has(&layer.dict, &path));
    Problem {
        source: source.map(|layer| layer.source.clone()).unwrap_or_default(),
        key,
        message: line,
    }
}

fn has(dict: &Dict, path: &[String]) -> bool {
    match path.split_first() {
        None => true,
        Some((first, rest)) => match dict.get(first) {
            Some(Value::Dict(_, below)) => has(below, rest),
            Some(Value::Array(..)) => true,
            Some(_) => rest.is_empty(),
            None => false,
        },
    }
}

/// Removes keys that no room knows. An empty object in the defaults is a map whose keys the user
/// chooses, a null is a value that has no default: neither says what may stand inside.
fn drop_unknown(
    source: &str,
    at: &str,
    known: &Json,
    dict: &mut Dict,
    problems: &mut Vec<Problem>,
) {
    let Json::Object(fields) = known else { return };
    if fields.is_empty() {
        return;
    }
    dict.retain(|name, value| {
        let key = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
        let Some(default) = fields.get(name) else {
            let near = nearest(name, fields.keys().map(String::as_str));
            let (what, hint) = match at.is_empty() {
                true => (format!("unknown section [{name}]"), near.map(|near| format!("[{near}]"))),
                false => (format!("unknown key {key}"), near.map(str::to_owned)),
            };
            let hint = match hint {
                Some(near) => format!("did you mean {near}?"),
                None => {
                    format!("known here: {}", fields.keys().cloned().collect::<Vec<_>>().join(", "))
                }
            };
            let message = format!("{what}; {hint}");
            problems.push(Problem { source: source.into(), key, message });
            return false;
        };
        if let Value::Dict(_, below) = value {
            drop_unknown(source, &key, default, below, problems);
        }
        true
    });
}

/// The name that was most likely meant.
fn nearest<'a>(found: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let close = |name: &&str| {
        let far = distance(found, name);
        let part = found.len() >= 4 && (name.contains(found) || found.contains(*name));
        (far <= 1 + name.len() / 4 || part).then_some(far)
    };
    known.filter_map(|name| close(&name).map(|far| (far, name))).min().map(|(_, name)| name)
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let change = corner + usize::from(from != *to);
            corner = row[j + 1];
            row[j + 1] = change.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// Turns the value of a source without types into text; false when it is text already.
fn as_text(layers: &mut [Layer], path: &[String]) -> bool {
    let winner = layers.iter_mut().rev().find(|layer| has(&layer.dict, path));
    let Some(Layer { dict, text: Some(text), .. }) = winner else { return false };
    let Some((last, above)) = path.split_last() else { return false };
    let mut here = dict;
    for part in above {
        let Some(Value::Dict(_, below)) = here.get_mut(part) else { return false };
        here = below;
    }
    let was_text = matches!(here.get(last), Some(Value::String(..)));
    here.insert(last.clone(), Value::from(text.as_str()));
    !was_text
}

/// Takes the value at `path` out of the strongest source that has it, and names that source.
fn take_out(layers: &mut [Layer], path: &[String]) -> Option<String> {
    let layer =
        layers.iter_mut().rev().find_map(|layer| remove(&mut layer.dict, path).then_some(layer))?;
    Some(layer.source.clone())
}

/// A path may lead further down than what was written: a word where a table is wanted.
fn remove(dict: &mut Dict, path: &[String]) -> bool {
    let Some((first, rest)) = path.split_first() else { return false };
    match dict.get_mut(first) {
        Some(Value::Dict(_, below)) if !rest.is_empty() => remove(below, rest),
        Some(Value::Array(_, items)) if !rest.is_empty() => remove_item(items, rest),
        Some(_) => dict.remove(first).is_some(),
        None => false,
    }
}

fn remove_item(items: &mut Vec<Value>, path: &[String]) -> bool {
    let Some((index, rest)) = path.split_first() else { return false };
    let Ok(index) = index.parse::<usize>() else { return false };
    match items.get_mut(index) {
        Some(Value::Dict(_, below)) if !rest.is_empty() => remove(below, rest),
        Some(Value::Array(_, items)) if !rest.is_empty() => remove_item(items, rest),
        Some(_) => {
            items.remove(index);
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_recognised_and_another_word_is_not() {
        let known = ["listen", "token_file", "requests_max"];
        for (found, meant) in [
            ("listne", Some("listen")),
            ("token", Some("token_file")),
            ("request_max", Some("requests_max")),
            ("colour", None),
        ] {
            assert_eq!(nearest(found, known.iter().copied()), meant, "{found}");
        }
    }
}
