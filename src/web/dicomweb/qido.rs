//! QIDO-RS: searches (PS3.18 10.6).

use std::collections::BTreeSet;
use std::time::Duration;

use axum::Extension;
use axum::extract::Path;
use axum::extract::Query;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse as _;
use axum::response::Response;
use dicom_core::DataDictionary as _;
use dicom_core::Tag;
use dicom_core::VR;
use dicom_core::dictionary::DataDictionaryEntry as _;
use dicom_dictionary_std::StandardDataDictionary;
use dicom_dictionary_std::tags;
use serde_json::Value;
use serde_json::json;
use tokio::time::Instant;

use crate::domain::uid::SeriesUid;
use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::StudyUid;
use crate::web::Web;
use crate::web::access::Viewer;
use crate::web::dicomweb;
use crate::web::dicomweb::index;
use crate::web::dicomweb::index::Attributes;
use crate::web::dicomweb::index::Start;
use crate::web::dicomweb::index::StudyEntry;
use crate::web::dicomweb::index::name;
use crate::web::dicomweb::index::put;
use crate::web::dicomweb::media::Accept;
use crate::web::problem::Failure;

/// How long a search waits for the index, and looks for instances over all studies.
const PATIENCE: Duration = Duration::from_secs(5);
const SEARCH_TIME_MAX: Duration = Duration::from_secs(10);
const KEYS_MAX: usize = 64;
const VALUE_CHARS_MAX: usize = 4096;
/// PS3.18 8.3.4.2: the words of the standard.
const NOT_FUZZY: &str = "The fuzzymatching parameter is not supported. Only literal matching has \
                         been performed.";
const MORE: &str = "There are additional results that can be requested";
/// Attributes that say how a search is meant and match nothing (PS3.4 C.4.1.1.3.1): the character set
/// of the keys, level and view, and the zone of the times in it.
const MODIFIERS: [Tag; 4] = [
    tags::SPECIFIC_CHARACTER_SET,
    tags::QUERY_RETRIEVE_LEVEL,
    tags::QUERY_RETRIEVE_VIEW,
    tags::TIMEZONE_OFFSET_FROM_UTC,
];
const OTHER_ZONE: &str = "The timezone of the request is not applied: dates and times are matched as \
                          the studies say them";
const NOT_WHOLE: &str = "The index is being made: studies received lately may be missing";

/// What a search gives one result for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Study,
    Series,
    Instance,
}

type Pairs = Query<Vec<(String, String)>>;
type Answer = Result<Response, Failure>;

pub async fn studies(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    headers: HeaderMap,
    Query(pairs): Pairs,
) -> Answer {
    search(web, viewer, headers, pairs, Level::Study, None, None).await
}

pub async fn all_series(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    headers: HeaderMap,
    Query(pairs): Pairs,
) -> Answer {
    search(web, viewer, headers, pairs, Level::Series, None, None).await
}

pub async fn all_instances(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    headers: HeaderMap,
    Query(pairs): Pairs,
) -> Answer {
    search(web, viewer, headers, pairs, Level::Instance, None, None).await
}

pub async fn series(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    headers: HeaderMap,
    Path(study): Path<String>,
    Query(pairs): Pairs,
) -> Answer {
    search(web, viewer, headers, pairs, Level::Series, Some(study), None).await
}

pub async fn study_instances(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    headers: HeaderMap,
    Path(study): Path<String>,
    Query(pairs): Pairs,
) -> Answer {
    search(web, viewer, headers, pairs, Level::Instance, Some(study), None).await
}

pub async fn series_instances(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    headers: HeaderMap,
    Path((study, series)): Path<(String, String)>,
    Query(pairs): Pairs,
) -> Answer {
    search(web, viewer, headers, pairs, Level::Instance, Some(study), Some(series)).await
}

async fn search(
    web: Web,
    viewer: Viewer,
    headers: HeaderMap,
    pairs: Vec<(String, String)>,
    level: Level,
    study: Option<String>,
    series: Option<String>,
) -> Answer {
    let mut asked = Asked::parse(pairs)?;
    let accept = Accept::of(&headers, asked.accept.as_deref());
    dicomweb::json_is_accepted(&accept)?;
    let bad = |error: crate::domain::uid::UidError| Failure::bad_request(error.to_string());
    let study = study.map(|uid| StudyUid::parse(&uid)).transpose().map_err(bad)?;
    if let Some(uid) = series {
        let uid = SeriesUid::parse(&uid).map_err(bad)?;
        asked.keys.push(Key::new(tags::SERIES_INSTANCE_UID, uid.as_str()));
    }
    if let Some(uid) = &study {
        asked.keys.push(Key::new(tags::STUDY_INSTANCE_UID, uid.as_str()));
    }
    let results_max = web.node.config.dicomweb.results_max;
    let standard = match study {
        // A viewer asks for all of a study.
        Some(_) => results_max,
        None => web.node.config.dicomweb.results_default,
    };
    asked.limit = asked.limit_asked.unwrap_or(standard).min(results_max);
    asked.check(level)?;

    let dicomweb = &web.dicomweb;
    let (store, pool) = (&web.node.store, &dicomweb.pool);
    let whole = dicomweb.index.refresh(store, pool, Instant::now() + PATIENCE).await?;
    let base = dicomweb::base(&web, &headers);
    let found = Search { web: &web, asked: &asked, level, in_study: study.is_some(), base: &base };
    let (found, more) = found.run().await?;
    let what = match level {
        Level::Study => "studies",
        Level::Series => "series",
        Level::Instance => "instances",
    };
    if !found.is_empty() || study.is_some() {
        let count = found.len();
        let what = match &study {
            Some(_) => format!("DICOMweb search: {what}"),
            None => format!("DICOMweb search: {count} {what}"),
        };
        web.audit.look(study.as_ref(), &what, &viewer).await;
    }
    let mut warnings = Vec::new();
    let warning = |text: &str| HeaderValue::from_str(&format!("299 {base} \"{text}\""));
    let told = [
        (asked.fuzzy, NOT_FUZZY),
        (asked.is_in_other_zone(), OTHER_ZONE),
        (more, MORE),
        (!whole, NOT_WHOLE),
    ];
    for (_, text) in told.iter().filter(|(is, _)| *is) {
        warnings.extend(warning(text).ok());
    }
    let mut response = match found.is_empty() {
        true => StatusCode::NO_CONTENT.into_response(),
        false => {
            let kind = [(header::CONTENT_TYPE, dicomweb::DICOM_JSON)];
            let mut body = vec![b'['];
            body.extend(found.join(&b','));
            body.push(b']');
            (kind, body).into_response()
        }
    };
    for warning in warnings {
        response.headers_mut().append(HeaderName::from_static("warning"), warning);
    }
    Ok(response)
}

/// A search on its way.
struct Search<'a> {
    web: &'a Web,
    asked: &'a Asked,
    level: Level,
    in_study: bool,
    base: &'a str,
}

impl Search<'_> {
    /// Results as JSON, and whether there are more.
    async fn run(&self) -> Result<(Vec<Vec<u8>>, bool), Failure> {
        match self.level {
            Level::Study => self.studies().await,
            Level::Series | Level::Instance => self.below().await,
        }
    }

    async fn studies(&self) -> Result<(Vec<Vec<u8>>, bool), Failure> {
        let (asked, store) = (self.asked.clone(), self.web.node.store.clone());
        let (base, index) = (self.base.to_owned(), &self.web.dicomweb.index);
        let work = move |rows: &index::Rows| {
            let (mut found, mut skipped, mut more) = (Vec::new(), 0, false);
            let started = std::time::Instant::now();
            rows.walk(&asked.start(), &mut |entry: StudyEntry| {
                let over = started.elapsed() > SEARCH_TIME_MAX;
                if over || found.len() >= asked.limit {
                    more = true;
                    return Ok(false);
                }
                if !asked.matches(Level::Study, &entry.attributes) || !is_there(&store, &entry) {
                    return Ok(true);
                }
                if skipped < asked.offset {
                    skipped += 1;
                    return Ok(true);
                }
                let result = asked.study_result(&entry, &base);
                found.push(serde_json::to_vec(&result)?);
                Ok(true)
            })?;
            Ok((found, more))
        };
        index.with(work).await
    }

    /// Series or instances, study by study.
    async fn below(&self) -> Result<(Vec<Vec<u8>>, bool), Failure> {
        let index = &self.web.dicomweb.index;
        let asked = self.asked.clone();
        let store = self.web.node.store.clone();
        let mut start = asked.start();
        // An instance named alone is found by the store.
        if let (false, Some(sop)) = (self.in_study, asked.one(tags::SOP_INSTANCE_UID)) {
            let row =
                SopInstanceUid::parse(&sop).ok().map(|sop| store.instance(&sop)).transpose()?;
            let uid = row.flatten().map(|row| row.receipt.study_uid.to_string());
            start = Start::Studies(uid.into_iter().collect());
        }
        let matching = asked.clone();
        let studies: Vec<StudyEntry> = index
            .with(move |rows| {
                let mut found = Vec::new();
                rows.walk(&start, &mut |entry: StudyEntry| {
                    let matches = matching.matches(Level::Study, &entry.attributes);
                    if matches && is_there(&store, &entry) {
                        found.push(entry);
                    }
                    // Each has at least one result unless keys below leave it out.
                    Ok(found.len() < 100_000)
                })?;
                Ok(found)
            })
            .await?;
        let until = Instant::now() + SEARCH_TIME_MAX;
        let (mut found, mut skipped) = (Vec::new(), 0);
        for entry in studies {
            for result in self.of_study(&entry).await? {
                if found.len() >= asked.limit {
                    return Ok((found, true));
                }
                if skipped < asked.offset {
                    skipped += 1;
                    continue;
                }
                found.push(serde_json::to_vec(&result).map_err(|_| broken())?);
            }
            if Instant::now() > until {
                return Ok((found, true));
            }
        }
        Ok((found, false))
    }

    /// Matching series or instances of one study.
    async fn of_study(&self, entry: &StudyEntry) -> Result<Vec<Attributes>, Failure> {
        let (asked, base, dicomweb) = (self.asked, self.base, &self.web.dicomweb);
        let study = entry.study_uid.to_string();
        let of = study.clone();
        let mut series = dicomweb.index.with(move |rows| rows.series(&of)).await?;
        series.retain(|_, series| asked.matches(Level::Series, &series.attributes));
        if self.level == Level::Series {
            let mut order: Vec<_> = series.into_iter().collect();
            order.sort_by_key(|(_, entry)| number(&entry.attributes, tags::SERIES_NUMBER));
            let result = |(uid, of): (String, index::SeriesEntry)| {
                let mut result = match self.in_study {
                    true => asked.kept(Level::Study, &entry.attributes, false),
                    false => asked.study_result(entry, base),
                };
                result.extend(asked.kept(Level::Series, &of.attributes, true));
                let url = format!("{base}/studies/{study}/series/{uid}");
                put(&mut result, tags::RETRIEVE_URL, "UR", json!([url]));
                result
            };
            return Ok(order.into_iter().map(result).collect());
        }
        if series.is_empty() {
            return Ok(Vec::new());
        }
        let store = &self.web.node.store;
        let mut rows = dicomweb.index.instances(store, &dicomweb.pool, &entry.study_uid).await?;
        rows.retain(|(_, entry)| {
            series.contains_key(&entry.series_uid)
                && asked.matches(Level::Instance, &entry.attributes)
        });
        rows.sort_by_key(|(row, entry)| {
            let number = number(&entry.attributes, tags::INSTANCE_NUMBER);
            (entry.series_uid.clone(), number, row.order)
        });
        let in_series = asked.one(tags::SERIES_INSTANCE_UID).is_some() && self.in_study;
        let result = |(row, of): (crate::store::InstanceRow, index::InstanceEntry)| {
            let mut result = match self.in_study {
                true => asked.kept(Level::Study, &entry.attributes, false),
                false => asked.study_result(entry, base),
            };
            if let Some(series) = series.get(&of.series_uid) {
                result.extend(asked.kept(Level::Series, &series.attributes, !in_series));
            }
            result.extend(asked.kept(Level::Instance, &of.attributes, true));
            let (series, sop) = (&of.series_uid, &row.receipt.sop_instance_uid);
            let url = format!("{base}/studies/{study}/series/{series}/instances/{sop}");
            put(&mut result, tags::RETRIEVE_URL, "UR", json!([url]));
            put(&mut result, tags::INSTANCE_AVAILABILITY, "CS", json!(["ONLINE"]));
            let syntax = json!([row.receipt.transfer_syntax_uid]);
            put(&mut result, tags::AVAILABLE_TRANSFER_SYNTAX_UID, "UI", syntax);
            result
        };
        Ok(rows.into_iter().map(result).collect())
    }
}

fn broken() -> Failure {
    Failure::internal("the index for searches holds something else")
}

/// The store knows a study that the index has not forgotten yet.
fn is_there(store: &crate::store::Store, entry: &StudyEntry) -> bool {
    store.study(&entry.study_uid).is_ok_and(|row| row.is_some_and(|row| row.instances > 0))
}

fn number(attributes: &Attributes, tag: Tag) -> i64 {
    let value = attributes.get(&name(tag)).and_then(|a| a.get("Value")?.get(0)?.as_i64());
    value.unwrap_or(i64::MAX)
}

/// One attribute to match.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    /// Through sequences.
    path: Vec<Tag>,
    value: String,
}

impl Key {
    fn new(tag: Tag, value: &str) -> Key {
        Key { path: vec![tag], value: value.to_owned() }
    }

    fn vr(&self) -> VR {
        let last = self.path.last().copied().unwrap_or(Tag(0, 0));
        StandardDataDictionary.by_tag(last).map_or(VR::LO, |entry| entry.vr().relaxed())
    }

    /// Whether every value will do, also none (PS3.4 C.2.2.2.3).
    fn is_universal(&self) -> bool {
        self.value.is_empty() || self.value.bytes().all(|b| b == b'*')
    }

    fn matches(&self, attributes: &Attributes) -> bool {
        self.is_universal() || found_in(attributes, &self.path, &|value| self.fits(value))
    }

    fn fits(&self, value: &Value) -> bool {
        let (vr, wanted) = (self.vr(), self.value.as_str());
        if let Some(groups) = value.as_object() {
            let mut groups = groups.values().filter_map(Value::as_str);
            return groups.any(|group| person(wanted, group));
        }
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return false,
        };
        match vr {
            VR::UI => wanted.split([',', '\\']).any(|uid| uid.trim() == text),
            // Viewers say `ModalitiesInStudy=CT,MR`; no code holds a comma (PS3.5 6.2).
            VR::CS => wanted.split([',', '\\']).any(|code| wild(code.trim(), &text)),
            VR::DA | VR::TM | VR::DT => in_range(wanted, &text, vr),
            VR::DS | VR::IS | VR::US | VR::UL | VR::SS | VR::SL | VR::FL | VR::FD => {
                match (wanted.trim().parse::<f64>(), text.parse::<f64>()) {
                    (Ok(wanted), Ok(found)) => wanted == found,
                    _ => wanted == text,
                }
            }
            _ => wild(wanted, &text),
        }
    }
}

fn found_in(attributes: &Attributes, path: &[Tag], fits: &dyn Fn(&Value) -> bool) -> bool {
    let Some((tag, rest)) = path.split_first() else { return false };
    let values = attributes.get(&name(*tag)).and_then(|a| a.get("Value")?.as_array());
    let Some(values) = values else { return false };
    values.iter().any(|value| match (rest.is_empty(), value.as_object()) {
        (true, _) => fits(value),
        (false, Some(item)) => found_in(item, rest, fits),
        (false, None) => false,
    })
}

/// `*` any characters, `?` one (PS3.4 C.2.2.2.4).
fn wild(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, t) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// Names: without regard to case, and to components that are empty at the end.
fn person(wanted: &str, group: &str) -> bool {
    let plain = |text: &str| text.trim_end_matches(['^', ' ']).to_lowercase();
    let (wanted, group) = (plain(wanted), plain(group));
    wild(&wanted, &group)
}

/// `from-to`, `from-`, `-to` or one value; a time that is said in less digits is all of them.
fn in_range(wanted: &str, text: &str, vr: VR) -> bool {
    let within = |low: &str, high: &str| {
        let above = low.is_empty() || text >= low;
        above && (high.is_empty() || text <= high || text.starts_with(high))
    };
    let is_range = wanted.contains('-') && (vr != VR::DT || !is_offset(wanted));
    match wanted.split_once('-') {
        Some((low, high)) if is_range => within(low.trim(), high.trim()),
        _ if vr == VR::DA => wanted == text,
        _ => text.starts_with(wanted),
    }
}

/// A DT may end in an offset from UTC: `20200101120000-0500`.
fn is_offset(text: &str) -> bool {
    text.rsplit_once('-').is_some_and(|(before, offset)| {
        offset.len() == 4 && before.len() > 8 && !before.contains('-')
    })
}

/// What the query says.
#[derive(Debug, Clone, Default)]
struct Asked {
    keys: Vec<Key>,
    include: BTreeSet<String>,
    include_all: bool,
    /// As asked for; `limit` is what counts.
    limit_asked: Option<usize>,
    limit: usize,
    offset: usize,
    fuzzy: bool,
    /// Whether it says in which zone its times are.
    has_zone: bool,
    accept: Option<String>,
}

impl Asked {
    fn parse(pairs: Vec<(String, String)>) -> Result<Asked, Failure> {
        let mut asked = Asked::default();
        for (key, value) in pairs {
            let whole = |what: &str| {
                let found = value.trim().parse::<usize>();
                found.map_err(|_| Failure::bad_request(format!("{what} is not a number.")))
            };
            match key.as_str() {
                "limit" => asked.limit_asked = Some(whole("limit")?),
                "offset" => asked.offset = whole("offset")?,
                "fuzzymatching" => asked.fuzzy = value == "true",
                "accept" => asked.accept = Some(value),
                "includefield" => {
                    for field in value.split(',').map(str::trim) {
                        match field {
                            "all" => asked.include_all = true,
                            "" => {}
                            // What the index does not hold cannot be given; the rest can.
                            _ => asked.include.extend(tag_of(field).map(name)),
                        }
                    }
                }
                _ => asked.key(&key, value)?,
            }
        }
        Ok(asked)
    }

    fn key(&mut self, key: &str, value: String) -> Result<(), Failure> {
        let path: Option<Vec<Tag>> = key.split('.').map(tag_of).collect();
        let Some(path) = path else {
            // Parameters of others (`_=1234`, `orderby`) are not ours to judge; what looks like an
            // attribute and is none would give more than was asked for.
            let attribute = key.starts_with(|c: char| c.is_ascii_uppercase() || c.is_ascii_digit());
            let shown: String = key.chars().filter(|c| c.is_ascii_graphic()).take(64).collect();
            return match attribute {
                true => Err(Failure::bad_request(format!("'{shown}' is no attribute."))),
                false => Ok(()),
            };
        };
        if self.keys.len() >= KEYS_MAX || value.chars().count() > VALUE_CHARS_MAX || path.len() > 8
        {
            return Err(Failure::bad_request("The query is too long."));
        }
        if let [tag] = path[..]
            && MODIFIERS.contains(&tag)
        {
            self.has_zone |= tag == tags::TIMEZONE_OFFSET_FROM_UTC && !value.trim().is_empty();
            // Asked for is it all the same, as every attribute that is named.
            self.include.insert(name(tag));
            return Ok(());
        }
        let key = Key { path, value };
        let good = |text: &str| text.is_empty() || text.bytes().all(|b| b.is_ascii_digit());
        if key.vr() == VR::DA
            && !key.value.splitn(2, '-').all(|part| {
                let part = part.trim();
                good(part) && (part.is_empty() || part.len() == 8)
            })
            && !key.is_universal()
        {
            return Err(Failure::bad_request("A date is YYYYMMDD, a range YYYYMMDD-YYYYMMDD."));
        }
        let uid = |uid: &str| StudyUid::parse(uid.trim()).is_ok();
        if key.vr() == VR::UI && !key.is_universal() && !key.value.split([',', '\\']).all(uid) {
            return Err(Failure::bad_request("A UID is digits and dots, at most 64 characters."));
        }
        self.keys.push(key);
        Ok(())
    }

    /// Every key has to be one that the index holds at this level or above.
    fn check(&self, level: Level) -> Result<(), Failure> {
        let held = |key: &&Key| {
            let Some(first) = key.path.first() else { return false };
            let of_series = level != Level::Study
                && (index::SERIES.contains(first) || SERIES_COUNTED.contains(first));
            let of_instance = level == Level::Instance && index::INSTANCE.contains(first);
            let of_study = index::STUDY.contains(first) || STUDY_COUNTED.contains(first);
            of_study || of_series || of_instance
        };
        match self.keys.iter().find(|key| !key.is_universal() && !held(key)) {
            Some(key) => {
                let path: Vec<String> = key.path.iter().map(|tag| name(*tag)).collect();
                Err(Failure::bad_request(format!(
                    "This node does not match {} here: without it the answer would hold more than \
                     was asked for.",
                    path.join(".")
                )))
            }
            None => Ok(()),
        }
    }

    /// Whether a time that it asks for is in a zone that it names.
    fn is_in_other_zone(&self) -> bool {
        let is_time = |key: &Key| matches!(key.vr(), VR::DA | VR::TM | VR::DT);
        self.has_zone && self.keys.iter().any(|key| is_time(key) && !key.is_universal())
    }

    /// Matches the keys that belong to this level.
    fn matches(&self, level: Level, attributes: &Attributes) -> bool {
        let mine = |key: &&Key| key.path.first().is_some_and(|tag| level_of(*tag) == level);
        self.keys.iter().filter(mine).all(|key| key.matches(attributes))
    }

    /// The value of a key that is one plain value.
    fn one(&self, tag: Tag) -> Option<String> {
        let key = self.keys.iter().find(|key| key.path == [tag])?;
        let plain = !key.value.is_empty() && !key.value.contains(['*', '?', ',', '\\']);
        plain.then(|| key.value.clone())
    }

    /// Where to begin, so that few studies are looked at.
    fn start(&self) -> Start {
        let uids = self.keys.iter().find(|key| key.path == [tags::STUDY_INSTANCE_UID]);
        if let Some(key) = uids.filter(|key| !key.is_universal()) {
            let uids = key.value.split([',', '\\']).map(|uid| uid.trim().to_owned());
            return Start::Studies(uids.collect::<BTreeSet<_>>().into_iter().collect());
        }
        // Both are stored cut to what an index holds.
        let short = |value: &String| value.len() <= 64 && !value.contains('\0');
        if let Some(patient) = self.one(tags::PATIENT_ID).filter(short) {
            return Start::Patient(patient);
        }
        if let Some(number) = self.one(tags::ACCESSION_NUMBER).filter(short) {
            return Start::Accession(number);
        }
        let date = self.keys.iter().find(|key| key.path == [tags::STUDY_DATE]);
        match date.filter(|key| !key.is_universal()).map(|key| key.value.split_once('-')) {
            Some(Some((low, high))) => {
                let high = if high.trim().is_empty() { "9" } else { high.trim() };
                Start::Dates(low.trim().to_owned(), high.to_owned())
            }
            Some(None) => {
                let day = self.one(tags::STUDY_DATE).unwrap_or_default();
                Start::Dates(day.clone(), day)
            }
            None => Start::Dates(String::new(), "9".to_owned()),
        }
    }

    fn study_result(&self, entry: &StudyEntry, base: &str) -> Attributes {
        let mut result = self.kept(Level::Study, &entry.attributes, true);
        let url = format!("{base}/studies/{}", entry.study_uid);
        put(&mut result, tags::RETRIEVE_URL, "UR", json!([url]));
        put(&mut result, tags::INSTANCE_AVAILABILITY, "CS", json!(["ONLINE"]));
        result
    }

    /// What of the attributes of a level is given.
    ///
    /// - `standard`: with those that the standard's tables list (PS3.18 10.6.3-3 to -5).
    fn kept(&self, level: Level, attributes: &Attributes, standard: bool) -> Attributes {
        let tables = match level {
            Level::Study => STUDY_GIVEN,
            Level::Series => SERIES_GIVEN,
            Level::Instance => INSTANCE_GIVEN,
        };
        let uid = match level {
            Level::Study => tags::STUDY_INSTANCE_UID,
            Level::Series => tags::SERIES_INSTANCE_UID,
            Level::Instance => tags::SOP_INSTANCE_UID,
        };
        let mut names: BTreeSet<String> = self.include.clone();
        names.insert(name(uid));
        names.extend(self.keys.iter().filter_map(|key| key.path.first()).map(|tag| name(*tag)));
        if standard {
            names.extend(tables.iter().map(|tag| name(*tag)));
        }
        let all = standard && self.include_all;
        let kept = attributes.iter().filter(|(name, _)| all || names.contains(*name));
        kept.map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

/// Not of a header: counted.
const STUDY_COUNTED: &[Tag] = &[
    tags::MODALITIES_IN_STUDY,
    tags::SOP_CLASSES_IN_STUDY,
    tags::NUMBER_OF_STUDY_RELATED_SERIES,
    tags::NUMBER_OF_STUDY_RELATED_INSTANCES,
];
const SERIES_COUNTED: &[Tag] = &[tags::NUMBER_OF_SERIES_RELATED_INSTANCES];

/// Keywords of the attributes that a search can match, by the level that they belong to; a level
/// takes those above it too.
pub fn matched() -> [(&'static str, Vec<String>); 3] {
    let keyword = |tag: &Tag| {
        let known = StandardDataDictionary.by_tag(*tag);
        known.map_or_else(|| name(*tag), |entry| entry.alias().to_owned())
    };
    let of = |held: &[Tag], counted: &[Tag]| {
        let all = held.iter().chain(counted).filter(|tag| !MODIFIERS.contains(tag));
        all.map(keyword).collect()
    };
    [
        ("Study", of(index::STUDY, STUDY_COUNTED)),
        ("Series", of(index::SERIES, SERIES_COUNTED)),
        ("Instance", of(index::INSTANCE, &[])),
    ]
}

const STUDY_GIVEN: &[Tag] = &[
    tags::STUDY_DATE,
    tags::STUDY_TIME,
    tags::ACCESSION_NUMBER,
    tags::MODALITIES_IN_STUDY,
    tags::REFERRING_PHYSICIAN_NAME,
    tags::TIMEZONE_OFFSET_FROM_UTC,
    tags::STUDY_DESCRIPTION,
    tags::PATIENT_NAME,
    tags::PATIENT_ID,
    tags::PATIENT_BIRTH_DATE,
    tags::PATIENT_SEX,
    tags::STUDY_INSTANCE_UID,
    tags::STUDY_ID,
    tags::NUMBER_OF_STUDY_RELATED_SERIES,
    tags::NUMBER_OF_STUDY_RELATED_INSTANCES,
];

const SERIES_GIVEN: &[Tag] = &[
    tags::MODALITY,
    tags::SERIES_DESCRIPTION,
    tags::SERIES_INSTANCE_UID,
    tags::SERIES_NUMBER,
    tags::NUMBER_OF_SERIES_RELATED_INSTANCES,
    tags::PERFORMED_PROCEDURE_STEP_START_DATE,
    tags::PERFORMED_PROCEDURE_STEP_START_TIME,
    tags::REQUEST_ATTRIBUTES_SEQUENCE,
];

const INSTANCE_GIVEN: &[Tag] = &[
    tags::SOP_CLASS_UID,
    tags::SOP_INSTANCE_UID,
    tags::INSTANCE_NUMBER,
    tags::ROWS,
    tags::COLUMNS,
    tags::BITS_ALLOCATED,
    tags::NUMBER_OF_FRAMES,
];

fn level_of(tag: Tag) -> Level {
    let of_series = index::SERIES.contains(&tag) || tag == tags::NUMBER_OF_SERIES_RELATED_INSTANCES;
    match (of_series, index::INSTANCE.contains(&tag)) {
        (true, _) => Level::Series,
        (false, true) => Level::Instance,
        (false, false) => Level::Study,
    }
}

/// By keyword or as eight hexadecimal digits.
fn tag_of(text: &str) -> Option<Tag> {
    if text.len() == 8 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        let number = u32::from_str_radix(text, 16).ok()?;
        return Some(Tag((number >> 16) as u16, number as u16));
    }
    StandardDataDictionary.by_name(text).map(|entry| entry.tag())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, value: &str) -> Key {
        Key { path: name.split('.').map(|n| tag_of(n).unwrap()).collect(), value: value.into() }
    }

    fn attributes() -> Attributes {
        let all = json!({
            "00080020": {"vr": "DA", "Value": ["20240229"]},
            "00080030": {"vr": "TM", "Value": ["103015.5"]},
            "00080061": {"vr": "CS", "Value": ["CT", "SR"]},
            "00100010": {"vr": "PN", "Value": [
                {"Alphabetic": "Hong^Gildong", "Ideographic": "洪^吉洞"}]},
            "00100020": {"vr": "LO", "Value": ["AB*1"]},
            "0020000D": {"vr": "UI", "Value": ["1.2.3"]},
            "00200011": {"vr": "IS", "Value": [7]},
            "00400275": {"vr": "SQ", "Value": [{"00400009": {"vr": "SH", "Value": ["SPS1"]}}]},
        });
        all.as_object().unwrap().clone()
    }

    #[test]
    fn a_key_matches_by_the_rules_of_its_vr() {
        for (name, value, matches) in [
            ("StudyDate", "20240229", true),
            ("StudyDate", "20240228", false),
            ("StudyDate", "20240201-20240301", true),
            ("StudyDate", "20240301-", false),
            ("StudyDate", "-20240229", true),
            ("StudyDate", "", true),
            ("StudyTime", "1030", true),
            ("StudyTime", "1000-1030", true),
            ("StudyTime", "1031-", false),
            ("ModalitiesInStudy", "SR", true),
            ("ModalitiesInStudy", "MR", false),
            ("ModalitiesInStudy", "MR,SR", true),
            ("ModalitiesInStudy", "MR\\CT", true),
            ("ModalitiesInStudy", "MR,US", false),
            ("PatientName", "hong*", true),
            ("PatientName", "HONG^GILDONG", true),
            ("PatientName", "Hong^Gildong^^", true),
            ("PatientName", "洪*", true),
            ("PatientName", "Hong", false),
            ("PatientName", "*gil?ong", true),
            ("00100020", "AB*", true),
            ("PatientID", "ab*", false),
            ("PatientID", "AB?1", true),
            ("StudyInstanceUID", "1.2.4,1.2.3", true),
            ("StudyInstanceUID", "1.2.4\\1.2.3", true),
            ("StudyInstanceUID", "1.2", false),
            ("SeriesNumber", "07", true),
            ("RequestAttributesSequence.ScheduledProcedureStepID", "SPS1", true),
            ("00400275.00400009", "SPS2", false),
            ("AccessionNumber", "", true),
            ("AccessionNumber", "1", false),
        ] {
            assert_eq!(key(name, value).matches(&attributes()), matches, "{name}={value}");
        }
    }

    #[test]
    fn wild_cards_take_no_exponential_time() {
        let started = std::time::Instant::now();
        assert!(!wild(&"*a".repeat(500), &"a".repeat(499)));
        assert!(!wild(&("*a".repeat(50) + "b"), &"a".repeat(5000)));
        assert!(wild("a*b*c", "axxbyyc") && !wild("a*b*c", "axxbyy") && wild("*", ""));
        assert!(started.elapsed().as_secs() < 2);
    }

    fn parse(query: &[(&str, &str)]) -> Result<Asked, Failure> {
        let pairs = query.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Asked::parse(pairs.collect())
    }

    #[test]
    fn a_query_is_understood_or_refused() {
        let asked = parse(&[
            ("limit", "5"),
            ("offset", "2"),
            ("includefield", "00081030,SeriesDate"),
            ("PatientID", "X"),
            ("_", "123"),
            ("fuzzymatching", "true"),
        ])
        .unwrap();
        assert_eq!((asked.limit_asked, asked.offset, asked.fuzzy), (Some(5), 2, true));
        assert_eq!(asked.include.len(), 2);
        assert_eq!(asked.start(), Start::Patient("X".into()));
        assert!(asked.check(Level::Study).is_ok());
        for bad in [
            ("limit", "-1"),
            ("limit", "x"),
            ("PatientIdentifier", "1"),
            ("StudyDate", "2024-02-29"),
            ("StudyDate", "last week"),
            ("StudyInstanceUID", "../1"),
        ] {
            assert!(parse(&[bad]).is_err(), "{bad:?}");
        }
        // What says how the search is meant leaves nothing out.
        for (name, value) in [
            ("TimezoneOffsetFromUTC", "+0900"),
            ("00080201", "-0500"),
            ("SpecificCharacterSet", "ISO_IR 192"),
            ("QueryRetrieveLevel", "STUDY"),
            ("QueryRetrieveView", "CLASSIC"),
        ] {
            let asked = parse(&[(name, value), ("StudyDate", "20240229")]).unwrap();
            assert_eq!(asked.keys.len(), 1, "{name}");
            assert!(asked.check(Level::Study).is_ok(), "{name}");
            let is_zone = value.starts_with(['+', '-']);
            assert_eq!(asked.is_in_other_zone(), is_zone, "{name}");
        }
        assert!(!parse(&[("TimezoneOffsetFromUTC", "+0900")]).unwrap().is_in_other_zone());
        // Left out it would give more than was asked for.
        assert!(parse(&[("KVP", "120")]).unwrap().check(Level::Instance).is_err());
        assert!(parse(&[("Modality", "CT")]).unwrap().check(Level::Study).is_err());
        assert!(parse(&[("Modality", "CT")]).unwrap().check(Level::Series).is_ok());
    }

    #[test]
    fn a_search_begins_where_few_studies_are() {
        let start = |query: &[(&str, &str)]| parse(query).unwrap().start();
        assert_eq!(start(&[]), Start::Dates(String::new(), "9".into()));
        assert_eq!(
            start(&[("StudyDate", "20240101-")]),
            Start::Dates("20240101".into(), "9".into())
        );
        assert_eq!(
            start(&[("StudyDate", "20240101")]),
            Start::Dates("20240101".into(), "20240101".into())
        );
        assert_eq!(start(&[("PatientID", "A*")]), Start::Dates(String::new(), "9".into()));
        assert_eq!(start(&[("AccessionNumber", "7")]), Start::Accession("7".into()));
        assert_eq!(
            start(&[("StudyInstanceUID", "1.2,1.3")]),
            Start::Studies(vec!["1.2".into(), "1.3".into()])
        );
    }
}
