//! The PDF report: A4, a header with the patient on each page, tables that break over pages,
//! the key image with its regions, and text that can be searched and copied.

mod draw;
mod findings;
mod fonts;
mod sections;
mod set;
#[cfg(test)]
mod tests;

use std::rc::Rc;
use std::sync::PoisonError;

use parley::Alignment;

use crate::report::ReportError;
use crate::report::ReportInput;
use crate::report::content::Content;
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
use crate::report::site;
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
    let logo = site::logo(input.site).and_then(|bytes| draw::picture(&bytes));
    let logo = logo.map(|image| {
        let (width, height) = image.size();
        pictures.push(Some(image));
        (pictures.len() - 1, width as f32 / height.max(1) as f32)
    });
    let shared = fonts::fonts(input.site)?;
    let mut fonts = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let pages = {
        let setter = Setter::new(&mut fonts, input.language);
        Composer::new(setter, &content, logo).compose()
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
    /// Its place among the pictures, and its width divided by its height.
    logo: Option<(usize, f32)>,
}

impl<'a> Composer<'a> {
    fn new(setter: Setter<'a>, c: &'a Content, logo: Option<(usize, f32)>) -> Composer<'a> {
        let flow = Flow {
            pages: vec![Vec::new()],
            left: MARGIN,
            width: WIDTH,
            top: MARGIN,
            bottom: PAGE.1 - 54.0,
            y: MARGIN,
        };
        Composer { setter, c, flow, logo }
    }

    fn compose(mut self) -> Vec<Vec<Mark>> {
        let (header, below) = self.page_header();
        self.flow.top = below + 14.0;
        self.flow.y = self.flow.top;
        self.title();
        self.boxes();
        self.text_section(self.c.w.clinical_information, &[self.c.clinical.clone()]);
        self.materials();
        self.text_section(self.c.w.comparison, std::slice::from_ref(&self.c.comparison));
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
        let beside = self.logo_area().map_or(0.0, |area| area.width + 8.0);
        let facility = self.setter.one(&c.facility, facility, WIDTH - tag.width() - 32.0 - beside);
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
            (facility, MARGIN + beside, top),
            (patient.clone(), MARGIN, top + first),
            (study.clone(), MARGIN, top + first + patient.height()),
        ];
        (placed, top + first + patient.height() + study.height() + 5.0)
    }

    /// Left of the hospital's name, as high as its line allows and at most 120 points wide.
    fn logo_area(&self) -> Option<Area> {
        let (_, shape) = self.logo?;
        let (height, width_max) = (20.0_f32, 120.0_f32);
        let width = (height * shape).min(width_max);
        Some(Area {
            x: MARGIN,
            y: 28.0 - (width / shape) / 2.0 + 6.0,
            width,
            height: width / shape,
        })
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
            if let (Some((index, _)), Some(area)) = (self.logo, self.logo_area()) {
                marks.push(Mark::Picture { index, area });
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

    fn head(&mut self, titles: &[&str], columns: &[Column]) -> Vec<Cell> {
        let mut cells = Vec::new();
        for (title, column) in titles.iter().zip(columns) {
            let width = Flow::inner(*column);
            cells.push(vec![self.setter.pieces(&[(title, COLUMN_HEAD)], width, column.align)]);
        }
        cells
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
