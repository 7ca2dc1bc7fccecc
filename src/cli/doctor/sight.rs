//! Whether a gateway's model sees what it is shown: asked for a number that stands in a picture of our
//! own making. Nothing of a patient is in it.

use std::time::Duration;

use serde_json::json;

use crate::analysis::AnalyzeError;
use crate::analysis::answer;
use crate::analysis::config::Gateway;
use crate::analysis::prompt::Prompt;
use crate::analysis::provider::Provider as _;
use crate::analysis::provider::Question;
use crate::analysis::provider::openai::OpenAi;
use crate::domain::picture::ImageRef;
use crate::domain::picture::Picture;
use crate::domain::picture::PictureFormat;
use crate::domain::picture::PicturePlan;
use crate::domain::picture::PictureRef;
use crate::domain::text;
use crate::domain::uid::SeriesUid;
use crate::domain::uid::SopClassUid;
use crate::domain::uid::SopInstanceUid;
use crate::imaging::glyphs;
use crate::imaging::picture;
use crate::imaging::window::Raster;

const WIDE: usize = 448;
const HIGH: usize = 224;
/// A model that has to be loaded first takes its time.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// Models that are named of those that a gateway has.
const NAMED: usize = 8;

/// Whether `name` can be asked, and sees.
///
/// # Errors
/// What was found, and what mends it.
pub async fn sees(name: &str, gateway: &Gateway) -> Result<String, (String, String)> {
    let at = format!("analysis.gateways.{name}");
    let provider = OpenAi::new(name, gateway, |_| 0)
        .map_err(|error| (error.to_string(), mend(&at, &error, &[])))?;
    let number = (rand::random::<u16>() % 9000 + 1000).to_string();
    let shown = [test_picture(&number).map_err(|why| (why, String::new()))?];
    let prompt = Prompt {
        system: "You read what stands in pictures.".into(),
        user: "Which number stands in the picture? Answer by the schema alone, with its digits."
            .into(),
        version: "doctor/1".into(),
        digest: String::new(),
    };
    let schema = answer::object(&[("number", json!({"type": "string"}))]);
    let question =
        Question { prompt: &prompt, pictures: &shown, schema: &schema, timeout: PATIENCE };
    match provider.ask(&question).await.said {
        Ok(said) => {
            let digits: String = said.text.chars().filter(char::is_ascii_digit).collect();
            let model = text::clean(&said.model, 64);
            match digits.contains(&number) {
                true => Ok(format!("{model} reads the number of a test picture").trim().to_owned()),
                false => Err((
                    format!("{model} answers, and does not read the number of a test picture")
                        .trim()
                        .to_owned(),
                    format!("{at}.model: does it see pictures, and does the server hand them on?"),
                )),
            }
        }
        Err(error) => {
            let models = provider.models().await;
            let is_unknown =
                !models.is_empty() && !models.iter().any(|one| is_same(one, &gateway.model));
            let found = match is_unknown {
                true => {
                    let some: Vec<&str> = models.iter().take(NAMED).map(String::as_str).collect();
                    format!("{error}; it has no model {}, but {}", gateway.model, some.join(", "))
                }
                false => error.to_string(),
            };
            let has = if is_unknown { models } else { Vec::new() };
            Err((found, mend(&at, &error, &has)))
        }
    }
}

/// Servers name a model with its maker before it, or a tag behind.
fn is_same(listed: &str, model: &str) -> bool {
    listed == model
        || listed.rsplit('/').next() == Some(model)
        || listed.split(':').next() == Some(model)
}

/// By the layer that broke.
fn mend(at: &str, error: &AnalyzeError, models: &[String]) -> String {
    if !models.is_empty() {
        return format!("{at}.model: one of those that it has");
    }
    match error {
        AnalyzeError::Untrusted { .. } => format!("{at}.ca_file, server_name: whom we trust"),
        AnalyzeError::Unreachable { .. } => {
            format!("{at}.url, proxy: name, route, port; does it run, is a firewall between?")
        }
        AnalyzeError::Refused { status: 401 | 403, .. } => {
            format!("{at}.api_key_file, key_header; prelim keys shows each key")
        }
        AnalyzeError::Refused { status: 407, .. } => format!("{at}.proxy_auth_file: user:password"),
        AnalyzeError::Refused { status: 404 | 405, .. } => {
            format!(
                "{at}.url: its base, often with /v1 at the end; {at}.model: as the server names it"
            )
        }
        AnalyzeError::Busy { status: 502..=504, .. } => {
            format!("{at}.url: what stands before the gateway reaches nothing behind it")
        }
        AnalyzeError::Busy { .. }
        | AnalyzeError::Resting { .. }
        | AnalyzeError::TimedOut { .. } => {
            "its log; is it overloaded, or still loading the model?".to_owned()
        }
        AnalyzeError::Refused { .. }
        | AnalyzeError::TooLarge { .. }
        | AnalyzeError::BadAnswer { .. }
        | AnalyzeError::Unreadable { .. }
        | AnalyzeError::Failed { .. }
        | AnalyzeError::NotCovered { .. }
        | AnalyzeError::Misconfigured { .. } => {
            format!("{at}: preset, body, body_without; what the server itself says")
        }
    }
}

fn test_picture(number: &str) -> Result<Picture, String> {
    let mut raster = Raster { width: WIDE, height: HIGH, samples: 1, pixels: vec![0; WIDE * HIGH] };
    glyphs::draw(&mut raster, number, 60.0, 50.0, 13.0);
    let plan = PicturePlan { format: PictureFormat::Png, ..PicturePlan::default() };
    let encoded = picture::encode(&raster, 1.0, &plan).map_err(|error| error.to_string())?;
    let image = ImageRef {
        sop_class_uid: SopClassUid::parse("1.2.840.10008.5.1.4.1.1.7")
            .map_err(|e| e.to_string())?,
        sop_instance_uid: SopInstanceUid::parse("2.25.1").map_err(|e| e.to_string())?,
        series_uid: SeriesUid::parse("2.25.2").map_err(|e| e.to_string())?,
        frame: None,
    };
    let reference = PictureRef {
        number: 1,
        image,
        window: "default".into(),
        width_px: encoded.width,
        height_px: encoded.height,
        source_columns: WIDE as u32,
        source_rows: HIGH as u32,
        file: String::new(),
        digest: String::new(),
        masked: None,
        unsure: 0,
        unread: 0,
        speaks: false,
        tiles: Vec::new(),
    };
    Ok(Picture { reference, media_type: "image/png", bytes: encoded.bytes })
}
