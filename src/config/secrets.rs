//! The settings of a source of kind `secrets`.

use super::reader::Reader;

#[derive(Debug, Clone, PartialEq)]
pub struct SecretsSource {}

pub(super) fn read_secrets(_reader: &mut Reader, _project: Option<&str>) -> Option<SecretsSource> {
    Some(SecretsSource {})
}
