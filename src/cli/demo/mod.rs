//! `demo`: the main job on real data, told as it happens. Every step is real, and is checked: the demo fails when its story does not come true.

mod attacker;
mod stage;
mod stock;

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Instant;

use super::context::Context;
use super::output::{BAD, DIM, GOOD, HEAD, Output, bytes, count, explained, styled};
use super::progress;
use crate::baseline::Verdict;
use crate::error::{Error, ErrorKind, Result};
use attacker::{Plan, Poisoned};
use stage::{LOST, REGIONS, Stage, TABLE};

/// The figure that somebody decides by: the average delay of every large airport, the most punctual first.
const QUERY: &str = "SELECT origin, count(*) AS flights, round(avg(delay), 2) AS average_delay \
                     FROM flights GROUP BY origin HAVING count(*) >= 2000 ORDER BY average_delay";

/// Cleveland is the most punctual of the large airports. Forty-five delays make it one of the worst.
const PLAN: Plan<'static> = Plan { column: "delay", key_column: "origin", key: "CLE", values: 45, add: 700 };

/// How many airports of the answer are shown.
const SHOWN: usize = 3;

/// One airport's row of the answer.
#[derive(Debug, Clone, PartialEq)]
struct Airport {
    origin: String,
    flights: i64,
    delay: f64,
}

/// Tells the story in `keep`, or in a temporary directory.
///
/// # Errors
/// [`ErrorKind::Internal`] when a step does not come out as it is told; whatever a step fails with.
pub(super) async fn run(keep: Option<PathBuf>, context: &Context, out: &mut Output) -> Result<()> {
    let began = Instant::now();
    let stage = Stage::new(keep)?;
    out.line(styled(HEAD, "Lakeseal: the main job, on real data"))?;
    out.line(styled(DIM, format_args!("in {}", stage.directory().display())))?;

    let mut story = Story { stage, out, step: 0, clock: context.clock.clone() };
    story.make_the_lake().await?;
    story.import().await?;
    story.seal().await?;
    let honest = story.ask().await?;
    story.lose_two_regions(&honest).await?;
    let poisoned = story.attack().await?;
    story.read_with_stock_readers(&honest).await?;
    story.read_with_lakeseal(&poisoned).await?;
    story.audit(&poisoned).await?;
    story.end(began)
}

struct Story<'a> {
    stage: Stage,
    out: &'a mut Output,
    step: u8,
    clock: crate::clock::SharedClock,
}

/// Fails the demo unless what the story tells is so.
fn told(holds: bool, what: impl Display) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Internal, format!("the demo did not come true: {what}")))
}

impl Story<'_> {
    fn head(&mut self, title: &str) -> Result<()> {
        self.step += 1;
        self.out.line(format_args!("\n{}", styled(HEAD, format_args!("{}  {title}", self.step))))
    }

    fn say(&mut self, text: impl Display) -> Result<()> {
        for line in text.to_string().lines() {
            self.out.line(format_args!("   {line}").to_string().trim_end())?;
        }
        Ok(())
    }

    fn command(&mut self, text: &str) -> Result<()> {
        let text = styled(DIM, format_args!("$ {text}"));
        self.say(text)
    }

    async fn make_the_lake(&mut self) -> Result<()> {
        self.head("A lake over five regions")?;
        self.stage.init(self.clock.clone()).await?;
        self.say(format_args!(
            "Five directories stand for five clouds: {}.\nEvery object is cut into 3 data and 2 parity shards, one for each region; any three regions hold everything.",
            REGIONS.join(", ")
        ))
    }

    async fn import(&mut self) -> Result<()> {
        self.head("Import")?;
        self.command("lakeseal import flights.parquet --table flights")?;
        let started = Instant::now();
        let spinner = progress::spinner("importing");
        let imported = self.stage.import().await?;
        spinner.finish_and_clear();
        let took = started.elapsed();
        let state = self.stage.table_state().await?;
        let stored = self.stage.stored_bytes()?;
        told(imported == 300_000 && state.rows == imported, "all rows arrive")?;
        self.say(format_args!(
            "{} rows: flights within the United States, January to June 2001 (US Bureau of Transportation Statistics).\n\
             {} data file of {} with {} row groups; stored {} in all regions together = {:.2} x (three copies: 3.00 x). {:.1} s",
            count(imported),
            state.files,
            bytes(state.bytes),
            state.row_groups,
            bytes(stored),
            ratio(stored, state.bytes),
            took.as_secs_f64()
        ))
    }

    async fn seal(&mut self) -> Result<()> {
        self.head("Seal")?;
        self.command("lakeseal keys new --role sealer; lakeseal seal flights")?;
        let started = Instant::now();
        let sealed = self.stage.seal(self.clock.clone()).await?;
        told(sealed.first && sealed.baseline.rows == 300_000, "the first baseline covers all rows")?;
        self.say(format_args!(
            "Baseline {} signed: version {}, {} rows, every row group and column chunk fingerprinted. {:.1} s\n\
             It is the first, so it is trust on first use: it says what is there, not that it is true.",
            sealed.baseline.number,
            sealed.baseline.version.unwrap_or(0),
            count(sealed.baseline.rows),
            started.elapsed().as_secs_f64()
        ))
    }

    async fn ask(&mut self) -> Result<Vec<Airport>> {
        self.head("Ask: which large airports are the most punctual?")?;
        self.command(&format!("lakeseal sql -c \"{QUERY} LIMIT 3\""))?;
        let started = Instant::now();
        let answer = self.stage.ask(QUERY).await?;
        told(answer.first().is_some_and(|best| best.origin == PLAN.key), "Cleveland is the most punctual")?;
        self.show(&answer)?;
        self.say(format_args!("Everything read was checked against the baseline on its way. {:.1} s", started.elapsed().as_secs_f64()))?;
        Ok(answer)
    }

    fn show(&mut self, answer: &[Airport]) -> Result<()> {
        for (place, airport) in answer.iter().enumerate().filter(|(i, airport)| *i < SHOWN || airport.origin == PLAN.key) {
            let row =
                format!("{:>4}. {}  {:>7.2} min  {:>6} flights", place + 1, airport.origin, airport.delay, count_i64(airport.flights));
            self.say(row)?;
        }
        Ok(())
    }

    async fn lose_two_regions(&mut self, honest: &[Airport]) -> Result<()> {
        self.head("Two regions are deleted")?;
        self.command(&format!("rm -r regions/{} regions/{}", LOST[0], LOST[1]))?;
        self.stage.delete_regions()?;
        let started = Instant::now();
        let answer = self.stage.ask(QUERY).await?;
        told(answer == honest, "the answer is the same with two regions gone")?;
        self.say(format_args!(
            "{} of all shards are gone. The same query, through the three regions that are left: {}. {:.1} s\n\
             There was nothing to restore: what is missing was decoded from what is there.",
            styled(BAD, "Two fifths"),
            styled(GOOD, "the same answer"),
            started.elapsed().as_secs_f64()
        ))
    }

    async fn attack(&mut self) -> Result<Poisoned> {
        self.head("An attacker with a writer's stolen key")?;
        // The writer's key lies in the demo's home: whoever has it opens the lake as its owner does.
        let lake = self.stage.open().await?;
        let poisoned = attacker::poison(lake.store.as_ref(), &object_store::path::Path::from(TABLE), PLAN).await?;
        lake.store.quiesce().await;
        self.say(format_args!(
            "{} of {} delays ({:.3} %), all of them departures from {}, all in row group {} of {}:\n\
             {} minutes are added to each. The file is encoded anew ({} -> {} bytes), its statistics fit the new values,\n\
             and size and statistics in the table's log are made to agree. For Parquet and Delta it is a flawless table.",
            poisoned.values,
            count_i64(poisoned.rows),
            percent(poisoned.values, poisoned.rows),
            PLAN.key,
            poisoned.row_group,
            poisoned.row_groups,
            PLAN.add,
            count_usize(poisoned.bytes.0),
            count_usize(poisoned.bytes.1),
        ))?;
        Ok(poisoned)
    }

    async fn read_with_stock_readers(&mut self, honest: &[Airport]) -> Result<()> {
        self.head("A stock reader: deltalake and DataFusion as they come")?;
        let answer = stock::ask(&self.stage.open().await?, QUERY).await?;
        let of = |answer: &[Airport]| answer.iter().find(|airport| airport.origin == PLAN.key).map(|airport| airport.delay);
        let (before, after) = (of(honest).unwrap_or(f64::NAN), of(&answer).unwrap_or(f64::NAN));
        told(after > before + 5.0, "the stock reader returns a wrong figure")?;
        told(answer.first().is_some_and(|best| best.origin != PLAN.key), "the stock reader's winner is another")?;
        self.show(&answer)?;
        self.say(format_args!(
            "{}: the average delay of {} went from {before:.2} to {after:.2} minutes, from place 1 to place {} of {}. No error, no warning.",
            styled(BAD, "Wrong, in silence"),
            PLAN.key,
            answer.iter().position(|airport| airport.origin == PLAN.key).map_or(0, |i| i + 1),
            answer.len()
        ))
    }

    async fn read_with_lakeseal(&mut self, poisoned: &Poisoned) -> Result<()> {
        self.head("Lakeseal, asked the same")?;
        self.command(&format!("lakeseal sql -c \"{QUERY} LIMIT 3\""))?;
        let started = Instant::now();
        let error = match self.stage.ask(QUERY).await {
            Ok(_) => return told(false, "the query is refused"),
            Err(error) => error,
        };
        let text = explained(&error);
        told(super::is_mismatch(&error), format_args!("the refusal is a mismatch, and not: {text}"))?;
        for place in [TABLE, &poisoned.file, PLAN.column] {
            told(text.contains(place), format_args!("the refusal names {place}:\n{text}"))?;
        }
        self.say(&text)?;
        self.say(format_args!("{} before a single row was released. {:.1} s", styled(GOOD, "Refused"), started.elapsed().as_secs_f64()))
    }

    async fn audit(&mut self, poisoned: &Poisoned) -> Result<()> {
        self.head("And the audit")?;
        self.command("lakeseal audit flights")?;
        let started = Instant::now();
        let report = self.stage.audit(self.clock.clone()).await?;
        let placed = report.findings.iter().find(|finding| {
            finding.verdict == Verdict::Modified
                && finding.file.as_deref() == Some(poisoned.file.as_str())
                && finding.row_group.and_then(|ordinal| usize::try_from(ordinal).ok()) == Some(poisoned.row_group)
                && finding.column.as_deref() == Some(PLAN.column)
        });
        told(placed.is_some(), format_args!("the audit places the change; it found {:?}", report.findings))?;
        let elsewhere = report.findings.iter().any(|f| f.row_group.is_some_and(|g| usize::try_from(g).ok() != Some(poisoned.row_group)));
        told(!elsewhere, format_args!("the audit accuses no other row group; it found {:?}", report.findings))?;
        for line in super::integrity::findings(&report.findings) {
            self.say(line)?;
        }
        self.say(format_args!(
            "{}: table, file, row group and column are the ones that were attacked. {:.1} s",
            styled(GOOD, "Found and placed"),
            started.elapsed().as_secs_f64()
        ))
    }

    fn end(self, began: Instant) -> Result<()> {
        self.out.line(format_args!("\nAll of it in {:.0} s, and none of it staged.", began.elapsed().as_secs_f64()))?;
        match self.stage.keep() {
            Some(kept) => self.out.line(format_args!(
                "The lake is kept as it is now, with two regions gone and the attacker's edit in it:\n  \
                 cd {} && LAKESEAL_HOME=home lakeseal audit flights",
                kept.display()
            )),
            None => self.out.line("`lakeseal demo --keep DIR` keeps the files, to look at."),
        }
    }
}

fn count_i64(n: i64) -> String {
    count(u64::try_from(n).unwrap_or(0))
}

fn count_usize(n: usize) -> String {
    count(u64::try_from(n).unwrap_or(u64::MAX))
}

#[expect(clippy::cast_precision_loss, reason = "for people, to two places")]
fn ratio(a: u64, b: u64) -> f64 {
    a as f64 / b.max(1) as f64
}

fn percent(part: usize, whole: i64) -> f64 {
    ratio(u64::try_from(part).unwrap_or(0) * 100, u64::try_from(whole).unwrap_or(1))
}
