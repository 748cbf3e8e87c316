//! Executes NVIDIA PTX on the CPU and checks it while it runs.
