//! An answer about sheets to one about pictures. A model names a picture by its own number also on a
//! sheet, and a box lies on the sheet: so the two check each other.

use crate::analysis::answer::Answer;
use crate::analysis::answer::AnsweredBox;
use crate::domain::picture::PictureRef;
use crate::domain::picture::Tile;

/// Share of a box that must lie on the picture that it names.
const INSIDE_MIN: f64 = 0.5;

/// Turns boxes on sheets into boxes on pictures; a box that lies elsewhere than the picture that it
/// names is left out. Says what was changed, for a reader.
///
/// - `sent`: what the model was shown. Without sheets nothing changes.
pub fn to_pictures(answer: &mut Answer, sent: &[PictureRef]) -> Vec<String> {
    let tiles: Vec<&Tile> = sent.iter().flat_map(|picture| &picture.tiles).collect();
    let (mut cut, mut lost) = (0, 0);
    for finding in &mut answer.findings {
        finding.boxes.retain_mut(|b| {
            let Some(tile) = tiles.iter().find(|tile| tile.picture.number == b.picture) else {
                return true;
            };
            match on_tile(b, tile) {
                Some((inside, whole)) => {
                    cut += usize::from(!whole);
                    *b = inside;
                    true
                }
                None => {
                    lost += 1;
                    false
                }
            }
        });
    }
    let mut notes = Vec::new();
    if !tiles.is_empty() && answer.findings.iter().any(|finding| !finding.masks.is_empty()) {
        answer.findings.iter_mut().for_each(|finding| finding.masks.clear());
        notes.push("masks on sheets of several pictures were left out".to_owned());
    }
    if cut > 0 {
        notes.push(format!("{cut} of the model's boxes reached beyond their picture and were cut"));
    }
    if lost > 0 {
        notes.push(format!(
            "{lost} of the model's boxes lay elsewhere than the picture they name and were left out"
        ));
    }
    notes
}

/// The box in fractions of the tile, and whether all of it lies there.
fn on_tile(b: &AnsweredBox, tile: &Tile) -> Option<(AnsweredBox, bool)> {
    let [left, top, right, bottom] = tile.place;
    let inside = AnsweredBox {
        x0: b.x0.clamp(left, right),
        y0: b.y0.clamp(top, bottom),
        x1: b.x1.clamp(left, right),
        y1: b.y1.clamp(top, bottom),
        ..*b
    };
    let area = |b: &AnsweredBox| (b.x1 - b.x0).max(0.0) * (b.y1 - b.y0).max(0.0);
    let share = area(&inside) / area(b);
    // A box without an area has no share either.
    if share.is_nan() || share < INSIDE_MIN {
        return None;
    }
    let (wide, high) = (right - left, bottom - top);
    let scaled = AnsweredBox {
        picture: b.picture,
        x0: (inside.x0 - left) / wide,
        y0: (inside.y0 - top) / high,
        x1: (inside.x1 - left) / wide,
        y1: (inside.y1 - top) / high,
    };
    Some((scaled, share > 0.99))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::analysis::testing;

    /// Pictures 1 and 2 side by side on a sheet, each in half of it, below a strip of a tenth.
    fn sent() -> Vec<PictureRef> {
        let study = testing::study("CT", "CHEST", "", "");
        let pictures = testing::pictures(&study);
        let tile = |at: usize| Tile {
            picture: pictures[at].clone(),
            row: 1,
            column: at as u32 + 1,
            place: [at as f64 * 0.5, 0.1, at as f64 * 0.5 + 0.5, 1.0],
        };
        vec![PictureRef { tiles: vec![tile(0), tile(1)], ..pictures[0].clone() }]
    }

    /// Picture and box on the sheet to the box on the picture, `None` where it is left out, and the
    /// number of notes.
    #[test]
    fn a_box_on_a_sheet_becomes_one_on_its_picture() {
        let profile = testing::profile("ct_chest");
        type Place = [f64; 4];
        let table: [(u32, Place, Option<Place>, usize); 7] = [
            (1, [0.0, 0.1, 0.5, 1.0], Some([0.0, 0.0, 1.0, 1.0]), 0),
            (1, [0.125, 0.325, 0.25, 0.55], Some([0.25, 0.25, 0.5, 0.5]), 0),
            (2, [0.625, 0.325, 0.75, 0.55], Some([0.25, 0.25, 0.5, 0.5]), 0),
            // Most of it on its picture: cut. Most of it beyond, or all: left out.
            (1, [0.25, 0.55, 0.625, 1.0], Some([0.5, 0.5, 1.0, 1.0]), 1),
            (1, [0.375, 0.55, 0.75, 1.0], None, 1),
            (1, [0.625, 0.325, 0.75, 0.55], None, 1),
            // It lies in the strip.
            (1, [0.1, 0.0, 0.2, 0.05], None, 1),
        ];
        for (picture, [x0, y0, x1, y1], expected, notes) in table {
            let b = json!({"picture": picture, "x0": x0, "y0": y0, "x1": x1, "y1": y1});
            let entry = testing::entry("nodule", json!({"presence": "present", "boxes": [b]}));
            let mut answer: Answer =
                serde_json::from_value(testing::answer(&profile, vec![entry])).unwrap();
            assert_eq!(to_pictures(&mut answer.clone(), &[]), [""; 0]);
            let said = to_pictures(&mut answer, &sent());
            let found = answer.findings[0].boxes.first();
            let near = match (found, expected) {
                (Some(b), Some(place)) => [b.x0, b.y0, b.x1, b.y1]
                    .iter()
                    .zip(place)
                    .all(|(found, expected)| (found - expected).abs() < 1e-9),
                (None, None) => true,
                _ => false,
            };
            assert!(near && said.len() == notes, "{x0} {y0}: {found:?} {said:?}");
        }
    }
}
