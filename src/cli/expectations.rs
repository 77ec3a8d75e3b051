//! `seal --expect`: predicates that are signed with the baseline.

use super::args::SealArgs;
use super::context::Context;
use crate::baseline::{Expectation, SealOptions, Trust, TrustLevel, compare_expectations};
use crate::delta::Location;
use crate::error::{Error, ErrorKind, Result};
use crate::key::VerifyingKey;
use crate::sql::{check_expectations, violations};
use crate::table;

/// Violations that a refusal names.
const SHOWN: usize = 5;

/// `options` with the expectations that `args` ask for, which are checked to be predicates over the table.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] for what is no predicate; [`ErrorKind::Mismatch`] when rows that changed since the previous baseline break its
/// expectations and the changes are not accepted.
pub(super) async fn with_expectations(
    options: SealOptions,
    args: &SealArgs,
    location: &Location,
    own: Option<VerifyingKey>,
    context: &Context,
) -> Result<SealOptions> {
    let repository = location.repository();
    let trust = match (options.trust.clone(), own) {
        (Some(trust), Some(own)) => trust.and(own),
        (Some(trust), None) => trust,
        (None, own) => Trust::new(own, TrustLevel::Given)?,
    };
    let previous = repository.newest_statement(&trust).await?;
    let before = match &previous {
        Some(previous) => repository.expectations(&previous.statement).await?,
        None => Vec::new(),
    };
    if let (false, false, Some(previous)) = (before.is_empty(), options.accept_changes, previous) {
        let sealed = repository.sealed_table(previous).await?;
        let mut snapshot = table::load(repository.store().as_ref(), repository.root(), None).await?;
        let repository = repository.with_roots_of(&sealed.statement, &mut snapshot).await?;
        let broken = compare_expectations(&violations(&repository, &snapshot, &sealed, context.clock.now_ms()).await?);
        if !broken.is_empty() {
            let shown: Vec<String> = broken.iter().take(SHOWN).map(ToString::to_string).collect();
            let what = "rows that changed since the previous baseline break what it expects; accept the changes only if they are meant";
            return Err(Error::new(ErrorKind::Mismatch, format!("{what}: {}", shown.join("; "))).with("table", location.name()));
        }
    }
    if args.expect.is_empty() && !args.expect_nothing {
        return Ok(options);
    }
    let wanted = args.expect.iter().map(|text| parse(text)).collect::<Result<Vec<_>>>()?;
    let snapshot = table::load(repository.store().as_ref(), repository.root(), None).await.map_err(|e| e.with("table", location.name()))?;
    check_expectations(&wanted, &snapshot.schema).map_err(|e| e.with("table", location.name()))?;
    let force = options.force || wanted != before;
    Ok(SealOptions { expectations: Some(wanted), force, ..options })
}

/// `NAME=PREDICATE`: the name ends at the first `=`.
fn parse(text: &str) -> Result<Expectation> {
    match text.split_once('=') {
        Some((name, predicate)) if !name.trim().is_empty() && !predicate.trim().is_empty() => {
            Ok(Expectation { name: name.trim().to_owned(), predicate: predicate.trim().to_owned() })
        }
        _ => Err(Error::new(ErrorKind::InvalidInput, "an expectation reads NAME=PREDICATE, as in `positive=amount > 0`")
            .with("expectation", text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expectation_has_a_name_and_a_predicate() {
        let found = parse("not negative=amount >= 0 AND kind = 'x'").unwrap();
        assert_eq!((found.name.as_str(), found.predicate.as_str()), ("not negative", "amount >= 0 AND kind = 'x'"));
        for bad in ["", "x", "=a > 1", "a = "] {
            assert_eq!(parse(bad).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad}");
        }
    }
}
