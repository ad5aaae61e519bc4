//! What can be wrong with a call: a number that hermit-kernel, Linux and `std` on both agree on.

use std::io;

use redb::{CommitError, StorageError, TableError, TransactionError};

/// The number of an error, positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error(pub i32);

/// The outcome of a call.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// No such file or directory.
    pub const NOT_FOUND: Self = Self(2);
    /// The disk failed, or what is on it is damaged.
    pub const IO: Self = Self(5);
    /// It is there already.
    pub const EXISTS: Self = Self(17);
    /// A directory was needed.
    pub const NOT_A_DIRECTORY: Self = Self(20);
    /// A file was needed.
    pub const IS_A_DIRECTORY: Self = Self(21);
    /// What was asked for cannot be.
    pub const INVALID: Self = Self(22);
    /// The file would be too large.
    pub const TOO_LARGE: Self = Self(27);
    /// The volume is full.
    pub const FULL: Self = Self(28);
    /// A name is too long.
    pub const NAME_TOO_LONG: Self = Self(36);
    /// The directory is not empty.
    pub const NOT_EMPTY: Self = Self(39);
    /// What is on the volume was made by another version.
    pub const UNKNOWN: Self = Self(95);
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::from_raw_os_error(error.0)
    }
}

impl From<StorageError> for Error {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Io(error) if error.kind() == io::ErrorKind::StorageFull => Self::FULL,
            _ => Self::IO,
        }
    }
}

impl From<TableError> for Error {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Storage(error) => error.into(),
            TableError::TableTypeMismatch { .. } => Self::UNKNOWN,
            _ => Self::IO,
        }
    }
}

impl From<TransactionError> for Error {
    fn from(error: TransactionError) -> Self {
        match error {
            TransactionError::Storage(error) => error.into(),
            _ => Self::IO,
        }
    }
}

impl From<CommitError> for Error {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Storage(error) => error.into(),
            _ => Self::IO,
        }
    }
}
