//! OPTIONS(...): constants, and where they stand in a resource.

use serde_json::{Map, Value as Json, json};

use crate::bigquery::sql::bind::Context;
use crate::bigquery::sql::bind::scope::{Env, Names, Scope};
use crate::bigquery::sql::bind::subquery::constant_value;
use crate::bigquery::sql::error::{Res, invalid};
use crate::bigquery::sql::func::json::to_json;
use crate::bigquery::sql::syntax::ast::{Call, Expr as Ast, Kind, Name};
use crate::bigquery::sql::ty::Ty;
use crate::bigquery::sql::value::{Value, interval_text};

const DAY_MS: f64 = 86_400_000.0;

/// What a resource is; the same option may stand elsewhere in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    Table,
    View,
    MaterializedView,
    Schema,
    Column,
}

impl Context<'_> {
    /// The value of an option.
    ///
    /// # Errors
    /// When it is no constant.
    pub fn option_value(&self, names: &Names, ast: &Ast) -> Res<(Value, Ty)> {
        let scope = Scope::default();
        let env = Env::new(names, &scope, "OPTIONS");
        let tx = self.expr(&env, ast)?;
        Ok((constant_value(&tx)?, tx.ty))
    }

    /// Puts options into a resource. With `reset`, NULL becomes a JSON null (ALTER); otherwise it is left out.
    ///
    /// # Errors
    /// Unknown options, wrong types.
    pub fn apply_options(
        &self,
        names: &Names,
        options: &[(Name, Ast)],
        resource: Resource,
        out: &mut Map<String, Json>,
        reset: bool,
    ) -> Res<()> {
        for (name, ast) in options {
            let option = name.text.to_lowercase();
            let (value, ty) = self.option_value(names, ast)?;
            let wrong = || invalid(format!("Invalid value for option {option} at {}", names.place(name.at)));
            if value.is_null() {
                if reset && let Some(path) = place_of(&option, resource) {
                    put(out, path, Json::Null);
                }
                continue;
            }
            match (option.as_str(), resource) {
                ("labels", _) => {
                    put(out, &["labels"], labels(&value).ok_or_else(wrong)?);
                }
                ("tags", _) => put(out, &["resourceTags"], labels(&value).ok_or_else(wrong)?),
                ("expiration_timestamp", _) => {
                    let value = match (&value, &ty) {
                        (Value::Timestamp(us), _) => *us,
                        (Value::Str(text), _) => {
                            crate::bigquery::sql::func::time::parse_timestamp_text(text, None).map_err(|_| wrong())?
                        }
                        _ => return Err(wrong()),
                    };
                    put(out, &["expirationTime"], json!(value.div_euclid(1000).to_string()));
                }
                (
                    "partition_expiration_days" | "default_table_expiration_days" | "default_partition_expiration_days",
                    _,
                ) => {
                    let days = number(&value).ok_or_else(wrong)?;
                    let path = place_of(&option, resource).ok_or_else(wrong)?;
                    put(out, path, json!(((days * DAY_MS).round() as i64).to_string()));
                }
                ("refresh_interval_minutes", Resource::MaterializedView) => {
                    let minutes = number(&value).ok_or_else(wrong)?;
                    put(
                        out,
                        &["materializedView", "refreshIntervalMs"],
                        json!(((minutes * 60_000.0) as i64).to_string()),
                    );
                }
                ("max_staleness", _) => {
                    let Value::Interval(interval) = &value else { return Err(wrong()) };
                    put(out, &["maxStaleness"], json!(interval_text(interval)));
                }
                ("max_time_travel_hours", Resource::Schema) => {
                    put(out, &["maxTimeTravelHours"], json!(value.int().map_err(|_| wrong())?.to_string()));
                }
                _ => {
                    let Some(path) = place_of(&option, resource) else {
                        return Err(invalid(format!("Unknown option: {option} at {}", names.place(name.at))));
                    };
                    put(out, path, to_json(&value, &ty).map_err(invalid)?);
                }
            }
        }
        Ok(())
    }

    /// Options as a plain object, names in lower case (EXPORT DATA, LOAD DATA).
    ///
    /// # Errors
    /// When one is no constant.
    pub fn plain_options(&self, names: &Names, options: &[(Name, Ast)]) -> Res<Map<String, Json>> {
        let mut out = Map::new();
        for (name, ast) in options {
            let (value, ty) = self.option_value(names, ast)?;
            out.insert(name.text.to_lowercase(), to_json(&value, &ty).map_err(invalid)?);
        }
        Ok(out)
    }

    /// PARTITION BY: `timePartitioning` or `rangePartitioning` in a table's resource.
    ///
    /// # Errors
    /// Expressions that cannot partition.
    pub fn partition_by(&self, names: &Names, ast: &Ast, out: &mut Map<String, Json>) -> Res<()> {
        let wrong = || {
            invalid(format!(
                "PARTITION BY expression must be DATE(<timestamp_column>), DATE(<datetime_column>), DATETIME_TRUNC(<datetime_column>, DAY/HOUR/MONTH/YEAR), a DATE column, TIMESTAMP_TRUNC(<timestamp_column>, DAY/HOUR/MONTH/YEAR), DATE_TRUNC(<date_column>, MONTH/YEAR), or RANGE_BUCKET(<int64_column>, GENERATE_ARRAY(<int64_value>, <int64_value>[, <int64_value>])) at {}",
                names.place(ast.at)
            ))
        };
        let (column, unit) = match ast.kind.as_ref() {
            Kind::Path(_) => (ast, "DAY".to_owned()),
            Kind::Call(call) => match (call_name(call).as_str(), call.args.as_slice()) {
                ("DATE", [column]) => (column, "DAY".to_owned()),
                ("TIMESTAMP_TRUNC" | "DATETIME_TRUNC" | "DATE_TRUNC", [column, unit]) => {
                    (column, column_name(unit).ok_or_else(wrong)?.to_uppercase())
                }
                ("RANGE_BUCKET", [column, array]) => {
                    let Kind::Call(generate) = array.kind.as_ref() else { return Err(wrong()) };
                    let bounds: Vec<i64> = generate
                        .args
                        .iter()
                        .map(|a| self.option_value(names, a)?.0.int().map_err(|_| wrong()))
                        .collect::<Res<_>>()?;
                    let (start, end) = match bounds.as_slice() {
                        [start, end, ..] if call_name(generate) == "GENERATE_ARRAY" => (start, end),
                        _ => return Err(wrong()),
                    };
                    let range = json!({
                        "start": start.to_string(),
                        "end": end.to_string(),
                        "interval": bounds.get(2).copied().unwrap_or(1).to_string(),
                    });
                    let field = column_name(column).ok_or_else(wrong)?;
                    out.insert("rangePartitioning".into(), json!({ "field": field, "range": range }));
                    return Ok(());
                }
                _ => return Err(wrong()),
            },
            _ => return Err(wrong()),
        };
        if !matches!(unit.as_str(), "HOUR" | "DAY" | "MONTH" | "YEAR") {
            return Err(wrong());
        }
        let field = column_name(column).ok_or_else(wrong)?;
        let mut partitioning = Map::from_iter([("type".to_owned(), json!(unit))]);
        if !field.eq_ignore_ascii_case("_PARTITIONTIME") && !field.eq_ignore_ascii_case("_PARTITIONDATE") {
            partitioning.insert("field".into(), json!(field));
        }
        // An option may already have set the expiration.
        if let Some(Json::Object(earlier)) = out.remove("timePartitioning") {
            partitioning.extend(earlier);
        }
        out.insert("timePartitioning".into(), Json::Object(partitioning));
        Ok(())
    }
}

fn call_name(call: &Call) -> String {
    call.name.iter().map(|n| n.text.to_uppercase()).collect::<Vec<_>>().join(".")
}

fn column_name(ast: &Ast) -> Option<String> {
    match ast.kind.as_ref() {
        Kind::Path(names) if names.len() == 1 => Some(names[0].text.clone()),
        _ => None,
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Int(v) => Some(*v as f64),
        Value::Float(v) => Some(*v),
        Value::Numeric(v) => Some(*v as f64 / 1e9),
        _ => None,
    }
}

/// `[("key", "value"), ...]`.
fn labels(value: &Value) -> Option<Json> {
    let Value::Array(items) = value else { return None };
    let mut out = Map::new();
    for item in items {
        let Value::Struct(pair) = item else { return None };
        let (Value::Str(key), Value::Str(value)) = (pair.first()?, pair.get(1)?) else { return None };
        out.insert(key.clone(), json!(value));
    }
    Some(Json::Object(out))
}

fn place_of(option: &str, resource: Resource) -> Option<&'static [&'static str]> {
    Some(match (option, resource) {
        ("description", _) => &["description"],
        ("rounding_mode", Resource::Column) => &["roundingMode"],
        ("data_policies", Resource::Column) => &["dataPolicies"],
        ("policy_tags", Resource::Column) => &["policyTags"],
        (_, Resource::Column) => return None,
        ("labels", _) => &["labels"],
        ("tags", _) => &["resourceTags"],
        ("friendly_name", _) => &["friendlyName"],
        ("kms_key_name", Resource::Table | Resource::MaterializedView) => &["encryptionConfiguration", "kmsKeyName"],
        ("default_kms_key_name", Resource::Schema) => &["defaultEncryptionConfiguration", "kmsKeyName"],
        ("default_rounding_mode", Resource::Table) => &["defaultRoundingMode"],
        ("default_rounding_mode", Resource::Schema) => &["defaultRoundingMode"],
        ("location", Resource::Schema) => &["location"],
        ("is_case_insensitive", Resource::Schema) => &["isCaseInsensitive"],
        ("storage_billing_model", Resource::Schema) => &["storageBillingModel"],
        ("max_time_travel_hours", Resource::Schema) => &["maxTimeTravelHours"],
        ("default_table_expiration_days", Resource::Schema) => &["defaultTableExpirationMs"],
        ("default_partition_expiration_days", Resource::Schema) => &["defaultPartitionExpirationMs"],
        ("expiration_timestamp", Resource::Table | Resource::View | Resource::MaterializedView) => &["expirationTime"],
        ("partition_expiration_days", Resource::Table | Resource::MaterializedView) => {
            &["timePartitioning", "expirationMs"]
        }
        ("require_partition_filter", Resource::Table) => &["requirePartitionFilter"],
        ("enable_change_history", Resource::Table) => &["enableChangeHistory"],
        ("max_staleness", Resource::Table | Resource::MaterializedView) => &["maxStaleness"],
        ("enable_refresh", Resource::MaterializedView) => &["materializedView", "enableRefresh"],
        ("allow_non_incremental_definition", Resource::MaterializedView) => {
            &["materializedView", "allowNonIncrementalDefinition"]
        }
        ("refresh_interval_minutes", Resource::MaterializedView) => &["materializedView", "refreshIntervalMs"],
        ("privacy_policy", Resource::View) => &["view", "privacyPolicy"],
        _ => return None,
    })
}

fn put(out: &mut Map<String, Json>, path: &[&str], value: Json) {
    match path {
        [] => {}
        [last] => {
            out.insert((*last).to_owned(), value);
        }
        [first, rest @ ..] => {
            let inner = out.entry((*first).to_owned()).or_insert_with(|| Json::Object(Map::new()));
            if let Json::Object(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}
