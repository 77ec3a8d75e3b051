//! A lake: its configuration, initialisation and opening.

pub mod testing;
