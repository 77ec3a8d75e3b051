//! Multipart uploads: parts go to their places in one temporary file.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt as _;
use object_store::path::Path;
use object_store::{MultipartUpload, PutPayload, PutResult, Result, UploadPart};
use parking_lot::Mutex;

use super::files::{Files, Placing, Temporary, WRITING};
use crate::error::{Error, ErrorKind};

#[derive(Debug)]
pub(super) struct Upload {
    files: Arc<Files>,
    key: Path,
    staged: Arc<Mutex<Option<Temporary>>>,
    next_offset: u64,
}

impl Upload {
    pub(super) fn begin(files: Arc<Files>, key: Path) -> crate::Result<Self> {
        let staged = files.stage(&key)?;
        Ok(Self { files, key, staged: Arc::new(Mutex::new(Some(staged))), next_offset: 0 })
    }
}

fn ended() -> Error {
    Error::new(ErrorKind::InvalidInput, "the upload has ended already")
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (files, key, staged, offset) = (Arc::clone(&self.files), self.key.clone(), Arc::clone(&self.staged), self.next_offset);
        self.next_offset += u64::try_from(data.content_length()).unwrap_or(u64::MAX);
        let owned = key.clone();
        let write = move || {
            let mut staged = staged.lock();
            let file = &mut staged.as_mut().ok_or_else(ended)?.file;
            let written = file.seek(SeekFrom::Start(offset)).and_then(|_| data.iter().try_for_each(|chunk| file.write_all(chunk)));
            written.map_err(|e| files.explain(e, WRITING, &owned))
        };
        async move { super::blocking(&key, write).await }.boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let (files, key, staged) = (Arc::clone(&self.files), self.key.clone(), Arc::clone(&self.staged));
        let expected = self.next_offset;
        let place = move || {
            let staged = staged.lock().take().ok_or_else(ended)?;
            let length = staged.file.metadata().map_err(|e| files.explain(e, WRITING, &key))?.len();
            if length != expected {
                let what = format!("the parts have {expected} bytes but {length} were written: a part failed or was not awaited");
                return Err(Error::new(ErrorKind::InvalidInput, what).with("key", &key));
            }
            files.place(&staged, &key, Placing::Overwrite)
        };
        super::blocking(&self.key, place).await.map(super::put_result)
    }

    async fn abort(&mut self) -> Result<()> {
        // Dropping the temporary removes it.
        self.staged.lock().take().map(|_| ()).ok_or_else(|| ended().into_object_store(&self.key))
    }
}
