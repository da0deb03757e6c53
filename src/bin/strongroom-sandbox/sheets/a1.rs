//! A1 notation: `Sheet!A1:B2` with all its shortcuts, to and from zero-based numbers. Knows no values.

/// Zero-based; ends are exclusive, `None` means up to the grid's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cells {
    pub row: usize,
    pub rows_end: Option<usize>,
    pub column: usize,
    pub columns_end: Option<usize>,
}

/// A parsed range; without a sheet it means the first one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    pub sheet: Option<String>,
    /// `None`: the whole sheet.
    pub cells: Option<Cells>,
}

/// Parses a range. A text that can be both a sheet's title and cells is cells unless `is_sheet` knows it. `None` when it
/// is neither.
pub fn parse(text: &str, is_sheet: impl Fn(&str) -> bool) -> Option<Range> {
    let text = text.trim();
    if let Some(rest) = text.strip_prefix('\'') {
        // Quoted: '' stands for one quote.
        let mut title = String::new();
        let mut chars = rest.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            if c != '\'' {
                title.push(c);
            } else if chars.peek().is_some_and(|(_, next)| *next == '\'') {
                title.push('\'');
                chars.next();
            } else {
                return match &rest[at + 1..] {
                    "" => Some(Range { sheet: Some(title), cells: None }),
                    after => Some(Range { sheet: Some(title), cells: Some(cells(after.strip_prefix('!')?)?) }),
                };
            }
        }
        return None;
    }
    if let Some((title, after)) = text.rsplit_once('!') {
        return Some(Range { sheet: Some(title.to_string()), cells: Some(cells(after)?) });
    }
    if is_sheet(text) {
        return Some(Range { sheet: Some(text.to_string()), cells: None });
    }
    Some(Range { sheet: None, cells: Some(cells(text)?) })
}

/// `A1`, `A1:B2`, `A:B`, `1:2`, `A5:B`, `A:B5`.
pub fn cells(text: &str) -> Option<Cells> {
    let (from, to) = match text.split_once(':') {
        Some((from, to)) => (corner(from)?, corner(to)?),
        None => {
            let (column, row) = corner(text)?;
            let (column, row) = (column?, row?);
            return Some(Cells { row, rows_end: Some(row + 1), column, columns_end: Some(column + 1) });
        }
    };
    // Corners may come in any order.
    let (column, columns_end) = match (from.0, to.0) {
        (Some(a), Some(b)) => (a.min(b), Some(a.max(b) + 1)),
        (None, None) => (0, None),
        (Some(a), None) | (None, Some(a)) => (a, None),
    };
    let (row, rows_end) = match (from.1, to.1) {
        (Some(a), Some(b)) => (a.min(b), Some(a.max(b) + 1)),
        (None, None) => (0, None),
        (Some(a), None) | (None, Some(a)) => (a, None),
    };
    Some(Cells { row, rows_end, column, columns_end })
}

/// (column, row), each where it is given.
fn corner(text: &str) -> Option<(Option<usize>, Option<usize>)> {
    let text = text.trim().replace('$', "");
    let letters = text.bytes().take_while(u8::is_ascii_alphabetic).count();
    let (column, row) = text.split_at(letters);
    let column = match column {
        "" => None,
        c if c.len() <= 3 => {
            Some(c.bytes().fold(0, |n, b| n * 26 + usize::from(b.to_ascii_uppercase() - b'A') + 1) - 1)
        }
        _ => return None,
    };
    let row = match row {
        "" => None,
        r if r.len() <= 8 && r.bytes().all(|b| b.is_ascii_digit()) => Some(r.parse::<usize>().ok()?.checked_sub(1)?),
        _ => return None,
    };
    (column.is_some() || row.is_some()).then_some((column, row))
}

/// `A`, `Z`, `AA`.
pub fn column_name(mut column: usize) -> String {
    let mut letters = Vec::new();
    loop {
        letters.push(b'A' + u8::try_from(column % 26).unwrap_or(0));
        if column < 26 {
            break;
        }
        column = column / 26 - 1;
    }
    letters.iter().rev().map(|b| char::from(*b)).collect()
}

/// A title as it stands in a range: quoted unless it is plain.
pub fn quoted(title: &str) -> String {
    let plain = !title.is_empty()
        && title.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !title.starts_with(|c: char| c.is_ascii_digit())
        && cells(title).is_none();
    if plain { title.to_string() } else { format!("'{}'", title.replace('\'', "''")) }
}

/// `Sheet!A1:B2` of exclusive ends; one cell is `Sheet!A1`.
pub fn write(title: &str, row: usize, rows_end: usize, column: usize, columns_end: usize) -> String {
    let from = format!("{}{}", column_name(column), row + 1);
    let to = format!("{}{}", column_name(columns_end.saturating_sub(1).max(column)), rows_end.max(row + 1));
    if from == to { format!("{}!{from}", quoted(title)) } else { format!("{}!{from}:{to}", quoted(title)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn c(row: usize, rows_end: Option<usize>, column: usize, columns_end: Option<usize>) -> Option<Cells> {
        Some(Cells { row, rows_end, column, columns_end })
    }

    #[test]
    fn cells_are_read() {
        for (text, expected) in [
            ("A1", c(0, Some(1), 0, Some(1))),
            ("b2:AA10", c(1, Some(10), 1, Some(27))),
            ("B2:A1", c(0, Some(2), 0, Some(2))),
            ("$A$1:$B$2", c(0, Some(2), 0, Some(2))),
            ("A:C", c(0, None, 0, Some(3))),
            ("2:3", c(1, Some(3), 0, None)),
            ("A5:B", c(4, None, 0, Some(2))),
            ("A", None),
            ("1", None),
            ("A0", None),
            ("", None),
            ("A1:", None),
            ("ABCD1", None),
        ] {
            assert_eq!(cells(text), expected, "{text}");
        }
    }

    #[test]
    fn sheets_are_told_from_cells() {
        let known = |t: &str| t == "mappings" || t == "Q1";
        let range = |t: &str| parse(t, known);
        assert_eq!(range("mappings").unwrap(), Range { sheet: Some("mappings".into()), cells: None });
        assert_eq!(range("Q1").unwrap().cells, None);
        assert_eq!(range("Q2").unwrap(), Range { sheet: None, cells: c(1, Some(2), 16, Some(17)) });
        assert_eq!(range("'it''s a!b'!A1").unwrap().sheet.as_deref(), Some("it's a!b"));
        assert_eq!(range("'my sheet'").unwrap(), Range { sheet: Some("my sheet".into()), cells: None });
        assert_eq!(range("x y!A1").unwrap().sheet.as_deref(), Some("x y"));
        for bad in ["nosuch", "mappings!", "mappings!nosuch", "'open", "'a'b"] {
            assert_eq!(range(bad), None, "{bad}");
        }
    }

    #[test]
    fn ranges_are_written() {
        assert_eq!(write("s", 0, 4, 0, 5), "s!A1:E4");
        assert_eq!(write("my sheet", 0, 1, 26, 27), "'my sheet'!AA1");
        assert_eq!(write("it's", 0, 1, 0, 1), "'it''s'!A1");
        assert_eq!(quoted("A1"), "'A1'");
        assert_eq!(
            (column_name(25), column_name(26), column_name(701), column_name(702)),
            ("Z".into(), "AA".into(), "ZZ".into(), "AAA".into())
        );
    }
}
