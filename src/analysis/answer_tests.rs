use super::*;
use crate::analysis::testing;

fn good() -> String {
    testing::answer(&testing::profile("chest_xray"), Vec::new()).to_string()
}

fn read(text: &str) -> Result<Answer, AnswerError> {
    parse(text, &schema(&testing::profile("chest_xray")))
}

/// A7: bare, fenced or in prose: one object.
#[test]
fn one_object_is_found_in_fences_and_prose() {
    let json = good();
    let pretty =
        serde_json::to_string_pretty(&serde_json::from_str::<Value>(&json).unwrap()).unwrap();
    for text in [
        json.clone(),
        format!("```json\n{pretty}\n```"),
        format!("Here is {{the}} result {{ }}}}:\n\n{json}\n\nI hope this helps {{:-)}}")
            .replace("{ }}", "()"),
        format!("\u{feff}{json}"),
        format!("{json}\n{pretty}"),
        format!("[{json}]"),
    ] {
        assert!(read(&text).is_ok(), "{:?} in {}", read(&text), &text[..60]);
    }
}

/// A7: two different ones are refused.
#[test]
fn two_different_objects_are_refused() {
    let other = good().replace("\"confidence\":0.8", "\"confidence\":0.9");
    assert_eq!(read(&format!("{} {other}", good())), Err(AnswerError::Several));
    assert_eq!(read(&format!("{{\"note\": 1}} {}", good())), Err(AnswerError::Several));
}

/// A6: truncated, empty, null, [].
#[test]
fn no_object_is_no_answer() {
    let json = good();
    for text in ["", " ", "null", "[]", "true", "\"{}\" is empty?", "I cannot help with that."] {
        assert!(read(text).is_err(), "{text}");
    }
    assert_eq!(read("no json"), Err(AnswerError::NoObject));
    assert_eq!(read(&json[..json.len() - 1]), Err(AnswerError::Truncated));
    // A complete object inside a truncated one is not taken.
    assert_eq!(read(&format!("{{\"answer\": {json}")), Err(AnswerError::Truncated));
    assert_eq!(read("{"), Err(AnswerError::Truncated));
    for cut in (1..json.len()).step_by(97) {
        assert!(read(&json[..cut]).is_err());
    }
}

/// A8: wrong types, numbers out of range, unknown labels, extra and missing keys.
#[test]
fn what_the_schema_does_not_allow_is_refused() {
    let json = good();
    let changes: [(&str, &str); 14] = [
        ("\"confidence\":0.8", "\"confidence\":1e999"),
        ("\"confidence\":0.8", "\"confidence\":1.7"),
        ("\"confidence\":0.8", "\"confidence\":-0.1"),
        ("\"confidence\":0.8", "\"confidence\":\"0.8\""),
        ("\"confidence\":0.8", "\"confidence\":NaN"),
        ("\"confidence\":0.8", "\"confidence\":null"),
        ("\"confidence\":0.8", "\"confidence\":0.8,\"confidence\":0.1"),
        ("\"confidence\":0.8", "\"confidence\":0.8,\"patient\":\"x\""),
        ("\"key\":\"pneumothorax\",", ""),
        ("\"key\":\"pneumothorax\"", "\"key\":\"unicorn\""),
        ("\"presence\":\"absent\"", "\"presence\":\"maybe\""),
        ("\"usable\":\"good\"", "\"usable\":\"fine\""),
        ("\"pictures\":[1]", "\"pictures\":[0]"),
        ("\"boxes\":[]", "\"boxes\":[{\"picture\":1,\"x0\":0,\"y0\":0,\"x1\":7,\"y1\":1}]"),
    ];
    assert!(read(&json).is_ok());
    for (from, to) in changes {
        let changed = json.replacen(from, to, 1);
        assert_ne!(changed, json, "{from}");
        assert!(read(&changed).is_err(), "{to}");
    }
    let long = json.replacen(
        "\"impression\":\"\"",
        &format!("\"impression\":\"{}\"", "x".repeat(2001)),
        1,
    );
    assert!(matches!(read(&long), Err(AnswerError::Schema(_))));
    let many = json.replacen(
        "\"differential\":[]",
        &format!("\"differential\":[{}\"\"]", "\"\",".repeat(8)),
        1,
    );
    assert!(matches!(read(&many), Err(AnswerError::Schema(_))));
}

/// A10: size and depth have limits, and nothing recurses without one.
#[test]
fn size_and_depth_are_bounded() {
    assert_eq!(read(&"x".repeat(TEXT_BYTES_MAX + 1)), Err(AnswerError::TooLong));
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(read(&deep), Err(AnswerError::TooDeep));
    let started = std::time::Instant::now();
    for text in [
        "{".repeat(TEXT_BYTES_MAX),
        "{ x".repeat(TEXT_BYTES_MAX / 3),
        "{}".repeat(TEXT_BYTES_MAX / 2),
        "{\"".repeat(TEXT_BYTES_MAX / 2),
    ] {
        assert!(read(&text).is_err());
    }
    assert!(started.elapsed() < std::time::Duration::from_secs(10), "{:?}", started.elapsed());
}

/// No part of what a model said stands in an error.
#[test]
fn errors_do_not_repeat_the_answer() {
    let secret = "Kowalski";
    let json = good();
    for text in [
        json.replacen("\"impression\":\"\"", &format!("\"impression\":[\"{secret}\"]"), 1),
        json.replacen("\"key\":\"pneumothorax\"", &format!("\"key\":\"{secret}\""), 1),
        json.replacen("\"confidence\":0.8", &format!("\"confidence\":\"{secret}\""), 1),
        json.replacen("\"confidence\":0.8", &format!("\"confidence\": {secret}"), 1),
        json.replacen("\"confidence\":0.8", &format!("\"{secret}\":0.8"), 1),
    ] {
        let error = read(&text).unwrap_err().to_string();
        assert!(!error.contains(secret), "{error}");
    }
}

#[test]
fn the_wire_schema_has_no_bounds_and_the_same_names() {
    let full = schema(&testing::profile("ct_head"));
    let wire = wire_schema(&full).to_string();
    for word in ["maxLength", "maxItems", "minimum", "maximum", "$schema"] {
        assert!(full.to_string().contains(word) && !wire.contains(word), "{word}");
    }
    assert!(wire.contains("subdural_hemorrhage") && wire.contains("\"other\""));
    // Strict mode wants every property required and no other allowed.
    fn walk(node: &Value) {
        if let Some(properties) = node["properties"].as_object() {
            assert_eq!(node["required"].as_array().unwrap().len(), properties.len());
            assert_eq!(node["additionalProperties"], false);
            properties.values().for_each(walk);
        }
        if node["items"].is_object() {
            walk(&node["items"]);
        }
    }
    walk(&wire_schema(&full));
}

/// A model writes in the order of the schema: what it sees before how sure it is of all of it.
#[test]
fn the_schema_keeps_the_order_of_its_properties() {
    let schema = wire_schema(&schema(&testing::profile("chest_xray"))).to_string();
    let at = |name: &str| schema.find(&format!("\"{name}\":{{")).unwrap();
    let order = ["findings", "key", "presence", "probability", "impression", "confidence"];
    assert!(order.is_sorted_by_key(|name| at(name)), "{schema}");
}

#[test]
fn a_gateway_is_held_to_closed_schemas_alone() {
    let closed = |schema: &str| is_closed(&serde_json::from_str(schema).unwrap());
    assert!(is_closed(&wire_schema(&schema(&testing::profile("chest_xray")))));
    for (text, is) in [
        (
            r#"{"type": "object", "properties": {"a": {}}, "required": ["a"], "additionalProperties": false}"#,
            true,
        ),
        (
            r#"{"type": "object", "properties": {"a": {}}, "required": [], "additionalProperties": false}"#,
            false,
        ),
        (r#"{"type": "object", "properties": {"a": {}}, "required": ["a"]}"#, false),
        (r#"{"type": "object"}"#, false),
        (r#"{"type": "array", "items": {"type": "string"}}"#, true),
        (r#"{"type": "array", "items": {"type": "object"}}"#, false),
    ] {
        assert_eq!(closed(text), is, "{text}");
    }
}
