//! What commits and seals cost a table that goes on growing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use deltalake::DeltaTable;
use deltalake::protocol::SaveMode;
use lakeseal::Result;
use lakeseal::baseline::{SealOptions, Sealer, Writers};
use lakeseal::clock::SystemClock;
use lakeseal::delta::{self, AttestingStore, Import, Location};
use lakeseal::key::PrivateKey;
use object_store::ObjectStore;

use super::counting::{Counting, Counts};
use super::many::{SEED, make, rows, seal, trust};
use super::{failed, table_of};

/// So many commits are compared at either end.
const ENDS: usize = 100;

fn counted(location: &Location) -> Result<(Location, Arc<Counts>)> {
    let counts = Arc::new(Counts::default());
    let store: Arc<dyn ObjectStore> = Arc::new(Counting { inner: location.store().clone(), counts: counts.clone() });
    Ok((location.through(store)?, counts))
}

/// A seal after one more file, of a table of `files` files: what it reads and writes.
pub async fn append(files: usize) -> Result<()> {
    for files in [files, files * 10] {
        let home = tempfile::tempdir().map_err(failed)?;
        let path = make(&home.path().join("t"), files, false).await?;
        let (location, counts) = counted(&table_of(&path)?)?;
        let version = commit(delta::open(&location, None).await?, files + 1).await?.version();
        counts.take();
        let begun = Instant::now();
        let sealed = seal(&location, PrivateKey::from_seed(&SEED), SealOptions::default()).await?;
        println!(
            "{files} files, one appended (version {version:?}): sealed in {:.1} ms; {} of data read of {} files; in all {}",
            begun.elapsed().as_secs_f64() * 1e3,
            sealed.bytes_read,
            sealed.files_added,
            counts.take()
        );
    }
    Ok(())
}

async fn commit(table: DeltaTable, file: usize) -> Result<DeltaTable> {
    table.write(vec![rows(file)?]).with_save_mode(SaveMode::Append).await.map_err(failed)
}

/// `commits` appends of one file, as fast as they go, to a table that is attested and sealed after every `seal_every`, and to one that is not.
pub async fn run(commits: usize, seal_every: usize) -> Result<()> {
    let home = tempfile::tempdir().map_err(failed)?;
    let key = PrivateKey::from_seed(&SEED);
    let mut tables = Vec::new();
    for name in ["stock", "attested"] {
        let path = home.path().join(name);
        std::fs::create_dir(&path).map_err(failed)?;
        // Counted below whatever attests, so that its requests are among them.
        let (plain, counts) = counted(&table_of(&path)?)?;
        let location = match name {
            "stock" => plain,
            _ => AttestingStore::around_table(&plain, Arc::new(key.clone()), Arc::new(SystemClock))?,
        };
        tables.push((location, counts, Vec::new(), String::new()));
    }
    let (plain, seal_counts) = counted(&table_of(&home.path().join("attested"))?)?;
    let sealer = sealer(&plain, key)?;
    let mut open = Vec::new();
    for (location, ..) in &tables {
        open.push(DeltaTable::new(delta::log_store(location)?));
    }
    let mut seals: Vec<(Duration, String)> = Vec::new();
    for number in 0..commits {
        for (table, (_, counts, times, asked)) in open.iter_mut().zip(&mut tables) {
            counts.take();
            let begun = Instant::now();
            *table = commit(table.clone(), number).await?;
            times.push(begun.elapsed());
            *asked = counts.take();
        }
        if (number + 1) % seal_every == 0 {
            seal_counts.take();
            let begun = Instant::now();
            sealer.seal(&()).await?;
            seals.push((begun.elapsed(), seal_counts.take()));
        }
    }
    println!("{commits} commits, sealed after every {seal_every}; milliseconds, median of the first and of the last {ENDS}");
    for (name, (_, _, times, asked)) in ["stock commit", "attested commit"].iter().zip(&tables) {
        let (first, last) = ends(times, ENDS);
        println!("{name:<18} {first:>9.2} {last:>9.2}   x {:.2}; the last one: {asked}", last / first);
    }
    let times: Vec<Duration> = seals.iter().map(|seal| seal.0).collect();
    let (first, last) = ends(&times, ENDS.div_ceil(seal_every).max(3));
    println!("{:<18} {first:>9.2} {last:>9.2}   x {:.2}", "seal", last / first);
    let middle = seals.len() / 2;
    for at in [1, middle, seals.len().saturating_sub(1)] {
        if let Some((took, passed)) = seals.get(at) {
            println!("seal {:>4}: {:.1} ms, {passed}", at + 1, took.as_secs_f64() * 1e3);
        }
    }
    Ok(())
}

fn sealer(location: &Location, key: PrivateKey) -> Result<Sealer> {
    let writers = Writers::listed([key.public()]);
    let options = SealOptions { trust: Some(trust()?), writers, ..SealOptions::default() };
    let (root, url) = (location.root().clone(), location.url().as_str());
    Sealer::new(location.store().clone(), root, url, key, Arc::new(SystemClock), options)
}

/// Medians of the first and the last `count`, in milliseconds.
fn ends(times: &[Duration], count: usize) -> (f64, f64) {
    let median = |times: &[Duration]| {
        let mut times: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied().unwrap_or_default()
    };
    let count = count.min(times.len());
    (median(times.get(..count).unwrap_or_default()), median(times.get(times.len() - count..).unwrap_or_default()))
}

/// An import, attested and not.
pub async fn write() -> Result<()> {
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("sample-data").join("flights.parquet");
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..8 {
        for (attested, times) in [false, true].into_iter().zip(&mut times) {
            let home = tempfile::tempdir().map_err(failed)?;
            let plain = table_of(home.path())?;
            let location = match attested {
                true => AttestingStore::around_table(&plain, Arc::new(PrivateKey::from_seed(&SEED)), Arc::new(SystemClock))?,
                false => plain,
            };
            let begun = Instant::now();
            delta::import(&location, Import { sources: vec![source.clone(); 4], ..Import::default() }).await?;
            if round > 0 {
                times.push(begun.elapsed());
            }
        }
    }
    let [(plain, _), (attested, _)] = times.map(|times| ends(&times, times.len()));
    println!("an import of 1.2 million rows: {plain:.1} ms, attested {attested:.1} ms: x {:.3}", attested / plain);
    Ok(())
}
