//! How fast files are fingerprinted: their bytes beside one pass of BLAKE3, their rows by the second.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use lakeseal::Result;
use lakeseal::baseline::SealOptions;
use lakeseal::delta::{self, Import};
use lakeseal::key::PrivateKey;

use super::many::{SEED, seal};
use super::{ROUNDS, failed, table_of};

/// The processors' time of all threads of this process, ended ones included, in steps of ten milliseconds; zero where Linux does not say.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    Duration::from_millis(10 * fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>())
}

struct Took {
    wall: f64,
    processor: f64,
}

/// Seals a table of `sources` anew, round after round, with and without rows, beside BLAKE3 of the table's files.
pub async fn run(sources: &[PathBuf]) -> Result<()> {
    for source in sources {
        let home = tempfile::tempdir().map_err(failed)?;
        let location = table_of(home.path())?;
        let sources = vec![source.clone()];
        let imported = delta::import(&location, Import { sources, ..Import::default() }).await?;
        let files: Vec<PathBuf> = std::fs::read_dir(home.path()).map_err(failed)?.flatten().map(|entry| entry.path()).collect();
        let files: Vec<PathBuf> = files.into_iter().filter(|path| path.extension().is_some_and(|end| end == "parquet")).collect();
        let bytes: u64 = files.iter().filter_map(|path| path.metadata().ok()).map(|meta| meta.len()).sum();
        println!("\n{}: {} rows, {bytes} bytes in {} files", source.display(), imported.rows, files.len());
        let (mut hash, mut physical, mut logical) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            hash.push(timed(async { blake3_of(&files) }).await?);
            for (rows, times) in [(false, &mut physical), (true, &mut logical)] {
                let _ = std::fs::remove_dir_all(home.path().join("_seal"));
                let options = SealOptions { rows, ..SealOptions::default() };
                times.push(timed(async { seal(&location, PrivateKey::from_seed(&SEED), options).await.map(drop) }).await?);
            }
        }
        let (hash, physical, logical) = (least(&hash), least(&physical), least(&logical));
        let speed = |took: f64| bytes as f64 / took / 1e9;
        println!("{:<18} {:>10} {:>12} {:>24}", "", "wall, s", "processor, s", "GB/s by wall / processor");
        for (what, took) in [("BLAKE3", &hash), ("physical seal", &physical), ("logical seal", &logical)] {
            let speeds = format!("{:.2} / {:.2}", speed(took.wall), speed(took.processor));
            println!("{what:<18} {:>10.3} {:>12.3} {speeds:>24}", took.wall, took.processor);
        }
        let rate = |seconds: f64| imported.rows as f64 / seconds / 1e6;
        println!(
            "BLAKE3 / physical seal: {:.2} by wall, {:.2} by processor",
            hash.wall / physical.wall,
            hash.processor / physical.processor
        );
        println!("rows: {:.2} million/s by wall, {:.2} million/s and processor", rate(logical.wall), rate(logical.processor));
    }
    Ok(())
}

/// One thread reads the files and hashes them.
fn blake3_of(files: &[PathBuf]) -> Result<()> {
    let mut buffer = vec![0; 1 << 20];
    for path in files {
        let mut file = std::fs::File::open(path).map_err(failed)?;
        let mut hasher = blake3::Hasher::new();
        loop {
            let read = std::io::Read::read(&mut file, &mut buffer).map_err(failed)?;
            if read == 0 {
                break;
            }
            hasher.update(buffer.get(..read).unwrap_or_default());
        }
        std::hint::black_box(hasher.finalize());
    }
    Ok(())
}

async fn timed(step: impl Future<Output = Result<()>>) -> Result<Took> {
    let (begun, processor) = (Instant::now(), processor_time());
    step.await?;
    Ok(Took { wall: begun.elapsed().as_secs_f64(), processor: processor_time().saturating_sub(processor).as_secs_f64() })
}

fn least(all: &[Took]) -> Took {
    let least = |of: fn(&Took) -> f64| all.iter().map(of).fold(f64::INFINITY, f64::min);
    Took { wall: least(|t| t.wall), processor: least(|t| t.processor) }
}
