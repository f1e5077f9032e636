//! How the rows of a push are read: what their keys mean, and what is added to each.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::Vocabulary;
use crate::zone::Zone;

/// What its caller knows of rows that they do not say themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reading {
    /// What their keys mean.
    pub vocabulary: Vocabulary,
    /// What is added to each.
    pub constants: Constants,
    /// The zone of times that name none, in protocols whose senders leave it out.
    pub zone: Zone,
}

/// Constant fields of rows: they replace the row's own of the same name.
///
/// They live as long as the process, so that every pass can lend them without asking for how long. Equal ones are kept
/// once: what grows is bounded by the different ones its operator ever configures.
#[derive(Clone, Copy, Default)]
pub struct Constants(&'static [(&'static str, &'static str)]);

/// Different constants that are kept for requests: each has some fields of at most 4 KiB, 4 MiB in all.
const KEPT_FOR_REQUESTS_MAX: usize = 256;

/// Those kept so far.
static KEPT_FOR_REQUESTS: AtomicUsize = AtomicUsize::new(0);

static KEPT: Mutex<Vec<Constants>> = Mutex::new(Vec::new());

impl Constants {
    /// Keeps names and values.
    pub fn keep(fields: &BTreeMap<String, String>) -> Constants {
        if fields.is_empty() {
            return Constants::default();
        }
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |constants: &&Constants| {
            let pairs = fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            constants.0.iter().copied().eq(pairs)
        };
        if let Some(constants) = kept.iter().find(is_same) {
            return *constants;
        }
        let leak = |text: &String| &*Box::leak(text.clone().into_boxed_str());
        let pairs: Vec<_> = fields
            .iter()
            .map(|(name, value)| (leak(name), leak(value)))
            .collect();
        let constants = Constants(Vec::leak(pairs));
        kept.push(constants);
        constants
    }

    /// These and `fields`, of which those of the same name are replaced; `None` when requests have brought as many different ones
    /// as are kept for them.
    pub fn over(self, fields: &[(&'static str, Box<str>)]) -> Option<Constants> {
        if fields.is_empty() {
            return Some(self);
        }
        let fields = fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (**value).to_owned()));
        let own = self
            .0
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let all: BTreeMap<String, String> = fields.chain(own).collect();
        let is_same = |constants: &&Constants| {
            let pairs = all.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            constants.0.iter().copied().eq(pairs)
        };
        {
            let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(constants) = kept.iter().find(is_same) {
                return Some(*constants);
            }
        }
        // Relaxed: it counts, and orders nothing. Two threads at once may keep the same ones and count twice.
        if KEPT_FOR_REQUESTS.fetch_add(1, Ordering::Relaxed) >= KEPT_FOR_REQUESTS_MAX {
            KEPT_FOR_REQUESTS.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Constants::keep(&all))
    }

    /// These and the `upper` ones, which replace those of the same name.
    pub fn under(self, upper: Constants) -> Constants {
        let own = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect()
        };
        let both = own(self.0).into_iter().chain(own(upper.0));
        Constants::keep(&both.collect())
    }

    /// Name and value of each.
    pub fn pairs(self) -> &'static [(&'static str, &'static str)] {
        self.0
    }

    /// There are none.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }
}

/// Equal ones are kept once.
impl PartialEq for Constants {
    fn eq(&self, other: &Constants) -> bool {
        std::ptr::eq(self.0, other.0) || self.0.is_empty() && other.0.is_empty()
    }
}

impl Eq for Constants {}

impl fmt::Debug for Constants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().copied()).finish()
    }
}
