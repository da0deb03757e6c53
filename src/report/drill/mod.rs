//! Reports of drills: the document, and what is made of it for people.

mod document;
mod page;
mod text;

pub use document::{DrillLine, DrillReport, Outcome, Signature, TableLine, VERSION};
pub use page::{body, page};
pub use text::{plan, text};

use crate::model::{ColumnTotals, Totals};
use crate::plan::drill::checklist::ItemState;

impl Outcome {
    /// The verdict in words for everybody.
    const fn verdict(self) -> &'static str {
        match self {
            Self::Passed => "Passed: everything came back, in time",
            Self::Late => "Passed, but an objective was missed",
            Self::Failed => "FAILED: not everything came back as it was",
            Self::NotFinished => "NOT FINISHED: a step failed, what was begun was taken back",
        }
    }

    const fn good(self) -> bool {
        matches!(self, Self::Passed | Self::Late)
    }
}

const fn state_word(state: ItemState) -> &'static str {
    match state {
        ItemState::Passed => "yes",
        ItemState::Failed => "NO",
        ItemState::ByHand => "to be ticked",
    }
}

/// The columns of a table with their sums before and after, as far as they have sums.
fn sums<'a>(
    before: Option<&'a Totals>,
    after: Option<&'a Totals>,
) -> impl Iterator<Item = (&'a ColumnTotals, Option<&'a ColumnTotals>)> {
    let columns = before.map(|totals| totals.columns.as_slice()).unwrap_or_default();
    columns.iter().filter(|column| column.sum.is_some()).map(move |column| {
        (column, after.and_then(|totals| totals.columns.iter().find(|found| found.name == column.name)))
    })
}

/// A length of time in the unit that suits a limit.
pub(super) fn milliseconds(ms: i64) -> String {
    super::duration(jiff::SignedDuration::from_millis(ms))
}

fn seconds(seconds: u64) -> String {
    let duration = jiff::SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
    match seconds {
        s if s > 86_400 && s.is_multiple_of(86_400) => format!("{} d", s / 86_400),
        s if s > 0 && s.is_multiple_of(3600) => format!("{} h", s / 3600),
        s if s > 0 && s.is_multiple_of(60) => format!("{} min", s / 60),
        _ => super::duration(duration),
    }
}
