//! The crate's enums back to Google's REST form: the crate serialises them as numbers, we keep names. Knows the fields
//! of jobs only; whole resources never pass through here. Numbers without a name stay numbers (statistics' rare codes).

use google_cloud_bigquery_v2::model;
use serde::Serialize;
use serde_json::Value;

use super::malformed;
use crate::model::Failure;

/// A message of the crate in REST form.
///
/// # Errors
/// `Corrupt` when the message cannot be written as JSON.
pub(super) fn rest_form(object: &str, message: &impl Serialize) -> Result<Value, Failure> {
    let mut value = serde_json::to_value(message).map_err(|error| malformed(object, error))?;
    name_enums(&mut value, "");
    Ok(value)
}

fn name_enums(value: &mut Value, parent: &str) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields.iter_mut() {
                match field {
                    Value::Array(items) => {
                        for item in items {
                            name_one(item, parent, key);
                        }
                    }
                    field => name_one(field, parent, key),
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                name_enums(item, parent);
            }
        }
        _ => {}
    }
}

fn name_one(value: &mut Value, parent: &str, key: &str) {
    let number = match value {
        // Labels are the user's own keys.
        Value::Object(_) if key == "labels" => return,
        Value::Object(_) | Value::Array(_) => return name_enums(value, key),
        Value::Number(number) => number.as_i64().and_then(|number| i32::try_from(number).ok()),
        _ => None,
    };
    if let Some(name) = number.and_then(|number| enum_name(parent, key, number)) {
        *value = Value::String(name);
    }
}

/// The name of `number` in the enum that stands at `key`. `Value` has every 64-bit integer as a string already, so a
/// number at one of these keys is an enum.
fn enum_name(parent: &str, key: &str, number: i32) -> Option<String> {
    macro_rules! name {
        ($($of:ident)::+) => {
            model::$($of)::+::from(number).name().map(str::to_string)
        };
    }
    match key {
        "operationType" => name!(job_configuration_table_copy::OperationType),
        "fileSetSpecType" => name!(FileSetSpecType),
        "decimalTargetTypes" => name!(DecimalTargetType),
        "jsonExtension" => name!(JsonExtension),
        "mapTargetType" => name!(MapTargetType),
        "columnNameCharacterMap" => name!(job_configuration_load::ColumnNameCharacterMap),
        "sourceColumnMatch" => name!(job_configuration_load::SourceColumnMatch),
        "roundingMode" => name!(table_field_schema::RoundingMode),
        "generatedMode" => name!(table_field_schema::generated_column::GeneratedMode),
        "typeSystem" => name!(foreign_type_info::TypeSystem),
        "typeKind" => name!(standard_sql_data_type::TypeKind),
        "keyResultStatement" => name!(script_options::KeyResultStatementKind),
        "evaluationKind" => name!(script_statistics::EvaluationKind),
        "dmlMode" => name!(dml_stats::DmlMode),
        "edition" => name!(ReservationEdition),
        "biEngineMode" => name!(bi_engine_statistics::BiEngineMode),
        "code" if parent == "jobCreationReason" => name!(job_creation_reason::Code),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job() -> Value {
        json!({
            "configuration": {
                "jobType": "LOAD",
                "copy": {
                    "sourceTable": {"projectId": "p", "datasetId": "d", "tableId": "t@1700000000000"},
                    "operationType": "SNAPSHOT", "destinationExpirationTime": "2030-01-02T03:04:05Z"
                },
                "load": {
                    "sourceUris": ["gs://b/x-*.avro"], "writeDisposition": "WRITE_TRUNCATE_DATA",
                    "schema": {"fields": [{"name": "n", "type": "NUMERIC", "mode": "REQUIRED", "roundingMode": "ROUND_HALF_EVEN",
                        "precision": "10", "policyTags": {"names": ["x"]}}]},
                    "ignoreUnknownValues": false, "useAvroLogicalTypes": true, "skipLeadingRows": 0, "maxBadRecords": 0,
                    "decimalTargetTypes": ["NUMERIC", "BIGNUMERIC"], "parquetOptions": {"enableListInference": true},
                    "columnNameCharacterMap": "V2", "optionOfTomorrow": {"deep": ["KEPT", 7]}
                },
                "labels": {"edition": "2"}
            },
            "statistics": {"creationTime": "1700000000001", "edition": "ENTERPRISE_PLUS",
                "query": {"dmlStats": {"insertedRowCount": "5"}}},
            "status": {"state": "DONE", "errorResult": {"reason": "invalid", "message": "no"}},
            "jobReference": {"projectId": "p", "jobId": "j", "location": "EU"}
        })
    }

    #[test]
    fn a_job_survives_the_crate_with_names_and_unknown_fields() {
        let typed: model::Job = serde_json::from_value(job()).unwrap();
        // What goes over the wire has numbers ...
        let wire = serde_json::to_value(&typed).unwrap();
        assert_eq!(wire["configuration"]["copy"]["operationType"], 2);
        assert_eq!(wire["configuration"]["load"]["decimalTargetTypes"], json!([1, 2]));
        assert_eq!(wire["configuration"]["load"]["ignoreUnknownValues"], false);
        // ... what crosses our interface has names, whichever way it arrived.
        for arrived in [typed, serde_json::from_value(wire).unwrap()] {
            assert_eq!(rest_form("job", &arrived).unwrap(), job());
        }
    }

    /// Why whole resources go by REST. When this fails, the crate has become better, and the head of `mod.rs` is to be
    /// thought over.
    #[test]
    fn the_crate_loses_parts_of_whole_resources() {
        let through =
            |value: Value| serde_json::to_value(serde_json::from_value::<model::Table>(value).unwrap()).unwrap();
        assert_eq!(through(json!({"expirationTime": null})), json!({}), "null clears a field in a patch");
        let zero = json!({"schema": {"fields": [{"name": "n", "type": "NUMERIC", "precision": "10", "scale": "0"}]}});
        assert_eq!(through(zero)["schema"]["fields"][0].get("scale"), None, "explicit zeros are dropped");
        let enums = json!({"defaultRoundingMode": "ROUND_HALF_EVEN"});
        assert_eq!(through(enums)["defaultRoundingMode"], 2, "names become numbers");
    }
}
