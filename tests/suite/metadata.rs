//! All that is not rows: a restored estate has the same resources, field by field, but for a stated list.

use reqwest::Method;
use serde_json::{Value, json};

use crate::estate::{Estate, PROJECT};
use crate::warehouse::{self, TIERS, WAREHOUSE};

/// The fields of resources that a restored one has anew; README.md (On Google) states them too.
const ANEW: [&str; 3] = ["creationTime", "etag", "lastModifiedTime"];

const KEY: &str = "projects/demo-project/locations/us/keyRings/ring/cryptoKeys/key";
const TAG: &str = "projects/demo-project/locations/us/taxonomies/1/policyTags/2";

/// The second dataset: views and keys reach from one into the other.
const LAKE: &str = "lake";

fn two_datasets() -> Estate {
    let mut estate = warehouse::empty(&[]);
    warehouse::configure(&mut estate, |text| {
        text.replace(
            "[tiers.avro]",
            "[[source]]\nname = \"lake\"\nkind = \"bigquery\"\ndataset = \"lake\"\n\n[tiers.avro]",
        )
    });
    let dataset = json!({
        "datasetReference": {"projectId": PROJECT, "datasetId": LAKE},
        "location": "US",
        "friendlyName": "The lake",
        "description": "All that is raw.",
        "labels": {"team": "data", "empty": ""},
        "defaultTableExpirationMs": "864000000",
        "defaultPartitionExpirationMs": "8640000000",
        "defaultCollation": "und:ci",
        "defaultRoundingMode": "ROUND_HALF_EVEN",
        "defaultEncryptionConfiguration": {"kmsKeyName": KEY},
        "maxTimeTravelHours": "72",
        "isCaseInsensitive": true,
        "storageBillingModel": "PHYSICAL",
        "resourceTags": {"123456789012/environment": "production"},
        "access": [
            {"role": "OWNER", "specialGroup": "projectOwners"},
            {"role": "READER", "userByEmail": "auditor@example.com"},
            {"role": "WRITER", "groupByEmail": "loaders@example.com"},
            {"view": {"projectId": PROJECT, "datasetId": WAREHOUSE, "tableId": "top"}},
        ],
    });
    estate.post(&format!("/bigquery/v2/projects/{PROJECT}/datasets"), dataset);
    estate
}

fn at(dataset: &str, rest: &str) -> String {
    format!("/bigquery/v2/projects/{PROJECT}/datasets/{dataset}{rest}")
}

#[track_caller]
fn make(estate: &Estate, dataset: &str, table: &str, mut resource: Value) {
    resource["tableReference"] = json!({"projectId": PROJECT, "datasetId": dataset, "tableId": table});
    estate.post(&at(dataset, "/tables"), resource);
}

/// A table with every field of the documentation that a table of rows can have
/// (<https://cloud.google.com/bigquery/docs/reference/rest/v2/tables>).
fn everything() -> Value {
    let schema = json!({"fields": [
        {"name": "id", "type": "INTEGER", "mode": "REQUIRED", "description": "the order's number"},
        {"name": "customer", "type": "STRING", "mode": "NULLABLE", "collation": "und:ci", "maxLength": "40",
         "policyTags": {"names": [TAG]}},
        {"name": "ordered_at", "type": "TIMESTAMP", "mode": "REQUIRED", "defaultValueExpression": "CURRENT_TIMESTAMP()"},
        {"name": "amount", "type": "NUMERIC", "mode": "NULLABLE", "precision": "12", "scale": "2",
         "roundingMode": "ROUND_HALF_EVEN", "dataPolicies": [{"name": "projects/demo-project/locations/us/dataPolicies/mask"}]},
        {"name": "exact", "type": "BIGNUMERIC", "mode": "NULLABLE", "precision": "60", "scale": "30"},
        {"name": "seal", "type": "BYTES", "mode": "NULLABLE", "maxLength": "32"},
        {"name": "lines", "type": "RECORD", "mode": "REPEATED", "description": "what was ordered", "fields": [
            {"name": "article", "type": "STRING", "mode": "REQUIRED", "description": "the article's code", "maxLength": "8"},
            {"name": "price", "type": "RECORD", "mode": "NULLABLE", "fields": [
                {"name": "net", "type": "NUMERIC", "mode": "NULLABLE", "precision": "10", "scale": "4",
                 "description": "before tax", "policyTags": {"names": [TAG]}},
            ]},
        ]},
    ]});
    json!({
        "friendlyName": "Orders, \"all\" of them",
        "description": "One row an order.\nTwo lines, é and 日本.",
        "labels": {"cost-centre": "4711", "empty": ""},
        "expirationTime": "4102444800000",
        "requirePartitionFilter": true,
        "timePartitioning": {"type": "MONTH", "field": "ordered_at", "expirationMs": "3153600000000"},
        "clustering": {"fields": ["customer", "id"]},
        "defaultCollation": "und:ci",
        "defaultRoundingMode": "ROUND_HALF_AWAY_FROM_ZERO",
        "maxStaleness": "0-0 0 1:0:0",
        "resourceTags": {"123456789012/environment": "production"},
        "encryptionConfiguration": {"kmsKeyName": KEY},
        "tableConstraints": {
            "primaryKey": {"columns": ["id"]},
            "foreignKeys": [{
                "name": "fk_customer",
                "referencedTable": {"projectId": PROJECT, "datasetId": LAKE, "tableId": "z_customers"},
                "columnReferences": [{"referencingColumn": "customer", "referencedColumn": "id"}],
            }],
        },
        "schema": schema,
    })
}

fn filled() -> Estate {
    let estate = two_datasets();
    // Made before the dataset's defaults were what they are: a table that follows none of them.
    let plain = json!({"fields": [{"name": "n", "type": "INTEGER", "mode": "NULLABLE"}, {"name": "s", "type": "STRING", "mode": "NULLABLE"}]});
    make(&estate, WAREHOUSE, "plain", json!({"schema": plain}));
    make(
        &estate,
        LAKE,
        "z_customers",
        json!({
            "schema": {"fields": [{"name": "id", "type": "STRING", "mode": "REQUIRED"}]},
            "tableConstraints": {"primaryKey": {"columns": ["id"]}},
        }),
    );
    make(&estate, LAKE, "orders", everything());
    make(
        &estate,
        LAKE,
        "ranged",
        json!({
            "schema": plain,
            "rangePartitioning": {"field": "n", "range": {"start": "-10", "end": "100", "interval": "5"}},
            "clustering": {"fields": ["s"]},
        }),
    );
    make(
        &estate,
        WAREHOUSE,
        "arrivals",
        json!({"schema": plain, "timePartitioning": {"type": "HOUR", "expirationMs": "864000000000"}, "requirePartitionFilter": false}),
    );
    let sql = |text: &str| estate.query(&text.replace('@', PROJECT));
    sql("INSERT INTO `@.lake.z_customers` VALUES ('c-1')");
    sql(
        "INSERT INTO `@.lake.orders` VALUES (1, 'c-1', TIMESTAMP '2026-05-06 07:08:09.123456+00', NUMERIC '1.25', BIGNUMERIC '0.000000000000000000000000000001', b'x', [STRUCT('a-1', STRUCT(NUMERIC '1.0504'))])",
    );
    sql("INSERT INTO `@.lake.ranged` VALUES (7, 'seven'), (-1, NULL)");
    sql("INSERT INTO `@.warehouse.plain` VALUES (1, 'one')");

    // Routines of every kind; views use them.
    let routine = |dataset: &str, id: &str, mut resource: Value| {
        resource["routineReference"] = json!({"projectId": PROJECT, "datasetId": dataset, "routineId": id});
        estate.post(&at(dataset, "/routines"), resource);
    };
    let int64 = json!({"typeKind": "INT64"});
    routine(
        LAKE,
        "twice",
        json!({"routineType": "SCALAR_FUNCTION", "language": "SQL", "description": "doubles",
        "arguments": [{"name": "x", "dataType": int64}], "returnType": int64, "definitionBody": "x * 2"}),
    );
    routine(
        LAKE,
        "backwards",
        json!({"routineType": "SCALAR_FUNCTION", "language": "JAVASCRIPT", "determinismLevel": "DETERMINISTIC",
        "arguments": [{"name": "s", "dataType": {"typeKind": "STRING"}}], "returnType": {"typeKind": "STRING"},
        "definitionBody": "return s.split('').reverse().join('')", "importedLibraries": ["gs://vault-avro/library.js"]}),
    );
    routine(
        WAREHOUSE,
        "upkeep",
        json!({"routineType": "PROCEDURE", "language": "SQL", "strictMode": true,
        "arguments": [{"name": "n", "dataType": int64, "mode": "IN"}], "definitionBody": "BEGIN SELECT n; END"}),
    );

    // From one dataset into the other and back: `a_first` cannot be made before `middle`, nor that before `z_last`.
    let view = |dataset: &str, id: &str, query: &str| {
        let query = query.replace('@', PROJECT);
        let fields = json!([{"name": "n", "type": "INTEGER", "mode": "NULLABLE", "description": "the number"}]);
        make(
            &estate,
            dataset,
            id,
            json!({
                "friendlyName": format!("View {id}"), "description": "a view", "labels": {"kind": "view"},
                "expirationTime": "4102444800000",
                "view": {"query": query, "useLegacySql": false}, "schema": {"fields": fields},
            }),
        );
    };
    view(WAREHOUSE, "z_last", "SELECT n FROM `@.warehouse.plain`");
    view(LAKE, "middle", "SELECT `@`.lake.twice(n) AS n FROM `@.warehouse.z_last`");
    view(WAREHOUSE, "a_first", "SELECT n FROM `@.lake.middle` WHERE n > 0");
    view(WAREHOUSE, "top", "SELECT n FROM `@.lake.ranged`");
    make(
        &estate,
        WAREHOUSE,
        "summary",
        json!({
            "description": "kept by the service", "clustering": {"fields": ["s"]}, "maxStaleness": "0-0 0 4:0:0",
            "materializedView": {"query": format!("SELECT s, COUNT(*) AS rows_of FROM `{PROJECT}.warehouse.plain` GROUP BY s"),
                "enableRefresh": true, "refreshIntervalMs": "3600000"},
        }),
    );
    make(
        &estate,
        LAKE,
        "files",
        json!({
            "description": "elsewhere", "labels": {"kind": "external"},
            "externalDataConfiguration": {"sourceUris": ["gs://vault-avro/some/*.csv"], "sourceFormat": "CSV",
                "schema": {"fields": [{"name": "n", "type": "INTEGER", "mode": "NULLABLE"}]},
                "csvOptions": {"skipLeadingRows": "1", "fieldDelimiter": ";"}},
        }),
    );

    let policies = |table: &str, role: &str| {
        let body = json!({"policy": {"bindings": [{"role": role, "members": ["user:reader@example.com"]}]}});
        estate.post(&at(LAKE, &format!("/tables/{table}:setIamPolicy")), body);
    };
    policies("orders", "roles/bigquery.dataViewer");
    policies("middle", "roles/bigquery.dataEditor");
    for (id, predicate, grantee) in [("all", "TRUE", "allUsers"), ("own", "n = 7", "user:seven@example.com")] {
        let reference = json!({"projectId": PROJECT, "datasetId": LAKE, "tableId": "ranged", "policyId": id});
        let body = json!({"rowAccessPolicyReference": reference, "filterPredicate": predicate, "grantees": [grantee]});
        estate.post(&at(LAKE, "/tables/ranged/rowAccessPolicies"), body);
    }
    estate
}

/// Every resource of both datasets, by its path, without what is stated.
fn resources(estate: &Estate) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    let mut put = |path: String, resource: Value| {
        let mut resource = resource;
        anew(&mut resource);
        found.push((path, resource));
    };
    for dataset in [WAREHOUSE, LAKE] {
        put(at(dataset, ""), estate.get(&at(dataset, "")));
        let tables = estate.get(&at(dataset, "/tables?maxResults=1000"));
        for table in tables["tables"].as_array().into_iter().flatten() {
            let id = table["tableReference"]["tableId"].as_str().unwrap();
            let path = at(dataset, &format!("/tables/{id}"));
            put(path.clone(), estate.get(&path));
            put(format!("{path}:getIamPolicy"), estate.post(&format!("{path}:getIamPolicy"), json!({})));
            let (status, policies) = estate.call(Method::GET, &format!("{path}/rowAccessPolicies"), None);
            for policy in policies["rowAccessPolicies"].as_array().into_iter().flatten().filter(|_| status == 200) {
                let id = policy["rowAccessPolicyReference"]["policyId"].as_str().unwrap();
                let path = format!("{path}/rowAccessPolicies/{id}");
                put(path.clone(), policy.clone());
                put(format!("{path}:getIamPolicy"), estate.post(&format!("{path}:getIamPolicy"), json!({})));
            }
        }
        for routine in estate.get(&at(dataset, "/routines"))["routines"].as_array().into_iter().flatten() {
            let id = routine["routineReference"]["routineId"].as_str().unwrap();
            put(at(dataset, &format!("/routines/{id}")), estate.get(&at(dataset, &format!("/routines/{id}"))));
        }
    }
    found
}

fn anew(value: &mut Value) {
    if let Some(members) = value.as_object_mut() {
        members.retain(|key, _| !ANEW.contains(&key.as_str()));
        // The service's own count of a materialized view's refreshes.
        if let Some(view) = members.get_mut("materializedView").and_then(Value::as_object_mut) {
            view.remove("lastRefreshTime");
        }
    }
}

#[test]
fn every_field_of_every_resource_comes_back() {
    let estate = filled();
    let before = resources(&estate);
    let orders = &before.iter().find(|(path, _)| path.ends_with("/tables/orders")).unwrap().1;
    for (field, value) in everything().as_object().unwrap() {
        assert_eq!(&orders[field], value, "the sandbox itself keeps {field}");
    }
    assert!(before.len() > 25, "{}", before.len());
    let rows = |estate: &Estate| estate.query(&format!("SELECT n FROM `{PROJECT}.warehouse.a_first`"));
    assert_eq!(rows(&estate), [["2"]]);
    for tier in TIERS {
        let planned = estate.strongroom(&["backup", "--tier", tier, "--dry-run"]).ok();
        assert!(!planned.stdout.contains("does not hold"), "{}", planned.stdout);
        estate.json(&["backup", "--tier", tier]);
        for dataset in [WAREHOUSE, LAKE] {
            estate.delete(&at(dataset, "?deleteContents=true"));
        }
        let restored = estate.json(&["restore", "latest", "--tier", tier]);
        assert_eq!(restored["differences"], json!([]), "{tier}");
        let after = resources(&estate);
        let paths = |all: &[(String, Value)]| all.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
        assert_eq!(paths(&before), paths(&after), "{tier}");
        for ((path, lost), (_, found)) in before.iter().zip(&after) {
            assert_eq!(lost, found, "{tier}: {path}");
        }
        assert_eq!(rows(&estate), [["2"]], "{tier}");
    }
}
