//! The networks: architecture, initial weights, and the graphs that train, validate and predict with them.

mod architecture;
mod init;
mod precision;
mod raw;
mod step;
mod unet;

pub use architecture::{Architecture, UNetConfig};
pub use init::initial_parameters;
pub use precision::Precision;
pub use raw::feed_raw;
pub use step::{StepConfig, names, record_prediction, record_training, record_validation};
pub use unet::{Mode, UNet};
