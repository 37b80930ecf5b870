//! hyper and axum with nothing of ours around them: what `trial` is measured against by
//! `scripts/bench-http`.

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
// For its allocator: the same as in what is measured.
use chassis as _;
use hyper_util::rt::TokioIo;
use tower::Service as _;

#[expect(clippy::disallowed_methods, reason = "a process to be measured, which ends by a signal")]
async fn serve(address: String) -> std::io::Result<()> {
    let router = Router::new()
        .route("/items/{id}", get(|Path(id): Path<u64>| async move { id.to_string() }));
    let listener = tokio::net::TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let router = router.clone();
        let service = hyper::service::service_fn(move |request| router.clone().call(request));
        let http = hyper::server::conn::http1::Builder::new();
        let connection = http.serve_connection(TokioIo::new(stream), service);
        tokio::spawn(connection);
    }
}

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let threads = arguments.next().and_then(|threads| threads.parse().ok()).unwrap_or(1);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    runtime.block_on(serve(address))
}
