//! Reports of drills: `_strongroom/drills/{drill}/report.{json,html}`, below the home's root.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use super::OWN_FOLDER;
use crate::model::Failure;
use crate::store::Store;

/// How many reports are read at once.
const PARALLEL: usize = 8;

fn folder(drill: &str) -> String {
    format!("{OWN_FOLDER}/drills/{drill}")
}

/// Stores a drill's report: first the page, then the document, which makes it listed.
///
/// # Errors
/// When the store cannot be written; `Exists` when there is one.
pub async fn store(home: &dyn Store, drill: &str, document: Bytes, page: Bytes) -> Result<String, Failure> {
    let folder = folder(drill);
    home.put(&format!("{folder}/report.html"), page).await?;
    home.put_if_absent(&format!("{folder}/report.json"), document).await?;
    Ok(format!("{}/{folder}", home.describe()))
}

/// The names of all drills, the oldest first: a name begins with the time.
///
/// # Errors
/// When the store cannot be listed.
pub async fn names(home: &dyn Store) -> Result<Vec<String>, Failure> {
    let folders = home.list_prefixes(&format!("{OWN_FOLDER}/drills/")).await?;
    let mut names: Vec<String> =
        folders.iter().filter_map(|folder| folder.trim_end_matches('/').rsplit('/').next()).map(String::from).collect();
    names.sort();
    Ok(names)
}

/// The documents of these drills, in order; one that was not finished writing is left out.
///
/// # Errors
/// When the store cannot be read.
pub async fn documents(home: &dyn Store, drills: &[String]) -> Result<Vec<Bytes>, Failure> {
    stream::iter(drills)
        .map(|drill| async move {
            match home.get(&format!("{}/report.json", folder(drill))).await {
                Ok((bytes, _)) => Ok(Some(bytes)),
                Err(Failure::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        })
        .buffered(PARALLEL)
        .try_filter_map(|found| async move { Ok(found) })
        .try_collect()
        .await
}
