//! The record of a tree of files.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::record::ObjectRecord;
use super::streamed::{Item, StreamedRecord};

/// A tree of files: an index, and the archives in which the files lie that it names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FilesRecord {
    pub name: String,
    /// The folder that was backed up, as a path of the machine that it lies on.
    pub root: String,
    /// The permission bits of that folder, in octal.
    pub root_mode: String,
    pub taken_at: Timestamp,
    /// When every file was last read, whatever its times said.
    pub read_in_full_at: Timestamp,
    /// A line for each entry of the tree; see FORMAT.md.
    pub index: ObjectRecord,
    /// In the order in which the index numbers them. The last may be this backup's own, the others are earlier backups'.
    pub archives: Vec<ArchiveRecord>,
    pub file_count: u64,
    pub folder_count: u64,
    pub symlink_count: u64,
    /// Of all files; each name of a file with more than one counts once.
    pub content_bytes: u64,
    /// What of that this backup stored itself.
    pub stored_bytes: u64,
    pub stored_count: u64,
    /// The files themselves, where they are few: for people and their scripts. The index has them all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<ListedFile>,
    /// What a person should know: files that were changed while they were read, databases among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A tar in zstd frames.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArchiveRecord {
    pub object: ObjectRecord,
    /// The content that lies in it ...
    pub content_bytes: u64,
    /// ... and what of that this backup needs.
    pub needed_bytes: u64,
}

/// A file, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedFile {
    /// Below the root; what is not UTF-8 in it is replaced.
    pub path: String,
    pub size_bytes: u64,
    /// SHA-256 of the content, in hex.
    pub sha256: String,
}

impl FilesRecord {
    /// Trees of more files are listed in their index only.
    pub const LISTED_AT_MOST: usize = 1000;
}

impl StreamedRecord for FilesRecord {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "files"
    }

    fn origin(&self) -> &str {
        &self.root
    }

    fn taken_at(&self) -> Timestamp {
        self.taken_at
    }

    fn objects(&self) -> Vec<&ObjectRecord> {
        std::iter::once(&self.index).chain(self.archives.iter().map(|archive| &archive.object)).collect()
    }

    fn items(&self) -> Vec<Item> {
        let plural = |n: u64, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let mut remark = vec![plural(self.file_count, "file"), plural(self.folder_count, "folder")];
        if self.symlink_count > 0 {
            remark.push(plural(self.symlink_count, "symbolic link"));
        }
        remark.push(format!("{} stored by this backup", plural(self.stored_count, "file")));
        vec![Item {
            name: self.root.clone(),
            row_count: None,
            size_bytes: Some(self.content_bytes),
            proven: Some(true),
            remark: remark.join(", "),
        }]
    }
}
