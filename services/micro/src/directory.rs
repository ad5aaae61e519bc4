//! Where the other services are, by kv.
//!
//! ```text
//! unknown --ask kv--> known --connection fails--> unknown
//! ```
//! Failure paths: kv is away, or nobody registered; whoever asks gets a [`LookupError`] and may ask again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::address::Endpoint;
use crate::client::{Client, ClientError, Content, Response};

/// The key of a service in kv, and its port if nobody says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    /// `dbendpoint`.
    Db,
    /// `storageendpoint`.
    Storage,
    /// `masterendpoint`.
    Master,
}

impl Service {
    /// Its key in kv.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Db => "dbendpoint",
            Self::Storage => "storageendpoint",
            Self::Master => "masterendpoint",
        }
    }

    /// What it calls itself.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Db => "Database",
            Self::Storage => "Storage",
            Self::Master => "Master",
        }
    }

    /// Its name in variables.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Db => "DB",
            Self::Storage => "STORAGE",
            Self::Master => "MASTER",
        }
    }

    /// Its port if nobody says otherwise.
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Db => 9001,
            Self::Storage => 9002,
            Self::Master => 9003,
        }
    }

    /// The variable that tells its endpoint.
    #[must_use]
    pub fn variable(self) -> &'static str {
        match self {
            Self::Db => "MICRO_DB_ENDPOINT",
            Self::Storage => "MICRO_STORAGE_ENDPOINT",
            Self::Master => "MICRO_MASTER_ENDPOINT",
        }
    }
}

/// Why it is not known where a service is.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// kv does not answer.
    #[error("Key-value store is not available: {0}")]
    Kv(#[from] ClientError),
    /// kv knows nothing of the service, or something that is no endpoint.
    #[error("`{0}` is not registered")]
    Unregistered(&'static str),
}

/// Why a request to another service has no reply.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// It is not known where it is.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// It does not answer.
    #[error("no reply from {endpoint}: {source}")]
    Request {
        /// Where it is.
        endpoint: Endpoint,
        /// The reason.
        source: ClientError,
    },
}

/// What kv said last.
#[derive(Debug)]
pub struct Directory {
    client: Client,
    kv: Endpoint,
    known: Mutex<HashMap<Service, Endpoint>>,
}

impl Directory {
    /// The directory that a kv keeps.
    #[must_use]
    pub fn new(kv: Endpoint) -> Arc<Self> {
        Arc::new(Self {
            client: Client::default(),
            kv,
            known: Mutex::default(),
        })
    }

    /// Where kv itself is.
    #[must_use]
    pub fn kv(&self) -> &Endpoint {
        &self.kv
    }

    /// What kv has under a key; `None` if nobody registered.
    ///
    /// # Errors
    /// kv does not answer.
    pub fn ask(&self, service: Service) -> Result<Option<String>, ClientError> {
        let response = self.client.get(&self.kv.url(&format!("/{}", service.key())))?;
        // The original answers 200 with nothing for a key that nobody registered.
        let found = response.is_ok();
        Ok(Some(response.text()?).filter(|text| found && !text.trim().is_empty()))
    }

    /// Writes an endpoint to kv.
    ///
    /// # Errors
    /// kv does not answer, or refuses.
    pub fn register(&self, service: Service, endpoint: &Endpoint) -> Result<(), LookupError> {
        let url = self.kv.url(&format!("/{}", service.key()));
        let value = serde_json::json!({ "value": endpoint.to_string() });
        match self.client.post_json(&url, &value)?.is_ok() {
            true => Ok(()),
            false => Err(LookupError::Unregistered(service.key())),
        }
    }

    /// Where a service is, by what kv said last; asks kv if it said nothing yet.
    ///
    /// # Errors
    /// It is not known.
    pub fn find(&self, service: Service) -> Result<Endpoint, LookupError> {
        if let Some(endpoint) = self.known().get(&service) {
            return Ok(endpoint.clone());
        }
        let endpoint = self
            .ask(service)?
            .and_then(|text| Endpoint::parse(&text, service.default_port()))
            .ok_or(LookupError::Unregistered(service.key()))?;
        self.known().insert(service, endpoint.clone());
        Ok(endpoint)
    }

    /// Forgets where a service is, if it still is what is thought.
    fn forget(&self, service: Service, endpoint: &Endpoint) {
        let mut known = self.known();
        if known.get(&service) == Some(endpoint) {
            known.remove(&service);
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<Service, Endpoint>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Another service, wherever it is at the moment.
#[derive(Clone, Debug)]
pub struct Peer {
    client: Client,
    place: Place,
}

/// Where a peer is.
#[derive(Clone, Debug)]
enum Place {
    /// Where kv says.
    Registered(Arc<Directory>, Service),
    /// Always there.
    Fixed(Endpoint),
}

impl Peer {
    /// A service that kv knows.
    #[must_use]
    pub fn registered(directory: &Arc<Directory>, service: Service) -> Self {
        Self {
            client: directory.client.clone(),
            place: Place::Registered(directory.clone(), service),
        }
    }

    /// A service of which is known where it is.
    #[must_use]
    pub fn fixed(endpoint: Endpoint) -> Self {
        Self {
            client: Client::default(),
            place: Place::Fixed(endpoint),
        }
    }

    fn endpoint(&self) -> Result<Endpoint, LookupError> {
        match &self.place {
            Place::Registered(directory, service) => directory.find(*service),
            Place::Fixed(endpoint) => Ok(endpoint.clone()),
        }
    }

    /// Asks for a resource; once more if the connection fails, in case that the service has moved.
    ///
    /// # Errors
    /// There is no reply.
    pub fn get(&self, path: &str) -> Result<Response, PeerError> {
        self.request(true, |client, endpoint| client.get(&endpoint.url(path)))
    }

    /// Posts nothing; once more if it is certain that it did not arrive.
    ///
    /// # Errors
    /// There is no reply.
    pub fn post(&self, path: &str) -> Result<Response, PeerError> {
        self.request(false, |client, endpoint| client.post(&endpoint.url(path), None))
    }

    /// Posts content, which can be read once.
    ///
    /// # Errors
    /// There is no reply.
    pub fn post_content(&self, path: &str, content: Content<'_>) -> Result<Response, PeerError> {
        // A stream of which something was sent cannot be sent again. So that this is seldom what finds out that the
        // service has moved, knock first.
        let endpoint = self.request(true, |client, endpoint| {
            client.get(&endpoint.url("/healthz")).map(|_| endpoint.clone())
        })?;
        let result = self.client.post(&endpoint.url(path), Some(content));
        result.map_err(|source| self.failed(endpoint, source))
    }

    fn request<T>(
        &self,
        repeatable: bool,
        send: impl Fn(&Client, &Endpoint) -> Result<T, ClientError>,
    ) -> Result<T, PeerError> {
        let first = self.endpoint()?;
        let failure = match send(&self.client, &first) {
            Ok(reply) => return Ok(reply),
            Err(failure) => failure,
        };
        let again = repeatable || failure.is_unreached();
        let failure = self.failed(first, failure);
        if !again || matches!(self.place, Place::Fixed(_)) {
            return Err(failure);
        }
        let second = self.endpoint()?;
        send(&self.client, &second).map_err(|source| self.failed(second, source))
    }

    fn failed(&self, endpoint: Endpoint, source: ClientError) -> PeerError {
        if let Place::Registered(directory, service) = &self.place {
            directory.forget(*service, &endpoint);
        }
        PeerError::Request { endpoint, source }
    }
}
