#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lakeseal::fuzzing::run("evidence_expectations", bytes));
