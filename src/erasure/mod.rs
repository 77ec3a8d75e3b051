//! Pure coding: geometry of segments, engines, encode, reconstruct.
