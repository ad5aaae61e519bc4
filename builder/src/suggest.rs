//! What a user may have meant by a word that is not known.

/// How alike two words must be (Jaro-Winkler, 0 to 1) for one to be suggested for the other: one letter wrong or
/// two swapped in a short word.
const ALIKE: f64 = 0.8;

/// "did you mean", if one of `known` is like `word`; otherwise all of them. `None` if there are none.
#[must_use]
pub fn suggest<S: AsRef<str>>(word: &str, known: &[S]) -> Option<String> {
    let likeness = |candidate: &str| strsim::jaro_winkler(word, candidate);
    let known: Vec<_> = known.iter().map(AsRef::as_ref).collect();
    let best = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    if likeness(best) >= ALIKE {
        return Some(format!("did you mean `{best}`?"));
    }
    let all: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
    Some(format!("known are {}", all.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_miss_is_suggested_and_otherwise_all_are_named() {
        assert_eq!(
            suggest("vresion", &["title", "version"]).as_deref(),
            Some("did you mean `version`?")
        );
        assert_eq!(suggest("kw", &["kv"]).as_deref(), Some("known are `kv`"));
        assert_eq!(
            suggest("xyz", &["title", "version"]).as_deref(),
            Some("known are `title`, `version`")
        );
        assert_eq!(suggest::<&str>("a", &[]), None);
    }
}
