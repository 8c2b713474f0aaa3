//! Hosts.

use std::collections::BTreeMap;
use std::time::Duration;

use houston_common::api::client::OperatorClient;
use houston_common::clock::Exact;
use houston_common::command::{DrainHost, EditHost, HoldHost, HostChange, HostFilter, ListHosts};
use houston_common::error::{Code, Refusal};
use houston_common::id::HostId;
use houston_common::view::HostView;
use serde_json::json;

use super::{DONE, Shell, confirmed, every};
use crate::args::{HostChosen, HostVerb};
use crate::{host_name, render};

pub async fn perform(verb: HostVerb, shell: &mut Shell<'_>) -> Result<u8, Refusal> {
    match verb {
        HostVerb::List { environment, zone, labels, held } => {
            let client = shell.connect().await?;
            let labels = labels.into_iter().collect();
            let filter = HostFilter { environment: environment.clone(), zone, labels, held };
            let hosts = list(&client, &filter).await?;
            shell.console.answer(
                || render::json::list("hosts", &hosts, render::json::host),
                |paint| match held {
                    true => render::fleet::held_hosts(&hosts, paint),
                    false => render::fleet::hosts(&hosts, environment.as_ref(), paint),
                },
            )?;
        }
        HostVerb::Show { host } => {
            let client = shell.connect().await?;
            let view = find(&client, &host).await?;
            shell.console.answer(|| render::json::host(&view), |paint| render::fleet::host(&view, paint))?;
        }
        HostVerb::Label { host, set, remove, zone, reason } => {
            if set.is_empty() && remove.is_empty() && zone.is_none() {
                let what = "there is nothing to change";
                return Err(Refusal::new(
                    Code::CliMissing,
                    what,
                    "give KEY=VALUE, --remove KEY or --zone ZONE",
                ));
            }
            let client = shell.connect().await?;
            let request = EditHost {
                host: find(&client, &host).await?.id,
                zone,
                set_labels: set.into_iter().collect::<BTreeMap<_, _>>(),
                remove_labels: remove,
                reason: reason.reason,
            };
            let view = client.edit_host(&request).await?;
            let labels = render::labels(&view.labels);
            changed(shell, &view, &format!("is in zone {} with labels {labels}", view.zone))?;
        }
        HostVerb::Drain(chosen) => drain(shell, chosen, true).await?,
        HostVerb::Undrain(chosen) => drain(shell, chosen, false).await?,
        HostVerb::Hold { host, reason, duration } => hold(shell, &host, reason, duration).await?,
        HostVerb::Release(chosen) => {
            let (client, change) = change(shell, chosen).await?;
            let view = client.release_host(&change).await?;
            changed(shell, &view, "is released")?;
        }
        HostVerb::Revoke { chosen, yes } => {
            confirmed(yes, "revoking ends the host's access for good")?;
            let (client, change) = change(shell, chosen).await?;
            let view = client.revoke_host(&change).await?;
            changed(shell, &view, "is revoked; it keeps running what it runs")?;
        }
        HostVerb::Remove { chosen, yes } => {
            confirmed(yes, "removing revokes the host and forgets it")?;
            let (client, change) = change(shell, chosen).await?;
            client.remove_host(&change).await?;
            let id = change.host.as_str();
            shell.console.answer(
                || json!({ "id": id }),
                |_| format!("{id} is removed; it keeps running what it runs\n"),
            )?;
        }
    }
    Ok(DONE)
}

async fn list(client: &OperatorClient, filter: &HostFilter) -> Result<Vec<HostView>, Refusal> {
    every(async |page| client.list_hosts(&ListHosts { filter: filter.clone(), page }).await).await
}

/// The host that is meant. The list is asked for only if no host has this very id.
pub async fn find(client: &OperatorClient, wanted: &HostId) -> Result<HostView, Refusal> {
    match client.get_host(wanted).await {
        Err(refusal) if refusal.code == Code::HostUnknown => {
            let all: Vec<HostId> =
                list(client, &HostFilter::default()).await?.into_iter().map(|host| host.id).collect();
            client.get_host(&host_name::resolve(wanted, &all)?).await
        }
        answer => answer,
    }
}

async fn change(shell: &Shell<'_>, chosen: HostChosen) -> Result<(OperatorClient, HostChange), Refusal> {
    let client = shell.connect().await?;
    let host = find(&client, &chosen.host).await?.id;
    Ok((client, HostChange { host, reason: chosen.reason.reason }))
}

async fn drain(shell: &mut Shell<'_>, chosen: HostChosen, drained: bool) -> Result<(), Refusal> {
    let (client, HostChange { host, reason }) = change(shell, chosen).await?;
    let view = client.drain_host(&DrainHost { host, drained, reason }).await?;
    changed(shell, &view, if drained { "is drained" } else { "is in use again" })
}

async fn hold(
    shell: &mut Shell<'_>,
    host: &HostId,
    reason: String,
    duration: Option<Duration>,
) -> Result<(), Refusal> {
    let client = shell.connect().await?;
    let host = find(&client, host).await?.id;
    let view = client.hold_host(&HoldHost { host, reason, duration }).await?;
    let term = match duration {
        Some(duration) => format!("for {}", Exact(duration)),
        None => "until it is released".to_owned(),
    };
    changed(shell, &view, &format!("is held {term}: it serves, and takes no change"))
}

fn changed(shell: &mut Shell<'_>, view: &HostView, what: &str) -> Result<(), Refusal> {
    shell.console.answer(|| render::json::host(view), |_| format!("{} {what}\n", view.id))
}
