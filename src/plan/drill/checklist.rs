//! The checklist after a recovery: what the drill has seen for itself, and what a person must tick.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Something that must be so after a recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Point {
    Rows,
    Dates,
    Attribution,
    Costs,
    Pipeline,
    Health,
    Dashboards,
    Freshness,
    Keys,
    Permissions,
    Access,
    Secrets,
    Finance,
    Reports,
    Allocation,
    Operations,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Area {
    DataIntegrity,
    SystemFunction,
    Security,
    BusinessContinuity,
}

impl Area {
    pub const ALL: [Self; 4] = [Self::DataIntegrity, Self::SystemFunction, Self::Security, Self::BusinessContinuity];

    pub const fn title(self) -> &'static str {
        match self {
            Self::DataIntegrity => "Data integrity",
            Self::SystemFunction => "System function",
            Self::Security => "Security",
            Self::BusinessContinuity => "Business continuity",
        }
    }
}

/// A line of the checklist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    pub point: Point,
    pub area: Area,
    pub text: String,
    pub state: ItemState,
    /// What was seen; for a person's own line, where to look.
    pub evidence: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemState {
    /// Seen by the drill itself.
    Passed,
    Failed,
    /// A person must look and tick.
    ByHand,
}

/// What a drill has seen, by point.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    seen: BTreeMap<Point, (bool, Vec<String>)>,
    /// Where a person should look, better than the general advice.
    look: BTreeMap<Point, String>,
}

impl Evidence {
    /// Adds something seen; one failure fails the point.
    pub fn add(&mut self, point: Point, passed: bool, what: impl Into<String>) {
        let entry = self.seen.entry(point).or_insert((true, vec![]));
        entry.0 &= passed;
        entry.1.push(what.into());
    }

    /// Leaves the point to a person, and tells what to look at.
    pub fn look(&mut self, point: Point, what: impl Into<String>) {
        self.look.insert(point, what.into());
    }
}

/// Point, area, what must be so, and where a person looks.
const POINTS: [(Point, Area, &str, &str); 16] = [
    (Point::Rows, Area::DataIntegrity, "Every table has the rows that were backed up", "compare the row counts"),
    (Point::Dates, Area::DataIntegrity, "No day is missing", "look for gaps in the days of usage"),
    (
        Point::Attribution,
        Area::DataIntegrity,
        "The share of usage that belongs to a known user is as before",
        "compare the shares with last month's report",
    ),
    (
        Point::Costs,
        Area::DataIntegrity,
        "Cost totals are the known ones",
        "compare the totals with a report from before the loss",
    ),
    (Point::Pipeline, Area::SystemFunction, "Ingestion runs", "run the daily job once and read its log"),
    (Point::Health, Area::SystemFunction, "Every service answers its health check", "open the services' health pages"),
    (Point::Dashboards, Area::SystemFunction, "Dashboards load", "open every dashboard"),
    (
        Point::Freshness,
        Area::SystemFunction,
        "Dashboards show data as new as it should be",
        "read the refresh time on the dashboards",
    ),
    (Point::Keys, Area::Security, "API keys work and are in no other hands", "ask each provider's console"),
    (Point::Permissions, Area::Security, "Permissions are as they were", "compare the service accounts' roles"),
    (Point::Access, Area::Security, "Nobody has had access who should not", "read the audit log of the last days"),
    (Point::Secrets, Area::Security, "Every secret lies in Secret Manager", "compare with the list of secrets"),
    (Point::Finance, Area::BusinessContinuity, "Finance can open every dashboard", "ask a colleague of finance"),
    (Point::Reports, Area::BusinessContinuity, "Reports come out with the right figures", "run the monthly report"),
    (
        Point::Allocation,
        Area::BusinessContinuity,
        "Costs are allocated as expected",
        "compare the allocation with last month's",
    ),
    (
        Point::Operations,
        Area::BusinessContinuity,
        "People can do their usual work",
        "ask two users for their usual tasks",
    ),
];

/// The checklist with what was seen filled in.
pub fn fill(evidence: &Evidence) -> Vec<Item> {
    let fill = |(point, area, text, by_hand): (Point, Area, &str, &str)| {
        let (state, seen) = match evidence.seen.get(&point) {
            Some((true, seen)) => (ItemState::Passed, seen.join("; ")),
            Some((false, seen)) => (ItemState::Failed, seen.join("; ")),
            None => (ItemState::ByHand, evidence.look.get(&point).cloned().unwrap_or_else(|| by_hand.into())),
        };
        Item { point, area, text: text.into(), state, evidence: seen }
    };
    POINTS.into_iter().map(fill).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_saw_is_a_persons() {
        let mut evidence = Evidence::default();
        evidence.add(Point::Rows, true, "5 tables");
        evidence.add(Point::Costs, true, "per month");
        evidence.add(Point::Costs, false, "per platform: 1, recorded was 2");
        let items = fill(&evidence);
        let state = |point| items.iter().find(|item| item.point == point).unwrap().state;
        assert_eq!(
            (state(Point::Rows), state(Point::Costs), state(Point::Finance)),
            (ItemState::Passed, ItemState::Failed, ItemState::ByHand)
        );
        for area in Area::ALL {
            assert_eq!(items.iter().filter(|item| item.area == area).count(), 4, "{area:?}");
        }
    }
}
