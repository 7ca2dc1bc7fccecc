//! Marks to a PDF file (krilla): embedded subset fonts, text that can be searched and copied.

use jiff::Timestamp;
use krilla::Document;
use krilla::SerializeSettings;
use krilla::configure::Archival;
use krilla::configure::Configuration;
use krilla::configure::ConfigurationBuilder;
use krilla::error::KrillaError;
use krilla::geom::PathBuilder;
use krilla::geom::Point;
use krilla::geom::Rect;
use krilla::geom::Size;
use krilla::geom::Transform;
use krilla::image::Image;
use krilla::metadata::DateTime;
use krilla::metadata::Metadata;
use krilla::page::PageSettings;
use krilla::paint::Fill;
use krilla::paint::Stroke;
use krilla::surface::Surface;
use krilla::text::GlyphId;
use krilla::text::KrillaGlyph;

use crate::report::ReportError;
use crate::report::content::media_type;
use crate::report::pdf::fonts::Fonts;
use crate::report::pdf::set::Area;
use crate::report::pdf::set::Ink;
use crate::report::pdf::set::Mark;
use crate::report::pdf::set::Set;

/// A4 in points.
pub const PAGE: (f32, f32) = (595.28, 841.89);

pub struct About<'a> {
    pub title: &'a str,
    pub language: &'a str,
    pub made_at: Timestamp,
    /// The same report has the same one.
    pub id: String,
}

/// Writes PDF/A-2u (archivable, text with Unicode); where a text has a character that no font
/// has, which PDF/A forbids, a plain PDF with a box in its place.
pub fn draw(
    pages: &[Vec<Mark>],
    pictures: &[Option<Image>],
    fonts: &mut Fonts,
    about: &About<'_>,
) -> Result<Vec<u8>, ReportError> {
    let archival = ConfigurationBuilder::new().with_archival_validator(Archival::A2_U).finish();
    let archival = archival.unwrap_or_default();
    match written(pages, pictures, fonts, about, archival) {
        Err(KrillaError::Validation(_)) => {
            written(pages, pictures, fonts, about, Configuration::default())
        }
        other => other,
    }
    .map_err(|error| ReportError::Pdf { reason: kind(&error).into() })
}

/// The kind of an error without what it carries: fonts and pictures.
fn kind(error: &KrillaError) -> &'static str {
    match error {
        KrillaError::Font(..) => "a font could not be embedded",
        KrillaError::Image(..) => "a picture could not be embedded",
        KrillaError::Validation(_) => "not valid",
        KrillaError::Limit(_) => "a limit of the format was reached",
        _ => "the writer failed",
    }
}

/// A picture for the PDF, or none when its bytes cannot be decoded: what the writer finds out
/// too late would fail the whole report.
pub fn picture(bytes: &[u8]) -> Option<Image> {
    let media_type = media_type(bytes)?;
    image::load_from_memory(bytes).ok()?;
    let data = bytes.to_vec().into();
    // PDF/A forbids interpolation.
    let image = match media_type {
        "image/png" => Image::from_png(data, false),
        _ => Image::from_jpeg(data, false),
    };
    image.ok()
}

fn written(
    pages: &[Vec<Mark>],
    pictures: &[Option<Image>],
    fonts: &mut Fonts,
    about: &About<'_>,
    configuration: Configuration,
) -> Result<Vec<u8>, KrillaError> {
    let settings = SerializeSettings { configuration, ..SerializeSettings::default() };
    let mut document = Document::new_with(settings);
    for marks in pages {
        let Some(settings) = PageSettings::from_wh(PAGE.0, PAGE.1) else { continue };
        let mut page = document.start_page_with(settings);
        let mut surface = page.surface();
        for mark in marks {
            match mark {
                Mark::Lines { set, lines, x, y } => {
                    let mut top = *y;
                    for line in lines.clone() {
                        text_line(&mut surface, fonts, set, line, *x, top);
                        top += set.line_height(line);
                    }
                }
                Mark::Fill { area, ink } => fill(&mut surface, *area, *ink),
                Mark::Frame { area, ink, width } => frame(&mut surface, *area, *ink, *width),
                Mark::Picture { index, area } => {
                    let size = Size::from_wh(area.width, area.height);
                    if let (Some(Some(image)), Some(size)) = (pictures.get(*index), size) {
                        surface.push_transform(&Transform::from_translate(area.x, area.y));
                        surface.draw_image(image.clone(), size);
                        surface.pop();
                    }
                }
            }
        }
        surface.finish();
        page.finish();
    }
    document.set_metadata(metadata(about));
    document.finish()
}

fn metadata(about: &About<'_>) -> Metadata {
    let at = about.made_at.to_zoned(jiff::tz::TimeZone::UTC);
    let part = |number: i8| u8::try_from(number).unwrap_or(0);
    let made = DateTime::new(u16::try_from(at.year()).unwrap_or(0))
        .month(part(at.month()))
        .day(part(at.day()))
        .hour(part(at.hour()))
        .minute(part(at.minute()))
        .second(part(at.second()))
        .utc_offset_hour(0)
        .utc_offset_minute(0);
    Metadata::new()
        .title(about.title.to_owned())
        .language(about.language.to_owned())
        .creator("Prelim".to_owned())
        .creation_date(made)
        .document_id(about.id.clone())
}

fn color([red, green, blue]: Ink) -> krilla::color::rgb::Color {
    krilla::color::rgb::Color::new(red, green, blue)
}

fn fill(surface: &mut Surface<'_>, area: Area, ink: Ink) {
    surface.set_fill(Some(Fill { paint: color(ink).into(), ..Fill::default() }));
    surface.set_stroke(None);
    rectangle(surface, area);
}

fn frame(surface: &mut Surface<'_>, area: Area, ink: Ink, width: f32) {
    surface.set_fill(None);
    surface.set_stroke(Some(Stroke { paint: color(ink).into(), width, ..Stroke::default() }));
    rectangle(surface, area);
    surface.set_stroke(None);
}

fn rectangle(surface: &mut Surface<'_>, area: Area) {
    let mut path = PathBuilder::new();
    let Some(rect) = Rect::from_xywh(area.x, area.y, area.width, area.height) else { return };
    path.push_rect(rect);
    if let Some(path) = path.finish() {
        surface.draw_path(&path);
    }
}

/// One line with its upper edge at `top`: one glyph run for each stretch of one font and ink.
fn text_line(
    surface: &mut Surface<'_>,
    fonts: &mut Fonts,
    set: &Set,
    line: usize,
    left: f32,
    top: f32,
) {
    let Some(line) = set.layout.get(line) else { return };
    let metrics = line.metrics();
    let baseline = top + metrics.baseline - metrics.block_min_coord;
    let mut x = left + metrics.offset;
    for run in line.runs() {
        let Some(face) = fonts.face(run.font()) else { continue };
        let size = run.font_size();
        let mut glyphs: Vec<KrillaGlyph> = Vec::new();
        let mut ink: Option<Ink> = None;
        let mut start = x;
        for cluster in run.visual_clusters() {
            if cluster.is_ligature_continuation() {
                if let Some(glyph) = glyphs.last_mut() {
                    glyph.text_range.end = cluster.text_range().end;
                }
                continue;
            }
            let this = cluster.style().brush;
            for glyph in cluster.glyphs() {
                if ink.is_some_and(|ink| ink != this) {
                    stretch(surface, &face, set, &mut glyphs, ink, size, (start, baseline));
                    start = x;
                }
                ink = Some(this);
                glyphs.push(KrillaGlyph::new(
                    GlyphId::new(glyph.id),
                    glyph.advance / size,
                    glyph.x / size,
                    glyph.y / size,
                    0.0,
                    cluster.text_range(),
                    None,
                ));
                x += glyph.advance;
            }
        }
        stretch(surface, &face, set, &mut glyphs, ink, size, (start, baseline));
    }
}

fn stretch(
    surface: &mut Surface<'_>,
    face: &krilla::text::Font,
    set: &Set,
    glyphs: &mut Vec<KrillaGlyph>,
    ink: Option<Ink>,
    size: f32,
    (x, y): (f32, f32),
) {
    if glyphs.is_empty() {
        return;
    }
    let ink = ink.unwrap_or_default();
    surface.set_fill(Some(Fill { paint: color(ink).into(), ..Fill::default() }));
    surface.set_stroke(None);
    surface.draw_glyphs(Point::from_xy(x, y), glyphs, face.clone(), &set.text, size, false);
    glyphs.clear();
}
