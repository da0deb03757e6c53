//! The settings of a source of kind `sqlite`.

use super::reader::Reader;

#[derive(Debug, Clone, PartialEq)]
pub struct SqliteSource {}

pub(super) fn read_sqlite(_reader: &mut Reader) -> Option<SqliteSource> {
    Some(SqliteSource {})
}
