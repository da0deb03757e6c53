//! What a backup asks of the stores and of BigQuery: requests, bytes by storage class, and money where the configuration has a
//! price list. Estimates are upper bounds: files are compressed, and no larger than the data that they are made of.

use serde::Serialize;

use super::backup::{BackupPlan, SourcePlan};
use crate::config::{Config, Destination, Prices};
use crate::model::{Place, StorageClass};

/// BigQuery divides an export into files of about this much data
/// (<https://cloud.google.com/bigquery/docs/exporting-data#exporting_data_into_one_or_more_files>).
const FILE_BYTES: u64 = 1 << 30;
/// Statement and manifest.
const RECORDS: u64 = 2;
/// The folder before, the folder after, and the catalog.
const LISTS: u64 = 3;
const GIB: f64 = (1u64 << 30) as f64;
const TIB: f64 = (1u64 << 40) as f64;

/// What a backup costs, at most.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Cost {
    pub places: Vec<PlaceCost>,
    /// Bytes that BigQuery scans for fingerprints.
    pub scanned_bytes: u64,
    /// `None` without a price list.
    pub money: Option<Money>,
}

/// What a place is asked to do and to keep.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlaceCost {
    pub place: Place,
    /// `None`: the place has no classes.
    pub storage_class: Option<String>,
    pub objects: u64,
    pub size_bytes: u64,
    /// Requests that write or list.
    pub writes: u64,
    pub reads: u64,
    pub money: Option<Money>,
}

/// An amount in the price list's currency.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Money {
    pub currency: String,
    pub once: f64,
    /// For keeping what was stored.
    pub per_month: f64,
}

/// The cost of a backup by its plan.
pub fn of_backup(config: &Config, plan: &BackupPlan) -> Cost {
    let (mut objects, mut size_bytes, mut scanned_bytes) = (RECORDS, 0, 0);
    for source in &plan.sources {
        match source {
            SourcePlan::BigQuery(source) => {
                objects += 1 + (source.tables.len() + source.views.len() + source.routines.len()) as u64;
                for table in &source.tables {
                    let parts = table.logical_bytes.div_ceil(FILE_BYTES).max(table.partitions.len() as u64);
                    objects += parts.max(1);
                    size_bytes += table.logical_bytes;
                    scanned_bytes += if table.proof { table.logical_bytes } else { 0 };
                }
            }
            SourcePlan::Sheets(source) => objects += 3 * source.tabs.len() as u64,
            SourcePlan::Streamed(source) => {
                objects += source.items.len() as u64;
                size_bytes += source.items.iter().filter_map(|item| item.size_bytes).sum::<u64>();
            }
        }
    }
    let copies = plan.destinations.len().saturating_sub(1) as u64;
    let tier = config.tiers.get(&plan.tier);
    let places: Vec<PlaceCost> = tier
        .iter()
        .flat_map(|tier| &tier.destinations)
        .enumerate()
        .map(|(at, destination)| {
            // Everything is read back where it was written first, and once for each copy.
            let reads = if at == 0 { objects * (1 + copies) } else { RECORDS };
            let storage_class = class_of(destination).map(str::to_string);
            let place = destination.place.clone();
            let writes = objects + LISTS;
            let mut cost = PlaceCost { place, storage_class, objects, size_bytes, writes, reads, money: None };
            cost.money = cost.price(config.prices.as_ref());
            cost
        })
        .collect();
    let money = config.prices.as_ref().map(|prices| {
        let sum = |of: fn(&Money) -> f64| places.iter().filter_map(|place| place.money.as_ref().map(of)).sum::<f64>();
        let scan = prices.scan * scanned_bytes as f64 / TIB;
        Money { currency: prices.currency.clone(), once: sum(|m| m.once) + scan, per_month: sum(|m| m.per_month) }
    });
    Cost { places, scanned_bytes, money }
}

impl PlaceCost {
    fn price(&self, prices: Option<&Prices>) -> Option<Money> {
        let prices = prices?;
        let class = self.storage_class.as_deref().unwrap_or("directory");
        let price = prices.classes.get(&(self.place.kind().to_string(), class.to_string()))?;
        let gib = self.size_bytes as f64 / GIB;
        // What is read back is retrieved as often as it is read.
        let retrieved = gib * (self.reads / self.objects.max(1)) as f64;
        let requests = price.writes * self.writes as f64 + price.reads * self.reads as f64;
        let once = requests / 10_000.0 + price.retrieval * retrieved;
        Some(Money { currency: prices.currency.clone(), once, per_month: price.storage * gib })
    }
}

/// What keeping so many bytes in a class of a place costs a month; `None` where the list has no such class.
pub fn storage(prices: &Prices, place: &Place, class: Option<&str>, size_bytes: u64) -> Option<f64> {
    let class = class.or_else(|| usual_class(place)).unwrap_or("directory");
    let price = prices.classes.get(&(place.kind().to_string(), class.to_string()))?;
    Some(price.storage * size_bytes as f64 / GIB)
}

/// The class in which a destination's objects lie; `None`: it has no classes.
pub fn class_of(destination: &Destination) -> Option<&'static str> {
    destination.storage_class.map(StorageClass::as_str).or_else(|| usual_class(&destination.place))
}

/// The class of a place that says none.
fn usual_class(place: &Place) -> Option<&'static str> {
    match place {
        Place::Gcs { .. } | Place::S3 { .. } => Some("STANDARD"),
        Place::Azure { .. } => Some("Hot"),
        Place::Local { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prices() -> Prices {
        let text = "name = \"demo\"\n[google]\nproject = \"p-1\"\n[[source]]\nname = \"w\"\nkind = \"bigquery\"\ndataset = \"d\"\n\
            [tiers.daily]\nkeep = \"30d\"\ndestinations = [\"gs://demo\"]\n[prices]\ncurrency = \"USD\"\n\
            [prices.gcs]\nARCHIVE = { storage = 0.0012, writes = 0.5, reads = 0.5, retrieval = 0.05 }\n";
        crate::config::parse(text, &|_| None).unwrap().prices.unwrap()
    }

    #[test]
    fn money_is_of_requests_retrieval_and_months() {
        let place: Place = "gs://demo".parse().unwrap();
        let cost = PlaceCost {
            place: place.clone(),
            storage_class: Some("ARCHIVE".into()),
            objects: 10,
            size_bytes: 100 << 30,
            writes: 20_000,
            reads: 20,
            money: None,
        };
        let money = cost.price(Some(&prices())).unwrap();
        // 2 * 0.5 for writes, 0.001 for reads, 100 GiB read twice.
        assert!((money.once - (1.0 + 0.001 + 10.0)).abs() < 1e-9, "{money:?}");
        assert!((money.per_month - 0.12).abs() < 1e-9, "{money:?}");
        assert_eq!(PlaceCost { storage_class: Some("STANDARD".into()), ..cost }.price(Some(&prices())), None);
        assert_eq!(storage(&prices(), &place, Some("ARCHIVE"), 1 << 30), Some(0.0012));
        assert_eq!(storage(&prices(), &place, None, 10 << 30), None);
    }
}
