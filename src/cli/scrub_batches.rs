//! A scrub in batches of names. Behind each batch, the place to go on and all that was found so far are kept in the user's home: a scrub that was stopped is
//! gone on with, and its end tells what its beginning found.

use std::io::ErrorKind as IoKind;
use std::path::{Path as FsPath, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::care::object_path;
use crate::error::{Error, ErrorKind, Result};
use crate::lake::write_whole;
use crate::store::{ErasureStore, ScrubOptions, ScrubProgress, ScrubReport};

/// The version of what is kept.
const VERSION: u32 = 1;
/// The most that is read of it, in bytes: a report holds a bounded number of findings.
const FILE_LIMIT_BYTES: u64 = 64 * 1024 * 1024;

/// How a scrub is cut into batches.
pub(super) struct Batches {
    /// Where the place to go on is kept.
    pub(super) file: PathBuf,
    /// Names that are scrubbed before it is written down for the first time. Then it is as many as take a while, whatever the names are.
    pub(super) names: u64,
    /// The most of them.
    pub(super) names_limit: u64,
    /// Whether to go on with a scrub that was stopped.
    pub(super) resume: bool,
}

/// What a scrub was asked. Reports of two that were asked differently are no report of one.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Asked {
    repair: bool,
    verify: bool,
    /// As text: a number that is read back may be another.
    sample: Option<String>,
    prefix: Option<String>,
}

impl Asked {
    fn of(options: &ScrubOptions) -> Self {
        Self {
            repair: options.repair,
            verify: options.verify,
            sample: options.sample.map(|sample| sample.to_string()),
            prefix: options.prefix.as_ref().map(ToString::to_string),
        }
    }

    /// The command that asks this.
    fn command(&self) -> String {
        let mut command = "lakeseal scrub --resume".to_owned();
        for (is_given, flag) in [(self.repair, " --repair"), (!self.verify, " --quick")] {
            if is_given {
                command.push_str(flag);
            }
        }
        for (value, flag) in [(&self.sample, "sample"), (&self.prefix, "prefix")] {
            if let Some(value) = value {
                command.push_str(&format!(" --{flag} {value}"));
            }
        }
        command
    }
}

/// What is kept of a scrub that is not at its end: the report says behind which name to go on.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    version: u32,
    asked: Asked,
    report: ScrubReport,
}

/// Batches that take less are made larger, those that take more smaller.
const SHORT: Duration = Duration::from_secs(10);
const LONG: Duration = Duration::from_secs(60);

/// The command that goes on with a scrub of these options.
pub(super) fn resuming(options: &ScrubOptions) -> String {
    Asked::of(options).command()
}

impl Batches {
    /// Scrubs a batch of names at a time, and gives the report of all, those of the scrub that is gone on with included.
    ///
    /// What was found is told, whatever happens to a later batch, and where the scrub is stopped: the report then says that it was interrupted. A batch
    /// that was to be repaired when it was stopped is gone on with at its beginning; what is repaired already is found to be intact then.
    ///
    /// # Errors
    /// Those of a scrub whose first batch fails; [`ErrorKind::InvalidInput`] when what was stopped was asked something else; those of reading the file.
    pub(super) async fn scrub(&self, store: &ErasureStore, mut options: ScrubOptions, progress: &dyn ScrubProgress) -> Result<ScrubReport> {
        let asked = Asked::of(&options);
        let mut all = if self.resume {
            self.read(&asked)?
        } else {
            // A place that is kept from before is not where this scrub goes on, wherever it ends.
            self.forget(&asked)?;
            None
        };
        let mut names = self.names;
        loop {
            options.names_limit = Some(names);
            let begun = Instant::now();
            let place = all.as_ref().and_then(|all| all.resume_after.as_deref());
            options.resume_after = place.map(object_path).transpose()?;
            let report = match (store.scrub(&options, progress).await, &mut all) {
                (Ok(report), _) => report,
                (Err(error), None) => return Err(error),
                // What is kept stays as it is: the next scrub goes on where this one could not.
                (Err(error), Some(all)) => {
                    all.interrupted = Some(error.to_string());
                    return Ok(all.clone());
                }
            };
            let is_over = report.resume_after.is_none() || report.interrupted.is_some();
            if options.repair && options.stop.is_said() && report.interrupted.is_some() {
                let place = all.as_ref().and_then(|all| all.resume_after.clone());
                let mut so_far = all.take().unwrap_or_default();
                so_far.absorb(report, options.findings_limit);
                return Ok(ScrubReport { resume_after: place, ..so_far });
            }
            names = match begun.elapsed() {
                took if took < SHORT => names.saturating_mul(2).min(self.names_limit),
                took if took > LONG => (names / 2).max(1),
                _ => names,
            };
            let mut so_far = match all.take() {
                Some(mut all) => {
                    all.absorb(report, options.findings_limit);
                    all
                }
                None => report,
            };
            let kept = match &so_far.resume_after {
                Some(_) => self.write(&asked, &so_far),
                None => self.forget(&asked),
            };
            if let Err(error) = &kept {
                so_far.interrupted.get_or_insert_with(|| error.to_string());
            }
            if is_over || kept.is_err() {
                return Ok(so_far);
            }
            all = Some(so_far);
        }
    }

    /// What is kept of a scrub that was stopped, if there is any.
    fn read(&self, asked: &Asked) -> Result<Option<ScrubReport>> {
        let Some(kept) = self.kept()? else { return Ok(None) };
        if kept.asked != *asked {
            let what = "the scrub that was interrupted looked at something else, or otherwise: go on with it by the command below, or begin anew \
                        without --resume";
            return Err(Error::new(ErrorKind::InvalidInput, what).with("command", kept.asked.command()).with("file", self.file.display()));
        }
        Ok(Some(ScrubReport { interrupted: None, ..kept.report }))
    }

    fn kept(&self) -> Result<Option<Kept>> {
        let bytes = match std::fs::metadata(&self.file) {
            Err(error) if error.kind() == IoKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed(error)),
            Ok(meta) if meta.len() > FILE_LIMIT_BYTES => return Err(self.not_understood()),
            Ok(_) => std::fs::read(&self.file).map_err(|error| self.failed(error))?,
        };
        let kept: Kept = serde_json::from_slice(&bytes).map_err(|error| self.not_understood().caused_by(error))?;
        if kept.version != VERSION || kept.report.resume_after.is_none() {
            return Err(self.not_understood().with("version", kept.version));
        }
        Ok(Some(kept))
    }

    fn write(&self, asked: &Asked, report: &ScrubReport) -> Result<()> {
        #[derive(Serialize)]
        struct Keeping<'a> {
            version: u32,
            asked: &'a Asked,
            report: &'a ScrubReport,
        }
        let text = serde_json::to_vec(&Keeping { version: VERSION, asked, report });
        let text = text.map_err(|e| Error::new(ErrorKind::Internal, "a report cannot be written as JSON").caused_by(e))?;
        let directory = self.file.parent().unwrap_or_else(|| FsPath::new("."));
        let written = std::fs::create_dir_all(directory).and_then(|()| write_whole(&self.file, &text, true));
        written.map_err(|error| self.failed(error))
    }

    /// Forgets the place of a scrub that begins anew or is at its end; that of one that was asked something else stays.
    fn forget(&self, asked: &Asked) -> Result<()> {
        if self.kept().is_ok_and(|kept| kept.is_some_and(|kept| kept.asked != *asked)) {
            return Ok(());
        }
        match std::fs::remove_file(&self.file) {
            Err(error) if !matches!(error.kind(), IoKind::NotFound | IoKind::NotADirectory) => Err(self.failed(error)),
            _ => Ok(()),
        }
    }

    fn failed(&self, error: std::io::Error) -> Error {
        let what = "the place where a scrub goes on could not be kept or read";
        Error::new(ErrorKind::Io, what).with("file", self.file.display()).caused_by(error)
    }

    fn not_understood(&self) -> Error {
        let what = "what is kept of the scrub that was interrupted is not understood (another version wrote it, or it is damaged): begin anew \
                    without --resume";
        Error::new(ErrorKind::InvalidInput, what).with("file", self.file.display())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;
    use object_store::path::Path;
    use object_store::{ObjectStore, ObjectStoreExt as _};

    use super::super::Ending;
    use super::super::care::ending;
    use super::*;
    use crate::clock::SystemClock;
    use crate::lake::testing::{FaultyRegion, lake_over};
    use crate::store::{Profile, Stop};

    /// Switches regions off once a name was looked at, so that the next batch finds too few.
    struct DownAfter<'a>(&'a str, &'a [FaultyRegion]);

    impl ScrubProgress for DownAfter<'_> {
        fn planned(&self, path: &Path, _: u64, _: u64, _: u64) {
            if path.as_ref() == self.0 {
                self.1.iter().for_each(|region| region.set_down(true));
            }
        }
    }

    struct Lab {
        store: ErasureStore,
        faults: Vec<FaultyRegion>,
        home: tempfile::TempDir,
    }

    impl Lab {
        /// Objects `a`, `b`, `c`; one shard of `damaged` is gone.
        async fn new(damaged: &str) -> Self {
            let raw: Vec<Arc<dyn ObjectStore>> = (0..5).map(|_| Arc::new(InMemory::new()) as _).collect();
            let (regions, writer, faults) = lake_over(3, 2, 0, raw.clone()).unwrap();
            let profile = Profile { inline_bytes: 10, ..Profile::new(3, 2) };
            let store = ErasureStore::new(regions, profile, Some(Arc::new(writer)), Arc::new(SystemClock)).unwrap();
            for name in ["a", "b", "c"] {
                store.put(&Path::from(name), vec![7; 5_000].into()).await.unwrap();
                if name == damaged {
                    store.quiesce().await;
                    let tag = store.head(&Path::from(name)).await.unwrap().e_tag.unwrap();
                    let listed = raw[1].list_with_delimiter(Some(&Path::from(format!("d/{}/{tag}", &tag[..2])))).await.unwrap();
                    raw[1].delete(&listed.objects[0].location).await.unwrap();
                }
            }
            store.quiesce().await;
            Self { store, faults, home: tempfile::tempdir().unwrap() }
        }

        async fn scrub(&self, resume: bool, options: ScrubOptions, progress: &dyn ScrubProgress) -> Result<ScrubReport> {
            Batches { file: self.file(), names: 1, names_limit: 1, resume }.scrub(&self.store, options, progress).await
        }

        fn file(&self) -> PathBuf {
            self.home.path().join("lake/scrub.cursor")
        }

        /// A scrub of which a later batch than that of `name` found too few regions, which are back.
        async fn stopped_after(&self, name: &str, options: ScrubOptions) -> ScrubReport {
            let report = self.scrub(false, options, &DownAfter(name, &self.faults[..3])).await.unwrap();
            self.faults.iter().for_each(|region| region.set_down(false));
            report
        }
    }

    fn verified() -> ScrubOptions {
        ScrubOptions { verify: true, ..ScrubOptions::default() }
    }

    #[tokio::test]
    async fn what_was_found_is_told_when_a_later_batch_fails_and_when_it_is_gone_on_with() {
        for (damaged, at) in [("a", "a"), ("a", "b"), ("b", "b"), ("c", "b"), ("", "b")] {
            let lab = Lab::new(damaged).await;
            let stopped = lab.stopped_after(at, verified()).await;
            let seen = u64::from(!damaged.is_empty() && damaged <= at);
            assert_eq!((stopped.damaged_versions, stopped.findings.len() as u64), (seen, seen), "{stopped:?}");
            assert!(stopped.interrupted.is_some());
            assert_eq!(ending(&stopped), if seen == 0 { Ending::Undetermined } else { Ending::Mismatch });

            let resumed = lab.scrub(true, verified(), &()).await.unwrap();
            let total = u64::from(!damaged.is_empty());
            assert_eq!((resumed.names, resumed.damaged_versions, resumed.findings.len() as u64), (3, total, total), "{resumed:?}");
            assert_eq!(ending(&resumed), if total == 0 { Ending::Done } else { Ending::Mismatch });
            assert!(resumed.findings.iter().all(|finding| finding.path == damaged));
            assert!(resumed.interrupted.is_none() && !lab.file().exists());
            // Nothing else differs from a scrub in one go, but how much was read: by the batch that failed, and of what was not known yet.
            let whole = lab.scrub(false, verified(), &()).await.unwrap();
            assert_eq!(ScrubReport { bytes_read: whole.bytes_read, ..resumed }, whole);
        }
    }

    /// Says that a scrub is to end once a name was looked at.
    struct StopAfter<'a>(&'a str, Stop);

    impl ScrubProgress for StopAfter<'_> {
        fn planned(&self, path: &Path, _: u64, _: u64, _: u64) {
            if path.as_ref() == self.0 {
                self.1.say();
            }
        }
    }

    impl Lab {
        /// One large batch that is stopped after a name.
        async fn stopped_within(&self, name: &str, options: ScrubOptions, resume: bool) -> ScrubReport {
            let stop = Stop::default();
            let options = ScrubOptions { stop: stop.clone(), concurrency: 1, ..options };
            let batches = Batches { file: self.file(), names: 100, names_limit: 100, resume };
            batches.scrub(&self.store, options, &StopAfter(name, stop)).await.unwrap()
        }
    }

    #[tokio::test]
    async fn a_scrub_that_is_stopped_tells_what_it_saw_and_is_gone_on_with_behind_it() {
        let lab = Lab::new("a").await;
        for (name, seen) in [("a", 1), ("b", 2), ("c", 3)] {
            let stopped = lab.stopped_within(name, verified(), seen > 1).await;
            assert_eq!((stopped.names, stopped.damaged_versions, stopped.resume_after.as_deref()), (seen, 1, Some(name)), "{stopped:?}");
            assert_eq!((stopped.interrupted.as_deref(), stopped.own_slots), (Some("it was stopped"), 0));
        }
        let resumed = lab.scrub(true, verified(), &()).await.unwrap();
        let whole = lab.scrub(false, verified(), &()).await.unwrap();
        assert_eq!(ScrubReport { bytes_read: whole.bytes_read, ..resumed }, whole);
        assert!(!lab.file().exists());
        // Before the first name, nothing was seen, and there is no place to go on from.
        let options = ScrubOptions { stop: Stop::default(), ..verified() };
        options.stop.say();
        let none = lab.scrub(false, options, &()).await.unwrap();
        assert!(none.interrupted.is_some() && none.names == 0 && none.resume_after.is_none(), "{none:?}");
        assert!(!lab.file().exists());
    }

    #[tokio::test]
    async fn a_repair_that_is_stopped_leaves_what_it_had_not_repaired_to_the_next_one() {
        let lab = Lab::new("a").await;
        let repairing = ScrubOptions { repair: true, ..verified() };
        let stopped = lab.stopped_within("a", repairing.clone(), false).await;
        assert_eq!((stopped.damaged_versions, stopped.repaired_versions, stopped.left_versions), (1, 0, 1), "{stopped:?}");
        assert!(stopped.interrupted.is_some() && stopped.resume_after.is_none() && !lab.file().exists(), "{stopped:?}");
        let resumed = lab.scrub(true, repairing, &()).await.unwrap();
        assert_eq!((resumed.names, resumed.repaired_versions, resumed.left_versions), (3, 1, 0), "{resumed:?}");
        assert_eq!(lab.scrub(false, verified(), &()).await.unwrap().damaged_versions, 0);
    }

    #[tokio::test]
    async fn a_scrub_that_begins_anew_and_is_stopped_at_once_is_not_gone_on_with_where_an_older_one_was() {
        let lab = Lab::new("a").await;
        assert!(lab.stopped_after("b", verified()).await.interrupted.is_some() && lab.file().exists());
        let options = ScrubOptions { stop: Stop::default(), ..verified() };
        options.stop.say();
        assert!(lab.scrub(false, options, &()).await.unwrap().interrupted.is_some());
        let resumed = lab.scrub(true, verified(), &()).await.unwrap();
        assert_eq!((resumed.names, resumed.damaged_versions), (3, 1), "{resumed:?}");
    }

    #[tokio::test]
    async fn a_scrub_that_was_asked_something_else_is_not_gone_on_with() {
        let lab = Lab::new("a").await;
        let sampled = ScrubOptions { sample: Some(0.1), ..verified() };
        assert!(lab.stopped_after("b", sampled.clone()).await.interrupted.is_some());
        let others = [
            ScrubOptions { prefix: Some(Path::from("a")), ..sampled.clone() },
            ScrubOptions { repair: true, ..sampled.clone() },
            ScrubOptions { verify: false, ..sampled.clone() },
            ScrubOptions { sample: Some(0.2), ..sampled.clone() },
            verified(),
        ];
        for other in others {
            let refused = lab.scrub(true, other, &()).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidInput);
            assert!(refused.to_string().contains("lakeseal scrub --resume --sample 0.1"), "{refused}");
        }
        // A scrub of something else that comes to its end leaves the place alone.
        lab.scrub(false, ScrubOptions { prefix: Some(Path::from("nothing")), ..verified() }, &()).await.unwrap();
        let faster = ScrubOptions { rate_bytes_per_second: Some(u64::MAX), seed: 9, ..sampled };
        assert_eq!(lab.scrub(true, faster, &()).await.unwrap().names, 3);
        assert!(!lab.file().exists());
    }

    #[tokio::test]
    async fn what_was_found_is_told_when_the_place_cannot_be_kept() {
        let lab = Lab::new("a").await;
        // A file stands where the directory would be.
        std::fs::write(lab.home.path().join("lake"), "").unwrap();
        let report = lab.scrub(false, verified(), &()).await.unwrap();
        assert_eq!((report.names, report.damaged_versions), (1, 1), "{report:?}");
        assert!(report.interrupted.as_ref().unwrap().contains("could not be kept"), "{report:?}");
    }

    #[tokio::test]
    async fn what_is_not_understood_is_not_gone_on_with() {
        let lab = Lab::new("a").await;
        std::fs::create_dir_all(lab.file().parent().unwrap()).unwrap();
        for text in ["z/last\n", "", "{}", "{\"version\":2}"] {
            std::fs::write(lab.file(), text).unwrap();
            let refused = lab.scrub(true, verified(), &()).await.unwrap_err();
            assert!(refused.kind() == ErrorKind::InvalidInput && refused.to_string().contains("without --resume"), "{refused}");
        }
        assert_eq!(lab.scrub(false, verified(), &()).await.unwrap().damaged_versions, 1);
        assert!(!lab.file().exists());
    }
}
