//! The schema of a session: the lake's tables by name, anything addressable by path or URL, and what was registered.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock, Weak};

use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::SessionState;
use parking_lot::{Mutex, RwLock};

use super::external;
use super::newest::Named;
use super::settings::Settings;
use super::table::{TableOptions, VerifiedTable};
use crate::baseline::Trust;
use crate::delta::{LakeStore, Location};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};

/// Finds tables by the names that people use, and how to open them.
#[derive(Debug)]
pub(crate) struct Resolver {
    pub(super) lake: Option<LakeStore>,
    pub(super) trust: Option<Trust>,
    /// How tables are opened, but for what the session's own settings say.
    pub(super) options: TableOptions,
    /// Tables from elsewhere that the session gave a name.
    pub(super) registered: RwLock<HashMap<String, Named>>,
    /// What code functions that are not the engine's own are, by name, as the session was told.
    pub(super) functions: RwLock<BTreeMap<String, Digest>>,
    /// For people: what was read without being verified, or could not be looked at.
    pub(super) notes: RwLock<Vec<String>>,
    /// The session whose settings count.
    pub(super) session: OnceLock<Weak<RwLock<SessionState>>>,
}

impl Resolver {
    /// How tables are opened now: as was said when the session was made, and by what was SET since.
    pub(super) fn table_options(&self) -> TableOptions {
        let session = self.session.get().and_then(Weak::upgrade);
        let settings = session.and_then(|state| Settings::of(state.read().config_options()));
        match settings {
            Some(Settings { verify, read }) => TableOptions { verify, mode: read, ..self.options.clone() },
            None => self.options.clone(),
        }
    }

    pub(super) async fn open(&self, location: &Location) -> Result<VerifiedTable> {
        VerifiedTable::open(location, self.trust.as_ref(), &self.table_options()).await
    }

    pub(super) fn location(&self, name: &str) -> Result<Location> {
        Location::parse(name, self.lake.as_ref()).map(|location| location.of_lake(self.options.lake_id))
    }

    /// As [`Self::location`], for tables that the session gave a name too: a function looks at the table that a query of that name reads.
    pub(super) fn location_of(&self, name: &str) -> Result<Location> {
        let registered = self.registered.read().get(name).cloned();
        registered.map_or_else(|| self.location(name), |named| Ok(named.location.of_lake(self.options.lake_id)))
    }

    /// Whose baselines count.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when nobody is trusted.
    pub(super) fn trust(&self) -> Result<&Trust> {
        self.trust.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::Config, "no key is trusted; make one with `lakeseal keys new`, or name a file of public keys")
        })
    }

    /// Keeps what there is to be told of a table.
    pub(super) fn note_all(&self, table: &VerifiedTable) {
        table.notes().iter().for_each(|note| self.note(note.clone()));
    }

    /// Keeps a note, once.
    pub(super) fn note(&self, note: String) {
        let mut notes = self.notes.write();
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
}

/// Tables are opened anew for every query, so that each sees the newest commits and baselines; those that were given a name only where there are
/// newer ones.
#[derive(Debug)]
pub(super) struct LakeSchema {
    pub(super) resolver: Arc<Resolver>,
    pub(super) names: Arc<RwLock<Vec<String>>>,
    pub(super) registered: RwLock<HashMap<String, Arc<dyn TableProvider>>>,
    pub(super) suspects: Suspects,
}

/// Tables that queries named and that are not what was sealed. Their scans fail; what does not scan, such as planning over a forged schema, must
/// say so as well.
#[derive(Debug, Default, Clone)]
pub(super) struct Suspects(Arc<Mutex<Vec<Arc<dyn TableProvider>>>>);

impl Suspects {
    /// Remembers a table that has something to be told.
    fn note(&self, table: &Arc<dyn TableProvider>) {
        if table.downcast_ref::<VerifiedTable>().is_some_and(|table| table.check().is_err()) {
            self.0.lock().push(table.clone());
        }
    }

    /// Forgets all, and fails as the first of them does.
    pub(super) fn take(&self) -> Result<()> {
        let all = std::mem::take(&mut *self.0.lock());
        all.iter().filter_map(|table| table.downcast_ref::<VerifiedTable>()).try_for_each(VerifiedTable::check)
    }
}

impl LakeSchema {
    /// A registered table opened anew: under the settings of now, where it was opened under others, and where it is no longer the newest.
    async fn newer(&self, name: &str, table: &Arc<dyn TableProvider>) -> Option<Result<VerifiedTable>> {
        let verified = (table.as_ref() as &dyn Any).downcast_ref::<VerifiedTable>()?;
        let named = self.resolver.registered.read().get(name).filter(|named| named.location.url() == verified.location().url()).cloned();
        let reset = verified.settings() != self.resolver.table_options().settings();
        let Some(named) = named else {
            // What was registered with DataFusion's own session stays at its version.
            return if reset { Some(self.resolver.open(&verified.location().clone()).await) } else { None };
        };
        if !reset && named.is_newest(verified).await {
            return None;
        }
        let named = Named::about_to_open(&named.location).await;
        Some(self.resolver.open(&named.location.clone()).await.inspect(|_| {
            if let Some(known) = self.resolver.registered.write().get_mut(name) {
                *known = named;
            }
        }))
    }

    /// Keeps a table that was opened anew, where the name is still one that was given.
    fn keep(&self, name: &str, table: &Arc<dyn TableProvider>) {
        if self.resolver.registered.read().contains_key(name)
            && let Some(known) = self.registered.write().get_mut(name)
        {
            *known = table.clone();
        }
    }
}

#[async_trait]
impl SchemaProvider for LakeSchema {
    fn table_names(&self) -> Vec<String> {
        let mut names = self.names.read().clone();
        names.extend(self.registered.read().keys().cloned());
        names.sort();
        names.dedup();
        names
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let registered = self.registered.read().get(name).cloned();
        let opened = match registered {
            Some(table) => match self.newer(name, &table).await {
                Some(newer) => newer,
                None => {
                    if let Some(verified) = (table.as_ref() as &dyn Any).downcast_ref::<VerifiedTable>() {
                        self.resolver.note_all(verified);
                    }
                    self.suspects.note(&table);
                    return Ok(Some(table));
                }
            },
            None => match self.resolver.location(name) {
                Ok(location) => self.resolver.open(&location).await,
                Err(error) => Err(error),
            },
        };
        match opened {
            Ok(table) => {
                self.resolver.note_all(&table);
                let table: Arc<dyn TableProvider> = Arc::new(table);
                self.keep(name, &table);
                self.suspects.note(&table);
                Ok(Some(table))
            }
            // DataFusion then says which tables there are.
            Err(error) if error.kind() == ErrorKind::NotFound && !self.resolver.options.require_sealed => Ok(None),
            Err(error) => Err(external(error)),
        }
    }

    fn register_table(&self, name: String, table: Arc<dyn TableProvider>) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        Ok(self.registered.write().insert(name, table))
    }

    fn deregister_table(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        self.resolver.registered.write().remove(name);
        Ok(self.registered.write().remove(name))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.registered.read().contains_key(name) || self.names.read().iter().any(|known| known == name)
    }
}
