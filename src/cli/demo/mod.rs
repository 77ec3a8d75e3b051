//! `demo`: the main job on real data, told as it happens.

mod attacker;
