//! `[deid]` of the settings.

use serde::Deserialize;
use serde::Serialize;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub burned_in_text: BurnedInText,
    /// Share of a picture, in percent, that may be masked; with more text it is left out.
    pub text_percent_max: u32,
}

/// What is done, by kind of image. An image of two kinds is treated by the stricter policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BurnedInText {
    /// CR, DX, MG and IO that are none of the kinds below: names are burned into them too.
    pub radiograph: Policy,
    /// Slices of CT, MR and PT as the scanner makes them, that are none of the kinds below.
    pub plain: Policy,
    /// US and IVUS.
    pub ultrasound: Policy,
    /// Secondary captures, saved screens, everything with a Conversion Type.
    pub capture: Policy,
    /// XC, ES, OP, OPT, GM, SM.
    pub photograph: Policy,
    /// Every other modality, and an unknown one.
    pub other: Policy,
    /// Burned In Annotation says YES.
    pub stated: Policy,
    /// Where it is masked, and nobody can say whether it is text.
    pub unsure: Unsure,
    /// In what stays inside the building.
    pub inside: Inside,
}

/// What happens when a box may hold text that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unsure {
    /// It is black like text.
    Mask,
    /// Nothing of the study goes: a person must look.
    Hold,
}

/// What happens to the text of a picture that stays inside the building.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inside {
    /// Nothing looks for text.
    Send,
    /// Text is black where it reads like an instruction to a model, or is as long as a sentence and
    /// cannot be read.
    MaskInstructions,
}

/// What happens to a picture that goes to a gateway outside the building. The stricter is the
/// greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// It goes as it is; nothing looks for text.
    Send,
    /// Text that the detector finds is black, and of ultrasound all that lies outside the regions
    /// of the header. With too much text, or where the detector fails, the picture is left out.
    Mask,
    /// It does not go; the rest of the study does.
    LeaveOut,
    /// Nothing of the study goes.
    Hold,
}

impl Default for Config {
    fn default() -> Config {
        Config { burned_in_text: BurnedInText::default(), text_percent_max: 30 }
    }
}

impl Default for BurnedInText {
    fn default() -> BurnedInText {
        let mask = Policy::Mask;
        BurnedInText {
            radiograph: mask,
            plain: mask,
            ultrasound: mask,
            capture: mask,
            photograph: mask,
            other: mask,
            stated: mask,
            unsure: Unsure::Mask,
            inside: Inside::MaskInstructions,
        }
    }
}

impl Config {
    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        let percent = self.text_percent_max;
        if !(1..=100).contains(&percent) {
            problems.push(format!(
                "{at}.text_percent_max = {percent}: use 1 to 100 (default 30); with 0 no picture with text could be shown"
            ));
        }
        if self.burned_in_text.stated == Policy::Send {
            problems.push(format!(
                "{at}.burned_in_text.stated = \"send\": use \"mask\", \"leave_out\" or \"hold\"; the header of such an image says that names stand in it"
            ));
        }
    }
}
