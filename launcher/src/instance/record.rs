//! `instance.json`: what an instance is, from its creation on. It is written once.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::restart::RestartPolicy;
use super::{Instance, files};
use crate::error::Error;
use crate::launch::{Launch, plan_below};
use crate::log;
use crate::spec::RunRequest;
use crate::time::Timestamp;

/// The format that is written and read.
///
/// - 1: the first.
pub const FORMAT: u32 = 1;

/// What an instance is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// [`FORMAT`].
    format: u32,
    /// What was asked for. The image's path is absolute, and a MAC address is given: it stays the instance's own.
    pub request: RunRequest,
    /// The program of the image that it runs.
    pub role: String,
    /// The identity of what the image holds; the instance's disk is an overlay of that and of nothing else.
    pub image: String,
    /// When it was created.
    pub created: Timestamp,
    /// How it is kept.
    pub options: Options,
}

/// How an instance is kept, beside what its machine is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// When it is started again by itself.
    pub restart: RestartPolicy,
    /// Whether it is removed when it has ended.
    pub remove: bool,
    /// Limits of its console's log.
    pub log: log::Limits,
}

impl Record {
    pub(super) fn new(launch: &Launch, options: Options) -> Self {
        Self {
            format: FORMAT,
            request: RunRequest {
                image: launch.image().to_owned(),
                mac: Some(launch.spec().mac),
                ..launch.request().clone()
            },
            role: launch.spec().role(),
            image: launch.image_identity().to_owned(),
            created: Timestamp::now(),
            options,
        }
    }

    /// Whether an instance that is created for `launch` with `options` has the same record, but for the time.
    #[must_use]
    pub fn is_of(&self, launch: &Launch, options: Options) -> bool {
        let other = Self {
            created: self.created,
            ..Self::new(launch, options)
        };
        *self == other
    }

    /// What the user noted under a key.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        let label = self.request.labels.iter().find(|label| label.key == key)?;
        Some(&label.value)
    }

    /// Reads the record of the instance in `folder`.
    pub(super) fn read(folder: &Path) -> Result<Self, Error> {
        let record: Self = files::read_json(&folder.join(files::RECORD))?;
        match record.format {
            FORMAT => Ok(record),
            format => Err(Error::Format {
                path: folder.join(files::RECORD),
                format,
            }),
        }
    }
}

impl Instance {
    /// Plans its machine, on the image that it was made for.
    ///
    /// # Errors
    /// The image is gone, or holds something else; and those of [`crate::plan`].
    pub fn plan(&self) -> Result<Launch, Error> {
        let request = self.request();
        let changed = || Error::ImageChanged {
            name: self.name().clone(),
            image: request.image.clone(),
        };
        let is_own = |identity: &str| identity == self.record().image;
        let launch = plan_below(&request, Some(self.root())).map_err(|error| match error {
            Error::NoImage(image) => Error::ImageGone {
                name: self.name().clone(),
                image,
            },
            // What was asked for may not fit another image; that it is another is what the user must know.
            error => match hermitage_disk::open_image(&request.image).and_then(|image| image.identity()) {
                Ok(identity) if !is_own(&identity) => changed(),
                _ => error,
            },
        })?;
        // Its disk holds what differs from the image, which means nothing on another.
        if !is_own(launch.image_identity()) {
            return Err(changed());
        }
        Ok(launch)
    }
}
