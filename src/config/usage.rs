//! The settings of a source of kind `usage`.

use super::reader::Reader;

#[derive(Debug, Clone, PartialEq)]
pub struct UsageSource {}

pub(super) fn read_usage(_reader: &mut Reader) -> Option<UsageSource> {
    Some(UsageSource {})
}
