//! All services of the application, or some.

use std::net::TcpListener;
use std::ops::Range;
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

use std::thread;

use crate::ask::{self, Answer};
use crate::process::Process;
use crate::wait_for;

/// Ports that Linux gives to nobody by itself: a kv that comes back finds its own as it left it, whatever
/// connections of other tests were there in between.
const KEPT_PORTS: Range<u16> = 20_000..30_000;
const KV_LISTENS: &str = "server is listening on ";
const PAUSE: (&str, &str) = ("MICRO_WORKER_PAUSE", "0.3");
const STORAGE_LISTENS: &str = "Storage is listening on ";
/// Names the folder of volumes to a process of the host.
const VOLUMES: &str = "HERMITAGE_VOLUMES";
const DB_LISTENS: &str = "Database is listening on ";
const ANY_PORT: (&str, &str) = ("PORT", "0");

/// A service: a process, or somebody else's by its URL.
pub struct Service {
    /// `http://host:port`.
    pub url: String,
    /// The process, if it was started.
    pub process: Option<Process>,
}

impl Service {
    /// kv; by `SUITE_KV` or started.
    #[must_use]
    pub fn kv() -> Self {
        Self::named("kv", "", &[], KV_LISTENS)
    }

    /// A kv of this test's own that keeps its port when it comes back; it does not run yet.
    #[must_use]
    pub fn kv_to_come() -> Self {
        Self {
            url: format!("http://127.0.0.1:{}", kept_port()),
            process: None,
        }
    }

    /// Starts kv on the port of its URL, and waits until it listens.
    pub fn start_kv(&mut self) {
        let port = self.url.rsplit(':').next().unwrap_or_default();
        let process = Process::start("kv", &[], &[("PORT", port)]);
        let _ = process.line(KV_LISTENS);
        self.process = Some(process);
    }

    /// db.
    #[must_use]
    pub fn db(kv: &str) -> Self {
        Self::named("db", kv, &[], DB_LISTENS)
    }

    /// storage.
    #[must_use]
    pub fn storage(kv: &str) -> Self {
        Self::named("storage", kv, &[], STORAGE_LISTENS)
    }

    /// master.
    #[must_use]
    pub fn master(kv: &str) -> Self {
        Self::named("master", kv, &[], "Master is listening on ")
    }

    /// ui.
    #[must_use]
    pub fn ui(kv: &str) -> Self {
        Self::named("ui", kv, &[], "UI is listening on ")
    }

    fn named(name: &'static str, kv: &str, environment: &[(&str, &str)], listening: &str) -> Self {
        if let Ok(url) = std::env::var(format!("SUITE_{}", name.to_uppercase())) {
            return Self { url, process: None };
        }
        Self::start(name, kv, environment, listening)
    }

    /// Starts a service on a free port, and waits for the line that tells it.
    #[must_use]
    pub fn start(name: &'static str, kv: &str, environment: &[(&str, &str)], listening: &str) -> Self {
        let arguments: &[&str] = if kv.is_empty() { &[] } else { &[kv] };
        let environment = [&[ANY_PORT], environment].concat();
        let process = Process::start(name, arguments, &environment);
        let port = process.line(listening);
        Self {
            url: format!("http://127.0.0.1:{port}"),
            process: Some(process),
        }
    }

    /// The URL of a path.
    #[must_use]
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// `host:port`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// Asks for a resource.
    #[must_use]
    pub fn get(&self, path: &str) -> Answer {
        ask::get(&self.at(path))
    }

    /// Posts nothing.
    pub fn post(&self, path: &str) -> Answer {
        ask::post(&self.at(path))
    }

    /// Posts a picture.
    pub fn upload(&self, path: &str, picture: &[u8]) -> Answer {
        ask::upload(&self.at(path), picture)
    }

    /// The process, which was started.
    ///
    /// # Panics
    /// The service is somebody else's.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it was started by this test")
    }
}

/// A port that is free and that nobody is given by chance.
fn kept_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let count = KEPT_PORTS.end - KEPT_PORTS.start;
    // Processes of tests that run side by side begin at places of their own.
    let begin = (process::id() % u32::from(count)) as u16;
    let mut ports = (0..count).map(|_| {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        KEPT_PORTS.start + (begin + step) % count
    });
    let free = ports.find(|port| TcpListener::bind(("0.0.0.0", *port)).is_ok());
    free.expect("one of ten thousand ports is free")
}

/// kv, db, storage, master, and workers.
pub struct Stack {
    /// Their kv.
    pub kv: Service,
    /// Their db.
    pub db: Service,
    /// Their storage.
    pub storage: Service,
    /// Their master.
    pub master: Service,
    /// Their workers.
    pub workers: Vec<Process>,
}

impl Stack {
    /// All of it, with a number of workers.
    #[must_use]
    pub fn start(workers: usize) -> Self {
        let kv = Service::kv();
        Self::with_kv(kv, workers)
    }

    /// All of it, around a kv that runs.
    #[must_use]
    pub fn with_kv(kv: Service, workers: usize) -> Self {
        let db = Service::db(kv.endpoint());
        let storage = Service::storage(kv.endpoint());
        Self::around(kv, db, storage, workers)
    }

    /// All of it, with leases of so many seconds.
    #[must_use]
    pub fn with_lease(workers: usize, seconds: &str) -> Self {
        let kv = Service::kv();
        let lease = [("MICRO_DB_LEASE", seconds)];
        let db = Service::start("db", kv.endpoint(), &lease, DB_LISTENS);
        let storage = Service::storage(kv.endpoint());
        Self::around(kv, db, storage, workers)
    }

    /// All of it, with what db and storage keep in a folder of volumes.
    #[must_use]
    pub fn with_volumes(folder: &str, workers: usize) -> Self {
        let kv = Service::kv();
        let db = Service::start("db", kv.endpoint(), &[(VOLUMES, folder)], DB_LISTENS);
        let storage = Self::storage_on(&kv, folder);
        Self::around(kv, db, storage, workers)
    }

    /// Kills db and storage, as a power cut does, and starts them again on their volumes, elsewhere.
    pub fn cut_power(&mut self, folder: &str) {
        self.db.process().kill();
        self.storage.process().kill();
        let kv = self.kv.endpoint();
        self.db = Service::start("db", kv, &[(VOLUMES, folder)], DB_LISTENS);
        self.storage = Self::storage_on(&self.kv, folder);
    }

    fn storage_on(kv: &Service, folder: &str) -> Service {
        let environment = [(VOLUMES, folder)];
        Service::start("storage", kv.endpoint(), &environment, STORAGE_LISTENS)
    }

    fn around(kv: Service, db: Service, storage: Service, workers: usize) -> Self {
        let master = Service::master(kv.endpoint());
        let mut stack = Self {
            kv,
            db,
            storage,
            master,
            workers: Vec::new(),
        };
        for _ in 0..workers {
            stack.add_worker();
        }
        stack
    }

    /// One more worker.
    pub fn add_worker(&mut self) -> &mut Process {
        let worker = Process::start("worker", &[self.kv.endpoint()], &[PAUSE]);
        self.workers.push(worker);
        self.workers.last_mut().expect("there is one now")
    }

    /// Uploads a picture; the id of its task.
    #[must_use]
    pub fn upload(&self, picture: &[u8]) -> u64 {
        let answer = self.master.upload("/task", picture);
        assert_eq!(answer.pair(), (200, String::new()));
        let id = answer.field("task-id").expect("the reply tells the id");
        id.parse().expect("an id is a number")
    }

    /// Uploads pictures, all at once; the ids of their tasks.
    #[must_use]
    pub fn upload_all(&self, pictures: &[Vec<u8>]) -> Vec<u64> {
        thread::scope(|scope| {
            let uploads: Vec<_> = pictures
                .iter()
                .map(|picture| scope.spawn(|| self.upload(picture)))
                .collect();
            let joined = uploads.into_iter().map(thread::ScopedJoinHandle::join);
            joined.map(|id| id.expect("no upload fails")).collect()
        })
    }

    /// The state of a task.
    #[must_use]
    pub fn state(&self, id: u64) -> i64 {
        let text = self.db.get(&format!("/task/{id}")).text();
        let task: serde_json::Value = serde_json::from_str(&text).expect("a task is JSON");
        task["state"].as_i64().expect("a task has a state")
    }

    /// Waits until a task is in a state.
    pub fn wait_state(&self, id: u64, state: i64) {
        wait_for(&format!("task {id} to be in state {state}"), || {
            (self.state(id) == state).then_some(())
        });
    }

    /// What a user gets of a task.
    #[must_use]
    pub fn download(&self, id: u64) -> Vec<u8> {
        let answer = self.master.get(&format!("/task/{id}/download"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.body
    }
}
