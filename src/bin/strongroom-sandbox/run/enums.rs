//! Enums of Cloud Run v2 as names and as integers: Google's Rust and Python clients send and ask for integers.

use serde_json::{Value, json};

type Values = &'static [(&'static str, u64)];

const INGRESS: Values = &[
    ("INGRESS_TRAFFIC_UNSPECIFIED", 0),
    ("INGRESS_TRAFFIC_ALL", 1),
    ("INGRESS_TRAFFIC_INTERNAL_ONLY", 2),
    ("INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER", 3),
    ("INGRESS_TRAFFIC_NONE", 4),
];
const LAUNCH_STAGE: Values = &[
    ("LAUNCH_STAGE_UNSPECIFIED", 0),
    ("EARLY_ACCESS", 1),
    ("ALPHA", 2),
    ("BETA", 3),
    ("GA", 4),
    ("DEPRECATED", 5),
    ("UNIMPLEMENTED", 6),
    ("PRELAUNCH", 7),
];
const TRAFFIC: Values = &[
    ("TRAFFIC_TARGET_ALLOCATION_TYPE_UNSPECIFIED", 0),
    ("TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", 1),
    ("TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION", 2),
];
const STATE: Values = &[
    ("STATE_UNSPECIFIED", 0),
    ("CONDITION_PENDING", 1),
    ("CONDITION_RECONCILING", 2),
    ("CONDITION_FAILED", 3),
    ("CONDITION_SUCCEEDED", 4),
];
const SEVERITY: Values = &[("SEVERITY_UNSPECIFIED", 0), ("ERROR", 1), ("WARNING", 2), ("INFO", 3)];
/// Those that the sandbox answers.
const REASON: Values =
    &[("COMMON_REASON_UNDEFINED", 0), ("UNKNOWN", 1), ("REVISION_FAILED", 3), ("SECRETS_ACCESS_CHECK_FAILED", 12)];
const REVISION_REASON: Values =
    &[("REVISION_REASON_UNDEFINED", 0), ("RETIRED", 3), ("HEALTH_CHECK_CONTAINER_ERROR", 6)];
const ENVIRONMENT: Values =
    &[("EXECUTION_ENVIRONMENT_UNSPECIFIED", 0), ("EXECUTION_ENVIRONMENT_GEN1", 1), ("EXECUTION_ENVIRONMENT_GEN2", 2)];
const REVOCATION: Values = &[("ENCRYPTION_KEY_REVOCATION_ACTION_UNSPECIFIED", 0), ("PREVENT_NEW", 1), ("SHUTDOWN", 2)];
const EGRESS: Values = &[("VPC_EGRESS_UNSPECIFIED", 0), ("ALL_TRAFFIC", 1), ("PRIVATE_RANGES_ONLY", 2)];
const SCALING: Values = &[("SCALING_MODE_UNSPECIFIED", 0), ("AUTOMATIC", 1), ("MANUAL", 2)];

/// The values of an enum field, by the field's name and the object it stands in.
fn values(field: &str, holder: &Value) -> Option<Values> {
    Some(match field {
        "ingress" => INGRESS,
        "launchStage" => LAUNCH_STAGE,
        // A condition's type is a text.
        "type" if holder.get("percent").is_some() || holder.get("revision").is_some() => TRAFFIC,
        "type" if holder.get("type").is_some_and(Value::is_number) => TRAFFIC,
        "state" => STATE,
        "severity" => SEVERITY,
        "reason" => REASON,
        "revisionReason" => REVISION_REASON,
        "executionEnvironment" => ENVIRONMENT,
        "encryptionKeyRevocationAction" => REVOCATION,
        "egress" => EGRESS,
        "scalingMode" => SCALING,
        _ => return None,
    })
}

/// Every enum that came as an integer becomes its name.
pub fn as_names(value: &mut Value) {
    each(value, &|values, value| {
        let n = value.as_u64()?;
        values.iter().find(|(_, number)| *number == n).map(|(name, _)| json!(name))
    });
}

/// Every enum becomes its integer.
pub fn as_integers(value: &mut Value) {
    each(value, &|values, value| {
        let name = value.as_str()?;
        values.iter().find(|(known, _)| *known == name).map(|(_, number)| json!(number))
    });
}

fn each(value: &mut Value, change: &dyn Fn(Values, &Value) -> Option<Value>) {
    match value {
        Value::Object(_) => {
            let known = |(field, inner): (&String, &Value)| {
                values(field, value).and_then(|v| change(v, inner)).map(|new| (field.clone(), new))
            };
            let changed: Vec<(String, Value)> = value.as_object().into_iter().flatten().filter_map(known).collect();
            for (field, new) in changed {
                value[field] = new;
            }
            // Labels and annotations are texts of the user's.
            let inner = value.as_object_mut().into_iter().flatten();
            inner
                .filter(|(field, _)| !matches!(field.as_str(), "labels" | "annotations"))
                .for_each(|(_, v)| each(v, change));
        }
        Value::Array(items) => items.iter_mut().for_each(|v| each(v, change)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enums_travel_both_ways() {
        let names = json!({
            "ingress": "INGRESS_TRAFFIC_ALL",
            "labels": { "state": "CONDITION_FAILED" },
            "traffic": [{ "type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "percent": 100 }],
            "terminalCondition": { "type": "Ready", "state": "CONDITION_SUCCEEDED" },
        });
        let integers = json!({
            "ingress": 1,
            "labels": { "state": "CONDITION_FAILED" },
            "traffic": [{ "type": 1, "percent": 100 }],
            "terminalCondition": { "type": "Ready", "state": 4 },
        });
        let mut value = names.clone();
        as_integers(&mut value);
        assert_eq!(value, integers);
        as_names(&mut value);
        assert_eq!(value, names);
    }
}
