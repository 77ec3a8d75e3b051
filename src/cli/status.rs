//! `status`: regions, budgets, margins, versions, orphans, bytes and overhead.

use indicatif::ProgressBar;
use serde_json::json;

use super::Ending;
use super::args::StatusArgs;
use super::context::{Context, OpenLake};
use super::output::{self, BAD, NOTE, Output, bytes, count, styled};
use super::progress;
use crate::error::{Error, ErrorKind, Result};
use crate::id::RegionName;
use crate::lake::{Budgets, Lake, RegionState};
use crate::membership;
use crate::store::{RegionStatistics, ScrubOptions, ScrubProgress, ScrubReport, Survey, SurveyProgress};

struct Bar(ProgressBar);

impl SurveyProgress for Bar {
    fn surveyed(&self, names: u64) {
        self.0.set_message(format!("counting: {} names", count(names)));
    }
}

impl ScrubProgress for Bar {
    fn planned(&self, _: &object_store::path::Path, names: u64, _: u64, _: u64) {
        self.0.set_message(format!("looking for what is missing: {} names", count(names)));
    }
}

pub(super) async fn run(args: StatusArgs, context: &Context, out: &mut Output) -> Result<Ending> {
    let open = context.lake().await?;
    let counted = if args.quick {
        None
    } else {
        let bar = Bar(progress::spinner("counting"));
        let counted = async {
            let survey = open.store.survey(&bar).await?;
            // Lists and sizes alone: what has to be read, `scrub` reads.
            let options = ScrubOptions { verify: false, ..ScrubOptions::default() };
            Ok::<_, Error>((survey, open.store.scrub(&options, &bar).await?))
        };
        let counted = counted.await;
        bar.0.finish_and_clear();
        Some(counted?)
    };
    let unfinished = unfinished(&open.lake).await;
    if args.json {
        out.line(to_json(&open, &unfinished, counted.as_ref())?)?;
    } else {
        tell(&open, &unfinished, out)?;
        if let Some((survey, census)) = &counted {
            tell_counts(survey, census, out)?;
        }
    }
    Ok(Ending::Done)
}

/// A replacement that was not ended, and what it is for the region.
struct Unfinished {
    region: RegionName,
    change: &'static str,
}

/// What was begun and looks complete. Where too few regions answer to know, nothing is said: they are named themselves.
async fn unfinished(lake: &Lake) -> Option<Unfinished> {
    let change =
        "took another's place, and it is not known to have been told what was written meanwhile: end it by the same region replace";
    match membership::unfinished(lake).await {
        Ok(region) => region.map(|region| Unfinished { region, change }),
        Err(error) => {
            tracing::warn!(%error, "it could not be learned whether the last replacement of a region was ended");
            None
        }
    }
}

/// How much may fail now: one fewer while a replacement was not ended.
fn budgets(lake: &Lake, unfinished: &Option<Unfinished>) -> Budgets {
    lake.budgets().owing(u8::from(unfinished.is_some()))
}

fn to_json(open: &OpenLake, unfinished: &Option<Unfinished>, counted: Option<&(Survey, ScrubReport)>) -> Result<String> {
    let lake = &open.lake;
    let (quorums, budgets) = (lake.region_set.quorums(), budgets(lake, unfinished));
    let regions: Vec<_> = lake
        .config
        .regions
        .iter()
        .map(|region| {
            let down = lake.down.iter().find(|(name, _)| *name == region.name).map(|(_, why)| why);
            let owed = unfinished.as_ref().filter(|unfinished| unfinished.region == region.name).map(|unfinished| unfinished.change);
            let state = lake.state(&region.name).and_then(RegionState::under_way).or(owed);
            json!({ "name": region.name.to_string(), "location": region.url, "down": down, "change": state })
        })
        .collect();
    let text = json!({
        "lake": lake.config.name,
        "id": lake.config.id.to_string(),
        "configuration": lake.record.number,
        "profile": lake.record.profile,
        "regions": regions,
        "quorums": { "n": quorums.n(), "classic": quorums.classic(), "fast": quorums.fast() },
        "budgets": {
            "unreachable_for_writes": budgets.unreachable_for_writes,
            "unreachable_for_reads": budgets.unreachable_for_reads,
            "lying_about_data": budgets.lying_about_data,
            "lying_about_registers": budgets.lying_about_registers,
        },
        "writable": lake.writer.is_some(),
        "requests": requests(open),
        "survey": counted.map(|(survey, _)| survey),
        "overhead": counted.and_then(|(survey, _)| survey.overhead()),
        "worst_margin": counted.and_then(|(_, census)| census.worst_margin()),
        "margins": counted.map(|(_, census)| &census.margins),
        "damaged_versions": counted.map(|(_, census)| census.damaged_versions),
        "young_pieces": counted.map(|(_, census)| census.young_pieces()),
    });
    serde_json::to_string(&text).map_err(|e| Error::new(ErrorKind::Internal, "a status cannot be written as JSON").caused_by(e))
}

/// What this command itself asked of the regions, and how they answered.
fn requests(open: &OpenLake) -> Vec<serde_json::Value> {
    let of = |region: &RegionStatistics| {
        let operations = region.operations.iter().filter(|(_, of)| of.requests > 0).map(|(operation, of)| {
            let micros = |percent| of.latency_at(percent).map(|latency| u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
            let value = json!({
                "requests": of.requests, "failures": of.failures, "bytes_in": of.bytes_in, "bytes_out": of.bytes_out,
                "latency_us_50": micros(50), "latency_us_99": micros(99),
            });
            (operation.name().to_owned(), value)
        });
        json!({
            "region": region.region.to_string(),
            "health": format!("{:?}", region.health).to_lowercase(),
            "operations": serde_json::Map::from_iter(operations),
        })
    };
    open.store.region_statistics().iter().map(of).collect()
}

fn tell(open: &OpenLake, unfinished: &Option<Unfinished>, out: &mut Output) -> Result<()> {
    let lake = &open.lake;
    let (quorums, budgets) = (lake.region_set.quorums(), budgets(lake, unfinished));
    let n = quorums.n();
    out.line(format_args!("lake      {}   {}", lake.config.name, lake.config.id))?;
    let profile = &lake.record.profile;
    out.line(format_args!("profile   {} data + {} parity shards", profile.data, profile.parity))?;
    let retention = super::duration::words(profile.retention_seconds);
    out.line(format_args!("retention {retention}; configuration {}", lake.record.number))?;
    out.line(format_args!("regions   {n}, of which {} down", lake.down.len()))?;
    for (name, reason) in &lake.down {
        out.line(format_args!("            {} {name}: {reason}", styled(BAD, "down")))?;
    }
    for place in lake.record.counted() {
        if let Some(change) = place.state.under_way() {
            out.line(format_args!("            {} {}: it {change}", styled(NOTE, "change"), place.name))?;
        }
    }
    if let Some(Unfinished { region, change }) = unfinished {
        out.line(format_args!("            {} {region}: it {change}", styled(NOTE, "change")))?;
    }
    for note in &lake.notes {
        out.line(format_args!("            {} {note}", styled(NOTE, "note:")))?;
    }
    out.line("budgets")?;
    let more = |budget: usize| match lake.down.len() {
        0 => String::new(),
        down => format!(": {} more than are now", budget.saturating_sub(down)),
    };
    let (writes, reads) = (usize::from(budgets.unreachable_for_writes), usize::from(budgets.unreachable_for_reads));
    out.line(format_args!("  {writes}  regions may be unreachable while writing goes on{}", more(writes)))?;
    out.line(format_args!("  {reads}  regions may be unreachable for reads of known versions{}", more(reads)))?;
    out.line(format_args!("  {}  regions may return false data: it is noticed, and decoded around", budgets.lying_about_data))?;
    out.line(format_args!("  {}  regions may forget or lie about names", budgets.lying_about_registers))?;
    if let Some(warning) = budgets.warning {
        out.line(format_args!("  {} {warning}", styled(NOTE, "note:")))?;
    }
    out.line(format_args!("quorums   {} of {n}; {} of {n} decide in one round trip", quorums.classic(), quorums.fast()))?;
    let key = if lake.writer.is_some() { "the writer's key is here" } else { "read only: there is no writer's key" };
    out.line(format_args!("writing   {key}"))
}

fn tell_counts(survey: &Survey, census: &ScrubReport, out: &mut Output) -> Result<()> {
    out.line("content")?;
    out.line(format_args!("  {} objects, {}", count(survey.objects), bytes(survey.live_bytes)))?;
    let (older, tombstones) = (count(survey.older_versions), count(survey.tombstones));
    out.line(format_args!("  {older} older versions and {tombstones} deletions are kept; {} in all", bytes(survey.logical_bytes)))?;
    if survey.collected_versions > 0 {
        out.line(format_args!("  {} versions were collected", count(survey.collected_versions)))?;
    }
    if survey.open_slots > 0 {
        out.line(format_args!("  {} writes are under way, or stopped half-way", count(survey.open_slots)))?;
    }
    out.line(format_args!("  {} orphaned writes, {}", count(survey.orphan_writes), bytes(survey.orphan_bytes)))?;
    if let Some(overhead) = survey.overhead() {
        let over = match survey.regions.iter().filter(|region| region.unreachable.is_some()).count() {
            0 => "over all regions".to_owned(),
            unseen => format!("in the regions that answered ({unseen} did not)"),
        };
        out.line(format_args!("  {overhead:.2} bytes are stored for each byte, {over}, all kept versions among them"))?;
    }
    let rows = survey.regions.iter().map(|region| {
        let objects = region.register_objects + region.system_objects + region.shard_objects;
        let state = region.unreachable.clone().unwrap_or_default();
        let lacks = census.regions.iter().find(|found| found.region == region.region).map(|found| found.tally.shards_absent);
        let lacks = lacks.map(count).unwrap_or_default();
        vec![region.region.clone(), count(objects), count(region.shard_objects), lacks, bytes(region.bytes()), state]
    });
    let header = ["  region", "objects", "shards", "lacking", "bytes", "unreachable"];
    out.line(output::aligned(&header, &[1, 2, 3, 4], rows.map(indented).collect()))?;
    out.line("margins, by lists and sizes")?;
    for (margin, versions) in &census.margins {
        let style = if *margin < 0 { BAD } else { NOTE };
        let what = match margin {
            ..0 => format!("{} have lost bytes", output::versions(*versions)),
            0 => format!("{} survive no further loss", output::versions(*versions)),
            more => format!("{} survive {more} further losses", output::versions(*versions)),
        };
        let is_full = census.margins.keys().next_back() == Some(margin) && census.damaged_versions == 0;
        out.line(format_args!("  {}", if is_full { what } else { styled(style, what) }))?;
    }
    if census.young_pieces() > 0 {
        out.line(format_args!("  {} {}", styled(NOTE, "note:"), super::care::young(census)))?;
    }
    if census.damaged_versions > 0 {
        let damaged = output::versions(census.damaged_versions);
        out.line(format_args!("  {} {damaged} lack something: lakeseal scrub --repair", styled(NOTE, "note:")))?;
    }
    Ok(())
}

fn indented(mut row: Vec<String>) -> Vec<String> {
    if let Some(first) = row.first_mut() {
        first.insert_str(0, "  ");
    }
    row
}
