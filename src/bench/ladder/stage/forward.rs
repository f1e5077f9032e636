//! An INSERT for each request: what one writes first.

use axum::body::Bytes;

use super::insert::{InsertError, Inserts};
use super::{Refused, Take, Taken, lines};

/// Sends each body on to ClickHouse and answers after it.
pub struct Forward {
    inserts: Inserts,
}

impl Forward {
    /// With INSERTs like these.
    pub fn new(inserts: Inserts) -> Forward {
        Forward { inserts }
    }
}

impl Take for Forward {
    async fn take(&self, body: Bytes) -> Result<Taken, Refused> {
        match self.inserts.insert(&body).await {
            Ok(()) => Ok(Taken {
                accepted: lines(&body),
                rejected: 0,
            }),
            Err(error @ InsertError::TooManyParts(_)) => Err(Refused::Full(error.to_string())),
            Err(error) => Err(Refused::Unknown(error.to_string())),
        }
    }
}
