//! The settings that the node works with, each with where it comes from. Secrets stand in files; where
//! one stands here all the same, it is masked.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;

use crate::web::Shared;
use crate::web::Web;
use crate::web::page::Frame;
use crate::web::problem::Failure;

/// One value that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// `section.key`.
    pub key: String,
    /// As JSON, or `***`.
    pub value: String,
    /// The file, the variable or the option that it comes from; empty for a default.
    pub source: String,
}

#[derive(Serialize)]
struct Page {
    frame: Frame,
    sections: Vec<Section>,
}

#[derive(Serialize)]
struct Section {
    name: String,
    settings: Vec<Setting>,
    /// How many of them are no defaults.
    set: usize,
}

pub async fn show(State(web): State<Web>) -> Result<Response, Failure> {
    let page = web.read(|web| Ok(page_of(web))).await?;
    web.pages.render("settings", &page)
}

fn page_of(web: &Shared) -> Page {
    let mut sections: Vec<Section> = Vec::new();
    for setting in (web.node.settings)() {
        let name = setting.key.split('.').next().unwrap_or_default();
        if sections.last().is_none_or(|section| section.name != name) {
            sections.push(Section { name: name.to_owned(), settings: Vec::new(), set: 0 });
        }
        if let Some(section) = sections.last_mut() {
            section.set += usize::from(!setting.source.is_empty());
            section.settings.push(setting);
        }
    }
    Page { frame: Frame::new(web, "settings", "settings"), sections }
}
