//! What `pg_dump` writes, uncompressed: a table of contents, and the rows of every table as COPY's text.
//!
//! Taken while a dump passes, the figures are of the very bytes that are kept: nothing is read twice. The format is that of
//! `pg_backup_archiver.c` and `pg_backup_custom.c` in PostgreSQL 12 to 18, archive versions 1.14 to 1.16.

use aws_lc_rs::digest::{Context, SHA256, digest};

use super::error::CodecError;
use super::farm::farm_fingerprint;
use super::fingerprint::Hashes;

const FORMAT: &str = "pg_dump";
const MAGIC: &[u8] = b"PGDMP";
const VERSIONS: std::ops::RangeInclusive<(u8, u8)> = (1, 14)..=(1, 16);
/// A text of the table of contents: a function's body, a view's query.
const MAX_TEXT_BYTES: usize = 256 << 20;
/// A longer row is hashed by its SHA-256, so that it need not be held.
const LONG_BYTES: usize = 1 << 20;
/// COPY's end, after a table's last row. Backslashes of values are doubled, so no row is this.
const END: &[u8] = b"\\.";

/// Rows in COPY's text form, counted and fingerprinted whatever their order.
#[derive(Default)]
pub struct Rows {
    hashes: Hashes,
    begun: Vec<u8>,
    long: Option<Context>,
    ended: bool,
}

impl Rows {
    /// Takes in text that may begin and end within a row.
    pub fn feed(&mut self, mut text: &[u8]) {
        while !self.ended
            && let Some(end) = memchr::memchr(b'\n', text)
        {
            let (row, rest) = (&text[..end], &text[end + 1..]);
            text = rest;
            if self.begun.is_empty() && self.long.is_none() {
                self.row(row);
                continue;
            }
            self.begin(row);
            let begun = std::mem::take(&mut self.begun);
            match self.long.take() {
                Some(mut long) => {
                    long.update(&begun);
                    self.hashes.add(farm_fingerprint(long.finish().as_ref()));
                }
                None => self.row(&begun),
            }
        }
        if !self.ended {
            self.begin(text);
        }
    }

    /// Takes in one row, without its end.
    pub fn row(&mut self, row: &[u8]) {
        match row {
            END => self.ended = true,
            _ if row.len() > LONG_BYTES => self.hashes.add(farm_fingerprint(digest(&SHA256, row).as_ref())),
            _ => self.hashes.add(farm_fingerprint(row)),
        }
    }

    fn begin(&mut self, text: &[u8]) {
        self.begun.extend_from_slice(text);
        if self.begun.len() > LONG_BYTES {
            self.long.get_or_insert_with(|| Context::new(&SHA256)).update(&self.begun);
            self.begun.clear();
        }
    }

    /// # Errors
    /// When the last row has no end.
    pub fn finish(self) -> Result<Hashes, CodecError> {
        if self.begun.is_empty() && self.long.is_none() {
            Ok(self.hashes)
        } else {
            Err(malformed(0, "a row is cut off"))
        }
    }
}

/// A table of a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpedTable {
    pub schema: String,
    pub table: String,
    /// Of the directory format: the file that holds its rows.
    pub file: Option<String>,
    pub rows: Hashes,
}

/// Reads a dump as it passes, in pieces of any size.
pub struct DumpReader {
    state: State,
    /// What could not be understood before more has come.
    rest: Vec<u8>,
    at: u64,
    widths: Widths,
    directory: bool,
    tables: Vec<(i64, DumpedTable)>,
    /// Entries that have data, of which none was seen yet.
    awaited: usize,
    rows: Rows,
}

/// Bytes of an integer, and of an offset in a file.
#[derive(Clone, Copy, Default)]
struct Widths {
    integer: usize,
    offset: usize,
    /// Since archive version 1.16 entries tell what kind of relation they are of.
    relation_kinds: bool,
}

#[derive(Clone, Copy)]
enum State {
    Header,
    Entries {
        left: i64,
    },
    /// A block of data begins, or the dump is at its end.
    Block,
    /// A piece of a block begins. `table` is one of `tables`, when it is rows that come.
    Piece {
        table: Option<usize>,
        within: Within,
    },
    Bytes {
        left: usize,
        table: Option<usize>,
        within: Within,
    },
    Object,
    /// The directory format keeps data in files of their own.
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    Table,
    LargeObjects,
}

/// Why a step was not made.
enum Stop {
    Short,
    Broken(String),
}

impl Default for DumpReader {
    fn default() -> Self {
        Self::new()
    }
}

impl DumpReader {
    pub fn new() -> Self {
        Self {
            state: State::Header,
            rest: vec![],
            at: 0,
            widths: Widths::default(),
            directory: false,
            tables: vec![],
            awaited: 0,
            rows: Rows::default(),
        }
    }

    /// Takes in the next piece.
    ///
    /// # Errors
    /// `Unsupported` for an archive of another version, or a compressed one; `Malformed` for what is none.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), CodecError> {
        if self.rest.is_empty() {
            let taken = self.take(piece)?;
            self.rest.extend_from_slice(&piece[taken..]);
            return Ok(());
        }
        let mut bytes = std::mem::take(&mut self.rest);
        bytes.extend_from_slice(piece);
        let taken = self.take(&bytes)?;
        bytes.drain(..taken);
        self.rest = bytes;
        Ok(())
    }

    /// The tables, in the dump's order. Those of a directory have no rows yet: they lie in their files.
    ///
    /// # Errors
    /// `Malformed` when the dump is cut off.
    pub fn finish(self) -> Result<Vec<DumpedTable>, CodecError> {
        let whole = matches!(self.state, State::Block | State::Done) && self.rest.is_empty();
        if !whole || (self.awaited > 0 && !self.directory) {
            return Err(malformed(self.at, "is cut off"));
        }
        Ok(self.tables.into_iter().map(|(_, table)| table).collect())
    }

    /// Takes what can be understood of the bytes; gives how many those were.
    fn take(&mut self, bytes: &[u8]) -> Result<usize, CodecError> {
        let mut taken = 0;
        loop {
            let mut input = Input { bytes: &bytes[taken..], at: 0, integer: self.widths.integer };
            match self.step(&mut input) {
                Ok(()) => {
                    taken += input.at;
                    self.at += input.at as u64;
                }
                Err(Stop::Short) => return Ok(taken),
                Err(Stop::Broken(message)) if message.starts_with("is of version") => {
                    return Err(CodecError::Unsupported { format: FORMAT, message });
                }
                Err(Stop::Broken(message)) => return Err(malformed(self.at, &message)),
            }
        }
    }

    fn step(&mut self, input: &mut Input<'_>) -> Result<(), Stop> {
        match self.state {
            State::Header => self.header(input),
            State::Entries { left: 0 } => {
                self.state = if self.directory { State::Done } else { State::Block };
                Ok(())
            }
            State::Entries { left } => {
                self.entry(input)?;
                self.state = State::Entries { left: left - 1 };
                Ok(())
            }
            State::Block => {
                let kind = input.byte()?;
                let id = input.integer()?;
                self.awaited = self.awaited.checked_sub(1).ok_or_else(|| Stop::broken("has a block too many"))?;
                self.state = match kind {
                    1 => {
                        let table = self.tables.iter().position(|(of, _)| *of == id);
                        State::Piece { table, within: Within::Table }
                    }
                    3 => State::Object,
                    other => return Err(Stop::Broken(format!("has a block of unknown kind {other}"))),
                };
                Ok(())
            }
            State::Object => {
                self.state = match input.integer()? {
                    0 => State::Block,
                    _ => State::Piece { table: None, within: Within::LargeObjects },
                };
                Ok(())
            }
            State::Piece { table, within } => {
                let left = usize::try_from(input.integer()?).map_err(|_| Stop::broken("has a piece below nothing"))?;
                self.state = match (left, within) {
                    (0, Within::LargeObjects) => State::Object,
                    (0, Within::Table) => {
                        self.end(table)?;
                        State::Block
                    }
                    _ => State::Bytes { left, table, within },
                };
                Ok(())
            }
            State::Bytes { left: 0, table, within } => {
                self.state = State::Piece { table, within };
                Ok(())
            }
            State::Bytes { left, table, within } => {
                let bytes = input.some(left)?;
                if table.is_some() {
                    self.rows.feed(bytes);
                }
                self.state = State::Bytes { left: left - bytes.len(), table, within };
                Ok(())
            }
            State::Done => match input.bytes.is_empty() {
                true => Err(Stop::Short),
                false => Err(Stop::broken("has more than a table of contents")),
            },
        }
    }

    /// A table's last row has been read.
    fn end(&mut self, table: Option<usize>) -> Result<(), Stop> {
        let Some(table) = table.and_then(|at| self.tables.get_mut(at)) else { return Ok(()) };
        table.1.rows = std::mem::take(&mut self.rows).finish().map_err(|error| Stop::Broken(error.to_string()))?;
        Ok(())
    }

    fn header(&mut self, input: &mut Input<'_>) -> Result<(), Stop> {
        if input.exactly(MAGIC.len())? != MAGIC {
            return Err(Stop::broken("does not begin as a dump does"));
        }
        let (major, minor, _) = (input.byte()?, input.byte()?, input.byte()?);
        if !VERSIONS.contains(&(major, minor)) {
            let (first, last) = (VERSIONS.start().1, VERSIONS.end().1);
            return Err(Stop::Broken(format!("is of version {major}.{minor}, known are 1.{first} to 1.{last}")));
        }
        let (integer, offset, format) = (input.byte()?, input.byte()?, input.byte()?);
        if !(1..=8).contains(&integer) || !(1..=8).contains(&offset) {
            return Err(Stop::broken("has numbers of a width that there is not"));
        }
        input.integer = integer.into();
        let compression = if minor >= 15 { i64::from(input.byte()?) } else { input.integer()? };
        if compression != 0 {
            return Err(Stop::broken("is compressed"));
        }
        self.directory = match format {
            1 => false,
            3 => true, // a directory's table of contents says that it is of a tar
            other => return Err(Stop::Broken(format!("is of format {other}, neither custom nor directory"))),
        };
        for _ in 0..7 {
            input.integer()?; // when it was made
        }
        for _ in 0..3 {
            input.text()?; // the database, the server's version, the program's
        }
        let left = input.integer()?;
        if left < 0 {
            return Err(Stop::broken("has fewer than no entries"));
        }
        self.widths = Widths { integer: integer.into(), offset: offset.into(), relation_kinds: minor >= 16 };
        self.state = State::Entries { left };
        Ok(())
    }

    fn entry(&mut self, input: &mut Input<'_>) -> Result<(), Stop> {
        let id = input.integer()?;
        let has_data = input.integer()? != 0;
        input.text()?; // the OID of the catalog's table
        input.text()?; // the OID
        let (tag, kind) = (input.text()?, input.text()?);
        input.integer()?; // the section
        for _ in 0..3 {
            input.text()?; // how it is made, how it is dropped, how rows are copied
        }
        let namespace = input.text()?;
        input.text()?; // the tablespace
        input.text()?; // the access method
        if self.widths.relation_kinds {
            input.integer()?;
        }
        input.text()?; // the owner
        input.text()?; // "false": it once told of OIDs in rows
        while input.text()?.is_some() {} // what it depends on
        let file = match self.directory {
            true => input.text()?,
            false => {
                input.exactly(1 + self.widths.offset)?;
                None
            }
        };
        self.awaited += usize::from(has_data);
        // What is not UTF-8 is not known by its name.
        let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap_or_default().to_vec()).unwrap_or_default();
        if has_data && kind == Some(b"TABLE DATA") {
            let file = file.filter(|file| !file.is_empty()).map(|file| text(Some(file)));
            let table = DumpedTable { schema: text(namespace), table: text(tag), file, rows: Hashes::default() };
            self.tables.push((id, table));
        }
        Ok(())
    }
}

impl Stop {
    fn broken(message: &str) -> Self {
        Self::Broken(message.into())
    }
}

fn malformed(offset: u64, message: &str) -> CodecError {
    CodecError::Malformed { format: FORMAT, offset, message: message.into() }
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
    integer: usize,
}

impl<'a> Input<'a> {
    fn exactly(&mut self, length: usize) -> Result<&'a [u8], Stop> {
        let found = self.bytes.get(self.at..).and_then(|left| left.get(..length)).ok_or(Stop::Short)?;
        self.at += length;
        Ok(found)
    }

    /// At least one byte, at most so many.
    fn some(&mut self, most: usize) -> Result<&'a [u8], Stop> {
        let length = most.min(self.bytes.len() - self.at);
        if length == 0 { Err(Stop::Short) } else { self.exactly(length) }
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        Ok(self.exactly(1)?[0])
    }

    /// A sign, and the number's bytes from the lowest.
    fn integer(&mut self) -> Result<i64, Stop> {
        let bytes = self.exactly(1 + self.integer)?;
        let mut value: u64 = 0;
        for byte in bytes[1..].iter().rev() {
            value = value << 8 | u64::from(*byte);
        }
        let value = i64::try_from(value).map_err(|_| Stop::broken("has a number that is none"))?;
        Ok(if bytes[0] == 0 { value } else { -value })
    }

    /// A text; `None` where there is none.
    fn text(&mut self) -> Result<Option<&'a [u8]>, Stop> {
        let length = self.integer()?;
        let Ok(length) = usize::try_from(length) else { return Ok(None) };
        if length > MAX_TEXT_BYTES {
            return Err(Stop::broken("has a text that is longer than any"));
        }
        self.exactly(length).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn integer(value: i64) -> Vec<u8> {
        let mut bytes = vec![u8::from(value < 0)];
        bytes.extend((value.unsigned_abs() as u32).to_le_bytes());
        bytes
    }

    fn text(value: Option<&str>) -> Vec<u8> {
        match value {
            None => integer(-1),
            Some(value) => [integer(value.len() as i64), value.as_bytes().to_vec()].concat(),
        }
    }

    fn header(minor: u8, format: u8, entries: i64) -> Vec<u8> {
        let mut bytes = [b"PGDMP".as_slice(), &[1, minor, 0, 4, 8, format]].concat();
        bytes.extend(if minor >= 15 { vec![0] } else { integer(0) });
        (0..7).for_each(|_| bytes.extend(integer(7)));
        ["shop", "15.18", "15.18"].iter().for_each(|value| bytes.extend(text(Some(value))));
        bytes.extend(integer(entries));
        bytes
    }

    fn entry(minor: u8, id: i64, kind: &str, tag: &str, file: Option<&str>) -> Vec<u8> {
        let mut bytes = [integer(id), integer(i64::from(kind.ends_with("DATA") || kind == "BLOBS"))].concat();
        for value in [Some("0"), Some("16384"), Some(tag), Some(kind)] {
            bytes.extend(text(value));
        }
        bytes.extend(integer(3));
        for value in [None, None, Some("COPY ..."), Some("public"), None, None] {
            bytes.extend(text(value));
        }
        if minor >= 16 {
            bytes.extend(integer(i64::from(b'r')));
        }
        for value in [Some("owner"), Some("false"), Some("12"), None] {
            bytes.extend(text(value));
        }
        match file {
            Some(file) => bytes.extend(text(Some(file))),
            None => bytes.extend([2; 9]),
        }
        bytes
    }

    fn block(id: i64, pieces: &[&[u8]]) -> Vec<u8> {
        let mut bytes = [vec![1], integer(id)].concat();
        for piece in pieces {
            bytes.extend(integer(piece.len() as i64));
            bytes.extend_from_slice(piece);
        }
        bytes.extend(integer(0));
        bytes
    }

    fn hashes(rows: &[&[u8]]) -> Hashes {
        let mut all = Hashes::default();
        rows.iter().for_each(|row| all.add(farm_fingerprint(row)));
        all
    }

    fn dump(minor: u8) -> Vec<u8> {
        let objects = [
            vec![3],
            integer(9),
            integer(4711),
            integer(5),
            b"\\.\nab".to_vec(),
            integer(0),
            integer(4712),
            integer(0),
            integer(0),
        ];
        [
            header(minor, 1, 4),
            entry(minor, 1, "TABLE", "a", None),
            entry(minor, 2, "TABLE DATA", "a", None),
            entry(minor, 9, "BLOBS", "BLOBS", None),
            entry(minor, 3, "TABLE DATA", "b", None),
            block(2, &[b"1\tx\n", b"2\t\\\\.\n3", b"\t\\N\n", b"\\.\n\n\n"]),
            objects.concat(),
            block(3, &[b"\\.\n\n\n"]),
        ]
        .concat()
    }

    fn read(bytes: &[u8], piece: usize) -> Result<Vec<DumpedTable>, CodecError> {
        let mut reader = DumpReader::new();
        bytes.chunks(piece).try_for_each(|piece| reader.feed(piece))?;
        reader.finish()
    }

    #[test]
    fn every_table_of_a_dump_has_its_figures_whatever_the_pieces() {
        for minor in [14, 15, 16] {
            let dump = dump(minor);
            for piece in [1, 2, 7, 64, dump.len()] {
                let tables = read(&dump, piece).unwrap();
                let found: Vec<_> = tables.iter().map(|table| (table.table.as_str(), table.rows)).collect();
                assert_eq!(found, [("a", hashes(&[b"1\tx", b"2\t\\\\.", b"3\t\\N"])), ("b", Hashes::default())]);
                assert_eq!(tables[0].schema, "public");
            }
        }
    }

    #[test]
    fn what_is_cut_off_is_told() {
        let dump = dump(14);
        for length in 0..dump.len() {
            assert!(read(&dump[..length], 64).is_err(), "{length} of {} bytes", dump.len());
        }
        assert!(read(&[dump.as_slice(), &[0]].concat(), 64).is_err(), "a byte more");
    }

    #[test]
    fn a_directory_names_the_files_of_its_tables() {
        let toc = [header(14, 3, 1), entry(14, 2, "TABLE DATA", "a", Some("3001.dat"))].concat();
        let tables = read(&toc, 10).unwrap();
        assert_eq!(tables[0].file.as_deref(), Some("3001.dat"));
    }

    #[test]
    fn another_version_is_told_apart_from_damage() {
        let mut later = dump(14);
        later[6] = 17;
        assert!(matches!(read(&later, 64), Err(CodecError::Unsupported { .. })));
        later[0] = b'x';
        assert!(matches!(read(&later, 64), Err(CodecError::Malformed { .. })));
    }

    #[test]
    fn a_long_row_is_the_same_in_pieces_and_whole() {
        let row = vec![b'x'; LONG_BYTES + 5];
        let mut whole = Rows::default();
        whole.feed(&[row.as_slice(), b"\nshort\n"].concat());
        let mut pieces = Rows::default();
        row.chunks(1000).for_each(|piece| pieces.feed(piece));
        pieces.feed(b"\n");
        pieces.row(b"short");
        assert_eq!(whole.finish().unwrap(), pieces.finish().unwrap());
        let mut cut = Rows::default();
        cut.feed(b"half");
        assert!(cut.finish().is_err());
    }

    proptest! {
        #[test]
        fn damage_gives_an_error_or_a_value(at in 0usize..2000, value: u8, piece in 1usize..300) {
            let mut bytes = dump(15);
            let length = bytes.len();
            bytes[at % length] = value;
            let _ = read(&bytes, piece);
        }
    }
}
