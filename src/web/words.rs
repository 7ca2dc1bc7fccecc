//! The texts of the pages in four languages, and which of them a request wants.
//!
//! `templates/web/words/<language>.json` holds them; a template says `{{t "key" n=3}}`. What a person,
//! a model or the ledger wrote stays as it was written.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::Form;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::header;
use axum::middleware::Next;
use axum::response::IntoResponse as _;
use axum::response::Redirect;
use axum::response::Response;
use handlebars::Context;
use handlebars::Handlebars;
use handlebars::Helper;
use handlebars::HelperDef;
use handlebars::RenderContext;
use handlebars::RenderError;
use handlebars::RenderErrorReason;
use handlebars::ScopedJson;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

use crate::report;
use crate::report::Language;
use crate::web::access::login::own_path;
use crate::web::access::rights::Right;
use crate::web::access::sessions;

/// As the menu shows them, each in its own language.
pub const LANGUAGES: [(Language, &str); 4] = [
    (Language::En, "English"),
    (Language::Ko, "한국어"),
    (Language::Vi, "Tiếng Việt"),
    (Language::Zh, "中文"),
];

type Table = BTreeMap<String, String>;

static TABLES: LazyLock<[Table; 4]> = LazyLock::new(|| {
    [
        include_str!("../../templates/web/words/en.json"),
        include_str!("../../templates/web/words/ko.json"),
        include_str!("../../templates/web/words/vi.json"),
        include_str!("../../templates/web/words/zh.json"),
    ]
    .map(|json| serde_json::from_str(json).expect("built in, and read by a test"))
});

fn table(language: Language) -> &'static Table {
    let [en, ko, vi, zh] = &*TABLES;
    language.pick([en, ko, vi, zh])
}

/// What the pages of one request have to know of it.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    pub language: Language,
    /// Path and query, to come back to.
    pub path: String,
    /// Of who asks; none before that is known.
    pub rights: Vec<Right>,
}

tokio::task_local! {
    static ASKED: Asked;
}

/// Of the request that is being answered; in a thread of its own, [`Asked::within`] says it.
pub fn asked() -> Asked {
    ASKED.try_with(Clone::clone).unwrap_or_default()
}

/// Whether who asks may do this: what they may not is not offered.
pub fn may(right: &str) -> bool {
    asked().rights.iter().any(|own| own.word() == right)
}

impl Asked {
    pub async fn around<T>(self, work: impl Future<Output = T>) -> T {
        ASKED.scope(self, work).await
    }

    pub fn within<T>(self, work: impl FnOnce() -> T) -> T {
        ASKED.sync_scope(self, work)
    }
}

const COOKIE: &str = "prelim_language";
const COOKIE_DAYS: u32 = 400;

/// Notes for the pages which language they are in: as chosen, else as the browser says.
pub async fn choose(request: Request, next: Next) -> Response {
    let language = chosen(request.headers()).unwrap_or_else(|| accepted(request.headers()));
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    Asked { language, path, rights: Vec::new() }.around(next.run(request)).await
}

fn parse(name: &str) -> Option<Language> {
    let primary = name.split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase();
    LANGUAGES.iter().map(|(language, _)| *language).find(|known| known.as_str() == primary)
}

fn chosen(headers: &HeaderMap) -> Option<Language> {
    parse(sessions::value_of(headers, COOKIE)?)
}

/// The first of the best that we have (RFC 9110 12.5.4).
fn accepted(headers: &HeaderMap) -> Language {
    let wanted = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    let mut best = (0.0, Language::En);
    for entry in wanted.unwrap_or_default().split(',').take(32) {
        let mut parts = entry.split(';');
        let Some(language) = parse(parts.next().unwrap_or_default().trim()) else { continue };
        let weight = parts.find_map(|part| part.trim().strip_prefix("q=")?.parse::<f64>().ok());
        let weight = weight.unwrap_or(1.0);
        if weight > best.0 {
            best = (weight, language);
        }
    }
    best.1
}

#[derive(Deserialize)]
pub struct Wanted {
    language: String,
    #[serde(default)]
    next: String,
}

/// From the menu in the head of every page.
pub async fn set(Form(wanted): Form<Wanted>) -> Response {
    let next = own_path(Some(&wanted.next));
    let language = parse(&wanted.language).unwrap_or_default().as_str();
    let age_s = COOKIE_DAYS * 86_400;
    let cookie = format!("{COOKIE}={language}; Path=/; SameSite=Lax; HttpOnly; Max-Age={age_s}");
    let mut answer = Redirect::to(&next).into_response();
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        answer.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    answer
}

/// A text that is chosen where it is shown: `{{t phrase}}`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Phrase {
    phrase: String,
    values: BTreeMap<&'static str, Value>,
}

impl Phrase {
    pub fn new(key: impl Into<String>) -> Phrase {
        Phrase { phrase: key.into(), values: BTreeMap::new() }
    }

    /// What is the same in every language.
    pub fn plain(text: impl Into<String>) -> Phrase {
        Phrase::new("").with("text", text.into())
    }

    /// Fills a place; the number `n` decides between one and many.
    pub fn with(mut self, place: &'static str, value: impl Serialize) -> Phrase {
        self.values.insert(place, serde_json::to_value(value).unwrap_or_default());
        self
    }
}

impl From<&str> for Phrase {
    fn from(text: &str) -> Phrase {
        Phrase::plain(text)
    }
}

impl From<String> for Phrase {
    fn from(text: String) -> Phrase {
        Phrase::plain(text)
    }
}

impl Phrase {
    /// In the language of who asks.
    pub fn here(&self) -> String {
        said(asked().language, &serde_json::to_value(self).unwrap_or_default())
    }

    /// For programs.
    pub fn in_english(&self) -> String {
        said(Language::En, &serde_json::to_value(self).unwrap_or_default())
    }
}

/// A key without an entry is shown by its last part: a word of the ledger that has none.
fn say(language: Language, key: &str, values: &[(&str, &Value)]) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Object(_) => said(language, value),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let values: Vec<(&str, String)> = values.iter().map(|(name, v)| (*name, text(v))).collect();
    let values: Vec<(&str, &str)> = values.iter().map(|(name, v)| (*name, v.as_str())).collect();
    if key.is_empty() {
        return values.iter().find(|(name, _)| *name == "text").map_or("", |(_, v)| v).to_owned();
    }
    let table = table(language);
    let is_one = values.contains(&("n", "1"));
    let one = is_one.then(|| table.get(&format!("{key}.one"))).flatten();
    let found = one.or_else(|| table.get(key));
    match found {
        Some(found) => report::fill(found, &values),
        None => key.rsplit('.').next().unwrap_or(key).to_owned(),
    }
}

fn said(language: Language, phrase: &Value) -> String {
    let key = phrase.get("phrase").and_then(Value::as_str).unwrap_or_default();
    let values = phrase.get("values").and_then(Value::as_object);
    let values: Vec<(&str, &Value)> =
        values.into_iter().flatten().map(|(name, value)| (name.as_str(), value)).collect();
    say(language, key, &values)
}

fn derived(text: String) -> ScopedJson<'static> {
    ScopedJson::Derived(Value::String(text))
}

/// `{{t "level" key}}`, `{{t "images" n=count}}`, `{{t phrase}}`: parts of a key are put together.
pub struct Helping(pub Language);

impl HelperDef for Helping {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        h: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        let missing = || RenderErrorReason::ParamNotFoundForName("t", "a part of the key".into());
        let mut key = Vec::new();
        for param in h.params() {
            match param.value() {
                _ if param.is_value_missing() => return Err(missing().into()),
                value @ Value::Object(_) => return Ok(derived(said(self.0, value))),
                Value::String(part) => key.push(part.clone()),
                other => key.push(other.to_string()),
            }
        }
        let values: Vec<(&str, &Value)> =
            h.hash().iter().map(|(name, value)| (*name, value.value())).collect();
        Ok(derived(say(self.0, &key.join("."), &values)))
    }
}

/// `{{finding name}}`: the name of a finding in the language of the page, where we know one.
pub struct Naming(pub Language);

impl HelperDef for Naming {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        h: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        let english = h.param(0).and_then(|param| param.value().as_str()).unwrap_or_default();
        Ok(derived(report::finding_name(english, self.0)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn places(text: &str) -> BTreeSet<&str> {
        text.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect()
    }

    #[test]
    fn all_languages_say_the_same_things_with_the_same_places() {
        let english = table(Language::En);
        assert!(english.len() > 100);
        for (language, name) in LANGUAGES {
            for (key, text) in table(language) {
                let many = key.strip_suffix(".one").unwrap_or(key);
                let places_in_english = english.get(many).map(|text| places(text));
                let mut here = places(text);
                if key.ends_with(".one") {
                    here.insert("n");
                }
                assert_eq!(Some(here), places_in_english, "{name}: {key}");
                assert!(!text.trim().is_empty(), "{name}: {key}");
            }
            let missing: Vec<&String> = english
                .keys()
                .filter(|key| !key.ends_with(".one") && !table(language).contains_key(*key))
                .collect();
            assert!(missing.is_empty(), "{name}: {missing:?}");
        }
    }

    /// Each `t "key"` of the templates has its text; each `t "group" name` has at least one.
    #[test]
    fn every_text_that_a_template_names_is_there() {
        let keys: Vec<&String> = table(Language::En).keys().collect();
        let mut seen = 0;
        for entry in std::fs::read_dir("templates/web").unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.extension().is_none_or(|ending| ending != "hbs") {
                continue;
            }
            let source = std::fs::read_to_string(&path).unwrap();
            for (at, _) in source.match_indices("t \"") {
                if !source[..at].ends_with(['{', '(']) {
                    continue;
                }
                seen += 1;
                let rest = &source[at + 3..];
                let (key, after) = rest.split_once('"').unwrap();
                let next = after.trim_start();
                let is_group = !next.starts_with(['}', ')'])
                    && !next.split_once(['}', ')', ' ']).unwrap().0.contains('=');
                let found = match is_group {
                    true => keys.iter().any(|known| known.starts_with(&format!("{key}."))),
                    false => keys.iter().any(|known| *known == key),
                };
                assert!(found, "{}: {key}", path.display());
            }
        }
        assert!(seen > 100, "{seen}");
    }

    #[test]
    fn the_language_is_that_chosen_else_the_first_wanted_that_we_have() {
        let with = |name: &'static str, value: &'static str| {
            HeaderMap::from_iter([(
                header::HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )])
        };
        for (wanted, language) in [
            ("", Language::En),
            ("fr-FR, ko;q=0.8, en;q=0.7", Language::Ko),
            ("en;q=0.1, vi", Language::Vi),
            ("zh-TW", Language::Zh),
            ("de", Language::En),
        ] {
            assert_eq!(accepted(&with("accept-language", wanted)), language, "{wanted}");
        }
        assert_eq!(chosen(&with("cookie", "a=b; prelim_language=vi")), Some(Language::Vi));
        assert_eq!(chosen(&with("cookie", "prelim_language=xx")), None);
    }

    #[test]
    fn one_is_said_otherwise_than_many_where_the_language_does() {
        let images = |language, n: u32| {
            said(language, &serde_json::to_value(Phrase::new("images").with("n", n)).unwrap())
        };
        assert_eq!(
            (images(Language::En, 1), images(Language::En, 2)),
            ("1 image".into(), "2 images".into())
        );
        assert_eq!(images(Language::Ko, 1), "영상 1개");
        let unknown = serde_json::to_value(Phrase::new("event.of another version")).unwrap();
        assert_eq!(said(Language::Vi, &unknown), "of another version");
    }
}
