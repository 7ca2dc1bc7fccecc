//! Which profile, prompt and pictures a study would meet: files are tried, nothing is kept or sent.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::extract::FromRequest as _;
use axum::extract::Multipart;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use tokio::io::AsyncWriteExt as _;

use crate::analysis::plan::Plan;
use crate::analysis::plan::Route;
use crate::analysis::plan::explain::Fit;
use crate::pipeline::trying::Asked;
use crate::pipeline::trying::Trial;
use crate::web::Web;
use crate::web::page::Frame;
use crate::web::problem::Failure;
use crate::web::words::Phrase;

/// Files of one try.
const FILES_MAX: usize = 400;
const TIME: Duration = Duration::from_secs(120);
/// The pictures stand in the page itself: they are kept nowhere that a link could lead to.
const POLICY: &str = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; \
                      form-action 'self'; frame-ancestors 'self'";

/// Tries files in a folder of their own.
#[async_trait]
pub trait Trials: Send + Sync + 'static {
    /// # Errors
    /// Why they cannot be tried, in words for who sent them.
    async fn try_files(&self, folder: PathBuf, files: Vec<PathBuf>) -> Result<Trial, String>;
}

#[derive(Serialize)]
struct Page {
    frame: Frame,
    problem: String,
    trial: Option<TrialPart>,
}

#[derive(Serialize)]
struct TrialPart {
    modality: String,
    instances: usize,
    refused: Vec<String>,
    /// Key of what would be done: `read`, `hold` or `review`.
    outcome: &'static str,
    reason: String,
    profile: String,
    reader: Phrase,
    strategy: Vec<(&'static str, String)>,
    notes: Vec<String>,
    fits: Vec<FitPart>,
    asked: Option<AskedPart>,
}

#[derive(Serialize)]
struct FitPart {
    name: String,
    title: String,
    fit: Fit,
    chosen: bool,
    fits: bool,
}

#[derive(Serialize)]
struct AskedPart {
    system: String,
    user: String,
    version: String,
    digest: String,
    pictures: Vec<PicturePart>,
    excluded: Vec<String>,
    for_outside: bool,
    held: String,
}

#[derive(Serialize)]
struct PicturePart {
    number: u32,
    window: String,
    frame: Option<u32>,
    size: String,
    /// Boxes of text that were made black; none where nobody looked.
    masked: Option<u32>,
    data: String,
}

pub async fn show(State(web): State<Web>) -> Result<Response, Failure> {
    page(&web, None, String::new()).await
}

pub async fn take(State(web): State<Web>, request: Request) -> Result<Response, Failure> {
    let Ok(_place) = Arc::clone(&web.uploads).try_acquire_owned() else {
        return Err(Failure::busy("Too many uploads at one time.", 5));
    };
    let bad = || Failure::bad_request("Send multipart/form-data with files.");
    let mut multipart = Multipart::from_request(request, &()).await.map_err(|_| bad())?;
    // Emptied at a start, so that a crash leaves nothing.
    let incoming = web.node.store.data().join("incoming");
    let full = |error: std::io::Error| {
        tracing::error!(%error, "files to be tried cannot be written");
        Failure::new(StatusCode::INSUFFICIENT_STORAGE, "The files cannot be written to disk.")
    };
    let folder = tempfile::Builder::new().prefix("rules-").tempdir_in(incoming).map_err(full)?;
    let mut files = Vec::new();
    let receive = async {
        while let Some(mut field) = multipart.next_field().await.map_err(|_| bad())? {
            if field.name() != Some("file") {
                continue;
            }
            if files.len() >= FILES_MAX {
                let detail = format!("At most {FILES_MAX} files at a time.");
                return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
            }
            let path = folder.path().join(format!("{}.dcm", files.len()));
            let mut file = tokio::fs::File::create(&path).await.map_err(full)?;
            let mut size = 0;
            while let Some(chunk) = field.chunk().await.map_err(|_| bad())? {
                size += chunk.len();
                file.write_all(&chunk).await.map_err(full)?;
            }
            file.flush().await.map_err(full)?;
            // An empty form field is no file.
            if size > 0 {
                files.push(path);
            }
        }
        Ok(())
    };
    let late = |_| Failure::new(StatusCode::REQUEST_TIMEOUT, "That took too long.");
    tokio::time::timeout(TIME, receive).await.map_err(late)??;
    if files.is_empty() {
        return Err(bad());
    }
    let work = web.node.trials.try_files(folder.path().to_owned(), files);
    match tokio::time::timeout(TIME, work).await.map_err(late)? {
        Ok(trial) => page(&web, Some(part(trial)), String::new()).await,
        Err(problem) => page(&web, None, problem).await,
    }
}

async fn page(web: &Web, trial: Option<TrialPart>, problem: String) -> Result<Response, Failure> {
    let frame = web.read(|web| Ok(Frame::new(web, "rules", "rules"))).await?;
    let mut response = web.pages.render("rules", &Page { frame, problem, trial })?;
    let policy = HeaderValue::from_static(POLICY);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    Ok(response)
}

fn part(trial: Trial) -> TrialPart {
    let mut part = TrialPart {
        modality: trial.study.modalities().join(", "),
        instances: trial.study.instances.len(),
        refused: trial.refused,
        outcome: "read",
        reason: String::new(),
        profile: String::new(),
        reader: Phrase::default(),
        strategy: Vec::new(),
        notes: Vec::new(),
        fits: Vec::new(),
        asked: trial.asked.map(asked),
    };
    let mut chosen = String::new();
    match trial.plan {
        Plan::Read { profile, route, notes } => {
            chosen.clone_from(&profile.name);
            part.profile = format!("{} ({} {})", profile.title, profile.name, profile.version);
            part.notes = notes;
            part.reader = match route {
                Route::Local => Phrase::new("rules.local"),
                Route::Nobody { reason } => Phrase::plain(reason),
                Route::Gateway { name, then, strategy } => {
                    let several = [("panel", strategy.panel), ("shadow", strategy.shadow)];
                    let several = several.map(|(tier, names)| (tier, names.join(", ")));
                    let one = [
                        ("screen", strategy.screen),
                        ("third", strategy.third),
                        ("verify", strategy.verify),
                        ("then", then.join(", ")),
                    ];
                    let tiers = one.into_iter().chain(several);
                    part.strategy = tiers.filter(|(_, name)| !name.is_empty()).collect();
                    Phrase::new("rules.gateway").with("name", name)
                }
            };
        }
        Plan::Hold { reason } => (part.outcome, part.reason) = ("hold", reason),
        Plan::Review { reason } => (part.outcome, part.reason) = ("review", reason),
    }
    let fit = |(name, title, fit): (String, String, Fit)| FitPart {
        chosen: name == chosen,
        fits: !matches!(fit, Fit::OtherModality | Fit::Excluded | Fit::OtherPart | Fit::NoImage),
        name,
        title,
        fit,
    };
    part.fits = trial.fits.into_iter().map(fit).collect();
    part.fits.sort_by_key(|fit| (!fit.chosen, !fit.fits));
    part
}

fn asked(asked: Asked) -> AskedPart {
    let pictures = asked.pictures.into_iter().map(|picture| PicturePart {
        number: picture.reference.number,
        frame: picture.reference.image.frame,
        size: format!("{} × {}", picture.reference.width_px, picture.reference.height_px),
        masked: picture.reference.masked,
        data: format!("data:{};base64,{}", picture.media_type, STANDARD.encode(&picture.bytes)),
        window: picture.reference.window,
    });
    AskedPart {
        pictures: pictures.collect(),
        excluded: asked.excluded.into_iter().map(|one| one.reason).chain(asked.notes).collect(),
        for_outside: asked.for_outside,
        held: asked.held.unwrap_or_default(),
        system: asked.prompt.system,
        user: asked.prompt.user,
        version: asked.prompt.version,
        digest: asked.prompt.digest.chars().take(12).collect(),
    }
}
