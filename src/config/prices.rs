//! What storage costs, from the provider's price list: with it plans and figures are in money, too.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::reader::{Problems, Reader};
use crate::model::{Place, StorageClass};

/// A price list; empty: nothing is said in money.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Prices {
    /// Such as `USD`.
    pub currency: String,
    /// By kind of storage (`gcs`, `s3`, `azure`, `local`) and storage class.
    pub classes: BTreeMap<(String, String), ClassPrice>,
    /// Of a TiB that BigQuery scans.
    pub scan: f64,
}

/// What a storage class costs.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ClassPrice {
    /// Of a GiB for a month.
    pub storage: f64,
    /// Of 10,000 requests that write or list (class A).
    pub writes: f64,
    /// Of 10,000 requests that read (class B).
    pub reads: f64,
    /// Of a GiB that is read.
    pub retrieval: f64,
}

pub(super) fn read_prices(path: &str, table: Table, problems: &mut Problems) -> Prices {
    let mut reader = Reader::new(path, table, problems);
    let currency = reader.needed_text("currency", "such as USD").unwrap_or_default();
    let scan = amount(&mut reader, "bigquery_scan");
    let mut classes = BTreeMap::new();
    // A place of each kind says which classes there are.
    for (kind, example) in [("gcs", "gs://any"), ("s3", "s3://any"), ("azure", "az://any"), ("local", "")] {
        let Some((path, table)) = reader.table(kind) else { continue };
        for (class, prices) in table {
            let path = format!("{path}.{class}");
            let known = match kind {
                "local" => class == "directory",
                _ => example.parse::<Place>().is_ok_and(|of| StorageClass::of(&of, &class).is_ok()),
            };
            let Value::Table(prices) = prices else {
                reader.problems().add(&path, "must be a table; hint: { storage = 0.02, writes = 0.05, reads = 0.004 }");
                continue;
            };
            if !known {
                reader.problems().add(&path, format!("is no storage class of {kind} that backups are kept in"));
                continue;
            }
            let mut prices = Reader::new(&path, prices, reader.problems());
            let price = ClassPrice {
                storage: amount(&mut prices, "storage"),
                writes: amount(&mut prices, "writes"),
                reads: amount(&mut prices, "reads"),
                retrieval: amount(&mut prices, "retrieval"),
            };
            prices.finish();
            classes.insert((kind.to_string(), class), price);
        }
    }
    reader.finish();
    Prices { currency, classes, scan }
}

/// An amount of money; nothing said is nothing to pay.
fn amount(reader: &mut Reader, key: &'static str) -> f64 {
    let amount = match reader.take(key) {
        None => Some(0.0),
        Some(Value::Float(amount)) => Some(amount),
        Some(Value::Integer(amount)) => i32::try_from(amount).ok().map(f64::from),
        Some(_) => None,
    };
    match amount.filter(|amount| amount.is_finite() && *amount >= 0.0) {
        Some(amount) => amount,
        None => {
            reader.problem(key, "must be an amount of money, such as 0.02");
            0.0
        }
    }
}
