//! A store seen with the keys of what is sealed in it: a backup's objects are read as what was backed up.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::OnceCell;

use super::sealed::{Form, pump, unseal};
use super::{Blocking, ByteStream, MAX_GET_BYTES, ObjectInfo, Site, Store, Version, collect};
use crate::google::storage::WHOLE_READS;
use crate::manifest::Manifest;
use crate::model::{Failure, Identity};

/// Opened objects that are kept on this machine's disk, in files without a name, for reads of their ranges.
const KEPT: usize = 8;

/// Reads of sealed objects give their content; everything else, lists and sizes too, is the store's own.
pub struct UnsealedStore {
    inner: Arc<dyn Store>,
    forms: BTreeMap<String, Form>,
    identities: Arc<[Identity]>,
    opened: Mutex<VecDeque<(String, Arc<OnceCell<File>>)>>,
}

impl UnsealedStore {
    /// The place of a backup. Without identities what is sealed cannot be read, and what says so is a clear error.
    pub fn new(inner: Arc<dyn Store>, manifest: &Manifest, identities: Vec<Identity>) -> Self {
        let forms = manifest.objects().filter_map(|object| {
            let stored = object.stored.as_ref()?;
            let form = Form { content: object.digests, stored: stored.digests, encodings: stored.encodings.clone() };
            Some((object.key.clone(), form))
        });
        Self { inner, forms: forms.collect(), identities: identities.into(), opened: Mutex::default() }
    }

    fn name(&self, key: &str) -> String {
        format!("{}/{key}", self.inner.describe())
    }

    /// The whole content on this machine's disk, checked before anything of it is used.
    async fn spooled(&self, key: &str, form: &Form) -> Result<File, Failure> {
        let cell = {
            let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
            match opened.iter().find(|(known, _)| known == key) {
                Some((_, cell)) => cell.clone(),
                None => {
                    let cell = Arc::new(OnceCell::new());
                    opened.push_back((key.into(), cell.clone()));
                    if opened.len() > KEPT {
                        opened.pop_front(); // who reads it still has it
                    }
                    cell
                }
            }
        };
        let file = cell.get_or_try_init(|| self.spool(key, form)).await?;
        file.try_clone().map_err(local)
    }

    async fn spool(&self, key: &str, form: &Form) -> Result<File, Failure> {
        let mut left = WHOLE_READS;
        loop {
            left -= 1;
            match self.spool_once(key, form).await {
                // What was changed on its way is whole the next time, what is stored so is not.
                Err(Failure::Corrupt { .. }) if left > 0 => {}
                outcome => return outcome,
            }
        }
    }

    async fn spool_once(&self, key: &str, form: &Form) -> Result<File, Failure> {
        let input = Blocking::new(self.inner.read(key).await?);
        let (object, form, identities) = (self.name(key), form.clone(), self.identities.clone());
        let work = move || {
            let mut file = tempfile::tempfile().map_err(local)?;
            let mut written = Ok(());
            pump(&object, input, &identities, &form, |bytes| {
                written = file.write_all(&bytes);
                written.is_ok()
            })?;
            written.map_err(local)?;
            Ok(file)
        };
        let gave_up = |error: tokio::task::JoinError| local(std::io::Error::other(error));
        tokio::task::spawn_blocking(work).await.map_err(gave_up)?
    }
}

fn local(error: std::io::Error) -> Failure {
    Failure::Transient { object: "local file".into(), message: error.to_string() }
}

#[async_trait]
impl Store for UnsealedStore {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    async fn site(&self) -> Result<Option<Site>, Failure> {
        self.inner.site().await
    }

    async fn get(&self, key: &str) -> Result<(Bytes, Version), Failure> {
        if !self.forms.contains_key(key) {
            return self.inner.get(key).await;
        }
        let missing = || Failure::NotFound { object: self.name(key), message: "no such object".into() };
        let version = self.inner.head(key).await?.ok_or_else(missing)?.version;
        Ok((collect(&self.name(key), self.read(key).await?, MAX_GET_BYTES).await?, version))
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, Failure> {
        let Some(form) = self.forms.get(key) else { return self.inner.get_range(key, range).await };
        let end = range.end.min(form.content.size_bytes);
        let length = end.saturating_sub(range.start);
        if length > MAX_GET_BYTES {
            let message = format!("{length} bytes are asked for at once, {MAX_GET_BYTES} at most are given");
            return Err(Failure::Invalid { object: self.name(key), message });
        }
        let file = self.spooled(key, form).await?;
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        file.read_exact_at(&mut bytes, range.start).map_err(local)?;
        Ok(bytes.into())
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, Failure> {
        self.inner.head(key).await
    }

    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Version, Failure> {
        self.inner.put_if_absent(key, bytes).await
    }

    async fn put_if_match(&self, key: &str, bytes: Bytes, version: &Version) -> Result<Version, Failure> {
        self.inner.put_if_match(key, bytes, version).await
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<Version, Failure> {
        self.inner.put(key, bytes).await
    }

    async fn read(&self, key: &str) -> Result<ByteStream, Failure> {
        let stream = self.inner.read(key).await?;
        Ok(match self.forms.get(key) {
            Some(form) => unseal(&self.name(key), stream, self.identities.clone(), form.clone()),
            None => stream,
        })
    }

    async fn open_file(&self, key: &str) -> Result<Option<File>, Failure> {
        match self.forms.get(key) {
            Some(form) => self.spooled(key, form).await.map(Some),
            None => self.inner.open_file(key).await,
        }
    }

    async fn write_stream(&self, key: &str, stream: ByteStream) -> Result<ObjectInfo, Failure> {
        self.inner.write_stream(key, stream).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, Failure> {
        self.inner.list(prefix).await
    }

    async fn list_prefixes(&self, prefix: &str) -> Result<Vec<String>, Failure> {
        self.inner.list_prefixes(prefix).await
    }

    async fn delete_if_match(&self, key: &str, version: &Version) -> Result<(), Failure> {
        self.inner.delete_if_match(key, version).await
    }

    async fn unneeded_since(&self, key: &str, at: jiff::Timestamp) -> Result<(), Failure> {
        self.inner.unneeded_since(key, at).await
    }

    async fn hold(&self, key: &str, held: bool) -> Result<bool, Failure> {
        self.inner.hold(key, held).await
    }

    async fn delete(&self, key: &str) -> Result<(), Failure> {
        self.inner.delete(key).await
    }
}
