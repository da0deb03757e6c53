//! A table's schema as BigQuery describes it (`TableSchema` of its REST API).
