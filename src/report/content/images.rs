//! Which images a report names, and which it shows with their regions.

use std::collections::BTreeMap;

use crate::domain::picture::ImageRef;
use crate::domain::picture::PictureRef;
use crate::domain::study::Excluded;
use crate::domain::study::Instance;
use crate::domain::uid::SopInstanceUid;
use crate::report::content::Field;
use crate::report::content::LeftOut;
use crate::report::content::PICTURES_MAX;
use crate::report::content::PictureView;
use crate::report::content::ROWS_MAX;
use crate::report::content::RegionView;
use crate::report::content::Writer;
use crate::report::content::findings::in_one_line;
use crate::report::plain;
use crate::report::words::fill;

impl Writer<'_> {
    pub(super) fn materials(&self) -> Vec<Field> {
        let (w, study) = (&self.w, &self.a.study);
        let series: std::collections::BTreeSet<_> =
            study.instances.iter().map(|i| &i.series_uid).collect();
        let modalities: Vec<String> = study.modalities().iter().map(|m| plain::line(m)).collect();
        let received = fill(
            w.received_line,
            &[
                ("instances", &(study.instances.len() + study.unreadable.len()).to_string()),
                ("series", &series.len().to_string()),
                ("modalities", &self.given(modalities.join(", "))),
            ],
        );
        let shown: Vec<&ImageRef> = self.a.pictures.iter().map(|picture| &picture.image).collect();
        let not_excluded = shown.iter().filter(|image| {
            !self.a.excluded.iter().any(|out| out.sop_instance_uid == image.sop_instance_uid)
        });
        let label = if self.a.outcome.is_read() { w.analysed } else { w.pictured };
        let images = self.images(not_excluded.map(|image| &image.sop_instance_uid));
        let images = if images.is_empty() { w.no_image.to_owned() } else { images };
        vec![self.field(w.received, received), self.field(label, images)]
    }

    pub(super) fn left_out(&self) -> Vec<LeftOut> {
        let mut rows = Vec::new();
        for (title, excluded) in
            [(self.w.excluded, &self.a.excluded), (self.w.unreadable, &self.a.study.unreadable)]
        {
            let mut by_reason: BTreeMap<&str, Vec<&Excluded>> = BTreeMap::new();
            for one in excluded {
                by_reason.entry(&one.reason).or_default().push(one);
            }
            for (reason, those) in by_reason.into_iter().take(ROWS_MAX) {
                let images = self.images(those.iter().map(|one| &one.sop_instance_uid));
                rows.push(LeftOut { title, images, reason: self.given(plain::line(reason)) });
            }
        }
        rows
    }

    /// "series 1, instance 1; series 3, instance 1-28": instances by their numbers, those
    /// without one counted.
    pub(super) fn images<'b>(&self, uids: impl Iterator<Item = &'b SopInstanceUid>) -> String {
        let mut by_series: BTreeMap<Option<i32>, Vec<i32>> = BTreeMap::new();
        let mut unnumbered = 0;
        let mut seen = std::collections::BTreeSet::new();
        for uid in uids.filter(|uid| seen.insert(*uid)) {
            match self.instance(uid).map(|i| (i.series_number, i.instance_number)) {
                Some((series, Some(number))) => by_series.entry(series).or_default().push(number),
                Some((_, None)) | None => unnumbered += 1,
            }
        }
        let mut parts: Vec<String> = by_series
            .into_iter()
            .take(24)
            .map(|(series, numbers)| {
                let numbers = fill(self.w.instance, &[("n", &plain::ranges(numbers, 12))]);
                format!("{}, {numbers}", self.series(series))
            })
            .collect();
        if unnumbered > 0 {
            let n = unnumbered.to_string();
            parts.push(format!("{} {}", fill(self.w.instance, &[("n", &n)]), self.w.unnumbered));
        }
        parts.join("; ")
    }

    pub(super) fn series(&self, number: Option<i32>) -> String {
        let number = number.map_or_else(|| self.w.unnumbered.to_owned(), |n| n.to_string());
        fill(self.w.series, &[("n", &number)])
    }

    pub(super) fn instance(&self, uid: &SopInstanceUid) -> Option<&Instance> {
        self.a.study.instances.iter().find(|instance| instance.sop_instance_uid == *uid)
    }

    /// P5: series, instance and frame; the UID when the study does not have it.
    pub(super) fn image(&self, image: &ImageRef) -> String {
        let Some(instance) = self.instance(&image.sop_instance_uid) else {
            return format!("SOP Instance UID {}", image.sop_instance_uid);
        };
        let number = instance.instance_number.map(|n| n.to_string());
        let mut text = match number {
            Some(n) => format!(
                "{}, {}",
                self.series(instance.series_number),
                fill(self.w.instance, &[("n", &n)])
            ),
            None => format!(
                "{}, SOP Instance UID {}",
                self.series(instance.series_number),
                image.sop_instance_uid
            ),
        };
        if let Some(frame) = image.frame {
            text += &format!(", {}", fill(self.w.frame, &[("n", &frame.to_string())]));
        }
        text
    }

    /// The key picture, then others that carry a region of a present finding, one for each image.
    pub(super) fn pictures(&self) -> Vec<PictureView> {
        let given = self.input.pictures;
        let key = given.iter().position(|(p, _)| Some(p.number) == self.a.key_picture);
        let mut chosen: Vec<usize> = key.into_iter().collect();
        for (index, (reference, _)) in given.iter().enumerate() {
            let new = !chosen.iter().any(|&c| given[c].0.image.is_same(&reference.image));
            if new && !self.regions(reference).is_empty() {
                chosen.push(index);
            }
        }
        let usable = chosen.into_iter().filter(|&index| {
            let (reference, bytes) = &given[index];
            media_type(bytes).is_some() && reference.width_px > 0 && reference.height_px > 0
        });
        usable.take(PICTURES_MAX).map(|index| self.picture(index, Some(index) == key)).collect()
    }

    pub(super) fn picture(&self, index: usize, is_key: bool) -> PictureView {
        let reference = &self.input.pictures[index].0;
        let (width, height) = (f64::from(reference.width_px), f64::from(reference.height_px));
        let regions = self.regions(reference);
        // In doubt, a picture with regions is still the one with the regions.
        let title = match (self.a.outcome.is_read() || !regions.is_empty(), is_key) {
            (true, true) => self.w.key_image,
            (true, false) => self.w.further_image,
            (false, _) => self.w.unread_image,
        };
        let mut caption = self.image(&reference.image);
        if !["default", ""].contains(&reference.window.as_str()) {
            caption += &format!(", {} {}", self.w.window, plain::line(&reference.window));
        }
        let texts: Vec<String> = regions.iter().map(|region| region.text.clone()).collect();
        PictureView {
            title,
            alt: format!("{title}: {caption}. {}", texts.join("; ")),
            caption,
            width,
            height,
            stroke: rounded(width.max(height) / 320.0),
            font: rounded(width.max(height) / 34.0),
            regions,
            data: String::new(),
            index,
        }
    }

    pub(super) fn regions(&self, reference: &PictureRef) -> Vec<RegionView> {
        let scale = |px: u32, source: u32| f64::from(px) / f64::from(source.max(1));
        let (sx, sy) = (
            scale(reference.width_px, reference.source_columns),
            scale(reference.height_px, reference.source_rows),
        );
        let (width, height) = (f64::from(reference.width_px), f64::from(reference.height_px));
        let font = width.max(height) / 34.0;
        let mut views = Vec::new();
        for finding in self.a.present() {
            let here = finding.regions.iter().filter(|r| r.image.is_same(&reference.image));
            for region in here.take(20) {
                let edges = [region.x0 * sx, region.y0 * sy, region.x1 * sx, region.y1 * sy];
                if edges.iter().any(|edge| !edge.is_finite()) {
                    continue;
                }
                let (x0, x1) = (edges[0].min(edges[2]), edges[0].max(edges[2]));
                let (y0, y1) = (edges[1].min(edges[3]), edges[1].max(edges[3]));
                let (x0, x1) = (x0.clamp(0.0, width), x1.clamp(0.0, width));
                let (y0, y1) = (y0.clamp(0.0, height), y1.clamp(0.0, height));
                if x1 - x0 < 1.0 || y1 - y0 < 1.0 {
                    continue;
                }
                let label = plain::line(&finding.id);
                let label_width = font * (0.62 * label.chars().count() as f64 + 0.7);
                let label_height = font * 1.3;
                let label_y = if y0 >= label_height { y0 - label_height } else { y0 };
                let label_x = x0.min(width - label_width).max(0.0);
                views.push(RegionView {
                    x: rounded(x0),
                    y: rounded(y0),
                    width: rounded(x1 - x0),
                    height: rounded(y1 - y0),
                    text: format!("{label} {}", in_one_line(&self.finding(finding))),
                    label,
                    label_x: rounded(label_x),
                    label_y: rounded(label_y),
                    label_width: rounded(label_width),
                    label_height: rounded(label_height),
                    baseline: rounded(label_y + font),
                });
            }
        }
        views
    }
}

fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// What the bytes of a picture are, by their first bytes.
pub fn media_type(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        _ => None,
    }
}
