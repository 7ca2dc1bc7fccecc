//! The PDF report: A4, a header with the patient on each page, tables that break over pages,
//! the key image with its regions, and text that can be searched and copied.

mod draw;
mod fonts;
mod set;

use std::rc::Rc;
use std::sync::PoisonError;

use parley::Alignment;

use crate::report::ReportError;
use crate::report::ReportInput;
use crate::report::content::Content;
use crate::report::content::Field;
use crate::report::content::FindingView;
use crate::report::content::PictureView;
use crate::report::content::content;
use crate::report::pdf::draw::About;
use crate::report::pdf::draw::PAGE;
use crate::report::pdf::set::Area;
use crate::report::pdf::set::Cell;
use crate::report::pdf::set::Column;
use crate::report::pdf::set::Flow;
use crate::report::pdf::set::Ink;
use crate::report::pdf::set::Look;
use crate::report::pdf::set::Mark;
use crate::report::pdf::set::Set;
use crate::report::pdf::set::Setter;
use crate::report::words::fill;

const INK: Ink = [0x17, 0x20, 0x2b];
const SOFT: Ink = [0x55, 0x61, 0x6f];
const LINE: Ink = [0xcf, 0xd6, 0xdd];
const ACCENT: Ink = [0x17, 0x45, 0x6e];
const PRELIM: Ink = [0x9a, 0x4a, 0x00];
const PRELIM_TINT: Ink = [0xfd, 0xf4, 0xe7];
const TINT: Ink = [0xf4, 0xf6, 0xf8];
const BLUE_TINT: Ink = [0xea, 0xf0, 0xf7];
const RED_TINT: Ink = [0xfc, 0xed, 0xec];
const WHITE: Ink = [0xff, 0xff, 0xff];
const MARKED: Ink = [0xff, 0xd2, 0x3f];
const CRITICAL: Ink = [0xb1, 0x20, 0x1a];
const URGENT: Ink = [0xb4, 0x50, 0x0b];
const SIGNIFICANT: Ink = [0x7d, 0x62, 0x00];

const MARGIN: f32 = 44.0;
const WIDTH: f32 = PAGE.0 - 2.0 * MARGIN;

const BODY: Look = Look { size: 9.2, bold: false, ink: INK };
const STRONG: Look = Look { bold: true, ..BODY };
const QUIET: Look = Look { ink: SOFT, ..BODY };
const SMALL: Look = Look { size: 8.2, bold: false, ink: SOFT };
const SMALL_DARK: Look = Look { ink: INK, ..SMALL };
const COLUMN_HEAD: Look = Look { size: 8.0, bold: true, ink: SOFT };

/// The report as PDF/A-2u. The same input gives the same bytes.
///
/// # Errors
/// No usable font: the message names the package to install.
pub fn pdf(input: &ReportInput<'_>) -> Result<Vec<u8>, ReportError> {
    let mut content = content(input);
    let decoded: Vec<_> =
        content.pictures.iter().map(|view| draw::picture(&input.pictures[view.index].1)).collect();
    let mut pictures = Vec::new();
    content.pictures = std::mem::take(&mut content.pictures)
        .into_iter()
        .zip(decoded)
        .filter_map(|(view, image)| {
            pictures.push(Some(image?));
            Some(PictureView { index: pictures.len() - 1, ..view })
        })
        .collect();
    let shared = fonts::fonts(input.site)?;
    let mut fonts = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let pages = {
        let setter = Setter::new(&mut fonts, input.language);
        Composer::new(setter, &content).compose()
    };
    let about = About {
        title: content.w.title,
        language: content.lang,
        made_at: input.assessment.finished_at,
        id: input.assessment.artefact_uid(&format!("pdf {}", content.lang)),
    };
    draw::draw(&pages, &pictures, &mut fonts, &about)
}

struct Composer<'a> {
    setter: Setter<'a>,
    c: &'a Content,
    flow: Flow,
}

impl<'a> Composer<'a> {
    fn new(setter: Setter<'a>, c: &'a Content) -> Composer<'a> {
        let flow = Flow {
            pages: vec![Vec::new()],
            left: MARGIN,
            width: WIDTH,
            top: MARGIN,
            bottom: PAGE.1 - 54.0,
            y: MARGIN,
        };
        Composer { setter, c, flow }
    }

    fn compose(mut self) -> Vec<Vec<Mark>> {
        let (header, below) = self.page_header();
        self.flow.top = below + 14.0;
        self.flow.y = self.flow.top;
        self.title();
        self.boxes();
        self.text_section(self.c.w.clinical_information, &[self.c.clinical.clone()]);
        self.materials();
        self.text_section(self.c.w.comparison, &[self.c.comparison.into()]);
        self.findings();
        self.bullets(self.c.w.limitations, &self.c.limitations);
        self.text_section(self.c.w.impression, &self.c.impression);
        self.text_section(self.c.w.recommendations, &self.c.recommendations);
        self.communication();
        self.measurements();
        self.about();
        self.frame_pages(header)
    }

    /// Facility, PRELIMINARY, patient and study: what stands at the top of each page.
    fn page_header(&mut self) -> (Vec<(Rc<Set>, f32, f32)>, f32) {
        let (c, w) = (self.c, &self.c.w);
        let tag_look = Look { size: 9.0, bold: true, ink: WHITE };
        let tag = self.setter.one(w.preliminary, tag_look, WIDTH / 2.0);
        let facility = Look { size: 10.0, bold: true, ink: INK };
        let facility = self.setter.one(&c.facility, facility, WIDTH - tag.width() - 32.0);
        let h = &c.header;
        let patient = self.setter.pieces(
            &[
                (&h.patient, Look { size: 9.6, bold: true, ink: INK }),
                (&format!("   {} ", w.patient_id), SMALL),
                (&h.patient_id, Look { size: 9.6, bold: true, ink: INK }),
            ],
            WIDTH,
            Alignment::Start,
        );
        let (separator, label) = ("   ·   ", |text: &str| format!("{text} "));
        let study = self.setter.pieces(
            &[
                (&label(w.born), SMALL),
                (&h.born, SMALL_DARK),
                (separator, SMALL),
                (&label(w.sex), SMALL),
                (&h.sex, SMALL_DARK),
                (separator, SMALL),
                (&h.examination, SMALL_DARK),
                (", ", SMALL_DARK),
                (&h.study_time, SMALL_DARK),
                (separator, SMALL),
                (&label(w.accession), SMALL),
                (&h.accession, SMALL_DARK),
            ],
            WIDTH,
            Alignment::Start,
        );
        let top = 30.0;
        let first = facility.height().max(tag.height()) + 6.0;
        let tag_x = PAGE.0 - MARGIN - tag.width() - 8.0;
        let placed = vec![
            (tag, tag_x, top),
            (facility, MARGIN, top),
            (patient.clone(), MARGIN, top + first),
            (study.clone(), MARGIN, top + first + patient.height()),
        ];
        (placed, top + first + patient.height() + study.height() + 5.0)
    }

    /// Headers and footers, once the number of pages is known.
    fn frame_pages(mut self, header: Vec<(Rc<Set>, f32, f32)>) -> Vec<Vec<Mark>> {
        let pages = self.flow.pages.len();
        let below = self.flow.top - 14.0;
        for number in 0..pages {
            let mut marks = Vec::new();
            if let Some((tag, x, y)) = header.first() {
                let area = Area {
                    x: x - 8.0,
                    y: y - 2.5,
                    width: tag.width() + 16.0,
                    height: tag.height() + 5.0,
                };
                marks.push(Mark::Fill { area, ink: PRELIM });
            }
            for (set, x, y) in &header {
                marks.push(Mark::Lines { set: set.clone(), lines: 0..set.lines(), x: *x, y: *y });
            }
            let rule = |y, height| Area { x: MARGIN, y, width: WIDTH, height };
            marks.push(Mark::Fill { area: rule(below, 1.4), ink: ACCENT });
            let foot = PAGE.1 - 40.0;
            marks.push(Mark::Fill { area: rule(foot, 0.5), ink: LINE });
            let (n, of) = ((number + 1).to_string(), pages.to_string());
            let page_of = fill(self.c.w.page_of, &[("page", &n), ("pages", &of)]);
            let small = Look { size: 7.4, ..SMALL };
            let right = self.setter.pieces(&[(&page_of, small)], 90.0, Alignment::End);
            let notice = self.setter.one(self.c.w.preliminary_line, small, WIDTH - 90.0);
            let software = self.setter.one(&self.c.footer, small, WIDTH);
            let below_notice = foot + 5.0 + notice.line_height(0);
            for (set, x, y) in [
                (notice, MARGIN, foot + 5.0),
                (right, PAGE.0 - MARGIN - 90.0, foot + 5.0),
                (software, MARGIN, below_notice),
            ] {
                marks.push(Mark::Lines { lines: 0..set.lines().min(1), set, x, y });
            }
            marks.append(&mut self.flow.pages[number]);
            self.flow.pages[number] = marks;
        }
        self.flow.pages
    }

    fn title(&mut self) {
        let c = self.c;
        let title = self.setter.one(c.w.title, Look { size: 17.0, bold: true, ink: INK }, WIDTH);
        self.flow.paragraph(&title, 0.0);
        let mut under = c.header.examination.clone();
        if !c.revision.is_empty() {
            under += &format!(" · {}", c.revision);
        }
        let under = self.setter.one(&under, Look { size: 11.0, ..QUIET }, WIDTH);
        self.flow.paragraph(&under, 0.0);
        self.flow.space(7.0);
        self.grid(&c.identity);
        self.flow.space(8.0);
    }

    /// Label and value in two columns side by side.
    fn grid(&mut self, fields: &[Field]) {
        let (half, label_width) = (WIDTH / 2.0, 104.0);
        for pair in fields.chunks(2) {
            let mut sets = Vec::new();
            for (column, field) in pair.iter().enumerate() {
                let x = MARGIN + half * column as f32;
                let label = self.setter.one(&field.label, SMALL, label_width - 6.0);
                let value = self.setter.one(&field.value, BODY, half - label_width - 10.0);
                sets.push((label, x, 0.7));
                sets.push((value, x + label_width, 0.0));
            }
            let height = sets.iter().map(|(set, ..)| set.height()).fold(0.0, f32::max) + 3.0;
            self.flow.need(height);
            let y = self.flow.y + 1.5;
            for (set, x, down) in sets {
                self.flow.at(&set, x, y + down);
            }
            self.flow.y += height;
            self.flow.rule(LINE, 0.4);
        }
    }

    /// Notice, outcome and urgency: each a box of its own look.
    fn boxes(&mut self) {
        let (c, w) = (self.c, &self.c.w);
        let mut notice = vec![self.setter.one(w.preliminary_line, STRONG, WIDTH - 26.0)];
        if !c.revision.is_empty() {
            notice.push(self.setter.one(w.revision_note, BODY, WIDTH - 26.0));
        }
        self.boxed(&[(notice, WIDTH, PRELIM, PRELIM_TINT)]);
        self.flow.space(6.0);
        let (status_ink, status_tint) = match c.status.kind {
            "not_covered" => (ACCENT, BLUE_TINT),
            "needs_review" => (CRITICAL, RED_TINT),
            _ => (ACCENT, TINT),
        };
        let wide = WIDTH * 0.6;
        let inner = wide - 32.0;
        let head = Look { size: 11.0, bold: true, ink: status_ink };
        let mut status = vec![self.setter.one(c.status.title, head, inner)];
        status.push(self.setter.one(&c.status.line, BODY, inner));
        if !c.status.reason.is_empty() {
            let label = format!("{}: ", w.reason);
            let pieces = [(label.as_str(), STRONG), (c.status.reason.as_str(), BODY)];
            status.push(self.setter.pieces(&pieces, inner, Alignment::Start));
        }
        let narrow = WIDTH - wide;
        let ink = urgency_ink(c.urgency.key);
        let urgency = vec![
            self.setter.one(w.urgency, SMALL, narrow - 26.0),
            self.setter.one(c.urgency.label, Look { size: 11.0, bold: true, ink }, narrow - 26.0),
            self.setter.one(c.urgency.line, BODY, narrow - 26.0),
        ];
        self.boxed(&[(status, wide - 6.0, status_ink, status_tint), (urgency, narrow, ink, TINT)]);
    }

    /// Boxes side by side, as high as the highest, with a bar at their left edge.
    fn boxed(&mut self, boxes: &[(Cell, f32, Ink, Ink)]) {
        let height = |cell: &Cell| cell.iter().map(|set| set.height()).sum::<f32>();
        let height = boxes.iter().map(|(cell, ..)| height(cell)).fold(0.0, f32::max) + 12.0;
        self.flow.need(height);
        let (mut x, y) = (MARGIN, self.flow.y);
        let gap = if boxes.len() > 1 { 6.0 } else { 0.0 };
        for (cell, width, bar, tint) in boxes {
            self.flow.put(Mark::Fill { area: Area { x, y, width: *width, height }, ink: *tint });
            self.flow.put(Mark::Fill { area: Area { x, y, width: 3.5, height }, ink: *bar });
            let mut line = y + 6.0;
            for set in cell {
                self.flow.at(set, x + 13.0, line);
                line += set.height();
            }
            x += width + gap;
        }
        self.flow.y += height;
    }

    fn heading(&mut self, text: &str) {
        self.flow.space(11.0);
        let look = Look { size: 10.6, bold: true, ink: ACCENT };
        let set = self.setter.one(text, look, WIDTH);
        self.flow.need(set.height() + 52.0);
        self.flow.paragraph(&set, 0.0);
        self.flow.space(1.0);
        self.flow.rule(LINE, 0.7);
        self.flow.space(4.5);
    }

    fn subheading(&mut self, text: &str) {
        self.flow.space(6.0);
        let set = self.setter.one(text, Look { size: 9.2, bold: true, ink: SOFT }, WIDTH);
        self.flow.need(set.height() + 30.0);
        self.flow.paragraph(&set, 0.0);
        self.flow.space(1.5);
    }

    fn body(&mut self, text: &str, look: Look) {
        for set in self.setter.texts(text, look, WIDTH) {
            self.flow.paragraph(&set, 0.0);
        }
    }

    fn text_section(&mut self, title: &str, paragraphs: &[String]) {
        self.heading(title);
        for paragraph in paragraphs {
            self.body(paragraph, BODY);
            self.flow.space(2.0);
        }
    }

    fn bullets(&mut self, title: &str, lines: &[String]) {
        self.heading(title);
        for line in lines {
            let dot = self.setter.one("•", QUIET, 10.0);
            self.flow.need(dot.height());
            let y = self.flow.y;
            self.flow.at(&dot, MARGIN + 2.0, y);
            for set in self.setter.texts(line, BODY, WIDTH - 14.0) {
                self.flow.paragraph(&set, 14.0);
            }
            self.flow.space(1.0);
        }
    }

    /// Label and value, one pair below the other.
    fn rows(&mut self, fields: impl IntoIterator<Item = (String, Cell)>, label_width: f32) {
        for (label, value) in fields {
            let label = self.setter.one(&label, SMALL, label_width - 8.0);
            let height: f32 = value.iter().map(|set| set.height()).sum();
            let whole = height.max(label.height()) + 3.0;
            if whole < 200.0 {
                self.flow.need(whole);
            } else {
                self.flow.need(30.0);
            }
            let y = self.flow.y + 1.0;
            self.flow.at(&label, MARGIN, y + 0.7);
            self.flow.space(1.0);
            for set in &value {
                self.flow.paragraph(set, label_width);
            }
            self.flow.y = self.flow.y.max(y + label.height()) + 2.0;
            self.flow.rule(LINE, 0.4);
        }
    }

    fn materials(&mut self) {
        let c = self.c;
        self.heading(c.w.materials);
        let label_width = 130.0;
        let inner = WIDTH - label_width;
        let mut rows: Vec<(String, Cell)> = Vec::new();
        for field in &c.materials {
            rows.push((field.label.clone(), vec![self.setter.one(&field.value, BODY, inner)]));
        }
        for out in &c.left_out {
            let cell = vec![
                self.setter.one(&out.images, BODY, inner),
                self.setter.one(&out.reason, SMALL, inner),
            ];
            rows.push((out.title.into(), cell));
        }
        self.rows(rows, label_width);
    }

    fn findings(&mut self) {
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
        let line = match (c.looked_for.is_empty(), c.status.kind) {
            (false, _) => format!("{}. {}", c.looked_for, w.looked_for_only),
            (true, "not_covered") => w.not_looked.to_owned(),
            (true, _) => w.looked_for_unknown.to_owned(),
        };
        self.body(&line, BODY);
        if c.as_given {
            self.flow.space(3.0);
            self.body(w.as_given, SMALL);
        }
    }

    fn head(&mut self, titles: &[&str], columns: &[Column]) -> Vec<Cell> {
        let mut cells = Vec::new();
        for (title, column) in titles.iter().zip(columns) {
            let width = Flow::inner(*column);
            cells.push(vec![self.setter.pieces(&[(title, COLUMN_HEAD)], width, column.align)]);
        }
        cells
    }

    fn present(&mut self) {
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
    fn finding_cell(&mut self, finding: &FindingView, width: f32) -> Cell {
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

    fn undetermined(&mut self) {
        let (c, w) = (self.c, &self.c.w);
        if c.undetermined.is_empty() {
            return;
        }
        self.subheading(w.undetermined);
        self.body(w.undetermined_line, SMALL);
        self.negatives(&c.undetermined);
    }

    fn absent(&mut self) {
        let (c, w) = (self.c, &self.c.w);
        if c.absent.is_empty() {
            return;
        }
        self.subheading(w.absent);
        self.negatives(&c.absent);
    }

    /// Findings that are not present: name, probability, and images where they are known.
    fn negatives(&mut self, findings: &[FindingView]) {
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
    fn picture(&mut self, view: &PictureView) {
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

    fn communication(&mut self) {
        let (c, w) = (self.c, &self.c.w);
        self.heading(w.communication);
        if c.communications.is_empty() {
            return self.body(w.communication_none, BODY);
        }
        let columns = [92.0, 100.0, 82.0, 72.0, 56.0, WIDTH - 402.0]
            .map(|width| Column { width, align: Alignment::Start });
        let header = self.head(&[w.time, w.what, w.to, w.by, w.how, w.acknowledged], &columns);
        let mut rows = Vec::new();
        for entry in &c.communications {
            let texts =
                [&entry.time, &entry.what, &entry.to, &entry.by, &entry.how, &entry.acknowledged];
            let cells = texts
                .iter()
                .zip(columns)
                .map(|(text, column)| vec![self.setter.one(text, SMALL_DARK, Flow::inner(column))]);
            rows.push(cells.collect());
        }
        self.flow.table(&columns, &header, &rows, LINE);
    }

    fn measurements(&mut self) {
        let (c, w) = (self.c, &self.c.w);
        if c.measurements.is_empty() {
            return;
        }
        self.heading(w.measurements);
        let start = |width| Column { width, align: Alignment::Start };
        let value = Column { width: 110.0, align: Alignment::End };
        let columns = [start(210.0), value, start(WIDTH - 320.0)];
        for group in &c.measurements {
            let titles = [group.title.as_str(), w.value, w.source];
            let header = self.head(&titles, &columns);
            let mut rows = Vec::new();
            for row in &group.rows {
                let number = [(row.value.as_str(), BODY)];
                rows.push(vec![
                    vec![self.setter.one(&row.name, BODY, Flow::inner(columns[0]))],
                    vec![self.setter.pieces(&number, Flow::inner(value), value.align)],
                    vec![self.setter.one(&row.source, SMALL, Flow::inner(columns[2]) - 8.0)],
                ]);
            }
            self.flow.table(&columns, &header, &rows, LINE);
            self.flow.space(5.0);
        }
    }

    fn about(&mut self) {
        let c = self.c;
        self.heading(c.w.about);
        self.body(c.notice, BODY);
        self.flow.space(5.0);
        let label_width = 130.0;
        let mut rows = Vec::new();
        for field in &c.about {
            let value = self.setter.texts(&field.value, SMALL_DARK, WIDTH - label_width);
            rows.push((field.label.clone(), value));
        }
        self.rows(rows, label_width);
    }
}

fn urgency_ink(key: &str) -> Ink {
    match key {
        "critical" => CRITICAL,
        "urgent" => URGENT,
        "significant" => SIGNIFICANT,
        _ => SOFT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::assessment::Assessment;
    use crate::domain::sample::needs_review;
    use crate::domain::sample::not_covered_ct;
    use crate::domain::sample::positive_chest;
    use crate::report::Language;
    use crate::report::sample;

    fn file(assessment: &Assessment, language: Language) -> Vec<u8> {
        let pictures = sample::pictures(assessment);
        let site = sample::site();
        let communications = &[];
        pdf(&ReportInput { assessment, language, pictures: &pictures, communications, site: &site })
            .unwrap()
    }

    /// What a program of poppler-utils says about a PDF.
    fn poppler(program: &str, options: &[&str], pdf: &[u8]) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), pdf).unwrap();
        let mut command = std::process::Command::new(program);
        command.args(options).arg(file.path());
        if program == "pdftotext" {
            command.arg("-");
        }
        let output = command.output().expect("install poppler-utils");
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn pages(pdf: &[u8]) -> Vec<String> {
        let text = poppler("pdftotext", &["-layout"], pdf);
        text.split('\u{c}').filter(|page| !page.trim().is_empty()).map(str::to_owned).collect()
    }

    /// All white space of any kind is one space: line breaks of the layout do not matter.
    fn flat(text: &str) -> String {
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Forty findings, with a description each.
    fn long() -> Assessment {
        let mut assessment = positive_chest();
        let one = assessment.findings[0].clone();
        for n in 3..=40 {
            let mut finding = one.clone();
            finding.id = format!("F{n}");
            finding.regions.clear();
            finding.description = format!("Sentence {n} about what was seen there. ").repeat(4);
            assessment.findings.insert(n - 1, finding);
        }
        assessment
    }

    #[test]
    fn each_page_names_hospital_patient_and_study_and_says_preliminary() {
        for language in Language::ALL {
            let bytes = file(&long(), language);
            let pages = pages(&bytes);
            assert!(pages.len() >= 5, "{language:?}: {} pages", pages.len());
            let words = crate::report::words::Words::of(language);
            for (number, page) in pages.iter().enumerate() {
                let page_of = fill(
                    words.page_of,
                    &[("page", &(number + 1).to_string()), ("pages", &pages.len().to_string())],
                );
                for fact in [
                    "Sample University Hospital",
                    "PRELIMINARY",
                    "Hong, Gildong (洪 吉洞, 홍 길동)",
                    "MRN-0042",
                    "ACC-2026-0817",
                    words.preliminary_line,
                    &page_of,
                ] {
                    assert!(
                        flat(page).contains(&flat(fact)),
                        "{language:?} {number} {fact}\n{page}"
                    );
                }
            }
            let all = flat(&pages.join(" "));
            for n in 3..=40 {
                assert!(all.contains(&format!("Sentence {n} about what")), "{language:?} {n}");
            }
            let heads = pages.iter().filter(|page| page.contains(words.certainty)).count();
            assert!(heads >= 3, "{language:?}: the table's header stands on each of its pages");
        }
    }

    #[test]
    fn fonts_are_embedded_subsets_with_unicode() {
        for language in Language::ALL {
            let bytes = file(&positive_chest(), language);
            assert!(bytes.len() < 150_000, "{language:?}: {} bytes", bytes.len());
            let fonts = poppler("pdffonts", &[], &bytes);
            let rows: Vec<&str> = fonts.lines().skip(2).collect();
            assert!(rows.len() >= 2, "{fonts}");
            for row in rows {
                assert!(row.contains("NotoSansCJK") && row.contains("yes yes yes"), "{fonts}");
            }
            let info = poppler("pdfinfo", &[], &bytes);
            assert!(info.contains("595.28 x 841.89 pts (A4)"), "{info}");
        }
    }

    /// P7: the three forms carry the same findings.
    #[test]
    fn html_text_and_pdf_say_the_same() {
        for language in Language::ALL {
            for assessment in [positive_chest(), not_covered_ct(), needs_review()] {
                let pictures = sample::pictures(&assessment);
                let site = sample::site();
                let input = ReportInput {
                    assessment: &assessment,
                    language,
                    pictures: &pictures,
                    communications: &[],
                    site: &site,
                };
                let content = content(&input);
                let forms = [
                    flat(&crate::report::html(&input).unwrap().replace("&#x27;", "'")),
                    flat(&crate::report::text(&input).unwrap()),
                    flat(&pages(&pdf(&input).unwrap()).join(" ")),
                ];
                let mut facts = vec![
                    content.status.title.to_owned(),
                    content.urgency.label.to_owned(),
                    content.header.patient.clone(),
                    content.w.measurements.to_owned(),
                ];
                for finding in content.findings.iter().chain(&content.absent) {
                    facts.extend([finding.name.clone(), finding.certainty.clone()]);
                }
                facts.extend(content.findings.iter().map(|finding| finding.place.clone()));
                for row in content.measurements.iter().flat_map(|group| &group.rows) {
                    facts.extend([row.name.clone(), row.value.clone()]);
                }
                for fact in facts {
                    for (form, name) in forms.iter().zip(["HTML", "text", "PDF"]) {
                        assert!(form.contains(&flat(&fact)), "{language:?} {name} lacks {fact}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_same_input_gives_the_same_bytes() {
        assert!(file(&positive_chest(), Language::Ko) == file(&positive_chest(), Language::Ko));
    }

    /// A name that fills pages, characters that no font has, a description longer than a page.
    #[test]
    fn no_text_breaks_the_layout() {
        let mut assessment = positive_chest();
        let name = "\u{e000}\u{1f9e0}\u{10ffff}قباني ไทย \u{202e}".to_owned() + &"N".repeat(60_000);
        assessment.study.patient.name.alphabetic = name;
        assessment.study.patient.id = "9".repeat(64);
        assessment.findings[0].description = "A long sentence that goes on. ".repeat(200);
        assessment.findings[1].description = "x".repeat(4000);
        assessment.warnings = vec!["w".repeat(4000); 3];
        assessment.algorithm.name = "m".repeat(300);
        for language in Language::ALL {
            let pages = pages(&file(&assessment, language));
            assert!((4..20).contains(&pages.len()), "{language:?}: {} pages", pages.len());
            let whole = pages.join(" ");
            assert_eq!(whole.matches("sentence").count(), 4000 / 30, "{language:?}");
        }
    }

    #[test]
    fn a_broken_picture_is_left_out() {
        let assessment = positive_chest();
        let mut pictures = sample::pictures(&assessment);
        let site = sample::site();
        let mut make = |bytes: &[u8]| {
            pictures[0].1 = bytes.to_vec();
            let input = ReportInput {
                assessment: &assessment,
                language: Language::En,
                pictures: &pictures,
                communications: &[],
                site: &site,
            };
            let text = flat(&pages(&pdf(&input).unwrap()).join(" "));
            text.contains("Key image")
        };
        let whole = crate::domain::sample::picture_png(64, 64);
        assert!(make(&whole));
        for broken in [&whole[..whole.len() / 2], b"\xff\xd8\xff\xe0", b"\x89PNG", b"", b"GIF89a"] {
            assert!(!make(broken));
        }
    }

    /// `PRELIM_LOOK=folder cargo test report::pdf::tests::look -- --ignored`: writes every
    /// outcome in every language and form, to be looked at, with time and size.
    #[test]
    #[ignore = "writes files for people"]
    #[expect(clippy::disallowed_methods, reason = "a test for people, told where to write")]
    fn look() {
        let folder = std::path::PathBuf::from(std::env::var("PRELIM_LOOK").unwrap());
        std::fs::create_dir_all(&folder).unwrap();
        let outcomes = [
            ("positive", positive_chest()),
            ("not-covered", not_covered_ct()),
            ("needs-review", needs_review()),
            ("long", long()),
        ];
        for language in Language::ALL {
            for (name, assessment) in &outcomes {
                let pictures = sample::pictures(assessment);
                let site = sample::site();
                let communications = &[];
                let pictures = &pictures;
                let input =
                    ReportInput { assessment, language, pictures, communications, site: &site };
                let start = std::time::Instant::now();
                let bytes = pdf(&input).unwrap();
                println!("{name} {language:?}: {:?}, {} bytes", start.elapsed(), bytes.len());
                let file = |end| folder.join(format!("{name}-{}.{end}", language.as_str()));
                std::fs::write(file("pdf"), bytes).unwrap();
                std::fs::write(file("html"), crate::report::html(&input).unwrap()).unwrap();
                std::fs::write(file("txt"), crate::report::text(&input).unwrap()).unwrap();
            }
        }
    }
}
