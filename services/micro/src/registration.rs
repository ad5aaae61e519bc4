//! Tells kv where a service is, now and for ever.
//!
//! The first registration is repeated every second until kv has taken it. Later it is looked after: a kv that was
//! restarted has forgotten everything. Another's address under the same key is left alone: the newest wins.

use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::address::{Endpoint, own_address};
use crate::directory::{Directory, LookupError, Service};
use crate::service::{self, ServiceError, print_line};
use crate::settings::Settings;

/// How long to wait for a kv that is not there, as in the original.
const RETRY: Duration = Duration::from_secs(1);

/// How often it is looked after. kv answers thousands of requests a second.
const WATCH: Duration = Duration::from_secs(2);

/// How a service is reached: its port, and what `MICRO_ADVERTISE` says about the rest.
#[derive(Clone, Debug)]
struct Advertised {
    /// The port that it listens on.
    port: u16,
    /// What others are to use instead, behind a port forward say.
    instead: Option<Endpoint>,
}

impl Advertised {
    fn endpoint(&self, kv: &Endpoint) -> std::io::Result<Endpoint> {
        match &self.instead {
            Some(endpoint) => Ok(endpoint.clone()),
            None => Ok(Endpoint {
                host: own_address(kv)?.to_string(),
                port: self.port,
            }),
        }
    }
}

/// Listens on a service's port, and registers it: when this returns, others find it, and whoever asked before then waits
/// in the listener's backlog. A thread keeps it registered, for ever.
///
/// # Errors
/// A setting is wrong, the port is taken, or the thread cannot be started.
pub fn listen(
    settings: &Settings,
    directory: Arc<Directory>,
    service: Service,
) -> Result<TcpListener, ServiceError> {
    let port = settings.port(service.word(), service.default_port())?;
    let (listener, port) = service::listen(port)?;
    let advertised = Advertised {
        port,
        instead: settings.endpoint("MICRO_ADVERTISE", port)?,
    };
    while let Err(error) = register(&directory, service, &advertised) {
        print_line(&error);
        thread::sleep(RETRY);
    }
    print_line(&format!("{} endpoint registered", service.title()));
    print_line(&format!("{} is listening on {port}", service.title()));
    keep_registered(directory, service, advertised).map_err(ServiceError::Serve)?;
    Ok(listener)
}

fn keep_registered(
    directory: Arc<Directory>,
    service: Service,
    advertised: Advertised,
) -> std::io::Result<()> {
    let watch = move || {
        loop {
            thread::sleep(WATCH);
            // kv is away: it is asked again, and told as soon as it is back.
            if let Ok(None) = directory.ask(service) {
                if register(&directory, service, &advertised).is_ok() {
                    print_line(&format!("registered again as `{}`", service.key()));
                }
            }
        }
    };
    thread::Builder::new()
        .stack_size(crate::service::STACK)
        .spawn(watch)
        .map(|_| ())
}

fn register(directory: &Directory, service: Service, advertised: &Advertised) -> Result<(), String> {
    let away = || "Key-value store is not available".to_owned();
    let endpoint = advertised.endpoint(directory.kv()).map_err(|_| away())?;
    directory
        .register(service, &endpoint)
        .map_err(|error| match error {
            LookupError::Kv(_) => away(),
            LookupError::Unregistered(key) => format!("Key-value store refuses `{key}`"),
        })
}
