//! Every physical key in a region is built here, and nowhere else.
//!
//! ```text
//! id                                              lake and incarnation of the region
//! c/<^number>                                     configurations
//! i/<escaped dirs>/<escaped leaf>!/<^slot>.<seq>  register entries: header + signed manifest
//! i/<escaped dirs>/<escaped leaf>!/<^slot>.d<…>   decided marker
//! d/<aa>/<write id>/<slot>.<segment>.<shard>      a shard, its block list first
//! ```
//!
//! `^slot` is `u64::MAX - slot` in 16 hexadecimal digits, so that the newest slot is listed first. Bytes up to 0x25 of a
//! logical path are escaped as `%XX` and `!` (0x21) ends the leaf, so that physical order is logical byte order and
//! both `a` and `a/b` can be objects.
