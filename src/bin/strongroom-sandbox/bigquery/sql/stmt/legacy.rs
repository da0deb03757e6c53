//! Legacy SQL: only its spelling of tables. `[project:dataset.table]` becomes the name in back quotes.

/// The query in standard SQL, as far as names go. What else differs is left to fail.
pub fn translate(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some(at) = rest.find('[') {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        let name = after[1..].find(']').map(|end| &after[1..=end]);
        let is_table = |n: &str| {
            n.contains('.') && n.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '$'))
        };
        match name.filter(|n| is_table(n)) {
            Some(name) => {
                out.push('`');
                out.push_str(&name.replacen(':', ".", 1));
                out.push('`');
                rest = &after[name.len() + 2..];
            }
            None => {
                out.push('[');
                rest = &after[1..];
            }
        }
    }
    out.push_str(rest);
    out
}
