//! The search for versions that go together.
//!
//! Packages are decided one after another, in the order in which they are found: those that the package itself
//! requires, in the order of its manifest, then those that these require. Each takes the best candidate that goes
//! together with what is decided already; where none does, the decision before is taken back. The first fault that
//! was met, on the way of the best candidates, is the one that is told.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::{PackageSource, ResolveError};
use crate::manifest::{Manifest, PackageName, Requirement};

/// Most decisions that are tried. With the few versions that a repository has, hundreds are many; real conflicts
/// are found long before.
const MAX_STEPS: usize = 20_000;

/// Most packages of an image: more than any has, and the search is recursive.
const MAX_PACKAGES: usize = 256;

/// A version of a package, and the index of its source.
struct Candidate {
    manifest: Manifest,
    origin: Option<usize>,
}

/// A decision.
struct Chosen {
    candidate: Rc<Candidate>,
    /// The decision whose package required this one first; the first decision has none.
    by: Option<usize>,
}

impl Chosen {
    fn name(&self) -> &PackageName {
        &self.candidate.manifest.name
    }

    fn require(&self) -> &[Requirement] {
        &self.candidate.manifest.require
    }
}

struct Search<'a> {
    sources: &'a [&'a dyn PackageSource],
    candidates: BTreeMap<PackageName, Rc<[Rc<Candidate>]>>,
    chosen: Vec<Chosen>,
    steps: usize,
    fault: Option<ResolveError>,
}

/// All packages in their order, each with the index of its source.
pub(super) fn search(
    package: Manifest,
    sources: &[&dyn PackageSource],
) -> Result<Vec<(Manifest, Option<usize>)>, ResolveError> {
    let manifest = Rc::new(Candidate {
        manifest: package,
        origin: None,
    });
    let mut search = Search {
        sources,
        candidates: BTreeMap::new(),
        chosen: vec![],
        steps: 0,
        fault: None,
    };
    if search.decide(manifest, None) && search.extend()? {
        return Ok(search.in_order());
    }
    Err(search.fault.unwrap_or(ResolveError::TooHard(search.steps)))
}

impl Search<'_> {
    /// Decides all that is required and not decided. If that fails, nothing has changed but the fault.
    fn extend(&mut self) -> Result<bool, ResolveError> {
        let Some((by, requirement)) = self.undecided() else {
            return Ok(true);
        };
        if self.chosen.len() == MAX_PACKAGES {
            return Err(ResolveError::TooMany(MAX_PACKAGES));
        }
        let candidates = self.candidates(&requirement.name)?;
        if candidates.is_empty() {
            self.note(|search| search.missing(by, &requirement));
            return Ok(false);
        }
        let asked = self.asked_of(&requirement.name);
        let mut fits = false;
        for candidate in candidates.iter() {
            let version = candidate.manifest.version.as_ref();
            if !asked.iter().all(|(_, requirement)| requirement.fits(version)) {
                continue;
            }
            fits = true;
            self.steps += 1;
            if self.steps > MAX_STEPS {
                return Err(ResolveError::TooHard(MAX_STEPS));
            }
            if self.decide(candidate.clone(), Some(by)) {
                if self.extend()? {
                    return Ok(true);
                }
                self.chosen.pop();
            }
        }
        if !fits {
            self.note(|search| search.conflict(&requirement.name, &candidates, &asked));
        }
        Ok(false)
    }

    /// The first requirement of a package that is not decided, and whose it is.
    fn undecided(&self) -> Option<(usize, Requirement)> {
        let all = self.chosen.iter().enumerate();
        let mut all = all.flat_map(|(by, chosen)| chosen.require().iter().map(move |other| (by, other)));
        all.find(|(_, other)| self.find(&other.name).is_none())
            .map(|(by, other)| (by, other.clone()))
    }

    fn find(&self, name: &PackageName) -> Option<usize> {
        self.chosen.iter().position(|chosen| chosen.name() == name)
    }

    /// What the packages that are decided ask of one, and whose each is.
    fn asked_of(&self, name: &PackageName) -> Vec<(usize, Requirement)> {
        let all = self.chosen.iter().enumerate();
        all.flat_map(|(by, chosen)| chosen.require().iter().map(move |other| (by, other)))
            .filter(|(_, other)| other.name == *name)
            .map(|(by, other)| (by, other.clone()))
            .collect()
    }

    /// Decides for a candidate, if what it requires goes together with what is decided.
    fn decide(&mut self, candidate: Rc<Candidate>, by: Option<usize>) -> bool {
        self.chosen.push(Chosen { candidate, by });
        let last = self.chosen.len() - 1;
        for requirement in self.chosen[last].require() {
            let Some(other) = self.find(&requirement.name) else {
                continue;
            };
            if self.reaches(other, last) {
                let fault = self.cycle(last, other, requirement);
                self.fault.get_or_insert(fault);
            } else if !requirement.fits(self.chosen[other].candidate.manifest.version.as_ref()) {
                let there = [self.chosen[other].candidate.clone()];
                let candidates = self
                    .candidates
                    .get(&requirement.name)
                    .map_or(&there[..], |all| all);
                let fault = self.conflict(&requirement.name, candidates, &self.asked_of(&requirement.name));
                self.fault.get_or_insert(fault);
            } else {
                continue;
            }
            self.chosen.pop();
            return false;
        }
        true
    }

    /// Whether a package requires another, itself or through others; each reaches itself.
    fn reaches(&self, from: usize, to: usize) -> bool {
        let mut seen = BTreeSet::from([from]);
        let mut left = vec![from];
        while let Some(at) = left.pop() {
            if at == to {
                return true;
            }
            let next = self.chosen[at].require().iter();
            let next = next.filter_map(|requirement| self.find(&requirement.name));
            left.extend(next.filter(|next| seen.insert(*next)));
        }
        false
    }

    /// All versions of a package, the best first.
    fn candidates(&mut self, name: &PackageName) -> Result<Rc<[Rc<Candidate>]>, ResolveError> {
        if let Some(known) = self.candidates.get(name) {
            return Ok(known.clone());
        }
        let mut all: Vec<Rc<Candidate>> = vec![];
        for (origin, source) in self.sources.iter().enumerate() {
            let mut found = source.candidates(name).map_err(|source| ResolveError::Source {
                name: name.clone(),
                source,
            })?;
            found.retain(|manifest| manifest.name == *name);
            found.sort_by(|a, b| b.version.cmp(&a.version));
            for manifest in found {
                if all
                    .iter()
                    .all(|better| better.manifest.version != manifest.version)
                {
                    let origin = Some(origin);
                    all.push(Rc::new(Candidate { manifest, origin }));
                }
            }
        }
        let all: Rc<[_]> = all.into();
        self.candidates.insert(name.clone(), all.clone());
        Ok(all)
    }

    /// Keeps the first fault.
    fn note(&mut self, fault: impl FnOnce(&Self) -> ResolveError) {
        if self.fault.is_none() {
            self.fault = Some(fault(self));
        }
    }

    /// The decisions that lead to one, the package itself first.
    fn way_to(&self, mut at: usize) -> Vec<usize> {
        let mut way = vec![at];
        while let Some(by) = self.chosen[at].by {
            way.push(by);
            at = by;
        }
        way.reverse();
        way
    }

    /// `app -> a 1.2 -> lib@^2`
    fn chain(&self, by: usize, requirement: &Requirement) -> String {
        let step = |at: &usize| {
            let manifest = &self.chosen[*at].candidate.manifest;
            match &manifest.version {
                Some(version) if *at != 0 => format!("{} {version} -> ", manifest.name),
                _ => format!("{} -> ", manifest.name),
            }
        };
        let way: String = self.way_to(by).iter().map(step).collect();
        format!("{way}{requirement}")
    }

    fn missing(&self, by: usize, requirement: &Requirement) -> ResolveError {
        let known: BTreeSet<_> = self.sources.iter().flat_map(|source| source.names()).collect();
        ResolveError::Missing {
            name: requirement.name.clone(),
            chain: self.chain(by, requirement),
            place: Box::new(requirement.place.clone()),
            known: known.into_iter().collect(),
        }
    }

    fn conflict(
        &self,
        name: &PackageName,
        candidates: &[Rc<Candidate>],
        asked: &[(usize, Requirement)],
    ) -> ResolveError {
        let version = |candidate: &Rc<Candidate>| match &candidate.manifest.version {
            Some(version) => version.to_string(),
            None => "one without a version".to_owned(),
        };
        let chain = |(by, requirement): &(usize, Requirement)| self.chain(*by, requirement);
        ResolveError::Conflict {
            name: name.clone(),
            versions: candidates.iter().map(version).collect(),
            chains: asked.iter().map(chain).collect(),
            place: Box::new(
                asked
                    .last()
                    .map_or_else(Default::default, |(_, last)| last.place.clone()),
            ),
        }
    }

    /// The circle that a requirement of the last decision closes.
    fn cycle(&self, last: usize, other: usize, requirement: &Requirement) -> ResolveError {
        let mut way = self.way_to(last);
        // Where the other is not on the way to the last, the circle goes on from it.
        let mut at = other;
        while !way.contains(&at) {
            way.push(at);
            let next = self.chosen[at].require().iter();
            let mut next = next.filter_map(|requirement| self.find(&requirement.name));
            at = next.find(|next| self.reaches(*next, last)).unwrap_or(last);
        }
        way.push(at);
        let names: Vec<_> = way.iter().map(|at| self.chosen[*at].name().as_str()).collect();
        ResolveError::Cycle {
            chain: names.join(" -> "),
            place: Box::new(requirement.place.clone()),
        }
    }

    /// Dependencies first, each package once.
    fn in_order(self) -> Vec<(Manifest, Option<usize>)> {
        let mut order = vec![];
        let mut seen = BTreeSet::new();
        self.visit(0, &mut seen, &mut order);
        let packages = order.into_iter().map(|at| {
            let candidate = &self.chosen[at].candidate;
            (candidate.manifest.clone(), candidate.origin)
        });
        packages.collect()
    }

    /// No deeper than there are packages.
    fn visit(&self, at: usize, seen: &mut BTreeSet<usize>, order: &mut Vec<usize>) {
        if !seen.insert(at) {
            return;
        }
        for requirement in self.chosen[at].require() {
            if let Some(other) = self.find(&requirement.name) {
                self.visit(other, seen, order);
            }
        }
        order.push(at);
    }
}
