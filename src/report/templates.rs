//! The templates: built in, or a site's own file of the same name.

use handlebars::Handlebars;
use serde::Serialize;

use crate::report::Config;
use crate::report::ReportError;

#[derive(Debug, Clone, Copy)]
pub struct Template {
    pub name: &'static str,
    built_in: &'static str,
}

pub const HTML: Template = Template {
    name: "report.html.hbs",
    built_in: include_str!("../../templates/report/report.html.hbs"),
};

pub const TEXT: Template = Template {
    name: "report.txt.hbs",
    built_in: include_str!("../../templates/report/report.txt.hbs"),
};

/// What a site's own may be called.
pub const NAMES: [&str; 2] = [HTML.name, TEXT.name];

#[cfg(test)]
impl Template {
    pub fn built_in(&self) -> &'static str {
        self.built_in
    }
}

/// Renders a template in strict mode: a name that does not exist is an error, not a gap. So is a
/// report that does not say `state`: a site's own wording is its own, but not that.
pub fn render(
    template: Template,
    site: &Config,
    mut registry: Handlebars<'_>,
    content: &impl Serialize,
    state: &str,
) -> Result<String, ReportError> {
    let name = template.name;
    let own = site.templates_dir.join(name);
    let source = match !site.templates_dir.as_os_str().is_empty() && own.is_file() {
        false => template.built_in.to_owned(),
        true => std::fs::read_to_string(&own).map_err(|source| {
            ReportError::TemplateUnreadable { file: own.display().to_string(), source }
        })?,
    };
    registry.set_strict_mode(true);
    let broken = |reason: String| ReportError::Template { name, reason };
    registry.register_template_string(name, source).map_err(|e| broken(e.to_string()))?;
    let rendered = registry.render(name, content).map_err(|e| broken(e.to_string()))?;
    match rendered.contains(state) {
        true => Ok(rendered),
        false => Err(broken(format!("its report does not say {state} ({{{{w.preliminary}}}})"))),
    }
}
