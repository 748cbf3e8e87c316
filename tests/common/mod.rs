//! What several integration tests share.

pub mod document;
pub mod fixture;
pub mod record;
pub mod single;
pub mod steps;
pub mod tiny;
