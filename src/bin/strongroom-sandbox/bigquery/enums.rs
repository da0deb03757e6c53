//! Enums that a client sent as integers, put back into their names. Knows the names of members and their values,
//! from the published protocol definitions of `google.cloud.bigquery.v2`.

use serde_json::{Value, json};

/// Replaces integers under the names of enum members, at any depth. Nulls stay: in a patch they remove.
pub fn name_them(value: &mut Value) {
    match value {
        Value::Object(members) => {
            let unspecified = |(k, v): (&String, &Value)| v.as_u64().is_some_and(|n| name(k, n) == Some(None));
            let unset: Vec<String> = members.iter().filter(|m| unspecified(*m)).map(|(k, _)| k.clone()).collect();
            for key in unset {
                members.shift_remove(&key);
            }
            for (key, member) in members.iter_mut() {
                match member {
                    Value::Number(n) => {
                        if let Some(Some(name)) = n.as_u64().and_then(|n| name(key, n)) {
                            *member = json!(name);
                        }
                    }
                    Value::Array(items) if key == "decimalTargetTypes" => {
                        for item in items {
                            if let Some(Some(text)) = item.as_u64().and_then(|n| name(key, n)) {
                                *item = json!(text);
                            }
                        }
                    }
                    // Free text and free keys live here.
                    Value::Object(_) if matches!(key.as_str(), "labels" | "resourceTags") => {}
                    other => name_them(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(name_them),
        _ => {}
    }
}

/// `None`: no enum of that name. `Some(None)`: unspecified.
fn name(key: &str, number: u64) -> Option<Option<&'static str>> {
    let table: &[(u64, &str)] = match key {
        "operationType" => &[(1, "COPY"), (2, "SNAPSHOT"), (3, "RESTORE"), (4, "CLONE")],
        "decimalTargetTypes" => &[(1, "NUMERIC"), (2, "BIGNUMERIC"), (3, "STRING")],
        "defaultRoundingMode" | "roundingMode" => &[(1, "ROUND_HALF_AWAY_FROM_ZERO"), (2, "ROUND_HALF_EVEN")],
        "storageBillingModel" => &[(1, "LOGICAL"), (2, "PHYSICAL")],
        "managedTableType" => &[(1, "NATIVE"), (2, "BIGLAKE")],
        "jsonExtension" => &[(1, "GEOJSON")],
        "columnNameCharacterMap" => &[(1, "STRICT"), (2, "V1"), (3, "V2")],
        "sourceColumnMatch" => &[(1, "POSITION"), (2, "NAME")],
        "fileSetSpecType" => {
            &[(0, "FILE_SET_SPEC_TYPE_FILE_SYSTEM_MATCH"), (1, "FILE_SET_SPEC_TYPE_NEW_LINE_DELIMITED_MANIFEST")]
        }
        "mapTargetType" => &[(1, "ARRAY_OF_STRUCT")],
        "tableFormat" => &[(1, "ICEBERG")],
        "fileFormat" => &[(1, "PARQUET")],
        "objectMetadata" => &[(1, "DIRECTORY"), (2, "SIMPLE")],
        "metadataCacheMode" => &[(1, "AUTOMATIC"), (2, "MANUAL")],
        "keyResultStatement" => &[(1, "LAST"), (2, "FIRST_SELECT")],
        "jobCreationMode" => &[(1, "JOB_CREATION_REQUIRED"), (2, "JOB_CREATION_OPTIONAL")],
        "timestampOutputFormat" => &[(1, "FLOAT64"), (2, "INT64"), (3, "ISO8601_STRING")],
        "generatedMode" => &[(1, "GENERATED_ALWAYS"), (2, "GENERATED_BY_DEFAULT")],
        "routineType" => {
            &[(1, "SCALAR_FUNCTION"), (2, "PROCEDURE"), (3, "TABLE_VALUED_FUNCTION"), (4, "AGGREGATE_FUNCTION")]
        }
        "language" => &[(1, "SQL"), (2, "JAVASCRIPT"), (3, "PYTHON"), (4, "JAVA"), (5, "SCALA")],
        "determinismLevel" => &[(1, "DETERMINISTIC"), (2, "NOT_DETERMINISTIC")],
        "securityMode" => &[(1, "DEFINER"), (2, "INVOKER")],
        "dataGovernanceType" => &[(1, "DATA_MASKING")],
        "argumentKind" => &[(1, "FIXED_TYPE"), (2, "ANY_TYPE"), (3, "FIXED_TABLE"), (4, "ANY_TABLE")],
        "mode" => &[(1, "IN"), (2, "OUT"), (3, "INOUT")],
        "targetTypes" => &[(1, "VIEWS"), (2, "ROUTINES")],
        "typeKind" => &[
            (2, "INT64"),
            (5, "BOOL"),
            (7, "FLOAT64"),
            (8, "STRING"),
            (9, "BYTES"),
            (10, "DATE"),
            (16, "ARRAY"),
            (17, "STRUCT"),
            (19, "TIMESTAMP"),
            (20, "TIME"),
            (21, "DATETIME"),
            (22, "GEOGRAPHY"),
            (23, "NUMERIC"),
            (24, "BIGNUMERIC"),
            (25, "JSON"),
            (26, "INTERVAL"),
            (29, "RANGE"),
        ],
        _ => return None,
    };
    Some(table.iter().find(|(n, _)| *n == number).map(|(_, name)| *name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_become_names_only_where_an_enum_stands() {
        let mut value = json!({"copy": {"operationType": 2, "n": 2}, "decimalTargetTypes": [1, 2],
            "labels": {"mode": 1}, "schema": {"fields": [{"roundingMode": 0, "mode": "REPEATED"}]}});
        name_them(&mut value);
        assert_eq!(
            value,
            json!({"copy": {"operationType": "SNAPSHOT", "n": 2}, "decimalTargetTypes": ["NUMERIC", "BIGNUMERIC"],
            "labels": {"mode": 1}, "schema": {"fields": [{"mode": "REPEATED"}]}})
        );
    }
}
