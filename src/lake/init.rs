//! Making a lake over empty regions.

use std::path::PathBuf;

use futures::{StreamExt as _, TryStreamExt as _};
use object_store::PutPayload;

use super::config::{LakeConfig, ProfileConfig, RegionConfig, check_plan, overlap};
use super::record::{ID_LIMIT_BYTES, LakeRecord, RegionPlace, RegionRecord, RegionState};
use super::region_over;
use crate::clock::SharedClock;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{IncarnationId, LakeId};
use crate::key::{PrivateKey, Role};
use crate::region::directory::DirectoryStore;
use crate::region::{Created, Region, layout, location_directory};

/// What a new lake shall be.
#[derive(Debug, Clone)]
pub struct InitPlan {
    /// Where the configuration goes; there must be none.
    pub config_path: PathBuf,
    /// The lake's name.
    pub name: String,
    /// Its regions.
    pub regions: Vec<RegionConfig>,
    /// Its profile.
    pub profile: ProfileConfig,
    /// Under it, `<lake id>/root.pem`, `writer.pem` and `collector.pem` are made, mode 0600.
    pub lakes_keys: PathBuf,
    /// What time it is.
    pub clock: SharedClock,
}

/// Makes a lake: keys, then every region's `id`, then its configuration, then the file, last and at once.
///
/// Directories that do not exist are made. When it fails half-way, what it wrote is taken back as far as regions allow.
///
/// # Errors
/// [`ErrorKind::Config`] for a plan that cannot work or a region that is not empty; whatever a region fails with.
pub async fn init(plan: InitPlan) -> Result<LakeConfig> {
    let path = std::path::absolute(&plan.config_path).unwrap_or_else(|_| plan.config_path.clone());
    let directory = path.parent().map(std::path::Path::to_owned).unwrap_or_default();
    check_plan(&plan.name, &plan.regions, &plan.profile, |a, b| overlap(a, b, &directory))?;
    if plan.config_path.exists() {
        let what = "there is a configuration already; name another with --config, or use the lake that it describes";
        return Err(Error::new(ErrorKind::AlreadyExists, what).with("file", plan.config_path.display()));
    }
    let mut regions = Vec::new();
    for (index, config) in (0..).zip(&plan.regions) {
        if let Some(place) = location_directory(&config.url, Some(&directory))? {
            DirectoryStore::new(place, config.fsync).make_root().map_err(|e| e.with("region", &config.name))?;
        }
        regions.push(region_over(config, index, config.open(&directory)?));
    }
    for region in &regions {
        check_empty(region).await?;
    }
    let id = LakeId::random()?;
    let (root, writer, collector) = (PrivateKey::generate()?, PrivateKey::generate()?, PrivateKey::generate()?);
    let keys = plan.lakes_keys.join(id.to_string());
    save_keys(&keys, &[(Role::Root, &root), (Role::Writer, &writer), (Role::Collector, &collector)])?;
    let config = LakeConfig {
        name: plan.name.clone(),
        id,
        root_key: root.public(),
        writer_key: None,
        profile: plan.profile,
        regions: plan.regions.clone(),
        directory,
    };
    let mut made = Vec::new();
    let outcome = match write_records(&config, &plan, &regions, [&root, &writer, &collector], &mut made).await {
        Ok(()) => config.save_new(&plan.config_path),
        Err(error) => Err(error),
    };
    if let Err(error) = outcome {
        // Nobody has been told of this lake yet; what stays behind names itself to the next attempt.
        for (region, key) in &made {
            let _kept = region.delete(key).await;
        }
        let _kept = std::fs::remove_dir_all(&keys);
        return Err(error);
    }
    Ok(config)
}

/// Refuses a region that holds anything.
pub(crate) async fn check_empty(region: &Region) -> Result<()> {
    if let Some(bytes) = region.get(&layout::id_key(), ID_LIMIT_BYTES).await? {
        let lake = RegionRecord::claimed_lake(&bytes).map_or_else(|| "of unknown format".to_owned(), |lake| lake.to_string());
        let what = "the region belongs to a lake already; name another place (or empty it, if the making of that lake was broken off)";
        return Err(Error::new(ErrorKind::Config, what).with("region", region.name()).with("lake", lake));
    }
    let first = region.list(&object_store::path::Path::default(), None).next().await.transpose()?;
    match first {
        None => Ok(()),
        Some(object) => Err(Error::new(ErrorKind::Config, "the region is not empty; name an empty directory or prefix for it")
            .with("region", region.name())
            .with("object", object.location)),
    }
}

fn save_keys(directory: &std::path::Path, keys: &[(Role, &PrivateKey)]) -> Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    let failed = |e: std::io::Error| {
        Error::new(ErrorKind::Io, "the directory for keys could not be made").with("directory", directory.display()).caused_by(e)
    };
    builder.create(directory).map_err(failed)?;
    keys.iter().try_for_each(|(role, key)| key.save_new(&directory.join(format!("{role}.pem"))))
}

async fn write_records<'a>(
    config: &LakeConfig,
    plan: &InitPlan,
    regions: &'a [Region],
    [root, writer, collector]: [&PrivateKey; 3],
    made: &mut Vec<(&'a Region, object_store::path::Path)>,
) -> Result<()> {
    let created_ms = plan.clock.now_ms();
    let mut places = Vec::new();
    for region in regions {
        let record = RegionRecord { lake: config.id, name: region.name().clone(), incarnation: IncarnationId::random()?, created_ms };
        create(region, layout::id_key(), record.seal(root)?, made).await?;
        let (since, added, left) = (0, 0, 0);
        places.push(RegionPlace { name: record.name, incarnation: record.incarnation, since, state: RegionState::Voting, added, left });
    }
    let record = LakeRecord {
        lake: config.id,
        number: 0,
        created_ms,
        name: config.name.clone(),
        profile: config.profile,
        writes_paused: false,
        regions: places,
        writers: vec![writer.public()],
        collectors: vec![collector.public()],
    };
    let bytes = record.seal(root)?;
    for region in regions {
        create(region, layout::configuration_key(0), bytes.clone(), made).await?;
    }
    // Read back: a region that acknowledges and forgets shall be found now.
    futures::stream::iter(regions)
        .then(|region| async {
            let found = region.get(&layout::configuration_key(0), super::record::CONFIGURATION_LIMIT_BYTES).await?;
            let forgot = || Error::new(ErrorKind::Corrupt, "the region did not keep what it acknowledged").with("region", region.name());
            if found.as_deref() == Some(bytes.as_slice()) { Ok(()) } else { Err(forgot()) }
        })
        .try_collect()
        .await
}

async fn create<'a>(
    region: &'a Region,
    key: object_store::path::Path,
    bytes: Vec<u8>,
    made: &mut Vec<(&'a Region, object_store::path::Path)>,
) -> Result<()> {
    match region.create(&key, PutPayload::from(bytes)).await? {
        Created::Made => {
            made.push((region, key));
            Ok(())
        }
        Created::Exists => {
            Err(Error::new(ErrorKind::AlreadyExists, "another lake is being made in this region").with("region", region.name()))
        }
    }
}
