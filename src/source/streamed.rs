//! What every source can do whose data passes through this process. The jobs know such a source by this trait only.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use crate::manifest::{ObjectRecord, SourceRecord};
use crate::model::Failure;
use crate::plan::Refusal;
pub use crate::plan::streamed::{ItemFacts, RestoredItem, RestoredSource, StreamedFacts, StreamedRestore, Wish};
use crate::store::ByteStream;

/// Where a capture puts its objects: the backup's folder in the primary destination, sealed where that is asked.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Writes the object `data/{source}/{name}` of the backup; the name may hold `/`.
    ///
    /// # Errors
    /// The content's own; as the store's medium fails.
    async fn stream(&self, name: &str, content: ByteStream) -> Result<ObjectRecord, Failure>;

    /// A small object.
    ///
    /// # Errors
    /// As the store's medium fails.
    async fn put(&self, name: &str, content: Bytes) -> Result<ObjectRecord, Failure>;

    /// Whether what is written can be read by the holders of a private key only.
    fn is_sealed(&self) -> bool;

    /// This source's part of the newest backup whose objects may be referred to instead of being stored again: of the same
    /// tier, whole in every place, and for the same recipients.
    fn last(&self) -> Option<&SourceRecord>;

    /// The content of an object of `last`.
    fn vault(&self) -> &dyn Vault;

    fn progress(&self, done: usize, total: usize, what: &str);
}

/// Where a restore reads objects: their content, as it was written, whatever was done to it since.
#[async_trait]
pub trait Vault: Send + Sync {
    /// The whole content. The stream ends with `Corrupt` when it was not what the record says.
    ///
    /// # Errors
    /// `NotFound`; `Sealed`; as the store's medium fails.
    async fn read(&self, object: &ObjectRecord) -> Result<ByteStream, Failure>;

    /// A range of the content; `None` where only the whole can be read, since it is sealed. The bytes are not checked.
    ///
    /// # Errors
    /// `NotFound`; as the store's medium fails.
    async fn read_range(&self, object: &ObjectRecord, range: Range<u64>) -> Result<Option<Bytes>, Failure>;
}

/// What reading a source's stored objects gave, beyond their digests.
#[derive(Debug, Default)]
pub struct Checked {
    /// Keys of the objects that were read whole, and are what was written.
    pub objects: Vec<String>,
    /// What their content holds, and the record says otherwise.
    pub differences: Vec<String>,
}

/// A source whose data passes through this process.
#[async_trait]
pub trait Streamed: Send + Sync {
    /// Looks, and changes nothing.
    ///
    /// # Errors
    /// When it cannot be looked at. What stands against a backup are refusals among the facts.
    async fn inventory(&self) -> Result<StreamedFacts, Failure>;

    /// Fixes the state that will be captured. Ingestion stands still meanwhile, so it is quick.
    ///
    /// # Errors
    /// As the source fails.
    async fn cut(&self) -> Result<Box<dyn Cut>, Failure>;

    /// What a restore would do, or everything that stands against it. Changes nothing.
    ///
    /// # Errors
    /// When the target cannot be looked at.
    async fn look(&self, record: &SourceRecord, wish: &Wish) -> Result<Result<StreamedRestore, Vec<Refusal>>, Failure>;

    /// Restores beside what is there (what it makes meanwhile has the run's id in its name), compares it with the record, and
    /// puts it in place in one step only then.
    ///
    /// # Errors
    /// `Corrupt` when the backup is not what was written; as the target fails.
    async fn restore(&self, record: &SourceRecord, vault: &dyn Vault, wish: &Wish) -> Result<RestoredSource, Failure>;

    /// Holds what is there now against a record, and changes nothing; `None` where there is nothing to hold against it.
    ///
    /// # Errors
    /// When it cannot be read.
    async fn compare(&self, _record: &SourceRecord, _vault: &dyn Vault) -> Result<Option<RestoredSource>, Failure> {
        Ok(None)
    }

    /// Takes back what a restore of `wish.run` made that did not come to its end: what was there before is there, or all of what
    /// was restored, and nothing beside it. Once done, doing it again changes nothing.
    ///
    /// # Errors
    /// As the target fails.
    async fn take_back(&self, record: &SourceRecord, wish: &Wish) -> Result<(), Failure>;
}

/// A state of a source that stays as it is until it is captured or let go.
#[async_trait]
pub trait Cut: Send {
    /// The instant that it is of.
    fn taken_at(&self) -> Timestamp;

    /// Puts the data into the vault.
    ///
    /// # Errors
    /// The source's own, and the sink's.
    async fn capture(self: Box<Self>, sink: &dyn Sink) -> Result<SourceRecord, Failure>;
}
