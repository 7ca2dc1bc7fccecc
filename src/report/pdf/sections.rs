//! The sections of the PDF other than the findings.

use parley::Alignment;

use crate::report::content::Field;
use crate::report::pdf::ACCENT;
use crate::report::pdf::BLUE_TINT;
use crate::report::pdf::BODY;
use crate::report::pdf::CRITICAL;
use crate::report::pdf::Composer;
use crate::report::pdf::INK;
use crate::report::pdf::LINE;
use crate::report::pdf::MARGIN;
use crate::report::pdf::PRELIM;
use crate::report::pdf::PRELIM_TINT;
use crate::report::pdf::QUIET;
use crate::report::pdf::RED_TINT;
use crate::report::pdf::SMALL;
use crate::report::pdf::SMALL_DARK;
use crate::report::pdf::STRONG;
use crate::report::pdf::TINT;
use crate::report::pdf::WIDTH;
use crate::report::pdf::set::Area;
use crate::report::pdf::set::Cell;
use crate::report::pdf::set::Column;
use crate::report::pdf::set::Flow;
use crate::report::pdf::set::Ink;
use crate::report::pdf::set::Look;
use crate::report::pdf::set::Mark;
use crate::report::pdf::urgency_ink;

impl Composer<'_> {
    pub(super) fn title(&mut self) {
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
    pub(super) fn grid(&mut self, fields: &[Field]) {
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
    pub(super) fn boxes(&mut self) {
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
        let mut status = vec![self.setter.one(&c.status.title, head, inner)];
        status.push(self.setter.one(&c.status.line, BODY, inner));
        if c.status.kind == "not_covered" {
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
    pub(super) fn boxed(&mut self, boxes: &[(Cell, f32, Ink, Ink)]) {
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

    pub(super) fn materials(&mut self) {
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

    pub(super) fn communication(&mut self) {
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

    pub(super) fn measurements(&mut self) {
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

    pub(super) fn about(&mut self) {
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
