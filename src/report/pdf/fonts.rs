//! Fonts of the PDF: found once in the life of a process, then shared.

use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use parley::FontContext;
use parley::FontFamilyName;
use parley::LayoutContext;
use parley::fontique::Blob;
use parley::fontique::Collection;
use parley::fontique::CollectionOptions;
use parley::fontique::SourceCache;

use crate::report::Config;
use crate::report::Language;
use crate::report::ReportError;
use crate::report::pdf::set::Ink;

/// Where distributions put Noto Sans CJK: Debian and Ubuntu, Arch, Fedora, openSUSE.
const FOLDERS: [&str; 4] = [
    "/usr/share/fonts/opentype/noto",
    "/usr/share/fonts/noto-cjk",
    "/usr/share/fonts/google-noto-sans-cjk-fonts",
    "/usr/share/fonts/truetype",
];
const REGULAR: &str = "NotoSansCJK-Regular.ttc";
const BOLD: &str = "NotoSansCJK-Bold.ttc";
/// For scripts that Noto Sans CJK lacks (Arabic, Hebrew, Thai), when they are installed.
const MORE: [&str; 4] = [
    "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
    "/usr/share/fonts/truetype/noto/NotoSansArabic-Regular.ttf",
    "/usr/share/fonts/truetype/noto/NotoSansHebrew-Regular.ttf",
    "/usr/share/fonts/truetype/noto/NotoSansThai-Regular.ttf",
];

/// Loaded fonts and the scratch space of the text layout.
pub struct Fonts {
    pub fonts: FontContext,
    pub layouts: LayoutContext<Ink>,
    /// By the number of the font file and the face in it.
    faces: HashMap<(u64, u32), krilla::text::Font>,
    /// Families of the main font: several for a collection (one for each region's glyph forms).
    families: Vec<String>,
    more: Vec<String>,
}

type Files = Vec<PathBuf>;

/// The fonts that were used last, with the files they came from: a file of 20 MB is read once in
/// a process, not once for each report.
static LOADED: Mutex<Option<(Files, Arc<Mutex<Fonts>>)>> = Mutex::new(None);

/// The fonts of the configuration, loaded at the first call.
///
/// # Errors
/// [`ReportError::FontMissing`] names what to install when there is no font.
pub fn fonts(site: &Config) -> Result<Arc<Mutex<Fonts>>, ReportError> {
    let files = files(site)?;
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    match &*loaded {
        Some((from, fonts)) if *from == files => Ok(fonts.clone()),
        Some(_) | None => {
            let fonts = Arc::new(Mutex::new(load(&files)?));
            *loaded = Some((files, fonts.clone()));
            Ok(fonts)
        }
    }
}

/// Regular, bold, then the further ones.
fn files(site: &Config) -> Result<Files, ReportError> {
    let find = |own: &Path, name: &str| {
        let candidates: Vec<PathBuf> = match own.as_os_str().is_empty() {
            true => FOLDERS.iter().map(|folder| Path::new(folder).join(name)).collect(),
            false => vec![own.to_owned()],
        };
        candidates.iter().find(|file| file.is_file()).cloned().ok_or_else(|| {
            let tried: Vec<String> = candidates.iter().map(|f| f.display().to_string()).collect();
            ReportError::FontMissing { looked_at: tried.join(", ") }
        })
    };
    let mut files = vec![find(&site.font_regular, REGULAR)?, find(&site.font_bold, BOLD)?];
    files.extend(site.fonts_more.iter().cloned());
    if site.fonts_more.is_empty() {
        files.extend(MORE.iter().map(PathBuf::from).filter(|file| file.is_file()));
    }
    Ok(files)
}

fn load(files: &[PathBuf]) -> Result<Fonts, ReportError> {
    let options = CollectionOptions { shared: false, system_fonts: false };
    let mut collection = Collection::new(options);
    let (mut families, mut more) = (Vec::new(), Vec::new());
    for (place, file) in files.iter().enumerate() {
        let name = file.display().to_string();
        let bytes = std::fs::read(file)
            .map_err(|source| ReportError::FontUnreadable { file: name.clone(), source })?;
        let registered = collection.register_fonts(Blob::new(Arc::new(bytes)), None);
        if registered.is_empty() {
            return Err(ReportError::FontUnusable { file: name });
        }
        let name_of = |(id, _): &(_, _)| collection.family_name(*id).map(str::to_owned);
        let names: Vec<String> = registered.iter().filter_map(name_of).collect();
        match place {
            0 => families = names,
            1 => {}
            _ => more.extend(names),
        }
    }
    Ok(Fonts {
        fonts: FontContext { collection, source_cache: SourceCache::default() },
        layouts: LayoutContext::new(),
        faces: HashMap::new(),
        families,
        more,
    })
}

impl Fonts {
    /// Families to try in this order: of a collection the one with the glyph forms of the
    /// language, then the further fonts.
    pub fn stack(&self, language: Language) -> Vec<FontFamilyName<'static>> {
        let region = match language {
            Language::Zh => " SC",
            Language::En | Language::Ko | Language::Vi => " KR",
        };
        let proportional = || self.families.iter().filter(|name| !name.contains("Mono"));
        let main =
            proportional().find(|name| name.ends_with(region)).or_else(|| proportional().next());
        let names = main.or_else(|| self.families.first()).into_iter().chain(&self.more);
        names.map(|name| FontFamilyName::Named(name.clone().into())).collect()
    }

    /// The font as the PDF writer wants it. None for a face that it cannot read.
    pub fn face(&mut self, font: &parley::FontData) -> Option<krilla::text::Font> {
        let key = (font.data.id(), font.index);
        if let Some(face) = self.faces.get(&key) {
            return Some(face.clone());
        }
        let (data, _) = font.data.clone().into_raw_parts();
        let face = krilla::text::Font::new(data.into(), font.index)?;
        self.faces.insert(key, face.clone());
        Some(face)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_font_is_named_with_the_package_to_install() {
        let site = Config { font_regular: "/no/such.ttc".into(), ..Config::default() };
        let Err(error) = fonts(&site) else { panic!("there is no such font") };
        let text = error.to_string();
        assert!(text.contains("fonts-noto-cjk") && text.contains("/no/such.ttc"), "{text}");
    }

    #[test]
    fn a_file_that_is_no_font_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"not a font").unwrap();
        let own = file.path().to_owned();
        let site = Config { font_regular: own.clone(), font_bold: own, ..Config::default() };
        assert!(matches!(fonts(&site), Err(ReportError::FontUnusable { .. })));
    }
}
