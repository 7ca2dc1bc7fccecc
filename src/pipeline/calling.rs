//! The asking of gateways about one study: with the pictures that each takes, and everything that
//! was asked taken down.

use std::time::Duration;

use futures_util::future::join_all;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::analysis;
use crate::analysis::AnalyzeError;
use crate::analysis::Reading;
use crate::analysis::Said;
use crate::analysis::answer;
use crate::analysis::answer::Answer;
use crate::analysis::answer::Written;
use crate::analysis::config::Kind;
use crate::analysis::cost;
use crate::analysis::prompt;
use crate::analysis::prompt::Prompt;
use crate::analysis::prompt::PromptError;
use crate::analysis::provider::Provider as _;
use crate::analysis::provider::Question;
use crate::analysis::strategy::Tier;
use crate::analysis::strategy::verify;
use crate::analysis::strategy::verify::Verdicts;
use crate::deid;
use crate::domain::call::Call;
use crate::domain::call::Tokens;
use crate::domain::context::ClinicalContext;
use crate::domain::picture::Picture;
use crate::domain::picture::PicturePlan;
use crate::domain::picture::PictureRef;
use crate::domain::priority::Priority;
use crate::domain::study::Study;
use crate::pipeline::canary;
use crate::pipeline::earlier;
use crate::pipeline::job::StepError;
use crate::pipeline::leaving::OnRecord;
use crate::pipeline::record;
use crate::pipeline::record::PicturesRecord;
use crate::pipeline::record::PlanRecord;
use crate::pipeline::record::Request;
use crate::pipeline::record::Run;
use crate::pipeline::record::Shown;
use crate::pipeline::steps;
use crate::pipeline::way::Way;
use crate::store::event::Event;

/// What one gateway said, or why not. The outer error is of this node.
pub type Answered<T> = Result<Result<T, AnalyzeError>, StepError>;

pub struct Caller<'a> {
    pub way: &'a Way<'a>,
    pub study: &'a Study,
    pub plan: &'a PlanRecord,
    /// Calling AE title of who sent it.
    source: String,
    /// It is wanted before others.
    pub is_pressing: bool,
    /// What else of the patient may leave.
    context: ClinicalContext,
    /// Where text stands that speaks to a model. No model is told of it.
    instructions: Vec<&'static str>,
    made: PicturesRecord,
    /// Of this try, after those of the tries before that gave an answer.
    runs: Vec<Run>,
    pub events: Vec<Event>,
    /// Who was to read it first and could not be asked.
    pub waits_for: Option<String>,
}

/// What is said with these pictures.
type Wording<'w> =
    dyn Fn(&Caller<'_>, &ClinicalContext, &[PictureRef]) -> Result<Prompt, PromptError> + Sync + 'w;

/// One gateway's part, before it is taken down.
struct Part<T> {
    gateway: String,
    /// The pictures as it was shown them, on sheets where it takes only few.
    sent: Vec<PictureRef>,
    said: Result<Said<T>, AnalyzeError>,
    calls: Vec<Call>,
}

impl<T> Part<T> {
    /// Nothing was sent.
    fn not(gateway: &str, error: AnalyzeError) -> Part<T> {
        Part { gateway: gateway.to_owned(), sent: Vec::new(), said: Err(error), calls: Vec::new() }
    }
}

impl<'a> Caller<'a> {
    /// - `file`: where the runs are kept.
    pub fn begin(
        way: &'a Way<'a>,
        study: &'a Study,
        plan: &'a PlanRecord,
        file: &str,
    ) -> Result<Caller<'a>, StepError> {
        let runs: Vec<Run> = way.load_if_there(file)?.unwrap_or_default();
        let runs = runs.into_iter().filter(Run::is_answered).collect();
        let request: Request = way.load_if_there(record::REQUEST)?.unwrap_or_default();
        let notes = (!request.clinical_notes.is_empty()).then_some(request.clinical_notes.as_str());
        let (context, mut instructions) =
            deid::context(study, notes, earlier::readings(way, study)?);
        let made: PicturesRecord = way.load(record::PICTURES)?;
        if made.pictures.iter().any(|picture| picture.speaks) {
            instructions.push("the pixels");
        }
        let row = way.kit.store.study(way.study_uid).map_err(StepError::passing)?;
        let is_pressing = row.as_ref().is_some_and(|row| row.priority < Priority::Routine);
        let source = row.map_or_else(String::new, |row| row.calling_ae);
        Ok(Caller {
            way,
            study,
            plan,
            source,
            is_pressing,
            context,
            instructions,
            made,
            runs,
            events: Vec::new(),
            waits_for: None,
        })
    }

    /// Why a person must look whatever a model says: who writes to a model may do so where nobody
    /// finds it.
    pub fn review(&self) -> Option<String> {
        (!self.instructions.is_empty()).then(|| {
            let places = self.instructions.join(", ");
            format!("text that reads like an instruction to a model stands in {places}")
        })
    }

    /// Why no gateway may be asked.
    pub fn why_nobody(&self) -> Option<String> {
        let none = || "none of the images could be shown to a model".to_owned();
        self.made.held.clone().or_else(|| self.made.pictures.is_empty().then(none))
    }

    pub fn keep_runs(&mut self, file: &str) -> Result<(), StepError> {
        let bytes = serde_json::to_vec_pretty(&self.runs).map_err(StepError::lasting)?;
        self.events.push(self.way.keep(file, "application/json", &bytes)?);
        Ok(())
    }

    /// Takes down why the last run was the last, or not.
    pub fn say(&mut self, why: &str) {
        if let Some(run) = self.runs.last_mut() {
            why.clone_into(&mut run.then);
        }
    }

    /// What one gateway says of the study, or has said in a try before.
    pub async fn reading(&mut self, tier: Tier, gateway: &str) -> Answered<Reading> {
        if let Some(run) = self.before(tier, gateway)
            && let Some(reading) = run.reading.clone()
        {
            return Ok(Ok(reading));
        }
        let schema = answer::schema(&self.plan.profile);
        let part = self.part((tier, gateway), &schema, &wording).await?;
        Ok(self.took(tier, part))
    }

    /// What several say of the study, asked at the same time.
    pub async fn readings(
        &mut self,
        gateways: &[&str],
    ) -> Result<Vec<Result<Reading, AnalyzeError>>, StepError> {
        let schema = answer::schema(&self.plan.profile);
        let asked = gateways.iter().map(|gateway| async {
            match self.runs.iter().any(|run| is_answer(run, Tier::Read, gateway)) {
                true => Ok(None),
                false => self.call((Tier::Read, gateway), &schema, &wording).await.map(Some),
            }
        });
        let mut all = Vec::new();
        for (gateway, part) in gateways.iter().zip(join_all(asked).await) {
            all.push(match part? {
                Some(part) if !matches!(part.said, Err(AnalyzeError::TooLarge { .. })) => {
                    self.took(Tier::Read, part)
                }
                // Who takes only smaller pictures is asked again, alone.
                Some(_) | None => self.reading(Tier::Read, gateway).await?,
            });
        }
        Ok(all)
    }

    /// What a verifier says of these findings.
    pub async fn verdicts(&mut self, gateway: &str, answer: &Answer) -> Answered<Verdicts> {
        if let Some(run) = self.before(Tier::Verify, gateway)
            && let Some(said) = &run.verdicts
        {
            return Ok(Ok(said.answer.clone()));
        }
        let claims = verify::claims(answer);
        let schema = verify::schema(claims.len());
        let to_refute = |caller: &Caller<'_>, context: &ClinicalContext, sent: &[PictureRef]| {
            let Caller { plan, study, .. } = caller;
            prompt::render_verify(&plan.profile, context, study, sent, &claims)
        };
        let part = self.part::<Verdicts>((Tier::Verify, gateway), &schema, &to_refute).await?;
        self.take_down(Tier::Verify, &part, |run, said| run.verdicts = Some(said));
        Ok(part.said.map(|said| said.answer))
    }

    /// What one gateway says by the schema of the profile.
    pub async fn object(&mut self, gateway: &str) -> Answered<Said<Value>> {
        if let Some(run) = self.before(Tier::Read, gateway)
            && let Some(said) = &run.object
        {
            return Ok(Ok(said.clone()));
        }
        let schema = self.schema()?;
        let part = self.part::<Value>((Tier::Read, gateway), &schema, &wording).await?;
        self.take_down(Tier::Read, &part, |run, said| run.object = Some(said));
        Ok(part.said)
    }

    /// What an answer looks like.
    fn schema(&self) -> Result<Value, StepError> {
        let profile = &self.plan.profile;
        match profile.is_free() {
            true => answer::free_schema(profile).map_err(StepError::lasting),
            false => Ok(answer::schema(profile)),
        }
    }

    /// The run of a try before, put last: `say` speaks of the last.
    fn before(&mut self, tier: Tier, gateway: &str) -> Option<&Run> {
        let at = self.runs.iter().position(|run| is_answer(run, tier, gateway))?;
        self.runs[at..].rotate_left(1);
        self.runs.last()
    }

    fn took(&mut self, tier: Tier, mut part: Part<Answer>) -> Result<Reading, AnalyzeError> {
        let kit = self.way.kit;
        let provider = kit.providers.get(&part.gateway);
        part.said = part.said.map(|reading| {
            let mut reading = reading.on_pictures(&part.sent);
            if let Some(manifest) = provider.and_then(|one| one.manifest()) {
                reading = reading.with_thresholds(manifest);
            }
            match kit.analysis.gateways.get(&part.gateway) {
                Some(gateway) => reading.calibrated(&gateway.calibration),
                None => reading,
            }
        });
        self.take_down(tier, &part, |run, said| run.reading = Some(said));
        part.said
    }

    fn take_down<T: Clone>(
        &mut self,
        tier: Tier,
        part: &Part<T>,
        put: impl FnOnce(&mut Run, Said<T>),
    ) {
        let failed = part.said.as_ref().err();
        let is_outside = matches!(failed, Some(AnalyzeError::NotCovered { .. }));
        match failed {
            Some(error) if is_outside => {
                tracing::debug!(gateway = part.gateway, %error, "not asked");
            }
            Some(error) => tracing::warn!(gateway = part.gateway, %error, "no answer"),
            None => {}
        }
        let mut run = Run {
            tier,
            gateway: part.gateway.clone(),
            at: self.way.kit.clock.now(),
            pictures: shown(&part.sent).map(Shown::of).collect(),
            calls: part.calls.clone(),
            reading: None,
            verdicts: None,
            object: None,
            failed: failed.map(ToString::to_string),
            is_outside,
            then: String::new(),
        };
        if let Ok(said) = &part.said {
            put(&mut run, said.clone());
        }
        self.runs.push(run);
    }

    /// Asks one gateway, with pictures made smaller until it takes them.
    async fn part<T: DeserializeOwned + Written>(
        &mut self,
        who: (Tier, &str),
        schema: &Value,
        wording: &Wording<'_>,
    ) -> Result<Part<T>, StepError> {
        let mut budget = self.plan.profile.pictures.clone();
        let edges = self.made.pictures.iter().map(|one| one.width_px.max(one.height_px));
        budget.edge_max_px = budget.edge_max_px.min(edges.max().unwrap_or(0));
        let mut calls = Vec::new();
        loop {
            let mut part = self.call(who, schema, wording).await?;
            calls.append(&mut part.calls);
            let smaller = match &part.said {
                Err(AnalyzeError::TooLarge { .. }) => analysis::smaller(&budget),
                _ => None,
            };
            let Some(smaller) = smaller else { return Ok(Part { calls, ..part }) };
            if !self.make_smaller(&smaller).await? {
                return Ok(Part { calls, ..part });
            }
            budget = smaller;
        }
    }

    /// What this gateway may be told of the patient.
    fn told(&self, gateway: &str) -> ClinicalContext {
        let config = &self.way.kit.analysis;
        let gateway = config.gateways.get(gateway);
        match gateway.is_some_and(|gateway| gateway.may_be_told(config.context.free_text)) {
            true => self.context.clone(),
            false => self.context.clone().without_free_text(),
        }
    }

    /// One question to one gateway.
    async fn call<T: DeserializeOwned + Written>(
        &self,
        (tier, gateway): (Tier, &str),
        schema: &Value,
        wording: &Wording<'_>,
    ) -> Result<Part<T>, StepError> {
        let (kit, profile) = (self.way.kit, &self.plan.profile);
        let (Some(provider), Some(config)) =
            (kit.providers.get(gateway), kit.analysis.gateways.get(gateway))
        else {
            let why = "it is not in the configuration any more".to_owned();
            let provider = gateway.to_owned();
            return Ok(Part::not(gateway, AnalyzeError::Misconfigured { provider, why }));
        };
        let pictures = self.pictures()?;
        let covered = match provider.manifest() {
            Some(manifest) => manifest.covered(self.study, pictures),
            None => Ok(pictures),
        };
        let pictures = match covered {
            Ok(pictures) => pictures,
            Err(why) => {
                let provider = gateway.to_owned();
                return Ok(Part::not(gateway, AnalyzeError::NotCovered { provider, why }));
            }
        };
        let pictures = kit.pool.sheets(pictures, config.pictures_max).await;
        let pictures = pictures.map_err(steps::unworked)?;
        let sent: Vec<PictureRef> = pictures.iter().map(|p| p.reference.clone()).collect();
        let prompt = wording(self, &self.told(gateway), &sent).map_err(StepError::lasting)?;
        let mut calls = Vec::new();
        let timeout = Duration::from_secs(profile.timeout_s);
        let question = Question { prompt: &prompt, pictures: &pictures, schema, timeout };
        let (now, on_record) =
            (kit.clock.now(), OnRecord::new(self.way, &self.made, provider.as_ref()));
        // What is on this machine costs nothing, and may have changed without another name.
        let cache = (config.kind == Kind::Openai).then_some(kit.answers.as_ref());
        let said = analysis::ask(&on_record, cache, question, now, &mut calls).await;
        for call in &mut calls {
            call.cost_micro = call.cost_micro.or_else(|| kit.analysis.cost_micro(call));
        }
        self.count(tier, &calls).await;
        Ok(Part { gateway: gateway.to_owned(), sent, said, calls })
    }

    /// In the ledger at once: what was paid is known also when this step fails.
    async fn count(&self, tier: Tier, calls: &[Call]) {
        let kit = self.way.kit;
        let at = kit.clock.now();
        let (modality, source) = self.kind();
        let asked = calls.iter().map(|call| Event::ModelAsked {
            study_uid: self.way.study_uid.clone(),
            revision: self.way.revision,
            tier: tier.as_str().to_owned(),
            modality: modality.to_owned(),
            source: source.to_owned(),
            call: call.clone(),
            day: cost::day(at, &kit.equipment.time_zone),
            at,
        });
        if let Err(error) = kit.store.commit(asked.collect()).await {
            tracing::error!(%error, "what a call cost could not be kept");
        }
        for call in calls.iter().filter(|call| tier == Tier::Read && !call.is_cached()) {
            if let Err(error) = canary::called(kit, call).await {
                tracing::error!(%error, "what a candidate did could not be kept");
            }
        }
    }

    /// Modality and source of the study, for budgets and sums.
    pub fn kind(&self) -> (&str, &str) {
        let modality = self.study.instances.first().map_or("", |one| one.modality.trim());
        (modality, &self.source)
    }

    /// What one reading by this gateway will cost, in millionths of the currency.
    pub fn estimate_micro(&self, gateway: &str) -> Result<u64, StepError> {
        let Some(price) = self.way.kit.analysis.price_of(gateway) else { return Ok(0) };
        let schema = self.schema()?;
        let prompt =
            wording(self, &self.context, &self.made.pictures).map_err(StepError::lasting)?;
        let pictures = self.pictures()?;
        let timeout = Duration::ZERO;
        let question = Question { prompt: &prompt, pictures: &pictures, schema: &schema, timeout };
        let tokens = Tokens { prompt: cost::tokens_of(&question), completion: cost::ANSWER_TOKENS };
        Ok(price.of(tokens, u32::try_from(pictures.len()).unwrap_or(u32::MAX)))
    }

    /// Whether there are pictures within this budget.
    async fn make_smaller(&mut self, budget: &PicturePlan) -> Result<bool, StepError> {
        let (made, written) = steps::make_pictures(self.way, self.study, self.plan, budget).await?;
        self.events.extend(written);
        let any = !made.pictures.is_empty();
        if any {
            self.made = made;
        }
        Ok(any)
    }

    fn pictures(&self) -> Result<Vec<Picture>, StepError> {
        let load = |reference: &PictureRef| {
            let bytes = self.way.load_bytes(&reference.file)?;
            let bytes = bytes.ok_or_else(|| StepError::lasting("a picture is gone"))?;
            let media_type = match reference.file.ends_with(".png") {
                true => "image/png",
                false => "image/jpeg",
            };
            Ok(Picture { reference: reference.clone(), media_type, bytes })
        };
        self.made.pictures.iter().map(load).collect()
    }
}

/// The profile's own.
fn wording(
    caller: &Caller<'_>,
    context: &ClinicalContext,
    sent: &[PictureRef],
) -> Result<Prompt, PromptError> {
    prompt::render(&caller.plan.profile, context, caller.study, sent)
}

/// The pictures of a request, also those on sheets.
fn shown(sent: &[PictureRef]) -> impl Iterator<Item = &PictureRef> {
    sent.iter().flat_map(|picture| {
        let tiles = picture.tiles.iter().map(|tile| &tile.picture);
        tiles.chain(picture.tiles.is_empty().then_some(picture))
    })
}

fn is_answer(run: &Run, tier: Tier, gateway: &str) -> bool {
    run.tier == tier && run.gateway == gateway && run.is_answered()
}
