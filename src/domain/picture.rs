//! Pictures: what of a study is shown to a model, and where each came from.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;

use crate::domain::uid::SeriesUid;
use crate::domain::uid::SopClassUid;
use crate::domain::uid::SopInstanceUid;

/// One frame of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ImageRef {
    pub sop_class_uid: SopClassUid,
    pub sop_instance_uid: SopInstanceUid,
    pub series_uid: SeriesUid,
    /// Frame number from 1 when the instance has several frames.
    pub frame: Option<u32>,
}

impl ImageRef {
    /// Whether both name the same frame; one that is not given is frame 1.
    pub fn is_same(&self, other: &ImageRef) -> bool {
        self.sop_instance_uid == other.sop_instance_uid
            && self.frame.unwrap_or(1) == other.frame.unwrap_or(1)
    }
}

/// A named display window (PS3.3 C.11.2.1.2), in modality units (HU for CT).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    pub name: String,
    pub center: f64,
    pub width: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PictureFormat {
    #[default]
    Jpeg,
    Png,
}

/// How slices are chosen of a series that has more than may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slices {
    /// Evenly over the extent of the series.
    #[default]
    Even,
    /// Evenly over those that hold enough of the body.
    Coverage,
    /// As with `coverage`, up to half of them moved to what a local measure points at.
    Candidates,
}

/// Which pictures to make of a study, within which budget.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PicturePlan {
    /// Modalities whose instances are pictured, e.g. `["CT"]`. Empty: all with pixels.
    pub modalities: Vec<String>,
    /// Slices or frames chosen of a series with many.
    pub slices_max: u32,
    pub slices: Slices,
    /// Pictures in all.
    pub pictures_max: u32,
    /// One picture for each window and slice. Empty: the object's own VOI LUT or window.
    pub windows: Vec<Window>,
    pub format: PictureFormat,
    /// Longest edge in pixels, at most 2048.
    pub edge_max_px: u32,
    /// Encoded size of one picture, at most 5 MB.
    pub bytes_max: u64,
}

impl Default for PicturePlan {
    fn default() -> PicturePlan {
        PicturePlan {
            modalities: Vec::new(),
            slices_max: 8,
            slices: Slices::default(),
            pictures_max: 12,
            windows: Vec::new(),
            format: PictureFormat::Jpeg,
            edge_max_px: 1024,
            bytes_max: 1_000_000,
        }
    }
}

/// What is made black in pictures before they are shown.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Masks {
    /// An instance that is not here is shown as it is.
    pub rules: BTreeMap<SopInstanceUid, PixelRule>,
    /// Share of a picture, in percent, that text may take; with more there is no picture.
    pub text_percent_max: u32,
    /// Longest edge of a picture in which text is masked: what is finer, no detector has seen.
    pub edge_max_px: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PixelRule {
    /// The text that a detector finds.
    Text,
    /// All that lies outside the ultrasound regions of the header, and the text inside.
    TextAndOutsideRegions,
    /// Text, where it speaks to a model: all else stays as it is.
    Instructions,
}

/// What was made black in a picture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Masked {
    pub boxes: u32,
    /// Those of them of which nobody can say whether they held text.
    pub unsure: u32,
    /// Whether the text reads like an instruction to a model.
    pub speaks: bool,
    /// Lines as long as a sentence in a script that is not read: nobody can say whether they speak to
    /// a model.
    pub unread: u32,
}

/// Where a picture came from. Everything that an answer about "picture 7" needs to become a
/// region on an instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PictureRef {
    /// From 1, in the order in which the pictures are shown; sheets are counted by themselves.
    pub number: u32,
    /// Of a sheet: that of its first tile.
    pub image: ImageRef,
    /// Name of the window, `default` for the object's own.
    pub window: String,
    /// Size of the picture.
    pub width_px: u32,
    pub height_px: u32,
    /// Size of the frame that it shows in full; a picture is never a cut-out.
    pub source_columns: u32,
    pub source_rows: u32,
    /// File name in the result folder: `picture-07.jpg`.
    pub file: String,
    /// SHA-256 of the encoded picture, hexadecimal.
    pub digest: String,
    /// Boxes of burned-in text that were made black. None: nobody looked for text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masked: Option<u32>,
    /// Those of them of which nobody can say whether they held text.
    #[serde(default)]
    pub unsure: u32,
    /// Whether text in it read like an instruction to a model.
    #[serde(default)]
    pub speaks: bool,
    /// Lines as long as a sentence in a script that is not read.
    #[serde(default)]
    pub unread: u32,
    /// The pictures on a sheet. A sheet is made for sending only and kept nowhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tiles: Vec<Tile>,
}

impl PictureRef {
    /// How a request calls it.
    pub fn label(&self) -> String {
        let what = if self.tiles.is_empty() { "Picture" } else { "Sheet" };
        format!("{what} {}", self.number)
    }
}

/// One picture on a sheet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tile {
    pub picture: PictureRef,
    /// From 1.
    pub row: u32,
    pub column: u32,
    /// Where it lies, in fractions of the sheet's width and height: x0, y0, x1, y1.
    pub place: [f64; 4],
}

/// A picture with its encoded bytes (JPEG or PNG).
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    pub reference: PictureRef,
    pub media_type: &'static str,
    pub bytes: Vec<u8>,
}
