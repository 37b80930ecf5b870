//! `quartet queue redrives`: dead letters on their way back.

use api::broker::{BeginRedrive, RedriveList, RedriveState, RedriveView};
use clap::Subcommand;

use crate::commands::{Session, or_dash};
use crate::http::Request;
use crate::output::{Table, note};

#[derive(Debug, Subcommand)]
pub(crate) enum RedrivesCommand {
    /// The last redrives of a queue.
    Ls { queue: String },
    /// Begin to bring dead letters back; it goes on by itself.
    Begin {
        queue: String,
        /// Another queue than the one they came from.
        #[arg(long, value_name = "QUEUE")]
        to: Option<String>,
        /// Most messages a second.
        #[arg(long, value_name = "N")]
        rate: Option<u32>,
        /// Most messages.
        #[arg(long, value_name = "N")]
        max: Option<u64>,
    },
    /// How far one is.
    Show { queue: String, id: u64 },
    /// End one. What it has moved stays moved.
    Cancel { queue: String, id: u64 },
}

pub(super) async fn run(
    session: &Session,
    of: impl Fn(&str) -> String,
    command: RedrivesCommand,
) -> anyhow::Result<()> {
    let all = |queue: &str| of(queue) + "/redrives";
    let one = |queue: &str, id: u64| format!("{}/{id}", all(queue));
    match command {
        RedrivesCommand::Ls { queue } => {
            let list = session.ask::<RedriveList>(Request::get(all(&queue))).await?;
            list.inspect(|list| table(&list.redrives));
            Ok(())
        }
        RedrivesCommand::Begin { queue, to, rate, max } => {
            let begin = BeginRedrive { to, rate_per_second: rate, max };
            show(session, Request::post(all(&queue)).json(&begin)).await
        }
        RedrivesCommand::Show { queue, id } => show(session, Request::get(one(&queue, id))).await,
        RedrivesCommand::Cancel { queue, id } => {
            show(session, Request::delete(one(&queue, id))).await
        }
    }
}

async fn show(session: &Session, request: Request) -> anyhow::Result<()> {
    let Some(view) = session.ask::<RedriveView>(request).await? else { return Ok(()) };
    table(std::slice::from_ref(&view));
    if let Some(reason) = view.reason {
        note!("{reason}");
    }
    Ok(())
}

fn table(views: &[RedriveView]) {
    let mut table = Table::new(["ID", "FROM", "TO", "STATE", "MOVED", "LEFT", "REMAINING"]);
    for view in views {
        table.row([
            view.id.to_string(),
            view.from.clone(),
            or_dash(view.to.clone()),
            state(view.state).to_owned(),
            view.moved.to_string(),
            view.left.to_string(),
            view.remaining.to_string(),
        ]);
    }
    table.print();
}

const fn state(state: RedriveState) -> &'static str {
    match state {
        RedriveState::Running => "running",
        RedriveState::Done => "done",
        RedriveState::Cancelled => "cancelled",
        RedriveState::Failed => "failed",
    }
}
