//! Who made a table, and from what: `lineage`, `audit --writers`, and the functions through `sql`.

use super::{Place, files};

#[test]
fn a_lake_says_what_was_made_from_what_and_by_whom() {
    let place = Place::new();
    place.init();
    place.import(&place.csv("raw.csv", 0, 100), "raw");
    place.run(&["seal", "raw"]).expect(0);
    let sql = "CREATE TABLE clean AS SELECT id, name FROM raw WHERE score > 2";
    place.run(&["sql", "-c", sql]).expect(0);
    let told = place.run(&["lineage", "clean"]).expect(0);
    for part in ["CREATE TABLE AS", "recorded", "raw@0 (1 file)", sql] {
        assert!(told.out.contains(part), "{part} is not in\n{}", told.out);
    }
    let provenance = place.run(&["lineage", "raw", "--json"]).expect(0).json();
    assert_eq!(provenance["provenance"]["buildDefinition"]["resolvedDependencies"][0]["uri"], "raw.csv");
    let event = place.run(&["lineage", "clean", "--openlineage"]).expect(0).json();
    assert_eq!((&event["eventType"], &event["inputs"][0]["name"]), (&"COMPLETE".into(), &"raw".into()));
    let verified = place.run(&["sql", "--format", "csv", "-c", "SELECT verdict FROM verify_derivation('clean')"]).expect(0);
    assert_eq!(verified.out, "verdict\nreproduced\n");
    let down = place.run(&["sql", "--format", "csv", "-c", "SELECT \"table\" FROM blast_radius('raw')"]).expect(0);
    assert_eq!(down.out, "table\nclean\n");
    place.run(&["lineage", "nothing"]).expect(2).says(&["no Delta table", "nothing"]);
    let unknown = place.run(&["lineage", "clean", "--at", "7", "--json"]).expect(2).says(&["no such version", "7", "clean"]);
    assert_eq!(unknown.out, "");
    let all = place.path("events.json");
    let lines: String = ["raw", "clean"].map(|table| place.run(&["lineage", table, "--openlineage"]).expect(0).out).concat();
    std::fs::write(&all, lines).unwrap();
    super::valid("openlineage", &all);
}

#[test]
fn listed_writers_make_other_people_s_commits_a_mismatch() {
    let place = Place::new();
    place.init();
    place.import(&place.csv("raw.csv", 0, 100), "raw");
    place.run(&["seal", "raw"]).expect(0);
    place.import(&place.csv("more.csv", 100, 10), "raw");
    let lake_writer = files(&place.path("home/lakes")).into_iter().find(|f| f.ends_with("writer.pem.pub")).unwrap();
    let lake_writer = lake_writer.to_str().unwrap();
    let by = place.run(&["audit", "raw", "--writers", lake_writer]).expect(3);
    assert!(by.out.contains("attested by writer"), "{}", by.out);
    assert!(place.run(&["audit", "raw"]).expect(3).out.contains("attested by writer"), "the lake's own writers are known");
    place.run(&["keys", "new", "--role", "writer", "--out", "other.pem"]).expect(0);
    let other = place.run(&["audit", "raw", "--writers", "other.pem.pub"]).expect(1);
    assert!(other.out.contains("unattested") && other.out.contains("no writer that you trust"), "{}", other.out);
    place.run(&["sql", "--writers", "other.pem.pub", "-c", "SELECT count(*) FROM raw"]).expect(1).says(&["unattested"]);
    place.run(&["sql", "--writers", lake_writer, "-c", "SELECT count(*) FROM raw"]).expect(0);
    place.run(&["seal", "raw", "--writers", "other.pem.pub"]).expect(1).says(&["unattested"]);
    place.run(&["seal", "raw", "--writers", lake_writer]).expect(0);
}

#[test]
fn a_table_outside_of_a_lake_is_attested_by_the_user_s_own_key() {
    let place = Place::new();
    std::fs::create_dir(place.path("t")).unwrap();
    place.run(&["keys", "new", "--role", "sealer"]).expect(0);
    place.run(&["keys", "new", "--role", "writer"]).expect(0);
    place.import(&place.csv("raw.csv", 0, 100), "./t");
    place.run(&["seal", "./t"]).expect(0);
    place.import(&place.csv("more.csv", 100, 10), "./t");
    let key = place.path("home/keys/writer.pem.pub");
    assert!(place.run(&["audit", "./t", "--writers", key.to_str().unwrap()]).expect(3).out.contains("attested by writer"));
    assert!(place.run(&["lineage", "./t"]).expect(0).out.contains("more.csv"));
}
