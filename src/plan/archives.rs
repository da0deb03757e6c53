//! Which earlier archives a backup of files goes on referring to.

/// Archives that are referred to at most: a restore reads from all of them.
pub const MAX_ARCHIVES: usize = 100;

/// Whether each archive is kept, by the bytes of content that lie in it and those that are still needed.
///
/// One of which less than half is needed is not: its files are stored again, or the vault would fill with what nobody needs.
/// Of too many, those of which the least is needed are stored again.
pub fn kept(archives: &[(u64, u64)]) -> Vec<bool> {
    let worth = |(content, needed): &(u64, u64)| *needed > 0 && needed.saturating_mul(2) >= *content;
    let mut by_need: Vec<usize> = (0..archives.len()).filter(|at| worth(&archives[*at])).collect();
    by_need.sort_by_key(|at| std::cmp::Reverse(archives[*at].1));
    by_need.truncate(MAX_ARCHIVES - 1); // one more is about to be written
    (0..archives.len()).map(|at| by_need.contains(&at)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_of_which_little_is_needed_are_given_up() {
        assert_eq!(kept(&[(100, 100), (100, 50), (100, 49), (0, 0)]), [true, true, false, false]);
        let many: Vec<(u64, u64)> = (1..=150).map(|n| (n, n)).collect();
        let kept = kept(&many);
        assert_eq!(kept.iter().filter(|kept| **kept).count(), MAX_ARCHIVES - 1);
        assert!(!kept[0] && kept[149], "the least needed are stored again");
    }
}
