//! Who may send: keys, what each may do and how much of it, published by the main thread and looked up by every core.

pub mod allow_list;
pub mod certificate;
pub mod credentials;
pub mod key;
pub mod quota;
pub mod token;

mod commands;
mod glob;
mod key_file;
mod refusal;

pub use allow_list::{AllowList, AllowListError};
pub use certificate::CertificateName;
pub use commands::{KeysError, NewKey, hash_token, new_key};
pub use credentials::{Credentials, token_of};
pub use key::Key;
pub use key_file::{KeyError, KeyFileError, NoKeyFile};
pub use quota::OverQuota;
pub use refusal::Refusal;
pub use token::{Token, TokenDigest};

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use hashbrown::HashMap;

use crate::limits::Limits;
use key_file::{Stamp, read_file, read_keys};

/// The keys in force. Shared by all threads.
///
/// A core has its own copy ([`CoreKeys`]); it compares [`Access::generation`] to learn when to make a new one.
#[derive(Debug)]
pub struct Access {
    source: Option<Source>,
    keys: RwLock<Arc<[Key]>>,
    generation: AtomicU64,
}

/// Where keys come from.
#[derive(Debug)]
struct Source {
    path: PathBuf,
    limits: Limits,
    cores: usize,
    /// Of the file when it was last read, whatever came of it.
    seen: Mutex<Option<Stamp>>,
}

/// What became of a look at the key file.
#[derive(Debug)]
pub enum Reloaded {
    /// It is the one that was read last.
    Unchanged,
    /// So many keys are in force now.
    Read(usize),
    /// It cannot be used; the keys stay as they were.
    Broken(NoKeyFile),
}

impl Access {
    /// Without keys: whoever connects may send.
    pub fn open() -> Access {
        Access {
            source: None,
            keys: RwLock::new(Arc::default()),
            generation: AtomicU64::new(1),
        }
    }

    /// The keys of a file. `cores` is how many ingest cores count what is sent.
    ///
    /// # Errors
    /// The file cannot be read, or a key in it is none.
    pub fn load(path: PathBuf, limits: &Limits, cores: usize) -> Result<Access, NoKeyFile> {
        let access = Access {
            source: Some(Source {
                path,
                limits: *limits,
                cores,
                seen: Mutex::new(None),
            }),
            ..Access::open()
        };
        match access.reload(true) {
            Reloaded::Broken(error) => Err(error),
            _ => Ok(access),
        }
    }

    /// Whether there is a key file, so that senders need a key.
    pub fn has_keys(&self) -> bool {
        self.source.is_some()
    }

    /// Whether a key opens the admin pages.
    pub fn has_admin_key(&self) -> bool {
        self.keys().iter().any(|key| key.admin)
    }

    /// The keys in force, in the file's order.
    pub fn keys(&self) -> Arc<[Key]> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Grows by one whenever the keys were read anew. One load of relaxed cost: ask once per request.
    pub fn generation(&self) -> u64 {
        // Acquire pairs with the Release in `reload`: who sees the new number finds the new keys.
        self.generation.load(Ordering::Acquire)
    }

    /// Reads the key file again if it has changed, or in any case. What was left of a key's quotas is left to it, unless its rates
    /// have changed. Blocks on the file system.
    pub fn reload(&self, in_any_case: bool) -> Reloaded {
        let Some(source) = &self.source else {
            return Reloaded::Unchanged;
        };
        let mut seen = source.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken before the file is read: what is written meanwhile is seen at the next look.
        let stamp = Stamp::of(&source.path);
        if *seen == stamp && !in_any_case {
            return Reloaded::Unchanged;
        }
        *seen = stamp;
        let former = self.keys();
        let read = read_file(&source.path, &source.limits)
            .and_then(|text| read_keys(&text, &source.limits, source.cores, &former));
        match read {
            Ok(keys) => {
                let count = keys.len();
                let mut published = self.keys.write().unwrap_or_else(PoisonError::into_inner);
                *published = keys.into();
                // Still under the write lock: nobody can pair the new number with the old keys.
                self.generation.fetch_add(1, Ordering::Release);
                Reloaded::Read(count)
            }
            Err(error) => Reloaded::Broken(NoKeyFile {
                path: source.path.clone(),
                error: Box::new(error),
            }),
        }
    }

    /// Finds the key that opens the admin pages in what a request sent.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn admit_admin(&self, credentials: Credentials, from: IpAddr) -> Result<(), Refusal> {
        let digest = credentials.token()?.digest();
        let keys = self.keys();
        let key = keys.iter().find(|key| key.digest == Some(digest));
        key.ok_or(Refusal::Unknown)?.admit_admin(Some(from))
    }
}

/// One core's copy of the keys: looking one up touches nothing that other cores write.
#[derive(Debug)]
pub struct CoreKeys {
    access: Arc<Access>,
    /// The generation `keys` agrees with.
    generation: Cell<u64>,
    keys: RefCell<HashMap<TokenDigest, Rc<Key>, foldhash::fast::RandomState>>,
    /// The same keys, by what the certificates of their senders are known by.
    of_certificates: RefCell<HashMap<CertificateName, Rc<Key>, foldhash::fast::RandomState>>,
}

impl CoreKeys {
    /// A copy for the core that calls.
    pub fn new(access: Arc<Access>) -> CoreKeys {
        CoreKeys {
            access,
            generation: Cell::new(0),
            keys: RefCell::default(),
            of_certificates: RefCell::default(),
        }
    }

    /// The key of a token. Hashes the token once; of two requests with one key both find the same.
    ///
    /// # Errors
    /// [`Refusal::Unknown`].
    pub fn find(&self, token: &Token) -> Result<Rc<Key>, Refusal> {
        self.follow();
        let keys = self.keys.borrow();
        keys.get(&token.digest()).map(Rc::clone).ok_or(Refusal::Unknown)
    }

    /// The key that a certificate with these names is enough for.
    ///
    /// # Errors
    /// [`Refusal::Missing`] when it is no key's, [`Refusal::Ambiguous`] when it is that of two.
    pub fn find_by_certificate(&self, names: &[CertificateName]) -> Result<Rc<Key>, Refusal> {
        self.follow();
        let keys = self.of_certificates.borrow();
        let mut found = names.iter().filter_map(|name| keys.get(name));
        let key = found.next().ok_or(Refusal::Missing)?;
        match found.all(|other| Rc::ptr_eq(key, other)) {
            true => Ok(Rc::clone(key)),
            false => Err(Refusal::Ambiguous),
        }
    }

    fn follow(&self) {
        let generation = self.access.generation();
        if generation == self.generation.replace(generation) {
            return;
        }
        let (mut keys, mut of_certificates) = (self.keys.borrow_mut(), self.of_certificates.borrow_mut());
        keys.clear();
        of_certificates.clear();
        for key in self.access.keys().iter() {
            let key = Rc::new(key.clone());
            let certificates = key.certificates.iter();
            of_certificates.extend(certificates.map(|name| (name.clone(), Rc::clone(&key))));
            keys.extend(key.digest.map(|digest| (digest, key)));
        }
    }
}

#[cfg(test)]
mod tests;
