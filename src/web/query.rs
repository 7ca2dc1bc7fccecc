//! Filters that stand in the query of a page.

use serde::Serialize;

use crate::web::words::Phrase;

/// One entry of a `<select>`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Choice {
    pub value: String,
    pub text: Phrase,
    pub chosen: bool,
}

/// `values` as they are; what is chosen stays in the list.
pub fn choices(values: impl IntoIterator<Item = String>, chosen: &str) -> Vec<Choice> {
    let mut values: Vec<String> = values.into_iter().collect();
    if !chosen.is_empty() && !values.iter().any(|value| value == chosen) {
        values.push(chosen.to_owned());
    }
    let choice = |value: String| Choice {
        chosen: value == chosen,
        text: Phrase::plain(value.as_str()),
        value,
    };
    values.into_iter().map(choice).collect()
}

/// `values` in the words of `group`.
pub fn words(group: &str, values: impl IntoIterator<Item = String>, chosen: &str) -> Vec<Choice> {
    let choice = |value: String| Choice {
        chosen: value == chosen,
        text: Phrase::new(format!("{group}.{value}")),
        value,
    };
    values.into_iter().map(choice).collect()
}

/// A value of a closed set as it stands in JSON.
pub fn word(value: &impl Serialize) -> String {
    let json = serde_json::to_value(value).unwrap_or_default();
    json.as_str().unwrap_or_default().to_owned()
}

/// `path` with those fields that hold something.
pub fn href(path: &str, fields: &[(&str, &str)]) -> String {
    let mut href = path.to_owned();
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
        href.push(if href.contains('?') { '&' } else { '?' });
        href.push_str(name);
        href.push('=');
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                    href.push(char::from(byte));
                }
                _ => href.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    href
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_keeps_every_filter_as_it_is() {
        let fields = [("q", "김 & co"), ("show", ""), ("page", "2")];
        assert_eq!(href("/", &fields), "/?q=%EA%B9%80%20%26%20co&page=2");
        assert_eq!(choices(["CT".to_owned()], "MR").len(), 2, "what is chosen can be seen");
    }
}
