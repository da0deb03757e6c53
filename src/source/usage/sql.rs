//! The statements, in either dialect. Pure: every name is quoted, and no value but days is written into one.

use jiff::Timestamp;

use super::database::Dialect;
use crate::config::UsageSource;

/// A half-open span of time, in microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Between {
    pub from: Option<i64>,
    pub before: Option<i64>,
}

/// How the database writes the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimeForm {
    /// As a type of its own.
    Native,
    /// `2024-09-24T19:30:00Z`.
    Text,
    /// `2024-09-24 19:30:00`, UTC.
    TextSpace,
    Seconds,
    Milliseconds,
}

impl TimeForm {
    pub const ALL: [Self; 5] = [Self::Native, Self::Text, Self::TextSpace, Self::Seconds, Self::Milliseconds];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Text => "text",
            Self::TextSpace => "text_space",
            Self::Seconds => "seconds",
            Self::Milliseconds => "milliseconds",
        }
    }

    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|form| form.name() == name)
    }

    /// By a column's declared type and a value in it.
    pub fn seen(dialect: Dialect, declared: &str, sample: Option<&str>) -> Self {
        let number = sample.and_then(|text| text.parse::<f64>().ok());
        match (dialect, number, sample) {
            (_, Some(number), _) if number.abs() > MILLISECONDS_FROM => Self::Milliseconds,
            (_, Some(_), _) => Self::Seconds,
            (Dialect::Postgres, None, _) if is_native(declared) => Self::Native,
            (_, None, Some(text)) if text.as_bytes().get(10) == Some(&b' ') => Self::TextSpace,
            _ => Self::Text,
        }
    }
}

/// Seconds beyond the year 5000 are milliseconds.
const MILLISECONDS_FROM: f64 = 1e11;

fn is_native(declared: &str) -> bool {
    declared.starts_with("timestamp") || declared == "date"
}

pub(super) fn quoted(name: &str) -> String {
    let each = name.split('.').map(|part| format!("\"{}\"", part.replace('"', "\"\"")));
    each.collect::<Vec<_>>().join(".")
}

fn column(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// Name and declared type of a table's columns, and 1 where a column must be given a value.
pub(super) fn columns(dialect: Dialect, table: &str) -> String {
    match dialect {
        Dialect::Sqlite => {
            format!(
                "SELECT name, type, CASE WHEN \"notnull\" AND dflt_value IS NULL AND NOT pk THEN '1' ELSE '0' END FROM pragma_table_info({})",
                text(table)
            )
        }
        Dialect::Postgres => format!(
            "SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), \
             CASE WHEN a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' THEN '1' ELSE '0' END \
             FROM pg_attribute a WHERE a.attrelid = to_regclass({}) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
            text(&quoted(table))
        ),
    }
}

/// A table, its columns and what is asked of them.
#[derive(Debug, Clone)]
pub(super) struct Records<'a> {
    pub dialect: Dialect,
    pub table: &'a str,
    pub settings: &'a UsageSource,
    /// The declared type of each taken column.
    pub types: &'a [String],
    pub between: Between,
}

impl Records<'_> {
    fn declared(&self, name: &str) -> &str {
        let at = self.settings.taken().position(|taken| taken == name);
        at.and_then(|at| self.types.get(at)).map_or("", String::as_str)
    }

    /// A column's instant, in microseconds.
    fn instant(&self) -> String {
        let c = column(&self.settings.timestamp);
        match self.dialect {
            Dialect::Sqlite => format!(
                "CASE typeof({c}) WHEN 'integer' THEN CASE WHEN abs({c}) > 100000000000 THEN {c} * 1000 ELSE {c} * 1000000 END \
                 WHEN 'real' THEN CAST(round({c} * 1000) AS INTEGER) * 1000 \
                 ELSE CAST(round(unixepoch({c}, 'subsec') * 1000) AS INTEGER) * 1000 END"
            ),
            Dialect::Postgres => {
                let declared = self.declared(&self.settings.timestamp);
                if is_native(declared) {
                    format!("(extract(epoch FROM {c}) * 1000000)::bigint")
                } else if declared.starts_with("text") || declared.starts_with("character") {
                    format!("(extract(epoch FROM {c}::timestamptz) * 1000000)::bigint")
                } else {
                    format!("(CASE WHEN abs({c}) > 100000000000 THEN {c} * 1000 ELSE {c} * 1000000 END)::bigint")
                }
            }
        }
    }

    fn condition(&self, between: Between) -> String {
        let instant = self.instant();
        let from = between.from.map(|from| format!("{instant} >= {from}"));
        let before = between.before.map(|before| format!("{instant} < {before}"));
        let all: Vec<String> = from.into_iter().chain(before).collect();
        if all.is_empty() { String::new() } else { format!(" WHERE {}", all.join(" AND ")) }
    }

    /// How many records there are, of how many people, from when to when (microseconds), and one value of the time's column.
    pub fn facts(&self) -> String {
        let (table, c, instant) = (quoted(self.table), column(&self.settings.timestamp), self.instant());
        let condition = self.condition(self.between);
        let text = self.as_text();
        format!(
            "SELECT {}, {}, {}, (SELECT {} FROM {table} WHERE {c} IS NOT NULL LIMIT 1) FROM {table}{condition}",
            text("count(*)"),
            text(&format!("min({instant})")),
            text(&format!("max({instant})")),
            text(&c),
        )
    }

    /// The first instant of each month that has records; NULL where a record has no time.
    pub fn months(&self) -> String {
        let (table, instant, condition) = (quoted(self.table), self.instant(), self.condition(self.between));
        match self.dialect {
            Dialect::Sqlite => format!(
                "SELECT DISTINCT strftime('%Y-%m', ({instant}) / 1000000, 'unixepoch') AS month FROM {table}{condition} ORDER BY month"
            ),
            Dialect::Postgres => format!(
                "SELECT DISTINCT to_char(to_timestamp(({instant}) / 1000000.0), 'YYYY-MM') AS month FROM {table}{condition} ORDER BY month"
            ),
        }
    }

    /// Requests, tokens, response time and how many have one, requests that succeeded and how many have a status.
    pub fn aggregates(&self, part: Between) -> String {
        let (table, condition, text) = (quoted(self.table), self.condition(part), self.as_text());
        let sum = |name: Option<&String>, each: &dyn Fn(&str) -> String| {
            name.map_or_else(|| text("0"), |name| text(&format!("coalesce({}, 0)", each(&column(name)))))
        };
        format!(
            "SELECT {}, {}, {}, {}, {}, {} FROM {table}{condition}",
            text("count(*)"),
            sum(self.settings.tokens.as_ref(), &|c| format!("sum({c})")),
            sum(self.settings.response_time.as_ref(), &|c| format!("sum({c})")),
            sum(self.settings.response_time.as_ref(), &|c| format!("count({c})")),
            sum(self.settings.status.as_ref(), &|c| format!("sum(CASE WHEN {c} < 400 THEN 1 ELSE 0 END)")),
            sum(self.settings.status.as_ref(), &|c| format!("count({c})")),
        )
    }

    fn as_text(&self) -> impl Fn(&str) -> String + use<> {
        let postgres = self.dialect == Dialect::Postgres;
        move |expression: &str| match postgres {
            true => format!("({expression})::text"),
            false => format!("CAST({expression} AS TEXT)"),
        }
    }

    /// Every record of a part, each column as the text of its JSON; the time's as it is. Who is named is numbered by when he
    /// was first seen in all that is taken, so that the number is the same in every part.
    pub fn rows(&self, part: Between, anonymise: bool) -> String {
        let (table, instant) = (quoted(self.table), self.instant());
        let named: &[String] = if anonymise { &self.settings.anonymise } else { &[] };
        let (mut with, mut joins) = (Vec::new(), String::new());
        for (i, name) in named.iter().enumerate() {
            let c = column(name);
            let known = match self.condition(self.between).as_str() {
                "" => format!(" WHERE {c} IS NOT NULL"),
                condition => format!("{condition} AND {c} IS NOT NULL"),
            };
            with.push(format!(
                "people_{i} AS (SELECT {c} AS who, row_number() OVER (ORDER BY min({instant}), {c}) AS number FROM {table}{known} GROUP BY {c})"
            ));
            joins.push_str(&format!(" LEFT JOIN people_{i} ON people_{i}.who = taken.{c}"));
        }
        let text = self.as_text();
        let columns: Vec<String> = self
            .settings
            .taken()
            .map(|name| match named.iter().position(|other| other == name) {
                Some(i) => text(&format!("people_{i}.number")),
                None if name == self.settings.timestamp => text(&format!("taken.{}", column(name))),
                None => self.json(&format!("taken.{}", column(name)), self.declared(name)),
            })
            .collect();
        let with = if with.is_empty() { String::new() } else { format!("WITH {} ", with.join(", ")) };
        let condition = self.condition(part);
        format!(
            "{with}SELECT {} FROM (SELECT * FROM {table}{condition}) AS taken{joins} ORDER BY ({instant})",
            columns.join(", ")
        )
    }

    fn json(&self, expression: &str, declared: &str) -> String {
        match self.dialect {
            // What JSON cannot hold becomes a text of hexadecimal digits.
            Dialect::Sqlite => {
                format!(
                    "CASE typeof({expression}) WHEN 'blob' THEN json_quote(hex({expression})) ELSE json_quote({expression}) END"
                )
            }
            // A number that JSON's readers would round stays a text.
            Dialect::Postgres => match declared {
                "smallint" | "integer" | "bigint" | "boolean" | "real" | "double precision" | "json" | "jsonb" => {
                    format!("to_json({expression})::text")
                }
                _ => format!("to_json({expression}::text)::text"),
            },
        }
    }

    /// Takes records of this span away.
    pub fn delete(&self, part: Between) -> String {
        format!("DELETE FROM {}{}", quoted(self.table), self.condition(part))
    }

    /// Keeps a copy of the records of this span in a table of their own.
    pub fn keep(&self, part: Between, copy: &str) -> String {
        format!("CREATE TABLE {} AS SELECT * FROM {}{}", quoted(copy), quoted(self.table), self.condition(part))
    }
}

/// A table for what is restored.
pub(super) fn create(table: &str, columns: &[(String, String)]) -> String {
    let columns: Vec<String> = columns.iter().map(|(name, declared)| format!("{} {declared}", column(name))).collect();
    format!("CREATE TABLE {} ({})", quoted(table), columns.join(", "))
}

/// Puts records in, out of one parameter: a JSON list of them.
pub(super) fn insert(dialect: Dialect, table: &str, columns: &[(String, String)], form: TimeForm) -> String {
    let names: Vec<String> = columns.iter().map(|(name, _)| column(name)).collect();
    let table = quoted(table);
    match dialect {
        Dialect::Sqlite => {
            let value = |(i, (name, _)): (usize, &(String, String))| {
                let path = format!("$.\"{}\"", name.replace('"', "\\\""));
                let value = format!("json_extract(value, {})", text(&path));
                match form {
                    _ if i > 0 => value,
                    TimeForm::Native | TimeForm::Text => value,
                    TimeForm::TextSpace => format!("rtrim(replace({value}, 'T', ' '), 'Z')"),
                    TimeForm::Seconds => format!("unixepoch({value})"),
                    TimeForm::Milliseconds => format!("CAST(round(unixepoch({value}, 'subsec') * 1000) AS INTEGER)"),
                }
            };
            let values: Vec<String> = columns.iter().enumerate().map(value).collect();
            format!("INSERT INTO {table} ({}) SELECT {} FROM json_each(?1)", names.join(", "), values.join(", "))
        }
        Dialect::Postgres => {
            let number = matches!(form, TimeForm::Seconds | TimeForm::Milliseconds);
            let typed = |(i, (name, declared)): (usize, &(String, String))| match i {
                0 if number => format!("{} timestamptz", column(name)),
                _ => format!("{} {declared}", column(name)),
            };
            let typed: Vec<String> = columns.iter().enumerate().map(typed).collect();
            let value = |(i, name): (usize, &String)| match (i, form) {
                (0, TimeForm::Seconds) => format!("extract(epoch FROM {name})::bigint"),
                (0, TimeForm::Milliseconds) => format!("(extract(epoch FROM {name}) * 1000)::bigint"),
                (0, TimeForm::TextSpace) => format!("rtrim(replace({name}, 'T', ' '), 'Z')"),
                _ => name.clone(),
            };
            let values: Vec<String> = names.iter().enumerate().map(value).collect();
            format!(
                "INSERT INTO {table} ({}) SELECT {} FROM json_to_recordset($1::text::json) AS given({})",
                names.join(", "),
                values.join(", "),
                typed.join(", ")
            )
        }
    }
}

/// The text of a time as the database gives it, as RFC 3339 in UTC; what is none stays as it is.
pub(super) fn rfc3339(form: TimeForm, given: &str) -> String {
    let number = || given.parse::<f64>().ok();
    let instant = match form {
        TimeForm::Seconds => number().and_then(|seconds| Timestamp::from_microsecond((seconds * 1e6) as i64).ok()),
        TimeForm::Milliseconds => number().and_then(|ms| Timestamp::from_microsecond((ms * 1e3) as i64).ok()),
        TimeForm::Native | TimeForm::Text | TimeForm::TextSpace => instant_of(given),
    };
    instant.map_or_else(|| given.to_string(), |instant| instant.to_string())
}

/// An instant as people and databases write it; without a zone it is UTC.
pub(super) fn instant_of(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    text.parse::<Timestamp>()
        .ok()
        .or_else(|| {
            // PostgreSQL writes +00.
            let zoned = text.strip_suffix("+00").map(|text| format!("{}Z", text.replacen(' ', "T", 1)));
            zoned.and_then(|text| text.parse().ok())
        })
        .or_else(|| {
            let civil: jiff::civil::DateTime = text.replacen(' ', "T", 1).parse().ok()?;
            Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_every_form_become_the_same() {
        for (form, given) in [
            (TimeForm::Text, "2024-09-24T19:30:00Z"),
            (TimeForm::TextSpace, "2024-09-24 19:30:00"),
            (TimeForm::Native, "2024-09-24 19:30:00+00"),
            (TimeForm::Text, "2024-09-24T21:30:00+02:00"),
            (TimeForm::Seconds, "1727206200"),
            (TimeForm::Milliseconds, "1727206200000"),
        ] {
            assert_eq!(rfc3339(form, given), "2024-09-24T19:30:00Z", "{form:?} {given}");
        }
        assert_eq!(rfc3339(TimeForm::Native, "2024-09-24 19:30:00.123456+00"), "2024-09-24T19:30:00.123456Z");
        assert_eq!(rfc3339(TimeForm::Text, "2024-09-24"), "2024-09-24T00:00:00Z");
        assert_eq!(rfc3339(TimeForm::Text, "soon"), "soon");
        assert_eq!(
            TimeForm::seen(Dialect::Postgres, "timestamp with time zone", Some("2024-09-24 19:30:00+00")),
            TimeForm::Native
        );
        assert_eq!(TimeForm::seen(Dialect::Sqlite, "TEXT", Some("2024-09-24 19:30:00")), TimeForm::TextSpace);
        assert_eq!(TimeForm::seen(Dialect::Sqlite, "INTEGER", Some("1727206200000")), TimeForm::Milliseconds);
        for form in TimeForm::ALL {
            assert_eq!(TimeForm::of(form.name()), Some(form));
        }
    }

    #[test]
    fn names_stay_names() {
        assert_eq!(quoted("public.a\"; DROP TABLE x; --"), "\"public\".\"a\"\"; DROP TABLE x; --\"");
        assert!(columns(Dialect::Sqlite, "it's").contains("'it''s'"));
    }
}
