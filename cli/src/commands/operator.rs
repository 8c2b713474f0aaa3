//! Operators.

use std::path::{Path, PathBuf};

use houston_common::command::{AddOperator, RevokeOperator};
use houston_common::error::Refusal;
use houston_common::identity::request::new_key_and_csr;
use serde_json::json;

use super::{DONE, Shell, confirmed};
use crate::args::OperatorVerb;
use crate::context::credential::{KEY_FILE, new_directory, write_address, write_issued};
use crate::render;
use crate::toml_file::shown;

pub async fn perform(verb: OperatorVerb, shell: &mut Shell<'_>) -> Result<u8, Refusal> {
    match verb {
        OperatorVerb::Add { name, mut roles, directory, reason } => {
            roles.sort();
            roles.dedup();
            let directory = directory.unwrap_or_else(|| PathBuf::from(name.as_str()));
            let request = AddOperator { name, roles, csr: Vec::new(), reason: reason.reason };
            add(shell, request, &directory).await?;
        }
        OperatorVerb::List => {
            let operators = shell.connect().await?.list_operators().await?;
            shell.console.answer(
                || render::json::list("operators", &operators, render::json::operator),
                |paint| render::fleet::operators(&operators, paint),
            )?;
        }
        OperatorVerb::Revoke { name, yes, reason } => {
            confirmed(yes, "revoking ends the operator's access for good")?;
            let request = RevokeOperator { name, reason: reason.reason };
            shell.connect().await?.revoke_operator(&request).await?;
            let name = request.name.as_str();
            shell.console.answer(|| json!({ "name": name }), |_| format!("operator {name} is revoked\n"))?;
        }
    }
    Ok(DONE)
}

async fn add(shell: &mut Shell<'_>, request: AddOperator, directory: &Path) -> Result<(), Refusal> {
    let client = shell.connect().await?;
    let (key, csr) = new_key_and_csr()?;
    // The key is on disk before its certificate exists, so that no certificate is without its key.
    new_directory(directory)?;
    key.write(&directory.join(KEY_FILE))?;
    let request = AddOperator { csr, ..request };
    let issued = match client.add_operator(&request).await {
        Ok(issued) => issued,
        Err(refusal) => {
            // A key that no certificate was made for is of no use; what cannot be removed is harmless.
            let _ = std::fs::remove_dir_all(directory);
            return Err(refusal);
        }
    };
    write_issued(directory, &issued)?;
    write_address(directory, &shell.address()?)?;
    let name = request.name.as_str();
    shell.console.answer(
        || json!({ "name": name, "directory": directory.to_string_lossy() }),
        |_| {
            format!(
                "operator {name} is added; the credential is in {0}\n\
                     on its machine: houston context add NAME --credential {0}\n",
                shown(directory)
            )
        },
    )
}
