//! A service that a test makes up: it answers as the test says, and remembers what it was asked.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;

use hermitage_http::{Limits, Reply, Request};

use crate::DEADLINE;

/// Such a service. Its thread lasts as long as the test's process.
pub struct Fake {
    /// `host:port`.
    pub endpoint: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    /// Starts one.
    #[must_use]
    pub fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let endpoint = listener.local_addr().expect("it is bound").to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        thread::spawn({
            let asked = asked.clone();
            move || {
                let limits = Limits {
                    body: 64 << 20,
                    connections: 8,
                    silence: DEADLINE,
                };
                hermitage_http::serve(&listener, limits, move |request| {
                    let query = request
                        .query
                        .as_ref()
                        .map_or(String::new(), |query| format!("?{query}"));
                    let line = format!("{:?} {}{query}", request.method, request.path);
                    asked.lock().expect("no test panics with it").push(line);
                    answer(request)
                })
            }
        });
        Self { endpoint, asked }
    }

    /// What it was asked so far: `Get /task/next`.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no test panics with it").clone()
    }
}
