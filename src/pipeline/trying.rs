//! What would be done with a study, up to the moment before a model is asked: nothing is kept, nothing
//! leaves.

use std::path::Path;
use std::path::PathBuf;

use crate::analysis::plan;
use crate::analysis::plan::Plan;
use crate::analysis::plan::Route;
use crate::analysis::plan::explain;
use crate::analysis::plan::explain::Fit;
use crate::analysis::prompt;
use crate::analysis::prompt::Prompt;
use crate::deid;
use crate::dicom::storage_scu::Head;
use crate::domain::picture::Picture;
use crate::domain::profile::Profile;
use crate::domain::study::Excluded;
use crate::domain::study::Study;
use crate::domain::uid::SopInstanceUid;
use crate::pipeline::job::StepError;
use crate::pipeline::leaving;
use crate::pipeline::steps::unworked;
use crate::pipeline::way::Kit;
use crate::worker::Object;

/// What the files are, and what would be done with them.
pub struct Trial {
    pub study: Study,
    /// Files that are no instances of this study, and why.
    pub refused: Vec<String>,
    /// Name, title and fit of each profile.
    pub fits: Vec<(String, String, Fit)>,
    pub plan: Plan,
    pub asked: Option<Asked>,
}

/// What a model would be shown.
pub struct Asked {
    pub prompt: Prompt,
    pub pictures: Vec<Picture>,
    pub excluded: Vec<Excluded>,
    /// Whether they were made to leave the building.
    pub for_outside: bool,
    /// Why they would not leave it all the same.
    pub held: Option<String>,
    pub notes: Vec<String>,
}

/// Tries files as one study. They are parsed and drawn by worker processes.
///
/// # Errors
/// No worker can be had, or the profile's prompt cannot be made.
pub async fn try_files(kit: &Kit, folder: &Path, files: &[PathBuf]) -> Result<Trial, StepError> {
    let (mut objects, mut refused) = (Vec::new(), Vec::new());
    for (file, number) in files.iter().zip(1..) {
        match object(file) {
            Ok(object) => objects.push(object),
            Err(why) => refused.push(format!("{number}: {why}")),
        }
    }
    let (mut parsed, mut unreadable) = kit.pool.inspect(folder, objects).await.map_err(unworked)?;
    let Some(study_uid) = parsed.first().map(|first| first.study_uid.clone()) else {
        refused.extend(unreadable.drain(..).map(|one| one.reason));
        let why = refused.join("; ");
        return Err(StepError::lasting(format!(
            "No file is a DICOM instance that can be read: {why}"
        )));
    };
    let all = parsed.len();
    parsed.retain(|one| one.study_uid == study_uid);
    if parsed.len() < all {
        refused.push(format!("{} instances are of another study", all - parsed.len()));
    }
    let whole = Study::gather(study_uid, parsed, unreadable);
    let fits = explain::explain(&whole, &kit.profiles);
    let fits = fits.into_iter().map(|(one, fit)| (one.name.clone(), one.title.clone(), fit));
    let fits = fits.collect();
    let plan = plan::plan(&whole, &kit.profiles, &kit.analysis);
    let asked = match &plan {
        Plan::Read { profile, route, .. } => Some(ask(kit, folder, &whole, profile, route).await?),
        Plan::Hold { .. } | Plan::Review { .. } => None,
    };
    Ok(Trial { study: whole, refused, fits, plan, asked })
}

fn object(file: &Path) -> Result<Object, String> {
    let head = Head::read(file).map_err(|error| error.to_string())?;
    let sop_instance_uid =
        SopInstanceUid::parse(&head.sop_instance_uid).map_err(|error| error.to_string())?;
    let path = file.to_str().ok_or("its name is not UTF-8")?;
    Ok(Object { object: path.to_owned(), sop_instance_uid })
}

async fn ask(
    kit: &Kit,
    folder: &Path,
    whole: &Study,
    profile: &Profile,
    route: &Route,
) -> Result<Asked, StepError> {
    let (mut shown, mut excluded) = plan::readable(whole);
    let leaving = leaving::of_study(kit, &shown, route);
    let is_left_out =
        |sop: &SopInstanceUid| leaving.left_out.iter().any(|one| one.sop_instance_uid == *sop);
    shown.instances.retain(|instance| !is_left_out(&instance.sop_instance_uid));
    let made = kit.pool.pictures(folder, shown.clone(), &profile.pictures, &leaving.masks).await;
    let (pictures, undrawn) = made.map_err(unworked)?;
    excluded.extend(undrawn);
    excluded.extend(leaving.left_out.iter().cloned());
    let references: Vec<_> = pictures.iter().map(|picture| picture.reference.clone()).collect();
    let (mut context, _) = deid::context(&shown, None, Vec::new());
    let gateway = match route {
        Route::Gateway { name, .. } => kit.analysis.gateways.get(name),
        Route::Local | Route::Nobody { .. } => None,
    };
    if !gateway.is_some_and(|one| one.may_be_told(kit.analysis.context.free_text)) {
        context = context.without_free_text();
    }
    let prompt = prompt::render(profile, &context, &shown, &references);
    Ok(Asked {
        prompt: prompt.map_err(StepError::lasting)?,
        notes: leaving::notes(&references, leaving.as_they_are),
        held: leaving::held(&leaving, &references),
        pictures,
        excluded,
        for_outside: leaving.outside,
    })
}
