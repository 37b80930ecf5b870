//! `/v1/snapshot`.

use api::coordinator::REVISION_HEADER;
use api::problem::Code;
use axum::Router;
use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use chassis::problem::Problem;
use futures_util::TryStreamExt as _;

use super::{App, State};
use crate::backup::{Backup, BackupRefused};

/// The SHA-256 of the backup, which also is its last 32 bytes.
const CHECKSUM_HEADER: &str = "x-checksum-sha256";

pub(super) fn router() -> Router<App> {
    Router::new().route(api::coordinator::SNAPSHOT, get(snapshot))
}

/// A backup of everything at one revision, for `quartet-coordinator restore`. Serving goes on.
///
/// The last 32 bytes are the SHA-256 of all before them, also in `x-checksum-sha256`. A backup
/// that breaks off lacks them, and `restore` refuses it. It holds users and password hashes.
#[utoipa::path(get, path = "/v1/snapshot", tag = "cluster",
    responses((status = 200, content_type = "application/octet-stream",
               description = "The backup; `x-revision` is where the store was"),
              (status = 503, description = "overloaded: too many are being read already")))]
pub(super) async fn snapshot(State(app): State<App>) -> Result<Response, Problem> {
    let store = app.coordinator().snapshot().await?;
    let backup = Backup::start(app.backups(), store).await?;
    let checksum: String = backup.checksum.iter().map(|byte| format!("{byte:02x}")).collect();
    let name = format!("attachment; filename=\"coordinator-{}.backup\"", backup.revision);
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, backup.len().to_string()),
        (header::CONTENT_DISPOSITION, name),
    ];
    let ours = [(REVISION_HEADER, backup.revision.to_string()), (CHECKSUM_HEADER, checksum)];
    let body = Body::from_stream(backup.pieces().map_ok(|piece| piece.bytes));
    Ok((headers, ours, body).into_response())
}

impl From<BackupRefused> for Problem {
    fn from(refused: BackupRefused) -> Self {
        match &refused {
            BackupRefused::TooMany => Self::from_error(Code::Overloaded, &refused),
            BackupRefused::Failed(error) => Self::internal(error),
        }
    }
}
