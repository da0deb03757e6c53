//! Usage records.

use async_trait::async_trait;

use super::streamed::{Cut, RestoredSource, Streamed, StreamedFacts, StreamedRestore, Vault, Wish};
use crate::config::UsageSource;
use crate::manifest::SourceRecord;
use crate::model::Failure;
use crate::plan::Refusal;

/// A source of this kind, ready to be looked at.
pub struct Usage {
    name: String,
    settings: UsageSource,
}

impl Usage {
    pub fn new(name: &str, settings: &UsageSource) -> Self {
        Self { name: name.into(), settings: settings.clone() }
    }
}

#[async_trait]
impl Streamed for Usage {
    async fn inventory(&self) -> Result<StreamedFacts, Failure> {
        todo!("{} {:?}", self.name, self.settings)
    }

    async fn cut(&self) -> Result<Box<dyn Cut>, Failure> {
        todo!()
    }

    async fn look(
        &self,
        _record: &SourceRecord,
        _wish: &Wish,
    ) -> Result<Result<StreamedRestore, Vec<Refusal>>, Failure> {
        todo!()
    }

    async fn restore(
        &self,
        _record: &SourceRecord,
        _vault: &dyn Vault,
        _wish: &Wish,
    ) -> Result<RestoredSource, Failure> {
        todo!()
    }

    async fn take_back(&self, _record: &SourceRecord, _wish: &Wish) -> Result<(), Failure> {
        todo!()
    }
}
