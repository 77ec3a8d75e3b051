//! The demo tells its story, and fails when it does not come true.

use super::{Place, files};

#[test]
fn the_demo_comes_true_step_by_step() {
    let place = Place::new();
    let run = place.run(&["demo", "--keep", "kept"]).expect(0);
    for told in ["300,000 rows", "sealed", "row group 1", "delay", "modified", "CLE"] {
        assert!(run.out.contains(told), "{told:?} is not told in\n{}", run.out);
    }
    // The poisoned lake is kept as it is, and the ordinary commands say the same about it.
    let kept = place.path("kept");
    assert!(files(&kept.join("regions")).len() > 10);
    let home = kept.join("home");
    let audit: super::Run =
        place.command(&["audit", "flights", "--json"]).env("LAKESEAL_HOME", &home).current_dir(&kept).output().unwrap().into();
    let report = audit.expect(1).json();
    let modified = report["findings"].as_array().unwrap().iter().find(|f| f["verdict"] == "modified").unwrap();
    assert_eq!((&modified["row_group"], &modified["column"]), (&1.into(), &"delay".into()));
}

#[test]
fn a_directory_that_has_something_in_it_is_not_used() {
    let place = Place::new();
    std::fs::create_dir(place.path("kept")).unwrap();
    std::fs::write(place.path("kept/mine"), "precious").unwrap();
    place.run(&["demo", "--keep", "kept"]).expect(2).says(&["not empty", "kept"]);
    assert_eq!(files(&place.path("kept")).len(), 1);
}
