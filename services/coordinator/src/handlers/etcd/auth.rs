//! `/v3/auth/*`.

use super::super::App;
use super::super::caller::Unguarded;
use super::EtcdError;
use super::answer::{Message, Reply};
use super::error;
use super::maintenance::administered;
use super::message::codec::Uint;
use super::message::{
    AuthRequest, AuthStatusResponse, AuthenticateResponse, GrantPermissionRequest, HeaderOnly,
    PasswordRequest, PermissionMessage, RevokePermissionRequest, RoleResponse, RolesResponse,
    UsersResponse,
};
use crate::authn::{AuthenticateError, MAX_PASSWORD_BYTES};
use crate::store::{AuthCommand, AuthError, PasswordHash};

type Changed = Result<Reply<HeaderOnly>, EtcdError>;

async fn change(app: &App, command: AuthCommand) -> Changed {
    app.coordinator().auth(command).await?;
    Ok(Reply(HeaderOnly { header: app.header_now().await }))
}

pub(super) async fn enable(Unguarded(app): Unguarded) -> Changed {
    change(&app, AuthCommand::Enable).await
}

pub(super) async fn disable(Unguarded(app): Unguarded) -> Changed {
    change(&app, AuthCommand::Disable).await
}

pub(super) async fn status(
    Unguarded(app): Unguarded,
) -> Result<Reply<AuthStatusResponse>, EtcdError> {
    let store = administered(&app).await?;
    Ok(Reply(AuthStatusResponse {
        header: app.header(store.revision()),
        enabled: store.auth.is_enabled(),
        auth_revision: Uint(store.auth.revision()),
    }))
}

pub(super) async fn authenticate(
    Unguarded(app): Unguarded,
    Message(request): Message<PasswordRequest>,
) -> Result<Reply<AuthenticateResponse>, EtcdError> {
    let PasswordRequest { name, password, .. } = request;
    let token = app.authenticator().authenticate(app.coordinator(), &name, &password).await?;
    Ok(Reply(AuthenticateResponse { header: app.header_now().await, token }))
}

pub(super) async fn user_add(
    Unguarded(app): Unguarded,
    Message(request): Message<PasswordRequest>,
) -> Changed {
    if request.name.is_empty() {
        return Err(error::USER_EMPTY);
    }
    check_plain(&request)?;
    let password = new_password(&app, request.password, request.options.no_password).await?;
    change(&app, AuthCommand::AddUser { name: request.name, password }).await
}

pub(super) async fn user_change_password(
    Unguarded(app): Unguarded,
    Message(request): Message<PasswordRequest>,
) -> Changed {
    check_plain(&request)?;
    let password = new_password(&app, request.password, false).await?;
    change(&app, AuthCommand::SetPassword { name: request.name, password }).await
}

/// A hash of another kind is of no use here, and without a word the password would be empty.
fn check_plain(request: &PasswordRequest) -> Result<(), EtcdError> {
    if request.hashed_password.is_empty() {
        return Ok(());
    }
    Err(EtcdError::malformed("hashedPassword is not taken; send the password"))
}

/// Whoever may not set it does not make this node hash it.
async fn new_password(
    app: &App,
    password: String,
    none: bool,
) -> Result<Option<PasswordHash>, EtcdError> {
    administered(app).await?;
    if none {
        return Ok(None);
    }
    if MAX_PASSWORD_BYTES < password.len() {
        return Err(EtcdError::malformed(format_args!(
            "a password has at most {MAX_PASSWORD_BYTES} bytes"
        )));
    }
    Ok(Some(app.authenticator().hash(password).await?))
}

/// Everybody may look at themselves.
pub(super) async fn user_get(
    Unguarded(app): Unguarded,
    Message(request): Message<AuthRequest>,
) -> Result<Reply<RolesResponse>, EtcdError> {
    let store = app.coordinator().snapshot().await?;
    if app.coordinator().user(&store)? != Some(&request.name) {
        app.coordinator().may_administer(&store)?;
    }
    let user = store.auth.user(&request.name).ok_or(error::USER_NOT_FOUND)?;
    let roles = user.roles.iter().cloned().collect();
    Ok(Reply(RolesResponse { header: app.header(store.revision()), roles }))
}

pub(super) async fn user_list(
    Unguarded(app): Unguarded,
) -> Result<Reply<UsersResponse>, EtcdError> {
    let store = administered(&app).await?;
    let users = store.auth.users().map(str::to_owned).collect();
    Ok(Reply(UsersResponse { header: app.header(store.revision()), users }))
}

pub(super) async fn user_delete(
    Unguarded(app): Unguarded,
    Message(request): Message<AuthRequest>,
) -> Changed {
    change(&app, AuthCommand::DeleteUser { name: request.name }).await
}

pub(super) async fn user_grant(
    Unguarded(app): Unguarded,
    Message(AuthRequest { user, role, .. }): Message<AuthRequest>,
) -> Changed {
    change(&app, AuthCommand::GrantRole { user, role }).await
}

pub(super) async fn user_revoke(
    Unguarded(app): Unguarded,
    Message(AuthRequest { name, role, .. }): Message<AuthRequest>,
) -> Changed {
    change(&app, AuthCommand::RevokeRole { user: name, role }).await
}

pub(super) async fn role_add(
    Unguarded(app): Unguarded,
    Message(request): Message<AuthRequest>,
) -> Changed {
    change(&app, AuthCommand::AddRole { name: request.name }).await
}

/// Everybody may look at their own roles.
pub(super) async fn role_get(
    Unguarded(app): Unguarded,
    Message(request): Message<AuthRequest>,
) -> Result<Reply<RoleResponse>, EtcdError> {
    let store = app.coordinator().snapshot().await?;
    let user = app.coordinator().user(&store)?.and_then(|name| store.auth.user(name));
    if !user.is_some_and(|user| user.roles.contains(&request.role)) {
        app.coordinator().may_administer(&store)?;
    }
    let role = store.auth.role(&request.role).ok_or(error::ROLE_NOT_FOUND)?;
    let perm = role.iter().map(PermissionMessage::from).collect();
    Ok(Reply(RoleResponse { header: app.header(store.revision()), perm }))
}

pub(super) async fn role_list(
    Unguarded(app): Unguarded,
) -> Result<Reply<RolesResponse>, EtcdError> {
    let store = administered(&app).await?;
    let roles = store.auth.roles().map(str::to_owned).collect();
    Ok(Reply(RolesResponse { header: app.header(store.revision()), roles }))
}

pub(super) async fn role_delete(
    Unguarded(app): Unguarded,
    Message(request): Message<AuthRequest>,
) -> Changed {
    change(&app, AuthCommand::DeleteRole { name: request.role }).await
}

pub(super) async fn role_grant(
    Unguarded(app): Unguarded,
    Message(request): Message<GrantPermissionRequest>,
) -> Changed {
    let permission = request.perm.ok_or(error::PERMISSION_NOT_GIVEN)?.permission();
    change(&app, AuthCommand::GrantPermission { role: request.name, permission }).await
}

pub(super) async fn role_revoke(
    Unguarded(app): Unguarded,
    Message(request): Message<RevokePermissionRequest>,
) -> Changed {
    let role = request.role.clone();
    change(&app, AuthCommand::RevokePermission { role, range: request.range() }).await
}

impl From<AuthenticateError> for EtcdError {
    fn from(error: AuthenticateError) -> Self {
        match error {
            AuthenticateError::NotEnabled => error::AUTH_NOT_ENABLED,
            AuthenticateError::Failed => error::AUTH_FAILED,
            AuthenticateError::Changed => error::OLD_AUTH_REVISION,
            AuthenticateError::Store(failure) => failure.into(),
        }
    }
}

impl From<AuthError> for EtcdError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::NotEnabled => error::AUTH_NOT_ENABLED,
            AuthError::NoRootUser => error::ROOT_USER_MISSING,
            AuthError::NoRootRole => error::ROOT_ROLE_MISSING,
            AuthError::UserNameEmpty => error::USER_EMPTY,
            AuthError::RoleNameEmpty => error::ROLE_EMPTY,
            AuthError::UserExists => error::USER_EXISTS,
            AuthError::UserNotFound => error::USER_NOT_FOUND,
            AuthError::RoleExists => error::ROLE_EXISTS,
            AuthError::RoleNotFound => error::ROLE_NOT_FOUND,
            AuthError::RoleNotGranted => error::ROLE_NOT_GRANTED,
            AuthError::PermissionNotGranted => error::PERMISSION_NOT_GRANTED,
            AuthError::RootNeeded => error::INVALID_AUTH_MGMT,
            AuthError::Changed => error::OLD_AUTH_REVISION,
        }
    }
}
