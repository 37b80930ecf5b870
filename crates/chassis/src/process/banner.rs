//! What a person sees first.

use std::fmt::Write as _;

use crate::VERSION;
use crate::config::{LogFormat, ServiceConfig};
use crate::context::Context;
use crate::server::Server;

/// Says that the node is ready: a few lines for people, or one event for collectors.
pub(super) fn announce<C: ServiceConfig>(server: &Server<C>, tracing: &str) {
    if !C::READY.is_empty() {
        tracing::info!("{}", C::READY);
    }
    if server.context.config.base().log.format == LogFormat::Text {
        telemetry::note!("{}", banner(server, tracing).trim_end());
        return;
    }
    let Context { node, listen, peer_listen, config, .. } = &server.context;
    let data_dir = config.base().data_dir.display();
    tracing::info!(node, %listen, %peer_listen, %data_dir, tracing, "ready");
}

/// Where it listens, where its data is, where traces go, and one line to try.
fn banner<C: ServiceConfig>(server: &Server<C>, tracing: &str) -> String {
    let context = &server.context;
    let base = context.config.base();
    let listen = context.listen;
    let mut text = format!("quartet-{} {VERSION}, node {}\n", C::SERVICE, context.node);
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "  {name:<8} {value}");
    };
    line("listen", &format!("http://{listen}"));
    if !server.public_only() {
        line("peers", &format!("http://{}", context.peer_listen));
    }
    line("data", &base.data_dir.display().to_string());
    line("docs", &format!("http://{listen}/docs"));
    if let Some((_, value)) = tracing.split_once(": ") {
        line("tracing", value);
    }
    line("try", &format!("curl {}", example(C::SERVICE, &listen.to_string())));
    if base.insecure && !listen.ip().is_loopback() {
        text.push_str(
            "  WARNING  anyone who reaches this address may read and change everything\n",
        );
    }
    text
}

fn example(service: &str, listen: &str) -> String {
    match service {
        "coordinator" | "replica" => format!("-X PUT {listen}/v1/kv/color -d blue"),
        "broker" => format!("-X POST {listen}/v1/topics/orders/messages -d hello"),
        "gateway" => {
            format!("{listen}/v1/rpc -d '{{\"id\":\"1\",\"method\":\"echo\",\"data\":\"hello\"}}'")
        }
        _ => format!("{listen}/readyz?verbose"),
    }
}
