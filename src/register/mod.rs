//! Write-once names decided by a quorum of regions.
