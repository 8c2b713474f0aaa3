//! Rollouts.

use std::time::Duration;

use houston_common::api::client::OperatorClient;
use houston_common::command::{
    ControlRollout, DecideGate, GetRollout, ListRollouts, RolloutAction, RolloutRef, StartRollout,
};
use houston_common::error::{Code, Refusal};
use houston_common::id::EnvironmentName;
use houston_common::view::RolloutView;
use serde_json::json;

use super::{DONE, Shell, wall_now};
use crate::args::{ChangeArgs, DraftArgs, Output, RolloutVerb, StartArgs};
use crate::console::Console;
use crate::environment_file::profile;
use crate::prose;
use crate::render::{self, rollout::Frame};
use crate::watch::{self, Manner};

pub async fn perform(verb: RolloutVerb, shell: &mut Shell<'_>) -> Result<u8, Refusal> {
    match verb {
        RolloutVerb::Plan(args) => plan(args, shell).await?,
        RolloutVerb::Start(args) => return start(args, shell).await,
        RolloutVerb::Status(chosen) => {
            let view = shell.connect().await?.get_rollout(&now(chosen.rollout)).await?;
            status(&mut shell.console, &view)?;
        }
        RolloutVerb::Watch(chosen) => {
            let client = shell.connect().await?;
            let view = client.get_rollout(&now(chosen.rollout)).await?;
            return follow(&client, &mut shell.console, view, Manner::Everything, None).await;
        }
        RolloutVerb::Wait { chosen, timeout } => {
            let client = shell.connect().await?;
            let view = client.get_rollout(&now(chosen.rollout)).await?;
            return follow(&client, &mut shell.console, view, Manner::States, timeout).await;
        }
        RolloutVerb::Pause(args) => return control(shell, args, RolloutAction::Pause).await,
        RolloutVerb::Resume(args) => return control(shell, args, RolloutAction::Resume).await,
        RolloutVerb::Abort(args) => return control(shell, args, RolloutAction::Abort).await,
        RolloutVerb::Rollback(args) => return control(shell, args, RolloutAction::Rollback).await,
        RolloutVerb::Approve { change, gate } => {
            let (rollout, reason) = (change.chosen.rollout, change.reason.reason);
            return decide(shell, DecideGate { rollout, gate, skip: false, reason }).await;
        }
        RolloutVerb::Skip { chosen, gate, reason } => {
            let rollout = chosen.rollout;
            return decide(shell, DecideGate { rollout, gate: Some(gate), skip: true, reason }).await;
        }
        RolloutVerb::List { environment, limit } => {
            let rollouts = shell.connect().await?.list_rollouts(&ListRollouts { environment, limit }).await?;
            shell.console.answer(
                || render::json::list("rollouts", &rollouts, render::json::rollout_summary),
                |paint| render::rollout::list(&rollouts, wall_now(), paint),
            )?;
        }
    }
    Ok(DONE)
}

async fn follow(
    client: &OperatorClient,
    console: &mut Console<'_>,
    view: RolloutView,
    manner: Manner,
    timeout: Option<Duration>,
) -> Result<u8, Refusal> {
    let interrupt = async {
        // Without a handler the signal ends the process as it would have ended the watching.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let ask = async |question| client.get_rollout(&question).await;
    watch::follow(ask, console, view, manner, timeout, interrupt).await
}

/// A question that is answered at once.
fn now(rollout: RolloutRef) -> GetRollout {
    GetRollout { rollout, after_revision: None, wait: Duration::ZERO }
}

async fn drafted(client: &OperatorClient, args: DraftArgs) -> Result<StartRollout, Refusal> {
    let DraftArgs { environment, version_set, supersede, force, allow_outage, profile, keys, exclude } = args;
    let policy = if profile.is_none() && keys.is_empty() {
        None
    } else {
        let own = client.get_environment(&environment).await?.policy;
        let laid_over = match profile {
            Some(name) => profile::named(&name)?.over(own)?,
            None => own,
        };
        Some(profile::with_keys(laid_over, &keys)?)
    };
    Ok(StartRollout {
        environment,
        version_set,
        reason: String::new(),
        supersede,
        force,
        allow_outage,
        idempotency_key: None,
        plan_hash: None,
        policy,
        exclude,
    })
}

async fn plan(args: DraftArgs, shell: &mut Shell<'_>) -> Result<(), Refusal> {
    let client = shell.connect().await?;
    let request = drafted(&client, args).await?;
    let plan = client.plan_rollout(&request).await?;
    shell.console.answer(
        || render::json::plan(&plan),
        |paint| render::rollout::plan(&request.environment, &plan, paint),
    )
}

async fn start(args: StartArgs, shell: &mut Shell<'_>) -> Result<u8, Refusal> {
    let client = shell.connect().await?;
    let request = StartRollout {
        reason: args.reason.reason,
        idempotency_key: args.idempotency_key,
        plan_hash: args.plan,
        ..drafted(&client, args.draft).await?
    };
    let view = match client.start_rollout(&request).await {
        Err(refusal) if refusal.code == Code::NoChange => {
            nothing_new(&client, shell, request.environment, args.watch).await?;
            return Err(refusal);
        }
        answer => answer?,
    };
    if args.watch {
        return follow(&client, &mut shell.console, view, Manner::Everything, None).await;
    }
    shell.console.answer(
        || render::json::rollout(&view),
        |paint| {
            format!(
                "{} of {} has started: {} → {}\n",
                paint.bold(&format!("rollout {}", view.id)),
                view.environment,
                view.from.name,
                view.to.name
            )
        },
    )?;
    Ok(DONE)
}

/// Nothing to do is no failure: a program gets an object all the same, that of the newest rollout.
async fn nothing_new(
    client: &OperatorClient,
    shell: &mut Shell<'_>,
    environment: EnvironmentName,
    is_line: bool,
) -> Result<(), Refusal> {
    if shell.console.output != Output::Json {
        return Ok(());
    }
    let newest = match client.get_rollout(&now(RolloutRef::NewestOf(environment))).await {
        Ok(view) => render::json::rollout(&view),
        Err(refusal) if refusal.code == Code::RolloutUnknown => json!({ "id": null }),
        Err(refusal) => return Err(refusal),
    };
    if is_line {
        shell.console.event(|| newest, |_| String::new())
    } else {
        shell.console.answer(|| newest, |_| String::new())
    }
}

fn status(console: &mut Console<'_>, view: &RolloutView) -> Result<(), Refusal> {
    let columns = console.terminal().map(|(columns, _)| (columns, usize::MAX));
    console.answer(
        || render::json::rollout(view),
        |paint| {
            let frame = Frame { size: columns, age: Duration::ZERO, now: wall_now(), paint };
            let mut text = render::rollout::picture(view, frame).join("\n");
            text.push('\n');
            text
        },
    )
}

async fn control(shell: &mut Shell<'_>, args: ChangeArgs, action: RolloutAction) -> Result<u8, Refusal> {
    let request = ControlRollout { rollout: args.chosen.rollout, action, reason: args.reason.reason };
    let view = shell.connect().await?.control_rollout(&request).await?;
    let (text, exit) = render::rollout::controlled(&view);
    shell.console.answer(|| render::json::rollout(&view), |_| text)?;
    Ok(exit as u8)
}

async fn decide(shell: &mut Shell<'_>, request: DecideGate) -> Result<u8, Refusal> {
    let view = shell.connect().await?.decide_gate(&request).await?;
    let decided = view.decisions.last().map(|decision| format!("{}\n", prose::decision(decision)));
    shell.console.answer(|| render::json::rollout(&view), |_| decided.unwrap_or_default())?;
    Ok(DONE)
}
