//! Join tokens.

use std::collections::BTreeMap;

use houston_common::command::{CreateToken, RevokeToken};
use houston_common::error::Refusal;
use houston_common::id::quoted;
use serde_json::json;

use super::{DONE, Shell};
use crate::args::{Output, TokenVerb};
use crate::console::plain;
use crate::render;

pub async fn perform(verb: TokenVerb, shell: &mut Shell<'_>) -> Result<u8, Refusal> {
    match verb {
        TokenVerb::Create { zone, labels, uses, expires, ephemeral, reason } => {
            let request = CreateToken {
                zone,
                labels: labels.into_iter().collect::<BTreeMap<_, _>>(),
                uses,
                valid_for: expires,
                ephemeral,
                reason: reason.reason,
            };
            let created = shell.connect().await?.create_token(&request).await?;
            shell.console.answer(
                || json!({ "secret": created.secret, "token": render::json::token(&created.token) }),
                |_| format!("{}\n", plain(&created.secret)),
            )?;
            if shell.console.output == Output::Text {
                shell.console.note(&render::fleet::created_token(&created.token));
            }
        }
        TokenVerb::List => {
            let tokens = shell.connect().await?.list_tokens().await?;
            shell.console.answer(
                || render::json::list("tokens", &tokens, render::json::token),
                |paint| render::fleet::tokens(&tokens, paint),
            )?;
        }
        TokenVerb::Revoke { id, reason } => {
            let request = RevokeToken { id, reason: reason.reason };
            shell.connect().await?.revoke_token(&request).await?;
            let id = quoted(&request.id);
            shell.console.answer(|| json!({ "id": request.id }), |_| format!("token {id} is revoked\n"))?;
        }
    }
    Ok(DONE)
}
