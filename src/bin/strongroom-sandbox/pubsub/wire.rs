//! Protocol buffers of Pub/Sub as JSON and back: what comes by gRPC is served as what comes by REST.
//!
//! The wire format is small and Google's generated code is not, nor does it come with a server: so the few messages are
//! written down here as tables. Unknown fields are skipped, as the format wants it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::core::clock::{parse_rfc3339_us, rfc3339_us};
use crate::core::mask::camel;

/// One field: number, name in JSON, kind.
pub type Field = (u32, &'static str, Kind);

#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Text,
    Texts,
    Bytes,
    Flag,
    Int,
    Ints,
    /// A map from text to text.
    Map,
    Timestamp,
    Duration,
    Mask,
    One(&'static [Field]),
    Many(&'static [Field]),
}

use Kind::{Bytes, Duration, Flag, Int, Ints, Many, Map as TextMap, Mask, One, Text, Texts, Timestamp};

pub const TOPIC: &[Field] = &[
    (1, "name", Text),
    (2, "labels", TextMap),
    (3, "messageStoragePolicy", One(&[(1, "allowedPersistenceRegions", Texts), (2, "enforceInTransit", Flag)])),
    (5, "kmsKeyName", Text),
    (8, "messageRetentionDuration", Duration),
];
pub const MESSAGE: &[Field] = &[
    (1, "data", Bytes),
    (2, "attributes", TextMap),
    (3, "messageId", Text),
    (4, "publishTime", Timestamp),
    (5, "orderingKey", Text),
];
const PUSH: &[Field] = &[
    (1, "pushEndpoint", Text),
    (2, "attributes", TextMap),
    (3, "oidcToken", One(&[(1, "serviceAccountEmail", Text), (2, "audience", Text)])),
    (4, "pubsubWrapper", One(&[])),
    (5, "noWrapper", One(&[(1, "writeMetadata", Flag)])),
];
pub const SUBSCRIPTION: &[Field] = &[
    (1, "name", Text),
    (2, "topic", Text),
    (4, "pushConfig", One(PUSH)),
    (5, "ackDeadlineSeconds", Int),
    (7, "retainAckedMessages", Flag),
    (8, "messageRetentionDuration", Duration),
    (9, "labels", TextMap),
    (10, "enableMessageOrdering", Flag),
    (11, "expirationPolicy", One(&[(1, "ttl", Duration)])),
    (12, "filter", Text),
    (13, "deadLetterPolicy", One(&[(1, "deadLetterTopic", Text), (2, "maxDeliveryAttempts", Int)])),
    (14, "retryPolicy", One(&[(1, "minimumBackoff", Duration), (2, "maximumBackoff", Duration)])),
    (15, "detached", Flag),
    (16, "enableExactlyOnceDelivery", Flag),
    // Their contents are not read: such subscriptions are refused.
    (18, "bigqueryConfig", One(&[])),
    (22, "cloudStorageConfig", One(&[])),
];
const SNAPSHOT: &[Field] =
    &[(1, "name", Text), (2, "topic", Text), (3, "expireTime", Timestamp), (4, "labels", TextMap)];
const RECEIVED: &[Field] = &[(1, "ackId", Text), (2, "message", One(MESSAGE)), (3, "deliveryAttempt", Int)];
const EMPTY: &[Field] = &[];
const OF_TOPIC: &[Field] = &[(1, "topic", Text)];
const OF_SUBSCRIPTION: &[Field] = &[(1, "subscription", Text)];
const OF_PROJECT: &[Field] = &[(1, "project", Text), (2, "pageSize", Int), (3, "pageToken", Text)];
const BELOW_TOPIC: &[Field] = &[(1, "topic", Text), (2, "pageSize", Int), (3, "pageToken", Text)];
pub const STREAMING_PULL: &[Field] = &[
    (1, "subscription", Text),
    (2, "ackIds", Texts),
    (3, "modifyDeadlineSeconds", Ints),
    (4, "modifyDeadlineAckIds", Texts),
    (5, "streamAckDeadlineSeconds", Int),
    (6, "clientId", Text),
    (7, "maxOutstandingMessages", Int),
];
pub const STREAMED: &[Field] = &[
    (1, "receivedMessages", Many(RECEIVED)),
    (4, "subscriptionProperties", One(&[(1, "exactlyOnceDeliveryEnabled", Flag), (2, "messageOrderingEnabled", Flag)])),
];

/// A unary method: the name by which it is served, request, answer.
pub type Rpc = (&'static str, &'static [Field], &'static [Field]);

/// The method behind `Service/Method`.
pub fn rpc(method: &str) -> Option<Rpc> {
    Some(match method {
        "CreateTopic" => ("topics.create", TOPIC, TOPIC),
        "UpdateTopic" => ("topics.patch", &[(1, "topic", One(TOPIC)), (2, "updateMask", Mask)], TOPIC),
        "Publish" => {
            ("topics.publish", &[(1, "topic", Text), (2, "messages", Many(MESSAGE))], &[(1, "messageIds", Texts)])
        }
        "GetTopic" => ("topics.get", OF_TOPIC, TOPIC),
        "ListTopics" => ("topics.list", OF_PROJECT, &[(1, "topics", Many(TOPIC)), (2, "nextPageToken", Text)]),
        "ListTopicSubscriptions" => {
            ("topics.subscriptions.list", BELOW_TOPIC, &[(1, "subscriptions", Texts), (2, "nextPageToken", Text)])
        }
        "ListTopicSnapshots" => {
            ("topics.snapshots.list", BELOW_TOPIC, &[(1, "snapshots", Texts), (2, "nextPageToken", Text)])
        }
        "DeleteTopic" => ("topics.delete", OF_TOPIC, EMPTY),
        "DetachSubscription" => ("subscriptions.detach", OF_SUBSCRIPTION, EMPTY),
        "CreateSubscription" => ("subscriptions.create", SUBSCRIPTION, SUBSCRIPTION),
        "GetSubscription" => ("subscriptions.get", OF_SUBSCRIPTION, SUBSCRIPTION),
        "UpdateSubscription" => {
            ("subscriptions.patch", &[(1, "subscription", One(SUBSCRIPTION)), (2, "updateMask", Mask)], SUBSCRIPTION)
        }
        "ListSubscriptions" => {
            ("subscriptions.list", OF_PROJECT, &[(1, "subscriptions", Many(SUBSCRIPTION)), (2, "nextPageToken", Text)])
        }
        "DeleteSubscription" => ("subscriptions.delete", OF_SUBSCRIPTION, EMPTY),
        "ModifyAckDeadline" => (
            "subscriptions.modifyAckDeadline",
            &[(1, "subscription", Text), (3, "ackDeadlineSeconds", Int), (4, "ackIds", Texts)],
            EMPTY,
        ),
        "Acknowledge" => ("subscriptions.acknowledge", &[(1, "subscription", Text), (2, "ackIds", Texts)], EMPTY),
        "Pull" => (
            "subscriptions.pull",
            &[(1, "subscription", Text), (2, "returnImmediately", Flag), (3, "maxMessages", Int)],
            &[(1, "receivedMessages", Many(RECEIVED))],
        ),
        "ModifyPushConfig" => {
            ("subscriptions.modifyPushConfig", &[(1, "subscription", Text), (2, "pushConfig", One(PUSH))], EMPTY)
        }
        "GetSnapshot" => ("snapshots.get", &[(1, "snapshot", Text)], SNAPSHOT),
        "ListSnapshots" => {
            ("snapshots.list", OF_PROJECT, &[(1, "snapshots", Many(SNAPSHOT)), (2, "nextPageToken", Text)])
        }
        "CreateSnapshot" => {
            ("snapshots.create", &[(1, "name", Text), (2, "subscription", Text), (3, "labels", TextMap)], SNAPSHOT)
        }
        "UpdateSnapshot" => ("snapshots.patch", &[(1, "snapshot", One(SNAPSHOT)), (2, "updateMask", Mask)], SNAPSHOT),
        "DeleteSnapshot" => ("snapshots.delete", &[(1, "snapshot", Text)], EMPTY),
        "Seek" => {
            ("subscriptions.seek", &[(1, "subscription", Text), (2, "time", Timestamp), (3, "snapshot", Text)], EMPTY)
        }
        _ => return None,
    })
}

// ------------------------------------------------------------------------------------------------------- Decoding

/// A message as JSON; None when it is damaged.
pub fn decode(fields: &[Field], mut bytes: &[u8]) -> Option<Value> {
    let mut out = Map::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let number = u32::try_from(tag >> 3).ok()?;
        let raw = match tag & 7 {
            0 => Raw::Number(varint(&mut bytes)?),
            1 => Raw::Skipped(take(&mut bytes, 8)?.len()),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                Raw::Bytes(take(&mut bytes, length)?)
            }
            5 => Raw::Skipped(take(&mut bytes, 4)?.len()),
            _ => return None,
        };
        if let Some((_, name, kind)) = fields.iter().find(|f| f.0 == number) {
            read(&mut out, name, *kind, &raw)?;
        }
    }
    Some(Value::Object(out))
}

enum Raw<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Skipped(#[allow(dead_code, reason = "fixed-width fields are not used by Pub/Sub")] usize),
}

fn read(out: &mut Map<String, Value>, name: &str, kind: Kind, raw: &Raw<'_>) -> Option<()> {
    let mut push = |value: Value| {
        match out.entry(name).or_insert_with(|| json!([])) {
            Value::Array(items) => items.push(value),
            other => *other = json!([value]),
        }
        Some(())
    };
    let value = match (kind, raw) {
        (Text, Raw::Bytes(b)) => json!(std::str::from_utf8(b).ok()?),
        (Bytes, Raw::Bytes(b)) => json!(STANDARD.encode(b)),
        (Flag, Raw::Number(n)) => json!(*n != 0),
        (Int, Raw::Number(n)) => json!(n.cast_signed()),
        (Duration, Raw::Bytes(b)) => json!(duration(two_numbers(b)?)),
        (Timestamp, Raw::Bytes(b)) => {
            let (seconds, nanos) = two_numbers(b)?;
            json!(rfc3339_us(seconds.checked_mul(1_000_000)?.checked_add(nanos / 1000)?))
        }
        (Mask, Raw::Bytes(b)) => {
            let paths = decode(&[(1, "paths", Texts)], b)?;
            let paths = paths["paths"].as_array().cloned().unwrap_or_default();
            json!(paths.iter().filter_map(Value::as_str).map(camel).collect::<Vec<_>>().join(","))
        }
        (One(fields), Raw::Bytes(b)) => decode(fields, b)?,
        (Texts, Raw::Bytes(b)) => return push(json!(std::str::from_utf8(b).ok()?)),
        (Many(fields), Raw::Bytes(b)) => return push(decode(fields, b)?),
        (Ints, Raw::Number(n)) => return push(json!(n.cast_signed())),
        (Ints, Raw::Bytes(packed)) => {
            let mut packed = *packed;
            while !packed.is_empty() {
                push(json!(varint(&mut packed)?.cast_signed()))?;
            }
            return Some(());
        }
        (TextMap, Raw::Bytes(b)) => {
            let entry = decode(&[(1, "key", Text), (2, "value", Text)], b)?;
            let map = out.entry(name).or_insert_with(|| json!({}));
            map[entry["key"].as_str().unwrap_or_default()] = json!(entry["value"].as_str().unwrap_or_default());
            return Some(());
        }
        _ => return None,
    };
    out.insert(name.into(), value);
    Some(())
}

fn two_numbers(bytes: &[u8]) -> Option<(i64, i64)> {
    let both = decode(&[(1, "a", Int), (2, "b", Int)], bytes)?;
    Some((both["a"].as_i64().unwrap_or(0), both["b"].as_i64().unwrap_or(0)))
}

fn duration((seconds, nanos): (i64, i64)) -> String {
    if nanos == 0 { format!("{seconds}s") } else { format!("{seconds}.{nanos:09}s") }
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(head)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

// ------------------------------------------------------------------------------------------------------- Encoding

/// A message of JSON; what its table does not know stays behind.
pub fn encode(fields: &[Field], value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, name, kind) in fields {
        if let Some(value) = value.get(name).filter(|v| !v.is_null()) {
            write(&mut out, *number, *kind, value);
        }
    }
    out
}

fn write(out: &mut Vec<u8>, number: u32, kind: Kind, value: &Value) {
    let items = || value.as_array().into_iter().flatten();
    match kind {
        Text => match value.as_str() {
            Some(text) if !text.is_empty() => block(out, number, text.as_bytes()),
            _ => {}
        },
        Bytes => block(out, number, &STANDARD.decode(value.as_str().unwrap_or_default()).unwrap_or_default()),
        Flag => integer(out, number, i64::from(value.as_bool().unwrap_or(false))),
        Int => integer(out, number, value.as_i64().unwrap_or(0)),
        Ints => items().for_each(|v| integer(out, number, v.as_i64().unwrap_or(0))),
        Texts => items().for_each(|v| block(out, number, v.as_str().unwrap_or_default().as_bytes())),
        One(fields) => block(out, number, &encode(fields, value)),
        Many(fields) => items().for_each(|v| block(out, number, &encode(fields, v))),
        Mask => {}
        TextMap => {
            for (key, value) in value.as_object().into_iter().flatten() {
                let entry = json!({ "key": key, "value": value });
                block(out, number, &encode(&[(1, "key", Text), (2, "value", Text)], &entry));
            }
        }
        Timestamp => {
            let us = value.as_str().and_then(parse_rfc3339_us).unwrap_or(0);
            pair(out, number, us.div_euclid(1_000_000), us.rem_euclid(1_000_000) * 1000);
        }
        Duration => {
            let us = seconds_us(value).unwrap_or(0);
            pair(out, number, us.div_euclid(1_000_000), us.rem_euclid(1_000_000) * 1000);
        }
    }
}

/// `3.5s` in microseconds.
pub fn seconds_us(value: &Value) -> Option<i64> {
    let seconds: f64 = value.as_str()?.strip_suffix('s')?.parse().ok()?;
    (0.0..1e12).contains(&seconds).then(|| (seconds * 1e6).round() as i64)
}

fn pair(out: &mut Vec<u8>, number: u32, a: i64, b: i64) {
    let mut inner = Vec::new();
    integer(&mut inner, 1, a);
    integer(&mut inner, 2, b);
    block(out, number, &inner);
}

fn integer(out: &mut Vec<u8>, number: u32, value: i64) {
    if value != 0 {
        put_varint(out, u64::from(number) << 3);
        put_varint(out, value.cast_unsigned());
    }
}

fn block(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or(0));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_there_and_back() {
        let subscription = json!({
            "name": "projects/p/subscriptions/s",
            "topic": "projects/p/topics/t",
            "pushConfig": { "pushEndpoint": "http://127.0.0.1/x", "attributes": { "a": "b" } },
            "ackDeadlineSeconds": 600,
            "messageRetentionDuration": "604800s",
            "labels": { "k": "v", "é": "" },
            "enableMessageOrdering": true,
            "retryPolicy": { "minimumBackoff": "1.500000000s" },
        });
        assert_eq!(decode(SUBSCRIPTION, &encode(SUBSCRIPTION, &subscription)).unwrap(), subscription);
        let message = json!({ "data": "AAH/", "messageId": "7", "publishTime": "2026-11-21T08:57:31.123456Z" });
        assert_eq!(decode(MESSAGE, &encode(MESSAGE, &message)).unwrap(), message);
    }

    #[test]
    fn what_protoc_writes_is_read() {
        // python: StreamingPullRequest(subscription="s", modify_deadline_seconds=[10, 300],
        // modify_deadline_ack_ids=["a", "b"]).SerializeToString()
        let bytes = [10, 1, b's', 26, 3, 10, 172, 2, 34, 1, b'a', 34, 1, b'b'];
        let request = decode(STREAMING_PULL, &bytes).unwrap();
        assert_eq!(request["modifyDeadlineSeconds"], json!([10, 300]));
        assert_eq!(request["modifyDeadlineAckIds"], json!(["a", "b"]));
        for damaged in [&bytes[..5], &[10, 200], &[15]] {
            assert!(decode(STREAMING_PULL, damaged).is_none(), "{damaged:?}");
        }
        let negative = decode(&[(3, "n", Int)], &[24, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]).unwrap();
        assert_eq!(negative["n"], -1);
    }
}
