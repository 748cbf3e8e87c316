//! Metrics of label maps against the truth.
