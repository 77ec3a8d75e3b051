//! Evidence that only a difference needs.

use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::baseline::{Repository, RowGroups, RowGroupsByFile, SealedFile, SealedTable, Statement};

/// The row groups of all sealed files, read when the first difference is to be placed in them.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    statement: Option<Statement>,
    row_groups: OnceCell<Option<RowGroupsByFile>>,
}

impl Evidence {
    pub(super) fn of(sealed: Option<&SealedTable>) -> Self {
        Self { statement: sealed.map(|sealed| sealed.statement.clone()), row_groups: OnceCell::new() }
    }

    /// The file with its row groups, as far as they can be read.
    pub(super) async fn whole(&self, repository: &Repository, file: &Arc<SealedFile>) -> Arc<SealedFile> {
        let Some(statement) = self.statement.as_ref().filter(|_| file.row_groups.as_read().is_none()) else { return Arc::clone(file) };
        // Without them a difference is still one: it is placed less exactly.
        let read = self.row_groups.get_or_init(|| async { repository.row_groups(statement).await.ok() }).await;
        let Some(all) = read else { return Arc::clone(file) };
        let groups = all.get(&file.live.key).cloned().unwrap_or_default();
        Arc::new(SealedFile { row_groups: RowGroups::known(groups), ..SealedFile::clone(file) })
    }
}
