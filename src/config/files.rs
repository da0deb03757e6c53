//! The settings of a source of kind `files`.

use super::reader::Reader;

#[derive(Debug, Clone, PartialEq)]
pub struct FilesSource {}

pub(super) fn read_files(_reader: &mut Reader) -> Option<FilesSource> {
    Some(FilesSource {})
}
