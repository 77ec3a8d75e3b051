//! What one write leaves in the store: its data files, and the commits that it tried. Where it came to no version, its files are taken away again.
//!
//! An engine tells of a write that it failed, and neither which files it left nor whether its commit is there all the same.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use parking_lot::Mutex;

use super::Location;
use super::attest::is_data;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind};
use crate::table::{parse_commit_path, read_commit};

/// Files that are taken away at one time.
const AT_ONCE: usize = 8;
/// So long that is tried: whoever waits for the error is not to wait for stores that do not answer as well.
const PATIENCE: Duration = Duration::from_secs(20);

/// The place of an error that says what is left of a write.
const WRITTEN: &str = "written";

/// What became of a write that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// No version names its files, and none will.
    Unnamed,
    /// Its commit is there, as this version.
    Committed(u64),
    /// Its commit may be there, or come to be.
    Unknown,
}

/// Notes what is written through a location.
#[derive(Debug, Clone)]
pub(super) struct Traces(Arc<Noting>);

#[derive(Debug)]
struct Noting {
    inner: Arc<dyn ObjectStore>,
    /// Whether the store's own errors say that a commit was not made.
    is_lake: bool,
    files: Mutex<Vec<Path>>,
    commits: Mutex<Vec<Tried>>,
}

/// A commit that was tried.
#[derive(Debug, Clone)]
struct Tried {
    root: Path,
    version: u64,
    digest: Digest,
    answer: Answer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Made,
    /// It was refused before anything was sent.
    NotMade,
    /// Either there is another of this version, or the answer was lost.
    Open,
}

impl Traces {
    /// `location`, and the notes of what is written through it.
    pub(super) fn of(location: &Location) -> crate::error::Result<(Location, Self)> {
        let noting =
            Noting { inner: location.store().clone(), is_lake: location.is_in_lake(), files: Mutex::default(), commits: Mutex::default() };
        let noting = Arc::new(noting);
        Ok((location.through(Arc::new(TracedStore(noting.clone())))?, Self(noting)))
    }

    /// What became of the write, which is over. Cost: one GET for each commit that was tried and not made.
    pub(super) async fn fate(&self) -> Fate {
        let tried = self.0.commits.lock().clone();
        let mut fate = Fate::Unnamed;
        for commit in tried {
            match commit.answer {
                Answer::Made => return Fate::Committed(commit.version),
                Answer::NotMade => {}
                // A client that sends again what was made already is told that it is there.
                Answer::Open => match read_commit(&*self.0.inner, &commit.root, commit.version).await {
                    Ok(bytes) if Digest::of(&bytes) == commit.digest => return Fate::Committed(commit.version),
                    Ok(_) => {}
                    Err(_) => fate = Fate::Unknown,
                },
            }
        }
        fate
    }

    /// Takes the data files away that were written, as well as it goes. Only of a write that is [`Fate::Unnamed`].
    pub(super) async fn discard(&self) {
        let files = std::mem::take(&mut *self.0.files.lock());
        let inner = &self.0.inner;
        let deleting = stream::iter(files).for_each_concurrent(AT_ONCE, |file| async move {
            if let Err(error) = inner.delete(&file).await {
                tracing::debug!(%error, %file, "a data file that no version names could not be taken away");
            }
        });
        if tokio::time::timeout(PATIENCE, deleting).await.is_err() {
            tracing::debug!("data files that no version names could not be taken away in time");
        }
    }

    /// `error`, and what is left of the write that it ended. Of a write of which that is not known it says so by its kind as well.
    pub(super) fn said(error: Error, fate: Fate) -> Error {
        match fate {
            Fate::Unnamed => error.with(WRITTEN, "nothing: no version of the table has anything of it"),
            Fate::Committed(version) => {
                error.with(WRITTEN, format!("all of it: the commit is there, as version {version}, and what failed came after it"))
            }
            Fate::Unknown => {
                let what = "a write failed, and it could not be learned whether it took effect";
                let written = "not known: the commit may be there, or come to be; look at the table before repeating it";
                Error::new(ErrorKind::OutcomeUnknown, what).with(WRITTEN, written).caused_by(error)
            }
        }
    }

    /// Whether an error says itself what is left of the write, as [`Self::said`] has it.
    pub(super) fn is_said(error: &Error) -> bool {
        error.context().iter().any(|(key, _)| *key == WRITTEN)
    }

    /// Tells of a write whose commit is there what failed all the same: afterwards, or of its answer.
    pub(super) fn warn(location: &Location, version: u64, error: &dyn fmt::Display) {
        tracing::warn!(table = %location, version, %error, "the commit is there, and something failed after it");
    }

    /// What a failed write comes to; where that is no version, its files are gone.
    pub(super) async fn settle(&self) -> Fate {
        let fate = self.fate().await;
        if fate == Fate::Unnamed {
            self.discard().await;
        }
        fate
    }
}

impl Noting {
    fn answered(&self, at: usize, error: Option<&object_store::Error>) {
        use ErrorKind::{InvalidInput, Permission, Unavailable, Unsupported};
        let answer = match error {
            None => Answer::Made,
            // These kinds are told before any vote was sent.
            Some(error) => match Error::find(error).map(Error::kind) {
                Some(InvalidInput | Permission | Unavailable | Unsupported) if self.is_lake => Answer::NotMade,
                _ => Answer::Open,
            },
        };
        if let Some(tried) = self.commits.lock().get_mut(at) {
            tried.answer = answer;
        }
    }
}

#[derive(Debug)]
struct TracedStore(Arc<Noting>);

impl fmt::Display for TracedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TracedStore({})", self.0.inner)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for TracedStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        if let Some((root, version)) = parse_commit_path(location) {
            let digest = Digest::of(&Bytes::from(payload.clone()));
            let at = {
                let mut commits = self.0.commits.lock();
                // Open until it is answered: whoever gives up waiting learns no answer.
                commits.push(Tried { root, version, digest, answer: Answer::Open });
                commits.len() - 1
            };
            let put = self.0.inner.put_opts(location, payload, options).await;
            self.0.answered(at, put.as_ref().err());
            return put;
        }
        if is_data(location) {
            self.0.files.lock().push(location.clone());
        }
        self.0.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        if is_data(location) {
            self.0.files.lock().push(location.clone());
        }
        self.0.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.0.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.0.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.0.inner.rename_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests;
