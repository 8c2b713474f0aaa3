//! A host in memory: its disk, its services and its hooks, which can be crashed between any two effects.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use houston_common::digest::{ReleaseDigest, TreeDigest};
use houston_common::error::{Code, Refusal};
use houston_common::id::{PackageName, ServiceName};
use houston_common::package::HookPhase;
use houston_common::release::ReleaseContent;

use crate::apply::deployment::Deployment;
use crate::apply::health::ProbeRun;
use crate::apply::machine::samples::{laid_out, refusal, step_error};
use crate::host::{Fetch, FetchError, HookStep, Host, Keep, Record, ServiceStep, StepError};

/// What a crash unwinds with.
pub struct Crash;

#[derive(Default)]
pub struct World {
    pub records: BTreeMap<Record, Vec<u8>>,
    pub set_aside: Vec<Record>,
    pub fetched: BTreeSet<ReleaseDigest>,
    pub releases: BTreeMap<ReleaseDigest, Deployment>,
    pub current: Option<ReleaseDigest>,
    /// What runs, with the tree it was started from.
    pub services: BTreeMap<(PackageName, ServiceName), TreeDigest>,
    /// How often each hook was begun.
    pub hooks: BTreeMap<(TreeDigest, HookPhase), u32>,
    /// What was done that could disturb, in order.
    pub log: Vec<String>,
    /// What hooks and stops were given, in order.
    pub given: Vec<Duration>,
    /// What `current` was changed to.
    pub switches: Vec<Option<ReleaseDigest>>,

    /// Trees whose services are not well.
    pub sick: BTreeSet<TreeDigest>,
    pub failing_hooks: BTreeSet<(TreeDigest, HookPhase)>,
    pub is_full: bool,
    /// Fetches that are refused as busy, then fetches that are not done at once.
    pub busy: u32,
    pub slices: u32,

    /// Before and after each effect is a point; the host crashes at this one, once.
    pub crash_at: Option<usize>,
    pub points: usize,
}

#[derive(Clone)]
pub struct FakeHost(pub Rc<RefCell<World>>);

impl FakeHost {
    fn effect<T>(&self, perform: impl FnOnce(&mut World) -> T) -> T {
        self.point();
        let result = perform(&mut self.0.borrow_mut());
        self.point();
        result
    }

    fn point(&self) {
        let mut world = self.0.borrow_mut();
        let point = world.points;
        world.points += 1;
        let crashes = world.crash_at == Some(point);
        drop(world);
        if crashes {
            std::panic::resume_unwind(Box::new(Crash));
        }
    }
}

impl World {
    pub fn probe(&self, run: &ProbeRun) -> Result<(), String> {
        let key = (run.package.file.name.clone(), run.service.clone());
        match self.services.get(&key) {
            None => Err("no process".to_owned()),
            Some(tree) if self.sick.contains(tree) => Err("503".to_owned()),
            Some(_) => Ok(()),
        }
    }

    /// Whether exactly what `current` names runs, whole.
    pub fn runs_exactly(&self, deployment: &Deployment) -> bool {
        let wanted: BTreeMap<_, _> = (deployment.packages.iter())
            .flat_map(|package| package.file.services.iter().map(move |service| (package, service)))
            .map(|(package, service)| ((package.file.name.clone(), service.name.clone()), package.tree))
            .collect();
        self.current == deployment.link() && self.services == wanted
    }
}

impl Host for FakeHost {
    fn read_record(&mut self, record: Record) -> Result<Option<Vec<u8>>, Refusal> {
        Ok(self.0.borrow().records.get(&record).cloned())
    }

    fn write_record(&mut self, record: Record, bytes: &[u8]) -> Result<(), Refusal> {
        self.effect(|world| {
            if world.is_full {
                return Err(refusal(Code::DiskSpace));
            }
            world.records.insert(record, bytes.to_vec());
            Ok(())
        })
    }

    fn set_record_aside(&mut self, record: Record) -> Result<(), Refusal> {
        self.effect(|world| {
            world.records.remove(&record);
            world.set_aside.push(record);
            Ok(())
        })
    }

    fn fetch(&mut self, release: &ReleaseContent, _slice: Duration) -> Result<Fetch, FetchError> {
        self.effect(|world| {
            if let Some(left) = world.busy.checked_sub(1) {
                world.busy = left;
                return Err(FetchError { refusal: refusal(Code::Busy), retry_after: None });
            }
            if let Some(left) = world.slices.checked_sub(1) {
                world.slices = left;
                return Ok(Fetch::Partial);
            }
            world.fetched.insert(release.release().digest());
            Ok(Fetch::Complete)
        })
    }

    fn lay_out(&mut self, release: &ReleaseContent) -> Result<Deployment, Refusal> {
        self.effect(|world| {
            let deployment = laid_out(release);
            if !world.fetched.contains(&deployment.release) {
                return Err(refusal(Code::FileMissing));
            }
            world.releases.insert(deployment.release, deployment.clone());
            Ok(deployment)
        })
    }

    fn run_hook(&mut self, hook: HookStep<'_>) -> Result<(), StepError> {
        assert!(!hook.timeout.is_zero(), "a hook without time");
        let key = (hook.package.tree, hook.phase);
        // Begun and ended are two effects: a crash may come in the middle.
        self.effect(|world| {
            world.given.push(hook.timeout);
            *world.hooks.entry(key).or_default() += 1;
            world
                .log
                .push(format!("{:?} {} {}", hook.phase, hook.package.file.name, hook.package.file.version));
        });
        self.effect(|world| if world.failing_hooks.contains(&key) { Err(step_error()) } else { Ok(()) })
    }

    fn start_service(&mut self, step: ServiceStep<'_>) -> Result<(), StepError> {
        self.effect(|world| {
            let file = &step.package.file;
            let key = (file.name.clone(), step.service.name.clone());
            match world.services.get(&key) {
                Some(tree) if *tree == step.package.tree => return Ok(()),
                Some(_) => return Err(StepError { code: Code::ServiceOwned, ..step_error() }),
                None => {}
            }
            world.log.push(format!("+ {}/{} {}", file.name, step.service.name, file.version));
            world.services.insert(key, step.package.tree);
            Ok(())
        })
    }

    fn stop_service(&mut self, step: ServiceStep<'_>) -> Result<(), StepError> {
        self.effect(|world| {
            world.given.push(step.grace);
            let file = &step.package.file;
            if world.services.remove(&(file.name.clone(), step.service.name.clone())).is_some() {
                world.log.push(format!("- {}/{}", file.name, step.service.name));
            }
            Ok(())
        })
    }

    fn switch(&mut self, to: Option<ReleaseDigest>) -> Result<(), Refusal> {
        self.effect(|world| {
            assert!(to.is_none_or(|to| world.releases.contains_key(&to)), "switched to what is not there");
            if world.current != to {
                world.log.push(format!("switch {}", to.map_or("nothing".to_owned(), |to| to.short())));
                world.switches.push(to);
                world.current = to;
            }
            Ok(())
        })
    }

    fn measure(&mut self) -> Result<Deployment, Refusal> {
        let world = self.0.borrow();
        Ok(world.current.map_or_else(Deployment::nothing, |current| world.releases[&current].clone()))
    }

    fn log_tail(&mut self, _package: &PackageName, _service: &ServiceName) -> String {
        "the last words\n".to_owned()
    }

    fn collect(&mut self, keep: &Keep) -> Result<(), Refusal> {
        self.effect(|world| {
            let contents = keep.contents.iter().map(|content| content.release().digest());
            let kept: BTreeSet<_> = keep.releases.iter().copied().chain(contents).collect();
            assert!(world.current.is_none_or(|current| kept.contains(&current)), "what is current is kept");
            world.releases.retain(|release, _| kept.contains(release));
            world.fetched.retain(|release| kept.contains(release));
            Ok(())
        })
    }

    fn random(&mut self) -> u64 {
        999
    }
}
