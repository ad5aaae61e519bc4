//! What a user may have meant by a word that is not known.

/// How alike two words must be (Jaro-Winkler, 0 to 1) for one to be suggested for the other.
const ALIKE: f64 = 0.8;

/// The shortest word for which one letter that is wrong, missing or swapped with the next is a slip, whatever
/// Jaro-Winkler says: it sees nothing in common between `lbi` and `lib` but a letter.
const SHORTEST: usize = 3;

/// Most names that are listed; whoever has more looks them up elsewhere.
const MAX_LISTED: usize = 20;

/// "did you mean", if one of `known` is like `word`.
#[must_use]
pub fn did_you_mean<S: AsRef<str>>(word: &str, known: &[S]) -> Option<String> {
    let likeness = |candidate: &str| {
        let is_slip = word.chars().count() >= SHORTEST && strsim::osa_distance(word, candidate) == 1;
        let likeness = strsim::jaro_winkler(word, candidate);
        if is_slip { likeness.max(ALIKE) } else { likeness }
    };
    let known = known.iter().map(AsRef::as_ref);
    let best = known.max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) >= ALIKE).then(|| format!("did you mean `{best}`?"))
}

/// "did you mean", if one of `known` is like `word`; otherwise all of them. `None` if there are none.
#[must_use]
pub fn suggest<S: AsRef<str>>(word: &str, known: &[S]) -> Option<String> {
    if known.is_empty() {
        return None;
    }
    let all = || {
        let listed = known.iter().take(MAX_LISTED);
        let names: Vec<_> = listed.map(|name| format!("`{}`", name.as_ref())).collect();
        let more = known.len().saturating_sub(MAX_LISTED);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        format!("known are {}{more}", names.join(", "))
    };
    Some(did_you_mean(word, known).unwrap_or_else(all))
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
        assert_eq!(
            suggest("lbi", &["app", "lib"]).as_deref(),
            Some("did you mean `lib`?")
        );
        assert_eq!(suggest("kw", &["kv"]).as_deref(), Some("known are `kv`"));
        assert_eq!(
            suggest("xyz", &["title", "version"]).as_deref(),
            Some("known are `title`, `version`")
        );
        assert_eq!(suggest::<&str>("a", &[]), None);
    }
}
