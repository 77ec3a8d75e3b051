//! What `poison_diff` and `drift` have in common: which table, between which baseline and which version, and what names a row.

use std::sync::Arc;

use datafusion::catalog::TableFunctionArgs;
use datafusion::common::{Result as DataFusionResult, plan_err};

use super::catalog::Resolver;
use super::lineage::{integer_of, literal, text_of};
use crate::baseline::{Repository, SealedTable, Trust};
use crate::diff::DiffOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::table::{self, TableSchema, TableSnapshot};

/// Rows of files that were written anew which are compared in memory at a time: 640 MB.
pub(super) const POOL_LIMIT_ROWS: u64 = 20_000_000;

/// The arguments: `('t' [, from] [, to] [, 'key, columns'])`.
#[derive(Debug, Clone)]
pub(super) struct Compared {
    pub(super) table: String,
    /// The baseline's number; the newest when absent.
    pub(super) from: Option<u64>,
    /// The Delta version; the newest when absent.
    pub(super) to: Option<u64>,
    /// Logical names.
    pub(super) key: Vec<String>,
}

impl Compared {
    pub(super) fn parse(function: &str, args: &TableFunctionArgs<'_, '_>) -> DataFusionResult<Self> {
        let usage = || {
            format!(
                "{function} takes the table's name and, if need be, a baseline's number, a Delta version, and the columns that name a row: \
                 {function}('flights'), {function}('flights', 3), {function}('flights', 3, 17), {function}('flights', 'id'), \
                 {function}('flights', NULL, 17, 'origin, day')"
            )
        };
        let mut rest = args.exprs().iter().map(literal);
        let Some(table) = rest.next().flatten().and_then(text_of) else { return plan_err!("{}", usage()) };
        let mut compared = Self { table, from: None, to: None, key: Vec::new() };
        let (mut numbers, mut has_key) = (0, false);
        for argument in rest {
            let Some(argument) = argument else { return plan_err!("{}", usage()) };
            let number = match (text_of(argument), integer_of(argument).map(u64::try_from)) {
                (Some(key), _) if !has_key => {
                    compared.key = key.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
                    has_key = true;
                    if compared.key.is_empty() {
                        return plan_err!("{}", usage());
                    }
                    continue;
                }
                (None, Some(Ok(number))) => Some(number),
                (None, None) if argument.is_null() => None,
                _ => return plan_err!("{}", usage()),
            };
            match numbers {
                0 => compared.from = number,
                1 => compared.to = number,
                // What is left out of the end is left out.
                2 if number.is_none() && !has_key => has_key = true,
                _ => return plan_err!("{}", usage()),
            }
            numbers += 1;
        }
        Ok(compared)
    }

    /// Reads both states.
    pub(super) async fn open(&self, resolver: &Resolver) -> Result<Opened> {
        let location = resolver.location_of(&self.table)?;
        let repository = location.repository();
        let trust = resolver.trust()?;
        let mut snapshot =
            table::load(location.store().as_ref(), location.root(), self.to).await.map_err(|e| e.with("table", &self.table))?;
        let sealed = baseline(&repository, trust, self.from).await.map_err(|e| e.with("table", &self.table))?;
        if sealed.statement.state.kind != snapshot.kind || sealed.statement.state.table_id != snapshot.table_id {
            let what = "the baseline is of another table than the one that is there: rows of the two cannot be compared";
            return Err(Error::new(ErrorKind::Mismatch, what).with("table", &self.table).with("baseline", sealed.baseline.number));
        }
        let repository = repository.with_roots_of(&sealed.statement, &mut snapshot).await.map_err(|e| e.with("table", &self.table))?;
        let key = physical(&self.key, &snapshot.schema).map_err(|e| e.with("table", &self.table))?;
        let now_ms = resolver.options.clock.now_ms();
        let options = DiffOptions { key, whole_rows: false, pool_limit_rows: POOL_LIMIT_ROWS, now_ms };
        Ok(Opened { repository, snapshot, sealed, options })
    }
}

/// Both states.
pub(super) struct Opened {
    pub(super) repository: Repository,
    pub(super) snapshot: TableSnapshot,
    pub(super) sealed: SealedTable,
    pub(super) options: DiffOptions,
}

impl Opened {
    /// The name that people know a top-level column by.
    pub(super) fn shown<'a>(&'a self, physical_name: &'a str) -> &'a str {
        self.snapshot.schema.physical_column(physical_name).map_or(physical_name, |column| &column.name)
    }
}

async fn baseline(repository: &Repository, trust: &Trust, number: Option<u64>) -> Result<SealedTable> {
    let found = match number {
        None => repository.newest_baseline(trust).await?,
        Some(number) => repository.numbered_baseline(trust, number).await?,
    };
    found.ok_or_else(|| match number {
        None => Error::new(ErrorKind::NotFound, "no trusted key has sealed the table: there is nothing to compare it with"),
        Some(number) => Error::new(ErrorKind::NotFound, "there is no such baseline that a trusted key signed").with("baseline", number),
    })
}

fn physical(names: &[String], schema: &TableSchema) -> Result<Vec<String>> {
    let physical = |name: &String| {
        if schema.columns.is_empty() {
            return Ok(name.clone());
        }
        let known = || schema.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
        let column = schema.column(name).ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, "the table has no such column to name its rows by")
                .with("column", name)
                .with("columns", known())
        })?;
        Ok(column.physical_name.clone())
    };
    names.iter().map(physical).collect()
}

/// A resolver that a stream may keep.
pub(super) type SharedResolver = Arc<Resolver>;
