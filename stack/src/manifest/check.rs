//! The file, in which every value has its place, and what has to hold of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::str::FromStr;

use hermitage_network::NetworkName;
use hermitage_yaml::{Diagnostic, Source};
use launcher::instance::RestartPolicy;
use launcher::log::Limits;
use launcher::volume::{MAX_LABEL, Volume};
use launcher::{Cpus, InstanceName, Memory};
use marked_yaml::types::Node;
use marked_yaml::{LoaderOptions, Span, Spanned, spanned_serde};
use serde::Deserialize;

use super::{MAX_REPLICAS, OwnVolume, READY_PATIENCE, Ready, Service, Stack, StackError};
use crate::member::instance_name;

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStack {
    image: Option<String>,
    network: Option<Spanned<String>>,
    #[serde(default)]
    volumes: HashMap<Spanned<String>, RawVolume>,
    services: HashMap<Spanned<String>, RawService>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawVolume {
    size: Spanned<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawService {
    command: Option<Spanned<String>>,
    replicas: Option<Spanned<u16>>,
    memory: Option<Spanned<String>>,
    cpus: Option<Spanned<String>>,
    env: BTreeMap<String, Spanned<String>>,
    ports: Vec<Spanned<String>>,
    volumes: Vec<Spanned<String>>,
    depends_on: Vec<Spanned<String>>,
    ready: Option<RawReady>,
    restart: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawReady {
    port: Spanned<u16>,
    http: Option<Spanned<String>>,
    seconds: Option<Spanned<u16>>,
}

impl From<Diagnostic> for StackError {
    fn from(diagnostic: Diagnostic) -> Self {
        Self::Wrong(Box::new(diagnostic))
    }
}

/// Checks the text of the `stack.yaml` of the stack `name`.
pub(super) fn check(path: &Path, text: String, name: NetworkName) -> Result<Stack, StackError> {
    let checker = Checker {
        source: Source::new(path, text, "a stack"),
        folder: path.parent().unwrap_or(Path::new("")),
        name: &name,
        volumes: BTreeMap::new(),
    };
    let raw = checker.raw()?;
    let checker = Checker {
        volumes: checker.volumes(&raw.volumes)?,
        ..checker
    };
    let network = raw
        .network
        .as_ref()
        .map(|network| checker.text(network))
        .transpose()?;
    if raw.services.is_empty() {
        return Err(checker
            .source
            .wrong_line(1, "a stack has services, this has none")
            .into());
    }
    // In the order of the file, so that its first fault is told.
    let mut raw_services: Vec<_> = raw.services.iter().collect();
    raw_services.sort_by_key(|(key, _)| key.span().start().map(|place| (place.line(), place.column())));
    let mut services = BTreeMap::new();
    let mut taken: HashMap<_, &str> = HashMap::new();
    for (key, service) in &raw_services {
        for other in &service.depends_on {
            if !raw.services.contains_key(other) {
                let message = format!("`{}` depends on `{}`, which is no service", ***key, **other);
                return Err(checker.wrong_word(other, message));
            }
        }
        let checked = checker.service(key, service)?;
        for (forward, word) in checked.ports.iter().zip(&service.ports) {
            let port = (forward.host, forward.protocol);
            if forward.host.port() == 0 {
                continue;
            }
            if let Some(other) = taken.insert(port, key) {
                let message = format!("`{}` of the host leads to `{other}` already", forward.host);
                return Err(checker.wrong_word(word, message));
            }
        }
        services.insert(key.to_string(), (*key, checked));
    }
    let services = checker.ordered(services)?;
    let volumes = checker.volumes.into_values().collect();
    Ok(Stack {
        path: path.to_owned(),
        image: raw.image,
        network,
        volumes,
        services,
        name,
    })
}

struct Checker<'a> {
    source: Source,
    folder: &'a Path,
    name: &'a NetworkName,
    /// The stack's own volumes, by what guests find them by.
    volumes: BTreeMap<String, OwnVolume>,
}

impl Checker<'_> {
    fn raw(&self) -> Result<RawStack, StackError> {
        let options = LoaderOptions::default().error_on_duplicate_keys(true);
        let node: Node = marked_yaml::parse_yaml_with_options(0, self.source.text(), options)
            .map_err(|error| self.source.syntax(&error))?;
        spanned_serde::from_node(&node).map_err(|error| match error.into_inner() {
            spanned_serde::Error::UnknownFieldError(key, known, span) => {
                let span = key_named(&key, &node).unwrap_or(span);
                let hint = format!("known are `{}`", known.join("`, `"));
                let message = format!("unknown key `{key}`");
                self.source
                    .place_of(&key, &span)
                    .diagnostic(message, Some(hint))
                    .into()
            }
            error => {
                let place = self.source.place(error.start_mark().as_ref(), 1);
                place.diagnostic(error.to_string().to_lowercase(), None).into()
            }
        })
    }

    fn wrong<T>(&self, value: &Spanned<T>, message: impl Into<String>) -> StackError {
        self.source.wrong(value.span(), message).into()
    }

    /// Reads a value that has a text form.
    fn text<T: FromStr<Err: ToString>>(&self, value: &Spanned<String>) -> Result<T, StackError> {
        value
            .parse()
            .map_err(|error: T::Err| self.wrong_word(value, error.to_string()))
    }

    /// A scalar has no end in YAML's parser; its text tells it.
    fn wrong_word(&self, word: &Spanned<String>, message: String) -> StackError {
        self.source
            .place_of(word, word.span())
            .diagnostic(message, None)
            .into()
    }

    fn texts<T: FromStr<Err: ToString>>(&self, values: &[Spanned<String>]) -> Result<Vec<T>, StackError> {
        values.iter().map(|value| self.text(value)).collect()
    }

    fn service(&self, key: &Spanned<String>, raw: &RawService) -> Result<Service, StackError> {
        if key.parse::<NetworkName>().is_err() {
            let message = format!(
                "`{}` is no name of a service: small letters, digits and `-`",
                **key
            );
            return Err(self.wrong_word(key, message));
        }
        // What becomes an instance's name has to be one, with the longest number.
        if let Err(error) = instance_name(self.name, key, MAX_REPLICAS).parse::<InstanceName>() {
            return Err(self.wrong_word(key, error.to_string()));
        }
        let variable = |(name, value): (&String, &Spanned<String>)| {
            let entry = format!("{name}={}", **value).parse();
            entry.map_err(|error: launcher::units::ParseError| self.wrong_word(value, error.to_string()))
        };
        let volumes: Vec<Volume> = self.texts(&raw.volumes)?;
        let or = |value: &Option<Spanned<String>>, default| {
            value.as_ref().map_or(default, |value| (**value).clone())
        };
        let service = Service {
            name: key.to_string(),
            command: or(&raw.command, key.to_string()),
            replicas: raw.replicas.as_ref().map_or(1, |replicas| **replicas),
            memory: raw
                .memory
                .as_ref()
                .map_or(Ok(Memory::DEFAULT), |memory| self.text(memory))?,
            cpus: raw.cpus.as_ref().map_or(Ok(Cpus::ONE), |cpus| self.text(cpus))?,
            environment: raw.env.iter().map(variable).collect::<Result<_, _>>()?,
            ports: self.texts(&raw.ports)?,
            volumes: volumes.into_iter().map(|volume| self.placed(volume)).collect(),
            depends_on: raw.depends_on.iter().map(|name| name.to_string()).collect(),
            ready: raw.ready.as_ref().map(|ready| self.ready(ready)).transpose()?,
            restart: raw
                .restart
                .as_ref()
                .map_or(Ok(RestartPolicy::Always), |restart| self.text(restart))?,
        };
        if let (Err(reason), Some(replicas)) = (service.check_replicas(service.replicas), &raw.replicas) {
            return Err(self.wrong(replicas, format!("`{}` cannot have so many: {reason}", **key)));
        }
        Ok(service)
    }

    fn volumes(
        &self,
        raw: &HashMap<Spanned<String>, RawVolume>,
    ) -> Result<BTreeMap<String, OwnVolume>, StackError> {
        let own = |(key, volume): (&Spanned<String>, &RawVolume)| {
            // By itself it is a label.
            let valid = self
                .text::<Volume>(key)?
                .name()
                .filter(|name| name.as_str().len() <= MAX_LABEL);
            let name = format!("{}-{}", self.name, **key).parse();
            let (Some(_), Ok(name)) = (valid, name) else {
                let message = format!(
                    "`{}` is no name of a volume: up to {MAX_LABEL} letters, digits and `-`",
                    **key
                );
                return Err(self.wrong_word(key, message));
            };
            let size = Limits::parse_size(&volume.size)
                .map_err(|error| self.wrong_word(&volume.size, error.to_string()))?;
            Ok((key.to_string(), OwnVolume { name, size }))
        };
        raw.iter().map(own).collect()
    }

    /// A volume for who is elsewhere: one of the stack's own has the stack's name before its own.
    fn placed(&self, volume: Volume) -> Volume {
        let own = volume.name().and_then(|name| self.volumes.get(name.as_str()));
        match own {
            Some(own) => volume.renamed(&own.name),
            None => volume.within(self.folder),
        }
    }

    fn ready(&self, ready: &RawReady) -> Result<Ready, StackError> {
        if *ready.port == 0 {
            return Err(self.wrong(&ready.port, "0 is no port of a guest"));
        }
        let is_path = |path: &str| path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic());
        if let Some(path) = ready.http.as_ref().filter(|path| !is_path(path)) {
            return Err(self.wrong_word(path, format!("`{}` is no path, such as `/healthz`", **path)));
        }
        Ok(Ready {
            port: *ready.port,
            path: ready.http.as_ref().map(|path| path.to_string()),
            patience: ready.seconds.as_ref().map_or(READY_PATIENCE, |seconds| {
                std::time::Duration::from_secs((**seconds).into())
            }),
        })
    }

    /// Each service after those that it depends on, else by name.
    fn ordered(
        &self,
        mut left: BTreeMap<String, (&Spanned<String>, Service)>,
    ) -> Result<Vec<Service>, StackError> {
        let mut ordered: Vec<Service> = Vec::new();
        let mut done = BTreeSet::new();
        while !left.is_empty() {
            let is_free = |service: &Service| service.depends_on.iter().all(|name| done.contains(name));
            let free = left.iter().find(|(_, (_, service))| is_free(service));
            let Some(name) = free.map(|(name, _)| name.clone()) else {
                let chain = cycle(&left);
                let message = format!("services wait for each other: `{}`", chain.join("` -> `"));
                return Err(match left.get(&chain[0]) {
                    Some((key, _)) => self.wrong_word(key, message),
                    None => self.source.wrong_line(1, message).into(),
                });
            };
            ordered.extend(left.remove(&name).map(|(_, service)| service));
            done.insert(name);
        }
        Ok(ordered)
    }
}

/// The place of the first key that is called so: the deserializer tells the place of a mapping, which the parser says to
/// start behind its first key.
fn key_named(name: &str, node: &Node) -> Option<Span> {
    match node {
        Node::Scalar(_) => None,
        Node::Sequence(nodes) => nodes.iter().find_map(|node| key_named(name, node)),
        Node::Mapping(nodes) => nodes.iter().find_map(|(key, node)| match key.as_str() == name {
            true => Some(*key.span()),
            false => key_named(name, node),
        }),
    }
}

/// A cycle among services none of which can be first; the first of it is also the last.
fn cycle(left: &BTreeMap<String, (&Spanned<String>, Service)>) -> Vec<String> {
    let mut chain: Vec<String> = Vec::new();
    let mut next = left.keys().next();
    while let Some(name) = next {
        if let Some(start) = chain.iter().position(|known| known == name) {
            chain.push(name.clone());
            return chain.split_off(start);
        }
        chain.push(name.clone());
        // Each that is left waits for another that is left: otherwise it would be free.
        next = left[name]
            .1
            .depends_on
            .iter()
            .find(|other| left.contains_key(*other));
    }
    chain
}
