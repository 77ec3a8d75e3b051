//! Parquet bytes to digests, row sums and recomputed statistics.
