//! Gyrus.
