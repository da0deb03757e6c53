//! A place in memory for the captures of tests: objects as they are, read whole or by ranges.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;

use super::streamed::{Sink, Streamed, Vault, Wish};
use crate::manifest::{ObjectRecord, SourceRecord};
use crate::model::{Digests, Failure};
use crate::store::{ByteStream, collect, stream_of};

/// Objects by key.
#[derive(Default)]
pub struct Memory {
    pub objects: Mutex<BTreeMap<String, Bytes>>,
    pub last: Option<SourceRecord>,
    pub folder: String,
    /// Only whole objects can be read, as where they are sealed.
    pub whole_only: bool,
    /// What was read by ranges.
    pub ranged: Mutex<u64>,
}

impl Memory {
    /// The next backup, over the objects of those before.
    pub fn next(&mut self, folder: &str, last: &SourceRecord) {
        self.last = Some(last.clone());
        self.folder = folder.into();
    }

    pub async fn backup(&self, source: &dyn Streamed) -> Result<SourceRecord, Failure> {
        source.cut().await?.capture(self).await
    }
}

pub fn wish(run: &str) -> Wish {
    Wish { run: run.into(), parallel: 2, ..Wish::default() }
}

#[async_trait]
impl Sink for Memory {
    async fn stream(&self, name: &str, content: ByteStream) -> Result<ObjectRecord, Failure> {
        let bytes = collect(name, content, u64::MAX).await?;
        let key = format!("{}/{name}", self.folder);
        let record = ObjectRecord { key: key.clone(), digests: Digests::of(&bytes), row_count: None, stored: None };
        assert!(self.objects.lock().unwrap().insert(key.clone(), bytes).is_none(), "{key} is written twice");
        Ok(record)
    }

    async fn put(&self, name: &str, content: Bytes) -> Result<ObjectRecord, Failure> {
        self.stream(name, stream_of(content)).await
    }

    fn last(&self) -> Option<&SourceRecord> {
        self.last.as_ref()
    }

    fn vault(&self) -> &dyn Vault {
        self
    }

    fn is_sealed(&self) -> bool {
        false
    }

    fn progress(&self, _done: usize, _total: usize, _what: &str) {}
}

#[async_trait]
impl Vault for Memory {
    async fn read(&self, object: &ObjectRecord) -> Result<ByteStream, Failure> {
        let bytes = self.objects.lock().unwrap().get(&object.key).cloned();
        let lost = || Failure::NotFound { object: object.key.clone(), message: "no such object".into() };
        Ok(stream_of(bytes.ok_or_else(lost)?))
    }

    async fn read_range(&self, object: &ObjectRecord, range: Range<u64>) -> Result<Option<Bytes>, Failure> {
        if self.whole_only {
            return Ok(None);
        }
        let bytes = self.objects.lock().unwrap()[&object.key].clone();
        *self.ranged.lock().unwrap() += range.end - range.start;
        Ok(Some(bytes.slice(range.start as usize..range.end as usize)))
    }
}
