//! "Did you mean": the closest of the names that would have been right.

/// The candidate that `name` is most likely a misspelling of, if any is close: at most one edit in three letters away, or one edit from a name of
/// two.
///
/// Ties go to the first, so the answer does not depend on anything but the order of the candidates.
pub fn closest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Comparison takes time in the product of the lengths; what is longer than any name is no misspelling of one.
    if name.len() > 100 {
        return None;
    }
    let length = name.chars().count();
    // One edit of a name of one letter leaves nothing of it.
    let allowed = (length / 3).max(1).min(length.saturating_sub(1));
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= 100)
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn distance(a: &str, b: &str) -> usize {
    strsim::damerau_levenshtein(&a.to_lowercase(), &b.to_lowercase())
}

/// `; did you mean `x`?`, or nothing.
pub(crate) fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_near_misses_alone() {
        let names = ["softmax", "softcap", "dot", "q", "k"];
        assert_eq!(closest("sofmtax", names), Some("softmax"));
        assert_eq!(closest("Softmax", names), Some("softmax"));
        assert_eq!(closest("dto", names), Some("dot"));
        assert_eq!(closest("rotate", names), None);
        assert_eq!(closest("x", names), None);
        assert_eq!(closest("qq", names), Some("q"));
        assert_eq!(closest(&"q".repeat(1000), names), None);
    }
}
