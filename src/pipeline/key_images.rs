//! Which images are shown with their findings, and the objects made of them: key images and
//! presentation states.

use crate::deliver::pacs::Artefact;
use crate::domain::assessment::Assessment;
use crate::domain::finding::Finding;
use crate::domain::key_image::Drawing;
use crate::domain::key_image::Mark;
use crate::domain::picture::ImageRef;
use crate::domain::picture::Window;
use crate::domain::study::Instance;
use crate::pipeline::composing::DICOM;
use crate::pipeline::composing::File;
use crate::pipeline::job::StepError;
use crate::pipeline::way::Way;
use crate::sr;
use crate::sr::Shown;
use crate::worker::WorkerError;

/// A reader looks at a handful; the report and the key object selection name all.
const IMAGES_MAX: usize = 12;
/// Uncompressed, of one study: two mammograms of each breast and more.
const BYTES_MAX: u64 = 160 << 20;

/// An image with what was found on it.
struct Selected<'a> {
    image: &'a ImageRef,
    instance: &'a Instance,
    findings: Vec<&'a Finding>,
}

/// Key images and presentation states of the present findings; nothing where there is none.
///
/// An image that cannot be drawn is left out: the reports name it, and they must not wait for it.
///
/// - `windows`: of the profile.
pub async fn make(
    way: &Way<'_>,
    a: &Assessment,
    windows: &[Window],
) -> Result<Vec<File>, StepError> {
    let node = &way.kit.equipment;
    let all = selected(a);
    let chosen = within_limits(&all);
    let (mut files, mut shown) = (Vec::new(), Vec::new());
    for (nth, one) in chosen.iter().enumerate() {
        let drawing = drawing(a, one, windows, nth + 1, all.len());
        let object = &one.instance.object;
        let drawn = match way.kit.pool.draw(way.kit.store.data(), object, drawing).await {
            Ok(drawn) => drawn,
            Err(error @ WorkerError::Start(_)) => {
                return Err(StepError::passing(error));
            }
            Err(error) => {
                tracing::warn!(%error, "a key image is left out");
                continue;
            }
        };
        let number = files.len() + 1;
        let object =
            sr::key_image(a, node, one.image, &drawn, number).map_err(StepError::lasting)?;
        files.push((Artefact::KeyImages.file(number), DICOM, object));
        let (image, aspect) = (one.image.clone(), drawn.aspect);
        shown.extend(drawn.grey.map(|grey| Shown { image, grey, aspect }));
    }
    let states = sr::presentation_states(a, node, &shown).map_err(StepError::lasting)?;
    let states = states.into_iter().enumerate();
    files.extend(states.map(|(nth, state)| (Artefact::Gsps.file(nth + 1), DICOM, state)));
    Ok(files)
}

/// The images with regions, in the order of the findings: the most urgent first. A finding without
/// a region is shown on the first image that it rests on.
fn selected(a: &Assessment) -> Vec<Selected<'_>> {
    let mut all: Vec<Selected<'_>> = Vec::new();
    for finding in a.present() {
        let regions = finding.regions.iter().map(|region| &region.image);
        let evidence = finding.evidence.iter().take(if finding.regions.is_empty() { 1 } else { 0 });
        for image in regions.chain(evidence) {
            let is_it = |i: &&Instance| i.sop_instance_uid == image.sop_instance_uid;
            let Some(instance) = a.study.instances.iter().find(is_it) else { continue };
            match all.iter_mut().find(|one| one.image.is_same(image)) {
                Some(one) if one.findings.iter().all(|known| known.id != finding.id) => {
                    one.findings.push(finding);
                }
                Some(_) => {}
                None => all.push(Selected { image, instance, findings: vec![finding] }),
            }
        }
    }
    all
}

fn within_limits<'a>(all: &'a [Selected<'a>]) -> &'a [Selected<'a>] {
    let mut bytes = 0;
    let fits = |one: &&Selected<'_>| {
        let of = one.instance;
        bytes += u64::from(of.rows) * u64::from(of.columns) * u64::from(of.samples_per_pixel);
        bytes <= BYTES_MAX
    };
    let count = all.iter().take(IMAGES_MAX).take_while(fits).count();
    &all[..count]
}

/// What stands on it: who says so, which image it is, what was found. No identity.
fn drawing(
    a: &Assessment,
    one: &Selected<'_>,
    windows: &[Window],
    nth: usize,
    of: usize,
) -> Drawing {
    let number =
        |name: &str, n: Option<i32>| n.map(|n| format!(", {name} {n}")).unwrap_or_default();
    let frame = one.image.frame.map(|n| format!(", frame {n}")).unwrap_or_default();
    let window = window(a, one.image, windows);
    let view = window.as_ref().map(|w| format!(", window {}", w.name)).unwrap_or_default();
    let which = format!(
        "Key image {nth} of {of}{}{}{frame}{view}",
        number("series", one.instance.series_number),
        number("image", one.instance.instance_number)
    );
    let regions = one.findings.iter().flat_map(|finding| {
        let here = finding.regions.iter().filter(|region| region.image.is_same(one.image));
        here.map(|r| Mark { region: [r.x0, r.y0, r.x1, r.y1], label: finding.id.clone() })
    });
    let mut below: Vec<String> = one.findings.iter().map(|finding| legend(finding, one)).collect();
    below.push("Unverified. Not for measuring.".into());
    Drawing {
        frame: one.image.frame.unwrap_or(1),
        marks: regions.filter(|mark| mark.region.iter().all(|edge| edge.is_finite())).collect(),
        above: vec![format!("AI, PRELIMINARY, {}", a.algorithm.label()), which],
        below,
        window,
    }
}

/// A name that cannot be drawn is in the report.
fn legend(finding: &Finding, one: &Selected<'_>) -> String {
    let mut line = finding.label();
    if !line.is_ascii() {
        line = format!("{}: see the report", finding.id);
    }
    if !finding.regions.iter().any(|region| region.image.is_same(one.image)) {
        line.push_str(" (no region)");
    }
    line
}

/// The window of the picture in which it was seen.
fn window(a: &Assessment, image: &ImageRef, windows: &[Window]) -> Option<Window> {
    let is_key = |number: u32| Some(number) == a.key_picture;
    let mut seen = a.pictures.iter().filter(|picture| picture.image.is_same(image));
    let first = seen.clone().next();
    let name = &seen.find(|picture| is_key(picture.number)).or(first)?.window;
    windows.iter().find(|window| window.name == *name).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::finding::Presence;
    use crate::domain::sample;

    #[test]
    fn the_images_of_present_findings_are_shown_the_most_urgent_first() {
        let mut a = sample::positive_chest();
        let all = selected(&a);
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].findings.iter().map(|f| &f.id[..]).collect::<Vec<_>>(), ["F1", "F2"]);
        let drawn = drawing(&a, &all[0], &[], 1, 1);
        assert_eq!(
            drawn.marks.iter().map(|mark| &mark.label[..]).collect::<Vec<_>>(),
            ["F1", "F2"]
        );
        assert_eq!(drawn.above[0], "AI, PRELIMINARY, chest-xray-pneumonia-paediatric 1.0.0");
        assert_eq!(drawn.above[1], "Key image 1 of 1, series 1, image 1");
        assert_eq!(drawn.below[0], "F1 Pneumothorax, left, 93%");
        let said = format!("{drawn:?}");
        for identity in ["Hong", "MRN-0042", "Gildong"] {
            assert!(!said.contains(identity), "{identity}");
        }
        // Without a region: on the image that it rests on, and the line says so.
        let lateral = sample::image_of(&a.study.instances[1]);
        a.findings[1].regions.clear();
        a.findings[1].evidence = vec![lateral];
        a.findings[1].concept.meaning = "Đông đặc phổi".into();
        let all = selected(&a);
        assert_eq!(all.len(), 2);
        let drawn = drawing(&a, &all[1], &[], 2, 2);
        assert_eq!(drawn.below[0], "F2: see the report (no region)");
        assert!(drawn.marks.is_empty());
        a.findings.iter_mut().for_each(|finding| finding.presence = Presence::Absent);
        assert!(selected(&a).is_empty(), "nothing to point to");
    }

    #[test]
    fn number_and_bytes_of_key_images_are_limited() {
        let mut a = sample::positive_chest();
        let one = a.study.instances[0].clone();
        let image = sample::image_of(&one);
        let region = a.findings[0].regions[0].clone();
        let clip = crate::domain::study::Instance { number_of_frames: 40, ..one };
        a.study.instances[0] = clip;
        a.findings[0].regions = (1..=40)
            .map(|n| crate::domain::finding::Region {
                image: ImageRef { frame: Some(n), ..image.clone() },
                ..region.clone()
            })
            .collect();
        assert_eq!(within_limits(&selected(&a)).len(), IMAGES_MAX);
        a.study.instances[0].rows = 8_000;
        a.study.instances[0].columns = 8_000;
        a.study.instances[0].samples_per_pixel = 1;
        assert_eq!(within_limits(&selected(&a)).len(), 2);
    }
}
