//! The application as a whole: many pictures, large ones, services that die and come back.

use std::collections::BTreeMap;

use hermitage_suite::process::{self, Process};
use hermitage_suite::stack::{Service, Stack};
use hermitage_suite::{ask, picture, wait_for};

#[test]
fn twenty_pictures_at_once_with_three_workers_are_each_inverted_once_and_right() {
    let stack = Stack::start(3);
    let formats = ["png24", "png32", "png8", "png48", "png64"];
    let pictures: Vec<_> = (0..20)
        .map(|seed| picture::noise(seed, "160x120", formats[seed as usize % formats.len()]))
        .collect();
    let ids = stack.upload_all(&pictures);
    for (id, picture) in ids.iter().zip(&pictures) {
        stack.wait_state(*id, 2);
        assert!(
            picture::pixels(&stack.download(*id)) == picture::inverse(picture),
            "task {id} is not inverted right"
        );
    }
    let mut worked = BTreeMap::new();
    for line in stack.workers.iter().flat_map(Process::lines) {
        if let Some(id) = line.strip_prefix("Working on task ") {
            *worked
                .entry(id.parse::<u64>().expect("an id is a number"))
                .or_insert(0) += 1;
        }
    }
    let mut expected = ids.clone();
    expected.sort_unstable();
    assert_eq!(worked.keys().copied().collect::<Vec<_>>(), expected);
    assert!(worked.values().all(|times| *times == 1), "{worked:?}");
}

/// Two decoders of JPEG may round differently: each pixel may be off by a little, and is by less on average.
#[test]
fn a_jpeg_is_inverted_as_imagemagick_does_it_but_for_rounding() {
    let stack = Stack::start(1);
    let jpeg = picture::convert(
        b"",
        &[
            "-size",
            "320x240",
            "-seed",
            "1",
            "plasma:red-blue",
            "-quality",
            "95",
            "jpeg:-",
        ],
    );
    let id = stack.upload(&jpeg);
    stack.wait_state(id, 2);
    let (ours, theirs) = (picture::pixels(&stack.download(id)), picture::inverse(&jpeg));
    assert_eq!(ours.len(), theirs.len());
    let head = ours
        .iter()
        .position(|byte| *byte == b'\n')
        .expect("the size comes first")
        + 1;
    let value = |pair: &[u8]| i32::from(u16::from_le_bytes([pair[0], pair[1]])) / 257;
    let differences: Vec<_> = ours[head..]
        .chunks(2)
        .zip(theirs[head..].chunks(2))
        .map(|(ours, theirs)| (value(ours) - value(theirs)).abs())
        .collect();
    let sum: i32 = differences.iter().sum();
    assert!(differences.iter().all(|difference| *difference <= 4));
    assert!(f64::from(sum) < 0.5 * differences.len() as f64, "{sum}");
}

#[test]
fn a_worker_that_is_killed_in_the_middle_loses_nothing() {
    let mut stack = Stack::with_lease(1, "6");
    // Large enough that the worker is still at it when it is killed, and done in a fraction of a lease.
    let large = picture::noise(1, "1500x1000", "png24");
    let id = stack.upload(&large);
    let _ = stack.workers[0].line(&format!("Working on task {id}"));
    stack.workers[0].kill();
    assert!(!stack.workers[0].lines().contains(&"\tdone".to_owned()));
    assert_eq!(stack.state(id), 1);
    let worker = stack.add_worker();
    let _ = worker.line(&format!("Working on task {id}"));
    // That its lease ended once more, under load, is no failure.
    stack.wait_state(id, 2);
    assert!(picture::pixels(&stack.download(id)) == picture::inverse(&large));
}

#[test]
fn when_kv_is_restarted_the_others_find_each_other_again() {
    let mut kv = Service::kv_to_come();
    kv.start_kv();
    let mut stack = Stack::with_kv(kv, 1);
    let picture = picture::noise(1, "9x9", "png24");
    let id = stack.upload(&picture);
    stack.wait_state(id, 2);
    stack.kv.process().kill();
    // Those that know each other need no kv.
    let id = stack.upload(&picture);
    stack.wait_state(id, 2);
    stack.kv.start_kv();
    for key in ["/dbendpoint", "/storageendpoint", "/masterendpoint"] {
        wait_for(key, || (stack.kv.get(key).status == 200).then_some(()));
    }
    stack.workers.clear();
    stack.add_worker();
    let id = stack.upload(&picture);
    stack.wait_state(id, 2);
}

#[test]
fn services_wait_for_a_kv_that_comes_later() {
    let mut kv = Service::kv_to_come();
    let endpoint = kv.endpoint().to_owned();
    let storage = Process::start("storage", &[&endpoint], &[("PORT", "0")]);
    let worker = Process::start("worker", &[], &[("MICRO_KEYVALUESTORE_ENDPOINT", &endpoint)]);
    let _ = storage.line("Key-value store is not available");
    let _ = worker.line("Key-value store is not available");
    kv.start_kv();
    let _ = storage.line("Storage endpoint registered");
    let _ = storage.line("Storage is listening on ");
    let value = kv.process().line("storageendpoint=");
    assert!(!value.starts_with("0."), "{value}");
}

#[test]
fn an_address_to_advertise_is_registered_instead_of_the_own() {
    let kv = Service::kv();
    let environment = [("PORT", "0"), ("MICRO_ADVERTISE", "10.0.2.2:12345")];
    let _db = Process::start("db", &[kv.endpoint()], &environment);
    let found = wait_for("db", || {
        Some(kv.get("/dbendpoint")).filter(|answer| answer.status == 200)
    });
    assert_eq!(found.text(), "10.0.2.2:12345");
}

#[test]
fn without_a_kv_a_service_tells_how_it_is_used() {
    for name in ["db", "storage", "master", "worker", "ui"] {
        let output = process::run(name, &[], &[]);
        assert_eq!(output.status.code(), Some(64), "{name}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(
            text.ends_with(&format!("usage: {name} [KV_HOST:PORT]\n")),
            "{text}"
        );
        assert!(output.stdout.is_empty());
    }
    let output = process::run("db", &["127.0.0.1:1"], &[("MICRO_DB_LEASE", "long")]);
    assert_eq!(output.status.code(), Some(78));
}

#[test]
fn an_upload_of_32_mib_passes_through_and_is_held_once() {
    let mut stack = Stack::start(0);
    let large: Vec<u8> = (0..32 << 20)
        .map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let id = stack.upload(&large);
    assert!(stack.download(id) == large);
    // master holds no picture; storage holds it once.
    assert!(stack.master.process().peak_memory() < 16 << 20);
    assert!(stack.storage.process().peak_memory() < 48 << 20);
}

#[test]
fn an_upload_beyond_the_limit_is_too_large_and_leaves_no_task_behind() {
    let kv = Service::kv();
    let db = Service::db(kv.endpoint());
    let limit = [("MICRO_MAX_UPLOAD", "1")];
    let storage = Service::start("storage", kv.endpoint(), &limit, "Storage is listening on ");
    let master = Service::start("master", kv.endpoint(), &limit, "Master is listening on ");
    let (fits, large) = (vec![1; 1 << 20], vec![1; 5 << 20]);
    assert_eq!(master.upload("/task", &fits).status, 200);
    assert_eq!(master.upload("/task", &large).status, 413);
    assert_eq!(storage.upload("/upload/5", &large).status, 413);
    // In chunks, whose sum is known when it is there.
    let head = "POST /task HTTP/1.1\r\ncontent-type: multipart/form-data; boundary=b\r\ntransfer-encoding: chunked\r\n\r\n";
    let part = "--b\r\ncontent-disposition: form-data; name=\"image\"\r\n\r\n";
    let mut request = format!("{head}{:x}\r\n{part}\r\n", part.len()).into_bytes();
    for _ in 0..40 {
        request.extend(b"10000\r\n");
        request.extend([1; 0x10000]);
        request.extend(b"\r\n");
    }
    let reply = ask::raw(&master.url, &request);
    assert!(reply.starts_with("HTTP/1.1 413 "), "{reply}");
    wait_for("the task to fail", || {
        db.get("/task/1").text().contains(r#""state":3"#).then_some(())
    });
    assert_eq!(db.get("/task/2").status, 404);
}

#[test]
fn a_storage_that_is_full_says_so_and_serves_on() {
    let kv = Service::kv();
    let db = Service::db(kv.endpoint());
    let limit = [("MICRO_STORAGE_MEMORY", "2")];
    let storage = Service::start("storage", kv.endpoint(), &limit, "Storage is listening on ");
    let master = Service::master(kv.endpoint());
    let picture = vec![1; 1 << 20];
    assert_eq!(master.upload("/task", &picture).status, 200);
    assert_eq!(storage.upload("/upload/9", &vec![1; 3 << 20]).status, 507);
    let answer = master.upload("/task", &vec![1; 3 << 20]);
    assert_eq!(answer.status, 500);
    assert!(
        answer.text().starts_with("Error uploading image: "),
        "{}",
        answer.text()
    );
    assert!(db.get("/task/1").text().contains(r#""state":3"#));
    assert_eq!(storage.get("/download/0").body, picture);
}

#[test]
fn a_list_of_tasks_and_metrics_are_there() {
    let stack = Stack::start(0);
    let id = stack.upload(&picture::noise(1, "9x9", "png24"));
    let list: serde_json::Value =
        serde_json::from_str(&stack.master.get("/tasks").text()).expect("a list is JSON");
    assert_eq!(list["tasks"][0]["id"].as_u64(), Some(id));
    assert_eq!(list["counts"]["ready"], 1);
    assert!(
        stack
            .db
            .get("/metrics")
            .text()
            .contains("tasks{state=\"ready\"} 1\n")
    );
    for service in [&stack.db, &stack.storage, &stack.master] {
        assert_eq!(service.get("/healthz").pair(), (200, "ok".to_owned()));
    }
}

#[test]
fn what_was_acknowledged_outlives_power_cuts() {
    const CUTS: u32 = 4;
    let folder = tempfile::tempdir().unwrap();
    for name in ["db.raw", "storage.raw"] {
        let file = std::fs::File::create(folder.path().join(name)).unwrap();
        file.set_len(64 << 20).unwrap();
    }
    let volumes = folder.path().to_str().unwrap();
    let mut stack = Stack::with_volumes(volumes, 1);
    assert!(stack.db.process().lines()[0].starts_with("Tasks are kept on the volume `db`"));
    let mut uploads = Vec::new();
    for cut in 0..CUTS {
        for n in 0..3 {
            let picture = picture::noise(3 * cut + n, "60x40", "png24");
            uploads.push((stack.upload(&picture), picture));
        }
        // The worker is in the middle of one of them.
        stack.cut_power(volumes);
        for (id, picture) in &uploads {
            let input = stack.storage.get(&format!("/download/{id}?picture=input"));
            assert_eq!((input.status, &input.body), (200, picture), "task {id}");
        }
    }
    for (id, picture) in &uploads {
        stack.wait_state(*id, 2);
        assert!(picture::pixels(&stack.download(*id)) == picture::inverse(picture));
    }
}
