//! What is sealed comes back, and nothing that was changed does.

use super::*;

fn identity() -> Identity {
    Identity::new(age::x25519::Identity::generate())
}

/// Bytes that compress a little, and differ from place to place.
fn content(size: usize) -> Vec<u8> {
    (0..size).map(|n| (n as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0] & 0x3f).collect()
}

const PLAIN: &[Encoding] = &[Encoding::Age];
const COMPRESSING: &[Encoding] = &[Encoding::Zstd, Encoding::Age];

/// All that a reader gives before it ends or fails.
fn open(
    bytes: &[u8],
    identities: &[Identity],
    encodings: &[Encoding],
    size: Option<u64>,
) -> (Vec<u8>, Result<(), SealError>) {
    let mut out = Vec::new();
    let mut reader = match Reader::new(bytes, identities, encodings, size) {
        Ok(reader) => reader,
        Err(error) => return (out, Err(error)),
    };
    let mut buffer = [0; 10_000];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return (out, Ok(())),
            Ok(read) => out.extend_from_slice(&buffer[..read]),
            Err(error) => {
                let said = SealError::of(&error).unwrap().clone();
                // Who asks again gets the same answer.
                assert_eq!(SealError::of(&reader.read(&mut buffer).unwrap_err()), Some(&said));
                return (out, Err(said));
            }
        }
    }
}

#[test]
fn every_size_comes_back_for_every_recipient() {
    let (a, b) = (identity(), identity());
    let recipients = [a.recipient().clone(), b.recipient().clone()];
    for encodings in [PLAIN, COMPRESSING] {
        for size in [0, 1, 65_535, 65_536, 65_537, 131_072, 400_000] {
            let content = content(size);
            let (sealed, digests) = seal(&content, &recipients, encodings).unwrap();
            assert_eq!(digests, Sealed { content: Digests::of(&content), stored: Digests::of(&sealed) });
            // In pieces as they come from a store.
            let mut sealer = Sealer::new(&recipients, encodings).unwrap();
            let mut pieces = Vec::new();
            for piece in content.chunks(9_999) {
                pieces.extend_from_slice(&sealer.push(piece).unwrap());
            }
            let (rest, again) = sealer.finish().unwrap();
            pieces.extend_from_slice(&rest);
            assert_eq!(again, Sealed { content: digests.content, stored: Digests::of(&pieces) });
            for identities in [vec![a.clone()], vec![b.clone()], vec![identity(), b.clone()]] {
                for bytes in [&sealed[..], &pieces] {
                    assert_eq!(open(bytes, &identities, encodings, None), (content.clone(), Ok(())), "{size}");
                }
            }
        }
    }
}

#[test]
fn each_thing_that_is_wrong_has_its_own_name() {
    let (own, stranger) = (identity(), identity());
    let (sealed, _) = seal(&content(200_000), &[own.recipient().clone()], PLAIN).unwrap();
    let size = Some(sealed.len() as u64);
    let own = [own];
    assert_eq!(open(b"PAR1....PAR1", &own, PLAIN, None).1, Err(SealError::NotSealed));
    assert_eq!(open(&sealed, &[], PLAIN, size).1, Err(SealError::NoIdentity));
    assert_eq!(open(&sealed, &[stranger], PLAIN, size).1, Err(SealError::OtherIdentity { identities: 1 }));
    assert!(matches!(seal(b"x", &[], PLAIN), Err(SealError::Unfit { .. })));
    assert!(matches!(seal(b"x", &[own[0].recipient().clone()], &[]), Err(SealError::Unfit { .. })));
    // A header without end is not held in memory.
    let endless = [FIRST_LINE, &b"-> X25519 aaaa\n".repeat(20_000)].concat();
    assert!(matches!(open(&endless, &own, PLAIN, None).1, Err(SealError::Changed { .. })));
    // What is sealed but no zstd.
    let (told, error) = open(&sealed, &own, COMPRESSING, size);
    assert!(
        told.is_empty() && matches!(&error, Err(SealError::Changed { message }) if message.contains("zstd")),
        "{error:?}"
    );
    // A byte more.
    let (_, error) = open(&[&sealed[..], b"x"].concat(), &own, PLAIN, size);
    assert!(matches!(error, Err(SealError::Changed { .. })), "{error:?}");
}

#[test]
fn every_cut_is_a_cut() {
    let own = [identity()];
    let content = content(140_000);
    for encodings in [PLAIN, COMPRESSING] {
        let (sealed, _) = seal(&content, &[own[0].recipient().clone()], encodings).unwrap();
        let places = (0..sealed.len()).filter(|at| *at < 400 || at % 997 == 0 || sealed.len() - at < 40);
        for at in places {
            let (given, error) = open(&sealed[..at], &own, encodings, Some(sealed.len() as u64));
            assert_eq!(error, Err(SealError::Truncated { size_bytes: at as u64 }), "{at}");
            assert!(content.starts_with(&given));
            // Who does not know the size is not told that all is well.
            assert!(open(&sealed[..at], &own, encodings, None).1.is_err(), "{at}");
        }
    }
}

#[test]
fn of_a_piece_that_was_changed_nothing_is_given_out() {
    const PIECE: usize = (64 << 10) + 16;
    let own = [identity()];
    let content = content(200_000);
    let (sealed, digests) = seal(&content, &[own[0].recipient().clone()], PLAIN).unwrap();
    let pieces = 200_000_usize.div_ceil(64 << 10);
    let header = sealed.len() - 200_000 - 16 * pieces;
    let size = Some(digests.stored.size_bytes);
    for at in (0..sealed.len()).filter(|at| *at < header + 40 || at % 499 == 0) {
        let mut changed = sealed.to_vec();
        changed[at] ^= 0x04;
        let (given, error) = open(&changed, &own, PLAIN, size);
        if at < header {
            let told = matches!(
                error,
                Err(SealError::NotSealed | SealError::Changed { .. } | SealError::OtherIdentity { .. })
            );
            assert!(told && given.is_empty(), "{at}: {error:?}");
            continue;
        }
        // What came before the piece, and no byte of it.
        let piece = (at - header) / PIECE;
        assert_eq!(given, content[..piece * (64 << 10)], "{at}");
        assert!(matches!(&error, Err(SealError::Changed { message }) if message.contains("tag")), "{at}: {error:?}");
    }
    // Whole pieces that change places.
    let mut swapped = sealed.to_vec();
    let (first, second) = swapped[header..header + 2 * PIECE].split_at_mut(PIECE);
    first.swap_with_slice(second);
    assert!(open(&swapped, &own, PLAIN, size).0.is_empty());
}

#[test]
fn what_asks_for_too_much_memory_is_refused() {
    let own = [identity()];
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    encoder.long_distance_matching(true).unwrap();
    encoder.write_all(&content(1 << 20)).unwrap();
    let frame = encoder.finish().unwrap();
    let (sealed, _) = seal(&frame, &[own[0].recipient().clone()], PLAIN).unwrap();
    let (given, error) = open(&sealed, &own, COMPRESSING, None);
    assert!(given.is_empty() && matches!(error, Err(SealError::Changed { .. })), "{error:?}");
}

#[test]
fn one_rule_says_what_is_compressed() {
    for name in ["a/part-0.json", "a/part-0.csv", "notes.txt", "no_ending", "a.b/c", "x.sqlite"] {
        assert_eq!(stored_name(name, &encodings(name)), format!("{name}.zst.age"));
    }
    for name in ["part-0.avro", "part-0.parquet", "x.GZ", "x.json.zst"] {
        assert_eq!(stored_name(name, &encodings(name)), format!("{name}.age"));
    }
}
