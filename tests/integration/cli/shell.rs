//! The interactive shell, typed into through a pseudo-terminal as a person does.

use std::path::Path;
use std::process::Command;

use super::{Place, Run};

/// Types the keys of a script into `lakeseal sql`, and gives back what the terminal showed and how it ended.
fn typed(place: &Place, script: &str) -> Option<Run> {
    let file = place.path("keys.json");
    std::fs::write(&file, script).unwrap();
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shell/type.py");
    let mut command = Command::new("python3");
    command.arg(python).arg(&file).arg(env!("CARGO_BIN_EXE_lakeseal")).args(["sql"]).current_dir(place.dir.path());
    command.env("LAKESEAL_HOME", place.path("home")).env("TERM", "xterm").env_remove("LAKESEAL_CONFIG");
    match command.output() {
        Ok(output) => Some(Run::from(output)),
        Err(error) => {
            eprintln!("\n!!! SKIPPED: nobody typed into the shell: python3 cannot be run: {error}\n");
            None
        }
    }
}

#[test]
fn a_person_types_completes_recalls_and_leaves() {
    let place = Place::new();
    place.init();
    place.import(&place.csv("rows.csv", 0, 20), "scores");
    // A column and the table begin alike: as much as both have is completed. Each step: keys, and what must be on the screen before the next.
    let first = r#"[
        ["", "for help"],
        ["\\d\r", "scores"],
        ["\\d scores\r", "Int64"],
        ["SELECT count(*) AS n\r", ""],
        ["FROM sco\t", "FROM score"],
        ["s;\r", "20"],
        ["SELECT * FROM blast_r\t", "FROM blast_radius"],
        ["\u0003", ""],
        ["SELECT nothing FROM scores;\r", "nothing"],
        ["SELECT 'a;b' AS quoted; SELECT 41 + 1 AS answer;\r", "42"],
        ["SELECT 1 +\u0003", ""],
        ["\\timing\r", "timing is"],
        ["SELECT '\u00e9\u4e2d' AS wide;\r", "\u00e9\u4e2d"],
        ["\\nonsense\r", "no such shell command"],
        ["\\q\r", null]
    ]"#;
    let Some(run) = typed(&place, first) else { return };
    let run = run.expect(0);
    assert!(run.out.contains("a;b"), "{}", run.out);
    // Another session recalls what was typed, edits it, and ends with Ctrl-D.
    let second = r#"[
        ["", "for help"],
        ["\u001b[A\u001b[A", "nonsense"],
        ["\u0015SELECT 6 * 7 AS again;\u001b[D\u001b[D\r", "42"],
        ["\u001b[A\r", "42"],
        ["SELECT 40 -- a comment\r", ""],
        ["+ length('a  b') AS sum;\r", "44"],
        ["\u001b[A\r", "44"],
        ["\u0004", null]
    ]"#;
    typed(&place, second).unwrap().expect(0);
}
