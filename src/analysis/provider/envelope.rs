//! What a completion comes in: one object, one with words behind it, a stream that nobody asked for, an
//! error that calls itself a success.

use serde::Deserialize;
use serde_json::Value;
use serde_json::json;

use crate::analysis::BadAnswer;

/// Of an error without a status of its own: of the gateway, and it may pass.
const BAD_GATEWAY: u16 = 502;

#[derive(Debug, Deserialize)]
pub struct Completion {
    pub model: Option<String>,
    #[serde(default)]
    choices: Vec<Choice>,
    pub usage: Option<Usage>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    message: Option<Message>,
    finish_reason: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Message {
    content: Option<Content>,
    refusal: Option<String>,
    tool_calls: Option<Value>,
    function_call: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
struct Part {
    text: Option<String>,
    refusal: Option<String>,
}

#[derive(Debug, Deserialize, Default, Clone, Copy)]
#[serde(default)]
pub struct Usage {
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
}

/// Why a body of status 200 holds no completion.
#[derive(Debug, PartialEq)]
pub enum Unread {
    Bad(BadAnswer),
    /// It holds an error: with the status that counts, and its body.
    Error {
        status: u16,
        body: String,
    },
}

/// Reads the body of a success.
///
/// # Errors
/// [`Unread`].
pub fn completion(body: &[u8]) -> Result<Completion, Unread> {
    let bad = |_| Unread::Bad(BadAnswer::NotACompletion);
    let text = std::str::from_utf8(body).map_err(|_| Unread::Bad(BadAnswer::NotACompletion))?;
    // Some begin with the mark of UTF-8.
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let mut first = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let whole = match first.next() {
        // What stands behind it is the end of a stream.
        Some(Ok(whole)) if whole.is_object() => whole,
        _ => streamed(text).ok_or(Unread::Bad(BadAnswer::NotACompletion))?,
    };
    let has_choices = whole["choices"].as_array().is_some_and(|choices| !choices.is_empty());
    if !whole["error"].is_null() && !has_choices {
        return Err(Unread::Error { status: status_of(&whole["error"]), body: whole.to_string() });
    }
    serde_json::from_value(whole).map_err(bad)
}

/// The status that an error names (OpenRouter and others, inside 200).
fn status_of(error: &Value) -> u16 {
    let number = |value: &Value| match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    let named = ["code", "status", "status_code"].iter().find_map(|key| number(&error[*key]));
    let named =
        named.and_then(|code| u16::try_from(code).ok()).filter(|code| (400..600).contains(code));
    let words = error.to_string().to_lowercase();
    match named {
        Some(status) => status,
        None if words.contains("rate limit") || words.contains("rate_limit") => 429,
        None => BAD_GATEWAY,
    }
}

/// The completion that the events of a stream make together (`text/event-stream`). `None`: it is
/// none, or it broke off.
fn streamed(text: &str) -> Option<Value> {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty()).peekable();
    let is_field = |line: &str| {
        line.starts_with(':')
            || ["data:", "event:", "id:", "retry:"].iter().any(|f| line.starts_with(f))
    };
    lines.peek().filter(|line| is_field(line))?;
    let (mut content, mut refusal, mut tools) = (String::new(), String::new(), Vec::new());
    let (mut model, mut usage, mut finish, mut is_ended) =
        (Value::Null, Value::Null, Value::Null, false);
    for line in lines {
        let Some(data) = line.strip_prefix("data:").map(str::trim) else { continue };
        if data == "[DONE]" {
            is_ended = true;
            continue;
        }
        let event: Value = serde_json::from_str(data).ok()?;
        if !event["error"].is_null() || event["choices"][0]["message"].is_object() {
            return Some(event);
        }
        for (kept, key) in [(&mut model, "model"), (&mut usage, "usage")] {
            if !event[key].is_null() {
                *kept = event[key].clone();
            }
        }
        for choice in event["choices"].as_array().into_iter().flatten() {
            let delta = &choice["delta"];
            content.push_str(delta["content"].as_str().unwrap_or_default());
            refusal.push_str(delta["refusal"].as_str().unwrap_or_default());
            tools.extend(delta["tool_calls"].as_array().into_iter().flatten().cloned());
            if !choice["finish_reason"].is_null() {
                finish = choice["finish_reason"].clone();
                is_ended = true;
            }
        }
    }
    is_ended.then(|| {
        let refusal = Some(refusal).filter(|refusal| !refusal.is_empty());
        json!({
            "model": model,
            "usage": usage,
            "choices": [{
                "message": {"content": content, "refusal": refusal, "tool_calls": tools},
                "finish_reason": finish,
            }],
        })
    })
}

impl Completion {
    /// The text of the one choice.
    ///
    /// # Errors
    /// [`BadAnswer`].
    pub fn text(&self) -> Result<String, BadAnswer> {
        let [choice] = self.choices.as_slice() else {
            return Err(match self.choices.len() {
                0 => BadAnswer::NoChoices,
                _ => BadAnswer::SeveralChoices,
            });
        };
        let message = choice.message.as_ref().ok_or(BadAnswer::Empty)?;
        let finish = choice.finish_reason.as_deref().unwrap_or_default();
        let calls = |value: &Option<Value>| match value {
            Some(Value::Array(calls)) => !calls.is_empty(),
            Some(Value::Null) | None => false,
            Some(_) => true,
        };
        let asks_for_tool = calls(&message.tool_calls)
            || calls(&message.function_call)
            || matches!(finish, "tool_calls" | "function_call");
        if asks_for_tool {
            return Err(BadAnswer::ToolCall);
        }
        if finish == "content_filter" {
            return Err(BadAnswer::Filtered);
        }
        if message.refusal.as_ref().is_some_and(|text| !text.trim().is_empty()) {
            return Err(BadAnswer::Refusal);
        }
        if matches!(finish, "length" | "max_tokens") {
            return Err(BadAnswer::Cut);
        }
        let text = match &message.content {
            Some(Content::Text(text)) => text.clone(),
            Some(Content::Parts(parts)) => {
                if parts.iter().any(|part| part.refusal.is_some()) {
                    return Err(BadAnswer::Refusal);
                }
                parts.iter().filter_map(|part| part.text.as_deref()).collect()
            }
            None => String::new(),
        };
        match text.trim().is_empty() {
            true => Err(BadAnswer::Empty),
            false => Ok(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_answer_is_read_whatever_it_comes_in() {
        let plain = json!({"model": "m", "choices": [{"message": {"content": "{}"}}]}).to_string();
        let event = |content: &str| {
            format!(
                "data: {}\n\n",
                json!({"choices": [{"index": 0, "delta": {"content": content}}]})
            )
        };
        let end = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
        for body in [
            plain.clone(),
            format!("\u{feff}\n{plain}"),
            format!("{plain}\n\ndata: [DONE]\n\n"),
            format!("data: {plain}\n\ndata: [DONE]\n\n"),
            format!(
                ": keep-alive\n\nevent: message\n{}{}{end}data: [DONE]\n\n",
                event("{"),
                event("}")
            ),
            format!("{}data: [DONE]\n", event("{}")),
        ] {
            let read = completion(body.as_bytes()).unwrap_or_else(|why| panic!("{body}: {why:?}"));
            assert_eq!(read.text(), Ok("{}".to_owned()), "{body}");
        }
        // A stream that broke off is no answer, nor is a page.
        for body in
            [event("{"), "<html></html>".into(), String::new(), "[]".into(), "data: x\n".into()]
        {
            let unread = completion(body.as_bytes()).unwrap_err();
            assert_eq!(unread, Unread::Bad(BadAnswer::NotACompletion), "{body}");
        }
    }

    #[test]
    fn an_error_inside_a_success_counts_by_what_it_says() {
        for (error, expected) in [
            (json!({"code": 429, "message": "slow down"}), 429),
            (json!({"code": "503", "message": "no instances"}), 503),
            (json!({"message": "Rate limit exceeded"}), 429),
            (json!({"code": "model_error", "message": "CUDA out of memory"}), 502),
            (json!("upstream went away"), 502),
            (json!({"code": 200}), 502),
        ] {
            let body = json!({"error": error, "choices": []}).to_string();
            match completion(body.as_bytes()) {
                Err(Unread::Error { status, .. }) => assert_eq!(status, expected, "{body}"),
                other => panic!("{body}: {other:?}"),
            }
        }
    }
}
