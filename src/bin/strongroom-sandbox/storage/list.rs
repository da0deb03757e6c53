//! Listing objects: prefix, delimiter, offsets, globs, versions and soft-deleted ones, page by page. Knows no HTTP.

use std::collections::VecDeque;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::glob;
use super::records::{self, LIVE, OLD, Object, SOFT};
use crate::core::db::Start;
use crate::core::{ApiError, Params, Sandbox};

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Query {
    pub prefix: String,
    pub delimiter: Option<String>,
    pub start_offset: Option<String>,
    pub end_offset: Option<String>,
    pub glob: Option<String>,
    pub versions: bool,
    pub soft_deleted: bool,
    pub include_trailing_delimiter: bool,
    pub limit: usize,
    pub page_token: Option<String>,
}

/// One page.
#[derive(Debug, Default)]
pub struct Page {
    pub items: Vec<Object>,
    pub prefixes: Vec<String>,
    pub next: Option<String>,
}

impl Query {
    /// # Errors
    /// 400 for a bad parameter.
    pub fn of(params: &Params) -> Result<Self, ApiError> {
        let text = |name: &str| params.get(name).map(str::to_string);
        let limit = params.number("maxResults")?.unwrap_or(1000);
        if limit < 1 {
            return Err(
                ApiError::invalid(format!("Invalid value '{limit}' for 'maxResults'")).at("parameter", "maxResults")
            );
        }
        Ok(Self {
            prefix: text("prefix").unwrap_or_default(),
            delimiter: text("delimiter"),
            start_offset: text("startOffset"),
            end_offset: text("endOffset"),
            glob: text("matchGlob"),
            versions: params.flag("versions"),
            soft_deleted: params.flag("softDeleted"),
            include_trailing_delimiter: params.flag("includeTrailingDelimiter"),
            limit: usize::try_from(limit).unwrap_or(1000).min(1000),
            page_token: text("pageToken"),
        })
    }
}

/// One page of a bucket's objects.
///
/// # Errors
/// 404 without the bucket, 400 for a bad page token.
pub fn list(sandbox: &Sandbox, bucket: &str, query: &Query) -> Result<Page, ApiError> {
    sandbox.db.transaction(|tx| records::bucket(tx, bucket))?;
    let spaces: &[&'static str] = match (query.soft_deleted, query.versions) {
        (true, _) => &[SOFT],
        (false, true) => &[OLD, LIVE],
        (false, false) => &[LIVE],
    };
    // What a glob begins with narrows the search as a prefix does.
    let literal = query.glob.as_deref().map(glob::literal_prefix).filter(|l| l.starts_with(&query.prefix));
    let prefix = literal.unwrap_or(&query.prefix);
    let mut cursors: Vec<Cursor<'_>> = spaces.iter().map(|s| Cursor::new(sandbox, s, bucket, prefix)).collect();
    if let Some(start) = &query.start_offset {
        cursors.iter_mut().for_each(|c| c.seek(start));
    }
    let mut skip_until: Option<(String, i64)> = None;
    if let Some(token) = &query.page_token {
        let position = Position::parse(token)?;
        cursors.iter_mut().for_each(|c| c.seek(&position.seek));
        skip_until = position.after;
    }
    let mut page = Page::default();
    let mut last: Option<Position> = None;
    loop {
        // The least name, then the least generation, of what the cursors stand at.
        let mut best: Option<(usize, String, i64)> = None;
        for (at, cursor) in cursors.iter_mut().enumerate() {
            if let Some(object) = cursor.peek()? {
                let key = (object.name().to_string(), object.generation());
                if best.as_ref().is_none_or(|(_, n, g)| (&key.0, key.1) < (n, *g)) {
                    best = Some((at, key.0, key.1));
                }
            }
        }
        let Some((at, name, generation)) = best else { return Ok(page) };
        if query.end_offset.as_ref().is_some_and(|end| name >= *end) {
            return Ok(page);
        }
        let passed = skip_until.as_ref().is_some_and(|(n, g)| (&name, generation) <= (n, *g));
        if passed || query.glob.as_ref().is_some_and(|g| !glob::matches(g, &name)) {
            cursors[at].pop();
            continue;
        }
        let group = query.delimiter.as_deref().filter(|d| !d.is_empty()).and_then(|d| {
            let rest = &name[query.prefix.len()..];
            rest.find(d).map(|at| name[..query.prefix.len() + at + d.len()].to_string())
        });
        let goes_on = group.is_some() && page.prefixes.last() == group.as_ref();
        if page.items.len() + page.prefixes.len() >= query.limit && !goes_on {
            page.next = last.map(|p| p.token());
            return Ok(page);
        }
        match group {
            Some(group) => {
                let ends_here = group == name;
                if page.prefixes.last() != Some(&group) {
                    page.prefixes.push(group.clone());
                }
                if ends_here && query.include_trailing_delimiter {
                    if let Some(object) = cursors[at].pop() {
                        last = Some(Position::after(&object));
                        page.items.push(object);
                    }
                } else if query.glob.is_some() || query.include_trailing_delimiter {
                    cursors[at].pop();
                    last = Some(Position { seek: name.clone(), after: Some((name, generation)) });
                } else {
                    // Nothing more of this group is wanted: go past it without reading it.
                    let past = format!("{group}\u{10FFFF}");
                    cursors.iter_mut().for_each(|c| c.seek(&past));
                    last = Some(Position { seek: past, after: None });
                }
            }
            None => {
                if let Some(object) = cursors[at].pop() {
                    last = Some(Position::after(&object));
                    page.items.push(object);
                }
            }
        }
    }
}

/// Where a page ended.
struct Position {
    /// The name to go on from.
    seek: String,
    /// What was given out already at that name.
    after: Option<(String, i64)>,
}

impl Position {
    fn after(object: &Object) -> Self {
        Self { seek: object.name().into(), after: Some((object.name().into(), object.generation())) }
    }

    fn token(&self) -> String {
        let generation = self.after.as_ref().map_or(String::new(), |(_, g)| g.to_string());
        URL_SAFE_NO_PAD.encode(format!("{generation}\n{}", self.seek))
    }

    fn parse(token: &str) -> Result<Self, ApiError> {
        let read = || {
            let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token.trim_end_matches('=')).ok()?).ok()?;
            let (generation, seek) = text.split_once('\n')?;
            let after = match generation {
                "" => None,
                g => Some((seek.to_string(), g.parse().ok()?)),
            };
            Some(Self { seek: seek.into(), after })
        };
        read().ok_or_else(|| ApiError::invalid("Invalid page token").at("parameter", "pageToken"))
    }
}

/// Reads a space in the order of names, a bounded number of records at a time.
struct Cursor<'a> {
    sandbox: &'a Sandbox,
    space: &'static str,
    bucket: &'a str,
    /// `bucket/prefix`.
    prefix: String,
    start: Start,
    buffer: VecDeque<Object>,
    exhausted: bool,
    step: usize,
}

impl<'a> Cursor<'a> {
    fn new(sandbox: &'a Sandbox, space: &'static str, bucket: &'a str, prefix: &str) -> Self {
        let prefix = format!("{bucket}/{prefix}");
        Self {
            sandbox,
            space,
            bucket,
            prefix,
            start: Start::First,
            buffer: VecDeque::new(),
            exhausted: false,
            step: 32,
        }
    }

    /// Goes on at the first name not less than `name`; never backwards.
    fn seek(&mut self, name: &str) {
        while self.buffer.front().is_some_and(|o| o.name() < name) {
            self.buffer.pop_front();
        }
        let key = format!("{}/{name}", self.bucket);
        let ahead = match &self.start {
            Start::First => true,
            Start::At(at) | Start::After(at) => *at < key,
        };
        if self.buffer.is_empty() && ahead {
            self.start = Start::At(key);
        }
    }

    fn peek(&mut self) -> Result<Option<&Object>, ApiError> {
        if self.buffer.is_empty() && !self.exhausted {
            let page = self.sandbox.db.scan_from(self.space, &self.prefix, &self.start, self.step)?;
            self.exhausted = page.len() < self.step;
            self.step = (self.step * 4).min(1000);
            if let Some((key, _)) = page.last() {
                self.start = Start::After(key.clone());
            }
            for (_, value) in page {
                self.buffer.push_back(records::parse(value)?);
            }
        }
        Ok(self.buffer.front())
    }

    fn pop(&mut self) -> Option<Object> {
        self.buffer.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Options;
    use crate::storage::buckets;
    use crate::storage::conditions::Conditions;
    use crate::storage::store::Store;
    use serde_json::{Map, json};

    #[test]
    fn every_paging_gives_the_same_listing() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            project: "p".into(),
            allow_external_targets: false,
            bigquery: crate::bigquery::Settings::default(),
        };
        let sandbox = Sandbox::open(dir.path(), options).unwrap();
        let bucket = json!({ "name": "bkt", "versioning": { "enabled": true } });
        buckets::create(&sandbox, "p", bucket.as_object().unwrap()).unwrap();
        let store = Store::new(&sandbox);
        let mut names: Vec<String> = (0..40).map(|i| format!("d{}/f{i:02}", i % 4)).collect();
        names.extend(["a", "d0", "d1/", "d2/sub/x", "z", "é/ü", "a"].map(String::from));
        for name in &names {
            let content = store.blobs.create().unwrap().finish().unwrap().into();
            store.insert("bkt", name, &Map::new(), content, &Conditions::default()).unwrap();
        }
        let all = |q: &str, limit: usize| {
            let mut query = Query::of(&Params::parse(Some(q))).unwrap();
            query.limit = limit;
            let (mut items, mut prefixes) = (Vec::new(), Vec::new());
            loop {
                let page = list(&sandbox, "bkt", &query).unwrap();
                assert!(page.items.len() + page.prefixes.len() <= limit);
                items.extend(page.items.iter().map(|o| o.name().to_string()));
                prefixes.extend(page.prefixes);
                match page.next {
                    Some(next) => query.page_token = Some(next),
                    None => return (items, prefixes),
                }
            }
        };
        let mut sorted = names[..46].to_vec();
        sorted.sort();
        for limit in [1, 2, 3, 7, 1000] {
            assert_eq!(all("", limit).0, sorted, "limit {limit}");
            let (items, prefixes) = all("delimiter=/", limit);
            assert_eq!(items, ["a", "d0", "z"], "limit {limit}");
            assert_eq!(prefixes, ["d0/", "d1/", "d2/", "d3/", "é/"], "limit {limit}");
            let (items, prefixes) = all("delimiter=/&prefix=d2/", limit);
            assert_eq!((items.len(), prefixes), (10, vec!["d2/sub/".to_string()]), "limit {limit}");
            assert_eq!(all("startOffset=d3/&endOffset=e", limit).0.len(), 10);
            assert_eq!(all("matchGlob=d?/f*1", limit).0, ["d1/f01", "d1/f21", "d3/f11", "d3/f31"]);
            assert_eq!(all("versions=true&prefix=a", limit).0, ["a", "a"]);
        }
        assert_eq!(all("delimiter=/&includeTrailingDelimiter=true", 1000).0, ["a", "d0", "d1/", "z"]);
        assert!(Query::of(&Params::parse(Some("maxResults=0"))).is_err());
    }
}
