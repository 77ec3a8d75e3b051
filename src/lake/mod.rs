//! A lake: its configuration, initialisation and opening.
