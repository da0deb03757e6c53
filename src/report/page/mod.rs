//! What all pages are made of: one style, and of those that are files one frame: no script, no network. They are read by people
//! of finance, printed, and opened on a phone.

mod charts;

pub use charts::{Column, Span, bar, columns};

use super::{BackupLine, bytes, thousands};

/// Writes a line into a `String`, which does not fail.
macro_rules! put {
    ($out:expr, $($arg:tt)*) => {{ use std::fmt::Write; let _ = writeln!($out, $($arg)*); }};
}
pub(crate) use put;

/// The style of every page.
pub const STYLE: &str = include_str!("page.css");

/// A whole page around its body, as a file that needs nothing else.
pub fn frame(title: &str, body: &str) -> String {
    let (title, css) = (escape(title), STYLE);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n<title>{title}</title>\n<style>\n{css}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )
}

pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

pub fn day_and_time(at: jiff::Timestamp) -> String {
    at.strftime("%-d %B %Y, %H:%M UTC").to_string()
}

pub fn day(at: jiff::Timestamp) -> String {
    at.strftime("%-d %b %Y").to_string()
}

/// A decimal text with its thousands grouped: `1234567.89` as `1,234,567.89`.
pub fn grouped(text: &str) -> String {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    let (whole, rest) = digits.split_at(digits.find(['.', 'e', 'E']).unwrap_or(digits.len()));
    match whole.parse() {
        Ok(whole) => format!("{sign}{}{rest}", thousands(whole)),
        Err(_) => text.into(),
    }
}

/// The verdict of a page, and why.
pub fn verdict((class, words): (&str, &str), story: &str, findings: &[String], out: &mut String) {
    put!(out, "<div class=\"verdict {class}\" id=\"verdict\">");
    put!(out, "<strong>{words}</strong>");
    put!(out, "<p>{}</p>", escape(story));
    if !findings.is_empty() {
        put!(out, "<ul id=\"findings\">");
        for finding in findings {
            put!(out, "<li>{}</li>", escape(finding));
        }
        put!(out, "</ul>");
    }
    put!(out, "</div>");
}

/// Figures side by side below the verdict.
pub fn figures(figures: &[(&str, String)], out: &mut String) {
    put!(out, "<dl class=\"figures\">");
    for (name, value) in figures {
        put!(out, "<div><dt>{name}</dt><dd>{}</dd></div>", escape(value));
    }
    put!(out, "</dl>");
}

/// How large backups were, as a chart and as figures.
pub fn sizes(backups: &[BackupLine], out: &mut String) {
    let (Some(first), Some(last)) = (backups.first(), backups.last()) else { return };
    let largest = backups.iter().map(|backup| backup.size_bytes).max().unwrap_or(0);
    let drawn: Vec<Column> = backups
        .iter()
        .map(|backup| Column {
            value: backup.size_bytes as f64,
            class: "f-accent",
            label: format!("{}: {}", backup.name, bytes(backup.size_bytes)),
        })
        .collect();
    put!(
        out,
        "<figure>\n<figcaption>Size of the backups kept ({}), the newest on the right; the highest column is {}.</figcaption>",
        drawn.len(),
        bytes(largest)
    );
    put!(out, "{}", columns("sizes of backups", &drawn));
    put!(
        out,
        "<div class=\"ends\"><span>{}</span><span>{}</span></div>\n</figure>",
        day(first.data_of),
        day(last.data_of)
    );
    put!(
        out,
        "<details><summary>The same as figures</summary><div class=\"scroll\" tabindex=\"0\"><table id=\"backups\"><thead><tr><th scope=\"col\">Backup</th><th scope=\"col\" class=\"n\">Rows</th><th scope=\"col\" class=\"n\">Size</th></tr></thead><tbody>"
    );
    for backup in backups {
        put!(
            out,
            "<tr><th scope=\"row\">{}</th><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            backup.name,
            thousands(backup.row_count),
            bytes(backup.size_bytes)
        );
    }
    put!(out, "</tbody></table></div></details>");
}

/// Names with their values, for the end of a page.
pub fn signature(lines: &[(&str, String)], out: &mut String) {
    put!(out, "<table class=\"stack\" id=\"signature\"><tbody>");
    for (name, value) in lines {
        put!(out, "<tr><th scope=\"row\">{name}</th><td class=\"long\"><code>{}</code></td></tr>", escape(value));
    }
    put!(out, "</tbody></table>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_cannot_leave_their_place() {
        assert_eq!(escape(r#"<b a='1'>&"</b>"#), "&lt;b a=&#39;1&#39;&gt;&amp;&quot;&lt;/b&gt;");
    }

    #[test]
    fn decimals_are_grouped_and_not_changed() {
        for (text, shown) in [
            ("1234567.000000001", "1,234,567.000000001"),
            ("-1234", "-1,234"),
            ("1e+15", "1e+15"),
            ("99999999999999999999999.5", "99999999999999999999999.5"),
        ] {
            assert_eq!(grouped(text), shown);
        }
    }
}
