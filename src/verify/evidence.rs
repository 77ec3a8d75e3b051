//! Evidence that only a difference needs.

use tokio::sync::OnceCell;

use crate::baseline::{Repository, RowGroups, RowGroupsByFile, SealedFile, SealedRowGroup, SealedTable, Statement};

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

    /// Whether there is a baseline at all.
    pub(super) fn is_of_baseline(&self) -> bool {
        self.statement.is_some()
    }

    /// The row groups of a file; `None` where they cannot be read. Without them a difference is still one: it is placed less exactly.
    pub(super) async fn row_groups<'a>(&'a self, repository: &Repository, file: &'a SealedFile) -> Option<&'a [SealedRowGroup]> {
        if let Some(known) = file.row_groups.as_read() {
            return Some(known);
        }
        let statement = self.statement.as_ref()?;
        let all = self.row_groups.get_or_init(|| async { repository.row_groups(statement).await.ok() }).await.as_ref()?;
        Some(all.get(&file.live.key).map(Vec::as_slice).unwrap_or_default())
    }

    /// A copy of the file with its row groups.
    pub(super) async fn whole(&self, repository: &Repository, file: &SealedFile) -> Option<SealedFile> {
        let groups = self.row_groups(repository, file).await?.to_vec();
        Some(SealedFile { row_groups: RowGroups::known(groups), ..file.clone() })
    }
}
