//! What a reading rests on beside the findings: how much of the study was looked at, and with which
//! earlier reading it was compared.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde::Serialize;

use crate::domain::finding::Finding;
use crate::domain::finding::Presence;
use crate::domain::picture::PictureRef;
use crate::domain::study::Study;

/// Images of one series that were shown to a model, of those that it has. Frames count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookedAt {
    pub series_number: Option<i32>,
    pub shown: usize,
    pub of: usize,
}

impl LookedAt {
    /// Each series with images, in the order of the study.
    ///
    /// - `pictures`: as they were shown; a sheet counts as the pictures on it.
    pub fn of(study: &Study, pictures: &[PictureRef]) -> Vec<LookedAt> {
        let single = pictures.iter().flat_map(|picture| {
            let tiles = picture.tiles.iter().map(|tile| &tile.picture.image);
            tiles.chain(picture.tiles.is_empty().then_some(&picture.image))
        });
        let shown: BTreeSet<(&str, Option<u32>)> =
            single.map(|image| (image.sop_instance_uid.as_str(), image.frame)).collect();
        let mut all: Vec<(&str, LookedAt)> = Vec::new();
        for instance in study.instances.iter().filter(|instance| instance.has_pixels) {
            let frames = usize::try_from(instance.number_of_frames.max(1)).unwrap_or(1);
            let uid = instance.sop_instance_uid.as_str();
            let seen = shown.iter().filter(|(sop, _)| *sop == uid).count().min(frames);
            match all.iter_mut().find(|(series, _)| *series == instance.series_uid.as_str()) {
                Some((_, known)) => {
                    (known.shown, known.of) = (known.shown + seen, known.of + frames)
                }
                None => all.push((
                    instance.series_uid.as_str(),
                    LookedAt { series_number: instance.series_number, shown: seen, of: frames },
                )),
            }
        }
        all.into_iter().map(|(_, one)| one).collect()
    }

    pub fn is_part(&self) -> bool {
        self.shown < self.of
    }
}

/// An earlier reading by this software of the same patient.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// Study Date (DA) of the earlier study.
    pub date: String,
    /// The title of its profile.
    pub examination: String,
    /// What was present then.
    pub findings: Vec<Named>,
    /// None where the two are of different kinds, or this one was not read.
    pub change: Option<Change>,
}

/// A finding with its side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Named {
    pub key: String,
    /// "Pneumothorax, left".
    pub title: String,
}

/// By key and side; sizes are not compared.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Change {
    pub new: Vec<Named>,
    pub unchanged: Vec<Named>,
    /// Looked for now, and absent.
    pub gone: Vec<Named>,
    /// Present then; now nobody can say.
    pub open: Vec<Named>,
}

impl Named {
    fn of(finding: &Finding) -> Named {
        Named { key: finding.key.clone(), title: finding.title() }
    }
}

impl Change {
    /// - `rules_out`: whether all of the present study was looked at: else nothing is gone.
    pub fn between(then: &[Finding], now: &[Finding], rules_out: bool) -> Change {
        let is_same = |a: &Finding, b: &Finding| a.key == b.key && a.laterality == b.laterality;
        let present = |all: &[Finding]| -> Vec<Finding> {
            all.iter().filter(|f| f.presence == Presence::Present).cloned().collect()
        };
        let (then, seen) = (present(then), present(now));
        let mut change = Change::default();
        for finding in &seen {
            let list = match then.iter().any(|before| is_same(before, finding)) {
                true => &mut change.unchanged,
                false => &mut change.new,
            };
            list.push(Named::of(finding));
        }
        for before in then.iter().filter(|before| !seen.iter().any(|one| is_same(one, before))) {
            // Who says of a key that it is absent says so of both sides.
            let mut said = now.iter().filter(|one| one.key == before.key);
            let is_gone = rules_out && said.any(|one| one.presence == Presence::Absent);
            let list = if is_gone { &mut change.gone } else { &mut change.open };
            list.push(Named::of(before));
        }
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::sample;

    #[test]
    fn what_was_there_before_is_new_unchanged_gone_or_open_and_never_more_than_is_known() {
        let now = sample::positive_chest().findings;
        let [pneumothorax, consolidation, effusion] = &now[..] else { panic!("three") };
        let was = |finding: &Finding| Finding { presence: Presence::Present, ..finding.clone() };
        let then = [was(consolidation), was(effusion)];
        let titles = |all: &[Named]| all.iter().map(|one| one.title.clone()).collect::<Vec<_>>();
        let change = Change::between(&then, &now, true);
        assert_eq!(titles(&change.new), [pneumothorax.title()]);
        assert_eq!(titles(&change.unchanged), [consolidation.title()]);
        assert_eq!(titles(&change.gone), [effusion.title()]);
        assert!(change.open.is_empty());
        let part = Change::between(&then, &now, false);
        assert!(part.gone.is_empty(), "what was not looked at is not gone");
        assert_eq!(titles(&part.open), [effusion.title()]);
    }

    #[test]
    fn slices_are_counted_of_slices() {
        let a = sample::not_covered_ct();
        let looked = LookedAt::of(&a.study, &a.pictures);
        assert_eq!(looked, [LookedAt { series_number: Some(3), shown: 1, of: 28 }]);
        assert!(looked[0].is_part());
        let a = sample::positive_chest();
        assert!(LookedAt::of(&a.study, &a.pictures).iter().all(|one| !one.is_part()));
    }
}
