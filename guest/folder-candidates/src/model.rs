//! What a tree of files should be, and the calls that make it.

use std::collections::{BTreeMap, BTreeSet};

use crate::disk::{Disk, Event, Random};
use crate::systems::{Failure, Result, System};

/// Files have content, directories none.
pub type Tree = BTreeMap<String, Option<Vec<u8>>>;

/// The tree after a call.
#[derive(Clone, Default)]
pub struct Moment {
    pub tree: Tree,
    /// The file whose content the call changed.
    pub written: Option<String>,
}

const PATHS: [&str; 14] = [
    "/a", "/b", "/c", "/big", "/d/a", "/d/b", "/d/c", "/d/e", "/f/a", "/f/b", "/f/c", "/f/e", "/d/f", "/f/d",
];

/// Does `calls` calls, and says what the tree was after each, the first before all. Now and then all is made safe.
pub fn story<S: System>(
    system: &mut S,
    disk: &Disk,
    calls: usize,
    random: &mut Random,
) -> Result<Vec<Moment>> {
    let mut moments = vec![Moment::default()];
    for directory in ["/d", "/f"] {
        system.make_directory(directory)?;
        let mut next = moments[moments.len() - 1].clone();
        next.tree.insert(directory.to_owned(), None);
        moments.push(next);
        disk.note(Event::Done);
    }
    for _ in 0..calls {
        let mut tree = moments[moments.len() - 1].tree.clone();
        let written = call(system, &mut tree, random)?;
        moments.push(Moment { tree, written });
        disk.note(Event::Done);
        if random.below(4) == 0 {
            system.sync()?;
            disk.note(Event::Safe);
        }
    }
    system.sync()?;
    disk.note(Event::Safe);
    Ok(moments)
}

fn call<S: System>(system: &mut S, tree: &mut Tree, random: &mut Random) -> Result<Option<String>> {
    let path = PATHS[random.below(PATHS.len())].to_owned();
    match random.below(6) {
        0 if tree.contains_key(&path) => {
            system.remove(&path)?;
            tree.remove(&path);
            Ok(None)
        }
        // As programs replace a file: a new one beside it, made safe or not, and then its name.
        1 | 2 if tree.contains_key(&path) => {
            let new = PATHS[random.below(PATHS.len())].to_owned();
            if new != path {
                system.rename(&path, &new)?;
                let content = tree.remove(&path).flatten();
                tree.insert(new, content);
            }
            Ok(None)
        }
        _ => {
            let longest = if path == "/big" { 400_000 } else { 30_000 };
            let old = tree.get(&path).cloned().flatten().unwrap_or_default();
            let offset = random.below(old.len() + 1);
            let data: Vec<u8> = (0..random.below(longest))
                .map(|_| random.below(255) as u8 + 1)
                .collect();
            let file = system.open(&path, true)?;
            system.write(file, offset as u64, &data)?;
            system.close(file)?;
            let mut content = old;
            content.resize(content.len().max(offset + data.len()), 0);
            content[offset..][..data.len()].copy_from_slice(&data);
            tree.insert(path.clone(), Some(content));
            Ok(Some(path))
        }
    }
}

/// All that a file system has.
pub fn content<S: System>(system: &mut S) -> Result<Tree> {
    let mut tree = Tree::new();
    let mut left = vec![String::new()];
    while let Some(directory) = left.pop() {
        for (name, size) in system.list(if directory.is_empty() { "/" } else { &directory })? {
            let path = format!("{directory}/{name}");
            let Some(size) = size else {
                left.push(path.clone());
                tree.insert(path, None);
                if tree.len() > 10_000 {
                    return Err(Failure::Other("no end of directories".to_owned()));
                }
                continue;
            };
            if size > 1 << 24 {
                return Err(Failure::Other(format!("a file of {size} bytes")));
            }
            let file = system.open(&path, false)?;
            let mut bytes = vec![0; size as usize];
            let mut done = 0;
            while done < bytes.len() {
                match system.read(file, done as u64, &mut bytes[done..])? {
                    0 => return Err(Failure::Other(format!("`{path}` ends early"))),
                    length => done += length,
                }
            }
            system.close(file)?;
            tree.insert(path, Some(bytes));
        }
    }
    Ok(tree)
}

/// What of a tree found is wrong, if the moments given are those that may be: a file that no call changed is as it was at
/// one of them, and of one whose content was changed it is open what it has.
pub fn wrong(found: &Tree, moments: &[Moment]) -> Option<String> {
    let written: BTreeSet<_> = moments[1..]
        .iter()
        .filter_map(|moment| moment.written.clone())
        .collect();
    // A name that came from another, whose content was open.
    let open = |path: &String| {
        written.contains(path)
            || !written.is_empty()
                && moments[1..].iter().any(|moment| {
                    moment.tree.get(path).is_some_and(|content| {
                        written.iter().any(|written| {
                            moments
                                .iter()
                                .any(|other| other.tree.get(written) == Some(content))
                        })
                    })
                })
    };
    let paths: BTreeSet<_> = moments
        .iter()
        .flat_map(|moment| moment.tree.keys())
        .chain(found.keys())
        .collect();
    for path in paths {
        let now = found.get(path);
        let allowed = moments.iter().any(|moment| match (moment.tree.get(path), now) {
            (Some(Some(_)), Some(Some(_))) if open(path) => true,
            (then, now) => then == now,
        });
        if !allowed {
            let what = match now {
                None => "is lost",
                Some(_) if moments.iter().all(|moment| !moment.tree.contains_key(path)) => {
                    "should not be there"
                }
                Some(_) => "has another content",
            };
            return Some(format!("`{path}` {what}"));
        }
    }
    None
}
