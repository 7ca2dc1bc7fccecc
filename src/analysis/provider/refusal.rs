//! What a gateway says of a refusal: found in the forms in which they say it, and cleaned of what they
//! repeat of the request.

use serde_json::Value;

use crate::analysis::prompt::Prompt;
use crate::domain::text;

/// For reasons, logs and pages.
const CHARS_MAX: usize = 240;
/// Longer words are no words: keys, pictures in base64.
const WORD_CHARS_MAX: usize = 60;
/// So many words that stand in the request one after the other are of the request.
const SAME_WORDS: usize = 4;

/// A gateway's own words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusal {
    pub message: String,
    /// Of the request, where it names one.
    pub parameter: Option<String>,
}

impl Refusal {
    /// - `body`: of the response, or what stands in it under `error`.
    pub fn of(body: &str) -> Refusal {
        let Ok(said) = serde_json::from_str::<Value>(body) else {
            return Refusal { message: plain(body), parameter: None };
        };
        // Some send a list of one.
        let said = said.get(0).unwrap_or(&said);
        let error = match &said["error"] {
            Value::Null => said,
            error => error,
        };
        let of = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            // FastAPI: a list of what is wrong where.
            Value::Array(all) => {
                let all = all.iter().filter_map(|one| one["msg"].as_str());
                Some(all.collect::<Vec<_>>().join("; ")).filter(|text| !text.is_empty())
            }
            _ => None,
        };
        let candidates = [
            error,
            &error["message"],
            &error["detail"],
            &said["detail"],
            &said["message"],
            &error["status"],
        ];
        let message = candidates.into_iter().find_map(of).unwrap_or_default();
        let parameter = ["param", "parameter"].iter().find_map(|key| error[*key].as_str());
        Refusal { message, parameter: parameter.map(str::to_owned) }
    }

    /// For people: without keys, pictures and what it repeats of the request; empty when nothing else
    /// was said.
    pub fn in_words(&self, prompt: &Prompt, secret: &str) -> String {
        let message = match secret.is_empty() {
            true => self.message.clone(),
            false => self.message.replace(secret, "[key]"),
        };
        let words: Vec<&str> = message.split_whitespace().collect();
        let told: Vec<String> = words.iter().map(|word| shown(word)).collect();
        let of_request = [bare(&prompt.system), bare(&prompt.user)];
        let own: Vec<String> = words.iter().map(|word| bare(word).trim().to_owned()).collect();
        let mut is_of_request = vec![false; words.len()];
        for (at, window) in own.windows(SAME_WORDS).enumerate() {
            let phrase = format!(" {} ", window.join(" "));
            if window.iter().all(|word| !word.is_empty())
                && of_request.iter().any(|text| text.contains(&phrase))
            {
                is_of_request[at..at + SAME_WORDS].fill(true);
            }
        }
        let mut out: Vec<&str> = Vec::new();
        for (word, is_of_request) in told.iter().zip(is_of_request) {
            match is_of_request {
                false => out.push(word),
                true if out.last() != Some(&"[of the request]") => out.push("[of the request]"),
                true => {}
            }
        }
        text::clean(&out.join(" "), CHARS_MAX)
    }
}

/// A page in HTML by its title, else the text as it is.
fn plain(body: &str) -> String {
    let lower = body.to_ascii_lowercase();
    let title = lower.find("<title>").map(|at| at + "<title>".len());
    let title = title.and_then(|from| Some(&body[from..from + lower[from..].find("</title>")?]));
    match (title, lower.contains("<html")) {
        (Some(title), _) => title.to_owned(),
        (None, true) => String::new(),
        (None, false) => body.chars().take(2000).collect(),
    }
}

fn shown(word: &str) -> String {
    let is_key = ["sk-", "Bearer", "eyJ"]
        .iter()
        .any(|begin| word.trim_matches(['"', '\'', '`']).starts_with(begin));
    match word {
        word if word.contains("data:image") || word.contains(";base64,") => "[picture]".into(),
        word if is_key || word.chars().count() > WORD_CHARS_MAX => "[removed]".into(),
        word => word.to_owned(),
    }
}

/// Words alone, in lower case, with a space before and behind each.
fn bare(text: &str) -> String {
    let letters = text.chars().map(|c| if c.is_alphanumeric() { c } else { ' ' });
    let letters: String = letters.flat_map(char::to_lowercase).collect();
    format!(" {} ", letters.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::testing;

    #[test]
    fn the_words_of_a_gateway_are_found_and_hold_nothing_of_the_request() {
        let prompt = Prompt {
            system: "You read radiographs.".into(),
            user: "Clinical information: fell from a ladder on Tuesday, pain left".into(),
            ..testing::prompt()
        };
        let picture = "A".repeat(200);
        for (body, said) in [
            (r#"{"error": {"message": "The model `m` does not exist", "param": "model"}}"#.to_owned(), "The model `m` does not exist"),
            (r#"{"error": "model 'm' not found"}"#.to_owned(), "model 'm' not found"),
            (r#"{"object": "error", "message": "System role not supported"}"#.to_owned(), "System role not supported"),
            (r#"{"detail": [{"loc": ["body", "n"], "msg": "extra fields not permitted"}]}"#.to_owned(), "extra fields not permitted"),
            (r#"[{"error": {"message": "API key not valid.", "status": "INVALID_ARGUMENT"}}]"#.to_owned(), "API key not valid."),
            ("<html><head><title>403 Forbidden</title></head><body>x</body></html>".to_owned(), "403 Forbidden"),
            ("upstream connect error".to_owned(), "upstream connect error"),
            (
                r#"{"error": {"message": "cannot use: fell from a ladder on Tuesday, pain left, sorry"}}"#.to_owned(),
                "cannot use: [of the request] sorry",
            ),
            (
                format!(r#"{{"error": {{"message": "bad url data:image/png;base64,{picture} here"}}}}"#),
                "bad url [picture] here",
            ),
            (r#"{"error": {"message": "Incorrect API key provided: sk-abc123."}}"#.to_owned(), "Incorrect API key provided: [removed]"),
            (r#"{"error": {"message": "key topsecret is unknown"}}"#.to_owned(), "key [key] is unknown"),
            (r#"{"error": {}}"#.to_owned(), ""),
            (String::new(), ""),
        ] {
            assert_eq!(Refusal::of(&body).in_words(&prompt, "topsecret"), said, "{body}");
        }
        assert_eq!(
            Refusal::of(r#"{"error": {"message": "x", "param": "n"}}"#).parameter.as_deref(),
            Some("n")
        );
    }
}
