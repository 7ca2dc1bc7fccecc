//! What a model may answer: the schema, and the way from its text to a typed value. Nothing
//! here believes the model; a bad answer is an error, never an empty one.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::json;

use crate::analysis::codes;
use crate::analysis::codes::Row;
use crate::analysis::terms;
use crate::domain::finding::Laterality;
use crate::domain::finding::Presence;
use crate::domain::finding::Support;
use crate::domain::profile::Profile;
use crate::domain::urgency::Urgency;

/// Bytes of an answer's text. A full answer has some ten thousand.
pub const TEXT_BYTES_MAX: usize = 1024 * 1024;
/// Nesting of an answer; ours has 5 levels.
const DEPTH_MAX: usize = 16;
/// Key of a finding that the profile does not list; `name` says what it is.
pub const OTHER: &str = "other";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    pub findings: Vec<AnsweredFinding>,
    pub impression: String,
    pub recommendation: String,
    pub image_quality: ImageQuality,
    pub urgency: Urgency,
    pub confidence: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnsweredFinding {
    pub key: String,
    /// Only for the key `other`.
    pub name: String,
    pub presence: Presence,
    pub probability: f64,
    pub laterality: Side,
    pub severity: Grade,
    pub site: String,
    pub description: String,
    pub pictures: Vec<u32>,
    pub boxes: Vec<AnsweredBox>,
    /// Only where the schema was widened by [`with_masks`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub masks: Vec<AnsweredMask>,
    pub measurements: Vec<AnsweredMeasurement>,
    pub differential: Vec<String>,
    pub recommendation: String,
    pub urgency: Urgency,
    /// What other models said of it. Ours, never the model's: the schema does not know it.
    #[serde(default, skip_serializing_if = "Support::is_none")]
    pub support: Support,
    /// The probability from which its model calls it present, by its manifest. Ours, as `support`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
}

/// A mask on one picture, of its size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnsweredMask {
    pub picture: u32,
    /// As [`Mask::counts`](crate::domain::mask::Mask::counts).
    pub counts: Vec<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    Right,
    Left,
    Bilateral,
    None,
}

impl Side {
    pub fn laterality(self) -> Option<Laterality> {
        match self {
            Side::Right => Some(Laterality::Right),
            Side::Left => Some(Laterality::Left),
            Side::Bilateral => Some(Laterality::Bilateral),
            Side::None => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    Mild,
    Moderate,
    Severe,
    None,
}

/// What a model answers has words of its own.
pub trait Written {
    /// All of them.
    fn text(&self) -> String;
}

impl Written for Answer {
    fn text(&self) -> String {
        let own = [&self.impression, &self.recommendation, &self.image_quality.remarks];
        let of_findings = self.findings.iter().flat_map(|f| [&f.description, &f.recommendation]);
        let all: Vec<&str> = of_findings.chain(own).map(String::as_str).collect();
        all.join(". ")
    }
}

/// An object of a schema that is not ours: it may be in any language.
impl Written for Value {
    fn text(&self) -> String {
        String::new()
    }
}

impl AnsweredFinding {
    /// Its row in the table of findings, if it has one: by its key, or by the words of its name
    /// where it was answered as [`OTHER`].
    pub fn row(&self) -> Option<&'static Row> {
        match self.key.as_str() {
            OTHER => terms::find(&self.name).map(|(row, _)| row),
            key => codes::find(key),
        }
    }

    /// The urgency that its own words ask for, beyond that of its row: "tension pneumothorax".
    pub fn urgency_of_words(&self) -> Urgency {
        let raised = terms::find(&self.name).filter(|_| self.key == OTHER);
        raised.and_then(|(_, urgency)| urgency).unwrap_or_default()
    }
}

/// Fractions of the picture's width and height, origin at its top-left corner.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnsweredBox {
    pub picture: u32,
    pub x0: f64,
    pub y0: f64,
    pub x1: f64,
    pub y1: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnsweredMeasurement {
    pub name: String,
    pub value: f64,
    pub unit: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageQuality {
    pub usable: Usable,
    pub remarks: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Usable {
    Good,
    Limited,
    NotDiagnostic,
}

/// Why a text is no answer. Holds no part of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    #[error("the answer is longer than {TEXT_BYTES_MAX} bytes")]
    TooLong,
    #[error("the answer holds no JSON object")]
    NoObject,
    #[error("the JSON of the answer ends too early")]
    Truncated,
    #[error("the JSON of the answer is nested deeper than {DEPTH_MAX}")]
    TooDeep,
    #[error("the JSON of the answer is broken ({0})")]
    Broken(String),
    #[error("the answer holds two different JSON objects")]
    Several,
    #[error("the answer does not follow the schema: {}", .0.join("; "))]
    Schema(Vec<String>),
}

/// JSON Schema (draft 2020-12) of an answer to this profile.
pub fn schema(profile: &Profile) -> Value {
    let keys: Vec<&str> = profile.findings.iter().map(String::as_str).chain([OTHER]).collect();
    let text = |max: u32| json!({"type": "string", "maxLength": max});
    let fraction = || json!({"type": "number", "minimum": 0, "maximum": 1});
    let words = |words: &[&str]| json!({"type": "string", "enum": words});
    let number = || json!({"type": "integer", "minimum": 1, "maximum": 999});
    let urgency = || words(&Urgency::ALL.map(Urgency::as_str));
    let list = |items: Value, max: u32| json!({"type": "array", "maxItems": max, "items": items});
    let finding = object(&[
        ("key", words(&keys)),
        ("name", text(80)),
        ("presence", words(&["present", "absent", "undetermined"])),
        ("probability", fraction()),
        ("laterality", words(&["right", "left", "bilateral", "none"])),
        ("severity", words(&["mild", "moderate", "severe", "none"])),
        ("site", text(120)),
        ("description", text(1000)),
        ("pictures", list(number(), 64)),
        (
            "boxes",
            list(
                object(&[
                    ("picture", number()),
                    ("x0", fraction()),
                    ("y0", fraction()),
                    ("x1", fraction()),
                    ("y1", fraction()),
                ]),
                20,
            ),
        ),
        (
            "measurements",
            list(
                object(&[
                    ("name", text(80)),
                    ("value", json!({"type": "number"})),
                    ("unit", text(16)),
                ]),
                8,
            ),
        ),
        ("differential", list(text(160), 8)),
        ("recommendation", text(600)),
        ("urgency", urgency()),
    ]);
    let mut schema = object(&[
        ("findings", list(finding, 60)),
        ("impression", text(2000)),
        ("recommendation", text(1000)),
        (
            "image_quality",
            object(&[
                ("usable", words(&["good", "limited", "not_diagnostic"])),
                ("remarks", text(400)),
            ]),
        ),
        ("urgency", urgency()),
        ("confidence", fraction()),
    ]);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema
}

/// Runs of a mask, and masks of a finding, at most.
const RUNS_MAX: u32 = 200_000;
const MASKS_MAX: u32 = 16;

/// Our schema for readers that can draw: each finding may have `masks`. Any other schema stays.
pub fn with_masks(schema: &Value) -> Value {
    let mut schema = schema.clone();
    let finding = schema.pointer_mut("/properties/findings/items/properties");
    if let Some(finding) =
        finding.and_then(Value::as_object_mut).filter(|f| f.contains_key("boxes"))
    {
        let run = json!({"type": "integer", "minimum": 0, "maximum": u32::MAX});
        let runs = json!({"type": "array", "maxItems": RUNS_MAX, "items": run});
        let picture = json!({"type": "integer", "minimum": 1, "maximum": 999});
        let mask = object(&[("picture", picture), ("counts", runs)]);
        let masks = json!({"type": "array", "maxItems": MASKS_MAX, "items": mask});
        finding.insert("masks".to_owned(), masks);
    }
    schema
}

/// The schema that a profile brings.
///
/// # Errors
/// What is wrong with it, in words for who wrote it.
pub fn free_schema(profile: &Profile) -> Result<Value, String> {
    let schema: Value =
        serde_json::from_str(&profile.schema).map_err(|e| format!("no JSON: {e}"))?;
    if schema["type"] != "object" {
        return Err("an answer is one JSON object: begin with \"type\": \"object\"".into());
    }
    match jsonschema::draft202012::new(&schema) {
        Ok(_) => Ok(schema),
        Err(error) => Err(format!("no JSON Schema (draft 2020-12): {error}")),
    }
}

/// Whether each object of a schema names all its keys and takes no others: gateways hold a model
/// to such a schema alone.
pub fn is_closed(schema: &Value) -> bool {
    match schema {
        Value::Object(map) => {
            let closed = match map.get("properties").and_then(Value::as_object) {
                None => map.get("type").is_none_or(|kind| kind != "object"),
                Some(properties) => {
                    let required = map.get("required").and_then(Value::as_array);
                    let named = |key| required.is_some_and(|all| all.iter().any(|one| one == key));
                    map.get("additionalProperties") == Some(&Value::Bool(false))
                        && properties.keys().all(named)
                }
            };
            closed && map.values().all(is_closed)
        }
        Value::Array(items) => items.iter().all(is_closed),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

/// The schema without bounds, as gateways with a strict mode take it; ours are checked here.
pub fn wire_schema(schema: &Value) -> Value {
    const BOUNDS: [&str; 5] = ["maxLength", "minimum", "maximum", "maxItems", "$schema"];
    match schema {
        Value::Object(map) => {
            let kept = map
                .iter()
                .filter(|(key, value)| !BOUNDS.contains(&key.as_str()) || value.is_object());
            Value::Object(kept.map(|(key, value)| (key.clone(), wire_schema(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(wire_schema).collect()),
        other => other.clone(),
    }
}

pub fn object(properties: &[(&str, Value)]) -> Value {
    let required: Vec<&str> = properties.iter().map(|(name, _)| *name).collect();
    let map: serde_json::Map<String, Value> =
        properties.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    json!({"type": "object", "additionalProperties": false, "required": required, "properties": map})
}

/// What a model says after it has thought aloud: templates write the end of it always, its beginning
/// not always. A thought without an end is an answer that was cut.
fn without_thinking(text: &str) -> &str {
    const ENDS: [&str; 4] = ["</think>", "</thinking>", "</reasoning>", "<|end_of_thought|>"];
    let end = ENDS.iter().filter_map(|end| Some(text.rfind(end)? + end.len())).max();
    // The words may stand in a text of the answer.
    let rest = end.map(|at| &text[at..]).filter(|rest| rest.contains('{'));
    rest.unwrap_or(text)
}

/// The one JSON object in a text: bare, in a code fence, or with prose around it. The same object
/// twice is one; two different ones are refused, nobody knows which was meant.
pub fn extract(text: &str) -> Result<Value, AnswerError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(AnswerError::TooLong);
    }
    let text = without_thinking(text);
    let mut found: Option<Value> = None;
    let mut from = 0;
    while let Some(open) = text[from..].find('{').map(|at| from + at) {
        let inside = text[open + 1..].trim_start();
        if !(inside.starts_with('"') || inside.starts_with('}')) {
            // A brace in prose. `{` alone at the end is an object that was cut.
            if inside.is_empty() {
                return Err(AnswerError::Truncated);
            }
            from = open + 1;
            continue;
        }
        let length = object_length(&text[open..])?;
        let value = strict(&text[open..open + length])?;
        match &found {
            Some(earlier) if *earlier != value => return Err(AnswerError::Several),
            _ => found = Some(value),
        }
        from = open + length;
    }
    found.ok_or(AnswerError::NoObject)
}

/// Extracts, validates and types an answer.
pub fn parse<T: DeserializeOwned>(text: &str, schema: &Value) -> Result<T, AnswerError> {
    let value = extract(text)?;
    let validator = jsonschema::draft202012::new(schema).map_err(|error| {
        AnswerError::Schema(vec![format!("our schema is broken: {}", error.masked())])
    })?;
    let problems: Vec<String> = validator
        .iter_errors(&value)
        .take(8)
        .map(|error| {
            let at = match error.instance_path().to_string() {
                path if path.is_empty() => "the object".to_owned(),
                path => path.chars().take(80).collect(),
            };
            format!("{at}: {}", problem(&error)).chars().take(240).collect()
        })
        .collect();
    if !problems.is_empty() {
        return Err(AnswerError::Schema(problems));
    }
    serde_json::from_value(value)
        .map_err(|error| AnswerError::Schema(vec![format!("{:?}", error.classify())]))
}

/// What is wrong, without the model's own words: neither values nor the names of its extra keys.
fn problem(error: &jsonschema::ValidationError<'_>) -> String {
    match error.kind() {
        jsonschema::error::ValidationErrorKind::AdditionalProperties { unexpected } => {
            format!("{} keys that the schema does not know", unexpected.len())
        }
        _ => error.masked().to_string(),
    }
}

/// Length of the object at the start of `text`, by brackets outside of strings.
fn object_length(text: &str) -> Result<usize, AnswerError> {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return Err(AnswerError::TooDeep);
                }
            }
            b'}' | b']' if !in_string => {
                depth -= 1;
                if depth == 0 {
                    return Ok(at + 1);
                }
            }
            _ => {}
        }
    }
    Err(AnswerError::Truncated)
}

/// Parses JSON in which no object has a key twice: two values for one key are two answers.
fn strict(text: &str) -> Result<Value, AnswerError> {
    let broken = |error: serde_json::Error| match error.to_string() {
        message if message.starts_with("number out of range") => {
            AnswerError::Broken("a number out of range".into())
        }
        message if message.contains(TWICE) => AnswerError::Broken(TWICE.into()),
        _ => AnswerError::Broken(format!("syntax, at character {}", error.column())),
    };
    let mut from = serde_json::Deserializer::from_str(text);
    let value = Strict::deserialize(&mut from).map_err(broken)?;
    from.end().map_err(broken)?;
    Ok(value.0)
}

const TWICE: &str = "a key stands twice";

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Strict, D::Error> {
        from.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> serde::de::Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            all.push(item);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let (mut map, mut keys) = (serde_json::Map::new(), BTreeSet::new());
        while let Some((key, Strict(value))) = entries.next_entry::<String, Strict>()? {
            if !keys.insert(key.clone()) {
                return Err(serde::de::Error::custom(TWICE));
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
