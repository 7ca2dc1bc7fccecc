//! Typesetting: text to lines (parley), and pages as lists of things to draw.

use std::ops::Range;
use std::rc::Rc;

use parley::Alignment;
use parley::AlignmentOptions;
use parley::FontFamily;
use parley::FontFamilyName;
use parley::FontWeight;
use parley::Layout;
use parley::LineHeight;
use parley::OverflowWrap;
use parley::StyleProperty;
use parley::WordBreak;

use crate::report::Language;
use crate::report::pdf::fonts::Fonts;

/// Red, green, blue.
pub type Ink = [u8; 3];

/// How a piece of text looks.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    pub size: f32,
    pub bold: bool,
    pub ink: Ink,
}

/// One paragraph in lines of a given width.
pub struct Set {
    pub text: String,
    pub layout: Layout<Ink>,
    /// Height of each line.
    heights: Vec<f32>,
}

impl Set {
    pub fn height(&self) -> f32 {
        self.heights.iter().sum()
    }

    pub fn lines(&self) -> usize {
        self.heights.len()
    }

    pub fn line_height(&self, line: usize) -> f32 {
        self.heights.get(line).copied().unwrap_or(0.0)
    }

    /// Width of the widest line.
    pub fn width(&self) -> f32 {
        self.layout.width()
    }
}

pub struct Setter<'a> {
    pub fonts: &'a mut Fonts,
    stack: Vec<FontFamilyName<'static>>,
    language: Language,
}

impl<'a> Setter<'a> {
    pub fn new(fonts: &'a mut Fonts, language: Language) -> Setter<'a> {
        let stack = fonts.stack(language);
        Setter { fonts, stack, language }
    }

    /// One paragraph of several pieces. Line ends inside become spaces: use [`Setter::texts`].
    pub fn pieces(&mut self, pieces: &[(&str, Look)], width: f32, align: Alignment) -> Rc<Set> {
        let text: String = pieces.iter().map(|(text, _)| text.replace('\n', " ")).collect();
        let Fonts { fonts, layouts, .. } = &mut *self.fonts;
        let mut builder = layouts.ranged_builder(fonts, &text, 1.0, false);
        builder
            .push_default(StyleProperty::FontFamily(FontFamily::List(self.stack.clone().into())));
        builder.push_default(StyleProperty::LineHeight(LineHeight::FontSizeRelative(1.38)));
        builder.push_default(StyleProperty::OverflowWrap(OverflowWrap::Anywhere));
        builder.push_default(StyleProperty::WordBreak(match self.language {
            // Korean is broken at its spaces.
            Language::Ko => WordBreak::KeepAll,
            Language::En | Language::Vi | Language::Zh => WordBreak::Normal,
        }));
        if let Some((_, first)) = pieces.first() {
            builder.push_default(StyleProperty::FontSize(first.size));
        }
        let mut from = 0;
        for (piece, look) in pieces {
            let range = from..from + piece.len();
            from = range.end;
            builder.push(StyleProperty::FontSize(look.size), range.clone());
            builder.push(StyleProperty::Brush(look.ink), range.clone());
            let weight = if look.bold { FontWeight::BOLD } else { FontWeight::NORMAL };
            builder.push(StyleProperty::FontWeight(weight), range);
        }
        let mut layout = builder.build(&text);
        layout.break_all_lines(Some(width));
        layout.align(align, AlignmentOptions::default());
        let heights = layout.lines().map(|line| line.metrics().line_height).collect();
        Rc::new(Set { text, layout, heights })
    }

    pub fn one(&mut self, text: &str, look: Look, width: f32) -> Rc<Set> {
        self.pieces(&[(text, look)], width, Alignment::Start)
    }

    /// A text with line ends: one paragraph for each line.
    pub fn texts(&mut self, text: &str, look: Look, width: f32) -> Vec<Rc<Set>> {
        text.lines().map(|line| self.one(line, look, width)).collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Area {
    pub x: f32,
    pub y: f32,
    pub width: f32,
    pub height: f32,
}

/// Something on a page. y grows downwards.
pub enum Mark {
    /// Some lines of a paragraph, the first one's upper edge at `y`.
    Lines {
        set: Rc<Set>,
        lines: Range<usize>,
        x: f32,
        y: f32,
    },
    Fill {
        area: Area,
        ink: Ink,
    },
    Frame {
        area: Area,
        ink: Ink,
        width: f32,
    },
    /// A picture of the input.
    Picture {
        index: usize,
        area: Area,
    },
}

/// One column of a table.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    pub width: f32,
    pub align: Alignment,
}

/// Paragraphs one below the other.
pub type Cell = Vec<Rc<Set>>;

/// Puts blocks one below the other on as many pages as it takes.
pub struct Flow {
    pub pages: Vec<Vec<Mark>>,
    pub left: f32,
    pub width: f32,
    pub top: f32,
    pub bottom: f32,
    pub y: f32,
}

const ROW_PAD: f32 = 3.5;
const COLUMN_GAP: f32 = 8.0;

impl Flow {
    pub fn put(&mut self, mark: Mark) {
        match self.pages.last_mut() {
            Some(page) => page.push(mark),
            None => self.pages.push(vec![mark]),
        }
    }

    pub fn new_page(&mut self) {
        self.pages.push(Vec::new());
        self.y = self.top;
    }

    /// Starts a new page when less than `height` is left of this one.
    pub fn need(&mut self, height: f32) {
        if self.y + height > self.bottom && self.y > self.top {
            self.new_page();
        }
    }

    pub fn space(&mut self, height: f32) {
        self.y = (self.y + height).min(self.bottom);
    }

    /// A whole paragraph at a place, without moving on.
    pub fn at(&mut self, set: &Rc<Set>, x: f32, y: f32) {
        self.put(Mark::Lines { set: set.clone(), lines: 0..set.lines(), x, y });
    }

    /// A paragraph, broken between its lines where the page ends.
    pub fn paragraph(&mut self, set: &Rc<Set>, indent: f32) {
        let mut line = 0;
        while line < set.lines() {
            self.need(set.line_height(line));
            let mut end = line;
            let mut height = 0.0;
            while end < set.lines() && self.y + height + set.line_height(end) <= self.bottom + 0.01
            {
                height += set.line_height(end);
                end += 1;
            }
            // A line that is higher than a page is drawn all the same.
            let end = end.max(line + 1);
            let (lines, x, y) = (line..end, self.left + indent, self.y);
            self.put(Mark::Lines { set: set.clone(), lines, x, y });
            self.y += height;
            line = end;
        }
    }

    pub fn rule(&mut self, ink: Ink, weight: f32) {
        let area = Area { x: self.left, y: self.y, width: self.width, height: weight };
        self.put(Mark::Fill { area, ink });
    }

    /// A table whose rows move to the next page as a whole where they fit there, else break
    /// between lines; the header stands on each page.
    pub fn table(&mut self, columns: &[Column], header: &[Cell], rows: &[Vec<Cell>], line: Ink) {
        let head = row_height(header);
        let first = rows.first().map_or(0.0, |row| row_height(row));
        self.need(head + first.min(60.0));
        self.row(columns, header, line);
        for row in rows {
            let height = row_height(row);
            if self.y + height > self.bottom {
                let fits_on_a_page = self.top + head + height <= self.bottom;
                if fits_on_a_page || self.y + 30.0 > self.bottom {
                    self.new_page();
                    self.row(columns, header, line);
                }
                if !fits_on_a_page {
                    self.broken_row(columns, header, row, line);
                    continue;
                }
            }
            self.row(columns, row, line);
        }
    }

    fn row(&mut self, columns: &[Column], cells: &[Cell], line: Ink) {
        if cells.is_empty() {
            return;
        }
        let height = row_height(cells);
        let mut x = self.left;
        for (column, cell) in columns.iter().zip(cells) {
            let mut y = self.y + ROW_PAD;
            for set in cell {
                self.at(set, x, y);
                y += set.height();
            }
            x += column.width;
        }
        self.y += height;
        self.rule(line, 0.5);
    }

    /// A row that is higher than a page: as many lines of each cell as fit, then the next page.
    fn broken_row(&mut self, columns: &[Column], header: &[Cell], cells: &[Cell], line: Ink) {
        let mut rest: Vec<Vec<(Rc<Set>, usize)>> = cells
            .iter()
            .map(|cell| cell.iter().flat_map(|s| (0..s.lines()).map(|n| (s.clone(), n))).collect())
            .collect();
        while rest.iter().any(|lines| !lines.is_empty()) {
            let start = self.y + ROW_PAD;
            let mut lowest = start;
            let mut moved = false;
            let mut x = self.left;
            for (column, lines) in columns.iter().zip(&mut rest) {
                let mut y = start;
                while let Some((set, n)) = lines.first().cloned() {
                    if y + set.line_height(n) > self.bottom - ROW_PAD {
                        break;
                    }
                    self.put(Mark::Lines { set: set.clone(), lines: n..n + 1, x, y });
                    y += set.line_height(n);
                    lines.remove(0);
                    moved = true;
                }
                lowest = lowest.max(y);
                x += column.width;
            }
            self.y = (lowest + ROW_PAD).min(self.bottom);
            if rest.iter().any(|lines| !lines.is_empty()) {
                if !moved && self.y <= self.top + row_height(header) + 2.0 * ROW_PAD {
                    return; // not even one line fits on an empty page
                }
                self.new_page();
                self.row(columns, header, line);
            }
        }
        self.rule(line, 0.5);
    }

    /// Width of the text in a column.
    pub fn inner(column: Column) -> f32 {
        column.width - COLUMN_GAP
    }
}

fn row_height(cells: &[Cell]) -> f32 {
    let height = |cell: &Cell| cell.iter().map(|set| set.height()).sum::<f32>();
    match cells.is_empty() {
        true => 0.0,
        false => cells.iter().map(height).fold(0.0, f32::max) + 2.0 * ROW_PAD,
    }
}
