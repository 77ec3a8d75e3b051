//! Trust roots, countersigning and exported envelopes, as people use them.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{Place, Run};

/// A folder of one Parquet table that five people look after: two chiefs, three sealers, one of them with a P-256 key.
fn ceremony() -> Place {
    let place = Place::new();
    std::fs::create_dir(place.path("t")).unwrap();
    std::fs::copy(super::sample("flights.parquet"), place.path("t/a.parquet")).unwrap();
    for (name, role, scheme) in [
        ("c1", "root", "ed25519"),
        ("c2", "root", "p256"),
        ("ann", "sealer", "ed25519"),
        ("bob", "sealer", "p256"),
        ("eve", "sealer", "ed25519"),
    ] {
        place.run(&["keys", "new", "--role", role, "--scheme", scheme, "--out", &format!("{name}.pem")]).expect(0);
    }
    let init = [
        "trust",
        "init",
        "--name",
        "flights",
        "--out",
        "root-1.json",
        "--root",
        "c1=c1.pem.pub",
        "--root",
        "c2=c2.pem.pub",
        "--root-threshold",
        "2",
        "--sealer",
        "ann=ann.pem.pub",
        "--sealer",
        "bob=bob.pem.pub",
        "--sealer",
        "eve=eve.pem.pub",
        "--sealer-threshold",
        "2",
        "--key",
        "c1.pem",
    ];
    place.run(&init).expect(2);
    place.run(&["trust", "sign", "root-1.json", "--key", "c2.pem"]).expect(0);
    place
}

fn root(place: &Place, args: &[&str]) -> Run {
    let mut all = vec!["trust"];
    all.extend(args);
    place.run(&all)
}

#[test]
fn two_of_three_seal_and_others_are_told_how_many_have_signed() {
    let place = ceremony();
    let trust = ["--trust", "root-1.json"];
    let with = |args: &[&str]| place.run(&[args, &trust].concat());
    // Nobody is at a terminal here: without --yes or bounds nothing is signed.
    with(&["seal", "./t", "--key", "ann.pem"]).expect(2).says(&["nobody is here", "--yes"]);
    with(&["seal", "./t", "--key", "c1.pem", "--yes"]).expect(2).says(&["does not let this key seal"]);
    let first = with(&["seal", "./t", "--key", "ann.pem", "--yes"]).expect(0);
    assert!(first.out.contains("signed by 1 of the 2") && first.out.contains("not in force"), "{}", first.out);
    let report = with(&["audit", "./t", "--json"]).expect(1).json();
    assert!(report["findings"][0]["detail"].as_str().unwrap().contains("1 of the 2 signatures"), "{report}");
    with(&["countersign", "./t", "--key", "ann.pem", "--yes"]).expect(2).says(&["has signed"]);
    with(&["countersign", "./t", "--key", "bob.pem"]).expect(2).says(&["nobody is here"]);
    let second = with(&["countersign", "./t", "--key", "bob.pem", "--yes"]).expect(0);
    assert!(second.out.contains("every file was read") && second.out.contains("signed by 2 of the 2"), "{}", second.out);
    let report = with(&["audit", "./t"]).expect(0);
    assert!(report.out.contains("trust     root, version 1; signed by 2 of the 2"), "{}", report.out);
    assert!(with(&["log", "./t"]).expect(0).out.contains("2 of 2"));

    // The next one: prepared without any key, and signed within bounds.
    std::fs::copy(super::sample("flights.parquet"), place.path("t/b.parquet")).unwrap();
    let prepared = with(&["seal", "./t", "--prepare", "--json"]).expect(0).json();
    assert_eq!((&prepared["in_force"], &prepared["diff"]["added"]["files"]), (&Value::from(false), &Value::from(1)));
    // Without reading: a new file with the bytes of a sealed one would be taken for a moved one.
    with(&["audit", "./t", "--quick"]).expect(3);
    with(&["countersign", "./t", "--key", "eve.pem", "--append-only", "--max-added-rows", "1000"]).expect(2).says(&["at most 1000"]);
    with(&["countersign", "./t", "--key", "eve.pem", "--append-only", "--max-added-rows", "300000"]).expect(0);
    let signed = with(&["countersign", "./t", "--key", "ann.pem", "--append-only", "--json"]).expect(0).json();
    assert_eq!((&signed["in_force"], &signed["baseline"]["number"]), (&Value::from(true), &Value::from(2)));
    with(&["audit", "./t"]).expect(0);
    with(&["seal", "./t", "--key", "ann.pem", "--yes"]).expect(0);

    // Files that change between two signatures are not signed over.
    std::fs::copy(super::sample("flights.parquet"), place.path("t/c.parquet")).unwrap();
    with(&["seal", "./t", "--prepare"]).expect(0);
    let mut bytes = std::fs::read(place.path("t/c.parquet")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(place.path("t/c.parquet"), bytes).unwrap();
    let refused = with(&["countersign", "./t", "--key", "ann.pem", "--yes"]);
    assert!([1, 2].contains(&refused.code), "{refused:?}");
    refused.says(&["c.parquet"]);
}

#[test]
fn a_trust_root_is_changed_by_old_and_new_and_clients_follow() {
    let place = ceremony();
    root(&place, &["use", "root-1.json"]).expect(0);
    place.run(&["seal", "./t", "--key", "ann.pem", "--yes"]).expect(0);
    place.run(&["countersign", "./t", "--key", "bob.pem", "--yes"]).expect(0);
    place.run(&["audit", "./t"]).expect(0);

    // Two changes in one draft; a signed draft takes no more.
    place.run(&["keys", "new", "--role", "root", "--out", "c3.pem"]).expect(0);
    root(&place, &["rotate", "root-1.json", "--out", "root-2.json", "--role", "root", "c1", "c3=c3.pem.pub"]).expect(2);
    root(&place, &["revoke", "root-1.json", "--out", "root-2.json", "ann", "--reason", "laptop stolen", "--last-good", "./t"]).expect(2);
    root(&place, &["use", "root-2.json"]).expect(2).says(&["0 of the 2"]);
    for (key, code) in [("c2.pem", 2), ("c3.pem", 2), ("c1.pem", 0)] {
        root(&place, &["sign", "root-2.json", "--key", key, "--previous", "root-1.json"]).expect(code);
    }
    root(&place, &["renew", "root-1.json", "--out", "root-2.json"]).expect(2).says(&["no unsigned draft"]);
    let shown = root(&place, &["show", "root-2.json", "--previous", "root-1.json"]).expect(0);
    for part in ["2 of 2 by root keys of its own", "2 of 2 by root keys of the version before", "laptop stolen", "up to baseline 1", "ann"]
    {
        assert!(shown.out.contains(part), "{part} in\n{}", shown.out);
    }
    root(&place, &["publish", "root-2.json", "./t"]).expect(0);

    // Whoever holds version 1 walks on, and cannot be led back.
    let report = place.run(&["audit", "./t"]).expect(0);
    assert!(report.out.contains("trust     root, version 2; signed by 2 of the 2"), "{}", report.out);
    let held = root(&place, &["show", "home/trust-root.json", "--json"]).expect(0).json();
    assert_eq!(held["document"]["version"], 2);
    root(&place, &["use", "root-1.json"]).expect(2).says(&["1 of the 2"]);
    place.run(&["audit", "./t", "--trust", "root-1.json"]).expect(0);
    std::fs::copy(super::sample("flights.parquet"), place.path("t/b.parquet")).unwrap();
    place.run(&["seal", "./t", "--key", "ann.pem", "--yes"]).expect(2).says(&["does not let this key seal"]);
    place.run(&["seal", "./t", "--key", "eve.pem", "--yes"]).expect(0);
    place.run(&["countersign", "./t", "--key", "bob.pem", "--yes"]).expect(0);
    place.run(&["audit", "./t"]).expect(0);
}

#[test]
fn bad_roots_and_keys_are_explained() {
    let place = ceremony();
    root(&place, &["sign", "root-1.json", "--key", "ann.pem"]).expect(2).says(&["does not hold the role root"]);
    root(&place, &["threshold", "root-1.json", "--out", "x.json", "--role", "sealer", "4"]).expect(2).says(&["4 of 3"]);
    // What nobody would keep is not promised: writers and timestamp keys sign alone.
    for (role, out) in [("writer", "w.json"), ("timestamp", "s.json")] {
        for key in ["ann.pem", "bob.pem"] {
            root(&place, &["add-key", "root-1.json", "--out", out, "--role", role, key]).expect(2);
        }
        root(&place, &["threshold", "root-1.json", "--out", out, "--role", role, "2"]).expect(2).says(&["signs alone", role]);
    }
    root(&place, &["add-key", "root-1.json", "--out", "x.json", "--role", "sealer", "ann.pem"]).expect(2).says(&["already"]);
    root(&place, &["remove-key", "root-1.json", "--out", "x.json", "--role", "sealer", "c1"]).expect(2).says(&["does not hold"]);
    root(&place, &["show", "t/a.parquet"]).expect(2);
    assert!(!place.path("x.json").exists());
    let text = std::fs::read_to_string(place.path("root-1.json")).unwrap();
    std::fs::write(place.path("bad.json"), text.replacen("\"sig\":\"", "\"sig\":\"AAAA", 1)).unwrap();
    place.run(&["audit", "./t", "--trust", "bad.json"]).expect(2).says(&["1 of the 2", "bad.json"]);
    place.run(&["audit", "./t", "--trust", "root-1.json", "--trust", "ann.pem.pub"]).expect(2).says(&["without other files"]);
    let keys = place.run(&["keys", "show", "bob.pem", "bob.pem.pub", "--json"]).expect(0).out;
    let shown: Vec<Value> = keys.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&shown[0]["key"], &shown[0]["scheme"]), (&shown[1]["key"], &"p256".into()));
}

#[test]
fn an_independent_program_verifies_an_exported_baseline_and_its_threshold() {
    let place = ceremony();
    let trust = ["--trust", "root-1.json"];
    let with = |args: &[&str]| place.run(&[args, &trust].concat());
    with(&["seal", "./t", "--key", "ann.pem", "--yes"]).expect(0);
    with(&["baselines", "export", "./t"]).expect(2).says(&["no baseline is in force"]);
    with(&["countersign", "./t", "--key", "bob.pem", "--yes"]).expect(0);
    with(&["baselines", "export", "./t", "--out", "t.dsse.json"]).expect(0);
    let id = |name: &str| {
        let shown = place.run(&["keys", "show", &format!("{name}.pem.pub"), "--json"]).expect(0).json();
        shown["identity"].as_str().unwrap().to_owned()
    };
    let (ann, bob, eve) = (id("ann"), id("bob"), id("eve"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/trust/verify_envelope.py");
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("verify-envelope");
    let verify = |envelope: &str, threshold: &str, keys: &[(&str, &str)]| -> Run {
        let named = keys.iter().map(|(id, name)| format!("{id}={name}.pem.pub"));
        let command =
            Command::new("python3").arg(&script).arg(&venv).args([envelope, threshold]).args(named).current_dir(place.dir.path()).output();
        command.expect("python3").into()
    };
    let all = [(ann.as_str(), "ann"), (bob.as_str(), "bob"), (eve.as_str(), "eve")];
    let verified = verify("t.dsse.json", "2", &all);
    if verified.code == 77 {
        eprintln!("!!! SKIPPED: no independent program verified the envelope\n{}", verified.err);
        return;
    }
    let verified = verified.expect(0).json();
    assert_eq!(verified["accepted"], serde_json::json!({ann.clone(): "ed25519", bob.clone(): "ecdsa-sha2-nistp256"}), "{verified}");
    assert_eq!(verified["payload"]["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(verified["payload"]["predicate"]["trust_root"], 1);
    verify("t.dsse.json", "3", &all).expect(1);
    // One key under two names is still one signature of it, and another's key verifies nothing.
    verify("t.dsse.json", "2", &[(ann.as_str(), "ann"), (bob.as_str(), "ann")]).expect(1);
    let mut envelope: Value = serde_json::from_str(&std::fs::read_to_string(place.path("t.dsse.json")).unwrap()).unwrap();
    let payload = envelope["payload"].as_str().unwrap().replacen('e', "f", 1);
    envelope["payload"] = payload.into();
    std::fs::write(place.path("changed.json"), envelope.to_string()).unwrap();
    assert_ne!(verify("changed.json", "1", &all).code, 0);
    // A trust root is an envelope of the same kind.
    let root: Value = serde_json::from_str(&std::fs::read_to_string(place.path("root-1.json")).unwrap()).unwrap();
    assert_eq!(root["payloadType"], "application/vnd.lakeseal.trust-root.v1+json");
    verify("root-1.json", "2", &[(id("c1").as_str(), "c1"), (id("c2").as_str(), "c2")]).expect(0);
}

#[test]
fn a_table_is_given_up_by_as_many_sealers_as_must_agree() {
    let place = ceremony();
    let with = |args: &[&str]| place.run(&[args, &["--trust", "root-1.json"]].concat());
    with(&["seal", "./t", "--key", "ann.pem", "--yes"]).expect(0);
    with(&["countersign", "./t", "--key", "bob.pem", "--yes"]).expect(0);
    let drop = |key: &str| with(&["inventory", "drop", "./t", "--key", key]);
    let first = drop("ann.pem").expect(0);
    assert!(first.out.contains("not given up yet: it takes 2 sealers"), "{}", first.out);
    drop("ann.pem").expect(2).says(&["this key has given the table up already"]);
    assert!(!with(&["inventory", "show", "./t"]).expect(0).out.contains("given up"));
    with(&["audit", "./t"]).expect(0);
    let second = drop("bob.pem").expect(0);
    assert!(!second.out.contains("not given up yet"), "{}", second.out);
    assert!(with(&["inventory", "show", "./t"]).expect(0).out.contains("given up"));
}
