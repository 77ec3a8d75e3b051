//! `--help` teaches: every command has examples, and defaults are shown.

use super::Place;

const COMMANDS: &[&[&str]] = &[
    &["init"],
    &["status"],
    &["region", "list"],
    &["region", "check"],
    &["region", "add"],
    &["region", "replace"],
    &["region", "retire"],
    &["scrub"],
    &["versions"],
    &["restore"],
    &["collect"],
    &["keys", "new"],
    &["keys", "show"],
    &["trust", "init"],
    &["trust", "show"],
    &["trust", "sign"],
    &["trust", "add-key"],
    &["trust", "remove-key"],
    &["trust", "threshold"],
    &["trust", "rotate"],
    &["trust", "renew"],
    &["trust", "revoke"],
    &["trust", "publish"],
    &["trust", "use"],
    &["countersign"],
    &["baselines", "export"],
    &["import"],
    &["tables"],
    &["vacuum"],
    &["sql"],
    &["seal"],
    &["audit"],
    &["diff"],
    &["watch"],
    &["log"],
    &["inventory", "show"],
    &["inventory", "renew"],
    &["inventory", "drop"],
    &["prove"],
    &["verify-proof"],
    &["export"],
    &["demo"],
    &[],
];

#[test]
fn every_command_shows_an_example_of_itself() {
    let place = Place::new();
    for command in COMMANDS {
        let mut args = command.to_vec();
        args.push("--help");
        let run = place.run(&args).expect(0);
        let example = format!("lakeseal {}", command.join(" "));
        assert!(run.out.contains(example.trim_end()), "{command:?}:\n{}", run.out);
        assert!(run.out.lines().all(|line| line.chars().count() <= 132), "{command:?} has long lines:\n{}", run.out);
    }
}

#[test]
fn the_defaults_of_keys_and_trust_are_shown() {
    let place = Place::new();
    for (command, default) in [("seal", "keys/sealer.pem"), ("audit", "trusted-sealers.pem")] {
        let help = place.run(&[command, "--help"]).expect(0).out;
        assert!(help.contains(default) && help.contains("~/.config/lakeseal"), "{help}");
    }
}

#[test]
fn the_exit_codes_are_documented() {
    let help = Place::new().run(&["--help"]).expect(0).out;
    for code in ["0  ", "1  ", "2  ", "3  ", "130  "] {
        assert!(help.contains(&format!("\n  {code}")), "{code} in\n{help}");
    }
    // A script must be able to tell a refusal from a failure.
    let help = Place::new().run(&["seal", "--help"]).expect(0).out;
    for code in ["0  sealed", "1  refused", "2  not sealed for another reason"] {
        assert!(help.contains(&format!("\n  {code}")), "{code} in\n{help}");
    }
}

#[test]
fn an_unknown_command_or_argument_is_a_usage_error() {
    let place = Place::new();
    for args in [&["seel"][..], &["audit"], &["sql", "-c", "SELECT 1", "--format", "xml"], &["keys", "new", "--role", "king"]] {
        let run = place.run(args).expect(2);
        assert!(run.err.contains("error:"), "{}", run.err);
    }
}
