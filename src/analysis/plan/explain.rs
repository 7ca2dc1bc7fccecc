//! Why a profile takes a study, or does not: for whoever writes profiles.

use serde::Serialize;

use crate::analysis::plan::Evidence;
use crate::analysis::plan::all_text;
use crate::analysis::plan::effective_modality;
use crate::analysis::plan::evidence;
use crate::analysis::plan::is_fallback;
use crate::analysis::plan::kinds;
use crate::analysis::plan::why_not_read;
use crate::analysis::words;
use crate::domain::profile::Profile;
use crate::domain::study::Instance;
use crate::domain::study::Study;

/// What the headers of a study say to one profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// By Body Part Examined.
    BodyPart,
    /// By words of the study's description.
    Study,
    /// By words of a series or its protocol.
    Series,
    /// It takes everything of its modalities.
    Modality,
    /// It takes what no other does.
    Fallback,
    /// None of its modalities is there.
    OtherModality,
    /// A word that it excludes is there.
    Excluded,
    /// Neither body part nor description are its own.
    OtherPart,
    /// There is nothing to read.
    NoImage,
}

/// One line for each profile that could read it, in the order in which they are given.
pub fn explain<'p>(study: &Study, profiles: &'p [Profile]) -> Vec<(&'p Profile, Fit)> {
    let images = kinds(study.instances.iter().filter(|one| why_not_read(one).is_none()));
    let readers = profiles.iter().filter(|profile| !profile.is_free());
    readers.map(|profile| (profile, fit(profile, study, &images))).collect()
}

fn fit(profile: &Profile, study: &Study, images: &[(&Instance, usize)]) -> Fit {
    if images.is_empty() {
        return Fit::NoImage;
    }
    let best = images.iter().filter_map(|(image, _)| evidence(profile, image, study)).max();
    match best {
        Some(Evidence::BodyPart) => Fit::BodyPart,
        Some(Evidence::Study) => Fit::Study,
        Some(Evidence::Series) => Fit::Series,
        Some(Evidence::Modality) if is_fallback(profile) => Fit::Fallback,
        Some(Evidence::Modality) => Fit::Modality,
        None => {
            let matches = &profile.matches;
            let of_modality = |image: &&Instance| {
                let modality = effective_modality(image, study);
                let mut listed = matches.modalities.iter();
                matches.modalities.is_empty()
                    || listed.any(|one| one.eq_ignore_ascii_case(&modality))
            };
            let mut close = images.iter().map(|(image, _)| *image).filter(of_modality).peekable();
            let is_other = close.peek().is_none();
            let excluded = |image: &Instance| {
                words::has_any(&all_text(image, study), &matches.not_descriptions)
            };
            match (is_other, close.any(excluded)) {
                (true, _) => Fit::OtherModality,
                (false, true) => Fit::Excluded,
                (false, false) => Fit::OtherPart,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::plan::Plan;
    use crate::analysis::plan::plan;
    use crate::domain::sample;

    #[test]
    fn the_profile_that_is_chosen_fits_and_those_of_other_modalities_do_not() {
        let study = sample::positive_chest().study;
        let profiles = crate::analysis::profile::load(None).unwrap();
        let Plan::Read { profile, .. } = plan(&study, &profiles, &Default::default()) else {
            panic!("a chest X-ray is read");
        };
        let fits = explain(&study, &profiles);
        let of = |name: &str| fits.iter().find(|(one, _)| one.name == name).unwrap().1;
        assert!(matches!(of(&profile.name), Fit::BodyPart | Fit::Study | Fit::Series));
        assert!(fits.iter().any(|(_, fit)| *fit == Fit::OtherModality), "{fits:?}");
        assert!(fits.iter().any(|(_, fit)| *fit == Fit::Fallback), "{fits:?}");
    }
}
