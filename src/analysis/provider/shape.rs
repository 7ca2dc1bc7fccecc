//! The request as a server wants it: plain as OpenAI has it, changed by a preset, by the settings, and
//! by what the server itself says that it does not take.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::analysis::answer;
use crate::analysis::config::Gateway;
use crate::analysis::config::ResponseFormat;
use crate::analysis::provider::Question;
use crate::analysis::provider::refusal::Refusal;

const MAX_TOKENS: &str = "max_tokens";
const MAX_COMPLETION_TOKENS: &str = "max_completion_tokens";
const TEMPERATURE: &str = "temperature";
/// An answer needs so many.
const TOKENS_MIN: u32 = 1000;
/// Kept free beside the prompt: servers count a little differently than they say.
const TOKENS_SPARE: u32 = 64;
/// Parts of a request without which it is none.
const NEEDED: [&str; 3] = ["model", "messages", "stream"];

/// A server or family of models with habits of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// As OpenAI documents `/chat/completions`.
    #[default]
    Openai,
    /// Azure OpenAI: the key in `api-key`, the deployment in the URL, `api-version` in its query.
    Azure,
    /// Models that think first: no temperature, `max_completion_tokens`.
    OpenaiReasoning,
    /// Anthropic's compatible layer: it holds no model to a schema.
    AnthropicCompatible,
    /// Gemini's: schemas only in part.
    GeminiCompatible,
    Vllm,
    Ollama,
    #[serde(rename = "llama.cpp")]
    LlamaCpp,
    /// The proxy drops what a model does not take.
    Litellm,
    LmStudio,
    /// MedGemma on a server of the site: the shape of its requests; its pictures are every
    /// gateway's.
    Medgemma,
}

impl Preset {
    /// The header that holds the key, as it is; none: `Authorization: Bearer`.
    pub fn key_header(self) -> Option<&'static str> {
        match self {
            Preset::Azure => Some("api-key"),
            Preset::Openai
            | Preset::OpenaiReasoning
            | Preset::AnthropicCompatible
            | Preset::GeminiCompatible
            | Preset::Vllm
            | Preset::Ollama
            | Preset::LlamaCpp
            | Preset::Litellm
            | Preset::LmStudio
            | Preset::Medgemma => None,
        }
    }
}

/// What is different from the plain request.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    rename: BTreeMap<String, String>,
    without: BTreeSet<String>,
    add: Map<String, Value>,
    format: ResponseFormat,
    max_tokens: u32,
    /// For models that know no other role than the user's.
    is_system_in_user: bool,
    /// `"detail": "high"` of each picture.
    has_detail: bool,
}

impl Shape {
    pub fn of(gateway: &Gateway) -> Shape {
        let mut shape = Shape {
            rename: BTreeMap::new(),
            without: BTreeSet::new(),
            add: Map::new(),
            format: gateway.response_format,
            max_tokens: gateway.max_tokens,
            is_system_in_user: false,
            has_detail: true,
        };
        let lower = |shape: &mut Shape, format: ResponseFormat| {
            // Whoever sets another than the default means it.
            if shape.format == ResponseFormat::default() {
                shape.format = format;
            }
        };
        match gateway.preset {
            Preset::Openai | Preset::Azure => {}
            Preset::OpenaiReasoning => {
                shape.rename.insert(MAX_TOKENS.into(), MAX_COMPLETION_TOKENS.into());
                shape.without.insert(TEMPERATURE.into());
            }
            Preset::AnthropicCompatible => {
                lower(&mut shape, ResponseFormat::None);
                shape.has_detail = false;
            }
            Preset::GeminiCompatible => {
                lower(&mut shape, ResponseFormat::JsonObject);
                shape.without.insert("n".into());
                shape.has_detail = false;
            }
            Preset::Vllm | Preset::LmStudio | Preset::LlamaCpp | Preset::Ollama => {
                shape.without.insert("n".into());
                shape.has_detail = false;
            }
            Preset::Litellm => {
                shape.add.insert("drop_params".into(), true.into());
            }
            Preset::Medgemma => {
                // Its chat template knows no system role in every server.
                shape.is_system_in_user = true;
                shape.without.insert("n".into());
                shape.has_detail = false;
            }
        }
        shape.rename.extend(gateway.body_rename.clone());
        shape.without.extend(gateway.body_without.iter().cloned());
        shape.add.extend(gateway.body.clone());
        shape
    }

    /// The body of one request.
    pub fn body(&self, model: &str, question: &Question<'_>) -> Value {
        let Question { prompt, pictures, schema, .. } = question;
        let mut user = prompt.user.clone();
        let wire = answer::wire_schema(schema);
        let format = match self.format {
            ResponseFormat::JsonSchema => Some(json!({
                "type": "json_schema",
                "json_schema": {"name": "reading", "strict": answer::is_closed(&wire), "schema": wire},
            })),
            ResponseFormat::JsonObject => Some(json!({"type": "json_object"})),
            ResponseFormat::None => None,
        };
        if self.format != ResponseFormat::JsonSchema {
            user.push_str(&format!("\nJSON Schema of the answer:\n{wire}\n"));
        }
        if self.is_system_in_user {
            user = format!("{}\n\n{user}", prompt.system);
        }
        let mut parts = vec![json!({"type": "text", "text": user})];
        for picture in *pictures {
            let label = picture.reference.label();
            parts.push(json!({"type": "text", "text": format!("{label}:")}));
            let data = STANDARD.encode(&picture.bytes);
            let mut image = json!({"url": format!("data:{};base64,{data}", picture.media_type)});
            if self.has_detail {
                image["detail"] = "high".into();
            }
            parts.push(json!({"type": "image_url", "image_url": image}));
        }
        let mut messages = vec![json!({"role": "user", "content": parts})];
        if !self.is_system_in_user {
            messages.insert(0, json!({"role": "system", "content": prompt.system}));
        }
        let mut body = Map::new();
        let mut put = |key: &str, value: Value| {
            if !self.without.contains(key) {
                let key = self.rename.get(key).map_or(key, String::as_str);
                body.insert(key.to_owned(), value);
            }
        };
        put("model", model.into());
        put("messages", messages.into());
        put(MAX_TOKENS, self.max_tokens.into());
        put(TEMPERATURE, 0.into());
        put("n", 1.into());
        put("stream", false.into());
        if let Some(format) = format {
            put("response_format", format);
        }
        body.extend(self.add.clone());
        Value::Object(body)
    }

    /// What the server does not take is left out, and said in words for the log. `None`: nothing here
    /// can be changed, or what it names is needed.
    pub fn without_what_is_refused(&mut self, refusal: &Refusal) -> Option<String> {
        let said = refusal.message.to_lowercase();
        let names = |key: &str| {
            refusal.parameter.as_deref() == Some(key)
                || ["'", "\"", "`"]
                    .iter()
                    .any(|quote| said.contains(&format!("{quote}{key}{quote}")))
        };
        if let Some(fewer) = fewer_tokens(&said, self.max_tokens) {
            self.max_tokens = fewer;
            return Some(format!("{MAX_TOKENS} = {fewer}"));
        }
        let is_renamed = self.rename.contains_key(MAX_TOKENS);
        let is_unknown = said.contains("support") || said.contains("instead");
        if names(MAX_TOKENS) && said.contains(MAX_COMPLETION_TOKENS) && is_unknown && !is_renamed {
            self.rename.insert(MAX_TOKENS.into(), MAX_COMPLETION_TOKENS.into());
            return Some(format!("{MAX_COMPLETION_TOKENS} in place of {MAX_TOKENS}"));
        }
        if names("response_format")
            || [
                "response_format",
                "json_schema",
                "json_object",
                "guided",
                "structured output",
                "grammar",
            ]
            .iter()
            .any(|word| said.contains(word))
        {
            let wants_schema =
                said.contains("must be 'json_schema'") || said.contains("must be json_schema");
            let lower = match self.format {
                ResponseFormat::JsonSchema => Some(ResponseFormat::JsonObject),
                ResponseFormat::JsonObject if wants_schema => Some(ResponseFormat::None),
                ResponseFormat::JsonObject => Some(ResponseFormat::None),
                ResponseFormat::None => None,
            };
            if let Some(lower) = lower {
                self.format = lower;
                return Some("the schema in the prompt, in place of response_format".into());
            }
        }
        if !self.is_system_in_user
            && said.contains("system")
            && (said.contains("role") || said.contains("instruction"))
        {
            self.is_system_in_user = true;
            return Some("no system role".into());
        }
        if self.has_detail && names("detail") {
            self.has_detail = false;
            return Some("no detail of pictures".into());
        }
        let ours = [TEMPERATURE, "n"].into_iter().map(str::to_owned);
        let named = ours.chain(self.add.keys().cloned()).chain(refusal.parameter.clone());
        let named: Vec<String> = named
            .filter(|key| names(key) || (said.contains(key.as_str()) && key.len() > 3))
            .collect();
        let key = named
            .into_iter()
            .find(|key| !NEEDED.contains(&key.as_str()) && !self.without.contains(key))?;
        let was_added = self.add.remove(&key).is_some();
        let was_ours = [TEMPERATURE, "n"].contains(&key.as_str());
        if !was_added && !was_ours {
            return None;
        }
        self.without.insert(key.clone());
        Some(format!("no {key}"))
    }
}

/// How many tokens an answer may have, where the server says that its window is smaller than what
/// was asked for: "maximum context length is 8192 tokens. However, you requested 9500 tokens (1500 in
/// the messages, 8000 in the completion)".
fn fewer_tokens(said: &str, asked: u32) -> Option<u32> {
    if !(said.contains("context") || said.contains(MAX_TOKENS) || said.contains("max_model_len")) {
        return None;
    }
    let numbers_in = |text: &str| -> Vec<u32> {
        let parts = text.split(|c: char| !c.is_ascii_digit());
        parts.filter_map(|part| part.parse().ok()).filter(|n| *n >= 100).collect()
    };
    let numbers = numbers_in(said);
    // Some repeat what was asked for before it.
    let named = said.find("context length").map_or(said, |at| &said[at..]);
    let window = *numbers_in(named).first()?;
    // What is no more than the window and not what was asked for is the prompt.
    let all = numbers.iter().copied().skip(1).filter(|n| *n != asked && *n < window);
    let prompt =
        all.clone().find(|n| numbers.contains(&(n + asked))).or_else(|| all.clone().min())?;
    let fewer = window.checked_sub(prompt)?.checked_sub(TOKENS_SPARE)?;
    (TOKENS_MIN..asked).contains(&fewer).then_some(fewer)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::analysis::prompt::Prompt;
    use crate::analysis::testing;
    use crate::domain::picture::Picture;

    const ALL: [Preset; 11] = [
        Preset::Openai,
        Preset::Azure,
        Preset::OpenaiReasoning,
        Preset::AnthropicCompatible,
        Preset::GeminiCompatible,
        Preset::Vllm,
        Preset::Ollama,
        Preset::LlamaCpp,
        Preset::Litellm,
        Preset::LmStudio,
        Preset::Medgemma,
    ];

    fn body(shape: &Shape) -> Value {
        let study = testing::study("CR", "CHEST", "PA", "");
        let pictures: Vec<Picture> = testing::pictures(&study)
            .into_iter()
            .take(1)
            .map(|reference| Picture { reference, media_type: "image/png", bytes: vec![1, 2, 3] })
            .collect();
        let prompt = Prompt { system: "SYSTEM".into(), user: "USER".into(), ..testing::prompt() };
        let schema = json!({"type": "object"});
        let question = Question {
            prompt: &prompt,
            pictures: &pictures,
            schema: &schema,
            timeout: Duration::from_secs(1),
        };
        shape.body("m", &question)
    }

    fn shape(preset: Preset) -> Shape {
        Shape::of(&Gateway { preset, ..Gateway::default() })
    }

    /// What each server gets, by its keys: as their documentation has it.
    #[test]
    fn each_preset_sends_what_its_server_takes() {
        let plain =
            ["max_tokens", "messages", "model", "n", "response_format", "stream", "temperature"];
        for preset in ALL {
            let body = body(&shape(preset));
            let keys: Vec<&str> = body.as_object().unwrap().keys().map(String::as_str).collect();
            let (without, with): (&[&str], &[&str]) = match preset {
                Preset::Openai | Preset::Azure => (&[], &[]),
                Preset::OpenaiReasoning => {
                    (&["max_tokens", "temperature"], &["max_completion_tokens"])
                }
                Preset::AnthropicCompatible => (&["response_format"], &[]),
                Preset::GeminiCompatible
                | Preset::Vllm
                | Preset::Ollama
                | Preset::LlamaCpp
                | Preset::LmStudio
                | Preset::Medgemma => (&["n"], &[]),
                Preset::Litellm => (&[], &["drop_params"]),
            };
            let mut expected: Vec<&str> =
                plain.into_iter().filter(|key| !without.contains(key)).collect();
            expected.extend(with);
            expected.sort_unstable();
            let mut found = keys.clone();
            found.sort_unstable();
            assert_eq!(found, expected, "{preset:?}");
            let roles: Vec<&str> = body["messages"]
                .as_array()
                .unwrap()
                .iter()
                .map(|m| m["role"].as_str().unwrap())
                .collect();
            let is_one = preset == Preset::Medgemma;
            assert_eq!(
                roles,
                if is_one { vec!["user"] } else { vec!["system", "user"] },
                "{preset:?}"
            );
            let format = body["response_format"]["type"].as_str();
            let text = body["messages"].as_array().unwrap().last().unwrap()["content"][0]["text"]
                .to_string();
            assert_eq!(text.contains("JSON Schema"), format != Some("json_schema"), "{preset:?}");
            assert_eq!(text.contains("SYSTEM"), is_one, "{preset:?}");
            let name: Preset =
                serde_json::from_value(serde_json::to_value(preset).unwrap()).unwrap();
            assert_eq!(name, preset);
        }
        assert_eq!(Preset::Azure.key_header(), Some("api-key"));
    }

    #[test]
    fn the_settings_count_more_than_the_preset() {
        let gateway = Gateway {
            preset: Preset::OpenaiReasoning,
            body: json!({"store": false, "reasoning_effort": "low"}).as_object().unwrap().clone(),
            body_without: vec!["n".into()],
            body_rename: [("max_tokens".to_owned(), "max_output".to_owned())].into(),
            ..Gateway::default()
        };
        let body = body(&Shape::of(&gateway));
        assert_eq!((&body["store"], &body["reasoning_effort"]), (&json!(false), &json!("low")));
        assert!(
            body["max_output"] == 8000
                && body.get("n").is_none()
                && body.get("temperature").is_none()
        );
    }

    #[test]
    fn what_a_server_does_not_take_is_left_out_once() {
        for (said, parameter, expected) in [
            (
                "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
                Some("max_tokens"),
                Some("max_completion_tokens in place of max_tokens"),
            ),
            (
                "Unsupported value: 'temperature' does not support 0 with this model.",
                Some("temperature"),
                Some("no temperature"),
            ),
            ("Extra inputs are not permitted: `n`", None, Some("no n")),
            (
                "This model's maximum context length is 8192 tokens. However, you requested 9500 tokens (1500 in the messages, 8000 in the completion).",
                None,
                Some("max_tokens = 6628"),
            ),
            (
                "'max_tokens' or 'max_completion_tokens' is too large: 8000. This model's maximum context length is 8192 tokens and your request has 3204 input tokens (8000 > 8192 - 3204).",
                None,
                Some("max_tokens = 4924"),
            ),
            // Nothing is left for an answer.
            (
                "This model's maximum context length is 8192 tokens. However, you requested 16000 tokens (8000 in the messages, 8000 in the completion).",
                None,
                None,
            ),
            (
                "'response_format.type' must be 'json_schema' or 'text'",
                None,
                Some("the schema in the prompt, in place of response_format"),
            ),
            ("System role not supported", None, Some("no system role")),
            ("At most 1 image(s) may be provided in one request.", None, None),
            ("The model `m` does not exist", Some("model"), None),
            ("'messages' must contain the word json", Some("messages"), None),
        ] {
            let mut shape = shape(Preset::Openai);
            let refusal = Refusal { message: said.into(), parameter: parameter.map(str::to_owned) };
            let changed = shape.without_what_is_refused(&refusal);
            assert_eq!(changed.as_deref(), expected, "{said}");
            if changed.is_some() && !said.contains("response_format") {
                assert_eq!(shape.without_what_is_refused(&refusal), None, "{said}: once");
            }
        }
    }
}
