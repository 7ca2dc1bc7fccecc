//! A document of headings, paragraphs and tables, as Markdown and as HTML.

/// One part of a document. Text is plain: it is escaped where it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block {
    /// Level 1 to 3.
    Heading(u8, String),
    Text(String),
    Table(Vec<&'static str>, Vec<Vec<String>>),
}

#[derive(Debug, Default)]
pub struct Document(Vec<Block>);

impl Document {
    pub fn heading(&mut self, level: u8, text: impl Into<String>) {
        self.0.push(Block::Heading(level, text.into()));
    }

    pub fn text(&mut self, text: impl Into<String>) {
        self.0.push(Block::Text(text.into()));
    }

    /// A table without rows is left out.
    pub fn table<const N: usize>(
        &mut self,
        header: [&'static str; N],
        rows: impl IntoIterator<Item = [String; N]>,
    ) {
        let rows: Vec<Vec<String>> = rows.into_iter().map(Vec::from).collect();
        if !rows.is_empty() {
            self.0.push(Block::Table(header.to_vec(), rows));
        }
    }

    pub fn markdown(&self) -> String {
        let mut out = String::new();
        for block in &self.0 {
            match block {
                Block::Heading(level, text) => {
                    out += &format!("{} {}\n", "#".repeat(usize::from(*level)), for_markdown(text));
                }
                Block::Text(text) => out += &format!("{}\n", for_markdown(text)),
                Block::Table(header, rows) => {
                    out += &format!(
                        "| {} |\n|{}\n",
                        header.join(" | "),
                        " --- |".repeat(header.len())
                    );
                    for row in rows {
                        let cells: Vec<String> =
                            row.iter().map(|cell| for_markdown(cell)).collect();
                        out += &format!("| {} |\n", cells.join(" | "));
                    }
                }
            }
            out.push('\n');
        }
        out
    }

    pub fn html(&self, title: &str) -> String {
        let mut out = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{}</title>\n\
             <style>{STYLE}</style>\n</head>\n<body>\n",
            for_html(title)
        );
        for block in &self.0 {
            match block {
                Block::Heading(level, text) => {
                    out += &format!("<h{level}>{}</h{level}>\n", for_html(text));
                }
                Block::Text(text) => out += &format!("<p>{}</p>\n", for_html(text)),
                Block::Table(header, rows) => {
                    let cells = |tag: &str, row: &mut dyn Iterator<Item = String>| {
                        let all: String = row.map(|c| format!("<{tag}>{c}</{tag}>")).collect();
                        format!("<tr>{all}</tr>\n")
                    };
                    out += "<table>\n";
                    out += &cells("th", &mut header.iter().map(|cell| for_html(cell)));
                    for row in rows {
                        out += &cells("td", &mut row.iter().map(|cell| for_html(cell)));
                    }
                    out += "</table>\n";
                }
            }
        }
        out + "</body>\n</html>\n"
    }
}

const STYLE: &str = "body{font:15px/1.45 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
    table{border-collapse:collapse;margin:1rem 0}th,td{border:1px solid #999;padding:.2rem .5rem;\
    text-align:left;vertical-align:top}";

fn for_html(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            character => out.push(character),
        }
    }
    out
}

fn for_markdown(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '|' | '\\' | '*' | '`' | '<' | '[' => out.extend(['\\', character]),
            '\n' | '\r' => out.push(' '),
            character => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_setting_holds_stays_text() {
        let mut document = Document::default();
        document.heading(1, "A & B");
        document.table(["Name", "Value"], [["a|b".to_owned(), "<script>".to_owned()]]);
        document.table(["Empty"], []);
        assert_eq!(
            document.markdown(),
            "# A & B\n\n| Name | Value |\n| --- | --- |\n| a\\|b | \\<script> |\n\n"
        );
        let html = document.html("T");
        assert!(html.contains("<h1>A &amp; B</h1>") && html.contains("<td>&lt;script&gt;</td>"));
        assert!(!html.contains("Empty"));
    }
}
