//! `matchGlob` of Storage listings and the `*` of BigQuery's `gs://` URIs. Pure.

/// Storage's glob: `*` within a segment, `**` across, `?`, `[a-z]`, `[!a]`, `{x,y}`, `\` escapes.
pub fn matches(pattern: &str, text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    alternatives(pattern).iter().any(|p| {
        let pattern: Vec<char> = p.chars().collect();
        walk(&pattern, &text, &mut 0)
    })
}

/// BigQuery's wildcard: every `*` stands for any text.
pub fn matches_star(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// The text that everything matching the pattern begins with.
pub fn literal_prefix(pattern: &str) -> &str {
    &pattern[..pattern.find(['*', '?', '[', '{', '\\']).unwrap_or(pattern.len())]
}

/// Steps after which a pattern counts as not matching: a bound on hostile patterns.
const MAX_STEPS: usize = 1_000_000;
const MAX_ALTERNATIVES: usize = 256;

/// `a{b,c}d` -> `abd`, `acd`; nested braces too.
fn alternatives(pattern: &str) -> Vec<String> {
    let mut open = None;
    let mut depth = 0;
    let mut cuts = Vec::new();
    let mut escaped = false;
    for (at, c) in pattern.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '{' => {
                depth += 1;
                if depth == 1 {
                    open = Some(at);
                }
            }
            ',' if depth == 1 => cuts.push(at),
            '}' if depth > 0 => {
                depth -= 1;
                if depth == 0
                    && let Some(open) = open
                {
                    let mut out = Vec::new();
                    let mut from = open + 1;
                    for to in cuts.iter().copied().chain([at]) {
                        let whole = format!("{}{}{}", &pattern[..open], &pattern[from..to], &pattern[at + 1..]);
                        out.extend(alternatives(&whole));
                        out.truncate(MAX_ALTERNATIVES);
                        from = to + 1;
                    }
                    return out;
                }
            }
            _ => {}
        }
    }
    vec![pattern.to_string()]
}

fn walk(p: &[char], t: &[char], steps: &mut usize) -> bool {
    *steps += 1;
    if *steps > MAX_STEPS {
        return false;
    }
    match p {
        [] => t.is_empty(),
        ['*', '*', '/', rest @ ..] => {
            // `a/**/b` also means `a/b`.
            walk(rest, t, steps) || (0..t.len()).any(|i| t[i] == '/' && walk(rest, &t[i + 1..], steps))
        }
        ['*', '*', rest @ ..] => (0..=t.len()).any(|i| walk(rest, &t[i..], steps)),
        ['*', rest @ ..] => {
            let end = t.iter().position(|c| *c == '/').unwrap_or(t.len());
            (0..=end).any(|i| walk(rest, &t[i..], steps))
        }
        ['?', rest @ ..] => t.first().is_some_and(|c| *c != '/') && walk(rest, &t[1..], steps),
        ['\\', c, rest @ ..] => t.first() == Some(c) && walk(rest, &t[1..], steps),
        ['[', class @ ..] => match class.iter().skip(1).position(|c| *c == ']') {
            Some(end) => {
                let (set, rest) = (&class[..=end], &class[end + 2..]);
                t.first().is_some_and(|c| *c != '/' && in_class(set, *c)) && walk(rest, &t[1..], steps)
            }
            None => t.first() == Some(&'[') && walk(class, &t[1..], steps),
        },
        [c, rest @ ..] => t.first() == Some(c) && walk(rest, &t[1..], steps),
    }
}

fn in_class(set: &[char], c: char) -> bool {
    let (negated, set) = match set {
        ['!' | '^', rest @ ..] => (true, rest),
        _ => (false, set),
    };
    let mut at = 0;
    let mut found = false;
    while at < set.len() {
        if at + 2 < set.len() && set[at + 1] == '-' {
            found |= (set[at]..=set[at + 2]).contains(&c);
            at += 3;
        } else {
            found |= set[at] == c;
            at += 1;
        }
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_as_storage_documents() {
        for (pattern, text, expected) in [
            ("l/**/f3", "l/d1/f3", true),
            ("l/**/f3", "l/f3", true),
            ("*.avro", "a.avro", true),
            ("*.avro", "d/a.avro", false),
            ("**.avro", "d/e/a.avro", true),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("{a,b/*}.x", "b/q.x", true),
            ("{a,b/*}.x", "c.x", false),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("é*", "éa", true),
            ("", "", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
        assert_eq!(literal_prefix("a/b*.x"), "a/b");
    }

    #[test]
    fn a_star_in_a_uri_means_any_text() {
        for (pattern, text, expected) in [
            ("p/*.avro", "p/000.avro", true),
            ("p/*.avro", "p/d/000.avro", true),
            ("p/*.avro", "p/000.parquet", false),
            ("p/a", "p/a", true),
            ("p/a", "p/ab", false),
            ("a*b*c", "aXbYc", true),
            ("a*bc*c", "abc", false),
        ] {
            assert_eq!(matches_star(pattern, text), expected, "{pattern} {text}");
        }
    }
}
