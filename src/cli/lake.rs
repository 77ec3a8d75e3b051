//! `init`, `status`, `region`, `tables`.

use std::str::FromStr as _;

use super::Ending;
use super::args::{InitArgs, RegionCommand};
use super::context::Context;
use super::home::Home;
use super::output::{self, GOOD, Output, styled};
use crate::delta;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{RegionName, WriteId};
