//! The demo, and the service that it deploys.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::demo::{HOSTS_MAX, ZONES_MAX};

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
It needs no rights and nothing but this machine: everything is in a temporary directory, which goes
when the demo ends.

Exit codes with --exit: 0 if all went as told, 1 if not")]
pub struct DemoArgs {
    /// How many hosts
    #[arg(long, default_value_t = 9, value_name = "N", value_parser = clap::value_parser!(u32).range(3..=i64::from(HOSTS_MAX)))]
    pub hosts: u32,
    /// In how many zones
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(ZONES_MAX)))]
    pub zones: u32,
    /// End by itself instead of staying up until Ctrl-C
    #[arg(long)]
    pub exit: bool,
}

#[derive(Debug, Clone, Args)]
pub struct DemoServiceArgs {
    #[arg(long)]
    pub listen: SocketAddr,
    #[arg(long)]
    pub version: String,
    #[arg(long)]
    pub greeting: String,
    #[arg(long)]
    pub drain_file: PathBuf,
    #[arg(long)]
    pub broken: bool,
}
