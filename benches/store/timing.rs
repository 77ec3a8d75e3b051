//! What a step takes: the wall's time, and the processors' time of all threads, which says the same on a busy machine.

use std::time::{Duration, Instant};

/// The time that this process's threads have spent on processors; zero where Linux does not say.
///
/// Threads that ended are not counted: those of the runtime live as long as it has work.
fn processor_time() -> Duration {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return Duration::ZERO };
    let of = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("schedstat")).ok();
    let nanos = |text: String| text.split_whitespace().next().and_then(|nanos| nanos.parse::<u64>().ok());
    Duration::from_nanos(tasks.flatten().filter_map(of).filter_map(nanos).sum())
}

/// The times of one step over all rounds.
#[derive(Default)]
pub struct Times {
    wall: Vec<Duration>,
    processor: Vec<Duration>,
}

impl Times {
    /// Adds the time of `step`.
    pub async fn add<T>(&mut self, step: impl Future<Output = T>) -> T {
        let (begun, processor) = (Instant::now(), processor_time());
        let done = step.await;
        self.wall.push(begun.elapsed());
        self.processor.push(processor_time().saturating_sub(processor));
        done
    }

    /// Forgets what was added: a round that warmed caches and allocator.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

fn sorted(times: &[Duration]) -> Vec<f64> {
    let mut times: Vec<f64> = times.iter().map(Duration::as_secs_f64).collect();
    times.sort_by(f64::total_cmp);
    times
}

fn min_and_median(times: &[Duration]) -> (f64, f64) {
    let times = sorted(times);
    (times.first().copied().unwrap_or(0.0), times.get(times.len() / 2).copied().unwrap_or(0.0))
}

/// Heads the columns that [`line`] prints.
pub fn head(title: &str) {
    println!("\n{title:<34} {:>9} {:>9} {:>9} {:>9}   {:>15} {:>15}", "wall min", "median", "cpu min", "median", "wall ratio", "cpu ratio");
}

/// Prints a step, and what `other` takes of it, by the minima and by the medians of both.
pub fn line(what: &str, step: &Times, other: &Times) {
    let ((wall, wall_median), (cpu, cpu_median)) = (min_and_median(&step.wall), min_and_median(&step.processor));
    let ((other_wall, other_wall_median), (other_cpu, other_cpu_median)) = (min_and_median(&other.wall), min_and_median(&other.processor));
    let ms = |seconds: f64| format!("{:.1} ms", seconds * 1e3);
    let ratio = |least: f64, median: f64| format!("{least:.2} / {median:.2}");
    println!(
        "{what:<34} {:>9} {:>9} {:>9} {:>9}   {:>15} {:>15}",
        ms(wall),
        ms(wall_median),
        ms(cpu),
        ms(cpu_median),
        ratio(other_wall / wall, other_wall_median / wall_median),
        ratio(other_cpu / cpu.max(1e-6), other_cpu_median / cpu_median.max(1e-6)),
    );
}
