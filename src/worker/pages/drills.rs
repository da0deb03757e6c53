//! The drills that there were, and the page of each.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;

use super::super::Worker;
use super::super::problem::Problem;
use super::super::routes::{look, may};
use super::super::session::Visitor;
use super::{Page, Part};
use crate::config::Role;
use crate::job::drill;
use crate::report::page::{day_and_time, escape, put};
use crate::report::{self, DrillLine, Outcome, duration};

pub async fn list(
    State(worker): State<Arc<Worker>>,
    Extension(visitor): Extension<Visitor>,
) -> Result<Response, Problem> {
    may(&visitor.caller, Role::Viewer)?;
    let drills = look(&worker, async |context| drill::past(context).await).await?;
    let mut body = String::from("<h1>Drills</h1>\n");
    put!(
        body,
        "<p class=\"of\">Rehearsals of disasters beside the real data: what was restored, whether it was the same, and how long it took.</p>"
    );
    if drills.is_empty() {
        put!(body, "<p>There was none yet: <code>strongroom drill</code> runs one.</p>");
    } else {
        table(&drills, &mut body);
    }
    Ok(Page { title: "Drills", part: Part::Drills, head: String::new(), body }.answer(Some(&visitor)))
}

pub async fn page(
    State(worker): State<Arc<Worker>>,
    Extension(visitor): Extension<Visitor>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    may(&visitor.caller, Role::Viewer)?;
    let report = look(&worker, async move |context| drill::stored(context, Some(&name)).await).await?;
    let body = report::drill_body(&report);
    Ok(Page { title: &report.title, part: Part::Drills, head: String::new(), body }.answer(Some(&visitor)))
}

/// Drills, the last one first.
pub fn table(drills: &[DrillLine], out: &mut String) {
    put!(out, "<table class=\"stack\" id=\"drills\">");
    put!(
        out,
        "<thead><tr><th scope=\"col\">Drill</th><th scope=\"col\">On</th><th scope=\"col\">Outcome</th><th scope=\"col\" class=\"n\">Full recovery</th></tr></thead>\n<tbody>"
    );
    for drill in drills.iter().rev() {
        let (mark, class) = match drill.outcome {
            Outcome::Passed => ("passed", "good"),
            Outcome::Late => ("passed, too slow", "late"),
            Outcome::Failed => ("FAILED", "bad"),
            Outcome::NotFinished => ("NOT FINISHED", "bad"),
        };
        put!(
            out,
            "<tr><th scope=\"row\"><a href=\"/ui/drills/{}\">{}</a></th><td data-label=\"On\">{}</td><td class=\"mark {class}\" data-label=\"Outcome\">{mark}</td><td class=\"n\" data-label=\"Full recovery\">{}</td></tr>",
            escape(&drill.drill),
            drill.scenario.title(),
            day_and_time(drill.started_at),
            drill.full_ms.map_or("not measured".into(), |ms| duration(jiff::SignedDuration::from_millis(ms)))
        );
    }
    put!(out, "</tbody></table>");
}
