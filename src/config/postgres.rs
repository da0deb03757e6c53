//! The settings of a source of kind `postgres`.

use super::reader::Reader;

#[derive(Debug, Clone, PartialEq)]
pub struct PostgresSource {}

pub(super) fn read_postgres(_reader: &mut Reader) -> Option<PostgresSource> {
    Some(PostgresSource {})
}
