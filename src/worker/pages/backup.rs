//! A backup: what it holds, whether that is proven, and where it lies.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, Request, State};
use axum::response::Response;

use super::super::Worker;
use super::super::ask::Ask;
use super::super::fields::Fields;
use super::super::problem::Problem;
use super::super::routes::{Began, look, may, named};
use super::super::session::Visitor;
use super::sign::button;
use super::{Page, Part, to};
use crate::catalog::marks::Marks;
use crate::config::Role;
use crate::job;
use crate::manifest::Manifest;
use crate::report::page::{day_and_time, escape, put};
use crate::report::{self, bytes, thousands};

/// Objects that the page shows; the manifest has all.
const OBJECTS: usize = 500;

pub async fn page(
    State(worker): State<Arc<Worker>>,
    Extension(visitor): Extension<Visitor>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    may(&visitor.caller, Role::Viewer)?;
    let wanted = named(&name)?;
    let (report, manifest, marks) = look(&worker, async move |context| {
        let (report, manifest) = job::report::backup(context, &wanted, None).await?;
        let marks = context.marks.of(&manifest.name, &manifest.commit_id).await?;
        Ok((report, manifest, marks))
    })
    .await?;
    let mut body = String::new();
    put!(body, "<p class=\"trail\"><a href=\"/\">All backups</a> · <a href=\"#h-do\">Restore or verify it</a></p>");
    body.push_str(&report::backup_body(&report));
    marked(&marks, &mut body);
    objects(&manifest, &mut body);
    put!(
        body,
        "<section aria-labelledby=\"h-do\">\n<h2 id=\"h-do\">What can be done with it</h2>\n<div class=\"actions\">"
    );
    put!(body, "<a class=\"button\" href=\"/ui/restore?backup={}\">Restore from it</a>", manifest.name);
    if visitor.caller.role >= Role::Operator {
        let action = format!("/ui/backups/{}/verify", manifest.name);
        put!(body, "{}", button(&visitor, &action, "Verify it now", "second"));
    }
    put!(body, "</div>\n</section>");
    let title = format!("Backup {}", manifest.name);
    Ok(Page { title: &title, part: Part::Overview, head: String::new(), body }.answer(Some(&visitor)))
}

/// Reads every byte against the manifest, as an operation.
pub async fn verify(
    State(worker): State<Arc<Worker>>,
    Extension(visitor): Extension<Visitor>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    Fields::of_form(request).await?.sent_by(&visitor)?;
    may(&visitor.caller, Role::Operator)?;
    let (id, ask) = (job::new_run_id(&worker.context), Ask::Verify { backup: named(&name)? });
    worker.operations.begin(&worker.context, (&id, &visitor.caller.name), ask)?;
    let mut response = to(&format!("/ui/operations/{id}"));
    response.extensions_mut().insert(Began(id));
    Ok(response)
}

fn marked(marks: &Marks, out: &mut String) {
    let mut lines = Vec::new();
    if let Some(mark) = &marks.pinned {
        let until = mark.until.map_or("until it is unpinned".into(), |at| format!("until {}", day_and_time(at)));
        lines.push(format!("Pinned by {}: it is kept {until}.", mark.by));
    }
    if let Some(mark) = &marks.approved {
        lines.push(format!(
            "The change before which it was taken was verified by {} on {}.",
            mark.by,
            day_and_time(mark.at)
        ));
    }
    if let Some(mark) = &marks.condemned {
        lines.push(format!("Condemned on {}: it will be removed.", day_and_time(mark.at)));
    }
    for line in lines {
        put!(out, "<p><strong>{}</strong></p>", escape(&line));
    }
}

fn objects(manifest: &Manifest, out: &mut String) {
    let count = manifest.objects().count();
    put!(out, "<section aria-labelledby=\"h-objects\">\n<h2 id=\"h-objects\">Objects</h2>");
    put!(out, "<details><summary>{} objects with their checksums</summary>", thousands(count as u64));
    put!(out, "<div class=\"scroll\" tabindex=\"0\"><table id=\"objects\">");
    put!(
        out,
        "<thead><tr><th scope=\"col\">Object</th><th scope=\"col\" class=\"n\">Rows</th><th scope=\"col\" class=\"n\">Size</th><th scope=\"col\">SHA-256</th></tr></thead>\n<tbody>"
    );
    for object in manifest.objects().take(OBJECTS) {
        let digests = object.in_store();
        put!(
            out,
            "<tr><th scope=\"row\"><code>{}</code></th><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"long\"><code>{}</code></td></tr>",
            escape(&object.key),
            object.row_count.map_or("–".into(), thousands),
            bytes(digests.size_bytes),
            digests.sha256_hex()
        );
    }
    put!(out, "</tbody></table></div>");
    if count > OBJECTS {
        put!(
            out,
            "<p>And {} more: <code>strongroom show --json {}</code> has all.</p>",
            thousands((count - OBJECTS) as u64),
            manifest.name
        );
    }
    put!(out, "</details>\n</section>");
}
