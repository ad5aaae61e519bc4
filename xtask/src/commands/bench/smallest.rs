//! The smallest memory with which a guest serves.

/// The least number of megabytes in `1..=most` for which `serves` holds, by bisection: a guest that serves with
/// some memory serves with more. `None` if it does not serve with the most.
pub(super) fn smallest<E>(
    most: u32,
    mut serves: impl FnMut(u32) -> Result<bool, E>,
) -> Result<Option<u32>, E> {
    if !serves(most)? {
        return Ok(None);
    }
    let (mut too_few, mut enough) = (0, most);
    while enough - too_few > 1 {
        let middle = too_few + (enough - too_few) / 2;
        if serves(middle)? {
            enough = middle;
        } else {
            too_few = middle;
        }
    }
    Ok(Some(enough))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    #[test]
    fn finds_the_threshold_wherever_it_lies() {
        for threshold in 1..=64 {
            let mut asked = 0;
            let found = smallest::<Infallible>(64, |megabytes| {
                asked += 1;
                Ok(megabytes >= threshold)
            });
            assert_eq!(found, Ok(Some(threshold)));
            assert!(asked <= 7, "{asked}");
        }
        assert_eq!(smallest::<Infallible>(64, |_| Ok(false)), Ok(None));
    }
}
