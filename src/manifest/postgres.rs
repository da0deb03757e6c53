//! A PostgreSQL database in a backup.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::record::ObjectRecord;
use super::streamed::{Item, StreamedRecord};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PostgresRecord {
    pub name: String,
    pub origin: String,
    pub taken_at: Timestamp,
    pub objects: Vec<ObjectRecord>,
}

impl StreamedRecord for PostgresRecord {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn origin(&self) -> &str {
        &self.origin
    }

    fn taken_at(&self) -> Timestamp {
        self.taken_at
    }

    fn objects(&self) -> Vec<&ObjectRecord> {
        self.objects.iter().collect()
    }

    fn items(&self) -> Vec<Item> {
        vec![]
    }
}
