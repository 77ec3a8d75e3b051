//! `lakeseal.toml`: which lake, which regions, which profile. It never holds a secret.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use serde::{Deserialize, Serialize};

use super::file::write_whole;
use crate::erasure::{Placement, Profile};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{LakeId, RegionName};
use crate::key::PublicKey;
use crate::region::{self, Quorums, location_directory};

/// Largest configuration file, in bytes.
const FILE_LIMIT_BYTES: u64 = 1024 * 1024;
/// Longest name of a lake, in bytes.
pub(super) const NAME_LIMIT_BYTES: usize = 63;

/// How objects are coded and how much may fail: the `[profile]` of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileConfig {
    /// Data shards (k).
    pub data: u8,
    /// Parity shards (m).
    pub parity: u8,
    /// Bytes of an object that are coded together.
    #[serde(default = "default_segment_bytes")]
    pub segment_bytes: u64,
    /// Objects up to this many bytes are kept in their manifest.
    #[serde(default = "default_inline_bytes")]
    pub inline_bytes: u64,
    /// The same below `_delta_log`.
    #[serde(default = "default_inline_log_bytes")]
    pub inline_log_bytes: u64,
    /// Regions that may forget or lie about registers (b).
    #[serde(default)]
    pub liars: u8,
    /// Shards that are durable before a vote; absent is what the store chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ack_shards: Option<u8>,
    /// How long a version stays readable after another took its place, in seconds; nothing is collected before.
    #[serde(default = "default_retention_seconds")]
    pub retention_seconds: u64,
    /// How long a write waits for the remaining shards, in milliseconds.
    #[serde(default = "default_grace_ms")]
    pub grace_ms: u64,
    /// How long a read waits for a region, at most, before it also asks others, in milliseconds.
    #[serde(default = "default_hedge_ms")]
    pub hedge_ms: u64,
    /// Bytes that may be read on top because regions are slow, in percent of all bytes that are read.
    #[serde(default = "default_hedge_percent")]
    pub hedge_percent: u8,
    /// Which regions get the shards of new objects.
    #[serde(default)]
    pub placement: Placement,
}

fn default_segment_bytes() -> u64 {
    Profile::new(1, 0).segment_bytes
}

fn default_inline_bytes() -> u64 {
    Profile::new(1, 0).inline_bytes
}

fn default_inline_log_bytes() -> u64 {
    Profile::new(1, 0).inline_log_bytes
}

/// Thirty days.
fn default_retention_seconds() -> u64 {
    30 * 24 * 60 * 60
}

fn default_grace_ms() -> u64 {
    u64::try_from(Profile::new(1, 0).grace.as_millis()).unwrap_or(u64::MAX)
}

fn default_hedge_ms() -> u64 {
    u64::try_from(Profile::new(1, 0).hedge.as_millis()).unwrap_or(u64::MAX)
}

fn default_hedge_percent() -> u8 {
    Profile::new(1, 0).hedge_percent
}

impl ProfileConfig {
    /// `data` + `parity` shards, all else at its default.
    pub fn new(data: u8, parity: u8) -> Self {
        Self {
            data,
            parity,
            segment_bytes: default_segment_bytes(),
            inline_bytes: default_inline_bytes(),
            inline_log_bytes: default_inline_log_bytes(),
            liars: 0,
            ack_shards: None,
            retention_seconds: default_retention_seconds(),
            grace_ms: default_grace_ms(),
            hedge_ms: default_hedge_ms(),
            hedge_percent: default_hedge_percent(),
            placement: Placement::default(),
        }
    }

    /// As the store takes it.
    pub fn to_profile(&self) -> Profile {
        let mut profile = Profile::new(self.data, self.parity);
        profile.segment_bytes = self.segment_bytes;
        profile.inline_bytes = self.inline_bytes;
        profile.inline_log_bytes = self.inline_log_bytes;
        profile.ack_shards = self.ack_shards;
        profile.grace = Duration::from_millis(self.grace_ms);
        profile.hedge = Duration::from_millis(self.hedge_ms);
        profile.hedge_percent = self.hedge_percent;
        profile.placement = self.placement;
        profile
    }

    /// The quorums over `regions` regions; refuses a profile that cannot be placed on them.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] naming what does not fit.
    pub fn quorums(&self, regions: usize) -> Result<Quorums> {
        let n = u8::try_from(regions).unwrap_or(u8::MAX);
        let quorums = Quorums::new(n, self.liars)?;
        self.to_profile().check(regions)?;
        Ok(quorums)
    }
}

/// One region of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionConfig {
    /// Its name.
    pub name: RegionName,
    /// A directory (relative to the file) or a URL.
    pub url: String,
    /// Whether a directory is synced before a write is acknowledged.
    pub fsync: bool,
    /// Time limit of a request, in milliseconds.
    pub timeout_ms: u64,
    /// What reading a GiB from it costs, in millionths of any one currency; the file says it in whole ones, as `cost_per_gib`.
    pub cost_micros_per_gib: u64,
    /// Requests that it is sent at a time.
    pub concurrency: usize,
    /// Options of the store, without secrets.
    pub options: BTreeMap<String, String>,
}

impl RegionConfig {
    /// A region with default options.
    pub fn new(name: RegionName, url: impl Into<String>) -> Self {
        Self {
            name,
            url: url.into(),
            fsync: true,
            timeout_ms: 30_000,
            cost_micros_per_gib: 0,
            concurrency: region::CONCURRENCY,
            options: BTreeMap::new(),
        }
    }

    /// Its store. `base` is the directory of the configuration file.
    ///
    /// # Errors
    /// As [`region::open`].
    pub fn open(&self, base: &Path) -> Result<Arc<dyn ObjectStore>> {
        region::key_room(&self.url).map_err(|error| error.with("region", &self.name))?;
        let options = region::OpenOptions { name: Some(&self.name), fsync: self.fsync, base: Some(base), options: self.options.clone() };
        region::open(&self.url, &options).map_err(|error| error.with("region", &self.name))
    }
}

/// A lake's configuration, as a user of the lake has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LakeConfig {
    /// The lake's name: `lakeseal://<name>/…`.
    pub name: String,
    /// The lake's identity.
    pub id: LakeId,
    /// The key that signs the lake's own configuration.
    pub root_key: PublicKey,
    /// Where the writer's private key lies, if the file says so; made absolute.
    pub writer_key: Option<PathBuf>,
    /// The profile.
    pub profile: ProfileConfig,
    /// The regions, in order.
    pub regions: Vec<RegionConfig>,
    /// The directory of the file, which relative directories are relative to.
    pub directory: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileText {
    name: String,
    id: String,
    root_key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    writer_key: Option<PathBuf>,
    profile: ProfileConfig,
    region: Vec<RegionText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RegionText {
    name: String,
    url: String,
    #[serde(default = "yes")]
    fsync: bool,
    #[serde(default = "default_timeout_ms")]
    timeout_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cost_per_gib: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    concurrency: Option<usize>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    options: BTreeMap<String, String>,
}

/// Dearest region, in whole units of a currency per GiB.
const COST_LIMIT: f64 = 1_000_000.0;

/// The cost of a file, in millionths.
fn micros(cost_per_gib: f64) -> Result<u64> {
    if !(0.0..=COST_LIMIT).contains(&cost_per_gib) {
        return Err(Error::new(ErrorKind::Config, "cost_per_gib is a number between 0 and 1000000").with("cost_per_gib", cost_per_gib));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked")]
    Ok((cost_per_gib * 1e6).round() as u64)
}

fn yes() -> bool {
    true
}

fn default_timeout_ms() -> u64 {
    30_000
}

impl LakeConfig {
    /// Reads and checks a file. Nothing else is touched.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] naming file, line and what is expected.
    pub fn load(path: &Path) -> Result<Self> {
        let place = |error: Error| error.with("file", path.display());
        let unreadable = |e: std::io::Error| {
            place(Error::new(ErrorKind::Config, "the lake's configuration cannot be read; make a lake with `lakeseal init`").caused_by(e))
        };
        if std::fs::metadata(path).map_err(unreadable)?.len() > FILE_LIMIT_BYTES {
            return Err(place(Error::new(ErrorKind::Config, "the configuration is larger than 1 MiB; is this the right file?")));
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let directory = absolute.parent().map(Path::to_owned).unwrap_or_default();
        Self::parse(&text, directory).map_err(place)
    }

    /// Reads and checks the text of a file in `directory`.
    ///
    /// # Errors
    /// As [`Self::load`], without the file's name.
    pub fn parse(text: &str, directory: PathBuf) -> Result<Self> {
        let file: FileText = toml::from_str(text).map_err(|e| {
            Error::new(ErrorKind::Config, "the lake's configuration is malformed; correct the line shown")
                .caused_by(e.to_string().trim().to_owned())
        })?;
        let bad = |field: &'static str| move |e: Error| Error::new(ErrorKind::Config, format!("`{field}`: {}", e.message())).caused_by(e);
        let regions = file.region.into_iter().map(|region| {
            region::check_options(&region.options).map_err(|e| e.with("region", &region.name))?;
            Ok(RegionConfig {
                name: region.name.parse()?,
                url: region.url,
                fsync: region.fsync,
                timeout_ms: region.timeout_ms,
                cost_micros_per_gib: micros(region.cost_per_gib.unwrap_or(0.0)).map_err(|e| e.with("region", &region.name))?,
                concurrency: region.concurrency.unwrap_or(region::CONCURRENCY),
                options: region.options,
            })
        });
        let config = Self {
            name: file.name,
            id: file.id.parse().map_err(bad("id"))?,
            root_key: file.root_key.parse().map_err(bad("root_key"))?,
            writer_key: file.writer_key.map(|key| directory.join(key)),
            profile: file.profile,
            regions: regions.collect::<Result<_>>()?,
            directory,
        };
        config.check()?;
        Ok(config)
    }

    /// Checks that name, regions and profile fit together.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] naming what does not.
    pub fn check(&self) -> Result<()> {
        // A region that lies within another was a mistake when the lake was made; it is no reason to keep anybody from what is in it.
        check_plan(&self.name, &self.regions, &self.profile, |a, b| a.trim_end_matches('/') == b.trim_end_matches('/'))
    }

    /// As [`Self::check`], before a region is added or moved: none may lie within another.
    pub(crate) fn check_new(&self) -> Result<()> {
        check_plan(&self.name, &self.regions, &self.profile, |a, b| overlap(a, b, &self.directory))
    }

    /// The file's text.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when it cannot be put into TOML.
    pub fn to_text(&self) -> Result<String> {
        let region = self.regions.iter().map(|region| RegionText {
            name: region.name.to_string(),
            url: region.url.clone(),
            fsync: region.fsync,
            timeout_ms: region.timeout_ms,
            cost_per_gib: (region.cost_micros_per_gib > 0).then(|| region.cost_micros_per_gib as f64 / 1e6),
            concurrency: (region.concurrency != region::CONCURRENCY).then_some(region.concurrency),
            options: region.options.clone(),
        });
        let file = FileText {
            name: self.name.clone(),
            id: self.id.to_string(),
            root_key: self.root_key.to_string(),
            writer_key: self.writer_key.clone(),
            profile: self.profile,
            region: region.collect(),
        };
        let text = toml::to_string(&file).map_err(|e| Error::new(ErrorKind::Internal, "a configuration cannot be written").caused_by(e))?;
        Ok(format!("# A lake of lakeseal. Secrets do not belong here: they come from the environment.\n{text}"))
    }

    /// Writes a new file: whole or not at all, and never over another.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] or [`ErrorKind::Io`].
    pub fn save_new(&self, path: &Path) -> Result<()> {
        self.save(path, false)
    }

    /// Writes the file in place of the one that is there: whole or not at all. Comments in the old one are lost.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn save_over(&self, path: &Path) -> Result<()> {
        self.save(path, true)
    }

    fn save(&self, path: &Path, over: bool) -> Result<()> {
        let failed = |e: std::io::Error| {
            let (kind, what) = match e.kind() {
                std::io::ErrorKind::AlreadyExists => {
                    (ErrorKind::AlreadyExists, "there is a configuration already; name another with --config")
                }
                _ => (ErrorKind::Io, "the configuration could not be written"),
            };
            Error::new(kind, what).with("file", path.display()).caused_by(e)
        };
        let text = self.to_text()?;
        write_whole(path, text.as_bytes(), over).map_err(failed)
    }
}

/// Whether two locations are one however they are spelled, directories being relative to `base`.
pub(crate) fn same_place(a: &str, b: &str, base: &Path) -> bool {
    place(a, base) == place(b, base)
}

/// Whether what befalls one location befalls the other: they are one, or one lies within the other.
pub(super) fn overlap(a: &str, b: &str, base: &Path) -> bool {
    let (a, b) = (place(a, base), place(b, base));
    a.starts_with(&b) || b.starts_with(&a)
}

/// A directory without detours in its spelling; else the URL in parts. Links are not followed: the disk of a lost region may answer nothing at all.
fn place(location: &str, base: &Path) -> PathBuf {
    let Ok(Some(directory)) = location_directory(location, Some(base)) else {
        return PathBuf::from(location.trim_end_matches('/'));
    };
    let directory = std::path::absolute(&directory).unwrap_or(directory);
    let mut place = PathBuf::new();
    for part in directory.components() {
        match part {
            Component::ParentDir => drop(place.pop()),
            Component::CurDir => {}
            other => place.push(other),
        }
    }
    place
}

/// Checks a plan for a lake; `collide` tells which locations two regions may not have.
pub(super) fn check_plan(
    name: &str,
    regions: &[RegionConfig],
    profile: &ProfileConfig,
    collide: impl Fn(&str, &str) -> bool,
) -> Result<()> {
    let fits = (1..=NAME_LIMIT_BYTES).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !fits {
        let what = "a lake's name is 1 to 63 lower-case letters, digits and '-', beginning with a letter";
        return Err(Error::new(ErrorKind::Config, what).with("name", name));
    }
    for (i, region) in regions.iter().enumerate() {
        let others = regions.iter().skip(i + 1);
        if let Some(twin) = others.clone().find(|other| other.name == region.name || collide(&other.url, &region.url)) {
            let what = "two regions have the same name or location, or one lies within the other; each needs its own, in a place that fails independently";
            return Err(Error::new(ErrorKind::Config, what).with("region", &region.name).with("region", &twin.name));
        }
        if region.timeout_ms == 0 {
            return Err(Error::new(ErrorKind::Config, "timeout_ms must be greater than 0").with("region", &region.name));
        }
        if region.concurrency == 0 {
            return Err(Error::new(ErrorKind::Config, "concurrency must be greater than 0").with("region", &region.name));
        }
    }
    profile.quorums(regions.len()).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_apart_by_where_they_are_and_not_by_how_they_are_spelled() {
        let base = Path::new("/lake");
        for (a, b, same, overlapping) in [
            ("./r/a", "r/a", true, true),
            ("r/a/", "/lake/r/./a", true, true),
            ("r/x/../a", "r/a", true, true),
            ("r/a", "r/a/b", false, true),
            ("r/a", "r/ab", false, false),
            ("r/a", "r/b", false, false),
            ("s3://bucket/a/", "s3://bucket/a", true, true),
            ("s3://bucket", "s3://bucket/a", false, true),
            ("s3://bucket/a", "s3://bucket/ab", false, false),
            ("s3://bucket/a", "gs://bucket/a", false, false),
        ] {
            assert_eq!((same_place(a, b, base), overlap(a, b, base)), (same, overlapping), "{a} {b}");
            assert_eq!((same_place(b, a, base), overlap(b, a, base)), (same, overlapping), "{b} {a}");
        }
    }
}
