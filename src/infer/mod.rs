//! From a trained network to label maps: tiling, blending, mirroring.
