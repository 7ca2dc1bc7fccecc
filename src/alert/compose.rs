//! The words of an alert, from handlebars templates in `templates/email`.

use handlebars::Handlebars;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::alert::Alert;
use crate::alert::Config;
use crate::alert::address;
use crate::domain::alert::Kind;
use crate::domain::assessment::Assessment;
use crate::domain::assessment::Disputed;
use crate::domain::finding::Finding;
use crate::domain::finding::Severity;
use crate::domain::message::InlinePicture;
use crate::domain::message::Message;
use crate::domain::picture::ImageRef;
use crate::domain::picture::PictureRef;
use crate::domain::study::Instance;
use crate::domain::study::Study;
use crate::domain::text;
use crate::domain::uid::StudyUid;
use crate::domain::urgency::Urgency;

const TEXT: &str = include_str!("../../templates/email/alert.txt.hbs");
const HTML: &str = include_str!("../../templates/email/alert.html.hbs");

/// Phones on call have small mailboxes.
const PICTURE_BYTES_MAX: usize = 2_000_000;
const IMAGES_MAX: usize = 5;

#[derive(Debug, thiserror::Error)]
#[error("the alert's template cannot be used: {0}")]
pub struct ComposeError(#[from] Box<handlebars::RenderError>);

/// What one person is told of one alert, and what it is made of.
pub struct Telling<'a> {
    pub alert: &'a Alert,
    pub assessment: &'a Assessment,
    pub channel: &'a str,
    /// 0 for those who hear first.
    pub level: u32,
    /// Why it comes to those who hear later.
    pub why: &'a str,
    /// Why a later reading does not bear it out.
    pub doubt: Option<&'a str>,
    /// The key picture with its encoded bytes.
    pub picture: Option<(&'a PictureRef, &'a [u8])>,
    /// Where it is answered, without an identity; none where people cannot reach the node.
    pub answer_url: Option<String>,
    /// When the last image came.
    pub last_image_at: Option<Timestamp>,
    pub now: Timestamp,
    pub config: &'a Config,
    /// Of the people who read it.
    pub zone: &'a TimeZone,
}

#[derive(Serialize)]
struct Words {
    state: &'static str,
    headline: String,
    examination: String,
    modality: String,
    revision: u32,
    patient: Option<String>,
    found_at: String,
    /// "4 minutes ago, 2 minutes after the last image".
    age: String,
    urgency: &'static str,
    answer_url: Option<String>,
    link: Option<String>,
    study_uid: String,
    is_drill: bool,
    why: String,
    doubt: String,
    review: Option<String>,
    /// Who said what of that on which the readers differ.
    disputed: Vec<String>,
    findings: Vec<FindingWords>,
    others: String,
    cid: Option<&'static str>,
    picture: String,
    model: String,
    notice: &'static str,
}

#[derive(Serialize)]
struct FindingWords {
    number: usize,
    name: String,
    urgency: &'static str,
    certainty: String,
    place: String,
    severity: &'static str,
    images: Vec<String>,
    description: String,
    recommendation: String,
}

/// The message: what, where, how sure, on which image, how long ago, what to do, by which model. It
/// names the patient only where the settings ask for it.
pub fn compose(telling: &Telling<'_>) -> Result<Message, ComposeError> {
    let Telling { alert, assessment: a, config, zone, .. } = *telling;
    let clean = Cleaner::new(a, config);
    let is_drill = alert.kind == Kind::Drill;
    let told: Vec<&Finding> =
        alert.findings.iter().filter_map(|id| a.findings.iter().find(|f| f.id == *id)).collect();
    let headline = clean.line(&headline(alert, &told, a));
    let examination = match alert.kind {
        Kind::Drill => "Drill".to_owned(),
        Kind::Finding | Kind::Review => clean.line(&a.examination),
    };
    let (inline, caption) = inline_picture(a, telling.picture, config);
    let words = Words {
        state: if is_drill { "DRILL" } else { "PRELIMINARY" },
        patient: config.include_patient_name.then(|| patient(a)),
        found_at: local(alert.found_at, zone),
        age: age(telling),
        modality: clean.line(&a.study.modalities().join(", ")),
        revision: a.revision,
        urgency: urgency(alert),
        answer_url: telling.answer_url.clone(),
        link: study_url(config, &a.study.study_uid).filter(|_| !is_drill),
        study_uid: a.study.study_uid.as_str().to_owned(),
        is_drill,
        why: clean.line(telling.why),
        doubt: telling.doubt.map(|why| clean.line(why)).unwrap_or_default(),
        review: review(a).filter(|_| !is_drill).map(|reason| clean.line(reason)),
        disputed: disputed(a)
            .filter(|_| !is_drill)
            .map(|one| clean.line(&one.in_words()))
            .collect(),
        findings: told
            .iter()
            .enumerate()
            .map(|(n, f)| finding(n + 1, f, &a.study, &clean))
            .collect(),
        others: clean.line(&others(a, alert)),
        cid: inline.as_ref().map(|_| CONTENT_ID),
        picture: clean.line(&caption),
        model: clean.line(&model(a)),
        notice: "The reading was made by software, no person has checked it. Read back and \
                 document critical results as your site prescribes.",
        headline: headline.clone(),
        examination: examination.clone(),
    };
    let mut templates = Handlebars::new();
    let html = templates.render_template(HTML, &words).map_err(Box::new)?;
    templates.register_escape_fn(handlebars::no_escape);
    let text = templates.render_template(TEXT, &words).map_err(Box::new)?;
    let first = first_id(alert);
    let (id, thread) = match telling.level {
        0 => (first, None),
        level => (format!("{first}-{level}"), Some(first)),
    };
    let again = if telling.level > 0 { "not answered yet: " } else { "" };
    Ok(Message {
        to: vec![address(telling.channel).to_owned()],
        subject: match alert.kind {
            Kind::Drill => format!("[Prelim DRILL] {again}{headline}"),
            Kind::Finding | Kind::Review => {
                let of = lower_first(&examination);
                format!("[Prelim PRELIMINARY] {again}{headline} — {of}")
            }
        },
        json: json(telling, &words, &told),
        text,
        html,
        picture: inline,
        attachments: Vec::new(),
        id,
        thread,
        date: alert.found_at,
        urgent: true,
    })
}

/// The same message for a server that does not take it with its picture: the same id, text and link.
pub fn without_picture(message: Message) -> Message {
    // The tag that shows it goes with it.
    let html = match (message.html.find("<img "), &message.picture) {
        (Some(from), Some(_)) => {
            let rest = &message.html[from..];
            let to = rest.find('>').map_or(rest.len(), |end| end + 1);
            format!("{}{}", &message.html[..from], &rest[to..])
        }
        (_, _) => message.html,
    };
    Message { picture: None, html, ..message }
}

/// Of the message that begins the thread of an alert.
pub fn first_id(alert: &Alert) -> String {
    format!("alert-{}", alert.id)
}

/// The same for programs. No identity but where the settings ask for it.
fn json(telling: &Telling<'_>, words: &Words, told: &[&Finding]) -> String {
    let alert = telling.alert;
    let kind = match (alert.kind, telling.level) {
        (Kind::Drill, _) => "alert.drill",
        (Kind::Finding | Kind::Review, 0) => "alert.raised",
        (Kind::Finding | Kind::Review, _) => "alert.escalated",
    };
    let findings: Vec<serde_json::Value> = told
        .iter()
        .zip(&words.findings)
        .map(|(finding, words)| {
            serde_json::json!({
                "name": words.name,
                "code": {"value": finding.concept.value, "scheme": finding.concept.scheme},
                "urgency": words.urgency,
                "probability": finding.probability,
                "place": words.place,
                "images": words.images,
            })
        })
        .collect();
    serde_json::json!({
        "type": kind,
        "timestamp": telling.now,
        "data": {
            "alert": alert.key,
            "kind": alert.kind,
            "urgency": alert.assessed(),
            "headline": words.headline,
            "examination": words.examination,
            "level": telling.level,
            "why": telling.why,
            "doubt": telling.doubt,
            "findings": findings,
            "review": words.review,
            "disputed": words.disputed,
            "found_at": alert.found_at,
            "last_image_at": telling.last_image_at,
            "answer_url": telling.answer_url,
            "study_url": words.link,
            "study_uid": words.study_uid,
            "revision": words.revision,
            "patient": words.patient,
            "model": words.model,
            "notice": "Preliminary and unverified: software output, not a diagnosis. It does not \
                       replace the call about a critical result.",
        },
    })
    .to_string()
}

/// How old the finding is when the message leaves, and how soon after the images it was made.
fn age(telling: &Telling<'_>) -> String {
    let found = telling.alert.found_at;
    let ago = format!("{} ago", span(found, telling.now));
    match telling.last_image_at.filter(|last| *last <= found) {
        Some(last) => format!("{ago}, {} after the last image", span(last, found)),
        None => ago,
    }
}

pub fn span(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.duration_since(from).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

const CONTENT_ID: &str = "key-picture";

/// "not assessed" where nobody can say how urgent it is: that is no low urgency.
fn urgency(alert: &Alert) -> &'static str {
    alert.assessed().map_or("not assessed", Urgency::as_str)
}

fn disputed(a: &Assessment) -> impl Iterator<Item = &Disputed> {
    a.outcome.disputed().iter()
}

fn headline(alert: &Alert, told: &[&Finding], a: &Assessment) -> String {
    let urgency = urgency(alert);
    let in_doubt: Vec<String> = disputed(a).map(|one| lower_first(&one.title())).collect();
    let names: Vec<String> = told.iter().map(|finding| lower_first(&finding.title())).collect();
    match (alert.kind, names.is_empty()) {
        (Kind::Drill, _) => "test of the alert chain, no patient".to_owned(),
        (Kind::Finding, false) => format!("{urgency}: {}", names.join("; ")),
        (Kind::Finding, true) => format!("{urgency}: raised by rule"),
        (Kind::Review, false) => format!("needs review ({urgency}): {}", names.join("; ")),
        (Kind::Review, true) if !in_doubt.is_empty() => {
            format!("needs review ({urgency}): disputed: {}", in_doubt.join("; "))
        }
        (Kind::Review, true) => "needs review: a person must look at this study".to_owned(),
    }
}

fn finding(number: usize, of: &Finding, study: &Study, clean: &Cleaner) -> FindingWords {
    let mut images: Vec<String> = Vec::new();
    let regions = of.regions.iter().map(|region| &region.image);
    for image in regions.chain(&of.evidence) {
        let text = clean.line(&image_words(image, study));
        if !images.contains(&text) && images.len() < IMAGES_MAX {
            images.push(text);
        }
    }
    FindingWords {
        number,
        name: clean.line(&of.title()),
        urgency: of.urgency.as_str(),
        certainty: match of.probability.filter(|p| p.is_finite()) {
            Some(p) => format!("{} according to the model", text::percent(p)),
            None => "the model gave no probability".to_owned(),
        },
        place: {
            let site = of.site.as_ref().map(|site| site.meaning.as_str());
            let parts = site.into_iter().chain([of.location.as_str()]);
            let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
            clean.line(&parts.join(", "))
        },
        severity: match of.severity {
            None => "",
            Some(Severity::Mild) => "mild",
            Some(Severity::Moderate) => "moderate",
            Some(Severity::Severe) => "severe",
        },
        images,
        description: clean.line(&of.description),
        recommendation: clean.line(&of.recommendation),
    }
}

/// "series 1, image 3 (PA), frame 2": as people count, without UIDs.
fn image_words(image: &ImageRef, study: &Study) -> String {
    let instance = study.instances.iter().find(|i| i.sop_instance_uid == image.sop_instance_uid);
    let number = |n: Option<i32>| n.map_or_else(|| "without number".to_owned(), |n| n.to_string());
    let series = number(instance.and_then(|i| i.series_number));
    let mut words =
        format!("series {series}, image {}", number(instance.and_then(|i| i.instance_number)));
    if let Some(view) = instance.map(|i| i.view_position.as_str()).filter(|view| !view.is_empty()) {
        words += &format!(" ({view})");
    }
    if let Some(frame) = image.frame {
        words += &format!(", frame {frame}");
    }
    words
}

fn review(a: &Assessment) -> Option<&str> {
    a.outcome.reason()
}

fn others(a: &Assessment, alert: &Alert) -> String {
    let rest = a.present().filter(|finding| !alert.findings.contains(&finding.id));
    rest.map(|finding| finding.title()).collect::<Vec<_>>().join("; ")
}

fn model(a: &Assessment) -> String {
    let by = match a.algorithm.manufacturer.as_str() {
        "" => String::new(),
        manufacturer => format!(", by {manufacturer}"),
    };
    format!("{}{by}", a.algorithm.label())
}

fn patient(a: &Assessment) -> String {
    let of = &a.study.patient;
    let parts = [of.name.display(), of.id.clone(), of.birth_date.clone(), of.sex.clone()];
    let known: Vec<String> = parts.iter().map(|p| one_line(p)).filter(|p| !p.is_empty()).collect();
    known.join(", ")
}

/// The page of a study; none where people cannot reach the node.
pub fn study_url(config: &Config, study_uid: &StudyUid) -> Option<String> {
    let base = config.base_url.trim_end_matches('/');
    (!base.is_empty()).then(|| format!("{base}/studies/{study_uid}"))
}

pub fn local(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S UTC%:z").to_string()
}

/// The picture, and its caption or why it is not there.
fn inline_picture(
    a: &Assessment,
    picture: Option<(&PictureRef, &[u8])>,
    config: &Config,
) -> (Option<InlinePicture>, String) {
    let Some((reference, bytes)) = picture.filter(|_| config.include_picture) else {
        return (None, String::new());
    };
    let uid = &reference.image.sop_instance_uid;
    let instance = a.study.instances.iter().find(|i| i.sop_instance_uid == *uid);
    if !config.include_patient_name && !instance.is_some_and(carries_no_text) {
        let why = "The picture is not in this message: its kind may carry burned-in names.";
        return (None, why.to_owned());
    }
    let media_type = match bytes {
        [0xff, 0xd8, ..] => "image/jpeg",
        [0x89, b'P', b'N', b'G', ..] => "image/png",
        _ => return (None, String::new()),
    };
    if bytes.len() > PICTURE_BYTES_MAX {
        return (None, "The picture is too large for this message.".to_owned());
    }
    let picture = InlinePicture {
        content_id: CONTENT_ID.into(),
        media_type: media_type.into(),
        bytes: bytes.to_vec(),
    };
    (Some(picture), format!("{}, not for diagnosis", image_words(&reference.image, &a.study)))
}

/// Pictures of ultrasound, photographs, screens and scans often show a name, and Burned In
/// Annotation is often missing there: without its explicit NO they stay here.
fn carries_no_text(instance: &Instance) -> bool {
    let usually_clean = ["CR", "DX", "CT", "MR", "MG", "PT", "NM"];
    match instance.burned_in_annotation.trim() {
        "NO" => true,
        "" => {
            usually_clean.contains(&instance.modality.as_str())
                && instance.conversion_type.is_empty()
        }
        _ => false,
    }
}

/// "Chest X-ray" becomes "chest X-ray", "CT head" stays.
pub fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}

/// Takes out of text that others wrote (a model, a header) what would name the patient.
struct Cleaner(Vec<String>);

impl Cleaner {
    fn new(a: &Assessment, config: &Config) -> Cleaner {
        if config.include_patient_name {
            return Cleaner(Vec::new());
        }
        let patient = &a.study.patient;
        let born = &patient.birth_date;
        let mut names =
            vec![patient.id.clone(), a.study.attributes.accession_number.clone(), born.clone()];
        if let (Some(y), Some(m), Some(d)) = (born.get(..4), born.get(4..6), born.get(6..8)) {
            names.push(format!("{y}-{m}-{d}"));
        }
        for group in [&patient.name.alphabetic, &patient.name.ideographic, &patient.name.phonetic] {
            let parts: Vec<&str> =
                group.split('^').map(str::trim).filter(|part| !part.is_empty()).collect();
            // A family name alone may be a word of the finding ("Long", "Mass").
            if let [family, given, ..] = parts[..] {
                for between in ["", " ", ", ", "^"] {
                    names.push(format!("{family}{between}{given}"));
                    names.push(format!("{given}{between}{family}"));
                }
            }
        }
        names.retain(|name| name.chars().count() >= 2);
        // Short numbers are everywhere ("12 mm"): an ID of so few digits tells nobody anything.
        names.retain(|name| name.len() >= 5 || !name.bytes().all(|b| b.is_ascii_digit()));
        names.sort_by_key(|name| std::cmp::Reverse(name.len()));
        Cleaner(names)
    }

    /// One line without control characters and without what names the patient.
    fn line(&self, text: &str) -> String {
        self.0.iter().fold(one_line(text), |text, name| replace(&text, name, "[removed]"))
    }
}

/// Replaces without regard to ASCII case.
fn replace(text: &str, what: &str, with: &str) -> String {
    let (lower, what) = (text.to_ascii_lowercase(), what.to_ascii_lowercase());
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    // ASCII lowercase keeps every byte position.
    while let Some(found) = lower[from..].find(&what) {
        out += &text[from..from + found];
        out += with;
        from += found + what.len();
    }
    out + &text[from..]
}

pub fn one_line(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let plain = |c: char| if c.is_control() || c == '\u{2028}' { ' ' } else { c };
    let cleaned: String = text.chars().filter(|&c| !turns(c)).map(plain).collect();
    cleaned.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(2000).collect()
}
