//! The floors of the house, enforced on the source text: who may name whom, and what the pure floors may not touch.
//!
//! It reads paths (`use` trees and qualified paths), not types: it knows nothing of what the compiler resolves, and
//! asks for no crate that parses Rust. Each rule is proven by a text that breaks it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Top-level module, floor, pure. Modules on one floor do not name each other.
const FLOORS: &[(&str, u8, bool)] = &[
    ("model", 0, true),
    ("config", 1, true),
    ("manifest", 1, true),
    ("codec", 1, true),
    ("plan", 2, true),
    ("saga", 2, true),
    ("report", 3, true),
    ("google", 3, false),
    ("store", 4, false),
    ("source", 5, false),
    ("ingestion", 5, false),
    ("catalog", 5, false),
    ("query", 5, false),
    ("job", 6, false),
    ("app", 7, false),
    ("worker", 8, false),
    ("cli", 9, false),
];

/// Crates and modules of the outer world, as leading segments of a path.
const IMPURE_ROOTS: &[&str] = &[
    "tokio",
    "tokio_util",
    "rand",
    "getrandom",
    "reqwest",
    "std::fs",
    "std::env",
    "std::process",
    "std::net",
    "std::thread",
    "std::time::SystemTime",
    "std::time::Instant",
];

/// Clocks and dice under whatever name they were imported, as neighbouring segments anywhere in a path.
const IMPURE_PARTS: &[&str] = &[
    "SystemTime::now",
    "Instant::now",
    "Timestamp::now",
    "Zoned::now",
    "TimeZone::system",
    "SystemRandom",
    "OsRng",
    "ThreadRng",
    "aws_lc_rs::rand",
];

/// What the sandbox may use of the library: words and encodings, not our reading of Google's protocol.
const SANDBOX_MAY_USE: &[&str] = &["model", "codec"];

// ---------------------------------------------------------------------------------------------------- the tests

#[test]
fn every_module_names_lower_floors_only_and_pure_floors_stay_pure() {
    let src = root().join("src");
    let mut complaints = Vec::new();
    let files = rust_files(&src);
    assert!(files.len() > FLOORS.len(), "found only {} files under {}", files.len(), src.display());
    let tests_elsewhere = out_of_line_tests(&src, &files);
    for file in &files {
        let inside = file.strip_prefix(&src).expect("under src");
        if inside.starts_with("bin") || inside == Path::new("lib.rs") || inside == Path::new("main.rs") {
            continue;
        }
        let text = std::fs::read_to_string(file).expect("readable source");
        let is_test = tests_elsewhere.iter().any(|t| file == t || file.starts_with(t.with_extension("")));
        complaints.extend(check(&inside.to_string_lossy(), &text, is_test));
    }
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn the_sandbox_reads_google_for_itself() {
    let mut complaints = Vec::new();
    let bin = root().join("src/bin");
    for file in rust_files(&bin) {
        let text = std::fs::read_to_string(&file).expect("readable source");
        complaints.extend(check_sandbox(&file.display().to_string(), &text));
    }
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn the_library_does_not_know_that_a_local_double_exists() {
    let src = root().join("src");
    let mut complaints = Vec::new();
    for file in rust_files(&src).iter().filter(|f| !f.starts_with(src.join("bin"))) {
        let text = std::fs::read_to_string(file).expect("readable source");
        complaints.extend(mentions(&file.display().to_string(), &text, &["sandbox", "emulator"]));
    }
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn no_file_names_a_package_registry_or_a_path_of_some_machine() {
    // In pieces, so that this file does not name them either.
    let needles: Vec<String> = [
        ["crates", ".io"],
        ["py", "pi.org"],
        ["python", "hosted"],
        ["npm", "js.org"],
        ["npm", "js.com"],
        ["proxy.go", "lang.org"],
        ["deb.deb", "ian.org"],
        ["/wo", "rk/main"],
        ["/wo", "rk/shared"],
        ["/wo", "rk/."],
        ["/tm", "p/wt"],
        ["/ro", "ot/"],
    ]
    .iter()
    .map(|pieces| pieces.concat())
    .collect();
    let needles: Vec<&str> = needles.iter().map(String::as_str).collect();
    let mut complaints = Vec::new();
    let mut seen = 0;
    for file in tracked_files() {
        // Cargo writes its registry into the lock file; there is no other spelling.
        if file.file_name().is_some_and(|name| name == "Cargo.lock") {
            continue;
        }
        let Ok(bytes) = std::fs::read(&file) else { continue }; // deleted but not yet committed
        seen += 1;
        complaints.extend(mentions(&file.display().to_string(), &String::from_utf8_lossy(&bytes), &needles));
    }
    assert!(seen > 20, "found only {seen} files");
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn the_checker_catches_an_upward_import() {
    assert_caught("plan/backup.rs", "use crate::job::Runner;", "names `job` on floor 6");
    assert_caught("model/mod.rs", "fn f() { crate::codec::avro::write() }", "names `codec` on floor 1");
    assert_caught("store/gcs.rs", "use crate::{model::Failure, source::{self, Kind}};", "names `source`");
    assert_caught("model/names.rs", "use super::super::config::Config;", "names `config`");
    assert_caught("model/names.rs", "mod tests { use super::super::super::config::Config; }", "names `config`");
    assert_caught("config/mod.rs", "pub(crate) use crate :: plan :: Plan ;", "names `plan`");
    assert_caught("model/mod.rs", "use crate::{self as me, app as a};", "names `app`");
}

#[test]
fn the_checker_catches_a_sideways_import() {
    assert_caught("saga/run.rs", "use crate::plan::Step;", "names `plan` on floor 2");
    assert_caught("catalog/mod.rs", "use crate::source::Source;", "names `source` on floor 5");
    assert_caught("google/mod.rs", "use crate::report::Table;", "names `report` on floor 3");
    assert_caught("codec/mod.rs", "/* why not */ use crate::manifest::Part;", "names `manifest` on floor 1");
}

#[test]
fn floors_hold_in_test_code_too() {
    assert_caught("plan/mod.rs", "#[cfg(test)] mod tests { use crate::job::Runner; }", "names `job`");
}

#[test]
fn the_checker_catches_the_outer_world_in_a_pure_floor() {
    assert_caught("saga/mod.rs", "use tokio::sync::mpsc;", "pure: `tokio::sync::mpsc`");
    assert_caught("saga/mod.rs", "#[tokio::main] async fn main() {}", "pure: `tokio::main`");
    assert_caught("config/mod.rs", "use std::{fmt, fs};", "pure: `std::fs`");
    assert_caught("config/mod.rs", "fn f() { let _ = ::std::env::var(\"HOME\"); }", "pure: `std::env::var`");
    assert_caught("codec/mod.rs", "fn f() { std::process::exit(1) }", "pure: `std::process::exit`");
    assert_caught("report/mod.rs", "use std::time::{Duration, SystemTime};", "pure: `std::time::SystemTime`");
    assert_caught("report/mod.rs", "use std::time; fn f() { time::Instant::now(); }", "pure: `time::Instant::now`");
    assert_caught("plan/mod.rs", "use jiff::Timestamp; fn f() { Timestamp::now(); }", "pure: `Timestamp::now`");
    assert_caught("plan/mod.rs", "fn f() { jiff::Zoned::now() }", "pure: `jiff::Zoned::now`");
    assert_caught("manifest/mod.rs", "use rand::Rng;", "pure: `rand::Rng`");
    assert_caught("codec/seal.rs", "use aws_lc_rs::rand::SystemRandom;", "pure: `aws_lc_rs::rand::SystemRandom`");
}

#[test]
fn the_checker_catches_a_module_without_a_floor() {
    assert_caught("attic/mod.rs", "", "`attic` has no floor");
}

#[test]
fn the_checker_catches_a_sandbox_that_borrows_our_reading_of_google() {
    let caught = check_sandbox("main.rs", "use strongroom::{model::TableId, google::bigquery};");
    assert_eq!(caught, ["main.rs: the sandbox uses `strongroom::google`; only model, codec are shared"]);
}

#[test]
fn the_checker_catches_a_mention() {
    assert_eq!(mentions("a.rs", "one\nTwo Needle", &["needle"]), ["a.rs:2: mentions `needle`"]);
}

#[test]
fn the_checker_lets_sound_code_pass() {
    let sound = r##"
        //! use crate::app; std::fs::read
        use crate::model::{Failure, names::{self, TableId}};
        use super::plan_step;                       // stays inside plan
        /// tokio::spawn and crate::cli are only talked about, "use crate::job" too
        fn f<'a>(random: &'a str) -> char { let _ = r#"use crate::job; std::fs"#; let _ = "rand::x \" crate::app"; '"' }
        fn g() { let tokio = std::time::Duration::from_secs(1); operand::run(); my::fs::read(); }
        #[cfg(test)]
        mod tests { use super::*; use crate::config::Config; fn h() { std::fs::read("x"); jiff::Zoned::now(); } }
        #[cfg(all(test, unix))] fn only_in_tests() { std::env::var("x"); }
    "##;
    assert_eq!(check("plan/mod.rs", sound, false), Vec::<String>::new());
    assert_eq!(check("google/mod.rs", "use std::fs; use tokio::time;", false), Vec::<String>::new());
}

// ------------------------------------------------------------------------------------------------- the checker

fn assert_caught(file: &str, text: &str, expected: &str) {
    let found = check(file, text, false);
    assert!(found.iter().any(|c| c.contains(expected)), "`{text}` in {file} gave {found:?}, not `{expected}`");
}

/// All that is wrong with one file of the library. `file` is relative to src/; `is_test` frees it from purity.
fn check(file: &str, text: &str, is_test: bool) -> Vec<String> {
    let module = file.split('/').next().unwrap_or_default().trim_end_matches(".rs");
    let floors: BTreeMap<&str, (u8, bool)> =
        FLOORS.iter().map(|(name, floor, pure)| (*name, (*floor, *pure))).collect();
    let Some((own_floor, pure)) = floors.get(module).copied() else {
        return vec![format!("{file}: module `{module}` has no floor; give it one in FLOORS")];
    };
    let depth = file.trim_end_matches(".rs").split('/').filter(|part| *part != "mod").count();
    let mut complaints = BTreeSet::new();
    for path in paths(&without_comments_and_strings(text)) {
        if let Some(named) = path.top_level_module(depth)
            && named != module
            && let Some((floor, _)) = floors.get(named)
            && *floor >= own_floor
        {
            complaints.insert(format!(
                "{file}:{}: `{module}` on floor {own_floor} names `{named}` on floor {floor}",
                path.line
            ));
        }
        if pure && !is_test && !path.in_test && path.is_impure() {
            complaints.insert(format!("{file}:{}: `{module}` is pure: `{}`", path.line, path.text()));
        }
    }
    complaints.into_iter().collect()
}

fn check_sandbox(file: &str, text: &str) -> Vec<String> {
    let named: BTreeSet<String> = paths(&without_comments_and_strings(text))
        .into_iter()
        .filter(|path| path.segments.first().is_some_and(|s| s == "strongroom"))
        .filter_map(|path| path.segments.get(1).cloned())
        .filter(|module| !SANDBOX_MAY_USE.contains(&module.as_str()))
        .collect();
    let shared = SANDBOX_MAY_USE.join(", ");
    named.iter().map(|m| format!("{file}: the sandbox uses `strongroom::{m}`; only {shared} are shared")).collect()
}

fn mentions(file: &str, text: &str, needles: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.to_lowercase();
        for needle in needles.iter().filter(|needle| line.contains(**needle)) {
            found.push(format!("{file}:{}: mentions `{needle}`", number + 1));
        }
    }
    found
}

/// A path as written: `a::b::c`, or one leaf of a `use` tree.
struct SourcePath {
    segments: Vec<String>,
    line: usize,
    /// Inside an item under `#[cfg(test)]`.
    in_test: bool,
    /// How many inline `mod x { }` enclose it.
    inline_depth: usize,
}

impl SourcePath {
    fn text(&self) -> String {
        self.segments.join("::")
    }

    /// The top-level module of this crate that is named, from a file whose module is `depth` segments below the root.
    fn top_level_module(&self, depth: usize) -> Option<&str> {
        if self.segments.first().is_some_and(|s| s == "crate") {
            return self.segments.get(1).map(String::as_str);
        }
        let skip_self = usize::from(self.segments.first().is_some_and(|s| s == "self"));
        let ups = self.segments.iter().skip(skip_self).take_while(|s| *s == "super").count();
        if ups > 0 && ups == depth + self.inline_depth {
            return self.segments.get(skip_self + ups).map(String::as_str);
        }
        None
    }

    fn is_impure(&self) -> bool {
        let text = self.text();
        IMPURE_ROOTS.iter().any(|root| text == *root || text.starts_with(&format!("{root}::")))
            || IMPURE_PARTS.iter().any(|part| format!("::{text}::").contains(&format!("::{part}::")))
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Colons,
    Sign(char),
}

/// Every path with two or more segments, and every leaf of every `use`.
fn paths(code: &str) -> Vec<SourcePath> {
    let tokens = tokens(code);
    let mut found = Vec::new();
    let mut braces: Vec<(bool, bool)> = Vec::new(); // for each open brace: opens a test item, opens an inline module
    let (mut test_item, mut module_item) = (false, false); // what the next brace will open
    let mut i = 0;
    while i < tokens.len() {
        let in_test = test_item || braces.iter().any(|(test, _)| *test);
        let inline_depth = braces.iter().filter(|(_, module)| *module).count();
        let (token, line) = &tokens[i];
        let mut emit = |segments: Vec<String>, line: usize| {
            found.push(SourcePath { segments, line, in_test, inline_depth });
        };
        match token {
            Token::Sign('#') => {
                let end = closing(&tokens, i + 1);
                let words: Vec<&str> =
                    tokens[i..=end.min(tokens.len() - 1)].iter().filter_map(|(t, _)| word(t)).collect();
                if words.first() == Some(&"cfg") && words.contains(&"test") && !words.contains(&"not") {
                    test_item = true;
                    i = end + 1;
                    continue;
                }
            }
            Token::Sign('{') => {
                braces.push((test_item, module_item));
                (test_item, module_item) = (false, false);
            }
            Token::Sign('}') => {
                braces.pop();
            }
            Token::Sign(';') => (test_item, module_item) = (false, false),
            Token::Word(w) if w == "mod" => module_item = true,
            Token::Word(w) if w == "use" => {
                let end = (i..tokens.len()).find(|k| tokens[*k].0 == Token::Sign(';')).unwrap_or(tokens.len());
                for leaf in use_leaves(&tokens[i + 1..end]) {
                    emit(leaf, *line);
                }
                i = end;
                continue;
            }
            Token::Word(w) => {
                let mut segments = vec![w.clone()];
                let mut k = i + 1;
                while let (Some((Token::Colons, _)), Some((Token::Word(next), _))) = (tokens.get(k), tokens.get(k + 1))
                {
                    segments.push(next.clone());
                    k += 2;
                }
                if segments.len() > 1 {
                    emit(segments, *line);
                }
                i = k;
                continue;
            }
            _ => {}
        }
        i += 1;
    }
    found
}

fn word(token: &Token) -> Option<&str> {
    match token {
        Token::Word(w) => Some(w),
        _ => None,
    }
}

/// The index of the bracket that closes the first `[` at or after `from`.
fn closing(tokens: &[(Token, usize)], from: usize) -> usize {
    let mut open = 0;
    for (i, (token, _)) in tokens.iter().enumerate().skip(from) {
        match token {
            Token::Sign('[') => open += 1,
            Token::Sign(']') if open == 1 => return i,
            Token::Sign(']') => open -= 1,
            _ => {}
        }
    }
    tokens.len().saturating_sub(1)
}

/// `a::{b, c::{self, d as e}}` -> `a::b`, `a::c::self`, `a::c::d`.
fn use_leaves(tokens: &[(Token, usize)]) -> Vec<Vec<String>> {
    let mut leaves = Vec::new();
    let mut prefixes: Vec<Vec<String>> = vec![Vec::new()];
    let mut current: Vec<String> = Vec::new();
    let mut renaming = false;
    for (token, _) in tokens {
        match token {
            Token::Word(w) if w == "as" => renaming = true,
            Token::Word(_) if renaming => {}
            Token::Word(w) => current.push(w.clone()),
            Token::Sign('{') => prefixes.push(std::mem::take(&mut current)),
            Token::Sign(',' | '}') => {
                if !current.is_empty() {
                    leaves.push([prefixes.concat(), std::mem::take(&mut current)].concat());
                }
                renaming = false;
                if *token == Token::Sign('}') && prefixes.len() > 1 {
                    prefixes.pop();
                }
            }
            _ => {}
        }
    }
    if !current.is_empty() {
        leaves.push([prefixes.concat(), current].concat());
    }
    leaves
}

fn tokens(code: &str) -> Vec<(Token, usize)> {
    let mut out = Vec::new();
    let mut line = 1;
    let mut chars = code.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' => line += 1,
            c if c.is_whitespace() => {}
            ':' if chars.peek() == Some(&':') => {
                chars.next();
                out.push((Token::Colons, line));
            }
            c if c.is_alphanumeric() || c == '_' => {
                let mut text = String::from(c);
                while let Some(next) = chars.next_if(|n| n.is_alphanumeric() || *n == '_') {
                    text.push(next);
                }
                out.push((Token::Word(text), line));
            }
            c => out.push((Token::Sign(c), line)),
        }
    }
    out
}

/// Comments, strings and character literals become blanks; line breaks stay where they were.
fn without_comments_and_strings(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    while i < chars.len() {
        let end = match (chars[i], chars.get(i + 1)) {
            ('/', Some('/')) => (i..chars.len()).find(|k| chars[*k] == '\n').unwrap_or(chars.len()),
            ('/', Some('*')) => after_block_comment(&chars, i),
            ('"', _) => after_string(&chars, i),
            ('r', Some('"' | '#')) if i == 0 || !is_word(chars[i - 1]) || chars[i - 1] == 'b' => {
                after_raw_string(&chars, i)
            }
            ('\'', Some('\\')) => (i + 3..chars.len()).find(|k| chars[*k] == '\'').map_or(chars.len(), |k| k + 1),
            ('\'', Some(_)) if chars.get(i + 2) == Some(&'\'') => i + 3,
            _ => {
                out.push(chars[i]);
                i += 1;
                continue;
            }
        };
        out.extend(chars[i..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
        i = end;
    }
    out
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn after_block_comment(chars: &[char], start: usize) -> usize {
    let (mut open, mut i) = (0, start);
    while i < chars.len() {
        match (chars[i], chars.get(i + 1)) {
            ('/', Some('*')) => (open, i) = (open + 1, i + 2),
            ('*', Some('/')) if open == 1 => return i + 2,
            ('*', Some('/')) => (open, i) = (open - 1, i + 2),
            _ => i += 1,
        }
    }
    chars.len()
}

fn after_string(chars: &[char], start: usize) -> usize {
    let mut i = start + 1;
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    chars.len()
}

/// After `r#"..."#`; a raw identifier (`r#type`) ends after its `r#`.
fn after_raw_string(chars: &[char], start: usize) -> usize {
    let hashes = chars[start + 1..].iter().take_while(|c| **c == '#').count();
    if chars.get(start + 1 + hashes) != Some(&'"') {
        return start + 1 + hashes;
    }
    let mut i = start + 2 + hashes;
    while i < chars.len() {
        if chars[i] == '"' && chars[i + 1..].iter().take_while(|c| **c == '#').count() >= hashes {
            return i + 1 + hashes;
        }
        i += 1;
    }
    chars.len()
}

// --------------------------------------------------------------------------------------------------- the files

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    walk(dir).into_iter().filter(|file| file.extension().is_some_and(|e| e == "rs")).collect()
}

/// Files of modules declared as `#[cfg(test)] mod name;`: `dir/name.rs` stands for `dir/name/` too.
fn out_of_line_tests(src: &Path, files: &[PathBuf]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file).expect("readable source");
        let tokens = tokens(&without_comments_and_strings(&text));
        for (i, window) in tokens.windows(3).enumerate() {
            let [(Token::Word(keyword), _), (Token::Word(name), _), (Token::Sign(';'), _)] = window else { continue };
            let before: Vec<&str> = tokens[i.saturating_sub(8)..i].iter().filter_map(|(t, _)| word(t)).collect();
            if keyword == "mod" && before.ends_with(&["cfg", "test"]) {
                let is_dir_root = file.file_name().is_some_and(|n| n == "mod.rs" || n == "lib.rs" || n == "main.rs");
                let dir =
                    if is_dir_root { file.parent().unwrap_or(src).to_path_buf() } else { file.with_extension("") };
                found.push(dir.join(format!("{name}.rs")));
            }
        }
    }
    found
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let Ok(entries) = std::fs::read_dir(dir) else { return files };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(walk(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// What git tracks or would track; outside a repository, all but build output.
fn tracked_files() -> Vec<PathBuf> {
    let listed = std::process::Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output();
    match listed {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).lines().map(|line| root().join(line)).collect()
        }
        _ => walk(&root()).into_iter().filter(|f| !f.starts_with(root().join("target"))).collect(),
    }
}
