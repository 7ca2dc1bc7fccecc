//! Structured reports of others: their codes and their words (PS3.3 C.17.3).

use std::path::Path;

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use crate::domain::code::Code;
use crate::domain::final_report::FinalReport;
use crate::domain::final_report::Stated;
use crate::domain::final_report::is_aside;
use crate::imaging::dataset::DataSet;
use crate::imaging::dataset::Fields;
use crate::imaging::dataset::Unreadable;

/// Content items that are read, and how deep they may nest.
const ITEMS_MAX: usize = 5_000;
const DEPTH_MAX: usize = 32;
const TEXT_BYTES_MAX: usize = 50_000;

/// Present, Yes, Known present, Detected, and their opposites (PS3.16 CID 240, CID 230).
const YES: [&str; 4] = ["52101004", "373066001", "410515003", "260373001"];
const NO: [&str; 4] = ["2667000", "373067005", "410516002", "260415000"];
/// Presence of finding, Observation presence; Finding.
const PRESENCE: [&str; 2] = ["705057003", "G-C0E8"];

/// Reads a structured report. Whether a doctor stands for it is its
/// [origin](crate::domain::origin).
///
/// # Errors
/// [`Unreadable`], which holds no value from the file.
pub fn read(path: &Path) -> Result<FinalReport, Unreadable> {
    let opened = DataSet::open(path)?;
    let top = opened.fields();
    let mut found = Found::default();
    found.children(&top, 0, &mut None);
    let is_preliminary = top.plain(tags::PRELIMINARY_FLAG) == "PRELIMINARY";
    let not_final = is_preliminary.then(|| "it is preliminary".to_owned());
    Ok(FinalReport { stated: found.stated, text: found.text, not_final })
}

fn first(fields: &Fields<'_>, tag: Tag) -> String {
    fields.strings(tag).into_iter().next().unwrap_or_default()
}

fn code(fields: &Fields<'_>, sequence: Tag) -> Option<Code> {
    let item = fields.item(sequence)?;
    let scheme = item.plain(tags::CODING_SCHEME_DESIGNATOR);
    Some(Code::new(&item.plain(tags::CODE_VALUE), &scheme, &first(&item, tags::CODE_MEANING)))
}

fn presence(value: &Code) -> Option<bool> {
    match value.value.as_str() {
        value if YES.contains(&value) => Some(true),
        value if NO.contains(&value) => Some(false),
        _ => None,
    }
}

#[derive(Default)]
struct Found {
    items: usize,
    stated: Vec<Stated>,
    text: String,
}

impl Found {
    /// - `of_parent`: set where an item says whether its parent is present.
    fn children(&mut self, fields: &Fields<'_>, depth: usize, of_parent: &mut Option<bool>) {
        if depth > DEPTH_MAX {
            return;
        }
        let left = ITEMS_MAX.saturating_sub(self.items);
        let items = fields.items(tags::CONTENT_SEQUENCE, left);
        self.items += items.len();
        // A measurement group says of all its findings whether they are there (TID 1410, 1411).
        let (mut of_group, begin) = (None, self.stated.len());
        for item in &items {
            self.item(item, depth, &mut of_group);
        }
        if let Some(present) = of_group {
            self.stated[begin..].iter_mut().for_each(|stated| stated.present = present);
            *of_parent = Some(present);
        }
    }

    fn item(&mut self, item: &Fields<'_>, depth: usize, of_group: &mut Option<bool>) {
        let name = code(item, tags::CONCEPT_NAME_CODE_SEQUENCE);
        let title = name.as_ref().map_or("", |name| name.meaning.as_str());
        if is_aside(title) {
            return;
        }
        match item.plain(tags::VALUE_TYPE).as_str() {
            "CONTAINER" => self.children(item, depth + 1, &mut None),
            "TEXT" => {
                for line in item.strings(tags::TEXT_VALUE) {
                    self.say(&line);
                }
                self.children(item, depth + 1, &mut None);
            }
            "CODE" => {
                let Some(value) = code(item, tags::CONCEPT_CODE_SEQUENCE) else { return };
                match (presence(&value), name) {
                    (Some(present), Some(name)) if PRESENCE.contains(&name.value.as_str()) => {
                        *of_group = Some(present);
                    }
                    (Some(present), Some(name)) => self.stated.push(Stated { code: name, present }),
                    (Some(_), None) => {}
                    (None, _) => {
                        let mut own = None;
                        let at = self.stated.len();
                        self.stated.push(Stated { code: value, present: true });
                        self.children(item, depth + 1, &mut own);
                        if let Some(present) = own {
                            self.stated[at].present = present;
                        }
                    }
                }
            }
            _ => {}
        }
    }

    fn say(&mut self, line: &str) {
        let room = TEXT_BYTES_MAX.saturating_sub(self.text.len());
        self.text.extend(line.chars().take(room));
        self.text.push('\n');
    }
}
