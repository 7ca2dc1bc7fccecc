//! What leaves the building: which pixels may, and a record of every request before it goes.

use async_trait::async_trait;
use sha2::Digest as _;
use sha2::Sha256;

use crate::analysis::AnalyzeError;
use crate::analysis::config::Kind;
use crate::analysis::plan::Route;
use crate::analysis::prompt::Prompt;
use crate::analysis::provider::Asked;
use crate::analysis::provider::Provider;
use crate::analysis::provider::Question;
use crate::analysis::provider::keys::KeyView;
use crate::analysis::provider::onnx::manifest::Manifest;
use crate::deid;
use crate::deid::Leaving;
use crate::domain::assessment::Algorithm;
use crate::domain::picture::Picture;
use crate::domain::picture::PictureRef;
use crate::domain::study::Study;
use crate::domain::text;
use crate::pipeline::record::PicturesRecord;
use crate::pipeline::way::Kit;
use crate::pipeline::way::Way;
use crate::store::event::Event;

/// Which pixels may be shown to whom the plan asks.
pub fn of_study(kit: &Kit, study: &Study, route: &Route) -> Leaving {
    // Those that stand in for the first are not further out than it.
    let Route::Gateway { name, .. } = route else { return Leaving::default() };
    let gateway = kit.analysis.gateways.get(name);
    match gateway {
        // It puts out numbers for what it was made for: no text changes what it does.
        Some(gateway) if gateway.kind == Kind::Onnx => Leaving::default(),
        Some(gateway) if gateway.is_inside() => deid::staying(&study.instances, &kit.deid),
        Some(_) | None => deid::leaving(&study.instances, &kit.deid),
    }
}

/// Why these pictures, made of what may be shown, may not be shown after all.
pub fn held(leaving: &Leaving, pictures: &[PictureRef]) -> Option<String> {
    let unsure = pictures.iter().filter(|picture| picture.unsure > 0).count();
    let all = pictures.len();
    leaving.held.clone().or_else(|| {
        (leaving.hold_unsure && unsure > 0).then(|| {
            format!(
                "{unsure} of {all} pictures may show text that cannot be read, and none is sent out"
            )
        })
    })
}

/// What a reader should know about text in pictures that were made to leave.
pub fn notes(pictures: &[PictureRef], as_they_are: u32) -> Vec<String> {
    let masked = pictures.iter().filter(|picture| picture.masked.is_some_and(|boxes| boxes > 0));
    let (masked, all) = (masked.count(), pictures.len());
    let unread = pictures.iter().filter(|picture| picture.unread > 0).count();
    let mut notes = Vec::new();
    if masked > 0 {
        notes.push(format!(
            "Text on {masked} of {all} pictures was masked before a model saw them; what lies under it was not read."
        ));
    }
    if unread > 0 {
        notes.push(format!(
            "Text as long as a sentence, in a script that is not read, stood on {unread} of {all} pictures and was masked: nobody can say whether it speaks to a model."
        ));
    }
    if as_they_are > 0 {
        notes.push(format!(
            "{as_they_are} images that may show a name were sent out as they are, by the configuration."
        ));
    }
    notes
}

/// A gateway that is asked about one study. Each request stands in the ledger before it goes: one
/// that failed may have arrived all the same.
pub struct OnRecord<'a> {
    pub way: &'a Way<'a>,
    /// Whether the pictures were made to be shown outside.
    pub for_outside: bool,
    pub provider: &'a dyn Provider,
}

impl<'a> OnRecord<'a> {
    pub fn new(
        way: &'a Way<'a>,
        made: &PicturesRecord,
        provider: &'a dyn Provider,
    ) -> OnRecord<'a> {
        OnRecord { way, for_outside: made.for_outside, provider }
    }

    /// The event that says what is about to leave, where it may.
    fn record(&self, prompt: &Prompt, pictures: &[Picture]) -> Result<Event, AnalyzeError> {
        let name = self.name();
        let wrong = |why: &str| AnalyzeError::Misconfigured {
            provider: name.to_owned(),
            why: why.to_owned(),
        };
        let gateway = self.way.kit.analysis.gateways.get(name);
        let gateway = gateway.ok_or_else(|| wrong("it is not in the configuration any more"))?;
        if !gateway.is_inside() && !self.for_outside {
            return Err(wrong("the pictures were made to stay inside the building"));
        }
        if !self.way.kit.analysis.may_be_where_it_is(gateway) {
            return Err(wrong("it is not in a region that the configuration allows"));
        }
        let host = gateway.host().map_err(|why| wrong(&why))?;
        let texts = [prompt.system.as_bytes(), prompt.user.as_bytes()];
        let mut digest = Sha256::new();
        texts.iter().for_each(|text| digest.update(text));
        let bytes = pictures.iter().map(|picture| picture.bytes.len());
        let bytes: usize = bytes.chain(texts.iter().map(|text| text.len())).sum();
        Ok(Event::SentOut {
            study_uid: self.way.study_uid.clone(),
            revision: self.way.revision,
            gateway: name.to_owned(),
            host,
            region: gateway.region.clone(),
            inside: gateway.is_inside(),
            pictures: digests(pictures),
            prompt: text::hex(&digest.finalize()),
            bytes: bytes as u64,
            at: self.way.kit.clock.now(),
        })
    }
}

/// Of what goes, and after a sheet of the pictures on it: those are kept.
fn digests(pictures: &[Picture]) -> Vec<String> {
    let all = pictures.iter().flat_map(|Picture { reference, .. }| {
        let tiles = reference.tiles.iter().map(|tile| &tile.picture.digest);
        std::iter::once(&reference.digest).chain(tiles)
    });
    all.cloned().collect()
}

#[async_trait]
impl Provider for OnRecord<'_> {
    fn name(&self) -> &str {
        self.provider.name()
    }

    fn model(&self) -> &str {
        self.provider.model()
    }

    fn algorithm(&self, model: &str) -> Algorithm {
        self.provider.algorithm(model)
    }

    fn admits(&self) -> Result<(), AnalyzeError> {
        self.provider.admits()
    }

    async fn check(&self) -> Result<(), AnalyzeError> {
        self.provider.check().await
    }

    fn draws(&self) -> bool {
        self.provider.draws()
    }

    fn key_views(&self) -> Vec<KeyView> {
        self.provider.key_views()
    }

    fn manifest(&self) -> Option<&Manifest> {
        self.provider.manifest()
    }

    async fn ask(&self, question: &Question<'_>) -> Asked {
        let record = self.admits().and_then(|()| self.record(question.prompt, question.pictures));
        let record = match record {
            Ok(record) => record,
            Err(error) => return Asked::not(error),
        };
        if let Err(error) = self.way.kit.store.commit(vec![record]).await {
            tracing::error!(%error, "what would be sent out cannot be recorded");
            return Asked::not(AnalyzeError::Unreachable {
                provider: self.name().to_owned(),
                why: "nothing is sent while it cannot be recorded".into(),
            });
        }
        self.provider.ask(question).await
    }
}
