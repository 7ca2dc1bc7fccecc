//! Key images: a frame at its own resolution with what was found on it drawn in.

use serde::Deserialize;
use serde::Serialize;

use crate::domain::picture::Window;

/// What is drawn, on which frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drawing {
    /// From 1.
    pub frame: u32,
    /// None: the object's own view.
    pub window: Option<Window>,
    pub marks: Vec<Mark>,
    /// Lines above the image and below it, beside the frame and never over it.
    pub above: Vec<String>,
    pub below: Vec<String>,
}

/// A rectangle in pixels of the frame (x0, y0, x1, y1) and what stands at it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    pub region: [f64; 4],
    pub label: String,
}

/// The drawing: 8 bits, one sample (0 is black) or three (RGB), row by row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyImage {
    pub width: u32,
    pub height: u32,
    pub samples: u32,
    /// How grey levels were made of stored values; none for colour, and for modality tables.
    pub grey: Option<GreyPath>,
    /// Of the frame, when it was compressed with loss.
    pub lossy: Option<Lossy>,
    /// Height and width of a pixel, in the same unit.
    pub aspect: Option<[f64; 2]>,
    #[serde(skip)]
    pub pixels: Vec<u8>,
}

/// What a presentation state needs in order to show the same grey levels (PS3.3 C.11).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GreyPath {
    /// Slope and intercept; none when the header states no modality units.
    pub rescale: Option<[f64; 2]>,
    pub voi: Voi,
    /// MONOCHROME1.
    pub is_inverse: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Voi {
    Linear {
        center: f64,
        width: f64,
    },
    Sigmoid {
        center: f64,
        width: f64,
    },
    /// From the value `first` on, each of 16 bits.
    Table {
        first: i32,
        entries: Vec<u16>,
    },
}

/// Lossy Image Compression Ratio and Method, as far as they are known.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Lossy {
    pub ratios: Vec<String>,
    pub methods: Vec<String>,
}
