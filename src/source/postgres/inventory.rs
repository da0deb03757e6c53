//! What a database consists of, by its catalog.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;
use tokio_postgres::{Client, Row};

use super::connect::{failure, quoted};
use super::decode::Wire;
use crate::manifest::{
    DatabaseGrant, DatabaseProperties, DatabaseSetting, ExtensionRecord, LargeObjects, SequenceRecord,
};
use crate::model::schema::{Field, FieldType, Mode, Schema};
use crate::model::{DatabaseUrl, Failure};

/// Older servers lack what is used here, and nobody mends them any more.
pub(super) const OLDEST: u32 = 120_000;

/// Tables that hold rows of their own: partitions, not what they are parts of. Those of extensions are made with them.
const TABLES: &str = r#"
WITH RECURSIVE base (oid, base, typmod) AS (
    SELECT oid, oid, -1 FROM pg_catalog.pg_type WHERE typtype <> 'd'
    UNION ALL
    SELECT t.oid, b.base, CASE WHEN t.typtypmod <> -1 THEN t.typtypmod ELSE b.typmod END
    FROM pg_catalog.pg_type t JOIN base b ON t.typbasetype = b.oid WHERE t.typtype = 'd'
)
SELECT n.nspname::text, c.relname::text, pg_catalog.pg_table_size(c.oid), c.reltuples::float8,
    a.attname::text, a.attnotnull,
    CASE WHEN a.atttypmod <> -1 THEN a.atttypmod ELSE b.typmod END,
    b.base, t.typtype::text, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attgenerated <> ''
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN base b ON b.oid = a.atttypid
LEFT JOIN pg_catalog.pg_type t ON t.oid = b.base
WHERE c.relkind = 'r' AND c.relpersistence <> 't'
    AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C", a.attnum"#;

/// A table, and how its rows are read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TableShape {
    pub schema: String,
    pub table: String,
    pub size_bytes: u64,
    /// The server's own estimate; `None` when it never looked.
    pub estimated_rows: Option<u64>,
    pub columns: Vec<ColumnShape>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct ColumnShape {
    pub name: String,
    pub field: Field,
    /// `None`: the server makes a text of it.
    pub wire: Option<Wire>,
    /// PostgreSQL's name of the type.
    pub kind: String,
    /// Computed from others, and so no part of a dump.
    pub generated: bool,
}

impl TableShape {
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.schema, self.table)
    }

    pub fn sql_name(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.table))
    }

    pub fn columns(&self) -> Schema {
        Schema::new(self.columns.iter().map(|column| column.field.clone()).collect())
    }

    pub fn wires(&self) -> Vec<Wire> {
        self.columns.iter().map(|column| column.wire.unwrap_or(Wire::Bytes)).collect()
    }

    /// The statement that sends its rows as a dump holds them.
    pub fn text_sql(&self) -> String {
        let columns = self.columns.iter().filter(|column| !column.generated).map(|column| quoted(&column.name));
        let columns: Vec<String> = columns.collect();
        match columns.as_slice() {
            [] => format!("COPY {} TO STDOUT", self.sql_name()),
            columns => format!("COPY {} ({}) TO STDOUT", self.sql_name(), columns.join(", ")),
        }
    }

    /// The statement that sends its rows.
    pub fn copy_sql(&self) -> String {
        let columns = self.columns.iter().map(|column| match column.wire {
            Some(_) => quoted(&column.name),
            None => format!("{}::pg_catalog.text", quoted(&column.name)),
        });
        let columns: Vec<String> = columns.collect();
        format!("COPY (SELECT {} FROM ONLY {}) TO STDOUT (FORMAT binary)", columns.join(", "), self.sql_name())
    }

    /// Reads a column as text: it holds what its type in the schema does not.
    pub fn as_text(&mut self, column: usize) -> bool {
        let Some(column) = self.columns.get_mut(column).filter(|column| column.wire.is_some()) else { return false };
        column.wire = None;
        column.field = Field::new(&column.field.name, FieldType::String, column.field.mode);
        true
    }

    /// Reads the columns as they were read for `schema`.
    pub fn read_as(&mut self, schema: &Schema) {
        for at in 0..self.columns.len() {
            let then = schema.fields.get(at).map(|field| field.kind);
            if then == Some(FieldType::String) && self.columns[at].field.kind != FieldType::String {
                self.as_text(at);
            }
        }
    }
}

/// Asks, and maps what goes wrong.
pub(super) async fn rows(client: &Client, url: &DatabaseUrl, sql: &str) -> Result<Vec<Row>, Failure> {
    client.query(sql, &[]).await.map_err(|error| failure(url, &error))
}

pub(super) async fn execute(client: &Client, url: &DatabaseUrl, sql: &str) -> Result<(), Failure> {
    client.batch_execute(sql).await.map_err(|error| failure(url, &error))
}

/// One text.
pub(super) async fn text(client: &Client, url: &DatabaseUrl, sql: &str) -> Result<String, Failure> {
    let rows = rows(client, url, sql).await?;
    let text = rows.first().and_then(|row| row.try_get::<_, Option<String>>(0).ok());
    text.map(Option::unwrap_or_default).ok_or_else(|| unreadable(url, sql))
}

fn unreadable(url: &DatabaseUrl, what: &str) -> Failure {
    Failure::Corrupt { object: url.to_string(), message: format!("gave no usable answer to: {what}") }
}

/// The server's version: for people, and as a number (150018).
pub(super) async fn version(client: &Client, url: &DatabaseUrl) -> Result<(String, u32), Failure> {
    let number = text(client, url, "SELECT pg_catalog.current_setting('server_version_num')").await?;
    let name = text(client, url, "SELECT pg_catalog.current_setting('server_version')").await?;
    Ok((name, number.parse().map_err(|_| unreadable(url, "server_version_num"))?))
}

pub(super) async fn now(client: &Client, url: &DatabaseUrl) -> Result<Timestamp, Failure> {
    let sql =
        "SELECT (extract(epoch FROM pg_catalog.transaction_timestamp()) * 1000)::pg_catalog.int8::pg_catalog.text";
    let millis = text(client, url, sql).await?;
    let at = millis.parse().ok().and_then(|millis| Timestamp::from_millisecond(millis).ok());
    at.ok_or_else(|| unreadable(url, "transaction_timestamp"))
}

/// Every table with rows of its own, in order of schema and name.
pub(super) async fn tables(client: &Client, url: &DatabaseUrl) -> Result<Vec<TableShape>, Failure> {
    let encoding = text(client, url, "SELECT pg_catalog.current_setting('server_encoding')").await?;
    let mut tables: Vec<TableShape> = Vec::new();
    for row in rows(client, url, TABLES).await? {
        let mut read = || -> Result<(), tokio_postgres::Error> {
            let (schema, table): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            if tables.last().is_none_or(|last| (&last.schema, &last.table) != (&schema, &table)) {
                let estimate: f64 = row.try_get(3)?;
                tables.push(TableShape {
                    schema,
                    table,
                    size_bytes: u64::try_from(row.try_get::<_, i64>(2)?).unwrap_or(0),
                    estimated_rows: (estimate >= 0.0).then_some(estimate as u64),
                    columns: vec![],
                });
            }
            let Some(name) = row.try_get::<_, Option<String>>(4)? else { return Ok(()) }; // a table of no columns
            if let Some(table) = tables.last_mut() {
                let (not_null, modifier): (bool, i32) = (row.try_get(5)?, row.try_get(6)?);
                let (base, kind): (u32, String) = (row.try_get(7)?, row.try_get(8)?);
                let mode = if not_null { Mode::Required } else { Mode::Nullable };
                let (mut field_type, wire) = mapped(base, modifier, &kind);
                if encoding == "SQL_ASCII" && field_type == FieldType::String {
                    field_type = FieldType::Bytes; // nobody says in which encoding the texts are
                }
                let field = Field::new(unique(&name, &table.columns), field_type, mode);
                let (kind, generated) = (row.try_get(9)?, row.try_get(10)?);
                table.columns.push(ColumnShape { name, field, wire, kind, generated });
            }
            Ok(())
        };
        read().map_err(|error| failure(url, &error))?;
    }
    Ok(tables)
}

/// BigQuery's names do not distinguish case, PostgreSQL's do.
fn unique(name: &str, others: &[ColumnShape]) -> String {
    let taken = |name: &str| others.iter().any(|other| other.field.name.eq_ignore_ascii_case(name));
    let mut chosen = name.to_string();
    let mut n = 2;
    while taken(&chosen) {
        chosen = format!("{name}_{n}");
        n += 1;
    }
    chosen
}

/// BigQuery's type that holds every value of a type of PostgreSQL's (but for the rare, which make a text of the column),
/// and how the values are sent. What has no such type is text.
fn mapped(oid: u32, modifier: i32, kind: &str) -> (FieldType, Option<Wire>) {
    match oid {
        16 => (FieldType::Bool, Some(Wire::Bool)),
        17 => (FieldType::Bytes, Some(Wire::Bytes)),
        20 => (FieldType::Int64, Some(Wire::Int64)),
        21 => (FieldType::Int64, Some(Wire::Int16)),
        23 => (FieldType::Int64, Some(Wire::Int32)),
        26 => (FieldType::Int64, Some(Wire::Oid)),
        700 => (FieldType::Float64, Some(Wire::Float32)),
        701 => (FieldType::Float64, Some(Wire::Float64)),
        1082 => (FieldType::Date, Some(Wire::Date)),
        1083 => (FieldType::Time, Some(Wire::Time)),
        1114 => (FieldType::DateTime, Some(Wire::Instant)),
        1184 => (FieldType::Timestamp, Some(Wire::Instant)),
        2950 => (FieldType::String, Some(Wire::Uuid)),
        19 | 25 | 1042 | 1043 => (FieldType::String, Some(Wire::Bytes)),
        1700 if modifier >= 4 => {
            let (precision, scale) = ((modifier - 4) >> 16 & 0xffff, (modifier - 4) & 0x7ff);
            // Since PostgreSQL 15 a scale may be negative or above the precision.
            let scale = (scale ^ 1024) - 1024;
            let whole = precision - scale;
            match (scale, whole) {
                (0..=9, ..=29) => (FieldType::Numeric, Some(Wire::Numeric)),
                (0..=38, ..=38) => (FieldType::BigNumeric, Some(Wire::Numeric)),
                _ => (FieldType::String, None),
            }
        }
        _ if kind == "e" => (FieldType::String, Some(Wire::Bytes)),
        _ => (FieldType::String, None),
    }
}

/// What decides how values are written as text, and differs from database to database: as a new session of this user has it.
pub(super) async fn text_settings(client: &Client, url: &DatabaseUrl) -> Result<BTreeMap<String, String>, Failure> {
    let sql = "SELECT name, reset_val FROM pg_catalog.pg_settings WHERE name IN ('bytea_output', 'lc_monetary')";
    let read =
        |row: &Row| -> Result<(String, String), tokio_postgres::Error> { Ok((row.try_get(0)?, row.try_get(1)?)) };
    let rows = rows(client, url, sql).await?;
    rows.iter().map(read).collect::<Result<_, _>>().map_err(|error| failure(url, &error))
}

/// Where sequences stand.
pub(super) async fn sequences(client: &Client, url: &DatabaseUrl) -> Result<Vec<SequenceRecord>, Failure> {
    let sql = r#"SELECT schemaname::text, sequencename::text, last_value, increment_by, cycle FROM pg_catalog.pg_sequences
        WHERE schemaname !~ '^pg_temp' ORDER BY schemaname COLLATE "C", sequencename COLLATE "C""#;
    let read = |row: &Row| -> Result<SequenceRecord, tokio_postgres::Error> {
        Ok(SequenceRecord {
            schema: row.try_get(0)?,
            sequence: row.try_get(1)?,
            last_value: row.try_get(2)?,
            increment: row.try_get(3)?,
            cycles: row.try_get(4)?,
        })
    };
    let rows = rows(client, url, sql).await?;
    rows.iter().map(read).collect::<Result<_, _>>().map_err(|error| failure(url, &error))
}

/// All large objects; `None` when there are none.
pub(super) async fn large_objects(client: &Client, url: &DatabaseUrl) -> Result<Option<LargeObjects>, Failure> {
    // Content by content: what is held at once is one of them.
    let sql = "SELECT pg_catalog.count(*), COALESCE(pg_catalog.sum(size), 0)::pg_catalog.int8, \
        pg_catalog.md5(COALESCE(pg_catalog.string_agg(oid::pg_catalog.text || ':' || md5, ',' ORDER BY oid), '')) \
        FROM (SELECT oid, pg_catalog.md5(content) AS md5, pg_catalog.octet_length(content)::pg_catalog.int8 AS size \
            FROM pg_catalog.pg_largeobject_metadata CROSS JOIN LATERAL pg_catalog.lo_get(oid) AS content) AS objects";
    let rows = rows(client, url, sql).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let read = || -> Result<LargeObjects, tokio_postgres::Error> {
        let (count, size): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        Ok(LargeObjects {
            count: u64::try_from(count).unwrap_or(0),
            size_bytes: u64::try_from(size).unwrap_or(0),
            digest: row.try_get(2)?,
        })
    };
    let all = read().map_err(|error| failure(url, &error))?;
    Ok((all.count > 0).then_some(all))
}

/// A column of names.
pub(super) async fn names(client: &Client, url: &DatabaseUrl, sql: &str) -> Result<Vec<String>, Failure> {
    let rows = rows(client, url, sql).await?;
    let names = rows.iter().map(|row| row.try_get(0));
    names.collect::<Result<_, _>>().map_err(|error| failure(url, &error))
}

pub(super) async fn extensions(client: &Client, url: &DatabaseUrl) -> Result<Vec<ExtensionRecord>, Failure> {
    let rows = rows(client, url, "SELECT extname::text, extversion FROM pg_catalog.pg_extension ORDER BY 1").await?;
    let read = |row: &Row| -> Result<ExtensionRecord, tokio_postgres::Error> {
        Ok(ExtensionRecord { name: row.try_get(0)?, version: row.try_get(1)? })
    };
    rows.iter().map(read).collect::<Result<_, _>>().map_err(|error| failure(url, &error))
}

/// Roles that the database cannot be restored without: who owns something in it, or has rights on it.
pub(super) async fn roles(
    client: &Client,
    url: &DatabaseUrl,
    properties: &DatabaseProperties,
) -> Result<Vec<String>, Failure> {
    let sql = "SELECT DISTINCT r.rolname::text FROM pg_catalog.pg_roles r WHERE r.rolname !~ '^pg_' AND r.oid IN ( \
        SELECT refobjid FROM pg_catalog.pg_shdepend WHERE refclassid = 'pg_catalog.pg_authid'::regclass \
            AND dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) \
        UNION SELECT relowner FROM pg_catalog.pg_class WHERE relnamespace NOT IN \
            (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname ~ '^pg_' OR nspname = 'information_schema') \
        UNION SELECT proowner FROM pg_catalog.pg_proc WHERE pronamespace NOT IN \
            (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname ~ '^pg_' OR nspname = 'information_schema')) ORDER BY 1";
    let mut roles: BTreeSet<String> = names(client, url, sql).await?.into_iter().collect();
    roles.insert(properties.owner.clone());
    roles.extend(properties.grants.iter().flatten().filter_map(|grant| grant.role.clone()));
    roles.extend(properties.settings.iter().filter_map(|setting| setting.role.clone()));
    Ok(roles.into_iter().collect())
}

pub(super) async fn tablespaces(client: &Client, url: &DatabaseUrl) -> Result<Vec<String>, Failure> {
    let sql = "SELECT DISTINCT s.spcname::text FROM pg_catalog.pg_tablespace s \
        JOIN pg_catalog.pg_class c ON c.reltablespace = s.oid WHERE s.spcname !~ '^pg_' ORDER BY 1";
    names(client, url, sql).await
}

/// What is said when the database is made.
pub(super) async fn properties(client: &Client, url: &DatabaseUrl) -> Result<DatabaseProperties, Failure> {
    // As JSON: which columns there are depends on the server's version.
    let sql = "SELECT pg_catalog.to_jsonb(d)::pg_catalog.text FROM pg_catalog.pg_database d \
        WHERE datname = pg_catalog.current_database()";
    let row: Value = serde_json::from_str(&text(client, url, sql).await?).map_err(|_| unreadable(url, sql))?;
    let of = |name: &str| row[name].as_str().map(String::from);
    let sql = "SELECT pg_catalog.jsonb_build_object( \
        'owner', pg_catalog.pg_get_userbyid(d.datdba), 'encoding', pg_catalog.pg_encoding_to_char(d.encoding), \
        'comment', pg_catalog.shobj_description(d.oid, 'pg_database'), \
        'public', EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'public'), \
        'size', pg_catalog.pg_database_size(d.oid), \
        'settings', (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(r.rolname, c.setting) ORDER BY r.rolname NULLS FIRST, c.n) \
            FROM pg_catalog.pg_db_role_setting s CROSS JOIN LATERAL pg_catalog.unnest(s.setconfig) WITH ORDINALITY c(setting, n) \
            LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole WHERE s.setdatabase = d.oid), \
        'grants', CASE WHEN d.datacl IS NOT NULL THEN (SELECT COALESCE(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array( \
                r.rolname, a.privilege_type, a.is_grantable) ORDER BY r.rolname NULLS FIRST, a.privilege_type), '[]') \
            FROM pg_catalog.aclexplode(d.datacl) a LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee \
            WHERE a.grantee = 0 OR r.oid IS NOT NULL) END)::pg_catalog.text \
        FROM pg_catalog.pg_database d WHERE datname = pg_catalog.current_database()";
    let more: Value = serde_json::from_str(&text(client, url, sql).await?).map_err(|_| unreadable(url, sql))?;
    let provider = match of("datlocprovider").as_deref() {
        Some("i") => "icu",
        Some("b") => "builtin",
        _ => "libc",
    };
    let settings = more["settings"].as_array().into_iter().flatten().filter_map(|pair| {
        let (name, value) = pair[1].as_str()?.split_once('=')?;
        Some(DatabaseSetting { role: pair[0].as_str().map(String::from), name: name.into(), value: value.into() })
    });
    let grants = more["grants"].as_array().map(|grants| {
        let grants = grants.iter().filter_map(|grant| {
            let (role, grantable) = (grant[0].as_str().map(String::from), grant[2].as_bool()?);
            Some(DatabaseGrant { role, privilege: grant[1].as_str()?.into(), grantable })
        });
        grants.collect()
    });
    Ok(DatabaseProperties {
        name: of("datname").unwrap_or_default(),
        owner: more["owner"].as_str().unwrap_or_default().into(),
        encoding: more["encoding"].as_str().unwrap_or_default().into(),
        collate: of("datcollate").unwrap_or_default(),
        ctype: of("datctype").unwrap_or_default(),
        provider: provider.into(),
        // `daticulocale` up to PostgreSQL 16.
        locale: of("datlocale").or_else(|| of("daticulocale")),
        connection_limit: row["datconnlimit"].as_i64().and_then(|limit| i32::try_from(limit).ok()).unwrap_or(-1),
        comment: more["comment"].as_str().map(String::from),
        settings: settings.collect(),
        grants,
        has_public: more["public"].as_bool().unwrap_or(true),
        size_bytes: more["size"].as_u64().unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numerics_go_where_they_fit() {
        let modifier = |precision: i32, scale: i32| ((precision << 16) | (scale & 0x7ff)) + 4;
        let kind = |precision, scale| mapped(1700, modifier(precision, scale), "b").0;
        assert_eq!(kind(10, 2), FieldType::Numeric);
        assert_eq!(kind(38, 9), FieldType::Numeric);
        assert_eq!(kind(38, 10), FieldType::BigNumeric);
        assert_eq!(kind(76, 38), FieldType::BigNumeric);
        assert_eq!(kind(77, 38), FieldType::String);
        assert_eq!(kind(5, -2), FieldType::String, "a negative scale");
        assert_eq!(mapped(1700, -1, "b").0, FieldType::String, "no limits: any number of digits");
        assert_eq!(mapped(3802, -1, "b"), (FieldType::String, None), "jsonb");
        assert_eq!(mapped(99_999, -1, "e"), (FieldType::String, Some(Wire::Bytes)), "an enum");
    }

    #[test]
    fn names_that_differ_in_case_only_are_told_apart() {
        let column = |name: &str| ColumnShape {
            name: name.into(),
            field: Field::nullable(name, FieldType::Int64),
            wire: None,
            kind: String::new(),
            generated: false,
        };
        assert_eq!(unique("A", &[column("a")]), "A_2");
        assert_eq!(unique("b", &[column("a")]), "b");
    }
}
