//! `quartet service`: what is registered in the coordinator.

use api::coordinator::{ServiceInstances, ServiceList};
use clap::Subcommand;

use super::{Session, or_dash};
use crate::cluster::Service;
use crate::http::{Request, encode, query};
use crate::output::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// List services.
    Ls,
    /// The instances of one service.
    Show {
        service: String,
        /// Only those that are well.
        #[arg(long)]
        healthy: bool,
    },
}

pub(crate) async fn run(session: &Session, command: ServiceCommand) -> anyhow::Result<()> {
    let url = |path: &str| session.url(Service::Coordinator, &format!("/v1/services{path}"));
    match command {
        ServiceCommand::Ls => {
            let list = session.ask::<ServiceList>(Request::get(url(""))).await?;
            let Some(list) = list else { return Ok(()) };
            let mut table = Table::new(["SERVICE", "INSTANCES", "HEALTHY"]);
            for of in list.services {
                table.row([of.service, of.instances.to_string(), of.healthy.to_string()]);
            }
            table.print();
        }
        ServiceCommand::Show { service, healthy } => {
            let query = query(&[("healthy", healthy.then(|| "true".to_owned()))]);
            let path = format!("/{}", encode(&service));
            let found = session.ask::<ServiceInstances>(Request::get(url(&path) + &query)).await?;
            let Some(found) = found else { return Ok(()) };
            let mut table = Table::new(["INSTANCE", "ADDRESS", "STATUS", "LEASE", "TAGS"]);
            for of in found.instances {
                table.row([
                    of.instance,
                    format!("{}:{}", of.address, of.port),
                    format!("{:?}", of.status).to_lowercase(),
                    or_dash(of.lease),
                    of.tags.join(", "),
                ]);
            }
            table.print();
        }
    }
    Ok(())
}
