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

/// A table that was given a name, and what there was of it when it was opened: one value, for each says something only beside the other.
#[derive(Debug)]
pub(crate) struct Registered {
    pub(super) named: Named,
    pub(super) table: Arc<VerifiedTable>,
}

/// Finds tables by the names that people use, and how to open them.
#[derive(Debug)]
pub(crate) struct Resolver {
    pub(super) lake: Option<LakeStore>,
    pub(super) trust: Option<Trust>,
    /// How tables are opened, but for what the session's own settings say.
    pub(super) options: TableOptions,
    /// Tables from elsewhere that the session gave a name, as they were opened last.
    pub(super) registered: RwLock<HashMap<String, Arc<Registered>>>,
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
        registered.map_or_else(|| self.location(name), |known| Ok(known.named.location.clone().of_lake(self.options.lake_id)))
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
    /// What was registered with DataFusion's own session, besides what the resolver has.
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
    /// A table that was given a name: opened anew under the settings of now, where it was opened under others, and where it is no longer the newest.
    async fn newest(&self, name: &str, known: Arc<Registered>) -> Result<Arc<VerifiedTable>> {
        if !self.is_reset(&known.table) && known.named.is_newest(&known.table).await {
            return Ok(known.table.clone());
        }
        let named = Named::about_to_open(&known.named.location).await;
        let table = Arc::new(self.resolver.open(&named.location).await?);
        // Another query may have opened it meanwhile, and given the name to what is newer than this.
        if let Some(stored) = self.resolver.registered.write().get_mut(name).filter(|stored| Arc::ptr_eq(stored, &known)) {
            *stored = Arc::new(Registered { named, table: table.clone() });
        }
        Ok(table)
    }

    /// What was registered with DataFusion's own session stays at its version; under other settings it is opened anew, and so for each query.
    async fn as_set(&self, table: Arc<dyn TableProvider>) -> Result<Arc<dyn TableProvider>> {
        let verified = (table.as_ref() as &dyn Any).downcast_ref::<VerifiedTable>();
        let location = verified.filter(|verified| self.is_reset(verified)).map(|verified| verified.location().clone());
        match location {
            Some(location) => Ok(Arc::new(self.resolver.open(&location).await?)),
            None => Ok(table),
        }
    }

    /// Whether a table was opened under other settings than those of now.
    fn is_reset(&self, table: &VerifiedTable) -> bool {
        table.settings() != self.resolver.table_options().settings()
    }

    async fn opened(&self, name: &str) -> Result<Arc<dyn TableProvider>> {
        let known = self.resolver.registered.read().get(name).cloned();
        if let Some(known) = known {
            return Ok(self.newest(name, known).await?);
        }
        let registered = self.registered.read().get(name).cloned();
        match registered {
            Some(table) => self.as_set(table).await,
            None => Ok(Arc::new(self.resolver.open(&self.resolver.location(name)?).await?)),
        }
    }
}

#[async_trait]
impl SchemaProvider for LakeSchema {
    fn table_names(&self) -> Vec<String> {
        let mut names = self.names.read().clone();
        names.extend(self.registered.read().keys().cloned());
        names.extend(self.resolver.registered.read().keys().cloned());
        names.sort();
        names.dedup();
        names
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        match self.opened(name).await {
            Ok(table) => {
                if let Some(verified) = (table.as_ref() as &dyn Any).downcast_ref::<VerifiedTable>() {
                    self.resolver.note_all(verified);
                }
                self.suspects.note(&table);
                Ok(Some(table))
            }
            // DataFusion then says which tables there are.
            Err(error) if error.kind() == ErrorKind::NotFound && !self.resolver.options.require_sealed => Ok(None),
            Err(error) => Err(external(error)),
        }
    }

    fn register_table(&self, name: String, table: Arc<dyn TableProvider>) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        let known = self.resolver.registered.write().remove(&name);
        let before = self.registered.write().insert(name, table);
        Ok(known.map(|known| known.table.clone() as Arc<dyn TableProvider>).or(before))
    }

    fn deregister_table(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        let known = self.resolver.registered.write().remove(name);
        let before = self.registered.write().remove(name);
        Ok(known.map(|known| known.table.clone() as Arc<dyn TableProvider>).or(before))
    }

    fn table_exist(&self, name: &str) -> bool {
        let is_registered = self.registered.read().contains_key(name) || self.resolver.registered.read().contains_key(name);
        is_registered || self.names.read().iter().any(|known| known == name)
    }
}
