//! GoogleSQL's own compliance tests, where they are at hand (their directory in GOOGLESQL_COMPLIANCE): how many of their queries
//! give the expected rows, are refused, or differ. Their database has more types than BigQuery and another default time zone,
//! so not every difference is a fault.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::catalog::{Memory, query, run};
use crate::bigquery::sql::func::cast::text_of;
use crate::bigquery::sql::ty::{Ty, adopt};
use crate::bigquery::sql::value::{Reader, Value};
use crate::bigquery::sql::{Effect, Rows};

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Text(String),
    List(Vec<Node>),
    /// An array whose order is not told.
    Bag(Vec<Node>),
}

/// Reads the notation of expected results.
struct Notation<'a> {
    text: &'a str,
    at: usize,
}

impl Notation<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn blanks(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    /// `STRUCT<...>`, `ARRAY<...>` before a value.
    fn skip_type(&mut self) {
        self.blanks();
        let rest = self.rest();
        if !(rest.starts_with("ARRAY<") || rest.starts_with("STRUCT<") || rest.starts_with("RANGE<")) {
            return;
        }
        let mut depth = 0;
        for (i, c) in rest.char_indices() {
            match c {
                '<' => depth += 1,
                '>' => {
                    depth -= 1;
                    if depth == 0 {
                        self.at += i + 1;
                        break;
                    }
                }
                _ => {}
            }
        }
        self.blanks();
    }

    fn list(&mut self, close: &[char]) -> Option<Node> {
        self.at += 1;
        self.blanks();
        let bag = self.rest().starts_with("unknown order:");
        for prefix in ["known order:", "unknown order:"] {
            if self.rest().starts_with(prefix) {
                self.at += prefix.len();
            }
        }
        let mut items = Vec::new();
        loop {
            self.blanks();
            if self.rest().starts_with(close) {
                self.at += 1;
                return Some(if bag { Node::Bag(items) } else { Node::List(items) });
            }
            items.push(self.value()?);
            self.blanks();
            if self.rest().starts_with(',') {
                self.at += 1;
            } else if !self.rest().starts_with(close) {
                return None;
            }
        }
    }

    fn value(&mut self) -> Option<Node> {
        self.skip_type();
        let rest = self.rest();
        let first = rest.chars().next()?;
        match first {
            '{' => self.list(&['}']),
            '[' => self.list(&[']', ')']),
            '(' => {
                let end = rest.find(')')?;
                let text = rest[1..end].to_owned();
                self.at += end + 1;
                Some(Node::Text(text))
            }
            '"' | '\'' => {
                self.at += 1;
                self.string(first, false)
            }
            'b' if rest[1..].starts_with(['"', '\'']) => {
                let quote = rest[1..].chars().next()?;
                self.at += 2;
                self.string(quote, true)
            }
            _ => {
                let end = rest.find([',', '}', ']', ')']).unwrap_or(rest.len());
                let text = rest[..end].trim().to_owned();
                self.at += end;
                Some(Node::Text(text))
            }
        }
    }

    fn string(&mut self, quote: char, bytes: bool) -> Option<Node> {
        let mut end = 0;
        let rest = self.rest().as_bytes();
        while rest.get(end)? != &(quote as u8) {
            end += if rest[end] == b'\\' { 2 } else { 1 };
        }
        let prefix = if bytes { "b" } else { "" };
        let literal = format!("select {prefix}{quote}{}{quote}", &self.rest()[..end]);
        self.at += end + 1;
        let parsed = crate::bigquery::sql::syntax::parse_query(&literal).ok()?;
        let crate::bigquery::sql::syntax::ast::SetExpr::Select(select) = parsed.body else { return None };
        let crate::bigquery::sql::syntax::ast::Item::Expr(e, _) = &select.items[0] else { return None };
        Some(match e.kind.as_ref() {
            crate::bigquery::sql::syntax::ast::Kind::Str(s) => Node::Text(s.clone()),
            crate::bigquery::sql::syntax::ast::Kind::Bytes(b) => Node::Text(format!("{b:?}")),
            _ => return None,
        })
    }
}

fn node_of(value: &Value, ty: &Ty) -> Node {
    match (value, ty) {
        (Value::Null, _) => Node::Text("NULL".into()),
        (Value::Array(items), Ty::Array(element)) => Node::List(items.iter().map(|v| node_of(v, element)).collect()),
        (Value::Struct(items), Ty::Struct(fields)) => {
            Node::List(items.iter().zip(fields.iter()).map(|(v, f)| node_of(v, &f.1)).collect())
        }
        (Value::Range(r), Ty::Range(element)) => Node::List(vec![node_of(&r.0, element), node_of(&r.1, element)]),
        (Value::Bytes(b), _) => Node::Text(format!("{b:?}")),
        (value, ty) => Node::Text(text_of(value, ty).unwrap_or_default()),
    }
}

fn same(a: &Node, b: &Node) -> bool {
    match (a, b) {
        (Node::Bag(a), Node::List(b)) => agree(a, b),
        (Node::List(a), Node::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Node::Text(a), Node::Text(b)) => {
            let number = |t: &str| t.parse::<f64>().ok();
            let null_list = |t: &str| t == "NULL" || t == "UNBOUNDED";
            a == b
                || (null_list(a) && null_list(b))
                || los_angeles(a, b)
                || matches!((number(a), number(b)), (Some(x), Some(y)) if x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= 1e-9 * x.abs().max(y.abs()))
        }
        // A NULL array comes out of a table as an empty one.
        (Node::List(items) | Node::Bag(items), Node::Text(text))
        | (Node::Text(text), Node::List(items) | Node::Bag(items)) => items.is_empty() && text == "NULL",
        (_, Node::Bag(_)) => false,
    }
}

/// The tests' default time zone is Los Angeles, BigQuery's is UTC.
fn los_angeles(a: &str, b: &str) -> bool {
    let instant = |t: &str| crate::bigquery::sql::func::time::parse_timestamp_text(t, None).ok();
    let shift = |x: i64, y: i64| [25_200, 28_800, 28_378].contains(&((x - y).abs() / 1_000_000));
    a.len() > 10 && matches!((instant(a), instant(b)), (Some(x), Some(y)) if shift(x, y))
}

fn nodes_of(rows: &Rows) -> Vec<Node> {
    let schema = strongroom::model::schema::Schema::from_json(&serde_json::Value::Array(rows.fields.clone())).unwrap();
    let types: Vec<Ty> = schema.fields.iter().map(Ty::of_field).collect();
    let mut out = Vec::new();
    for batch in rows.batches.iter() {
        let columns: Vec<_> = batch.columns().iter().zip(&types).map(|(c, t)| adopt(c, t).unwrap()).collect();
        let readers: Vec<Reader> = columns.iter().zip(&types).map(|(c, t)| Reader::new(c.as_ref(), t)).collect();
        for row in 0..batch.num_rows() {
            out.push(Node::List(readers.iter().zip(&types).map(|(r, t)| node_of(&r.get(row), t)).collect()));
        }
    }
    out
}

/// Rows without regard to order, unless the query orders them.
fn agree(expected: &[Node], got: &[Node]) -> bool {
    if expected.len() != got.len() {
        return false;
    }
    let wrap = |n: &Node| matches!((n, got.first()), (Node::Text(_), Some(Node::List(_))));
    let expected: Vec<Node> =
        expected.iter().map(|n| if wrap(n) { Node::List(vec![n.clone()]) } else { n.clone() }).collect();
    let mut left: Vec<&Node> = got.iter().collect();
    expected.iter().all(|e| match left.iter().position(|g| same(e, g)) {
        Some(n) => {
            left.remove(n);
            true
        }
        None => false,
    })
}

#[derive(Default, Debug)]
struct Counts {
    passed: usize,
    errors_agree: usize,
    refused: usize,
    differ: usize,
    accepted: usize,
    skipped: usize,
}

fn translate(sql: &str) -> String {
    // Types that BigQuery does not have, by the ones that stand in for them.
    let types = regex::Regex::new(r"(?i)\b(as|<|array<)\s*(u?int32|uint64|float|double)\b").unwrap();
    types
        .replace_all(sql, |c: &regex::Captures| {
            let ty = if c[2].to_lowercase().contains("int") { "int64" } else { "float64" };
            format!("{} {ty}", &c[1])
        })
        .into_owned()
}

#[test]
#[ignore = "needs GoogleSQL's compliance tests"]
fn compliance() {
    let Ok(directory) = std::env::var("GOOGLESQL_COMPLIANCE") else { return };
    let only = std::env::var("COMPLIANCE_ONLY").unwrap_or_default();
    let show = std::env::var("COMPLIANCE_SHOW").unwrap_or_default();
    let mut total = Counts::default();
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        if !name.contains(&only) {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let memory = Arc::new(Memory::default());
        let mut counts = Counts::default();
        for case in text.split("\n==") {
            let mut sections = case.split("\n--\n");
            let (Some(head), Some(expected)) = (sections.next(), sections.next()) else { continue };
            let lines: Vec<&str> = head.lines().collect();
            let option = |l: &&&str| l.starts_with('[') || l.trim_start().starts_with('#') || l.is_empty();
            let options: Vec<&str> = lines.iter().take_while(option).copied().collect();
            let sql = translate(&lines[options.len()..].join("\n"));
            let prepares = options.iter().any(|o| o.starts_with("[prepare_database"));
            if options
                .iter()
                .any(|o| o.starts_with("[parameters") || o.contains("LANGUAGE_") || o.starts_with("[load_proto"))
                && !prepares
            {
                counts.skipped += 1;
                continue;
            }
            let mut q = query(&sql);
            q.default_dataset = Some(("p".into(), "d".into()));
            let result = run(&memory, q);
            if prepares {
                if let (Err(e), true) = (&result, show.contains("prepare")) {
                    println!("---- prepare {name}\n{sql}\n{}", e.message);
                }
                continue;
            }
            let note = |what: &str, detail: String| {
                if show.contains(what) {
                    println!("---- {what} {name}\n{sql}\n{detail}");
                }
            };
            let failing = expected.trim_start().starts_with("ERROR");
            match result {
                Err(_) if failing => counts.errors_agree += 1,
                Err(e) => {
                    counts.refused += 1;
                    let reason = e.message.split(" at [").next().unwrap_or_default();
                    *reasons.entry(reason.chars().take(70).collect()).or_default() += 1;
                    note("refused", e.message);
                }
                Ok(outcomes) => {
                    let Some(outcome) = outcomes.last().filter(|o| matches!(o.effect, Effect::None)) else {
                        counts.skipped += 1;
                        continue;
                    };
                    if failing {
                        counts.accepted += 1;
                        note("accepted", expected.lines().next().unwrap_or_default().to_owned());
                        continue;
                    }
                    let mut notation = Notation { text: expected, at: 0 };
                    match notation.value() {
                        Some(Node::List(rows) | Node::Bag(rows)) if agree(&rows, &nodes_of(&outcome.rows)) => {
                            counts.passed += 1
                        }
                        // JSON's braces are no notation of rows.
                        None => counts.skipped += 1,
                        parsed => {
                            counts.differ += 1;
                            note("differ", format!("{expected}\nparsed {parsed:?}\ngot {:?}", nodes_of(&outcome.rows)));
                        }
                    }
                }
            }
        }
        println!("{name}: {counts:?}");
        total.passed += counts.passed;
        total.errors_agree += counts.errors_agree;
        total.refused += counts.refused;
        total.differ += counts.differ;
        total.accepted += counts.accepted;
        total.skipped += counts.skipped;
    }
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by_key(|r| std::cmp::Reverse(r.1));
    for (reason, n) in reasons.iter().take(60) {
        println!("{n:6} {reason}");
    }
    println!("total {total:?}");
}
