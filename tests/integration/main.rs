//! Every test that works on the whole: one binary, so that the engines are linked once.

mod cli;
