//! Patterns of paths below a root, as ignore files have them.
//!
//! `*` is any text and `?` one character, both within one part of a path; `**` is any number of parts. A pattern with a `/`
//! in it counts from the root; one without is a name at any depth. A `/` at its end: only folders.

use std::fmt;

/// A pattern of paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    text: String,
    parts: Vec<Vec<u8>>,
    folders_only: bool,
}

impl PathPattern {
    /// # Errors
    /// A pattern that can match nothing below a root: an empty one, or with a part `.` or `..`.
    pub fn new(text: &str) -> Result<Self, String> {
        let folders_only = text.ends_with('/');
        let inner = text.trim_end_matches('/');
        let anchored = inner.contains('/'); // also by one at its beginning
        let parts: Vec<Vec<u8>> =
            inner.trim_start_matches('/').split('/').map(|part| part.as_bytes().to_vec()).collect();
        if parts.iter().any(|part| matches!(part.as_slice(), b"" | b"." | b"..")) {
            return Err(format!("'{text}' is no pattern of paths below the root; hint: *.log, cache/, docs/**/*.md"));
        }
        let anywhere = (!anchored).then(|| b"**".to_vec());
        Ok(Self { text: text.into(), parts: anywhere.into_iter().chain(parts).collect(), folders_only })
    }

    /// Whether this path itself is meant; `path` is relative, its parts divided by `/`.
    pub fn matches(&self, path: &[u8], is_folder: bool) -> bool {
        if self.folders_only && !is_folder {
            return false;
        }
        let path: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        wild(&self.parts, &path, |part| part == b"**", |part, name| wild(part, name, |c| *c == b'*', one))
    }

    /// Whether this path is meant, or a folder that it lies in.
    pub fn covers(&self, path: &[u8], is_folder: bool) -> bool {
        let folders = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| &path[..end]);
        { folders }.any(|folder| self.matches(folder, true)) || self.matches(path, is_folder)
    }
}

fn one(pattern: &u8, byte: &u8) -> bool {
    *pattern == b'?' || pattern == byte
}

/// Whether all of `names` match, where `is_any` elements of the pattern match any number of them.
fn wild<P, N>(pattern: &[P], names: &[N], is_any: impl Fn(&P) -> bool, same: impl Fn(&P, &N) -> bool) -> bool {
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < names.len() {
        match pattern.get(p) {
            Some(any) if is_any(any) => {
                star = Some((p, n));
                p += 1;
            }
            Some(part) if same(part, &names[n]) => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    n = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(is_any)
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read_as_in_ignore_files() {
        for (pattern, path, folder, expected) in [
            ("*.log", "app.log", false, true),
            ("*.log", "var/deep/app.log", false, true),
            ("*.log", "app.log.txt", false, false),
            ("cache/", "x/cache", true, true),
            ("cache/", "x/cache", false, false),
            ("/notes", "notes", false, true),
            ("/notes", "x/notes", false, false),
            ("docs/*.md", "docs/a.md", false, true),
            ("docs/*.md", "docs/b/a.md", false, false),
            ("docs/*.md", "x/docs/a.md", false, false),
            ("docs/**/*.md", "docs/a.md", false, true),
            ("docs/**/*.md", "docs/b/c/a.md", false, true),
            ("**/x", "x", false, true),
            ("a?c", "abc", false, true),
            ("a*c*e", "abcde", false, true),
            ("a*c*e", "abcd", false, false),
        ] {
            let read = PathPattern::new(pattern).unwrap();
            assert_eq!(read.matches(path.as_bytes(), folder), expected, "{pattern} {path}");
        }
        let covers = |pattern: &str, path: &str| PathPattern::new(pattern).unwrap().covers(path.as_bytes(), false);
        assert!(covers("docs", "docs/a/b.md") && covers("a/b/", "a/b/c/d") && !covers("a/b/", "a/b"));
        assert!(
            PathPattern::new("").is_err() && PathPattern::new("../x").is_err() && PathPattern::new("a//b").is_err()
        );
        assert!(PathPattern::new("*").unwrap().matches(b"\xff\xfe", false), "names need not be UTF-8");
    }
}
