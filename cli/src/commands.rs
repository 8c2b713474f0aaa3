//! Each command: its calls in their order, and what it answers.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use houston_common::api::client::OperatorClient;
use houston_common::clock::WallTime;
use houston_common::command::{Explain, PAGE_MAX, Page, Paged};
use houston_common::error::{Code, Exit, Refusal};
use houston_common::tls::Address;

use crate::args::{ContextName, DemoArgs, DemoServiceArgs, ExplainArgs, Global, Noun};
use crate::console::{Console, Surroundings};
use crate::context::credential::CredentialFiles;
use crate::context::{Context, Contexts};
use crate::demo::service::Service;
use crate::demo::{self, Demo};
use crate::render;

mod context;
mod host;
mod operator;
mod release;
mod rollout;
mod token;

const DONE: u8 = Exit::Done as u8;

/// What every command has at hand.
#[derive(Debug)]
pub struct Shell<'a> {
    pub console: Console<'a>,
    context: Option<ContextName>,
    /// The context file; absent where nobody has said where it is.
    contexts: Option<PathBuf>,
}

impl<'a> Shell<'a> {
    pub fn new(console: Console<'a>, global: &Global, surroundings: &Surroundings) -> Self {
        let below_home = || surroundings.home.as_ref().map(|home| home.join(".config"));
        let contexts = global.config.clone().or_else(|| {
            let directory = surroundings.config_home.clone().or_else(below_home)?;
            Some(directory.join("houston").join("contexts.toml"))
        });
        Self { console, context: global.context.clone(), contexts }
    }

    fn contexts_file(&self) -> Result<&Path, Refusal> {
        self.contexts.as_deref().ok_or_else(|| {
            Refusal::new(
                Code::Context,
                "there is no home directory to look for contexts in",
                "give --config FILE",
            )
        })
    }

    /// Where the chosen coordinator listens.
    fn address(&self) -> Result<Address, Refusal> {
        let contexts = Contexts::read(self.contexts_file()?)?;
        contexts.choose(self.context.as_ref()).map(|(_, context)| context.address.clone())
    }

    async fn connect(&self) -> Result<OperatorClient, Refusal> {
        let file = self.contexts_file()?;
        let contexts = Contexts::read(file)?;
        let (_, context) = contexts.choose(self.context.as_ref())?;
        let (_, settings) = CredentialFiles::read(&credential_path(file, context))?.usable()?;
        let settings = match &context.server_name {
            Some(name) => settings.expecting(name.clone()),
            None => settings,
        };
        Ok(OperatorClient::new(settings.connect(&context.address).await?))
    }
}

/// Where a context's credential lies: relative to the context file.
fn credential_path(file: &Path, context: &Context) -> PathBuf {
    file.parent().unwrap_or_else(|| Path::new("")).join(&context.credential)
}

/// Wall time, for display.
pub fn wall_now() -> WallTime {
    WallTime::from_system(SystemTime::now())
}

/// Runs a command; the exit code of one that was not refused.
pub async fn perform(noun: Noun, shell: &mut Shell<'_>) -> Result<u8, Refusal> {
    match noun {
        Noun::Context(verb) => context::perform(verb, shell),
        Noun::Token(verb) => token::perform(verb, shell).await,
        Noun::Operator(verb) => operator::perform(verb, shell).await,
        Noun::Host(verb) => host::perform(verb, shell).await,
        Noun::Package(verb) => release::package(verb, shell).await,
        Noun::VersionSet(verb) => release::version_set(verb, shell).await,
        Noun::Environment(verb) => release::environment(verb, shell).await,
        Noun::Rollout(verb) => rollout::perform(verb, shell).await,
        Noun::Profile(verb) => release::profile(&verb, shell),
        Noun::Explain(args) => explain(args, shell).await,
        Noun::Demo(args) => demo(args).await,
        Noun::DemoService(args) => demo_service(args).await,
        Noun::Whoami => {
            let who = shell.connect().await?.who_am_i().await?;
            shell
                .console
                .answer(|| render::json::who_am_i(&who), |paint| render::fleet::who_am_i(&who, paint))?;
            Ok(DONE)
        }
    }
}

async fn demo(args: DemoArgs) -> Result<u8, Refusal> {
    let ended = demo::run(Demo { hosts: args.hosts, zones: args.zones, exit: args.exit }).await?;
    Ok(ended as u8)
}

async fn demo_service(args: DemoServiceArgs) -> Result<u8, Refusal> {
    let DemoServiceArgs { listen, version, greeting, drain_file, broken } = args;
    let service = Service { listen, version, greeting, drain_file, broken };
    demo::service::serve(service)
        .await
        .map_err(|error| Refusal::new(Code::Io, format!("cannot serve on {listen}: {error}"), ""))?;
    Ok(DONE)
}

async fn explain(args: ExplainArgs, shell: &mut Shell<'_>) -> Result<u8, Refusal> {
    let client = shell.connect().await?;
    let host = match &args.host {
        Some(host) => Some(host::find(&client, host).await?.id),
        None => None,
    };
    let waiting = client.explain(&Explain { environment: args.environment.clone(), host }).await?;
    shell.console.answer(
        || render::json::list("waiting_on", &waiting, render::json::waiting_on),
        |_| render::rollout::explanation(&waiting, &args.environment),
    )?;
    Ok(DONE)
}

/// All pages of a list.
async fn every<T>(ask: impl AsyncFn(Page) -> Result<Paged<T>, Refusal>) -> Result<Vec<T>, Refusal> {
    let mut items = Vec::new();
    let mut token = None;
    loop {
        let page = ask(Page { size: PAGE_MAX, token }).await?;
        items.extend(page.items);
        match page.next {
            Some(next) => token = Some(next),
            None => return Ok(items),
        }
    }
}

/// What no other command brings back needs a `--yes`.
fn confirmed(yes: bool, what: &str) -> Result<(), Refusal> {
    if yes { Ok(()) } else { Err(Refusal::new(Code::CliMissing, what, "add --yes to do it")) }
}
