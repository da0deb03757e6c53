//! The copy policy of a tier (3-2-1): how many copies, on how many kinds of storage, how many of them elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::Refusal;
use super::facts::DestinationFacts;
use crate::config::{CopyPolicy, Destination, Tier};
use crate::model::TierName;

/// What a set of places comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Standing {
    pub copies: u32,
    pub kinds: u32,
    pub offsite: u32,
}

impl Standing {
    pub fn of<'a>(destinations: impl IntoIterator<Item = &'a Destination>) -> Self {
        let (mut standing, mut kinds) = (Self::default(), BTreeSet::new());
        for destination in destinations {
            standing.copies += 1;
            standing.offsite += u32::from(destination.is_offsite());
            kinds.insert(destination.place.kind());
        }
        Self { kinds: u32::try_from(kinds.len()).unwrap_or(u32::MAX), ..standing }
    }

    /// What is missing to a policy, in words; empty when it is met.
    pub fn shortfall(self, policy: CopyPolicy) -> Vec<String> {
        let wanted = [
            (self.copies, policy.count, "copies"),
            (self.kinds, policy.kinds, "kinds of storage"),
            (self.offsite, policy.offsite, "places offsite"),
        ];
        let short = wanted.into_iter().filter(|(found, wanted, _)| found < wanted);
        short.map(|(found, wanted, what)| format!("{found} of {wanted} {what}")).collect()
    }
}

/// What is lost by one event: as the configuration says, or the kind of storage and its location.
pub fn domain(destination: &Destination, location: Option<&str>) -> String {
    match (&destination.domain, location) {
        (Some(domain), _) => domain.clone(),
        (None, Some(location)) if destination.place.kind() != location => {
            format!("{} in {}", destination.place.kind(), location.to_uppercase())
        }
        (None, _) => destination.place.kind().into(),
    }
}

/// Holds a tier's destinations against its policy, and against each other.
pub(super) fn check(
    (name, tier): (&TierName, &Tier),
    facts: &[DestinationFacts],
    refusals: &mut Vec<Refusal>,
    notes: &mut Vec<String>,
) {
    let short = Standing::of(&tier.destinations).shortfall(tier.copies);
    if !short.is_empty() {
        let message = format!("asks for more than its destinations give: {}", short.join(", "));
        let hint = "add a destination, say `offsite = true` of one that is, or lower `copies`";
        refusals.push(Refusal::new(format!("tiers.{name}.copies"), message, hint));
    }
    let mut seen: BTreeMap<String, &Destination> = BTreeMap::new();
    for destination in &tier.destinations {
        let found = facts.iter().find(|facts| facts.place == destination.place);
        let domain = domain(destination, found.and_then(|facts| facts.location.as_deref()));
        match seen.get(&domain) {
            Some(other) => notes.push(format!(
                "{} and {} are in one failure domain ({domain}): what takes one may take the other; hint: another location, or \
                 `domain` of the destination, if it is not so",
                other.place, destination.place
            )),
            None => drop(seen.insert(domain, destination)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(texts: &[&str]) -> Vec<Destination> {
        texts.iter().map(|text| Destination::from(text.parse::<crate::model::Place>().unwrap())).collect()
    }

    #[test]
    fn copies_kinds_and_places_offsite_are_counted() {
        let policy = CopyPolicy { count: 3, kinds: 2, offsite: 1 };
        for (texts, expected) in [
            (&["gs://aaa", "s3://bbb", "/ccc"][..], &[][..]),
            (&["gs://aaa", "gs://bbb", "gs://ccc"], &["1 of 2 kinds of storage"]),
            (&["/aaa", "/bbb"], &["2 of 3 copies", "1 of 2 kinds of storage", "0 of 1 places offsite"]),
        ] {
            assert_eq!(Standing::of(&places(texts)).shortfall(policy), expected, "{texts:?}");
        }
        let mut near = places(&["gs://aaa", "/bbb", "/ccc"]);
        near[0].offsite = Some(false);
        assert_eq!(Standing::of(&near).shortfall(policy), ["0 of 1 places offsite"]);
        near[2].offsite = Some(true);
        assert_eq!(Standing::of(&near).shortfall(policy), Vec::<String>::new());
        assert_eq!(Standing::of(&places(&["gs://aaa"])).shortfall(CopyPolicy::default()), Vec::<String>::new());
    }

    #[test]
    fn a_domain_is_a_kind_in_a_location_unless_said_otherwise() {
        let mut places = places(&["gs://aaa", "/ccc"]);
        assert_eq!(domain(&places[0], Some("us")), "gcs in US");
        assert_eq!(domain(&places[0], None), "gcs");
        assert_eq!(domain(&places[1], Some("local")), "local");
        places[1].domain = Some("the other building".into());
        assert_eq!(domain(&places[1], Some("local")), "the other building");
    }
}
