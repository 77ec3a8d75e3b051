//! Opening a lake: what each region says it is, and which of them may be used.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;

use super::config::{LakeConfig, ProfileConfig, RegionConfig};
use super::decided::{Proven, next_decided};
use super::record::{CONFIGURATION_LIMIT_BYTES, ID_LIMIT_BYTES, LakeRecord, RegionPlace, RegionRecord, RegionState};
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::clock::{Moment, SharedClock};
use crate::erasure::Profile;
use crate::error::{Error, ErrorKind, Result};
use crate::id::RegionName;
use crate::key::PrivateKey;
use crate::region::{Gate, Quorums, Region, RegionOptions, RegionSet, layout};

/// Who opens.
#[derive(Debug)]
pub struct OpenOptions {
    /// The writer's key; without one the lake can only be read.
    pub writer: Option<PrivateKey>,
    /// What time it is.
    pub clock: SharedClock,
}

/// An open lake.
#[derive(Debug)]
pub struct Lake {
    /// As the user has it.
    pub config: LakeConfig,
    /// As the root key signed it.
    pub record: LakeRecord,
    /// The regions; those that are down keep their places.
    pub region_set: Arc<RegionSet>,
    /// The writer's key.
    pub writer: Option<Arc<PrivateKey>>,
    /// What time it is.
    pub clock: SharedClock,
    /// Regions that may not be used, and why.
    pub down: Vec<(RegionName, String)>,
    /// What the user's file should say otherwise.
    pub notes: Vec<String>,
}

/// How much may fail, and a warning when that is little.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budgets {
    /// Regions that may be unreachable while writing goes on: min(m, n - Qc).
    pub unreachable_for_writes: u8,
    /// Regions that may be unreachable for reads of known versions: m.
    pub unreachable_for_reads: u8,
    /// Regions that may lie about data: m.
    pub lying_about_data: u8,
    /// Regions that may forget or lie about registers: b.
    pub lying_about_registers: u8,
    /// What a user should know about them.
    pub warning: Option<&'static str>,
}

impl Budgets {
    /// The budgets of a profile over `quorums.n()` regions.
    pub fn new(profile: &ProfileConfig, quorums: Quorums) -> Self {
        let n = quorums.n();
        Self {
            unreachable_for_writes: profile.parity.min(quorums.spare()),
            unreachable_for_reads: profile.parity,
            lying_about_data: profile.parity,
            lying_about_registers: profile.liars,
            warning: match n {
                0..=2 => Some("one or two regions are for trying out: no region may be unreachable when something is written"),
                3 => Some("with three regions, writes are slower while one is down; four or more are recommended"),
                _ => None,
            },
        }
    }

    /// The same while so many regions are still to be told something: for writes they count as unreachable.
    #[must_use]
    pub fn owing(self, regions: u8) -> Self {
        Self { unreachable_for_writes: self.unreachable_for_writes.saturating_sub(regions), ..self }
    }
}

impl Lake {
    /// How much may fail now, by the configuration alone. A region that takes another's place counts as unreachable for writes until it was told
    /// everything. Whether a replacement was ended behind its last configuration is not known here: [`crate::membership::budgets`] asks.
    pub fn budgets(&self) -> Budgets {
        let replacing = self.record.counted().filter(|place| place.state == RegionState::Replacing).count();
        Budgets::new(&self.record.profile, self.region_set.quorums()).owing(u8::try_from(replacing).unwrap_or(u8::MAX))
    }

    /// The part that the region of this name has in the lake; `None` when it has left, or never was one.
    pub fn state(&self, region: &RegionName) -> Option<RegionState> {
        self.record.place(region).map(|(_, place)| place.state)
    }

    /// The profile for the store.
    ///
    /// # Errors
    /// None today: it was checked when the lake was opened.
    pub fn profile(&self) -> Result<Profile> {
        Ok(self.config.profile.to_profile())
    }
}

/// What one region showed.
struct Shown {
    region: Region,
    outcome: Result<Claims>,
}

/// What a region says it is, and the newest of the lake's configurations that it holds.
struct Claims {
    id: RegionRecord,
    configurations: Vec<(LakeRecord, Bytes)>,
}

/// Configurations of a region that are looked at: a publication that was broken off leaves the newest in some regions only.
const CONFIGURATIONS_READ: usize = 2;

impl Claims {
    /// The bytes of its copy of `record`.
    fn copy(&self, record: &LakeRecord) -> Option<&Bytes> {
        self.configurations.iter().find(|(own, _)| own == record).map(|(_, bytes)| bytes)
    }

    /// Why the region may not be used in the place that the lake has for it, if so.
    fn objection(&self, record: &LakeRecord, place: &RegionPlace) -> Option<String> {
        if self.id.incarnation != place.incarnation && place.since > place.added {
            return Some(format!(
                "the lake has replaced this region: write the new location of `{}` in lakeseal.toml (its `url` and options)",
                place.name
            ));
        }
        if self.id.incarnation != place.incarnation {
            return Some("it is another incarnation than the lake's: it was wiped and made anew".to_owned());
        }
        // A region that missed the newest publication is used all the same; one that says otherwise is not.
        let differs = self.configurations.iter().any(|(own, _)| own.number == record.number && own != record);
        differs.then(|| "its copy of the lake's configuration differs".to_owned())
    }
}

fn region_options(config: &RegionConfig) -> RegionOptions {
    RegionOptions { timeout: Duration::from_millis(config.timeout_ms) }
}

/// A region over an opened store, as its configuration wants it used.
pub(crate) fn region_over(config: &RegionConfig, index: u8, store: Arc<dyn ObjectStore>) -> Region {
    Region::new(config.name.clone(), index, store, region_options(config))
        .costing(config.cost_micros_per_gib)
        .limited_to(config.concurrency)
        // What is no place of a region was refused when it was opened.
        .with_room_for_keys(crate::region::key_room(&config.url).ok().flatten().unwrap_or(usize::MAX))
}

/// Opens a lake: a list and up to three small gets per region, all at once.
///
/// The newest configuration counts that more regions show than may lie: it was decided before it was published. Where fewer show one, its
/// register is asked, which takes another round of asking all. Whoever may write completes a publication that was broken off.
///
/// # Errors
/// [`ErrorKind::Unavailable`] when fewer than a quorum of regions are usable, with each one's reason; [`ErrorKind::Config`] when the
/// file contradicts the lake; [`ErrorKind::Unauthentic`] when no region is signed by the file's root key;
/// [`ErrorKind::Permission`] when the writer's key is not one of the lake's writers.
pub async fn open(config: &LakeConfig, options: OpenOptions) -> Result<Lake> {
    open_over(config, options, |region| region.open(&config.directory)).await
}

/// As [`open`], over stores that are opened by `store`.
pub(super) async fn open_over(
    config: &LakeConfig,
    options: OpenOptions,
    store: impl Fn(&RegionConfig) -> Result<Arc<dyn ObjectStore>>,
) -> Result<Lake> {
    config.check()?;
    let writer = options.writer.map(Arc::new);
    let mut proven = None;
    let lake = loop {
        let (lake, is_later_shown) = open_as(config, (&writer, &options.clock), &store, proven.as_ref()).await?;
        // As many as may lie are no proof that it was decided; the register is, and there may be nothing else left of its publication.
        match if is_later_shown { next_decided(&lake).await } else { None } {
            Some(next) => proven = Some(next),
            None => break lake,
        }
    };
    // Only now: fewer regions may all have missed a configuration that lists what the file lists.
    compare_regions(config, &lake.record)?;
    if let Some(writer) = &lake.writer
        && !lake.record.writers.contains(&writer.public())
    {
        let what = "this writer's key is not one of the lake's; name the key that was made with the lake, or open it without one to read";
        return Err(Error::new(ErrorKind::Permission, what).with("lake", &config.name).with("key", writer.public()));
    }
    Ok(lake)
}

/// The lake as its regions show it, or as a configuration has it that is `proven` to be decided; and whether any shows a later one.
async fn open_as(
    config: &LakeConfig,
    (writer, clock): (&Option<Arc<PrivateKey>>, &SharedClock),
    store: impl Fn(&RegionConfig) -> Result<Arc<dyn ObjectStore>>,
    proven: Option<&Proven>,
) -> Result<(Lake, bool)> {
    let began = Moment::now();
    let Answers { shown, late, rest } = ask(config, store).await?;
    let record = match (agreed(config, &shown, config.profile.quorums(config.regions.len())?), proven) {
        (Ok(agreed), Some(proven)) if agreed.number > proven.record.number => agreed,
        (_, Some(proven)) => proven.record.clone(),
        (agreed, None) => agreed?,
    };
    let is_later_shown = shows_later(&shown, &record);
    compare_profiles(config, &record)?;
    supported(&record)?;
    let quorums = record.quorums()?;
    if writer.is_some() {
        publish_further(&shown, &record, proven).await;
    }
    let gates: BTreeMap<RegionName, Gate> = late.iter().map(|late| (late.region.name().clone(), late.gate.clone())).collect();
    let Usable { regions, down, notes } = usable(shown, late, &record);
    let silent = record.silent(quorums);
    let is_down = |region: &Region| down.iter().any(|(name, _)| name == region.name());
    let good = regions.iter().filter(|region| !is_down(region) && !silent.contains(&region.index())).count();
    if good < usize::from(quorums.classic()) {
        return Err(too_few(good, quorums, &down));
    }
    let (mut leaving, departures): (Vec<_>, Vec<_>) =
        record.departures().into_iter().partition(|departure| Some(departure.region) == record.leaving());
    let region_set = RegionSet::new(config.id, regions, quorums, record.writers.clone(), record.number)?
        .with_collectors(record.collectors.clone())
        .with_since(record.regions.iter().map(|place| place.since).collect())
        .with_root(config.root_key)
        .with_departures(departures)
        .with_leaving(leaving.pop())
        .looked_at((!is_later_shown).then_some(began))
        .with_retention(record.profile.retention_seconds);
    follow(rest, gates, record.clone());
    let leaving = record.leaving();
    let region_set =
        silent.into_iter().fold(region_set, |set, index| set.with_silent(index, if Some(index) == leaving { LEAVES } else { COMES }));
    let (region_set, writer) = (Arc::new(region_set), writer.clone());
    Ok((Lake { config: config.clone(), record, region_set, writer, clock: Arc::clone(clock), down, notes }, is_later_shown))
}

/// The lake's regions, as they may be used.
struct Usable {
    regions: Vec<Arc<Region>>,
    down: Vec<(RegionName, String)>,
    notes: Vec<String>,
}

/// Gives every region its place in the lake's configuration, which the file need not have in full.
fn usable(shown: Vec<Shown>, late: Vec<Late>, record: &LakeRecord) -> Usable {
    let is_late = "it has not answered in time; it is used as soon as it does".to_owned();
    let answered = shown.into_iter().map(|Shown { region, outcome }| {
        let place = record.place(region.name()).map(|(_, place)| place);
        let objection = match (outcome, place) {
            (Ok(claims), Some(place)) => claims.objection(record, place),
            (Err(error), _) => Some(reason(&error)),
            (Ok(_), None) => None,
        };
        match objection {
            None => (region, None),
            Some(reason) => (Region::down(region.name().clone(), 0, reason.clone()), Some(reason)),
        }
    });
    let (mut found, mut notes) = (BTreeMap::new(), Vec::new());
    for (region, reason) in answered.chain(late.into_iter().map(|late| (late.region, Some(is_late.clone())))) {
        match record.place(region.name()) {
            Some((index, _)) => drop(found.insert(index, (region, reason))),
            None => notes.push(format!("the lake has retired the region `{}`: remove it from lakeseal.toml", region.name())),
        }
    }
    let (mut regions, mut down) = (Vec::new(), Vec::new());
    for (index, place) in record.indexed() {
        let (region, reason) = found.remove(&index).unwrap_or_else(|| {
            let reason =
                format!("the lake has been given the region `{}`: add it to lakeseal.toml, with its `url` and options", place.name);
            (Region::down(place.name.clone(), index, reason.clone()), Some(reason))
        });
        down.extend(reason.map(|reason| (place.name.clone(), reason)));
        regions.push(Arc::new(region.at(index)));
    }
    Usable { regions, down, notes }
}

/// Why a region is asked for no vote.
const COMES: &str = "it takes another region's place and has not been told everything yet";
const LEAVES: &str = "it is leaving, and those that stay decide without it";

/// How long regions are waited for at least, when a quorum has answered; and how many times the time that those took.
const STRAGGLER_WAIT: Duration = Duration::from_secs(2);
const STRAGGLER_FACTOR: u32 = 4;

/// What the regions of a file showed in time.
struct Answers {
    shown: Vec<Shown>,
    /// Those that did not.
    late: Vec<Late>,
    /// What those show later.
    rest: mpsc::UnboundedReceiver<Shown>,
}

/// A region of which nothing is known yet.
struct Late {
    region: Region,
    gate: Gate,
}

/// Asks all regions what they are. A region that hangs is waited for no longer than it takes to be sure that it is no answer's time.
async fn ask(config: &LakeConfig, open: impl Fn(&RegionConfig) -> Result<Arc<dyn ObjectStore>>) -> Result<Answers> {
    let needed = usize::from(config.profile.quorums(config.regions.len())?.classic());
    let (began, shared) = (Instant::now(), Arc::new(config.clone()));
    let (sender, mut rest) = mpsc::unbounded_channel();
    let (mut shown, mut waiting) = (Vec::new(), BTreeMap::new());
    for (index, region) in (0..).zip(&config.regions) {
        match open(region) {
            Ok(store) => {
                waiting.insert(index, (region, Arc::clone(&store)));
                let (config, region, sender) = (Arc::clone(&shared), region_over(region, index, store), sender.clone());
                tokio::spawn(async move {
                    let outcome = read(&config, &region).await;
                    // Nobody listens when the lake could not be opened.
                    let _ = sender.send(Shown { region, outcome });
                });
            }
            Err(error) => shown.push(Shown { region: Region::down(region.name.clone(), index, reason(&error)), outcome: Err(error) }),
        }
    }
    drop(sender);
    let mut give_up: Option<Instant> = None;
    while !waiting.is_empty() {
        let next = match give_up {
            Some(at) => timeout_at(at, rest.recv()).await.unwrap_or(None),
            None => rest.recv().await,
        };
        let Some(answer) = next else { break };
        waiting.remove(&answer.region.index());
        shown.push(answer);
        if shown.iter().filter(|shown| shown.outcome.is_ok()).count() >= needed {
            give_up.get_or_insert_with(|| Instant::now() + (began.elapsed() * STRAGGLER_FACTOR).max(STRAGGLER_WAIT));
        }
    }
    shown.sort_by_key(|shown| shown.region.index());
    let late = waiting.into_values().map(|(region, store)| {
        let gate = Gate::default();
        Late { region: region_over(region, 0, gate.before(store)), gate }
    });
    Ok(Answers { shown, late: late.collect(), rest })
}

/// Lets late regions in as they answer, if they are the lake's.
fn follow(mut rest: mpsc::UnboundedReceiver<Shown>, gates: BTreeMap<RegionName, Gate>, record: LakeRecord) {
    if gates.is_empty() {
        return;
    }
    tokio::spawn(async move {
        while let Some(Shown { region, outcome }) = rest.recv().await {
            let (Some(gate), Some((_, place))) = (gates.get(region.name()), record.place(region.name())) else { continue };
            let verdict = match outcome {
                Ok(claims) => claims.objection(&record, place).map_or(Ok(()), Err),
                Err(error) => Err(reason(&error)),
            };
            tracing::info!(region = %region.name(), ?verdict, "a region answered late");
            gate.decide(verdict);
        }
    });
}

async fn read(config: &LakeConfig, region: &Region) -> Result<Claims> {
    let id_key = layout::id_key();
    let (id, configurations) = tokio::join!(region.get(&id_key, ID_LIMIT_BYTES), newest_configurations(config, region));
    let wiped = || Error::new(ErrorKind::Unavailable, "it was wiped, or was never a part of this lake: it has no lake's id");
    let id = id?.ok_or_else(wiped)?;
    let other = RegionRecord::claimed_lake(&id).filter(|lake| *lake != config.id);
    if let Some(other) = other {
        return Err(Error::new(ErrorKind::Unavailable, "it belongs to another lake").with("lake", other));
    }
    let id = RegionRecord::open(&id, &config.root_key)?;
    if id.lake != config.id || id.name != *region.name() {
        return Err(Error::new(ErrorKind::Unavailable, "it is another region of the lake; are two locations swapped?").with("is", &id.name));
    }
    let configurations = configurations?;
    if configurations.is_empty() {
        return Err(Error::new(ErrorKind::Unavailable, "it has lost the lake's configuration"));
    }
    Ok(Claims { id, configurations })
}

async fn newest_configurations(config: &LakeConfig, region: &Region) -> Result<Vec<(LakeRecord, Bytes)>> {
    let mut keys = region.list(&layout::configuration_prefix(), None).take(CONFIGURATIONS_READ);
    let mut found = Vec::new();
    while let Some(meta) = keys.next().await {
        let key = meta?.location;
        let Some(bytes) = region.get(&key, CONFIGURATION_LIMIT_BYTES).await? else { continue };
        let record = LakeRecord::open(&bytes, &config.root_key)?;
        if record.lake != config.id || layout::configuration_key(record.number) != key {
            return Err(Error::new(ErrorKind::Corrupt, "its configuration is another lake's, or another of this lake's"));
        }
        found.push((record, bytes));
    }
    Ok(found)
}

/// Refuses a lake that is in a state which this version does not know how to use.
fn supported(record: &LakeRecord) -> Result<()> {
    if record.writes_paused {
        let what = "the lake's writes are paused, which this version cannot follow; use a newer lakeseal";
        return Err(Error::new(ErrorKind::Unsupported, what).with("lake", &record.name));
    }
    Ok(())
}

/// Gives the configuration to regions of the lake that lack it; best effort: it counts already.
async fn publish_further(shown: &[Shown], record: &LakeRecord, proven: Option<&Proven>) {
    let claims = || shown.iter().filter_map(|shown| Some((&shown.region, shown.outcome.as_ref().ok()?)));
    let decided = proven.filter(|proven| proven.record == *record).map(|proven| &proven.bytes);
    let Some(bytes) = claims().find_map(|(_, claims)| claims.copy(record)).or(decided).cloned() else { return };
    let key = layout::configuration_key(record.number);
    let belongs = |claims: &Claims| record.regions.iter().any(|place| place.incarnation == claims.id.incarnation);
    let lacking = claims().filter(|(_, claims)| belongs(claims) && claims.copy(record).is_none());
    futures::future::join_all(lacking.map(|(region, _)| region.create(&key, bytes.clone().into()))).await;
}

/// The newest configuration that more regions show than may lie.
fn agreed(config: &LakeConfig, shown: &[Shown], quorums: Quorums) -> Result<LakeRecord> {
    let claims = shown.iter().filter_map(|shown| shown.outcome.as_ref().ok());
    let records = claims.clone().flat_map(|claims| claims.configurations.iter().map(|(record, _)| record));
    let shown_by = |record: &LakeRecord| claims.clone().filter(|claims| claims.copy(record).is_some()).count();
    let believed = records.clone().filter(|record| shown_by(record) > usize::from(quorums.liars()));
    let found = believed.max_by_key(|record| (record.number, shown_by(record)));
    if let Some(record) = found {
        return Ok(record.clone());
    }
    // A profile with other quorums than the lake's must be named as such, not as missing regions.
    if let Some(record) = records.clone().next() {
        compare_profiles(config, record)?;
    }
    let reasons: Vec<_> =
        shown.iter().filter_map(|shown| shown.outcome.as_ref().err().map(|error| (shown.region.name().clone(), reason(error)))).collect();
    let unsigned = |shown: &&Shown| shown.outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unauthentic);
    if shown.iter().filter(unsigned).count() >= usize::from(quorums.classic()) {
        let what = "the regions are not signed by this root key: `root_key` in the configuration is wrong, or the lake was forged";
        return Err(Error::new(ErrorKind::Unauthentic, what).with("lake", &config.name).with("root_key", config.root_key));
    }
    Err(too_few(claims.count(), quorums, &reasons))
}

/// Whether any region shows a later configuration than the one that is agreed on. As many as may lie are no proof that it was decided, but
/// where others lie, they may be all that is left of its publication: unless its register tells, opening the lake was no look at it.
fn shows_later(shown: &[Shown], record: &LakeRecord) -> bool {
    let claims = shown.iter().filter_map(|shown| shown.outcome.as_ref().ok());
    claims.flat_map(|claims| &claims.configurations).any(|(own, _)| own.number > record.number)
}

fn too_few(good: usize, quorums: Quorums, reasons: &[(RegionName, String)]) -> Error {
    let what = format!(
        "only {good} of {} regions can be used and {} are needed; nothing can be read or written safely",
        quorums.n(),
        quorums.classic()
    );
    reasons.iter().fold(Error::new(ErrorKind::Unavailable, what), |error, (name, reason)| error.with("region", format!("{name}: {reason}")))
}

/// Refuses a file that says otherwise than the lake of what a lake keeps for ever.
fn compare_profiles(config: &LakeConfig, record: &LakeRecord) -> Result<()> {
    let (own, lake) = (&config.profile, &record.profile);
    let ack = |profile: &ProfileConfig| u64::from(profile.ack_shards.unwrap_or(0));
    let pairs = [
        ("data", u64::from(own.data), u64::from(lake.data)),
        ("parity", u64::from(own.parity), u64::from(lake.parity)),
        ("liars", u64::from(own.liars), u64::from(lake.liars)),
        ("ack_shards", ack(own), ack(lake)),
        ("segment_bytes", own.segment_bytes, lake.segment_bytes),
        ("inline_bytes", own.inline_bytes, lake.inline_bytes),
        ("inline_log_bytes", own.inline_log_bytes, lake.inline_log_bytes),
        ("retention_seconds", own.retention_seconds, lake.retention_seconds),
    ];
    for (field, own, lake) in pairs {
        if own != lake {
            let what = format!("the configuration says {field} = {own}, but the lake was made with {field} = {lake}; correct the file");
            return Err(Error::new(ErrorKind::Config, what).with("lake", &config.name));
        }
    }
    if config.name != record.name {
        let what = format!("the configuration calls the lake `{}`, but it is `{}`; correct the file", config.name, record.name);
        return Err(Error::new(ErrorKind::Config, what));
    }
    Ok(())
}

/// Refuses a file that lists regions that the lake never had, or lacks some that it was made with.
fn compare_regions(config: &LakeConfig, record: &LakeRecord) -> Result<()> {
    let is_named = |name: &RegionName| config.regions.iter().any(|region| region.name == *name);
    // What was added or retired since the file was written is no contradiction: `usable` says what to write.
    let lacks = record.counted().any(|place| place.added == 0 && !is_named(&place.name));
    let invents = config.regions.iter().any(|region| !record.regions.iter().any(|place| place.name == region.name));
    if lacks || invents {
        let names = |names: Vec<&RegionName>| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let own = names(config.regions.iter().map(|region| &region.name).collect());
        let lake = names(record.counted().map(|place| &place.name).collect());
        let what = format!("the configuration lists the regions {own}, but the lake has {lake}; correct the file");
        return Err(Error::new(ErrorKind::Config, what).with("lake", &config.name));
    }
    Ok(())
}

/// What a region is down for, in our own words where a store only wrapped them.
fn reason(error: &Error) -> String {
    let source = std::error::Error::source(error);
    source.and_then(Error::find).map_or_else(|| error.to_string(), ToString::to_string)
}
