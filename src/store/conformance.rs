//! What every store does, as one suite that each implementation runs. It panics with the broken promise: it is for
//! tests. Works under a prefix of its own in the store and leaves nothing behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::StreamExt;

use super::{ByteStream, Store, Version, collect, stream_of};
use crate::model::Failure;

/// Runs the whole suite.
///
/// # Panics
/// With the promise that is broken.
pub async fn run(store: &dyn Store) {
    let base = format!("conformance/{:016x}", rand::random::<u64>());
    create_once(store, &format!("{base}/create")).await;
    compare_and_swap(store, &format!("{base}/swap")).await;
    overwrite(store, &format!("{base}/overwrite")).await;
    ranges(store, &format!("{base}/range")).await;
    streams(store, &format!("{base}/stream")).await;
    broken_streams(store, &format!("{base}/broken")).await;
    lists(store, &format!("{base}/list")).await;
    deletions(store, &format!("{base}/delete")).await;
    racing_creations(store, &format!("{base}/race")).await;
    racing_swaps(store, &format!("{base}/swaps")).await;
    racing_streams(store, &format!("{base}/streams")).await;
    parts(store, &format!("{base}/parts")).await;
    pages(store, &format!("{base}/pages")).await;
    odd_names(store, &base).await;
    keys(store).await;
    assert_eq!(keys_of(store, &base).await, Vec::<String>::new(), "the suite leaves nothing behind");
}

async fn create_once(store: &dyn Store, base: &str) {
    let key = format!("{base}/object");
    assert!(matches!(store.get(&key).await, Err(Failure::NotFound { .. })), "get of no object is NotFound");
    assert!(matches!(store.read(&key).await.map(drop), Err(Failure::NotFound { .. })), "read of no object is NotFound");
    assert!(
        matches!(store.get_range(&key, 0..1).await, Err(Failure::NotFound { .. })),
        "range of no object is NotFound"
    );
    assert_eq!(store.head(&key).await, Ok(None), "head of no object is None");

    let body = Bytes::from_static(b"first \x00\xff bytes");
    let version = store.put_if_absent(&key, body.clone()).await.expect("create");
    assert_eq!(store.get(&key).await, Ok((body.clone(), version.clone())), "what was put is got, at its version");
    let info = store.head(&key).await.expect("head").expect("the object is there");
    assert_eq!((info.key.as_str(), info.size_bytes, &info.version), (key.as_str(), body.len() as u64, &version));
    assert!(info.crc32c.is_none_or(|crc| crc == crc32c::crc32c(&body)), "the checksum is of the bytes");

    let again = store.put_if_absent(&key, Bytes::from_static(b"second")).await;
    assert!(matches!(again, Err(Failure::Exists { .. })), "a second creation is Exists: {again:?}");
    let again = store.write_stream(&key, stream_of(Bytes::from_static(b"third"))).await;
    assert!(matches!(again, Err(Failure::Exists { .. })), "a second creation by stream is Exists: {again:?}");
    assert_eq!(store.get(&key).await, Ok((body, version)), "and changes nothing");
    store.delete(&key).await.expect("delete");

    let empty = store.put_if_absent(&key, Bytes::new()).await.expect("an empty object, after a deletion");
    assert_eq!(store.get(&key).await, Ok((Bytes::new(), empty)));
    store.delete(&key).await.expect("delete");
}

async fn compare_and_swap(store: &dyn Store, base: &str) {
    let key = format!("{base}/object");
    let never = Version("1".into());
    let swap = |body: &'static str, version: Version| {
        let key = key.clone();
        async move { store.put_if_match(&key, Bytes::from_static(body.as_bytes()), &version).await }
    };
    assert!(matches!(swap("x", never).await, Err(Failure::Precondition { .. })), "a swap of nothing fails");
    assert_eq!(store.head(&key).await, Ok(None), "and creates nothing");

    let first = store.put_if_absent(&key, Bytes::from_static(b"one")).await.expect("create");
    let second = swap("two", first.clone()).await.expect("swap at the right version");
    assert_ne!(first, second, "every write has a version of its own");
    assert!(matches!(swap("three", first.clone()).await, Err(Failure::Precondition { .. })), "a stale swap fails");
    assert_eq!(store.get(&key).await.expect("get").0, "two", "and changes nothing");

    store.delete(&key).await.expect("delete");
    let third = store.put_if_absent(&key, Bytes::from_static(b"two")).await.expect("create again");
    assert_ne!(third, second, "the same bytes again are another version");
    assert!(matches!(swap("four", second).await, Err(Failure::Precondition { .. })), "a swap across a deletion fails");
    store.delete(&key).await.expect("delete");
}

async fn overwrite(store: &dyn Store, base: &str) {
    let key = format!("{base}/object");
    let first = store.put(&key, Bytes::from_static(b"one")).await.expect("put creates");
    let second = store.put(&key, Bytes::from_static(b"two")).await.expect("put replaces");
    assert_ne!(first, second);
    assert_eq!(store.get(&key).await, Ok((Bytes::from_static(b"two"), second)));
    store.delete(&key).await.expect("delete");
}

async fn ranges(store: &dyn Store, base: &str) {
    let key = format!("{base}/object");
    let body = pattern(70_000);
    store.put(&key, body.clone()).await.expect("put");
    for (from, to) in [(0, 1), (0, 70_000), (10, 20), (69_999, 70_000), (65_530, 65_540), (69_000, 80_000), (5, 5)] {
        let got = store.get_range(&key, from..to).await.expect("range");
        let want = body.slice(from as usize..(to as usize).min(body.len()));
        assert!(got == want, "range {from}..{to}: {} bytes, expected {}", got.len(), want.len());
    }
    assert_eq!(store.get_range(&key, 70_000..70_001).await, Ok(Bytes::new()), "a range beyond the end is empty");
    store.delete(&key).await.expect("delete");
}

async fn streams(store: &dyn Store, base: &str) {
    // Below, at and above the sizes at which stores begin to send in parts.
    for size in [0, 1, 256 << 10, (256 << 10) + 1, 9 << 20] {
        let key = format!("{base}/{size}");
        let body = pattern(size);
        let info = store.write_stream(&key, uneven(body.clone())).await.expect("write_stream");
        assert_eq!((info.key.as_str(), info.size_bytes), (key.as_str(), size as u64));
        assert!(info.crc32c.is_none_or(|crc| crc == crc32c::crc32c(&body)), "the checksum is of the bytes");
        let read = store.read(&key).await.expect("read");
        assert!(collect(&key, read, u64::MAX).await.expect("bytes") == body, "{size} bytes come back as they went");
        let head = store.head(&key).await.expect("head").expect("the object is there");
        assert_eq!(head.version, info.version);
        store.delete(&key).await.expect("delete");
    }
}

async fn broken_streams(store: &dyn Store, base: &str) {
    let key = format!("{base}/object");
    let broken = Failure::Corrupt { object: "source".into(), message: "broke off".into() };
    for good in [0, 1 << 20, 9 << 20] {
        let end = futures::stream::iter([Err(broken.clone())]);
        let stream = uneven(pattern(good)).chain(end).boxed();
        let result = store.write_stream(&key, stream).await;
        assert_eq!(result, Err(broken.clone()), "the stream's own failure comes out");
        assert_eq!(store.head(&key).await, Ok(None), "and no part of the object is there");
    }
}

async fn lists(store: &dyn Store, base: &str) {
    let keys = ["a/1", "a/2/x", "a/2/y", "ab", "b/c/d/e", "b/ä ö"].map(|tail| format!("{base}/{tail}"));
    for key in &keys {
        store.put(key, Bytes::from(key.clone())).await.expect("put");
    }
    let of = |tail: &str| format!("{base}/{tail}");
    assert_eq!(keys_of(store, &of("")).await, keys, "all, sorted");
    assert_eq!(keys_of(store, &of("a")).await, keys[..4], "a prefix is a text, not a directory");
    assert_eq!(keys_of(store, &of("a/")).await, keys[..3]);
    assert_eq!(keys_of(store, &of("a/2/x")).await, [of("a/2/x")]);
    assert_eq!(keys_of(store, &of("none/")).await, Vec::<String>::new());
    let sizes: Vec<_> = store.list(&of("ab")).await.expect("list").iter().map(|info| info.size_bytes).collect();
    assert_eq!(sizes, [keys[3].len() as u64]);

    let prefixes = async |tail: &str| store.list_prefixes(&of(tail)).await.expect("list_prefixes");
    assert_eq!(prefixes("").await, [of("a/"), of("b/")]);
    assert_eq!(prefixes("a/").await, [of("a/2/")]);
    assert_eq!(prefixes("b/c/").await, [of("b/c/d/")]);
    assert_eq!(prefixes("none/").await, Vec::<String>::new());
    for key in &keys {
        store.delete(key).await.expect("delete");
    }
    assert_eq!(prefixes("").await, Vec::<String>::new(), "no empty directories are left");
}

async fn deletions(store: &dyn Store, base: &str) {
    let key = format!("{base}/object");
    assert_eq!(store.delete(&key).await, Ok(()), "to delete nothing is no failure");
    let version = store.put(&key, Bytes::from_static(b"one")).await.expect("put");
    let stale = version.clone();
    let version = store.put_if_match(&key, Bytes::from_static(b"two"), &version).await.expect("swap");
    let refused = store.delete_if_match(&key, &stale).await;
    assert!(matches!(refused, Err(Failure::Precondition { .. })), "a stale deletion fails: {refused:?}");
    assert_eq!(store.get(&key).await.expect("get").0, "two", "and deletes nothing");
    assert_eq!(store.delete_if_match(&key, &version).await, Ok(()));
    let refused = store.delete_if_match(&key, &version).await;
    assert!(matches!(refused, Err(Failure::NotFound { .. })), "a second deletion is NotFound: {refused:?}");
}

async fn racing_creations(store: &dyn Store, base: &str) {
    let key = format!("{base}/object");
    let won = AtomicUsize::new(0);
    let tries = (0..8u8).map(|n| {
        let (key, won) = (&key, &won);
        async move {
            match store.put_if_absent(key, Bytes::from(vec![n; 1000])).await {
                Ok(_) => won.fetch_add(1, Ordering::SeqCst),
                Err(Failure::Exists { .. }) => 0,
                Err(other) => panic!("a lost race is Exists: {other:?}"),
            }
        }
    });
    futures::future::join_all(tries).await;
    assert_eq!(won.into_inner(), 1, "one creation wins");
    let (bytes, _) = store.get(&key).await.expect("get");
    assert!(bytes.len() == 1000 && bytes.iter().all(|byte| *byte == bytes[0]), "the object is one writer's");
    store.delete(&key).await.expect("delete");
}

async fn racing_swaps(store: &dyn Store, base: &str) {
    let key = format!("{base}/object");
    let mut version = store.put_if_absent(&key, Bytes::from_static(b"0")).await.expect("create");
    for round in 0..5u8 {
        let tries = (0..6u8).map(|n| store.put_if_match(&key, Bytes::from(vec![round, n]), &version));
        let tries = futures::future::join_all(tries).await;
        let won: Vec<_> = tries.iter().enumerate().filter_map(|(n, result)| Some((n, result.as_ref().ok()?))).collect();
        assert_eq!(won.len(), 1, "one swap wins: {tries:?}");
        let lost = tries.iter().filter(|result| matches!(result, Err(Failure::Precondition { .. }))).count();
        assert_eq!(lost, 5, "the others fail by their condition: {tries:?}");
        let (n, next) = (won[0].0 as u8, won[0].1.clone());
        assert_eq!(
            store.get(&key).await,
            Ok((Bytes::from(vec![round, n]), next.clone())),
            "the winner's bytes are there"
        );
        version = next;
    }
    store.delete(&key).await.expect("delete");
}

/// Long streams are sent in parts: also then one creation wins.
async fn racing_streams(store: &dyn Store, base: &str) {
    let key = format!("{base}/object");
    let bodies: Vec<Bytes> = (0..3).map(|n| pattern((9 << 20) + n)).collect();
    let tries = bodies.iter().map(|body| store.write_stream(&key, uneven(body.clone())));
    let tries = futures::future::join_all(tries).await;
    let won: Vec<usize> = (0..3).filter(|n| tries[*n].is_ok()).collect();
    assert_eq!(won.len(), 1, "one creation by stream wins: {tries:?}");
    let lost = tries.iter().filter(|result| matches!(result, Err(Failure::Exists { .. }))).count();
    assert_eq!(lost, 2, "the others are Exists: {tries:?}");
    let read = store.read(&key).await.expect("read");
    let found = collect(&key, read, u64::MAX).await.expect("bytes");
    assert!(found == bodies[won[0]], "the object is the winner's");
    store.delete(&key).await.expect("delete");
}

/// Several parts, and ranges across their borders.
async fn parts(store: &dyn Store, base: &str) {
    let key = format!("{base}/object");
    let body = pattern((25 << 20) + 7);
    let info = store.write_stream(&key, uneven(body.clone())).await.expect("write_stream");
    assert_eq!(info.size_bytes, body.len() as u64);
    for border in [8 << 20, 16 << 20, 24 << 20] {
        let got = store.get_range(&key, border as u64 - 3..border as u64 + 3).await.expect("range");
        assert!(got == body.slice(border - 3..border + 3), "the bytes at {border} are in order");
    }
    let read = store.read(&key).await.expect("read");
    assert!(collect(&key, read, u64::MAX).await.expect("bytes") == body, "all of it comes back as it went");
    let again = store.write_stream(&key, uneven(body)).await;
    assert!(matches!(again, Err(Failure::Exists { .. })), "a second creation in parts is Exists: {again:?}");
    store.delete_if_match(&key, &info.version).await.expect("delete");
}

/// More objects than fit into one page of a list.
async fn pages(store: &dyn Store, base: &str) {
    let keys: Vec<String> = (0..1005).map(|n| format!("{base}/{:04}/x", n)).collect();
    let put = |key: String| async move { store.put(&key, Bytes::from_static(b"x")).await.map(drop) };
    let all = futures::stream::iter(keys.clone()).map(put).buffer_unordered(16).collect::<Vec<_>>().await;
    assert!(all.iter().all(Result::is_ok), "every put succeeds");
    assert_eq!(keys_of(store, &format!("{base}/")).await, keys, "every page is listed, in order");
    let prefixes = store.list_prefixes(&format!("{base}/")).await.expect("list_prefixes");
    assert_eq!(prefixes.len(), keys.len(), "every page of prefixes is listed");
    let delete = |key: String| async move { store.delete(&key).await };
    let all = futures::stream::iter(keys).map(delete).buffer_unordered(16).collect::<Vec<_>>().await;
    assert!(all.iter().all(Result::is_ok), "every deletion succeeds");
}

/// Names that addresses, shells and XML take for something else.
async fn odd_names(store: &dyn Store, base: &str) {
    let long = "l".repeat(255);
    let longest = {
        let left = 900 - base.len() - "/odd/".len();
        let mut parts = vec!["x".repeat(200); left / 201];
        parts.push("y".repeat(left % 201));
        parts.retain(|part| !part.is_empty());
        parts.join("/")
    };
    let names = [
        "a b",
        "100%",
        "%20",
        "%2F",
        "a+b",
        "a&b=c;d",
        "q?x=1",
        "#hash",
        "~tilde",
        "it's",
        "\"quoted\"",
        "(p)[b]{c}",
        "a:b@c",
        "a*b,c",
        "<xml>&amp;",
        "$HOME",
        "日本語",
        "e\u{301}",
        "🗄️",
        "..a",
        "a..b",
        &long,
        &longest,
    ];
    let mut keys: Vec<String> = names.iter().map(|name| format!("{base}/odd/{name}")).collect();
    for key in &keys {
        let version = store.put_if_absent(key, Bytes::from(key.clone())).await.expect(key);
        assert_eq!(store.get(key).await, Ok((Bytes::from(key.clone()), version.clone())), "{key}");
        assert_eq!(store.head(key).await.expect(key).expect(key).version, version, "{key}");
        let again = store.put_if_absent(key, Bytes::new()).await;
        assert!(matches!(again, Err(Failure::Exists { .. })), "{key}: {again:?}");
    }
    keys.sort();
    assert_eq!(keys_of(store, &format!("{base}/odd/")).await, keys, "names are listed as they were given");
    for key in &keys {
        let version = store.head(key).await.expect(key).expect(key).version;
        store.delete_if_match(key, &version).await.expect(key);
    }
}

/// A generated stream of any length, written and read back in bounded memory: nobody holds more of it than a few chunks.
///
/// # Panics
/// With the promise that is broken.
pub async fn long_stream(store: &dyn Store, size_bytes: u64) {
    const CHUNK: u64 = 1 << 20;
    let key = format!("conformance/{:016x}/long", rand::random::<u64>());
    let block = pattern(CHUNK as usize + 251);
    let chunk = move |at: u64| {
        // Chunks differ from one another by where they begin in the block.
        let (from, length) = ((at / CHUNK % 251) as usize, CHUNK.min(size_bytes - at) as usize);
        block.slice(from..from + length)
    };
    let sent = chunk.clone();
    let stream = futures::stream::unfold(0, move |at| {
        let next = (at < size_bytes).then(|| (Ok(sent(at)), (at + CHUNK).min(size_bytes)));
        async move { next }
    });
    let info = store.write_stream(&key, stream.boxed()).await.expect("write_stream");
    assert_eq!(info.size_bytes, size_bytes);
    let mut sum = 0;
    let mut at = 0;
    while at < size_bytes {
        let piece = chunk(at);
        at += piece.len() as u64;
        sum = crc32c::crc32c_append(sum, &piece);
    }
    assert!(info.crc32c.is_none_or(|crc| crc == sum), "the checksum is of the bytes");
    let (mut found, mut length) = (0, 0);
    let mut read = store.read(&key).await.expect("read");
    while let Some(piece) = read.next().await {
        let piece = piece.expect("bytes");
        length += piece.len() as u64;
        found = crc32c::crc32c_append(found, &piece);
    }
    assert_eq!((length, found), (size_bytes, sum), "it comes back as it went");
    store.delete(&key).await.expect("delete");
}

async fn keys(store: &dyn Store) {
    for key in ["", "/a", "a/", "../a", "a/../../b", "a//b", "a\0b"] {
        assert!(matches!(store.put(key, Bytes::new()).await, Err(Failure::Invalid { .. })), "key {key:?} is refused");
        assert!(matches!(store.get(key).await, Err(Failure::Invalid { .. })), "key {key:?} is refused");
        assert!(matches!(store.delete(key).await, Err(Failure::Invalid { .. })), "key {key:?} is refused");
    }
    let listed = store.list("../").await;
    assert!(matches!(listed, Err(Failure::Invalid { .. })), "a prefix does not lead out: {listed:?}");
}

async fn keys_of(store: &dyn Store, prefix: &str) -> Vec<String> {
    store.list(prefix).await.expect("list").into_iter().map(|info| info.key).collect()
}

/// Bytes whose every position tells.
fn pattern(size: usize) -> Bytes {
    (0..size).map(|n| (n ^ (n >> 8) ^ (n >> 16)) as u8).collect::<Vec<_>>().into()
}

/// The bytes in chunks of changing sizes.
fn uneven(bytes: Bytes) -> ByteStream {
    let turn = Arc::new(AtomicUsize::new(0));
    futures::stream::unfold(bytes, move |mut left| {
        let size = [1, 70_000, 333, 262_144, 131_071][turn.fetch_add(1, Ordering::Relaxed) % 5];
        async move {
            (!left.is_empty()).then(|| {
                let chunk = left.split_to(size.min(left.len()));
                (Ok(chunk), left)
            })
        }
    })
    .boxed()
}
