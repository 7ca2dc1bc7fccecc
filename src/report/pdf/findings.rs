//! Findings as tables, and the key image with its regions.

use parley::Alignment;

use crate::report::content::FindingView;
use crate::report::content::PictureView;
use crate::report::pdf::ACCENT;
use crate::report::pdf::BODY;
use crate::report::pdf::Composer;
use crate::report::pdf::LINE;
use crate::report::pdf::MARGIN;
use crate::report::pdf::MARKED;
use crate::report::pdf::SMALL;
use crate::report::pdf::SMALL_DARK;
use crate::report::pdf::STRONG;
use crate::report::pdf::WIDTH;
use crate::report::pdf::set::Area;
use crate::report::pdf::set::Cell;
use crate::report::pdf::set::Column;
use crate::report::pdf::set::Flow;
use crate::report::pdf::set::Look;
use crate::report::pdf::set::Mark;
use crate::report::pdf::urgency_ink;

impl Composer<'_> {
    pub(super) fn findings(&mut self) {
        let (c, w) = (self.c, &self.c.w);
        self.heading(w.findings);
        if !c.findings_note.is_empty() {
            self.body(c.findings_note, STRONG);
            self.flow.space(3.0);
        }
        self.present();
        if !c.more_findings.is_empty() {
            self.body(&c.more_findings, BODY);
        }
        for view in &c.pictures {
            self.picture(view);
        }
        self.undetermined();
        self.absent();
        self.subheading(w.looked_for);
        let line = match c.looked_for.is_empty() {
            false => format!("{}. {}", c.looked_for, w.looked_for_only),
            true => c.looked_for_none.to_owned(),
        };
        self.body(&line, BODY);
        if c.as_given {
            self.flow.space(3.0);
            self.body(w.as_given, SMALL);
        }
    }

    pub(super) fn present(&mut self) {
        let (c, w) = (self.c, &self.c.w);
        if c.findings.is_empty() {
            return;
        }
        let start = |width| Column { width, align: Alignment::Start };
        let end = |width| Column { width, align: Alignment::End };
        let columns = [start(26.0), start(WIDTH - 290.0), end(74.0), start(80.0), start(110.0)];
        let titles = ["", w.finding, w.certainty, w.urgency, w.image];
        let header = self.head(&titles, &columns);
        let mut rows = Vec::new();
        for finding in &c.findings {
            let cell = self.finding_cell(finding, Flow::inner(columns[1]));
            let certainty = self.setter.pieces(
                &[(&finding.certainty, STRONG)],
                Flow::inner(columns[2]),
                columns[2].align,
            );
            let ink = urgency_ink(finding.urgency.key);
            let urgency = Look { ink, ..STRONG };
            let images = finding.images.join("\n");
            rows.push(vec![
                vec![self.setter.one(&finding.id, Look { ink: ACCENT, ..STRONG }, 22.0)],
                cell,
                vec![certainty],
                vec![self.setter.one(finding.urgency.label, urgency, Flow::inner(columns[3]))],
                self.setter.texts(&images, SMALL_DARK, Flow::inner(columns[4])),
            ]);
        }
        self.flow.space(2.0);
        self.flow.table(&columns, &header, &rows, LINE);
    }

    /// Name, place, and everything else that is known about a finding.
    pub(super) fn finding_cell(&mut self, finding: &FindingView, width: f32) -> Cell {
        let w = &self.c.w;
        let name = Look { size: 10.0, ..STRONG };
        let mut pieces = vec![(finding.name.clone(), name)];
        if !finding.aside.is_empty() {
            pieces.push((format!("  ({})", finding.aside), SMALL));
        }
        let borrowed: Vec<(&str, Look)> =
            pieces.iter().map(|(t, look)| (t.as_str(), *look)).collect();
        let mut cell = vec![self.setter.pieces(&borrowed, width, Alignment::Start)];
        if !finding.place.is_empty() {
            cell.push(self.setter.one(&finding.place, BODY, width));
        }
        cell.extend(self.setter.texts(&finding.description, BODY, width));
        for (label, text) in [
            (w.measured, &finding.measured),
            (w.differential, &finding.differential),
            (w.recommendations, &finding.recommendation),
        ] {
            if !text.is_empty() {
                let label = format!("{label}: ");
                let pieces = [(label.as_str(), SMALL), (text.as_str(), SMALL_DARK)];
                cell.push(self.setter.pieces(&pieces, width, Alignment::Start));
            }
        }
        cell
    }

    pub(super) fn undetermined(&mut self) {
        let (c, w) = (self.c, &self.c.w);
        if c.undetermined.is_empty() {
            return;
        }
        self.subheading(w.undetermined);
        self.body(w.undetermined_line, SMALL);
        self.negatives(&c.undetermined);
    }

    pub(super) fn absent(&mut self) {
        let (c, w) = (self.c, &self.c.w);
        if c.absent.is_empty() {
            return;
        }
        self.subheading(w.absent);
        self.negatives(&c.absent);
    }

    /// Findings that are not present: name, probability, and images where they are known.
    pub(super) fn negatives(&mut self, findings: &[FindingView]) {
        let w = &self.c.w;
        let with_images = findings.iter().any(|finding| finding.has_images);
        let (name, images, probability) =
            if with_images { (270.0, 127.0, 110.0) } else { (WIDTH - 110.0, 0.0, 110.0) };
        let columns = [
            Column { width: name, align: Alignment::Start },
            Column { width: probability, align: Alignment::End },
            Column { width: images, align: Alignment::Start },
        ];
        let columns = if with_images { &columns[..] } else { &columns[..2] };
        let header = self.head(&[w.finding, w.probability, w.image], columns);
        let mut rows = Vec::new();
        for finding in findings {
            let mut pieces = vec![(finding.name.clone(), BODY)];
            if !finding.aside.is_empty() {
                pieces.push((format!("  ({})", finding.aside), SMALL));
            }
            if !finding.place.is_empty() {
                pieces.push((format!("   {}", finding.place), SMALL));
            }
            let pieces: Vec<(&str, Look)> =
                pieces.iter().map(|(t, look)| (t.as_str(), *look)).collect();
            let certainty = [(finding.certainty.as_str(), BODY)];
            let mut row = vec![
                vec![self.setter.pieces(&pieces, Flow::inner(columns[0]), Alignment::Start)],
                vec![self.setter.pieces(&certainty, Flow::inner(columns[1]), Alignment::End)],
            ];
            if with_images {
                let images = finding.images.join("\n");
                row.push(self.setter.texts(&images, SMALL, Flow::inner(columns[2])));
            }
            rows.push(row);
        }
        self.flow.table(columns, &header, &rows, LINE);
    }

    /// A picture with its regions, and what they are beside it.
    pub(super) fn picture(&mut self, view: &PictureView) {
        // Rather smaller on this page than large on the next one.
        let left_on_page = self.flow.bottom - self.flow.y - 16.0;
        let max_height = if left_on_page >= 150.0 { left_on_page.min(270.0) } else { 270.0 };
        let (width, height) = (view.width as f32, view.height as f32);
        let scale = (246.0 / width).min(max_height / height);
        let (width, height) = (width * scale, height * scale);
        self.flow.need(height + 16.0);
        let (x, y) = (MARGIN, self.flow.y + 8.0);
        let area = Area { x, y, width, height };
        self.flow.put(Mark::Fill { area, ink: [0, 0, 0] });
        self.flow.put(Mark::Picture { index: view.index, area });
        let label_look = Look { size: 7.5, bold: true, ink: [0x11, 0x11, 0x11] };
        for region in &view.regions {
            let at = |value: f64| value as f32 * scale;
            let area = Area {
                x: x + at(region.x),
                y: y + at(region.y),
                width: at(region.width),
                height: at(region.height),
            };
            self.flow.put(Mark::Frame { area, ink: MARKED, width: 1.1 });
            let label = self.setter.one(&region.label, label_look, 80.0);
            let (w, h) = (label.width() + 5.0, label.height());
            let above = area.y - h >= y;
            let label_y = if above { area.y - h } else { area.y };
            let label_x = area.x.min(x + width - w).max(x) - if above { 0.55 } else { 0.0 };
            let back = Area { x: label_x, y: label_y, width: w, height: h };
            self.flow.put(Mark::Fill { area: back, ink: MARKED });
            self.flow.at(&label, label_x + 2.5, label_y);
        }
        let (beside, beside_width) = (x + width + 16.0, WIDTH - width - 16.0);
        let mut legend = vec![
            self.setter.one(view.title, STRONG, beside_width),
            self.setter.one(&view.caption, SMALL, beside_width),
        ];
        if !view.regions.is_empty() {
            legend.push(self.setter.one(" ", Look { size: 4.0, ..SMALL }, beside_width));
            legend.push(self.setter.one(
                self.c.w.regions,
                Look { bold: true, ..SMALL },
                beside_width,
            ));
        }
        for region in &view.regions {
            legend.push(self.setter.one(&region.text, BODY, beside_width));
        }
        legend.push(self.setter.one(" ", Look { size: 4.0, ..SMALL }, beside_width));
        legend.push(self.setter.one(self.c.w.not_for_measuring, SMALL, beside_width));
        let mut line = y;
        for set in legend {
            if line + set.height() <= y + height.max(120.0) {
                self.flow.at(&set, beside, line);
                line += set.height() + 1.0;
            }
        }
        self.flow.y = (y + height).max(line) + 6.0;
    }
}
