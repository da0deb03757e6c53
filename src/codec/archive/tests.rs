//! What is written is read again, by this program and by others; and what could lead out of a root is refused.

use std::io::{Cursor, Read, Write};
use std::process::{Command, Stdio};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;

fn path(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).unwrap()
}

fn entry(at: &str, what: What) -> Entry {
    let moment = Moment { seconds: 1_700_000_000, nanoseconds: 123_456_789 };
    Entry { path: path(at), what, mode: 0o644, uid: 1, gid: 2, modified: moment, changed: moment, inode: 7 }
}

fn file(size_bytes: u64) -> What {
    let place = (size_bytes > 0).then_some(Place { archive: 0, frame: 0, skip: 512 });
    let (sparse, unsettled, hard_link) = (false, false, None);
    What::File(Content { size_bytes, sha256: [9; 32], place, sparse, unsettled, hard_link })
}

#[test]
fn an_index_goes_there_and_back() {
    let mut odd = entry("a/x", file(3));
    odd.path = RelPath::new(b"a/\xff\xfe").unwrap();
    odd.modified = Moment { seconds: -5, nanoseconds: 1 };
    let linked = match file(3) {
        What::File(content) => What::File(Content { hard_link: Some(odd.path.clone()), ..content }),
        other => other,
    };
    let entries = vec![
        entry("a", What::Folder),
        entry("a/b", What::Symlink { target: b"../\xf0".to_vec() }),
        odd,
        entry("a.txt", file(0)),
        entry("b", linked),
    ];
    let taken_at: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
    let mut writer = IndexWriter::new(Vec::new(), taken_at).unwrap();
    entries.iter().for_each(|entry| writer.put(entry).unwrap());
    let bytes = writer.finish().unwrap();
    let reader = IndexReader::open(Cursor::new(bytes)).unwrap();
    assert_eq!(reader.head().taken_at, taken_at);
    assert_eq!(reader.collect::<Result<Vec<_>, _>>().unwrap(), entries);
}

#[test]
fn tar_and_zstd_open_what_is_written() {
    let long = format!("folder/{}", "n".repeat(200));
    let content = b"hello\n".repeat(300_000);
    let mut tar = Vec::new();
    let mut put = |entry: &Entry, content: &[u8], to: Option<&RelPath>| {
        tar.extend(header(entry, content.len() as u64, to));
        tar.extend_from_slice(content);
        tar.resize(tar.len() + padding(content.len() as u64), 0);
    };
    let mut folder = entry("folder", What::Folder);
    folder.mode = 0o755;
    put(&folder, &[], None);
    put(&entry(&long, file(content.len() as u64)), &content, None);
    put(&entry("folder/same", file(1)), &[], Some(&path(&long)));
    put(&entry("folder/to", What::Symlink { target: vec![b't'; 150] }), &[], None);
    tar.extend(END);
    let mut archive = Vec::new();
    let mut frames = Frames::default();
    let mut compressor = Compressor::new().unwrap();
    for piece in tar.chunks(FRAME_BYTES) {
        let frame = compressor.frame(piece).unwrap();
        frames.0.push((frame.len() as u32, piece.len() as u32));
        archive.extend(frame);
    }
    archive.extend(seek_table(&frames));

    // One frame by itself.
    let length = table_length(&archive[archive.len() - 9..], archive.len() as u64).unwrap() as usize;
    let table = Table::read(&archive[archive.len() - length..], archive.len() as u64).unwrap();
    assert_eq!(table.len(), tar.len().div_ceil(FRAME_BYTES));
    let (range, content_bytes) = table.frame(1).unwrap();
    let frame = expand(&archive[range.start as usize..range.end as usize], content_bytes).unwrap();
    assert_eq!(frame, tar[FRAME_BYTES..(2 * FRAME_BYTES).min(tar.len())]);
    assert_eq!(table.frame(table.len() as u64), None);

    // All of it, by this reader ...
    let plain = zstd::decode_all(archive.as_slice()).unwrap();
    assert_eq!(plain, tar);
    let mut reader = TarReader::new(plain.as_slice());
    assert_eq!(reader.next_entry().unwrap(), Some(TarEntry::Folder(path("folder"))));
    let size_bytes = content.len() as u64;
    assert_eq!(reader.next_entry().unwrap(), Some(TarEntry::File { path: path(&long), size_bytes }));
    let mut read = Vec::new();
    reader.content().read_to_end(&mut read).unwrap();
    assert_eq!(read, content);
    let link = TarEntry::HardLink { path: path("folder/same"), to: path(&long) };
    assert_eq!(reader.next_entry().unwrap(), Some(link));
    let link = TarEntry::Symlink { path: path("folder/to"), target: vec![b't'; 150] };
    assert_eq!(reader.next_entry().unwrap(), Some(link));
    assert_eq!(reader.next_entry().unwrap(), None);

    // ... and by tar itself.
    let mut command = Command::new("tar");
    command.args(["-tvf", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("tar");
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(&tar));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let listed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && listed.contains(&format!("folder/same link to {long}")), "{listed}");
}

/// A header as somebody else would write it.
fn raw(kind: u8, name: &[u8], link: &[u8], size: u64) -> Vec<u8> {
    let mut header = ::tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_entry_type(::tar::EntryType::new(kind));
    let old = header.as_old_mut();
    old.name[..name.len()].copy_from_slice(name);
    old.linkname[..link.len()].copy_from_slice(link);
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn all_of(tar: &[u8]) -> Result<usize, Hostile> {
    let mut reader = TarReader::new(tar);
    let mut entries = 0;
    while reader.next_entry()?.is_some() {
        entries += 1;
    }
    Ok(entries)
}

/// Paths that could lead out of a root, or that no file system takes.
fn bad_paths() -> Vec<Vec<u8>> {
    let mut bad: Vec<Vec<u8>> = [
        "",
        "/",
        "//",
        "/etc/passwd",
        "//etc/passwd",
        "..",
        "../x",
        "../../x",
        "a/..",
        "a/../b",
        "a/../../b",
        "a/b/../../../c",
        ".",
        "./x",
        "a/.",
        "a/./b",
        "a//b",
        "a/",
        "a/b/",
        "x/..//y",
        "../",
        "/..",
        "/../x",
        "./../x",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    bad.push(b"a\0b".to_vec());
    bad.push(b"\0".to_vec());
    bad.push(b"a/\0/b".to_vec());
    bad.push(vec![b'n'; 256]);
    bad.push([b"d/".repeat(2048), b"x".to_vec()].concat());
    bad.push([b"d/".repeat(200), b"x".to_vec()].concat());
    bad
}

#[test]
fn more_than_fifty_kinds_of_tricks_are_refused() {
    let mut tricks: Vec<(String, Result<(), Hostile>)> = Vec::new();
    let mut tried = |what: String, outcome: Result<(), Hostile>| tricks.push((what, outcome));

    // Paths, wherever they stand.
    for bad in bad_paths() {
        let shown = String::from_utf8_lossy(&bad[..bad.len().min(40)]).into_owned();
        tried(format!("path {shown:?}"), RelPath::new(&bad).map(drop));
        if !bad.contains(&0) && bad.len() <= 100 {
            for (what, tar) in [
                ("file", [raw(b'0', &bad, b"", 0), END.to_vec()].concat()),
                ("symlink", [raw(b'2', &bad, b"to", 0), END.to_vec()].concat()),
                ("hard link", [raw(b'1', &bad, b"to", 0), END.to_vec()].concat()),
                ("hard link to", [raw(b'1', b"x", &bad, 0), END.to_vec()].concat()),
            ] {
                tried(format!("tar: {what} {shown:?}"), all_of(&tar).map(drop));
            }
        }
        let text = String::from_utf8(bad).unwrap();
        tried(format!("index: {shown:?}"), index(&[line(json!({"path": text}))]).map(drop));
        let link = json!({"path": "z", "kind": "file", "size_bytes": 0, "sha256": "0".repeat(64), "hard_link": text});
        tried(format!("index: hard link to {shown:?}"), index(&[line(link)]).map(drop));
    }
    // Kinds that are not ours.
    for (kind, what) in [
        (b'3', "character device"),
        (b'4', "block device"),
        (b'6', "pipe"),
        (b'7', "contiguous file"),
        (b'S', "sparse file"),
        (b'x', "pax header"),
        (b'g', "global pax header"),
        (b'D', "dump folder"),
        (b'M', "another volume"),
        (b'V', "volume label"),
        (b'?', "unknown"),
    ] {
        tried(format!("tar: {what}"), all_of(&[raw(kind, b"x", b"", 0), END.to_vec()].concat()).map(drop));
    }
    // Headers that lie.
    let good = [raw(b'0', b"x", b"", 3), b"abc".to_vec(), vec![0; 509], END.to_vec()].concat();
    assert_eq!(all_of(&good), Ok(1));
    let mut changed = good.clone();
    changed[0] = b'y';
    let long = |kind: u8, size: u64, text: &[u8]| {
        let mut tar = raw(kind, b"././@LongLink", b"", size);
        tar.extend_from_slice(text);
        tar.resize(tar.len().next_multiple_of(BLOCK), 0);
        tar
    };
    let named = |text: &[u8]| [long(b'L', text.len() as u64, text), raw(b'0', b"x", b"", 0), END.to_vec()].concat();
    for (what, tar) in [
        ("changed header", changed),
        ("cut off in a content", good[..600].to_vec()),
        ("cut off in a header", good[..300].to_vec()),
        ("without its end", good[..1024].to_vec()),
        ("one block of zeros within", [vec![0; BLOCK], good.clone()].concat()),
        ("empty", vec![]),
        ("folder with content", [raw(b'5', b"d/", b"", 512), vec![1; 512], END.to_vec()].concat()),
        ("symlink with content", [raw(b'2', b"d", b"to", 512), vec![1; 512], END.to_vec()].concat()),
        ("symlink to nothing", [raw(b'2', b"d", b"", 0), END.to_vec()].concat()),
        ("file with a target", [raw(b'0', b"d", b"/etc/passwd", 0), END.to_vec()].concat()),
        ("endless content", [raw(b'0', b"d", b"", 1 << 32), vec![0; 2048]].concat()),
        ("long name: absolute", named(b"/etc/cron.d/x\0")),
        ("long name: upwards", named(b"a/../../x\0")),
        ("long name: of 1 GiB", [raw(b'L', b"././@LongLink", b"", 1 << 30), vec![b'a'; 4096]].concat()),
        ("long name: empty", [long(b'L', 0, b""), raw(b'0', b"x", b"", 0), END.to_vec()].concat()),
        ("long name: not ended", named(b"abc")),
        ("long name: zero within", named(b"a\0b\0")),
        ("long name: of nothing", [long(b'L', 2, b"a\0"), END.to_vec()].concat()),
        ("long name: two", [long(b'L', 2, b"a\0"), named(b"b\0")].concat()),
        ("long target: two", [long(b'K', 2, b"a\0"), long(b'K', 2, b"b\0"), named(b"b\0")].concat()),
        ("long name of a file with a long target", [long(b'K', 7, b"/etc/x\0"), named(b"b\0")].concat()),
    ] {
        tried(format!("tar: {what}"), all_of(&tar).map(drop));
    }
    // Trees that are none.
    let folder = |at: &str| line(json!({"path": at, "kind": "folder"}));
    let plain = |at: &str| line(json!({"path": at, "kind": "file", "size_bytes": 0, "sha256": "0".repeat(64)}));
    let link = |at: &str, to: &str| line(json!({"path": at, "kind": "symlink", "target": to}));
    let with = |more: Value| {
        let mut line = plain("x");
        line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        line
    };
    assert!(index(&[folder("a"), plain("a/b"), link("c", "/etc")]).is_ok());
    for (what, lines) in [
        ("below a symlink", vec![link("a", "/etc"), plain("a/passwd")]),
        ("below a symlink upwards", vec![link("a", ".."), plain("a/x")]),
        ("below a file", vec![plain("a"), plain("a/b")]),
        ("below nothing", vec![plain("a/b")]),
        ("folder that became a symlink", vec![folder("a"), link("a", "/etc"), plain("a/passwd")]),
        ("twice", vec![plain("a"), plain("a")]),
        ("out of order", vec![plain("b"), plain("a")]),
        ("back into a folder", vec![folder("a"), plain("b"), plain("a/x")]),
        ("hard link to a later one", vec![with(json!({"path": "a", "hard_link": "b"})), plain("b")]),
        ("hard link to itself", vec![with(json!({"path": "a", "hard_link": "a"}))]),
        ("folder with a hard link", vec![line(json!({"path": "a", "kind": "folder", "hard_link": "0"}))]),
        ("symlink without a target", vec![line(json!({"path": "a", "kind": "symlink"}))]),
        ("symlink to a zero byte", vec![link("a", "x\0y")]),
        ("symlink to the empty path", vec![link("a", "")]),
        ("file with a target", vec![with(json!({"target": "/etc"}))]),
        ("device", vec![line(json!({"path": "a", "kind": "device"}))]),
        ("folder with content", vec![line(json!({"path": "a", "kind": "folder", "size_bytes": 1}))]),
        ("path in two ways", vec![with(json!({"path_base64": "YQ=="}))]),
        ("no path", vec![line(json!({"path": null}))]),
        ("path upwards in base64", vec![with(json!({"path": null, "path_base64": "Li4veA=="}))]),
        ("path that is no base64", vec![with(json!({"path": null, "path_base64": "%%"}))]),
        ("unknown member", vec![with(json!({"device": 1}))]),
        ("mode beyond the bits", vec![with(json!({"mode": "170000"}))]),
        ("size without a place", vec![with(json!({"size_bytes": 5}))]),
        ("place without a size", vec![with(json!({"place": {"archive": 0, "frame": 0, "skip": 0}}))]),
        ("negative size", vec![with(json!({"size_bytes": -1}))]),
        ("no digest", vec![with(json!({"sha256": null}))]),
        ("short digest", vec![with(json!({"sha256": "00"}))]),
        ("time that is none", vec![with(json!({"mtime": "now"}))]),
        ("endless line", vec![with(json!({"path": "a".repeat(200_000)}))]),
    ] {
        tried(format!("index: {what}"), index(&lines).map(drop));
    }
    for (what, bytes) in [
        ("not zstd", b"hello".to_vec()),
        ("empty", vec![]),
        ("later format", packed(b"{\"format\":2,\"taken_at\":\"2026-01-01T00:00:00Z\"}\n")),
        ("cut off in a line", packed(b"{\"format\":1,\"taken_at\":\"2026-01-01T00:00:00Z\"}\n{\"path\"")),
    ] {
        tried(format!("index: {what}"), read_index(&bytes).map(drop));
    }
    // Tables of frames that do not fit their archive.
    let table = seek_table(&Frames(vec![(10, 20)]));
    let size = table.len() as u64 + 10;
    assert!(Table::read(&table, size).is_ok());
    let mut flags = table.clone();
    let at = flags.len() - 5;
    flags[at] = 0x80;
    let mut many = table.clone();
    let at = many.len() - 9;
    many[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    let bomb = seek_table(&Frames(vec![(10, u32::MAX)]));
    for (what, bytes, size) in [
        ("does not add up", table.clone(), size + 1),
        ("flags", flags, size),
        ("longer than the archive", many, size),
        ("a frame of 4 GiB", bomb.clone(), bomb.len() as u64 + 10),
        ("none", vec![0; 64], 64),
        ("nothing", vec![], 0),
    ] {
        tried(format!("table: {what}"), Table::read(&bytes, size).map(drop));
    }
    let frame = Compressor::new().unwrap().frame(&vec![0; 1 << 20]).unwrap();
    tried("frame of more than its table says".into(), expand(&frame, 1000).map(drop));
    tried("frame of less than its table says".into(), expand(&frame, (1 << 20) + 1).map(drop));
    tried("frame that is none".into(), expand(b"hello", 5).map(drop));

    let accepted: Vec<&String> = tricks.iter().filter(|(_, outcome)| outcome.is_ok()).map(|(what, _)| what).collect();
    assert!(accepted.is_empty(), "{accepted:#?}");
    assert!(tricks.len() >= 150, "{}", tricks.len());
    println!("files: {} kinds of hostile archives and indexes, all refused", tricks.len());
}

fn line(members: Value) -> Value {
    let mut line = json!({"kind": "folder", "mode": "644", "uid": 0, "gid": 0, "mtime": "0.000000000", "ctime": "0.000000000", "inode": 1});
    line.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    line
}

fn packed(text: &[u8]) -> Vec<u8> {
    zstd::encode_all(text, 1).unwrap()
}

fn index(lines: &[Value]) -> Result<usize, Hostile> {
    let mut text = String::from("{\"format\":1,\"taken_at\":\"2026-01-01T00:00:00Z\"}\n");
    for line in lines {
        text.push_str(&format!("{line}\n"));
    }
    read_index(&packed(text.as_bytes()))
}

fn read_index(bytes: &[u8]) -> Result<usize, Hostile> {
    IndexReader::open(bytes)?.try_fold(0, |n, entry| entry.map(|_| n + 1))
}
