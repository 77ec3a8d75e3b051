//! Feeds bytes to the decoder that the environment variable `LAKESEAL_DECODER` names.

#![no_main]

use std::sync::LazyLock;

use lakeseal::fuzzing::{Decoder, decoders};

static DECODER: LazyLock<Decoder> = LazyLock::new(|| {
    let wanted = std::env::var("LAKESEAL_DECODER").unwrap_or_default();
    decoders().into_iter().find(|decoder| decoder.name == wanted).unwrap_or_else(|| {
        let names: Vec<&str> = decoders().iter().map(|decoder| decoder.name).collect();
        eprintln!("LAKESEAL_DECODER is '{wanted}'; it names one of: {}", names.join(" "));
        std::process::exit(2);
    })
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _meaning = (DECODER.decode)(bytes);
});
