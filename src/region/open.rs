//! From a directory or URL to a store.

use std::collections::BTreeMap;
use std::path::Path as FsPath;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ObjectStore, ObjectStoreScheme, RetryConfig};
use parking_lot::Mutex;
use url::Url;

use super::directory::DirectoryStore;
use crate::error::{Error, ErrorKind, Result};
use crate::id::RegionName;

/// Options that a configuration file may hold; everything else comes from the environment.
const FILE_OPTIONS: [&str; 10] = [
    "endpoint",
    "region",
    "allow_http",
    "virtual_hosted_style_request",
    "aws_endpoint",
    "aws_region",
    "aws_allow_http",
    "aws_virtual_hosted_style_request",
    "azure_storage_account_name",
    "azure_storage_use_emulator",
];
const SECRET_WORDS: [&str; 6] = ["secret", "password", "token", "key", "credential", "sas"];

/// How [`open`] opens.
#[derive(Debug, Clone)]
pub struct OpenOptions<'a> {
    /// The region's name: `LAKESEAL_REGION_<NAME>_AWS_…` (upper case, `-` as `_`) goes before `AWS_…` for it.
    pub name: Option<&'a RegionName>,
    /// Whether a directory is synced before a write is acknowledged.
    pub fsync: bool,
    /// What relative directories are relative to; absent is the current directory.
    pub base: Option<&'a FsPath>,
    /// Options of the configuration file, without secrets.
    pub options: BTreeMap<String, String>,
}

impl Default for OpenOptions<'_> {
    fn default() -> Self {
        Self { name: None, fsync: true, base: None, options: BTreeMap::new() }
    }
}

/// Longest key, in bytes, that the clouds' stores take.
const CLOUD_KEY_LIMIT_BYTES: usize = 1024;
/// Longest prefix of a region within its bucket or container, in bytes: with it every entry and shard has room. Decided markers of the longest
/// paths have not; they are hints, and are left out there.
pub const PREFIX_LIMIT_BYTES: usize = 200;

/// How long a key below `location` may be, in bytes, as far as it is known to be limited.
///
/// # Errors
/// [`ErrorKind::Config`] for a prefix over [`PREFIX_LIMIT_BYTES`], and for what is no URL.
pub fn key_room(location: &str) -> Result<Option<usize>> {
    if !location.contains("://") || location.starts_with("file:") {
        return Ok(None);
    }
    let url = parse(location)?;
    // What no store is made for is refused where it is opened.
    let Ok((_, prefix)) = ObjectStoreScheme::parse(&url) else { return Ok(None) };
    let bytes = prefix.as_ref().len();
    if bytes > PREFIX_LIMIT_BYTES {
        let what = format!(
            "the prefix in the region's URL has {bytes} bytes, and {PREFIX_LIMIT_BYTES} are allowed: keys below it would be too long"
        );
        return Err(Error::new(ErrorKind::Config, what).with("url", location));
    }
    Ok(Some(CLOUD_KEY_LIMIT_BYTES - if bytes == 0 { 0 } else { bytes + 1 }))
}

/// The directory that `location` names, when it is one (a path or a `file:` URL).
///
/// # Errors
/// [`ErrorKind::Config`] for a `file:` URL that names no path.
pub fn directory(location: &str, base: Option<&FsPath>) -> Result<Option<std::path::PathBuf>> {
    if location.is_empty() {
        return Err(Error::new(ErrorKind::Config, "a region's location is empty; name a directory or a URL"));
    }
    if location.starts_with("file:") {
        let path = parse(location)?.to_file_path();
        return path.map(Some).map_err(|()| Error::new(ErrorKind::Config, "not the URL of a directory").with("url", location));
    }
    if location.contains("://") || location.starts_with("memory:") {
        return Ok(None);
    }
    let path = FsPath::new(location);
    Ok(Some(base.map_or_else(|| path.to_owned(), |base| base.join(path))))
}

/// Opens a directory, or a `file:`, `memory:`, `s3:`, `az:` or `gs:` URL, as a store whose root is that place. No request is sent.
///
/// Credentials come from the environment as `object_store` reads it (`AWS_*`, `AZURE_*`, `GOOGLE_*`), per region before in general.
/// `memory:NAME` is one store per name and process.
///
/// # Errors
/// [`ErrorKind::Config`] for what cannot be opened, and for secrets in `options`.
pub fn open(location: &str, options: &OpenOptions<'_>) -> Result<Arc<dyn ObjectStore>> {
    check_options(&options.options)?;
    if let Some(directory) = directory(location, options.base)? {
        return Ok(Arc::new(DirectoryStore::new(directory, options.fsync)));
    }
    if location.starts_with("memory:") {
        return Ok(memory(location));
    }
    let url = parse(location)?;
    if !matches!(url.scheme(), "s3" | "s3a" | "az" | "azure" | "abfs" | "abfss" | "gs" | "https") {
        return Err(Error::new(ErrorKind::Config, "a region is a directory or a file:, memory:, s3:, az: or gs: URL").with("url", location));
    }
    if !url.username().is_empty() && url.password().is_some() {
        return Err(Error::new(ErrorKind::Config, "a URL with a password is refused: credentials come from the environment"));
    }
    let settings = settings(options, std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))));
    let (store, prefix) = cloud(&url, settings).map_err(|e| {
        Error::new(ErrorKind::Config, "the region's store could not be set up; check its URL and the environment")
            .with("url", location)
            .caused_by(e)
    })?;
    Ok(if prefix.as_ref().is_empty() { store } else { Arc::new(PrefixStore::new(store, prefix)) })
}

/// Retries of a cloud store, within one request of ours: short, so that a region that is down is known to be in good time. Others stand in
/// for it, and creates are never repeated by us: what became of one is read.
fn retries() -> RetryConfig {
    let backoff = BackoffConfig { init_backoff: Duration::from_millis(50), max_backoff: Duration::from_secs(1), base: 2.0 };
    RetryConfig { backoff, max_retries: 3, retry_timeout: Duration::from_secs(10) }
}

/// As `object_store::parse_url_opts` does it, which takes no retries.
fn cloud(url: &Url, settings: Vec<(String, String)>) -> object_store::Result<(Arc<dyn ObjectStore>, Path)> {
    macro_rules! build {
        ($builder:ty) => {{
            let builder = settings.into_iter().fold(<$builder>::new().with_url(url.to_string()), |builder, (name, value)| {
                match name.parse() {
                    Ok(name) => builder.with_config(name, value),
                    // The environment holds settings of other clouds, too.
                    Err(_) => builder,
                }
            });
            Arc::new(builder.with_retry(retries()).build()?)
        }};
    }
    let (scheme, prefix) = ObjectStoreScheme::parse(url)?;
    let store: Arc<dyn ObjectStore> = match scheme {
        ObjectStoreScheme::AmazonS3 => build!(AmazonS3Builder),
        ObjectStoreScheme::MicrosoftAzure => build!(MicrosoftAzureBuilder),
        ObjectStoreScheme::GoogleCloudStorage => build!(GoogleCloudStorageBuilder),
        _ => return object_store::parse_url_opts(url, settings).map(|(store, prefix)| (Arc::from(store), prefix)),
    };
    Ok((store, prefix))
}

fn parse(location: &str) -> Result<Url> {
    Url::parse(location).map_err(|e| Error::new(ErrorKind::Config, "not a URL").with("url", location).caused_by(e))
}

fn memory(location: &str) -> Arc<dyn ObjectStore> {
    static STORES: Mutex<BTreeMap<String, Arc<InMemory>>> = Mutex::new(BTreeMap::new());
    #[cfg(test)]
    if let Some(store) = super::simulated::get(location) {
        return store;
    }
    let store: Arc<InMemory> = Arc::clone(STORES.lock().entry(location.to_owned()).or_default());
    store
}

/// Refuses secrets and unknown names among a configuration file's options.
///
/// # Errors
/// [`ErrorKind::Config`] naming the option.
pub fn check_options(options: &BTreeMap<String, String>) -> Result<()> {
    for name in options.keys() {
        let lower = name.to_ascii_lowercase();
        if FILE_OPTIONS.contains(&lower.as_str()) {
            continue;
        }
        let what = if SECRET_WORDS.iter().any(|word| lower.contains(word)) {
            "secrets do not belong into a configuration file: set AWS_…, AZURE_… or GOOGLE_… in the environment, \
             or LAKESEAL_REGION_<NAME>_AWS_… for one region"
                .to_owned()
        } else {
            format!("not an option of a region; there are {}", FILE_OPTIONS.join(", "))
        };
        return Err(Error::new(ErrorKind::Config, what).with("option", name));
    }
    Ok(())
}

/// Settings in the order in which later ones win: the environment, the file, the environment for this region.
fn settings(options: &OpenOptions<'_>, environment: impl Iterator<Item = (String, String)>) -> Vec<(String, String)> {
    let own = options.name.map(|name| format!("LAKESEAL_REGION_{}_", name.as_str().to_ascii_uppercase().replace('-', "_")));
    let (mut general, mut scoped) = (Vec::new(), Vec::new());
    for (name, value) in environment {
        if let Some(rest) = own.as_ref().and_then(|own| name.strip_prefix(own)) {
            scoped.push((rest.to_ascii_lowercase(), value));
        } else if ["AWS_", "AZURE_", "GOOGLE_"].iter().any(|cloud| name.starts_with(cloud)) {
            general.push((name.to_ascii_lowercase(), value));
        }
    }
    general.extend(options.options.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())));
    general.extend(scoped);
    general
}

#[cfg(test)]
mod tests {
    use object_store::{ObjectStoreExt as _, PutPayload};

    use super::*;

    #[tokio::test]
    async fn directories_and_memory_open() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("r")).unwrap();
        let options = OpenOptions { base: Some(dir.path()), ..OpenOptions::default() };
        let key = Path::from("a");
        open("r", &options).unwrap().put(&key, PutPayload::from("x")).await.unwrap();
        let url = format!("file://{}/r", dir.path().display());
        assert!(open(&url, &options).unwrap().get(&key).await.is_ok());
        open("memory:open-test", &options).unwrap().put(&key, PutPayload::from("x")).await.unwrap();
        assert!(open("memory:open-test", &options).unwrap().get(&key).await.is_ok());
        for bad in ["", "ftp://x/y", "http://127.0.0.1/x", "s3://"] {
            assert_eq!(open(bad, &options).unwrap_err().kind(), ErrorKind::Config, "{bad}");
        }
    }

    #[test]
    fn a_prefix_leaves_room_for_every_entry_and_a_longer_one_is_refused() {
        let entry = crate::region::layout::KEY_LIMIT_BYTES - crate::region::layout::MARKER_TAG_LIMIT_BYTES;
        assert_eq!((key_room("regions/eu").unwrap(), key_room("memory:eu").unwrap(), key_room("file:///eu").unwrap()), (None, None, None));
        assert_eq!((key_room("s3://bucket").unwrap(), key_room("gs://bucket/lake/eu/").unwrap()), (Some(1024), Some(1024 - 8)));
        let longest = "p".repeat(PREFIX_LIMIT_BYTES);
        assert!(key_room(&format!("s3://bucket/{longest}")).unwrap().unwrap() > entry);
        let error = key_room(&format!("s3://bucket/{longest}q")).unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains("201 bytes"), "{error}");
    }

    #[test]
    fn secrets_in_a_file_are_refused_and_the_region_goes_first() {
        let name: RegionName = "eu-1".parse().unwrap();
        let option = |key: &str| BTreeMap::from([(key.to_owned(), "file".to_owned())]);
        assert!(check_options(&option("aws_secret_access_key")).unwrap_err().message().contains("environment"));
        assert!(check_options(&option("nonsense")).is_err());
        let options = OpenOptions { name: Some(&name), options: option("aws_region"), ..OpenOptions::default() };
        let environment = [
            ("LAKESEAL_REGION_EU_1_AWS_REGION", "scoped"),
            ("AWS_REGION", "general"),
            ("LAKESEAL_REGION_US_AWS_REGION", "other"),
            ("PATH", "x"),
        ];
        let found = settings(&options, environment.map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter());
        let values: Vec<_> = found.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(values, ["general", "file", "scoped"]);
    }
}
