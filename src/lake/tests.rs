use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::clock::ManualClock;
use crate::error::{Error, ErrorKind};
use crate::key::PrivateKey;

struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn plan(&self, data: u8, parity: u8, regions: u8) -> InitPlan {
        let regions =
            (0..regions).map(|i| RegionConfig { fsync: false, ..RegionConfig::new(format!("r{i}").parse().unwrap(), format!("r/{i}")) });
        InitPlan {
            config_path: self.dir.path().join("lakeseal.toml"),
            name: "lake".to_owned(),
            regions: regions.collect(),
            profile: ProfileConfig::new(data, parity),
            lakes_keys: self.dir.path().join("lakes"),
            clock: Arc::new(ManualClock::new(1)),
        }
    }

    async fn made(data: u8, parity: u8, regions: u8) -> (Self, LakeConfig) {
        let fixture = Self::new();
        let config = init(fixture.plan(data, parity, regions)).await.unwrap();
        assert_eq!(LakeConfig::load(&fixture.plan(1, 0, 1).config_path).unwrap(), config);
        (fixture, config)
    }

    fn region(&self, index: u8) -> std::path::PathBuf {
        self.dir.path().join("r").join(index.to_string())
    }

    fn writer(&self, config: &LakeConfig) -> PrivateKey {
        PrivateKey::from_file(&self.dir.path().join("lakes").join(config.id.to_string()).join("writer.pem")).unwrap()
    }
}

async fn opened(config: &LakeConfig, writer: Option<PrivateKey>) -> crate::Result<Lake> {
    open(config, OpenOptions { writer, clock: Arc::new(ManualClock::new(1)) }).await
}

async fn refusal(config: &LakeConfig) -> Error {
    opened(config, None).await.unwrap_err()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.join("c")).unwrap();
    for name in ["id", "c/ffffffffffffffff"] {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

#[tokio::test]
async fn a_lake_is_made_and_opened() {
    let (fixture, config) = Fixture::made(3, 2, 5).await;
    let lake = opened(&config, Some(fixture.writer(&config))).await.unwrap();
    assert!(lake.down.is_empty() && lake.region_set.len() == 5 && lake.writer.is_some());
    let expected =
        Budgets { unreachable_for_writes: 2, unreachable_for_reads: 2, lying_about_data: 2, lying_about_registers: 0, warning: None };
    assert_eq!(lake.budgets(), expected);
    let error = opened(&config, Some(PrivateKey::generate().unwrap())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permission);
    let (_small, config) = Fixture::made(1, 0, 1).await;
    assert!(opened(&config, None).await.unwrap().budgets().warning.is_some());
}

#[tokio::test]
async fn wiped_missing_swapped_and_foreign_regions_are_down_with_their_reason() {
    let (fixture, config) = Fixture::made(3, 2, 5).await;
    let (other, _) = Fixture::made(1, 0, 1).await;
    std::fs::remove_dir_all(fixture.region(1)).unwrap();
    std::fs::remove_file(fixture.region(4).join("id")).unwrap();
    let lake = opened(&config, None).await.unwrap();
    let down: Vec<_> = lake.down.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(down, ["r1", "r4"]);
    assert!(lake.down[0].1.contains("missing") && lake.down[1].1.contains("wiped"), "{:?}", lake.down);
    assert!(lake.region_set.regions()[4].down_reason().is_some());
    assert!(!fixture.region(1).exists(), "a lost region is not made anew");

    copy(&other.region(0), &fixture.region(4));
    copy(&fixture.region(0), &fixture.region(1));
    let lake = opened(&config, None).await.unwrap();
    assert!(lake.down[0].1.contains("another region") && lake.down[1].1.contains("another lake"), "{:?}", lake.down);

    std::fs::remove_dir_all(fixture.region(2)).unwrap();
    let error = refusal(&config).await;
    assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains("r2: "), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_region_that_hangs_is_not_waited_for_and_is_used_when_it_answers() {
    let fixture = Fixture::new();
    let mut plan = fixture.plan(2, 1, 4);
    for region in &mut plan.regions {
        region.url = format!("memory:hangs-{}", region.name);
    }
    let config = init(plan).await.unwrap();
    let slow = testing::FaultyRegion::default();
    let over = |region: &RegionConfig| {
        let store = region.open(&config.directory)?;
        Ok(if region.name.as_str() == "r2" { Arc::new(testing::FaultStore::new(store, slow.clone())) } else { store })
    };
    let open = || open::open_over(&config, OpenOptions { writer: None, clock: Arc::new(ManualClock::new(1)) }, over);
    let key = crate::region::layout::id_key();
    let opened = |lake: &Lake| Arc::clone(lake.region_set.region(2).unwrap());
    for (answers_after_ms, answers) in [(400, true), (4_000, true), (100_000_000, false)] {
        slow.slow_ms(answers_after_ms);
        let began = tokio::time::Instant::now();
        let lake = open().await.unwrap();
        assert!(began.elapsed() < std::time::Duration::from_secs(3), "{:?}", began.elapsed());
        let in_time = answers_after_ms < 2_000;
        assert_eq!(lake.down.len(), usize::from(!in_time), "{:?}", lake.down);
        let region = opened(&lake);
        if !in_time {
            // It is not waited for afterwards either.
            let error = region.get(&key, 1024).await.unwrap_err().to_string();
            assert!(error.contains("has not answered"), "{error}");
        }
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        slow.heal();
        let got = region.get(&key, 1024).await;
        assert_eq!(got.as_ref().is_ok_and(Option::is_some), answers, "{got:?}");
    }
    let other = init(InitPlan {
        name: "other".to_owned(),
        config_path: fixture.dir.path().join("other.toml"),
        ..{
            let mut plan = fixture.plan(1, 0, 1);
            plan.regions[0].url = "memory:hangs-other".to_owned();
            plan
        }
    })
    .await
    .unwrap();
    // What answers late and is another lake's is never used.
    let mut swapped = config.clone();
    swapped.regions[2].url = other.regions[0].url.clone();
    slow.slow_ms(4_000);
    let over = |region: &RegionConfig| {
        let store = region.open(&swapped.directory)?;
        Ok(if region.name.as_str() == "r2" { Arc::new(testing::FaultStore::new(store, slow.clone())) } else { store })
    };
    let options = OpenOptions { writer: None, clock: Arc::new(ManualClock::new(1)) };
    let lake = open::open_over(&swapped, options, over).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    slow.heal();
    let error = opened(&lake).get(&key, 1024).await.unwrap_err().to_string();
    assert!(error.contains("another lake"), "{error}");
}

#[tokio::test]
async fn an_edited_record_makes_its_region_down() {
    let (fixture, config) = Fixture::made(2, 1, 4).await;
    for (index, name) in [(0, "id"), (1, "c/ffffffffffffffff")] {
        let path = fixture.region(index).join(name);
        let sound = std::fs::read(&path).unwrap();
        for edit in [30, sound.len() - 1] {
            let mut bytes = sound.clone();
            bytes[edit] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            let lake = opened(&config, None).await.unwrap();
            assert!(lake.down.len() == 1 && lake.down[0].1.contains("not signed"), "{:?}", lake.down);
        }
        std::fs::write(&path, &sound[..40]).unwrap();
        assert_eq!(opened(&config, None).await.unwrap().down.len(), 1);
        std::fs::write(&path, sound).unwrap();
    }
    assert!(opened(&config, None).await.unwrap().down.is_empty());
}

#[tokio::test]
async fn another_incarnation_is_down() {
    let (fixture, config) = Fixture::made(2, 1, 4).await;
    let root = fixture.dir.path().join("lakes").join(config.id.to_string()).join("root.pem");
    let record = RegionRecord {
        lake: config.id,
        name: config.regions[3].name.clone(),
        incarnation: crate::id::IncarnationId::random().unwrap(),
        created_ms: 2,
    };
    std::fs::write(fixture.region(3).join("id"), record.seal(&PrivateKey::from_file(&root).unwrap()).unwrap()).unwrap();
    let lake = opened(&config, None).await.unwrap();
    assert!(lake.down.len() == 1 && lake.down[0].1.contains("another incarnation"), "{:?}", lake.down);
}

/// Of four regions, of which one may lie, three answer and one of them shows the lake's next configuration: the lake may have changed, the
/// others being one that missed it and the one that lies.
#[tokio::test]
async fn whoever_sees_a_later_configuration_than_it_can_believe_looks_again_before_it_believes_anything() {
    let fixture = Fixture::new();
    let mut plan = fixture.plan(2, 1, 4);
    plan.profile.liars = 1;
    let config = init(plan).await.unwrap();
    let lake = opened(&config, None).await.unwrap();
    lake.region_set.confirm().await.unwrap();
    let root = fixture.dir.path().join("lakes").join(config.id.to_string()).join("root.pem");
    let later = LakeRecord { number: 1, ..lake.record.clone() }.seal(&PrivateKey::from_file(&root).unwrap()).unwrap();
    let shown = fixture.region(2).join("c/fffffffffffffffe");
    std::fs::write(&shown, later).unwrap();
    std::fs::remove_dir_all(fixture.region(0)).unwrap();
    let lake = opened(&config, None).await.unwrap();
    assert!(lake.record.number == 0 && lake.down.len() == 1, "one is no more than may lie");
    let error = lake.region_set.confirm().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains("open it again"), "{error}");
    std::fs::remove_file(&shown).unwrap();
    opened(&config, None).await.unwrap().region_set.confirm().await.unwrap();
}

#[tokio::test]
async fn a_region_whose_keys_would_be_too_long_is_refused() {
    let mut region = RegionConfig::new("eu".parse().unwrap(), format!("s3://bucket/{}", "p".repeat(crate::region::PREFIX_LIMIT_BYTES + 1)));
    let error = region.open(Path::new("/")).unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("prefix") && error.to_string().contains("eu"), "{error}");
    region.url.pop();
    region.open(Path::new("/")).unwrap();
}

#[tokio::test]
async fn a_file_that_contradicts_the_lake_is_refused() {
    let (_fixture, config) = Fixture::made(3, 2, 5).await;
    let mut wrong = config.clone();
    wrong.profile.parity = 1;
    let error = refusal(&wrong).await;
    assert!(
        error.kind() == ErrorKind::Config && error.message().contains("parity = 1") && error.message().contains("parity = 2"),
        "{error}"
    );
    let mut wrong = config.clone();
    wrong.profile.liars = 1;
    assert_eq!(refusal(&wrong).await.kind(), ErrorKind::Config);
    let mut wrong = config.clone();
    wrong.regions.pop();
    assert_eq!(refusal(&wrong).await.kind(), ErrorKind::Config);
    let mut wrong = config.clone();
    wrong.root_key = PrivateKey::generate().unwrap().public();
    assert_eq!(refusal(&wrong).await.kind(), ErrorKind::Unauthentic);
    let mut wrong = config.clone();
    wrong.id = crate::id::LakeId::random().unwrap();
    assert!(refusal(&wrong).await.to_string().contains("another lake"));
}

#[tokio::test]
async fn init_refuses_what_is_in_use_and_takes_back_what_it_began() {
    let (fixture, config) = Fixture::made(1, 1, 2).await;
    assert_eq!(init(fixture.plan(1, 1, 2)).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    let mut again = fixture.plan(1, 1, 2);
    again.config_path = fixture.dir.path().join("other.toml");
    let error = init(again).await.unwrap_err();
    assert!(error.message().contains("belongs to a lake") && error.to_string().contains(&config.id.to_string()), "{error}");

    let fixture = Fixture::new();
    std::fs::create_dir_all(fixture.region(1)).unwrap();
    std::fs::write(fixture.region(1).join("file"), "x").unwrap();
    assert!(init(fixture.plan(1, 1, 2)).await.unwrap_err().message().contains("not empty"));

    let fixture = Fixture::new();
    let mut plan = fixture.plan(1, 1, 2);
    plan.config_path = fixture.dir.path().join("absent").join("lakeseal.toml");
    plan.regions[0].url = fixture.region(0).display().to_string();
    plan.regions[1].url = fixture.region(1).display().to_string();
    assert!(init(plan).await.is_err());
    assert!(!fixture.region(0).join("id").exists(), "taken back");
    assert!(init(fixture.plan(1, 1, 2)).await.is_ok(), "and it can be begun again");

    let fixture = Fixture::new();
    for (data, parity, regions) in [(0, 1, 3), (3, 1, 3), (1, 0, 0), (1, 0, 17)] {
        assert_eq!(init(fixture.plan(data, parity, regions)).await.unwrap_err().kind(), ErrorKind::Config);
    }
    assert!(!fixture.dir.path().join("r").exists(), "nothing was touched");
}

#[tokio::test]
async fn malformed_files_are_explained() {
    let (_fixture, config) = Fixture::made(2, 1, 3).await;
    let text = config.to_text().unwrap();
    let parse = |text: &str| LakeConfig::parse(text, "/".into()).unwrap_err();
    let cases = [
        (text.replace("parity", "parrity"), "line"),
        (text.replace("data = 2", "data = \"two\""), "line"),
        (text.replace("data = 2", "data = 3"), "data + parity"),
        (text.replace("r/1", "r/0"), "same name or location"),
        (text.replace("name = \"lake\"", "name = \"La ke\""), "lake's name"),
        (text.replace("ed25519:", "rsa:"), "root_key"),
        (format!("{text}\n[region.options]\naws_secret_access_key = \"x\""), "environment"),
        (format!("{text}\n[region.options]\nnonsense = \"x\""), "not an option"),
    ];
    for (text, expected) in cases {
        let error = parse(&text);
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains(expected), "{expected}: {error}");
    }
    assert!(LakeConfig::load(Path::new("/nowhere/lakeseal.toml")).unwrap_err().to_string().contains("/nowhere/lakeseal.toml"));
}
