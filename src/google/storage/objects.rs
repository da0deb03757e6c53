//! Objects without their bytes: lists, metadata, deletions, rewrites; by REST (see the module's head).

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Storage, object_name};
use crate::google::error::Fault;
use crate::google::rest::{self, Call};
use crate::google::retry::Effect;
use crate::model::Failure;

/// An object's metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    pub bucket: String,
    pub name: String,
    pub generation: i64,
    pub metageneration: i64,
    pub size_bytes: u64,
    /// CRC32C (Castagnoli) of the bytes.
    pub crc32c: Option<u32>,
    pub updated: jiff::Timestamp,
    pub storage_class: String,
    pub content_type: String,
    /// The user's own metadata.
    pub metadata: BTreeMap<String, String>,
    pub temporary_hold: bool,
    pub event_based_hold: bool,
    /// Until when the bucket's policy or the object's own retention keeps it.
    pub retained_until: Option<jiff::Timestamp>,
    /// What lifecycle rules may count from.
    pub custom_time: Option<jiff::Timestamp>,
}

/// Which objects to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListOptions {
    pub prefix: String,
    /// Usually `/`: what follows the next one is folded into a prefix.
    pub delimiter: Option<String>,
    /// Names at or after this one.
    pub start_offset: Option<String>,
    /// Names before this one.
    pub end_offset: Option<String>,
    /// Noncurrent generations too.
    pub versions: bool,
}

/// A part of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    pub objects: Vec<Object>,
    pub prefixes: Vec<String>,
    pub next: Option<String>,
}

/// The service's own limit.
const PAGE_SIZE: u32 = 1_000;
/// No list is followed beyond this many entries: the sum of the pages is held in memory.
const MAX_LISTED: usize = 2_000_000;

impl Storage {
    /// All objects (and with a delimiter all prefixes) that match; for long lists take `list_page`.
    ///
    /// # Errors
    /// `Invalid` beyond two million entries, and as mapped by `error.rs`.
    pub async fn list_objects(&self, bucket: &str, options: &ListOptions) -> Result<Page, Failure> {
        let mut all = Page::default();
        loop {
            let page = self.list_page(bucket, options, all.next.as_deref()).await?;
            all.objects.extend(page.objects);
            all.prefixes.extend(page.prefixes);
            if page.next.is_none() {
                all.next = None;
                return Ok(all);
            }
            rest::check_advances(&object_name(bucket, &options.prefix), all.next.as_deref(), page.next.as_deref())?;
            all.next = page.next;
            if all.objects.len() + all.prefixes.len() > MAX_LISTED {
                let message = format!("lists more than {MAX_LISTED} entries; hint: list a longer prefix");
                return Err(Failure::Invalid { object: object_name(bucket, &options.prefix), message });
            }
        }
    }

    /// One page; `token` is the former page's `next`.
    ///
    /// # Errors
    /// As mapped by `error.rs`.
    pub async fn list_page(&self, bucket: &str, options: &ListOptions, token: Option<&str>) -> Result<Page, Failure> {
        let about = object_name(bucket, &options.prefix);
        let call = Call::get(&about, &["storage", "v1", "b", bucket, "o"])
            .query("maxResults", PAGE_SIZE)
            .query_if("prefix", Some(&options.prefix).filter(|prefix| !prefix.is_empty()))
            .query_if("delimiter", options.delimiter.as_ref())
            .query_if("startOffset", options.start_offset.as_ref())
            .query_if("endOffset", options.end_offset.as_ref())
            .query_if("versions", options.versions.then_some("true"))
            .query_if("pageToken", token);
        let mut page = self.rest.call(&call).await?;
        let mut take = |key: &str| match page.get_mut(key).map(Value::take) {
            Some(Value::Array(items)) => items,
            _ => Vec::new(),
        };
        let objects = take("items").iter().map(|item| Object::from_resource(&about, item)).collect::<Result<_, _>>()?;
        let prefixes = take("prefixes").iter().filter_map(|prefix| prefix.as_str().map(str::to_string)).collect();
        let next = page.get("nextPageToken").and_then(Value::as_str).filter(|token| !token.is_empty());
        Ok(Page { objects, prefixes, next: next.map(str::to_string) })
    }

    /// The metadata of the live object, or of one generation.
    ///
    /// # Errors
    /// `NotFound`, and as mapped by `error.rs`.
    pub async fn get_object(&self, bucket: &str, name: &str, generation: Option<i64>) -> Result<Object, Failure> {
        let about = object_name(bucket, name);
        let call = Call::get(&about, &path(bucket, name)).query_if("generation", generation);
        Object::from_resource(&about, &self.rest.call(&call).await?)
    }

    /// Deletes the live object, if it is of this generation.
    ///
    /// # Errors
    /// `NotFound`, `Precondition` (another generation, or a hold), `Denied` (retention), and as mapped by `error.rs`.
    pub async fn delete_object(
        &self,
        bucket: &str,
        name: &str,
        if_generation_match: Option<i64>,
    ) -> Result<(), Failure> {
        let call = Call::delete(object_name(bucket, name), &path(bucket, name))
            .query_if("ifGenerationMatch", if_generation_match);
        self.rest.remove(&call).await
    }

    /// Merges `changes` into the metadata (`temporaryHold`, `metadata`, `retention`, ...); `null` clears a field.
    ///
    /// # Errors
    /// `Precondition` when the metageneration does not match, and as mapped by `error.rs`.
    pub async fn patch_object(
        &self,
        bucket: &str,
        name: &str,
        changes: Value,
        if_metageneration_match: Option<i64>,
    ) -> Result<Object, Failure> {
        let about = object_name(bucket, name);
        let mut call = Call::patch(&about, &path(bucket, name), changes)
            .query_if("ifMetagenerationMatch", if_metageneration_match);
        if if_metageneration_match.is_some() {
            call.effect = Effect::Once;
        }
        Object::from_resource(&about, &self.rest.call(&call).await?)
    }

    /// Copies an object inside Google, however large, without its bytes passing through here. With
    /// `if_generation_match: Some(0)` only where nothing is.
    ///
    /// # Errors
    /// `NotFound` for the source, `Precondition` for the destination, and as mapped by `error.rs`.
    pub async fn rewrite_object(
        &self,
        from: (&str, &str),
        to: (&str, &str),
        if_generation_match: Option<i64>,
    ) -> Result<Object, Failure> {
        let source = self.get_object(from.0, from.1, None).await?;
        let about = object_name(to.0, to.1);
        let path = ["storage", "v1", "b", from.0, "o", from.1, "rewriteTo", "b", to.0, "o", to.1];
        let mut token: Option<String> = None;
        loop {
            let call = Call::post(&about, &path, Effect::Idempotent, json!({}))
                .query("sourceGeneration", source.generation)
                .query_if("ifGenerationMatch", if_generation_match)
                .query_if("rewriteToken", token.as_deref());
            let Some(answer) = self.rest.create_where(&call, is_own_perhaps).await? else {
                // After a lost reply: our copy has the same bytes as the source.
                let found = self.get_object(to.0, to.1, None).await?;
                if found.crc32c == source.crc32c && found.size_bytes == source.size_bytes {
                    return Ok(found);
                }
                let message = "there is another object".to_string();
                return Err(Failure::Precondition { object: about, message });
            };
            if answer.get("done").and_then(Value::as_bool) == Some(true) {
                let copy = Object::from_resource(&about, &answer["resource"])?;
                if copy.crc32c != source.crc32c || copy.size_bytes != source.size_bytes {
                    let message = format!("the copy differs from {}", object_name(from.0, from.1));
                    return Err(Failure::Corrupt { object: about, message });
                }
                return Ok(copy);
            }
            token = answer.get("rewriteToken").and_then(Value::as_str).map(str::to_string);
            if token.is_none() {
                let message = "unreadable answer: a rewrite neither done nor with a token".to_string();
                return Err(Failure::Corrupt { object: about, message });
            }
        }
    }
}

impl Object {
    pub(super) fn from_resource(about: &str, resource: &Value) -> Result<Self, Failure> {
        let corrupt =
            |what: &str| Failure::Corrupt { object: about.into(), message: format!("unreadable answer: {what}") };
        let text = |key: &str| resource.get(key).and_then(Value::as_str).unwrap_or_default().to_string();
        let number = |key: &str| resource.get(key).and_then(integer);
        let time = |key: &str| resource.get(key).and_then(Value::as_str).and_then(|text| text.parse().ok());
        let flag = |key: &str| resource.get(key).and_then(Value::as_bool).unwrap_or_default();
        let own = resource.get("metadata").and_then(Value::as_object);
        let retained: [Option<jiff::Timestamp>; 2] = [
            time("retentionExpirationTime"),
            resource.pointer("/retention/retainUntilTime").and_then(Value::as_str).and_then(|text| text.parse().ok()),
        ];
        Ok(Self {
            bucket: text("bucket"),
            name: Some(text("name")).filter(|name| !name.is_empty()).ok_or_else(|| corrupt("no name"))?,
            generation: number("generation").ok_or_else(|| corrupt("no generation"))?,
            metageneration: number("metageneration").unwrap_or_default(),
            size_bytes: number("size").and_then(|size| u64::try_from(size).ok()).ok_or_else(|| corrupt("no size"))?,
            crc32c: match resource.get("crc32c").and_then(Value::as_str) {
                Some(text) => Some(decode_crc(text).ok_or_else(|| corrupt("crc32c"))?),
                None => None,
            },
            updated: time("updated").ok_or_else(|| corrupt("no time of update"))?,
            storage_class: text("storageClass"),
            content_type: text("contentType"),
            metadata: own
                .into_iter()
                .flatten()
                .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_string()))
                .collect(),
            temporary_hold: flag("temporaryHold"),
            event_based_hold: flag("eventBasedHold"),
            retained_until: retained.into_iter().flatten().max(),
            custom_time: time("customTime"),
        })
    }
}

/// After an attempt that may have worked, these may be the traces of our own work.
pub(super) fn is_own_perhaps(fault: &Fault) -> bool {
    matches!(fault.failure, Failure::Precondition { .. } | Failure::Exists { .. })
}

/// A 64-bit integer, which Google's JSON carries as a string.
pub(super) fn integer(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

/// Base64 of the big-endian bytes. <https://cloud.google.com/storage/docs/json_api/v1/objects#resource>
fn decode_crc(text: &str) -> Option<u32> {
    let bytes: [u8; 4] = STANDARD.decode(text).ok()?.try_into().ok()?;
    Some(u32::from_be_bytes(bytes))
}

pub(super) fn path<'a>(bucket: &'a str, name: &'a str) -> [&'a str; 6] {
    ["storage", "v1", "b", bucket, "o", name]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_read_and_a_broken_one_refused() {
        let good = json!({"bucket": "b", "name": "a/b", "generation": "1700000000000001", "metageneration": "2", "size": "9",
            // CRC32C of "123456789" is 0xe3069283.
            "crc32c": "4waSgw==", "updated": "2026-01-02T03:04:05.678Z", "storageClass": "STANDARD",
            "metadata": {"k": "v"}, "temporaryHold": true, "retention": {"mode": "Locked", "retainUntilTime": "2027-01-01T00:00:00Z"}});
        let object = Object::from_resource("x", &good).unwrap();
        assert_eq!(object.crc32c, Some(crc32c::crc32c(b"123456789")));
        assert_eq!((object.generation, object.size_bytes, object.temporary_hold), (1_700_000_000_000_001, 9, true));
        assert_eq!(object.retained_until, Some("2027-01-01T00:00:00Z".parse().unwrap()));
        for (key, value) in
            [("size", json!("-1")), ("generation", json!(null)), ("crc32c", json!("!")), ("name", json!(""))]
        {
            let mut bad = good.clone();
            bad[key] = value;
            assert!(Object::from_resource("x", &bad).is_err(), "{key}");
        }
    }
}
