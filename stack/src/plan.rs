//! What is to be done so that what runs is what was asked for: a pure function.
//!
//! | wanted | there | runs | what is done |
//! | --- | --- | --- | --- |
//! | yes | as wanted | yes | nothing |
//! | yes | as wanted | no | it is started, with its disk |
//! | yes | otherwise | - | it is replaced |
//! | yes | no | - | it is created |
//! | no | yes | - | it is removed |

/// An instance that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// Its service.
    pub service: String,
    /// Whether it is what is wanted under its name.
    pub is_current: bool,
    /// Whether it runs, or is about to again.
    pub runs: bool,
}

/// What is done with an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is as it should be.
    Keep,
    /// It is made and started.
    Create,
    /// It is started again, with its disk.
    Start,
    /// It is stopped and removed, made anew and started.
    Replace,
    /// It is stopped and removed.
    Remove,
}

/// A step of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The instance's name.
    pub name: String,
    /// Its service.
    pub service: String,
    /// What is done with it.
    pub action: Action,
}

/// Plans. `wanted` are names with their services, in the order in which they are to start; `found` is what there is.
///
/// First is what is removed, in the order in which [`stop_order`] has it; then all that is wanted, in its order.
#[must_use]
pub fn plan(wanted: &[(String, String)], found: &[Found], services: &[&str]) -> Vec<Step> {
    let is_wanted = |name: &str| wanted.iter().any(|(wanted, _)| wanted == name);
    let mut removed: Vec<_> = found.iter().filter(|found| !is_wanted(&found.name)).collect();
    removed.sort_by_key(|found| stop_order(services, &found.service));
    let removed = removed.into_iter().map(|found| Step {
        name: found.name.clone(),
        service: found.service.clone(),
        action: Action::Remove,
    });
    let kept = wanted.iter().map(|(name, service)| Step {
        name: name.clone(),
        service: service.clone(),
        action: match found.iter().find(|found| found.name == *name) {
            None => Action::Create,
            Some(found) if !found.is_current => Action::Replace,
            Some(found) if found.runs => Action::Keep,
            Some(_) => Action::Start,
        },
    });
    removed.chain(kept).collect()
}

/// The place of a service among those that are stopped: each before those that it depends on, and first of all what the
/// stack does not know any more, on which nothing that is left depends. `services` are in the order in which they start.
#[must_use]
pub fn stop_order(services: &[&str], service: &str) -> usize {
    let started = services.iter().position(|known| *known == service);
    started.map_or(0, |place| services.len() - place)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICES: [&str; 3] = ["kv", "db", "worker"];

    fn wanted(names: &[&str]) -> Vec<(String, String)> {
        let service = |name: &str| name.split('-').next().unwrap().to_owned();
        names
            .iter()
            .map(|name| ((*name).to_owned(), service(name)))
            .collect()
    }

    fn found(name: &str, is_current: bool, runs: bool) -> Found {
        Found {
            name: name.to_owned(),
            service: name.split('-').next().unwrap().to_owned(),
            is_current,
            runs,
        }
    }

    fn steps(wanted_names: &[&str], found: &[Found]) -> Vec<(String, Action)> {
        let steps = plan(&wanted(wanted_names), found, &SERVICES);
        steps.into_iter().map(|step| (step.name, step.action)).collect()
    }

    fn named(steps: &[(&str, Action)]) -> Vec<(String, Action)> {
        steps
            .iter()
            .map(|(name, action)| ((*name).to_owned(), *action))
            .collect()
    }

    #[test]
    fn what_is_not_there_is_created_in_order() {
        let all = ["kv-1", "db-1", "worker-1", "worker-2"];
        let expected = all.map(|name| (name.to_owned(), Action::Create));
        assert_eq!(steps(&all, &[]), expected);
    }

    #[test]
    fn a_second_time_nothing_is_done() {
        let all = ["kv-1", "db-1"];
        let there = all.map(|name| found(name, true, true));
        let expected = all.map(|name| (name.to_owned(), Action::Keep));
        assert_eq!(steps(&all, &there), expected);
    }

    #[test]
    fn only_what_changed_is_replaced_and_only_what_ended_is_started() {
        let there = [
            found("kv-1", true, false),
            found("db-1", false, true),
            found("worker-1", true, true),
        ];
        assert_eq!(
            steps(&["kv-1", "db-1", "worker-1"], &there),
            named(&[
                ("kv-1", Action::Start),
                ("db-1", Action::Replace),
                ("worker-1", Action::Keep)
            ])
        );
        // What ended and changed is no more worth than what runs and changed.
        assert_eq!(
            steps(&["kv-1"], &[found("kv-1", false, false)]),
            named(&[("kv-1", Action::Replace)])
        );
    }

    #[test]
    fn what_is_not_wanted_goes_first_and_the_last_service_first() {
        let there = ["db-1", "kv-1", "gone-1", "worker-1", "worker-2"].map(|name| found(name, true, true));
        assert_eq!(
            steps(&["worker-1"], &there),
            named(&[
                ("gone-1", Action::Remove),
                ("worker-2", Action::Remove),
                ("db-1", Action::Remove),
                ("kv-1", Action::Remove),
                ("worker-1", Action::Keep),
            ])
        );
    }

    /// Whatever is there: each name has one step, what is wanted is kept in its order, and carrying the plan out leaves
    /// nothing to do.
    #[test]
    fn any_plan_leads_to_what_is_wanted() {
        let names = ["kv-1", "db-1", "worker-1", "worker-2"];
        // For each name: whether it is wanted, and one of five ways to be there.
        for number in 0..10_usize.pow(4) {
            let choice = |place: usize| number / 10_usize.pow(place as u32) % 10;
            let wanted_names: Vec<_> = (0..4)
                .filter(|place| choice(*place) % 2 == 0)
                .map(|place| names[place])
                .collect();
            let there: Vec<_> = (0..4)
                .filter(|place| choice(*place) / 2 > 0)
                .map(|place| {
                    let way = choice(place) / 2 - 1;
                    found(names[place], way % 2 == 0, way / 2 == 0)
                })
                .collect();
            let steps = plan(&wanted(&wanted_names), &there, &SERVICES);
            let after: Vec<_> = steps
                .iter()
                .filter(|step| step.action != Action::Remove)
                .map(|step| found(&step.name, true, true))
                .collect();
            let again = plan(&wanted(&wanted_names), &after, &SERVICES);
            assert!(
                again.iter().all(|step| step.action == Action::Keep),
                "{number}: {again:?}"
            );
            let kept: Vec<_> = again.iter().map(|step| step.name.as_str()).collect();
            assert_eq!(kept, wanted_names, "{number}");
            assert!(
                there
                    .iter()
                    .all(|one| steps.iter().filter(|step| step.name == one.name).count() == 1)
            );
        }
    }
}
