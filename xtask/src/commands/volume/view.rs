//! Volumes and snapshots, as they are shown.

use launcher::volume::{Facts, Snapshot, User};
use serde_json::{Value, json};

use crate::table::{Align, Table, mebibytes};

/// A volume as JSON.
pub(super) fn volume(facts: &Facts) -> Value {
    let user = |user: &User| json!({ "instance": user.instance.as_str(), "read_only": user.read_only });
    json!({
        "name": facts.name.as_str(),
        "file": facts.file,
        "format": facts.format.name(),
        "size_bytes": facts.size,
        "on_disk_bytes": facts.on_disk,
        "snapshots": facts.snapshots,
        "users": facts.users.iter().map(user).collect::<Vec<_>>(),
    })
}

/// Volumes as a table.
pub(super) fn volumes(list: &[Facts]) -> Table<6> {
    let mut table = Table::new([
        ("NAME", Align::Left),
        ("SIZE", Align::Right),
        ("ON DISK", Align::Right),
        ("FORMAT", Align::Left),
        ("SNAPSHOTS", Align::Right),
        ("USED BY", Align::Left),
    ]);
    for facts in list {
        let user = |user: &User| format!("{}{}", user.instance, if user.read_only { ":ro" } else { "" });
        let users: Vec<_> = facts.users.iter().map(user).collect();
        table.row([
            facts.name.to_string(),
            size(facts.size),
            mebibytes(facts.on_disk),
            facts.format.name().to_owned(),
            facts.snapshots.to_string(),
            if users.is_empty() {
                "-".to_owned()
            } else {
                users.join(", ")
            },
        ]);
    }
    table
}

/// A snapshot as JSON.
pub(super) fn snapshot(snapshot: &Snapshot) -> Value {
    json!({
        "volume": snapshot.volume.as_str(),
        "name": snapshot.name.as_str(),
        "created": snapshot.created,
        "size_bytes": snapshot.size,
        "on_disk_bytes": snapshot.on_disk,
    })
}

/// Snapshots as a table.
pub(super) fn snapshots(list: &[Snapshot]) -> Table<4> {
    let mut table = Table::new([
        ("SNAPSHOT", Align::Left),
        ("CREATED", Align::Left),
        ("SIZE", Align::Right),
        ("ON DISK", Align::Right),
    ]);
    for snapshot in list {
        table.row([
            format!("{}@{}", snapshot.volume, snapshot.name),
            snapshot.created.to_string(),
            size(snapshot.size),
            mebibytes(snapshot.on_disk),
        ]);
    }
    table
}

fn size(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "-".to_owned(), mebibytes)
}
